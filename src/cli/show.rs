//! `winsign show`: shows one run.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use serde_json::json;
use winsign_core::attempt::{END, End, METRICS, STATUS};
use winsign_core::owner::{self, Clock};
use winsign_core::results::{EpochMetrics, GpuUtilization};
use winsign_core::text::{one_line, printable};
use winsign_core::{Diagnostic, Error, RunDirectory, RunId, Store, files};
use winsign_report::terminal::STYLE;
use winsign_sweep::plan::RunState;
use winsign_sweep::plan::survey::{self, RunStatus};

use super::{Common, outcomes, output};
use winsign_core::units::{bytes, duration, number};

pub(crate) const HELP: &str = "\
Examples:
  winsign show 3f09c2aa41d07e55
  winsign show 3f09                     the first digits, if they are unique
  winsign show 3f09 --json | jq .metrics";

/// The number of log lines shown.
const LOG_LINES: usize = 15;

pub(crate) fn command(common: &Common, prefix: &str) -> Result<u8, Diagnostic> {
    let store = Store::open(&common.store)?;
    let run = store.run(&find(&store, prefix)?);
    let file = run.settings()?.ok_or_else(|| Error::NotARun { path: run.path.clone() })?;
    let clock = Clock::new(store.root());
    let status = survey::status(&run, &clock)?;
    let metrics = match status.result.as_ref().and_then(|result| result.metrics.as_ref()) {
        Some(committed) => run.read_metrics(committed)?,
        None => metrics_of_last_attempt(&run)?,
    };
    let result = status.result.as_ref();
    let usage = result.and_then(|result| result.usage);
    let history = history(&run, &status)?;
    let log = log_of_last_attempt(&run, if common.json { usize::MAX } else { LOG_LINES })?;
    if common.json {
        return output::json(&json!({
            "id": run.id,
            "label": file.label,
            "state": status.state,
            "note": status.note,
            "directory": run.path.to_string_lossy(),
            "attempts": history.len(),
            "history": history,
            "host": status.host,
            "seconds": result.map(|result| result.seconds),
            "peak_memory": usage.and_then(|usage| usage.peak_memory),
            "gpu_peak_memory": usage.and_then(|usage| usage.gpu_peak_memory),
            "peak_activations_on_host": usage.and_then(|usage| usage.peak_activations_on_host),
            "gpu_utilization": status.gpu_utilization,
            "gpu_hours": result.and_then(|result| result.gpu_hours()),
            "settings": file.settings,
            "needs": file.inputs,
            "result": status.result,
            "metrics": metrics,
            "log": log,
        }));
    }
    let mut text = format!("{} ({})\n", file.label, run.id);
    let _ = write!(text, "state: {}", status.state);
    if let Some(note) = &status.note {
        let _ = write!(text, " ({})", printable(&one_line(note)));
    }
    let _ = writeln!(text, "\ndirectory: {}", run.path.display());
    if let Some(host) = &status.host {
        let _ = writeln!(text, "host: {}", printable(host));
    }
    let _ = writeln!(text, "attempts: {}", history.len());
    for attempt in history.iter().filter(|_| history.len() > 1) {
        let _ = writeln!(text, "  {}", printable(&attempt.describe()));
    }
    if let Some(result) = result {
        let _ = writeln!(text, "wall time: {}", duration(result.seconds));
    } else if status.state == RunState::Running
        && let Some(age) = status.age(clock.now())
    {
        let _ = writeln!(text, "running for: {}", duration(age.as_secs_f64()));
    }
    if let Some(peak) = usage.and_then(|usage| usage.peak_memory) {
        let _ = writeln!(text, "peak memory: {}", bytes(peak));
    }
    if let Some(peak) = usage.and_then(|usage| usage.gpu_peak_memory) {
        let _ = writeln!(text, "peak memory of a GPU: {}", bytes(peak));
    }
    if let Some(peak) = usage.and_then(|usage| usage.peak_activations_on_host) {
        let _ = writeln!(text, "peak memory of activations on the host: {}", bytes(peak));
    }
    if let Some(utilization) = status.gpu_utilization {
        let _ = writeln!(text, "GPU utilization: {utilization}");
    }
    if let Some(hours) = result.and_then(|result| result.gpu_hours()).filter(|hours| *hours > 0.0) {
        let _ = writeln!(text, "GPU-hours: {}", number(hours));
    }
    for input in &file.inputs {
        let _ = writeln!(text, "needs: {input}");
    }
    text += "\nsettings\n";
    describe(&mut text, "", &file.settings.in_full());
    if let Some(result) = &status.result {
        text += "\nresult\n";
        let mut shown = serde_json::to_value(result).expect("a result is plain data");
        if let Some(outcome) = shown["outcome"].as_object_mut() {
            outcome.retain(|name, _| !outcomes::SHOWN.contains(&name.as_str()));
        }
        describe(&mut text, "", &shown);
        outcomes::describe(&mut text, &result.outcome, &file.inputs);
    }
    if !metrics.is_empty() {
        let _ = writeln!(text, "\n{}", metrics_table(&metrics));
    }
    if !log.is_empty() {
        text += "\nend of the log\n";
        for line in log {
            let _ = writeln!(text, "  {}", printable(&line));
        }
    }
    output::text(&text)
}

/// An attempt at a run.
#[derive(Serialize)]
struct AttemptRow {
    number: u32,
    host: Option<String>,
    /// The time from the claim to the last update, in seconds. Unlike the wall time of a run, this includes lost work.
    seconds: Option<f64>,
    /// True if activations are kept in the memory of the host.
    activations_on_host: bool,
    gpu_utilization: Option<GpuUtilization>,
    /// The end of the attempt; `None` while it runs.
    end: Option<String>,
}

