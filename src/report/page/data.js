// --- The study as it comes: the texts of its tables are made by winsign, not here ----------------------------------

/** The study that the page was written with. */
async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return read(await new Response(stream).json());
}

/** A study with its columns laid out; `raw` is what `/data` sends as well. */
function read(raw) {
  const runs = raw.runs;
  const digits = 16;
  const count = runs.ids.length / digits;
  const ids = Array.from({ length: count }, (_, at) => runs.ids.slice(at * digits, (at + 1) * digits));
  const columns = (list, rows) => list.map((column) => ({
    ...column,
    texts: laidOut(column.texts, rows),
    numbers: column.numbers && laidOut(column.numbers, rows),
  }));
  const named = (list) => list.map(([key, column]) => [key, laidOut(column, count)]);
  return {
    ...raw,
    tables: raw.tables.map((table) => ({ ...table, columns: columns(table.columns, table.runs.length) })),
    runs: {
      ...runs,
      ids,
      count,
      place: new Map(ids.map((id, at) => [id, at])),
      columns: columns(runs.columns, count),
      settings: named(runs.settings),
      inputs: laidOut(runs.inputs, count),
      reason: laidOut(runs.reason, count),
      log: laidOut(runs.log, count),
      curves: { ...runs.curves, places: grouped(runs.curves.run) },
      paths: pathsOf(runs.paths),
      layers: { ...runs.layers, places: grouped(runs.layers.run) },
    },
  };
}

function laidOut(column, count) {
  if (Array.isArray(column)) return column;
  return "all" in column ? Array(count).fill(column.all) : column.at.map((place) => column.of[place]);
}

/** The places of each value of a list. */
function grouped(list) {
  const places = new Map();
  list.forEach((value, place) => places.has(value) ? places.get(value).push(place) : places.set(value, [place]));
  return places;
}

function pathsOf(paths) {
  const count = paths.x.at.length;
  const columns = ["run", "a", "b", "barrier", "sign_agreement"].map((name) => [name, laidOut(paths[name], count)]);
  const laid = { ...paths, ...Object.fromEntries(columns) };
  return { ...laid, places: grouped(laid.run) };
}

/** The points of one curve, with the texts of their numbers: y is null where there is no number. */
function points(curves, name, at) {
  const texts = curves[name][at].split(" ");
  return curves.x.of[curves.x.at[at]].map((x, index) => {
    const text = texts[index];
    const y = Number(text.replace("−", "-"));
    return { x, y: Number.isFinite(y) ? y : null, text };
  });
}

/** Stands for a value that does not exist. */
const MISSING = "–";
const isMissing = (text) => text === MISSING || text === "";

// --- elements ---

/** An element with attributes and children. Texts become text, whatever is in them. */
function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const several = (what) => what === "matrix" ? "matrices" : `${what}s`;
const plural = (count, what) => `${count} ${count === 1 ? what : several(what)}`;
