import assert from "node:assert/strict";
import { test } from "node:test";
import { EventSocket } from "../src/event-socket.js";

/** Returns how the socket ends if the stream's request gets this response. */
const ending = (response) =>
  new Promise((resolve) => {
    const socket = new EventSocket(new URL("http://test/sse"), undefined, async () => response);
    socket.onopen = () => socket.send('{"type":"subscribe","data":{"channels":["*.trade"]}}');
    socket.onclose = resolve;
  });

const rejection = (status, headers = {}) => ending(new Response("no room\n", { status, headers }));

test("a proxy's rejection ends the socket with its text and its Retry-After", async () => {
  const found = await rejection(503, { "Retry-After": "7" });
  assert.deepEqual(found, { code: 1006, reason: "503 no room", retryAfter: 7000 });
});

test("a Retry-After that is a date is ignored", async () => {
  const date = "Wed, 21 Oct 2026 07:28:00 GMT";
  assert.equal((await rejection(503, { "Retry-After": date })).retryAfter, undefined);
  assert.equal((await rejection(502)).retryAfter, undefined);
});

test("401 and 403 end as the closes for tokens and grants", async () => {
  assert.equal((await rejection(401)).code, 4401);
  assert.equal((await rejection(403)).code, 4403);
});
