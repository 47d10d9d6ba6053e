// How much of a replay is still to come, and the positions that it moves.

/** @import { Message } from "../types/index.d.ts" */
/** @import { OffsetTracker } from "./offset-tracker.js" */
/** @import { Step, SubscriptionSet } from "./subscription-set.js" */

/** The replays of one connection, one after the other. */
export class ReplayProgress {
  #set;
  /** @type {Step | null} the command that it belongs to */
  #step = null;
  /** @type {number | null} messages that are still to come, null for an unknown number */
  #left = 0;
  /** @type {OffsetTracker | null} positions of its own, if it runs beside live messages */
  #behind = null;
  /** Whether replayed messages before the positions are handed on. */
  #withSnapshot = false;

  /** @param {SubscriptionSet} set */
  constructor(set) {
    this.#set = set;
  }

  get isRunning() {
    return this.#left !== 0;
  }

  /** The positions that it moves. */
  get tracker() {
    return this.#behind ?? this.#set.tracker;
  }

  /**
   * An ack says what follows.
   * @param {Step} step
   * @param {number | null | undefined} replayed
   * @param {OffsetTracker | null} behind
   */
  begin(step, replayed, behind) {
    this.#withSnapshot = step.withSnapshot;
    if (replayed === undefined) return;
    [this.#step, this.#left, this.#behind] = [step, replayed, behind];
    if (replayed === 0) this.end();
  }

  /**
   * Move to a message; returns whether to hand it on.
   * @param {Message} message
   */
  advance(message) {
    const isNew = this.#set.advance(message, this.#behind);
    if (message.replay && this.#left && !--this.#left) this.end();
    return isNew || Boolean(message.replay && this.#withSnapshot);
  }

  /** All of it has come. */
  end() {
    this.#left = 0;
    for (const group of this.#step?.groups ?? []) group.snapshotDue = false;
    if (this.#behind) this.#set.caughtUp(this.#behind);
    [this.#step, this.#behind] = [null, null];
  }
}
