// @ts-check
// The tables: slow clients, busy channels, rejected requests.

import { byId, fillTable, setText, status } from "./dom.js";
import { bytes, count, duration, short } from "./format.js";
import { REASONS } from "./reasons.js";

/** @import { Store } from "./store.js" */

const CLIENTS = [
  { title: "Peer", class: "name", cell: (/** @type {any} */ client) => client.peer },
  { title: "User", class: "name", cell: (/** @type {any} */ client) => client.user ?? "–" },
  { title: "Behind by", class: "number", cell: (/** @type {any} */ client) => bytes(client.backlog_bytes) },
  { title: "Oldest waits", class: "number", cell: (/** @type {any} */ client) => (client.waiting_seconds ? `${client.waiting_seconds.toFixed(1)} s` : "–") },
  { title: "Patterns", class: "number", cell: (/** @type {any} */ client) => count(client.patterns) },
  { title: "First patterns", class: "names", cell: (/** @type {any} */ client) => client.first_patterns.join(" ") || "–" },
  { title: "Delivery", cell: (/** @type {any} */ client) => delivery(client) },
  { title: "Messages", class: "number", cell: (/** @type {any} */ client) => count(client.seq) },
  { title: "Connected", class: "number", cell: (/** @type {any} */ client) => duration(client.connected_seconds) },
  { title: "Idle", class: "number", cell: (/** @type {any} */ client) => duration(client.idle_seconds) },
];

const WORKER = { title: "Worker", class: "number", cell: (/** @type {any} */ client) => String(client.worker) };

const CHANNELS = [
  { title: "Channel", class: "name", cell: (/** @type {any} */ row) => row.channel },
  { title: "Messages/s", class: "number", cell: (/** @type {any} */ row) => short(row.messages_per_second) },
  { title: "Bytes/s", class: "number", cell: (/** @type {any} */ row) => bytes(row.bytes_per_second) },
  { title: "Subscribers", class: "number", cell: (/** @type {any} */ row) => count(row.subscribers) },
];

const PATTERNS = [
  { title: "Pattern", class: "name", cell: (/** @type {any} */ row) => row.pattern },
  { title: "Subscribers", class: "number", cell: (/** @type {any} */ row) => count(row.subscribers) },
];

const WORKERS = [
  { title: "Worker", cell: (/** @type {any} */ row) => row.number },
  { title: "Status", cell: (/** @type {any} */ row) => status({ healthy: "good", degraded: "warning" }[/** @type {string} */ (row.status)] ?? "error", row.status) },
  { title: "Process", class: "number", cell: (/** @type {any} */ row) => (row.pid === null ? "–" : String(row.pid)) },
  { title: "Connections", class: "number", cell: (/** @type {any} */ row) => count(row.connections) },
  { title: "Replaced", class: "number", cell: (/** @type {any} */ row) => `${count(row.restarts)} times` },
  { title: "Up", class: "number", cell: (/** @type {any} */ row) => duration(row.uptime) },
];

const LETTERS = /** @type {Record<string, string>} */ ({
  written: "in the topic, with the reason as a header",
  dropped: "no room to wait for Kafka",
  failed: "Kafka did not take it",
});

/** @param {any} client */
function delivery(client) {
  if (client.replaying) return "replaying";
  return client.delivery === "latest" ? `latest, ${count(client.held_messages)} held` : client.delivery;
}

export class Tables {
  #store;
  /** @type {any} */
  #setup = null;

  /** @param {Store} store */
  constructor(store) {
    this.#store = store;
  }

  /** @param {any} setup */
  setup(setup) {
    this.#setup = setup;
    byId("clients").replaceChildren();
  }

  /** @param {any} tables */
  draw(tables) {
    const { clients, channels, patterns, counts } = tables;
    const { totals } = clients;
    const columns = clients.clients[0]?.worker === undefined ? CLIENTS : [WORKER, ...CLIENTS];
    setText(byId("clients-note"), `${count(totals.backlogged)} of ${count(totals.connections)} behind, by ${bytes(totals.backlog_bytes)}; closed at ${bytes(this.#setup.limits.send_queue_bytes)}`);
    fillTable(byId("clients"), columns, clients.clients, "Nobody is connected.");
    setText(byId("channels-note"), `over ${channels.seconds < 9.9 ? channels.seconds.toFixed(1) : 10} s`);
    const none = this.#setup.limits.history
      ? "No message in the last 10 s."
      : "Rates per channel are taken from the in-memory history, which WS_HISTORY_BYTES=0 switches off.";
    fillTable(byId("channels"), CHANNELS, channels.rows, none);
    fillTable(byId("patterns"), PATTERNS, patterns, "Nobody is subscribed to anything.");
    this.#drawCounts(counts);
  }

  /** @param {any} workers by number, or nothing */
  workers(workers) {
    byId("workers-card").hidden = !workers;
    if (!workers) return;
    const rows = Object.entries(workers).map(([number, worker]) => ({ number, .../** @type {any} */ (worker) }));
    fillTable(byId("workers"), WORKERS, rows, "no workers");
  }

  /** @param {Record<string, Record<string, number>>} counts */
  #drawCounts({ rejected, errors, ops, closed, skipped, dead_letters: letters }) {
    const rows = [
      ...this.#rows("connection", "rejected", rejected),
      ...this.#rows("command", "errors", errors),
      ...this.#rows("ops port", "ops", ops),
    ];
    const reason = { title: "Reason", class: "name", cell: (/** @type {any} */ row) => row.reason };
    const recent = { title: "15 min", class: "number", cell: (/** @type {any} */ row) => (row.recent === null ? "" : count(row.recent)) };
    const total = { title: "Since start", class: "number", cell: (/** @type {any} */ row) => count(row.total) };
    const what = { title: "What", cell: (/** @type {any} */ row) => row.what };
    const meaning = { title: "Meaning", class: "text", cell: (/** @type {any} */ row) => row.meaning };
    fillTable(byId("rejected"), [what, reason, recent, total, meaning], rows, "Nothing was rejected since the start.");
    fillTable(byId("closed"), [reason, recent, total, meaning], this.#rows("", "closed", closed), "No connection has ended since the start.");
    const topic = this.#setup.limits.dead_letter_topic;
    setText(byId("letters-note"), topic ? `to ${topic}` : "without KAFKA_DEAD_LETTER_TOPIC they are only counted");
    const lettersRows = topic ? Object.entries(letters).map(([result, number]) => ({ what: "dead letters", reason: result, total: number, meaning: LETTERS[result] })) : [];
    fillTable(byId("skipped"), [what, reason, total, meaning], [...this.#rows("record", "skipped", skipped), ...lettersRows], "Every record could be delivered.");
  }

  /** @param {string} what @param {string} kind @param {Record<string, number>} counts */
  #rows(what, kind, counts) {
    const found = Object.entries(counts).filter(([, total]) => total > 0);
    return found.sort(([, one], [, other]) => other - one).map(([reason, total]) => ({
      what, reason, total,
      recent: this.#store.counts.has(`${kind}:${reason}`) ? this.#store.sum(`${kind}:${reason}`) : kind === "ops" || kind === "skipped" ? null : 0,
      meaning: REASONS[kind]?.[reason] ?? "",
    }));
  }
}
