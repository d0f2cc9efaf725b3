//! `winsign status`: shows the progress of a sweep, its pace and cost, active runs and failures.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use serde_json::{Value, json};
use winsign_core::attempt::Progress;
use winsign_core::owner::Clock;
use winsign_core::results::GpuUtilization;
use winsign_core::settings::Kind;
use winsign_core::text::{one_line, plural, printable};
use winsign_core::{Diagnostic, RunId, Store, exit};
use winsign_exec::batch::queue::Queue;
use winsign_report::terminal::STYLE;
use winsign_sweep::plan::pace::{self, GpuLoad, LOW_UTILIZATION, gpu_load, hosts, pace, spent};
use winsign_sweep::plan::survey::{RunStatus, survey_again};
use winsign_sweep::plan::{Plan, PlannedRun, RunState};

use super::stages::{counts, stages, table, totals};
use super::watch::{Watched, watch};
use super::{Common, colors, open, output};
use winsign_core::units::{bytes, duration, number};

pub(crate) const HELP: &str = "\
Examples:
  winsign status sweeps/quickstart.yaml
  winsign status sweeps/quickstart.yaml --watch            until all runs are done or have failed
  winsign status sweeps/quickstart.yaml --watch=30 >> status.log &
  winsign status sweeps/quickstart.yaml --all              every run: host, time, memory, GPUs
  winsign status sweeps/quickstart.yaml --json | jq .runs.done
  winsign status sweeps/quickstart.yaml --json --all | jq '.all[] | select(.gpu_hours > 1)'

Works on any machine with access to the store, and leaves nothing behind in it. Time and GPU-hours
are those of finished runs. With --watch the exit code is 3 if runs have failed or are blocked at
the end, and 0 after Ctrl-C.";

/// The maximum number of active runs and of hosts that are shown; there may be thousands.
const MAX_SHOWN: usize = 10;
/// The maximum number of failures that are shown in full.
const MAX_FAILURES: usize = 5;
/// The maximum number of runs shown whose GPUs have a low utilization.
const MAX_LOW: usize = 3;
/// The number of log lines shown for a failed run.
const LOG_LINES: usize = 5;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The sweep file
    sweep: PathBuf,
    /// List every run
    #[arg(long)]
    all: bool,
    /// Update every SECONDS (2 if omitted) until no run remains or Ctrl-C is pressed
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
        value_parser = parse_seconds)]
    watch: Option<f64>,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number of seconds from 0.1 to 86,400".to_string()),
    }
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let (plan, store) = open(common, &arguments.sweep)?;
    let status = Status {
        clock: Clock::new(store.root()),
        arguments: common.arguments_for(&arguments.sweep),
        plan,
        store,
        all: arguments.all,
        format: match (common.json, arguments.watch) {
            (false, _) => Format::Text { colors: colors(&std::io::stdout()) },
            (true, None) => Format::Json,
            (true, Some(_)) => Format::JsonLines,
        },
    };
    let Some(every) = arguments.watch else {
        return output::text(&status.show(&status.poll(None)?));
    };
    let status = Arc::new(status);
    let Some(last) = watch(&status, Duration::from_secs_f64(every), common.json)? else {
        return Ok(exit::SUCCESS);
    };
    if std::io::stdout().is_terminal() && !common.json {
        // The alternate screen was closed.
        output::text(&status.show(&last))?;
    }
    let done = last.statuses.iter().all(|status| status.state == RunState::Done);
    Ok(if done { exit::SUCCESS } else { exit::RUNS_FAILED })
}

struct Status {
    plan: Plan,
    store: Store,
    clock: Clock,
    /// The sweep and the store, as arguments of another command.
    arguments: String,
    all: bool,
    format: Format,
}

/// The format of the output.
enum Format {
    Text {
        colors: bool,
    },
    Json,
    /// One line of JSON for each update.
    JsonLines,
}

/// The state of the store at one time.
struct Snapshot {
    statuses: Vec<RunStatus>,
    /// The time of the file system at that time.
    now: SystemTime,
    /// The latest failures, with the last lines of their logs.
    failures: Vec<(usize, Vec<String>)>,
    /// Problems of jobs that need intervention.
    warnings: Vec<String>,
    /// True if the previous snapshot was settled, too: a failed run may be restarted immediately.
    settled_before: bool,
}

impl Watched for Status {
    type Snapshot = Snapshot;

