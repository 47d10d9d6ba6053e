// The client without its I/O: what happens to it goes in, what it does comes out.

import { unpack } from "./batches.js";
import { ABNORMAL, GAP, NORMAL, TRY_AGAIN_LATER, VIOLATION, isFinal } from "./close-codes.js";
import { CommandQueue } from "./command-queue.js";
import { HEARTBEAT, auth } from "./commands.js";
import { OffsetTracker } from "./offset-tracker.js";
import { ReconnectDelay } from "./reconnect-delay.js";
import { ReplayProgress } from "./replay-progress.js";
import { SubscriptionError, ended } from "./subscription-error.js";
import { SubscriptionSet } from "./subscription-set.js";
import { TokenRefresh, checkedToken } from "./token-refresh.js";

/** @import { Ids, Message, Notice, Positions, Subscription } from "../types/index.d.ts" */
/** @import { Request } from "./command-queue.js" */

/**
 * What the shell has to do. `fetch`: call the token function, and report with `fetched` or
 * `fetchFailed`. `disconnect`: close the socket, and forget what it still brings.
 * @typedef {{ do: "connect", token: string | undefined } | { do: "fetch" } | { do: "disconnect" }
 *   | { do: "send", text: string } | { do: "message", message: Message }
 *   | { do: "notice", notice: Notice }} Action
 */

/** @typedef {Generator<Action, void, void>} Actions */

/**
 * Waits for the next attempt, for a token, for the handshake; is connected; has ended.
 * @typedef {"waiting" | "fetching" | "connecting" | "connected" | "ended"} State
 */

// Until a command is sent again, if the server does not say when.
const LATER_MS = 1000;

/**
 * Times are milliseconds of any clock that does not go back. The methods that are generators are
 * run to their end; while they run, positions stand exactly behind the message they yield.
 */
export class Session {
  /** @type {State} */
  state = "waiting";
  /** Counts connections and attempts; what belongs to an earlier one comes too late. */
  generation = 0;
  /** How many messages were dropped because they had come before. */
  duplicates = 0;
  /** What is followed, and where each part of it is. */
  set;

  #commands;
  #token;
  #renewable;
  #silence;
  #delay;
  #refresh;
  /** @type {number | null} when to connect again */
  #reconnectDue = null;
  /** @type {number | null} when the silence has been too long */
  #silenceDue = null;
  #wasAsked = false; // for a sign of life
  /** @type {number | null} when to send a command again, or begin a stream anew */
  #commandDue = null;

  // Of the current connection.
  #subscribed = false;
  #subscribedAt = 0;
  #seq = 0;
  /** @type {number | null} ms, from the server */
  #advice = null;
  #isStream = false;
  /** @type {ReplayProgress} */
  #replay;

  /**
   * @param {Subscription | readonly Subscription[]} given
   * @param {{ positions?: Positions, ids?: Ids, backoff?: readonly [number, number],
   *   silence?: number, token?: string, renewable?: boolean, random?: () => number }} [options]
   */
  constructor(given, options = {}) {
    const { positions = {}, ids = {}, backoff = [200, 15_000], silence = 10_000 } = options;
    const { token, renewable = false, random = Math.random } = options;
    const subscriptions = Array.isArray(given) ? given : [given];
    this.set = new SubscriptionSet(
      subscriptions.map((one) => ({ ...one })),
      new OffsetTracker(positions, ids),
    );
    this.#commands = new CommandQueue(this.set);
    this.#replay = new ReplayProgress(this.set);
    this.#token = token === undefined ? undefined : checkedToken(token);
    this.#renewable = renewable;
    this.#silence = silence;
    this.#delay = new ReconnectDelay(backoff, random);
    this.#refresh = new TokenRefresh(random);
  }

