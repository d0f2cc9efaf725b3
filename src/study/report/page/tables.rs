//! The report's rows as tables that the page sorts and filters. Each row knows the runs behind its numbers.

use serde::Serialize;
use serde_json::{Value, json};

use super::columns::{column, number};
use super::index::Index;
use crate::run::settings::{Between, Inherit, Kind, Method};
use crate::study::plan::RunState;
use crate::study::report::cells::title;
use crate::study::report::markdown::capitalized;
use crate::study::report::statistics::percent;
use crate::study::report::tables::{axis_names, axis_value, method_text};
use crate::study::report::{ConnectionRow, Interval, Report, Summary, TransferRow};
use crate::study::sweep::{Axes, Measure, Show};

/// A table of the page.
#[derive(Serialize)]
pub struct Table {
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
pub struct Column {
    title: String,
    form: Form,
    /// Whether the column tells what a row is about, rather than what came out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    key: bool,
    values: Value,
    /// What stands beside each value, as `form` says: a deviation, a planned number, the upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<Value>,
}

/// How the values of a column are shown. All but texts are sorted as numbers.
#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
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
    pub fn new(title: &str, form: Form, values: Vec<Value>) -> Column {
        Column { title: title.to_string(), form, key: false, values: column(values), beside: None }
    }

    fn with(title: &str, form: Form, values: Vec<Value>, beside: Vec<Value>) -> Column {
        Column { beside: Some(column(beside)), ..Column::new(title, form, values) }
    }

    pub fn key(title: &str, form: Form, values: Vec<Value>) -> Column {
        Column { key: true, ..Column::new(title, form, values) }
    }

    /// Whether there is anything in it.
    pub fn says_something(&self) -> bool {
        self.form == Form::Written
            || !matches!(&self.values, Value::Object(same) if same.get("all").is_some_and(|all| all.is_null() || all == ""))
    }
}

/// Columns of every axis that is one in these rows.
pub fn axes_columns<'a, I: Iterator<Item = &'a Axes> + Clone>(axes: I) -> Vec<Column> {
    let names = axis_names(axes.clone());
    let values = |name: &str| axes.clone().map(|axes| json!(axis_value(axes, name))).collect();
    names.iter().map(|name| Column::key(name, Form::Text, values(name))).collect()
}

/// Every table that has rows.
pub fn tables(report: &Report, index: &Index) -> Vec<Table> {
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
        Column::with(&title, Form::Written, numbers, texts)
    });
    let runs_of = |at: usize| match pivot.value {
        Measure::Barrier | Measure::TrainBarrier | Measure::LossBarrier => {
            runs_of_paths(index, &report.connections[at])
        }
        _ if report.transfers.is_empty() => index.place(&report.tickets[at].run).into_iter().collect(),
        _ => runs_of_transfers(index, &report.transfers[at]),
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
    let barriers: Vec<Option<&ConnectionRow>> = rows.iter().map(|row| between_seeds(report, row)).collect();
    let mut columns = place(rows.iter().map(|row| (row.method, row.level, row.remaining_ratio)));
    columns.push(Column::key("transferred", Form::Text, each(rows, |row| json!(row.inherit))));
    columns.extend(axes_columns(rows.iter().map(|row| &row.axes)));
    columns.push(Column::with(
        "seeds",
        Form::Count,
        each(rows, |row| json!(row.seeds)),
        each(rows, |row| json!(row.seeds_planned)),
    ));
    columns.push(Column::with(
        "test error %, mean ± std",
        Form::Spread,
        each(rows, |row| number(row.error_mean)),
        each(rows, |row| number(row.error_std)),
    ));
    columns.extend(summary_columns(rows.iter().map(|row| row.summary)));
    columns.push(Column::new(
        "barrier between seeds",
        Form::Points,
        each(&barriers, |row| number(row.and_then(|row| row.barrier_mean))),
    ));
    let runs = each(rows, |row| runs_of_transfers(index, row));
    let note = "Transfers that differ in nothing but their seeds. Errors in percent of the test set.".to_string();
    Table { id: "transfers", title: "Transfers", note: note + &interval_note(report), columns, runs }
}

fn runs_of_transfers(index: &Index, row: &TransferRow) -> Vec<usize> {
    let place = (Kind::Transfer, row.method, row.level, Some(row.inherit), None);
    index.of_row(row.errors.iter().map(|seed| &seed.run), place, &row.axes)
}

fn between_seeds<'a>(report: &'a Report, row: &TransferRow) -> Option<&'a ConnectionRow> {
    report.connections.iter().find(|other| {
        other.between == Between::Seeds
            && (other.method, other.level, other.inherit) == (row.method, row.level, Some(row.inherit))
            && other.axes == row.axes
    })
}

fn connections(report: &Report, index: &Index) -> Table {
    let rows = &report.connections;
    let mut columns = place(rows.iter().map(|row| (row.method, row.level, row.remaining_ratio)));
    columns.push(Column::key("transferred", Form::Text, each(rows, |row| json!(row.inherit))));
    columns.push(Column::key("between", Form::Text, each(rows, |row| json!(row.between))));
    columns.extend(axes_columns(rows.iter().map(|row| &row.axes)));
    columns.push(Column::with(
        "paths",
        Form::Count,
        each(rows, |row| json!(row.pairs)),
        each(rows, |row| json!(row.pairs_planned)),
    ));
    let std = |summary: Option<Summary>| number(summary.and_then(|summary| summary.std));
    columns.push(Column::with(
        "barrier, mean ± std",
        Form::Spread,
        each(rows, |row| number(row.barrier_mean)),
        each(rows, |row| std(row.summary)),
    ));
    columns.push(Column::new("largest", Form::Points, each(rows, |row| number(row.barrier_max))));
    columns.extend(summary_columns(rows.iter().map(|row| row.summary)));
    let mean = |summary: Option<Summary>| number(summary.map(|summary| summary.mean));
    columns.push(Column::new("barrier in training", Form::Points, each(rows, |row| mean(row.train_summary))));
    columns.push(Column::new("barrier of the loss", Form::Number, each(rows, |row| mean(row.loss_summary))));
    columns.push(Column::new("sign agreement", Form::Ratio, each(rows, |row| number(agreement(row)))));
    let runs = each(rows, |row| runs_of_paths(index, row));
    let note = "Paths between networks. Barriers of the test error in percentage points: the largest error on a path \
                over the mean of its ends."
        .to_string();
    Table { id: "connections", title: "Connections", note: note + &interval_note(report), columns, runs }
}

