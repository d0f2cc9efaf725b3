//! The report's rows as tables that the page sorts and filters. Each row knows the runs behind its numbers.

use std::ops::Range;

use serde::Serialize;
use serde_json::{Value, json};
use winsign_core::settings::{Between, Inherit, Kind, Method};
use winsign_sweep::plan::RunState;
use winsign_sweep::{Axes, Show};

use super::columns::{column, number};
use super::index::Index;
use crate::markdown::capitalized;
use crate::paths::alignment_note;
use crate::statistics::percent;
use crate::tables::{
    axis_names, axis_value, barriers_between_seeds, compared_text, method_text, note_of_single_tickets, transfer_key,
};
use crate::{ConnectionRow, Interval, Part, Report, Summary, TransferRow};

/// A table of the page.
#[derive(Serialize)]
pub(super) struct Table {
    /// Its place in links: `#transfers`.
    pub id: &'static str,
    pub title: &'static str,
    /// How to read it.
    pub note: String,
    columns: Vec<Column>,
    /// For each row the places of its runs.
    runs: Vec<Vec<usize>>,
}

#[derive(Serialize)]
pub(super) struct Column {
    title: String,
    form: Form,
    /// Whether the column tells what a row is about, rather than what came out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    key: bool,
    values: Value,
    /// What stands beside each value, as `form` says: a deviation, a planned number, the upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<Value>,
    /// The places of the values that are the best of what they are compared with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    best: Vec<usize>,
}

/// How the values of a column are shown. All but texts are sorted as numbers.
#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    Text,
    Integer,
    /// Of percent or percentage points: one decimal.
    Points,
    /// With a deviation beside it.
    Spread,
    /// From one end to the other.
    Range,
    /// What is done, of what is planned.
    Count,
    /// A ratio, in percent with two digits however small it is.
    Ratio,
    /// Three significant digits.
    Number,
    /// Seconds.
    Duration,
    /// A p-value.
    P,
    /// As the text beside it; the number itself is what rows are sorted by.
    Written,
}

impl Column {
    pub(super) fn new(title: &str, form: Form, values: Vec<Value>) -> Column {
        Column { title: title.to_string(), form, key: false, values: column(values), beside: None, best: vec![] }
    }

    fn with(title: &str, form: Form, values: Vec<Value>, beside: Vec<Value>) -> Column {
        Column { beside: Some(column(beside)), ..Column::new(title, form, values) }
    }

    pub(super) fn key(title: &str, form: Form, values: Vec<Value>) -> Column {
        Column { key: true, ..Column::new(title, form, values) }
    }

    /// Marks the best values.
    fn with_best(self, is_best: Vec<bool>) -> Column {
        let places = is_best.into_iter().enumerate().filter(|(_, is_best)| *is_best).map(|(at, _)| at);
        Column { best: places.collect(), ..self }
    }

    /// Whether there is anything in it.
    pub(super) fn says_something(&self) -> bool {
        self.form == Form::Written
            || !matches!(&self.values, Value::Object(same) if same.get("all").is_some_and(|all| all.is_null() || all == ""))
    }
}

/// Columns of every axis that is one in these rows.
pub(super) fn axes_columns<'a, I: Iterator<Item = &'a Axes> + Clone>(axes: I) -> Vec<Column> {
    let names = axis_names(axes.clone());
    let values = |name: &str| axes.clone().map(|axes| json!(axis_value(axes, name))).collect();
    names.iter().map(|name| Column::key(name, Form::Text, values(name))).collect()
}

/// Every table that has rows.
pub(super) fn tables(report: &Report, index: &Index) -> Vec<Table> {
    let tables = [
        transfers(report, index),
        connections(report, index),
        tickets(report, index),
        differences(report, index),
        spreads(report, index),
        planes(report, index),
        failures(index),
    ];
    let mut tables: Vec<Table> =
        chosen(report, index).into_iter().chain(tables).filter(|table| !table.runs.is_empty()).collect();
    tables.iter_mut().for_each(|table| table.columns.retain(Column::says_something));
    tables
}

