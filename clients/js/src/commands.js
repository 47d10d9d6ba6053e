// The text of the client's commands: docs/protocol.md, Commands.

/** @import { Ids, Names, Positions, Subscription } from "../types/index.d.ts" */

export const HEARTBEAT = '{"type":"heartbeat"}';

// The server sends the messages of one write in one frame: fewer bytes, and one JSON parse.
const FRAMES = { frames: "batch" };

/**
 * Returns a subscribe, with the subscription's `snapshot` or `since_ms`.
 * @param {number} id
 * @param {Subscription} subscription
 */
export function subscribe(id, subscription) {
  const data = { ...FRAMES, ...subscription, positions: true };
  return JSON.stringify({ type: "subscribe", id, data });
}

/**
 * Returns a resume of a subscription behind `positions`.
 * @param {number} id
 * @param {Subscription} subscription
 * @param {{ positions: Positions, ids: Ids, snapshot: boolean }} from
 */
export function resume(id, subscription, { positions, ids, snapshot }) {
  const { snapshot: _snapshot, since_ms: _since, ...names } = subscription;
  const data = {
    ...FRAMES,
    ...names,
    positions,
    ids: Object.keys(ids).length ? ids : undefined,
    snapshot: snapshot || undefined,
  };
  return JSON.stringify({ type: "resume", id, data });
}

/**
 * Returns an unsubscribe.
 * @param {number} id
 * @param {Names} names
 */
export function unsubscribe(id, { channels, topics, bundles, tokens }) {
  return JSON.stringify({ type: "unsubscribe", id, data: { channels, topics, bundles, tokens } });
}

/**
 * Returns the command that replaces the token of a live connection.
 * @param {string} token
 */
export function auth(token) {
  return JSON.stringify({ type: "auth", data: { token } });
}
