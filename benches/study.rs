//! Measures the times of winsign's commands on a sweep of ten thousand runs, as whole processes.
//!
//! ```text
//! cargo bench --bench study                    measures everything but training; does not need the worker
//! cargo bench --bench study -- --quickstart    also runs sweeps/quickstart.yaml in a new store
//! ```
//!
//! For reports there is another sweep, in which ten thousand runs have metrics of a hundred epochs.
//!
//! Prints a table and writes results/bench/study.json (see [`Record`]). Missed goals are shown, but are not failures. The
//! benchmark fails if a command does not do its work. All files are in the page cache, so the speed of the disk does not matter.

#[path = "common/record.rs"]
mod record;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use safetensors::Dtype;
use serde::Serialize;
use serde_json::json;
use strum::VariantArray;
use winsign_core::attempt::{END, End, LOG, METRICS, Progress, STATUS};
use winsign_core::directory::{FORMAT, RunFile};
use winsign_core::files::{digest, seal};
use winsign_core::results::{
    AttachedFile, ConnectOutcome, EpochMetrics, Outcome, PathOutcome, PathPoint, Processors, RunResult, TicketOutcome,
    TransferOutcome, Usage,
};
use winsign_core::settings::{Between, Kind, Settings};
use winsign_core::tensors::{RawTensor, TensorFile};
use winsign_core::{RunId, Store, owner};
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::survey::survey;
use winsign_sweep::plan::{self, Plan, PlannedRun, RunState};

use record::{Machine, Origin, Result, TEN_THOUSAND, clean_command, format_seconds};

const WINSIGN: &str = env!("CARGO_BIN_EXE_winsign");
#[cfg(feature = "worker")]
const WORKER: Option<&str> = Some(env!("CARGO_BIN_EXE_winsign-worker"));
#[cfg(not(feature = "worker"))]
const WORKER: Option<&str> = None;
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// The number of timed executions of a command, after one that is not timed.
const REPEATS: usize = 5;

/// A sweep with 9,984 trainings of 100 epochs: 48 chains of 13 tickets, and 5 kinds of transfers from each of 3 levels to 13
/// initializations. It also has 3,888 paths.
const TRAININGS: &str = "\
name: trainings
dataset: digits
architecture: resnet8
ticket:
  method: [lrr, aws]
  levels: 12
  seed: 1..24
  warmup_epochs: 100
  epochs: 100
transfer:
  level: [4, 8, last]
  inherit: [sign, mask, sign+norm, retrain, random-sign]
  seed: 101..113
  epochs: 100
connect:
  - {between: seeds, level: last, inherit: sign}
  - between: norm-init
";

/// The content of results/bench/study.json. Times are in seconds.
#[derive(Serialize)]
struct Record {
    /// The version of this schema.
    schema: u32,
    #[serde(flatten)]
    origin: Origin,
    machine: Machine,
    /// The number of runs of each kind.
    runs: BTreeMap<String, usize>,
    cases: Vec<Timing>,
    report: ReportTimings,
}

/// The times of reports on many trainings.
#[derive(Serialize)]
struct ReportTimings {
    /// The number of runs of each kind.
    runs: BTreeMap<String, usize>,
    /// The size of all metrics.
    metrics_bytes: u64,
    cases: Vec<Timing>,
    /// The peak memory of the process, over all executions.
    peak_memory_bytes: u64,
    peak_memory_goal: u64,
    page_bytes: u64,
    page_goal: u64,
}

/// The time of a command, over `repeats` executions.
#[derive(Serialize)]
struct Timing {
    name: &'static str,
    goal: Option<f64>,
    repeats: usize,
    min: f64,
    median: f64,
    max: f64,
}

