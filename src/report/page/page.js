// --- The page: its parts, where links lead, and new results ------------------------------------------------------

const byId = (id) => document.getElementById(id);
const content = byId("content");
const overview = byId("study");
const view = byId("run");
const title = document.title;
const live = document.body.dataset.live === "true";

let study = null;
/** Where the overview was scrolled to when a run was opened. */
let scrolled = 0;
/** Whether a link was followed, as against the back button. */
let clicked = false;
const tables = new Map();
const figures = new Map();
const parts = Object.fromEntries(["progress", "statements", "notices", "settings", "figures"].map((id) =>
  [id, element("section", { id, "aria-labelledby": `${id}-title` })]));
/** The runs behind a number that is looked at. */
let behind = null;

// --- the overview ---

const STATES = ["done", "running", "queued", "failed", "blocked", "pending"];

function showProgress() {
  const { states } = study;
  const shares = STATES.filter((state) => states[state] > 0).map((state) => {
    const share = element("span", { "data-state": state });
    share.style.flexGrow = states[state];
    return share;
  });
  const link = (count, state) => count ? element("a", { href: `#runs/${state}` }, String(count)) : "0";
  const texts = (key) => study.runs.columns.find((column) => column.key === key).texts;
  const [kinds, stateOf] = [texts("settings_kind"), texts("state")];
  const counts = new Map();
  kinds.forEach((kind, run) => {
    const key = `${kind} ${stateOf[run]}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  });
  const shown = STATES.filter((state) => states[state] > 0);
  const names = [...new Set(kinds)];
  const row = (name, count) => element("tr", {}, element("th", { scope: "row" }, name),
    element("td", { class: "number" }, String(shown.reduce((sum, state) => sum + count(state), 0))),
    shown.map((state) => element("td", { class: "number", "data-state": state }, count === total ? link(count(state), state) : String(count(state) || MISSING))));
  const total = (state) => states[state];
  parts.progress.replaceChildren(
    element("h2", { id: "progress-title" }, "Progress"),
    element("p", {}, `${study.progress[0].toUpperCase()}${study.progress.slice(1)}.`),
    element("div", { class: "bar", role: "img", "aria-label": study.progress }, shares),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "progress-title" }, element("table", { class: "narrow" },
      element("caption", { class: "unseen" }, "Runs by kind and state"),
      element("thead", {}, element("tr", {}, ["kind", "runs", ...shown].map((name, at) => element("th", { scope: "col", class: at ? "number" : null }, name)))),
      element("tbody", {}, names.map((kind) => row(several(kind), (state) => counts.get(`${kind} ${state}`) ?? 0)), row("all", total)))),
    missing());
}

/** Which rows of the tables are not whole yet. */
function missing() {
  const rows = study.tables.flatMap((table) =>
    table.unfinished.map(([row, text]) => element("li", {}, element("a", { href: rowLink(table, row) }, rowName(table, row)), `: ${text}`)));
  if (!rows.length) return "";
  return element("details", { open: rows.length <= 12 }, element("summary", {}, `What is missing: ${plural(rows.length, "row")} of tables`), element("ul", {}, rows));
}

function showStatements() {
  parts.statements.hidden = !study.statements.length;
  parts.statements.replaceChildren(
    element("h2", { id: "statements-title" }, "Differences in words"),
    element("ul", {}, study.statements.map((statement) => element("li", {}, statement))));
}

function showNotices() {
  const { notices } = study;
  parts.notices.hidden = !notices.length;
  parts.notices.replaceChildren(
    element("h2", { id: "notices-title" }, "Warnings"),
    element("ul", {}, notices.map(({ message, runs }) => element("li", {}, message, runs.length > 0 && someLinks(study, runs)))));
}

function showSettings() {
  const { axes, common, kinds } = study.settings;
  const open = parts.settings.querySelector("details")?.open;
  parts.settings.replaceChildren(
    element("h2", { id: "settings-title" }, "Settings"),
    axes.length > 0 && element("h3", {}, "Axes") || "",
    pairs(axes),
    element("details", { open }, element("summary", {}, "All settings"),
      element("h3", {}, "The same in all runs that have them"), pairs(common),
      kinds.filter((kind) => kind.settings.length).map((kind) => [
        element("h3", {}, `Of ${plural(kind.runs, kind.kind)}`), pairs(kind.settings)])));
}

function showFigures() {
  parts.figures.hidden = !study.figures.length;
  if (!parts.figures.firstChild) parts.figures.append(element("h2", { id: "figures-title" }, "Figures"));
  const files = study.figures.map((figure) => figure.file);
  for (const [file, figure] of figures) if (!files.includes(file)) (figure.element.remove(), figures.delete(file));
  for (const figure of study.figures) {
    if (!figures.has(figure.file)) figures.set(figure.file, new Figure(figure.file));
    figures.get(figure.file).update(figure);
  }
  arrange(parts.figures, [parts.figures.firstChild, ...files.map((file) => figures.get(file).element)]);
}

/** Puts elements in order without touching those that are in place. */
function arrange(parent, wanted) {
  wanted.forEach((child, at) => parent.children[at] === child || parent.insertBefore(child, parent.children[at] ?? null));
  while (parent.children.length > wanted.length) parent.lastChild.remove();
}

function showTables() {
  const specs = study.tables.map((table) => [table.id, {
    title: table.title, note: table.note, columns: table.columns, rows: table.runs.map((_, row) => row),
    link: (row, column, at) => (table.id === "failures" ? at === 0 : !column.is_key) && table.runs[row].length > 0 && rowLink(table, row),
  }]);
  const every = Array.from({ length: study.runs.count }, (_, run) => run);
  specs.push(["runs", runList(study, every, "All runs", study.runs.note)]);
  const ids = specs.map(([id]) => id);
  for (const id of tables.keys()) if (!ids.includes(id)) tables.delete(id);
  for (const [id, spec] of specs) {
    if (!tables.has(id)) tables.set(id, new Table(id));
    tables.get(id).update(spec);
  }
  const shown = (names) => names.flatMap((id) => tables.has(id) ? [tables.get(id).element] : []);
  arrange(overview, [parts.progress, parts.statements, parts.notices, ...shown(["failures"]), parts.settings, parts.figures,
    ...shown(ids.filter((id) => id !== "failures"))]);
}

function showContents() {
  const sections = [...overview.children].filter((part) => !part.hidden);
  const links = sections.map((part) => element("a", { href: `#${part.id}` }, part.querySelector("h2").textContent));
  const nav = byId("contents");
  if (nav.textContent !== links.map((link) => link.textContent).join("")) nav.replaceChildren(...links);
}

// --- where links lead ---

const keyColumns = (table) => table.columns.filter((column) => column.is_key);
const rowKey = (table, row) => keyColumns(table).map((column) => column.texts[row]).join("·");
const rowName = (table, row) => keyColumns(table).filter((column) => !isMissing(column.texts[row]))
  .map((column) => column.key === "level" ? `level ${column.texts[row]}` : column.texts[row]).join(", ");

function rowLink(table, row) {
  const runs = table.runs[row];
  return runs.length === 1 ? `#run-${study.runs.ids[runs[0]]}` : `#of/${table.id}/${encodeURIComponent(rowKey(table, row))}`;
}

/** What an address shows: a run, the runs behind a number, or the overview. */
function target(hash) {
  const run = study.runs.place.get(/^#run-([0-9a-f]{16})$/.exec(hash)?.[1]);
  if (run !== undefined) return { kind: "run", run };
  const [, what, id, key] = /^#(of|value)\/([^/]+)\/(.+)$/.exec(hash) ?? [];
  if (what === "of") {
    const table = study.tables.find((table) => table.id === id);
    const row = table?.runs.findIndex((_, row) => rowKey(table, row) === decoded(key)) ?? -1;
    if (row >= 0) return { kind: "runs", runs: table.runs[row], title: `${table.title}: ${rowName(table, row)}`, cells: rowCells(table, row) };
  }
  if (what === "value") {
    const figure = figures.get(decoded(id));
    const mark = figure?.found[Number(key)];
    const runs = mark && runsOf(mark).flatMap((id) => study.runs.place.get(id) ?? []);
    if (runs) return { kind: "runs", runs, title: `${figure.title}: ${figure.text(mark).replaceAll("\n", ", ")}`, cells: [] };
  }
  return { kind: "overview", unknown: /^#(run-|of\/|value\/)/.test(hash), section: hash.slice(1) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function rowCells(table, row) {
  return table.columns.filter((column) => !column.is_key && !isMissing(column.texts[row])).map((column) => [column.title, column.texts[row]]);
}

/** Shows what the address names. `moved`: a link was followed, or the back button was used; otherwise there are new results. */
function show(moved) {
  const found = target(location.hash);
  hideTip();
  const problem = byId("problem");
  problem.hidden = !found.unknown;
  problem.textContent = found.unknown ? "This report knows no such run; here is all it has." : "";
  const isOverview = found.kind === "overview";
  const wasHidden = overview.hidden;
  overview.hidden = !isOverview;
  view.hidden = isOverview;
  if (isOverview) {
    document.title = title;
    view.replaceChildren();
    behind = null;
    if (moved) toSection(found.section, wasHidden);
    return;
  }
  const back = element("p", { class: "back" }, element("a", { href: "#progress" }, "Back to the study"));
  if (found.kind === "run") {
    const shown = runView(study, found.run);
    document.title = `${labelOf(study, found.run)} – ${title}`;
    // What did not change stays, with all that is open in it.
    const signature = `${study.runs.ids[found.run]} ${shown.map((part) => part.textContent).join("\n")}`;
    if (signature !== view.dataset.signature || moved) view.replaceChildren(back, ...shown);
    view.dataset.signature = signature;
    behind = null;
  } else {
    document.title = `${found.title} – ${title}`;
    if (!behind || moved) behind = new Table("behind", { small: true });
    const list = runList(study, found.runs, plural(found.runs.length, "run"), "What stands behind this number, and what is planned for it.");
    // The heading shows what they have in common.
    const differs = (column) => new Set(found.runs.map((run) => column.texts[run])).size > 1;
    list.columns = list.columns.filter((column) => ["label", "state"].includes(column.key) || !column.is_key || differs(column));
    behind.update(list);
    view.dataset.signature = "";
    view.replaceChildren(back, element("h2", { tabindex: "-1" }, found.title), pairs(found.cells), behind.element);
  }
  if (moved) {
    scrollTo(0, 0);
    view.querySelector("h2").focus({ preventScroll: true });
  }
}

/** To the part that a link names; else, as after the back button, to where the overview was left. */
function toSection(section, cameBack) {
  const [id, state] = section.split("/");
  const followed = clicked && !(cameBack && id === "progress");
  if (followed && id === "runs" && state) tables.get("runs").only("state", state);
  const part = id && byId(id);
  if (part && overview.contains(part) && (followed || !cameBack)) part.scrollIntoView();
  else if (cameBack) scrollTo(0, scrolled);
}

// --- start, and new results ---

function update(fresh) {
  study = fresh;
  byId("name").textContent = study.name;
  byId("made").textContent = `Made by winsign ${study.winsign}. ${live ? "" : "This file is complete: it loads nothing from anywhere."}`;
  showProgress();
  showStatements();
  showNotices();
  showSettings();
  showFigures();
  showTables();
  showContents();
}

const EVERY = 3000;
let etag = null;

async function poll() {
  const status = byId("live-status");
  try {
    const response = await fetch("data", { headers: etag ? { "If-None-Match": etag } : {}, cache: "no-store" });
    if (response.status === 200) {
      const fresh = read(await response.json());
      etag = response.headers.get("ETag");
      stayingPut(() => {
        update(fresh);
        show(false);
      });
    }
    const isFresh = response.status === 200 || response.status === 304;
    status.dataset.state = isFresh ? "live" : "gone";
    setText(status, isFresh ? `Live: ${study.progress}` : `Not up to date: ${await response.text()}`);
  } catch {
    status.dataset.state = "gone";
    setText(status, "winsign serve does not answer; these are the last results it sent.");
  }
  setTimeout(poll, document.hidden ? 4 * EVERY : EVERY);
}

/** Changes the page while what is read stays where it is on the screen, though something above it has grown. */
function stayingPut(change) {
  const parts = [...overview.querySelectorAll(":scope > section:not(#figures), figure")];
  const read = scrollY > 0 && !overview.hidden && parts.find((part) => part.getBoundingClientRect().bottom > 0);
  const top = read && read.getBoundingClientRect().top;
  const before = scrollY;
  change();
  if (read && read.isConnected) scrollBy(0, read.getBoundingClientRect().top - top);
  else if (scrollY !== before) scrollTo(0, before);
}

function setText(status, text) {
  if (status.textContent !== text) status.textContent = text;
}

async function start() {
  const problem = byId("problem");
  try {
    update(await unpack(byId("data").textContent));
  } catch (error) {
    problem.hidden = false;
    problem.textContent = `The study in this page cannot be read: ${error.message}. It needs a browser of 2023 or later, and the whole file.`;
    return;
  }
  history.scrollRestoration = "manual";
  addEventListener("hashchange", () => {
    show(true);
    clicked = false;
  });
  addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (link?.classList.contains("skip")) {
      event.preventDefault();
      content.focus();
    } else if (link) {
      clicked = true;
      // A link to where one is already is followed too.
      if (link.getAttribute("href") === location.hash) show(true);
    }
  });
  addEventListener("scroll", () => {
    if (!overview.hidden) scrolled = scrollY;
  }, { passive: true });
  addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
  show(Boolean(location.hash));
  document.documentElement.dataset.ready = "true";
  if (live) poll();
}

start();
