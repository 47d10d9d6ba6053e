// When the client fetches another token for a live connection.

// Between two attempts. With less than two of it left a client rather reconnects and resumes.
const LEAST_MS = 1000;

/**
 * Check a token before it goes into a subprotocol: the browser's own error would show it.
 * @param {unknown} token
 * @returns {string}
 */
export function checkedToken(token) {
  if (typeof token === "string" && /^[\w.~+-]+$/.test(token)) return token;
  throw new TypeError("token: letters, digits and -._~+ are allowed");
}

/** The token of one connection, and the time of the next attempt to fetch another. */
export class TokenRefresh {
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
