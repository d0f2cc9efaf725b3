// --- Figures, and small charts of one run ------------------------------------------------------------------------

const tip = document.getElementById("tip");

function showTip(lines, box) {
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const gap = 8;
  const left = Math.min(Math.max(gap, box.left + box.width / 2 - width / 2), innerWidth - width - gap);
  const above = box.top - height - gap;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${(above > 0 ? above : box.bottom + gap) + scrollY}px`;
}

function hideTip() {
  tip.hidden = true;
}

/** A figure of the report: its picture, its values one by one, and the same values as a table. */
class Figure {
  constructor(file) {
    this.file = file;
    this.picture = element("div", { class: "picture scroll" });
    // For those who do not see the picture: it has its title and caption in itself.
    this.caption = element("figcaption", { class: "unseen" });
    this.table = element("div");
    this.values = element("details", { ontoggle: () => this.list() }, element("summary", {}, "Values as a table"), this.table);
    this.element = element("figure", { id: `figure-${file.replace(/\.svg$/, "")}` }, this.caption, this.picture, this.values);
    const value = (event) => event.target.closest?.("[data-value]");
    this.picture.addEventListener("pointerover", (event) => this.point(value(event)));
    this.picture.addEventListener("pointerleave", hideTip);
    this.picture.addEventListener("focusin", (event) => this.point(value(event)));
    this.picture.addEventListener("focusout", hideTip);
    this.picture.addEventListener("click", (event) => this.open(value(event), event.pointerType));
    this.picture.addEventListener("keydown", (event) => this.key(event));
  }

  update({ title, caption, svg }) {
    if (svg === this.svg && caption === this.captionText) return;
    Object.assign(this, { svg, captionText: caption, title });
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    const picture = document.importNode(parsed, true);
    this.rename(picture);
    this.fit(picture, title);
    this.caption.replaceChildren(element("h3", {}, title), element("p", { class: "note" }, caption));
    this.find(picture);
    this.picture.replaceChildren(picture);
    this.values.hidden = !this.found.length;
    this.listed = false;
    this.list();
  }

  /** Names within a picture are its own: several pictures share the page. */
  rename(picture) {
    const prefix = `${this.file.replace(/\W/g, "-")}-`;
    for (const named of picture.querySelectorAll("[id]")) named.id = prefix + named.id;
    for (const user of picture.querySelectorAll("[clip-path], [fill], [stroke], [mask], [filter], [href]")) {
      for (const { name, value } of [...user.attributes]) {
        if (value.includes("url(#")) user.setAttribute(name, value.replace("url(#", `url(#${prefix}`));
        else if (name === "href" && value.startsWith("#")) user.setAttribute(name, `#${prefix}${value.slice(1)}`);
      }
    }
  }

  /** As wide as there is room, but not so small that nothing can be read. */
  fit(picture, title) {
    const [width, height] = ["width", "height"].map((side) => parseFloat(picture.getAttribute(side)));
    if (!picture.hasAttribute("viewBox")) picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.style.maxWidth = `${width}px`;
    picture.style.minWidth = `${Math.min(width, 560)}px`;
    picture.setAttribute("role", "group");
    picture.setAttribute("aria-label", title);
  }

  /** Every value of the picture, reached by the arrow keys from the first. */
  find(picture) {
    this.found = [...picture.querySelectorAll(".values > *")].filter((mark) => mark.querySelector(":scope > title"));
    this.found.forEach((mark, at) => {
      const title = mark.querySelector(":scope > title");
      mark.dataset.value = at;
      mark.setAttribute("aria-label", title.textContent);
      mark.setAttribute("role", runsOf(mark).length ? "link" : "img");
      mark.setAttribute("tabindex", at === 0 ? "0" : "-1");
      // The browser's own tip would cover ours.
      title.remove();
    });
  }

  text(mark) {
    return mark.getAttribute("aria-label");
  }

  link(mark) {
    const runs = runsOf(mark);
    if (!runs.length) return null;
    return runs.length === 1 ? `#run-${runs[0]}` : `#value/${encodeURIComponent(this.file)}/${mark.dataset.value}`;
  }

  point(mark) {
    if (!mark) return hideTip();
    const runs = runsOf(mark);
    const lines = this.text(mark).split("\n").map((line) => element("div", {}, line));
    if (runs.length) lines.push(element("a", { href: this.link(mark), tabindex: "-1" }, runs.length === 1 ? "its run" : `its ${runs.length} runs`));
    showTip(lines, mark.getBoundingClientRect());
  }

  /** A finger shows the value first; the tip has the link. */
  open(mark, pointer) {
    const link = mark && this.link(mark);
    if (pointer === "touch" || !link) this.point(mark);
    else location.hash = link;
  }

  key(event) {
    const at = this.found.indexOf(event.target);
    if (at < 0) return;
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    const last = this.found.length - 1;
    const to = event.key === "Home" ? 0 : event.key === "End" ? last : at + (steps[event.key] ?? 0);
    if (event.key === "Enter") this.open(event.target);
    else if (event.key === "Escape") hideTip();
    else if (to !== at && this.found[to]) {
      this.found[at].setAttribute("tabindex", "-1");
      this.found[to].setAttribute("tabindex", "0");
      this.found[to].focus();
    } else return;
    event.preventDefault();
  }

  /** Made when it is opened: a matrix of a hundred networks has ten thousand values. */
  list() {
    if (!this.values.open || this.listed) return;
    this.listed = true;
    const rows = this.found.map((mark) => {
      const link = this.link(mark);
      const text = this.text(mark).replaceAll("\n", ", ");
      return element("tr", {}, element("td", {}, link ? element("a", { href: link }, text) : text));
    });
    this.table.replaceChildren(element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${this.title}: values` },
      element("table", {}, element("caption", { class: "unseen" }, `${this.title}: values`),
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "value"))), element("tbody", {}, rows))));
  }
}

/** The runs behind a value, by identity. */
function runsOf(mark) {
  return (mark.getAttribute("data-runs") ?? "").split(/[\s,]+/).filter(Boolean);
}

// --- small charts ---

const WIDTH = 360;
const HEIGHT = 200;
const SIDES = { left: 44, right: 10, top: 10, bottom: 34 };

const minus = (text) => text.replace(/^-/, "−");

/** A few round numbers that cover a range. */
function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((unit) => unit * power).find((step) => step >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

/** Lines over one axis: `series` are `{name, points}` with points `{x, y}`, y null where there is no number. */
function chart({ title, x, y, series }) {
  const all = series.flatMap((line) => line.points).filter((point) => point.y !== null);
  if (!all.length) return null;
  const [xs, ys] = [all.map((point) => point.x), all.map((point) => point.y)];
  const reduce = (list, of) => list.reduce((a, b) => of(a, b));
  const range = { left: reduce(xs, Math.min), right: reduce(xs, Math.max), low: Math.min(0, reduce(ys, Math.min)), high: reduce(ys, Math.max) };
  if (range.left === range.right) range.left -= 1;
  if (range.low === range.high) range.high += 1;
  const inner = { width: WIDTH - SIDES.left - SIDES.right, height: HEIGHT - SIDES.top - SIDES.bottom };
  const px = (value) => SIDES.left + (value - range.left) / (range.right - range.left) * inner.width;
  const py = (value) => SIDES.top + (range.high - value) / (range.high - range.low) * inner.height;
  const grid = ticks(range.low, range.high, 4).map((tick) => [
    drawn("line", { class: "grid", x1: SIDES.left, x2: WIDTH - SIDES.right, y1: py(tick), y2: py(tick) }),
    drawn("text", { x: SIDES.left - 6, y: py(tick) + 4, "text-anchor": "end" }, minus(String(tick))),
  ]);
  const below = ticks(range.left, range.right, 5).map((tick) =>
    drawn("text", { x: px(tick), y: HEIGHT - SIDES.bottom + 15, "text-anchor": "middle" }, minus(String(tick))));
  const lines = series.map((line, at) => {
    // A gap where there is no number.
    const parts = [[]];
    for (const point of line.points) point.y === null ? parts.push([]) : parts[parts.length - 1].push(point);
    return parts.filter((part) => part.length).map((part) => part.length === 1
      ? drawn("circle", { class: `line-${at % 4}`, cx: px(part[0].x), cy: py(part[0].y), r: 2.5 })
      : drawn("polyline", { class: `line-${at % 4}`, points: part.map((point) => `${px(point.x).toFixed(1)},${py(point.y).toFixed(1)}`).join(" ") }));
  });
  const svg = drawn("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}; its values are in the table below` },
    grid, below, lines, drawn("text", { x: SIDES.left + inner.width / 2, y: HEIGHT - 4, "text-anchor": "middle" }, x));
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const at = [(event.clientX - box.left) / box.width * WIDTH, (event.clientY - box.top) / box.height * HEIGHT];
    let best = null;
    for (const line of series) {
      for (const point of line.points.filter((point) => point.y !== null)) {
        const far = Math.hypot(px(point.x) - at[0], py(point.y) - at[1]);
        if (far < (best?.far ?? 40)) best = { far, line, point };
      }
    }
    if (!best) return hideTip();
    const box2 = { left: box.left + px(best.point.x) / WIDTH * box.width, width: 0, top: box.top + py(best.point.y) / HEIGHT * box.height };
    showTip([element("div", {}, `${best.line.name}: ${best.point.text}`), element("div", {}, `${x} ${best.point.x}`)], { ...box2, bottom: box2.top });
  };
  svg.addEventListener("pointermove", nearest);
  svg.addEventListener("pointerdown", nearest);
  svg.addEventListener("pointerleave", hideTip);
  const legend = series.length > 1 && element("p", { class: "legend" }, series.slice(0, 4).map((line, at) =>
    element("span", { class: `name-${at}` }, line.name)));
  return element("figure", { class: "small" }, element("figcaption", {}, `${title}${y ? `, ${y}` : ""}`), legend, svg);
}
