//! A custom table: its rows and columns are chosen by the user.
//!
//! A cell pools seeds, and nothing else: if a cell would mix anything that was not named (methods, settings), rows are parted
//! by that, too, and the table says so.

mod table;

use std::cmp::Ordering;
use std::collections::HashMap;

use serde::Serialize;
use winsign_core::grouping::{distinct, grouped};
use winsign_core::settings::Between;
use winsign_core::{Diagnostic, RunId};
use winsign_sweep::yaml::{listed, nearest, quoted};
use winsign_sweep::{FIELDS, Layout, Measure, Show};

use super::paths::PAIRS;
use super::sample::{Sample, best};
use super::spreads::is_ticket_seed;
use super::statistics::Estimate;
use super::table::{MISSING, axis_value, compare_numbers, method_text, remaining_text};
use super::{ConnectionRow, Report, Summary};

/// A custom table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pivot {
    pub value: Measure,
    pub show: Show,
    /// The names whose values make the rows, and the columns.
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// Those of `rows` that the user did not name, but without which cells would mix different things.
    pub added: Vec<String>,
    /// The values of `rows` in each row, and those of `columns` in each column.
    pub row_keys: Vec<Vec<String>>,
    pub column_keys: Vec<Vec<String>>,
    /// Row after row; none where nothing is planned.
    pub cells: Vec<Vec<Option<PivotCell>>>,
    /// The planned runs of each row.
    #[serde(skip)]
    pub runs: Vec<Vec<RunId>>,
}

/// A cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PivotCell {
    /// None while nothing is finished.
    pub summary: Option<Summary>,
    /// The number of runs or paths that are planned.
    pub planned: usize,
    /// The number of tickets that the numbers are from; none where each network is a sample, as of dense networks.
    pub tickets: Option<usize>,
    /// The number of tickets once all runs are done.
    pub tickets_planned: Option<usize>,
    /// True if the value is lower than every other one of its column that it is compared with, as the intervals of the
    /// differences show.
    pub best: bool,
}

impl PivotCell {
    /// Returns the cell of samples that have one ticket each; `None` if nothing is planned.
    fn from_samples(samples: &[&Sample], estimate: Estimate) -> Option<PivotCell> {
        let merged = Sample::merged(samples)?;
        let over_tickets = merged.is_over_tickets();
        Some(PivotCell {
            summary: merged.summary(estimate),
            planned: merged.planned,
            tickets: over_tickets.then(|| merged.tickets()),
            tickets_planned: over_tickets.then_some(samples.len()),
            best: false,
        })
    }
}

pub fn pivot(report: &Report, layout: &Layout, estimate: Estimate) -> Result<Pivot, Diagnostic> {
    let value = layout.value.unwrap_or_default();
    let samples = samples(report, value);
    let Names { rows, columns, added } = Names::choose(&samples, layout)?;
    let (row_keys, column_keys) = (keys(&samples, &rows), keys(&samples, &columns));
    let (row_places, column_places) = (places(&row_keys), places(&column_keys));
    let mut grid: Vec<Vec<Vec<&Sample>>> = vec![vec![vec![]; column_keys.len()]; row_keys.len()];
    let mut runs: Vec<Vec<RunId>> = vec![vec![]; row_keys.len()];
    for sample in &samples {
        let (row, column) = (row_places[&texts(sample, &rows)], column_places[&texts(sample, &columns)]);
        grid[row][column].push(sample);
        runs[row].extend(sample.runs.iter().copied().cloned());
    }
    let row_cells =
        |row: &Vec<Vec<&Sample>>| row.iter().map(|samples| PivotCell::from_samples(samples, estimate)).collect();
    let mut cells: Vec<Vec<Option<PivotCell>>> = grid.iter().map(row_cells).collect();
    for (row, column) in best_cells(&grid, &row_keys, &rows, value, estimate) {
        cells[row][column].as_mut().expect("the best cell has numbers").best = true;
    }
    let show = layout.show.unwrap_or_default();
    Ok(Pivot { value, show, rows, columns, added, row_keys, column_keys, cells, runs })
}

/// The names whose values make rows and columns; `rows` include `added`.
struct Names {
    rows: Vec<String>,
    columns: Vec<String>,
    added: Vec<String>,
}

