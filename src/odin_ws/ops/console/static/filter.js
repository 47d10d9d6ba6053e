// @ts-check
// Parses a typed filter, `data.price >= 0.3 and data.side = buy`, to the `where` of a command.

/** @type {Record<string, string>} */
const COMPARISONS = { "=": "eq", "!=": "ne", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte", "^=": "prefix" };

// `and` between comparisons, not within quotes: an even number of quotes follows.
const AND = /\s+and\s+(?=(?:[^"]*"[^"]*")*[^"]*$)/i;

/**
 * @param {string} text a condition as JSON, or comparisons joined by `and`
 * @returns {object | null} null without a text
 */
export function condition(text) {
  if (!text) return null;
  if (text.startsWith("{")) {
    try {
      return JSON.parse(text);
    } catch {
      throw new Error("This is not JSON.");
    }
  }
  const all = text.split(AND).map(comparison);
  return all.length === 1 ? all[0] : { and: all };
}

/** @param {string} text */
function comparison(text) {
  const found = /^([\w.]+)\s*(=|!=|<=|>=|<|>|\^=)\s*(.+)$/.exec(text.trim());
  if (!found) throw new Error("A filter is: a field, one of = != < <= > >= ^= (begins with), and a value.");
  const [, field, sign, value] = found;
  return { field, [COMPARISONS[sign]]: constant(value) };
}

/** @param {string} text @returns {unknown} a number, true, false, null or a text in quotes; else the text itself */
function constant(text) {
  // A number with more digits than a double is sent as a text.
  if (/^-?\d+(\.\d+)?$/.test(text) && String(Number(text)) !== text) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
