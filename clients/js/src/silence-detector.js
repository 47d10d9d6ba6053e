/** Detects a dead server: it sends nothing, and does not respond to a heartbeat. */
export class SilenceDetector {
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
