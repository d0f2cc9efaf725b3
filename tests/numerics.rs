//! `numerics: portable` gives the same bits on every processor.
#![cfg(feature = "worker")]

use std::process::{Command, Output};

use winsign_core::{RunDirectory, Store};
use winsign_sweep::plan::build::build;
use winsign_testkit::{SMALL, Workplace, instruction_sets, read_json, start, stderr, stdout, succeed};

const WORKER: &str = env!("CARGO_BIN_EXE_winsign-worker");

#[test]
fn instruction_limits_change_native_results_only() {
    let portable = format!("numerics: portable\n{SMALL}");
    let (code, output) = compare_with_limited(&portable);
    assert_eq!((code, output.as_str()), (Some(0), "7 of 7 runs have the expected digest\n"));
    // This shows that the limit has an effect on native numerics.
    let (code, output) = compare_with_limited(SMALL);
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains("different digest: ") && output.contains("aws level 2, sign, seed 3"), "{output}");
}

/// Runs a study without limits, and again with SSE4.1 at most; returns the exit code and output of `winsign digest --check`.
fn compare_with_limited(study: &str) -> (Option<i32>, String) {
    let here = Workplace::new();
    let sweep = here.sweep("study.yaml", study);
    here.run(&sweep);
    let expected = here.sweep("digests.txt", &stdout(&succeed(&mut here.winsign("digest", &sweep))));

    let limited = Workplace::new();
    let (_, limits) = instruction_sets().pop().unwrap();
    succeed(limited.winsign("run", &sweep).envs(limits));
    let checked = limited.winsign("digest", &sweep).arg("--check").arg(expected).output().unwrap();
    (checked.status.code(), stdout(&checked))
}

#[test]
fn digest_check_reports_missing_runs_and_unusable_files() {
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
    let (code, output) = check(&digests);
    assert_eq!(code, Some(3));
    assert!(output.contains("7 of 8 runs") && output.contains("not in this study: 0123456789abcdef"), "{output}");
    let (code, output) = check(digests.lines().next().unwrap());
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("1 of 1 runs") && output.contains("not in the file: "), "{output}");
    let contradiction = format!("{digests}fedcba9876543210fedcba9876543210  0123456789abcdef\n");
    for unusable in ["", "no digest\n", &contradiction] {
        let (code, output) = check(unusable);
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains("digests.txt") && output.contains("help: "), "{output}");
    }
    let ids: Vec<String> = workplace.plan(&sweep).iter().map(|run| run["id"].as_str().unwrap().to_string()).collect();
    std::fs::write(workplace.run_directory(ids.last().unwrap()).join("result.json"), "damaged").unwrap();
    for option in ["--json", "--quiet"] {
        let output = workplace.winsign("digest", &sweep).arg(option).output().unwrap();
        assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
        assert!(stdout(&output).contains(&ids[0]) && !stdout(&output).contains(ids.last().unwrap()));
    }
}

/// QEMU emulates two processors without AVX-512 and with other caches, one by Intel and one by AMD.
#[test]
fn emulated_processors_compute_the_same_bits() {
    let workplace = Workplace::new();
    let here = prepare_run(&workplace, "here");
    succeed(Command::new(WORKER).arg("--alone").arg(&here.path));
    let emulated = ["Haswell", "EPYC"].map(|processor| {
        let run = prepare_run(&workplace, processor);
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
fn processor_without_avx2_refuses_portable_numerics() {
    let workplace = Workplace::new();
    let output: Output = emulate("Nehalem", &prepare_run(&workplace, "store")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("needs a processor with AVX2 and FMA"), "{}", stderr(&output));
}

#[test]
fn thread_limit_below_the_request_is_refused() {
    let workplace = Workplace::new();
    let run = prepare_run(&workplace, "store");
    let mut worker = Command::new(WORKER);
    let output =
        worker.args(["--alone", "--threads", "2"]).arg(&run.path).env("OMP_THREAD_LIMIT", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("OMP_THREAD_LIMIT allows 1 threads, but 2 were requested"), "{}", stderr(&output));
}

/// Prepares the run of a dense network of one epoch in a store of its own.
fn prepare_run(workplace: &Workplace, store: &str) -> RunDirectory {
    let study = "dataset: digits\narchitecture: resnet8\nnumerics: portable\nticket: {method: aws, warmup_epochs: 1}";
    let plan = build(&winsign_sweep::parse("study.yaml", study).unwrap());
    let directory = Store::create(&workplace.path(store)).unwrap().run(&plan.runs[0].run.id);
    directory.prepare(&plan.runs[0].run, "").unwrap();
    directory
}

/// Creates a command that executes a run on an emulated processor.
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
