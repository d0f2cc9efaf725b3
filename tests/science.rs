//! What this project claims of tickets, under three instruction sets. docs/science/notes.md has the intervals over ten tickets; the
//! margins here are several standard errors of the few tickets of this study away from what it measures.
#![cfg(feature = "worker")]

use serde_json::Value;
use winsign_testkit::{Workplace, instruction_sets, read_json, succeed};

/// The recipe of sweeps/claims.yaml with two tickets of each method, of which one is transferred.
const STUDY: &str = "
dataset: digits
architecture: resnet8
ticket: {method: [lrr, aws], levels: 6, prune_ratio: 0.36, epochs: 4, seed: 1..2}
transfer: {inherit: [sign, mask], epochs: 10, seed: 2..3}
connect:
  - {between: seeds, sets: test, points: 5}
  - {between: norm-init, sets: test, points: 2}
exclude:
  - {ticket.seed: 2, inherit: [sign, mask]}
";

#[test]
fn claims_hold_under_three_instruction_sets() {
    for (name, limits) in instruction_sets() {
        eprintln!("{name}");
        claims_hold(&limits);
    }
}

fn claims_hold(environment: &[(&str, &str)]) {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("study.yaml", STUDY);
    succeed(workplace.winsign("run", &sweep).envs(environment.iter().copied()));
    let runs: Vec<(String, Value)> = (workplace.plan(&sweep).iter())
        .map(|run| {
            let result = read_json(&workplace.run_directory(run["id"].as_str().unwrap()).join("result.json"));
            (run["label"].as_str().unwrap().to_string(), result["outcome"].clone())
        })
        .collect();
    let outcomes = |words: &[&str]| -> Vec<&Value> {
        let found = runs.iter().filter(|(label, _)| words.iter().all(|word| label.contains(word)));
        found.map(|(_, outcome)| outcome).collect()
    };

    for method in ["lrr", "aws"] {
        let error = |inherit: &str| mean(outcomes(&[method, inherit, "seed "]).into_iter().filter_map(transfer_error));
        let (sign, mask) = (error(", sign,"), error(", mask,"));
        assert!(mask - sign > 3.0, "{method}: error with the mask alone {mask}, with signs {sign}");

        let barriers = |inherit: &str| -> Vec<f64> {
            let paths = outcomes(&[method, inherit, "between seeds"]);
            paths.iter().map(|outcome| outcome["barrier"].as_f64().unwrap()).collect()
        };
        let (sign, mask) = (barriers(", sign,"), barriers(", mask,"));
        assert_eq!((sign.len(), mask.len()), (1, 1));
        let apart = sign.iter().all(|barrier| *barrier < 15.0) && mask.iter().all(|barrier| *barrier > 40.0);
        assert!(apart, "{method}: barriers between seeds with signs {sign:?}, with the mask alone {mask:?}");
    }

    let cost = |method: &str| mean(outcomes(&[method, "norm-init"]).into_iter().map(cost_of_initial_norms));
    let (lrr, aws) = (cost("lrr"), cost("aws"));
    assert!(lrr > aws, "ψ₀ in the place of ψ adds {lrr} to the error of LRR's tickets, {aws} to that of AWS'");
}

/// The error of a transfer; none of what joins two.
fn transfer_error(outcome: &Value) -> Option<f64> {
    (outcome["kind"] == "transfer").then(|| outcome["test_error"].as_f64().unwrap())
}

/// What ψ₀ in the place of a ticket's norm parameters adds to its error, in percentage points.
fn cost_of_initial_norms(outcome: &Value) -> f64 {
    let path = outcome["path"].as_array().unwrap();
    let error = |point: &Value| point["test_error"].as_f64().unwrap();
    let end = |t: f64| error(path.iter().find(|point| point["t"] == t).unwrap());
    end(0.0) - end(1.0)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    assert!(!values.is_empty());
    values.iter().sum::<f64>() / values.len() as f64
}
