// The client without its I/O: what happens to it goes in, what it does comes out.

import { unpack } from "./batches.js";
import { ABNORMAL, GAP, NORMAL, TRY_AGAIN_LATER, VIOLATION, isFinal } from "./close-codes.js";
import { HEARTBEAT, auth, resume, subscribe } from "./commands.js";
import { OffsetTracker } from "./offset-tracker.js";
import { ReconnectDelay } from "./reconnect-delay.js";
import { TokenRefresh, checkedToken } from "./token-refresh.js";

/** @import { Ids, Message, Notice, Positions, Subscription } from "../types/index.d.ts" */

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
  offsets;

  #subscription;
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

  // Of the current connection.
  #subscribed = false;
  #subscribedAt = 0;
  #seq = 0;
  /** @type {number | null} ms, from the server */
  #advice = null;
  #withSnapshot = false; // the command asked for one
  /** @type {number | null | undefined} replayed messages that are still to come */
  #replayed;

  #snapshotDue; // wanted, and has not come whole yet

  /**
   * @param {Subscription} subscription
   * @param {{ positions?: Positions, ids?: Ids, backoff?: readonly [number, number],
   *   silence?: number, token?: string, renewable?: boolean, random?: () => number }} [options]
   */
  constructor(subscription, options = {}) {
    const { positions = {}, ids = {}, backoff = [200, 15_000], silence = 10_000 } = options;
    const { token, renewable = false, random = Math.random } = options;
    this.#subscription = { ...subscription };
    this.#token = token === undefined ? undefined : checkedToken(token);
    this.#renewable = renewable;
    this.#silence = silence;
    this.offsets = new OffsetTracker(positions, ids);
    this.#delay = new ReconnectDelay(backoff, random);
    this.#refresh = new TokenRefresh(random);
    this.#snapshotDue = Boolean(subscription.snapshot) && this.offsets.isEmpty;
  }

  /** When to call `expire` at the latest; null while there is nothing to wait for. */
  get deadline() {
    const due = [this.#reconnectDue, this.#silenceDue, this.#refresh.due];
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
    this.offsets.follow(undefined);
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
   * The WebSocket is open.
   * @param {number} now
   * @returns {Actions}
   */
  *opened(now) {
    this.state = "connected";
    this.#hear(now);
    const { isEmpty, positions, ids } = this.offsets;
    this.#withSnapshot = this.#snapshotDue;
    const from = { positions, ids, snapshot: this.#snapshotDue };
    const text = isEmpty ? subscribe(this.#subscription) : resume(this.#subscription, from);
    yield { do: "send", text };
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
    if (retry_ms === null) this.state = "ended";
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
    this.state = "ended";
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

  #leave() {
    this.generation++;
    this.state = "waiting";
    [this.#reconnectDue, this.#silenceDue] = [null, null];
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
    const { seq, skipped = 0, replay } = message;
    if (seq !== this.#seq + 1 + skipped) {
      // A position behind it would hide what is missing. A resume brings it.
      return yield* this.closed(GAP, `gap before message ${seq}`, now);
    }
    this.#seq = seq;
    if (replay && this.#replayed && !--this.#replayed) this.#snapshotDue = false;
    const isNew = this.offsets.advance(message);
    if (isNew || (replay && this.#withSnapshot)) yield { do: "message", message };
    else this.duplicates++;
  }

  /**
   * @param {any} item
   * @param {number} now
   * @returns {Actions}
   */
  *#notice(item, now) {
    const isAnswer = !this.#subscribed && (item.subscribed || item.type === "error");
    if (isAnswer) return yield* this.#answer(item, now);
    this.offsets.apply(item);
    switch (item.type) {
      case "pong":
        return;
      case "replay_complete":
        this.#snapshotDue = false;
        break;
      case "replay_incomplete":
        this.offsets.passLost(item);
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
   * @param {any} answer
   * @param {number} now
   * @returns {Actions}
   */
  *#answer(answer, now) {
    if (!answer.subscribed?.length) {
      const { code, message, retry, retry_ms } = answer.rejected?.[0] ?? answer;
      if (retry_ms) this.#advice = retry_ms;
      return yield* this.closed(retry ? TRY_AGAIN_LATER : NORMAL, `${code}: ${message}`, now);
    }
    [this.#subscribed, this.#subscribedAt] = [true, now];
    this.#replayed = answer.replayed;
    if (this.#replayed === 0) this.#snapshotDue = false;
    this.offsets.follow(answer.categories);
    this.offsets.apply(answer);
    this.offsets.passLost(answer);
    yield { do: "notice", notice: answer };
  }
}