impl AttemptRow {
    /// Describes the attempt, as in `2 on node3 for 12 min: interrupted`.
    fn describe(&self) -> String {
        let host = self.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        let time = self.seconds.map(|seconds| format!(" for {}", duration(seconds))).unwrap_or_default();
        let place = if self.activations_on_host { ", activations on the host" } else { "" };
        let gpus = self.gpu_utilization.map(|gpus| format!(", GPU utilization {gpus}")).unwrap_or_default();
        format!("{}{host}{time}{place}{gpus}: {}", self.number, self.end.as_deref().unwrap_or("running"))
    }
}

fn history(run: &RunDirectory, status: &RunStatus) -> Result<Vec<AttemptRow>, Diagnostic> {
    let is_running = |number| status.state == RunState::Running && status.attempts == number;
    run.attempts()?.into_iter().map(|number| attempt_row(run, number, is_running(number))).collect()
}

fn attempt_row(run: &RunDirectory, number: u32, is_running: bool) -> Result<AttemptRow, Diagnostic> {
    // A failure after which the run was tried again has another record in its place, with a later time.
    let forgiven = run.forgiven_end_of(number)?;
    let end_path = if forgiven.is_some() { run.forgiven_path(number) } else { run.attempt_path(number).join(END) };
    let end = match forgiven.map_or_else(|| run.end_of(number), |end| Ok(Some(end)))? {
        Some(End::Finished) => Some("finished".to_string()),
        Some(End::Interrupted) => Some("interrupted".to_string()),
        Some(End::OutOfGpuMemory { message }) => Some(message),
        Some(End::Failed { message }) => Some(format!("failed: {message}")),
        Some(End::Lost) => Some("lost: another process saw no heartbeat".to_string()),
        None if is_running => None,
        None => Some("ended without a record".to_string()),
    };
    let began = owner::touched(&run.claim_path(number))?;
    let folder = run.attempt_path(number);
    let last = match owner::touched(&end_path)? {
        None => owner::touched(&folder.join(STATUS))?,
        last => last,
    };
    let seconds = began.zip(last).map(|(began, last)| last.duration_since(began).unwrap_or_default());
    let claim = run.claim_of(number)?;
    Ok(AttemptRow {
        number,
        activations_on_host: claim.as_ref().is_some_and(|claim| claim.activations_on_host),
        host: claim.map(|claim| claim.owner.host),
        seconds: seconds.map(|seconds| seconds.as_secs_f64()),
        gpu_utilization: run.status_of(number).and_then(|status| status.gpu_utilization),
        end,
    })
}

/// Finds the run whose identity starts with the prefix, which can also be the path of its directory.
pub(crate) fn find(store: &Store, prefix: &str) -> Result<RunId, Diagnostic> {
    let prefix = prefix.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_lowercase();
    match &store.find(&prefix)?[..] {
        [one] => Ok(one.clone()),
        [] => Err(Diagnostic::new(
            match store.root().exists() {
                true => format!("cannot find run {prefix} in {}", store.root().display()),
                false => format!("store {} does not exist", store.root().display()),
            },
            "a run has no files before it starts: `winsign plan SWEEP --all` lists runs and their states; or give another \
             store with --store DIR",
        )),
        several => Err(Diagnostic::new(
            format!("identity {prefix} is ambiguous: {} runs start with it", several.len()),
            format!("give more digits; two of the runs are {} and {}", several[0], several[1]),
        )),
    }
}

/// Returns the last lines of the latest attempt's log.
pub(crate) fn log_of_last_attempt(run: &RunDirectory, lines: usize) -> Result<Vec<String>, Diagnostic> {
    Ok(run.attempts()?.last().map_or(vec![], |&attempt| run.log_of(attempt, lines)))
}

fn metrics_of_last_attempt(run: &RunDirectory) -> Result<Vec<EpochMetrics>, Diagnostic> {
    // An attempt that was interrupted in its first epoch has no metrics; an earlier one may.
    for attempt in run.attempts()?.into_iter().rev() {
        let path = run.attempt_path(attempt).join(METRICS);
        if let Some(bytes) = files::read_if_exists(&path)? {
            let lines = String::from_utf8_lossy(&bytes);
            let parse =
                |line: &str| serde_json::from_str(line).map_err(|error| Error::damaged(&path, error.to_string()));
            return Ok(lines.lines().map(parse).collect::<Result<_, _>>()?);
        }
    }
    Ok(vec![])
}

fn metrics_table(metrics: &[EpochMetrics]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(["epoch", "lr", "train loss", "train error %", "test loss", "test error %"]);
    for epoch in metrics {
        table.add_row([
            epoch.epoch.to_string(),
            // Ten digits hide rounding errors of multiplying by 0.1.
            format!("{:.10}", epoch.lr).trim_end_matches('0').to_string(),
            format!("{:.4}", epoch.train_loss),
            format!("{:.2}", epoch.train_error),
            format!("{:.4}", epoch.test_loss),
            format!("{:.2}", epoch.test_error),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Writes nested settings as indented lines, `training.lr: 0.1`.
fn describe(text: &mut String, prefix: &str, value: &serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                describe(text, &name, value);
            }
        }
        serde_json::Value::String(value) => {
            let _ = writeln!(text, "  {prefix}: {}", printable(value));
        }
        other => {
            let _ = writeln!(text, "  {prefix}: {other}");
        }
    }
}