impl Names {
    fn choose(samples: &[Sample], layout: &Layout) -> Result<Names, Diagnostic> {
        let axes = distinct(samples.iter().flat_map(|sample| sample.axes.iter().map(|(name, _)| name.clone())));
        let resolve = |names: &[String]| names.iter().map(|name| resolve(name, &axes)).collect::<Result<Vec<_>, _>>();
        let columns = layout.columns.as_deref().map(resolve).transpose()?;
        let rows = match layout.rows.as_deref() {
            Some(names) => resolve(names)?,
            None => {
                let by_inherit = samples.iter().any(|sample| sample.inherit.is_some());
                let default = if by_inherit { "inherit" } else { "method" };
                let is_column = columns.iter().flatten().any(|column| column == default);
                if is_column { vec![] } else { vec![default.to_string()] }
            }
        };
        let has_level = rows.iter().any(|name| name == "level" || name == "remaining");
        let columns = columns.unwrap_or(if has_level { vec![] } else { vec!["level".to_string()] });
        check_distinct(&rows, &columns)?;
        let added = unnamed(samples, &rows, &columns, &axes);
        let rows = added.iter().cloned().chain(rows).collect();
        Ok(Names { rows, columns, added })
    }
}

/// Returns the place of each key.
fn places(keys: &[Vec<String>]) -> HashMap<&Vec<String>, usize> {
    keys.iter().enumerate().map(|(place, key)| (key, place)).collect()
}

/// A sample for each ticket. Barriers are of paths; all else is of transfers, and of tickets where there are none.
fn samples(report: &Report, value: Measure) -> Vec<Sample<'_>> {
    if value.is_of_paths() {
        let has_value = |row: &&ConnectionRow| value != Measure::NormChange || row.between == Between::NormInit;
        return report
            .connections
            .iter()
            .filter(has_value)
            .flat_map(|row| Sample::each_ticket_of_paths(row, value))
            .collect();
    }
    match report.transfers.is_empty() {
        true => report.tickets.iter().map(|row| Sample::from_ticket(row, value)).collect(),
        false => report.transfers.iter().flat_map(|row| Sample::each_ticket_of_transfers(row, value)).collect(),
    }
}

/// Returns the whole name of a field or an axis of the study.
fn resolve(name: &str, axes: &[String]) -> Result<String, Diagnostic> {
    if FIELDS.contains(&name) || axes.iter().any(|axis| axis == name) {
        return Ok(name.to_string());
    }
    let ends_so: Vec<&String> = axes.iter().filter(|axis| axis.rsplit('.').next() == Some(name)).collect();
    match ends_so[..] {
        [one] => return Ok(one.clone()),
        [] => {}
        _ => {
            let message = format!("{} is an axis of several blocks", quoted(name));
            let help = format!("say which: {}", listed(ends_so.iter().map(|axis| axis.as_str())));
            return Err(Diagnostic::new(message, help));
        }
    }
    let known = || FIELDS.into_iter().chain(axes.iter().map(String::as_str));
    let all = format!("rows and columns can be {}", listed(known()));
    let help = match nearest(name, known()) {
        Some(near) => format!("did you mean `{near}`? {all}"),
        None => all,
    };
    Err(Diagnostic::new(format!("{} is not an axis of this study", quoted(name)), help))
}

fn check_distinct(rows: &[String], columns: &[String]) -> Result<(), Diagnostic> {
    let all: Vec<&String> = rows.iter().chain(columns).collect();
    let twice = all.iter().enumerate().find(|(at, name)| all[..*at].contains(name));
    match twice {
        None => Ok(()),
        Some((_, name)) => Err(Diagnostic::new(
            format!("{} is given twice", quoted(name)),
            "give each name once, to rows or to columns",
        )),
    }
}

/// Returns the names, other than seeds, whose values differ within a cell, over all that is planned: so a table keeps its shape
/// while it fills.
fn unnamed(samples: &[Sample], rows: &[String], columns: &[String], axes: &[String]) -> Vec<String> {
    let fields = ["dataset", "architecture", "method", "inherit", "between"].map(str::to_string);
    let settings = axes.iter().filter(|axis| !is_ticket_seed(axis)).cloned();
    let candidates: Vec<String> = fields.into_iter().chain(settings).chain(["level".to_string()]).collect();
    let mut added: Vec<String> = Vec::new();
    // No other name says what a path joins.
    let between = "between".to_string();
    let several = distinct(samples.iter().map(|sample| sample.between)).len() > 1;
    if several && !rows.iter().chain(columns).any(|name| *name == between) {
        added.push(between);
    }
    for candidate in candidates {
        let named: Vec<String> = rows.iter().chain(columns).chain(&added).cloned().collect();
        let cells = grouped(samples, |sample| texts(sample, &named));
        let mixes = |cell: &Vec<&Sample>| distinct(cell.iter().map(|sample| text(sample, &candidate))).len() > 1;
        if !named.contains(&candidate) && cells.iter().any(mixes) {
            added.push(candidate);
        }
    }
    added
}

