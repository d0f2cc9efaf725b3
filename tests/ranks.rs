//! Runs that several processes compute together, and runs whose processes are killed, hang, or exist twice.
#![cfg(feature = "mpi")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};
use winsign_core::random::Source;
use winsign_core::settings::Dataset;
use winsign_core::tensors::TensorFile;
use winsign_core::{Run, RunDirectory, RunId, Store, files, owner};
use winsign_data::synth::{self, Request};
use winsign_testkit::{Workplace, find_workers, read_json, signal, start, stderr, wait_for};

const WORKER: &str = env!("CARGO_BIN_EXE_winsign-worker");
/// A folder without data; the digits are built into the worker.
const NOWHERE: &str = "nowhere";

/// Creates the directory of a run in the store of the workplace.
fn prepare_run(workplace: &Workplace, settings: Value, inputs: Vec<RunId>) -> RunDirectory {
    let run = Run::new(serde_json::from_value(settings).unwrap(), inputs);
    let directory = Store::create(&workplace.store()).unwrap().run(&run.id);
    directory.prepare(&run, "a run").unwrap();
    directory
}

fn training(epochs: u32, batch: u32) -> Value {
    json!({
        "epochs": epochs, "batch": batch, "optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4,
        "schedule": "constant",
    })
}

fn seeds(seed: u64) -> Value {
    json!({ "init": seed, "order": seed, "alpha": seed })
}

fn ticket(dataset: &str, architecture: &str, training: Value) -> Value {
    json!({
        "kind": "ticket", "dataset": dataset, "architecture": architecture, "method": "aws", "level": 0,
        "prune_ratio": null, "training": training, "seeds": seeds(1),
    })
}

fn worker(run: &RunDirectory, data: &Path) -> Command {
    let mut worker = Command::new(WORKER);
    worker.arg(&run.path).arg("--data").arg(data);
    worker
}

/// Creates the command `mpirun -np RANKS winsign-worker RUN`, in a process group of its own.
fn mpirun(ranks: usize, run: &RunDirectory, data: &Path) -> Command {
    let mut mpirun = launcher();
    mpirun.args(["-np", &ranks.to_string(), WORKER]).arg(&run.path).arg("--data").arg(data);
    mpirun
}

fn launcher() -> Command {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["--bind-to", "none", "--oversubscribe"]).process_group(0);
    mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    mpirun
}

fn finish(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, stderr(&output));
}

/// Returns the outcome of a run, and the digest of its network.
fn results(run: &RunDirectory) -> (Value, Value) {
    let result: Value = read_json(&run.result_path());
    (result["outcome"].clone(), result["network"]["digest"].clone())
}

fn network(run: &RunDirectory) -> BTreeMap<String, Vec<f32>> {
    let result: Value = read_json(&run.result_path());
    let file = TensorFile::read(&run.path.join(result["network"]["path"].as_str().unwrap())).unwrap().unwrap();
    let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let floats = file.tensors.into_iter().filter(|(name, _)| !name.ends_with(".mask"));
    floats.map(|(name, tensor)| (name, tensor.bytes.chunks(4).map(float).collect())).collect()
}

