//! Measures the overhead of submitting and dispatching runs, with whole processes of winsign.
//!
//! ```text
//! cargo bench --bench fanout                   measures everything; with --no-default-features everything but packing
//! cargo bench --bench fanout -- submit         measures one part (submit, overhead or packing), and writes no file
//! ```
//!
//! - **submit**: `winsign submit` of ten thousand runs. Slurm's commands are replaced by scripts; each call takes the time of one or
//!   two shells, which is included.
//! - **overhead**: the time per run of `winsign run --jobs 1`, without the time of its workers. The workers are this program, which
//!   claims its run like the real worker, and commits made-up results. The time of a worker is that from the start to the end of
//!   its main function, so starting and ending processes is part of the overhead.
//! - **packing**: a small study with the real worker on two cores, alternately with two runs at a time with one thread each, and
//!   with one run at a time with two threads.
//!
//! Prints a table and writes results/bench/fanout.json (see [`Record`]). Missed goals are shown, but are not failures. The benchmark
//! fails if a command does not do its work.

#[path = "common/record.rs"]
mod record;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use safetensors::Dtype;
use serde::Serialize;
use serde_json::{Value, json};
use winsign_core::RunDirectory;
use winsign_core::attempt::{Attempt, End};
use winsign_core::results::{Outcome, Processors, TicketOutcome};
use winsign_core::tensors::{RawTensor, TensorFile};
use winsign_sweep::plan::build::build;

use record::{Machine, Origin, Result, TEN_THOUSAND, clean_command, format_seconds, load_average};

const WINSIGN: &str = env!("CARGO_BIN_EXE_winsign");
#[cfg(feature = "worker")]
const WORKER: Option<&str> = Some(env!("CARGO_BIN_EXE_winsign-worker"));
#[cfg(not(feature = "worker"))]
const WORKER: Option<&str> = None;

/// The number of timed executions, after one that is not timed.
const REPEATS: usize = 5;
/// The number of turns of each part of `packing`.
const TURNS: usize = 3;

