// --- Tables that sort and filter ---------------------------------------------------------------------------------

/** Rows that are in the page at first, and that more are added by: ten thousand at once would make it slow. */
const ROWS = 100;
/** A column with not more values than this can be filtered by a list of them. */
const CHOICES = 24;

/** Texts that are all numbers are ordered as numbers. */
const inOrder = new Intl.Collator("en", { numeric: true }).compare;

function compare(a, b) {
  const [x, y] = [Number(a), Number(b)];
  if (typeof a === "number" && typeof b === "number") return a - b;
  // Large numbers that differ in their last digits alone are compared as texts.
  if (a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y) && x !== y) return x - y;
  // What is no number, such as NaN, comes after numbers.
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return inOrder(a, b);
}

/**
 * A table: its heading, filters and rows. `link(row, column)` gives where a cell leads, if anywhere.
 * What its user chose (order, filters, how many rows) outlives an update.
 */
class Table {
  constructor(id, { small = false } = {}) {
    this.id = id;
    this.order = null;
    this.chosen = new Map();
    this.limit = ROWS;
    this.made = null;
    this.title = element(small ? "h3" : "h2", { id: `${id}-title` });
    this.note = element("p", { class: "note" });
    this.search = element("input", { type: "search", autocomplete: "off", spellcheck: "false", oninput: () => this.refilter() });
    this.choices = element("span", { class: "choices" });
    this.clear = element("button", { type: "button", hidden: true, onclick: () => this.reset() }, "Clear filters");
    this.filters = element("div", { class: "filters", role: "search", "aria-labelledby": `${id}-title` },
      element("label", {}, "Filter ", this.search), this.choices, this.clear);
    this.count = element("p", { class: "count", role: "status" });
    this.caption = element("caption", { class: "unseen" });
    this.head = element("tr");
    this.body = element("tbody");
    const scroller = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": `${id}-title` },
      element("table", {}, this.caption, element("thead", {}, this.head), this.body));
    this.more = element("p", { class: "more" });
    this.element = element("section", { id, "aria-labelledby": `${id}-title` },
      this.title, this.note, this.filters, this.count, scroller, this.more);
  }

  /** Shows what there is now. */
  update({ title, note, columns, rows, link, keys }) {
    Object.assign(this, { columns, rows, link, keys });
    if (this.order && !columns.some((column) => column.key === this.order.column)) this.order = null;
    this.title.textContent = title;
    this.caption.textContent = `${title}. ${note ?? ""} Column headings sort.`;
    this.note.textContent = note ?? "";
    this.note.hidden = !note;
    this.filters.hidden = rows.length < 4;
    // Texts are made once; ten thousand rows are searched at every key.
    this.texts = null;
    this.makeHead();
    this.makeChoices();
    this.show();
  }

  makeHead() {
    const titles = JSON.stringify(this.columns.map((column) => column.title));
    if (titles === this.made) return;
    this.made = titles;
    this.head.replaceChildren(...this.columns.map((column) => {
      const button = element("button", { type: "button", onclick: () => this.sort(column.key) }, column.title,
        element("span", { class: "arrow", "aria-hidden": "true" }));
      return element("th", { scope: "col", class: column.is_numeric ? "number" : null }, button);
    }));
  }

  /** A list of choices for each column that tells what a row is about, and has few values. */
  makeChoices() {
    const lists = this.columns.map((column) => {
      if (!column.is_key) return null;
      const found = [...new Set(this.rows.map((row) => column.texts[row]))].sort(compare);
      const chosen = this.chosen.get(column.key);
      if (chosen !== undefined && !found.includes(chosen)) found.push(chosen);
      if (found.length < 2 || found.length > CHOICES || found.length === this.rows.length) return null;
      const option = (text) => element("option", { value: text, selected: text === chosen }, text || MISSING);
      const select = element("select", { onchange: () => this.choose(column.key, select) },
        element("option", { value: "", "data-all": true }, "all"), found.map(option));
      return element("label", { "data-column": column.key }, `${column.title} `, select);
    }).filter(Boolean);
    const same = lists.length === this.choices.children.length
      && lists.every((list, at) => list.isEqualNode(this.choices.children[at]));
    // A list that is open stays open.
    if (!same) this.choices.replaceChildren(...lists);
  }

  choose(key, select) {
    if (select.selectedOptions[0].hasAttribute("data-all")) this.chosen.delete(key);
    else this.chosen.set(key, select.value);
    this.refilter();
  }

  /** Filters by one value of one column alone. */
  only(key, text) {
    this.search.value = "";
    this.chosen = new Map([[key, text]]);
    this.makeChoices();
    for (const label of this.choices.children) {
      const select = label.querySelector("select");
      select.selectedIndex = label.dataset.column === key
        ? [...select.options].findIndex((option) => option.value === text && !option.hasAttribute("data-all")) : 0;
    }
    this.refilter();
  }

  reset() {
    this.search.value = "";
    this.chosen.clear();
    for (const select of this.choices.querySelectorAll("select")) select.selectedIndex = 0;
    this.refilter();
    this.search.focus();
  }

  refilter() {
    this.limit = ROWS;
    this.show();
  }

  sort(key) {
    const again = this.order?.column === key;
    // Up, down, and as it was.
    if (again && this.order.down) this.order = null;
    else this.order = { column: key, down: again };
    this.show();
  }

  matching() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length) {
      this.texts ??= new Map(this.rows.map((row) => {
        const cells = this.columns.map((column) => column.texts[row]);
        return [row, `${cells.join("\n")}\n${this.keys?.(row) ?? ""}`.toLowerCase()];
      }));
    }
    const chosen = this.columns.filter((column) => this.chosen.has(column.key));
    return this.rows.filter((row) =>
      chosen.every((column) => column.texts[row] === this.chosen.get(column.key))
      && words.every((word) => this.texts.get(row).includes(word)));
  }

  sorted(rows) {
    if (!this.order) return rows;
    const { texts, numbers } = this.columns.find((column) => column.key === this.order.column);
    const values = numbers ?? texts;
    const missing = (row) => values[row] === null || isMissing(texts[row]);
    const sign = this.order.down ? -1 : 1;
    // What is missing comes last in either order.
    return [...rows].sort((a, b) => (missing(a) - missing(b))
      || (missing(a) ? 0 : sign * compare(values[a], values[b])));
  }

  show() {
    const rows = this.sorted(this.matching());
    const shown = rows.slice(0, this.limit);
    const focus = this.focused();
    this.body.replaceChildren(...shown.map((row) => this.row(row)));
    this.columns.forEach((column, at) => {
      const sorted = this.order?.column === column.key ? (this.order.down ? "descending" : "ascending") : "none";
      this.head.children[at].setAttribute("aria-sort", sorted);
    });
    const filtered = rows.length < this.rows.length;
    this.clear.hidden = !(this.search.value || this.chosen.size);
    this.say(`${filtered ? `${rows.length} of ` : ""}${plural(this.rows.length, "row")}`
      + (shown.length < rows.length ? `, the first ${shown.length} shown` : ""));
    const button = (text, limit) => element("button", { type: "button", onclick: () => this.grow(limit) }, text);
    const rest = rows.length - shown.length;
    this.more.replaceChildren(...(rest ? [
      button(`Show ${Math.min(rest, 5 * ROWS)} more`, this.limit + 5 * ROWS),
      rest > 5 * ROWS ? button(`Show all ${rows.length}`, Infinity) : "",
    ] : []));
    this.more.hidden = !rest;
    if (focus) this.refocus(focus);
  }

  /** A live region speaks when its text changes, and only then. */
  say(text) {
    if (this.count.textContent !== text) this.count.textContent = text;
  }

  grow(limit) {
    const next = this.body.children.length;
    this.limit = limit;
    this.show();
    // The button may be gone: on to the first new row.
    this.body.children[next]?.querySelector("a")?.focus();
  }

  row(row) {
    let linked = false;
    return element("tr", {}, this.columns.map((column, at) => {
      const text = column.texts[row];
      const href = !isMissing(text) && this.link?.(row, column, at);
      // Many numbers of a row lead to the same runs; the keyboard stops at one of them.
      const shown = column.best?.includes(row) ? element("strong", {}, text) : text;
      const content = href ? element("a", { href, tabindex: linked ? "-1" : null }, shown) : shown;
      linked ||= Boolean(href);
      const state = column.key === "state" ? text : null;
      return element(at === 0 ? "th" : "td", {
        scope: at === 0 ? "row" : null,
        class: column.is_numeric ? "number" : null,
        "data-state": state,
      }, content);
    }));
  }

  focused() {
    const link = this.body.contains(document.activeElement) && document.activeElement.getAttribute("href");
    return link || null;
  }

  refocus(href) {
    [...this.body.querySelectorAll("a")].find((link) => link.getAttribute("href") === href)?.focus({ preventScroll: true });
  }
}
