// @ts-check
// The channels of the subscription: a text field with suggestions, and the chosen names.

import { byId, el } from "./dom.js";

const SUGGESTIONS = 12;

export class ChannelInput {
  /** @type {string[]} */
  chosen = [];
  /** @type {Set<string>} the names to suggest */
  #known = new Set();
  #changed;

  /** @param {() => void} changed called after each change of `chosen` */
  constructor(changed) {
    this.#changed = changed;
    this.#listen();
  }

  /** @param {Iterable<string>} names */
  setKnown(names) {
    this.#known = new Set(names);
  }

  /** @param {string[]} channels */
  suggest(channels) {
    for (const channel of channels) this.#known.add(channel);
  }

  /** @param {string} text */
  add(text) {
    for (const name of text.split(/[\s,]+/)) if (name && !this.chosen.includes(name)) this.chosen.push(name);
    byId("channel").value = "";
    this.#draw();
  }

  #draw() {
    byId("chosen").replaceChildren(...this.chosen.map((name) => el("button", {
      type: "button", "aria-label": `take ${name} away`,
      onclick: () => { this.chosen = this.chosen.filter((other) => other !== name); this.#draw(); byId("channel").focus(); },
    }, name)));
    this.#changed();
  }

  #listen() {
    const input = byId("channel");
    const list = byId("suggestions");
    let active = -1;
    const close = () => { list.hidden = true; active = -1; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
    const mark = () => {
      [...list.children].forEach((item, index) => item.setAttribute("aria-selected", String(index === active)));
      if (active >= 0) input.setAttribute("aria-activedescendant", list.children[active].id);
      list.children[active]?.scrollIntoView({ block: "nearest" });
    };
    const open = () => {
      const found = this.#matching(input.value.trim());
      active = -1;
      list.hidden = !found.length;
      input.setAttribute("aria-expanded", String(found.length > 0));
      list.replaceChildren(...found.map((name, index) => el("li", {
        id: `suggestion-${index}`, role: "option", "aria-selected": "false",
        onmousedown: (/** @type {Event} */ event) => { event.preventDefault(); this.add(name); close(); },
      }, name)));
    };
    input.oninput = open;
    input.onfocus = open;
    input.onblur = close;
    input.onkeydown = (/** @type {KeyboardEvent} */ event) => {
      const size = list.hidden ? 0 : list.children.length;
      if (event.key === "ArrowDown" && size) active = (active + 1) % size;
      else if (event.key === "ArrowUp" && size) active = (active - 1 + size) % size;
      else if (event.key === "Enter" && (active >= 0 || input.value.trim())) {
        this.add(active >= 0 ? list.children[active].textContent : input.value);
        close();
      } else if (event.key === "Escape") return close();
      else if (event.key === "Backspace" && !input.value) { this.chosen.pop(); return this.#draw(); }
      else return;
      event.preventDefault();
      mark();
    };
  }

  /** @param {string} typed */
  #matching(typed) {
    const text = typed.toLowerCase();
    const found = [...this.#known].filter((name) => !this.chosen.includes(name) && name.toLowerCase().includes(text));
    const rank = (/** @type {string} */ name) => (name.toLowerCase().startsWith(text) ? 0 : 1);
    return found.sort((first, second) => rank(first) - rank(second)).slice(0, SUGGESTIONS);
  }
}
