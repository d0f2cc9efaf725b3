//! The labels of runs. They follow from the settings and inputs of the runs alone, so that a study has the same labels with
//! and without its sweep file.

use std::collections::{HashMap, HashSet};

use winsign_core::settings::{
    Between, Connect, Inherit, Method, Plane, Problem, Seeds, Settings, Ticket, Training, Transfer,
};
use winsign_core::{Run, RunId};

use super::{Label, PlannedRun, axes};
use crate::values::Value;

/// The place of a run in a matrix that is divided into several runs: the number of its block, from 1, and their count.
pub(super) type Block = (u32, u32);

/// Settings by their paths in sweep files, each with its value.
pub(super) type Named = Vec<(&'static str, Value)>;

/// A run's label, still without axes, and the settings that can become axes.
pub(super) struct Described {
    pub label: Label,
    /// The settings of the run, and those of its ticket that can change its result.
    pub settings: Named,
}

/// Labels runs. Each run must come after those it needs.
pub(super) fn label(runs: Vec<(Run, Option<Block>)>) -> Vec<PlannedRun> {
    let rewind_points = rewind_points(&runs);
    let mut described: Vec<Described> = Vec::with_capacity(runs.len());
    let mut places: HashMap<&RunId, usize> = HashMap::with_capacity(runs.len());
    for (at, (run, block)) in runs.iter().enumerate() {
        let inputs: Vec<&Described> =
            run.inputs.iter().filter_map(|input| Some(&described[*places.get(input)?])).collect();
        let mut one = describe(run, &inputs);
        one.label.block = *block;
        if rewind_points.contains(&run.id) {
            one.label.rewind_point = one.settings.iter().find(|(name, _)| *name == WARMUP).and_then(epochs);
            // The label shows the epochs, and no rate has changed until then.
            one.settings.retain(|(name, _)| *name != WARMUP && *name != SCHEDULE);
        }
        places.insert(&run.id, at);
        described.push(one);
    }
    axes::add(&runs, &mut described);
    let planned = |((run, _), Described { label, .. })| PlannedRun { run, label };
    runs.into_iter().zip(described).map(planned).collect()
}

const WARMUP: &str = "ticket.warmup_epochs";
const SCHEDULE: &str = "ticket.schedule";

fn epochs(setting: &(&str, Value)) -> Option<u32> {
    match setting.1 {
        Value::Whole(epochs) => u32::try_from(epochs).ok(),
        _ => None,
    }
}

/// Returns the runs that tickets rewind to and that are not the first level of any chain.
fn rewind_points(runs: &[(Run, Option<Block>)]) -> HashSet<RunId> {
    let tickets = || runs.iter().filter(|(run, _)| matches!(run.settings, Settings::Ticket(_)));
    let first_levels: HashSet<&RunId> = tickets().filter_map(|(run, _)| run.inputs.first()).collect();
    let rewound_to = tickets().filter_map(|(run, _)| run.inputs.get(1));
    rewound_to.filter(|id| !first_levels.contains(id)).cloned().collect()
}

fn describe(run: &Run, inputs: &[&Described]) -> Described {
    match &run.settings {
        Settings::Ticket(ticket) => describe_ticket(run, ticket, inputs.first().copied()),
        Settings::Import(import) => Described {
            label: plain(run, Some(Method::Imported), 1),
            settings: vec![("ticket.imported", Value::Digest(import.digest))],
        },
        Settings::Transfer(transfer) => describe_transfer(run, transfer, inputs.first().copied()),
        Settings::Connect(path) => describe_connection(run, path.between, inputs, path_settings(path)),
        Settings::Matrix(matrix) => describe_connection(run, matrix.path.between, inputs, path_settings(&matrix.path)),
        Settings::Plane(plane) => describe_connection(run, Between::Plane, inputs, plane_settings(plane)),
    }
}

fn plain(run: &Run, method: Option<Method>, level: u32) -> Label {
    Label {
        problem: run.settings.problem(),
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

fn describe_ticket(run: &Run, ticket: &Ticket, before: Option<&Described>) -> Described {
    let training = training_settings(&ticket.training, &TICKET);
    let mut settings = Named::new();
    if ticket.level == 0 {
        settings.push((WARMUP, whole(ticket.training.epochs)));
    } else {
        settings.extend(before.into_iter().flat_map(|before| &before.settings).filter(|(name, _)| *name == WARMUP));
        settings.push(("ticket.epochs", whole(ticket.training.epochs)));
    }
    settings.extend(ticket.prune_ratio.map(|ratio| ("ticket.prune_ratio", Value::real(ratio))));
    settings.extend(ticket.rewind_epoch.map(|epoch| ("ticket.rewind_epoch", whole(epoch))));
    settings.extend(training);
    settings.push(("ticket.seed_init", Value::Whole(ticket.seeds.init)));
    settings.push(("ticket.seed_order", Value::Whole(ticket.seeds.order)));
    if ticket.method == Method::Aws {
        settings.push(("ticket.seed_alpha", Value::Whole(ticket.seeds.alpha)));
    }
    let label = Label { seeds: vec![ticket.seeds], ..plain(run, Some(ticket.method), ticket.level) };
    Described { label, settings }
}

fn describe_transfer(run: &Run, transfer: &Transfer, ticket: Option<&Described>) -> Described {
    let mut settings = ticket.map(|ticket| ticket.settings.clone()).unwrap_or_default();
    settings.push(("transfer.epochs", whole(transfer.training.epochs)));
    settings.extend(training_settings(&transfer.training, &TRANSFER));
    if transfer.inherit.has_signs() {
        settings.push(("transfer.flip", Value::real(transfer.flip)));
    }
    let (method, level) = ticket.map_or((None, 0), |ticket| (ticket.label.method, ticket.label.level));
    let label = Label { inherit: Some(transfer.inherit), seeds: vec![transfer.seeds], ..plain(run, method, level) };
    Described { label, settings }
}

/// Describes a connection by what its networks have in common. Those of a matrix between tickets differ in methods and
/// settings, even where those of one of its pairs do not.
fn describe_connection(run: &Run, between: Between, ends: &[&Described], mut settings: Named) -> Described {
    let of_tickets = between == Between::Tickets;
    let method = common(ends, |label| label.method).flatten().filter(|_| !of_tickets);
    let level = ends.iter().map(|end| end.label.level).max().unwrap_or(0);
    let inherit = match between {
        // The other end is the retrained ticket.
        Between::Retrain => {
            let mut inherits = ends.iter().filter_map(|end| end.label.inherit);
            inherits.find(|inherit| *inherit != Inherit::Retrain)
        }
        _ => common(ends, |label| label.inherit).flatten(),
    };
    if ends.len() == run.inputs.len() && !of_tickets {
        settings.extend(common_settings(ends));
    }
    let is_single = !matches!(run.settings, Settings::Matrix(_));
    let seeds: Vec<Seeds> = match is_single && inherit.is_some() {
        true => ends.iter().filter_map(|end| end.label.seeds.first().copied()).collect(),
        false => vec![],
    };
    let label = Label { inherit, between: Some(between), seeds, ..plain(run, method, level) };
    Described { label, settings }
}

/// Returns a property of labels that is the same for all of these.
fn common<T: PartialEq>(ends: &[&Described], property: impl Fn(&Label) -> T) -> Option<T> {
    let first = property(&ends.first()?.label);
    ends.iter().all(|end| property(&end.label) == first).then_some(first)
}

/// Returns the settings on which all of these agree that have them: level 0 has no epochs of later levels, and a
/// retrained ticket has no flipped signs.
fn common_settings(ends: &[&Described]) -> Named {
    let mut common = Named::new();
    for &(path, value) in ends.iter().flat_map(|end| &end.settings) {
        let is_new = common.iter().all(|(other, _)| *other != path);
        let agrees = |end: &&Described| end.settings.iter().all(|(other, theirs)| *other != path || *theirs == value);
        if is_new && ends.iter().all(agrees) {
            common.push((path, value));
        }
    }
    common
}

/// The paths of the settings that tickets and transfers have in common.
const TICKET: [&str; 7] = [
    SCHEDULE,
    "ticket.batch",
    "ticket.optimizer",
    "ticket.lr",
    "ticket.momentum",
    "ticket.weight_decay",
    "ticket.precision",
];
const TRANSFER: [&str; 7] = [
    "transfer.schedule",
    "transfer.batch",
    "transfer.optimizer",
    "transfer.lr",
    "transfer.momentum",
    "transfer.weight_decay",
    "transfer.precision",
];

fn training_settings(training: &Training, paths: &[&'static str; 7]) -> impl Iterator<Item = (&'static str, Value)> {
    let values = [
        Value::Word(training.schedule.into()),
        whole(training.batch),
        Value::Word(training.optimizer.into()),
        Value::real(training.lr),
        Value::real(training.momentum),
        Value::real(training.weight_decay),
        Value::Word(training.precision.into()),
    ];
    (*paths).into_iter().zip(values)
}

/// Returns the settings of a path that can distinguish it from others between the same networks. Masks are not among
/// them: the union of equal masks is the mask itself.
fn path_settings(path: &Connect) -> Named {
    let mut settings = vec![
        ("connect.align", Value::Word(path.align.into())),
        ("connect.points", whole(path.points)),
        ("connect.refine", whole(path.refine)),
        ("connect.sets", Value::Word(path.sets.into())),
        ("connect.batch", whole(path.batch)),
        ("connect.precision", Value::Word(path.precision.into())),
    ];
    settings.extend(batches_setting(path.problem, path.reestimation_batches));
    settings
}

fn plane_settings(plane: &Plane) -> Named {
    let mut settings = vec![
        ("connect.points", whole(plane.points)),
        ("connect.margin", Value::real(plane.margin)),
        ("connect.sets", Value::Word(plane.sets.into())),
        ("connect.batch", whole(plane.batch)),
        ("connect.precision", Value::Word(plane.precision.into())),
    ];
    settings.extend(batches_setting(plane.problem, plane.reestimation_batches));
    settings
}

/// Returns the setting of networks that have statistics to re-estimate.
fn batches_setting(problem: Problem, batches: Option<u32>) -> Option<(&'static str, Value)> {
    let value = batches.map_or(Value::Word("all"), whole);
    problem.architecture.has_batch_norm().then_some(("connect.reestimation_batches", value))
}

fn whole(number: u32) -> Value {
    Value::Whole(number.into())
}
