//! `winsign compare`: compares two studies, or a study and a reference table.

use std::fmt::Write;
use std::iter;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use winsign_core::Diagnostic;
use winsign_core::text::printable;
use winsign_report::compare::{Compared, Comparison, Entry, Side, compare, entries};
use winsign_report::reference_table::{self, ReferenceTable};
use winsign_report::statistics::percent;
use winsign_report::tables::{
    MISSING, Table, axis_names, axis_value, interval_text, method_text, number, p_text, points_text, remaining_text,
    text,
};
use winsign_report::{Report, terminal};
use winsign_sweep::Layout;
use winsign_sweep::yaml;

use super::report::confidence;
use super::report_source::{Known, ReportSource};
use super::{Common, colors, output};

pub(crate) const HELP: &str = "\
Examples:
  winsign compare sweeps/digits.yaml sweeps/tables/digits-trial.yaml
  winsign compare sweeps/one.yaml sweeps/other.yaml
  winsign compare sweeps/one.yaml sweeps/one.yaml --store-b /mnt/north/results
  winsign compare results /mnt/north/results --json

A and B are sweep files, stores, or reference tables (docs/report.md has an example). Rows with the
same data set, architecture, method, level and inheritance are compared if the settings given for
both are equal. Differences are A minus B. Two studies with tickets in common are compared in pairs
over these tickets; others, and tables with standard deviations and numbers of tickets, by Welch's
t-test. There is no interval for a single ticket.";

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
    #[arg(long, value_parser = confidence, default_value = "0.95")]
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
    let without_runs_elsewhere = |what: &str| match store {
        None => Ok(()),
        Some(_) => Err(Diagnostic::new(
            format!("cannot use {option} with {}: it is {what}, not a sweep file", path.display()),
            format!("remove {option}, or give the sweep file of the runs in that store"),
        )),
    };
    if path.is_dir() {
        without_runs_elsewhere("a store")?;
        return study(common, path);
    }
    let file_name = path.display().to_string();
    let text = yaml::read_text(path, &reference_table::SORT).map_err(|fault| fault.in_file(&file_name, ""))?;
    if reference_table::is_reference_table(&text) {
        without_runs_elsewhere("a reference table")?;
        return Ok(Comparand::Table(reference_table::parse(&file_name, &text)?));
    }
    match store {
        // It replaces --store as the only store of the sweep.
        Some(store) => study(&Common { store: store.to_path_buf(), ..*common }, path),
        None => study(common, path),
    }
}

fn study(common: &Common, of: &Path) -> Result<Comparand, Diagnostic> {
    // The custom table of a sweep file is not part of a comparison.
    let source = ReportSource::open(common, &[of.to_path_buf()])?.without_table();
    source.expect_runs()?;
    let (found, notices) = source.look();
    let known = Known::results(found);
    let records = known.records(&source.plan);
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

    /// Describes it on one line.
    fn described(&self) -> String {
        match self {
            Comparand::Study(report) => format!("{}: {}", report.name, report.runs.progress()),
            Comparand::Table(table) => format!("{}: {}", table.name, table.source),
        }
    }
}

fn describe(a: &Comparand, b: &Comparand, comparison: &Comparison, confidence: f64, colors: bool) -> String {
    let mut out = String::new();
    for (name, side) in [("A", a), ("B", b)] {
        let _ = writeln!(out, "{name}: {}", printable(&side.described()));
    }
    match comparison.rows.is_empty() {
        true => out.push_str("\nA and B have no rows in common\n"),
        false => {
            let _ = write!(out, "\n{}\n", terminal::lay_out(&table(&comparison.rows, confidence), colors));
            let _ = write!(
                out,
                "\nErrors in percent, mean ± standard deviation between tickets, or between the seeds of one ticket (seeds); \
                 barriers between seeds, and differences A − B, in percentage points.\n"
            );
        }
    }
    let unlike = |row: &&Compared| row.a.barrier.is_some() && row.b.barrier.is_some() && !row.barriers_alike;
    if comparison.rows.iter().any(|row| unlike(&row)) {
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
        const SHOWN: usize = 5;
        if !only.is_empty() {
            let more = if only.len() > SHOWN { format!(" and {} more", only.len() - SHOWN) } else { String::new() };
            let first: Vec<String> = only.iter().take(SHOWN).map(|label| printable(label)).collect();
            let _ = writeln!(out, "only in {name}: {}{more}", first.join("; "));
        }
    }
    out
}

