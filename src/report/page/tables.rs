//! Tables as the page reads them: the texts of all cells, and the numbers by which rows are sorted.

use serde::Serialize;
use serde_json::{Value, json};
use winsign_core::text::plural;

use super::columns::{column, short};
use super::index::Index;
use crate::Report;
use crate::table::{Cell, Column, Form, Role, Shown, Table};
use crate::tables::{self, Listed};

#[derive(Serialize)]
pub(super) struct PageTable {
    /// Its place in links: `#transfers`.
    id: &'static str,
    title: &'static str,
    note: String,
    columns: Vec<PageColumn>,
    /// For each row the places of its runs.
    runs: Vec<Vec<usize>>,
    /// The rows that are not finished, each with what is missing.
    unfinished: Vec<(usize, String)>,
}

#[derive(Serialize)]
pub(super) struct PageColumn {
    key: String,
    title: String,
    /// True if the column identifies the row.
    is_key: bool,
    is_numeric: bool,
    /// True if only the view of a single run shows the column.
    is_detail: bool,
    texts: Value,
    /// The numbers by which rows are sorted; without them, rows are sorted by the texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    numbers: Option<Value>,
    /// The rows with the best values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    best: Vec<usize>,
}

/// Returns every table of the report.
pub(super) fn tables(report: &Report, index: &Index) -> Vec<PageTable> {
    let page_table = |(_, table): (&Listed, Table)| {
        let table = table.full();
        PageTable {
            id: table.id,
            title: table.title,
            note: table.note.clone(),
            columns: columns(&table),
            runs: table.rows.iter().map(|row| index.places(&row.runs)).collect(),
            unfinished: table
                .columns
                .iter()
                .filter(|column| column.role == Role::Sample)
                .flat_map(unfinished)
                .collect(),
        }
    };
    tables::all(report).map(page_table).collect()
}

pub(super) fn columns(table: &Table) -> Vec<PageColumn> {
    table.columns.iter().map(page_column).collect()
}

fn page_column(from: &Column) -> PageColumn {
    let rows = 0..from.cells.len();
    let mut best: Vec<usize> = from.best.iter().copied().collect();
    best.sort_unstable();
    PageColumn {
        key: from.key.clone(),
        title: from.heading().replace('\n', " "),
        is_key: matches!(from.role, Role::Key | Role::Axis),
        is_numeric: from.is_numeric(),
        is_detail: from.shown == Shown::WithDetails,
        texts: column(rows.clone().map(|row| json!(from.text(row))).collect()),
        // Scripts would round large numbers; their texts are ordered exactly.
        numbers: (from.is_numeric() && from.form != Form::Large)
            .then(|| column(rows.map(|row| short(from.number(row))).collect())),
        best,
    }
}

fn unfinished(column: &Column) -> Vec<(usize, String)> {
    let describe = |(row, cell): (usize, &Cell)| match cell {
        Cell::Count { done, planned } if done < planned => {
            let runs = plural(*planned, column.title.trim_end_matches('s'));
            Some((row, format!("{} of {runs} missing", planned - done)))
        }
        _ => None,
    };
    column.cells.iter().enumerate().filter_map(describe).collect()
}
