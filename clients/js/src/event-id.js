// Event ids, from which Server-Sent Events resume: docs/design/2026-11-30-event-ids.md.

/** @import { Ids, Positions } from "../types/index.d.ts" */

// Digits of 5 bits for an offset + 1; the last digit is from an alphabet of its own, so it ends a
// number.
const DIGITS = "0123456789abcdefghijklmnopqrstuv";
const LAST_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZwxyz_-";
const BASE = 32;

/**
 * Returns the event id for a client at `positions`.
 * @param {Positions} positions
 * @param {Ids} ids
 * @param {boolean} inSnapshot whether the snapshot is not complete
 */
export function eventId(positions, ids, inSnapshot) {
  const topics = Object.entries(positions).map(([topic, offsets]) => {
    const count = Math.max(-1, ...Object.keys(offsets).map(Number)) + 1;
    const written = Array.from({ length: count }, (_, partition) => {
      const offset = offsets[partition];
      return offset === undefined ? "." : writtenOffset(offset);
    });
    return `,${topic}:${ids[topic] ?? ""}:${written.join("")}`;
  });
  return (inSnapshot ? "1s" : "1") + topics.join("");
}

/**
 * Returns an offset in the digits of an event id.
 * @param {number} offset
 */
function writtenOffset(offset) {
  // Division, because bit operators have 32 bits.
  let value = offset + 1;
  let text = LAST_DIGITS.charAt(value % BASE);
  for (value = Math.floor(value / BASE); value; value = Math.floor(value / BASE))
    text = DIGITS.charAt(value % BASE) + text;
  return text;
}
