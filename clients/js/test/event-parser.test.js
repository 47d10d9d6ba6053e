// Parses Server-Sent Events in chunks of each size.
import assert from "node:assert/strict";
import { test } from "node:test";

import { EventParser } from "../src/event-parser.js";

const TEXT = "retry:3\n\n:\n\nid:1\ndata:{\"a\":1}\n\nevent:feed\r\ndata: {\rdata: \"é\":2}\n\r\ndata:torn";

test("a stream in chunks of any size yields the same events", () => {
  const bytes = new TextEncoder().encode(TEXT);
  for (let size = 1; size <= bytes.length; size++) {
    const parser = new EventParser();
    const found = [];
    for (let at = 0; at < bytes.length; at += size)
      found.push(...parser.feed(bytes.subarray(at, at + size)));
    assert.deepEqual(found, ['{"a":1}', '{\n"é":2}'], `pieces of ${size}`);
  }
});

test("a long event is searched once, however many chunks bring it", (context) => {
  const parser = new EventParser();
  const { split } = String.prototype;
  let searched = 0;
  context.mock.method(String.prototype, "split", function (...given) {
    searched += this.length;
    return split.apply(this, given);
  });
  const chunk = new TextEncoder().encode("x".repeat(1024));
  const data = [new TextEncoder().encode("data:"), ...Array(1000).fill(chunk)];
  const events = data.flatMap((bytes) => [...parser.feed(bytes)]);
  events.push(...parser.feed(new TextEncoder().encode("\r\n\r\n")));
  context.mock.restoreAll();
  assert.deepEqual(events.map((event) => event.length), [1_024_000]);
  assert.ok(searched < 1_100_000, `${searched} characters`);
});

test("an event without an end is bounded, and long streams of events are not", () => {
  const encode = (text) => new TextEncoder().encode(text);
  const parser = new EventParser();
  const chunk = encode(`:${"x".repeat(2 ** 20)}\n\n`);
  for (let sent = 0; sent < 40; sent++) assert.deepEqual([...parser.feed(chunk)], []);
  const endless = encode("data:" + "x".repeat(2 ** 20));
  assert.throws(() => {
    for (let sent = 0; sent < 40; sent++) [...parser.feed(endless)];
  }, RangeError);
});
