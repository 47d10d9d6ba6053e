// The JavaScript client as `odin-ws conformance` runs one: it writes each message that it hands on.
import { OdinFeed } from "../../clients/js/src/index.js";

// A moment after each end: Node 20 never sends what is begun while a rejected handshake ends.
Math.random = () => 1;
const [url, subscription] = process.argv.slice(2);
const feed = new OdinFeed(url, JSON.parse(subscription), { backoff: [100, 100] });
feed.onmessage = ({ channel, pos }) => console.log(JSON.stringify({ channel, pos }));
