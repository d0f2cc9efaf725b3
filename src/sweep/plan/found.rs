//! The plan of what is in stores: for reports of runs whose sweep file nobody gives.
//!
//! A run's settings and inputs say what it is. Whatever differs between runs, beside what every label says, becomes an axis
//! by its name in sweep files. And whatever differs without having a name becomes the axis `settings`: runs that are
//! not alike never have the same label.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};
use winsign_core::error::Result;
use winsign_core::parallel;
use winsign_core::settings::{
    Between, Connect, Inherit, Method, Plane, Problem, Seeds, Settings, Ticket, Training, Transfer,
};
use winsign_core::{Run, RunId, Store};

use super::{Label, Plan, PlannedRun};
use crate::{Axes, PROBLEM, Resources};

/// Every run of these stores, after those it needs; and those whose settings cannot be read, with the reason.
pub fn plan(name: &str, stores: &[Store]) -> Result<(Plan, Vec<(RunId, String)>)> {
    let mut runs: BTreeMap<RunId, Run> = BTreeMap::new();
    let mut unreadable = Vec::new();
    for store in stores {
        let new: Vec<RunId> = store.runs()?.into_iter().filter(|id| !runs.contains_key(id)).collect();
        let read = parallel::map(&new, |id| store.run(id).settings());
        for (id, settings) in new.into_iter().zip(read) {
            match settings {
                Ok(Some(file)) => drop(runs.insert(id, Run::new(file.settings, file.inputs))),
                // Begun to be made, or taken away just now.
                Ok(None) => {}
                Err(error) => unreadable.push((id, error.to_string())),
            }
        }
    }
    unreadable.retain(|(id, _)| !runs.contains_key(id));
    let resources = Resources { jobs: None, threads: None, ranks: None, gpus: None, retries: 0 };
    let runs = label(in_order(runs));
    Ok((Plan { name: name.to_string(), runs, resources }, unreadable))
}

/// Tickets first, level after level; then transfers; then what joins them.
fn in_order(runs: BTreeMap<RunId, Run>) -> Vec<Run> {
    let place = |run: &Run| match &run.settings {
        Settings::Import(_) => (0, 1),
        Settings::Ticket(ticket) => (0, ticket.level),
        Settings::Transfer(_) => (1, 0),
        Settings::Connect(_) | Settings::Matrix(_) | Settings::Plane(_) => (2, 0),
    };
    let method = |run: &Run| match &run.settings {
        Settings::Ticket(ticket) => Some(ticket.method),
        _ => None,
    };
    let inherit = |run: &Run| match &run.settings {
        Settings::Transfer(transfer) => Some((transfer.inherit, transfer.seeds)),
        _ => None,
    };
    let mut runs: Vec<Run> = runs.into_values().collect();
    runs.sort_by_key(|run| (place(run), method(run), inherit(run)));
    runs
}

/// What is known of a run beside its label.
struct Known {
    label: Label,
    /// Settings by their names in sweep files; those that have a say in it.
    named: BTreeMap<&'static str, String>,
    /// Everything that makes it what it is, but the seeds of transfers.
    nature: String,
    /// The same, but for the seeds of tickets too.
    kin: String,
}

fn label(runs: Vec<Run>) -> Vec<PlannedRun> {
    let rewound_to: BTreeSet<RunId> = runs.iter().filter_map(|run| of_ticket(run)?.1).collect();
    let goes_on: BTreeSet<RunId> = runs.iter().filter_map(|run| of_ticket(run)?.0).collect();
    let mut known: HashMap<RunId, Known> = HashMap::new();
    for run in &runs {
        let mut one = match &run.settings {
            Settings::Ticket(ticket) => ticket_known(run, ticket, &known),
            Settings::Import(import) => Known {
                label: plain(&run.settings, Some(Method::Imported), 1),
                named: BTreeMap::from([("ticket.imported", import.digest.to_string())]),
                nature: String::new(),
                kin: String::new(),
            },
            Settings::Transfer(transfer) => transfer_known(run, transfer, &known),
            Settings::Connect(path) => joined_known(run, Some(path.between), &known, connect_named(path)),
            Settings::Matrix(matrix) => {
                joined_known(run, Some(matrix.path.between), &known, connect_named(&matrix.path))
            }
            Settings::Plane(plane) => joined_known(run, Some(Between::Plane), &known, plane_named(plane)),
        };
        if let Settings::Ticket(ticket) = &run.settings
            && ticket.level == 0
            && rewound_to.contains(&run.id)
            && !goes_on.contains(&run.id)
        {
            one.label.rewind_point = Some(ticket.training.epochs);
            // Which its label says.
            one.named.remove("ticket.warmup_epochs");
        }
        one.nature = nature(run, &known, false);
        one.kin = nature(run, &known, true);
        known.insert(run.id.clone(), one);
    }
    name_axes(&runs, &mut known);
    let planned = |run: Run| {
        let label = known.remove(&run.id).expect("every run is known").label;
        PlannedRun { run, label }
    };
    runs.into_iter().map(planned).collect()
}