/// A command to be timed.
struct Case {
    name: &'static str,
    goal: Option<f64>,
    arguments: Vec<OsString>,
    /// Prepares each execution; this is not timed.
    prepare: Option<Box<dyn Fn() -> Result<()>>>,
    /// Checks by the output that the command did its work.
    check: Box<dyn Fn(&str) -> bool>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // `cargo bench` passes --bench, but `cargo test --benches`, which must be fast, does not.
    if !has("--bench") {
        println!("nothing is measured: use cargo bench --bench study");
        return ExitCode::SUCCESS;
    }
    match bench(has("--quickstart")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("study: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(quickstart: bool) -> Result<()> {
    // This error must come before the measurements.
    let worker = match (quickstart, WORKER) {
        (true, None) => return Err("--quickstart needs the worker; build without --no-default-features".into()),
        (true, worker) => worker,
        (false, _) => None,
    };
    let machine = Machine::current()?;
    let scratch = tempfile::tempdir()?;
    let path = |name: &str| scratch.path().join(name);
    let (sweep_file, empty) = (path("sweep.yaml"), path("empty"));
    let (finished, running) = (path("finished"), path("under-way"));
    fs::write(&sweep_file, TEN_THOUSAND)?;
    let plan = build(&winsign_sweep::read(&sweep_file)?);
    let total = plan.runs.len();

    println!("{}, {} cores, load {}", machine.cpu, machine.cores, machine.load_before);
    let runs = count_by_kind(&plan);
    let kinds: Vec<String> = runs.iter().map(|(kind, count)| format!("{count} {kind}s")).collect();
    println!("{total} runs: {}", kinds.join(", "));
    let began = Instant::now();
    finish(&plan.runs, &Store::create(&finished)?, &path("network.safetensors"))?;
    let counts = begin(&plan, &Store::create(&running)?, &path("network.safetensors"))?;
    let seconds = began.elapsed().as_secs_f64();
    println!("wrote a store in which all are done, and one in which some are running ({counts}), in {seconds:.1} s\n");

    let mut timings = vec![];
    // These cases come first, since the heartbeats in their store time out.
    let status_cases = status_cases(&sweep_file, &running, &counts);
    for case in status_cases.into_iter().chain(cases(&sweep_file, &empty, &finished, total)) {
        timings.push(measure(&case)?.0);
    }
    let report = measure_reports(scratch.path())?;
    if let Some(worker) = worker {
        let (file, store) = (Path::new(REPOSITORY).join("sweeps/quickstart.yaml"), path("quickstart"));
        let case = quickstart_case(&file, &store, Path::new(worker));
        eprintln!("running the quickstart, which takes one or two minutes");
        timings.push(Timing::new(&case, vec![execute(&case)?.0]));
    }

    println!("{}", table(timings.iter().chain(&report.cases)));
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "reports on {:.0} MB of metrics: {:.0} MB of peak memory, a page of {:.1} MB",
        megabytes(report.metrics_bytes),
        megabytes(report.peak_memory_bytes),
        megabytes(report.page_bytes)
    );
    let record = Record { schema: 2, origin: Origin::now(), machine, runs, cases: timings, report };
    record::write("study", &record)
}

/// Returns the commands whose times are listed in docs/science/benchmarks.md.
fn cases(sweep: &Path, empty: &Path, finished: &Path, total: usize) -> Vec<Case> {
    let arguments = |store: &Path, words: &[&str]| {
        let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        arguments.extend(["--store".into(), store.into(), sweep.into()]);
        arguments
    };
    let prints = |text: String| Box::new(move |stdout: &str| stdout.contains(&text));
    vec![
        Case {
            name: "--version",
            goal: Some(0.05),
            arguments: vec!["--version".into()],
            prepare: None,
            check: prints(env!("CARGO_PKG_VERSION").to_string()),
        },
        Case {
            name: "plan, nothing done",
            goal: Some(1.0),
            arguments: arguments(empty, &["plan"]),
            prepare: None,
            check: prints(format!(": {total} pending\n")),
        },
        Case {
            name: "plan --json, nothing done",
            goal: Some(1.0),
            arguments: arguments(empty, &["plan", "--json"]),
            prepare: None,
            check: Box::new(move |stdout| stdout.matches(r#""state": "pending""#).count() == total),
        },
        Case {
            name: "run, all done",
            goal: Some(2.0),
            // No worker must be started; this one would fail.
            arguments: arguments(finished, &["run", "--worker", WINSIGN]),
            prepare: None,
            check: prints(format!("{total} of {total} runs done (0 now)")),
        },
        Case {
            name: "report, all done",
            goal: Some(3.0),
            arguments: arguments(finished, &["report"]),
            prepare: None,
            check: prints(format!("all {total} runs done")),
        },
        Case {
            name: "status, all done",
            goal: Some(1.0),
            arguments: arguments(finished, &["status"]),
            prepare: None,
            check: prints(format!(": {total} done\n")),
        },
    ]
}

/// Returns the cases of `winsign status` for a sweep whose runs are partly done, running and failed.
fn status_cases(sweep: &Path, running: &Path, counts: &str) -> Vec<Case> {
    let case = |name, words: &[&str], expected: String| Case {
        name,
        goal: Some(1.0),
        arguments: [words.iter().map(OsString::from).collect(), vec!["--store".into(), running.into(), sweep.into()]]
            .concat(),
        prepare: None,
        check: Box::new(move |stdout| stdout.contains(&expected)),
    };
    vec![
        case("status, under way", &["status"], format!("{counts}\n")),
        case("status --json --all, under way", &["status", "--json", "--all"], r#""hosts": ["#.to_string()),
    ]
}

/// Returns the case of the quickstart, which includes training. The goal is for two cores.
fn quickstart_case(sweep: &Path, store: &Path, worker: &Path) -> Case {
    Case {
        name: "run sweeps/quickstart.yaml",
        goal: Some(90.0),
        arguments: vec!["run".into(), sweep.into(), "--store".into(), store.into(), "--worker".into(), worker.into()],
        prepare: None,
        check: Box::new(|stdout| stdout.contains("next: winsign report")),
    }
}

/// Measures reports on ten thousand trainings: the first one, and one after which a few results are new.
fn measure_reports(scratch: &Path) -> Result<ReportTimings> {
    let path = |name: &str| scratch.join(name);
    let (sweep_file, root) = (path("trainings.yaml"), path("trained"));
    fs::write(&sweep_file, TRAININGS)?;
    let plan = build(&winsign_sweep::read(&sweep_file)?);
    let store = Store::create(&root)?;
    finish(&plan.runs, &store, &path("network.safetensors"))?;
    let mut metrics_bytes = 0;
    for planned in &plan.runs {
        metrics_bytes += add_metrics(planned, &store)?;
    }
    rustix::fs::syncfs(fs::File::open(store.root())?)?;

    let reports = root.join("reports");
    let arguments = || vec!["report".into(), "--store".into(), root.clone().into(), sweep_file.clone().into()];
    let expected = format!("all {} runs done", plan.runs.len());
    let check = || {
        let expected = expected.clone();
        Box::new(move |stdout: &str| stdout.contains(&expected) && stdout.contains("report.html"))
    };
    let delete_reports = {
        let reports = reports.clone();
        move || match fs::remove_dir_all(&reports) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    };
    let some: Vec<_> = plan.runs.iter().step_by(500).map(|planned| store.run(&planned.run.id)).collect();
    let renew_results = move || {
        for directory in &some {
            let result = directory.result()?.ok_or("a run has no result")?;
            fs::write(directory.result_path(), seal(&RunResult { finished: jiff::Timestamp::now(), ..result }))?;
        }
        Ok(())
    };
    let cases = [
        Case {
            name: "report of trainings, nothing read before",
            goal: Some(5.0),
            arguments: arguments(),
            prepare: Some(Box::new(delete_reports)),
            check: check(),
        },
        Case {
            name: "report of trainings, a few are new",
            goal: Some(1.0),
            arguments: arguments(),
            prepare: Some(Box::new(renew_results)),
            check: check(),
        },
    ];
    let mut timings = vec![];
    let mut peak_memory_bytes = 0;
    for case in &cases {
        let (timing, peak) = measure(case)?;
        timings.push(timing);
        peak_memory_bytes = peak_memory_bytes.max(peak);
    }
    Ok(ReportTimings {
        runs: count_by_kind(&plan),
        metrics_bytes,
        cases: timings,
        peak_memory_bytes,
        peak_memory_goal: 1_000_000_000,
        page_bytes: fs::metadata(reports.join(&plan.name).join("report.html"))?.len(),
        page_goal: 5_000_000,
    })
}

/// Writes the metrics of a hundred epochs and a log of a run that trains, and adds the metrics to its result; returns their size.
/// Like those of a real training, the numbers decrease and are all different.
fn add_metrics(planned: &PlannedRun, store: &Store) -> Result<u64> {
    const EPOCHS: u32 = 100;
    if planned.run.kind() == Kind::Connect {
        return Ok(0);
    }
    let directory = store.run(&planned.run.id);
    let result = directory.result()?.ok_or("a run has no result")?;
    let (Outcome::Ticket(TicketOutcome { test_error, .. }) | Outcome::Transfer(TransferOutcome { test_error, .. })) =
        &result.outcome
    else {
        return Ok(0);
    };
    let mut number = u64::from_str_radix(planned.run.id.as_str(), 16)? | 1;
    let mut noise = || {
        // This is the linear congruential generator of Knuth's MMIX.
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (number >> 11) as f64 / (1u64 << 53) as f64
    };
    let (mut metrics, mut log) = (String::new(), String::new());
    for epoch in 1..=EPOCHS {
        let rest = 1.0 / f64::from(epoch);
        let metric = EpochMetrics {
            epoch,
            lr: 0.1,
            train_loss: 2.3 * rest + 0.05 * noise(),
            train_error: (90.0 * rest + noise()).min(100.0),
            test_loss: 2.3 * rest + 0.3 + 0.05 * noise(),
            // The test set has ten thousand images, so errors are multiples of 0.01 %.
            test_error: ((test_error + 80.0 * rest + noise()) * 100.0).round() / 100.0,
        };
        metrics += &(serde_json::to_string(&metric)? + "\n");
        let EpochMetrics { train_loss, train_error, test_loss, test_error, .. } = metric;
        log += &format!(
            "epoch {epoch}/{EPOCHS}: train loss {train_loss:.4}, train error {train_error:.2} %, test loss {test_loss:.4}, \
             test error {test_error:.2} %\n"
        );
    }
    let path = format!("attempts/1/{METRICS}");
    let attached = AttachedFile { bytes: metrics.len() as u64, digest: digest(metrics.as_bytes()), path };
    fs::write(directory.path.join(&attached.path), &metrics)?;
    fs::write(directory.attempt_path(1).join(LOG), log)?;
    fs::write(directory.result_path(), seal(&RunResult { metrics: Some(attached.clone()), ..result }))?;
    Ok(attached.bytes)
}

/// Times a command, after one execution that is not timed; also returns its peak memory.
fn measure(case: &Case) -> Result<(Timing, u64)> {
    execute(case)?;
    let executed: Vec<(Duration, u64)> = (0..REPEATS).map(|_| execute(case)).collect::<Result<_>>()?;
    let (times, peaks): (Vec<Duration>, Vec<u64>) = executed.into_iter().unzip();
    Ok((Timing::new(case, times), peaks.into_iter().max().unwrap_or(0)))
}

/// Runs a command once; returns the time until its exit, and its peak memory in bytes.
fn execute(case: &Case) -> Result<(Duration, u64)> {
    if let Some(prepare) = &case.prepare {
        prepare()?;
    }
    let mut command = clean_command(WINSIGN);
    command.args(&case.arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let child = command.spawn()?;
    let watcher = watch_peak_memory(child.id());
    let output = child.wait_with_output()?;
    let time = began.elapsed();
    let peak = watcher.join().expect("the watcher does not panic");
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !(case.check)(&stdout) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stdout.lines().last().unwrap_or_default();
        return Err(format!("{} failed ({}): {last}\n{stderr}", case.name, output.status).into());
    }
    Ok((time, peak))
}

/// Starts a thread that reads the peak memory of a process until the process has ended.
fn watch_peak_memory(pid: u32) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut peak = 0;
        while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
            let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
            // A process that has ended has no memory.
            let Some(kilobytes) = kilobytes.and_then(|number| number.trim().parse::<u64>().ok()) else { break };
            peak = kilobytes * 1024;
            std::thread::sleep(Duration::from_millis(5));
        }
        peak
    })
}

