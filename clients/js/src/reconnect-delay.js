// The wait before a reconnect: docs/protocol.md, Closes.

import { isFailure } from "./close-codes.js";

// A longer wait than a day is a mistake of the server.
const MAX_WAIT_MS = 86_400_000;

/**
 * Returns a wait that the server requests, within bounds. Throws a TypeError if it is no number: the
 * timer would fire at once, again and again.
 * @param {unknown} ms
 */
export function requestedWait(ms) {
  if (typeof ms !== "number") throw new TypeError("a wait that is no number");
  return Math.min(Math.max(0, ms), MAX_WAIT_MS);
}

/**
 * Returns the wait before a command is sent again, if the server names one.
 * @param {{ retry_ms?: unknown }} error
 */
export function retryMs({ retry_ms }) {
  return retry_ms === undefined ? undefined : requestedWait(retry_ms);
}

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
