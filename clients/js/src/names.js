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
 * Returns the subscription with the names that `keeps` accepts; null without such a name.
 * @template {Names} N
 * @param {N} subscription
 * @param {(name: string, field: string) => boolean} keeps
 * @returns {N | null}
 */
export function filterNames(subscription, keeps) {
  /** @type {Record<string, unknown>} */
  const kept = { .../** @type {object} */ (subscription) };
  for (const field of FIELDS) {
    const names = subscription[field]?.filter((name) => keeps(name, field));
    if (names?.length) kept[field] = names;
    else delete kept[field];
  }
  const found = /** @type {N} */ (kept);
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
 * @param {readonly Subscription[]} subscriptions
 * @returns {Subscription}
 */
export function merged(subscriptions) {
  /** @type {Record<string, unknown>} */
  const names = {};
  for (const field of FIELDS) {
    const all = subscriptions.flatMap((subscription) => subscription[field] ?? []);
    if (all.length) names[field] = [...new Set(all)];
  }
  const tokens = subscriptions.find((subscription) => subscription.topics ?? subscription.bundles)?.tokens;
  const { tokens: _tokens, ...options } = /** @type {Subscription} */ (subscriptions[0]);
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
