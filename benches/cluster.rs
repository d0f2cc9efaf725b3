//! Simulates studies on a cluster of a thousand nodes, and measures what a run costs the scheduler and the store.
//!
//! ```text
//! cargo bench --no-default-features --bench cluster                 simulates all studies
//! cargo bench --no-default-features --bench cluster -- 30           simulates one of 30 chains, and writes no file
//! ```
//!
//! `winsign submit` and `winsign task` are the real programs; Slurm, its nodes and the workers are simulated (see
//! `winsign_testkit::simulation`). Each run sleeps for [`SECONDS`] and commits a result, 1 % of the runs fail at first, 5 % of the
//! tasks are preempted once, and each call with a path in the store takes [`DELAY`] longer than on the local disk.
//! All processes share this machine, so the runs per second say how many it can simulate; calls and requests do not depend on it.
//!
//! Needs `cc`. Prints a table and writes results/bench/cluster.json (see [`Record`]). Fails if a run is not computed exactly once.

#[path = "common/record.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod record;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;
use winsign_testkit::simulation::{Outcome, Simulation, act_as_stand_in};

use record::{Machine, Origin, Result};

const NODES: u32 = 1_000;
/// The seconds of a run.
const SECONDS: f64 = 2.0;
const DELAY: Duration = Duration::from_millis(1);
/// The chains of each study and the runs of each task. A chain has 33 runs.
const STUDIES: &[(u32, u32)] = &[(30, 20), (300, 20), (100, 1), (3_000, 20)];

/// The content of results/bench/cluster.json.
#[derive(Serialize)]
struct Record {
    /// The version of this schema.
    schema: u32,
    #[serde(flatten)]
    origin: Origin,
    machine: Machine,
    nodes: u32,
    seconds_of_a_run: f64,
    milliseconds_of_a_call: u128,
    studies: Vec<Study>,
}

#[derive(Serialize)]
struct Study {
    /// The runs of a task.
    pack: u32,
    runs_per_second: f64,
    requests_per_run: f64,
    calls_per_run: f64,
    processor_milliseconds_per_run: f64,
    #[serde(flatten)]
    outcome: Outcome,
}

fn main() -> ExitCode {
    if let Some(code) = act_as_stand_in() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes --bench, but `cargo test --benches`, which must be fast, does not.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured: use cargo bench --bench cluster");
        return ExitCode::SUCCESS;
    }
    match bench(arguments.iter().find_map(|argument| argument.parse().ok())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Simulates all studies, or one of a number of chains.
fn bench(chains: Option<u32>) -> Result<()> {
    let machine = Machine::current()?;
    println!("{}, {} cores, load {}", machine.cpu, machine.cores, machine.load_before);
    if let Some(chains) = chains {
        println!("{}", table(&[simulate(chains, STUDIES[0].1)?]));
        return Ok(());
    }
    let mut record = Record {
        schema: 1,
        origin: Origin::now(),
        machine,
        nodes: NODES,
        seconds_of_a_run: SECONDS,
        milliseconds_of_a_call: DELAY.as_millis(),
        studies: vec![],
    };
    for &(chains, pack) in STUDIES {
        record.studies.push(simulate(chains, pack)?);
        // The largest study takes long enough to be interrupted.
        record::write("cluster", &record)?;
    }
    println!("{}", table(&record.studies));
    Ok(())
}

fn simulate(chains: u32, pack: u32) -> Result<Study> {
    let simulation = Simulation {
        winsign: Path::new(env!("CARGO_BIN_EXE_winsign")),
        chains,
        nodes: NODES,
        pack,
        seconds: SECONDS,
        delay: DELAY,
        failures: 1,
        preemptions: 5,
    };
    let folder = tempfile::tempdir()?;
    let outcome = simulation.run(folder.path());
    eprintln!("{} runs took {:.0} s", outcome.runs, outcome.seconds);
    let runs = outcome.runs as f64;
    Ok(Study {
        pack,
        runs_per_second: runs / outcome.seconds,
        requests_per_run: outcome.requests_per_run(),
        calls_per_run: outcome.calls_per_run(),
        processor_milliseconds_per_run: 1e3 * outcome.processor_seconds / runs,
        outcome,
    })
}

fn table(studies: &[Study]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let head = ["runs", "runs of a task", "tasks", "time, s", "runs per second", "requests per run", "calls per run"];
    table.set_header(head.into_iter().chain(["processor time per run, ms"]));
    for study in studies {
        let Study { pack, outcome, .. } = study;
        table.add_row([
            outcome.runs.to_string(),
            pack.to_string(),
            outcome.tasks.to_string(),
            format!("{:.0}", outcome.seconds),
            format!("{:.0}", study.runs_per_second),
            format!("{:.3}", study.requests_per_run),
            format!("{:.1}", study.calls_per_run),
            format!("{:.1}", study.processor_milliseconds_per_run),
        ]);
    }
    table
}
