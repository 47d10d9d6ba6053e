// The public class: a session with a WebSocket, a clock and a timer.

import { ABNORMAL } from "./close-codes.js";
import { EventSocket } from "./event-socket.js";
import { Session } from "./session.js";
import { TransportChoice, fitsStream, streamUrl } from "./transport-choice.js";

/** @import { FeedOptions, Message, Names, Notice, Subscription, SubscriptionAck, UnsubscriptionAck } from "../types/index.d.ts" */
/** @import { Actions } from "./session.js" */

// setTimeout fires at once for a longer delay.
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** A client of an odin-ws server that reconnects, and resumes behind the last record. */
export class OdinFeed {
  /**
   * Called with each message.
   * @type {(message: Message<any>) => void}
   */
  onmessage = () => {};
  /**
   * Called with each ack, server message and disconnect; `type` tells which.
   * @type {(notice: Notice) => void}
   */
  onnotice = () => {};

  #url;
  #token;
  #WebSocket;
  #fetchStream;
  #session;
  #streamUrl;
  #choice;
  /** @type {WebSocket | EventSocket | null} */
  #socket = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {number | null} when the timer fires */
  #alarm = null;

  /**
   * @param {string | URL} url
   * @param {Subscription | readonly Subscription[]} subscriptions
   * @param {FeedOptions} [options]
   */
  constructor(url, subscriptions, options = {}) {
    const { token, WebSocket: Given = globalThis.WebSocket, ...others } = options;
    const { fallback = true, fetch = globalThis.fetch, transport, ...rest } = others;
    const isStream = transport === "sse";
    if (Given === undefined && !isStream) {
      throw new TypeError("this runtime has no WebSocket: pass an implementation as options.WebSocket");
    }
    const isFunction = typeof token === "function";
    this.#url = url;
    this.#WebSocket = Given;
    this.#token = isFunction ? token : undefined;
    // A browser's fetch must be called with the window as `this`.
    this.#fetchStream = fetch?.bind(globalThis);
    this.#streamUrl = fetch === undefined ? null : streamUrl(url, fallback);
    this.#choice = new TransportChoice(this.#streamUrl !== null, isStream);
    this.#session = new Session(subscriptions, {
      ...rest,
      renewable: isFunction,
      ...(typeof token === "string" ? { token } : {}),
    });
    if (isStream && (this.#streamUrl === null || !fitsStream(this.#session.set))) {
      throw new TypeError("transport: \"sse\" needs fetch, a URL that ends in /ws, and subscriptions that fit into one stream");
    }
    // Without a token function the socket is made now, so a wrong URL throws from the constructor.
    for (const action of this.#session.start(performance.now())) {
      if (action.do === "connect") this.#connect(action.token);
      if (action.do === "fetch") this.#fetch();
    }
    this.#setAlarm();
  }

  /** The offset of the last record that `onmessage` got, by topic and partition. */
  get positions() {
    return this.#session.set.positions;
  }

  /** The ids of the topics of `positions`. */
  get ids() {
    return this.#session.set.ids;
  }

  /** The current subscriptions. */
  get subscriptions() {
    return this.#session.set.subscriptions;
  }

  /**
   * Subscribes to more; resolves with the server's answer, or rejects with a SubscriptionError.
   * @param {Subscription} subscription
   * @returns {Promise<SubscriptionAck>}
   */
  subscribe(subscription) {
    return this.#request("subscribe", subscription);
  }

  /**
   * Unsubscribes from names as subscribed; resolves with the server's answer, or rejects with a
   * SubscriptionError.
   * @param {Names} names
   * @returns {Promise<UnsubscriptionAck>}
   */
  unsubscribe(names) {
    return this.#request("unsubscribe", names);
  }

  /** The transport of the current connection, or of the last connection. */
  get transport() {
    return this.#choice.current;
  }

  /** The number of messages dropped because the client had received them before. */
  get duplicates() {
    return this.#session.duplicates;
  }

  /** Ends the feed. No callback is called after that. */
  close() {
    this.#session.close();
    this.#disconnect();
    this.#setAlarm();
  }

  /**
   * @param {"subscribe" | "unsubscribe"} kind
   * @param {Subscription} subscription
   * @returns {Promise<any>}
   */
  #request(kind, subscription) {
    return new Promise((resolve, reject) => {
      const request = { kind, subscription: { ...subscription }, resolve, reject };
      this.#run(this.#session.request(request, performance.now()));
    });
  }

  /** @param {Actions} actions */
  #run(actions) {
    for (const action of actions) {
      const { generation } = this.#session;
      switch (action.do) {
        case "message":
          report(() => this.onmessage(action.message));
          break;
        case "notice":
          report(() => this.onnotice(action.notice));
          break;
        case "send":
          this.#socket?.send(action.text);
          break;
        case "fetch":
          this.#fetch();
          break;
        case "disconnect":
          this.#disconnect();
          break;
        case "connect":
          this.#tryToConnect(action.token);
          break;
      }
      if (this.#session.generation !== generation) break; // closed from within a callback
    }
    this.#setAlarm();
  }

  /** @param {string | undefined} token */
  #tryToConnect(token) {
    try {
      this.#connect(token);
    } catch (error) {
      this.#run(this.#session.rejected(error, performance.now()));
    }
  }

  /** @param {string | undefined} token */
  #connect(token) {
    const socket = this.#open(token);
    const session = this.#session;
    const isStream = socket instanceof EventSocket;
    socket.onopen = () => this.#run(session.opened(performance.now(), isStream));
    /** @param {{ data: string }} event */
    const received = ({ data }) => {
      if (!data.startsWith('{"type":"error"')) this.#choice.noteReceived();
      this.#run(session.received(data, performance.now()));
    };
    socket.onmessage = received;
    /** @param {{ code?: number, reason?: string, retryAfter?: number | undefined }} [event] */
    const ended = ({ code = ABNORMAL, reason = "the connection failed", retryAfter } = {}) =>
      this.#run(session.closed(code, reason, performance.now(), retryAfter));
    socket.onclose = socket.onerror = /** @type {(event?: object) => void} */ (ended);
    this.#socket = socket;
  }

  /**
   * @param {string | undefined} token
   * @returns {WebSocket | EventSocket}
   */
  #open(token) {
    const fits = fitsStream(this.#session.set);
    if (this.#choice.next(performance.now(), fits) === "sse" && this.#streamUrl !== null)
      return new EventSocket(this.#streamUrl, token, this.#fetchStream);
    return new this.#WebSocket(this.#url, token === undefined ? [] : ["odin.v1", `bearer.${token}`]);
  }

  #disconnect() {
    const socket = this.#socket;
    if (socket === null) return;
    this.#socket = null;
    this.#choice.ended();
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    socket.close(); // without waiting for the close handshake
  }

  async #fetch() {
    const session = this.#session;
    const { generation } = session;
    /** @type {(now: number) => Actions} */
    let outcome;
    try {
      const token = await this.#token?.();
      outcome = (now) => session.fetched(token, now);
    } catch (error) {
      outcome = (now) => session.fetchFailed(error, now);
    }
    if (session.generation === generation) this.#run(outcome(performance.now()));
  }

  /**
   * Sets the timer for the deadline. A timer that fires earlier is kept, because each message moves
   * the deadline to later.
   */
  #setAlarm() {
    const { deadline } = this.#session;
    if (deadline !== null && this.#alarm !== null && this.#alarm <= deadline) return;
    clearTimeout(this.#timer);
    this.#alarm = deadline;
    if (deadline === null) return;
    const expire = () => {
      this.#alarm = null;
      this.#run(this.#session.expire(performance.now()));
    };
    const delay = Math.max(0, deadline - performance.now());
    this.#timer = setTimeout(expire, Math.min(delay, MAX_TIMEOUT_MS));
  }
}

/**
 * Runs a callback of the application; an exception is reported as uncaught, and does not stop the
 * messages after it.
 * @param {() => void} callback
 */
function report(callback) {
  try {
    callback();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
