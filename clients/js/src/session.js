// The client without I/O: events go in as method calls, actions come out.

import { unpack } from "./batches.js";
import { ABNORMAL, GAP, NORMAL, TRY_AGAIN_LATER, VIOLATION, isFinal } from "./close-codes.js";
import { CommandQueue } from "./command-queue.js";
import { HEARTBEAT, auth } from "./commands.js";
import { OffsetTracker } from "./offset-tracker.js";
import { ReconnectDelay, requestedWait, retryMs } from "./reconnect-delay.js";
import { ReplayProgress } from "./replay-progress.js";
import { checkFields } from "./server-fields.js";
import { SilenceDetector } from "./silence-detector.js";
import { SubscriptionError, ended } from "./subscription-error.js";
import { SubscriptionSet } from "./subscription-set.js";
import { TokenRefresh, checkedToken } from "./token-refresh.js";

/** @import { Ids, Message, Notice, Positions, Subscription } from "../types/index.d.ts" */
/** @import { Request } from "./command-queue.js" */

/**
 * An action for OdinFeed. `fetch`: call the token function, and then `fetched` or `fetchFailed`.
 * `disconnect`: close the socket, and ignore its further events.
 * @typedef {{ do: "connect", token: string | undefined } | { do: "fetch" } | { do: "disconnect" }
 *   | { do: "send", text: string } | { do: "message", message: Message }
 *   | { do: "notice", notice: Notice }} Action
 */

/** @typedef {Generator<Action, void, void>} Actions */

/**
 * The session waits to reconnect, waits for a token, waits for the handshake, is connected, or has
 * ended.
 * @typedef {"waiting" | "fetching" | "connecting" | "connected" | "ended"} State
 */

// The wait before a rejected command is sent again, if the error has no `retry_ms`.
const DEFAULT_RETRY_MS = 1000;

/**
 * The state of a client across its connections. Times are milliseconds of a monotonic clock. The
 * caller runs each generator to its end; positions are exactly behind the last message yielded.
 */
export class Session {
  /** @type {State} */
  state = "waiting";
  /** The number of ended connections and attempts; tells a late event of an earlier connection. */
  generation = 0;
  /** The number of messages dropped because the client had received them before. */
  duplicates = 0;
  /** The subscriptions and their positions. */
  set;

  #commands;
  #token;
  #renewable;
  #silence;
  #delay;
  #refresh;
  /** @type {number | null} when to connect again */
  #reconnectDue = null;
  /** @type {number | null} when to send a command again, or restart the stream */
  #commandDue = null;

