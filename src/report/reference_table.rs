//! Tables kept as data: numbers that were printed elsewhere, with their source, in YAML.
//!
//! ```yaml
//! source: where the numbers are from
//! dataset: digits
//! architecture: resnet8
//! rows:
//!   - {method: lrr, level: 12, inherit: sign, error: 6.3, std: 1.3, seeds: 3, barrier: 0.6}
//! ```
//!
//! `dataset` and `architecture` may also stand in a row, and `remaining` (in (0, 1]) in the place of `level`. Without
//! `inherit` a row is about tickets.

use std::str::FromStr;

use strum::VariantNames;
use winsign_core::settings::{Architecture, Dataset, Inherit, Method, Problem};
use winsign_sweep::yaml::{
    self, Content, Diagnostic, DocumentKind, Name, Node, Place, grouped, listed, nearest, quoted,
};

use crate::compare::{Entry, Numbers, Side};

pub const SORT: DocumentKind = DocumentKind {
    name: "table of numbers",
    example: "sweeps/tables/digits-trial.yaml",
    levels: "three",
    twice: "keep one of the two",
    too_large: "keep one table in a file",
};

/// A table that was printed elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceTable {
    pub name: String,
    pub source: String,
    pub entries: Vec<Entry<'static>>,
}

const OF_TABLE: [&str; 5] = ["name", "source", "dataset", "architecture", "rows"];
const OF_ROW: [&str; 11] = [
    "dataset",
    "architecture",
    "method",
    "level",
    "remaining",
    "inherit",
    "error",
    "std",
    "seeds",
    "tickets",
    "barrier",
];

/// Returns whether a text is meant to be such a table: no sweep file has a source or rows.
pub fn is_reference_table(text: &str) -> bool {
    let root = yaml::parse(text, &SORT);
    let names = match root.map(|root| root.content) {
        Ok(Content::Map(entries)) => entries,
        _ => return false,
    };
    names.iter().any(|(name, _)| name.text == "source" || name.text == "rows")
}

/// Understands the text of such a file.
pub fn parse(file_name: &str, text: &str) -> Result<ReferenceTable, Diagnostic> {
    let stem = std::path::Path::new(file_name).file_stem().unwrap_or_default().to_string_lossy();
    understand(&stem, text).map_err(|fault| fault.in_file(file_name, text))
}

