// The subscription of "Try it" as commands and programs.

/**
 * @typedef {object} Choice
 * @property {string} url of the WebSocket
 * @property {Record<string, any>} subscription the fields of `subscribe`
 * @property {boolean} needsToken
 */

/** @param {unknown} value as one word of a shell */
const shell = (value) => `'${String(value).replaceAll("'", `'\\''`)}'`;

/** @param {Choice} choice */
function tail({ url, subscription, needsToken }) {
  const { channels = [], bundles = [], since_ms: since, ...rest } = subscription;
  const lines = [`${needsToken ? "ODIN_WS_TOKEN=… " : ""}odin-ws tail --url ${shell(url)}`];
  if (channels.length) lines.push(`--channels ${shell(channels.join(","))}`);
  if (bundles.length) lines.push(`--bundles ${bundles.join(",")}`);
  if (since !== undefined) lines.push(`--since ${Math.round((Date.now() - since) / 1000)}s`);
  const left = Object.keys(rest);
  const note = left.length ? `\n# tail has no option for ${left.join(", ")}` : "";
  return lines.join(" \\\n  ") + note;
}

/** @param {Choice} choice */
function websocat({ url, subscription, needsToken }) {
  const command = JSON.stringify({ type: "subscribe", data: subscription });
  const header = needsToken ? ` -H 'Authorization: Bearer …'` : "";
  return `echo ${shell(command)} |\n  websocat --no-close${header} ${shell(url)}`;
}

/** @param {Choice} choice */
function curl({ url, subscription, needsToken }) {
  const { channels = [], bundles = [], topics: _topics, positions: _positions, ...rest } = subscription;
  const query = [`channels=${[...channels, ...bundles].map(encodeURIComponent).join(",").replaceAll("%2A", "*")}`];
  for (const [name, value] of Object.entries(rest)) {
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    query.push(`${name}=${encodeURIComponent(text)}`);
  }
  const sse = url.replace(/^ws/, "http").replace(/\/ws(\?.*)?$/, "/sse");
  const header = needsToken ? ` -H 'Authorization: Bearer …'` : "";
  return `curl -N${header} ${shell(`${sse}?${query.join("&")}`)}`;
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
  const fields = Object.entries(subscription).map(([name, value]) => `${name}=${pythonValue(value)}`);
  const credential = needsToken ? ", token=TOKEN" : "";
  return `import trio
from odin_ws.client import Message, Subscription, open_client

async def main():
    subscription = Subscription(${fields.join(", ")})
    async with open_client(${JSON.stringify(url)}, subscription${credential}) as client:
        async for item in client:
            if isinstance(item, Message):
                print(item.channel, item.data)

trio.run(main)`;
}

/** @param {unknown} value @returns {string} */
function pythonValue(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${pythonValue(one)}`).join(", ")}}`;
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