/// Returns the largest difference between two networks.
fn distance(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f32 {
    assert!(a.keys().eq(b.keys()));
    let pairs = a.values().flatten().zip(b.values().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// MLP-Mixer has no BatchNorm, so any number of ranks gives the same results, except for rounding. The images are streamed;
/// the last batch of the epoch has two images, fewer than there are ranks.
#[test]
fn ranks_without_batch_norm_equal_one_rank() {
    let workplace = Workplace::new();
    let data = workplace.path("data");
    let request =
        Request { like: Dataset::Imagenet, train: 8, test: 4, classes: Some(2), seed: 1, format: None, layout: None };
    synth::write(&data, &request, &|| {}).unwrap();
    let settings = ticket("imagenet", "mlpmixer", training(2, 6));
    let found = [1, 2, 3].map(|ranks| {
        let workplace = Workplace::new();
        let run = prepare_run(&workplace, settings.clone(), vec![]);
        finish(&mut mpirun(ranks, &run, &data));
        let result: Value = read_json(&run.result_path());
        assert_eq!(result["ranks"], ranks);
        (network(&run), result["outcome"]["test_loss"].as_f64().unwrap())
    });
    let [(alone, loss), others @ ..] = found;
    for (network, other_loss) in others {
        let distance = distance(&alone, &network);
        assert!(distance < 2e-5, "{distance}");
        assert!((loss - other_loss).abs() < 1e-4, "{loss} {other_loss}");
    }
}

/// The ranks train with BatchNorm, and estimate the statistics along a path together.
#[test]
fn ranks_with_batch_norm_learn_and_measure_the_same_path() {
    let nowhere = Path::new(NOWHERE);
    let inputs = Workplace::new();
    let trained: Vec<RunDirectory> = (1..=2)
        .map(|seed| {
            let mut settings = ticket("digits", "resnet8", training(6, 60));
            settings["seeds"] = seeds(seed);
            let run = prepare_run(&inputs, settings, vec![]);
            finish(&mut mpirun(2, &run, nowhere));
            let error = results(&run).0["test_error"].as_f64().unwrap();
            assert!(error < 40.0, "the error of a random classifier is 90 %, that of this ticket {error} %");
            run
        })
        .collect();
    let settings = json!({
        "kind": "connect", "dataset": "digits", "architecture": "resnet8", "between": "seeds", "points": 5, "batch": 64,
    });
    let run = prepare_run(&inputs, settings, trained.iter().map(|run| run.id.clone()).collect());
    let found = [1, 2, 3].map(|ranks| {
        let _ = fs::remove_file(run.result_path());
        finish(&mut mpirun(ranks, &run, nowhere));
        results(&run).0["path"].as_array().unwrap().clone()
    });
    for (one, many) in found[1..].iter().flat_map(|other| found[0].iter().zip(other)) {
        let [one, many] = [one, many].map(|point| point["test_loss"].as_f64().unwrap());
        assert!((one - many).abs() < 1e-3, "{one} {many}");
    }
    assert_ne!(found[0][2], found[0][0]);
}

/// Kills a run at random moments, until `times` attempts with a checkpoint were killed. The maximum time before a kill is
/// adapted to the speed of the machine. If the run is finished before the kill, `on_finish` checks it, and it starts anew.
fn kill_and_continue(times: u64, run: &RunDirectory, command: impl Fn() -> Command, on_finish: impl Fn()) {
    let mut moments = Source::new(4, "kills", 0).stream(0);
    let (mut killed, mut longest) = (0, 1_500);
    while killed < times {
        let mut child = start(&mut command());
        std::thread::sleep(Duration::from_millis(moments.below(longest)));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status} after {killed} kills");
            on_finish();
            fs::remove_file(run.result_path()).unwrap();
            longest = (longest / 2).max(100);
            continue;
        }
        let group = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        child.wait().unwrap();
        for worker in find_workers(&run.path) {
            signal(worker, Signal::KILL);
        }
        wait_for("the killed workers to end", || find_workers(&run.path).is_empty().then_some(()));
        let attempt = run.attempts().unwrap().last().copied().unwrap_or(0);
        if run.path.join(format!("attempts/{attempt}/checkpoint.safetensors")).exists() {
            killed += 1;
        } else {
            longest = (longest * 2).min(60_000);
        }
    }
}

/// Asserts that a run that is killed many times has the same results as an uninterrupted one.
fn assert_bit_equal_after_kills(settings: &Value, times: u64, command: impl Fn(&RunDirectory) -> Command) {
    let (alone, interrupted) = (Workplace::new(), Workplace::new());
    let uninterrupted = prepare_run(&alone, settings.clone(), vec![]);
    finish(&mut command(&uninterrupted));
    let run = prepare_run(&interrupted, settings.clone(), vec![]);
    // A checkpoint is saved before every step, so that every attempt makes progress.
    let with_checkpoints = || {
        let mut command = command(&run);
        command.args(["--checkpoint-every", "0"]);
        command
    };
    let equal = || assert_eq!(results(&run), results(&uninterrupted));
    kill_and_continue(times, &run, with_checkpoints, equal);
    finish(&mut command(&run));
    equal();
    let logs = fs::read_dir(run.path.join("attempts"))
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("log")).ok());
    let continued = logs.filter(|log| log.contains("resuming at")).count();
    assert!(continued > times as usize / 4, "only {continued} attempts resumed from a checkpoint");
}

