// The wait before a reconnect: docs/protocol.md, Closes.

import { isFailure } from "./close-codes.js";

/**
 * Exponential back-off with full jitter, and the server's advice.
 *
 * A connection with a live subscription for the longest wait resets the back-off, unless the server
 * closed the connection for a fault of this client.
 */
export class ReconnectDelay {
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
   */
  next(code, held, advice) {
    if (held >= this.#longest && !isFailure(code)) [this.#attempts, this.#wasAdvised] = [0, false];
    const ceiling = Math.min(this.#longest, this.#first * 2 ** this.#attempts++);
    const jittered = this.#random() * ceiling;
    // The server's advice replaces the back-off once. Until a connection has held, later advice is
    // only the least wait: a server that always advises 1 ms is not dialled every millisecond.
    const delay = this.#wasAdvised ? Math.max(advice ?? 0, jittered) : (advice ?? jittered);
    if (advice !== null) this.#wasAdvised = true;
    return delay;
  }
}
