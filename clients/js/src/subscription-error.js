// Why a subscribe or unsubscribe did not take effect.

/** @import { Rejection } from "../types/index.d.ts" */

export class SubscriptionError extends Error {
  name = "SubscriptionError";
  code;
  rejected;

  /**
   * @param {string} code
   * @param {string} message
   * @param {Rejection[]} [rejected] name by name
   */
  constructor(code, message, rejected = []) {
    super(message);
    this.code = code;
    this.rejected = rejected;
  }
}

/** Why nothing can be subscribed any more. */
export function ended() {
  return new SubscriptionError("CLOSED", "the feed has ended");
}
