// @ts-check
// Creates elements without markup in text: text of servers and messages is never parsed as HTML.

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [properties] of the element; `data` and `class` as in HTML, an
 *   attribute if its name has a dash, is `role` or is `for`
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name === "class") element.className = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else /** @type {any} */ (element)[name] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * @param {string} id
 * @returns {any} the element with this id, of any type
 */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * Change a text only if it differs, to avoid a new layout.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * @typedef {{ title: string, class?: string, cell: (row: any) => string | Node }} Column
 */

/**
 * Fill a table; existing cells are changed in place, so that a selection of text is kept.
 * @param {HTMLTableElement} table
 * @param {readonly Column[]} columns
 * @param {readonly any[]} rows
 * @param {string} empty the text of a table without rows
 */
export function fillTable(table, columns, rows, empty) {
  if (!table.tHead) {
    const head = columns.map(({ title, class: name }) => el("th", { class: name ?? "", scope: "col" }, title));
    table.append(el("thead", {}, el("tr", {}, ...head)), el("tbody"));
  }
  const body = table.tBodies[0];
  if (!rows.length) {
    const note = el("td", { class: "empty", colSpan: columns.length }, empty);
    if (body.textContent !== empty) body.replaceChildren(el("tr", {}, note));
    return;
  }
  if (body.querySelector(".empty")) body.replaceChildren();
  while (body.rows.length > rows.length) body.deleteRow(-1);
  while (body.rows.length < rows.length) {
    body.append(el("tr", {}, ...columns.map((column) => el("td", { class: column.class ?? "" }))));
  }
  rows.forEach((row, index) => {
    columns.forEach((column, place) => {
      const cell = body.rows[index].cells[place];
      const content = column.cell(row);
      if (typeof content === "string" && column.class === "name") {
        // A name that is too long loses its beginning (console.css): names differ at their ends.
        if (!cell.firstElementChild) cell.append(el("bdi"));
        setText(/** @type {Element} */ (cell.firstElementChild), content);
        cell.title = content;
      } else if (typeof content === "string") {
        setText(cell, content);
        if (column.class === "names") cell.title = content;
      } else cell.replaceChildren(content);
    });
  });
}

/**
 * @param {string} level good, warning or error
 * @param {string} text
 */
export function status(level, text) {
  const row = el("span", { data: { level } }, el("span", { class: "dot" }), ` ${text}`);
  row.className = "status";
  return row;
}

/**
 * Copy a text; without a clipboard (plain HTTP) select the text instead.
 * @param {string} text
 * @param {HTMLElement} shown
 * @returns {Promise<boolean>} whether it was copied
 */
export async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection()?.selectAllChildren(shown);
    return document.execCommand("copy");
  }
}
