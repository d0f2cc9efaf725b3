//! Every method that finds tickets and every inheritance, from the sweep file to the report.
#![cfg(feature = "worker")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use winsign_core::tensors::TensorFile;
use winsign_testkit::{Workplace, json, read_json, succeed};

/// A sweep of 5 methods with 3 tickets each, and one rewind point.
const TICKETS: &str = "
dataset: digits
architecture: resnet8
ticket:
  - {method: [lrr, aws, snip, synflow], levels: 2, warmup_epochs: 2, epochs: 1, batch: 128}
  - {method: imp, levels: 2, warmup_epochs: 2, epochs: 1, batch: 128, rewind_epoch: 1}
";

/// A sweep of one ticket, 2 × 11 transfers, 11 paths of transfers and one of the ticket.
const TRANSFERS: &str = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 2, warmup_epochs: 2, epochs: 1, batch: 128}
transfer:
  inherit: [sign, mask, magnitude, sign+norm, retrain, dense, random-mask, random-mask-erk, random-sign]
  flip: [0, 0.25]
  epochs: 1
  seed: 2..3
connect:
  - {between: seeds, masks: union, points: 2}
  - {between: norm-init, points: 2}
";

#[test]
fn every_method_finds_different_tickets() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("tickets.yaml", TICKETS);
    let plan = workplace.plan(&sweep);
    assert_eq!(workplace.run_all(&sweep), 5 * 3 + 1);
    assert_eq!(workplace.run_all(&sweep), 0);

    let mut masks = vec![];
    for run in &plan {
        let settings = &run["settings"];
        let outcome = &result(&workplace, run)["outcome"];
        let level = settings["level"].as_u64().unwrap();
        // The number of survivors is 19,144 at level 0; each level keeps four fifths, rounded down.
        assert_eq!(outcome["survivors"], [19_144, 15_315, 12_252][level as usize], "{}", run["label"]);
        if level == 2 {
            masks.push(layers(&network(&workplace, run)));
        }
    }
    for (index, mask) in masks.iter().enumerate() {
        assert!(!masks[..index].contains(mask), "each method must find a different mask");
    }

    // IMP rewinds to level 0 after one epoch.
    let metrics = |label: &str| -> Vec<Value> {
        let run = plan.iter().find(|run| run["label"] == label).unwrap();
        let shown = succeed(workplace.winsign("show", Path::new(run["id"].as_str().unwrap())).arg("--json"));
        json(&shown)["metrics"].as_array().unwrap().clone()
    };
    let (level_0, rewind_point) = (metrics("imp level 0, seed 1"), metrics("imp level 0 at epoch 1, seed 1"));
    assert_eq!((level_0.len(), rewind_point.len()), (2, 1));
    assert_eq!(level_0[0], rewind_point[0]);

    let report = report(&workplace, &sweep);
    let tickets = report["tickets"].as_array().unwrap();
    assert_eq!(tickets.len(), 5 * 3, "the rewind point must not be in the table of tickets");
    assert!(tickets.iter().all(|row| row["test_error"].as_f64().unwrap() < 90.0));
}

#[test]
fn every_inheritance_has_the_expected_masks() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("transfers.yaml", TRANSFERS);
    let plan = workplace.plan(&sweep);
    assert_eq!(workplace.run_all(&sweep), 3 + 2 * 11 + 11 + 1);

    let ticket = plan.iter().find(|run| run["label"] == "lrr level 2, seed 1").unwrap();
    let ticket = layers(&network(&workplace, ticket));
    let total = |masks: &Masks| masks.values().flatten().filter(|kept| **kept == 1).count();
    let counts =
        |masks: &Masks| -> Vec<usize> { masks.values().map(|m| m.iter().filter(|k| **k == 1).count()).collect() };
    let mut seen = BTreeMap::new();
    for run in plan.iter().filter(|run| run["kind"] == "transfer") {
        let masks = layers(&network(&workplace, run));
        let inherit = run["settings"]["inherit"].as_str().unwrap();
        match inherit {
            "dense" => {
                assert!(masks.values().flatten().all(|kept| *kept == 1) && run["needs"] == serde_json::json!([]))
            }
            "random-mask" => assert!(masks != ticket && counts(&masks) == counts(&ticket)),
            "random-mask-erk" => assert!(counts(&masks) != counts(&ticket) && total(&masks) == total(&ticket)),
            _ => assert!(masks == ticket, "{inherit}"),
        }
        *seen.entry(inherit.to_string()).or_insert(0) += 1;
    }
    let has_signs = |inherit: &str| ["sign", "sign+norm"].contains(&inherit);
    assert!(seen.len() == 9 && seen.iter().all(|(inherit, runs)| *runs == if has_signs(inherit) { 4 } else { 2 }));

    let report = report(&workplace, &sweep);
    let rows = report["transfers"].as_array().unwrap();
    let select = |inherit: &str| rows.iter().filter(|row| row["inherit"] == inherit).collect::<Vec<_>>();
    assert_eq!((rows.len(), select("sign").len(), select("mask").len()), (11, 2, 1));
    assert_eq!(select("sign")[1]["axes"]["transfer.flip"], "0.25");
    let dense = select("dense")[0];
    assert_eq!((&dense["method"], &dense["level"], &dense["remaining_ratio"]), (&Value::Null, &0.into(), &1.0.into()));
    let errors = |row: &Value| row["errors"].to_string();
    assert_ne!(errors(select("sign")[0]), errors(select("sign")[1]), "flipped signs must change the errors");
    assert_ne!(errors(select("sign")[0]), errors(select("random-sign")[0]));
    assert_ne!(errors(select("mask")[0]), errors(select("magnitude")[0]));

    // The union of two different random masks is larger than either mask, but not full.
    let ratio = |inherit| remaining_ratio_of_path(&workplace, &report, inherit);
    assert!(ratio("random-mask") > 1.2 * ratio("mask") && ratio("random-mask") < 1.0, "{}", ratio("random-mask"));
}

/// Returns the remaining ratio of the first path between transfers that inherit this.
fn remaining_ratio_of_path(workplace: &Workplace, report: &Value, inherit: &str) -> f64 {
    let rows = report["connections"].as_array().unwrap();
    let path = &rows.iter().find(|row| row["inherit"] == inherit).unwrap()["paths"][0];
    let result = read_json(&workplace.run_directory(path["run"].as_str().unwrap()).join("result.json"));
    result["outcome"]["remaining_ratio"].as_f64().unwrap()
}

/// The masks of the layers, by name.
type Masks = BTreeMap<String, Vec<u8>>;

fn result(workplace: &Workplace, run: &Value) -> Value {
    read_json(&workplace.run_directory(run["id"].as_str().unwrap()).join("result.json"))
}

fn network(workplace: &Workplace, run: &Value) -> TensorFile {
    let directory = workplace.run_directory(run["id"].as_str().unwrap());
    let result = result(workplace, run);
    TensorFile::read(&directory.join(result["network"]["path"].as_str().unwrap())).unwrap().unwrap()
}

fn layers(network: &TensorFile) -> Masks {
    let masks = network.tensors.iter().filter(|(name, _)| name.ends_with(".mask"));
    masks.map(|(name, mask)| (name.clone(), mask.bytes.clone())).collect()
}

fn report(workplace: &Workplace, sweep: &Path) -> Value {
    json(&succeed(workplace.winsign("report", sweep).arg("--json").arg("--out").arg(workplace.path("report"))))
}