/// Returns a table with a line for the errors of each row, and one for its barriers if both sides have them.
fn table(rows: &[Compared], confidence: f64) -> Table {
    let axes = axis_names(rows.iter().map(|row| &row.axes));
    let problems: std::collections::HashSet<_> = rows.iter().map(|row| row.problem).collect();
    let with_barriers = rows.iter().any(has_barriers);
    let mut columns = Vec::new();
    if problems.len() > 1 {
        columns.extend([text("dataset"), text("architecture")]);
    }
    columns.extend([text("method"), number("level"), number("remaining"), text("transferred")]);
    columns.extend(axes.iter().map(|name| text(name)));
    columns.extend(with_barriers.then(|| text("measure")));
    let interval = format!("{} %\ninterval", percent(confidence));
    columns.extend([number("A"), number("B"), number("A − B"), number(&interval), number("tickets"), number("p")]);
    columns.extend([text("test"), text("verdict")]);
    let keys = |row: &Compared| {
        let mut cells = Vec::new();
        if problems.len() > 1 {
            cells.extend([row.problem.dataset.to_string(), row.problem.architecture.to_string()]);
        }
        cells.extend([
            method_text(row.method),
            row.level.map_or(MISSING.to_string(), |level| level.to_string()),
            remaining_text(row.remaining_ratio),
            row.inherit.map_or(MISSING.to_string(), |inherit| inherit.to_string()),
        ]);
        cells.extend(axes.iter().map(|name| axis_value(&row.axes, name).to_string()));
        cells
    };
    let missing = || MISSING.to_string();
    let lines = rows.iter().flat_map(|row| {
        let mut errors = keys(row);
        errors.extend(with_barriers.then(|| "error".to_string()));
        errors.extend([side_text(&row.a), side_text(&row.b), points_text(row.difference)]);
        errors.extend([
            row.interval.map_or_else(missing, interval_text),
            tickets_text(row),
            row.p.map_or_else(missing, p_text),
            test_text(row),
            row.verdict.map_or_else(missing, |verdict| verdict.to_string()),
        ]);
        let barriers = has_barriers(row).then(|| {
            let mut cells = keys(row);
            let numbers = [row.a.barrier, row.b.barrier, row.barrier_difference];
            cells.extend(["barrier".to_string()].into_iter().chain(numbers.map(points_text)));
            cells.extend([
                row.barrier_interval.map_or_else(missing, interval_text),
                row.barrier_tickets.map_or_else(missing, |tickets| tickets.to_string()),
                missing(),
                row.barrier_test.map_or_else(missing, |test| test.to_string()),
                row.barrier_verdict.map_or_else(missing, |verdict| verdict.to_string()),
            ]);
            cells
        });
        iter::once(errors).chain(barriers)
    });
    Table { columns, rows: lines.collect(), best: Default::default() }
}

fn has_barriers(row: &Compared) -> bool {
    row.a.barrier.is_some() && row.b.barrier.is_some()
}

/// Returns the number of common tickets, or of the tickets of each side.
fn tickets_text(row: &Compared) -> String {
    let of = |side: &Side| side.tickets.map_or(MISSING.to_string(), |tickets| tickets.to_string());
    match row.tickets {
        Some(tickets) => tickets.to_string(),
        None if row.a.tickets.or(row.b.tickets).is_none() => MISSING.to_string(),
        None => format!("{}, {}", of(&row.a), of(&row.b)),
    }
}

fn side_text(side: &Side) -> String {
    let mut text = points_text(side.mean);
    if let (Some(_), Some(std)) = (side.mean, side.std) {
        let _ = write!(text, " ± {std:.1}");
    }
    if let Some(seeds) = side.seeds {
        let _ = write!(text, " ({seeds})");
    }
    text
}

fn test_text(row: &Compared) -> String {
    match (row.test, row.pairs) {
        _ if row.same_runs > 0 && Some(row.same_runs) == row.a.seeds && row.a.seeds == row.b.seeds => {
            "the same runs".to_string()
        }
        (Some(test), Some(pairs)) => format!("{test} ({pairs})"),
        (Some(test), None) => test.to_string(),
        (None, _) => MISSING.to_string(),
    }
}