/// Of a ticket: the level before it, and what it rewinds to.
fn of_ticket(run: &Run) -> Option<(Option<RunId>, Option<RunId>)> {
    matches!(run.settings, Settings::Ticket(_)).then(|| (run.inputs.first().cloned(), run.inputs.get(1).cloned()))
}

fn plain(settings: &Settings, method: Option<Method>, level: u32) -> Label {
    Label {
        problem: settings.problem(),
        method,
        level,
        rewind_point: None,
        inherit: None,
        between: None,
        block: None,
        seeds: vec![],
        axes: vec![],
    }
}

fn ticket_known(run: &Run, ticket: &Ticket, known: &HashMap<RunId, Known>) -> Known {
    // What was said of the levels before: the warm-up.
    let before = run.inputs.first().and_then(|input| known.get(input));
    let mut named = before.map(|before| before.named.clone()).unwrap_or_default();
    let epochs = if ticket.level == 0 { "ticket.warmup_epochs" } else { "ticket.epochs" };
    named.insert(epochs, ticket.training.epochs.to_string());
    named.extend(training_named(&ticket.training, &TICKET));
    named.extend(ticket.prune_ratio.map(|ratio| ("ticket.prune_ratio", ratio.to_string())));
    named.extend(ticket.rewind_epoch.map(|epoch| ("ticket.rewind_epoch", epoch.to_string())));
    named.insert("ticket.seed_init", ticket.seeds.init.to_string());
    named.insert("ticket.seed_order", ticket.seeds.order.to_string());
    if ticket.method == Method::Aws {
        named.insert("ticket.seed_alpha", ticket.seeds.alpha.to_string());
    }
    let label = Label { seeds: vec![ticket.seeds], ..plain(&run.settings, Some(ticket.method), ticket.level) };
    Known { label, named, nature: String::new(), kin: String::new() }
}

fn transfer_known(run: &Run, transfer: &Transfer, known: &HashMap<RunId, Known>) -> Known {
    let ticket = run.inputs.first().and_then(|input| known.get(input));
    let mut named = ticket.map(|ticket| ticket.named.clone()).unwrap_or_default();
    named.insert("transfer.epochs", transfer.training.epochs.to_string());
    named.insert("transfer.schedule", transfer.training.schedule.to_string());
    named.extend(training_named(&transfer.training, &TRANSFER));
    if transfer.inherit.has_signs() {
        named.insert("transfer.flip", transfer.flip.to_string());
    }
    let (method, level) = ticket.map_or((None, 0), |ticket| (ticket.label.method, ticket.label.level));
    let label =
        Label { inherit: Some(transfer.inherit), seeds: vec![transfer.seeds], ..plain(&run.settings, method, level) };
    Known { label, named, nature: String::new(), kin: String::new() }
}

/// Of networks that are joined: what all of them have in common.
fn joined_known(
    run: &Run,
    between: Option<Between>,
    known: &HashMap<RunId, Known>,
    mut named: BTreeMap<&'static str, String>,
) -> Known {
    let ends: Vec<&Known> = run.inputs.iter().filter_map(|input| known.get(input)).collect();
    let all = ends.len() == run.inputs.len();
    fn common<T: PartialEq + Copy>(ends: &[&Known], of: impl Fn(&Label) -> T) -> Option<T> {
        let first = of(&ends.first()?.label);
        ends.iter().all(|end| of(&end.label) == first).then_some(first)
    }
    // The settings and the methods of tickets are what tells the ends of a matrix apart, even where those of a pair are equal.
    let of_matrix = between == Some(Between::Tickets);
    let method = common(&ends, |label| label.method).flatten().filter(|_| !of_matrix);
    let level = ends.iter().map(|end| end.label.level).max().unwrap_or(0);
    // A transfer is joined with the ticket trained on, and it is the transfer that the path is about.
    let transferred = ends.iter().filter_map(|end| end.label.inherit);
    let inherit = common(&ends, |label| label.inherit).flatten().or(match between {
        Some(Between::Retrain) => transferred.into_iter().find(|inherit| *inherit != Inherit::Retrain),
        _ => None,
    });
    if let Some(first) = ends.first().filter(|_| all && !of_matrix) {
        let shared =
            first.named.iter().filter(|(name, value)| ends.iter().all(|end| end.named.get(*name) == Some(*value)));
        named.extend(shared.map(|(name, value)| (*name, value.clone())));
    }
    let one_path = matches!(run.settings, Settings::Connect(_) | Settings::Plane(_));
    let seeds: Vec<Seeds> = match one_path && inherit.is_some() {
        true => ends.iter().filter_map(|end| end.label.seeds.first().copied()).collect(),
        false => vec![],
    };
    let label = Label { inherit, between, seeds, ..plain(&run.settings, method, level) };
    Known { label, named, nature: String::new(), kin: String::new() }
}

