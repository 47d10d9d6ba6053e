// Server-Sent Events: section 9.2 of the HTML standard (html.spec.whatwg.org).

const LINE_END = /\r\n|\n|\r/;

/** Parses a stream in whatever pieces it comes. An event that is not whole is never seen. */
export class EventParser {
  #decoder = new TextDecoder();
  #rest = "";
  /** @type {string[]} */
  #data = [];

  /**
   * The data of the events that are whole with these bytes. Here names and ids are of no use: both
   * are in the data.
   * @param {Uint8Array} bytes
   * @returns {Generator<string>}
   */
  *feed(bytes) {
    this.#rest += this.#decoder.decode(bytes, { stream: true });
    // A CR at the end may be half of a line end.
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
