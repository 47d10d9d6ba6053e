// odin-ws-client 0.1.0, made from clients/js/src by tools/bundle.js.

// Which ends of a connection are final: docs/protocol.md, Closes.

/** The client closed, or has to stop: the URL or the subscription was rejected. */
const NORMAL = 1000;
/** The server sent something that is not the protocol. */
const VIOLATION = 1002;
/** No close frame came. */
const ABNORMAL = 1006;
/** Messages are missing; the client leaves the connection and resumes. Never sent. */
const GAP = 4000;
/** The server rejected the subscription, and may accept it later. */
const TRY_AGAIN_LATER = 1013;

/** The token has expired, or is not valid. */
const TOKEN_EXPIRED = 4401;
/** Access is not granted, or not any more. */
const REVOKED = 4403;

const POLICY = 1008;

// Another connection would end with the same code.
const FINAL = new Set([NORMAL, VIOLATION, 1003, 1007, 1009, 1010, TOKEN_EXPIRED, REVOKED]);

// One of the three reasons of 1008; a slow client may come back, this one sends bad commands.
const BAD_COMMANDS = "too many bad messages";

/**
 * Whether a client must not reconnect after this close.
 * @param {number} code
 * @param {string} reason
 * @param {boolean} renewable whether the client can fetch another token
 */
function isFinal(code, reason, renewable) {
  if (code === TOKEN_EXPIRED) return !renewable;
  return FINAL.has(code) || (code === POLICY && reason.startsWith(BAD_COMMANDS));
}

/**
 * Whether the server closed because of this client: the back-off then goes on.
 * @param {number} code
 */
function isFailure(code) {
  return code === POLICY || code === REVOKED;
}

// Where a stream of Server-Sent Events resumes: docs/design/2026-11-30-event-ids.md.

/** @import { Ids, Positions } from "../types/index.d.ts" */

// An offset + 1 in digits of 5 bits; the last one is of another alphabet.
const DIGITS = "0123456789abcdefghijklmnopqrstuv";
const LAST_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZwxyz_-";
const BASE = 32;

/**
 * The id of the event behind which a client is.
 * @param {Positions} positions
 * @param {Ids} ids
 * @param {boolean} inSnapshot whether its snapshot has not come whole
 */
function eventId(positions, ids, inSnapshot) {
  const topics = Object.entries(positions).map(([topic, offsets]) => {
    const count = Math.max(-1, ...Object.keys(offsets).map(Number)) + 1;
    const written = Array.from({ length: count }, (_, partition) => {
      const offset = offsets[partition];
      return offset === undefined ? "." : writtenOffset(offset);
    });
    return `,${topic}:${ids[topic] ?? ""}:${written.join("")}`;
  });
  return (inSnapshot ? "1s" : "1") + topics.join("");
}

/** @param {number} offset */
function writtenOffset(offset) {
  // Not with bit operators, which have 32 bits.
  let value = offset + 1;
  let text = LAST_DIGITS.charAt(value % BASE);
  for (value = Math.floor(value / BASE); value; value = Math.floor(value / BASE))
    text = DIGITS.charAt(value % BASE) + text;
  return text;
}

// Server-Sent Events: section 9.2 of the HTML standard (html.spec.whatwg.org).

const LINE_END = /\r\n|\n|\r/;

/** Parses a stream in whatever pieces it comes. An event that is not whole is never seen. */
class EventParser {
  #decoder = new TextDecoder();
  #rest = "";
  /** @type {string[]} */
  #data = [];

  /**
   * The data of the events that are whole with these bytes. Here names and ids are of no use: both
   * are in the data.
   * @param {Uint8Array} bytes
   * @returns {Generator<string>}
   */
  *feed(bytes) {
    this.#rest += this.#decoder.decode(bytes, { stream: true });
    // A CR at the end may be half of a line end.
    const isHalf = this.#rest.endsWith("\r");
    const lines = (isHalf ? this.#rest.slice(0, -1) : this.#rest).split(LINE_END);
    this.#rest = lines.pop() + (isHalf ? "\r" : "");
    for (const line of lines) {
      if (line.startsWith("data:")) this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line === "" && this.#data.length) {
        yield this.#data.join("\n");
        this.#data = [];
      }
    }
  }
}

