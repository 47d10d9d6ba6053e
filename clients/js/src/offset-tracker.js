// The positions of a client: docs/protocol.md, Keeping positions.

import { positionOf } from "./server-fields.js";

/** @import { Ids, Lost, Message, Positions } from "../types/index.d.ts" */

/** @typedef {{ type: string, ids?: Ids, positions?: Positions }} Item */

/** The offset of the last record of each partition, and the ids of the topics. */
export class OffsetTracker {
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
