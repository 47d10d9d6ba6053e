// @ts-check
// The current state of the instance: its figures, its topics, and warnings with advice.

import { lineColour } from "./charts.js";
import { byId, el, fillTable, setText, status } from "./dom.js";
import { bytes, clock, count, duration, millis, short } from "./format.js";

/** @import { Store } from "./store.js" */

const STATES = /** @type {Record<string, [level: string, word: string]>} */ ({
  starting: ["warning", "Starting"],
  serving: ["good", "Serving"],
  draining: ["warning", "Draining"],
  closing: ["warning", "Closing connections"],
  stopped: ["error", "Stopped"],
});

const TOPIC_LEVELS = /** @type {Record<string, string>} */ ({
  live: "good", starting: "warning", trouble: "warning", stalled: "error", missing: "error", stopped: "error",
});

// A figure above this share of its limit is shown as a warning.
const WARN_PERCENT = 90;

const LEVELS = ["error", "warning"];

const SILENT = {
  level: "error",
  text: "this port does not answer",
  action: "After a restart the page follows the new process by itself. Otherwise look at the process and at the end of its log.",
  see: "docs/troubleshooting.md",
};

export class Overview {
  /** @type {any} */
  #setup = null;
  /** @type {any} */
  #state = null;
  #store;
  /** @type {Map<string, { row: HTMLElement, value: HTMLElement, unit: HTMLElement, sub: HTMLElement }>} */
  #tiles = new Map();
  #topics = /** @type {HTMLTableElement} */ (el("table"));
  #topicsNote = el("span", { class: "note" });

