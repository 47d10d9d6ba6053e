// WebSocket, or Server-Sent Events where something in between refuses upgrades: docs/client-js.md.

import { namesOf } from "./names.js";

/** @import { SubscriptionSet } from "./subscription-set.js" */

// So many WebSockets in a row that brought nothing.
const FAILURES = 3;

// A page that has moved to another network gets its WebSocket back when it next reconnects.
const RETRY_WEBSOCKET_MS = 600_000;

export class TransportChoice {
  /** @type {"websocket" | "sse"} of the current connection, or of the last one */
  current = "websocket";

  #hasFallback;
  #isFixed;
  #failures = 0;
  #streamWorked = false;
  #webSocketAt = -Infinity;
  #isOpen = false;
  #worked = false;

  /**
   * @param {boolean} hasFallback
   * @param {boolean} [isFixed] whether there are only streams
   */
  constructor(hasFallback, isFixed = false) {
    this.#hasFallback = hasFallback;
    this.#isFixed = isFixed;
  }

  /**
   * Choose for a new connection.
   * @param {number} now
   * @param {boolean} [fits] whether a stream can carry what is followed
   */
  next(now, fits = true) {
    const isDue = now - this.#webSocketAt >= RETRY_WEBSOCKET_MS;
    const useStream = this.#streamWorked ? !isDue : this.#failures >= FAILURES;
    this.current = this.#isFixed || (this.#hasFallback && fits && useStream) ? "sse" : "websocket";
    if (this.current === "websocket") this.#webSocketAt = now;
    [this.#isOpen, this.#worked] = [true, false];
    return this.current;
  }

  /** The connection brings what it is for. */
  works() {
    this.#worked = true;
  }

  /** The connection has ended, or did not come about. */
  ended() {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (this.current === "sse") {
      this.#streamWorked = this.#worked;
      // Neither works: the server may be away, and a WebSocket is as good.
      if (!this.#worked) this.#failures = FAILURES - 1;
    } else if (this.#worked) [this.#failures, this.#streamWorked] = [0, false];
    else this.#failures++;
  }
}

/**
 * Whether a stream can carry what is followed: its query has one set of options, and commas between
 * names.
 * @param {SubscriptionSet} set
 */
export function fitsStream(set) {
  const names = set.subscriptions.flatMap((one) => [...namesOf(one), ...(one.tokens ?? [])]);
  return set.hasSameOptions() && !names.some((name) => name.includes(","));
}

/**
 * Where the streams are of a server with this WebSocket; null if there are none.
 * @param {string | URL} url of the WebSocket
 * @param {boolean | string | URL} fallback as in the options
 */
export function streamUrl(url, fallback) {
  if (fallback === false) return null;
  /** @type {URL} */
  let found;
  try {
    found = new URL(url, globalThis.location?.href);
  } catch {
    return null; // the WebSocket says what is wrong with it
  }
  if (fallback !== true) return new URL(fallback, found);
  if (!found.pathname.endsWith("/ws") || found.searchParams.get("v") === "0") return null;
  found.protocol = found.protocol.replace("ws", "http");
  found.pathname = found.pathname.replace(/ws$/, "sse");
  const token = found.searchParams.get("token");
  found.search = token === null ? "" : new URLSearchParams({ token }).toString();
  return found;
}
