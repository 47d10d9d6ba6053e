import assert from "node:assert/strict";
import { test } from "node:test";
import { Session } from "../src/session.js";
import { ACK, Driver, TRADES } from "./driver.js";

const START = { "odin.trades": { 0: 4, 1: -1 } };
const { message } = Driver;

const left = (code, reason, retry_ms) => [
  { do: "disconnect" },
  { do: "notice", notice: { type: "disconnected", code, reason, retry_ms } },
];

test("start connects, subscribes with positions, and yields the ack as a notice", () => {
  const driver = new Driver({ ...TRADES, since_ms: 17 });
  assert.deepEqual(driver.do("start"), [{ do: "connect", token: undefined }]);
  const data = { frames: "batch", ...TRADES, since_ms: 17, positions: true };
  const command = { type: "subscribe", id: 1, data };
  assert.deepEqual(driver.do("opened"), [{ do: "send", command }]);
  const ack = { type: "subscription_ack", ...ACK, positions: START };
  assert.deepEqual(driver.receive(ack), [{ do: "notice", notice: ack }]);
  assert.deepEqual(driver.session.set.positions, START);
});

test("a reconnect resumes behind the last message, without since_ms", () => {
  const driver = new Driver({ ...TRADES, since_ms: 17 });
  driver.begin({ positions: START, ids: { "odin.trades": "a" } });
  driver.receive(message(1, "1-0"));
  assert.deepEqual(driver.do("closed", 1006, "gone"), left(1006, "gone", 200));
  assert.deepEqual(driver.wait(), [{ do: "connect", token: undefined }]);
  const positions = { "odin.trades": { 0: 4, 1: 0 } };
  assert.deepEqual(driver.join(), {
    type: "resume",
    id: 1,
    data: { frames: "batch", ...TRADES, positions, ids: { "odin.trades": "a" } },
  });
});

test("positions include each message of a batch when it is delivered", () => {
  const driver = new Driver();
  driver.begin({ positions: START });
  const messages = [5, 6].map((offset) => {
    return { channel: "BTC.trade", pos: `0-${offset}`, ts: 1, data: {} };
  });
  assert.deepEqual(driver.places({ type: "batch", seq: 3, skipped: 2, messages }), [
    ["0-5", { "odin.trades": { 0: 5, 1: -1 } }],
    ["0-6", { "odin.trades": { 0: 6, 1: -1 } }],
  ]);
  assert.deepEqual(driver.places(message(5, "0-7")).length, 1);
});

test("a message of a batch equals a message in its own frame", () => {
  const driver = new Driver();
  driver.begin({ positions: START });
  const body = { channel: "BTC.trade", pos: "0-9", ts: 1, data: { n: 1 } };
  const batch = { type: "batch", seq: 2, skipped: 1, replay: true, messages: [body] };
  const alone = { type: "message", seq: 2, skipped: 1, replay: true, ...body };
  assert.deepEqual(driver.receive(batch), [{ do: "message", message: alone }]);
});

test("a batch after a sequence gap is dropped, and the client disconnects with 4000", () => {
  const driver = new Driver();
  driver.begin({ positions: START });
  const body = { channel: "BTC.trade", pos: "0-9", ts: 1, data: {} };
  const batch = { type: "batch", seq: 2, messages: [body, body] };
  assert.deepEqual(driver.receive(batch), left(4000, "gap before message 2", 200));
  assert.deepEqual(driver.session.set.positions, START);
});

test("close during a batch stops the delivery of its messages", () => {
  const driver = new Driver();
  driver.begin({ positions: START });
  const messages = [5, 6].map((offset) => {
    return { channel: "BTC.trade", pos: `0-${offset}`, ts: 1, data: {} };
  });
  let got = 0;
  const text = JSON.stringify({ type: "batch", seq: 1, messages });
  for (const action of driver.session.received(text, 0)) {
    got += action.do === "message";
    driver.session.close();
  }
  assert.equal(got, 1);
  assert.deepEqual(driver.session.set.positions, { "odin.trades": { 0: 5, 1: -1 } });
  assert.equal(driver.session.deadline, null);
});

test("duplicates are counted and not delivered", () => {
  const driver = new Driver(TRADES, { positions: START });
  driver.begin();
  assert.deepEqual(driver.receive(message(1, "0-4", { replay: true })), []);
  assert.equal(driver.receive(message(2, "0-5", { replay: true })).length, 1);
  assert.equal(driver.session.duplicates, 1);
});

test("a resume requests an incomplete snapshot again, and a complete one not", () => {
  const driver = new Driver({ ...TRADES, snapshot: true });
  driver.begin({ positions: START, replayed: 2 });
  assert.equal(driver.receive(message(1, "0-2", { replay: true })).length, 1);
  driver.do("closed", 1006, "gone");
  driver.wait();
  assert.equal(driver.join({ replayed: 2 }).data.snapshot, true);
  driver.receive(message(1, "0-2", { replay: true }));
  driver.receive(message(2, "1-3", { replay: true }));
  driver.do("closed", 1006, "gone");
  driver.wait();
  assert.equal(driver.join().data.snapshot, undefined);
});