fn text(sample: &Sample, name: &str) -> String {
    match name {
        // Pairs of tickets of two methods are named by both.
        "method" if sample.method.is_none() && !axis_value(sample.axes, PAIRS).is_empty() => {
            axis_value(sample.axes, PAIRS).to_string()
        }
        "method" => method_text(sample.method),
        "level" => sample.level.to_string(),
        "remaining" => remaining_text(sample.remaining),
        "inherit" => sample.inherit.map_or(MISSING.to_string(), |inherit| inherit.to_string()),
        "between" => sample.between.map_or(MISSING.to_string(), |between| between.to_string()),
        "dataset" => sample.problem.dataset.to_string(),
        "architecture" => sample.problem.architecture.to_string(),
        axis => match axis_value(sample.axes, axis) {
            "" => MISSING.to_string(),
            value => value.to_string(),
        },
    }
}

fn texts(sample: &Sample, names: &[String]) -> Vec<String> {
    names.iter().map(|name| text(sample, name)).collect()
}

/// Returns all combinations of the values of these names. Numbers ascend (remaining ratios descend), words are in the order of
/// the report.
fn keys(samples: &[Sample], names: &[String]) -> Vec<Vec<String>> {
    let mut keys = distinct(samples.iter().map(|sample| texts(sample, names)));
    let places: Vec<Vec<String>> =
        names.iter().map(|name| distinct(samples.iter().map(|sample| text(sample, name)))).collect();
    let by_number: Vec<bool> =
        places.iter().map(|texts| texts.iter().all(|text| is_number(text) || text == MISSING)).collect();
    let compare = |(at, name): (usize, &String), one: &Vec<String>, other: &Vec<String>| {
        let place = |text: &String| places[at].iter().position(|known| known == text);
        match (by_number[at], name.as_str()) {
            (false, _) => place(&one[at]).cmp(&place(&other[at])),
            (true, "remaining") => compare_keys(&other[at], &one[at]),
            (true, _) => compare_keys(&one[at], &other[at]),
        }
    };
    keys.sort_by(|one, other| {
        let orderings = names.iter().enumerate().map(|name| compare(name, one, other));
        orderings.fold(Ordering::Equal, Ordering::then)
    });
    keys
}

fn is_number(text: &str) -> bool {
    text.trim_end_matches(" %").parse::<f64>().is_ok()
}

/// Compares numbers, with or without a sign for percent; a missing one is smaller.
fn compare_keys(one: &str, other: &str) -> Ordering {
    let [a, b] = [one, other].map(|text| text.trim_end_matches(" %"));
    compare_numbers(a, b).unwrap_or_else(|| is_number(a).cmp(&is_number(b)))
}

/// Returns the cells of each column that are lower than all others which differ from them only in what is compared, for measures
/// of which less is better.
fn best_cells(
    grid: &[Vec<Vec<&Sample>>],
    row_keys: &[Vec<String>],
    rows: &[String],
    value: Measure,
    estimate: Estimate,
) -> Vec<(usize, usize)> {
    if matches!(value, Measure::Remaining | Measure::Seconds) {
        return vec![];
    }
    let conditions = |row: &usize| -> Vec<&String> {
        let named = rows.iter().zip(&row_keys[*row]);
        named.filter(|(name, _)| !is_compared(name)).map(|(_, value)| value).collect()
    };
    let columns = grid.first().map_or(0, Vec::len);
    let mut found = vec![];
    for compared in grouped(0..row_keys.len(), conditions) {
        for column in 0..columns {
            let merged = compared.iter().filter_map(|&row| Some((row, Sample::merged(grid[row].get(column)?)?)));
            let (rows, samples): (Vec<usize>, Vec<Sample>) = merged.unzip();
            let place = best(&samples.iter().collect::<Vec<_>>(), estimate);
            found.extend(place.map(|place| (rows[place], column)));
        }
    }
    found
}

/// Returns whether a name says how a network was obtained; all others are conditions.
fn is_compared(name: &str) -> bool {
    matches!(name, "method" | "inherit")
}

#[cfg(test)]
mod tests;