fn understand(stem: &str, text: &str) -> Result<ReferenceTable, Diagnostic> {
    let root = yaml::parse(text, &SORT)?;
    let table = Block::read(&root, &OF_TABLE, "a table")?;
    let name = table.text("name")?.unwrap_or_else(|| stem.to_string());
    let source = table.text("source")?.ok_or_else(|| {
        let help = "say where the numbers are from, as in `source: Table 2 of …`";
        Diagnostic::at(root.place, "`source` is missing", help)
    })?;
    let rows = table.get("rows").ok_or_else(|| {
        Diagnostic::at(
            root.place,
            "`rows` is missing",
            "list the numbers, as in `- {method: aws, level: 12, error: 5.1}`",
        )
    })?;
    let Content::List(nodes) = &rows.content else {
        let message = format!("`rows` must be a list, found {}", rows.content.found());
        return Err(Diagnostic::at(rows.place, message, "begin each row with `- `"));
    };
    let mut entries: Vec<Entry<'static>> = Vec::new();
    for node in nodes {
        let entry = entry(&table, &Block::read(node, &OF_ROW, "a row")?)?;
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
    Ok(ReferenceTable { name, source, entries })
}

fn entry(table: &Block, row: &Block) -> Result<Entry<'static>, Diagnostic> {
    let dataset = word_of::<Dataset>(table, row, "dataset")?;
    let architecture = word_of::<Architecture>(table, row, "architecture")?;
    let inherit: Option<Inherit> = row.word("inherit")?;
    let method: Option<Method> = row.word("method")?;
    let is_dense = inherit == Some(Inherit::Dense);
    if method.is_none() != is_dense {
        let (message, help) = match is_dense {
            true => ("`dense` inherits from no ticket, and has no `method`", "remove `method`"),
            false => ("`method` is missing", "say how the ticket was found, as in `method: aws`"),
        };
        return Err(Diagnostic::at(row.place, message, help));
    }
    let level = row.whole("level", 0, 1_000)?.and_then(|level| u32::try_from(level).ok());
    let level = level.or(is_dense.then_some(0));
    let remaining = row.number("remaining", "above 0 and up to 1", |ratio| ratio > 0.0 && ratio <= 1.0)?;
    if let (Some(level), Some(_), Some(node)) = (level, row.get("level"), row.get("remaining")) {
        let message = format!("`remaining` beside level {level}: which of them is compared?");
        return Err(Diagnostic::at(node.place, message, "keep one of the two"));
    }
    if level.is_none() && remaining.is_none() {
        let help = "give one of them, as in `level: 12` or `remaining: 0.069`";
        return Err(Diagnostic::at(row.place, "neither `level` nor `remaining` is given", help));
    }
    let mean = row.number("error", "from 0 to 100, in percent", |error| (0.0..=100.0).contains(&error))?;
    let std = row.number("std", "0 or above, in percentage points", |std| std >= 0.0)?;
    let barrier = row.number("barrier", "in percentage points", |_| true)?;
    let seeds = row.whole("seeds", 1, 1_000_000)?.and_then(|seeds| usize::try_from(seeds).ok());
    let tickets = row.whole("tickets", 1, 1_000_000)?.and_then(|tickets| usize::try_from(tickets).ok());
    if let (None | Some(Inherit::Dense), Some(node)) = (inherit, row.get("tickets")) {
        let help = "give the number of networks as `seeds`";
        return Err(Diagnostic::at(node.place, "`tickets` is of transfers: how many tickets they are from", help));
    }
    if let (None, Some(node)) = (inherit, row.get("barrier")) {
        let help = "say what was transferred, as in `inherit: sign`, or remove it";
        return Err(Diagnostic::at(
            node.place,
            "`barrier` is between the seeds of transfers, and this row is of a ticket",
            help,
        ));
    }
    if mean.is_none() && barrier.is_none() {
        return Err(Diagnostic::at(row.place, "this row has no number", "give `error`, in percent, or `barrier`"));
    }
    if let (None, Some(node)) = (mean, row.get("std")) {
        return Err(Diagnostic::at(node.place, "`std` without `error`", "give the mean too"));
    }
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

/// Returns the value of the row, or else of the whole table.
fn word_of<T: FromStr + VariantNames>(table: &Block, row: &Block, name: &str) -> Result<T, Diagnostic> {
    if let Some(word) = row.word(name)? {
        return Ok(word);
    }
    table.word(name)?.ok_or_else(|| {
        let help = format!("give it at the top or in each row; it is one of {}", listed(T::VARIANTS.iter().copied()));
        Diagnostic::at(row.place, format!("`{name}` is missing"), help)
    })
}

/// A block of settings, each of which is known.
struct Block<'n> {
    place: Place,
    entries: &'n [(Name, Node)],
}