/// The limits of the imitated cluster.
const MAX_ARRAY_SIZE: usize = 1_001;
const MAX_JOB_COUNT: usize = 50_000;
/// Slurm's commands, as far as submitting needs them. `sbatch` records the `--array` of every script, and `squeue` prints the
/// file `queue`.
const SLURM: &[(&str, &str)] = &[
    ("sbatch", r#"grep -e --array= >>"$FANOUT_SLURM/arrays" && wc -l <"$FANOUT_SLURM/arrays""#),
    ("squeue", r#"cat "$FANOUT_SLURM/queue""#),
    ("scontrol", r#"[ "$*" = "show config" ] && cat "$FANOUT_SLURM/config""#),
    ("scancel", "exit 1"),
];
const FANOUT_SLURM: &str = "FANOUT_SLURM";

/// If this variable is set, this program is a worker, and appends its time to the named file.
const FANOUT_TIMES: &str = "FANOUT_TIMES";

/// A sweep with 200 runs without inputs.
const INDEPENDENT: &str = "\
name: independent
dataset: digits
architecture: resnet8
ticket: {method: snip, levels: 1, seed: 1..100}
";

/// A sweep with 8 runs without inputs, which take some seconds each.
const SMALL: &str = "\
name: small
dataset: digits
architecture: resnet8
ticket: {method: snip, levels: 1, warmup_epochs: 5, epochs: 5, seed: 1..4}
";

/// The content of results/bench/fanout.json.
#[derive(Serialize)]
struct Record {
    /// The version of this schema.
    schema: u32,
    #[serde(flatten)]
    origin: Origin,
    machine: Machine,
    measures: Vec<Measure>,
}

/// A quantity that was measured several times.
#[derive(Serialize)]
struct Measure {
    name: &'static str,
    unit: Unit,
    goal: Option<Goal>,
    /// The median; for a ratio, the ratio of two medians.
    value: f64,
    /// All values in the order of measurement.
    values: Vec<f64>,
    /// The load average of the minute before.
    load_before: f64,
    details: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Unit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "runs/min")]
    Rate,
    #[serde(rename = "ratio")]
    Ratio,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Goal {
    Below(f64),
    AtLeast(f64),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match std::env::var_os(FANOUT_TIMES) {
        Some(times) => work(Instant::now(), &arguments, Path::new(&times)),
        // `cargo bench` passes --bench, but `cargo test --benches`, which must be fast, does not.
        None if !arguments.iter().any(|argument| argument == "--bench") => {
            println!("nothing is measured: use cargo bench --bench fanout");
            Ok(())
        }
        None => bench(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanout: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &[String]) -> Result<()> {
    const PARTS: [&str; 3] = ["submit", "overhead", "packing"];
    let named: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| PARTS.contains(word)).collect();
    let wanted = |part: &str| named.is_empty() || named.contains(&part);
    let machine = Machine::current()?;
    println!("{}, {} cores, load {}", machine.cpu, machine.cores, machine.load_before);
    let scratch = tempfile::tempdir()?;
    let folder = |name: &str| -> Result<PathBuf> {
        let folder = scratch.path().join(name);
        fs::create_dir(&folder)?;
        Ok(folder)
    };
    let mut measures = vec![];
    if wanted("submit") {
        measures.extend(submit(&folder("submit")?)?);
    }
    if wanted("overhead") {
        measures.push(overhead(&folder("overhead")?)?);
    }
    match WORKER {
        Some(worker) if wanted("packing") => measures.extend(packing(&folder("packing")?, worker)?),
        None if wanted("packing") => {
            eprintln!("packing is skipped: it needs the worker, and this program was built without it")
        }
        _ => {}
    }
    println!("{}", table(&measures));
    match named.is_empty() {
        true => record::write("fanout", &Record { schema: 1, origin: Origin::now(), machine, measures }),
        false => Ok(()),
    }
}

// --- submission to Slurm ----------------------------------------------------------------------------------------

/// Measures the submission of ten thousand runs to a new store, and a second submission while all of them are queued.
fn submit(folder: &Path) -> Result<[Measure; 2]> {
    let slurm = FakeSlurm::new(folder)?;
    let (sweep, store) = (folder.join("sweep.yaml"), folder.join("store"));
    fs::write(&sweep, TEN_THOUSAND)?;
    let runs = build(&winsign_sweep::read(&sweep)?).runs.len();
    let execute = || {
        let mut command = clean_command(WINSIGN);
        // The worker is copied to the store, but never started, so it can be any program.
        command.current_dir(folder).arg("submit").arg(&sweep).arg("--store").arg(&store);
        command.arg("--worker").arg(slurm.folder.join("sbatch"));
        run_timed(slurm.add_to_path(&mut command))
    };

    let (mut first, mut again) = (vec![], vec![]);
    let (load_first, mut load_again) = (load_average()?, 0.0);
    let mut arrays = vec![];
    for repeat in 0..=REPEATS {
        slurm.reset()?;
        let _ = fs::remove_dir_all(&store);
        let (time, output) = execute()?;
        arrays = slurm.arrays()?;
        let expected = format!("{runs} runs submitted as {} arrays, {runs} tasks", arrays.len());
        if !output.contains(&expected) || arrays.iter().sum::<usize>() != runs {
            return Err(format!("winsign submit failed: {output}").into());
        }
        slurm.enqueue(&arrays, &store)?;
        if repeat == 0 {
            load_again = load_average()?;
        } else {
            first.push(time.as_secs_f64());
        }
        let (time, output) = execute()?;
        if !(output.contains("nothing to submit") && output.contains(&format!(": {runs} queued")))
            || slurm.arrays()?.len() != arrays.len()
        {
            return Err(format!("winsign submit did not find its jobs in the queue: {output}").into());
        }
        if repeat > 0 {
            again.push(time.as_secs_f64());
        }
    }
    let calls = arrays.len();
    println!("{runs} runs in {calls} arrays, with one call of sbatch each (MaxArraySize {MAX_ARRAY_SIZE})");
    let details = json!({ "runs": runs, "sbatch_calls": calls, "tasks_of_arrays": arrays });
    let again_details = json!({ "runs": runs, "sbatch_calls": 0 });
    Ok([
        Measure::new("submit", Unit::Seconds, Some(Goal::Below(5.0)), first, load_first, details),
        Measure::new("submit again, all queued", Unit::Seconds, None, again, load_again, again_details),
    ])
}

struct FakeSlurm {
    folder: PathBuf,
}

impl FakeSlurm {
    fn new(folder: &Path) -> Result<FakeSlurm> {
        let slurm = FakeSlurm { folder: folder.join("slurm") };
        fs::create_dir(&slurm.folder)?;
        for (name, line) in SLURM {
            let path = slurm.folder.join(name);
            fs::write(&path, format!("#!/bin/sh\n{line}\n"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        let config = format!("ClusterName = bench\nMaxArraySize = {MAX_ARRAY_SIZE}\nMaxJobCount = {MAX_JOB_COUNT}\n");
        fs::write(slurm.folder.join("config"), config)?;
        Ok(slurm)
    }

    /// Puts Slurm's imitated commands first in the PATH of a command.
    fn add_to_path<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let others = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{others}", self.folder.display())).env(FANOUT_SLURM, &self.folder)
    }

    fn reset(&self) -> Result<()> {
        fs::write(self.folder.join("arrays"), "")?;
        fs::write(self.folder.join("queue"), "")?;
        Ok(())
    }

    /// Returns the number of tasks of each submitted array.
    fn arrays(&self) -> Result<Vec<usize>> {
        let text = fs::read_to_string(self.folder.join("arrays"))?;
        let tasks = |line: &str| -> Result<usize> {
            let last = line.rsplit_once("--array=0-").and_then(|(_, last)| last.parse::<usize>().ok());
            Ok(last.ok_or_else(|| format!("an array without a last task: {line}"))? + 1)
        };
        text.lines().map(tasks).collect()
    }

    /// Puts all tasks of the only submission of a store into the queue.
    fn enqueue(&self, arrays: &[usize], store: &Path) -> Result<()> {
        let folder = fs::read_dir(store.join("submissions"))?.next().ok_or("there is no submission")??;
        let submission = folder.file_name().into_string().map_err(|_| "the name of a submission is not UTF-8")?;
        let tasks = |(array, &tasks): (usize, &usize)| -> String {
            let (job, name) = (array + 1, format!("ten-thousand.{submission}.{array}"));
            (0..tasks).map(|task| format!("{job}|{job}|{task}|PENDING|{name}|Dependency|(null)\n")).collect()
        };
        let queue: String = arrays.iter().enumerate().map(tasks).collect();
        Ok(fs::write(self.folder.join("queue"), queue)?)
    }
}

// --- runs on this machine ---------------------------------------------------------------------------------------

/// Measures the overhead per run, with one run after the other.
fn overhead(folder: &Path) -> Result<Measure> {
    let load = load_average()?;
    let times = folder.join("times");
    let local = Local::new(folder, INDEPENDENT, std::env::current_exe()?)?;
    let (mut values, mut worker_seconds) = (vec![], vec![]);
    for repeat in 0..=REPEATS {
        fs::write(&times, "")?;
        let wall = local.run(1, 1, |command| command.env(FANOUT_TIMES, &times))?;
        let text = fs::read_to_string(&times)?;
        let nanoseconds: Vec<u64> = text.lines().map(str::parse).collect::<std::result::Result<_, _>>()?;
        if nanoseconds.len() != local.runs {
            return Err(format!("{} runs had {} workers", local.runs, nanoseconds.len()).into());
        }
        let workers = Duration::from_nanos(nanoseconds.iter().sum());
        if repeat > 0 {
            values.push((wall.as_secs_f64() - workers.as_secs_f64()) / local.runs as f64);
            worker_seconds.push(workers.as_secs_f64() / local.runs as f64);
        }
    }
    let details = json!({ "runs": local.runs, "jobs": 1, "seconds_of_a_worker": worker_seconds });
    Ok(Measure::new("overhead of a run", Unit::Seconds, Some(Goal::Below(0.01)), values, load, details))
}

/// Runs a worker of [`overhead`]: commits a made-up result of a ticket.
fn work(began: Instant, arguments: &[String], times: &Path) -> Result<()> {
    let launch = arguments.iter().position(|argument| argument == "--launch").and_then(|at| arguments.get(at + 1));
    let run = RunDirectory::open(Path::new(arguments.last().ok_or("no run is given")?))?;
    let attempt = Attempt::claim_as(&run, 1, launch.map(String::as_str))?;
    let tensor = RawTensor { dtype: Dtype::F32, shape: vec![10, 32], bytes: vec![0; 4 * 10 * 32] };
    let network =
        TensorFile { tensors: BTreeMap::from([("fc.weight".to_string(), tensor)]), metadata: "{}".to_string() };
    let outcome = Outcome::Ticket(TicketOutcome {
        remaining_ratio: 0.8,
        survivors: 800,
        prunable: 1_000,
        test_error: 2.5,
        test_loss: 0.1,
        layers: vec![],
    });
    attempt.commit(outcome, Some(&network), Processors { ranks: 1, threads: 1 }, None)?;
    attempt.end(&End::Finished)?;
    let mut times = File::options().append(true).open(times)?;
    // A single write keeps the lines of several workers separate.
    Ok(times.write_all(format!("{}\n", began.elapsed().as_nanos()).as_bytes())?)
}

/// Compares one run with two threads at a time with two runs with one thread each.
fn packing(folder: &Path, worker: &str) -> Result<[Measure; 3]> {
    let load = load_average()?;
    let local = Local::new(folder, SMALL, PathBuf::from(worker))?;
    let mut rates = [vec![], vec![]];
    for turn in 1..=TURNS {
        for (rates, (jobs, threads)) in rates.iter_mut().zip([(2, 1), (1, 2)]) {
            let wall = local.run(jobs, threads, |command| command)?;
            rates.push(60.0 * local.runs as f64 / wall.as_secs_f64());
            eprintln!("packing: turn {turn} of {TURNS}, {jobs} at a time took {:.1} s", wall.as_secs_f64());
        }
    }
    let ratios = rates[0].iter().zip(&rates[1]).map(|(two, one)| two / one).collect();
    let [two, one] = rates;
    let details = json!({ "runs": local.runs });
    let two = Measure::new("two at a time, a thread each", Unit::Rate, None, two, load, details.clone());
    let one = Measure::new("one at a time, two threads", Unit::Rate, None, one, load, details.clone());
    let ratio = Measure::new("packing, two over one", Unit::Ratio, Some(Goal::AtLeast(1.2)), ratios, load, details);
    let ratio = Measure { value: two.value / one.value, ..ratio };
    Ok([two, one, ratio])
}

/// A study that is repeatedly run on this machine.
struct Local {
    sweep: PathBuf,
    store: PathBuf,
    worker: PathBuf,
    runs: usize,
}

impl Local {
    fn new(folder: &Path, text: &str, worker: PathBuf) -> Result<Local> {
        let (sweep, store) = (folder.join("sweep.yaml"), folder.join("store"));
        fs::write(&sweep, text)?;
        let runs = build(&winsign_sweep::read(&sweep)?).runs.len();
        Ok(Local { sweep, store, worker, runs })
    }

    /// Runs the study in a new store, with `jobs` runs at a time; returns the time.
    fn run(&self, jobs: u32, threads: u32, configure: impl Fn(&mut Command) -> &mut Command) -> Result<Duration> {
        let _ = fs::remove_dir_all(&self.store);
        let mut command = clean_command(WINSIGN);
        command.arg("run").arg(&self.sweep).arg("--store").arg(&self.store).arg("--worker").arg(&self.worker);
        command.args(["--gpus", "0", "--jobs", &jobs.to_string(), "--threads", &threads.to_string()]);
        let (time, output) = run_timed(configure(&mut command))?;
        match output.contains(&format!("{0} of {0} runs done ({0} now)", self.runs)) {
            true => Ok(time),
            false => Err(format!("winsign run failed: {output}").into()),
        }
    }
}

/// Runs a command; returns the time until its exit, and its output.
fn run_timed(command: &mut Command) -> Result<(Duration, String)> {
    let began = Instant::now();
    let output = command.output()?;
    let time = began.elapsed();
    match output.status.success() {
        true => Ok((time, String::from_utf8_lossy(&output.stdout).into_owned())),
        false => Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into()),
    }
}

// --- output -----------------------------------------------------------------------------------------------------

impl Measure {
    fn new(
        name: &'static str,
        unit: Unit,
        goal: Option<Goal>,
        values: Vec<f64>,
        load_before: f64,
        details: Value,
    ) -> Measure {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        Measure { name, unit, goal, value: sorted[sorted.len() / 2], values, load_before, details }
    }

    fn verdict(&self) -> &'static str {
        match self.goal {
            Some(Goal::Below(limit)) if self.value < limit => "met",
            Some(Goal::AtLeast(limit)) if self.value >= limit => "met",
            Some(_) => "missed",
            None => "",
        }
    }
}

impl Unit {
    fn format(self, value: f64) -> String {
        match self {
            Unit::Seconds => format_seconds(value),
            Unit::Rate => format!("{value:.1} runs/min"),
            Unit::Ratio => format!("{value:.2}"),
        }
    }
}

fn table(measures: &[Measure]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "min", "median", "max", "goal", "", "load"]);
    for measure in measures {
        let show = |value| measure.unit.format(value);
        let min = measure.values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = measure.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let goal = match measure.goal {
            Some(Goal::Below(limit)) => format!("< {}", show(limit)),
            Some(Goal::AtLeast(limit)) => format!("≥ {}", show(limit)),
            None => String::new(),
        };
        let cells = [show(min), show(measure.value), show(max), goal, measure.verdict().to_string()];
        let load = format!("{:.1}", measure.load_before);
        table.add_row([measure.name.to_string()].into_iter().chain(cells).chain([load]));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
