//! `winsign compare`: compares two studies, or a study and a reference table.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use winsign_core::Diagnostic;
use winsign_core::text::printable;
use winsign_report::compare::{Compared, Comparison, Entry, compare, entries, table};
use winsign_report::reference_table::{self, REFERENCE_TABLE, ReferenceTable};
use winsign_report::{Report, terminal};
use winsign_sweep::Layout;
use winsign_sweep::yaml;

use super::report::parse_confidence;
use super::report_source::{ReportSource, Snapshot};
use super::{Common, colors, output};

pub(crate) const HELP: &str = "\
Examples:
  winsign compare sweeps/digits.yaml sweeps/tables/digits-trial.yaml
  winsign compare sweeps/one.yaml sweeps/other.yaml
  winsign compare sweeps/one.yaml sweeps/one.yaml --store-b /mnt/north/results
  winsign compare results /mnt/north/results --json

A and B are sweep files, stores, or reference tables (docs/reference/reports.md has an example).
Rows with the same data set, architecture, method, level and inheritance are compared if the
settings given for both are equal. Differences are A minus B. Two studies with tickets in common are
compared in pairs over these tickets; others, and tables with standard deviations and numbers of
tickets, by Welch's t-test. There is no interval for a single ticket.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// A sweep file, a store, or a reference table
    a: PathBuf,
    /// The other sweep file, store or reference table
    b: PathBuf,
    /// The store of A, if A is a sweep file [default: --store]
    #[arg(long, value_name = "DIR")]
    store_a: Option<PathBuf>,
    /// The store of B, if B is a sweep file [default: --store]
    #[arg(long, value_name = "DIR")]
    store_b: Option<PathBuf>,
    /// The confidence level of the intervals, between 0 and 1
    #[arg(long, value_parser = parse_confidence, default_value = "0.95")]
    confidence: f64,
}

/// One side of a comparison.
enum Comparand {
    Study(Box<Report>),
    Table(ReferenceTable),
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let a = read(common, &arguments.a, "--store-a", arguments.store_a.as_deref())?;
    let b = read(common, &arguments.b, "--store-b", arguments.store_b.as_deref())?;
    // Tickets are compared only if one side has no transfers.
    let with_tickets = [&a, &b].iter().any(|side| match side {
        Comparand::Study(report) => report.transfers.is_empty(),
        Comparand::Table(table) => table.entries.iter().any(|entry| entry.inherit.is_none()),
    });
    let comparison = compare(&a.entries(with_tickets), &b.entries(with_tickets), arguments.confidence);
    if common.json {
        #[derive(Serialize)]
        struct Output<'c> {
            a: serde_json::Value,
            b: serde_json::Value,
            #[serde(flatten)]
            comparison: &'c Comparison,
        }
        return output::json(&Output { a: a.to_json(), b: b.to_json(), comparison: &comparison });
    }
    output::text(&describe(&a, &b, &comparison, arguments.confidence, colors(&std::io::stdout())))
}

/// Reads one side; `option` is the name of the option that gives its store.
fn read(common: &Common, path: &Path, option: &str, store: Option<&Path>) -> Result<Comparand, Diagnostic> {
    let reject_store = |what: &str| match store {
        None => Ok(()),
        Some(_) => Err(unexpected_store(path, option, what)),
    };
    if path.is_dir() {
        reject_store("a store")?;
        return read_study(common, path);
    }
    let file_name = path.display().to_string();
    let text = yaml::read_text(path, &REFERENCE_TABLE).map_err(|fault| fault.in_file(&file_name, ""))?;
    if reference_table::is_reference_table(&text) {
        reject_store("a reference table")?;
        return Ok(Comparand::Table(reference_table::parse(&file_name, &text)?));
    }
    match store {
        // The store replaces --store as the only one of the sweep.
        Some(store) => read_study(&Common { store: store.to_path_buf(), ..common.clone() }, path),
        None => read_study(common, path),
    }
}

fn unexpected_store(path: &Path, option: &str, what: &str) -> Diagnostic {
    Diagnostic::new(
        format!("cannot use {option} with {}: it is {what}, not a sweep file", path.display()),
        format!("remove {option}, or give the sweep file of the runs in that store"),
    )
}

fn read_study(common: &Common, path: &Path) -> Result<Comparand, Diagnostic> {
    // The custom table of a sweep file is not part of a comparison.
    let source = ReportSource::open(common, &[path.to_path_buf()])?.without_table();
    source.check_stores()?;
    let (found, notices) = source.survey();
    let snapshot = Snapshot::without_evidence(found);
    let records = snapshot.records(&source.plan);
    let report = source.report(&records, notices, Layout::default())?;
    Ok(Comparand::Study(Box::new(report)))
}

impl Comparand {
    fn entries(&self, with_tickets: bool) -> Vec<Entry<'_>> {
        match self {
            Comparand::Study(report) => entries(report, with_tickets),
            Comparand::Table(table) => table.entries.clone(),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        match self {
            Comparand::Study(report) => {
                serde_json::json!({ "name": report.name, "runs": report.runs, "notices": report.notices })
            }
            Comparand::Table(table) => serde_json::json!({ "name": table.name, "source": table.source }),
        }
    }

    /// Describes this side on one line.
    fn summarize(&self) -> String {
        match self {
            Comparand::Study(report) => format!("{}: {}", report.name, report.runs.progress()),
            Comparand::Table(table) => format!("{}: {}", table.name, table.source),
        }
    }
}

fn describe(a: &Comparand, b: &Comparand, comparison: &Comparison, confidence: f64, colors: bool) -> String {
    let mut out = String::new();
    for (name, side) in [("A", a), ("B", b)] {
        let _ = writeln!(out, "{name}: {}", printable(&side.summarize()));
    }
    match comparison.rows.is_empty() {
        true => out.push_str("\nA and B have no rows in common\n"),
        false => {
            let table = table(&comparison.rows, confidence);
            let shown = table.brief().map_or(String::new(), |table| terminal::lay_out(&table, colors));
            let _ = write!(out, "\n{shown}\n\n{}\n", table.note);
        }
    }
    let incomparable = |row: &&Compared| row.a.barrier.is_some() && row.b.barrier.is_some() && !row.barriers_alike;
    if comparison.rows.iter().any(|row| incomparable(&row)) {
        out.push_str(
            "note: barriers are not subtracted where A and B measured them differently (points, refinement, re-estimation, \
             alignment or precision)\n",
        );
    }
    for (name, side) in [("A", a), ("B", b)] {
        if let Comparand::Study(report) = side {
            for notice in &report.notices {
                let _ = writeln!(out, "note: {name}: {}", printable(&notice.message));
            }
        }
    }
    for (name, only) in [("A", &comparison.only_in_a), ("B", &comparison.only_in_b)] {
        const MAX_SHOWN: usize = 5;
        if !only.is_empty() {
            let more =
                if only.len() > MAX_SHOWN { format!(" and {} more", only.len() - MAX_SHOWN) } else { String::new() };
            let first: Vec<String> = only.iter().take(MAX_SHOWN).map(|label| printable(label)).collect();
            let _ = writeln!(out, "only in {name}: {}{more}", first.join("; "));
        }
    }
    out
}