  /** When to call `expire` at the latest; null while there is nothing to wait for. */
  get deadline() {
    const due = [this.#reconnectDue, this.#silenceDue, this.#refresh.due, this.#commandDue];
    const times = due.filter((time) => time !== null);
    return times.length ? Math.min(...times) : null;
  }

  // ---- what happens

  /**
   * Connect, or fetch the token to connect with.
   * @param {number} now
   * @returns {Actions}
   */
  *start(now) {
    this.#reconnectDue = null;
    [this.#subscribed, this.#seq, this.#advice] = [false, 0, null];
    this.set.follow(undefined);
    this.#replay = new ReplayProgress(this.set);
    if (!this.#renewable) return yield this.#connect(this.#token, now);
    this.state = "fetching";
    this.#expectLife(now);
    yield { do: "fetch" };
  }

  /**
   * The token function returned.
   * @param {unknown} token
   * @param {number} now
   * @returns {Actions}
   */
  *fetched(token, now) {
    /** @type {string} */
    let checked;
    try {
      checked = checkedToken(token);
    } catch (error) {
      return yield* this.fetchFailed(error, now);
    }
    if (this.state === "fetching") return yield this.#connect(checked, now);
    if (this.#refresh.offer(checked)) yield { do: "send", text: auth(checked) };
    else this.#refresh.schedule(now);
  }

  /**
   * The token function threw.
   * @param {unknown} error
   * @param {number} now
   * @returns {Actions}
   */
  *fetchFailed(error, now) {
    if (this.state === "fetching") yield* this.closed(ABNORMAL, `no token: ${error}`, now);
    else this.#refresh.schedule(now);
  }

  /**
   * The WebSocket is open, or a stream can be requested.
   * @param {number} now
   * @param {boolean} [isStream]
   * @returns {Actions}
   */
  *opened(now, isStream = false) {
    this.state = "connected";
    this.#isStream = isStream;
    this.#hear(now);
    if (isStream) this.#commands.beginStream();
    else this.#commands.begin();
    yield* this.#sendNext();
  }

  /**
   * The application subscribes to more, or unsubscribes.
   * @param {Request} request
   * @param {number} now
   * @returns {Actions}
   */
  *request(request, now) {
    if (this.state === "ended") return request.reject(ended());
    this.#commands.add(request);
    if (this.state !== "connected") return;
    // A stream begins anew with all that is asked for at the same time.
    if (this.#isStream) this.#commandDue = now;
    else yield* this.#sendNext();
  }

  /**
   * The WebSocket cannot be opened, and never will be: its URL is wrong.
   * @param {unknown} error
   * @param {number} now
   */
  rejected(error, now) {
    return this.closed(NORMAL, `${error}`, now);
  }

  /**
   * A frame came.
   * @param {string} text
   * @param {number} now
   * @returns {Actions}
   */
  *received(text, now) {
    const { generation } = this;
    this.#hear(now);
    try {
      const item = JSON.parse(text);
      if (typeof item?.type !== "string") throw new TypeError("a frame without a type");
      if (item.type === "batch") {
        for (const message of unpack(item)) {
          yield* this.#message(message, now);
          if (this.generation !== generation) return; // the client left, or was closed
        }
      } else if (item.type === "message") yield* this.#message(item, now);
      else yield* this.#notice(item, now);
    } catch (error) {
      // Whatever has another shape than it should have shows as one of these.
      if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
      yield* this.closed(VIOLATION, `not the protocol: ${error.message}`, now);
    }
  }

  /**
   * The connection has ended, or did not come about, or the client leaves it.
   * @param {number} code
   * @param {string} reason
   * @param {number} now
   * @returns {Actions}
   */
  *closed(code, reason, now) {
    const held = this.#subscribed ? now - this.#subscribedAt : 0;
    const delay = this.#delay.next(code, held, this.#advice);
    const retry_ms = isFinal(code, reason, this.#renewable) ? null : delay;
    this.#leave();
    if (retry_ms === null) this.#end();
    else this.#reconnectDue = now + retry_ms;
    yield { do: "disconnect" };
    yield { do: "notice", notice: { type: "disconnected", code, reason, retry_ms } };
  }

  /**
   * The deadline has come.
   * @param {number} now
   * @returns {Actions}
   */
  *expire(now) {
    if (this.#reconnectDue !== null && this.#reconnectDue <= now) return yield* this.start(now);
    if (this.#commandDue !== null && this.#commandDue <= now) {
      this.#commandDue = null;
      if (this.#isStream) return yield* this.#restart(now);
      yield { do: "send", text: this.#commands.text() };
    }
    if (this.#silenceDue !== null && this.#silenceDue <= now) {
      if (this.#wasAsked) {
        return yield* this.closed(ABNORMAL, "nothing was received for too long", now);
      }
      this.#expectLife(now);
      yield { do: "send", text: HEARTBEAT };
    }
    if (this.#refresh.due !== null && this.#refresh.due <= now) {
      this.#refresh.due = null;
      yield { do: "fetch" };
    }
  }

  /** The application ends it. */
  close() {
    this.#leave();
    this.#end();
  }

  // ---- what it means

  /**
   * @param {string | undefined} token
   * @param {number} now
   * @returns {Action}
   */
  #connect(token, now) {
    this.state = "connecting";
    this.#refresh.begin(token);
    this.#expectLife(now); // the handshake has a silence of its own
    return { do: "connect", token };
  }

  /**
   * A stream begins anew at once, with other names.
   * @param {number} now
   * @returns {Actions}
   */
  *#restart(now) {
    this.#leave();
    yield { do: "disconnect" };
    yield* this.start(now);
  }

  #end() {
    this.state = "ended";
    this.#commands.close(ended());
  }

  /** @returns {Actions} */
  *#sendNext() {
    const text = this.#commands.next(this.#replay.isRunning);
    if (text !== null) yield { do: "send", text };
  }

  #leave() {
    this.generation++;
    this.state = "waiting";
    [this.#reconnectDue, this.#silenceDue, this.#commandDue] = [null, null, null];
    this.#refresh.begin(undefined);
  }

  /** @param {number} now */
  #hear(now) {
    [this.#silenceDue, this.#wasAsked] = [now + this.#silence, false];
  }

  /** @param {number} now */
  #expectLife(now) {
    [this.#silenceDue, this.#wasAsked] = [now + this.#silence, true];
  }

  /**
   * @param {Message} message
   * @param {number} now
   * @returns {Actions}
   */
  *#message(message, now) {
    const { seq, skipped = 0 } = message;
    const { generation } = this;
    if (seq !== this.#seq + 1 + skipped) {
      // A position behind it would hide what is missing. A resume brings it.
      return yield* this.closed(GAP, `gap before message ${seq}`, now);
    }
    this.#seq = seq;
    const wasRunning = this.#replay.isRunning;
    if (this.#replay.advance(message)) yield { do: "message", message };
    else this.duplicates++;
    if (wasRunning && this.generation === generation) yield* this.#sendNext();
  }

  /**
   * @param {any} item
   * @param {number} now
   * @returns {Actions}
   */
  *#notice(item, now) {
    const { generation } = this;
    if (item.subscribed && this.#commands.awaitsAnswer) yield* this.#accept(item, now);
    else if (item.type === "error" && this.#commands.isAnswer(item)) yield* this.#refuse(item, item, now);
    else yield* this.#hearNotice(item, now);
    if (this.generation === generation && this.#commandDue === null) yield* this.#sendNext();
  }

  /**
   * @param {any} item
   * @param {number} now
   * @returns {Actions}
   */
  *#hearNotice(item, now) {
    if (item.type === "replay_complete") this.#replay.end();
    if (item.type === "unsubscription_ack" && !item.forced && this.#commands.awaitsEnd)
      this.#commands.unsubscribed(item);
    this.set.apply(item);
    switch (item.type) {
      case "pong":
        return;
      case "replay_incomplete":
        this.#replay.tracker.passLost(item);
        break;
      case "reconnect":
        this.#advice = item.data.after_ms;
        break;
      case "auth":
        if (this.#renewable) this.#refresh.expiring(now + item.expires_in_ms, now);
        break;
      case "auth_ack":
        this.#refresh.accepted();
        break;
      case "auth_error":
        this.#refresh.schedule(now, item.data.retry_ms);
        break;
      case "error":
        // It does not say which command was ignored: an `auth`, perhaps.
        if (item.code === "RATE_LIMIT_EXCEEDED") this.#refresh.schedule(now, item.retry_ms);
        break;
    }
    yield { do: "notice", notice: item };
  }

  /**
   * @param {any} ack
   * @param {number} now
   * @returns {Actions}
   */
  *#accept(ack, now) {
    if (!ack.subscribed.length) return yield* this.#refuse(ack.rejected?.[0] ?? ack, ack, now);
    if (!this.#subscribed) [this.#subscribed, this.#subscribedAt] = [true, now];
    const answer = this.#isStream ? this.set.withoutNewTopics(ack) : ack;
    this.set.follow(answer.categories);
    const { step, behind } = this.#commands.accepted(answer, this.#isStream);
    const tracker = behind ?? this.set.tracker;
    tracker.apply(answer);
    tracker.passLost(answer);
    this.#replay.begin(step, answer.replayed, behind);
    yield { do: "notice", notice: answer };
  }

  /**
   * The command in flight was rejected, or is to be sent again.
   * @param {{ code: string, message: string, retry?: boolean, retry_ms?: number }} why
   * @param {any} answer
   * @param {number} now
   * @returns {Actions}
   */
  *#refuse({ code, message, retry, retry_ms }, answer, now) {
    if (retry && this.#subscribed) {
      // It does not say which command was ignored: an `auth`, perhaps.
      if (code === "RATE_LIMIT_EXCEEDED") this.#refresh.schedule(now, retry_ms);
      this.#commandDue = now + (retry_ms ?? LATER_MS);
      return;
    }
    if (retry) {
      if (retry_ms) this.#advice = retry_ms;
      return yield* this.closed(TRY_AGAIN_LATER, `${code}: ${message}`, now);
    }
    const error = new SubscriptionError(code, message, answer.rejected);
    if (this.#commands.rejected(error)) yield { do: "notice", notice: answer };
    else yield* this.closed(NORMAL, `${code}: ${message}`, now);
  }
}
