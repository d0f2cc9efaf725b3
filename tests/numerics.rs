//! `numerics: portable` gives the same bits whatever the processor can do.
#![cfg(feature = "worker")]

use std::process::{Command, Output};

use winsign_core::{RunDirectory, Store};
use winsign_sweep::plan::build::build;
use winsign_testkit::{SMALL, Workplace, instruction_sets, read_json, start, stderr, stdout, succeed};

const WORKER: &str = env!("CARGO_BIN_EXE_winsign-worker");

#[test]
fn the_environment_changes_native_numbers_and_no_portable_ones() {
    let portable = format!("numerics: portable\n{SMALL}");
    let (code, said) = compared_with_capped(&portable);
    assert_eq!((code, said.as_str()), (Some(0), "7 of 7 runs have the expected digest\n"));
    // Otherwise the lines above say nothing.
    let (code, said) = compared_with_capped(SMALL);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("different digest: ") && said.contains("aws level 2, sign, seed 3"), "{said}");
}

/// Runs a study as it is, and again with SSE4.1 at most; returns the exit code and output of `winsign digest --check`.
fn compared_with_capped(study: &str) -> (Option<i32>, String) {
    let here = Workplace::new();
    let sweep = here.sweep("study.yaml", study);
    here.run(&sweep);
    let expected = here.sweep("digests.txt", &stdout(&succeed(&mut here.winsign("digest", &sweep))));

    let capped = Workplace::new();
    let (_, limits) = instruction_sets().pop().unwrap();
    succeed(capped.winsign("run", &sweep).envs(limits));
    let checked = capped.winsign("digest", &sweep).arg("--check").arg(expected).output().unwrap();
    (checked.status.code(), stdout(&checked))
}

#[test]
fn digests_of_runs_that_are_not_done_are_missing_and_unusable_files_are_named() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    workplace.run(&sweep);
    let mut digests = stdout(&succeed(&mut workplace.winsign("digest", &sweep)));
    digests += "0123456789abcdef0123456789abcdef  0123456789abcdef  a run of another study\n";
    let check = |expected: &str| {
        let file = workplace.sweep("digests.txt", expected);
        let output = workplace.winsign("digest", &sweep).arg("--check").arg(file).output().unwrap();
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    let (code, said) = check(&digests);
    assert_eq!(code, Some(3));
    assert!(said.contains("7 of 8 runs") && said.contains("not in this study: 0123456789abcdef"), "{said}");
    let (code, said) = check(digests.lines().next().unwrap());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 of 1 runs") && said.contains("not in the file: "), "{said}");
    let contradiction = format!("{digests}fedcba9876543210fedcba9876543210  0123456789abcdef\n");
    for unusable in ["", "no digest\n", &contradiction] {
        let (code, said) = check(unusable);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("digests.txt") && said.contains("help: "), "{said}");
    }
}

/// Two processors with other caches than this one's and without AVX-512, one of Intel's and one of AMD's, as QEMU emulates
/// them.
#[test]
fn emulated_processors_compute_the_same_bits() {
    let workplace = Workplace::new();
    let here = prepared(&workplace, "here");
    succeed(Command::new(WORKER).arg("--alone").arg(&here.path));
    let emulated = ["Haswell", "EPYC"].map(|processor| {
        let run = prepared(&workplace, processor);
        let worker = start(&mut emulate(processor, &run));
        (processor, run, worker)
    });
    for (processor, run, worker) in emulated {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{processor}: {}", stderr(&output));
        assert_eq!(numbers(&run), numbers(&here), "{processor}");
    }
}

#[test]
fn a_processor_without_avx2_refuses_portable_numerics() {
    let workplace = Workplace::new();
    let output: Output = emulate("Nehalem", &prepared(&workplace, "store")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("needs a processor with AVX2 and FMA"), "{}", stderr(&output));
}

#[test]
fn fewer_threads_than_asked_for_are_refused() {
    let workplace = Workplace::new();
    let run = prepared(&workplace, "store");
    let mut worker = Command::new(WORKER);
    let output =
        worker.args(["--alone", "--threads", "2"]).arg(&run.path).env("OMP_THREAD_LIMIT", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("OMP_THREAD_LIMIT allows 1 threads, but 2 were requested"), "{}", stderr(&output));
}

/// Prepares the run of a dense network of one epoch in a store of its own.
fn prepared(workplace: &Workplace, store: &str) -> RunDirectory {
    let study = "dataset: digits\narchitecture: resnet8\nnumerics: portable\nticket: {method: aws, warmup_epochs: 1}";
    let plan = build(&winsign_sweep::parse("study.yaml", study).unwrap());
    let directory = Store::create(&workplace.path(store)).unwrap().run(&plan.runs[0].run.id);
    directory.prepare(&plan.runs[0].run, "").unwrap();
    directory
}

/// The worker on a run, on an emulated processor.
fn emulate(processor: &str, run: &RunDirectory) -> Command {
    let mut qemu = Command::new("qemu-x86_64");
    qemu.args(["-cpu", processor, WORKER, "--alone"]).arg(&run.path);
    qemu
}

/// Returns the outcome of a run and the digest of its network.
fn numbers(run: &RunDirectory) -> (serde_json::Value, serde_json::Value) {
    let result: serde_json::Value = read_json(&run.result_path());
    (result["outcome"].clone(), result["network"]["digest"].clone())
}
