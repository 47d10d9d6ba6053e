// odin-ws-client 0.1.0, made from clients/js/src by tools/bundle.js.

// Close codes, and which of them are final: docs/protocol.md, Closes.

/** The client closed the feed, or the URL or the subscription was rejected. */
const NORMAL = 1000;
/** The server sent a frame that violates the protocol. */
const VIOLATION = 1002;
/** No close frame came. */
const ABNORMAL = 1006;
/** Messages are missing: the client closes the connection and resumes. Never sent. */
const GAP = 4000;
/** The server rejected the subscription for now. */
const TRY_AGAIN_LATER = 1013;

/** The token has expired, or is not valid. */
const TOKEN_EXPIRED = 4401;
/** Access is not granted, or was revoked. */
const REVOKED = 4403;

const POLICY = 1008;

// Another connection would end with the same code.
const FINAL = new Set([NORMAL, VIOLATION, 1003, 1007, 1009, 1010, TOKEN_EXPIRED, REVOKED]);

// 1008 has three reasons. A slow or flooding client may reconnect; this reason is final.
const BAD_COMMANDS = "too many bad messages";

/**
 * Returns whether a client must not reconnect after this close.
 * @param {number} code
 * @param {string} reason
 * @param {boolean} renewable whether the client can fetch another token
 */
function isFinal(code, reason, renewable) {
  if (code === TOKEN_EXPIRED) return !renewable;
  return FINAL.has(code) || (code === POLICY && reason.startsWith(BAD_COMMANDS));
}

/**
 * Returns whether the close is for a fault of this client, and so does not reset the back-off.
 * @param {number} code
 */
function isFailure(code) {
  return code === POLICY || code === REVOKED;
}

// Event ids, from which Server-Sent Events resume: docs/design/2026-11-30-event-ids.md.

/** @import { Ids, Positions } from "../types/index.d.ts" */

// Digits of 5 bits for an offset + 1; the last digit is from an alphabet of its own, so it ends a
// number.
const DIGITS = "0123456789abcdefghijklmnopqrstuv";
const LAST_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZwxyz_-";
const BASE = 32;

/**
 * Returns the event id for a client at `positions`.
 * @param {Positions} positions
 * @param {Ids} ids
 * @param {boolean} inSnapshot whether the snapshot is not complete
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

/**
 * Returns an offset in the digits of an event id.
 * @param {number} offset
 */
function writtenOffset(offset) {
  // Division, because bit operators have 32 bits.
  let value = offset + 1;
  let text = LAST_DIGITS.charAt(value % BASE);
  for (value = Math.floor(value / BASE); value; value = Math.floor(value / BASE))
    text = DIGITS.charAt(value % BASE) + text;
  return text;
}

// Parses Server-Sent Events: section 9.2 of the HTML standard (html.spec.whatwg.org).

const LINE_END = /\r\n|\n|\r/;

// Characters of one event: as the Python client's limit of a message.
const MAX_EVENT_LENGTH = 2 ** 25;

/** A parser of a stream in chunks of any size; an incomplete event is never returned. */
class EventParser {
  #decoder = new TextDecoder();
  /** @type {string[]} the parts of the incomplete line, so that each chunk is searched once */
  #parts = [];
  #half = "";
  /** @type {string[]} */
  #data = [];
  #length = 0;

