//! A table whose rows and columns somebody chose.
//!
//! A cell pools seeds, and nothing else: where a cell would mix anything that was not named (methods, settings), that
//! becomes a part of the rows, and the table says so.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde::Serialize;

use super::clusters::of_clusters;
use super::spreads::is_ticket_seed;
use super::statistics::Estimate;
use super::tables::{MISSING, method_text, remaining_text};
use super::{ConnectionRow, Report, Summary, TicketRow, TransferRow};
use crate::run::RunId;
use crate::run::settings::{Between, Inherit, Problem};
use crate::study::grouping::{distinct, grouped};
use crate::study::sweep::{Axes, FIELDS, Layout, Measure, Show};
use crate::study::yaml::{listed, nearest, quoted};

/// A chosen table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pivot {
    pub value: Measure,
    pub show: Show,
    /// What tells rows apart, and columns.
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// Those of `rows` that nobody named, but without which cells would mix different things.
    pub added: Vec<String>,
    /// The values of `rows` in each row, and those of `columns` in each column.
    pub row_keys: Vec<Vec<String>>,
    pub column_keys: Vec<Vec<String>>,
    /// Row after row; none where nothing is planned.
    pub cells: Vec<Vec<Option<PivotCell>>>,
}

/// A cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PivotCell {
    /// None while nothing is finished.
    pub summary: Option<Summary>,
    /// How many numbers it will be made of.
    pub planned: usize,
}

/// Why there is no such table: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    pub message: String,
    pub help: String,
}

/// Something with numbers in it, to be put into a cell.
struct Source<'r> {
    problem: Problem,
    method: String,
    level: u32,
    remaining: Option<f64>,
    inherit: Option<Inherit>,
    between: Option<Between>,
    axes: &'r Axes,
    values: Vec<f64>,
    /// Of each value, the networks at both ends of its path.
    ends: Option<Vec<[&'r RunId; 2]>>,
    planned: usize,
}

pub fn pivot(report: &Report, layout: &Layout, estimate: Estimate) -> Result<Pivot, Refused> {
    let value = layout.value.unwrap_or_default();
    let sources = sources(report, value);
    let axes = distinct(sources.iter().flat_map(|source| source.axes.iter().map(|(name, _)| name.clone())));
    let resolve = |names: &[String]| names.iter().map(|name| resolve(name, &axes)).collect::<Result<Vec<_>, _>>();

    let by_inherit = sources.iter().any(|source| source.inherit.is_some());
    let default_row = if by_inherit { "inherit" } else { "method" };
    let columns = layout.columns.as_deref().map(resolve).transpose()?;
    let mut rows = match layout.rows.as_deref() {
        Some(names) => resolve(names)?,
        None => vec![default_row.to_string()],
    };
    if layout.rows.is_none() {
        rows.retain(|name| !columns.iter().flatten().any(|column| column == name));
    }
    let has_level = rows.iter().any(|name| name == "level" || name == "remaining");
    let columns = columns.unwrap_or(if has_level { vec![] } else { vec!["level".to_string()] });
    check_distinct(&rows, &columns)?;

    let added = unnamed(&sources, &rows, &columns, &axes);
    let rows: Vec<String> = added.iter().cloned().chain(rows).collect();
    let (row_keys, column_keys) = (keys(&sources, &rows), keys(&sources, &columns));
    let of_cells = grouped(&sources, |source| (texts(source, &rows), texts(source, &columns)));
    let by_keys: HashMap<_, Vec<&Source>> = (of_cells.into_iter())
        .map(|sources| ((texts(sources[0], &rows), texts(sources[0], &columns)), sources))
        .collect();
    let cell = |row: &Vec<String>, column: &Vec<String>| {
        let sources = by_keys.get(&(row.clone(), column.clone()))?;
        let planned = sources.iter().map(|source| source.planned).sum();
        Some(PivotCell { summary: summary(sources, estimate), planned })
    };
    let cells = row_keys.iter().map(|row| column_keys.iter().map(|column| cell(row, column)).collect()).collect();
    let show = layout.show.unwrap_or_default();
    Ok(Pivot { value, show, rows, columns, added, row_keys, column_keys, cells })
}