// A subscription as Server-Sent Events behind the interface of a WebSocket: docs/sse.md.


// The server sends a comment every 30 seconds unless its settings say otherwise.
const LONGEST_SILENCE_MS = 75_000;

const PONG = '{"type":"pong"}';

// Some of what a proxy says may be a page.
const LONGEST_REASON = 200;

/**
 * Fetches a stream for the first command that it is to send; the others it answers itself, as far
 * as it can.
 */
class EventSocket {
  /** @type {(() => void) | null} */
  onopen = null;
  /** @type {((event: { data: string }) => void) | null} */
  onmessage = null;
  /** @type {((event: { code: number, reason: string }) => void) | null} */
  onclose = null;
  /** @type {(() => void) | null} never called: `onclose` says more */
  onerror = null;

  #url;
  #token;
  #fetch;
  #abort = new AbortController();
  #heardAt = -Infinity;

  /**
   * @param {URL} url of the stream
   * @param {string | undefined} token
   * @param {typeof globalThis.fetch} fetchStream
   */
  constructor(url, token, fetchStream) {
    this.#url = url;
    this.#token = token;
    this.#fetch = fetchStream;
    queueMicrotask(() => this.onopen?.());
  }

  /** @param {string} text a command */
  send(text) {
    const { type, data } = JSON.parse(text);
    if (type === "subscribe" || type === "resume") this.#follow(data);
    // A request says nothing more. Comments show that the server is there.
    else if (type === "heartbeat" && performance.now() - this.#heardAt < LONGEST_SILENCE_MS)
      this.onmessage?.({ data: PONG });
    else if (type === "auth") this.#end(TOKEN_EXPIRED, "a stream begins anew with another token");
  }

  close() {
    this.#abort.abort();
  }

  /** @param {Record<string, any>} data */
  async #follow(data) {
    const url = new URL(this.#url);
    const query = queryOf(data);
    url.search += (url.search ? "&" : "?") + query;
    const { signal } = this.#abort;
    /** @type {Record<string, string>} */
    const headers = { Accept: "text/event-stream" };
    if (this.#token !== undefined) headers["Authorization"] = `Bearer ${this.#token}`;
    try {
      const response = await this.#fetch(url, { headers, signal, cache: "no-store" });
      const type = response.headers.get("Content-Type") ?? "";
      if (response.ok && type.startsWith("text/event-stream") && response.body)
        await this.#read(response.body.getReader());
      else this.#reject(response.status, await response.text());
    } catch (error) {
      if (!signal.aborted) this.#end(ABNORMAL, `the stream failed: ${error}`);
    }
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
  async #read(reader) {
    const parser = new EventParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return this.#end(ABNORMAL, "the stream ended");
      this.#heardAt = performance.now();
      for (const text of parser.feed(value)) {
        if (this.#abort.signal.aborted) return;
        if (text.startsWith('{"type":"close"')) {
          const { code, reason } = JSON.parse(text);
          return this.#end(code, reason);
        }
        this.onmessage?.({ data: text });
      }
    }
  }

  /**
   * @param {number} status
   * @param {string} text
   */
  #reject(status, text) {
    const code = status === 401 ? TOKEN_EXPIRED : status === 403 ? REVOKED : ABNORMAL;
    this.#end(code, `${status} ${text.trim().slice(0, LONGEST_REASON)}`);
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #end(code, reason) {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort();
    this.onclose?.({ code, reason });
  }
}

/**
 * The query of a subscribe or resume.
 * @param {Record<string, any>} data
 */
function queryOf({ positions, ids = {}, snapshot, ...fields }) {
  const query = Object.entries(fields).map(([name, value]) => {
    const values = Array.isArray(value) ? value : [value];
    const texts = values.map((one) => (typeof one === "object" ? JSON.stringify(one) : `${one}`));
    return `${name}=${texts.map(encodeURIComponent).join(",")}`;
  });
  if (snapshot) query.push("snapshot=true");
  // A subscribe asks for positions, a resume has them.
  if (typeof positions === "object") {
    const id = eventId(positions, ids, Boolean(snapshot));
    query.push(`last_event_id=${encodeURIComponent(id)}`);
  }
  return query.join("&");
}

// Several messages in one frame: docs/protocol.md, Batches.

/** @import { Message } from "../types/index.d.ts" */

/**
 * The messages of a batch, each as if it had come in a frame of its own.
 * @param {{ seq: number, skipped?: number, replay?: true, ahead?: true, messages: object[] }} batch
 * @returns {Generator<Message>}
 */
function* unpack({ seq, skipped, replay, ahead, messages }) {
  for (const [index, message] of messages.entries()) {
    /** @type {object} */
    const head = {
      type: "message",
      seq: seq + index,
      ...(skipped && index === 0 ? { skipped } : {}),
      ...(replay ? { replay } : {}),
      ...(ahead ? { ahead } : {}),
    };
    yield /** @type {Message} */ ({ ...head, ...message });
  }
}

// What the client sends: docs/protocol.md, Commands.

/** @import { Ids, Positions, Subscription } from "../types/index.d.ts" */

const HEARTBEAT = '{"type":"heartbeat"}';

// Messages of one write come in one frame: fewer bytes, and one parse for all of them.
const FRAMES = { frames: "batch" };

/**
 * Begin a subscription, with a snapshot or at a time if it asks for one.
 * @param {Subscription} subscription
 */
function subscribe(subscription) {
  return JSON.stringify({ type: "subscribe", data: { ...FRAMES, ...subscription, positions: true } });
}

/**
 * Continue a subscription behind `positions`.
 * @param {Subscription} subscription
 * @param {{ positions: Positions, ids: Ids, snapshot: boolean }} from
 */
function resume(subscription, { positions, ids, snapshot }) {
  const { snapshot: _snapshot, since_ms: _since, ...names } = subscription;
  const data = {
    ...FRAMES,
    ...names,
    positions,
    ids: Object.keys(ids).length ? ids : undefined,
    snapshot: snapshot || undefined,
  };
  return JSON.stringify({ type: "resume", data });
}

/**
 * Continue a live connection with another token.
 * @param {string} token
 */
function auth(token) {
  return JSON.stringify({ type: "auth", data: { token } });
}

// Where a client is in each partition: docs/protocol.md, Keeping positions.

/** @import { Ids, Lost, Message, Positions } from "../types/index.d.ts" */

/** @typedef {{ type: string, ids?: Ids, positions?: Positions }} Item */

class OffsetTracker {
  /** The offset of the last record by topic and partition; -1 stands before the first one. */
  positions;
  /** The id of each topic; another id is another topic, whose offsets begin at 0. */
  ids;
  /** @type {Record<string, string>} the topic of each category */
  #categories = {};
  /**
   * The offsets that came ahead of one that is held back, by topic and partition: the position is
   * before them, so a resume brings them again.
   * @type {Map<string, Set<number>>}
   */
  #ahead = new Map();