  /**
   * Yields the data of the events that are complete with these bytes. Event names and ids are
   * ignored, because the data contains both. Throws a RangeError if an event is too long.
   * @param {Uint8Array} bytes
   * @returns {Generator<string>}
   */
  *feed(bytes) {
    const text = this.#half + this.#decoder.decode(bytes, { stream: true });
    // A final CR may be the first half of CR LF.
    this.#half = text.endsWith("\r") ? "\r" : "";
    this.#length += text.length;
    if (this.#length > MAX_EVENT_LENGTH) throw new RangeError("an event of more than 32 MiB");
    const lines = (this.#half ? text.slice(0, -1) : text).split(LINE_END);
    const rest = lines.pop() ?? "";
    if (lines.length) {
      lines[0] = this.#parts.join("") + lines[0];
      this.#parts = [];
    }
    this.#parts.push(rest);
    for (const line of lines) {
      if (line.startsWith("data:")) this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line === "") {
        this.#length = 0;
        if (this.#data.length) yield this.#data.join("\n");
        this.#data = [];
      }
    }
  }
}

// Server-Sent Events with the interface of a WebSocket: docs/sse.md.


// Two and a half times the server's default interval between comments, which is 30 s.
const MAX_SILENCE_MS = 75_000;

const PONG = '{"type":"pong"}';

// Characters of a response body in the reason: a proxy's body may be a whole page.
const MAX_REASON_LENGTH = 200;

/**
 * A stream of Server-Sent Events. A subscribe or resume fetches the stream; heartbeats are answered
 * locally, and an `auth` ends the stream.
 */
class EventSocket {
  /** @type {(() => void) | null} */
  onopen = null;
  /** @type {((event: { data: string }) => void) | null} */
  onmessage = null;
  /**
   * `retryAfter`: the Retry-After of a rejection, ms.
   * @type {((event: { code: number, reason: string, retryAfter?: number | undefined }) => void) | null}
   */
  onclose = null;
  /** @type {(() => void) | null} never called: `onclose` has the code and reason */
  onerror = null;

  #url;
  #token;
  #fetch;
  #abort = new AbortController();
  #lastReceivedAt = -Infinity;

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
    // The stream carries no commands, so a recently received comment replaces the server's pong.
    else if (type === "heartbeat" && performance.now() - this.#lastReceivedAt < MAX_SILENCE_MS)
      this.onmessage?.({ data: PONG });
    else if (type === "auth") this.#end(TOKEN_EXPIRED, "the stream reconnects with another token");
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
      else this.#reject(response, await response.text());
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
      this.#lastReceivedAt = performance.now();
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
   * @param {Response} response
   * @param {string} text
   */
  #reject({ status, headers }, text) {
    const code = status === 401 ? TOKEN_EXPIRED : status === 403 ? REVOKED : ABNORMAL;
    // In seconds; a date is ignored. The server's own 503 is a stream with an `error`: this one is
    // of a proxy in front.
    const after = headers.get("Retry-After") ?? "";
    const retryAfter = /^\d+$/.test(after) ? 1000 * Number(after) : undefined;
    this.#end(code, `${status} ${text.trim().slice(0, MAX_REASON_LENGTH)}`, retryAfter);
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {number} [retryAfter] ms
   */
  #end(code, reason, retryAfter) {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort();
    this.onclose?.({ code, reason, retryAfter });
  }
}

/**
 * Returns the URL query for the fields of a subscribe or resume.
 * @param {Record<string, any>} data
 */
function queryOf({ positions, ids = {}, snapshot, ...fields }) {
  const query = Object.entries(fields).map(([name, value]) => {
    const values = Array.isArray(value) ? value : [value];
    const texts = values.map((value) => (typeof value === "object" ? JSON.stringify(value) : `${value}`));
    return `${name}=${texts.map(encodeURIComponent).join(",")}`;
  });
  if (snapshot) query.push("snapshot=true");
  // `positions` is true in a subscribe, and an object in a resume.
  if (typeof positions === "object") {
    const id = eventId(positions, ids, Boolean(snapshot));
    query.push(`last_event_id=${encodeURIComponent(id)}`);
  }
  return query.join("&");
}

// Splits batches, frames with several messages: docs/protocol.md, Batches.

/** @import { Message } from "../types/index.d.ts" */

/**
 * Yields the messages of a batch, each with the fields of a message in its own frame.
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

// The text of the client's commands: docs/protocol.md, Commands.

/** @import { Ids, Names, Positions, Subscription } from "../types/index.d.ts" */

const HEARTBEAT = '{"type":"heartbeat"}';

// The server sends the messages of one write in one frame: fewer bytes, and one JSON parse.
const FRAMES = { frames: "batch" };

/**
 * Returns a subscribe, with the subscription's `snapshot` or `since_ms`.
 * @param {number} id
 * @param {Subscription} subscription
 */
function subscribe(id, subscription) {
  const data = { ...FRAMES, ...subscription, positions: true };
  return JSON.stringify({ type: "subscribe", id, data });
}

/**
 * Returns a resume of a subscription behind `positions`.
 * @param {number} id
 * @param {Subscription} subscription
 * @param {{ positions: Positions, ids: Ids, snapshot: boolean }} from
 */
function resume(id, subscription, { positions, ids, snapshot }) {
  const { snapshot: _snapshot, since_ms: _since, ...names } = subscription;
  const data = {
    ...FRAMES,
    ...names,
    positions,
    ids: Object.keys(ids).length ? ids : undefined,
    snapshot: snapshot || undefined,
  };
  return JSON.stringify({ type: "resume", id, data });
}

/**
 * Returns an unsubscribe.
 * @param {number} id
 * @param {Names} names
 */
function unsubscribe(id, { channels, topics, bundles, tokens }) {
  return JSON.stringify({ type: "unsubscribe", id, data: { channels, topics, bundles, tokens } });
}

/**
 * Returns the command that replaces the token of a live connection.
 * @param {string} token
 */
function auth(token) {
  return JSON.stringify({ type: "auth", data: { token } });
}

// The names and options of subscriptions: filter, difference, merge.

/** @import { Names, Subscription } from "../types/index.d.ts" */

const FIELDS = /** @type {const} */ (["channels", "topics", "bundles"]);

/**
 * Returns all names of a subscription.
 * @param {Names} subscription
 */
function namesOf({ channels = [], topics = [], bundles = [] }) {
  return [...channels, ...topics, ...bundles];
}

/**
 * Returns the subscription with the names that `keeps` accepts; null without such a name.
 * @template {Names} N
 * @param {N} subscription
 * @param {(name: string, field: string) => boolean} keeps
 * @returns {N | null}
 */
function filterNames(subscription, keeps) {
  /** @type {Record<string, unknown>} */
  const kept = { .../** @type {object} */ (subscription) };
  for (const field of FIELDS) {
    const names = subscription[field]?.filter((name) => keeps(name, field));
    if (names?.length) kept[field] = names;
    else delete kept[field];
  }
  const found = /** @type {N} */ (kept);
  return namesOf(found).length ? found : null;
}

/**
 * Returns the subscription without the names of `other`; null if no name is left. Topics and
 * bundles are equal names only with equal tokens.
 * @template {Names} N
 * @param {N} subscription
 * @param {Names} other
 */
function without(subscription, other) {
  const sameTokens = sorted(subscription.tokens) === sorted(other.tokens);
  return filterNames(subscription, (name, field) => {
    const ended = other[/** @type {keyof Names} */ (field)] ?? [];
    return !(ended.includes(name) && (field === "channels" || sameTokens));
  });
}

/**
 * Returns one subscription for several with equal options.
 * @param {readonly Subscription[]} subscriptions
 * @returns {Subscription}
 */
function merged(subscriptions) {
  /** @type {Record<string, unknown>} */
  const names = {};
  for (const field of FIELDS) {
    const all = subscriptions.flatMap((subscription) => subscription[field] ?? []);
    if (all.length) names[field] = [...new Set(all)];
  }
  const tokens = subscriptions.find((subscription) => subscription.topics ?? subscription.bundles)?.tokens;
  const { tokens: _tokens, ...options } = /** @type {Subscription} */ (subscriptions[0]);
  return { ...options, ...names, ...(tokens ? { tokens } : {}) };
}

/**
 * Returns a key that is equal for subscriptions that one command can begin or resume.
 * @param {Subscription} subscription
 */
function optionsOf({ max_rate, where, tokens, topics, bundles }) {
  const narrowed = topics ?? bundles ? sorted(tokens) : sorted();
  return JSON.stringify([max_rate, where, narrowed]);
}

/** @param {readonly string[]} [names] */
function sorted(names = []) {
  return JSON.stringify([...names].sort());
}

// The error of a subscribe or unsubscribe.

/** @import { Rejection } from "../types/index.d.ts" */

/** The rejection of a subscribe or unsubscribe. */
class SubscriptionError extends Error {
  name = "SubscriptionError";
  code;
  rejected;

  /**
   * @param {string} code
   * @param {string} message
   * @param {Rejection[]} [rejected] the cause for each name
   */
  constructor(code, message, rejected = []) {
    super(message);
    this.code = code;
    this.rejected = rejected;
  }
}

/** Returns the error for requests of a feed that has ended. */
function ended() {
  return new SubscriptionError("CLOSED", "the feed is closed");
}

// Checks the fields of the server's messages that become positions and names of this client.

// As an object's key, a name such as `__proto__` would reach the prototype of all objects, and one
// such as `constructor` would find something there.
const isName = (/** @type {string} */ name) => !(name in Object.prototype);
// Kafka's limit of a cluster is lower; an event id has a place for each partition below the highest.
const isPartition = (/** @type {string} */ name) => /^\d{1,6}$/.test(name);
const isOffset = (/** @type {unknown} */ value) => Number.isSafeInteger(value) && Number(value) >= -1;
const isText = (/** @type {unknown} */ value) => typeof value === "string";
const isRange = (/** @type {unknown} */ value) =>
  Array.isArray(value) && value.length === 2 && value.every(isOffset);

/**
 * Returns whether a value is an object of which all keys and values are right.
 * @param {unknown} value
 * @param {(key: string) => boolean} isKey
 * @param {(value: unknown) => boolean} isValue
 */
function isMap(value, isKey, isValue) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.entries(value).every(([key, item]) => isKey(key) && isValue(item));
}

/** @param {(value: unknown) => boolean} isValue */
const byTopic = (isValue) => (/** @type {unknown} */ value) =>
  isMap(value, isName, (partitions) => isMap(partitions, isPartition, isValue));

const isListOfText = (/** @type {unknown} */ value) => Array.isArray(value) && value.every(isText);
const isTextByName = (/** @type {unknown} */ value) => isMap(value, isName, isText);

/** @type {Record<string, (value: unknown) => boolean>} */
const CHECKS = {
  ids: isTextByName,
  positions: byTopic(isOffset),
  lost: byTopic(isRange),
  categories: isTextByName,
  subscribed: isListOfText,
  unsubscribed: isListOfText,
  // null while the number is not known: then `replay_complete` ends the replay.
  replayed: (value) => value === null || (Number.isSafeInteger(value) && Number(value) >= 0),
};

/**
 * Throws a TypeError unless these fields of an ack or a notice, where present, have their types.
 * @param {Record<string, unknown>} item
 */
function checkFields(item) {
  for (const [field, isRight] of Object.entries(CHECKS))
    if (item[field] !== undefined && !isRight(item[field])) throw new TypeError(`${field} has another form`);
}

/**
 * Returns the partition and the offset of a message. Throws a TypeError.
 * @param {string} pos
 */
function positionOf(pos) {
  const dash = pos.indexOf("-");
  const [partition, text] = [pos.slice(0, dash), pos.slice(dash + 1)];
  const offset = Number(text); // exact up to 2^53
  if (!isPartition(partition) || !/^\d+$/.test(text) || !Number.isSafeInteger(offset))
    throw new TypeError(`a position ${pos}`);
  return { partition, offset };
}

// The positions of a client: docs/protocol.md, Keeping positions.


/** @import { Ids, Lost, Message, Positions } from "../types/index.d.ts" */

/** @typedef {{ type: string, ids?: Ids, positions?: Positions }} Item */

/** The offset of the last record of each partition, and the ids of the topics. */
class OffsetTracker {
  /** The offset of the last record by topic and partition; -1 is before the first record. */
  positions;
  /** The id of each topic; a recreated topic has a new id, and its offsets begin at 0. */
  ids;
  /** @type {Record<string, string>} the topic of each category */
  #categories = {};
  /**
   * By topic and partition, the offsets received ahead of a record that the server holds back. The
   * position is before these offsets, so a resume replays them.
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

  /** True if there are no positions to resume from. */
  get isEmpty() {
    return Object.keys(this.positions).length === 0;
  }