impl Timing {
    fn new(case: &Case, mut times: Vec<Duration>) -> Timing {
        times.sort();
        let seconds = |at: usize| times[at].as_secs_f64();
        let repeats = times.len();
        Timing {
            name: case.name,
            goal: case.goal,
            repeats,
            min: seconds(0),
            median: seconds(repeats / 2),
            max: seconds(repeats - 1),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.goal {
            Some(goal) if self.median < goal => "met",
            Some(_) => "missed",
            None => "",
        }
    }
}

fn table<'a>(timings: impl Iterator<Item = &'a Timing>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["winsign …", "min", "median", "max", "goal", ""]);
    for timing in timings {
        let goal = timing.goal.map(|goal| format!("< {}", format_seconds(goal))).unwrap_or_default();
        let [min, median, max] = [timing.min, timing.median, timing.max].map(format_seconds);
        table.add_row([timing.name, &min, &median, &max, &goal, timing.verdict()]);
    }
    for column in table.column_iter_mut().skip(1).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn count_by_kind(plan: &Plan) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for planned in &plan.runs {
        *counts.entry(planned.run.kind().to_string()).or_default() += 1;
    }
    counts
}

/// Writes the files of finished runs that winsign reads. Unlike winsign, it does not wait until each file is on the disk, which
/// would take minutes for ten thousand runs.
fn finish(runs: &[PlannedRun], store: &Store, template: &Path) -> Result<()> {
    let tensor = RawTensor { dtype: Dtype::F32, shape: vec![10, 32], bytes: vec![0; 4 * 10 * 32] };
    let tensors = BTreeMap::from([("fc.weight".to_string(), tensor)]);
    // The network is written before the results, since winsign verifies networks that are newer than their result.
    let (digest, bytes) = TensorFile { tensors, metadata: "{}".to_string() }.write(template)?;
    let network = AttachedFile { path: "attempts/1/network.safetensors".to_string(), bytes, digest };
    for planned in runs {
        let run = &planned.run;
        let directory = store.run(&run.id);
        fs::create_dir_all(directory.attempt_path(1))?;
        let file = RunFile {
            format: FORMAT,
            id: run.id.clone(),
            label: planned.label.to_string(),
            settings: run.settings.clone(),
            inputs: run.inputs.clone(),
        };
        fs::write(directory.path.join("run.json"), serde_json::to_vec_pretty(&file)?)?;
        let outcome = outcome(planned);
        let has_network = !matches!(outcome, Outcome::Connect(_));
        if has_network {
            fs::hard_link(template, directory.path.join(&network.path))?;
        }
        let result = RunResult {
            format: FORMAT,
            id: run.id.clone(),
            attempt: 1,
            outcome,
            network: has_network.then(|| network.clone()),
            metrics: None,
            data: None,
            seconds: plan::cost(&planned.run) / 3.0,
            host: owner::host(),
            processors: Processors { ranks: 1, threads: 1 },
            usage: Some(Usage {
                peak_memory: Some(300 << 20),
                gpus: 0.25,
                gpu_peak_memory: Some(2 << 30),
                ..Usage::default()
            }),
            finished: jiff::Timestamp::now(),
        };
        fs::write(directory.result_path(), seal(&result))?;
    }
    // Otherwise, the disk would be busy with these files while the first commands are timed.
    rustix::fs::syncfs(fs::File::open(store.root())?)?;
    Ok(())
}

