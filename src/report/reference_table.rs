//! Reference tables: published numbers with their source, in YAML.

use std::ops::Bound::{Excluded, Included, Unbounded};

use serde::Deserialize;
use serde_json::Map;
use strum::VariantNames;
use winsign_core::settings::{Architecture, Dataset, Inherit, Method, Problem};
use winsign_sweep::keys::{ANY_TEXT, Block, Entries, Fallback, Key, Kind, MAX_LEVEL};
use winsign_sweep::yaml::{self, Content, Diagnostic, DocumentKind};

use crate::compare::{Entry, Numbers, Side};

pub static REFERENCE_TABLE: DocumentKind = DocumentKind {
    name: "reference table",
    description: "Published numbers with their source.",
    example: "sweeps/tables/digits-trial.yaml",
    keys: KEYS,
    other_names: &[],
    levels: "three",
    twice: "keep one of the two",
    too_large: "keep one table in a file",
};

const COUNT: Kind = Kind::Whole { min: 1, max: 1_000_000 };
const LEVEL: Kind = Kind::Whole { min: 0, max: MAX_LEVEL };
const DATASET: Kind = Kind::Word(Dataset::VARIANTS);
const ARCHITECTURE: Kind = Kind::Word(Architecture::VARIANTS);
const METHOD: Kind = Kind::Word(Method::VARIANTS);
const INHERIT: Kind = Kind::Word(Inherit::VARIANTS);

/// In the order of the documentation.
#[rustfmt::skip]
static KEYS: &[Key] = {
    use Block::{Rows, Top};
    use Fallback::{Depends, Required};
    &[
        Key::new(Top, "name", Kind::Text(ANY_TEXT), Depends("the file's name"), "trial", "The name of the table."),
        Key::new(Top, "source", Kind::Text(ANY_TEXT), Required, "Table 2 of a paper", "Where the numbers are from."),
        Key::new(Top, "dataset", DATASET, Depends("given in each row"), "digits", "The data set."),
        Key::new(Top, "architecture", ARCHITECTURE, Depends("given in each row"), "resnet8", "The architecture of the networks."),
        Key::new(Top, "rows", Kind::Block(Rows), Required, "[{method: aws, level: 12, error: 5.1}]", "The numbers."),

        Key::new(Rows, "rows.dataset", DATASET, Depends("the value at the top"), "digits", "The data set."),
        Key::new(Rows, "rows.architecture", ARCHITECTURE, Depends("the value at the top"), "resnet8", "The architecture of the networks."),
        Key::new(Rows, "rows.method", METHOD, Depends("none; required unless networks are `dense`"), "aws", "The method that found the ticket."),
        Key::new(Rows, "rows.level", LEVEL, Depends("0 for `dense`"), "12", "The number of prunings. Each row has either this or `remaining`."),
        Key::new(Rows, "rows.remaining", Kind::Real(Excluded(0.0), Included(1.0)), Depends("none"), "0.069", "The remaining ratio; it selects the level whose ratio is within 2 % of it (relative)."),
        Key::new(Rows, "rows.inherit", INHERIT, Depends("the row describes the ticket itself"), "sign", "The properties of the ticket that were transferred."),
        Key::new(Rows, "rows.error", Kind::Real(Included(0.0), Included(100.0)), Depends("none"), "6.3", "The mean test error in percent. Each row has this or `barrier`."),
        Key::new(Rows, "rows.std", Kind::Real(Included(0.0), Unbounded), Depends("none"), "1.3", "The sample standard deviation of the error in percentage points, between tickets if there are several."),
        Key::new(Rows, "rows.seeds", COUNT, Depends("unknown"), "9", "The number of networks."),
        Key::new(Rows, "rows.tickets", COUNT, Depends("unknown"), "3", "The number of tickets that `std` is over; without it, a row of transfers has no interval."),
        Key::new(Rows, "rows.barrier", Kind::Real(Unbounded, Unbounded), Depends("none"), "0.6", "The mean barrier between the seeds of transfers, in percentage points."),
    ]
};

/// A table that was printed elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceTable {
    pub name: String,
    pub source: String,
    pub entries: Vec<Entry<'static>>,
}

/// The settings of a table, besides its rows.
#[derive(Deserialize)]
struct Head {
    name: Option<String>,
    source: String,
    dataset: Option<Dataset>,
    architecture: Option<Architecture>,
}

#[derive(Deserialize)]
struct Row {
    dataset: Option<Dataset>,
    architecture: Option<Architecture>,
    method: Option<Method>,
    level: Option<u32>,
    remaining: Option<f64>,
    inherit: Option<Inherit>,
    error: Option<f64>,
    std: Option<f64>,
    seeds: Option<usize>,
    tickets: Option<usize>,
    barrier: Option<f64>,
}

