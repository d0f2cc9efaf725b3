//! `report.csv`: one tidy table of all rows, for data frames and spreadsheets; and `chosen.csv`.
//!
//! The column `table` says which table of the report a row is of. `n` of `planned` runs are finished. Cells without a
//! meaning in that table, and numbers that do not exist yet, are empty. The axes of the study follow as columns of
//! their own names.

use ::csv::WriterBuilder;
use serde::Serialize;
use winsign_core::settings::{Architecture, Between, Dataset, Inherit, Method, Problem};
use winsign_sweep::Axes;

use super::tables::{axis_names, axis_value};
use super::{ConnectionRow, LevelRow, Pivot, Report, Summary, TransferRow};
use crate::export::{Exported, ExportedFile, Exporter};

/// The names of the fields of [`Line`].
const COLUMNS: [&str; 21] = [
    "table",
    "method",
    "level",
    "remaining_ratio",
    "inherit",
    "between",
    "n",
    "planned",
    "error_mean",
    "error_std",
    "barrier_mean",
    "barrier_max",
    "dataset",
    "architecture",
    "median",
    "min",
    "max",
    "interval_low",
    "interval_high",
    "tickets",
    "tickets_planned",
];

#[derive(Serialize)]
struct Line {
    table: &'static str,
    method: Option<Method>,
    level: u32,
    remaining_ratio: Option<f64>,
    inherit: Option<Inherit>,
    between: Option<Between>,
    n: usize,
    planned: usize,
    error_mean: Option<f64>,
    error_std: Option<f64>,
    barrier_mean: Option<f64>,
    barrier_max: Option<f64>,
    dataset: Dataset,
    architecture: Architecture,
    median: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    interval_low: Option<f64>,
    interval_high: Option<f64>,
    tickets: usize,
    tickets_planned: usize,
}

/// `report.csv`: the rows of tickets, transfers and connections.
pub struct Csv;

impl Exporter for Csv {
    fn names(&self) -> &'static [&'static str] {
        &["report.csv"]
    }

    fn files(&self, study: &Exported) -> Vec<ExportedFile> {
        vec![("report.csv", render(study.report).into_bytes())]
    }
}

/// `chosen.csv`: the table that was asked for.
pub struct ChosenCsv;

impl Exporter for ChosenCsv {
    fn names(&self) -> &'static [&'static str] {
        &["chosen.csv"]
    }

    fn files(&self, study: &Exported) -> Vec<ExportedFile> {
        study.report.pivot.iter().map(|pivot| ("chosen.csv", chosen(pivot).into_bytes())).collect()
    }
}

pub fn render(report: &Report) -> String {
    let lines: Vec<(Line, &Axes)> = (report.levels.iter().map(|row| (level(row), &row.axes)))
        .chain(report.transfers.iter().map(|row| (transfer(row), &row.axes)))
        .chain(report.connections.iter().map(|row| (connection(row), &row.axes)))
        .collect();
    let axis_names = axis_names(lines.iter().map(|(_, axes)| *axes));

    // Not the serializer's own header: it cannot name the axes.
    let mut writer = WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let in_memory = "writing to memory";
    writer.serialize((COLUMNS, &axis_names)).expect(in_memory);
    for (line, axes) in &lines {
        let values: Vec<&str> = axis_names.iter().map(|name| axis_value(axes, name)).collect();
        writer.serialize((line, values)).expect(in_memory);
    }
    String::from_utf8(writer.into_inner().expect(in_memory)).expect("made of text")
}

/// The table that was asked for, a line for each cell: what tells its row and column apart, how many numbers there are and
/// are planned, and what is said of them.
pub fn chosen(pivot: &Pivot) -> String {
    const NUMBERS: [&str; 10] =
        ["n", "planned", "mean", "std", "median", "min", "max", "interval_low", "interval_high", "tickets"];
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    let in_memory = "writing to memory";
    let names = pivot.rows.iter().chain(&pivot.columns).map(String::as_str);
    writer.write_record(names.chain(["value"]).chain(NUMBERS)).expect(in_memory);
    for (row, cells) in pivot.row_keys.iter().zip(&pivot.cells) {
        for (column, cell) in pivot.column_keys.iter().zip(cells) {
            let Some(cell) = cell else { continue };
            let summary = cell.summary;
            let interval = summary.and_then(|summary| summary.interval);
            let numbers = [
                summary.map(|summary| summary.mean),
                summary.and_then(|summary| summary.std),
                summary.map(|summary| summary.median),
                summary.map(|summary| summary.min),
                summary.map(|summary| summary.max),
                interval.map(|interval| interval.low),
                interval.map(|interval| interval.high),
            ];
            let keys = row.iter().chain(column).cloned();
            let counts = [summary.map_or(0, |summary| summary.count).to_string(), cell.planned.to_string()];
            let numbers = numbers.map(|number| number.map_or(String::new(), |number| number.to_string()));
            let tickets = [cell.tickets.map_or(String::new(), |tickets| tickets.to_string())];
            let numbers = counts.into_iter().chain(numbers).chain(tickets);
            writer.write_record(keys.chain([pivot.value.to_string()]).chain(numbers)).expect(in_memory);
        }
    }
    String::from_utf8(writer.into_inner().expect(in_memory)).expect("made of text")
}

