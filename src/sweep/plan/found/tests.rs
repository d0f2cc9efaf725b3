use std::collections::BTreeSet;

use winsign_core::settings::{Ticket, Training};

use super::*;
use crate::plan::build::build;
use crate::plan::{Label, PlannedRun};
use crate::{Axes, parse};

fn stored(texts: &[&str]) -> (tempfile::TempDir, Vec<PlannedRun>, Vec<PlannedRun>) {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::create(scratch.path()).unwrap();
    let mut planned = Vec::new();
    for text in texts {
        let file = format!("dataset: digits\narchitecture: resnet8\n{text}");
        let plan = build(&parse("study.yaml", &file).unwrap_or_else(|error| panic!("{}", error.render(false))));
        for planned in &plan.runs {
            store.run(&planned.run.id).prepare(&planned.run, &planned.label.to_string()).unwrap();
        }
        planned.extend(plan.runs);
    }
    let (found, unreadable) = plan("all", &[store]).unwrap();
    assert_eq!(unreadable, []);
    (scratch, planned, found.runs)
}

fn labels(runs: &[PlannedRun]) -> BTreeMap<RunId, String> {
    runs.iter().map(|planned| (planned.run.id.clone(), planned.label.to_string())).collect()
}

#[test]
fn labels_are_those_of_the_sweep() {
    let text = "ticket: {method: [lrr, aws, imp], levels: 2, lr: [0.1, 0.05], seed: 1..2, rewind_epoch: 1}
transfer: {inherit: [sign, mask, retrain, dense], level: all, seed: 2..3, schedule: [cosine, constant]}
connect: [{between: seeds}, {between: norm-init}]";
    let (_scratch, planned, found) = stored(&[text]);
    assert_eq!(found.len(), planned.len());
    let (expected, actual) = (labels(&planned), labels(&found));
    for (id, label) in &expected {
        assert_eq!(&actual[id], label);
    }
    let place = |id: &RunId| found.iter().position(|planned| planned.run.id == *id).unwrap();
    for (at, planned) in found.iter().enumerate() {
        assert!(planned.run.inputs.iter().all(|input| place(input) < at), "after what it needs");
    }
}

