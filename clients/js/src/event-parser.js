// Parses Server-Sent Events: section 9.2 of the HTML standard (html.spec.whatwg.org).

const LINE_END = /\r\n|\n|\r/;

// Characters of one event: as the Python client's limit of a message.
const MAX_EVENT_LENGTH = 2 ** 25;

/** A parser of a stream in chunks of any size; an incomplete event is never returned. */
export class EventParser {
  #decoder = new TextDecoder();
  /** @type {string[]} the parts of the incomplete line, so that each chunk is searched once */
  #parts = [];
  #half = "";
  /** @type {string[]} */
  #data = [];
  #length = 0;

  /**
   * Yields the data of the events that are complete with these bytes. Event names and ids are
   * ignored, because the data contains both. Throws a RangeError if an event is too long.
   * @param {Uint8Array} bytes
   * @returns {Generator<string>}
   */
  *feed(bytes) {
    const text = this.#half + this.#decoder.decode(bytes, { stream: true });
    // A final CR may be the first half of CR LF.
    this.#half = text.endsWith("\r") ? "\r" : "";
    this.#length += text.length;
    if (this.#length > MAX_EVENT_LENGTH) throw new RangeError("an event of more than 32 MiB");
    const lines = (this.#half ? text.slice(0, -1) : text).split(LINE_END);
    const rest = lines.pop() ?? "";
    if (lines.length) {
      lines[0] = this.#parts.join("") + lines[0];
      this.#parts = [];
    }
    this.#parts.push(rest);
    for (const line of lines) {
      if (line.startsWith("data:")) this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line === "") {
        this.#length = 0;
        if (this.#data.length) yield this.#data.join("\n");
        this.#data = [];
      }
    }
  }
}
