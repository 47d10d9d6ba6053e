// The error of a subscribe or unsubscribe.

/** @import { Rejection } from "../types/index.d.ts" */

/** The rejection of a subscribe or unsubscribe. */
export class SubscriptionError extends Error {
  name = "SubscriptionError";
  code;
  rejected;

  /**
   * @param {string} code
   * @param {string} message
   * @param {Rejection[]} [rejected] the cause for each name
   */
  constructor(code, message, rejected = []) {
    super(message);
    this.code = code;
    this.rejected = rejected;
  }
}

/** Returns the error for requests of a feed that has ended. */
export function ended() {
  return new SubscriptionError("CLOSED", "the feed is closed");
}