test("silence sends one heartbeat, then disconnects", () => {
  const driver = new Driver(TRADES, { silence: 1000 });
  driver.begin();
  driver.now = 500;
  driver.receive(message(1, "0-0"));
  assert.deepEqual(driver.wait(), [{ do: "send", command: { type: "heartbeat" } }]);
  assert.equal(driver.now, 1500);
  assert.deepEqual(driver.wait(), left(1006, "nothing was received for too long", 200));
});

test("a pong ends the silence, and is not a notice", () => {
  const driver = new Driver(TRADES, { silence: 1000 });
  driver.begin();
  driver.wait();
  driver.now += 999;
  assert.deepEqual(driver.receive({ type: "pong", ts: 1 }), []);
  assert.deepEqual(driver.wait(), [{ do: "send", command: { type: "heartbeat" } }]);
});

for (const text of ["no JSON", '{"type":"message","seq":1,"channel":"BTC.nope","pos":"0-1"}', "null", "[]"])
  test(`a frame that violates the protocol ends the feed with 1002: ${text}`, () => {
    const driver = new Driver();
    driver.begin();
    const [, { notice }] = driver.do("received", text);
    assert.equal(notice.code, 1002);
    assert.equal(notice.retry_ms, null);
    assert.equal(driver.session.state, "ended");
  });

test("unknown types and fields are delivered and change no state", () => {
  const driver = new Driver();
  driver.begin({ positions: START });
  const weather = { type: "weather", seq: 9 };
  assert.deepEqual(driver.receive(weather), [{ do: "notice", notice: weather }]);
  assert.equal(driver.receive(message(1, "0-5", { flavour: "up" })).length, 1);
});

test("a rejected subscription ends the feed, unless the error has retry", () => {
  for (const retry of [false, true]) {
    const driver = new Driver();
    driver.do("start");
    driver.do("opened");
    const error = { type: "error", code: "NO", message: "no", retry, retry_ms: 70 };
    const [, { notice }] = driver.receive(error);
    assert.equal(notice.reason, "NO: no");
    assert.equal(notice.retry_ms, retry ? 70 : null);
  }
});

test("a token that a subprotocol cannot carry throws an error without the token", () => {
  assert.throws(() => new Session(TRADES, { token: "open sesame" }), /^TypeError: token: must consist of letters/);
});

test("a token function is called for each connection, and before the token expires", () => {
  const driver = new Driver(TRADES, { renewable: true });
  assert.deepEqual(driver.do("start"), [{ do: "fetch" }]);
  assert.deepEqual(driver.do("fetched", "one"), [{ do: "connect", token: "one" }]);
  driver.join();
  driver.receive({ type: "auth", status: "expiring", expires_in_ms: 8000 });
  assert.deepEqual(driver.wait(), [{ do: "fetch" }]);
  assert.equal(driver.now, 4000);
  assert.deepEqual(driver.do("fetched", "one"), []); // the same token would expire at the same time
  assert.deepEqual(driver.wait(), [{ do: "fetch" }]);
  assert.equal(driver.now, 6000);
  const command = { type: "auth", data: { token: "two" } };
  assert.deepEqual(driver.do("fetched", "two"), [{ do: "send", command }]);
  driver.receive({ type: "auth_ack", data: { exp: 1 } });
  assert.equal(driver.session.deadline, driver.now + 10_000); // only the silence timer is left
});

test("4401 is final with a fixed token, and not with a token function", () => {
  for (const renewable of [false, true]) {
    const driver = new Driver(TRADES, { renewable });
    driver.do("start");
    if (renewable) driver.do("fetched", "one");
    driver.join();
    const [, { notice }] = driver.do("closed", 4401, "the token has expired");
    assert.equal(notice.retry_ms, renewable ? 200 : null);
  }
});

for (const [code, delay] of [[1011, 2], [1012, 2], [4408, 2], [1008, 8]])
  test(`a subscription that was live for the longest wait resets the back-off: ${code}`, () => {
    const driver = new Driver(TRADES, { backoff: [2, 1000], silence: 5000 });
    const delays = [0, 0, 1000].map((live, index) => {
      if (index === 0) driver.do("start");
      else driver.wait();
      driver.now += 3000; // the handshake does not count
      driver.join();
      driver.now += live;
      return driver.do("closed", live ? code : 1011, "")[1].notice.retry_ms;
    });
    assert.deepEqual(delays, [2, 4, delay]);
  });

test("a wait of the server is bounded, and one that is no number violates the protocol", () => {
  const advised = (after_ms) => {
    const driver = new Driver();
    driver.begin();
    const actions = driver.receive({ type: "reconnect", data: { after_ms } });
    const [, last] = driver.do("closed", 1012, "");
    return last?.notice.retry_ms ?? actions.at(-1).notice.code;
  };
  assert.deepEqual([840, -5, 1e300].map(advised), [840, 0, 86_400_000]);

  for (const item of [
    { type: "reconnect", data: { after_ms: "soon" } },
    { type: "error", code: "RATE_LIMIT_EXCEEDED", message: "", retry: true, retry_ms: "soon" },
    { type: "error", code: "NOT_AVAILABLE", message: "", retry: true, retry_ms: null },
  ]) {
    const driver = new Driver();
    driver.do("start");
    driver.do("opened");
    const { notice } = driver.receive(item).at(-1);
    assert.deepEqual([notice.type, notice.code, notice.retry_ms], ["disconnected", 1002, null]);
  }
});
