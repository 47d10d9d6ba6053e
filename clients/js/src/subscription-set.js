// What a client follows, and the positions from which each part resumes.

import { resume, subscribe } from "./commands.js";
import { merged, optionsOf, without } from "./names.js";
import { OffsetTracker } from "./offset-tracker.js";

/** @import { Ids, Message, Names, Positions, Subscription } from "../types/index.d.ts" */

/**
 * One subscription. `begun`: it has taken effect, so it is resumed after a break. `behind`: its own
 * positions while its replay runs beside live messages of others. `topics`: of its names, as far as
 * the server has said.
 * @typedef {{ subscription: Subscription, begun: boolean, snapshotDue: boolean,
 *   behind: OffsetTracker | null, topics: string[] | null }} Group
 */

/**
 * One command that begins or resumes groups, which have all options in common.
 * @typedef {{ groups: Group[], subscription: Subscription, tracker: OffsetTracker | null,
 *   withSnapshot: boolean }} Step
 */

/**
 * All groups share the positions of `tracker`, except those behind it.
 */
export class SubscriptionSet {
  tracker;
  /** @type {Group[]} */
  #groups;

  /**
   * @param {readonly Subscription[]} subscriptions
   * @param {OffsetTracker} tracker where they are; if it has positions, they are resumed
   */
  constructor(subscriptions, tracker) {
    this.tracker = tracker;
    const begun = !tracker.isEmpty;
    this.#groups = subscriptions.map((one) => newGroup(one, begun));
  }

  get subscriptions() {
    return this.#groups.map(({ subscription }) => subscription);
  }

  /** Whether some group is behind the others. */
  get isSplit() {
    return this.#groups.some(({ behind }) => behind !== null);
  }

  /** The positions up to which everything of every group has come. */
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

  /** @returns {Ids} */
  get ids() {
    const several = this.#behind().map(({ ids }) => ids);
    return several.length ? Object.assign({}, ...several, this.tracker.ids) : this.tracker.ids;
  }

  // ---- a new connection

  /**
   * The commands with which a connection begins: what has begun is resumed first. The server
   * replays one after the other, and live messages come meanwhile, so only the first leaves its
   * groups at the common positions.
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
    const several = [...alike.values()];
    const begun = several.filter(([first]) => first?.begun);
    const others = several.filter(([first]) => !first?.begun);
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
   * One command for all groups, as a stream needs it; null if there are none. What is behind makes
   * the others begin there too: some of their messages come again.
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
   * Whether one command can begin or resume all groups, and this one too.
   * @param {Subscription} [another]
   */
  hasSameOptions(another) {
    const all = another ? [...this.subscriptions, another] : this.subscriptions;
    return new Set(all.map(optionsOf)).size <= 1;
  }

  /**
   * @param {Group[]} groups
   * @param {OffsetTracker | null} tracker
   * @returns {Step}
   */
  #step(groups, tracker) {
    const subscription = merged(groups.map((group) => group.subscription));
    // They are the whole connection's, so the last one that said something counts.
    for (const field of /** @type {const} */ (["delivery", "frames"])) {
      const said = this.subscriptions.map((one) => one[field]).filter(Boolean).pop();
      if (said) Object.assign(subscription, { [field]: said });
    }
    const withSnapshot = groups.some(({ snapshotDue }) => snapshotDue);
    return { groups: [...groups], subscription, tracker, withSnapshot };
  }

  // ---- what the server says

  /**
   * Whether others than these have taken effect.
   * @param {Group[]} groups
   */
  hasOthers(groups) {
    return this.#groups.some((group) => group.begun && !groups.includes(group));
  }

  /**
   * A subscription of the application takes effect; it replaces the options of equal names.
   * @param {Group} group
   */
  add(group) {
    this.end(group.subscription);
    this.#groups.push(group);
  }

  /**
   * Names are not followed any more.
   * @param {Names} names
   */
  end(names) {
    this.#groups = this.#groups.filter((group) => {
      const left = without(group.subscription, names);
      group.subscription = left ?? group.subscription;
      return left;
    });
  }

  /**
   * The part of `names` that is not followed under the same names; null if all of it is.
   * @param {Names} names
   */
  unknown(names) {
    /** @type {Names | null} */
    let left = names;
    for (const { subscription } of this.#groups) left &&= without(left, subscription);
    return left;
  }

  /**
   * A replay has ended: its groups are where the others are.
   * @param {OffsetTracker} behind
   */
  caughtUp(behind) {
    this.tracker.join(behind);
    this.leave(behind);
  }

  /**
   * No group is at these positions any more.
   * @param {OffsetTracker | null} behind
   */
  leave(behind) {
    for (const group of this.#groups) if (group.behind === behind) group.behind = null;
  }

  /**
   * Move to a message; returns false if it came before.
   * @param {Message} message
   * @param {OffsetTracker | null} replaying the positions that the replay moves
   */
  advance(message, replaying) {
    if (message.replay && replaying) return replaying.advance(message);
    if (this.isSplit) for (const behind of this.#behind()) behind.note(message);
    return this.tracker.advance(message);
  }

  /**
   * Follow the categories of an ack; none at the start of a connection.
   * @param {Record<string, string> | undefined} categories
   */
  follow(categories) {
    for (const tracker of [this.tracker, ...this.#behind()]) tracker.follow(categories);
  }

  /**
   * A feed notice moves every group back.
   * @param {import("./offset-tracker.js").Item} item
   */
  apply(item) {
    const trackers = item.type === "feed" ? this.#behind() : [];
    for (const tracker of [this.tracker, ...trackers]) tracker.apply(item);
  }

  /**
   * A stream resumes; what it says is lost of a topic that it begins with is from before that.
   * @param {any} ack
   */
  withoutNewTopics(ack) {
    const known = this.tracker.positions;
    const isKnown = (/** @type {[string, unknown]} */ [topic]) => topic in known;
    if (!ack.lost || this.tracker.isEmpty) return ack;
    const lost = Object.entries(ack.lost).filter(isKnown);
    if (lost.length) return { ...ack, lost: Object.fromEntries(lost) };
    // The positions that end what is lost are those at which the new topics begin.
    const { lost: all, reason: _reason, ...rest } = ack;
    const ends = new OffsetTracker({}, {});
    ends.apply(ack);
    ends.passLost({ lost: all, positions: ack.positions ?? {} });
    return { ...rest, positions: ends.positions, recovered: true };
  }

  /** Forget the positions of topics that are not followed, if all topics are known. */
  forgetOthers() {
    const begun = this.#groups.filter((group) => group.begun);
    const known = begun.map(({ topics }) => topics);
    if (!known.includes(null)) this.tracker.retain(new Set(known.flatMap((topics) => topics ?? [])));
  }

  #behind() {
    const several = this.#groups.flatMap(({ behind }) => behind ?? []);
    return [...new Set(several)];
  }
}

/**
 * A group that has not caught up with anything.
 * @param {Subscription} subscription
 * @param {boolean} begun
 * @returns {Group}
 */
export function newGroup(subscription, begun) {
  const snapshotDue = Boolean(subscription.snapshot) && !begun;
  return { subscription, begun, snapshotDue, behind: null, topics: null };
}

/**
 * The command of a step.
 * @param {Step} step
 * @param {number} id
 */
export function stepText({ subscription, tracker, withSnapshot }, id) {
  if (tracker === null || tracker.isEmpty) return subscribe(id, subscription);
  /** @type {{ positions: Positions, ids: Ids }} */
  const { positions, ids } = tracker;
  return resume(id, subscription, { positions, ids, snapshot: withSnapshot });
}