/// The names of the settings that tickets and transfers have in common.
type Names = [&'static str; 6];
const TICKET: Names =
    ["ticket.batch", "ticket.optimizer", "ticket.lr", "ticket.momentum", "ticket.weight_decay", "ticket.precision"];
const TRANSFER: Names = [
    "transfer.batch",
    "transfer.optimizer",
    "transfer.lr",
    "transfer.momentum",
    "transfer.weight_decay",
    "transfer.precision",
];

fn training_named(training: &Training, names: &Names) -> impl Iterator<Item = (&'static str, String)> {
    let values = [
        training.batch.to_string(),
        training.optimizer.to_string(),
        training.lr.to_string(),
        training.momentum.to_string(),
        training.weight_decay.to_string(),
        training.precision.to_string(),
    ];
    (*names).into_iter().zip(values)
}

fn connect_named(path: &Connect) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("connect.points", path.points.to_string()),
        ("connect.refine", path.refine.to_string()),
        ("connect.batch", path.batch.to_string()),
        ("connect.sets", path.sets.to_string()),
        ("connect.align", path.align.to_string()),
        ("connect.masks", path.masks.to_string()),
        ("connect.precision", path.precision.to_string()),
        ("connect.reestimation_batches", batches_named(path.reestimation_batches)),
    ])
}

fn plane_named(plane: &Plane) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("connect.points", plane.points.to_string()),
        ("connect.margin", plane.margin.to_string()),
        ("connect.batch", plane.batch.to_string()),
        ("connect.sets", plane.sets.to_string()),
        ("connect.masks", plane.masks.to_string()),
        ("connect.precision", plane.precision.to_string()),
        ("connect.reestimation_batches", batches_named(plane.reestimation_batches)),
    ])
}

/// As sweep files have it.
fn batches_named(batches: Option<u32>) -> String {
    batches.map_or("all".to_string(), |batches| batches.to_string())
}

/// Everything a run is made of, but the seeds of transfers (without seeds: of tickets too), and how paths are shared out over
/// runs. Of paths between tickets their ends do not count: all tickets of a level are ends of one matrix.
fn nature(run: &Run, known: &HashMap<RunId, Known>, without_seeds: bool) -> String {
    let (mut settings, between) = match &run.settings {
        Settings::Matrix(matrix) => (json!(Settings::Connect(matrix.path.clone())), Some(matrix.path.between)),
        Settings::Connect(path) => (json!(run.settings), Some(path.between)),
        settings => (json!(settings), None),
    };
    if without_seeds || matches!(run.settings, Settings::Transfer(_)) {
        settings["seeds"] = Value::Null;
    }
    let of_input = |input: &RunId| match known.get(input) {
        Some(known) if without_seeds => known.kin.clone(),
        Some(known) => known.nature.clone(),
        None => input.to_string(),
    };
    let mut inputs: Vec<String> = match between {
        Some(Between::Tickets) => vec![],
        _ => run.inputs.iter().map(of_input).collect(),
    };
    if let Settings::Connect(_) | Settings::Matrix(_) | Settings::Plane(_) = &run.settings {
        inputs.sort();
        inputs.dedup();
    }
    let text = json!([settings, inputs]).to_string();
    blake3::hash(text.as_bytes()).to_hex()[..16].to_string()
}

