// Server-Sent Events with the interface of a WebSocket: docs/sse.md.

import { ABNORMAL, REVOKED, TOKEN_EXPIRED } from "./close-codes.js";
import { eventId } from "./event-id.js";
import { EventParser } from "./event-parser.js";

// Two and a half times the server's default interval between comments, which is 30 s.
const MAX_SILENCE_MS = 75_000;

const PONG = '{"type":"pong"}';

// Characters of a response body in the reason: a proxy's body may be a whole page.
const MAX_REASON_LENGTH = 200;

/**
 * A stream of Server-Sent Events. A subscribe or resume fetches the stream; heartbeats are answered
 * locally, and an `auth` ends the stream.
 */
export class EventSocket {
  /** @type {(() => void) | null} */
  onopen = null;
  /** @type {((event: { data: string }) => void) | null} */
  onmessage = null;
  /**
   * `retryAfter`: the Retry-After of a rejection, ms.
   * @type {((event: { code: number, reason: string, retryAfter?: number | undefined }) => void) | null}
   */
  onclose = null;
  /** @type {(() => void) | null} never called: `onclose` has the code and reason */
  onerror = null;

  #url;
  #token;
  #fetch;
  #abort = new AbortController();
  #lastReceivedAt = -Infinity;

  /**
   * @param {URL} url of the stream
   * @param {string | undefined} token
   * @param {typeof globalThis.fetch} fetchStream
   */
  constructor(url, token, fetchStream) {
    this.#url = url;
    this.#token = token;
    this.#fetch = fetchStream;
    queueMicrotask(() => this.onopen?.());
  }

  /** @param {string} text a command */
  send(text) {
    const { type, data } = JSON.parse(text);
    if (type === "subscribe" || type === "resume") this.#follow(data);
    // The stream carries no commands, so a recently received comment replaces the server's pong.
    else if (type === "heartbeat" && performance.now() - this.#lastReceivedAt < MAX_SILENCE_MS)
      this.onmessage?.({ data: PONG });
    else if (type === "auth") this.#end(TOKEN_EXPIRED, "the stream reconnects with another token");
  }

  close() {
    this.#abort.abort();
  }

  /** @param {Record<string, any>} data */
  async #follow(data) {
    const url = new URL(this.#url);
    const query = queryOf(data);
    url.search += (url.search ? "&" : "?") + query;
    const { signal } = this.#abort;
    /** @type {Record<string, string>} */
    const headers = { Accept: "text/event-stream" };
    if (this.#token !== undefined) headers["Authorization"] = `Bearer ${this.#token}`;
    try {
      const response = await this.#fetch(url, { headers, signal, cache: "no-store" });
      const type = response.headers.get("Content-Type") ?? "";
      if (response.ok && type.startsWith("text/event-stream") && response.body)
        await this.#read(response.body.getReader());
      else this.#reject(response, await response.text());
    } catch (error) {
      if (!signal.aborted) this.#end(ABNORMAL, `the stream failed: ${error}`);
    }
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
  async #read(reader) {
    const parser = new EventParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return this.#end(ABNORMAL, "the stream ended");
      this.#lastReceivedAt = performance.now();
      for (const text of parser.feed(value)) {
        if (this.#abort.signal.aborted) return;
        if (text.startsWith('{"type":"close"')) {
          const { code, reason } = JSON.parse(text);
          return this.#end(code, reason);
        }
        this.onmessage?.({ data: text });
      }
    }
  }

  /**
   * @param {Response} response
   * @param {string} text
   */
  #reject({ status, headers }, text) {
    const code = status === 401 ? TOKEN_EXPIRED : status === 403 ? REVOKED : ABNORMAL;
    // In seconds; a date is ignored. The server's own 503 is a stream with an `error`: this one is
    // of a proxy in front.
    const after = headers.get("Retry-After") ?? "";
    const retryAfter = /^\d+$/.test(after) ? 1000 * Number(after) : undefined;
    this.#end(code, `${status} ${text.trim().slice(0, MAX_REASON_LENGTH)}`, retryAfter);
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {number} [retryAfter] ms
   */
  #end(code, reason, retryAfter) {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort();
    this.onclose?.({ code, reason, retryAfter });
  }
}

/**
 * Returns the URL query for the fields of a subscribe or resume.
 * @param {Record<string, any>} data
 */
function queryOf({ positions, ids = {}, snapshot, ...fields }) {
  const query = Object.entries(fields).map(([name, value]) => {
    const values = Array.isArray(value) ? value : [value];
    const texts = values.map((value) => (typeof value === "object" ? JSON.stringify(value) : `${value}`));
    return `${name}=${texts.map(encodeURIComponent).join(",")}`;
  });
  if (snapshot) query.push("snapshot=true");
  // `positions` is true in a subscribe, and an object in a resume.
  if (typeof positions === "object") {
    const id = eventId(positions, ids, Boolean(snapshot));
    query.push(`last_event_id=${encodeURIComponent(id)}`);
  }
  return query.join("&");
}
