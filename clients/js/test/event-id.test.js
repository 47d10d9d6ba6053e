// Event ids. tests/client_js/test_fallback.py checks that the server parses them.
import assert from "node:assert/strict";
import { test } from "node:test";

import { eventId } from "../src/event-id.js";

test("an event id has the positions and ids of all topics", () => {
  const positions = { "odin.trades": { 0: -1, 2: 41 }, "odin.social": {} };
  assert.equal(eventId(positions, { "odin.trades": "0f" }, false), "1,odin.trades:0f:A.1K,odin.social::");
  assert.equal(eventId({}, {}, true), "1s");
});

test("an event id has exact offsets up to 2^53", () => {
  assert.equal(eventId({ a: { 0: 2 ** 53 - 2 } }, {}, false), "1,a::7vvvvvvvvv-");
});