  // The state of the current connection.
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
      subscriptions.map((subscription) => ({ ...subscription })),
      new OffsetTracker(positions, ids),
    );
    this.#commands = new CommandQueue(this.set);
    this.#replay = new ReplayProgress(this.set);
    this.#token = token === undefined ? undefined : checkedToken(token);
    this.#renewable = renewable;
    this.#silence = new SilenceDetector(silence);
    this.#delay = new ReconnectDelay(backoff, random);
    this.#refresh = new TokenRefresh(random);
  }

  /** The time to call `expire`; null without a timer. */
  get deadline() {
    const due = [this.#reconnectDue, this.#silence.due, this.#refresh.due, this.#commandDue];
    const times = due.filter((time) => time !== null);
    return times.length ? Math.min(...times) : null;
  }

  // ---- events

  /**
   * Connects, or first fetches a token.
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
    this.#silence.expectResponse(now);
    yield { do: "fetch" };
  }

  /**
   * Handles the result of the token function.
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
   * Handles an exception of the token function.
   * @param {unknown} error
   * @param {number} now
   * @returns {Actions}
   */
  *fetchFailed(error, now) {
    if (this.state === "fetching") yield* this.closed(ABNORMAL, `no token: ${error}`, now);
    else this.#refresh.schedule(now);
  }

  /**
   * Handles an open WebSocket, or a stream that is ready for its request.
   * @param {number} now
   * @param {boolean} [isStream]
   * @returns {Actions}
   */
  *opened(now, isStream = false) {
    this.state = "connected";
    this.#isStream = isStream;
    this.#silence.received(now);
    if (isStream) this.#commands.beginStream();
    else this.#commands.begin();
    yield* this.#sendNext();
  }

  /**
   * Handles a subscribe or unsubscribe of the application.
   * @param {Request} request
   * @param {number} now
   * @returns {Actions}
   */
  *request(request, now) {
    if (this.state === "ended") return request.reject(ended());
    this.#commands.add(request);
    if (this.state !== "connected") return;
    // The stream restarts at the next `expire`, once for all requests of this moment.
    if (this.#isStream) this.#commandDue = now;
    else yield* this.#sendNext();
  }

  /**
   * Handles an exception of the WebSocket constructor: the URL is wrong, so the feed ends.
   * @param {unknown} error
   * @param {number} now
   */
  rejected(error, now) {
    return this.closed(NORMAL, `${error}`, now);
  }

  /**
   * Handles a received frame.
   * @param {string} text
   * @param {number} now
   * @returns {Actions}
   */
  *received(text, now) {
    const { generation } = this;
    this.#silence.received(now);
    try {
      const item = JSON.parse(text);
      if (typeof item?.type !== "string") throw new TypeError("the server sent a frame without a type");
      if (item.type === "batch") {
        for (const message of unpack(item)) {
          yield* this.#message(message, now);
          if (this.generation !== generation) return; // disconnected, or closed by the application
        }
      } else if (item.type === "message") yield* this.#message(item, now);
      else yield* this.#notice(item, now);
    } catch (error) {
      // A frame with missing fields or wrong types throws one of these errors.
      if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
      yield* this.closed(VIOLATION, `not the protocol: ${error.message}`, now);
    }
  }

  /**
   * Ends the connection or the attempt to connect, by a close of either side.
   * @param {number} code
   * @param {string} reason
   * @param {number} now
   * @param {number} [retryAfter] the Retry-After of a rejection, ms
   * @returns {Actions}
   */
  *closed(code, reason, now, retryAfter) {
    const held = this.#subscribed ? now - this.#subscribedAt : 0;
    const delay = this.#delay.next(code, held, this.#advice, retryAfter);
    const retry_ms = isFinal(code, reason, this.#renewable) ? null : delay;
    this.#reset();
    if (retry_ms === null) this.#end();
    else this.#reconnectDue = now + retry_ms;
    yield { do: "disconnect" };
    yield { do: "notice", notice: { type: "disconnected", code, reason, retry_ms } };
  }

  /**
   * Acts on the timers that have expired.
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
    if (this.#silence.due !== null && this.#silence.due <= now) {
      if (this.#silence.isResponseDue) {
        return yield* this.closed(ABNORMAL, "nothing was received for too long", now);
      }
      this.#silence.expectResponse(now);
      yield { do: "send", text: HEARTBEAT };
    }
    if (this.#refresh.due !== null && this.#refresh.due <= now) {
      this.#refresh.due = null;
      yield { do: "fetch" };
    }
  }

  /** Ends the session for the application. */
  close() {
    this.#reset();
    this.#end();
  }

  // ---- transitions

  /**
   * @param {string | undefined} token
   * @param {number} now
   * @returns {Action}
   */
  #connect(token, now) {
    this.state = "connecting";
    this.#refresh.begin(token);
    this.#silence.expectResponse(now); // the handshake has to finish within `silence`
    return { do: "connect", token };
  }

  /**
   * Restarts a stream at once, with other names.
   * @param {number} now
   * @returns {Actions}
   */
  *#restart(now) {
    this.#reset();
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

  #reset() {
    this.generation++;
    this.state = "waiting";
    [this.#reconnectDue, this.#commandDue] = [null, null];
    this.#silence.stop();
    this.#refresh.begin(undefined);
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
      // This message would move the position past the missing messages; a resume replays them.
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
    checkFields(item);
    if (item.subscribed && this.#commands.awaitsResponse) yield* this.#accept(item, now);
    else if (item.type === "error" && this.#commands.isResponse(item)) yield* this.#rejectCommand(item, item, now);
    else yield* this.#applyNotice(item, now);
    if (this.generation === generation && this.#commandDue === null) yield* this.#sendNext();
  }

  /**
   * @param {any} item
   * @param {number} now
   * @returns {Actions}
   */
  *#applyNotice(item, now) {
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
        this.#advice = requestedWait(item.data.after_ms);
        break;
      case "auth":
        if (this.#renewable) this.#refresh.expiring(now + requestedWait(item.expires_in_ms), now);
        break;
      case "auth_ack":
        this.#refresh.accepted();
        break;
      case "auth_error":
        this.#refresh.schedule(now, retryMs(item.data));
        break;
      case "error":
        // The error does not name the ignored command, so it may have been an `auth`.
        if (item.code === "RATE_LIMIT_EXCEEDED") this.#refresh.schedule(now, retryMs(item));
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
    if (!ack.subscribed.length) return yield* this.#rejectCommand(ack.rejected?.[0] ?? ack, ack, now);
    if (!this.#subscribed) [this.#subscribed, this.#subscribedAt] = [true, now];
    const response = this.#isStream ? this.set.withoutNewTopics(ack) : ack;
    this.set.follow(response.categories);
    const { step, behind } = this.#commands.accepted(response, this.#isStream);
    const tracker = behind ?? this.set.tracker;
    tracker.apply(response);
    tracker.passLost(response);
    this.#replay.begin(step, response.replayed, behind);
    yield { do: "notice", notice: response };
  }

  /**
   * Handles the rejection of the command in flight: final, or for now with `retry`.
   * @param {{ code: string, message: string, retry?: boolean, retry_ms?: unknown }} error
   * @param {any} response
   * @param {number} now
   * @returns {Actions}
   */
  *#rejectCommand({ code, message, retry, ...delay }, response, now) {
    const wait = retryMs(delay);
    if (retry && this.#subscribed) {
      // The error does not name the ignored command, so it may have been an `auth`.
      if (code === "RATE_LIMIT_EXCEEDED") this.#refresh.schedule(now, wait);
      this.#commandDue = now + (wait ?? DEFAULT_RETRY_MS);
      return;
    }
    if (retry) {
      if (wait) this.#advice = wait;
      return yield* this.closed(TRY_AGAIN_LATER, `${code}: ${message}`, now);
    }
    const error = new SubscriptionError(code, message, response.rejected);
    if (this.#commands.rejected(error)) yield { do: "notice", notice: response };
    else yield* this.closed(NORMAL, `${code}: ${message}`, now);
  }
}
