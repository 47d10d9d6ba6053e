// Where a stream of Server-Sent Events resumes: docs/design/2026-11-30-event-ids.md.

/** @import { Ids, Positions } from "../types/index.d.ts" */

// An offset + 1 in digits of 5 bits; the last one is of another alphabet.
const DIGITS = "0123456789abcdefghijklmnopqrstuv";
const LAST_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZwxyz_-";
const BASE = 32;

/**
 * The id of the event behind which a client is.
 * @param {Positions} positions
 * @param {Ids} ids
 * @param {boolean} inSnapshot whether its snapshot has not come whole
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

/** @param {number} offset */
function writtenOffset(offset) {
  // Not with bit operators, which have 32 bits.
  let value = offset + 1;
  let text = LAST_DIGITS.charAt(value % BASE);
  for (value = Math.floor(value / BASE); value; value = Math.floor(value / BASE))
    text = DIGITS.charAt(value % BASE) + text;
  return text;
}
