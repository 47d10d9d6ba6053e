// @ts-check
// The samples of the last quarter of an hour, joined over breaks of the stream and restarts.

export const WINDOW_SECONDS = 900;

// The charts of a recently started server show the shortest of these times that has all samples.
const YOUNG_SECONDS = [60, 120, 300];

// A line is broken where samples are missing for longer than this.
const HOLE_SECONDS = 3;

/** @typedef {{ t: number[], gauges: Record<string, (number | null)[]>, counts: Record<string, number[]> }} Samples */

export class Store {
  /** @type {number[]} */
  times = [];
  /** @type {Map<string, (number | null)[]>} */
  series = new Map();
  /** @type {Set<string>} */
  counts = new Set();
  /** @type {number[]} the times of the server's restarts */
  restarts = [];
  /** True if the newest sample is up to date. */
  live = true;
  /** @type {number | null} */
  #started = null;

  /** Delete all samples, before those of another worker. */
  clear() {
    [this.times, this.series, this.counts, this.restarts] = [[], new Map(), new Set(), []];
    this.#started = null;
  }

  /**
   * Store the start time of the server that sends the samples.
   * @param {number} started epoch seconds
   */
  begin(started) {
    if (this.#started !== null && Math.abs(started - this.#started) > 2) this.restarts.push(started);
    this.#started = started;
  }

  /** @param {Samples} samples */
  add({ t, gauges, counts }) {
    if (!t.length) return;
    this.#cut(t[0]);
    const last = this.times.at(-1);
    if (last !== undefined && t[0] - last > HOLE_SECONDS) this.#push(last + 1, {}, 0);
    for (const name of Object.keys(counts)) this.counts.add(name);
    for (const name of [...Object.keys(gauges), ...Object.keys(counts)]) {
      if (!this.series.has(name)) {
        this.series.set(name, Array(this.times.length).fill(this.counts.has(name) ? 0 : null));
      }
    }
    t.forEach((time, index) => this.#push(time, { ...gauges, ...counts }, index));
    this.#trim();
  }

  /** @param {string} prefix @returns {string[]} labels of the series `prefix:label` */
  labels(prefix) {
    const names = [...this.series.keys()].filter((name) => name.startsWith(`${prefix}:`));
    return names.map((name) => name.slice(prefix.length + 1)).sort();
  }

  /** @param {string} name */
  values(name) {
    return this.series.get(name) ?? Array(this.times.length).fill(null);
  }

  /** @param {string} name @returns {number | null} `null`: unknown, or the server does not answer */
  latest(name) {
    return this.live ? this.series.get(name)?.at(-1) ?? null : null;
  }

  /** @param {string} prefix @returns {number | null} the sum of the newest values of the series `prefix:label` */
  latestSum(prefix) {
    const values = this.labels(prefix).map((label) => this.latest(`${prefix}:${label}`));
    return values.reduce((sum, value) => (value === null ? sum : (sum ?? 0) + value), null);
  }

  /** @returns {[first: number, last: number]} the times shown by the charts */
  window() {
    const last = this.times.at(-1) ?? Date.now() / 1000;
    const age = last - (this.times[0] ?? last);
    return [last - (YOUNG_SECONDS.find((seconds) => seconds >= age) ?? WINDOW_SECONDS), last];
  }

  /** @param {string} name @returns {number} */
  sum(name) {
    return (this.series.get(name) ?? []).reduce((/** @type {number} */ sum, value) => sum + (value ?? 0), 0);
  }

  /**
   * Delete the samples from `time` on: the server sends them again.
   * @param {number} time
   */
  #cut(time) {
    let length = this.times.length;
    while (length && this.times[length - 1] >= time) length--;
    this.times.length = length;
    for (const values of this.series.values()) values.length = length;
  }

  /** @param {number} time @param {Record<string, (number | null)[]>} columns @param {number} index */
  #push(time, columns, index) {
    this.times.push(time);
    for (const [name, values] of this.series) {
      values.push(columns[name]?.[index] ?? (this.counts.has(name) ? 0 : null));
    }
  }

  #trim() {
    const first = /** @type {number} */ (this.times.at(-1)) - WINDOW_SECONDS;
    const old = this.times.findIndex((time) => time > first);
    if (old <= 0) return;
    this.times.splice(0, old);
    for (const values of this.series.values()) values.splice(0, old);
    this.restarts = this.restarts.filter((time) => time > first);
  }
}
