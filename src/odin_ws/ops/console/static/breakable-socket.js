// @ts-check
// A WebSocket whose connection the page can break, to show how the client resumes.

/** A WebSocket that can be broken, and prevented from reconnecting for a while. */
export class BreakableSocket extends EventTarget {
  /** @type {BreakableSocket | null} */
  static current = null;
  static awayUntil = 0;

  /** @type {any} */ onopen = null;
  /** @type {any} */ onmessage = null;
  /** @type {any} */ onclose = null;
  /** @type {any} */ onerror = null;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #waiting;

  /** @param {string | URL} url @param {string[]} protocols */
  constructor(url, protocols) {
    super();
    BreakableSocket.current = this;
    const wait = BreakableSocket.awayUntil - Date.now();
    // Simulates a network without responses: the attempt lasts until the end of the outage.
    if (wait > 0) this.#waiting = setTimeout(() => this.#connect(url, protocols), wait);
    else this.#connect(url, protocols);
  }

  /** @param {string | URL} url @param {string[]} protocols */
  #connect(url, protocols) {
    const socket = (this.#socket = new WebSocket(url, protocols));
    socket.onopen = (event) => this.onopen?.(event);
    socket.onmessage = (event) => this.onmessage?.(event);
    socket.onclose = (event) => this.onclose?.(event);
    socket.onerror = () => {}; // a close event with details follows
  }

  /** @param {string} text */
  send(text) {
    this.#socket?.send(text);
  }

  close() {
    clearTimeout(this.#waiting);
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  /** End the connection without a close frame, as a lost network does. */
  break() {
    const { onclose } = this;
    this.close();
    onclose?.({ code: 1006, reason: "broken by the button" });
  }
}
