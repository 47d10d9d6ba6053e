// The change from WebSocket to Server-Sent Events, and back.
import assert from "node:assert/strict";
import { test } from "node:test";

import { OffsetTracker } from "../src/offset-tracker.js";
import { SubscriptionSet } from "../src/subscription-set.js";
import { TransportChoice, fitsStream, streamUrl } from "../src/transport-choice.js";

function attempt(choice, now, works) {
  const found = choice.next(now);
  if (works) choice.noteReceived();
  choice.ended();
  return found;
}

test("three failed WebSockets in a row lead to a stream", () => {
  const choice = new TransportChoice(true);
  const found = [0, 1, 2, 3].map((now) => attempt(choice, now, now === 3));
  assert.deepEqual(found, ["websocket", "websocket", "websocket", "sse"]);
  assert.equal(choice.current, "sse");
});

test("after a working stream streams are used, and after ten minutes a WebSocket is tried", () => {
  const choice = new TransportChoice(true);
  for (const now of [0, 1, 2, 3]) attempt(choice, now, now === 3);
  assert.equal(attempt(choice, 1000, true), "sse");
  assert.equal(attempt(choice, 600_002, false), "websocket");
  assert.equal(attempt(choice, 600_003, true), "sse");
  assert.equal(attempt(choice, 1_300_000, true), "websocket");
  assert.equal(attempt(choice, 1_300_001, true), "websocket");
});

test("WebSocket and stream alternate if both fail", () => {
  const choice = new TransportChoice(true);
  const found = Array.from({ length: 7 }, (_, now) => attempt(choice, now, false));
  assert.deepEqual(found.slice(3), ["sse", "websocket", "sse", "websocket"]);
});

test("a working WebSocket resets the failure count", () => {
  const choice = new TransportChoice(true);
  const works = [false, false, true, false, false, false, true];
  const found = works.map((one, now) => attempt(choice, now, one));
  assert.deepEqual(found.slice(0, 6), Array(6).fill("websocket"));
  assert.equal(found[6], "sse");
});

test("without a fallback only WebSockets are used", () => {
  const choice = new TransportChoice(false);
  for (let now = 0; now < 9; now++) assert.equal(attempt(choice, now, false), "websocket");
});

test("the stream URL is /sse beside /ws, unless fallback is a URL", () => {
  const url = (...given) => streamUrl(...given)?.href;
  assert.equal(url("wss://a.test:8443/ws", true), "https://a.test:8443/sse");
  assert.equal(url("ws://a.test/odin/ws?frames=batch&token=x", true), "http://a.test/odin/sse?token=x");
  assert.equal(url("ws://a.test/ws", "https://b.test/events"), "https://b.test/events");
  assert.equal(url("ws://a.test/socket", true), undefined);
  assert.equal(url("ws://a.test/ws?v=0", true), undefined);
  assert.equal(url("ws://a.test/ws", false), undefined);
  assert.equal(url("no url", true), undefined);
});

test("a stream fits subscriptions with one set of options and names without commas", () => {
  const fits = (...several) => fitsStream(new SubscriptionSet(several, new OffsetTracker({}, {})));
  const btc = { channels: ["BTC.trade"], max_rate: 2 };
  assert.equal(fits(btc, { channels: ["ETH.trade"], max_rate: 2, snapshot: true }), true);
  assert.equal(fits(btc, { channels: ["ETH.trade"] }), false);
  assert.equal(fits({ topics: ["odin.trades"], tokens: ["BTC"] }, { topics: ["odin.social"] }), false);
  assert.equal(fits({ channels: ["a,b.trade"] }), false);
  const choice = new TransportChoice(true);
  for (let failures = 0; failures < 3; failures++) attempt(choice, 0, false);
  assert.equal(choice.next(0, false), "websocket");
});
