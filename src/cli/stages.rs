//! The stages of a plan: runs that differ only in level or seed, counted by state.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeSet, HashSet};

use comfy_table::{CellAlignment, ColumnConstraint, Table, Width};
use strum::VariantArray;
use winsign_core::settings::{Between, Inherit, Kind, Method};
use winsign_core::text::plural;
use winsign_report::terminal::STYLE;
use winsign_sweep::plan::survey::RunStatus;
use winsign_sweep::plan::{Plan, PlannedRun, RunState};

/// Runs that differ only in level or seed.
pub(crate) struct Stage<'a> {
    key: Key<'a>,
    levels: BTreeSet<u32>,
    /// The number of runs in each state, in the order of [`COLUMNS`].
    counts: [usize; COLUMNS.len()],
}

/// The settings that the runs of a stage share.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key<'a> {
    kind: Kind,
    method: Option<Method>,
    rewind_point: Option<u32>,
    inherit: Option<Inherit>,
    between: Option<Between>,
    /// The axes with their values, without those whose values follow from the data set.
    axes: Vec<(&'a str, &'a str)>,
}

const COLUMNS: &[RunState] = RunState::VARIANTS;
/// The width at which the names of stages are wrapped.
const MAX_NAME_WIDTH: u16 = 72;

/// Returns the stages of a plan, in its order.
pub(crate) fn stages<'a>(plan: &'a Plan, statuses: &[RunStatus]) -> Vec<Stage<'a>> {
    let mut stages: Vec<Stage> = vec![];
    let mut index = HashMap::new();
    let implied = implied_axes(plan);
    for (planned, status) in plan.runs.iter().zip(statuses) {
        let key = Key::new(planned, &implied);
        let at = match index.entry(key.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                stages.push(Stage { key, levels: BTreeSet::new(), counts: [0; COLUMNS.len()] });
                *new.insert(stages.len() - 1)
            }
        };
        stages[at].levels.insert(planned.label.level);
        let column = COLUMNS.iter().position(|&state| state == status.state).expect("every state has a column");
        stages[at].counts[column] += 1;
    }
    stages
}

/// Returns the names of the axes whose values follow from the data set, since a data set has defaults of its own.
fn implied_axes(plan: &Plan) -> HashSet<&str> {
    let mut values = HashMap::new();
    let mut chosen = HashSet::from(["dataset", "architecture"]);
    for planned in &plan.runs {
        let axes = &planned.label.axes;
        let Some((_, dataset)) = axes.iter().find(|(name, _)| name == "dataset") else { continue };
        for (name, value) in axes {
            if *values.entry((dataset, name)).or_insert(value) != value {
                chosen.insert(name);
            }
        }
    }
    values.into_keys().map(|(_, name)| name.as_str()).filter(|name| !chosen.contains(name)).collect()
}

/// Renders a table of stages, without columns for states that no run is in.
pub(crate) fn table(stages: &[Stage]) -> String {
    let used: Vec<usize> =
        (0..COLUMNS.len()).filter(|&column| stages.iter().any(|stage| stage.counts[column] > 0)).collect();
    let mut table = Table::new();
    table.load_style(STYLE);
    let mut header = vec!["stage".to_string(), "runs".to_string()];
    header.extend(used.iter().map(|&column| COLUMNS[column].to_string()));
    header.push("waits for".to_string());
    table.set_header(header);
    for stage in stages {
        let mut row = vec![stage.name(), stage.counts.iter().sum::<usize>().to_string()];
        row.extend(used.iter().map(|&column| match stage.counts[column] {
            0 => String::new(),
            count => count.to_string(),
        }));
        row.push(stage.waits_for());
        table.add_row(row);
    }
    let names = table.column_mut(0).expect("the header has this column");
    names.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(MAX_NAME_WIDTH)));
    for column in 1..=used.len() + 1 {
        table.column_mut(column).expect("the header has this column").set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}

/// Returns the number of runs in each state and in total.
pub(crate) fn counts(statuses: &[RunStatus]) -> serde_json::Value {
    let in_state = |state: &RunState| statuses.iter().filter(|status| status.state == *state).count();
    let counts: Vec<usize> = COLUMNS.iter().map(in_state).collect();
    counts_by_state(&counts)
}

fn counts_by_state(counts: &[usize]) -> serde_json::Value {
    let states = COLUMNS.iter().zip(counts).map(|(state, &count)| (state.to_string(), count.into()));
    let total = ("total".to_string(), counts.iter().sum::<usize>().into());
    serde_json::Value::Object(std::iter::once(total).chain(states).collect())
}