/// Matrices stay whole for any division into runs, and for tickets with different settings.
#[test]
fn matrices_between_tickets_stay_whole() {
    for connect in ["", ", block: 2", ", refine: [0, 2]", ", block: 3, batch: [64, 32]"] {
        let text = format!(
            "ticket:
  - {{method: [lrr, aws], levels: 2, seed: 1..2, lr: [0.1, 0.05]}}
  - {{method: snip, levels: 2, batch: 32}}
connect: {{between: tickets, level: all{connect}}}"
        );
        let (_scratch, planned, found) = stored(&[&text]);
        let describe = |runs: &[PlannedRun]| -> BTreeMap<RunId, Label> {
            let joined = runs.iter().filter(|planned| planned.label.between.is_some());
            joined.map(|one| (one.run.id.clone(), Label { block: None, ..one.label.clone() })).collect()
        };
        let (expected, actual) = (describe(&planned), describe(&found));
        let rows = |labels: &BTreeMap<RunId, Label>| {
            labels.values().map(|label| format!("{label:?}")).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(rows(&expected), rows(&actual), "{connect}");
        if !connect.contains("batch") {
            assert_eq!(actual, expected, "{connect}");
        }
    }
}

/// Each sweep differs from the one before it in one setting.
#[test]
fn setting_that_differs_between_studies_becomes_an_axis() {
    let sweep = |epochs: u32, batch: u32, points: u32| {
        format!(
            "ticket: {{method: lrr, levels: 1, warmup_epochs: {epochs}}}
transfer: {{inherit: sign, seed: 2..3, batch: {batch}}}
connect: {{between: seeds, points: {points}}}"
        )
    };
    let (_scratch, _, found) = stored(&[&sweep(3, 64, 11), &sweep(5, 64, 11), &sweep(5, 32, 11), &sweep(5, 32, 21)]);
    let labels: BTreeSet<String> = found.iter().map(|planned| planned.label.to_string()).collect();
    assert_eq!(labels.len(), found.len());
    assert!(labels.contains("lrr level 1, seed 1, ticket.warmup_epochs 5"), "{labels:?}");
    assert!(labels.contains("lrr level 1, sign, seed 3, ticket.warmup_epochs 5, transfer.batch 32"), "{labels:?}");
    let path = "lrr level 1, sign, between seeds 2 and 3, ticket.warmup_epochs 5, transfer.batch 32, connect.points 21";
    assert!(labels.contains(path), "{labels:?}");
}

/// Settings of blocks and planes become axes under their own names, never as `settings`.
#[test]
fn settings_of_matrices_and_planes_have_their_names() {
    let sweep = |connect: &str| {
        format!("ticket: {{method: lrr, levels: 1}}\ntransfer: {{inherit: sign, seed: 2..4}}\nconnect: {{{connect}}}")
    };
    for (between, one, other, name) in [
        ("plane", "margin: 0.25", "margin: 0.5", "margin"),
        ("plane", "sets: both", "sets: test", "sets"),
        ("plane", "reestimation_batches: 3", "reestimation_batches: 4", "reestimation_batches"),
        ("plane", "precision: fp32", "precision: bf16", "precision"),
        ("seeds, block: 3", "sets: both", "sets: test", "sets"),
        ("seeds, block: 3", "refine: 0", "refine: 2", "refine"),
        ("seeds, block: 3", "align: none", "align: weights", "align"),
        ("seeds, block: 3", "reestimation_batches: 3", "reestimation_batches: 4", "reestimation_batches"),
    ] {
        let both = [one, other].map(|setting| sweep(&format!("between: {between}, {setting}")));
        let (_scratch, _, found) = stored(&[&both[0], &both[1]]);
        let axes: BTreeSet<Axes> = (found.iter().filter(|planned| planned.label.between.is_some()))
            .map(|planned| planned.label.axes.clone())
            .collect();
        let axis = |setting: &str| (format!("connect.{name}"), setting.rsplit(' ').next().unwrap().to_string());
        assert_eq!(axes, BTreeSet::from([vec![axis(one)], vec![axis(other)]]), "{between}");
    }
}

/// No setting of a sweep file describes levels of one chain that were trained differently.
#[test]
fn runs_that_differ_without_a_setting_never_share_a_label() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::create(scratch.path()).unwrap();
    let text = "dataset: digits\narchitecture: resnet8\nticket: {method: lrr, levels: 2, lr: 0.1}";
    let runs = build(&parse("study.yaml", text).unwrap()).runs;
    let again = |planned: &PlannedRun, input: &Run, lr: f64| {
        let Settings::Ticket(ticket) = &planned.run.settings else { unreachable!() };
        let training = Training { lr, ..ticket.training.clone() };
        Run::new(Settings::Ticket(Ticket { training, ..ticket.clone() }), vec![input.id.clone()])
    };
    let other = again(&runs[1], &runs[0].run, 0.05);
    let after_other = again(&runs[2], &other, 0.1);
    for run in runs.iter().map(|planned| &planned.run).chain([&other, &after_other]) {
        store.run(&run.id).prepare(run, "").unwrap();
    }
    let (found, _) = plan("all", &[store]).unwrap();
    let label = |id: &RunId| &found.runs.iter().find(|planned| planned.run.id == *id).unwrap().label;
    let (one, two) = (label(&runs[2].run.id), label(&after_other.id));
    assert_eq!((one.level, two.level), (2, 2));
    assert_eq!((one.axes[0].1.as_str(), two.axes[0].1.as_str()), ("0.1", "0.1"));
    assert_eq!((one.axes[1].0.as_str(), two.axes[1].0.as_str()), ("settings", "settings"));
    assert_ne!(one.axes[1].1, two.axes[1].1);
}

#[test]
fn unreadable_settings_are_named() {
    let (scratch, planned, _) = stored(&["ticket: {method: lrr, levels: 1}"]);
    let store = Store::open(scratch.path()).unwrap();
    let run = store.run(&planned[1].run.id);
    let file = run.path.join("run.json");
    let is_named = || {
        let (found, unreadable) = plan("all", std::slice::from_ref(&store)).unwrap();
        assert_eq!((found.runs.len(), unreadable.len()), (1, 1));
        assert_eq!(unreadable[0].0, planned[1].run.id);
    };
    std::fs::write(&file, "{").unwrap();
    is_named();
    // A link to itself cannot be read.
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&file, &file).unwrap();
    is_named();
    std::fs::remove_dir_all(&run.path).unwrap();
    assert_eq!(plan("all", &[store]).unwrap().1, []);
}
