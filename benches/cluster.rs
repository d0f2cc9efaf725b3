//! Simulates studies on a cluster of a thousand nodes, and measures what a run costs the scheduler and the store.
//!
//! ```text
//! cargo bench --no-default-features --bench cluster                 simulates all studies, in about half an hour
//! cargo bench --no-default-features --bench cluster -- 300 20       simulates one with 300 chains and 20 runs in each task
//! ```
//!
//! `winsign submit` and `winsign task` are the real programs; Slurm, its nodes and the workers are simulated (see
//! `winsign_testkit::simulation`). Each run sleeps for [`SECONDS`] and commits a result, 1 % of the runs fail at first, 5 % of the
//! tasks are preempted once, and each call with a path in the store takes [`DELAY`] longer than on the local disk.
//! All processes share this machine, so the runs per second say how many it can simulate; calls do not depend on it.
//!
//! Needs `cc`. Writes each study to results/bench/cluster.json (see [`Study`]), in place of an earlier one of the same size. Fails if
//! a run is not computed exactly once. Up to a million files are created in `TMPDIR`, which a file system in memory deletes faster.

#[path = "common/record.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod record;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use winsign_testkit::simulation::{Outcome, Simulation, act_as_stand_in};

use record::{Machine, Origin, Result};

const NODES: u32 = 1_000;
/// The seconds of a run.
const SECONDS: f64 = 2.0;
const DELAY: Duration = Duration::from_millis(1);
/// The chains of each study and the runs of each task. A chain has 33 runs.
const STUDIES: &[(u32, u32)] = &[(30, 20), (300, 20), (100, 1), (3_000, 20)];

/// An element of results/bench/cluster.json.
#[derive(Serialize)]
struct Study {
    #[serde(flatten)]
    origin: Origin,
    machine: Machine,
    nodes: u32,
    seconds_of_a_run: f64,
    milliseconds_of_a_call: u128,
    chains: u32,
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
    let numbers: Vec<u32> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let studies = match numbers.as_slice() {
        &[chains, pack] => vec![(chains, pack)],
        _ => STUDIES.to_vec(),
    };
    match bench(&studies) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(studies: &[(u32, u32)]) -> Result<()> {
    for &(chains, pack) in studies {
        let study = simulate(chains, pack)?;
        let Study { runs_per_second, requests_per_run, calls_per_run, processor_milliseconds_per_run, outcome, .. } =
            &study;
        println!(
            "{} runs in {} tasks took {:.0} s: {runs_per_second:.0} runs per second, {requests_per_run:.3} requests, \
             {calls_per_run:.1} calls and {processor_milliseconds_per_run:.1} ms of a processor per run",
            outcome.runs, outcome.tasks, outcome.seconds
        );
        record(&study)?;
    }
    Ok(())
}

/// Writes a study to the record, in place of an earlier one of the same size.
fn record(study: &Study) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/bench/cluster.json");
    let mut studies: Vec<Value> = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(_) => vec![],
    };
    studies.retain(|other| other["chains"] != study.chains || other["pack"] != study.pack);
    studies.push(serde_json::to_value(study)?);
    record::write("cluster", &studies)
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
    let machine = Machine::current()?;
    let folder = tempfile::tempdir()?;
    let outcome = simulation.run(folder.path());
    let runs = outcome.runs as f64;
    Ok(Study {
        origin: Origin::now(),
        machine,
        nodes: NODES,
        seconds_of_a_run: SECONDS,
        milliseconds_of_a_call: DELAY.as_millis(),
        chains,
        pack,
        runs_per_second: runs / outcome.seconds,
        requests_per_run: outcome.requests_per_run(),
        calls_per_run: outcome.calls_per_run(),
        processor_milliseconds_per_run: 1e3 * outcome.processor_seconds / runs,
        outcome,
    })
}
