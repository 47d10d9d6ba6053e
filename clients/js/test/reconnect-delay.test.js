import assert from "node:assert/strict";
import { test } from "node:test";
import { isFinal } from "../src/close-codes.js";
import { ReconnectDelay } from "../src/reconnect-delay.js";

const delays = (backoff, attempts, random = 1) => {
  const delay = new ReconnectDelay(backoff, () => random);
  return attempts.map(([code, held, advice]) => delay.next(code, held, advice));
};
const times = (count, attempt) => Array.from({ length: count }, () => attempt);

test("the back-off doubles up to the longest wait, times the random jitter", () => {
  assert.deepEqual(delays([2, 10], times(5, [1006, 0, null])), [2, 4, 8, 10, 10]);
  assert.deepEqual(delays([2, 10], times(5, [1006, 0, null]), 0.5), [1, 2, 4, 5, 5]);
});

test("a connection held for the longest wait resets the back-off, except after 1008", () => {
  const twice = times(2, [1011, 0, null]);
  assert.deepEqual(delays([2, 100], [...twice, [1011, 100, null]]), [2, 4, 2]);
  assert.deepEqual(delays([2, 100], [...twice, [1008, 100, null]]), [2, 4, 8]);
});

test("advice replaces the back-off once, and is then the least wait", () => {
  assert.deepEqual(delays([2, 100], times(3, [1012, 0, 1])), [1, 4, 8]);
  assert.deepEqual(delays([2, 100], [[1012, 0, 70], [1006, 0, null]]), [70, 4]);
});

test("a Retry-After is the least wait, of at most a day", () => {
  const delay = new ReconnectDelay([200, 15_000], () => 1);
  const waits = [7000, 100, 10 ** 12].map((least) => delay.next(1006, 0, null, least));
  assert.deepEqual(waits, [7000, 400, 86_400_000]);
});

test("1008 is final for bad commands only", () => {
  assert.equal(isFinal(1008, "slow: messages waited too long to be taken", false), false);
  assert.equal(isFinal(1008, "too many bad messages in a row", false), true);
});
