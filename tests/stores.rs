//! Stores that are merged, cleaned, and read while they are written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use safetensors::Dtype;
use serde_json::Value;
use winsign_core::attempt::{Attempt, End, LOG};
use winsign_core::clean::{cleaned as cleaned_at, retire};
use winsign_core::results::{
    ConnectOutcome, EpochMetrics, Outcome, PathOutcome, PathPoint, Processors, TicketOutcome, TransferOutcome,
};
use winsign_core::settings::{Architecture, Dataset, Import, Problem, Settings};
use winsign_core::tensors::{RawTensor, TensorFile};
use winsign_core::{Run, RunDirectory, State, Store};
use winsign_sweep::plan::Plan;
use winsign_sweep::plan::build::build;
use winsign_testkit::{SMALL, Workplace, json, read_json, start, stderr, stdout, succeed, wait_for};

/// The part of [`SMALL`] that connects its transfers.
const SEED_PAIRS: &str = "  - {between: seeds, points: 3}\n";

/// Returns a study with three levels of a ticket, two transfers, the path between them, and a path of the ticket.
fn small(workplace: &Workplace) -> (PathBuf, Plan) {
    let file = workplace.sweep("small.yaml", SMALL);
    let plan = plan(&file);
    (file, plan)
}

fn plan(file: &Path) -> Plan {
    build(&winsign_sweep::read(file).unwrap())
}

fn tensors(value: u8) -> TensorFile {
    let tensor = RawTensor { dtype: Dtype::U8, shape: vec![64], bytes: vec![value; 64] };
    TensorFile { tensors: [("w".to_string(), tensor)].into(), metadata: "{}".to_string() }
}

/// Returns a made-up outcome.
fn outcome(run: &Run, test_error: f64) -> Outcome {
    let (remaining_ratio, test_loss) = (0.5, 0.25);
    match run.settings {
        Settings::Ticket(_) | Settings::Import(_) => Outcome::Ticket(TicketOutcome {
            remaining_ratio,
            survivors: 5,
            prunable: 10,
            test_error,
            test_loss,
            layers: vec![],
        }),
        Settings::Transfer(_) => Outcome::Transfer(TransferOutcome { remaining_ratio, test_error, test_loss }),
        Settings::Connect(_) => {
            let points = [0.0, 0.5, 1.0].map(|t| PathPoint { t, test_error, test_loss, train: None }).to_vec();
            let path = PathOutcome { points, barrier: 1.0, similarity: None };
            Outcome::Connect(ConnectOutcome { remaining_ratio, path })
        }
        Settings::Matrix(_) | Settings::Plane(_) => {
            unreachable!("the sweeps of these tests have no matrices and planes")
        }
    }
}

fn claim(store: &Store, run: &Run, label: &str) -> Attempt {
    let directory = store.run(&run.id);
    directory.prepare(run, label).unwrap();
    Attempt::claim(&directory, 3).unwrap()
}

/// Finishes a run as a worker would, with a network whose weights are `value`.
fn finish(store: &Store, run: &Run, label: &str, test_error: f64, value: u8) {
    let attempt = claim(store, run, label);
    commit(&attempt, run, test_error, value);
    attempt.end(&End::Finished).unwrap();
}

fn commit(attempt: &Attempt, run: &Run, test_error: f64, value: u8) {
    let (lr, train_loss, train_error, test_loss) = (0.1, 0.5, 10.0, 0.25);
    attempt.write_metrics(&[EpochMetrics { epoch: 1, lr, train_loss, train_error, test_loss, test_error }]).unwrap();
    fs::write(attempt.directory().join(LOG), format!("error {test_error}\n")).unwrap();
    let network = (!matches!(run.settings, Settings::Connect(_))).then(|| tensors(value));
    let processors = Processors { ranks: 1, threads: 1 };
    assert!(attempt.commit(outcome(run, test_error), network.as_ref(), processors, None).unwrap());
}

/// Finishes the runs of a plan that have these indices.
fn finish_runs(path: &Path, plan: &Plan, places: impl IntoIterator<Item = usize>) -> Store {
    let store = Store::create(path).unwrap();
    for at in places {
        let planned = &plan.runs[at];
        finish(&store, &planned.run, &planned.label.to_string(), at as f64 + 0.125, at as u8);
    }
    store
}

fn winsign(arguments: &[&str]) -> Command {
    let mut winsign = Command::new(env!("CARGO_BIN_EXE_winsign"));
    winsign.args(arguments).env_remove("WINSIGN_LOG").env_remove("WINSIGN_STORE");
    winsign
}

fn merge(from: &[&Path], into: &Path) -> Command {
    let mut merge = winsign(&["merge", "--json"]);
    merge.args(from).arg("--into").arg(into);
    merge
}

/// Runs a command, which must exit with this code; returns the JSON that it prints.
fn run_json(code: i32, command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {}\n{}", stdout(&output), stderr(&output));
    json(&output)
}