impl<'n> Block<'n> {
    fn read(node: &'n Node, known: &[&str], what: &str) -> Result<Block<'n>, Diagnostic> {
        let Content::Map(entries) = &node.content else {
            let message = format!("{what} is a block of settings (`key: value`), found {}", node.content.found());
            return Err(Diagnostic::at(
                node.place,
                message,
                format!("its settings are {}", listed(known.iter().copied())),
            ));
        };
        for (name, _) in entries {
            if !known.contains(&name.text.as_str()) {
                let help = match nearest(&name.text, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its settings are {}", listed(known.iter().copied())),
                };
                return Err(Diagnostic::at(name.place, format!("{what} has no setting {}", quoted(&name.text)), help));
            }
        }
        Ok(Block { place: node.place, entries })
    }

    fn get(&self, name: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
    }

    fn text(&self, name: &str) -> Result<Option<String>, Diagnostic> {
        let Some(node) = self.get(name) else { return Ok(None) };
        match &node.content {
            Content::Text(text) if !text.trim().is_empty() => Ok(Some(text.clone())),
            other => Err(expected(name, node, "a text", &format!("found {}", other.found()))),
        }
    }

    fn word<T: FromStr + VariantNames>(&self, name: &str) -> Result<Option<T>, Diagnostic> {
        let Some(node) = self.get(name) else { return Ok(None) };
        let text = match &node.content {
            Content::Text(text) => text.as_str(),
            _ => "",
        };
        if let Ok(word) = text.parse() {
            return Ok(Some(word));
        }
        let message =
            format!("`{name}` must be one of {}, found {}", listed(T::VARIANTS.iter().copied()), node.content.found());
        let help = match nearest(text, T::VARIANTS.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("for example `{name}: {}`", T::VARIANTS[0]),
        };
        Err(Diagnostic::at(node.place, message, help))
    }

    fn whole(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Diagnostic> {
        let Some(node) = self.get(name) else { return Ok(None) };
        match node.content {
            Content::Whole(number) if (i128::from(min)..=i128::from(max)).contains(&number) => Ok(Some(number as u64)),
            _ => {
                let range = format!("a whole number from {min} to {}", grouped(max.into()));
                Err(expected(name, node, &range, &format!("found {}", node.content.found())))
            }
        }
    }

    fn number(&self, name: &str, range: &str, holds: impl Fn(f64) -> bool) -> Result<Option<f64>, Diagnostic> {
        let Some(node) = self.get(name) else { return Ok(None) };
        let number = match node.content {
            Content::Whole(number) => number as f64,
            Content::Real(number) => number,
            _ => f64::NAN,
        };
        match number.is_finite() && holds(number) {
            true => Ok(Some(number)),
            false => {
                Err(expected(name, node, &format!("a number {range}"), &format!("found {}", node.content.found())))
            }
        }
    }
}

fn expected(name: &str, node: &Node, what: &str, found: &str) -> Diagnostic {
    Diagnostic::at(node.place, format!("`{name}` must be {what}, {found}"), "docs/report.md has an example")
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
    fn rows_are_lines_to_compare_with() {
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
    fn what_is_wrong_is_told_with_its_place() {
        let with = |row: &str| GOOD.replace("{method: aws, remaining: 0.069, error: 12}", row);
        let cases = [
            ("rows: []".to_string(), "`source` is missing", 1),
            ("source: x\n".to_string(), "`rows` is missing", 1),
            ("source: x\nrows: 3\n".to_string(), "`rows` must be a list, found `3`", 2),
            (with("{method: aws, level: 3, eror: 12}"), "a row has no setting `eror`", 6),
            (with("{method: asw, level: 3, error: 12}"), "`method` must be one of", 6),
            (
                with("{method: aws, level: 3, error: 120}"),
                "`error` must be a number from 0 to 100, in percent, found `120`",
                6,
            ),
            (with("{method: aws, level: 3, error: .nan}"), "`error` must be a number from 0 to 100", 6),
            (with("{inherit: dense, level: 0, error: 1, tickets: 3}"), "`tickets` is of transfers", 6),
            (with("{method: aws, level: 3, error: 1, std: -1}"), "`std` must be a number 0 or above", 6),
            (
                with("{method: aws, level: -3, error: 1}"),
                "`level` must be a whole number from 0 to 1,000, found `-3`",
                6,
            ),
            (with("{method: aws, error: 12}"), "neither `level` nor `remaining` is given", 6),
            (
                with("{method: aws, remaining: 6.9, error: 12}"),
                "`remaining` must be a number above 0 and up to 1, found `6.9`",
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
