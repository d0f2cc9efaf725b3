//! A plan told in stages: the runs of one kind that belong together, counted by state.

use comfy_table::{CellAlignment, Table};
use strum::VariantArray;

use crate::run::settings::{Between, Kind};
use crate::study::plan::survey::Standing;
use crate::study::plan::{Plan, PlannedRun, RunState};
use crate::study::report::terminal::STYLE;

/// Runs alike in all but level, pruned level by level, or seed.
pub struct Stage {
    name: String,
    waits_for: String,
    /// Counts by state, in the order of [`COLUMNS`].
    counts: [usize; COLUMNS.len()],
}

const COLUMNS: &[RunState] = RunState::VARIANTS;

/// The stages of a plan, in its order.
pub fn stages(plan: &Plan, standings: &[Standing]) -> Vec<Stage> {
    let mut stages: Vec<Stage> = vec![];
    let mut index = std::collections::HashMap::new();
    for (planned, standing) in plan.runs.iter().zip(standings) {
        let (name, waits_for) = describe(planned);
        let at = *index.entry(name.clone()).or_insert_with(|| {
            stages.push(Stage { name, waits_for, counts: [0; COLUMNS.len()] });
            stages.len() - 1
        });
        let column = COLUMNS.iter().position(|&state| state == standing.state).expect("every state has a column");
        stages[at].counts[column] += 1;
    }
    stages
}

/// A table of stages; states that no run is in are left out.
pub fn table(stages: &[Stage]) -> String {
    let used: Vec<usize> =
        (0..COLUMNS.len()).filter(|&column| stages.iter().any(|stage| stage.counts[column] > 0)).collect();
    let mut table = Table::new();
    table.load_style(STYLE);
    let mut header = vec!["stage".to_string(), "runs".to_string()];
    header.extend(used.iter().map(|&column| COLUMNS[column].to_string()));
    header.push("waits for".to_string());
    table.set_header(header);
    for stage in stages {
        let mut row = vec![stage.name.clone(), stage.counts.iter().sum::<usize>().to_string()];
        row.extend(used.iter().map(|&column| match stage.counts[column] {
            0 => String::new(),
            count => count.to_string(),
        }));
        row.push(stage.waits_for.clone());
        table.add_row(row);
    }
    for column in 1..=used.len() + 1 {
        table.column_mut(column).expect("the header has it").set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}

/// How many runs there are in all, by state: `76 runs: 26 done, 50 pending`.
pub fn totals(standings: &[Standing]) -> String {
    let parts: Vec<String> = (COLUMNS.iter())
        .map(|&column| (column, standings.iter().filter(|standing| standing.state == column).count()))
        .filter(|&(_, count)| count > 0)
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    format!("{} runs: {}", standings.len(), parts.join(", "))
}

/// A stage's name, and what its runs wait for.
fn describe(planned: &PlannedRun) -> (String, String) {
    let label = &planned.label;
    let axes: String = label.axes.iter().map(|(name, value)| format!(", {name} {value}")).collect();
    let (method, level) = (label.method, label.level);
    match (planned.run.kind(), label.between) {
        (Kind::Ticket, _) => (format!("{method} tickets{axes}"), "each for the level before".to_string()),
        (Kind::Transfer, _) => {
            let inherit = label.inherit.expect("a transfer inherits something");
            (format!("{method} level {level}, {inherit}{axes}"), format!("{method} level {level}"))
        }
        (Kind::Connect, Some(Between::Seeds)) => {
            let inherit = label.inherit.expect("what is joined inherits something");
            (format!("{method} level {level}, {inherit}, between seeds{axes}"), "both ends".to_string())
        }
        (Kind::Connect, _) => (format!("{method} level {level}, norm-init{axes}"), format!("{method} level {level}")),
    }
}