  /**
   * Adds the categories of an ack; without an argument, at the start of a connection, clears them.
   * @param {Record<string, string> | undefined} categories
   */
  follow(categories) {
    this.#categories = categories ? { ...this.#categories, ...categories } : {};
  }

  /**
   * Applies the ids and positions of an ack or a notice.
   * @param {Item} item
   */
  apply({ type, ids = {}, positions = {} }) {
    // Feed notices go to every client: other topics are ignored, and positions only move back,
    // because a position must not overtake a running replay.
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
        // After a step back, other records have the offsets received ahead.
        this.#forgetAhead(`${topic} ${partition}`, own[partition] < before ? Infinity : offset);
      }
    }
  }

  /**
   * Moves the positions behind lost ranges, or to the positions of the answer.
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
   * Advances the position to a message; returns false if the message came before.
   * @param {Message} message
   */
  advance(message) {
    const { topic, partition, offset } = this.#positionOf(message);
    const own = this.#partitions(topic);
    if (offset <= (own[partition] ?? -1)) return false;
    const key = `${topic} ${partition}`;
    const isNew = !this.#ahead.get(key)?.has(offset);
    if (message.ahead) {
      this.#ahead.set(key, (this.#ahead.get(key) ?? new Set()).add(offset));
    } else {
      own[partition] = offset;
      this.#forgetAhead(key, offset);
    }
    return isNew;
  }

  /**
   * Remembers the offset of a message, to detect a duplicate, without moving the position.
   * @param {Message} message
   */
  note(message) {
    const { topic, partition, offset } = this.#positionOf(message);
    if (offset <= (this.positions[topic]?.[partition] ?? -1)) return;
    const key = `${topic} ${partition}`;
    this.#ahead.set(key, (this.#ahead.get(key) ?? new Set()).add(offset));
  }

  /**
   * Merges a tracker whose replay has ended: takes the higher offset per partition.
   * @param {OffsetTracker} other
   */
  join({ positions, ids }) {
    for (const [topic, offsets] of Object.entries(positions)) {
      const own = this.#partitions(topic);
      for (const [partition, offset] of Object.entries(offsets)) {
        own[partition] = Math.max(offset, own[partition] ?? -1);
        this.#forgetAhead(`${topic} ${partition}`, own[partition]);
      }
    }
    this.ids = { ...ids, ...this.ids };
  }

  /**
   * Drops the positions and ids of all topics that are not in `topics`.
   * @param {Set<string>} topics
   */
  retain(topics) {
    const isKept = (/** @type {[string, unknown]} */ [topic]) => topics.has(topic);
    this.positions = Object.fromEntries(Object.entries(this.positions).filter(isKept));
    this.ids = Object.fromEntries(Object.entries(this.ids).filter(isKept));
    for (const key of this.#ahead.keys())
      if (!topics.has(key.slice(0, key.lastIndexOf(" ")))) this.#ahead.delete(key);
  }

  /** Returns a tracker without positions, with the same categories. */
  fresh() {
    const tracker = new OffsetTracker({}, {});
    tracker.#categories = { ...this.#categories };
    return tracker;
  }

  /** Returns a tracker with the same positions, ids and categories. */
  copy() {
    const copied = new OffsetTracker(this.positions, this.ids);
    copied.#categories = { ...this.#categories };
    copied.#ahead = new Map([...this.#ahead].map(([key, offsets]) => [key, new Set(offsets)]));
    return copied;
  }

  /** @param {Message} message */
  #positionOf({ channel, pos }) {
    const category = channel.slice(channel.lastIndexOf(".") + 1);
    const topic = Object.hasOwn(this.#categories, category) ? this.#categories[category] : undefined;
    if (topic === undefined) throw new TypeError(`channel ${channel}: no acknowledgement named the topic of its category`);
    return { topic, ...positionOf(pos) };
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

// The subscriptions of a client, and the positions and commands to begin or resume them.


/** @import { Ids, Message, Names, Positions, Subscription } from "../types/index.d.ts" */

/**
 * A subscription and its state. `begun`: the subscription has taken effect, so a new connection
 * resumes it. `snapshotDue`: the snapshot is still to come. `behind`: the group's own positions
 * while its replay runs beside live messages of other groups. `topics`: the topics of the names;
 * null before the server's ack.
 * @typedef {{ subscription: Subscription, begun: boolean, snapshotDue: boolean,
 *   behind: OffsetTracker | null, topics: string[] | null }} Group
 */

/**
 * A command that begins or resumes groups with equal options. `tracker`: the positions to resume
 * from; null for a subscribe.
 * @typedef {{ groups: Group[], subscription: Subscription, tracker: OffsetTracker | null,
 *   withSnapshot: boolean }} Step
 */

/**
 * The subscriptions of a client, across all its connections. All groups share `tracker`, except
 * groups whose replay runs beside live messages: such a group has positions of its own (`behind`).
 */
class SubscriptionSet {
  tracker;
  /** @type {Group[]} */
  #groups;

  /**
   * @param {readonly Subscription[]} subscriptions
   * @param {OffsetTracker} tracker if it has positions, the subscriptions are resumed
   */
  constructor(subscriptions, tracker) {
    this.tracker = tracker;
    const begun = !tracker.isEmpty;
    this.#groups = subscriptions.map((subscription) => newGroup(subscription, begun));
  }

  /** The current subscriptions. */
  get subscriptions() {
    return this.#groups.map(({ subscription }) => subscription);
  }

  /** True if a group has positions of its own. */
  get isSplit() {
    return this.#groups.some(({ behind }) => behind !== null);
  }

  /** The lowest positions over all groups: all records up to them have come. */
  get positions() {
    if (!this.isSplit) return this.tracker.positions;
    const positions = structuredClone(this.tracker.positions);
    for (const behind of this.#behind())
      for (const [topic, offsets] of Object.entries(behind.positions)) {
        const own = (positions[topic] ??= {});
        for (const [partition, offset] of Object.entries(offsets))
          own[partition] = Math.min(offset, own[partition] ?? offset);
      }
    return positions;
  }

  /**
   * The ids of the topics of all groups.
   * @returns {Ids}
   */
  get ids() {
    const trackerIds = this.#behind().map(({ ids }) => ids);
    return trackerIds.length ? Object.assign({}, ...trackerIds, this.tracker.ids) : this.tracker.ids;
  }

  // ---- a new connection

  /**
   * Returns the commands of a new connection: resumes first, then subscribes. The server runs the
   * replays one by one, while live messages of the first are sent already. So only the groups of
   * the first resume keep the shared positions; the others get copies.
   * @returns {Step[]}
   */
  plan() {
    /** @type {Map<string, Group[]>} */
    const alike = new Map();
    const trackers = this.#behind();
    for (const group of this.#groups) {
      const { begun, snapshotDue, subscription, behind } = group;
      const { snapshot, since_ms } = subscription;
      const start = begun ? [trackers.indexOf(/** @type {OffsetTracker} */ (behind))] : [snapshot, since_ms];
      const key = JSON.stringify([begun, snapshotDue, start]) + optionsOf(subscription);
      alike.set(key, [...(alike.get(key) ?? []), group]);
    }
    let isShared = false;
    const commandGroups = [...alike.values()];
    const begun = commandGroups.filter(([first]) => first?.begun);
    const others = commandGroups.filter(([first]) => !first?.begun);
    return [...begun, ...others].map((groups) => {
      const [first] = /** @type {[Group]} */ (/** @type {unknown} */ (groups));
      let tracker = first.behind ?? (first.begun ? this.tracker : null);
      if (tracker === this.tracker && isShared) {
        tracker = this.tracker.copy();
        for (const group of groups) group.behind = tracker;
      }
      isShared ||= tracker === this.tracker;
      return this.#step(groups, tracker);
    });
  }

  /**
   * Returns the one command of a stream, for all groups; null without groups. All groups resume
   * from the lowest positions, so messages of some groups are sent again.
   * @returns {Step | null}
   */
  planStream() {
    const { positions, ids, isSplit } = this;
    if (isSplit) {
      this.tracker = new OffsetTracker(positions, ids);
      for (const group of this.#groups) group.behind = null;
    }
    return this.#groups.length ? this.#step(this.#groups, this.tracker) : null;
  }

  /**
   * Returns whether one command can begin or resume all groups, and also `subscription`.
   * @param {Subscription} [subscription]
   */
  hasSameOptions(subscription) {
    const all = subscription ? [...this.subscriptions, subscription] : this.subscriptions;
    return new Set(all.map(optionsOf)).size <= 1;
  }

  /**
   * @param {Group[]} groups
   * @param {OffsetTracker | null} tracker
   * @returns {Step}
   */
  #step(groups, tracker) {
    const subscription = merged(groups.map((group) => group.subscription));
    // Both apply to the whole connection: the last subscription with a value decides.
    for (const field of /** @type {const} */ (["delivery", "frames"])) {
      const value = this.subscriptions.map((given) => given[field]).filter(Boolean).pop();
      if (value) Object.assign(subscription, { [field]: value });
    }
    const withSnapshot = groups.some(({ snapshotDue }) => snapshotDue);
    return { groups: [...groups], subscription, tracker, withSnapshot };
  }

  // ---- answers and messages of the server

  /**
   * Returns whether groups other than `groups` have taken effect.
   * @param {Group[]} groups
   */
  hasOthers(groups) {
    return this.#groups.some((group) => group.begun && !groups.includes(group));
  }

  /**
   * Adds a group that has taken effect; its options replace those of equal names.
   * @param {Group} group
   */
  add(group) {
    this.end(group.subscription);
    this.#groups.push(group);
  }

  /**
   * Removes names from all groups.
   * @param {Names} names
   */
  end(names) {
    this.#groups = this.#groups.filter((group) => {
      const kept = without(group.subscription, names);
      group.subscription = kept ?? group.subscription;
      return kept;
    });
  }

  /**
   * Returns the names that no group has; null if groups have all of them.
   * @param {Names} names
   */
  unknown(names) {
    /** @type {Names | null} */
    let kept = names;
    for (const { subscription } of this.#groups) kept &&= without(kept, subscription);
    return kept;
  }

  /**
   * Merges the positions of a replay that has ended into the shared positions.
   * @param {OffsetTracker} behind
   */
  caughtUp(behind) {
    this.tracker.join(behind);
    this.leave(behind);
  }

  /**
   * Moves the groups at these positions to the shared positions.
   * @param {OffsetTracker | null} behind
   */
  leave(behind) {
    for (const group of this.#groups) if (group.behind === behind) group.behind = null;
  }

  /**
   * Advances the positions to a message; returns false if the message came before.
   * @param {Message} message
   * @param {OffsetTracker | null} replaying the tracker that the replay advances
   */
  advance(message, replaying) {
    if (message.replay && replaying) return replaying.advance(message);
    if (this.isSplit) for (const behind of this.#behind()) behind.note(message);
    return this.tracker.advance(message);
  }

  /**
   * Adds the categories of an ack; undefined, at the start of a connection, clears them.
   * @param {Record<string, string> | undefined} categories
   */
  follow(categories) {
    for (const tracker of [this.tracker, ...this.#behind()]) tracker.follow(categories);
  }

  /**
   * Applies an ack or a notice; a feed notice applies to the positions of every group.
   * @param {import("./offset-tracker.js").Item} item
   */
  apply(item) {
    const trackers = item.type === "feed" ? this.#behind() : [];
    for (const tracker of [this.tracker, ...trackers]) tracker.apply(item);
  }

  /**
   * Removes the losses of new topics from the ack of a stream. A stream sends new names in a
   * resume, so the server reports the records before the subscription as lost.
   * @param {any} ack
   */
  withoutNewTopics(ack) {
    const known = this.tracker.positions;
    const isKnown = (/** @type {[string, unknown]} */ [topic]) => topic in known;
    if (!ack.lost || this.tracker.isEmpty) return ack;
    const lost = Object.entries(ack.lost).filter(isKnown);
    if (lost.length) return { ...ack, lost: Object.fromEntries(lost) };
    // The new topics begin at the ends of these ranges.
    const { lost: all, reason: _reason, ...rest } = ack;
    const ends = new OffsetTracker({}, {});
    ends.apply(ack);
    ends.passLost({ lost: all, positions: ack.positions ?? {} });
    return { ...rest, positions: ends.positions, recovered: true };
  }

  /** Drops the positions of topics without a subscription, if all groups' topics are known. */
  forgetOthers() {
    const begun = this.#groups.filter((group) => group.begun);
    const known = begun.map(({ topics }) => topics);
    if (!known.includes(null)) this.tracker.retain(new Set(known.flatMap((topics) => topics ?? [])));
  }

  #behind() {
    const trackers = this.#groups.flatMap(({ behind }) => behind ?? []);
    return [...new Set(trackers)];
  }
}

/**
 * Returns a new group at the shared positions.
 * @param {Subscription} subscription
 * @param {boolean} begun
 * @returns {Group}
 */
function newGroup(subscription, begun) {
  const snapshotDue = Boolean(subscription.snapshot) && !begun;
  return { subscription, begun, snapshotDue, behind: null, topics: null };
}

/**
 * Returns the text of a step's command.
 * @param {Step} step
 * @param {number} id
 */
function stepText({ subscription, tracker, withSnapshot }, id) {
  if (tracker === null || tracker.isEmpty) return subscribe(id, subscription);
  /** @type {{ positions: Positions, ids: Ids }} */
  const { positions, ids } = tracker;
  return resume(id, subscription, { positions, ids, snapshot: withSnapshot });
}

// The command sequence of a connection: first the resumes, then the requests of the application.


/** @import { Names, Rejection, Subscription } from "../types/index.d.ts" */
/** @import { OffsetTracker } from "./offset-tracker.js" */
/** @import { Step, SubscriptionSet } from "./subscription-set.js" */

/**
 * A subscribe or unsubscribe of the application; `resolve` or `reject` is called with the answer.
 * @typedef {{ kind: "subscribe" | "unsubscribe", subscription: Subscription,
 *   resolve: (answer: any) => void, reject: (error: Error) => void }} Request
 */

const NOT_SUBSCRIBED = "NOT_SUBSCRIBED";

/**
 * The queue of a feed's commands. Each command waits for the answer to the previous command,
 * because the server's error for a command above the rate limit does not name the command. A
 * request stays queued until its answer, so a new connection sends an unanswered request again.
 */
class CommandQueue {
  #set;
  /** @type {Request[]} */
  #requests = [];
  /** @type {Step[]} */
  #plan = [];
  /** The id of the last command. */
  #id = 0;

  // The command in flight: a step, or names to unsubscribe; and its requests.
  /** @type {Step | null} */
  #step = null;
  /** @type {{ names: Names, rejected: Rejection[] } | null} */
  #ending = null;
  /** @type {Request[]} */
  #inFlight = [];

  /** @param {SubscriptionSet} set */
  constructor(set) {
    this.#set = set;
  }

  /**
   * Queues a request.
   * @param {Request} request
   */
  add(request) {
    this.#requests.push(request);
  }

  /** True if a command is in flight. */
  get awaitsResponse() {
    return this.#step !== null || this.#ending !== null;
  }

  /** True if an unsubscribe is in flight. */
  get awaitsEnd() {
    return this.#ending !== null;
  }

  /**
   * Returns whether an error answers the command in flight; a rate limit error has no id.
   * @param {{ id?: unknown }} error
   */
  isResponse({ id = this.#id }) {
    return this.awaitsResponse && id === this.#id;
  }

  // ---- a new connection

  /** Plans a new connection; answers pending unsubscribes, whose names are not resumed. */
  begin() {
    [this.#step, this.#ending, this.#inFlight, this.#id] = [null, null, [], 0];
    while (this.#requests[0]?.kind === "unsubscribe") this.#endAtOnce(this.#requests[0]);
    this.#plan = this.#set.plan();
  }

  /** Plans a new stream: one HTTP request for all subscriptions, with those still requested. */
  beginStream() {
    [this.#step, this.#ending, this.#inFlight, this.#id] = [null, null, [], 0];
    this.#plan = [];
    for (const request of [...this.#requests]) {
      if (request.kind === "unsubscribe") this.#endAtOnce(request);
      else this.#addToStream(request);
    }
    const step = this.#set.planStream();
    if (step) this.#plan.push(step);
  }

  /** @param {Request} request */
  #endAtOnce(request) {
    const ending = this.#known(request);
    if (ending === null) return;
    this.#set.end(ending.names);
    this.#set.forgetOthers();
    const { rejected } = ending;
    const unsubscribed = namesOf(ending.names);
    const count = this.#set.subscriptions.flatMap(namesOf).length;
    this.#remove(request).resolve({ type: "unsubscription_ack", unsubscribed, rejected, count });
  }

  /** @param {Request} request */
  #addToStream(request) {
    const { subscription } = request;
    const reason = !this.#set.hasSameOptions(subscription)
      ? "over Server-Sent Events all subscriptions have the same max_rate, where and tokens"
      : subscription.since_ms !== undefined && this.#set.subscriptions.length
        ? "over Server-Sent Events only the first subscription can begin at a time"
        : namesOf(subscription).some((name) => name.includes(","))
          ? "over Server-Sent Events a name cannot have a comma"
          : null;
    if (reason !== null) {
      this.#remove(request).reject(new SubscriptionError("NOT_AVAILABLE", reason));
      return;
    }
    this.#set.add(newGroup(subscription, false));
    this.#inFlight.push(request);
  }

  // ---- commands

  /**
   * Returns the next command; null if a command is in flight or none is pending. During a replay
   * the server defers subscribe and resume, so only an unsubscribe is returned.
   * @param {boolean} isReplaying
   */
  next(isReplaying) {
    if (this.awaitsResponse) return null;
    if (this.#plan.length) {
      if (isReplaying) return null;
      this.#step = this.#plan.shift() ?? null;
    } else if (!this.#takeRequest(isReplaying)) return null;
    this.#id++;
    return this.text();
  }

  /** Returns the text of the command in flight. */
  text() {
    if (this.#step !== null) return stepText(this.#step, this.#id);
    return unsubscribe(this.#id, this.#ending?.names ?? {});
  }

  /** @param {boolean} isReplaying */
  #takeRequest(isReplaying) {
    /** @type {Set<string>} */
    const held = new Set();
    for (const request of [...this.#requests]) {
      const { kind, subscription } = request;
      if (kind === "subscribe") {
        if (!isReplaying) {
          const group = newGroup(subscription, false);
          const withSnapshot = group.snapshotDue;
          this.#step = { groups: [group], subscription, tracker: null, withSnapshot };
          this.#inFlight = [request];
          return true;
        }
        for (const name of namesOf(subscription)) held.add(name);
      } else if (!namesOf(subscription).some((name) => held.has(name))) {
        this.#ending = this.#known(request);
        if (this.#ending === null) continue;
        this.#inFlight = [request];
        return true;
      }
    }
    return false;
  }

  /**
   * Returns the subscribed names of a request; rejects a request without any, and returns null.
   * @param {Request} request
   * @returns {{ names: Names, rejected: Rejection[] } | null}
   */
  #known(request) {
    const given = request.subscription;
    const unknown = namesOf(this.#set.unknown(given) ?? {});
    const message = "not subscribed under this name";
    const rejected = unknown.map((name) => ({ name, code: NOT_SUBSCRIBED, message }));
    const names = filterNames(given, (name) => !unknown.includes(name));
    if (names !== null) return { names, rejected };
    this.#remove(request).reject(new SubscriptionError(NOT_SUBSCRIBED, message, rejected));
    return null;
  }

  // ---- answers

  /**
   * Completes the step in flight, which has taken effect. Returns the step, and the tracker that
   * its replay advances if the replay runs beside live messages.
   * @param {any} ack
   * @param {boolean} isStream
   * @returns {{ step: Step, behind: OffsetTracker | null }}
   */
  accepted(ack, isStream) {
    const step = /** @type {Step} */ (this.#step);
    const requests = this.#inFlight;
    [this.#step, this.#inFlight] = [null, []];
    const set = this.#set;
    /** @type {OffsetTracker | null} */
    let behind = step.tracker === set.tracker ? null : step.tracker;
    if (step.tracker === null && ack.replayed !== undefined && set.hasOthers(step.groups))
      behind = set.tracker.fresh();
    const topics = Object.values(ack.categories ?? {});
    for (const group of step.groups) Object.assign(group, { begun: true, behind, topics });
    /** @type {string[]} */
    const accepted = ack.subscribed;
    for (const request of requests) {
      const rejected = namesOf(request.subscription).filter((name) => !accepted.includes(name));
      const group = step.groups[0];
      if (!isStream && group) {
        group.subscription = filterNames(request.subscription, (name) => accepted.includes(name)) ?? group.subscription;
        set.add(group);
      } else if (rejected.length) {
        const names = filterNames(request.subscription, (name) => rejected.includes(name));
        if (names !== null) set.end(names);
      }
      this.#settle(request, ack, rejected);
    }
    return { step, behind };
  }

  /**
   * @param {Request} request
   * @param {any} ack
   * @param {string[]} rejected
   */
  #settle(request, ack, rejected) {
    const own = namesOf(request.subscription);
    /** @type {Rejection[]} */
    const rejections = (ack.rejected ?? []).filter((/** @type {Rejection} */ { name }) => own.includes(name));
    const subscribed = own.filter((name) => !rejected.includes(name));
    const { resolve, reject } = this.#remove(request);
    if (subscribed.length) resolve({ ...ack, type: "subscription_ack", subscribed, rejected: rejections });
    else reject(new SubscriptionError(rejections[0]?.code ?? "", "the server rejected every name", rejections));
  }

  /**
   * Completes the unsubscribe in flight.
   * @param {any} ack
   */
  unsubscribed(ack) {
    const ending = this.#ending;
    const [request] = this.#inFlight;
    [this.#ending, this.#inFlight] = [null, []];
    if (ending === null || request === undefined) return;
    // Includes names that the server has ended before, because a new token did not grant them.
    this.#set.end(ending.names);
    this.#set.forgetOthers();
    const rejected = [...(ack.rejected ?? []), ...ending.rejected];
    const { resolve, reject } = this.#remove(request);
    if (ack.unsubscribed.length) resolve({ ...ack, rejected });
    else reject(new SubscriptionError(NOT_SUBSCRIBED, "the server rejected every name", rejected));
  }

  /**
   * Rejects the requests of the command in flight. Returns false if a resume of all subscriptions
   * was rejected, so the feed has to end.
   * @param {SubscriptionError} error
   */
  rejected(error) {
    const [step, requests] = [this.#step, this.#inFlight];
    [this.#step, this.#ending, this.#inFlight] = [null, null, []];
    for (const request of requests) this.#remove(request).reject(error);
    if (requests.length || step === null) return true;
    this.#set.leave(step.tracker);
    return step.groups.length < this.#set.subscriptions.length;
  }

  /**
   * Rejects all requests, because the feed has ended.
   * @param {SubscriptionError} error
   */
  close(error) {
    for (const { reject } of this.#requests.splice(0)) reject(error);
  }

  /** @param {Request} request */
  #remove(request) {
    this.#requests = this.#requests.filter((queued) => queued !== request);
    return request;
  }
}

// The wait before a reconnect: docs/protocol.md, Closes.


// A longer wait than a day is a mistake of the server.
const MAX_WAIT_MS = 86_400_000;

/**
 * Returns a wait that the server requests, within bounds. Throws a TypeError if it is no number: the
 * timer would fire at once, again and again.
 * @param {unknown} ms
 */
function requestedWait(ms) {
  if (typeof ms !== "number") throw new TypeError("a wait that is no number");
  return Math.min(Math.max(0, ms), MAX_WAIT_MS);
}

/**
 * Returns the wait before a command is sent again, if the server names one.
 * @param {{ retry_ms?: unknown }} error
 */
function retryMs({ retry_ms }) {
  return retry_ms === undefined ? undefined : requestedWait(retry_ms);
}

/**
 * Exponential back-off with full jitter, and the server's advice.
 *
 * A connection with a live subscription for the longest wait resets the back-off, unless the server
 * closed the connection for a fault of this client.
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
   * Returns the milliseconds until the next attempt.
   * @param {number} code of the close
   * @param {number} held how long the subscription was live, ms
   * @param {number | null} advice after_ms or retry_ms of the server
   * @param {number} [minimum] the Retry-After of a rejection, ms
   */
  next(code, held, advice, minimum = 0) {
    if (held >= this.#longest && !isFailure(code)) [this.#attempts, this.#wasAdvised] = [0, false];
    const ceiling = Math.min(this.#longest, this.#first * 2 ** this.#attempts++);
    const jittered = this.#random() * ceiling;
    // The server's advice replaces the back-off once. Until a connection has held, later advice is
    // only the least wait: a server that always advises 1 ms is not dialled every millisecond.
    const delay = this.#wasAdvised ? Math.max(advice ?? 0, jittered) : (advice ?? jittered);
    if (advice !== null) this.#wasAdvised = true;
    return Math.max(delay, Math.min(minimum, MAX_WAIT_MS));
  }
}

// The state of a replay: the number of messages still to come, and the positions it advances.

/** @import { Message } from "../types/index.d.ts" */
/** @import { OffsetTracker } from "./offset-tracker.js" */
/** @import { Step, SubscriptionSet } from "./subscription-set.js" */

/** The current replay of a connection; the server runs replays one by one. */
class ReplayProgress {
  #set;
  /** @type {Step | null} the command of the replay */
  #step = null;
  /** @type {number | null} messages still to come; null for an unknown number */
  #remaining = 0;
  /** @type {OffsetTracker | null} its own positions, if it runs beside live messages */
  #behind = null;
  /** True if replayed messages before the positions are delivered: a snapshot has some. */
  #withSnapshot = false;

  /** @param {SubscriptionSet} set */
  constructor(set) {
    this.#set = set;
  }

  /** True if replayed messages are still to come. */
  get isRunning() {
    return this.#remaining !== 0;
  }

  /** The tracker that the replay advances. */
  get tracker() {
    return this.#behind ?? this.#set.tracker;
  }

  /**
   * Begins the replay that an ack announces, if any.
   * @param {Step} step
   * @param {number | null | undefined} replayed
   * @param {OffsetTracker | null} behind
   */
  begin(step, replayed, behind) {
    this.#withSnapshot = step.withSnapshot;
    if (replayed === undefined) return;
    [this.#step, this.#remaining, this.#behind] = [step, replayed, behind];
    if (replayed === 0) this.end();
  }

  /**
   * Advances the positions to a message; returns whether to deliver the message.
   * @param {Message} message
   */
  advance(message) {
    const isNew = this.#set.advance(message, this.#behind);
    if (message.replay && this.#remaining && !--this.#remaining) this.end();
    return isNew || Boolean(message.replay && this.#withSnapshot);
  }

  /** Ends the replay: all replayed messages have come. */
  end() {
    this.#remaining = 0;
    for (const group of this.#step?.groups ?? []) group.snapshotDue = false;
    if (this.#behind) this.#set.caughtUp(this.#behind);
    [this.#step, this.#behind] = [null, null];
  }
}

/** Detects a dead server: it sends nothing, and does not respond to a heartbeat. */
class SilenceDetector {
  /** @type {number | null} when to send a heartbeat, or to give up the connection */
  due = null;
  /** True if a pong, a handshake or the token function is awaited: `due` then ends the connection. */
  isResponseDue = false;
  #limit;

  /** @param {number} limit ms without a received byte */
  constructor(limit) {
    this.#limit = limit;
  }

  /** @param {number} now */
  received(now) {
    [this.due, this.isResponseDue] = [now + this.#limit, false];
  }

  /** @param {number} now */
  expectResponse(now) {
    [this.due, this.isResponseDue] = [now + this.#limit, true];
  }

  stop() {
    this.due = null;
  }
}

// Schedules calls of the token function on a live connection, before the token expires.

// The least wait between two attempts. With less than twice this time left before the expiry the
// client reconnects and resumes instead.
const MIN_MS = 1000;

/**
 * Returns the token, or throws a TypeError if a subprotocol cannot carry it: the browser's own
 * error would show the token.
 * @param {unknown} token
 * @returns {string}
 */
function checkedToken(token) {
  if (typeof token === "string" && /^[\w.~+-]+$/.test(token)) return token;
  throw new TypeError("token: must consist of letters, digits and -._~+");
}

/** The token of a connection, and the time of the next call of the token function. */
class TokenRefresh {
  /** @type {number | null} when to call the token function; null for no call */
  due = null;
  /** @type {number | null} when the current token expires; null before the server's warning */
  #expires = null;
  /** @type {string | undefined} */
  #current;
  /** @type {string | undefined} the token sent last, until the server accepts it */
  #offered;
  #random;

  /** @param {() => number} random as Math.random */
  constructor(random) {
    this.#random = random;
  }

  /**
   * Sets the token of a new connection.
   * @param {string | undefined} token
   */
  begin(token) {
    [this.due, this.#expires, this.#current, this.#offered] = [null, null, token, undefined];
  }

  /**
   * Handles the server's warning before the token expires.
   * @param {number} expires
   * @param {number} now
   */
  expiring(expires, now) {
    this.#expires = expires;
    this.schedule(now);
  }

  /**
   * Schedules a call after `retry_ms`, else at a random time in the first half of the remaining
   * time: a failed call leaves time for another, and the calls of many clients are spread.
   * @param {number} now
   * @param {number} [retry_ms]
   */
  schedule(now, retry_ms) {
    this.due = null;
    const remaining = (this.#expires ?? now) - now;
    if (remaining <= 2 * MIN_MS) return;
    const isGiven = retry_ms !== undefined && retry_ms < remaining;
    const delay = isGiven ? retry_ms : (this.#random() * remaining) / 2;
    this.due = now + Math.max(MIN_MS, delay);
  }

  /**
   * Returns whether to send this token: not the current token, which expires at the same time.
   * @param {string} token
   */
  offer(token) {
    if (token === this.#current) return false;
    this.#offered = token;
    return true;
  }

  /** Makes the token sent last the current token, because the server accepted it. */
  accepted() {
    [this.due, this.#expires, this.#current] = [null, null, this.#offered];
  }
}

// The client without I/O: events go in as method calls, actions come out.


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
class Session {
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

// Chooses WebSocket, or Server-Sent Events if a proxy rejects upgrades: docs/client-js.md.


/** @import { SubscriptionSet } from "./subscription-set.js" */

// WebSockets in a row without a received frame, before the first stream.
const FAILURES = 3;

// Ten minutes after the last WebSocket a reconnect tries one again: the network may be another.
const RETRY_WEBSOCKET_MS = 600_000;

/** The transport of each new connection, by the outcome of earlier connections. */
class TransportChoice {
  /** @type {"websocket" | "sse"} of the current or the last connection */
  current = "websocket";

  #hasFallback;
  #isFixed;
  #failures = 0;
  #streamHasReceived = false;
  #webSocketAt = -Infinity;
  #isOpen = false;
  #hasReceived = false;

  /**
   * @param {boolean} hasFallback
   * @param {boolean} [isFixed] whether to use streams only
   */
  constructor(hasFallback, isFixed = false) {
    this.#hasFallback = hasFallback;
    this.#isFixed = isFixed;
  }

  /**
   * Returns the transport for a new connection.
   * @param {number} now
   * @param {boolean} [fits] whether a stream can carry all subscriptions
   */
  next(now, fits = true) {
    const isDue = now - this.#webSocketAt >= RETRY_WEBSOCKET_MS;
    const useStream = this.#streamHasReceived ? !isDue : this.#failures >= FAILURES;
    this.current = this.#isFixed || (this.#hasFallback && fits && useStream) ? "sse" : "websocket";
    if (this.current === "websocket") this.#webSocketAt = now;
    [this.#isOpen, this.#hasReceived] = [true, false];
    return this.current;
  }

  /** Notes that the connection works: a frame other than an error came. */
  noteReceived() {
    this.#hasReceived = true;
  }

  /** Notes the end of the connection, or of the attempt to connect. */
  ended() {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (this.current === "sse") {
      this.#streamHasReceived = this.#hasReceived;
      // Neither transport works, so the server may be down: the next attempt is a WebSocket.
      if (!this.#hasReceived) this.#failures = FAILURES - 1;
    } else if (this.#hasReceived) [this.#failures, this.#streamHasReceived] = [0, false];
    else this.#failures++;
  }
}

/**
 * Returns whether a stream can carry all subscriptions: the query of a stream has one set of
 * options, and commas separate its names.
 * @param {SubscriptionSet} set
 */
function fitsStream(set) {
  const names = set.subscriptions.flatMap((subscription) => [...namesOf(subscription), ...(subscription.tokens ?? [])]);
  return set.hasSameOptions() && !names.some((name) => name.includes(","));
}

/**
 * Returns the URL of the streams of a server with this WebSocket; null for no streams.
 * @param {string | URL} url of the WebSocket
 * @param {boolean | string | URL} fallback as in the options
 */
function streamUrl(url, fallback) {
  if (fallback === false) return null;
  /** @type {URL} */
  let found;
  try {
    found = new URL(url, globalThis.location?.href);
  } catch {
    return null; // the WebSocket constructor throws the error
  }
  if (fallback !== true) return new URL(fallback, found);
  if (!found.pathname.endsWith("/ws") || found.searchParams.get("v") === "0") return null;
  found.protocol = found.protocol.replace("ws", "http");
  found.pathname = found.pathname.replace(/ws$/, "sse");
  const token = found.searchParams.get("token");
  found.search = token === null ? "" : new URLSearchParams({ token }).toString();
  return found;
}

// The public class: a session with a WebSocket, a clock and a timer.


/** @import { FeedOptions, Message, Names, Notice, Subscription, SubscriptionAck, UnsubscriptionAck } from "../types/index.d.ts" */
/** @import { Actions } from "./session.js" */

// setTimeout fires at once for a longer delay.
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** A client of an odin-ws server that reconnects, and resumes behind the last record. */
class OdinFeed {
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

export { OdinFeed, SubscriptionError };
