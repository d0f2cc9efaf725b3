//! However a sweep is interrupted, the next `winsign run` continues it, and the results equal those without interruption.
#![cfg(feature = "worker")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use winsign_core::tensors::TensorFile;
use winsign_testkit::{
    SMALL, Workplace, find_workers, ids, json, read_json, signal, start, stderr, stdout, succeed, wait_for,
};

/// Returns the outcomes of the small sweep without interruption.
fn uninterrupted() -> &'static BTreeMap<String, (Value, Option<String>)> {
    static OUTCOMES: OnceLock<BTreeMap<String, (Value, Option<String>)>> = OnceLock::new();
    OUTCOMES.get_or_init(|| {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("small.yaml", SMALL);
        assert_eq!(workplace.run_all(&sweep), 7);
        workplace.outcomes(&sweep)
    })
}

#[test]
fn finished_sweep_computes_only_what_an_edit_adds() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    assert_eq!(workplace.run_all(&sweep), 7);
    let before = workplace.listing();
    assert_eq!(workplace.run_all(&sweep), 0);
    assert_eq!(workplace.listing(), before);

    // One more seed adds one transfer, and its paths to the other two.
    let edited = workplace.sweep("edited.yaml", &SMALL.replace("seed: 2..3", "seed: 2..4"));
    let plan = workplace.plan(&edited);
    let pending: Vec<&Value> = plan.iter().filter(|run| run["state"] == "pending").collect();
    assert_eq!((plan.len(), pending.len()), (10, 3), "{pending:#?}");
    assert_eq!(workplace.run_all(&edited), 3);

    // With one more level, the levels before it are the same runs, and the transfers are new.
    let deeper = workplace.sweep("deeper.yaml", &SMALL.replace("levels: 2", "levels: 3"));
    let plan = workplace.plan(&deeper);
    let done: Vec<String> =
        plan.iter().filter(|run| run["state"] == "done").map(|run| run["kind"].to_string()).collect();
    assert_eq!(done, ["\"ticket\"", "\"ticket\"", "\"ticket\""]);
}

#[test]
fn killed_workers_resume_with_the_same_results() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let mut run = start(&mut workplace.winsign("run", &sweep));
    let mut killed = 0;
    while run.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(600));
        for worker in find_workers(&workplace.store()) {
            signal(worker, Signal::KILL);
            killed += 1;
        }
        if killed >= 5 {
            break;
        }
    }
    let output = run.wait_with_output().unwrap();
    assert!(killed >= 3, "the sweep ended before three workers were killed");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(&workplace.outcomes(&sweep), uninterrupted());
}