/// Describes the number of runs in total, by kind and by state: `76 runs (26 tickets, 24 transfers, 26 connects): 76 pending`.
pub(crate) fn totals(plan: &Plan, statuses: &[RunStatus]) -> String {
    let count = |kind: Kind| plan.runs.iter().filter(|planned| planned.run.kind() == kind).count();
    let in_state = |state: RunState| statuses.iter().filter(|status| status.state == state).count();
    let kinds = Kind::VARIANTS.iter().map(|&kind| (kind, count(kind))).filter(|&(_, count)| count > 0);
    let states = COLUMNS.iter().map(|&state| (state, in_state(state))).filter(|&(_, count)| count > 0);
    let kinds: Vec<String> = kinds.map(|(kind, count)| plural(count, &kind.to_string())).collect();
    let states: Vec<String> = states.map(|(state, count)| format!("{count} {state}")).collect();
    format!("{} runs ({}): {}", statuses.len(), kinds.join(", "), states.join(", "))
}

impl<'a> Key<'a> {
    fn new(planned: &'a PlannedRun, implied: &HashSet<&str>) -> Key<'a> {
        let label = &planned.label;
        let axes = label.axes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Key {
            kind: planned.run.kind(),
            method: label.method,
            rewind_point: label.rewind_point,
            inherit: label.inherit,
            between: label.between,
            axes: axes.filter(|(name, _)| !implied.contains(name)).collect(),
        }
    }
}

impl Stage<'_> {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "stage": self.name(),
            "kind": self.key.kind,
            "levels": self.levels,
            "runs": counts_by_state(&self.counts),
        })
    }

    /// Returns the name of the stage, such as `aws levels 1..12, sign, between seeds, ticket.lr 0.1`.
    fn name(&self) -> String {
        let Key { kind, inherit, between, ref axes, .. } = self.key;
        let mut parts = vec![];
        parts.extend(match (kind, self.key.method, self.key.rewind_point) {
            (Kind::Ticket, Some(method), Some(epoch)) => Some(format!("{method} level 0 at epoch {epoch}")),
            (Kind::Ticket, Some(method), None) => Some(format!("{method} tickets")),
            (_, Some(method), _) => Some(format!("{method} {}", levels_text(&self.levels))),
            (_, None, _) => None,
        });
        parts.extend(inherit.map(|inherit| inherit.to_string()));
        parts.extend(between.map(|between| match between {
            Between::NormInit => between.to_string(),
            between => format!("between {between}"),
        }));
        parts.extend(axes.iter().map(|&(name, value)| match name {
            "dataset" | "architecture" => value.to_string(),
            _ => format!("{name} {value}"),
        }));
        parts.join(", ")
    }

    fn waits_for(&self) -> String {
        let nothing = || "nothing".to_string();
        match (self.key.kind, self.key.method, self.key.between) {
            (Kind::Connect, _, Some(between)) if between != Between::NormInit => "the networks it connects".to_string(),
            (Kind::Ticket, Some(method), _) if !method.is_iterative() || self.key.rewind_point.is_some() => nothing(),
            (Kind::Ticket, ..) => "the previous level".to_string(),
            (_, Some(method), _) => format!("{method} {}", levels_text(&self.levels)),
            (_, None, _) => nothing(),
        }
    }
}

/// Describes levels, as in `level 12`, `levels 1..12` and `levels 4/8/12`.
fn levels_text(levels: &BTreeSet<u32>) -> String {
    let listed = || levels.iter().map(u32::to_string).collect::<Vec<_>>();
    match (levels.first(), levels.last()) {
        (Some(first), Some(last)) if first == last => format!("level {first}"),
        (Some(first), Some(last)) if (last - first) as usize + 1 == levels.len() => format!("levels {first}..{last}"),
        (Some(first), Some(last)) if levels.len() > 6 => format!("{} levels, {first} to {last}", levels.len()),
        _ => format!("levels {}", listed().join("/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_lack_settings_that_follow_from_the_data_set() {
        let text =
            "dataset: [digits, cifar10]\narchitecture: resnet20\nticket: {method: lrr, levels: 2, lr: [0.1, 0.2]}";
        let plan = winsign_sweep::plan::build::build(&winsign_sweep::parse("study.yaml", text).unwrap());
        let statuses = vec![RunStatus::pending(); plan.runs.len()];
        let stages = stages(&plan, &statuses);
        let names: Vec<String> = stages.iter().map(Stage::name).collect();
        let with_lr = |dataset: &str| [0.1, 0.2].map(|lr| format!("lrr tickets, {dataset}, ticket.lr {lr}"));
        assert_eq!(names, [with_lr("digits"), with_lr("cifar10")].concat());
        assert!(table(&stages).lines().all(|line| line.chars().count() <= 110));
    }

    #[test]
    fn levels_text_is_short() {
        let cases: [(&[u32], &str); 4] = [
            (&[12], "level 12"),
            (&[3, 1, 2], "levels 1..3"),
            (&[12, 4, 8], "levels 4/8/12"),
            (&[1, 3, 5, 7, 9, 11, 13], "7 levels, 1 to 13"),
        ];
        for (levels, text) in cases {
            assert_eq!(levels_text(&levels.iter().copied().collect()), text);
        }
    }
}
