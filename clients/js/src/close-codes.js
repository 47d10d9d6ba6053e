// Which ends of a connection are final: docs/protocol.md, Closes.

/** The client closed, or has to stop: the URL or the subscription was rejected. */
export const NORMAL = 1000;
/** The server sent something that is not the protocol. */
export const VIOLATION = 1002;
/** No close frame came. */
export const ABNORMAL = 1006;
/** Messages are missing; the client leaves the connection and resumes. Never sent. */
export const GAP = 4000;
/** The server rejected the subscription, and may accept it later. */
export const TRY_AGAIN_LATER = 1013;

/** The token has expired, or is not valid. */
export const TOKEN_EXPIRED = 4401;
/** Access is not granted, or not any more. */
export const REVOKED = 4403;

const POLICY = 1008;

// Another connection would end with the same code.
const FINAL = new Set([NORMAL, VIOLATION, 1003, 1007, 1009, 1010, TOKEN_EXPIRED, REVOKED]);

// One of the three reasons of 1008; a slow client may come back, this one sends bad commands.
const BAD_COMMANDS = "too many bad messages";

/**
 * Whether a client must not reconnect after this close.
 * @param {number} code
 * @param {string} reason
 * @param {boolean} renewable whether the client can fetch another token
 */
export function isFinal(code, reason, renewable) {
  if (code === TOKEN_EXPIRED) return !renewable;
  return FINAL.has(code) || (code === POLICY && reason.startsWith(BAD_COMMANDS));
}

/**
 * Whether the server closed because of this client: the back-off then goes on.
 * @param {number} code
 */
export function isFailure(code) {
  return code === POLICY || code === REVOKED;
}
