// @ts-check
// A subscription from the browser, by the client of clients/js, over the subscribers' port.

import { BreakableSocket } from "./breakable-socket.js";
import { ChannelInput } from "./channel-input.js";
import { byId, copy, el, fillTable, setText } from "./dom.js";
import { condition } from "./filter.js";
import { clock, count, short } from "./format.js";
import { OdinFeed } from "./odin-ws-client.js";
import { SNIPPETS } from "./snippets.js";

const MESSAGES = 200;
const EVENTS = 100;
const REFRESH_MS = 250;
const RATE_SECONDS = 5;

const newRun = () => ({
  messages: 0, replayed: 0, losses: 0, resumes: 0, connectedSince: 0, ended: false,
  lastChannels: new Map(), times: /** @type {number[]} */ ([]),
});

export class Try {
  /** @type {OdinFeed | null} */
  #feed = null;
  #run = newRun();
  #channels = new ChannelInput(() => this.#setup && this.#drawSnippet());
  /** @type {Set<string>} */
  #bundles = new Set();
  /** @type {any} */
  #setup = null;
  #paused = false;
  #snippet = "odin-ws tail";
  /** @type {any[]} */
  #pending = [];
  #tiles;
  /** @type {any} the condition of the filter */
  #where = null;

  constructor() {
    this.#tiles = ["Messages", "Per second", "Duplicates", "Gaps", "Resumed", "Replayed"].map((title) => {
      const value = el("dd", {}, "0");
      byId("try-tiles").append(el("div", {}, el("dt", {}, title), value));
      return value;
    });
    byId("try-form").onsubmit = (/** @type {Event} */ event) => {
      event.preventDefault();
      if (this.#feed) this.#stop();
      else this.#start();
    };
    byId("break").onclick = () => this.breakConnection();
    byId("pause").onclick = () => this.#setPaused(!this.#paused);
    byId("try-form").oninput = () => {
      this.#readFilter();
      this.#drawSnippet();
    };
    byId("copy").onclick = async () => {
      const done = await copy(byId("snippet").textContent, byId("snippet"));
      setText(byId("copy"), done ? "Copied" : "Selected");
      setTimeout(() => setText(byId("copy"), "Copy"), 1500);
    };
    for (const name of Object.keys(SNIPPETS)) {
      const button = el("button", { type: "button", onclick: () => { this.#snippet = name; this.#drawSnippet(); } }, name);
      byId("snippet-tabs").append(button);
    }
    setInterval(() => this.#draw(), REFRESH_MS);
  }

  /** @param {any} setup */
  setup(setup) {
    const first = this.#setup === null;
    this.#setup = setup;
    const { bundles, topics, tokens, subscribers } = setup;
    const categories = Object.values(topics);
    this.#channels.setKnown([
      "*.*", ...categories.map((category) => `*.${category}`), ...Object.keys(bundles),
      ...tokens.flatMap((/** @type {string} */ token) => [`${token}.*`, ...categories.map((category) => `${token}.${category}`)]),
    ]);
    byId("jwt-field").hidden = subscribers.auth === "none";
    byId("jwt").required = subscribers.auth !== "none";
    this.#drawOriginNote(subscribers);
    if (!first) return;
    const [category = "*"] = categories;
    const [token = "TOKEN"] = tokens;
    byId("channel").placeholder = `${token}.${category}, *.${category}, ${token}.*`;
    if (!this.#channels.chosen.length) this.#channels.add(`*.${category}`);
    const host = subscribers.host || location.hostname;
    const name = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
    byId("url").value = `${subscribers.tls ? "wss" : "ws"}://${name}:${subscribers.port}/ws`;
    byId("bundles").replaceChildren(...Object.entries(bundles).map(([bundle, members]) => el("button", {
      type: "button", "aria-pressed": "false", title: /** @type {string[]} */ (members).join(", "),
      onclick: (/** @type {Event} */ event) => this.#toggleBundle(bundle, /** @type {HTMLElement} */ (event.currentTarget)),
    }, bundle)));
    this.#drawSnippet();
  }

  /** @param {string[]} channels the busiest channels */
  suggest(channels) {
    this.#channels.suggest(channels);
  }

  breakConnection() {
    if (!this.#feed || byId("break").disabled) return;
    const seconds = Number(byId("away").value);
    BreakableSocket.awayUntil = Date.now() + 1000 * seconds;
    this.#note("warning", seconds ? `connection broken, no network for ${seconds} s` : "connection broken");
    BreakableSocket.current?.break();
  }

  // ---- the subscription

  /** @returns {Record<string, any>} */
  #subscription() {
    const chosen = byId("begin").value;
    const rate = byId("rate").valueAsNumber;
    const delivery = byId("delivery").value;
    return {
      ...(this.#channels.chosen.length ? { channels: [...this.#channels.chosen] } : {}),
      ...(this.#bundles.size ? { bundles: [...this.#bundles] } : {}),
      ...(chosen === "snapshot" ? { snapshot: true } : {}),
      ...(Number(chosen) ? { since_ms: Date.now() - 1000 * Number(chosen) } : {}),
      ...(delivery === "all" ? {} : { delivery }),
      ...(rate > 0 ? { max_rate: rate } : {}),
      ...(this.#where ? { where: this.#where } : {}),
    };
  }

  /** Read the filter; the field shows its errors. */
  #readFilter() {
    const input = byId("filter");
    try {
      this.#where = condition(input.value.trim());
      input.setCustomValidity("");
    } catch (error) {
      this.#where = null;
      input.setCustomValidity(error instanceof Error ? error.message : `${error}`);
    }
  }

  #start() {
    const typed = byId("channel").value.trim();
    if (typed) this.#channels.add(typed);
    const subscription = this.#subscription();
    if (!subscription.channels && !subscription.bundles) return this.#fail("Choose a channel, a pattern or a bundle.");
    byId("try-error").hidden = true;
    this.#run = newRun();
    this.#pending = [];
    byId("messages").replaceChildren();
    byId("events").replaceChildren();
    BreakableSocket.awayUntil = 0;
    const token = byId("jwt-field").hidden ? undefined : byId("jwt").value.trim();
    try {
      this.#feed = new OdinFeed(byId("url").value, subscription, {
        // The button breaks WebSockets, the only connections that the page may open.
        WebSocket: BreakableSocket, fallback: false, ...(token ? { token } : {}),
      });
    } catch (error) {
      return this.#fail(`${error instanceof Error ? error.message : error}`);
    }
    this.#feed.onmessage = (/** @type {any} */ message) => this.#message(message);
    this.#feed.onnotice = (/** @type {any} */ notice) => this.#notice(notice);
    setText(byId("start"), "Stop");
    byId("break").disabled = false;
    this.#state("warning", "connecting");
  }

  #stop() {
    this.#feed?.close();
    this.#feed = null;
    setText(byId("start"), "Subscribe");
    byId("break").disabled = true;
    if (!this.#run.ended) this.#state("", "not connected");
  }

  /** @param {string} text */
  #fail(text) {
    setText(byId("try-error"), text);
    byId("try-error").hidden = false;
  }

  // ---- items of the client

  /** @param {any} message */
  #message(message) {
    this.#run.messages++;
    if (message.replay) this.#run.replayed++;
    this.#run.times.push(performance.now());
    this.#pending.push({ message, at: Date.now() / 1000 });
    if (this.#pending.length > MESSAGES) this.#pending.shift();
  }

  /** @param {any} notice */
  #notice(notice) {
    switch (notice.type) {
      case "subscription_ack":
        this.#connected(`subscribed: ${count(notice.count)} ${notice.count === 1 ? "pattern" : "patterns"}`);
        this.#noteRejected(notice.rejected);
        break;
      case "resume_ack":
        this.#run.resumes++;
        if (!notice.recovered) this.#run.losses++;
        this.#connected(notice.recovered
          ? `resumed without a hole${notice.replayed ? `, ${count(notice.replayed)} replayed` : ""}`
          : `resumed, records are lost: ${notice.reason}`, notice.recovered ? "good" : "error");
        break;
      case "replay_complete":
        this.#note("good", `everything missed has come: ${count(notice.count)} messages`);
        break;
      case "replay_incomplete":
        this.#run.losses++;
        this.#note("error", `records are lost: ${notice.reason}`);
        break;
      case "disconnected":
        this.#disconnected(notice);
        break;
      case "feed":
        this.#note(notice.status === "live" ? "good" : "warning", notice.status === "lost" ? `records are lost: ${notice.reason}` : `the server's feed is ${notice.status}`);
        if (notice.status === "lost") this.#run.losses++;
        break;
      case "reconnect":
        this.#note("warning", `the server asks to come back in ${notice.data.after_ms} ms`);
        break;
      case "error":
        this.#note("error", `${notice.code}: ${notice.message}`);
        break;
    }
  }

  /** @param {string} text @param {string} [level] */
  #connected(text, level = "good") {
    this.#run.connectedSince = Date.now();
    this.#state("good", "connected");
    this.#note(level, text);
    byId("try-error").hidden = true;
  }

  /** @param {{ name: string, message: string }[]} rejected */
  #noteRejected(rejected = []) {
    for (const { name, message } of rejected) this.#note("error", `${name}: ${message}`);
  }

  /** @param {any} notice */
  #disconnected({ code, reason, retry_ms: retry }) {
    const never = !this.#run.connectedSince;
    this.#note(retry === null ? "error" : "warning", `disconnected: ${code} ${reason || "no close frame"}${retry === null ? "" : `, next attempt in ${(retry / 1000).toFixed(1)} s`}`);
    if (code === 4000) this.#run.losses++;
    if (never && code === 1006) this.#fail(this.#connectHint());
    if (retry !== null) return this.#state("warning", "reconnecting");
    this.#run.ended = true;
    this.#state("error", "ended");
    this.#fail(`${code} ${reason}`);
    this.#stop();
  }

  /** Explain a rejected handshake: a browser gives no reason. */
  #connectHint() {
    const { auth, origin_allowed: allowed } = this.#setup.subscribers;
    if (!allowed) return "The server rejects this page's origin, see above.";
    const reasons = ["the address can be reached from this browser"];
    if (auth !== "none") reasons.push("the token is valid");
    reasons.push("the address has the host name of this page, for it may connect to no other");
    return `The server did not accept the connection, and browsers do not say why. Check that ${reasons.join(", that ")}; the table of rejected connections tells the reason.`;
  }

  /** @param {any} subscribers */
  #drawOriginNote({ origin_allowed: allowed, allowed_origins: origins }) {
    const note = byId("origin-note");
    note.hidden = allowed;
    const setting = `WS_ALLOWED_ORIGINS=${[...origins, location.origin].join(",")}`;
    note.replaceChildren(
      `The subscribers' port accepts web pages of ${origins.join(", ")} only, and this page is ${location.origin}. To subscribe from here, start the server with `,
      el("code", {}, setting), ". Every page of that origin may then connect; programs other than browsers may in any case.");
  }

  // ---- display

  /** @param {string} level @param {string} text */
  #state(level, text) {
    byId("try-state").dataset.level = level;
    setText(byId("try-state"), text);
  }

  /** @param {string} level @param {string} text */
  #note(level, text) {
    const list = byId("events");
    list.prepend(el("li", { data: { level } }, el("time", {}, clock(Date.now() / 1000)), el("span", { data: { level } }, text)));
    while (list.children.length > EVENTS) list.lastElementChild.remove();
  }

  /** @param {boolean} paused */
  #setPaused(paused) {
    this.#paused = paused;
    setText(byId("pause"), paused ? "Continue" : "Pause");
  }

  #draw() {
    if (!this.#feed || document.hidden || byId("view-try").hidden) return;
    const run = this.#run;
    const begun = performance.now() - 1000 * RATE_SECONDS;
    while (run.times.length && run.times[0] < begun) run.times.shift();
    const figures = [count(run.messages), short(run.times.length / RATE_SECONDS), count(this.#feed.duplicates), count(run.losses), count(run.resumes), count(run.replayed)];
    this.#tiles.forEach((tile, index) => setText(tile, figures[index]));
    const rows = Object.entries(this.#feed.positions).flatMap(([topic, partitions]) =>
      Object.entries(/** @type {Record<string, number>} */ (partitions)).map(([partition, offset]) => ({ topic, partition, offset })));
    fillTable(byId("positions"), [
      { title: "Topic", class: "name", cell: (row) => row.topic },
      { title: "Partition", class: "number", cell: (row) => row.partition },
      { title: "Last offset", class: "number", cell: (row) => (row.offset < 0 ? "none yet" : count(row.offset)) },
    ], rows, "None yet.");
    if (!this.#paused) this.#drawMessages();
  }

  #drawMessages() {
    if (!this.#pending.length) return;
    const list = byId("messages");
    const items = this.#pending.splice(0).reverse().map(({ message, at }) => el("li", {},
      el("time", { class: message.replay ? "replay" : "", title: message.replay ? "replayed" : "" }, clock(at, true)),
      el("span", { class: "channel", title: message.channel }, el("bdi", {}, message.channel)),
      el("span", { class: "pos" }, message.pos),
      el("span", { class: "data" }, JSON.stringify(message.data))));
    list.prepend(...items);
    while (list.children.length > MESSAGES) list.lastElementChild.remove();
    setText(byId("messages-note"), `the newest ${list.children.length}`);
  }

  #drawSnippet() {
    for (const button of byId("snippet-tabs").children) {
      button.setAttribute("aria-pressed", String(button.textContent === this.#snippet));
    }
    const choice = { url: byId("url").value, subscription: this.#subscription(), needsToken: !byId("jwt-field").hidden };
    setText(byId("snippet"), SNIPPETS[this.#snippet](choice));
  }

  // ---- names

  /** @param {string} bundle @param {HTMLElement} button */
  #toggleBundle(bundle, button) {
    if (!this.#bundles.delete(bundle)) this.#bundles.add(bundle);
    button.setAttribute("aria-pressed", String(this.#bundles.has(bundle)));
    this.#drawSnippet();
  }
}