/// Writes a store in which half of the runs are done, some are running on other machines, some have failed, and the others are
/// pending or blocked. Returns the number of runs in each state, as `winsign status` prints them.
fn begin(plan: &Plan, store: &Store, template: &Path) -> Result<String> {
    const RUNNING: usize = 512;
    const FAILED: usize = 100;
    let (done, rest) = plan.runs.split_at(plan.runs.len() / 2);
    finish(done, store, template)?;
    let (begun, _) = rest.split_at(RUNNING + FAILED);
    for (index, planned) in begun.iter().enumerate() {
        let directory = store.run(&planned.run.id);
        let attempt = directory.attempt_path(1);
        fs::create_dir_all(&attempt)?;
        let owner = json!({"host": format!("node{}", index % 64), "pid": 1, "started": 1, "machine": "another"});
        let claim = json!({"owner": owner, "began": jiff::Timestamp::now(), "version": env!("CARGO_PKG_VERSION")});
        fs::write(directory.claim_path(1), seal(&claim))?;
        let progress = Progress { done: 1, total: 4, test_error: Some(10.0) };
        fs::write(attempt.join(STATUS), serde_json::to_vec(&progress)?)?;
        fs::write(attempt.join(LOG), "a line like those that workers write after an epoch\n".repeat(200))?;
        if index >= RUNNING {
            fs::write(attempt.join(END), seal(&End::Failed { message: "the loss became NaN".to_string() }))?;
        }
    }
    rustix::fs::syncfs(fs::File::open(store.root())?)?;
    let statuses = survey(plan, store)?;
    let count = |state| statuses.iter().filter(|status| status.state == state).count();
    assert_eq!((count(RunState::Running), count(RunState::Failed)), (RUNNING, FAILED));
    let states = RunState::VARIANTS.iter().map(|&state| (state, count(state))).filter(|(_, count)| *count > 0);
    Ok(states.map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", "))
}