fn count(summary: &Value, what: &str) -> u64 {
    summary["runs"][what].as_u64().unwrap_or_else(|| panic!("{what}: {summary:#}"))
}

/// Returns every file below a folder, with its content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => drop(found.insert(entry.path(), fs::read(entry.path()).unwrap())),
            }
        }
    }
    found
}

/// Reads the outcome and the network of a run, and compares all files with their checksums.
fn read_verified(run: &RunDirectory) -> Option<(Outcome, Option<TensorFile>)> {
    let result = run.result().unwrap()?;
    run.read_metrics(result.metrics.as_ref().unwrap()).unwrap();
    let network = result.network.as_ref().map(|network| run.read_network(network).unwrap());
    Some((result.outcome, network))
}

/// Sets the modification time of a file to the past.
fn age(path: &Path, by: Duration) {
    File::open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    age(path, Duration::from_secs(60));
}

#[test]
fn two_stores_are_merged_into_one() {
    let workplace = Workplace::new();
    let (file, plan) = small(&workplace);
    let (north, south) = (workplace.path("north"), workplace.path("south store"));
    let sources = [finish_runs(&north, &plan, 0..4), finish_runs(&south, &plan, [0, 1, 2, 4])];
    // This run has failed, so it is not merged.
    claim(&sources[1], &plan.runs[5].run, "path").end(&End::Failed { message: "no".into() }).unwrap();
    let before = [content(&north), content(&south)];

    let dry = run_json(0, merge(&[&north, &south], &workplace.store()).arg("--dry-run"));
    assert!(!workplace.store().exists(), "a dry run must write nothing");
    let summary = run_json(0, &mut merge(&[&north, &south], &workplace.store()));
    for summary in [&dry, &summary] {
        let counts = ["adopted", "same", "conflicts", "damaged", "alive", "not_done"].map(|what| count(summary, what));
        assert_eq!(counts, [5, 3, 0, 0, 0, 1], "{summary:#}");
    }
    assert_eq!([content(&north), content(&south)], before, "the sources must not change");

    let target = Store::open(&workplace.store()).unwrap();
    for (at, planned) in plan.runs.iter().enumerate().take(5) {
        let id = &planned.run.id;
        let source = &sources[usize::from(at == 4)];
        assert_eq!(read_verified(&target.run(id)), read_verified(&source.run(id)), "{}", planned.label);
        let log = |store: &Store| store.run(id).log_of(1, 9);
        assert_eq!(log(&target), log(source));
        let result = |store: &Store| read_json(&store.run(id).result_path());
        // The run has its first attempt in both stores, so even the paths are equal.
        assert_eq!(result(&target), result(source));
        assert_eq!(target.run(id).settings().unwrap(), source.run(id).settings().unwrap());
    }
    let status = json(&succeed(workplace.winsign("status", &file).arg("--json")));
    assert_eq!((&status["runs"]["done"], &status["runs"]["pending"]), (&5.into(), &2.into()));

    let before = content(&workplace.store());
    let again = run_json(0, &mut merge(&[&south, &north], &workplace.store()));
    assert_eq!((count(&again, "adopted"), count(&again, "same")), (0, 8));
    assert_eq!(content(&workplace.store()), before, "merging again must change nothing");
}

#[test]
fn unfinished_run_takes_the_result_of_another_store() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let north = workplace.path("north");
    finish_runs(&north, &plan, 0..2);
    let target = Store::create(&workplace.store()).unwrap();
    let [begun, failed] = [0, 1].map(|at: usize| &plan.runs[at].run);
    let attempt = claim(&target, begun, "begun");
    attempt.save_checkpoint(&tensors(9)).unwrap();
    attempt.end(&End::Interrupted).unwrap();
    claim(&target, failed, "failed").end(&End::Failed { message: "out of luck".into() }).unwrap();

    let summary = run_json(0, &mut merge(&[&north], &workplace.store()));
    assert_eq!(count(&summary, "adopted"), 2);
    for run in [begun, failed] {
        let directory = target.run(&run.id);
        let result = directory.result().unwrap().unwrap();
        assert_eq!((result.attempt, directory.attempts().unwrap()), (2, vec![1, 2]));
        assert!(result.network.as_ref().unwrap().path.starts_with("attempts/2/"));
        assert!(read_verified(&directory).is_some());
        assert!(!directory.attempt_path(1).join("checkpoint.safetensors").exists(), "the checkpoint must be deleted");
        // Only the paths, and the checksum over them, differ.
        let (mut here, mut there) =
            (read_json(&directory.result_path()), read_json(&Store::open(&north).unwrap().run(&run.id).result_path()));
        for result in [&mut here, &mut there] {
            for pointer in ["/attempt", "/network/path", "/metrics/path", "/checksum"] {
                *result.pointer_mut(pointer).unwrap() = Value::Null;
            }
        }
        assert_eq!(here, there);
    }
}

