// Chooses WebSocket, or Server-Sent Events if a proxy rejects upgrades: docs/client-js.md.

import { namesOf } from "./names.js";

/** @import { SubscriptionSet } from "./subscription-set.js" */

// WebSockets in a row without a received frame, before the first stream.
const FAILURES = 3;

// Ten minutes after the last WebSocket a reconnect tries one again: the network may be another.
const RETRY_WEBSOCKET_MS = 600_000;

/** The transport of each new connection, by the outcome of earlier connections. */
export class TransportChoice {
  /** @type {"websocket" | "sse"} of the current or the last connection */
  current = "websocket";

  #hasFallback;
  #isFixed;
  #failures = 0;
  #streamHasReceived = false;
  #webSocketAt = -Infinity;
  #isOpen = false;
  #hasReceived = false;

  /**
   * @param {boolean} hasFallback
   * @param {boolean} [isFixed] whether to use streams only
   */
  constructor(hasFallback, isFixed = false) {
    this.#hasFallback = hasFallback;
    this.#isFixed = isFixed;
  }

  /**
   * Returns the transport for a new connection.
   * @param {number} now
   * @param {boolean} [fits] whether a stream can carry all subscriptions
   */
  next(now, fits = true) {
    const isDue = now - this.#webSocketAt >= RETRY_WEBSOCKET_MS;
    const useStream = this.#streamHasReceived ? !isDue : this.#failures >= FAILURES;
    this.current = this.#isFixed || (this.#hasFallback && fits && useStream) ? "sse" : "websocket";
    if (this.current === "websocket") this.#webSocketAt = now;
    [this.#isOpen, this.#hasReceived] = [true, false];
    return this.current;
  }

  /** Notes that the connection works: a frame other than an error came. */
  noteReceived() {
    this.#hasReceived = true;
  }

  /** Notes the end of the connection, or of the attempt to connect. */
  ended() {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (this.current === "sse") {
      this.#streamHasReceived = this.#hasReceived;
      // Neither transport works, so the server may be down: the next attempt is a WebSocket.
      if (!this.#hasReceived) this.#failures = FAILURES - 1;
    } else if (this.#hasReceived) [this.#failures, this.#streamHasReceived] = [0, false];
    else this.#failures++;
  }
}

/**
 * Returns whether a stream can carry all subscriptions: the query of a stream has one set of
 * options, and commas separate its names.
 * @param {SubscriptionSet} set
 */
export function fitsStream(set) {
  const names = set.subscriptions.flatMap((subscription) => [...namesOf(subscription), ...(subscription.tokens ?? [])]);
  return set.hasSameOptions() && !names.some((name) => name.includes(","));
}

/**
 * Returns the URL of the streams of a server with this WebSocket; null for no streams.
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
    return null; // the WebSocket constructor throws the error
  }
  if (fallback !== true) return new URL(fallback, found);
  if (!found.pathname.endsWith("/ws") || found.searchParams.get("v") === "0") return null;
  found.protocol = found.protocol.replace("ws", "http");
  found.pathname = found.pathname.replace(/ws$/, "sse");
  const token = found.searchParams.get("token");
  found.search = token === null ? "" : new URLSearchParams({ token }).toString();
  return found;
}
