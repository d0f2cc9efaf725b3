// --- The view of one run, and of the runs behind a number --------------------------------------------------------

/** Names and values, side by side. */
function pairs(list) {
  return element("dl", {}, list.map(([name, ...value]) => element("div", {}, element("dt", {}, breakable(name)), element("dd", {}, ...value))));
}

/** Names of settings may go on in a new line after a point or an underscore, and nowhere else. */
function breakable(name) {
  return name.split(/(?<=[._])/).flatMap((part, at) => at ? [element("wbr"), part] : [part]);
}

const textOf = (study, key, run) => study.runs.columns.find((column) => column.key === key)?.texts[run] ?? null;
const labelOf = (study, run) => textOf(study, "label", run);
const linkTo = (study, run) => element("a", { href: `#run-${study.runs.ids[run]}` }, labelOf(study, run));

/** Everything about one run. */
function runView(study, run) {
  const { runs } = study;
  const id = runs.ids[run];
  const state = textOf(study, "state", run);
  const result = runs.columns.filter((column) => column.key !== "label" && !isMissing(column.texts[run]))
    .map((column) => [column.title, column.texts[run]]);
  const settings = runs.settings.map(([key, values]) => [key, values[run]]).filter(([key, value]) => value !== null && key !== "kind");
  const needs = (runs.inputs[run] ?? []).filter((input) => input !== null);
  const used = runs.inputs.flatMap((inputs, other) => inputs.includes(run) ? [other] : []);
  const part = (title, ...content) => element("section", {}, element("h3", {}, title), ...content);
  return [
    element("h2", { tabindex: "-1" }, labelOf(study, run)),
    element("p", { class: "identity" }, "run ", element("code", {}, id)),
    runs.reason[run] && element("p", { class: "reason", "data-state": state }, `${state}: ${runs.reason[run]}`),
    part("Result", pairs(result)),
    curvesOf(study, run, part),
    pathsView(study, run, part),
    layersView(study, run, part),
    part("Settings", pairs(settings.map(([key, value]) => [key, String(value)]))),
    needs.length > 0 && part("Needs", element("ul", {}, needs.map((input) => element("li", {}, linkTo(study, input))))),
    used.length > 0 && part(`Needed by ${plural(used.length, "run")}`, someLinks(study, used)),
    runs.log[run] && part("End of the log", element("pre", { class: "scroll", tabindex: "0" }, runs.log[run])),
    part("By hand", element("pre", { class: "scroll", tabindex: "0" }, `winsign show ${id.slice(0, 12)}\nwinsign logs ${id.slice(0, 12)}`)),
  ].filter(Boolean);
}

/** The first of many, the others when they are asked for. */
function someLinks(study, runs) {
  const item = (run) => element("li", {}, linkTo(study, run));
  const list = element("ul", {}, runs.slice(0, 10).map(item));
  if (runs.length <= 10) return list;
  const rest = element("details", { ontoggle: () => rest.querySelector("ul") ?? rest.append(element("ul", {}, runs.slice(10).map(item))) },
    element("summary", {}, `${runs.length - 10} more`));
  return element("div", {}, list, rest);
}

function valuesTable(caption, columns, rows) {
  const cell = (value, at) => at === 0 ? element("th", { scope: "row", class: "number" }, value) : element("td", { class: "number" }, value);
  return element("details", {}, element("summary", {}, "Values as a table"),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      element("table", {}, element("caption", { class: "unseen" }, caption),
        element("thead", {}, element("tr", {}, columns.map((title) => element("th", { scope: "col", class: "number" }, title)))),
        element("tbody", {}, rows.map((row) => element("tr", {}, row.map(cell)))))));
}

function curvesOf(study, run, part) {
  const { curves } = study.runs;
  const at = curves.places.get(run)?.[0];
  if (at === undefined) return null;
  const of = (name) => points(curves, name, at);
  const [testError, trainError, testLoss, trainLoss] = ["test_error", "train_error", "test_loss", "train_loss"].map(of);
  const rows = testError.map(({ x }, point) => [String(x), ...[trainError, testError, trainLoss, testLoss].map((curve) => curve[point].text)]);
  return part("Training", element("div", { class: "charts" },
    chart({ title: "Error", x: "epoch", y: "%", series: [{ name: "test", points: testError }, { name: "train", points: trainError }] }),
    chart({ title: "Loss", x: "epoch", y: "nats", series: [{ name: "test", points: testLoss }, { name: "train", points: trainLoss }] })),
    valuesTable("Training by epoch", ["epoch", "train error %", "test error %", "train loss", "test loss"], rows));
}

function pathsView(study, run, part) {
  const { paths } = study.runs;
  const places = paths.places.get(run) ?? [];
  if (!places.length) return null;
  const has = (at, name) => points(paths, name, at).some((point) => point.y !== null);
  const drawable = places.filter((at) => has(at, "test_error"));
  const series = places.length === 1
    ? ["test_error", "train_error"].filter((name) => has(places[0], name)).map((name) => ({ name: name.replace("_error", ""), points: points(paths, name, places[0]) }))
    : drawable.slice(0, 100).map((at) => ({ name: `${labelOf(study, paths.a[at])} to ${labelOf(study, paths.b[at])}`, points: points(paths, "test_error", at) }));
  const end = (run) => run === null ? MISSING : linkTo(study, run);
  const drawing = series.length > 0 && chart({ title: "Error along the path", x: "t, from the second network to the first", y: "%", series });
  if (drawing && places.length > 1) drawing.classList.add("many");
  const table = places.length === 1
    ? drawable.length > 0 && valuesTable("Error along the path", ["t", "test error %"], points(paths, "test_error", places[0]).map(({ x, text }) => [String(x), text]))
    : element("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Paths of this run" },
      element("table", {}, element("caption", { class: "unseen" }, "Paths of this run"),
        element("thead", {}, element("tr", {}, ["from (t = 1)", "to (t = 0)", "barrier", "sign agreement"].map((title) => element("th", { scope: "col" }, title)))),
        element("tbody", {}, places.map((at) => element("tr", {}, element("th", { scope: "row" }, end(paths.a[at])), element("td", {}, end(paths.b[at])),
          element("td", { class: "number" }, paths.barrier[at]), element("td", { class: "number" }, paths.sign_agreement[at]))))));
  return part(places.length === 1 ? "Path" : plural(places.length, "path"), drawing || "", table || "");
}

function layersView(study, run, part) {
  const { layers } = study.runs;
  const at = layers.places.get(run)?.[0];
  if (at === undefined) return null;
  const [names, prunable] = ["names", "prunable"].map((name) => layers[name].of[layers[name].at[at]]);
  const rows = names.map((name, layer) => element("tr", {}, element("th", { scope: "row" }, name),
    element("td", { class: "number" }, String(layers.survivors[at][layer])), element("td", { class: "number" }, String(prunable[layer])),
    element("td", { class: "number" }, layers.remaining[at][layer])));
  return part("Layers", element("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "What is left of each layer" },
    element("table", {}, element("caption", { class: "unseen" }, "What is left of each layer"),
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "weight"), ["survivors", "of", "remaining"].map((title) => element("th", { scope: "col", class: "number" }, title)))),
      element("tbody", {}, rows))));
}

/** The list of runs, or of some of them. */
function runList(study, rows, title, note) {
  return {
    title, note, rows,
    columns: study.runs.columns.filter((column) => !column.is_detail),
    keys: (run) => study.runs.ids[run],
    link: (run, column) => (!column.is_key || column.key === "label") && `#run-${study.runs.ids[run]}`,
  };
}
