//! A table whose rows and columns somebody chose.
//!
//! A cell pools seeds, and nothing else: where a cell would mix anything that was not named (methods, settings), that
//! becomes a part of the rows, and the table says so.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde::Serialize;

use super::clusters::of_clusters;
use super::grouping::{distinct, grouped};
use super::spreads::is_ticket_seed;
use super::statistics::Estimate;
use super::tables::{MISSING, method_text, remaining_text};
use super::{ConnectionRow, Report, Summary, TicketRow, TransferRow};
use crate::run::RunId;
use crate::run::settings::{Between, Inherit, Problem};
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

/// What differs within a cell, and is no seed.
fn unnamed(sources: &[Source], rows: &[String], columns: &[String], axes: &[String]) -> Vec<String> {
    let fields = ["dataset", "architecture", "method", "inherit", "between"].map(str::to_string);
    let settings = axes.iter().filter(|axis| !is_ticket_seed(axis)).cloned();
    let candidates: Vec<String> = fields.into_iter().chain(settings).chain(["level".to_string()]).collect();
    let mut added: Vec<String> = Vec::new();
    for candidate in candidates {
        let named: Vec<String> = rows.iter().chain(columns).chain(&added).cloned().collect();
        let with_numbers = sources.iter().filter(|source| !source.values.is_empty());
        let cells = grouped(with_numbers, |source| texts(source, &named));
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

#[cfg(test)]
mod tests {
    use super::super::fixture::Study;
    use super::*;
    use crate::run::settings::{Kind, Method};
    use crate::study::plan::RunState;

    fn layout(rows: &[&str], columns: &[&str], value: Measure) -> Layout {
        let names = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect());
        Layout { rows: names(rows), columns: names(columns), value: Some(value), ..Layout::default() }
    }

    fn made(study: &Study, layout: &Layout) -> Pivot {
        pivot(&study.report(), layout, Estimate::default()).unwrap_or_else(|refused| panic!("{}", refused.message))
    }

    fn means(pivot: &Pivot) -> Vec<Vec<Option<f64>>> {
        let mean = |cell: &Option<PivotCell>| cell.and_then(|cell| Some(cell.summary?.mean));
        let rounded = |mean: f64| (mean * 1e9).round() / 1e9;
        pivot.cells.iter().map(|row| row.iter().map(|cell| mean(cell).map(rounded)).collect()).collect()
    }

    #[test]
    fn rows_and_columns_as_they_were_chosen() {
        let study = Study::new(&[12, 3, 6], &[2, 3, 4], &[Axes::new()]);
        let table = made(&study, &layout(&["method", "inherit"], &["level"], Measure::Error));
        assert_eq!(table.column_keys, [["3"], ["6"], ["12"]]);
        assert_eq!(table.row_keys[1], ["LRR", "mask"]);
        assert_eq!((table.row_keys.len(), table.added.len()), (8, 0));
        // Errors around 6.3 · level / 12; at level 3 the smallest would be below 0 and is 0.
        assert_eq!(means(&table)[0][1..], [Some(3.15), Some(6.3)]);
        let cell = table.cells[0][2].unwrap();
        assert_eq!((cell.planned, cell.summary.unwrap().count), (3, 3));
        let other_way = made(&study, &layout(&["level"], &["inherit", "method"], Measure::Error));
        assert_eq!(other_way.column_keys[0], ["sign", "LRR"]);
        assert_eq!(other_way.column_keys[1], ["sign", "AWS"]);
        assert_eq!(means(&other_way)[2][0], Some(6.3));
    }

    /// Methods would share a cell.
    #[test]
    fn what_would_be_mixed_tells_rows_apart() {
        let table = made(&Study::digits(), &layout(&["inherit"], &["level"], Measure::Error));
        assert_eq!(
            (&table.rows[..], &table.added[..]),
            (&["method".to_string(), "inherit".to_string()][..], &["method".to_string()][..])
        );
        assert_eq!(means(&table)[0], [Some(6.3)]);
        let axes = |lr: &str| vec![("transfer.lr".to_string(), lr.to_string())];
        let study = Study::new(&[6, 12], &[2, 3], &[axes("0.05"), axes("0.1")]);
        let table = made(&study, &layout(&["method"], &["inherit"], Measure::Error));
        assert_eq!(table.added, ["transfer.lr", "level"]);
        assert_eq!(table.row_keys[1], ["0.05", "6", "AWS"]);
        let table = made(&study, &layout(&["method", "lr"], &["inherit", "level"], Measure::Error));
        assert_eq!((table.rows[1].as_str(), table.added.len()), ("transfer.lr", 0));
    }

    #[test]
    fn barriers_of_paths_by_what_they_join() {
        let table = made(&Study::digits(), &layout(&["method", "inherit"], &["between"], Measure::Barrier));
        assert_eq!(table.column_keys, [["seeds"], ["norm-init"]]);
        let means = means(&table);
        assert_eq!((means[0][0], means[0][1]), (Some(0.6), None));
        assert_eq!(table.row_keys[4], ["LRR", MISSING]);
        assert_eq!(means[4], [None, Some(3.3)]);
        // The interval is over three networks, as in the row of the report.
        let report = Study::digits().report();
        assert_eq!(table.cells[0][0].unwrap().summary, report.connections[0].summary);
    }

    #[test]
    fn other_values() {
        let study = Study::digits();
        let mean = |value| means(&made(&study, &layout(&["method"], &["inherit"], value)))[0][0];
        assert_eq!((mean(Measure::Seconds), mean(Measure::Loss)), (Some(4.0), Some(0.1)));
        assert_eq!(mean(Measure::Remaining), Some(6.871947674));
        let tickets = {
            let mut study = Study::digits();
            study.runs.retain(|(planned, ..)| planned.run.kind() == Kind::Ticket);
            study
        };
        let table = made(&tickets, &Layout { value: Some(Measure::Error), ..Layout::default() });
        assert_eq!(
            (table.rows[0].as_str(), table.columns[0].as_str(), table.column_keys.len()),
            ("method", "level", 13)
        );
        let by_ratio = made(&tickets, &layout(&["remaining"], &["method"], Measure::Error));
        assert_eq!((by_ratio.row_keys[0][0].as_str(), by_ratio.row_keys[12][0].as_str()), ("100.0 %", "6.9 %"));
        assert!(by_ratio.added.is_empty());
    }

    #[test]
    fn cells_say_what_they_lack() {
        let mut study = Study::digits();
        study.unfinish(RunState::Running, |planned| {
            let label = &planned.label;
            label.method == Some(Method::Lrr) && label.seeds.iter().any(|seeds| seeds.init > 2)
        });
        study.unfinish(RunState::Pending, |planned| planned.label.method == Some(Method::Aws));
        let table = made(&study, &layout(&["method", "inherit"], &["level"], Measure::Error));
        let cell =
            |row: usize| table.cells[row][0].map(|cell| (cell.summary.map(|summary| summary.count), cell.planned));
        assert_eq!((cell(0), cell(4)), (Some((Some(1), 3)), Some((None, 3))));
    }

    #[test]
    fn tickets_are_what_intervals_are_over() {
        let seed =
            |seed: &str| vec![("lr".to_string(), seed.to_string()), ("ticket.seed".to_string(), seed.to_string())];
        let mut study = Study::new(&[12], &[2, 3, 4], &["1", "2"].map(seed));
        for (planned, ..) in &mut study.runs {
            planned.label.axes.retain(|(name, _)| name != "lr");
        }
        let table = made(&study, &layout(&["method"], &["inherit"], Measure::Error));
        let summary = table.cells[0][0].unwrap().summary.unwrap();
        assert_eq!((summary.count, table.added.len()), (6, 0));
        // Both tickets have the same errors in this study: their means do not differ.
        let interval = summary.interval.unwrap();
        assert!((interval.high - interval.low).abs() < 1e-9 && summary.std.unwrap() > 1.0);
        let apart = made(&study, &layout(&["method", "ticket.seed"], &["inherit"], Measure::Error));
        assert_eq!(apart.cells[0][0].unwrap().summary.unwrap().count, 3);
    }

    #[test]
    fn unknown_names_are_told_with_the_nearest() {
        let refused = |rows: &[&str], columns: &[&str]| {
            let axes = vec![("ticket.lr".to_string(), "1".to_string()), ("transfer.lr".to_string(), "1".to_string())];
            let study = Study::new(&[12], &[2, 3], &[axes]);
            pivot(&study.report(), &layout(rows, columns, Measure::Error), Estimate::default()).unwrap_err()
        };
        let typo = refused(&["inhert"], &["level"]);
        assert_eq!(typo.message, "this study has no `inhert` to make rows or columns of");
        assert!(typo.help.starts_with("did you mean `inherit`? rows and columns can be `method`, "), "{}", typo.help);
        assert!(typo.help.ends_with("`ticket.lr`, `transfer.lr`"));
        assert_eq!(refused(&["lr"], &["level"]).help, "say which: `ticket.lr`, `transfer.lr`");
        assert_eq!(refused(&["level"], &["level"]).message, "`level` is given twice");
    }
}