/// Gives every label the settings that tell it from others.
fn name_axes(runs: &[Run], known: &mut HashMap<RunId, Known>) {
    one_seed_where_all_are_equal(known);
    without_what_follows_from_tickets(known);
    without_repetitions(known);
    let mut values: BTreeMap<&'static str, BTreeSet<&str>> = BTreeMap::new();
    let mut problems: [BTreeSet<String>; 3] = Default::default();
    for one in known.values() {
        for (name, value) in &one.named {
            values.entry(name).or_default().insert(value);
        }
        for ((_, value), values) in problem_named(one.label.problem).into_iter().zip(&mut problems) {
            values.insert(value);
        }
    }
    let differ: BTreeSet<&'static str> = values
        .iter()
        .filter(|(name, values)| values.len() > 1 || is_told(name, values))
        .map(|(name, _)| *name)
        .collect();
    for one in known.values_mut() {
        let shown = problem_named(one.label.problem)
            .into_iter()
            .zip(&problems)
            .filter(|(_, known)| known.len() > 1)
            .map(|(axis, _)| axis);
        let axes: Axes = (shown.map(|(name, value)| (name.to_string(), value)))
            .chain(one.named.iter().filter(|(name, _)| differ.contains(*name)).map(|(n, v)| (n.to_string(), v.clone())))
            .collect();
        one.label.axes = axes;
    }
    tell_apart(runs, known);
}

fn problem_named(problem: Problem) -> [(&'static str, String); 3] {
    let Problem { dataset, architecture, numerics } = problem;
    let [of_dataset, of_architecture, of_numerics] = PROBLEM;
    [
        (of_dataset, dataset.to_string()),
        (of_architecture, architecture.to_string()),
        (of_numerics, numerics.to_string()),
    ]
}

/// Who reads a barrier must know of matched units, be they matched in all.
fn is_told(name: &str, values: &BTreeSet<&str>) -> bool {
    name == "connect.align" && *values != BTreeSet::from(["none"])
}

/// As in sweep files, `seed` stands for all seeds of a ticket.
fn one_seed_where_all_are_equal(known: &mut HashMap<RunId, Known>) {
    let equal = |one: &Known| {
        let seeds = ["ticket.seed_init", "ticket.seed_order", "ticket.seed_alpha"].map(|name| one.named.get(name));
        seeds.iter().flatten().all(|seed| Some(*seed) == seeds[0])
    };
    if !known.values().all(equal) {
        return;
    }
    for one in known.values_mut() {
        if let Some(seed) = one.named.remove("ticket.seed_init") {
            one.named.remove("ticket.seed_order");
            one.named.remove("ticket.seed_alpha");
            one.named.insert("ticket.seed", seed);
        }
    }
}

/// Batch and precision of paths between tickets are those of one of the tickets where a sweep does not name them. They say
/// something only where there are several.
fn without_what_follows_from_tickets(known: &mut HashMap<RunId, Known>) {
    for name in ["connect.batch", "connect.precision"] {
        let mut values: HashMap<Problem, BTreeSet<Option<String>>> = HashMap::new();
        for one in known.values().filter(|one| one.label.between == Some(Between::Tickets)) {
            values.entry(one.label.problem).or_default().insert(one.named.get(name).cloned());
        }
        for one in known.values_mut().filter(|one| one.label.between == Some(Between::Tickets)) {
            if values[&one.label.problem].len() == 1 {
                one.named.remove(name);
            }
        }
    }
}

/// A setting of a transfer that is that of its ticket in all of them says nothing new; nor do batch and precision of a path.
/// What has no ticket then has it by the ticket's name, as in sweep files.
fn without_repetitions(known: &mut HashMap<RunId, Known>) {
    let own = TRANSFER.into_iter().zip(TICKET);
    for (own, of_ticket) in own.chain([("connect.batch", "ticket.batch"), ("connect.precision", "ticket.precision")]) {
        let repeats = |one: &Known| match (one.named.get(own), one.named.get(of_ticket)) {
            (Some(own), Some(of_ticket)) => own == of_ticket,
            _ => true,
        };
        if known.values().all(repeats) {
            for one in known.values_mut() {
                if let Some(value) = one.named.remove(own) {
                    one.named.entry(of_ticket).or_insert(value);
                }
            }
        }
    }
}

/// Labels that would be equal though their runs are not alike get an axis that says so.
fn tell_apart(runs: &[Run], known: &mut HashMap<RunId, Known>) {
    let mut natures: HashMap<String, BTreeSet<String>> = HashMap::new();
    let key = |run: &Run, label: &Label| {
        let Label { method, level, rewind_point, inherit, between, axes, .. } = label;
        format!("{:?}", (run.kind(), label.problem, method, level, rewind_point, inherit, between, axes))
    };
    for run in runs {
        let one = &known[&run.id];
        natures.entry(key(run, &one.label)).or_default().insert(one.nature.clone());
    }
    for run in runs {
        let one = known.get_mut(&run.id).expect("every run is known");
        if natures[&key(run, &one.label)].len() > 1 {
            one.label.axes.push(("settings".to_string(), one.nature[..8].to_string()));
        }
    }
}

#[cfg(test)]
mod tests;
