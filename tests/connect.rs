//! Connections of every kind, from the sweep file to the results, also if they are interrupted.
#![cfg(feature = "worker")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use winsign_testkit::{Workplace, find_workers, read_json, signal, start, stdout, succeed, wait_for};

const SWEEP: &str = "
dataset: digits
architecture: resnet8
ticket: {method: [lrr, aws], levels: 2, warmup_epochs: 1, epochs: 1, batch: 128}
transfer: {inherit: [sign, retrain], epochs: 1, seed: 2..4}
connect:
  - {between: seeds, inherit: sign, block: 3, points: 31, refine: 1}
  - {between: seeds, inherit: retrain, block: 2, points: 2, sets: test}
  - {between: norm-init, points: 3}
  - {between: retrain, points: 3}
  - {between: levels, points: 3}
  - {between: tickets, level: all, points: 3}
  - {between: plane, inherit: sign, points: 3, reestimation_batches: 4}
";

/// Returns the planned connections with their outcomes, by the networks that they join.
fn connects(workplace: &Workplace, plan: &[Value]) -> BTreeMap<String, Vec<(Value, Value)>> {
    let mut connects: BTreeMap<String, Vec<(Value, Value)>> = BTreeMap::new();
    for run in plan.iter().filter(|run| run["kind"] == "connect") {
        let settings = &run["settings"];
        let between = settings["between"].as_str().unwrap_or("plane").to_string();
        let result = read_json(&workplace.run_directory(run["id"].as_str().unwrap()).join("result.json"));
        connects.entry(between).or_default().push((run.clone(), result["outcome"].clone()));
    }
    connects
}

fn numbers(points: &Value, name: &str) -> Vec<f64> {
    points.as_array().unwrap().iter().map(|point| point[name].as_f64().unwrap()).collect()
}

/// Returns the error barrier by its definition.
fn barrier(path: &Value) -> f64 {
    let errors = numbers(path, "test_error");
    errors.iter().copied().fold(f64::NEG_INFINITY, f64::max) - (errors[0] + errors[errors.len() - 1]) / 2.0
}

#[test]
fn interrupted_connections_have_the_same_results() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("connect.yaml", SWEEP);
    // There are 6 tickets, 12 transfers, 2 + 2·2 blocks, 2 paths to ψ₀, 2 · 3 to retrained tickets, 2 · 2 between levels, 2
    // between tickets, and 2 planes.
    assert_eq!(workplace.run_all(&sweep), 6 + 12 + 6 + 2 + 6 + 4 + 2 + 2);
    let plan = workplace.plan(&sweep);
    let connects = connects(&workplace, &plan);

    let (matrices, rest): (Vec<_>, Vec<_>) =
        connects["seeds"].iter().partition(|(run, _)| run["settings"]["points"] == 31);
    assert_eq!((matrices.len(), rest.len()), (2, 4));
    for (run, outcome) in &matrices {
        let pairs = outcome["pairs"].as_array().unwrap();
        assert_eq!(pairs.len(), 3, "{}", run["label"]);
        for pair in pairs {
            assert_eq!(pair["barrier"], barrier(&pair["path"]));
            let positions = numbers(&pair["path"], "t");
            assert!((32..=33).contains(&positions.len()) && positions.is_sorted(), "{positions:?}");
            assert!(numbers(&pair["path"], "train_error").iter().all(|error| (0.0..=100.0).contains(error)));
            // The networks have the same signed mask, and were trained for an epoch.
            assert_eq!(pair["similarity"]["mask_overlap"], 1.0);
            assert!(pair["similarity"]["sign_agreement"].as_f64().unwrap() > 0.6);
        }
    }
    let pairs: usize = rest.iter().map(|(_, outcome)| outcome["pairs"].as_array().unwrap().len()).sum();
    assert_eq!(pairs, 2 * 3);
    assert!(rest.iter().all(|(_, outcome)| outcome["pairs"][0]["path"][0].get("train_error").is_none()));

    for (between, count) in [("norm-init", 2), ("retrain", 6), ("levels", 4), ("tickets", 2)] {
        let paths = &connects[between];
        assert_eq!(paths.len(), count, "{between}");
        for (_, outcome) in paths {
            assert_eq!(
                (numbers(&outcome["path"], "t"), &outcome["barrier"]),
                (vec![0.0, 0.5, 1.0], &barrier(&outcome["path"]).into())
            );
        }
    }
    // The union of the masks of two levels is the mask of the lower level.
    let ratios = connects["levels"].iter().map(|(_, outcome)| outcome["remaining_ratio"].as_f64().unwrap());
    assert!(ratios.zip([1.0, 0.8, 1.0, 0.8]).all(|(found, expected)| (found - expected).abs() < 1e-4));
    for (_, outcome) in &connects["plane"] {
        assert_eq!(outcome["points"].as_array().unwrap().len(), 9);
        assert_eq!(outcome["networks"][0], serde_json::json!([0.0, 0.0]));
    }

    // The survivors of all layers add up to those of the ticket.
    let ticket = plan.iter().find(|run| run["label"] == "aws level 2, seed 1").unwrap();
    let outcome = &read_json(&workplace.run_directory(ticket["id"].as_str().unwrap()).join("result.json"))["outcome"];
    let survivors: u64 =
        outcome["layers"].as_array().unwrap().iter().map(|layer| layer["survivors"].as_u64().unwrap()).sum();
    assert_eq!(survivors, outcome["survivors"].as_u64().unwrap());

    let show = |run: &Value| {
        let mut show = Command::new(env!("CARGO_BIN_EXE_winsign"));
        stdout(&succeed(show.args(["show", run["id"].as_str().unwrap(), "--store"]).arg(workplace.store())))
    };
    let matrix = show(&matrices[0].0);
    assert!(matrix.contains("paths: 3; barrier") && matrix.contains("sign agreement %"), "{matrix}");
    assert!(show(&connects["plane"][0].0).contains("of 9 networks"));
    assert!(show(&connects["levels"][0].0).contains("train error %"));

    let uninterrupted = workplace.outcomes(&sweep);
    let interrupted = Workplace::new();
    let sweep = interrupted.sweep("connect.yaml", SWEEP);
    let id = matrices[0].0["id"].as_str().unwrap();
    let attempts = interrupted.run_directory(id).join("attempts");
    let log = |attempt: u32| fs::read_to_string(attempts.join(format!("{attempt}/log"))).unwrap_or_default();
    // The matrix is interrupted, and later killed.
    let run = start(&mut interrupted.winsign("run", &sweep));
    wait_for("the matrix to begin", || log(1).contains("networks 1 to").then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(700));
    signal(run.id(), Signal::TERM);
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(75));
    assert!(attempts.join("1/checkpoint.safetensors").exists());
    let run = start(&mut interrupted.winsign("run", &sweep));
    wait_for("the matrix to resume", || log(2).contains("resuming at batch").then_some(()));
    for worker in find_workers(&interrupted.run_directory(id)) {
        signal(worker, Signal::KILL);
    }
    assert!(run.wait_with_output().unwrap().status.success());
    assert_eq!(interrupted.attempts(id), 3);
    assert!(log(3).contains("resuming at batch"), "{}", log(3));
    assert_eq!(interrupted.outcomes(&sweep), uninterrupted);
}
