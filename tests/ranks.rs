//! Runs that several processes compute together, and runs whose processes die, hang, or are there twice.
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
use winsign_testkit::{Workplace, read_json, signal, start, stderr, wait_for, workers_of};

const WORKER: &str = env!("CARGO_BIN_EXE_winsign-worker");
/// Where no data are looked for: the digits are built in.
const NOWHERE: &str = "nowhere";

/// A run's directory in the workplace's store, ready for a worker.
fn prepared(workplace: &Workplace, settings: Value, inputs: Vec<RunId>) -> RunDirectory {
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

/// `mpirun -np RANKS winsign-worker RUN`, in a process group of its own.
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

/// What a run left behind: its outcome, and its network's digest.
fn left(run: &RunDirectory) -> (Value, Value) {
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

/// The largest difference between two networks.
fn distance(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f32 {
    assert!(a.keys().eq(b.keys()));
    let pairs = a.values().flatten().zip(b.values().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// MLP-Mixer has no BatchNorm: any number of ranks computes what one does, but for rounding. The images are streamed; the
/// last batch of the epoch has two of them, fewer than there are ranks.
#[test]
fn without_batch_norm_ranks_compute_what_one_does() {
    let workplace = Workplace::new();
    let data = workplace.path("data");
    let request =
        Request { like: Dataset::Imagenet, train: 8, test: 4, classes: Some(2), seed: 1, format: None, layout: None };
    synth::write(&data, &request, &|| {}).unwrap();
    let settings = ticket("imagenet", "mlpmixer", training(2, 6));
    let found = [1, 2, 3].map(|ranks| {
        let workplace = Workplace::new();
        let run = prepared(&workplace, settings.clone(), vec![]);
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

/// Training with BatchNorm, and the path between two networks whose statistics the ranks estimate together.
#[test]
fn ranks_learn_and_find_the_path_that_one_finds() {
    let nowhere = Path::new(NOWHERE);
    let inputs = Workplace::new();
    let trained: Vec<RunDirectory> = (1..=2)
        .map(|seed| {
            let mut settings = ticket("digits", "resnet8", training(6, 60));
            settings["seeds"] = seeds(seed);
            let run = prepared(&inputs, settings, vec![]);
            finish(&mut mpirun(2, &run, nowhere));
            let error = left(&run).0["test_error"].as_f64().unwrap();
            assert!(error < 40.0, "chance is wrong in 90 %, this ticket in {error} %");
            run
        })
        .collect();
    let connect = |points| {
        let settings = json!({
            "kind": "connect", "dataset": "digits", "architecture": "resnet8", "between": "seeds", "points": points,
            "batch": 64,
        });
        prepared(&inputs, settings, trained.iter().map(|run| run.id.clone()).collect())
    };
    let run = connect(5);
    let found = [1, 2, 3].map(|ranks| {
        let _ = fs::remove_file(run.result_path());
        finish(&mut mpirun(ranks, &run, nowhere));
        left(&run).0["path"].as_array().unwrap().clone()
    });
    for (one, many) in found[1..].iter().flat_map(|other| found[0].iter().zip(other)) {
        let [one, many] = [one, many].map(|point| point["test_loss"].as_f64().unwrap());
        assert!((one - many).abs() < 1e-3, "{one} {many}");
    }
    assert_ne!(found[0][2], found[0][0]);
}

/// So many kills at random moments of attempts that had saved something, and some before that: how long an attempt is left
/// alone at most follows the machine's speed. Where a run is over before its kill `over` looks at what it left, and it lives
/// again from nothing.
fn killed_and_continued(times: u64, run: &RunDirectory, command: impl Fn() -> Command, over: impl Fn()) {
    let mut moments = Source::new(4, "kills", 0).stream(0);
    let (mut killed, mut longest) = (0, 1_500);
    while killed < times {
        let mut child = start(&mut command());
        std::thread::sleep(Duration::from_millis(moments.below(longest)));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status} after {killed} kills");
            over();
            fs::remove_file(run.result_path()).unwrap();
            longest = (longest / 2).max(100);
            continue;
        }
        let group = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        child.wait().unwrap();
        for worker in workers_of(&run.path) {
            signal(worker, Signal::KILL);
        }
        wait_for("the killed to be gone", || workers_of(&run.path).is_empty().then_some(()));
        let attempt = run.attempts().unwrap().last().copied().unwrap_or(0);
        if run.path.join(format!("attempts/{attempt}/checkpoint.safetensors")).exists() {
            killed += 1;
        } else {
            longest = (longest * 2).min(60_000);
        }
    }
}

/// The same run, left alone in one workplace and killed many times in another.
fn ends_bit_equal(settings: &Value, times: u64, command: impl Fn(&RunDirectory) -> Command) {
    let (alone, disturbed) = (Workplace::new(), Workplace::new());
    let undisturbed = prepared(&alone, settings.clone(), vec![]);
    finish(&mut command(&undisturbed));
    let run = prepared(&disturbed, settings.clone(), vec![]);
    // A checkpoint before every step, so that every attempt gets somewhere.
    let eager = || {
        let mut command = command(&run);
        command.args(["--checkpoint-every", "0"]);
        command
    };
    let equal = || assert_eq!(left(&run), left(&undisturbed));
    killed_and_continued(times, &run, eager, equal);
    finish(&mut command(&run));
    equal();
    let logs = fs::read_dir(run.path.join("attempts"))
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("log")).ok());
    let continued = logs.filter(|log| log.contains("resuming at")).count();
    assert!(continued > times as usize / 4, "only {continued} attempts went on from a checkpoint");
}

#[test]
fn a_run_killed_twenty_times_ends_bit_equal() {
    ends_bit_equal(&ticket("digits", "resnet8", training(60, 32)), 20, |run| {
        let mut worker = worker(run, Path::new(NOWHERE));
        worker.process_group(0);
        worker
    });
}

#[test]
fn dropout_goes_on_where_it_was() {
    ends_bit_equal(&ticket("digits", "efficientnet", training(2, 256)), 5, |run| {
        let mut worker = worker(run, Path::new(NOWHERE));
        worker.process_group(0);
        worker
    });
}

#[test]
fn two_ranks_killed_together_end_bit_equal() {
    ends_bit_equal(&ticket("digits", "resnet8", training(20, 64)), 5, |run| mpirun(2, run, Path::new(NOWHERE)));
}

/// A long run on three ranks, of which one is disturbed while they compute: what they said, and how long they took to end.
fn disturbed(disturb: impl Fn(&mut Vec<u32>)) -> (Output, Duration, Workplace, RunDirectory) {
    let workplace = Workplace::new();
    let run = prepared(&workplace, ticket("digits", "resnet20", training(2_000, 64)), vec![]);
    let ranks = start(&mut mpirun(3, &run, Path::new(NOWHERE)));
    let metrics = run.path.join("attempts/1/metrics.jsonl");
    wait_for("an epoch", || metrics.exists().then_some(()));
    let mut workers: Vec<u32> = workers_of(&run.path).into_iter().filter(|&pid| rank_of(pid).is_some()).collect();
    workers.sort_by_key(|&pid| rank_of(pid));
    assert_eq!(workers.len(), 3);
    let began = Instant::now();
    disturb(&mut workers);
    let output = ranks.wait_with_output().unwrap();
    (output, began.elapsed(), workplace, run)
}

fn rank_of(pid: u32) -> Option<u32> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let environment = String::from_utf8_lossy(&environment).into_owned();
    environment.split('\0').find_map(|variable| variable.strip_prefix("OMPI_COMM_WORLD_RANK=")?.parse().ok())
}

fn ends_with_a_name(output: &Output, took: Duration, rank: u32, run: &RunDirectory) {
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(!output.status.success());
    let said = stderr(output);
    assert!(said.contains(&format!("winsign-worker: rank {rank} on {}", owner::host())), "{said}");
    assert!(run.result().unwrap().is_none());
    // The mpirun of a stopped process leaves it to be found by its machine.
    wait_for("all ranks to end", || {
        let left = workers_of(&run.path);
        left.iter().for_each(|&pid| signal(pid, Signal::CONT));
        left.is_empty().then_some(())
    });
}

#[test]
fn when_a_rank_dies_all_end_and_say_which() {
    let (output, took, _workplace, run) = disturbed(|workers| signal(workers[1], Signal::KILL));
    ends_with_a_name(&output, took, 1, &run);
    let end: Value = read_json(&run.path.join("attempts/1/end.json"));
    assert_eq!(end["content"]["end"].as_str().or(end["end"].as_str()), Some("interrupted"), "{end}");
}

#[test]
fn when_a_rank_hangs_all_end_and_say_which() {
    let (output, took, _workplace, run) = disturbed(|workers| signal(workers[2], Signal::STOP));
    ends_with_a_name(&output, took, 2, &run);
    assert_eq!(output.status.code(), Some(71), "{}", stderr(&output));
}

/// Stops the main thread of a process as a debugger does, and no other of its threads.
fn stop_main_thread(pid: u32) {
    let (tell, told) = mpsc::channel();
    // It has to be this same thread that is told of the process's end, or nobody else is.
    std::thread::spawn(move || {
        let pid = pid as i32;
        let mut status = 0;
        // SAFETY: the requests touch the other process alone, and `status` is written to.
        unsafe {
            let request = |request| libc::ptrace(request, pid, 0usize, 0usize);
            tell.send([libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT].map(request)).unwrap();
            while libc::waitpid(pid, &mut status, libc::__WALL) == pid && libc::WIFSTOPPED(status) {}
        }
    });
    assert_eq!(told.recv().unwrap(), [0, 0], "this machine lets nobody trace its own processes");
}

/// The rank still says every second that it is alive. Chance decides whether it is stopped at work, where the others wait
/// for it, or among them in an exchange.
#[test]
fn when_a_rank_lives_but_hangs_all_end() {
    let (output, took, _workplace, run) = disturbed(|workers| stop_main_thread(workers[1]));
    let said = stderr(&output);
    assert!(took < Duration::from_secs(30), "{took:?} {said}");
    assert_eq!(output.status.code(), Some(71), "{said}");
    let at_work = format!("rank 1 on {} hangs: the others have been waiting for it", owner::host());
    assert!(said.contains(&at_work) || said.contains("no rank has left an exchange"), "{said}");
    assert!(run.result().unwrap().is_none());
    wait_for("all ranks to end", || workers_of(&run.path).is_empty().then_some(()));
}

#[test]
fn when_rank_0_hangs_all_end_and_say_so() {
    let (output, took, _workplace, run) = disturbed(|workers| signal(workers[0], Signal::STOP));
    ends_with_a_name(&output, took, 0, &run);
}

#[test]
fn a_signal_to_one_rank_stops_all_with_a_checkpoint() {
    let (output, took, _workplace, run) = disturbed(|workers| signal(workers[2], Signal::USR1));
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("winsign-worker: stopped on request").count(), 1, "{}", stderr(&output));
    assert!(run.path.join("attempts/1/checkpoint.safetensors").exists());
}

/// A scheduler lost sight of a node and starts the run again elsewhere, but the old process lives on: it finds that out
/// before it saves or commits, and only what the new one writes counts.
#[test]
fn of_two_living_copies_of_a_run_only_the_later_commits() {
    let nowhere = Path::new(NOWHERE);
    let settings = ticket("digits", "resnet8", training(60, 32));
    let (alone, workplace) = (Workplace::new(), Workplace::new());
    let undisturbed = prepared(&alone, settings.clone(), vec![]);
    finish(&mut worker(&undisturbed, nowhere));

    let run = prepared(&workplace, settings, vec![]);
    let old = start(&mut worker(&run, nowhere));
    let first = run.path.join("attempts/1");
    wait_for("a checkpoint", || first.join("checkpoint.safetensors").exists().then_some(()));
    signal(old.id(), Signal::STOP);
    // As it looks from another machine, where nothing was heard of the first for long.
    let claim = run.path.join("attempts/1.json");
    let mut owner: Value = files::read_sealed(&claim).unwrap().unwrap();
    owner["owner"]["machine"] = json!("another machine");
    fs::write(&claim, files::seal(&owner)).unwrap();
    let long_ago = SystemTime::now() - 2 * owner::SILENCE;
    File::open(first.join("status.json")).unwrap().set_modified(long_ago).unwrap();

    let new = start(&mut worker(&run, nowhere));
    let second = run.path.join("attempts/2");
    wait_for("the second copy to compute", || second.join("checkpoint.safetensors").exists().then_some(()));
    signal(old.id(), Signal::CONT);
    // Both are alive now.
    let old = old.wait_with_output().unwrap();
    assert_eq!(old.status.code(), Some(69), "{}", stderr(&old));
    assert!(stderr(&old).contains("attempt 2 has taken over from attempt 1"), "{}", stderr(&old));
    let new = new.wait_with_output().unwrap();
    assert!(new.status.success(), "{}", stderr(&new));
    let result: Value = read_json(&run.result_path());
    assert_eq!(result["attempt"], 2);
    assert_eq!(left(&run), left(&undisturbed), "it went on from the checkpoint of the first");
}

/// What cannot be is said once, before anything is computed, and every rank ends.
fn refused(output: &Output, code: i32, message: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert_eq!(stderr(output).matches("winsign-worker: ").count(), 1, "{}", stderr(output));
    assert!(stderr(output).contains(message), "{}", stderr(output));
}

#[test]
fn what_ranks_cannot_do_is_said_once() {
    let workplace = Workplace::new();
    let nowhere = workplace.path("nowhere");
    let run = prepared(&workplace, ticket("digits", "resnet8", training(1, 2)), vec![]);
    refused(&mpirun(3, &run, &nowhere).output().unwrap(), 2, "3 ranks for batches of 2 images");
    assert!(!run.path.join("attempts/1.json").exists(), "nothing was begun");

    // Another build: a program that differs in one byte.
    let other: PathBuf = workplace.path("winsign-worker");
    let program = [fs::read(WORKER).unwrap(), vec![0]].concat();
    fs::write(&other, program).unwrap();
    fs::set_permissions(&other, fs::metadata(WORKER).unwrap().permissions()).unwrap();
    let mut mixed = launcher();
    mixed.args(["-np", "1", WORKER]).arg(&run.path).args([":", "-np", "1"]).arg(&other).arg(&run.path);
    refused(&mixed.output().unwrap(), 2, "rank 1 on ");
    assert!(!run.path.join("attempts/1.json").exists(), "nothing was begun");

    let unlike = |second: &[&str]| {
        let mut mpirun = launcher();
        mpirun.args(["-np", "1", WORKER]).arg(&run.path).args([":", "-np", "1", WORKER]).arg(&run.path).args(second);
        mpirun.output().unwrap()
    };
    refused(&unlike(&["--threads", "2"]), 2, "was started with other arguments");
    // Rank 0 waits for MPI then, and cannot speak for it.
    let wrong = stderr(&unlike(&["--threads", "none"]));
    assert!(wrong.contains("invalid value 'none' for '--threads <THREADS>'"), "{wrong}");
    assert!(!run.path.join("attempts/1.json").exists(), "nothing was begun");

    let cifar = prepared(&workplace, ticket("cifar100", "resnet8", training(1, 2)), vec![]);
    refused(&mpirun(2, &cifar, &nowhere).output().unwrap(), 1, "cannot find CIFAR-100");

    let settings = fs::read_to_string(run.path.join("run.json")).unwrap();
    fs::write(run.path.join("run.json"), settings.replace("\"format\": 1", "\"format\": 99")).unwrap();
    refused(&mpirun(2, &run, &nowhere).output().unwrap(), 2, "has format 99");
}

/// The command is that of OpenMPI, but winsign does not know it: with hosts that it gets, or wherever it likes.
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

/// A folder's name is bytes; only its files have to be found.
#[test]
fn data_may_lie_in_a_folder_of_any_name() {
    let workplace = Workplace::new();
    let run = prepared(&workplace, ticket("digits", "resnet8", training(1, 512)), vec![]);
    finish(&mut worker(&run, Path::new(OsStr::from_bytes(b"caf\xe9"))));
    assert!(run.result().unwrap().is_some());
}

/// One rank cannot read its data, or reads other data: that rank is named, and the run is not done.
#[test]
fn what_one_rank_alone_cannot_do_is_said_with_its_name() {
    let workplace = Workplace::new();
    let [data, other, nowhere] = ["data", "other", "nowhere"].map(|name| workplace.path(name));
    for (folder, seed) in [(&data, 1), (&other, 2)] {
        let request =
            Request { like: Dataset::Cifar100, train: 100, test: 100, classes: None, seed, format: None, layout: None };
        synth::write(folder, &request, &|| {}).unwrap();
    }
    let run = prepared(&workplace, ticket("cifar100", "resnet8", training(1, 50)), vec![]);
    let mixed = |second: &Path| {
        let mut mpirun = launcher();
        mpirun.args(["-np", "1", WORKER]).arg(&run.path).arg("--data").arg(&data).arg(":");
        mpirun.args(["-np", "1", WORKER]).arg(&run.path).arg("--data").arg(second);
        mpirun.output().unwrap()
    };
    let host = owner::host();
    refused(&mixed(&nowhere), 1, &format!("winsign-worker: rank 1 on {host}: cannot find CIFAR-100"));
    refused(&mixed(&other), 1, &format!("rank 1 on {host} finds other data in {}", other.display()));
    assert!(run.result().unwrap().is_none());
    let end = fs::read_to_string(run.path.join("attempts/1/end.json")).unwrap();
    assert!(end.contains("failed") && end.contains("cannot find CIFAR-100"), "{end}");
    finish(&mut mpirun(2, &run, &data));
    assert!(run.result().unwrap().is_some());
}

/// Every rank looks at SNIP's images, and one of them cannot decode one: all end, with its name.
#[test]
fn an_image_that_one_rank_cannot_decode_ends_the_search_for_a_mask() {
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
    // Of 80 images 64 are part of the fingerprint that ranks compare; the fifth is none of them.
    let listed = |folder: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let train = &listed(&listed(&broken)[0]).into_iter().find(|path| path.ends_with("train")).unwrap();
    fs::write(&listed(&listed(train)[0])[4], b"no image").unwrap();

    let mut settings = ticket("imagenet", "mlpmixer", training(1, 80));
    for (key, value) in [("method", json!("snip")), ("level", json!(1)), ("prune_ratio", json!(0.2))] {
        settings[key] = value;
    }
    let run = prepared(&workplace, settings, vec![]);
    let mut mpirun = launcher();
    mpirun.args(["-np", "1", WORKER]).arg(&run.path).arg("--data").arg(&data).arg(":");
    mpirun.args(["-np", "1", WORKER]).arg(&run.path).arg("--data").arg(&broken);
    refused(&mpirun.output().unwrap(), 1, &format!("winsign-worker: rank 1 on {}: ", owner::host()));
}