/// Makes up an outcome like those on the digits, with an error of a few percent that grows with the level.
fn outcome(planned: &PlannedRun) -> Outcome {
    const PRUNABLE: u64 = 19_152;
    let level = planned.label.level;
    let remaining_ratio = 0.8f64.powi(level as i32);
    let test_error = 2.0 + 0.3 * f64::from(level) + random(&planned.run.id);
    let test_loss = test_error / 25.0;
    match &planned.run.settings {
        Settings::Import(_) => unreachable!("the sweep has no imports"),
        Settings::Ticket(_) => Outcome::Ticket(TicketOutcome {
            remaining_ratio,
            survivors: (PRUNABLE as f64 * remaining_ratio) as u64,
            prunable: PRUNABLE,
            test_error,
            test_loss,
            layers: vec![],
        }),
        Settings::Transfer(_) => Outcome::Transfer(TransferOutcome { remaining_ratio, test_error, test_loss }),
        Settings::Connect(connect) => {
            let height = if connect.between == Between::Seeds { 30.0 } else { 1.0 };
            let path = (0..connect.points).map(|point| {
                let t = f64::from(point) / f64::from(connect.points - 1);
                let hill = height * 4.0 * t * (1.0 - t);
                PathPoint { t, test_error: test_error + hill, test_loss: test_loss + hill / 25.0, train: None }
            });
            let path = PathOutcome { points: path.collect(), barrier: height, similarity: None };
            Outcome::Connect(ConnectOutcome { remaining_ratio, path })
        }
        Settings::Matrix(_) | Settings::Plane(_) => unreachable!("the sweep has no matrices and planes"),
    }
}

/// Returns a pseudo-random number in [0, 1] that depends on the identity only.
fn random(id: &RunId) -> f64 {
    let number = u64::from_str_radix(id.as_str(), 16).expect("an identity is hexadecimal");
    number as f64 / u64::MAX as f64
}
