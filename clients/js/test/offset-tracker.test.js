import assert from "node:assert/strict";
import { test } from "node:test";
import { OffsetTracker } from "../src/offset-tracker.js";

const tracker = (positions, ids = {}) => {
  const made = new OffsetTracker(positions, ids);
  made.follow({ trade: "odin.trades" });
  return made;
};
const at = (pos, channel = "BTC.trade") => ({ channel, pos });

test("the positions argument is copied", () => {
  const given = { "odin.trades": { 0: 1 } };
  tracker(given).advance(at("0-7"));
  assert.deepEqual(given, { "odin.trades": { 0: 1 } });
});

test("the last dot of a channel separates token and category", () => {
  const offsets = tracker({});
  assert.equal(offsets.advance(at("3-0", "a.b.trade")), true);
  assert.deepEqual(offsets.positions, { "odin.trades": { 3: 0 } });
});

test("a message with a lower offset does not move the position", () => {
  const offsets = tracker({ "odin.trades": { 0: 9 } });
  assert.equal(offsets.advance(at("0-9")), false);
  assert.equal(offsets.advance(at("0-3")), false);
  assert.deepEqual(offsets.positions, { "odin.trades": { 0: 9 } });
});

test("positions of an ack replace the client's, positions of a feed notice only move them back", () => {
  const offsets = tracker({ "odin.trades": { 0: 9, 1: 9 } });
  offsets.apply({ type: "resume_ack", positions: { "odin.trades": { 0: 20 } } });
  assert.deepEqual(offsets.positions["odin.trades"], { 0: 20, 1: 9 });
  offsets.apply({ type: "feed", positions: { "odin.trades": { 0: 15, 1: 15, 2: -1 } } });
  assert.deepEqual(offsets.positions["odin.trades"], { 0: 15, 1: 9, 2: -1 });
});

test("a message ahead of a held back record moves no position, and its replay is a duplicate", () => {
  const offsets = tracker({ "odin.trades": { 0: 4 } });
  const ahead = (pos) => ({ ...at(pos), ahead: true });
  assert.equal(offsets.advance(ahead("0-6")), true);
  assert.equal(offsets.advance(ahead("0-8")), true);
  assert.deepEqual(offsets.positions["odin.trades"], { 0: 4 });
  // After a disconnect a resume replays all records behind the position.
  const news = ["0-5", "0-6", "0-7", "0-8"].map((pos) => offsets.advance(at(pos)));
  assert.deepEqual(news, [true, false, true, false]);
  assert.deepEqual(offsets.positions["odin.trades"], { 0: 8 });
  assert.equal(offsets.advance(ahead("0-10")), true);
  offsets.apply({ type: "positions", positions: { "odin.trades": { 0: 10 } } });
  assert.equal(offsets.advance(at("0-10")), false);
  // After a new topic id or a step back, the same offset is another record.
  assert.equal(offsets.advance(ahead("0-20")), true);
  offsets.apply({ type: "feed", positions: { "odin.trades": { 0: 3 } } });
  assert.equal(offsets.advance(at("0-20")), true);
});

test("a feed notice for a topic without subscription is ignored", () => {
  const offsets = tracker({ "odin.trades": { 0: 9 } });
  const positions = { "odin.social": { 0: -1 } };
  offsets.apply({ type: "feed", positions, ids: { "odin.social": "c" } });
  assert.deepEqual([offsets.positions, offsets.ids], [{ "odin.trades": { 0: 9 } }, {}]);
});

test("a new topic id drops all positions of the topic", () => {
  const offsets = tracker({ "odin.trades": { 0: 9, 1: 9 } }, { "odin.trades": "a" });
  const anew = { ids: { "odin.trades": "b" }, positions: { "odin.trades": { 0: -1 } } };
  offsets.apply({ type: "feed", ...anew });
  assert.deepEqual([offsets.positions, offsets.ids], [anew.positions, anew.ids]);
});

test("a loss during a replay moves a position to the end of the loss, and not back", () => {
  const offsets = tracker({ "odin.trades": { 0: 30 } });
  offsets.passLost({ lost: { "odin.trades": { 0: [5, 20], 1: [0, 7] } } });
  assert.deepEqual(offsets.positions["odin.trades"], { 0: 30, 1: 7 });
});

test("a lost range moves the position to the ack's position, else to the end of the range", () => {
  const offsets = tracker({ "odin.trades": { 0: 30, 1: 30 } });
  const positions = { "odin.trades": { 0: 12 } };
  offsets.passLost({ lost: { "odin.trades": { 0: [5, 20], 1: [0, 7] } }, positions });
  assert.deepEqual(offsets.positions["odin.trades"], { 0: 12, 1: 7 });
});