#[test]
fn run_killed_twenty_times_is_bit_equal() {
    assert_bit_equal_after_kills(&ticket("digits", "resnet8", training(60, 32)), 20, |run| {
        let mut worker = worker(run, Path::new(NOWHERE));
        worker.process_group(0);
        worker
    });
}

#[test]
fn dropout_after_kills_is_bit_equal() {
    assert_bit_equal_after_kills(&ticket("digits", "efficientnet", training(2, 256)), 5, |run| {
        let mut worker = worker(run, Path::new(NOWHERE));
        worker.process_group(0);
        worker
    });
}

#[test]
fn two_ranks_killed_together_are_bit_equal() {
    assert_bit_equal_after_kills(&ticket("digits", "resnet8", training(20, 64)), 5, |run| {
        mpirun(2, run, Path::new(NOWHERE))
    });
}

/// Disturbs the ranks of a long run on three ranks while they compute; returns their output, and the time until they ended.
fn disturb_ranks(disturb: impl Fn(&mut Vec<u32>)) -> (Output, Duration, Workplace, RunDirectory) {
    let workplace = Workplace::new();
    let run = prepare_run(&workplace, ticket("digits", "resnet20", training(2_000, 64)), vec![]);
    let ranks = start(&mut mpirun(3, &run, Path::new(NOWHERE)));
    let metrics = run.path.join("attempts/1/metrics.jsonl");
    wait_for("an epoch", || metrics.exists().then_some(()));
    let mut workers: Vec<u32> = find_workers(&run.path).into_iter().filter(|&pid| find_rank(pid).is_some()).collect();
    workers.sort_by_key(|&pid| find_rank(pid));
    assert_eq!(workers.len(), 3);
    let began = Instant::now();
    disturb(&mut workers);
    let output = ranks.wait_with_output().unwrap();
    (output, began.elapsed(), workplace, run)
}

fn find_rank(pid: u32) -> Option<u32> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let environment = String::from_utf8_lossy(&environment).into_owned();
    environment.split('\0').find_map(|variable| variable.strip_prefix("OMPI_COMM_WORLD_RANK=")?.parse().ok())
}

fn assert_rank_is_named(output: &Output, took: Duration, rank: u32, run: &RunDirectory) {
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(!output.status.success());
    let message = stderr(output);
    assert!(message.contains(&format!("winsign-worker: rank {rank} on {}", owner::host())), "{message}");
    assert!(run.result().unwrap().is_none());
    // A stopped process cannot end until it is continued.
    wait_for("all ranks to end", || {
        let left = find_workers(&run.path);
        left.iter().for_each(|&pid| signal(pid, Signal::CONT));
        left.is_empty().then_some(())
    });
}

#[test]
fn killed_rank_ends_all_and_is_named() {
    let (output, took, _workplace, run) = disturb_ranks(|workers| signal(workers[1], Signal::KILL));
    assert_rank_is_named(&output, took, 1, &run);
    let end: Value = read_json(&run.path.join("attempts/1/end.json"));
    assert_eq!(end["content"]["end"].as_str().or(end["end"].as_str()), Some("interrupted"), "{end}");
}

#[test]
fn stopped_rank_ends_all_and_is_named() {
    let (output, took, _workplace, run) = disturb_ranks(|workers| signal(workers[2], Signal::STOP));
    assert_rank_is_named(&output, took, 2, &run);
    assert_eq!(output.status.code(), Some(71), "{}", stderr(&output));
}

