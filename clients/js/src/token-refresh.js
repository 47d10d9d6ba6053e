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
export function checkedToken(token) {
  if (typeof token === "string" && /^[\w.~+-]+$/.test(token)) return token;
  throw new TypeError("token: must consist of letters, digits and -._~+");
}

/** The token of a connection, and the time of the next call of the token function. */
export class TokenRefresh {
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