#[test]
fn conflicting_results_are_listed_and_not_overwritten() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let (north, south, into) = (workplace.path("north"), workplace.path("south"), workplace.store());
    finish_runs(&north, &plan, [0, 3]);
    let other = finish_runs(&south, &plan, [4]);
    let [ticket, transfer] = [0, 3].map(|at: usize| &plan.runs[at]);
    // The ticket has another error; the transfer has the same error, but another network.
    finish(&other, &ticket.run, &ticket.label.to_string(), 0.0625, 0);
    finish(&other, &transfer.run, &transfer.label.to_string(), 3.125, 77);

    let dry = run_json(3, merge(&[&north, &south], &into).arg("--dry-run"));
    let summary = run_json(3, &mut merge(&[&north, &south], &into));
    for summary in [&dry, &summary] {
        assert_eq!((count(summary, "adopted"), count(summary, "conflicts")), (3, 2), "{summary:#}");
    }
    let before = content(&into);
    // Now the target has the results of the first store.
    let output = winsign(&["merge"]).arg(&south).arg("--into").arg(&into).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = stdout(&output);
    let (id, label) = (ticket.run.id.to_string(), ticket.label.to_string());
    for part in [&id, &label, "0.125 %", "0.0625 %", south.to_str().unwrap(), into.to_str().unwrap()] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains(&tensors(77).digest()[..8]), "the digests of the networks must be shown: {text}");
    assert_eq!(content(&into), before);
    let result = read_verified(&Store::open(&into).unwrap().run(&ticket.run.id)).unwrap();
    assert_eq!(result, (outcome(&ticket.run, 0.125), Some(tensors(0))), "the result must be that of the first store");
}

#[test]
fn damaged_files_are_reported_and_not_copied() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let (north, into) = (workplace.path("north"), workplace.store());
    let store = finish_runs(&north, &plan, 0..5);
    let directory = |at: usize| store.run(&plan.runs[at].run.id);
    // A changed bit in a network, which only its checksum reveals; missing metrics; a torn result; the settings of another run.
    damage(&directory(0).attempt_path(1).join("network.safetensors"));
    fs::remove_file(directory(1).attempt_path(1).join("metrics.jsonl")).unwrap();
    fs::write(directory(2).result_path(), "{").unwrap();
    fs::copy(directory(4).path.join("run.json"), directory(3).path.join("run.json")).unwrap();

    let summary = run_json(3, &mut merge(&[&north], &into));
    assert_eq!((count(&summary, "adopted"), count(&summary, "damaged")), (1, 4), "{summary:#}");
    let named: Vec<&str> =
        summary["damaged"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect();
    let mut expected: Vec<&str> = (0..4).map(|at| plan.runs[at].run.id.as_str()).collect();
    expected.sort();
    assert_eq!(named, expected);
    let target = Store::open(&into).unwrap();
    assert!((0..4).all(|at| target.run(&plan.runs[at].run.id).result().unwrap().is_none()));
    assert!(read_verified(&target.run(&plan.runs[4].run.id)).is_some());

    // Another store has intact copies.
    let south = workplace.path("south");
    finish_runs(&south, &plan, 0..4);
    let summary = run_json(3, &mut merge(&[&north, &south], &into));
    assert_eq!((count(&summary, "adopted"), count(&summary, "damaged")), (4, 4), "{summary:#}");
    assert!((0..5).all(|at| read_verified(&target.run(&plan.runs[at].run.id)).is_some()));
}

#[test]
fn damaged_target_is_replaced_from_the_source() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let north = workplace.path("north");
    finish_runs(&north, &plan, [0]);
    let target = finish_runs(&workplace.store(), &plan, [0]);
    let directory = target.run(&plan.runs[0].run.id);
    let network = directory.attempt_path(1).join("network.safetensors");
    fs::write(&network, b"torn").unwrap();
    let summary = run_json(0, &mut merge(&[&north], &workplace.store()));
    assert_eq!(count(&summary, "adopted"), 1);
    assert_eq!(summary["adopted"][0]["replaced"], network.to_str().unwrap());
    assert!(network.with_file_name("network.safetensors.damaged-1").exists());
    assert_eq!(read_verified(&directory).unwrap().1, Some(tensors(0)));
}

#[test]
fn running_run_in_the_target_is_skipped() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let north = workplace.path("north");
    finish_runs(&north, &plan, 0..2);
    let target = Store::create(&workplace.store()).unwrap();
    let running = claim(&target, &plan.runs[0].run, "running");
    let summary = run_json(0, &mut merge(&[&north], &workplace.store()));
    assert_eq!((count(&summary, "adopted"), count(&summary, "alive")), (1, 1));
    assert_eq!(summary["alive"][0]["id"], plan.runs[0].run.id.as_str());
    assert_eq!(target.run(&plan.runs[0].run.id).attempts().unwrap(), [1]);
    commit(&running, &plan.runs[0].run, 0.125, 0);
    running.end(&End::Finished).unwrap();
    assert_eq!(count(&run_json(0, &mut merge(&[&north], &workplace.store())), "same"), 2);
}