/// Stops the main thread of a process like a debugger, but not its other threads.
fn stop_main_thread(pid: u32) {
    let (sender, receiver) = mpsc::channel();
    // The thread that traces the process must also wait for its end.
    std::thread::spawn(move || {
        let pid = pid as i32;
        let mut status = 0;
        // SAFETY: the requests affect only the other process, and `status` may be written to.
        unsafe {
            let request = |request| libc::ptrace(request, pid, 0usize, 0usize);
            sender.send([libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT].map(request)).unwrap();
            while libc::waitpid(pid, &mut status, libc::__WALL) == pid && libc::WIFSTOPPED(status) {}
        }
    });
    assert_eq!(receiver.recv().unwrap(), [0, 0], "this machine does not allow a user to trace processes");
}

/// The rank still sends heartbeats. It may be stopped while it computes, so that the others wait for it, or inside an
/// exchange.
#[test]
fn hanging_rank_with_heartbeat_ends_all() {
    let (output, took, _workplace, run) = disturb_ranks(|workers| stop_main_thread(workers[1]));
    let message = stderr(&output);
    assert!(took < Duration::from_secs(30), "{took:?} {message}");
    assert_eq!(output.status.code(), Some(71), "{message}");
    let at_work = format!("rank 1 on {} hangs: the others have been waiting for it", owner::host());
    assert!(message.contains(&at_work) || message.contains("no rank has left an exchange"), "{message}");
    assert!(run.result().unwrap().is_none());
    wait_for("all ranks to end", || find_workers(&run.path).is_empty().then_some(()));
}

#[test]
fn stopped_rank_0_ends_all_and_is_named() {
    let (output, took, _workplace, run) = disturb_ranks(|workers| signal(workers[0], Signal::STOP));
    assert_rank_is_named(&output, took, 0, &run);
}

#[test]
fn signal_to_one_rank_stops_all_with_a_checkpoint() {
    let (output, took, _workplace, run) = disturb_ranks(|workers| signal(workers[2], Signal::USR1));
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("winsign-worker: stopped on request").count(), 1, "{}", stderr(&output));
    assert!(run.path.join("attempts/1/checkpoint.safetensors").exists());
}

/// After a node seems lost, a scheduler starts the run again elsewhere, but the old process is still running. It detects the
/// new attempt before it saves or commits, so only the new one commits.
#[test]
fn superseded_copy_of_a_run_does_not_commit() {
    let nowhere = Path::new(NOWHERE);
    let settings = ticket("digits", "resnet8", training(60, 32));
    let (alone, workplace) = (Workplace::new(), Workplace::new());
    let uninterrupted = prepare_run(&alone, settings.clone(), vec![]);
    finish(&mut worker(&uninterrupted, nowhere));

    let run = prepare_run(&workplace, settings, vec![]);
    let old = start(&mut worker(&run, nowhere));
    let first = run.path.join("attempts/1");
    wait_for("a checkpoint", || first.join("checkpoint.safetensors").exists().then_some(()));
    signal(old.id(), Signal::STOP);
    // This is the view of another machine, on which the heartbeat of the first copy has timed out.
    let claim = run.path.join("attempts/1.json");
    let mut owner: Value = files::read_sealed(&claim).unwrap().unwrap();
    owner["owner"]["machine"] = json!("another machine");
    fs::write(&claim, files::seal(&owner)).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(300);
    File::open(first.join("status.json")).unwrap().set_modified(long_ago).unwrap();

    let new = start(worker(&run, nowhere).env("WINSIGN_LOST_AFTER", "3"));
    let second = run.path.join("attempts/2");
    wait_for("the second copy to compute", || second.join("checkpoint.safetensors").exists().then_some(()));
    signal(old.id(), Signal::CONT);
    // Both copies are running now.
    let old = old.wait_with_output().unwrap();
    assert_eq!(old.status.code(), Some(69), "{}", stderr(&old));
    assert!(stderr(&old).contains("attempt 2 has taken over from attempt 1"), "{}", stderr(&old));
    let new = new.wait_with_output().unwrap();
    assert!(new.status.success(), "{}", stderr(&new));
    let result: Value = read_json(&run.result_path());
    assert_eq!(result["attempt"], 2);
    assert_eq!(results(&run), results(&uninterrupted), "the second copy must resume from the checkpoint of the first");
}

