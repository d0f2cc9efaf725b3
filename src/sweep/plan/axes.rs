//! The axes of a study: the settings in which its runs differ.
//!
//! A setting is an axis if it has several values among the runs, connections of each kind being compared among
//! themselves. Settings that every label shows are not axes: methods, levels, inheritances, kinds of connections, and
//! seeds of transfers. Runs that differ in something without a name get the axis `settings`: two runs that are not
//! alike never share a label.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use winsign_core::settings::{Between, Inherit, Kind, Method, Problem};
use winsign_core::{Run, RunId};

use super::Label;
use super::label::{Block, Described};
use crate::PROBLEM;
use crate::schema::{Fallback, KEYS};
use crate::values::Value;

const TICKET_SEEDS: [&str; 3] = ["ticket.seed_init", "ticket.seed_order", "ticket.seed_alpha"];
const ALIGN: &str = "connect.align";

/// Gives each label its axes, in the order of the documentation.
pub(super) fn add(runs: &[(Run, Option<Block>)], described: &mut [Described]) {
    let alike = alike(runs, described);
    join_equal_seeds(described);
    drop_settings_that_follow_from_tickets(described);
    drop_inherited(described);
    let axes = differing_settings(described);
    let problems: Vec<usize> = differing_parts(described.iter().map(|one| problem_settings(one.label.problem)));
    for one in &mut *described {
        let problem = problem_settings(one.label.problem);
        let is_axis = |(path, _): &&(&'static str, Value)| axes.contains(&(scope(path, &one.label), *path));
        let mut settings: Vec<_> = one.settings.iter().filter(is_axis).collect();
        settings.sort_by_key(|(path, _)| KEYS.iter().position(|key| key.path == *path));
        let settings = settings.into_iter().map(|(path, value)| (path.to_string(), value.to_string()));
        let problem = problems.iter().map(|&part| (PROBLEM[part].to_string(), problem[part].clone()));
        one.label.axes = problem.chain(settings).collect();
    }
    tell_apart(runs, described, &alike);
}

fn problem_settings(problem: Problem) -> [String; 3] {
    [problem.dataset.to_string(), problem.architecture.to_string(), problem.numerics.to_string()]
}

/// Returns the places at which not all of these have the same value.
fn differing_parts<T: PartialEq, const N: usize>(all: impl Iterator<Item = [T; N]>) -> Vec<usize> {
    let mut all = all;
    let Some(first) = all.next() else { return vec![] };
    let mut parts = BTreeSet::new();
    for one in all {
        parts.extend((0..N).filter(|&part| one[part] != first[part]));
    }
    parts.into_iter().collect()
}

/// Returns the runs among which a setting is compared: for a setting of connections, those between the same networks.
fn scope(path: &str, label: &Label) -> Option<Between> {
    label.between.filter(|_| path.starts_with("connect."))
}

/// Returns the settings with several values, each with the runs among which they are found. Alignment is always one of them
/// where networks are aligned: a barrier after alignment is another quantity.
fn differing_settings(described: &[Described]) -> HashSet<(Option<Between>, &'static str)> {
    let mut first: HashMap<(Option<Between>, &'static str), Value> = HashMap::new();
    let mut differing = HashSet::new();
    for one in described {
        for &(path, value) in &one.settings {
            let setting = (scope(path, &one.label), path);
            let is_aligned = path == ALIGN && value != Value::Word("none");
            if is_aligned || *first.entry(setting).or_insert(value) != value {
                differing.insert(setting);
            }
        }
    }
    differing
}

/// Replaces the seeds of tickets by `ticket.seed`, as in sweep files, if they are equal in every run.
fn join_equal_seeds(described: &mut [Described]) {
    if !described.iter().all(has_equal_seeds) {
        return;
    }
    for one in described {
        one.settings.retain(|(path, _)| !TICKET_SEEDS[1..].contains(path));
        if let Some((path, _)) = one.settings.iter_mut().find(|(path, _)| *path == TICKET_SEEDS[0]) {
            *path = "ticket.seed";
        }
    }
}

fn has_equal_seeds(one: &Described) -> bool {
    let mut seeds = one.settings.iter().filter(|(path, _)| TICKET_SEEDS.contains(path)).map(|(_, seed)| seed);
    let first = seeds.next();
    seeds.all(|seed| Some(seed) == first)
}

/// Drops batch and precision of paths between tickets where a problem has one value of each: unless a sweep names them,
/// they are those of one of the tickets.
fn drop_settings_that_follow_from_tickets(described: &mut [Described]) {
    for path in ["connect.batch", "connect.precision"] {
        let joins_tickets = |one: &&Described| one.label.between == Some(Between::Tickets);
        let values = described.iter().filter(joins_tickets).map(|one| (one.label.problem, value_of(one, path)));
        let several = keys_with_several_values(values);
        for one in &mut *described {
            if one.label.between == Some(Between::Tickets) && !several.contains(&one.label.problem) {
                one.settings.retain(|(other, _)| *other != path);
            }
        }
    }
}

/// Drops the settings of transfers and paths that are those of their tickets in every run. A run without a ticket then has
/// the setting by the ticket's path, as sweep files do, if some ticket has the same value.
fn drop_inherited(described: &mut [Described]) {
    for (own, inherited) in inherited_settings() {
        let is_inherited = |one: &Described| match (value_of(one, own), value_of(one, inherited)) {
            (Some(own), Some(inherited)) => own == inherited,
            _ => true,
        };
        if !described.iter().all(is_inherited) {
            continue;
        }
        let of_tickets: HashSet<Value> = described.iter().filter_map(|one| value_of(one, inherited)).collect();
        for one in &mut *described {
            let has_ticket = value_of(one, inherited).is_some();
            match one.settings.iter().position(|(path, _)| *path == own) {
                Some(at) if has_ticket => drop(one.settings.remove(at)),
                Some(at) if of_tickets.contains(&one.settings[at].1) => one.settings[at].0 = inherited,
                _ => {}
            }
        }
    }
}

/// Returns the settings that are those of tickets by default, with the settings of tickets.
fn inherited_settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().filter(|key| !key.is_seed()).filter_map(|key| match key.default {
        Fallback::Same(inherited) => Some((key.path, inherited)),
        _ => None,
    })
}

fn value_of(one: &Described, path: &str) -> Option<Value> {
    one.settings.iter().find(|(other, _)| *other == path).map(|(_, value)| *value)
}

/// Returns the keys that occur with more than one value.
fn keys_with_several_values<K: Eq + Hash + Copy, V: PartialEq>(pairs: impl Iterator<Item = (K, V)>) -> HashSet<K> {
    let mut first: HashMap<K, V> = HashMap::new();
    let mut several = HashSet::new();
    for (key, value) in pairs {
        match first.get(&key) {
            None => drop(first.insert(key, value)),
            Some(first) if *first != value => drop(several.insert(key)),
            Some(_) => {}
        }
    }
    several
}

/// Returns for each run the place of the first run that is like it: they have the same settings but for the seeds of transfers
/// and the division of a matrix into runs, and their inputs are alike. Paths between tickets are alike whatever their ends:
/// all tickets of a level are ends of one matrix.
fn alike(runs: &[(Run, Option<Block>)], described: &[Described]) -> Vec<usize> {
    let mut places: HashMap<&RunId, usize> = HashMap::with_capacity(runs.len());
    let mut first: HashMap<_, usize> = HashMap::new();
    let mut alike = Vec::with_capacity(runs.len());
    for (at, ((run, _), one)) in runs.iter().zip(described).enumerate() {
        // A run that is not known is like no other.
        let nature = |input| match places.get(input) {
            Some(&place) => (Some(alike[place]), None),
            None => (None, Some(input)),
        };
        let mut inputs: Vec<(Option<usize>, Option<&RunId>)> = match one.label.between {
            Some(Between::Tickets) => vec![],
            _ => run.inputs.iter().map(nature).collect(),
        };
        if one.label.between.is_some() {
            inputs.sort_unstable();
            inputs.dedup();
        }
        let nature = (place(run, &one.label), one.settings.clone(), inputs);
        alike.push(*first.entry(nature).or_insert(at));
        places.insert(&run.id, at);
    }
    alike
}

type Place = (Kind, Problem, Option<Method>, u32, Option<u32>, Option<Inherit>, Option<Between>);

/// Returns what the label of a run shows beside axes and seeds.
fn place(run: &Run, label: &Label) -> Place {
    let Label { problem, method, level, rewind_point, inherit, between, .. } = *label;
    (run.kind(), problem, method, level, rewind_point, inherit, between)
}

/// Gives the axis `settings` to runs that are not alike and would have the same label. Its value is the identity of the first
/// run that is like them.
fn tell_apart(runs: &[(Run, Option<Block>)], described: &mut [Described], alike: &[usize]) {
    let labels = runs.iter().zip(&*described).map(|((run, _), one)| (place(run, &one.label), one.label.axes.clone()));
    let labels: Vec<_> = labels.collect();
    let several = keys_with_several_values(labels.iter().zip(alike));
    for ((one, label), &first) in described.iter_mut().zip(&labels).zip(alike) {
        if several.contains(label) {
            one.label.axes.push(("settings".to_string(), runs[first].0.id.as_str()[..8].to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use winsign_core::grouping::distinct;
    use winsign_core::settings::Method;

    use crate::parse;
    use crate::plan::build::build;
    use crate::plan::{Label, Plan};
    use crate::schema::{Block, KEYS, Key, Kind};

    fn planned(text: &str) -> Plan {
        let file = format!("dataset: digits\n{text}");
        let file = if text.contains("architecture:") { file } else { format!("architecture: resnet8\n{file}") };
        build(&parse("study.yaml", &file).unwrap_or_else(|error| panic!("{}", error.render(false))))
    }

    /// Returns the axes of the runs with such labels, each combination once, as `path value`.
    fn axes(text: &str, is_meant: impl Fn(&Label) -> bool) -> Vec<String> {
        let plan = planned(text);
        let labels = plan.runs.iter().map(|planned| &planned.label).filter(|label| is_meant(label));
        distinct(labels.map(|label| {
            let axes: Vec<String> = label.axes.iter().map(|(path, value)| format!("{path} {value}")).collect();
            axes.join(", ")
        }))
    }

    fn is_ticket(label: &Label) -> bool {
        label.inherit.is_none() && label.between.is_none() && label.level > 0
    }

    fn is_transfer(label: &Label) -> bool {
        label.inherit.is_some() && label.between.is_none()
    }

    fn is_connection(label: &Label) -> bool {
        label.between.is_some()
    }

    const STUDY: &str = "architecture: [resnet8, resnet20]
ticket: {method: [lrr, aws], lr: [0.1, 1e-5], seed: 1..2, levels: [3, 4], epochs: 4}
transfer: {weight_decay: [0, 5e-4], seed: 2..3, inherit: [sign, mask], level: [2, 3]}
connect: {between: seeds, points: [5, 11]}";

    #[test]
    fn axes_are_settings_that_labels_do_not_show() {
        let tickets = axes(STUDY, is_ticket);
        assert_eq!(tickets.len(), 2 * 2 * 2);
        assert_eq!(tickets[0], "architecture resnet8, ticket.lr 0.1, ticket.seed 1");
        assert_eq!(tickets[7], "architecture resnet20, ticket.lr 1e-5, ticket.seed 2");
        let transfers = axes(STUDY, is_transfer);
        assert_eq!(transfers[0], format!("{}, transfer.weight_decay 0", tickets[0]));
        assert_eq!(transfers[1], format!("{}, transfer.weight_decay 0.0005", tickets[0]));
        let connections = axes(STUDY, is_connection);
        assert_eq!(connections[0], format!("{}, connect.points 5", transfers[0]));
    }

    #[test]
    fn axes_distinguish_blocks_of_the_file() {
        let blocks = "ticket:\n  - {method: lrr, lr: 0.05}\n  - {method: aws}";
        assert_eq!(axes(blocks, is_ticket), ["ticket.lr 0.05", "ticket.lr 0.1"]);
        let same = "ticket:\n  - {method: lrr, lr: 0.1}\n  - {method: aws}";
        assert_eq!(axes(same, is_ticket), [""]);
    }

    #[test]
    fn seeds_of_tickets_are_axes_by_source_where_they_differ() {
        let text =
            "ticket: {method: aws, levels: 1, seed: 5, seed_alpha: 7..8}\ntransfer: {inherit: sign, seed_init: 4..5}";
        assert_eq!(axes(text, is_transfer), ["ticket.seed_alpha 7", "ticket.seed_alpha 8"]);
    }

    #[test]
    fn settings_without_effect_on_a_run_are_not_its_axes() {
        let text = "ticket: {method: [lrr, imp, aws], rewind_epoch: [0, 2], seed_alpha: [1, 7], levels: 2}
transfer: {inherit: [sign, mask], flip: [0, 0.1], seed: 2}";
        let mut tickets = axes(text, is_ticket);
        tickets.sort();
        assert_eq!(
            tickets,
            ["", "ticket.rewind_epoch 0", "ticket.rewind_epoch 2", "ticket.seed_alpha 1", "ticket.seed_alpha 7"]
        );
        let of_lrr =
            axes(text, |label| is_transfer(label) && label.method.is_some_and(|method| method.to_string() == "lrr"));
        assert_eq!(of_lrr, ["transfer.flip 0", "transfer.flip 0.1", ""]);
    }

    #[test]
    fn dense_networks_have_the_settings_of_tickets_that_they_share() {
        let text = "ticket: {method: lrr, levels: 3, seed: 1..2, lr: [0.1, 0.2]}
transfer: {inherit: [sign, dense], level: all, batch: 32, seed: 2..3}
connect: {between: seeds}";
        let is_dense = |label: &Label| is_transfer(label) && label.method.is_none();
        assert_eq!(axes(text, is_dense), ["ticket.lr 0.1", "ticket.lr 0.2"]);
        for connect in [
            "{between: seeds, align: [none, weights]}",
            "{between: seeds, refine: [0, 2]}",
            "{between: plane, margin: [0.1, 0.2]}",
        ] {
            let text = format!("ticket: {{levels: 1}}\ntransfer: {{inherit: dense, seed: 2..4}}\nconnect: {connect}");
            assert_eq!(axes(&text, is_transfer), [""], "{connect}");
            assert_eq!(axes(&text, is_connection).len(), 2, "{connect}");
        }
    }

    #[test]
    fn settings_of_connections_are_compared_among_those_between_the_same_networks() {
        let text = "ticket: {levels: 1}
transfer: {inherit: sign, seed: 2..4}
connect:
  - {between: seeds, points: 5, block: 2, refine: [0, 2]}
  - {between: plane, points: 9, margin: 0.5}
  - {between: norm-init}";
        assert_eq!(axes(text, is_connection), ["connect.refine 0", "connect.refine 2", ""]);
        let blocks = |first: &str| {
            let text = "transfer: {inherit: [sign, mask], seed: 2..4}";
            axes(
                &format!(
                    "{text}\nconnect: [{{between: seeds, inherit: sign{first}}}, {{between: seeds, inherit: mask}}]"
                ),
                is_connection,
            )
        };
        assert_eq!(blocks(", sets: both, refine: 0, align: none"), [""]);
        assert_eq!(blocks(", sets: test"), ["connect.sets test", "connect.sets both"]);
    }

    #[test]
    fn connections_have_the_settings_that_only_some_of_their_networks_have() {
        let levels = "ticket: {method: lrr, levels: 2, epochs: [4, 8]}\nconnect: {between: levels}";
        assert_eq!(axes(levels, is_connection), ["ticket.epochs 4", "ticket.epochs 8"]);
        let flipped = "ticket: {method: lrr, levels: 1}
transfer: {inherit: [sign, retrain], flip: [0, 0.1], seed: 2}
connect: {between: retrain}";
        assert_eq!(axes(flipped, is_connection), ["transfer.flip 0", "transfer.flip 0.1"]);
    }

    #[test]
    fn alignment_is_an_axis_even_where_all_networks_are_aligned() {
        let text = "ticket: {method: [lrr, aws], levels: 1}\nconnect: {between: tickets, align: weights}";
        assert_eq!(axes(text, is_connection), ["connect.align weights"]);
    }

    #[test]
    fn settings_of_dense_networks_keep_their_name_where_no_ticket_has_the_value() {
        let text = "ticket: {method: lrr, levels: 1}
transfer: {inherit: dense, batch: 32, seed: 2..3}
connect: {between: seeds, batch: 16}";
        assert_eq!(axes(text, |_| true), [""]);
    }

    #[test]
    fn given_settings_of_paths_between_tickets_are_axes() {
        let text = "ticket: {method: [lrr, aws], levels: 1}\nconnect: {between: tickets, batch: [32, 128]}";
        assert_eq!(axes(text, is_connection), ["connect.batch 32", "connect.batch 128"]);
        let inherited = "ticket: {method: lrr, levels: 1, batch: [32, 64]}\nconnect: {between: tickets}";
        assert_eq!(axes(inherited, is_connection), [""]);
    }

    #[test]
    fn imported_tickets_have_no_settings_of_searches() {
        let text = "ticket:
  - {imported: 3f09c2aa41d07e553f09c2aa41d07e55}
  - {method: lrr, levels: 2, lr: [0.1, 0.2]}
transfer: {inherit: sign, level: all}";
        let is_imported = |label: &Label| is_transfer(label) && label.method == Some(Method::Imported);
        // This is the learning rate of its transfers, comparable with those of the tickets found here.
        assert_eq!(axes(text, is_imported), ["ticket.lr 0.1"]);
    }

    /// A setting that labels omit would never distinguish runs.
    #[test]
    fn every_setting_that_labels_do_not_show_can_become_an_axis() {
        for key in KEYS.iter().filter(|key| key.is_axis() && !is_shown(key)) {
            let values = match key.kind {
                Kind::Word(words) => format!("[{}, {}]", words[0], words[1]),
                Kind::Whole { .. } => "[2, 3]".to_string(),
                Kind::Digest => "[3f09c2aa41d07e553f09c2aa41d07e55, 4f09c2aa41d07e553f09c2aa41d07e55]".to_string(),
                _ => "[0.2, 0.3]".to_string(),
            };
            let given = |block: Block| match key.block == block {
                true => format!(", {}: {values}", key.name),
                false => String::new(),
            };
            let top = |name: &str, usual: &str| if key.path == name { values.clone() } else { usual.to_string() };
            let method = if matches!(key.kind, Kind::Digest) { "" } else { "method: [imp, aws], levels: 1" };
            let between = if key.path == "connect.margin" { "plane" } else { "seeds" };
            let text = format!(
                "dataset: {}\narchitecture: {}\nnumerics: {}\nticket: {{{}}}
transfer: {{inherit: sign, seed: 2..4{}}}\nconnect: {{between: {between}{}}}",
                top("dataset", "cifar10"),
                top("architecture", "resnet20"),
                top("numerics", "native"),
                format!("{method}{}", given(Block::Ticket)).trim_start_matches(", "),
                given(Block::Transfer),
                given(Block::Connect),
            );
            let plan = build(&parse("study.yaml", &text).unwrap_or_else(|error| panic!("{}", error.render(false))));
            let axes = plan.runs.iter().flat_map(|planned| &planned.label.axes);
            assert!(axes.clone().any(|(path, _)| path == key.path), "{} is no axis of {text}", key.path);
            assert!(axes.clone().all(|(path, _)| path != "settings"), "{text}");
        }
    }

    /// Returns whether labels show the setting, or it divides paths into runs without changing their values.
    fn is_shown(key: &Key) -> bool {
        let in_labels = ["method", "levels", "level", "inherit", "between"].contains(&key.name);
        in_labels || key.path.starts_with("transfer.seed") || ["connect.block", "connect.masks"].contains(&key.path)
    }
}