/// A merge that is killed at random moments has the same result in the end.
#[test]
fn killed_merge_continues() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("many.yaml", &SMALL.replace(SEED_PAIRS, "").replace("2..3", "2..60"));
    let plan = plan(&sweep);
    let total = plan.runs.len();
    let (north, into) = (workplace.path("north"), workplace.store());
    let store = finish_runs(&north, &plan, 0..total);
    let target = Store::open(&into).unwrap();
    let adopted = || plan.runs.iter().filter(|planned| target.run(&planned.run.id).result_path().exists()).count();
    for round in 1..=5 {
        let mut merge = start(&mut merge(&[&north], &into));
        wait_for("some runs", || (adopted() >= (round * total / 8).min(total)).then_some(()));
        merge.kill().unwrap();
        merge.wait().unwrap();
        // Every result is intact.
        for planned in &plan.runs {
            target.run(&planned.run.id).result().unwrap();
        }
    }
    let before = adopted();
    assert!(before < total, "the merge was done before it was killed");
    let summary = run_json(0, &mut merge(&[&north], &into));
    assert_eq!(
        (count(&summary, "adopted"), count(&summary, "same")),
        ((total - before) as u64, before as u64),
        "{summary:#}"
    );
    for planned in &plan.runs {
        assert_eq!(read_verified(&target.run(&planned.run.id)), read_verified(&store.run(&planned.run.id)));
    }
    assert_eq!(count(&run_json(0, &mut merge(&[&north], &into)), "same"), total as u64);
}

/// A full disk gives one message and leaves no partial files, and the same command continues when there is space again.
#[test]
fn full_disk_stops_a_merge_and_the_next_continues() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let (north, into) = (workplace.path("north"), workplace.store());
    let store = Store::create(&north).unwrap();
    for planned in &plan.runs[..3] {
        let attempt = claim(&store, &planned.run, "large");
        fs::write(attempt.directory().join(LOG), vec![b'.'; 300_000]).unwrap();
        let processors = Processors { ranks: 1, threads: 1 };
        attempt.write_metrics(&[]).unwrap();
        assert!(attempt.commit(outcome(&planned.run, 1.0), Some(&tensors(1)), processors, None).unwrap());
        attempt.end(&End::Finished).unwrap();
    }
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_winsign"), "merge"]);
    let output = limited.arg(&north).arg("--into").arg(&into).output().unwrap();
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
    let message = stderr(&output);
    assert_eq!(message.matches("error: cannot write").count(), 1, "{message}");
    assert!(message.contains("attempts/1/log"), "{message}");
    let target = Store::open(&into).unwrap();
    assert!(plan.runs.iter().all(|planned| target.run(&planned.run.id).result().unwrap().is_none()));
    assert!(
        content(&into).keys().all(|path| path.extension().is_none_or(|end| end != "draft")),
        "drafts must be deleted"
    );
    assert_eq!(count(&run_json(0, &mut merge(&[&north], &into)), "adopted"), 3);
}

#[test]
fn invalid_stores_are_refused_before_anything_is_written() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let north = workplace.path("north");
    finish_runs(&north, &plan, [0]);
    let (other, folder, link) = (workplace.path("other"), workplace.path("folder"), workplace.path("link"));
    fs::create_dir_all(other.join("runs")).unwrap();
    fs::write(other.join("store.json"), r#"{"format":2}"#).unwrap();
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(&north, &link).unwrap();
    let before = workplace.listing();
    let (none, inside, fresh) = (workplace.path("none"), north.join("runs/joined"), workplace.path("fresh"));
    let cases: [(&[&Path], &Path, &str); 7] = [
        (&[&none], &fresh, "does not exist"),
        (&[&north, &none], &fresh, "does not exist"),
        (&[&folder], &fresh, "is not a store"),
        (&[&north], &link, "are the same store"),
        (&[&north], &inside, "it is inside"),
        (&[&north, &other], &fresh, "has format 2"),
        (&[&north], &other, "has format 2"),
    ];
    for (from, into, message) in cases {
        let output = merge(from, into).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(message) && stderr(&output).contains("help:"),
            "{message}: {}",
            stderr(&output)
        );
        assert_eq!(workplace.listing(), before, "{message}");
    }
}

