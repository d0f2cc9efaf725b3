//! `winsign digest`: prints digests of a study's results, or compares them with those of another study.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use winsign_core::results::RunResult;
use winsign_core::{Diagnostic, RunId, exit, files};
use winsign_sweep::plan::{Plan, PlannedRun};

use super::report_source::ReportSource;
use super::{Common, output};

pub(crate) const HELP: &str = "\
Examples:
  winsign digest sweeps/quickstart.yaml > numbers.txt          one line per finished run
  winsign digest sweeps/quickstart.yaml --check numbers.txt    compare, to the last bit
  winsign digest /mnt/north/results --check numbers.txt        compare all runs of a store

A digest covers the outcome and the network of a run. With `numerics: portable` it is the same on
every processor with AVX2.

With --check the exit code is 3 if a digest differs or is missing. Otherwise it is 65 if the result
of a run is damaged; the digests of the other runs are printed.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// A sweep file, stores, or both
    #[arg(required = true, value_name = "SWEEP|STORE")]
    sources: Vec<PathBuf>,
    /// Compare with the digests in this file
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

/// The maximum number of runs listed for each kind of difference; `--json` lists all.
const MAX_LISTED: usize = 10;

/// The digest of a finished run.
#[derive(Serialize)]
struct Line<'a> {
    digest: String,
    id: &'a RunId,
    label: String,
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let expected = arguments.check.as_deref().map(read).transpose()?;
    let source = ReportSource::open(common, &arguments.sources)?;
    source.check_stores()?;
    let (found, notices) = source.survey();
    for notice in notices {
        output::message(&format!("winsign: {}", notice.message));
    }
    let results = found.iter().map(|found| found.status.result.as_ref());
    let lines: Vec<Line> =
        source.plan.runs.iter().zip(results).filter_map(|(run, result)| digest_line(run, result?)).collect();
    if lines.len() < source.plan.runs.len() {
        output::message(&format!("winsign: {} of {} runs are done", lines.len(), source.plan.runs.len()));
    }
    let code = match expected {
        Some(expected) => check(common, &source.plan, &lines, &expected)?,
        None if common.json => output::json(&json!({ "runs": lines }))?,
        None => output::text(&lines.iter().fold(String::new(), |mut text, Line { digest, id, label }| {
            let _ = writeln!(text, "{digest}  {id}  {label}");
            text
        }))?,
    };
    let is_damaged = source.has_damaged_runs() || found.iter().any(|found| found.status.damaged.is_some());
    Ok(if code == exit::SUCCESS && is_damaged { exit::DAMAGED_INPUT } else { code })
}

fn digest_line<'a>(planned: &'a PlannedRun, result: &RunResult) -> Option<Line<'a>> {
    let network = result.network.as_ref().map(|network| &network.digest);
    let numbers = serde_json::to_vec(&json!({ "outcome": result.outcome, "network": network })).ok()?;
    Some(Line { digest: files::digest(&numbers), id: &planned.run.id, label: planned.label.to_string() })
}

/// Reads a file of digests, and returns them by run.
fn read(path: &Path) -> Result<BTreeMap<RunId, String>, Diagnostic> {
    let unusable = |reason: String| unusable_file(path, &reason);
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    let mut expected = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split_whitespace();
        let (Some(digest), Some(Ok(id))) = (words.next(), words.next().map(str::parse::<RunId>)) else {
            return Err(unusable(format!("line {number} is not a digest followed by the identity of a run")));
        };
        if expected.insert(id.clone(), digest.to_string()).is_some_and(|before| before != digest) {
            return Err(unusable(format!("line {number} contradicts an earlier digest of {id}")));
        }
    }
    if expected.is_empty() {
        return Err(unusable("it contains no digests".to_string()));
    }
    Ok(expected)
}

fn unusable_file(path: &Path, reason: &str) -> Diagnostic {
    Diagnostic::new(
        format!("cannot read digests from {}: {reason}", path.display()),
        "give a file with the output of `winsign digest SWEEP`",
    )
}

/// Compares the digests with the expected ones, and prints the differences.
fn check(common: &Common, plan: &Plan, lines: &[Line], expected: &BTreeMap<RunId, String>) -> Result<u8, Diagnostic> {
    let planned: BTreeMap<&RunId, String> =
        plan.runs.iter().map(|planned| (&planned.run.id, planned.label.to_string())).collect();
    let done: BTreeMap<&RunId, &Line> = lines.iter().map(|line| (line.id, line)).collect();
    let (known, unknown): (Vec<&RunId>, Vec<&RunId>) = expected.keys().partition(|id| planned.contains_key(id));
    let (finished, not_done): (Vec<&RunId>, Vec<&RunId>) = known.into_iter().partition(|id| done.contains_key(id));
    let differing: Vec<&RunId> = finished.into_iter().filter(|id| expected[*id] != done[id].digest).collect();
    let not_in_file: Vec<&RunId> = lines.iter().map(|line| line.id).filter(|id| !expected.contains_key(*id)).collect();
    let equal = expected.len() - unknown.len() - not_done.len() - differing.len();
    let code = if equal == expected.len() { exit::SUCCESS } else { exit::RUNS_FAILED };
    if common.json {
        output::json(&json!({
            "expected": expected.len(),
            "equal": equal,
            "differing": differing,
            "not_done": not_done,
            "not_in_this_study": unknown,
            "not_in_file": not_in_file,
        }))?;
        return Ok(code);
    }
    let mut text = format!("{equal} of {} runs have the expected digest\n", expected.len());
    let differences = [
        ("different digest", &differing),
        ("not done", &not_done),
        ("not in this study", &unknown),
        ("not in the file", &not_in_file),
    ];
    for (what, runs) in differences {
        list(&mut text, what, runs, &planned);
    }
    output::text(&text)?;
    Ok(code)
}

/// Lists the first of these runs, and counts the others.
fn list(text: &mut String, what: &str, runs: &[&RunId], labels: &BTreeMap<&RunId, String>) {
    for id in runs.iter().take(MAX_LISTED) {
        let label = labels.get(id).map(|label| format!("  {label}")).unwrap_or_default();
        let _ = writeln!(text, "  {what}: {id}{label}");
    }
    if runs.len() > MAX_LISTED {
        let _ = writeln!(text, "  {what}: {} more", runs.len() - MAX_LISTED);
    }
}
