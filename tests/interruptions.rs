//! Whatever happens to a sweep, the next `winsign run` goes on, and the numbers are those of an undisturbed one.
#![cfg(feature = "worker")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use winsign_core::tensors::TensorFile;
use winsign_testkit::{
    SMALL, Workplace, ids, json, read_json, signal, start, stderr, stdout, succeed, wait_for, workers_of,
};

/// What the small sweep gives when nothing disturbs it.
fn undisturbed() -> &'static BTreeMap<String, (Value, Option<String>)> {
    static OUTCOMES: OnceLock<BTreeMap<String, (Value, Option<String>)>> = OnceLock::new();
    OUTCOMES.get_or_init(|| {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("small.yaml", SMALL);
        assert_eq!(workplace.run_all(&sweep), 7);
        workplace.outcomes(&sweep)
    })
}

#[test]
fn a_finished_sweep_does_nothing_and_an_edited_one_only_what_is_new() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    assert_eq!(workplace.run_all(&sweep), 7);
    let before = workplace.listing();
    assert_eq!(workplace.run_all(&sweep), 0);
    assert_eq!(workplace.listing(), before);

    // One more seed: one transfer, and its paths to the other two.
    let edited = workplace.sweep("edited.yaml", &SMALL.replace("seed: 2..3", "seed: 2..4"));
    let plan = workplace.plan(&edited);
    let pending: Vec<&Value> = plan.iter().filter(|run| run["state"] == "pending").collect();
    assert_eq!((plan.len(), pending.len()), (10, 3), "{pending:#?}");
    assert_eq!(workplace.run_all(&edited), 3);

    // One more level: the levels before are those of the same chain; what is transferred is new.
    let deeper = workplace.sweep("deeper.yaml", &SMALL.replace("levels: 2", "levels: 3"));
    let plan = workplace.plan(&deeper);
    let done: Vec<String> =
        plan.iter().filter(|run| run["state"] == "done").map(|run| run["kind"].to_string()).collect();
    assert_eq!(done, ["\"ticket\"", "\"ticket\"", "\"ticket\""]);
}

#[test]
fn killed_workers_go_on_from_their_checkpoint_to_the_same_numbers() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let mut run = start(&mut workplace.winsign("run", &sweep));
    let mut killed = 0;
    while run.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(600));
        for worker in workers_of(&workplace.store()) {
            signal(worker, Signal::KILL);
            killed += 1;
        }
        if killed >= 5 {
            break;
        }
    }
    let output = run.wait_with_output().unwrap();
    assert!(killed >= 3, "the sweep was over before it was disturbed");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(&workplace.outcomes(&sweep), undisturbed());
}

#[test]
fn a_worker_killed_between_two_epochs_loses_only_the_one_under_way() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", &SMALL.replace("warmup_epochs: 3", "warmup_epochs: 8"));
    let id = ids(&workplace.plan(&sweep), "ticket")[0].clone();
    let mut run = start(&mut workplace.winsign("run", &sweep));
    let checkpoint = workplace.run_directory(&id).join("attempts/1/checkpoint.safetensors");
    wait_for("a checkpoint of level 0", || checkpoint.exists().then_some(()));
    for worker in workers_of(&workplace.store()) {
        signal(worker, Signal::KILL);
    }
    let metrics = fs::read_to_string(workplace.run_directory(&id).join("attempts/1/metrics.jsonl")).unwrap();
    let done = metrics.lines().count();
    assert!((1..8).contains(&done), "{done} epochs");
    assert!(run.wait().unwrap().success());
    // The second attempt reports the epochs of the first in its metrics, and did at most one of them again.
    let log = fs::read_to_string(workplace.run_directory(&id).join("attempts/2/log")).unwrap();
    let computed = log.lines().filter(|line| line.contains(": train loss")).count();
    assert!(computed <= 8 - done + 1, "{done} epochs were done, {computed} computed after: {log}");
    let metrics = fs::read_to_string(workplace.run_directory(&id).join("attempts/2/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 8);
}

#[test]
fn a_killed_run_takes_its_workers_along_and_the_next_goes_on() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    for round in 0..4 {
        let mut run = start(&mut workplace.winsign("run", &sweep));
        wait_for("a worker", || workers_of(&workplace.store()).pop());
        std::thread::sleep(Duration::from_millis(400 * round));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    wait_for("the orphans to stop", || workers_of(&workplace.store()).is_empty().then_some(()));
    workplace.run_all(&sweep);
    assert_eq!(&workplace.outcomes(&sweep), undisturbed());
}

#[test]
fn the_first_interrupt_saves_and_stops_and_the_next_run_goes_on() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let run = start(&mut workplace.winsign("run", &sweep));
    let id = ids(&workplace.plan(&sweep), "ticket")[0].clone();
    let metrics = workplace.run_directory(&id).join("attempts/1/metrics.jsonl");
    wait_for("an epoch", || metrics.exists().then_some(()));
    signal(run.id(), Signal::INT);
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert!(stdout(&output).contains("continue: winsign run"), "{}", stdout(&output));
    assert!(workers_of(&workplace.store()).is_empty());
    assert!(workplace.run_directory(&id).join("attempts/1/checkpoint.safetensors").exists());
    workplace.run_all(&sweep);
    assert_eq!(&workplace.outcomes(&sweep), undisturbed());
}

