// Close codes, and which of them are final: docs/protocol.md, Closes.

/** The client closed the feed, or the URL or the subscription was rejected. */
export const NORMAL = 1000;
/** The server sent a frame that violates the protocol. */
export const VIOLATION = 1002;
/** No close frame came. */
export const ABNORMAL = 1006;
/** Messages are missing: the client closes the connection and resumes. Never sent. */
export const GAP = 4000;
/** The server rejected the subscription for now. */
export const TRY_AGAIN_LATER = 1013;

/** The token has expired, or is not valid. */
export const TOKEN_EXPIRED = 4401;
/** Access is not granted, or was revoked. */
export const REVOKED = 4403;

const POLICY = 1008;

// Another connection would end with the same code.
const FINAL = new Set([NORMAL, VIOLATION, 1003, 1007, 1009, 1010, TOKEN_EXPIRED, REVOKED]);

// 1008 has three reasons. A slow or flooding client may reconnect; this reason is final.
const BAD_COMMANDS = "too many bad messages";

/**
 * Returns whether a client must not reconnect after this close.
 * @param {number} code
 * @param {string} reason
 * @param {boolean} renewable whether the client can fetch another token
 */
export function isFinal(code, reason, renewable) {
  if (code === TOKEN_EXPIRED) return !renewable;
  return FINAL.has(code) || (code === POLICY && reason.startsWith(BAD_COMMANDS));
}

/**
 * Returns whether the close is for a fault of this client, and so does not reset the back-off.
 * @param {number} code
 */
export function isFailure(code) {
  return code === POLICY || code === REVOKED;
}