/// Asserts that the ranks printed one message, and exited with this code.
fn assert_refused(output: &Output, code: i32, message: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert_eq!(stderr(output).matches("winsign-worker: ").count(), 1, "{}", stderr(output));
    assert!(stderr(output).contains(message), "{}", stderr(output));
}

#[test]
fn invalid_ranks_are_refused_with_one_message() {
    let workplace = Workplace::new();
    let nowhere = workplace.path("nowhere");
    let run = prepare_run(&workplace, ticket("digits", "resnet8", training(1, 2)), vec![]);
    assert_refused(&mpirun(3, &run, &nowhere).output().unwrap(), 2, "3 ranks for batches of 2 images");
    assert!(!run.path.join("attempts/1.json").exists(), "no attempt must have been made");

    // The program of another build differs in one byte.
    let other: PathBuf = workplace.path("winsign-worker");
    let program = [fs::read(WORKER).unwrap(), vec![0]].concat();
    fs::write(&other, program).unwrap();
    fs::set_permissions(&other, fs::metadata(WORKER).unwrap().permissions()).unwrap();
    let mut mixed = launcher();
    mixed.args(["-np", "1", WORKER]).arg(&run.path).args([":", "-np", "1"]).arg(&other).arg(&run.path);
    assert_refused(&mixed.output().unwrap(), 2, "rank 1 on ");
    assert!(!run.path.join("attempts/1.json").exists(), "no attempt must have been made");

    let start_with = |second: &[&str]| {
        let mut mpirun = launcher();
        mpirun.args(["-np", "1", WORKER]).arg(&run.path).args([":", "-np", "1", WORKER]).arg(&run.path).args(second);
        mpirun.output().unwrap()
    };
    assert_refused(&start_with(&["--threads", "2"]), 2, "was started with other arguments");
    // Rank 0 is waiting for MPI, so that it cannot report this error.
    let wrong = stderr(&start_with(&["--threads", "none"]));
    assert!(wrong.contains("invalid value 'none' for '--threads <THREADS>'"), "{wrong}");
    assert!(!run.path.join("attempts/1.json").exists(), "no attempt must have been made");

    let cifar = prepare_run(&workplace, ticket("cifar100", "resnet8", training(1, 2)), vec![]);
    assert_refused(&mpirun(2, &cifar, &nowhere).output().unwrap(), 2, "cannot find CIFAR-100");

    let settings = fs::read_to_string(run.path.join("run.json")).unwrap();
    fs::write(run.path.join("run.json"), settings.replace("\"format\": 1", "\"format\": 99")).unwrap();
    assert_refused(&mpirun(2, &run, &nowhere).output().unwrap(), 2, "has format 99");
}

/// The command is that of OpenMPI, but winsign does not know this. It is used with hosts and without.
#[test]
fn command_of_the_user_starts_ranks_and_stops_them() {
    let text = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 30, epochs: 1}