#[test]
fn merged_import_includes_its_network() {
    let workplace = Workplace::new();
    let (north, into) = (workplace.path("north"), workplace.store());
    let problem = Problem::new(Dataset::Digits, Architecture::ResNet8);
    let imported = tensors(42);
    let run = Run::new(Settings::Import(Import { problem, digest: imported.digest().parse().unwrap() }), vec![]);
    let store = Store::create(&north).unwrap();
    finish(&store, &run, "imported", 1.0, 7);
    imported.write(&store.run(&run.id).imported_path()).unwrap();
    run_json(0, &mut merge(&[&north], &into));
    let target = Store::open(&into).unwrap().run(&run.id);
    assert_eq!(TensorFile::read(&target.imported_path()).unwrap(), Some(imported));
    assert_eq!(read_verified(&target), read_verified(&store.run(&run.id)));
}

fn write_old(path: &Path) {
    fs::write(path, b"12345678").unwrap();
    age(path, Duration::from_secs(7200));
}

fn clean(workplace: &Workplace, arguments: &[&str], sweep: Option<&Path>) -> Output {
    let mut clean = winsign(&["clean", "--store"]);
    clean.arg(workplace.store()).args(arguments).args(sweep);
    succeed(&mut clean)
}

/// Runs `winsign clean --json`; returns the paths of the files it lists, relative to the store.
fn cleaned(workplace: &Workplace, arguments: &[&str], sweep: Option<&Path>) -> Vec<String> {
    let summary = json(&clean(workplace, &[arguments, &["--json"]].concat(), sweep));
    let runs = workplace.store().join("runs");
    let within = |path: &str| Path::new(path).strip_prefix(&runs).unwrap().to_str().unwrap()[3..].to_string();
    let mut paths: Vec<String> =
        summary["files"].as_array().unwrap().iter().map(|file| within(file["path"].as_str().unwrap())).collect();
    paths.sort();
    paths
}

