// Writes dist/odin-ws.js: the modules of src in one file, for pages without a build tool.
// The modules import each other by name only, and no two of them have a name in common.
import { mkdir, readFile, writeFile } from "node:fs/promises";

const IMPORT = /^import \{ [^}]* \} from "(.*)";\n/gm;
const source = new URL("../src/", import.meta.url);

/** @type {Map<string, string>} */
const modules = new Map();

/** @param {string} name */
async function add(name) {
  if (modules.has(name)) return;
  modules.set(name, ""); // against cycles; set again below, behind the imported modules
  const text = await readFile(new URL(name, source), "utf-8");
  for (const [, imported] of text.matchAll(IMPORT)) await add(imported.slice("./".length));
  modules.delete(name);
  modules.set(name, text.replaceAll(IMPORT, "").replaceAll(/^export (?!\{)/gm, "").trim());
}

await add("feed.js");
const { version } = JSON.parse(await readFile(new URL("../package.json", import.meta.url), "utf-8"));
const head = `// odin-ws-client ${version}, made from clients/js/src by tools/bundle.js.`;
const text = [head, ...modules.values(), "export { OdinFeed, SubscriptionError };"].join("\n\n");
if (/^import /m.test(text)) throw new Error("an import is left");
const out = new URL("../dist/", import.meta.url);
await mkdir(out, { recursive: true });
await writeFile(new URL("odin-ws.js", out), `${text}\n`);