resources: {ranks: 2}
";
    let workplace = Workplace::new();
    let sweep = workplace.sweep("study.yaml", text);
    let run = |arguments: &[&str]| {
        let mut run = workplace.winsign("run", &sweep);
        run.args(arguments).env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        run
    };
    let anywhere = "mpirun --bind-to none --oversubscribe -n {ranks}";
    let mut stopped = start(&mut run(&["--launcher", anywhere]));
    let id = winsign_testkit::ids(&workplace.plan(&sweep), "ticket")[0].clone();
    let first = workplace.run_directory(&id);
    wait_for("an epoch", || first.join("attempts/1/metrics.jsonl").exists().then_some(()));
    signal(stopped.id(), Signal::TERM);
    assert_eq!(stopped.wait().unwrap().code(), Some(75));
    assert!(first.join("attempts/1/checkpoint.safetensors").exists());

    let on_hosts = format!("{anywhere} --host {{hosts}}");
    finish(&mut run(&["--launcher", &on_hosts, "--hosts", "localhost:2"]));
    assert_eq!(read_json(&first.join("result.json"))["ranks"], 2);
    assert_eq!(workplace.attempts(&id), 2);

    let output = run(&["--launcher", anywhere, "--hosts", "localhost:2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("it does not take hosts"), "{}", stderr(&output));
}

/// The name of a folder need not be valid UTF-8.
#[test]
fn data_folder_may_have_any_name() {
    let workplace = Workplace::new();
    let run = prepare_run(&workplace, ticket("digits", "resnet8", training(1, 512)), vec![]);
    finish(&mut worker(&run, Path::new(OsStr::from_bytes(b"caf\xe9"))));
    assert!(run.result().unwrap().is_some());
}

/// Creates a command with two ranks that read data in different folders.
fn mpirun_with_data(run: &RunDirectory, [first, second]: [&Path; 2]) -> Command {
    let mut mpirun = launcher();
    mpirun.args(["-np", "1", WORKER]).arg(&run.path).arg("--data").arg(first).arg(":");
    mpirun.args(["-np", "1", WORKER]).arg(&run.path).arg("--data").arg(second);
    mpirun
}

/// One rank cannot read its data, or reads other data. The message names the rank, and the run is not done.
#[test]
fn rank_with_missing_or_other_data_is_named() {
    let workplace = Workplace::new();
    let [data, other, nowhere] = ["data", "other", "nowhere"].map(|name| workplace.path(name));
    for (folder, seed) in [(&data, 1), (&other, 2)] {
        let request =
            Request { like: Dataset::Cifar100, train: 100, test: 100, classes: None, seed, format: None, layout: None };
        synth::write(folder, &request, &|| {}).unwrap();
    }
    let run = prepare_run(&workplace, ticket("cifar100", "resnet8", training(1, 50)), vec![]);
    let mixed = |second: &Path| mpirun_with_data(&run, [&data, second]).output().unwrap();
    let host = owner::host();
    assert_refused(&mixed(&nowhere), 2, &format!("winsign-worker: rank 1 on {host}: cannot find CIFAR-100"));
    assert_refused(&mixed(&other), 1, &format!("rank 1 on {host} finds other data in {}", other.display()));
    assert!(run.result().unwrap().is_none());
    let end = fs::read_to_string(run.path.join("attempts/1/end.json")).unwrap();
    assert!(end.contains("failed") && end.contains("cannot find CIFAR-100"), "{end}");
    finish(&mut mpirun(2, &run, &data));
    assert!(run.result().unwrap().is_some());
}

/// Returns the paths in a folder in order.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Every rank reads the images of SNIP, and one rank cannot decode one of them. All ranks end, and the message names the rank.
#[test]
fn undecodable_image_on_one_rank_ends_the_search_for_a_mask() {
    let workplace = Workplace::new();
    let [data, broken] = ["data", "broken"].map(|name| workplace.path(name));
    for folder in [&data, &broken] {
        let request = Request {
            like: Dataset::Imagenet,
            train: 80,
            test: 2,
            classes: Some(2),
            seed: 1,
            format: None,
            layout: None,
        };
        synth::write(folder, &request, &|| {}).unwrap();
    }
    // The fingerprint that ranks compare covers 64 of the 80 images; the fifth is not among them.
    let train = &entries(&entries(&broken)[0]).into_iter().find(|path| path.ends_with("train")).unwrap();
    fs::write(&entries(&entries(train)[0])[4], b"no image").unwrap();

    let mut settings = ticket("imagenet", "mlpmixer", training(1, 80));
    for (key, value) in [("method", json!("snip")), ("level", json!(1)), ("prune_ratio", json!(0.2))] {
        settings[key] = value;
    }
    let run = prepare_run(&workplace, settings, vec![]);
    let output = mpirun_with_data(&run, [&data, &broken]).output().unwrap();
    assert_refused(&output, 2, &format!("winsign-worker: rank 1 on {}: ", owner::host()));
}