#[test]
fn clean_shows_first_and_keeps_checkpoints_to_resume_from() {
    const CHECKPOINT: &str = "checkpoint.safetensors";
    let workplace = Workplace::new();
    let (file, plan) = small(&workplace);
    let store = finish_runs(&workplace.store(), &plan, [0, 1]);
    let directory = |at: usize| store.run(&plan.runs[at].run.id);

    // A run that is done has a checkpoint that was not deleted, another attempt's network, drafts, and a damaged file.
    let done = directory(0);
    fs::write(done.attempt_path(1).join(CHECKPOINT), vec![0; 1000]).unwrap();
    Attempt::claim(&done, 3).unwrap().end(&End::Interrupted).unwrap();
    fs::write(done.attempt_path(2).join("network.safetensors"), b"x").unwrap();
    write_old(&done.path.join(".abc.draft"));
    write_old(&done.attempt_path(2).join(".def.draft"));
    write_old(&done.path.join("attempts/.now.node7.12"));
    fs::write(done.path.join(".new.draft"), b"being written").unwrap();
    age(&done.path.join(".new.draft"), Duration::from_secs(1800));
    fs::write(done.path.join("result.json.damaged-1"), b"x").unwrap();
    fs::write(done.path.join("notes.damaged-by-me"), b"not ours").unwrap();

    // Another was interrupted three times. Its last checkpoint is torn, so it resumes from the one before.
    let idle = directory(2);
    let checkpoints: Vec<PathBuf> = (1..=3).map(|attempt| idle.attempt_path(attempt).join(CHECKPOINT)).collect();
    for attempt in 1..=3u8 {
        let claimed = claim(&store, &plan.runs[2].run, "idle");
        claimed.save_checkpoint(&tensors(attempt)).unwrap();
        claimed.end(&End::Interrupted).unwrap();
        fs::rename(&checkpoints[attempt as usize - 1], workplace.path(&attempt.to_string())).unwrap();
    }
    (1..=2).for_each(|attempt| drop(fs::rename(workplace.path(&attempt.to_string()), &checkpoints[attempt - 1])));
    fs::write(&checkpoints[2], b"torn").unwrap();

    // A third is running, and has resumed from the checkpoint of the attempt before.
    let running = directory(3);
    let begun = claim(&store, &plan.runs[3].run, "running");
    begun.save_checkpoint(&tensors(1)).unwrap();
    begun.end(&End::Interrupted).unwrap();
    let mut resumed = claim(&store, &plan.runs[3].run, "running");
    write_old(&resumed.directory().join(".ghi.draft"));
    write_old(&running.path.join(".jkl.draft"));

    let (done_id, idle_id) = (done.id.as_str(), idle.id.as_str());
    let mut expected = vec![
        format!("{done_id}/.abc.draft"),
        format!("{done_id}/attempts/.now.node7.12"),
        format!("{done_id}/attempts/1/{CHECKPOINT}"),
        format!("{done_id}/attempts/2/.def.draft"),
        format!("{done_id}/attempts/2/network.safetensors"),
        format!("{done_id}/result.json.damaged-1"),
        format!("{idle_id}/attempts/1/{CHECKPOINT}"),
    ];
    expected.sort();
    let before = content(&workplace.store());
    assert_eq!(cleaned(&workplace, &[], Some(&file)), expected);
    assert_eq!(cleaned(&workplace, &["--dry-run"], Some(&file)), expected);
    assert_eq!(cleaned(&workplace, &["--all"], None), expected);
    let text = stdout(&clean(&workplace, &[], Some(&file)));
    for part in ["checkpoints", "unfinished files", "damaged files", "total", "nothing was deleted; add --yes"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(content(&workplace.store()), before, "nothing must be deleted without --yes");

    assert_eq!(cleaned(&workplace, &["--yes"], Some(&file)), expected);
    let after = content(&workplace.store());
    let deleted: Vec<&PathBuf> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    assert_eq!(deleted.len(), expected.len(), "{deleted:#?}");
    assert!(cleaned(&workplace, &[], Some(&file)).is_empty());
    assert!(stdout(&clean(&workplace, &["--yes"], Some(&file))).contains("nothing to delete"));

    assert!([0, 1].iter().all(|&at| read_verified(&directory(at)).is_some()));
    let mut next = Attempt::claim(&idle, 3).unwrap();
    assert_eq!(next.load_checkpoint().unwrap(), Some(tensors(2)));
    assert_eq!(resumed.load_checkpoint().unwrap(), Some(tensors(1)));
}

/// Returns the sorted paths of the networks of these runs, relative to the store.
fn network_paths(plan: &Plan, places: &[usize]) -> Vec<String> {
    let paths = places.iter().map(|&at| format!("{}/attempts/1/network.safetensors", plan.runs[at].run.id));
    let mut paths: Vec<String> = paths.collect();
    paths.sort();
    paths
}

#[test]
fn clean_keeps_networks_that_pending_runs_need() {
    let workplace = Workplace::new();
    let (file, plan) = small(&workplace);
    // The transfer of seed 3, the path between both transfers, and the path of the ticket are pending.
    let store = finish_runs(&workplace.store(), &plan, 0..4);
    let network = |at: usize| store.run(&plan.runs[at].run.id).attempt_path(1).join("network.safetensors");
    let networks = |places: &[usize]| network_paths(&plan, places);
    let report = || stdout(&succeed(workplace.winsign("report", &file).arg("--json")));
    let status = || stdout(&succeed(&mut workplace.winsign("status", &file)));
    let (report_before, status_before) = (report(), status());
    // Pending runs need the networks of level 2 and of the transfer, but not those of levels 0 and 1.
    assert_eq!(cleaned(&workplace, &["--networks"], Some(&file)), networks(&[0, 1]));
    assert!(network(0).exists());
    assert_eq!(cleaned(&workplace, &["--networks", "--yes"], Some(&file)), networks(&[0, 1]));
    assert_eq!([0, 1, 2, 3].map(|at| network(at).exists()), [false, false, true, true]);
    assert_eq!((report(), status()), (report_before, status_before), "runs must still be done");
    assert!(cleaned(&workplace, &["--networks"], Some(&file)).is_empty());

    // One sweep does not need the transfer any more, but the other does: it is kept if both are named.
    let one = workplace.sweep("one.yaml", &SMALL.replace("2..3", "2").replace(SEED_PAIRS, ""));
    let mut both = winsign(&["clean", "--networks", "--json", "--store"]);
    let summary = json(&succeed(both.arg(workplace.store()).args([&one, &file])));
    assert_eq!(summary["files"], Value::Array(vec![]));
    assert_eq!(cleaned(&workplace, &["--networks"], Some(&one)), networks(&[3]));
    assert!(stdout(&clean(&workplace, &["--networks"], Some(&one))).contains("not named"));

    // A running run may need any of its inputs.
    let running = claim(&store, &plan.runs[4].run, "running");
    let refused =
        winsign(&["clean", "--networks", "--yes", "--store"]).arg(workplace.store()).arg(&file).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("active"), "{}", stderr(&refused));
    assert!(network(2).exists());
    // After all runs are done, no network is needed.
    commit(&running, &plan.runs[4].run, 4.125, 4);
    running.end(&End::Finished).unwrap();
    for at in [5, 6] {
        finish(&store, &plan.runs[at].run, "path", 1.0, 0);
    }
    let report_before = report();
    assert_eq!(cleaned(&workplace, &["--networks", "--yes"], Some(&file)), networks(&[2, 3, 4]));
    assert_eq!(report(), report_before);
    assert!(status().contains("7 runs (3 tickets, 2 transfers, 2 connects): 7 done"), "{}", status());
    assert!(content(&workplace.store()).keys().all(|path| !path.to_string_lossy().contains("safetensors")));

    let id = plan.runs[2].run.id.as_str();
    let export = winsign(&["export", id, "out.safetensors", "--store"]).arg(workplace.store()).output().unwrap();
    assert_eq!(export.status.code(), Some(2));
    assert!(stderr(&export).contains("`winsign clean` deleted its network"), "{}", stderr(&export));

    // A transfer that is added later needs the ticket, which needs the levels before it.
    let later = workplace.sweep("later.yaml", &SMALL.replace("2..3", "2..4"));
    let states: Vec<(Value, Value)> =
        workplace.plan(&later).iter().map(|run| (run["kind"].clone(), run["state"].clone())).collect();
    let pending = states.iter().filter(|(kind, state)| kind == "ticket" && state == "pending").count();
    assert_eq!(pending, 3, "{states:?}");
    // The two transfers at the ends of the new paths, the new transfer, and its two paths are pending.
    let count = |kind: &str, wanted: &str| states.iter().filter(|state| state.0 == kind && state.1 == wanted).count();
    assert_eq!((count("transfer", "pending"), count("connect", "pending"), count("connect", "done")), (3, 2, 2));
    let text = stdout(&succeed(&mut workplace.winsign("plan", &later)));
    let reason = "aws level 2, seed 1 will be computed again: its network was deleted by `winsign clean`";
    assert!(text.contains(reason), "{text}");
}

