//! What handing out runs costs: whole processes of the real program, for a sweep that goes to Slurm and for sweeps that are
//! run here.
//!
//! ```text
//! cargo bench --bench fanout                   all; with --no-default-features all but packing, which needs the worker
//! cargo bench --bench fanout -- submit         only that, also `overhead` or `packing`: printed, not written
//! ```
//!
//! - **submit**: `winsign submit` of ten thousand runs, to commands of Slurm that do nothing but answer. Theirs is the time of a
//!   shell or two for each call, and is not taken off.
//! - **overhead**: `winsign run --jobs 1`, less what its workers took, for each run. The workers are this program, which claims its
//!   run as the real one does and commits numbers that it made up. A worker's time counts from its first line of code to its last:
//!   to start a process and to bury it is overhead.
//! - **packing**: a small study with the real worker on two cores, two runs at a time with one thread each, and one at a time with
//!   two threads, in turns.
//!
//! Prints a table and writes results/bench/fanout.json (see [`Record`]). A missed goal is shown, and is no failure; what fails is
//! a command that did not do what it is timed for.

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

use record::{Machine, Origin, Result, TEN_THOUSAND, load, text, undisturbed};

const WINSIGN: &str = env!("CARGO_BIN_EXE_winsign");
#[cfg(feature = "worker")]
const WORKER: Option<&str> = Some(env!("CARGO_BIN_EXE_winsign-worker"));
#[cfg(not(feature = "worker"))]
const WORKER: Option<&str> = None;

/// Timed executions, after one that is not timed.
const REPEATS: usize = 5;
/// Of the two ways to use two cores.
const TURNS: usize = 3;

