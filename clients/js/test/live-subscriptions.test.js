import assert from "node:assert/strict";
import { test } from "node:test";

import { Driver } from "./driver.js";

const BTC = { channels: ["BTC.trade"] };
const START = { "odin.trades": { 0: 4 } };
const CATEGORIES = { trade: "odin.trades", balances: "odin.balances" };

// Returns a driver with a live subscription.
function live(subscriptions = BTC, options = {}) {
  const driver = new Driver(subscriptions, options);
  driver.begin({ positions: START });
  return driver;
}

// Makes a request of the application; returns its actions, command, and answer or error.
function ask(driver, kind, subscription) {
  const asked = { answer: undefined, error: undefined };
  const request = {
    kind,
    subscription,
    resolve: (answer) => (asked.answer = answer),
    reject: (error) => (asked.error = error),
  };
  asked.actions = driver.do("request", request);
  asked.command = asked.actions.find((action) => action.do === "send")?.command;
  return asked;
}

function ack(driver, subscribed, more = {}) {
  const type = more.recovered === undefined ? "subscription_ack" : "resume_ack";
  return driver.receive({ type, subscribed, count: 1, categories: CATEGORIES, ...more });
}

function sent(actions) {
  return actions.filter((action) => action.do === "send").map(({ command }) => command);
}

// Ends the connection and opens the next; returns its first command.
function comeBack(driver, ...given) {
  driver.do("closed", 1006, "");
  driver.wait();
  return sent(driver.do("opened", ...given))[0];
}

test("subscribe on a live feed resolves, and a reconnect resumes from its ack's positions", () => {
  const driver = live();
  const asked = ask(driver, "subscribe", { channels: ["BTC.balances"], snapshot: true });
  assert.equal(asked.command.type, "subscribe");
  assert.deepEqual(asked.command.data.channels, ["BTC.balances"]);
  ack(driver, ["BTC.balances"], { positions: { "odin.balances": { 0: 7 } }, replayed: 0 });
  assert.deepEqual(asked.answer.subscribed, ["BTC.balances"]);
  const { type, data } = comeBack(driver);
  assert.equal(type, "resume");
  assert.deepEqual(data.channels, ["BTC.trade", "BTC.balances"]);
  assert.deepEqual(data.positions, { ...START, "odin.balances": { 0: 7 } });
  assert.equal(data.snapshot, undefined);
});

test("rejected names are in the answer, and in the error if all names are rejected", () => {
  const driver = live();
  const rejected = [{ name: "BTC.foo", code: "INVALID_CHANNEL", message: "no" }];
  const some = ask(driver, "subscribe", { channels: ["BTC.foo", "ETH.trade"] });
  ack(driver, ["ETH.trade"], { rejected });
  assert.deepEqual(some.answer.rejected, rejected);
  const all = ask(driver, "subscribe", { channels: ["BTC.foo"] });
  const actions = driver.receive({ type: "subscription_ack", subscribed: [], rejected, count: 2 });
  assert.deepEqual([all.error.code, all.error.rejected], ["INVALID_CHANNEL", rejected]);
  assert.ok(actions.every((action) => action.do !== "disconnect"));
  assert.deepEqual(driver.session.set.subscriptions, [BTC, { channels: ["ETH.trade"] }]);
});

test("a rate limited command is sent again after retry_ms", () => {
  const driver = live();
  const asked = ask(driver, "subscribe", { channels: ["ETH.trade"] });
  driver.receive({ type: "error", code: "RATE_LIMIT_EXCEEDED", message: "", retry: true, retry_ms: 2500 });
  assert.equal(driver.session.deadline, 2500);
  assert.deepEqual(sent(driver.wait()), [asked.command]);
  ack(driver, ["ETH.trade"]);
  assert.ok(asked.answer);
});

test("unsubscribed names and their positions are not resumed", () => {
  const driver = live([BTC]);
  ask(driver, "subscribe", { channels: ["BTC.balances"] });
  ack(driver, ["BTC.balances"], { positions: { "odin.balances": { 0: 7 } }, categories: { balances: "odin.balances" } });
  const asked = ask(driver, "unsubscribe", { channels: ["BTC.balances", "X.trade"] });
  assert.deepEqual([asked.command.type, asked.command.data.channels], ["unsubscribe", ["BTC.balances"]]);
  driver.receive({ type: "unsubscription_ack", unsubscribed: ["BTC.balances"], rejected: [], count: 1 });
  assert.deepEqual(asked.answer.unsubscribed, ["BTC.balances"]);
  assert.deepEqual(asked.answer.rejected.map(({ name, code }) => [name, code]), [["X.trade", "NOT_SUBSCRIBED"]]);
  const { data } = comeBack(driver);
  assert.deepEqual([data.channels, data.positions], [["BTC.trade"], START]);
});