/// Barriers are of paths; all else is of transfers, and of tickets where there are none.
fn sources(report: &Report, value: Measure) -> Vec<Source<'_>> {
    match value {
        Measure::Barrier | Measure::TrainBarrier | Measure::LossBarrier => {
            report.connections.iter().map(|row| of_paths(row, value)).collect()
        }
        Measure::Error | Measure::Loss | Measure::Remaining | Measure::Seconds => match report.transfers.is_empty() {
            true => report.tickets.iter().map(|row| of_ticket(row, value)).collect(),
            false => report.transfers.iter().map(|row| of_transfers(row, value)).collect(),
        },
    }
}

fn of_ticket(row: &TicketRow, value: Measure) -> Source<'_> {
    let number = match value {
        Measure::Loss => row.test_loss,
        Measure::Remaining => row.remaining_ratio.map(|ratio| 100.0 * ratio),
        Measure::Seconds => row.seconds,
        _ => row.test_error,
    };
    Source {
        problem: row.problem,
        method: method_text(Some(row.method)),
        level: row.level,
        remaining: row.remaining_ratio,
        inherit: None,
        between: None,
        axes: &row.axes,
        values: number.into_iter().filter(|number| number.is_finite()).collect(),
        ends: None,
        planned: 1,
    }
}

fn of_transfers(row: &TransferRow, value: Measure) -> Source<'_> {
    let numbers: Vec<Option<f64>> = match value {
        Measure::Loss => row.errors.iter().map(|seed| Some(seed.loss)).collect(),
        Measure::Remaining => row.errors.iter().map(|_| row.remaining_ratio.map(|ratio| 100.0 * ratio)).collect(),
        Measure::Seconds => row.errors.iter().map(|seed| Some(seed.seconds)).collect(),
        _ => row.errors.iter().map(|seed| Some(seed.error)).collect(),
    };
    Source {
        problem: row.problem,
        method: method_text(row.method),
        level: row.level,
        remaining: row.remaining_ratio,
        inherit: Some(row.inherit),
        between: None,
        axes: &row.axes,
        values: numbers.into_iter().flatten().filter(|number| number.is_finite()).collect(),
        ends: None,
        planned: row.seeds_planned,
    }
}

fn of_paths(row: &ConnectionRow, value: Measure) -> Source<'_> {
    let numbers: Vec<(f64, [&RunId; 2])> = (row.paths.iter())
        .filter_map(|pair| {
            let number = match value {
                Measure::TrainBarrier => pair.train_barrier?,
                Measure::LossBarrier => pair.loss_barrier?,
                _ => pair.barrier,
            };
            Some((number, [&pair.ends[0].run, &pair.ends[1].run]))
        })
        .collect();
    let (values, ends) = numbers.into_iter().unzip();
    Source {
        problem: row.problem,
        method: method_text(row.method),
        level: row.level,
        remaining: row.remaining_ratio,
        inherit: row.inherit,
        between: Some(row.between),
        axes: &row.axes,
        values,
        ends: Some(ends),
        planned: row.pairs_planned,
    }
}

/// The whole name of a field or an axis of the study.
fn resolve(name: &str, axes: &[String]) -> Result<String, Refused> {
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
            return Err(Refused { message, help });
        }
    }
    let known = || FIELDS.into_iter().chain(axes.iter().map(String::as_str));
    let all = format!("rows and columns can be {}", listed(known()));
    let help = match nearest(name, known()) {
        Some(near) => format!("did you mean `{near}`? {all}"),
        None => all,
    };
    Err(Refused { message: format!("this study has no {} to make rows or columns of", quoted(name)), help })
}

fn check_distinct(rows: &[String], columns: &[String]) -> Result<(), Refused> {
    let all: Vec<&String> = rows.iter().chain(columns).collect();
    let twice = all.iter().enumerate().find(|(at, name)| all[..*at].contains(name));
    match twice {
        None => Ok(()),
        Some((_, name)) => Err(Refused {
            message: format!("{} is given twice", quoted(name)),
            help: "a name can tell rows apart, or columns, but only once".to_string(),
        }),
    }
}

