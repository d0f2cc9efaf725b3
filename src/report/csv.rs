//! `report.csv`: one tidy table of all rows, for data frames and spreadsheets; and `chosen.csv`.
//!
//! The column `table` names the table of a row. `n` of `planned` runs are finished. Cells that do not apply to that table, and
//! numbers that do not exist yet, are empty. The axes of the study have columns of their own names.

use ::csv::{Writer, WriterBuilder};
use serde::Serialize;
use winsign_core::grouping::distinct;

use super::table::{Cell, Column, MISSING, Role, Table};
use super::{Pivot, PivotCell, Report, tables};
use crate::export::{Exported, ExportedFile, Exporter};

/// The first columns, which stay where they are. All others follow in the order of the tables.
const FIRST: [&str; 21] = [
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

/// The value of a field; an empty one is none.
#[derive(Clone, Serialize)]
#[serde(untagged)]
enum Value {
    None,
    Whole(usize),
    Real(f64),
    Text(String),
}

/// `report.csv`: the rows of the tables of measurements.
pub struct Csv;

impl Exporter for Csv {
    fn names(&self) -> &'static [&'static str] {
        &["report.csv"]
    }

    fn files(&self, study: &Exported) -> Vec<ExportedFile> {
        vec![("report.csv", render(study.report).into_bytes())]
    }
}

/// `chosen.csv`: the custom table.
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
    let tables = tables::all(report).filter(|(listed, _)| listed.in_csv);
    let lines: Vec<Vec<(String, Value)>> = tables.flat_map(|(_, table)| lines(&table)).collect();
    let given = lines.iter().flatten().map(|(name, _)| name.as_str());
    let names = distinct(FIRST.into_iter().chain(given));
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    writer.write_record(&names).expect(IN_MEMORY);
    for line in &lines {
        let value = |name: &&str| line.iter().find(|(other, _)| other == name).map_or(&Value::None, |(_, value)| value);
        writer.serialize(names.iter().map(value).collect::<Vec<_>>()).expect(IN_MEMORY);
    }
    text(writer)
}

/// Returns the rows of a table as named fields.
fn lines(table: &Table) -> Vec<Vec<(String, Value)>> {
    let line = |row| {
        let name = ("table".to_string(), Value::Text(table.id.to_string()));
        [name].into_iter().chain(table.columns.iter().flat_map(|column| fields(column, row))).collect()
    };
    (0..table.rows.len()).map(line).collect()
}

/// Returns the fields of a cell: counts and means have two.
fn fields(column: &Column, row: usize) -> Vec<(String, Value)> {
    let key = &column.key;
    let real = |number: Option<f64>| number.map_or(Value::None, Value::Real);
    match &column.cells[row] {
        Cell::Blank | Cell::Missing => vec![],
        Cell::Text(text) => vec![(key.clone(), Value::Text(text.clone()))],
        Cell::Method(method) => vec![(key.clone(), Value::Text(method.to_string()))],
        Cell::Number(number) => vec![(key.clone(), Value::Real(*number))],
        Cell::Whole(number) => vec![(key.clone(), Value::Whole(*number))],
        Cell::Count { done, planned } => {
            let name = if column.role == Role::Sample { "planned".to_string() } else { format!("{key}_planned") };
            vec![(key.clone(), Value::Whole(*done)), (name, Value::Whole(*planned))]
        }
        Cell::Range(low, high) => {
            vec![(format!("{key}_min"), Value::Real(*low)), (format!("{key}_max"), Value::Real(*high))]
        }
        Cell::Interval(interval) => {
            vec![(format!("{key}_low"), Value::Real(interval.low)), (format!("{key}_high"), Value::Real(interval.high))]
        }
        Cell::Measured(measured) => {
            let std = measured.summary.and_then(|summary| summary.std);
            vec![(format!("{key}_mean"), real(measured.center)), (format!("{key}_std"), real(std))]
        }
    }
}

