// Event ids: the server reads what is written here (tests/client_js/test_fallback.py).
import assert from "node:assert/strict";
import { test } from "node:test";

import { eventId } from "../src/event-id.js";

test("positions and ids of all topics are in it", () => {
  const positions = { "odin.trades": { 0: -1, 2: 41 }, "odin.social": {} };
  assert.equal(eventId(positions, { "odin.trades": "0f" }, false), "1,odin.trades:0f:A.1K,odin.social::");
  assert.equal(eventId({}, {}, true), "1s");
});

test("offsets are exact up to 2^53", () => {
  assert.equal(eventId({ a: { 0: 2 ** 53 - 2 } }, {}, false), "1,a::7vvvvvvvvv-");
});