  /**
   * @param {Positions} positions
   * @param {Ids} ids
   */
  constructor(positions, ids) {
    /** @type {Positions} */
    this.positions = structuredClone(positions);
    this.ids = { ...ids };
  }

  /** Whether there is nothing to resume from. */
  get isEmpty() {
    return Object.keys(this.positions).length === 0;
  }

  /**
   * Follow the categories of an ack.
   * @param {Record<string, string> | undefined} categories
   */
  follow(categories) {
    this.#categories = { ...categories };
  }

  /**
   * Move to the ids and positions of an ack or a notice.
   * @param {Item} item
   */
  apply({ type, ids = {}, positions = {} }) {
    // Feed notices go to every client: about topics that this one does not follow, and amid a
    // replay, which a position must not overtake.
    const isFeed = type === "feed";
    const followed = new Set(Object.values(this.#categories));
    /** @param {string} topic */
    const concerns = (topic) => !isFeed || followed.has(topic);
    for (const [topic, id] of Object.entries(ids)) {
      if (!concerns(topic)) continue;
      if (id !== (this.ids[topic] ?? id)) {
        this.positions[topic] = {};
        for (const key of this.#ahead.keys())
          if (key.startsWith(`${topic} `)) this.#ahead.delete(key);
      }
      this.ids[topic] = id;
    }
    for (const [topic, offsets] of Object.entries(positions)) {
      if (!concerns(topic)) continue;
      const own = this.#partitions(topic);
      for (const [partition, offset] of Object.entries(offsets)) {
        const before = own[partition] ?? offset;
        own[partition] = isFeed ? Math.min(offset, before) : offset;
        // Where it goes back, other records have the offsets that came ahead.
        this.#forgetAhead(`${topic} ${partition}`, own[partition] < before ? Infinity : offset);
      }
    }
  }

  /**
   * Move behind what is lost, unless the answer says where to go on.
   * @param {{ lost?: Lost, positions?: Positions }} answer
   */
  passLost({ lost = {}, positions }) {
    for (const [topic, ranges] of Object.entries(lost)) {
      const own = this.#partitions(topic);
      for (const [partition, [, last]] of Object.entries(ranges)) {
        const given = positions?.[topic]?.[partition];
        own[partition] = given ?? (positions ? last : Math.max(last, own[partition] ?? -1));
      }
    }
  }

  /**
   * Move to a message; returns false if the position was there already.
   * @param {Message} message
   */
  advance({ channel, pos, ahead }) {
    const category = channel.slice(channel.lastIndexOf(".") + 1);
    const topic = this.#categories[category];
    if (topic === undefined) throw new TypeError(`unknown category of ${channel}`);
    const dash = pos.indexOf("-");
    const partition = pos.slice(0, dash);
    const offset = Number(pos.slice(dash + 1)); // exact up to 2^53
    const own = this.#partitions(topic);
    if (offset <= (own[partition] ?? -1)) return false;
    const key = `${topic} ${partition}`;
    const isNew = !this.#ahead.get(key)?.has(offset);
    if (ahead) {
      this.#ahead.set(key, (this.#ahead.get(key) ?? new Set()).add(offset));
    } else {
      own[partition] = offset;
      this.#forgetAhead(key, offset);
    }
    return isNew;
  }

  /**
   * @param {string} key
   * @param {number} position
   */
  #forgetAhead(key, position) {
    const early = this.#ahead.get(key);
    if (!early) return;
    for (const offset of early) if (offset <= position) early.delete(offset);
    if (!early.size) this.#ahead.delete(key);
  }

  /** @param {string} topic */
  #partitions(topic) {
    return (this.positions[topic] ??= {});
  }
}

// How long a client waits before the next attempt: docs/protocol.md, Closes.


/**
 * Back-off with full jitter, and the server's advice.
 *
 * A connection that held for the longest wait resets the back-off, unless the server closed it
 * because of this client.
 */
class ReconnectDelay {
  #first;
  #longest;
  #random;
  #attempts = 0;
  #wasAdvised = false;

