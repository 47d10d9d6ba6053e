// The subscriptions of a client, and the positions and commands to begin or resume them.

import { resume, subscribe } from "./commands.js";
import { merged, optionsOf, without } from "./names.js";
import { OffsetTracker } from "./offset-tracker.js";

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
export class SubscriptionSet {
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
export function newGroup(subscription, begun) {
  const snapshotDue = Boolean(subscription.snapshot) && !begun;
  return { subscription, begun, snapshotDue, behind: null, topics: null };
}

/**
 * Returns the text of a step's command.
 * @param {Step} step
 * @param {number} id
 */
export function stepText({ subscription, tracker, withSnapshot }, id) {
  if (tracker === null || tracker.isEmpty) return subscribe(id, subscription);
  /** @type {{ positions: Positions, ids: Ids }} */
  const { positions, ids } = tracker;
  return resume(id, subscription, { positions, ids, snapshot: withSnapshot });
}
