// Parses Server-Sent Events: section 9.2 of the HTML standard (html.spec.whatwg.org).

const LINE_END = /\r\n|\n|\r/;

/** A parser of a stream in chunks of any size; an incomplete event is never returned. */
export class EventParser {
  #decoder = new TextDecoder();
  #rest = "";
  /** @type {string[]} */
  #data = [];

  /**
   * Yields the data of the events that are complete with these bytes. Event names and ids are
   * ignored, because the data contains both.
   * @param {Uint8Array} bytes
   * @returns {Generator<string>}
   */
  *feed(bytes) {
    this.#rest += this.#decoder.decode(bytes, { stream: true });
    // A final CR may be the first half of CR LF.
    const isHalf = this.#rest.endsWith("\r");
    const lines = (isHalf ? this.#rest.slice(0, -1) : this.#rest).split(LINE_END);
    this.#rest = lines.pop() + (isHalf ? "\r" : "");
    for (const line of lines) {
      if (line.startsWith("data:")) this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line === "" && this.#data.length) {
        yield this.#data.join("\n");
        this.#data = [];
      }
    }
  }
}
