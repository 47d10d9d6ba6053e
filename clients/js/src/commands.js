// What the client sends: docs/protocol.md, Commands.

/** @import { Ids, Names, Positions, Subscription } from "../types/index.d.ts" */

export const HEARTBEAT = '{"type":"heartbeat"}';

// Messages of one write come in one frame: fewer bytes, and one parse for all of them.
const FRAMES = { frames: "batch" };

/**
 * Begin a subscription, with a snapshot or at a time if it asks for one.
 * @param {number} id
 * @param {Subscription} subscription
 */
export function subscribe(id, subscription) {
  const data = { ...FRAMES, ...subscription, positions: true };
  return JSON.stringify({ type: "subscribe", id, data });
}

/**
 * Continue a subscription behind `positions`.
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
 * End a subscription.
 * @param {number} id
 * @param {Names} names
 */
export function unsubscribe(id, { channels, topics, bundles, tokens }) {
  return JSON.stringify({ type: "unsubscribe", id, data: { channels, topics, bundles, tokens } });
}

/**
 * Continue a live connection with another token.
 * @param {string} token
 */
export function auth(token) {
  return JSON.stringify({ type: "auth", data: { token } });
}