fn runs_of_paths(index: &Index, row: &ConnectionRow) -> Vec<usize> {
    let place = (Kind::Connect, row.method, row.level, row.inherit, Some(row.between));
    index.of_row(row.paths.iter().map(|pair| &pair.run), place, &row.axes)
}

fn agreement(row: &ConnectionRow) -> Option<f64> {
    let known: Vec<f64> = row.paths.iter().filter_map(|pair| Some(pair.similarity?.sign_agreement)).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

fn tickets(report: &Report, index: &Index) -> Table {
    let rows = &report.tickets;
    let mut columns = place(rows.iter().map(|row| (Some(row.method), row.level, row.remaining_ratio)));
    columns.extend(axes_columns(rows.iter().map(|row| &row.axes)));
    columns.push(Column::new("test error %", Form::Points, each(rows, |row| number(row.test_error))));
    columns.push(Column::new("test loss", Form::Number, each(rows, |row| number(row.test_loss))));
    let runs = each(rows, |row| index.place(&row.run).into_iter().collect());
    let note = "Every level of every chain.".to_string();
    Table { id: "tickets", title: "Tickets", note, columns, runs }
}

fn differences(report: &Report, index: &Index) -> Table {
    let rows = &report.differences;
    let mut columns = vec![
        Column::key("of", Form::Text, each(rows, |row| json!(title(&row.setting)))),
        Column::key("difference", Form::Text, each(rows, |row| json!(format!("{} − {}", row.a, row.b)))),
    ];
    columns.extend(place(rows.iter().map(|row| (row.method, row.level, row.remaining_ratio))));
    columns.push(Column::key("transferred", Form::Text, each(rows, |row| json!(row.inherit))));
    columns.extend(axes_columns(rows.iter().map(|row| &row.axes)));
    columns.push(Column::new("pairs", Form::Integer, each(rows, |row| json!(row.summary.count))));
    columns.push(Column::with(
        "mean ± std",
        Form::Spread,
        each(rows, |row| number(row.summary.mean)),
        each(rows, |row| number(row.summary.std)),
    ));
    columns.extend(summary_columns(rows.iter().map(|row| Some(row.summary))));
    columns.push(Column::new("p", Form::P, each(rows, |row| number(row.p))));
    let runs = each(rows, |row| index.of_difference(row));
    let note =
        "The same seeds treated in two ways: differences of the test error in percentage points. p is two-sided, \
                of the paired t-test that the mean difference is zero; it is not corrected for how many there are."
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
        "How much each source of chance moves the test error while the others stay: the standard deviation within \
                groups of runs that differ in this source alone, pooled, in percentage points."
            .to_string();
    Table { id: "spreads", title: "Spread by source of chance", note, columns, runs }
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
    let is_lost = |at: &usize| matches!(index.findings[*at].state, RunState::Failed | RunState::Blocked);
    let lost: Vec<usize> = (0..index.findings.len()).filter(is_lost).collect();
    let of = |say: fn(&super::super::Finding) -> Value| lost.iter().map(|&at| say(&index.findings[at])).collect();
    let columns = vec![
        Column::key("run", Form::Text, of(|finding| json!(finding.planned.label.to_string()))),
        Column::key("state", Form::Text, of(|finding| json!(finding.state))),
        Column::new("why", Form::Text, of(|finding| json!(finding.note))),
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
        Column::key("ticket", Form::Text, rows.clone().map(|(method, ..)| json!(method_text(method))).collect()),
        Column::key("level", Form::Integer, rows.clone().map(|(_, level, _)| json!(level)).collect()),
        Column::new("remaining", Form::Ratio, rows.map(|(.., ratio)| number(ratio)).collect()),
    ]
}

/// The interval, and the median, where samples have one.
fn summary_columns(summaries: impl Iterator<Item = Option<Summary>> + Clone) -> Vec<Column> {
    let of = |value: fn(Summary) -> Option<f64>| summaries.clone().map(|row| number(row.and_then(value))).collect();
    let level = summaries.clone().find_map(|row| Some(row?.interval?.level)).unwrap_or_default();
    let low = of(|row| row.interval.map(|interval| interval.low));
    let high = of(|row| row.interval.map(|interval| interval.high));
    vec![
        Column::with(&format!("{} % interval", percent(level)), Form::Range, low, high),
        Column::new("median", Form::Points, of(|row| Some(row.median))),
    ]
}

/// Says what the intervals are.
fn interval_note(report: &Report) -> String {
    let summaries =
        report.transfers.iter().map(|row| row.summary).chain(report.connections.iter().map(|row| row.summary));
    let intervals = summaries.flatten().filter_map(|summary| summary.interval);
    Interval::all_told(intervals).map_or(String::new(), |ways| format!(" Intervals of the mean by {ways}."))
}

/// What the runs of a row have in common, beside axes.
pub type Place = (Kind, Option<Method>, u32, Option<Inherit>, Option<Between>);