/// The table that was asked for, with the same texts as everywhere.
fn chosen(report: &Report, index: &Index) -> Option<Table> {
    let pivot = report.pivot.as_ref()?;
    let table = pivot.table();
    let keys = pivot.rows.len();
    let center = |summary: Summary| match pivot.show {
        Show::Mean | Show::MeanStd | Show::MeanCi => summary.mean,
        Show::Median | Show::MedianRange => summary.median,
        Show::Max => summary.max,
    };
    let columns = table.columns.iter().enumerate().map(|(at, column)| {
        let texts = each(&table.rows, |row| json!(row[at]));
        let title = column.title.replace('\n', ", ");
        if at < keys {
            return Column::key(&title, Form::Text, texts);
        }
        let numbers = each(&pivot.cells, |row| number(row[at - keys].and_then(|cell| cell.summary).map(center)));
        let best = each(&pivot.cells, |row| row[at - keys].is_some_and(|cell| cell.best));
        Column::with(&title, Form::Written, numbers, texts).with_best(best)
    });
    let runs_of = |(at, part): (usize, usize)| match pivot.value.is_of_paths() {
        true => runs_of_paths(index, &report.connections[at], part..part + 1),
        false if report.transfers.is_empty() => index.place(&report.tickets[at].run).into_iter().collect(),
        false => runs_of_transfers(index, &report.transfers[at], part..part + 1),
    };
    let runs = pivot.origins(report).into_iter().map(|rows| {
        let mut runs: Vec<usize> = rows.into_iter().flat_map(runs_of).collect();
        runs.sort_unstable();
        runs.dedup();
        runs
    });
    let note = format!("{}. {}", capitalized(&pivot.caption()), pivot.note()).trim_end().to_string();
    Some(Table { id: "chosen", title: "As chosen", note, columns: columns.collect(), runs: runs.collect() })
}

fn transfers(report: &Report, index: &Index) -> Table {
    let rows = &report.transfers;
    let beside = barriers_between_seeds(report);
    let barriers: Vec<Option<&ConnectionRow>> =
        rows.iter().map(|row| beside.get(&transfer_key(row)).copied()).collect();
    let mut columns = place(rows.iter().map(|row| (row.method, row.level, row.remaining_ratio)));
    columns.push(Column::key("transferred", Form::Text, each(rows, |row| json!(row.inherit))));
    columns.extend(axes_columns(rows.iter().map(|row| &row.axes)));
    columns.push(Column::with(
        "tickets",
        Form::Count,
        each(rows, |row| json!(row.tickets)),
        each(rows, |row| json!(row.tickets_planned)),
    ));
    columns.push(Column::with(
        "seeds",
        Form::Count,
        each(rows, |row| json!(row.seeds)),
        each(rows, |row| json!(row.seeds_planned)),
    ));
    columns.push(error_column(rows.iter().map(|row| row.summary)).with_best(each(rows, |row| row.best)));
    columns.extend(summary_columns(rows.iter().map(|row| row.summary)));
    let barrier = Column::new(
        "barrier between seeds",
        Form::Points,
        each(&barriers, |row| number(row.and_then(|row| row.barrier_mean))),
    );
    columns.push(barrier.with_best(each(&barriers, |row| row.is_some_and(|row| row.best))));
    columns.push(interval_column("barrier, ", barriers.iter().map(|row| row.and_then(|row| row.summary))));
    let runs = each(rows, |row| runs_of_transfers(index, row, 0..row.parts.len()));
    let note = "Transfers that differ in nothing but their seeds and those of their tickets. Errors in percent of the test \
                set. Each ticket counts once. Bold is lower than all others of its level, as the intervals of the differences \
                show. ";
    let note = format!("{note}{}{}", note_of_single_tickets(report), interval_note(report));
    Table { id: "transfers", title: "Transfers", note, columns, runs }
}

