// Follows a server with an OdinFeed and prints what happens, a JSON object a line.
// It closes the feed when it is told "close", subscribes to more when it is told so, and ends when neither feed nor input is left.
import { createInterface } from "node:readline";

const [module, given] = process.argv.slice(2);
const { OdinFeed } = await import(module);
const { url, subscription, options, random, tokens } = JSON.parse(given);
if (random !== null) Math.random = () => random;

// One after the other, and then the last for ever; null is none, "late" takes a while.
if (tokens !== null) {
  options.token = async () => {
    const token = tokens.length > 1 ? tokens.shift() : tokens[0];
    if (token === "late") {
      await new Promise((resolve) => setTimeout(resolve, 500));
      tell("token")({});
    }
    if (token === null) throw new Error("away");
    return token;
  };
}

const feed = new OdinFeed(url, subscription, options);
const tell = (kind) => (item) => {
  const { positions, duplicates } = feed;
  console.log(JSON.stringify({ kind, item, positions, duplicates, at: performance.now() / 1000 }));
};
feed.onmessage = tell("message");
feed.onnotice = tell("notice");

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "close") feed.close();
  else {
    const [[kind, names]] = Object.entries(JSON.parse(line));
    const rejected = ({ code, message, rejected }) => ({ code, message, rejected });
    feed[kind](names).catch(rejected).then(tell("answer"));
  }
}
