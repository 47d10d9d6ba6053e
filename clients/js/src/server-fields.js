// Checks the fields of the server's messages that become positions and names of this client.

// As an object's key, a name such as `__proto__` would reach the prototype of all objects, and one
// such as `constructor` would find something there.
const isName = (/** @type {string} */ name) => !(name in Object.prototype);
// Kafka's limit of a cluster is lower; an event id has a place for each partition below the highest.
const isPartition = (/** @type {string} */ name) => /^\d{1,6}$/.test(name);
const isOffset = (/** @type {unknown} */ value) => Number.isSafeInteger(value) && Number(value) >= -1;
const isText = (/** @type {unknown} */ value) => typeof value === "string";
const isRange = (/** @type {unknown} */ value) =>
  Array.isArray(value) && value.length === 2 && value.every(isOffset);

/**
 * Returns whether a value is an object of which all keys and values are right.
 * @param {unknown} value
 * @param {(key: string) => boolean} isKey
 * @param {(value: unknown) => boolean} isValue
 */
function isMap(value, isKey, isValue) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.entries(value).every(([key, item]) => isKey(key) && isValue(item));
}

/** @param {(value: unknown) => boolean} isValue */
const byTopic = (isValue) => (/** @type {unknown} */ value) =>
  isMap(value, isName, (partitions) => isMap(partitions, isPartition, isValue));

const isListOfText = (/** @type {unknown} */ value) => Array.isArray(value) && value.every(isText);
const isTextByName = (/** @type {unknown} */ value) => isMap(value, isName, isText);

/** @type {Record<string, (value: unknown) => boolean>} */
const CHECKS = {
  ids: isTextByName,
  positions: byTopic(isOffset),
  lost: byTopic(isRange),
  categories: isTextByName,
  subscribed: isListOfText,
  unsubscribed: isListOfText,
  // null while the number is not known: then `replay_complete` ends the replay.
  replayed: (value) => value === null || (Number.isSafeInteger(value) && Number(value) >= 0),
};

/**
 * Throws a TypeError unless these fields of an ack or a notice, where present, have their types.
 * @param {Record<string, unknown>} item
 */
export function checkFields(item) {
  for (const [field, isRight] of Object.entries(CHECKS))
    if (item[field] !== undefined && !isRight(item[field])) throw new TypeError(`${field} has another form`);
}

/**
 * Returns the partition and the offset of a message. Throws a TypeError.
 * @param {string} pos
 */
export function positionOf(pos) {
  const dash = pos.indexOf("-");
  const [partition, text] = [pos.slice(0, dash), pos.slice(dash + 1)];
  const offset = Number(text); // exact up to 2^53
  if (!isPartition(partition) || !/^\d+$/.test(text) || !Number.isSafeInteger(offset))
    throw new TypeError(`a position ${pos}`);
  return { partition, offset };
}
