// @ts-check
// The charts of the last quarter of an hour (uPlot).

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { byId, el, setText } from "./dom.js";
import { bytes, clock, count, distinct, millis, short } from "./format.js";
import { WINDOW_SECONDS } from "./store.js";

/** @import { Store } from "./store.js" */

// Steps of the axis of whole numbers, and of bytes.
const WHOLE = Array.from({ length: 12 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();
const MIBS = Array.from({ length: 30 }, (_, power) => 2 ** (power + 18));

// Rare events are drawn as bars, each the sum of this number of seconds.
const BAR_SECONDS = 15;

/**
 * @typedef {object} Line
 * @property {string} name of the series
 * @property {string} label
 *
 * @typedef {object} Spec
 * @property {string} id
 * @property {string} title
 * @property {(value: number) => string} format
 * @property {Line[]} [lines]
 * @property {string} [labels] prefix of the series that are its lines, `prefix:label`
 * @property {"lines" | "stack" | "bars"} kind
 * @property {number[]} [steps] that the axis may have
 * @property {number} [least] the least maximum of the axis
 * @property {(store: Store) => string} value text beside the title
 */

const latest = (/** @type {Store} */ store, /** @type {string} */ name, /** @type {(value: number) => string} */ format) => {
  const value = store.latest(name);
  return value === null ? "–" : format(value);
};
const perSecond = (/** @type {number} */ value) => `${short(value)}/s`;
const percent = (/** @type {number} */ value) => `${Math.round(value)}%`;
const total = (/** @type {Store} */ store, /** @type {string} */ prefix, /** @type {(value: number) => string} */ format) => {
  const sum = store.latestSum(prefix);
  return sum === null ? "–" : format(sum);
};
const happened = (/** @type {Store} */ store, /** @type {string} */ prefix) => {
  const all = store.labels(prefix).reduce((sum, label) => sum + store.sum(`${prefix}:${label}`), 0);
  return `${count(all)} in 15 min`;
};

/** @type {readonly Spec[]} */
const SPECS = [
  { id: "messages", title: "Messages out", kind: "stack", format: perSecond, least: 1,
    lines: [{ name: "messages_out", label: "messages" }],
    value: (store) => latest(store, "messages_out", perSecond) },
  { id: "records", title: "Records in", kind: "stack", format: perSecond, labels: "records_in", least: 1,
    value: (store) => total(store, "records_in", perSecond) },
  { id: "age", title: "Age at delivery", kind: "lines", format: millis, least: 10,
    lines: [{ name: "age_p99_ms", label: "p99" }, { name: "age_p50_ms", label: "p50" }],
    value: (store) => `p99 ${latest(store, "age_p99_ms", millis)}` },
  { id: "lag", title: "Lag", kind: "lines", format: short, labels: "lag", least: 10, steps: WHOLE,
    value: (store) => total(store, "lag", (sum) => `${short(sum)} records`) },
  { id: "connections", title: "Connections", kind: "stack", format: short, least: 4, steps: WHOLE,
    lines: [{ name: "connections", label: "connections" }],
    value: (store) => latest(store, "connections", count) },
  { id: "closed", title: "Closed", kind: "bars", format: count, labels: "closed", least: 4, steps: WHOLE,
    value: (store) => happened(store, "closed") },
  { id: "rejected", title: "Rejected", kind: "bars", format: count, labels: "rejected", least: 4, steps: WHOLE,
    value: (store) => happened(store, "rejected") },
  { id: "replays", title: "Replays and scans", kind: "lines", format: short, least: 4, steps: WHOLE,
    lines: [{ name: "replays", label: "replays" }, { name: "scans", label: "scans" }],
    value: (store) => `${latest(store, "replays", count)} under way` },
  { id: "cpu", title: "CPU", kind: "stack", format: percent, least: 100,
    lines: [{ name: "cpu_percent", label: "of its limit" }],
    value: (store) => latest(store, "cpu_percent", percent) },
  { id: "memory", title: "Memory", kind: "stack", format: bytes, least: 1 << 24, steps: MIBS,
    lines: [{ name: "memory_bytes", label: "in use" }],
    value: (store) => latest(store, "memory_bytes", bytes) },
  { id: "loop", title: "Event loop delay", kind: "lines", format: millis, least: 5,
    lines: [{ name: "loop_delay_max_ms", label: "worst" }, { name: "loop_delay_mean_ms", label: "mean" }],
    value: (store) => latest(store, "loop_delay_max_ms", millis) },
];

/** @param {string} name of a custom property */
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** @param {number} index */
export function lineColour(index) {
  return colour(`--c${(index % 8) + 1}`);
}

class Chart {
  #spec;
  #plot;
  #legend;
  #value;
  /** @type {uPlot | null} */
  #chart = null;
  /** @type {Line[]} */
  #lines = [];
  /** @type {Store} */
  #store;
  /** @type {(number | null)[][]} the values of the tooltip, not stacked */
  #raw = [];

  /** @param {Spec} spec @param {HTMLElement} parent @param {Store} store */
  constructor(spec, parent, store) {
    this.#spec = spec;
    this.#store = store;
    this.#value = el("span", { class: "value" });
    this.#plot = el("div", { class: "plot" });
    this.#legend = el("div", { class: "legend", "aria-hidden": "true" });
    const card = el("article", { class: "card chart", data: { chart: spec.id } },
      el("h2", {}, el("span", {}, spec.title), this.#value), this.#plot, this.#legend);
    parent.append(card);
    new ResizeObserver(() => this.#resize()).observe(this.#plot);
  }

  /** Redraw the chart after a change of colours. */
  reset() {
    this.#chart?.destroy();
    this.#chart = null;
  }

  draw() {
    setText(this.#value, this.#spec.value(this.#store));
    const lines = this.#spec.lines
      ?? this.#store.labels(/** @type {string} */ (this.#spec.labels)).map((label) => ({ name: `${this.#spec.labels}:${label}`, label }));
    if (lines.map(({ name }) => name).join() !== this.#lines.map(({ name }) => name).join()) this.reset();
    this.#lines = lines;
    const data = this.#data();
    if (this.#chart) this.#chart.setData(data, true);
    else if (this.#plot.clientWidth) this.#make(data);
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.#plot;
    if (!width) return;
    if (this.#chart) {
      this.#chart.setSize({ width, height });
      this.#drawLegend();
    } else if (this.#store.times.length) this.draw();
  }

  /** @returns {any} */
  #data() {
    let times = this.#store.times;
    let columns = this.#lines.map(({ name }) => this.#store.values(name));
    if (this.#spec.kind === "bars") [times, columns] = inBars(times, columns);
    this.#raw = columns;
    // A column without a line keeps an empty chart's axis.
    if (!columns.length) return [times, times.map(() => null)];
    return [times, ...(this.#spec.kind === "lines" ? columns : stacked(columns))];
  }

  /** @param {any} data */
  #make(data) {
    const { kind, format, steps, least = 1 } = this.#spec;
    const [grid, muted] = [colour("--grid"), colour("--muted")];
    const single = this.#lines.length <= 1;
    const series = (this.#lines.length ? this.#lines : [{ label: "" }]).map(({ label }, index) => ({
      label,
      stroke: lineColour(index),
      width: kind === "bars" ? 0 : 1.5,
      fill: kind === "lines" ? undefined : lineColour(index) + (kind === "bars" ? "" : single ? "22" : "cc"),
      points: { show: false },
      paths: kind === "bars" ? uPlot.paths.bars?.({ size: [0.75, 20] }) : undefined,
    }));
    const axis = { stroke: muted, font: "11px Arial, sans-serif", grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    const { clientWidth: width, clientHeight: height } = this.#plot;
    this.#chart = new uPlot({
      width, height,
      padding: [8, 16, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: "odin" } },
      scales: {
        x: { time: true, range: () => this.#store.window() },
        y: { range: (_, __, max) => [0, Math.max(least, max * 1.1)] },
      },
      axes: [
        { ...axis, size: 22, space: 70, values: (_, ticks) => ticks.map((tick) => clock(tick).slice(0, ticks[1] % 60 ? 8 : 5)) },
        { ...axis, size: 52, space: 28, ...(steps ? { incrs: steps } : {}), values: (_, ticks) => ticks.map(format) },
      ],
      series: [{}, ...series],
      hooks: { draw: [(chart) => this.#drawRestarts(chart)], setCursor: [(chart) => this.#tip(chart)] },
    }, data, this.#plot);
    this.#drawLegend();
  }

  /** The names that fit into one line, and the number of the remaining ones. */
  #drawLegend() {
    const lines = this.#lines.length > 1 ? this.#lines : [];
    const marks = distinct(lines.map(({ label }) => label)).map((label, index) => {
      const mark = el("i");
      mark.style.background = lineColour(index);
      return el("span", { title: lines[index].label }, mark, label);
    });
    const legend = this.#legend;
    legend.replaceChildren(...marks);
    for (let shown = marks.length - 1; shown > 0 && legend.scrollHeight > legend.clientHeight; shown--) {
      legend.replaceChildren(...marks.slice(0, shown), el("span", {}, `+${marks.length - shown}`));
    }
  }

  /** @param {uPlot} chart */
  #drawRestarts(chart) {
    const { ctx, bbox } = chart;
    ctx.save();
    ctx.strokeStyle = colour("--muted");
    ctx.setLineDash([4, 4]);
    for (const time of this.#store.restarts) {
      const x = Math.round(chart.valToPos(time, "x", true));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  /** @param {uPlot} chart */
  #tip(chart) {
    const { idx, left, top } = chart.cursor;
    // The other charts only follow the cursor.
    if (!this.#plot.matches(":hover")) return;
    if (idx === null || idx === undefined || left === undefined || left < 0 || top === undefined) return hideTip();
    const rows = this.#lines.map(({ label }, index) => ({ label, index, value: this.#raw[index]?.[idx] ?? null }));
    const shown = rows.filter(({ value }) => value !== null && (rows.length <= 2 || value !== 0));
    const at = this.#plot.getBoundingClientRect();
    showTip(chart.data[0][idx], shown.map(({ label, index, value }) => ({
      label, colour: lineColour(index), value: this.#spec.format(/** @type {number} */ (value)),
    })), at.left + left + 60, at.top + top);
  }
}

const tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });

function hideTip() {
  tip.hidden = true;
}

/** @param {number} time @param {{ label: string, colour: string, value: string }[]} rows @param {number} x @param {number} y */
function showTip(time, rows, x, y) {
  tip.hidden = false;
  const lines = rows.map(({ label, colour: shade, value }) => {
    const mark = el("span", { class: "swatch" });
    mark.style.background = shade;
    return el("tr", {}, el("td", {}, mark, label), el("td", {}, value));
  });
  tip.replaceChildren(el("div", { class: "muted" }, clock(time)), el("table", {}, el("tbody", {}, ...lines)));
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 14 + width > innerWidth ? x - width - 14 : x + 14;
  const top = Math.min(y, innerHeight - height - 8);
  tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
}

/**
 * Returns stacked columns: each value is added to those of the lines below.
 * @param {(number | null)[][]} columns
 */
function stacked(columns) {
  const sums = columns.map((column) => [...column]);
  for (let index = sums.length - 2; index >= 0; index--) {
    sums[index] = sums[index].map((value, place) => {
      const below = sums[index + 1][place];
      return value === null && below === null ? null : (value ?? 0) + (below ?? 0);
    });
  }
  return sums;
}

/**
 * Returns the sums of each bar's seconds.
 * @param {number[]} times @param {(number | null)[][]} columns
 * @returns {[number[], (number | null)[][]]}
 */
function inBars(times, columns) {
  if (!times.length) return [times, columns];
  const end = /** @type {number} */ (times.at(-1));
  const first = Math.floor((end - WINDOW_SECONDS) / BAR_SECONDS) + 1;
  const bins = Math.floor(end / BAR_SECONDS) - first + 1;
  const places = times.map((time) => Math.floor(time / BAR_SECONDS) - first);
  const sums = columns.map((column) => {
    const sum = Array(bins).fill(0);
    column.forEach((value, index) => { if (places[index] >= 0) sum[places[index]] += value ?? 0; });
    return sum;
  });
  const middles = Array.from({ length: bins }, (_, bin) => Math.min(end, (first + bin + 0.5) * BAR_SECONDS));
  return [middles, sums];
}

export class Charts {
  #charts;

  /** @param {Store} store */
  constructor(store) {
    const parent = byId("charts");
    document.body.append(tip);
    parent.addEventListener("mouseleave", hideTip);
    this.#charts = SPECS.map((spec) => new Chart(spec, parent, store));
  }

  draw() {
    for (const chart of this.#charts) chart.draw();
  }

  reset() {
    for (const chart of this.#charts) chart.reset();
    this.draw();
  }
}
