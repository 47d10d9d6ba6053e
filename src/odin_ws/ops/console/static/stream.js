// @ts-check
// The stream of events, read with fetch: EventSource cannot send a token.

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;
const TOKEN = "odin-ws ops token";

// A hidden page stops reading after this time; the server keeps the samples.
const HIDDEN_MS = 60_000;

// Timeout of a silent server, which sends every second: a lost host ends no connection.
const SILENCE_MS = 10_000;
const WATCH_MS = 1000;

/** The token, stored in this tab until the tab is closed. */
export const token = {
  /** @returns {string | null} */
  get: () => sessionStorage.getItem(TOKEN),
  /** @param {string} value */
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/**
 * @typedef {object} Handlers
 * @property {(name: string, data: any) => void} event
 * @property {(state: "connecting" | "live" | "lost" | "paused", reason?: string) => void} link
 * @property {(wrong: boolean) => Promise<string>} askToken
 */

/** Follows the stream, and connects again after each end. */
export class Stream {
  /** @type {number | null} */
  worker = null;
  #handlers;
  /** @type {AbortController | null} */
  #controller = null;
  #delay = FIRST_DELAY_MS;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #hidden;
  /** Time of the server's last bytes; `null` while the dialog for the token is open. */
  #receivedAt = /** @type {number | null} */ (null);

  /** @param {Handlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.#hidden);
      if (document.hidden) this.#hidden = setTimeout(() => this.#pause(), HIDDEN_MS);
      else if (!this.#controller) this.restart();
    });
  }

  /** Connect now. */
  restart() {
    clearTimeout(this.#timer);
    this.#controller?.abort();
    this.#controller = new AbortController();
    this.#follow(this.#controller);
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#controller?.abort();
    this.#controller = null;
    this.#handlers.link("paused");
  }

  /** @param {AbortController} controller */
  async #follow(controller) {
    this.#handlers.link("connecting");
    this.#receivedAt = Date.now();
    const watch = setInterval(() => {
      if (this.#receivedAt !== null && Date.now() - this.#receivedAt > SILENCE_MS) controller.abort(new Error("the server is silent"));
    }, WATCH_MS);
    try {
      await this.#read(controller);
    } catch (error) {
      if (controller !== this.#controller) return;
      this.#handlers.link("lost", error instanceof Error ? error.message : `${error}`);
    } finally {
      clearInterval(watch);
    }
    if (controller !== this.#controller) return;
    this.#timer = setTimeout(() => this.restart(), this.#delay * (0.5 + Math.random()));
    this.#delay = Math.min(2 * this.#delay, LONGEST_DELAY_MS);
  }

  /** @param {AbortController} controller */
  async #read({ signal }) {
    const query = new URLSearchParams({ origin: location.origin });
    if (this.worker !== null) query.set("worker", String(this.worker));
    const response = await this.#request(`/console/events?${query}`, signal);
    if (!response.ok || !response.body) throw new Error(`status ${response.status}`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    while (true) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the stream has ended");
      this.#receivedAt = Date.now();
      text += value;
      const events = text.split("\n\n");
      text = /** @type {string} */ (events.pop());
      for (const event of events) this.#dispatch(event);
    }
  }

  /** @param {string} text */
  #dispatch(text) {
    const fields = text.split("\n").map((line) => line.split(/: (.*)/s));
    const field = (/** @type {string} */ name) => fields.find(([found]) => found === name)?.[1] ?? "";
    this.#handlers.event(field("event"), JSON.parse(field("data")));
    this.#handlers.link("live");
    this.#delay = FIRST_DELAY_MS;
  }

  /**
   * @param {string} url
   * @param {AbortSignal} signal
   */
  async #request(url, signal) {
    while (true) {
      const given = token.get();
      /** @type {Record<string, string>} */
      const headers = given === null ? {} : { Authorization: `Bearer ${given}` };
      const response = await fetch(url, { headers, signal, cache: "no-store" });
      if (response.status !== 401) return response;
      token.forget();
      this.#receivedAt = null;
      token.set(await this.#handlers.askToken(given !== null));
      this.#receivedAt = Date.now();
    }
  }
}
