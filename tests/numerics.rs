//! `numerics: portable` gives the same bits whatever the processor can do.
#![cfg(feature = "worker")]

mod common;

use std::process::{Command, Output};

use common::{SMALL, Workplace, read_json, start, stderr, succeed};
use winsign::run::{RunDirectory, Store};
use winsign::study::plan::build::build;
use winsign::study::sweep;

const WORKER: &str = env!("CARGO_BIN_EXE_winsign-worker");

/// Makes libtorch take another processor's way through its kernels, as a user's environment may.
const CAPPED: [(&str, &str); 3] =
    [("ATEN_CPU_CAPABILITY", "default"), ("ONEDNN_MAX_CPU_ISA", "SSE41"), ("MKL_CBWR", "AUTO")];

#[test]
fn the_environment_changes_native_numbers_and_no_portable_ones() {
    let outcomes = |study: &str, environment: &[(&str, &str)]| {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("study.yaml", study);
        succeed(workplace.winsign("run", &sweep).envs(environment.iter().copied()));
        workplace.outcomes(&sweep)
    };
    let portable = format!("numerics: portable\n{SMALL}");
    assert_eq!(outcomes(&portable, &CAPPED), outcomes(&portable, &[]));
    // Otherwise the line above says nothing.
    assert_ne!(outcomes(SMALL, &CAPPED), outcomes(SMALL, &[]));
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

/// A dense network of one epoch, not computed yet, in a store of its own.
fn prepared(workplace: &Workplace, store: &str) -> RunDirectory {
    let study = "dataset: digits\narchitecture: resnet8\nnumerics: portable\nticket: {method: aws, warmup_epochs: 1}";
    let plan = build(&sweep::parse("study.yaml", study).unwrap());
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

/// What the run found, and the digest of its network.
fn numbers(run: &RunDirectory) -> (serde_json::Value, serde_json::Value) {
    let result: serde_json::Value = read_json(&run.result_path());
    (result["outcome"].clone(), result["network"]["digest"].clone())
}