/// A merge copies the results of runs whose networks `winsign clean` has deleted.
#[test]
fn cleaned_runs_are_done_in_a_merged_store() {
    let workplace = Workplace::new();
    let (file, plan) = small(&workplace);
    finish_runs(&workplace.store(), &plan, 0..7);
    clean(&workplace, &["--networks", "--yes"], Some(&file));
    let into = workplace.path("joined");
    let target = Store::create(&into).unwrap();
    // This attempt makes the merged one the second.
    claim(&target, &plan.runs[0].run, "begun").end(&End::Interrupted).unwrap();
    assert_eq!(count(&run_json(0, &mut merge(&[&workplace.store()], &into)), "adopted"), 7);
    for planned in &plan.runs {
        assert!(matches!(target.run(&planned.run.id).state().unwrap(), State::Done(_)), "{}", planned.label);
    }
}

#[cfg(feature = "worker")]
#[test]
fn cleaned_ticket_is_computed_again_with_the_same_digest() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    workplace.run_all(&sweep);
    let before = workplace.outcomes(&sweep);
    clean(&workplace, &["--networks", "--yes"], Some(&sweep));
    assert_eq!(workplace.run_all(&sweep), 0, "no run needs the deleted networks");

    let later = workplace
        .sweep("later.yaml", &SMALL.replace("2..3", "[2, 3]").replace("inherit: sign", "inherit: [sign, mask]"));
    // These are the levels of the ticket, and two transfers of the mask with their path.
    assert_eq!(workplace.run_all(&later), 6);
    assert_eq!(workplace.outcomes(&sweep), before);
    assert_eq!(workplace.run_all(&later), 0);

    // A worker that needs a deleted network makes its run pending again.
    let more = workplace.sweep("more.yaml", &SMALL.replace("2..3", "2..4"));
    clean(&workplace, &["--networks", "--yes"], Some(&sweep));
    let plan = plan(&more);
    let transfer = plan.runs.iter().find(|planned| planned.label.to_string() == "aws level 2, sign, seed 4").unwrap();
    let store = Store::open(&workplace.store()).unwrap();
    let directory = store.run(&transfer.run.id);
    directory.prepare(&transfer.run, "aws level 2, sign, seed 4").unwrap();
    let worker =
        Command::new(env!("CARGO_BIN_EXE_winsign-worker")).arg("--alone").arg(&directory.path).output().unwrap();
    assert_eq!(worker.status.code(), Some(65), "{}", stderr(&worker));
    assert!(stderr(&worker).contains("deleted by `winsign clean`"), "{}", stderr(&worker));
    assert!(matches!(store.run(&transfer.run.inputs[0]).state().unwrap(), State::Idle { .. }));
    // These are the levels of the ticket, the transfers at the other ends of the new paths, the new transfer, and its two paths.
    assert_eq!(workplace.run_all(&more), 8);
    assert_eq!(workplace.outcomes(&sweep), before);
}

#[test]
fn retired_network_can_be_restored() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let run = finish_runs(&workplace.store(), &plan, [0]).run(&plan.runs[0].run.id);
    let original = read_verified(&run);
    let network = run.result().unwrap().unwrap().network.unwrap();
    let before = content(&run.path);
    let retired = retire(&run, &network).unwrap().unwrap();
    assert!(cleaned_at(&run, &network).unwrap().is_some());
    assert!(matches!(run.state().unwrap(), State::Done(_)), "the run must still be done");
    assert!(run.read_network(&network).unwrap_err().to_string().contains("deleted by `winsign clean`"));
    assert!(retire(&run, &network).unwrap().is_none(), "a network is retired once");
    retired.restore().unwrap();
    assert_eq!((read_verified(&run), content(&run.path)), (original, before));

    // With a torn marker, a missing network is damage.
    let retired = retire(&run, &network).unwrap().unwrap();
    retired.delete().unwrap();
    fs::write(run.path.join("cleaned.json"), "{").unwrap();
    assert!(matches!(run.state(), Err(winsign_core::Error::Damaged { .. })));
}