/// What the cluster that is not there allows.
const MAX_ARRAY_SIZE: usize = 1_001;
const MAX_JOB_COUNT: usize = 50_000;
/// Commands of Slurm in so far as submitting needs them. `sbatch` keeps the `--array` of every script, and what is in `queue` is
/// what `squeue` says.
const SLURM: &[(&str, &str)] = &[
    ("sbatch", r#"grep -e --array= >>"$FANOUT_SLURM/arrays" && wc -l <"$FANOUT_SLURM/arrays""#),
    ("squeue", r#"cat "$FANOUT_SLURM/queue""#),
    ("scontrol", r#"[ "$*" = "show config" ] && cat "$FANOUT_SLURM/config""#),
    ("scancel", "exit 1"),
];
const FANOUT_SLURM: &str = "FANOUT_SLURM";

/// Names the file to which a worker adds how long it lived. Where it is set, this program is a worker.
const FANOUT_LIVES: &str = "FANOUT_LIVES";
/// 200 runs that need nothing.
const INDEPENDENT: &str = "\
name: independent
dataset: digits
architecture: resnet8
ticket: {method: snip, levels: 1, seed: 1..100}
";

/// 8 runs that need nothing, of some seconds each.
const SMALL: &str = "\
name: small
dataset: digits
architecture: resnet8
ticket: {method: snip, levels: 1, warmup_epochs: 5, epochs: 5, seed: 1..4}
";

/// results/bench/fanout.json.
#[derive(Serialize)]
struct Record {
    /// The version of this schema.
    schema: u32,
    #[serde(flatten)]
    origin: Origin,
    machine: Machine,
    measures: Vec<Measure>,
}

/// Something measured, several times.
#[derive(Serialize)]
struct Measure {
    name: &'static str,
    unit: Unit,
    goal: Option<Goal>,
    /// What counts: the median, or for a ratio that of two medians.
    value: f64,
    /// All of them, in their order.
    values: Vec<f64>,
    /// Processes that wanted a core in the minute before.
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
    let done = match std::env::var_os(FANOUT_LIVES) {
        Some(lives) => work(Instant::now(), &arguments, Path::new(&lives)),
        // `cargo bench` says --bench, `cargo test --benches` does not and must be quick.
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
    let machine = Machine::this()?;
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
        None if wanted("packing") => eprintln!("packing is left out: it needs the worker, and this was built without"),
        _ => {}
    }
    println!("{}", table(&measures));
    match named.is_empty() {
        true => record::write("fanout", &Record { schema: 1, origin: Origin::now(), machine, measures }),
        false => Ok(()),
    }
}

// --- to Slurm ---------------------------------------------------------------------------------------------------

/// Ten thousand runs to a store that knows nothing of them, and once more when all of them wait in the queue.
fn submit(folder: &Path) -> Result<[Measure; 2]> {
    let slurm = FakeSlurm::new(folder)?;
    let (sweep, store) = (folder.join("sweep.yaml"), folder.join("store"));
    fs::write(&sweep, TEN_THOUSAND)?;
    let runs = build(&winsign_sweep::read(&sweep)?).runs.len();
    let execute = || {
        let mut command = undisturbed(WINSIGN);
        // Any program will do for a worker: it is kept with the store, and nothing starts it.
        command.current_dir(folder).arg("submit").arg(&sweep).arg("--store").arg(&store);
        command.arg("--worker").arg(slurm.folder.join("sbatch"));
        timed(slurm.before(&mut command))
    };

    let (mut first, mut again) = (vec![], vec![]);
    let (load_first, mut load_again) = (load()?, 0.0);
    let mut arrays = vec![];
    for repeat in 0..=REPEATS {
        slurm.forget()?;
        let _ = fs::remove_dir_all(&store);
        let (time, said) = execute()?;
        arrays = slurm.arrays()?;
        let told = format!("{runs} runs submitted as {} arrays, {runs} tasks", arrays.len());
        if !said.contains(&told) || arrays.iter().sum::<usize>() != runs {
            return Err(format!("winsign submit did not do its work: {said}").into());
        }
        slurm.enqueue(&arrays, &store)?;
        if repeat == 0 {
            load_again = load()?;
        } else {
            first.push(time.as_secs_f64());
        }
        let (time, said) = execute()?;
        if !(said.contains("nothing to submit") && said.contains(&format!(": {runs} queued")))
            || slurm.arrays()?.len() != arrays.len()
        {
            return Err(format!("winsign submit did not find its jobs in the queue: {said}").into());
        }
        if repeat > 0 {
            again.push(time.as_secs_f64());
        }
    }
    let calls = arrays.len();
    println!("{runs} runs in {calls} arrays, a call of sbatch for each (MaxArraySize {MAX_ARRAY_SIZE})");
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

    /// The command finds these commands before all others.
    fn before<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let others = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{others}", self.folder.display())).env(FANOUT_SLURM, &self.folder)
    }

    fn forget(&self) -> Result<()> {
        fs::write(self.folder.join("arrays"), "")?;
        fs::write(self.folder.join("queue"), "")?;
        Ok(())
    }

    /// How many tasks each array has that was submitted.
    fn arrays(&self) -> Result<Vec<usize>> {
        let text = fs::read_to_string(self.folder.join("arrays"))?;
        let tasks = |line: &str| -> Result<usize> {
            let last = line.rsplit_once("--array=0-").and_then(|(_, last)| last.parse::<usize>().ok());
            Ok(last.ok_or_else(|| format!("an array without an end: {line}"))? + 1)
        };
        text.lines().map(tasks).collect()
    }

    /// From now on all tasks of the only submission of a store wait in the queue.
    fn enqueue(&self, arrays: &[usize], store: &Path) -> Result<()> {
        let folder = fs::read_dir(store.join("submissions"))?.next().ok_or("there is no submission")??;
        let submission = folder.file_name().into_string().map_err(|_| "a submission's name is no text")?;
        let tasks = |(array, &tasks): (usize, &usize)| -> String {
            let (job, name) = (array + 1, format!("ten-thousand.{submission}.{array}"));
            (0..tasks).map(|task| format!("{job}|{job}|{task}|PENDING|{name}|Dependency|(null)\n")).collect()
        };
        let queue: String = arrays.iter().enumerate().map(tasks).collect();
        Ok(fs::write(self.folder.join("queue"), queue)?)
    }
}

// --- on this machine --------------------------------------------------------------------------------------------

/// What a run takes beside the time of its worker, where one follows the other.
fn overhead(folder: &Path) -> Result<Measure> {
    let load = load()?;
    let lives = folder.join("lives");
    let local = Local::new(folder, INDEPENDENT, std::env::current_exe()?)?;
    let (mut values, mut of_workers) = (vec![], vec![]);
    for repeat in 0..=REPEATS {
        fs::write(&lives, "")?;
        let wall = local.run(1, 1, |command| command.env(FANOUT_LIVES, &lives))?;
        let lived = fs::read_to_string(&lives)?;
        let lived: Vec<u64> = lived.lines().map(str::parse).collect::<std::result::Result<_, _>>()?;
        if lived.len() != local.runs {
            return Err(format!("{} runs had {} workers", local.runs, lived.len()).into());
        }
        let lived = Duration::from_nanos(lived.iter().sum());
        if repeat > 0 {
            values.push((wall.as_secs_f64() - lived.as_secs_f64()) / local.runs as f64);
            of_workers.push(lived.as_secs_f64() / local.runs as f64);
        }
    }
    let details = json!({ "runs": local.runs, "jobs": 1, "seconds_of_a_worker": of_workers });
    Ok(Measure::new("overhead of a run", Unit::Seconds, Some(Goal::Below(0.01)), values, load, details))
}

/// The worker of [`overhead`]: makes up the result of a ticket.
fn work(began: Instant, arguments: &[String], lives: &Path) -> Result<()> {
    let launch = arguments.iter().position(|argument| argument == "--launch").and_then(|at| arguments.get(at + 1));
    let run = RunDirectory::open(Path::new(arguments.last().ok_or("no run was named")?))?;
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
    let mut lives = File::options().append(true).open(lives)?;
    // One write, so that no two get mixed up.
    Ok(lives.write_all(format!("{}\n", began.elapsed().as_nanos()).as_bytes())?)
}

/// Two ways to use two cores, in turns.
fn packing(folder: &Path, worker: &str) -> Result<[Measure; 3]> {
    let load = load()?;
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

/// A study on this machine, over and over.
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

    /// From nothing to the end, so many at a time.
    fn run(&self, jobs: u32, threads: u32, with: impl Fn(&mut Command) -> &mut Command) -> Result<Duration> {
        let _ = fs::remove_dir_all(&self.store);
        let mut command = undisturbed(WINSIGN);
        command.arg("run").arg(&self.sweep).arg("--store").arg(&self.store).arg("--worker").arg(&self.worker);
        command.args(["--gpus", "0", "--jobs", &jobs.to_string(), "--threads", &threads.to_string()]);
        let (time, said) = timed(with(&mut command))?;
        match said.contains(&format!("{0} of {0} runs done ({0} now)", self.runs)) {
            true => Ok(time),
            false => Err(format!("winsign run did not do its work: {said}").into()),
        }
    }
}

/// Runs a command, from start to exit with all its output read; gives what it said.
fn timed(command: &mut Command) -> Result<(Duration, String)> {
    let began = Instant::now();
    let output = command.output()?;
    let time = began.elapsed();
    match output.status.success() {
        true => Ok((time, String::from_utf8_lossy(&output.stdout).into_owned())),
        false => Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into()),
    }
}

// --- what is told -----------------------------------------------------------------------------------------------

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
            Some(Goal::Below(most)) if self.value < most => "met",
            Some(Goal::AtLeast(least)) if self.value >= least => "met",
            Some(_) => "missed",
            None => "",
        }
    }
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Unit::Seconds => text(value),
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
        let show = |value| measure.unit.text(value);
        let least = measure.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = measure.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let goal = match measure.goal {
            Some(Goal::Below(most)) => format!("< {}", show(most)),
            Some(Goal::AtLeast(least)) => format!("≥ {}", show(least)),
            None => String::new(),
        };
        let cells = [show(least), show(measure.value), show(most), goal, measure.verdict().to_string()];
        let load = format!("{:.1}", measure.load_before);
        table.add_row([measure.name.to_string()].into_iter().chain(cells).chain([load]));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