  /** @param {Store} store */
  constructor(store) {
    this.#store = store;
    const scroll = el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Topics" }, this.#topics);
    const card = el("article", { class: "card topics" }, el("h2", {}, "Topics ", this.#topicsNote), scroll);
    byId("charts").append(card);
    for (const [id, title] of [["out", "Messages out"], ["in", "Records in"], ["age", "Age p99"],
      ["lag", "Lag"], ["connections", "Connections"], ["cpu", "CPU"], ["memory", "Memory"]]) {
      const [value, unit, sub] = [el("span", {}, "–"), el("small"), el("div", { class: "sub" })];
      const row = el("div", { data: { tile: id } }, el("dt", {}, title), el("dd", {}, value, unit, sub));
      this.#tiles.set(id, { row, value, unit, sub });
      byId("tiles").append(row);
    }
  }

  /** @param {any} setup */
  setup(setup) {
    this.#setup = setup;
  }

  /** @param {any} state */
  state(state) {
    this.#state = state;
    this.#drawState(state);
    this.#drawDrain(state.drain);
    this.#drawAdvice(state.advice);
    this.#drawTopics(state.topics);
  }

  /** The stream has ended: mark the last data as out of date. */
  silent() {
    if (!this.#state) return;
    const { state, now } = this.#state;
    byId("state").dataset.level = "error";
    setText(byId("state-word"), "No answer");
    setText(byId("state-more"), `since ${clock(now)}, when it was ${state}`);
    document.title = "● odin-ws no answer";
    this.#drawDrain(null);
    this.#drawAdvice([SILENT]);
    this.draw();
  }

  /** Show the figures of the newest sample. */
  draw() {
    if (!this.#setup || !this.#state) return;
    if (!this.#store.live) {
      for (const id of this.#tiles.keys()) this.#tile(id, "–", "", "");
      return;
    }
    const store = this.#store;
    const { checks } = this.#state.health;
    const topics = store.labels("records_in");
    const lag = store.latestSum("lag");
    const age = store.latest("age_p99_ms");
    const { current, max } = checks?.capacity ?? { current: 0, max: 1 };
    this.#tile("out", short(store.latest("messages_out") ?? 0), "/s", `${count(this.#state.health.observability?.slow?.backlogged ?? 0)} clients behind`);
    this.#tile("in", short(store.latestSum("records_in") ?? 0), "/s", `${topics.length} topics`);
    this.#tile("age", ...split(age === null ? "–" : millis(age)), `p50 ${age === null ? "–" : millis(store.latest("age_p50_ms") ?? 0)}`);
    this.#tile("lag", lag === null ? "–" : short(lag), lag === null ? "" : "records", checks?.kafka.paced ? "paced by WS_MAX_KAFKA_RATE" : `${count(checks?.kafka.lost_records ?? 0)} lost`);
    this.#tile("connections", count(current), "", `of ${count(max)}`, level((100 * current) / max));
    const cpu = store.latest("cpu_percent");
    this.#tile("cpu", cpu === null ? "–" : `${Math.round(cpu)}`, "%", `loop ${millis(store.latest("loop_delay_max_ms") ?? 0)}`, level(cpu));
    const memory = store.latest("memory_bytes");
    this.#tile("memory", ...split(memory === null ? "–" : bytes(memory)), `of ${bytes(this.#setup.limits.memory_bytes)}`, level(checks?.memory.percentage ?? 0));
  }

  /** @param {string} id @param {string} value @param {string} unit @param {string} sub @param {string} [warn] */
  #tile(id, value, unit, sub, warn = "") {
    const tile = this.#tiles.get(id);
    if (!tile) return;
    setText(tile.value, value);
    setText(tile.unit, unit);
    setText(tile.sub, sub);
    tile.row.dataset.level = warn;
  }

  /** @param {any} state */
  #drawState({ state, not_ready, feed, health }) {
    const head = byId("state");
    const worst = LEVELS.find((found) => this.#state.advice.some((/** @type {any} */ one) => one.level === found));
    const [own, word] = STATES[state] ?? ["warning", state];
    head.dataset.level = state === "serving" && worst ? worst : own;
    setText(byId("state-word"), word);
    const ready = not_ready ? `not ready: ${not_ready}` : "ready";
    const kafka = feed ? `Kafka ${feed.status} for ${duration(feed.seconds)}` : "no worker answers";
    setText(byId("state-more"), `${kafka} · ${ready} · up ${duration(health.uptime)}`);
    document.title = `${worst === "error" ? "● " : worst ? "○ " : ""}odin-ws ${word.toLowerCase()}`;
  }

  /** @param {any} drain */
  #drawDrain(drain) {
    byId("drain").hidden = !drain;
    if (!drain) return;
    const gone = drain.begun_with ? 100 * (1 - drain.left / drain.begun_with) : 100;
    const percent = Math.max(0, Math.min(100, Math.round(gone)));
    byId("drain-bar").style.width = `${percent}%`;
    byId("drain").firstElementChild.setAttribute("aria-valuenow", String(percent));
    const text = `${count(drain.left)} of ${count(drain.begun_with)} connections left`;
    setText(byId("drain-text"), `${text} · ${duration(drain.seconds)} of at most ${duration(drain.seconds_at_most)}`);
  }

  /** @param {{ level: string, text: string, action: string, see: string }[]} advice */
  #drawAdvice(advice) {
    const list = byId("advice");
    const key = advice.map(({ level: found, text }) => found + text.replace(/\d+/g, "")).join();
    if (list.dataset.key === key) {
      advice.forEach(({ text }, index) => setText(list.children[index].querySelector(".what"), text));
      return;
    }
    list.dataset.key = key;
    list.replaceChildren(...advice.map((line) => el("li", { data: { level: line.level } },
      el("span", { class: "level" }, line.level === "error" ? "Error" : "Warning"),
      el("strong", { class: "what" }, line.text),
      el("p", {}, `${line.action} `, el("code", {}, line.see)))));
  }

  /** @param {any[]} topics */
  #drawTopics(topics) {
    const labels = this.#store.labels("records_in");
    const live = topics.filter(({ status: found }) => found === "live").length;
    setText(this.#topicsNote, `${live} of ${topics.length} live`);
    fillTable(this.#topics, [
      { title: "", cell: ({ topic }) => swatch(labels.indexOf(topic)) },
      { title: "Topic", class: "name", cell: ({ topic }) => topic },
      { title: "Status", cell: ({ status: found, problems }) => {
        const shown = status(TOPIC_LEVELS[found] ?? "warning", found);
        shown.title = problems.join("\n");
        return shown;
      } },
      { title: "Partitions", class: "number", cell: ({ partitions }) => count(partitions) },
      { title: "Records/s", class: "number", cell: ({ topic }) => short(this.#store.latest(`records_in:${topic}`) ?? 0) },
      { title: "Lag", class: "number", cell: ({ lag }) => (lag === null ? "–" : short(lag)) },
    ], topics, "no topics");
  }
}

/** @param {number} index */
function swatch(index) {
  const mark = el("span", { class: "swatch" });
  if (index >= 0) mark.style.background = lineColour(index);
  return mark;
}

/** @param {string} text @returns {[string, string]} number and unit */
function split(text) {
  const [number, unit = ""] = text.split(" ");
  return [number, unit];
}

/** @param {number | null} share */
function level(share) {
  return share === null || share < WARN_PERCENT ? "" : share < 100 ? "warning" : "error";
}