#[test]
fn worker_killed_between_epochs_repeats_at_most_one() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", &SMALL.replace("warmup_epochs: 3", "warmup_epochs: 8"));
    let id = ids(&workplace.plan(&sweep), "ticket")[0].clone();
    let mut run = start(&mut workplace.winsign("run", &sweep));
    let checkpoint = workplace.run_directory(&id).join("attempts/1/checkpoint.safetensors");
    wait_for("a checkpoint of level 0", || checkpoint.exists().then_some(()));
    for worker in find_workers(&workplace.store()) {
        signal(worker, Signal::KILL);
    }
    let metrics = fs::read_to_string(workplace.run_directory(&id).join("attempts/1/metrics.jsonl")).unwrap();
    let done = metrics.lines().count();
    assert!((1..8).contains(&done), "{done} epochs");
    assert!(run.wait().unwrap().success());
    // The metrics of the second attempt include the epochs of the first; at most one of them was computed again.
    let log = fs::read_to_string(workplace.run_directory(&id).join("attempts/2/log")).unwrap();
    let computed = log.lines().filter(|line| line.contains(": train loss")).count();
    assert!(computed <= 8 - done + 1, "{done} epochs were done, {computed} computed after: {log}");
    let metrics = fs::read_to_string(workplace.run_directory(&id).join("attempts/2/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 8);
}

#[test]
fn killed_dispatcher_stops_its_workers_and_the_next_continues() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    for round in 0..4 {
        let mut run = start(&mut workplace.winsign("run", &sweep));
        wait_for("a worker", || find_workers(&workplace.store()).pop());
        std::thread::sleep(Duration::from_millis(400 * round));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    wait_for("the orphaned workers to stop", || find_workers(&workplace.store()).is_empty().then_some(()));
    workplace.run_all(&sweep);
    assert_eq!(&workplace.outcomes(&sweep), uninterrupted());
}

#[test]
fn interrupted_sweep_saves_checkpoints_and_the_next_continues() {
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
    assert!(find_workers(&workplace.store()).is_empty());
    assert!(workplace.run_directory(&id).join("attempts/1/checkpoint.safetensors").exists());
    workplace.run_all(&sweep);
    assert_eq!(&workplace.outcomes(&sweep), uninterrupted());
}

/// A launcher that starts nothing, ignores requests to stop, and leaves a process behind, like mpirun on a host that accepts
/// connections but does not respond.
#[test]
fn second_interrupt_ends_launches_that_do_not_respond() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let programs = workplace.path("programs");
    fs::create_dir(&programs).unwrap();
    let mpirun = programs.join("mpirun");
    let left_behind = workplace.path("left-behind");
    let script = format!("#!/bin/sh\ntrap '' USR1 TERM\nsleep 600 &\necho $! > {}\nwait\n", left_behind.display());
    fs::write(&mpirun, script).unwrap();
    fs::set_permissions(&mpirun, fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = workplace.winsign("run", &sweep);
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let messages = workplace.path("messages");
    run.args(["--hosts", "silent:1"]).env("PATH", path).stderr(fs::File::create(&messages).unwrap());
    let mut run = run.stdout(Stdio::null()).spawn().unwrap();
    let messages = || fs::read_to_string(&messages).unwrap();
    wait_for("a message about the start", || messages().contains("60 s after the start on silent").then_some(()));
    signal(run.id(), Signal::INT);
    wait_for("the answer to the first interrupt", || messages().contains("stopping:").then_some(()));
    let began = Instant::now();
    signal(run.id(), Signal::INT);
    assert_eq!(run.wait().unwrap().code(), Some(75), "{}", messages());
    // Otherwise the launcher would wait for ten minutes.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(!messages().contains("failed"), "{}", messages());
    let left_behind = fs::read_to_string(&left_behind).unwrap();
    let stat = Path::new("/proc").join(left_behind.trim()).join("stat");
    wait_for("the end of the process left behind", || {
        // It may remain as a zombie where nothing collects orphans.
        fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")).then_some(())
    });
}

#[test]
fn two_dispatchers_compute_each_run_once() {
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
    assert_eq!(computed, 7, "each run must be computed by exactly one of the two");
    for run in workplace.plan(&sweep) {
        assert_eq!(workplace.attempts(run["id"].as_str().unwrap()), 1, "{}", run["label"]);
    }
    assert_eq!(&workplace.outcomes(&sweep), uninterrupted());
}

/// A path has no epochs. It is saved between batches, and its statistics continue from there.
#[test]
fn interrupted_path_resumes_from_its_checkpoint() {
    let text = "
dataset: digits
architecture: resnet8
ticket: {method: aws, levels: 1, warmup_epochs: 1, epochs: 1}
connect: {between: norm-init, points: 151}
";
    let outcomes = [false, true].map(|interrupted| {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("path.yaml", text);
        if interrupted {
            let id = ids(&workplace.plan(&sweep), "connect")[0].clone();
            let attempts = workplace.run_directory(&id).join("attempts");
            let run = start(&mut workplace.winsign("run", &sweep));
            // The log is opened before the first batch; with 151 points, each batch takes long.
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

/// In the stored networks, weights outside the mask are exactly zero, and the number of the others is that of the result.
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

/// Changes a letter, since the last digit of a number may be beyond the precision of a float.
fn flip(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = (bytes.len() / 2..bytes.len()).find(|&at| bytes[at].is_ascii_alphabetic()).unwrap();
    bytes[middle] ^= 1;
    bytes
}

/// Each kind of file of a finished store is damaged in turn. The file is reported, set aside and computed again, and the
/// results do not change.
#[test]
fn damaged_files_are_reported_and_computed_again() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    workplace.run_all(&sweep);
    let plan = workplace.plan(&sweep);
    let ticket = workplace.run_directory(&ids(&plan, "ticket")[1]);
    let transfer = workplace.run_directory(&ids(&plan, "transfer")[0]);
    let connect = workplace.run_directory(&ids(&plan, "connect")[0]);
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
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
            // The other files are in the directory of the attempt that committed them.
            _ => {
                let part = file.split('.').next().unwrap();
                directory.join(read_json(&directory.join("result.json"))[part]["path"].as_str().unwrap())
            }
        };
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, damage(bytes)).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        // `winsign plan` only reads, and reports the damage. (It does not read run.json.)
        let shown = stdout(&succeed(&mut workplace.winsign("plan", &sweep)));
        assert!(name == "run.json" || shown.contains("is damaged") && shown.contains(&name), "{shown}");
        let output = workplace.run(&sweep);
        assert!(stderr(&output).contains(&name), "{}", stderr(&output));
        assert!(path.with_file_name(format!("{name}.damaged-1")).exists(), "{} must be set aside", path.display());
        assert_eq!(&workplace.outcomes(&sweep), uninterrupted(), "after damage to {}", path.display());
        // The next iteration expects the number 1 again.
        for entry in fs::read_dir(path.parent().unwrap()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().contains(".damaged-") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

#[test]
fn damaged_checkpoint_is_not_used() {
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
    assert_eq!(&workplace.outcomes(&sweep), uninterrupted());
}