  /**
   * @param {readonly [first: number, longest: number]} backoff ms
   * @param {() => number} random as Math.random
   */
  constructor([first, longest], random) {
    this.#first = first;
    this.#longest = longest;
    this.#random = random;
  }

  /**
   * The milliseconds until the next attempt.
   * @param {number} code of the close
   * @param {number} held how long the subscription was live, ms
   * @param {number | null} advice after_ms or retry_ms of the server
   */
  next(code, held, advice) {
    if (held >= this.#longest && !isFailure(code)) [this.#attempts, this.#wasAdvised] = [0, false];
    const ceiling = Math.min(this.#longest, this.#first * 2 ** this.#attempts++);
    const jittered = this.#random() * ceiling;
    // A server advises each client once. Advice that comes again before a connection has held is
    // the least of the back-off: a server that always says 1 ms is not asked every millisecond.
    const delay = this.#wasAdvised ? Math.max(advice ?? 0, jittered) : (advice ?? jittered);
    if (advice !== null) this.#wasAdvised = true;
    return delay;
  }
}

// When the client fetches another token for a live connection.

// Between two attempts. With less than two of it left a client rather reconnects and resumes.
const LEAST_MS = 1000;

/**
 * Check a token before it goes into a subprotocol: the browser's own error would show it.
 * @param {unknown} token
 * @returns {string}
 */
function checkedToken(token) {
  if (typeof token === "string" && /^[\w.~+-]+$/.test(token)) return token;
  throw new TypeError("token: letters, digits and -._~+ are allowed");
}

/** The token of one connection, and the time of the next attempt to fetch another. */
class TokenRefresh {
  /** @type {number | null} when to fetch a token; null: not at all */
  due = null;
  /** @type {number | null} when the current token expires, if the server said so */
  #expires = null;
  /** @type {string | undefined} */
  #current;
  /** @type {string | undefined} sent and not yet accepted; it may be sent again until then */
  #offered;
  #random;

  /** @param {() => number} random as Math.random */
  constructor(random) {
    this.#random = random;
  }

  /**
   * A connection begins with this token.
   * @param {string | undefined} token
   */
  begin(token) {
    [this.due, this.#expires, this.#current, this.#offered] = [null, null, token, undefined];
  }

  /**
   * The server says when the token expires.
   * @param {number} expires
   * @param {number} now
   */
  expiring(expires, now) {
    this.#expires = expires;
    this.schedule(now);
  }

  /**
   * Fetch a token after `retry_ms`, else at a random moment in the first half of what is left: if
   * that attempt fails there is time for another one, and clients do not all ask at once.
   * @param {number} now
   * @param {number} [retry_ms]
   */
  schedule(now, retry_ms) {
    this.due = null;
    const left = (this.#expires ?? now) - now;
    if (left <= 2 * LEAST_MS) return;
    const isTold = retry_ms !== undefined && retry_ms < left;
    const delay = isTold ? retry_ms : (this.#random() * left) / 2;
    this.due = now + Math.max(LEAST_MS, delay);
  }

  /**
   * Whether to send this token; the current one would expire at the same time.
   * @param {string} token
   */
  offer(token) {
    if (token === this.#current) return false;
    this.#offered = token;
    return true;
  }

  /** The server accepted the token that was sent last. */
  accepted() {
    [this.due, this.#expires, this.#current] = [null, null, this.#offered];
  }
}

// The client without its I/O: what happens to it goes in, what it does comes out.


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
class Session {
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

// WebSocket, or Server-Sent Events where something in between refuses upgrades: docs/client-js.md.

/** @import { Subscription } from "../types/index.d.ts" */

// So many WebSockets in a row that brought nothing.
const FAILURES = 3;

// A page that has moved to another network gets its WebSocket back when it next reconnects.
const RETRY_WEBSOCKET_MS = 600_000;

class TransportChoice {
  /** @type {"websocket" | "sse"} of the current connection, or of the last one */
  current = "websocket";

  #hasFallback;
  #failures = 0;
  #streamWorked = false;
  #webSocketAt = -Infinity;
  #isOpen = false;
  #worked = false;

  /** @param {boolean} hasFallback */
  constructor(hasFallback) {
    this.#hasFallback = hasFallback;
  }

  /**
   * Choose for a new connection.
   * @param {number} now
   */
  next(now) {
    const isDue = now - this.#webSocketAt >= RETRY_WEBSOCKET_MS;
    const useStream = this.#streamWorked ? !isDue : this.#failures >= FAILURES;
    this.current = this.#hasFallback && useStream ? "sse" : "websocket";
    if (this.current === "websocket") this.#webSocketAt = now;
    [this.#isOpen, this.#worked] = [true, false];
    return this.current;
  }

  /** The connection brings what it is for. */
  works() {
    this.#worked = true;
  }

  /** The connection has ended, or did not come about. */
  ended() {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (this.current === "sse") {
      this.#streamWorked = this.#worked;
      // Neither works: the server may be away, and a WebSocket is as good.
      if (!this.#worked) this.#failures = FAILURES - 1;
    } else if (this.#worked) [this.#failures, this.#streamWorked] = [0, false];
    else this.#failures++;
  }
}

/**
 * Where the streams are of a server with this WebSocket; null if there are none.
 * @param {string | URL} url of the WebSocket
 * @param {Subscription} subscription
 * @param {boolean | string | URL} fallback as in the options
 */
function streamUrl(url, subscription, fallback) {
  const { channels = [], topics = [], bundles = [], tokens = [] } = subscription;
  // Commas stand between names there.
  const isSeparable = [channels, topics, bundles, tokens].flat().every((name) => !name.includes(","));
  if (fallback === false || !isSeparable) return null;
  /** @type {URL} */
  let found;
  try {
    found = new URL(url, globalThis.location?.href);
  } catch {
    return null; // the WebSocket says what is wrong with it
  }
  if (fallback !== true) return new URL(fallback, found);
  if (!found.pathname.endsWith("/ws") || found.searchParams.get("v") === "0") return null;
  found.protocol = found.protocol.replace("ws", "http");
  found.pathname = found.pathname.replace(/ws$/, "sse");
  const token = found.searchParams.get("token");
  found.search = token === null ? "" : new URLSearchParams({ token }).toString();
  return found;
}

// The session with a WebSocket, a clock and a timer: what applications use.


/** @import { FeedOptions, Message, Notice, Subscription } from "../types/index.d.ts" */
/** @import { Actions } from "./session.js" */

// A longer one would fire at once.
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** Follows an odin-ws server, and resumes after every break where it was. */
class OdinFeed {
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
   * @param {Subscription} subscription
   * @param {FeedOptions} [options]
   */
  constructor(url, subscription, options = {}) {
    const { token, WebSocket: Given = globalThis.WebSocket, ...others } = options;
    const { fallback = true, fetch = globalThis.fetch, ...rest } = others;
    if (Given === undefined) {
      throw new TypeError("there is no WebSocket here: give one as options.WebSocket");
    }
    const isFunction = typeof token === "function";
    this.#url = url;
    this.#WebSocket = Given;
    this.#token = isFunction ? token : undefined;
    // A browser's fetch has to be called on its window.
    this.#fetchStream = fetch?.bind(globalThis);
    this.#streamUrl = fetch === undefined ? null : streamUrl(url, subscription, fallback);
    this.#choice = new TransportChoice(this.#streamUrl !== null);
    this.#session = new Session(subscription, {
      ...rest,
      renewable: isFunction,
      ...(typeof token === "string" ? { token } : {}),
    });
    // Without a function the socket is made now, and what is wrong with the URL is an error here.
    for (const action of this.#session.start(performance.now())) {
      if (action.do === "connect") this.#connect(action.token);
      if (action.do === "fetch") this.#fetch();
    }
    this.#setAlarm();
  }

  /** The offset of the last record that `onmessage` got, by topic and partition. */
  get positions() {
    return this.#session.offsets.positions;
  }

  /** The ids of the topics of `positions`. */
  get ids() {
    return this.#session.offsets.ids;
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
    socket.onopen = () => this.#run(session.opened(performance.now()));
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
    if (this.#choice.next(performance.now()) === "sse" && this.#streamUrl !== null)
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

export { OdinFeed };