test("a disconnect before the answer sends each request again exactly once", () => {
  const driver = live([BTC, { channels: ["ETH.trade"] }]);
  const ended = ask(driver, "unsubscribe", { channels: ["ETH.trade"] });
  const begun = ask(driver, "subscribe", { channels: ["RUNE.trade"] });
  assert.equal(begun.command, undefined, "the second command waits for the answer to the first");
  assert.deepEqual(comeBack(driver).data.channels, ["BTC.trade"]);
  assert.deepEqual(ended.answer.unsubscribed, ["ETH.trade"]);
  const [again] = sent(ack(driver, ["BTC.trade"], { recovered: true, replayed: 0 }));
  assert.deepEqual([again.type, again.data.channels], ["subscribe", ["RUNE.trade"]]);
  ack(driver, ["RUNE.trade"]);
  assert.ok(begun.answer);
});

test("a replay beside live messages has its own positions", () => {
  const driver = live();
  ask(driver, "subscribe", { channels: ["*.trade"], since_ms: 1 });
  ack(driver, ["*.trade"], { positions: { "odin.trades": { 0: 1 } }, replayed: null });
  driver.receive(Driver.message(1, "0-20"));
  driver.receive(Driver.message(2, "0-3", { replay: true }));
  assert.deepEqual(driver.session.set.positions, { "odin.trades": { 0: 3 } });
  assert.deepEqual(comeBack(driver).data.positions, { "odin.trades": { 0: 20 } });
  const [second] = sent(ack(driver, ["BTC.trade"], { recovered: true, replayed: 0 }));
  assert.deepEqual([second.data.channels, second.data.positions["odin.trades"][0]], [["*.trade"], 3]);
  ack(driver, ["*.trade"], { recovered: true, replayed: null });
  const places = [20, 21].map((offset, index) =>
    driver.places(Driver.message(index + 1, `0-${offset}`, { replay: true })).map(([pos]) => pos),
  );
  assert.deepEqual(places, [[], ["0-21"]]);
  driver.receive({ type: "replay_complete", count: 2, positions: { "odin.trades": { 0: 30 } } });
  assert.deepEqual(driver.session.set.positions, { "odin.trades": { 0: 30 } });
});

test("subscriptions with different options resume by separate commands", () => {
  const slow = { channels: ["ETH.trade"], max_rate: 2 };
  const driver = new Driver([BTC, slow], { positions: START });
  driver.do("start");
  const [first] = sent(driver.do("opened"));
  assert.deepEqual([first.data.channels, first.data.max_rate], [["BTC.trade"], undefined]);
  const [second] = sent(ack(driver, ["BTC.trade"], { recovered: true, replayed: 0 }));
  driver.receive(Driver.message(1, "0-9"));
  assert.deepEqual([second.data.max_rate, second.data.positions], [2, START]);
  assert.deepEqual(driver.session.set.positions, START);
});

test("subscribe over Server-Sent Events restarts the stream with a resume of all names", () => {
  const driver = new Driver({ channels: ["BTC.trade", "SOL.trade"] });
  driver.do("start");
  driver.take(driver.session.opened(0, true));
  ack(driver, ["BTC.trade", "SOL.trade"], { positions: START });
  const first = ask(driver, "subscribe", { channels: ["BTC.balances"] });
  const second = ask(driver, "unsubscribe", { channels: ["SOL.trade"] });
  const slow = ask(driver, "subscribe", { channels: ["ETH.trade"], max_rate: 2 });
  assert.deepEqual(first.actions, []);
  assert.deepEqual(driver.wait().map((action) => action.do), ["disconnect", "connect"]);
  const [{ type, data }] = sent(driver.take(driver.session.opened(0, true)));
  assert.deepEqual([type, data.channels, data.positions], ["resume", ["BTC.trade", "BTC.balances"], START]);
  assert.equal(slow.error.code, "NOT_AVAILABLE");
  // The server sees a resume without a position, and reports the new topic's records as lost.
  const lost = { "odin.balances": { 0: [0, 7] } };
  const [{ notice }] = ack(driver, ["BTC.trade", "BTC.balances"], { recovered: false, replayed: 0, lost, reason: "no_position" });
  assert.deepEqual([notice.recovered, notice.lost], [true, undefined]);
  assert.deepEqual(driver.session.set.positions["odin.balances"], { 0: 7 });
  assert.deepEqual([first.answer.subscribed, second.answer.unsubscribed], [["BTC.balances"], ["SOL.trade"]]);
});

test("requests after close reject with CLOSED", () => {
  const driver = live();
  const waiting = ask(driver, "subscribe", { channels: ["ETH.trade"] });
  driver.session.close();
  const late = ask(driver, "unsubscribe", BTC);
  assert.deepEqual([waiting.error.code, late.error.code], ["CLOSED", "CLOSED"]);
});
