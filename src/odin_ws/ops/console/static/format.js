// @ts-check
// Formats numbers for people.

const SI = ["", "k", "M", "G", "T"];
const BYTES = ["B", "KB", "MB", "GB", "TB"];

/**
 * Three digits and a unit of thousands.
 * @param {number} value
 */
export function short(value) {
  let [left, unit] = [Math.abs(value), 0];
  while (left >= 999.5 && unit < SI.length - 1) [left, unit] = [left / 1000, unit + 1];
  const digits = left >= 99.5 || Number.isInteger(left) ? 0 : left >= 9.95 ? 1 : 2;
  const text = left.toFixed(digits);
  return `${value < 0 ? "-" : ""}${text.includes(".") ? text.replace(/\.?0+$/, "") : text}${SI[unit]}`;
}

/** @param {number} value */
export function count(value) {
  return Math.round(value).toLocaleString("en-US");
}

/** @param {number} value */
export function bytes(value) {
  let [left, unit] = [value, 0];
  while (left >= 999.5 && unit < BYTES.length - 1) [left, unit] = [left / 1024, unit + 1];
  return `${unit && left < 9.95 ? left.toFixed(1) : Math.round(left)} ${BYTES[unit]}`;
}

/**
 * Milliseconds in a suitable unit.
 * @param {number} ms
 */
export function millis(ms) {
  if (ms >= 99_500) return `${Math.round(ms / 1000)} s`;
  if (ms >= 995) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms >= 9.95 || ms === 0 ? Math.round(ms) : ms.toFixed(1)} ms`;
}

/**
 * The two largest units.
 * @param {number} seconds
 */
export function duration(seconds) {
  const units = /** @type {const} */ ([["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]]);
  let left = Math.floor(seconds);
  const parts = [];
  for (const [name, size] of units) {
    const number = Math.floor(left / size);
    left -= number * size;
    if (number || parts.length) parts.push(`${number} ${name}`);
    if (parts.length === 2) break;
  }
  return parts.filter((part) => !part.startsWith("0 ")).join(" ") || "0 s";
}

/**
 * Names without the dotted parts that all of them begin and end with.
 * @param {string[]} names
 */
export function distinct(names) {
  const parts = names.map((name) => name.split("."));
  const least = Math.min(...parts.map(({ length }) => length));
  const same = (/** @type {number} */ place) => parts.every((part) => part.at(place) === parts[0].at(place));
  let [begin, end] = [0, 0];
  while (names.length > 1 && begin < least - 1 && same(begin)) begin++;
  while (names.length > 1 && end < least - 1 - begin && same(-1 - end)) end++;
  return parts.map((part) => part.slice(begin, part.length - end).join("."));
}

/**
 * The time of day.
 * @param {number} seconds since the epoch
 * @param {boolean} [precise] with tenths of a second
 */
export function clock(seconds, precise = false) {
  const date = new Date(seconds * 1000);
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return precise ? `${text}.${String(date.getMilliseconds()).padStart(3, "0")}` : text;
}
