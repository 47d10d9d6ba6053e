// The JavaScript client as `odin-ws conformance` runs one: it writes each message that it hands on.
import { createInterface } from "node:readline";

import { OdinFeed } from "../../clients/js/src/index.js";

// A moment after each end: Node 20 never sends what is begun while a rejected handshake ends.
Math.random = () => 1;
const [url, subscription] = process.argv.slice(2);
const feed = new OdinFeed(url, JSON.parse(subscription), { backoff: [100, 100] });
feed.onmessage = ({ channel, pos }) => console.log(JSON.stringify({ channel, pos }));
feed.onnotice = ({ type, retry_ms }) => {
  if (type === "disconnected" && retry_ms === null) process.stdin.destroy();
};

// With --live each line of the input is {"subscribe": {…}} or {"unsubscribe": {…}}.
for await (const line of createInterface({ input: process.stdin })) {
  const [[kind, names]] = Object.entries(JSON.parse(line));
  await feed[kind](names);
}
