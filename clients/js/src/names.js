// The names and options of subscriptions: filter, difference, merge.

/** @import { Names, Subscription } from "../types/index.d.ts" */

const FIELDS = /** @type {const} */ (["channels", "topics", "bundles"]);

/**
 * Returns all names of a subscription.
 * @param {Names} subscription
 */
export function namesOf({ channels = [], topics = [], bundles = [] }) {
  return [...channels, ...topics, ...bundles];
}

/**
 * Returns the subscription with the names that pass; null if no name passes.
 * @template {Names} N
 * @param {N} subscription
 * @param {(name: string, field: string) => boolean} passes
 * @returns {N | null}
 */
export function filterNames(subscription, passes) {
  /** @type {Record<string, unknown>} */
  const left = { .../** @type {object} */ (subscription) };
  for (const field of FIELDS) {
    const names = subscription[field]?.filter((name) => passes(name, field));
    if (names?.length) left[field] = names;
    else delete left[field];
  }
  const found = /** @type {N} */ (left);
  return namesOf(found).length ? found : null;
}

/**
 * Returns the subscription without the names of `other`; null if no name is left. Topics and
 * bundles are equal names only with equal tokens.
 * @template {Names} N
 * @param {N} subscription
 * @param {Names} other
 */
export function without(subscription, other) {
  const sameTokens = sorted(subscription.tokens) === sorted(other.tokens);
  return filterNames(subscription, (name, field) => {
    const ended = other[/** @type {keyof Names} */ (field)] ?? [];
    return !(ended.includes(name) && (field === "channels" || sameTokens));
  });
}

/**
 * Returns one subscription for several with equal options.
 * @param {readonly Subscription[]} several
 * @returns {Subscription}
 */
export function merged(several) {
  /** @type {Record<string, unknown>} */
  const names = {};
  for (const field of FIELDS) {
    const all = several.flatMap((one) => one[field] ?? []);
    if (all.length) names[field] = [...new Set(all)];
  }
  const tokens = several.find((one) => one.topics ?? one.bundles)?.tokens;
  const { tokens: _tokens, ...options } = /** @type {Subscription} */ (several[0]);
  return { ...options, ...names, ...(tokens ? { tokens } : {}) };
}

/**
 * Returns a key that is equal for subscriptions that one command can begin or resume.
 * @param {Subscription} subscription
 */
export function optionsOf({ max_rate, where, tokens, topics, bundles }) {
  const narrowed = topics ?? bundles ? sorted(tokens) : sorted();
  return JSON.stringify([max_rate, where, narrowed]);
}

/** @param {readonly string[]} [names] */
function sorted(names = []) {
  return JSON.stringify([...names].sort());
}