    fn poll(&self, before: Option<&Snapshot>) -> Result<Snapshot, Diagnostic> {
        let known = before.map_or(&[][..], |before| &before.statuses);
        let queue = Queue::query(&self.store)?;
        let amend = |statuses: &mut [RunStatus]| queue.overlay(&self.plan, statuses);
        let statuses = survey_again(&self.plan, &self.store, known, &self.clock, amend)?;
        let warnings = queue.warnings(&self.plan, &statuses);
        let mut failures: Vec<usize> =
            (0..statuses.len()).filter(|&at| statuses[at].state == RunState::Failed).collect();
        failures.sort_by_key(|&at| std::cmp::Reverse(statuses[at].since));
        failures.truncate(MAX_FAILURES);
        let log = |at: usize| {
            let run = self.store.run(&self.plan.runs[at].run.id);
            (at, run.log_of(statuses[at].attempts, LOG_LINES))
        };
        let failures = failures.into_iter().map(log).collect();
        let began = statuses.iter().any(|status| status.since.is_some());
        // If no run has started, nothing is written, not even temporarily.
        let now = if began { self.clock.now() } else { SystemTime::now() };
        let settled_before = before.is_some_and(Snapshot::is_settled);
        Ok(Snapshot { statuses, now, failures, warnings, settled_before })
    }

    fn show(&self, snapshot: &Snapshot) -> String {
        match self.format {
            Format::Text { colors } => self.text(snapshot, colors),
            Format::Json => format!("{:#}\n", self.json(snapshot)),
            Format::JsonLines => format!("{}\n", self.json(snapshot)),
        }
    }

    fn is_over(&self, snapshot: &Snapshot) -> bool {
        let all_done = snapshot.statuses.iter().all(|status| status.state == RunState::Done);
        all_done || snapshot.is_settled() && snapshot.settled_before
    }
}

impl Snapshot {
    /// Returns true if no run is active or can still start.
    fn is_settled(&self) -> bool {
        let settled = [RunState::Done, RunState::Failed, RunState::Blocked];
        self.statuses.iter().all(|status| settled.contains(&status.state))
    }

    fn count(&self, state: RunState) -> usize {
        self.statuses.iter().filter(|status| status.state == state).count()
    }
}

/// A run in `status --json`.
#[derive(Serialize)]
struct RunRow<'a> {
    id: &'a RunId,
    kind: Kind,
    label: String,
    state: RunState,
    note: Option<&'a str>,
    host: Option<&'a str>,
    attempts: u32,
    progress: Option<&'a Progress>,
    /// The time since the run was done, has failed, or was started by the current attempt, in seconds.
    age: Option<f64>,
    /// The wall time of a finished run, in seconds.
    seconds: Option<f64>,
    peak_memory: Option<u64>,
    gpu_peak_memory: Option<u64>,
    gpu_utilization: Option<GpuUtilization>,
    gpu_hours: Option<f64>,
}

impl<'a> RunRow<'a> {
    fn new(planned: &'a PlannedRun, status: &'a RunStatus, now: SystemTime) -> RunRow<'a> {
        let result = status.result.as_ref();
        let usage = result.and_then(|result| result.usage);
        RunRow {
            id: &planned.run.id,
            kind: planned.run.kind(),
            label: planned.label.to_string(),
            state: status.state,
            note: status.note.as_deref(),
            host: status.host.as_deref(),
            attempts: status.attempts,
            progress: status.progress.as_ref(),
            age: status.age(now).map(|age| age.as_secs_f64()),
            seconds: result.map(|result| result.seconds),
            peak_memory: usage.and_then(|usage| usage.peak_memory),
            gpu_peak_memory: usage.and_then(|usage| usage.gpu_peak_memory),
            gpu_utilization: status.gpu_utilization,
            gpu_hours: result.and_then(|result| result.gpu_hours()),
        }
    }
}