fn runs_of_transfers(index: &Index, row: &TransferRow, parts: Range<usize>) -> Vec<usize> {
    let place = (Kind::Transfer, row.method, row.level, Some(row.inherit), None);
    let of_part =
        |part: &Part| index.of_row(row.errors[part.numbers.clone()].iter().map(|seed| &seed.run), place, &part.axes);
    row.parts[parts].iter().flat_map(of_part).collect()
}

fn connections(report: &Report, index: &Index) -> Table {
    let rows = &report.connections;
    let mut columns = place(rows.iter().map(|row| (row.method, row.level, row.remaining_ratio)));
    columns.push(Column::key("transferred", Form::Text, each(rows, |row| json!(row.inherit))));
    columns.push(Column::key("between", Form::Text, each(rows, |row| json!(row.between))));
    columns.extend(axes_columns(rows.iter().map(|row| &row.axes)));
    columns.push(Column::with(
        "tickets",
        Form::Count,
        each(rows, |row| json!(row.tickets)),
        each(rows, |row| json!(row.tickets_planned)),
    ));
    columns.push(Column::with(
        "paths",
        Form::Count,
        each(rows, |row| json!(row.pairs)),
        each(rows, |row| json!(row.pairs_planned)),
    ));
    let std = |summary: Option<Summary>| number(summary.and_then(|summary| summary.std));
    let barrier = Column::with(
        "barrier, mean ± std",
        Form::Spread,
        each(rows, |row| number(row.barrier_mean)),
        each(rows, |row| std(row.summary)),
    );
    columns.push(barrier.with_best(each(rows, |row| row.best)));
    columns.push(Column::new("largest", Form::Points, each(rows, |row| number(row.barrier_max))));
    columns.extend(summary_columns(rows.iter().map(|row| row.summary)));
    let mean = |summary: Option<Summary>| number(summary.map(|summary| summary.mean));
    columns.push(Column::new("barrier in training", Form::Points, each(rows, |row| mean(row.train_summary))));
    columns.push(Column::new("barrier of the loss", Form::Number, each(rows, |row| mean(row.loss_summary))));
    columns.push(Column::new("sign agreement", Form::Ratio, each(rows, |row| number(agreement(row)))));
    let runs = each(rows, |row| runs_of_paths(index, row, 0..row.parts.len()));
    let note = "Paths between networks. Barriers of the test error in percentage points: the largest error on a path \
                over the mean of its ends.";
    let aligned = alignment_note(&report.connections).map_or(String::new(), |aligned| format!(" {aligned}"));
    let note = format!("{note}{aligned}{}", interval_note(report));
    Table { id: "connections", title: "Connections", note, columns, runs }
}

fn runs_of_paths(index: &Index, row: &ConnectionRow, parts: Range<usize>) -> Vec<usize> {
    let place = (Kind::Connect, row.method, row.level, row.inherit, Some(row.between));
    let of_part =
        |part: &Part| index.of_row(row.paths[part.numbers.clone()].iter().map(|pair| &pair.run), place, &part.axes);
    row.parts[parts].iter().flat_map(of_part).collect()
}