#[test]
fn two_at_once_share_the_work_and_never_run_one_run_twice_at_a_time() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let mut both = [0, 1].map(|_| start(workplace.winsign("run", &sweep).arg("--json")));
    while both.iter_mut().any(|run| run.try_wait().unwrap().is_none()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let computed: u64 = both
        .map(|run| {
            let output = run.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            let summary = json(&output);
            assert_eq!(summary["runs"]["done"], 7, "{summary:#}");
            summary["runs"]["computed"].as_u64().unwrap()
        })
        .iter()
        .sum();
    assert_eq!(computed, 7, "each run is computed by exactly one of the two");
    for run in workplace.plan(&sweep) {
        assert_eq!(workplace.attempts(run["id"].as_str().unwrap()), 1, "{}", run["label"]);
    }
    assert_eq!(&workplace.outcomes(&sweep), undisturbed());
}

/// A path has no epochs: it is saved between batches, and its statistics go on from there.
#[test]
fn an_interrupted_path_goes_on_from_its_checkpoint() {
    let text = "
dataset: digits
architecture: resnet8
ticket: {method: aws, levels: 1, warmup_epochs: 1, epochs: 1}
connect: {between: norm-init, points: 151}
";
    let outcomes = [false, true].map(|disturbed| {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("path.yaml", text);
        if disturbed {
            let id = ids(&workplace.plan(&sweep), "connect")[0].clone();
            let attempts = workplace.run_directory(&id).join("attempts");
            let run = start(&mut workplace.winsign("run", &sweep));
            // The log is opened before the first batch; each takes long with so many points.
            wait_for("the path to begin", || attempts.join("1/log").exists().then_some(()));
            std::thread::sleep(Duration::from_millis(400));
            signal(run.id(), Signal::TERM);
            assert_eq!(run.wait_with_output().unwrap().status.code(), Some(75));
            assert!(attempts.join("1/checkpoint.safetensors").exists());
            assert_eq!(workplace.run_all(&sweep), 1);
            assert_eq!(workplace.attempts(&id), 2);
            let log = fs::read_to_string(attempts.join("2/log")).unwrap();
            assert!(log.contains("resuming at batch"), "{log}");
        } else {
            workplace.run_all(&sweep);
        }
        workplace.outcomes(&sweep)
    });
    assert_eq!(outcomes[0], outcomes[1]);
}

