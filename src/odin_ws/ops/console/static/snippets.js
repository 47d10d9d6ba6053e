// @ts-check
// The subscription of "Try it" as commands and programs.

/**
 * @typedef {object} Choice
 * @property {string} url of the WebSocket
 * @property {Record<string, any>} subscription the fields of `subscribe`
 * @property {boolean} needsToken
 */

// The fields supported by each. A test compares them with the command, /sse and the class.
export const KNOWN = {
  tail: new Set(["channels", "bundles", "since_ms", "max_rate", "where"]),
  curl: new Set(["channels", "bundles", "snapshot", "since_ms", "delivery", "max_rate", "where"]),
  python: new Set(["channels", "bundles", "snapshot", "since_ms", "delivery", "max_rate", "where"]),
};

/** @param {unknown} value as one word of a shell */
const shell = (value) => `'${String(value).replaceAll("'", `'\\''`)}'`;

/**
 * @param {Record<string, any>} subscription
 * @param {ReadonlySet<string>} known
 * @returns {[Record<string, any>, string[]]} the known fields, and the names of the others
 */
function sorted(subscription, known) {
  const fields = Object.entries(subscription);
  const others = fields.filter(([name]) => !known.has(name)).map(([name]) => name);
  return [Object.fromEntries(fields.filter(([name]) => known.has(name))), others];
}

/** @param {string} what @param {string[]} others */
const without = (what, others) => (others.length ? `\n# ${what} has no option for: ${others.join(", ")}` : "");

/** @param {Choice} choice */
function tail({ url, subscription, needsToken }) {
  const [fields, others] = sorted(subscription, KNOWN.tail);
  const { channels = [], bundles = [], since_ms: since, max_rate: rate, where } = fields;
  const lines = [`${needsToken ? "ODIN_WS_TOKEN=… " : ""}odin-ws tail --url ${shell(url)}`];
  if (channels.length) lines.push(`--channels ${shell(channels.join(","))}`);
  if (bundles.length) lines.push(`--bundles ${bundles.join(",")}`);
  if (since !== undefined) lines.push(`--since ${Math.round((Date.now() - since) / 1000)}s`);
  if (rate !== undefined) lines.push(`--max-rate ${rate}`);
  if (where !== undefined) lines.push(`--where ${shell(JSON.stringify(where))}`);
  return lines.join(" \\\n  ") + without("tail", others);
}

/** @param {Choice} choice */
function websocat({ url, subscription, needsToken }) {
  const command = JSON.stringify({ type: "subscribe", data: subscription });
  const header = needsToken ? ` -H 'Authorization: Bearer …'` : "";
  return `echo ${shell(command)} |\n  websocat --no-close${header} ${shell(url)}`;
}

/** @param {Choice} choice */
function curl({ url, subscription, needsToken }) {
  const [fields, others] = sorted(subscription, KNOWN.curl);
  const query = Object.entries(fields).map(([name, value]) => {
    const several = Array.isArray(value) ? value : [typeof value === "object" ? JSON.stringify(value) : value];
    // A query needs no escape of a star.
    return `${name}=${several.map(encodeURIComponent).join(",").replaceAll("%2A", "*")}`;
  });
  const sse = url.replace(/^ws/, "http").replace(/\/ws(\?.*)?$/, "/sse");
  const header = needsToken ? ` -H 'Authorization: Bearer …'` : "";
  return `curl -N${header} ${shell(`${sse}?${query.join("&")}`)}${without("/sse", others)}`;
}

/** @param {Choice} choice */
function javascript({ url, subscription, needsToken }) {
  const options = needsToken ? `, {\n  token: async () => (await fetch("/token")).text(),\n}` : "";
  return `import { OdinFeed } from "odin-ws-client";

const feed = new OdinFeed(${JSON.stringify(url)}, ${indented(subscription)}${options});
feed.onmessage = ({ channel, data }) => console.log(channel, data);
feed.onnotice = (notice) => console.info(notice.type, notice);`;
}

/** @param {Choice} choice */
function python({ url, subscription, needsToken }) {
  const [known, others] = sorted(subscription, KNOWN.python);
  const fields = Object.entries(known).map(([name, value]) => `${name}=${pythonValue(value)}`);
  const credential = needsToken ? ", token=TOKEN" : "";
  return `import asyncio
from odin_ws_client import Message, Subscription
from odin_ws_client.asyncio import open_client

async def main():
    subscription = Subscription(${fields.join(", ")})
    async with open_client(${JSON.stringify(url)}, subscription${credential}) as client:
        async for item in client:
            if isinstance(item, Message):
                print(item.channel, item.data)

asyncio.run(main())${without("Subscription", others)}`;
}

/** @param {unknown} value @returns {string} */
function pythonValue(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([name, field]) => `${JSON.stringify(name)}: ${pythonValue(field)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** @param {unknown} value */
function indented(value) {
  const text = JSON.stringify(value, null, 1).replaceAll(/\s*\n\s*/g, " ");
  return text.replaceAll(/([[{]) | ([\]}])/g, (_, open, close) => open ?? close).replaceAll(/"(\w+)":/g, "$1:").replace(/^\{/, "{ ").replace(/\}$/, " }");
}

/** @type {Record<string, (choice: Choice) => string>} */
export const SNIPPETS = {
  "odin-ws tail": tail,
  websocat,
  curl,
  JavaScript: javascript,
  Python: python,
};
