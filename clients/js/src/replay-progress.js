// The state of a replay: the number of messages still to come, and the positions it advances.

/** @import { Message } from "../types/index.d.ts" */
/** @import { OffsetTracker } from "./offset-tracker.js" */
/** @import { Step, SubscriptionSet } from "./subscription-set.js" */

/** The current replay of a connection; the server runs replays one by one. */
export class ReplayProgress {
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