/// In the files themselves: weights outside the mask are exactly zero, after training as before, and as many remain as
/// the result says.
#[test]
fn masked_weights_stay_zero() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    workplace.run_all(&sweep);
    let plan = workplace.plan(&sweep);
    for id in [&ids(&plan, "ticket")[2], &ids(&plan, "transfer")[0]] {
        let directory = workplace.run_directory(id);
        let result = read_json(&directory.join("result.json"));
        let file = TensorFile::read(&directory.join(result["network"]["path"].as_str().unwrap())).unwrap().unwrap();
        let (mut survivors, mut prunable) = (0, 0);
        for (name, mask) in file.tensors.iter().filter(|(name, _)| name.ends_with(".mask")) {
            let weight = &file.tensors[&name.replace(".mask", ".weight")];
            for (survives, value) in mask.bytes.iter().zip(weight.bytes.chunks(4)) {
                let value = f32::from_le_bytes(value.try_into().unwrap());
                assert!(*survives == 1 || value == 0.0, "{name}: {value}");
                survivors += i32::from(*survives);
                prunable += 1;
            }
        }
        assert_eq!((prunable, survivors), (19_144, 12_252), "⌊0.8·⌊0.8·19,144⌋⌋ remain after two levels");
        let ratio = result["outcome"]["remaining_ratio"].as_f64().unwrap();
        assert_eq!(ratio, f64::from(survivors) / f64::from(prunable));
    }
}

/// Every file a finished store holds, damaged in turn: it is named, set aside and computed again, or is of no
/// consequence; the numbers stay.
#[test]
fn damaged_files_are_named_set_aside_and_computed_again() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    workplace.run_all(&sweep);
    let plan = workplace.plan(&sweep);
    let ticket = workplace.run_directory(&ids(&plan, "ticket")[1]);
    let transfer = workplace.run_directory(&ids(&plan, "transfer")[0]);
    let connect = workplace.run_directory(&ids(&plan, "connect")[0]);
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let flip = |mut bytes: Vec<u8>| {
        // A letter: the last digit of a number may be beyond what a float can hold.
        let middle = (bytes.len() / 2..bytes.len()).find(|&at| bytes[at].is_ascii_alphabetic()).unwrap();
        bytes[middle] ^= 1;
        bytes
    };
    let garbage = |_: Vec<u8>| b"garbage".to_vec();
    type Damage<'a> = (&'a Path, &'a str, &'a dyn Fn(Vec<u8>) -> Vec<u8>);
    let damages: [Damage; 8] = [
        (&ticket, "result.json", &cut),
        (&ticket, "network.safetensors", &flip),
        (&transfer, "network.safetensors", &cut),
        (&transfer, "result.json", &garbage),
        (&connect, "result.json", &flip),
        (&transfer, "run.json", &cut),
        (&transfer, "metrics.jsonl", &flip),
        (&ticket, "metrics.jsonl", &cut),
    ];
    for (directory, file, damage) in damages {
        let path = match file {
            "result.json" | "run.json" => directory.join(file),
            // The others lie with the attempt that committed them.
            _ => {
                let part = file.split('.').next().unwrap();
                directory.join(read_json(&directory.join("result.json"))[part]["path"].as_str().unwrap())
            }
        };
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, damage(bytes)).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        // Looking does not touch it, and says what is going to happen. (Settings are only looked at to be run.)
        let shown = stdout(&succeed(&mut workplace.winsign("plan", &sweep)));
        assert!(name == "run.json" || shown.contains("is damaged") && shown.contains(&name), "{shown}");
        let output = workplace.run(&sweep);
        assert!(stderr(&output).contains(&name), "{}", stderr(&output));
        assert!(path.with_file_name(format!("{name}.damaged-1")).exists(), "{} is kept aside", path.display());
        assert_eq!(&workplace.outcomes(&sweep), undisturbed(), "after damage to {}", path.display());
        // The next round looks for a first damaged copy again.
        for entry in fs::read_dir(path.parent().unwrap()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().contains(".damaged-") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_not_trusted() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let run = start(&mut workplace.winsign("run", &sweep));
    let id = ids(&workplace.plan(&sweep), "ticket")[0].clone();
    let checkpoint = workplace.run_directory(&id).join("attempts/1/checkpoint.safetensors");
    wait_for("a checkpoint", || checkpoint.exists().then_some(()));
    signal(run.id(), Signal::TERM);
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(75));
    let mut bytes = fs::read(&checkpoint).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&checkpoint, bytes).unwrap();
    workplace.run_all(&sweep);
    let log = fs::read_to_string(workplace.run_directory(&id).join("attempts/2/log")).unwrap();
    assert!(log.contains("checkpoint.safetensors is damaged"), "{log}");
    assert_eq!(&workplace.outcomes(&sweep), undisturbed());
}
