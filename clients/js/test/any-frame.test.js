// Whatever a server sends, the session goes on or closes; positions stay positions.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ACK, Driver, TRADES } from "./driver.js";

const START = { "odin.trades": { 0: 4 } };
const ROUNDS = 20_000;

const SCALARS = [null, true, 0, 1, -1, 1.5, 2 ** 63, "", "1", "1-2", "0-abc", "9".repeat(40), "lost", "__proto__"];
const NAMES = ["odin.trades", "trade", "__proto__", "constructor", "toString", "0", "4294967295", "x", ""];
const FIELDS = [
  ...["ids", "positions", "lost", "categories", "subscribed", "unsubscribed", "rejected", "replayed"],
  ...["seq", "skipped", "channel", "pos", "ts", "data", "messages", "replay", "ahead", "forced", "count"],
  ...["id", "code", "message", "retry", "retry_ms", "expires_in_ms", "status", "reason", "since"],
];
const FRAMES = [
  { type: "message", seq: 1, ts: 1, channel: "BTC.trade", pos: "0-9", data: {} },
  { type: "batch", seq: 1, messages: [{ channel: "BTC.trade", pos: "0-9", ts: 1, data: {} }] },
  { type: "subscription_ack", ...ACK, positions: START, ids: { "odin.trades": "a" } },
  { type: "resume_ack", ...ACK, positions: START, replayed: 1, lost: { "odin.trades": { 0: [5, 6] } } },
  { type: "feed", status: "lost", lost: { "odin.trades": { 0: [1, 2] } }, positions: START, reason: "x" },
  { type: "positions", positions: START },
  { type: "replay_incomplete", lost: { "odin.trades": { 0: [5, 6] } }, reason: "x" },
  { type: "replay_complete", count: 1, positions: START },
  { type: "reconnect", data: { after_ms: 1 } },
  { type: "auth", status: "expiring", expires_in_ms: 1 },
  { type: "auth_error", data: { retry_ms: 1 } },
  { type: "error", code: "RATE_LIMIT_EXCEEDED", message: "", retry: true, retry_ms: 1 },
  { type: "unsubscription_ack", unsubscribed: ["*.trade"], rejected: [], count: 0 },
];

let state = 1;
const random = () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
const pick = (list) => list[Math.floor(random() * list.length)];

// A random JSON value as text: keys such as __proto__ become keys only by parsing.
function json(depth = 0) {
  const kind = random();
  if (depth > 2 || kind < 0.4) return JSON.stringify(pick(SCALARS));
  if (kind < 0.6) return `[${json(depth + 1)}]`;
  return `{${JSON.stringify(pick(NAMES))}:${json(depth + 1)}}`;
}

function randomFrame() {
  const frame = { ...pick(FRAMES) };
  for (let changed = 0; changed < 2; changed++) frame[pick(FIELDS)] = JSON.parse(json());
  return frame;
}

const globals = () =>
  [Object.prototype, Object.prototype.toString, Object].map((one) => Reflect.ownKeys(one).length);

test("no frame throws, changes a prototype, or stores a position that is none", () => {
  const before = globals();
  for (let round = 0; round < ROUNDS; round++) {
    const driver = new Driver(TRADES, { renewable: round % 3 === 0 });
    driver.do("start");
    if (driver.session.state === "fetching") driver.do("fetched", "a");
    if (round % 2) driver.join({ positions: START });
    else driver.do("opened");
    const frame = randomFrame();
    driver.receive(frame);
    const shown = JSON.stringify(frame);
    assert.deepEqual(globals(), before, shown);
    for (const offsets of Object.values(driver.session.set.positions))
      for (const [partition, offset] of Object.entries(offsets))
        assert.ok(/^\d+$/.test(partition) && Number.isSafeInteger(offset), shown);
    const { deadline } = driver.session;
    assert.ok(deadline === null || Number.isFinite(deadline), shown);
  }
});

test("a topic called __proto__ does not reach the prototype of all objects", () => {
  const driver = new Driver();
  driver.begin({ positions: START });
  const frame = '{"type":"positions","positions":{"__proto__":{"0":7}}}';
  const [, { notice }] = [...driver.session.received(frame, 0)];
  assert.equal(notice.code, 1002);
  assert.equal({}[0], undefined);
});
