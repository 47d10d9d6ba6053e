// A browser without a window, driven line by line: a command as JSON on stdin, its answer on stdout.
import { createInterface } from "node:readline";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const require = createRequire(new URL("./node/", import.meta.url));
const { chromium } = require("playwright-core");

const [executablePath] = process.argv.slice(2);
const args = [
  "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
  "--disable-background-networking", "--disable-component-update",
  ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
];

/** @type {string[]} what the page should not have done */
let problems = [];
/** @type {any} one process for all pages: its start takes more than a page */
let browser;
/** @type {any} */
let context;
/** @type {any} */
let page;

// A function of the page, from its text: under its policy it is none that is made there.
const made = (code) => (0, eval)(`(${code})`);

const ACTIONS = {
  async open({ url, theme = "light", width = 1280, height = 900 }) {
    await context?.close();
    problems = [];
    browser ??= await chromium.launch({ executablePath, args });
    context = await browser.newContext({ colorScheme: theme, viewport: { width, height } });
    page = await context.newPage();
    page.setDefaultTimeout(30_000);
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) problems.push(message.text());
    });
    page.on("pageerror", (error) => problems.push(error.stack ?? `${error}`));
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== new URL(url).origin) problems.push(`asked for ${request.url()}`);
    });
    // How much of what is seen has moved, since the page was opened.
    await page.addInitScript(() => {
      window.shifted = [];
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
          if (!entry.hadRecentInput) window.shifted.push([entry.value, entry.sources.map(({ node }) => node?.id || node?.className || node?.nodeName)]);
        }
      }).observe({ type: "layout-shift", buffered: true });
    });
    await page.goto(url);
  },
  reload: () => page.reload(),
  click: ({ selector }) => page.click(selector),
  fill: ({ selector, text }) => page.fill(selector, text),
  choose: ({ selector, value }) => page.selectOption(selector, value),
  press: ({ key }) => page.keyboard.press(key),
  type: ({ text }) => page.keyboard.type(text),
  text: ({ selector }) => page.innerText(selector),
  visible: ({ selector }) => page.isVisible(selector),
  evaluate: ({ code }) => page.evaluate(made(code)),
  // Not waitForFunction: that makes its function within the page, which the policy forbids.
  async wait({ code }) {
    const until = Date.now() + 30_000;
    while (!(await page.evaluate(made(code)))) {
      if (Date.now() > until) throw new Error(`never true; problems: ${problems.join("; ")}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  },
  theme: ({ theme }) => page.emulateMedia({ colorScheme: theme }),
  size: ({ width, height }) => page.setViewportSize({ width, height }),
  picture: async ({ path, full = false }) => { await page.screenshot({ path, fullPage: full, animations: "disabled" }); },
  problems: () => problems,
  async axe() {
    await page.evaluate(await readFile(require.resolve("axe-core/axe.min.js"), "utf-8"));
    const { violations } = await page.evaluate(() => window.axe.run());
    return violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map(({ html }) => html) }));
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { action, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { result: (await ACTIONS[action](given)) ?? null };
  } catch (error) {
    answer = { error: `${error.message ?? error}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser?.close();