fn agreement(row: &ConnectionRow) -> Option<f64> {
    let known: Vec<f64> = row.paths.iter().filter_map(|pair| Some(pair.similarity?.sign_agreement)).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

fn tickets(report: &Report, index: &Index) -> Table {
    let rows = &report.levels;
    let mut columns = place(rows.iter().map(|row| (Some(row.method), row.level, row.remaining_ratio)));
    columns.extend(axes_columns(rows.iter().map(|row| &row.axes)));
    columns.push(Column::with(
        "tickets",
        Form::Count,
        each(rows, |row| json!(row.tickets)),
        each(rows, |row| json!(row.tickets_planned)),
    ));
    columns.push(error_column(rows.iter().map(|row| row.summary)));
    columns.extend(summary_columns(rows.iter().map(|row| row.summary)));
    let runs = each(rows, |row| row.places.iter().filter_map(|&at| index.place(&report.tickets[at].run)).collect());
    let note = "Every level of every chain; tickets that differ in nothing but their seeds are one row.".to_string();
    Table { id: "tickets", title: "Tickets", note, columns, runs }
}

fn error_column(summaries: impl Iterator<Item = Option<Summary>> + Clone) -> Column {
    let mean = summaries.clone().map(|row| number(row.map(|summary| summary.mean)));
    let std = summaries.map(|row| number(row.and_then(|summary| summary.std)));
    Column::with("test error %, mean ± std", Form::Spread, mean.collect(), std.collect())
}

fn differences(report: &Report, index: &Index) -> Table {
    let rows = &report.differences;
    let mut columns = vec![
        Column::key("measure", Form::Text, each(rows, |row| json!(compared_text(row)))),
        Column::key("difference", Form::Text, each(rows, |row| json!(format!("{} − {}", row.a, row.b)))),
    ];
    columns.extend(place(rows.iter().map(|row| (row.method, row.level, row.remaining_ratio))));
    columns.push(Column::key("transferred", Form::Text, each(rows, |row| json!(row.inherit))));
    columns.extend(axes_columns(rows.iter().map(|row| &row.axes)));
    columns.push(Column::new("tickets", Form::Integer, each(rows, |row| json!(row.tickets))));
    columns.push(Column::new("pairs", Form::Integer, each(rows, |row| json!(row.summary.count))));
    columns.push(Column::with(
        "mean ± std",
        Form::Spread,
        each(rows, |row| number(row.summary.mean)),
        each(rows, |row| number(row.summary.std)),
    ));
    columns.extend(summary_columns(rows.iter().map(|row| Some(row.summary))));
    columns.push(Column::new("p", Form::P, each(rows, |row| number(row.p))));
    columns.push(Column::key("verdict", Form::Text, each(rows, |row| json!(row.verdict))));
    let runs = each(rows, |row| index.of_difference(row));
    let note = "Differences between methods, and between what was transferred, over the same tickets and seeds, in percentage \
                points. Each ticket counts once; with one ticket there is no interval. p is two-sided, of the paired t-test \
                over tickets; it is not corrected for how many there are."
        .to_string();
    Table { id: "differences", title: "Differences", note, columns, runs }
}

fn spreads(report: &Report, index: &Index) -> Table {
    let rows = &report.spreads;
    let mut columns = place(rows.iter().map(|row| (row.method, row.level, None)));
    columns.push(Column::key("transferred", Form::Text, each(rows, |row| json!(row.inherit))));
    columns.extend(axes_columns(rows.iter().map(|row| &row.axes)));
    columns.push(Column::key("source", Form::Text, each(rows, |row| json!(row.source))));
    columns.push(Column::new("groups", Form::Integer, each(rows, |row| json!(row.groups))));
    columns.push(Column::new("runs", Form::Integer, each(rows, |row| json!(row.runs))));
    columns.push(Column::new("std", Form::Points, each(rows, |row| number(row.std))));
    let runs = each(rows, |row| index.of_spread(row));
    let note =
        "How much each source of randomness moves the test error while the others stay: the standard deviation within \
                groups of runs that differ in this source alone, pooled, in percentage points."
            .to_string();
    Table { id: "spreads", title: "Spread by source of randomness", note, columns, runs }
}

fn planes(report: &Report, index: &Index) -> Table {
    let rows = &report.planes;
    let mut columns = place(rows.iter().map(|row| (row.method, row.level, row.remaining_ratio)));
    columns.push(Column::key("transferred", Form::Text, each(rows, |row| json!(row.inherit))));
    columns.extend(axes_columns(rows.iter().map(|row| &row.axes)));
    let ends =
        |row: &super::super::PlaneRow| row.ends.iter().map(|end| end.label.clone()).collect::<Vec<_>>().join(", ");
    columns.push(Column::key("networks", Form::Text, each(rows, |row| json!(ends(row)))));
    let errors = |row: &super::super::PlaneRow| -> Vec<f64> {
        row.plane.iter().flat_map(|plane| &plane.points).map(|point| point.test_error).collect()
    };
    columns.push(Column::with(
        "test error % on the grid",
        Form::Range,
        each(rows, |row| number(errors(row).into_iter().reduce(f64::min))),
        each(rows, |row| number(errors(row).into_iter().reduce(f64::max))),
    ));
    let runs = each(rows, |row| index.place(&row.run).into_iter().collect());
    let note = "Planes through three networks.".to_string();
    Table { id: "planes", title: "Planes", note, columns, runs }
}

fn failures(index: &Index) -> Table {
    let is_lost = |at: &usize| matches!(index.records[*at].state, RunState::Failed | RunState::Blocked);
    let lost: Vec<usize> = (0..index.records.len()).filter(is_lost).collect();
    let of = |say: fn(&super::super::RunRecord) -> Value| lost.iter().map(|&at| say(&index.records[at])).collect();
    let columns = vec![
        Column::key("run", Form::Text, of(|record| json!(record.planned.label.to_string()))),
        Column::key("state", Form::Text, of(|record| json!(record.state))),
        Column::new("why", Form::Text, of(|record| json!(record.note))),
    ];
    let runs = lost.iter().map(|&at| vec![at]).collect();
    let note = "No number of the report has a part in these. winsign retry gives failed runs a new chance.".to_string();
    Table { id: "failures", title: "Failed and blocked runs", note, columns, runs }
}

fn each<T, R>(rows: &[T], value: impl Fn(&T) -> R) -> Vec<R> {
    rows.iter().map(value).collect()
}

/// The columns with which most tables begin.
fn place(rows: impl Iterator<Item = (Option<Method>, u32, Option<f64>)> + Clone) -> Vec<Column> {
    vec![
        Column::key("method", Form::Text, rows.clone().map(|(method, ..)| json!(method_text(method))).collect()),
        Column::key("level", Form::Integer, rows.clone().map(|(_, level, _)| json!(level)).collect()),
        Column::new("remaining", Form::Ratio, rows.map(|(.., ratio)| number(ratio)).collect()),
    ]
}

/// The interval, and the median, where samples have one.
fn summary_columns(summaries: impl Iterator<Item = Option<Summary>> + Clone) -> Vec<Column> {
    let median = summaries.clone().map(|row| number(row.map(|summary| summary.median))).collect();
    vec![interval_column("", summaries), Column::new("median", Form::Points, median)]
}

fn interval_column(of: &str, summaries: impl Iterator<Item = Option<Summary>> + Clone) -> Column {
    let intervals = summaries.map(|row| row.and_then(|summary| summary.interval));
    let level = intervals.clone().flatten().next().map_or(0.0, |interval| interval.level);
    let low = intervals.clone().map(|interval| number(interval.map(|interval| interval.low))).collect();
    let high = intervals.map(|interval| number(interval.map(|interval| interval.high))).collect();
    Column::with(&format!("{of}{} % interval", percent(level)), Form::Range, low, high)
}

/// Says what the intervals are.
fn interval_note(report: &Report) -> String {
    let summaries =
        report.transfers.iter().map(|row| row.summary).chain(report.connections.iter().map(|row| row.summary));
    let intervals = summaries.flatten().filter_map(|summary| summary.interval);
    Interval::describe_all(intervals).map_or(String::new(), |ways| format!(" Intervals of the mean by {ways}."))
}

/// What the runs of a row have in common, beside axes.
pub(super) type Place = (Kind, Option<Method>, u32, Option<Inherit>, Option<Between>);
