//! A study on a simulated cluster (see `winsign_testkit::simulation`): every run is computed once, whatever fails or is preempted;
//! a run of a large study needs as many calls of the store as one of a small study, and a task at most one request to Slurm.
//! `benches/cluster.rs` measures larger ones.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use winsign_testkit::simulation::{Outcome, RUNS_PER_CHAIN, Simulation, act_as_stand_in};

const NAME: &str = "requests_and_calls_grow_linearly";

fn main() -> ExitCode {
    if let Some(code) = act_as_stand_in() {
        return code;
    }
    // Some of what `cargo test` passes to other tests.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    match arguments.as_slice() {
        _ if has("--list") => println!("{NAME}: test"),
        _ if filters.iter().any(|filter| NAME.contains(filter.as_str())) || filters.is_empty() => {
            requests_and_calls_grow_linearly();
            println!("test {NAME} ... ok");
        }
        _ => println!("test {NAME} ... ignored, since its name contains none of {filters:?}"),
    }
    ExitCode::SUCCESS
}

fn requests_and_calls_grow_linearly() {
    let outcomes = [6, 28].map(simulate);
    println!("{outcomes:#?}");
    for outcome in &outcomes {
        assert!(outcome.failed_attempts > 0 && outcome.preempted_tasks > 0, "nothing was disturbed: {outcome:#?}");
        // A preempted task interrupts the run that it executes, and asks Slurm to queue it again.
        assert!(outcome.interrupted_attempts <= outcome.preempted_tasks, "{outcome:#?}");
        let requests: u64 = outcome.requests.values().sum();
        // `winsign submit` reads the limits and the queue, and submits five arrays; each task queries the queue at most once.
        assert!(requests <= 20 + outcome.tasks + outcome.preempted_tasks, "{outcome:#?}");
        assert!(outcome.calls_per_run() < 150.0, "{outcome:#?}");
    }
    // In a large study, `winsign submit` does not look for each run, which takes three calls. It also checks a new store.
    assert!(outcomes[1].calls_of_submit.values().sum::<u64>() < outcomes[1].runs / 2, "{:#?}", outcomes[1]);
    check_growth("calls of the store", outcomes.each_ref().map(Outcome::calls_per_run));
    check_growth("bytes read", outcomes.each_ref().map(Outcome::bytes_read_per_run));
}

/// Checks that a run costs the same in a large study as in a small one.
fn check_growth(what: &str, [small, large]: [f64; 2]) {
    assert!(
        (0.9..1.1).contains(&(large / small)),
        "{what} per run: {small} in the small study, {large} in the large one"
    );
}

/// Simulates a study in which more runs fail and more tasks are preempted than on clusters, so that some do in a small one.
fn simulate(chains: u32) -> Outcome {
    let simulation = Simulation {
        winsign: Path::new(env!("CARGO_BIN_EXE_winsign")),
        chains,
        nodes: 8,
        pack: 10,
        seconds: 0.2,
        delay: Duration::from_micros(100),
        failures: 5,
        preemptions: 20,
    };
    let folder = tempfile::tempdir().unwrap();
    let outcome = simulation.run(folder.path());
    assert_eq!(outcome.runs, u64::from(chains * RUNS_PER_CHAIN));
    outcome
}
