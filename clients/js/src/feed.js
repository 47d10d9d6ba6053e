// The session with a WebSocket, a clock and a timer: what applications use.

import { ABNORMAL } from "./close-codes.js";
import { EventSocket } from "./event-socket.js";
import { Session } from "./session.js";
import { TransportChoice, fitsStream, streamUrl } from "./transport-choice.js";

/** @import { FeedOptions, Message, Names, Notice, Subscription, SubscriptionAck, UnsubscriptionAck } from "../types/index.d.ts" */
/** @import { Actions } from "./session.js" */

// A longer one would fire at once.
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** Follows an odin-ws server, and resumes after every break where it was. */
export class OdinFeed {
  /**
   * Called with each message.
   * @type {(message: Message<any>) => void}
   */
  onmessage = () => {};
  /**
   * Called with everything else that happens, by its `type`.
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
      throw new TypeError("there is no WebSocket here: give one as options.WebSocket");
    }
    const isFunction = typeof token === "function";
    this.#url = url;
    this.#WebSocket = Given;
    this.#token = isFunction ? token : undefined;
    // A browser's fetch has to be called on its window.
    this.#fetchStream = fetch?.bind(globalThis);
    this.#streamUrl = fetch === undefined ? null : streamUrl(url, fallback);
    this.#choice = new TransportChoice(this.#streamUrl !== null, isStream);
    this.#session = new Session(subscriptions, {
      ...rest,
      renewable: isFunction,
      ...(typeof token === "string" ? { token } : {}),
    });
    if (isStream && (this.#streamUrl === null || !fitsStream(this.#session.set))) {
      throw new TypeError("there is no stream for this URL, or these subscriptions need several");
    }
    // Without a function the socket is made now, and what is wrong with the URL is an error here.
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

  /** What is followed at the moment. */
  get subscriptions() {
    return this.#session.set.subscriptions;
  }

  /**
   * Follow more; the server's answer, or a SubscriptionError.
   * @param {Subscription} subscription
   * @returns {Promise<SubscriptionAck>}
   */
  subscribe(subscription) {
    return this.#request("subscribe", subscription);
  }

  /**
   * Follow less, by the names that were subscribed; the answer, or a SubscriptionError.
   * @param {Names} names
   * @returns {Promise<UnsubscriptionAck>}
   */
  unsubscribe(names) {
    return this.#request("unsubscribe", names);
  }

  /** What carries the current connection, or carried the last one. */
  get transport() {
    return this.#choice.current;
  }

  /** How many messages were dropped because they had come before. */
  get duplicates() {
    return this.#session.duplicates;
  }

  /** End it. Nothing is called after that. */
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
      if (!data.startsWith('{"type":"error"')) this.#choice.works();
      this.#run(session.received(data, performance.now()));
    };
    socket.onmessage = received;
    /** @param {Partial<CloseEvent>} [event] */
    const ended = ({ code = ABNORMAL, reason = "the connection failed" } = {}) =>
      this.#run(session.closed(code, reason, performance.now()));
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
    socket.close(); // its end may take a while, and nobody waits for it
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

  /** One timer, which is only set anew if it would come too late: messages move the deadline. */
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
    this.#timer = setTimeout(expire, Math.min(delay, LONGEST_TIMEOUT_MS));
  }
}

/**
 * Run a callback of the application; what it throws is reported, and stops no other message.
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