fn logs(workplace: &Workplace, run: &Run, arguments: &[&str]) -> Command {
    let mut logs = winsign(&["logs", &run.id.as_str()[..9], "--store"]);
    logs.arg(workplace.store()).args(arguments);
    logs
}

#[test]
fn logs_of_all_attempts_are_printed() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let store = Store::create(&workplace.store()).unwrap();
    let run = &plan.runs[0].run;
    store.run(&run.id).prepare(run, "label").unwrap();
    assert!(stderr(&succeed(&mut logs(&workplace, run, &[]))).contains("no attempt"));
    for text in ["one\ntwo\n", "three\nfour\n"] {
        let attempt = claim(&store, run, "label");
        fs::write(attempt.directory().join(LOG), text).unwrap();
        attempt.end(&End::Interrupted).unwrap();
    }
    let print = |arguments: &[&str]| stdout(&succeed(&mut logs(&workplace, run, arguments)));
    assert_eq!(print(&[]), "three\nfour\n");
    assert_eq!(print(&["-n", "1"]), "four\n");
    assert_eq!(print(&["--attempt", "1"]), "one\ntwo\n");
    assert_eq!(print(&["--all", "-n", "1"]), "── attempt 1 ──\ntwo\n── attempt 2 ──\nfour\n");
    let summary: Value = serde_json::from_str(&print(&["--all", "--json"])).unwrap();
    assert_eq!(summary["attempts"][1], serde_json::json!({ "attempt": 2, "log": ["three", "four"] }));
    let none = logs(&workplace, run, &["--attempt", "7"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("choose one of 2, from 1 to 2"), "{}", stderr(&none));
}

#[test]
fn followed_log_continues_with_the_next_attempt_until_done() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let store = Store::create(&workplace.store()).unwrap();
    let run = &plan.runs[0].run;
    let append = |attempt: &Attempt, text: &str| {
        use std::io::Write;
        let mut log = File::options().create(true).append(true).open(attempt.directory().join(LOG)).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    };
    let first = claim(&store, run, "label");
    append(&first, "old\nhello\nhalf a ");
    let printed = workplace.path("printed");
    let mut follow = logs(&workplace, run, &["-f", "-n", "1"]);
    let follower = follow.stdout(File::create(&printed).unwrap()).stderr(Stdio::piped()).spawn().unwrap();
    let shows = |text: &str| wait_for(text, || fs::read_to_string(&printed).unwrap().contains(text).then_some(()));
    shows("hello");
    append(&first, "line\n");
    shows("half a line");
    append(&first, "last words");
    first.end(&End::Interrupted).unwrap();
    let second = claim(&store, run, "label");
    append(&second, "goes on\n");
    shows("goes on");
    let processors = Processors { ranks: 1, threads: 1 };
    assert!(second.commit(outcome(run, 1.0), Some(&tensors(1)), processors, None).unwrap());
    // Like a worker, append more lines after the commit.
    append(&second, "committed\n");
    second.end(&End::Finished).unwrap();
    let output = follower.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(stderr(&output).contains("is done"), "{}", stderr(&output));
    let expected = "hello\nhalf a line\nlast words\n── attempt 2 ──\ngoes on\ncommitted\n";
    assert_eq!(fs::read_to_string(&printed).unwrap(), expected);
}

#[test]
fn following_a_failed_run_ends_with_its_message() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let store = Store::create(&workplace.store()).unwrap();
    let run = &plan.runs[0].run;
    let attempt = claim(&store, run, "label");
    let follower = start(&mut logs(&workplace, run, &["--follow"]));
    fs::write(attempt.directory().join(LOG), "the loss is NaN\n").unwrap();
    attempt.end(&End::Failed { message: "diverged".into() }).unwrap();
    let output = follower.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(stdout(&output), "the loss is NaN\n");
    assert!(stderr(&output).contains("has failed: diverged"), "{}", stderr(&output));
}

/// The follower must end even if nothing is appended to the log.
#[test]
fn follower_ends_when_its_reader_exits() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let store = Store::create(&workplace.store()).unwrap();
    let attempt = claim(&store, &plan.runs[0].run, "label");
    fs::write(attempt.directory().join(LOG), "one\ntwo\n").unwrap();
    let script = "\"$1\" logs \"$2\" -f --store \"$3\" | head -n 1; exit \"${PIPESTATUS[0]}\"";
    let mut piped = Command::new("bash");
    piped.args(["-c", script, "bash", env!("CARGO_BIN_EXE_winsign"), plan.runs[0].run.id.as_str()]);
    let output = succeed(piped.arg(workplace.store()));
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("one\n", ""));
}
