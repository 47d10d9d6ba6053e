// @ts-check
// The console: the selected view, the stream's events, and the keyboard.

import { Charts } from "./charts.js";
import { byId, el, setText } from "./dom.js";
import { Overview } from "./overview.js";
import { Store } from "./store.js";
import { Stream } from "./stream.js";
import { Tables } from "./tables.js";
import { Try } from "./try.js";

const VIEWS = ["overview", "tables", "try"];
const THEME = "odin-ws theme";
const LINKS = { connecting: "connecting", live: "live", lost: "reconnecting", paused: "paused" };

const store = new Store();
const charts = new Charts(store);
const overview = new Overview(store);
const tables = new Tables(store);
const trial = new Try();

/** @type {any} the last data of the tables */
let newest = null;

const view = () => (VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : VIEWS[0]);

function draw() {
  if (document.hidden) return;
  if (view() === "overview") {
    charts.draw();
    overview.draw();
  }
  if (view() === "tables" && newest) tables.draw(newest);
}

function show() {
  for (const name of VIEWS) byId(`view-${name}`).hidden = name !== view();
  for (const link of document.querySelectorAll(".tabs a")) {
    if (/** @type {HTMLElement} */ (link).dataset.view === view()) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  draw();
}

/** @param {string} theme */
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  charts.reset();
  overview.draw();
}

/** @param {any} setup */
function begin(setup) {
  setText(byId("version"), `${setup.version} · Python ${setup.python}`);
  store.begin(setup.started);
  overview.setup(setup);
  tables.setup(setup);
  trial.setup(setup);
  const select = byId("worker");
  byId("worker").parentElement.hidden = !setup.workers;
  if (select.options.length !== setup.workers + 1) {
    const numbers = Array.from({ length: setup.workers }, (_, index) => String(index + 1));
    select.replaceChildren(el("option", { value: "" }, "all workers"),
      ...numbers.map((number) => el("option", { value: number }, `worker ${number}`)));
  }
}

const stream = new Stream({
  event(name, data) {
    store.live = true;
    switch (name) {
      case "setup":
        begin(data);
        break;
      case "samples":
        store.add(data);
        draw();
        break;
      case "state":
        overview.state(data);
        tables.workers(data.workers);
        overview.draw();
        break;
      case "tables":
        newest = data;
        trial.suggest(data.channels.rows.map((/** @type {any} */ row) => row.channel));
        if (view() === "tables") draw();
        break;
    }
  },
  link(state, reason) {
    const shown = byId("link");
    if (shown.dataset.state === state) return;
    shown.dataset.state = state;
    shown.title = reason ?? "";
    setText(shown, LINKS[state]);
    if (state !== "lost") return;
    store.live = false;
    overview.silent();
    draw();
  },
  askToken(wrong) {
    const dialog = byId("token-dialog");
    byId("token-error").hidden = !wrong;
    setText(byId("token-error"), "This token was not accepted.");
    byId("token").value = "";
    dialog.showModal();
    return new Promise((resolve) => {
      byId("token-form").onsubmit = () => resolve(byId("token").value.trim());
      // Without a token the server sends no data.
      dialog.oncancel = (/** @type {Event} */ event) => event.preventDefault();
    });
  },
});

byId("worker").onchange = () => {
  const { value } = byId("worker");
  stream.worker = value === "" ? null : Number(value);
  store.clear();
  stream.restart();
};

const dark = matchMedia("(prefers-color-scheme: dark)");
const preferred = () => localStorage.getItem(THEME) ?? (dark.matches ? "dark" : "light");
const switchTheme = () => {
  const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem(THEME, other);
  setTheme(other);
};
dark.onchange = () => setTheme(preferred());
byId("theme").onclick = switchTheme;
byId("help").onclick = () => byId("keys-dialog").showModal();

addEventListener("hashchange", show);
addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches("input, select, textarea") || document.querySelector("dialog[open]")) return;
  const place = Number(event.key) - 1;
  if (VIEWS[place]) location.hash = VIEWS[place];
  else if (event.key === "/") {
    event.preventDefault();
    location.hash = "try";
    show();
    byId("channel").focus();
  } else if (event.key === "d") switchTheme();
  else if (event.key === "b") trial.breakConnection();
  else if (event.key === "?") byId("keys-dialog").showModal();
});
document.addEventListener("visibilitychange", draw);

setTheme(preferred());
show();
stream.restart();