/// Returns the custom table, a line for each cell: the values of its row and column, and its numbers. Fields of values that
/// do not apply to a cell are empty.
pub fn chosen(pivot: &Pivot) -> String {
    const NUMBERS: [&str; 11] = [
        "n",
        "planned",
        "mean",
        "std",
        "median",
        "min",
        "max",
        "interval_low",
        "interval_high",
        "tickets",
        "tickets_planned",
    ];
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    let measure = pivot.value.to_string();
    let names = pivot.rows.iter().chain(&pivot.columns).map(String::as_str);
    writer.write_record(names.chain(["value"]).chain(NUMBERS)).expect(IN_MEMORY);
    for (row, cells) in pivot.row_keys.iter().zip(&pivot.cells) {
        for (column, cell) in pivot.column_keys.iter().zip(cells) {
            let Some(cell) = cell else { continue };
            let keys = row.iter().chain(column).map(|key| if key == MISSING { "" } else { key });
            let keys = keys.chain([measure.as_str()]).map(|key| Value::Text(key.to_string()));
            writer.serialize(keys.chain(cell_numbers(cell)).collect::<Vec<_>>()).expect(IN_MEMORY);
        }
    }
    text(writer)
}

fn cell_numbers(cell: &PivotCell) -> [Value; 11] {
    let real = |value: Option<f64>| value.map_or(Value::None, Value::Real);
    let whole = |value: Option<usize>| value.map_or(Value::None, Value::Whole);
    let summary = cell.summary;
    let interval = summary.and_then(|summary| summary.interval);
    [
        Value::Whole(summary.map_or(0, |summary| summary.count)),
        Value::Whole(cell.planned),
        real(summary.map(|summary| summary.mean)),
        real(summary.and_then(|summary| summary.std)),
        real(summary.map(|summary| summary.median)),
        real(summary.map(|summary| summary.min)),
        real(summary.map(|summary| summary.max)),
        real(interval.map(|interval| interval.low)),
        real(interval.map(|interval| interval.high)),
        whole(cell.tickets),
        whole(cell.tickets_planned),
    ]
}

const IN_MEMORY: &str = "writing to memory";

fn text(writer: Writer<Vec<u8>>) -> String {
    String::from_utf8(writer.into_inner().expect(IN_MEMORY)).expect("made of text")
}

#[cfg(test)]
mod tests {
    use super::super::pivot::pivot;
    use super::super::statistics::Estimate;
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_sweep::{Layout, Measure};
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
        assert_eq!(header[..21], FIRST);
        let note = header.iter().position(|name| name == "note").unwrap();
        assert_eq!(lines.len(), 8 + 10 + 26);
        assert!(lines.iter().all(|line| line[note] == "a, \"b\"\nc"));

        let sign = &report.transfers[0];
        let line = &lines[0];
        assert_eq!(line[..3], ["transfers", "lrr", "12"]);
        assert_eq!(line[4..8], ["sign", "", "6", "6"]);
        assert_eq!(line[8].parse(), Ok(sign.error_mean.unwrap()));
        assert_eq!(line[9].parse(), Ok(sign.error_std.unwrap()));
        assert_eq!(line[10..14], ["", "", "digits", "resnet8"]);
        assert_eq!(line[14].parse(), Ok(sign.summary.unwrap().median));
        assert_eq!(line[17].parse(), Ok(sign.summary.unwrap().interval.unwrap().low));

        assert_eq!(line[19..21], ["2", "2"]);
        let norm_init = &lines[8 + 4];
        assert_eq!(norm_init[4..8], ["", "norm-init", "2", "2"]);
        assert_eq!((norm_init[8].as_str(), norm_init[10].as_str()), ("", "3.3"));
    }

    #[test]
    fn custom_table_reads_back() {
        let axes = |seed: &str| vec![("ticket.seed".to_string(), seed.to_string())];
        let study = Study::new(&[6, 12], &[2, 3, 4], &["1", "2"].map(axes));
        let report = study.report();
        let pivot = pivot(&report, &Layout::default(), Estimate::default()).unwrap();
        let (header, lines) = parsed(&chosen(&pivot));
        assert_eq!(header[..6], ["method", "inherit", "level", "value", "n", "planned"]);
        assert_eq!(lines.len(), 2 * 4 * 2);
        assert_eq!(lines[1][..6], ["LRR", "sign", "12", "error", "6", "6"]);
        assert_eq!(lines[1][13], "2");
        let layout =
            Layout { value: Some(Measure::Barrier), rows: Some(vec!["method".to_string()]), ..Layout::default() };
        let barriers = chosen(&super::super::pivot::pivot(&report, &layout, Estimate::default()).unwrap());
        assert!(barriers.contains("norm-init,,") && !barriers.contains(MISSING), "{barriers}");
        let summary = report.transfers[4].summary.unwrap();
        assert_eq!((lines[1][6].parse(), lines[1][12].parse()), (Ok(summary.mean), Ok(summary.interval.unwrap().high)));
    }
}