impl Status {
    fn rows<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = RunRow<'a>> {
        let runs = self.plan.runs.iter().zip(&snapshot.statuses);
        runs.map(|(planned, status)| RunRow::new(planned, status, snapshot.now))
    }

    fn json(&self, snapshot: &Snapshot) -> Value {
        let running: Vec<RunRow> = self.rows(snapshot).filter(|row| row.state == RunState::Running).collect();
        let mut failed: Vec<RunRow> = self.rows(snapshot).filter(|row| row.state == RunState::Failed).collect();
        failed.sort_by(|one, other| one.age.unwrap_or(f64::MAX).total_cmp(&other.age.unwrap_or(f64::MAX)));
        let log_of = |row: &RunRow| {
            snapshot.failures.iter().find(|(at, _)| self.plan.runs[*at].run.id == *row.id).map(|(_, log)| log)
        };
        let failed: Vec<Value> = (failed.iter())
            .map(|row| {
                let mut value = serde_json::to_value(row).expect("plain data");
                value["log_end"] = json!(log_of(row));
                value
            })
            .collect();
        let pace = pace(&self.plan, &snapshot.statuses, snapshot.now);
        let spent = spent(&snapshot.statuses);
        let mut all = json!({
            "name": self.plan.name,
            "runs": counts(&snapshot.statuses),
            "stages": stages(&self.plan, &snapshot.statuses).iter().map(|stage| stage.json()).collect::<Vec<_>>(),
            "pace": pace.map(|pace| json!({
                "over_seconds": pace.over,
                "runs_per_hour": pace.runs,
                "epochs_per_hour": pace.epochs,
            })),
            "seconds_left": pace.and_then(|pace| pace.left).map(|left| left.as_secs_f64()),
            "so_far": {
                "hours": spent.seconds / 3600.0,
                "gpu_hours": spent.gpu_hours,
                "peak_memory": spent.peak_memory,
                "gpu_peak_memory": spent.gpu_peak_memory,
                "gpu_utilization": spent.gpu_utilization,
                "runs_without_usage": spent.unknown,
            },
            "hosts": hosts(&snapshot.statuses).iter().map(|(host, runs)| json!({"host": host, "runs": runs})).collect::<Vec<_>>(),
            "gpus": gpu_load(&snapshot.statuses).map(|load| json!({
                "last_minute": load.mean,
                "low": load.low.iter().map(|&at| &self.plan.runs[at].run.id).collect::<Vec<_>>(),
            })),
            "running": running,
            "failed": failed,
            "warnings": snapshot.warnings,
        });
        if self.all {
            all["all"] = self.rows(snapshot).map(|row| serde_json::to_value(row).expect("plain data")).collect();
        }
        all
    }

    fn text(&self, snapshot: &Snapshot, colors: bool) -> String {
        let paint = |code: &str, text: &str| match colors {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_string(),
        };
        let statuses = &snapshot.statuses;
        let name = paint(BOLD, &printable(&self.plan.name));
        let mut text = format!("{name} in {}: {}\n", self.store.root().display(), totals(&self.plan, statuses));
        self.write_pace(&mut text, snapshot);
        text += &table(&stages(&self.plan, statuses));
        for (at, log) in &snapshot.failures {
            let row = RunRow::new(&self.plan.runs[*at], &statuses[*at], snapshot.now);
            let failed = paint(RED, "failed:");
            let _ = write!(text, "{failed} {} ({})", printable(&row.label), row.id);
            let _ = match (row.age, row.host) {
                (Some(age), Some(host)) => write!(text, ", {} ago on {}", duration(age), printable(host)),
                (Some(age), None) => write!(text, ", {} ago", duration(age)),
                _ => Ok(()),
            };
            let mut causes = row.note.unwrap_or_default().lines().map(printable);
            let _ = writeln!(text, ": {}", causes.next().unwrap_or_default());
            for cause in causes {
                let _ = writeln!(text, "  {cause}");
            }
            for line in log {
                let _ = writeln!(text, "    {}", paint(DIM, &printable(line)));
            }
        }
        for warning in &snapshot.warnings {
            let _ = writeln!(text, "{} {}", paint(RED, "jobs:"), printable(warning));
        }
        let failures = snapshot.count(RunState::Failed);
        if failures > snapshot.failures.len() {
            let more = plural(failures - snapshot.failures.len(), "more failed run");
            let _ = writeln!(text, "and {more}; list them with: winsign status --all {}", self.arguments);
        }
        self.write_running(&mut text, snapshot);
        if self.all {
            let _ = write!(text, "\n{}\n", self.list(snapshot));
        }
        text
    }

    /// Writes the pace, the cost so far and the hosts.
    fn write_pace(&self, text: &mut String, snapshot: &Snapshot) {
        let statuses = &snapshot.statuses;
        // The pace of a settled sweep is of no interest.
        if !snapshot.is_settled()
            && let Some(pace) = pace(&self.plan, statuses, snapshot.now)
        {
            let (runs, epochs) = (number(pace.runs), number(pace.epochs));
            let _ = write!(text, "pace: {runs} runs and {epochs} epochs per hour, over {}", duration(pace.over));
            let _ = match pace.left {
                Some(left) => writeln!(text, "; about {} left", duration(left.as_secs_f64())),
                None => writeln!(text),
            };
        }
        let spent = spent(statuses);
        if snapshot.count(RunState::Done) > 0 {
            let _ = writeln!(text, "so far: {}", describe(&spent));
        }
        if let Some(load) = gpu_load(statuses) {
            self.write_gpu_load(text, &load);
        }
        let hosts = hosts(statuses);
        if !hosts.is_empty() {
            let shown = hosts.iter().take(MAX_SHOWN).map(|(host, runs)| format!("{} ({runs})", printable(host)));
            let mut shown: Vec<String> = shown.collect();
            if hosts.len() > MAX_SHOWN {
                shown.push(format!("and {} more", hosts.len() - MAX_SHOWN));
            }
            let _ = writeln!(text, "active hosts: {}", shown.join(", "));
        } else if snapshot.count(RunState::Pending) > 0 && snapshot.count(RunState::Queued) == 0 {
            let _ = writeln!(
                text,
                "no process is executing runs; start one with `winsign run {0}`, or jobs with `winsign submit {0}`",
                self.arguments
            );
        }
    }

    /// Writes the utilization of the GPUs, and the runs that do not need the whole of one.
    fn write_gpu_load(&self, text: &mut String, load: &GpuLoad) {
        let _ = write!(text, "GPUs: {:.0} % utilization in the last minute", load.mean);
        if load.low.is_empty() {
            text.push('\n');
            return;
        }
        let shown = load.low.iter().take(MAX_LOW).map(|&at| self.plan.runs[at].run.id.to_string());
        let mut shown: Vec<String> = shown.collect();
        if load.low.len() > MAX_LOW {
            shown.push("…".to_string());
        }
        let runs = plural(load.low.len(), "run");
        let _ = writeln!(
            text,
            "; {runs} below {LOW_UTILIZATION} %: {}\n  help: let small networks share a GPU: set `resources: {{gpus: 0.25}}` \
             in the sweep, or pass `--gpus 0.25` to `winsign run` or `winsign submit`",
            shown.join(", ")
        );
    }

    fn write_running(&self, text: &mut String, snapshot: &Snapshot) {
        let running = || self.rows(snapshot).filter(|row| row.state == RunState::Running);
        for row in running().take(MAX_SHOWN) {
            let _ =
                write!(text, "running: {} ({})", printable(&row.label), printable(row.note.unwrap_or("unknown host")));
            if let Some(progress) = row.progress {
                let unit = if row.kind == Kind::Connect { "batches" } else { "epochs" };
                let _ = write!(text, ", {} of {} {unit} done", progress.done, progress.total);
                if let Some(error) = progress.test_error {
                    let _ = write!(text, ", test error {error:.1} %");
                }
            }
            if let Some(age) = row.age {
                let _ = write!(text, ", for {}", duration(age));
            }
            text.push('\n');
        }
        let more = running().count().saturating_sub(MAX_SHOWN);
        if more > 0 {
            let _ = writeln!(text, "and {more} more running; list them with: winsign status --all {}", self.arguments);
        }
    }

    fn list(&self, snapshot: &Snapshot) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE);
        table.set_header(["run", "state", "host", "attempts", "time", "memory", "GPU-hours", "GPU %", ""]);
        let or_empty = |cell: Option<String>| cell.unwrap_or_default();
        for row in self.rows(snapshot) {
            let note = row.note.filter(|_| row.state != RunState::Running);
            let note = note.map(|note| format!(" ({})", one_line(note)));
            table.add_row([
                row.id.to_string(),
                row.state.to_string(),
                printable(row.host.unwrap_or_default()),
                if row.attempts > 0 { row.attempts.to_string() } else { String::new() },
                or_empty(row.seconds.map(duration)),
                or_empty(row.peak_memory.map(bytes)),
                or_empty(row.gpu_hours.filter(|hours| *hours > 0.0).map(number)),
                or_empty(row.gpu_utilization.and_then(|utilization| utilization.mean).map(|mean| format!("{mean:.0}"))),
                printable(&format!("{}{}", row.label, or_empty(note))),
            ]);
        }
        for column in 3..=7 {
            table.column_mut(column).expect("the header has it").set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

/// Describes the cost so far, as in `12.5 h of run time, 50.0 GPU-hours; at most 1.2 GB of memory, 9.8 GB of a GPU`.
fn describe(spent: &pace::Spent) -> String {
    let mut text = format!("{} of run time", duration(spent.seconds));
    if spent.gpu_hours > 0.0 {
        let _ = write!(text, ", {} GPU-hours", number(spent.gpu_hours));
        if let Some(utilization) = spent.gpu_utilization {
            let _ = write!(text, " at {utilization:.0} % utilization");
        }
    }
    let peaks = [
        spent.peak_memory.map(|peak| bytes(peak) + " of memory"),
        spent.gpu_peak_memory.map(|peak| bytes(peak) + " of a GPU"),
    ];
    let peaks: Vec<String> = peaks.into_iter().flatten().collect();
    if !peaks.is_empty() {
        let _ = write!(text, "; at most {}", peaks.join(", "));
    }
    if spent.unknown > 0 {
        let _ = write!(text, "; {} of an earlier version without these figures", plural(spent.unknown, "run"));
    }
    text
}