/// Returns whether a text is meant to be such a table: no sweep file has a source or rows.
pub fn is_reference_table(text: &str) -> bool {
    yaml::parse(text, &REFERENCE_TABLE).is_ok_and(|root| root.get("source").or(root.get("rows")).is_some())
}

/// Reads the text of such a file.
pub fn parse(file_name: &str, text: &str) -> Result<ReferenceTable, Diagnostic> {
    let stem = std::path::Path::new(file_name).file_stem().unwrap_or_default().to_string_lossy();
    understand(&stem, text).map_err(|fault| fault.in_file(file_name, text))
}

fn understand(stem: &str, text: &str) -> Result<ReferenceTable, Diagnostic> {
    let root = yaml::parse(text, &REFERENCE_TABLE)?;
    let settings = REFERENCE_TABLE.entries(Block::Top, &root)?;
    REFERENCE_TABLE.check_required(Block::Top, root.place, |key| settings.get(key.name).is_some())?;
    let table: Head = settings.read(Map::new())?;
    let rows = settings.get("rows").expect("it is required");
    let Content::List(nodes) = &rows.content else {
        let message = format!("`rows` must be a list, found {}", rows.found());
        return Err(Diagnostic::at(rows.place, message, "begin each row with `- `"));
    };
    let mut entries: Vec<Entry<'static>> = Vec::new();
    for node in nodes {
        let entry = entry(&table, &REFERENCE_TABLE.entries(Block::Rows, node)?)?;
        let same = |known: &&Entry<'_>| {
            (known.problem, known.method, known.level, known.inherit)
                == (entry.problem, entry.method, entry.level, entry.inherit)
                && known.remaining == entry.remaining
        };
        if let Some(known) = entries.iter().find(same) {
            return Err(Diagnostic::at(node.place, format!("there are two rows of {known}"), "keep one of the two"));
        }
        entries.push(entry);
    }
    Ok(ReferenceTable { name: table.name.unwrap_or_else(|| stem.to_string()), source: table.source, entries })
}

fn entry(table: &Head, given: &Entries) -> Result<Entry<'static>, Diagnostic> {
    let row: Row = given.read(Map::new())?;
    let dataset = row.dataset.or(table.dataset).ok_or_else(|| missing(given, "dataset"))?;
    let architecture = row.architecture.or(table.architecture).ok_or_else(|| missing(given, "architecture"))?;
    let is_dense = row.inherit == Some(Inherit::Dense);
    let level = row.level.or(is_dense.then_some(0));
    check_method(&row, given)?;
    check_level(level, &row, given)?;
    check_numbers(&row, given)?;
    let Row { method, inherit, remaining, error: mean, std, seeds, tickets, barrier, .. } = row;
    Ok(Entry {
        problem: Problem::new(dataset, architecture),
        method,
        level,
        remaining,
        inherit,
        axes: vec![],
        numbers: Numbers::Published(Side { mean, std, seeds, barrier, tickets }),
        protocol: None,
    })
}

fn check_method(row: &Row, given: &Entries) -> Result<(), Diagnostic> {
    let is_dense = row.inherit == Some(Inherit::Dense);
    let (message, help) = match (row.method.is_some(), is_dense) {
        (true, true) => ("`dense` inherits from no ticket, and has no `method`", "remove `method`"),
        (false, false) => ("`method` is missing", "say how the ticket was found, as in `method: aws`"),
        _ => return Ok(()),
    };
    Err(Diagnostic::at(given.place, message, help))
}

fn check_level(level: Option<u32>, row: &Row, given: &Entries) -> Result<(), Diagnostic> {
    if let (Some(level), Some(_), Some(node)) = (level, given.get("level"), given.get("remaining")) {
        let message = format!("`remaining` beside level {level}: which of them is compared?");
        return Err(Diagnostic::at(node.place, message, "keep one of the two"));
    }
    if level.is_none() && row.remaining.is_none() {
        let help = "give one of them, as in `level: 12` or `remaining: 0.069`";
        return Err(Diagnostic::at(given.place, "neither `level` nor `remaining` is given", help));
    }
    Ok(())
}

fn check_numbers(row: &Row, given: &Entries) -> Result<(), Diagnostic> {
    if let (None | Some(Inherit::Dense), Some(node)) = (row.inherit, given.get("tickets")) {
        let help = "give the number of networks as `seeds`";
        return Err(Diagnostic::at(node.place, "`tickets` applies only to transfers from tickets", help));
    }
    if let (None, Some(node)) = (row.inherit, given.get("barrier")) {
        let message = "`barrier` is between the seeds of transfers, and this row is of a ticket";
        let help = "say what was transferred, as in `inherit: sign`, or remove it";
        return Err(Diagnostic::at(node.place, message, help));
    }
    if row.error.is_none() && row.barrier.is_none() {
        return Err(Diagnostic::at(given.place, "this row has no number", "give `error`, in percent, or `barrier`"));
    }
    match (row.error, given.get("std")) {
        (None, Some(node)) => Err(Diagnostic::at(node.place, "`std` without `error`", "give the mean too")),
        _ => Ok(()),
    }
}