fn line(
    table: &'static str,
    problem: Problem,
    (level, remaining_ratio): (u32, Option<f64>),
    [(n, planned), (tickets, tickets_planned)]: [(usize, usize); 2],
    summary: Option<Summary>,
) -> Line {
    let interval = summary.and_then(|summary| summary.interval);
    Line {
        table,
        method: None,
        level,
        remaining_ratio,
        inherit: None,
        between: None,
        n,
        planned,
        error_mean: None,
        error_std: None,
        barrier_mean: None,
        barrier_max: None,
        dataset: problem.dataset,
        architecture: problem.architecture,
        median: summary.map(|summary| summary.median),
        min: summary.map(|summary| summary.min),
        max: summary.map(|summary| summary.max),
        interval_low: interval.map(|interval| interval.low),
        interval_high: interval.map(|interval| interval.high),
        tickets,
        tickets_planned,
    }
}

fn level(row: &LevelRow) -> Line {
    let tickets = (row.tickets, row.tickets_planned);
    Line {
        method: Some(row.method),
        error_mean: row.error_mean,
        error_std: row.error_std,
        ..line("tickets", row.problem, (row.level, row.remaining_ratio), [tickets, tickets], row.summary)
    }
}

fn transfer(row: &TransferRow) -> Line {
    let counts = [(row.seeds, row.seeds_planned), (row.tickets, row.tickets_planned)];
    Line {
        method: row.method,
        inherit: Some(row.inherit),
        error_mean: row.error_mean,
        error_std: row.error_std,
        ..line("transfers", row.problem, (row.level, row.remaining_ratio), counts, row.summary)
    }
}

fn connection(row: &ConnectionRow) -> Line {
    let counts = [(row.pairs, row.pairs_planned), (row.tickets, row.tickets_planned)];
    Line {
        method: row.method,
        inherit: row.inherit,
        between: Some(row.between),
        barrier_mean: row.barrier_mean,
        barrier_max: row.barrier_max,
        ..line("connections", row.problem, (row.level, row.remaining_ratio), counts, row.summary)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pivot::pivot;
    use super::super::statistics::Estimate;
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_sweep::Layout;
    use winsign_testkit::study::Study;

    fn parsed(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
        let owned = |record: &::csv::StringRecord| record.iter().map(str::to_string).collect::<Vec<_>>();
        let mut reader = ::csv::Reader::from_reader(text.as_bytes());
        let header = owned(reader.headers().unwrap());
        (header, reader.records().map(|record| owned(&record.unwrap())).collect())
    }

    #[test]
    fn reads_back() {
        let axes = |seed: &str| {
            let note = ("note".to_string(), "a, \"b\"\nc".to_string());
            vec![note, ("ticket.seed".to_string(), seed.to_string())]
        };
        let report = Study::new(&[12], &[2, 3, 4], &["1", "2"].map(axes)).report();
        let (header, lines) = parsed(&render(&report));
        assert_eq!(header[..21], COLUMNS);
        assert_eq!(header[21..], ["note"]);
        assert_eq!(lines.len(), 26 + 8 + 10);
        assert!(lines.iter().all(|line| line[21] == "a, \"b\"\nc"));

        let sign = &report.transfers[0];
        let line = &lines[26];
        assert_eq!(line[..3], ["transfers", "lrr", "12"]);
        assert_eq!(line[4..8], ["sign", "", "6", "6"]);
        assert_eq!(line[8].parse(), Ok(sign.error_mean.unwrap()));
        assert_eq!(line[9].parse(), Ok(sign.error_std.unwrap()));
        assert_eq!(line[10..14], ["", "", "digits", "resnet8"]);
        assert_eq!(line[14].parse(), Ok(sign.summary.unwrap().median));
        assert_eq!(line[17].parse(), Ok(sign.summary.unwrap().interval.unwrap().low));

        assert_eq!(line[19..21], ["2", "2"]);
        let norm_init = &lines[26 + 8 + 4];
        assert_eq!(norm_init[4..8], ["", "norm-init", "2", "2"]);
        assert_eq!((norm_init[8].as_str(), norm_init[10].as_str()), ("", "3.3"));
    }

    #[test]
    fn the_chosen_table_reads_back() {
        let axes = |seed: &str| vec![("ticket.seed".to_string(), seed.to_string())];
        let study = Study::new(&[6, 12], &[2, 3, 4], &["1", "2"].map(axes));
        let report = study.report();
        let pivot = pivot(&report, &Layout::default(), Estimate::default()).unwrap();
        let (header, lines) = parsed(&chosen(&pivot));
        assert_eq!(header[..6], ["method", "inherit", "level", "value", "n", "planned"]);
        assert_eq!(lines.len(), 2 * 4 * 2);
        assert_eq!(lines[1][..6], ["LRR", "sign", "12", "error", "6", "6"]);
        assert_eq!(lines[1][13], "2");
        let summary = report.transfers[4].summary.unwrap();
        assert_eq!((lines[1][6].parse(), lines[1][12].parse()), (Ok(summary.mean), Ok(summary.interval.unwrap().high)));
    }

    /// The header is written by hand; the fields must not drift from it.
    #[test]
    fn columns_are_the_fields() {
        let report = Study::digits().report();
        let line = serde_json::to_value(level(&report.levels[0])).unwrap();
        assert_eq!(line.as_object().unwrap().keys().collect::<Vec<_>>(), COLUMNS);
    }
}
