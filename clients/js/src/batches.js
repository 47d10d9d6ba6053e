// Splits batches, frames with several messages: docs/protocol.md, Batches.

/** @import { Message } from "../types/index.d.ts" */

/**
 * Yields the messages of a batch, each with the fields of a message in its own frame.
 * @param {{ seq: number, skipped?: number, replay?: true, ahead?: true, messages: object[] }} batch
 * @returns {Generator<Message>}
 */
export function* unpack({ seq, skipped, replay, ahead, messages }) {
  for (const [index, message] of messages.entries()) {
    /** @type {object} */
    const head = {
      type: "message",
      seq: seq + index,
      ...(skipped && index === 0 ? { skipped } : {}),
      ...(replay ? { replay } : {}),
      ...(ahead ? { ahead } : {}),
    };
    yield /** @type {Message} */ ({ ...head, ...message });
  }
}