fn missing(given: &Entries, name: &str) -> Diagnostic {
    let expected = REFERENCE_TABLE.key(Block::Rows, name).map(|key| key.kind.expects()).unwrap_or_default();
    let help = format!("give it at the top or in each row; it is {expected}");
    Diagnostic::at(given.place, format!("`{name}` is missing"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "source: somewhere
dataset: digits
architecture: resnet8
rows:
  - {method: lrr, level: 12, inherit: sign, error: 6.3, std: 1.3, seeds: 9, tickets: 3, barrier: 0.6}
  - {method: aws, remaining: 0.069, error: 12}
  - {inherit: dense, error: 2.5, architecture: resnet20}
";

    #[test]
    fn rows_are_entries_of_a_comparison() {
        let dense =
            GOOD.replace("{method: aws, remaining: 0.069, error: 12}", "{inherit: dense, remaining: 1, error: 5}");
        assert!(parse("tables/trial.yaml", &dense).is_ok());
        let kept = parse("tables/trial.yaml", GOOD).unwrap();
        assert_eq!((kept.name.as_str(), kept.source.as_str(), kept.entries.len()), ("trial", "somewhere", 3));
        let first = &kept.entries[0];
        assert_eq!((first.method, first.level, first.inherit), (Some(Method::Lrr), Some(12), Some(Inherit::Sign)));
        let side = Side { mean: Some(6.3), std: Some(1.3), seeds: Some(9), barrier: Some(0.6), tickets: Some(3) };
        assert_eq!(first.numbers, Numbers::Published(side));
        let ticket = &kept.entries[1];
        assert_eq!((ticket.level, ticket.remaining, ticket.inherit), (None, Some(0.069), None));
        let dense = &kept.entries[2];
        assert_eq!((dense.method, dense.level, dense.problem.architecture), (None, Some(0), Architecture::ResNet20));
        assert!(
            is_reference_table(GOOD)
                && !is_reference_table("dataset: digits\narchitecture: resnet8\n")
                && !is_reference_table("[")
        );
    }

    #[test]
    fn errors_name_the_problem_and_its_line() {
        let with = |row: &str| GOOD.replace("{method: aws, remaining: 0.069, error: 12}", row);
        let cases = [
            ("rows: []".to_string(), "`source` is missing", 1),
            ("source: x\n".to_string(), "`rows` is missing", 1),
            ("source: x\nrows: 3\n".to_string(), "`rows` must be a list, found `3`", 2),
            (with("{method: aws, level: 3, eror: 12}"), "there is no setting `eror` in `rows`", 6),
            (with("{method: asw, level: 3, error: 12}"), "`rows.method` must be one of", 6),
            (
                with("{method: aws, level: 3, error: 120}"),
                "`rows.error` must be a number from 0 to 100, found `120`",
                6,
            ),
            (with("{method: aws, level: 3, error: .nan}"), "`rows.error` must be a number from 0 to 100", 6),
            (with("{inherit: dense, level: 0, error: 1, tickets: 3}"), "`tickets` applies only to transfers", 6),
            (with("{method: aws, level: 3, error: 1, std: -1}"), "`rows.std` must be a number, 0 or above", 6),
            (
                with("{method: aws, level: -3, error: 1}"),
                "`rows.level` must be a whole number from 0 to 1,000, found `-3`",
                6,
            ),
            (with("{method: aws, error: 12}"), "neither `level` nor `remaining` is given", 6),
            (
                with("{method: aws, remaining: 6.9, error: 12}"),
                "`rows.remaining` must be a number above 0 and up to 1, found `6.9`",
                6,
            ),
            (
                with("{method: aws, level: 3, remaining: 0.5, error: 12}"),
                "`remaining` beside level 3: which of them is compared?",
                6,
            ),
            (with("{method: aws, level: 3}"), "this row has no number", 6),
            (with("{inherit: dense, level: 0, remaining: 1, error: 5}"), "`remaining` beside level 0", 6),
            (with("{method: aws, level: 3, error: 1, barrier: 2}"), "`barrier` is between the seeds of transfers", 6),
            (with("{level: 3, error: 12}"), "`method` is missing", 6),
            (
                with("{method: lrr, level: 12, inherit: sign, error: 1}"),
                "there are two rows of digits resnet8, lrr level 12, sign",
                6,
            ),
            (GOOD.replace("dataset: digits\n", ""), "`dataset` is missing", 4),
        ];
        for (text, message, line) in cases {
            let error = parse("trial.yaml", &text).unwrap_err();
            assert!(error.message.starts_with(message), "{}\n{}", error.message, text);
            assert_eq!(error.line, Some(line), "{text}");
            assert!(error.help.is_some());
        }
    }
}