/// What differs within a cell, and is no seed; of all that is planned, so that a table keeps its shape while it fills.
fn unnamed(sources: &[Source], rows: &[String], columns: &[String], axes: &[String]) -> Vec<String> {
    let fields = ["dataset", "architecture", "method", "inherit", "between"].map(str::to_string);
    let settings = axes.iter().filter(|axis| !is_ticket_seed(axis)).cloned();
    let candidates: Vec<String> = fields.into_iter().chain(settings).chain(["level".to_string()]).collect();
    let mut added: Vec<String> = Vec::new();
    // Nobody can tell from other names what a path leads between.
    let between = "between".to_string();
    let several = distinct(sources.iter().map(|source| source.between)).len() > 1;
    if several && !rows.iter().chain(columns).any(|name| *name == between) {
        added.push(between);
    }
    for candidate in candidates {
        let named: Vec<String> = rows.iter().chain(columns).chain(&added).cloned().collect();
        let cells = grouped(sources, |source| texts(source, &named));
        let mixes = |cell: &Vec<&Source>| distinct(cell.iter().map(|source| text(source, &candidate))).len() > 1;
        if !named.contains(&candidate) && cells.iter().any(mixes) {
            added.push(candidate);
        }
    }
    added
}

fn text(source: &Source, name: &str) -> String {
    match name {
        "method" => source.method.clone(),
        "level" => source.level.to_string(),
        "remaining" => remaining_text(source.remaining),
        "inherit" => source.inherit.map_or(MISSING.to_string(), |inherit| inherit.to_string()),
        "between" => source.between.map_or(MISSING.to_string(), |between| between.to_string()),
        "dataset" => source.problem.dataset.to_string(),
        "architecture" => source.problem.architecture.to_string(),
        axis => {
            let found = source.axes.iter().find(|(name, _)| name == axis);
            found.map_or(MISSING.to_string(), |(_, value)| value.clone())
        }
    }
}

fn texts(source: &Source, names: &[String]) -> Vec<String> {
    names.iter().map(|name| text(source, name)).collect()
}

/// All values of these names together. Numbers are in their order (of remaining ratios, the other way round), words in
/// that of the report.
fn keys(sources: &[Source], names: &[String]) -> Vec<Vec<String>> {
    let mut keys = distinct(sources.iter().map(|source| texts(source, names)));
    let places: Vec<Vec<String>> =
        names.iter().map(|name| distinct(sources.iter().map(|source| text(source, name)))).collect();
    let by_number = |texts: &[String]| texts.iter().all(|text| number(text).is_some() || text == MISSING);
    let compare = |(at, name): (usize, &String), one: &Vec<String>, other: &Vec<String>| {
        let place = |text: &String| places[at].iter().position(|known| known == text);
        match by_number(&places[at]) {
            false => place(&one[at]).cmp(&place(&other[at])),
            true => {
                let ordering = number(&one[at]).partial_cmp(&number(&other[at])).unwrap_or(Ordering::Equal);
                if name == "remaining" { ordering.reverse() } else { ordering }
            }
        }
    };
    keys.sort_by(|one, other| {
        let orderings = names.iter().enumerate().map(|name| compare(name, one, other));
        orderings.fold(Ordering::Equal, Ordering::then)
    });
    keys
}

fn number(text: &str) -> Option<f64> {
    text.trim_end_matches(" %").parse().ok()
}

/// Of all numbers of a cell. Those of one ticket have its chance in common: of several tickets, the interval is over
/// tickets.
fn summary(sources: &[&Source], estimate: Estimate) -> Option<Summary> {
    let tickets = grouped(sources.iter().copied(), |source| {
        let seeds = source.axes.iter().filter(|(name, _)| is_ticket_seed(name));
        seeds.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    });
    if let [only] = &tickets[..]
        && let Some(ends) = only.iter().map(|source| source.ends.as_ref()).collect::<Option<Vec<_>>>()
    {
        let values = only.iter().flat_map(|source| source.values.iter().copied());
        let paths: Vec<(f64, [&RunId; 2])> = values.zip(ends.into_iter().flatten().copied()).collect();
        return Summary::of_paths(&paths, estimate);
    }
    let values = |of_one: &Vec<&Source>| of_one.iter().flat_map(|source| source.values.iter().copied()).collect();
    of_clusters(&tickets.iter().map(values).collect::<Vec<Vec<f64>>>(), estimate)
}

impl Pivot {
    /// For each row, the places of the report's rows that its cells are made of: of the connections where barriers are
    /// shown, else of the transfers, or of the tickets where there are no transfers.
    pub fn origins(&self, report: &Report) -> Vec<Vec<usize>> {
        let keys: Vec<_> = sources(report, self.value).iter().map(|source| texts(source, &self.rows)).collect();
        let of_row = |row: &Vec<String>| (0..keys.len()).filter(|&at| keys[at] == *row).collect();
        self.row_keys.iter().map(of_row).collect()
    }
}

#[cfg(test)]
mod tests;
