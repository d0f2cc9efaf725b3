//! Stores that grow old: joined, cleaned, and read while they are written.

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

/// What makes paths between transfers in [`SMALL`].
const SEED_PAIRS: &str = "  - {between: seeds, points: 3}\n";

/// A chain of three tickets, two transfers, their path, a path of the ticket.
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

/// What a run gave, made up.
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
        Settings::Matrix(_) | Settings::Plane(_) => unreachable!("no sweep here has any"),
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

/// Finishes the runs of a plan at some places in it.
fn finish_some(path: &Path, plan: &Plan, places: impl IntoIterator<Item = usize>) -> Store {
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

/// Ends with this exit code, and JSON.
fn ends_with(code: i32, command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {}\n{}", stdout(&output), stderr(&output));
    json(&output)
}

fn count(told: &Value, what: &str) -> u64 {
    told["runs"][what].as_u64().unwrap_or_else(|| panic!("{what}: {told:#}"))
}

/// Everything in a folder, with its content.
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

/// The numbers and the network of a run, read and compared with their checksums.
fn verified(run: &RunDirectory) -> Option<(Outcome, Option<TensorFile>)> {
    let result = run.result().unwrap()?;
    run.read_metrics(result.metrics.as_ref().unwrap()).unwrap();
    let network = result.network.as_ref().map(|network| run.read_network(network).unwrap());
    Some((result.outcome, network))
}

/// Makes a file look as if nobody had touched it since it was written.
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
fn two_stores_become_one() {
    let workplace = Workplace::new();
    let (file, plan) = small(&workplace);
    let (north, south) = (workplace.path("north"), workplace.path("south store"));
    let sources = [finish_some(&north, &plan, 0..4), finish_some(&south, &plan, [0, 1, 2, 4])];
    // It has failed here: not done, and so left alone.
    claim(&sources[1], &plan.runs[5].run, "path").end(&End::Failed { message: "no".into() }).unwrap();
    let before = [content(&north), content(&south)];

    let dry = ends_with(0, merge(&[&north, &south], &workplace.store()).arg("--dry-run"));
    assert!(!workplace.store().exists(), "a dry run writes nothing");
    let told = ends_with(0, &mut merge(&[&north, &south], &workplace.store()));
    for told in [&dry, &told] {
        let counts = ["adopted", "same", "conflicts", "damaged", "alive", "not_done"].map(|what| count(told, what));
        assert_eq!(counts, [5, 3, 0, 0, 0, 1], "{told:#}");
    }
    assert_eq!([content(&north), content(&south)], before, "the sources are only read");

    let target = Store::open(&workplace.store()).unwrap();
    for (at, planned) in plan.runs.iter().enumerate().take(5) {
        let id = &planned.run.id;
        let source = &sources[usize::from(at == 4)];
        assert_eq!(verified(&target.run(id)), verified(&source.run(id)), "{}", planned.label);
        let log = |store: &Store| store.run(id).log_of(1, 9);
        assert_eq!(log(&target), log(source));
        let result = |store: &Store| read_json(&store.run(id).result_path());
        // The first attempt in both: so even the paths are equal.
        assert_eq!(result(&target), result(source));
        assert_eq!(target.run(id).settings().unwrap(), source.run(id).settings().unwrap());
    }
    let status = json(&succeed(workplace.winsign("status", &file).arg("--json")));
    assert_eq!((&status["runs"]["done"], &status["runs"]["pending"]), (&5.into(), &2.into()));

    let before = content(&workplace.store());
    let again = ends_with(0, &mut merge(&[&south, &north], &workplace.store()));
    assert_eq!((count(&again, "adopted"), count(&again, "same")), (0, 8));
    assert_eq!(content(&workplace.store()), before, "nothing is left to do");
}

#[test]
fn a_run_that_was_begun_here_is_finished_by_what_was_computed_elsewhere() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let north = workplace.path("north");
    finish_some(&north, &plan, 0..2);
    let target = Store::create(&workplace.store()).unwrap();
    let [begun, failed] = [0, 1].map(|at: usize| &plan.runs[at].run);
    let attempt = claim(&target, begun, "begun");
    attempt.save_checkpoint(&tensors(9)).unwrap();
    attempt.end(&End::Interrupted).unwrap();
    claim(&target, failed, "failed").end(&End::Failed { message: "out of luck".into() }).unwrap();

    let told = ends_with(0, &mut merge(&[&north], &workplace.store()));
    assert_eq!(count(&told, "adopted"), 2);
    for run in [begun, failed] {
        let directory = target.run(&run.id);
        let result = directory.result().unwrap().unwrap();
        assert_eq!((result.attempt, directory.attempts().unwrap()), (2, vec![1, 2]));
        assert!(result.network.as_ref().unwrap().path.starts_with("attempts/2/"));
        assert!(verified(&directory).is_some());
        assert!(!directory.attempt_path(1).join("checkpoint.safetensors").exists(), "it has served its time");
        // All that differs is where it lies.
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
fn conflicts_are_listed_and_nothing_is_overwritten() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let (north, south, into) = (workplace.path("north"), workplace.path("south"), workplace.store());
    finish_some(&north, &plan, [0, 3]);
    let other = finish_some(&south, &plan, [4]);
    let [ticket, transfer] = [0, 3].map(|at: usize| &plan.runs[at]);
    // Another number, and the same number from another network.
    finish(&other, &ticket.run, &ticket.label.to_string(), 0.0625, 0);
    finish(&other, &transfer.run, &transfer.label.to_string(), 3.125, 77);

    let dry = ends_with(3, merge(&[&north, &south], &into).arg("--dry-run"));
    let told = ends_with(3, &mut merge(&[&north, &south], &into));
    for told in [&dry, &told] {
        assert_eq!((count(told, "adopted"), count(told, "conflicts")), (3, 2), "{told:#}");
    }
    let before = content(&into);
    // Now the target has what the north had.
    let output = winsign(&["merge"]).arg(&south).arg("--into").arg(&into).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = stdout(&output);
    let (id, label) = (ticket.run.id.to_string(), ticket.label.to_string());
    for part in [&id, &label, "0.125 %", "0.0625 %", south.to_str().unwrap(), into.to_str().unwrap()] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains(&tensors(77).digest()[..8]), "the networks are told apart: {text}");
    assert_eq!(content(&into), before);
    let kept = verified(&Store::open(&into).unwrap().run(&ticket.run.id)).unwrap();
    assert_eq!(kept, (outcome(&ticket.run, 0.125), Some(tensors(0))), "the first store's result stays");
}

#[test]
fn damage_in_a_store_is_named_and_does_not_spread() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let (north, into) = (workplace.path("north"), workplace.store());
    let store = finish_some(&north, &plan, 0..5);
    let directory = |at: usize| store.run(&plan.runs[at].run.id);
    // A bit of a network that no look at times would notice, metrics that are gone, a torn result, foreign settings.
    damage(&directory(0).attempt_path(1).join("network.safetensors"));
    fs::remove_file(directory(1).attempt_path(1).join("metrics.jsonl")).unwrap();
    fs::write(directory(2).result_path(), "{").unwrap();
    fs::copy(directory(4).path.join("run.json"), directory(3).path.join("run.json")).unwrap();

    let told = ends_with(3, &mut merge(&[&north], &into));
    assert_eq!((count(&told, "adopted"), count(&told, "damaged")), (1, 4), "{told:#}");
    let named: Vec<&str> =
        told["damaged"].as_array().unwrap().iter().map(|told| told["id"].as_str().unwrap()).collect();
    let mut expected: Vec<&str> = (0..4).map(|at| plan.runs[at].run.id.as_str()).collect();
    expected.sort();
    assert_eq!(named, expected);
    let target = Store::open(&into).unwrap();
    assert!((0..4).all(|at| target.run(&plan.runs[at].run.id).result().unwrap().is_none()));
    assert!(verified(&target.run(&plan.runs[4].run.id)).is_some());

    // Another store has them whole.
    let south = workplace.path("south");
    finish_some(&south, &plan, 0..4);
    let told = ends_with(3, &mut merge(&[&north, &south], &into));
    assert_eq!((count(&told, "adopted"), count(&told, "damaged")), (4, 4), "{told:#}");
    assert!((0..5).all(|at| verified(&target.run(&plan.runs[at].run.id)).is_some()));
}

#[test]
fn what_is_damaged_in_the_target_is_mended_from_the_source() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let north = workplace.path("north");
    finish_some(&north, &plan, [0]);
    let target = finish_some(&workplace.store(), &plan, [0]);
    let directory = target.run(&plan.runs[0].run.id);
    let network = directory.attempt_path(1).join("network.safetensors");
    fs::write(&network, b"torn").unwrap();
    let told = ends_with(0, &mut merge(&[&north], &workplace.store()));
    assert_eq!(count(&told, "adopted"), 1);
    assert_eq!(told["adopted"][0]["replaced"], network.to_str().unwrap());
    assert!(network.with_file_name("network.safetensors.damaged-1").exists());
    assert_eq!(verified(&directory).unwrap().1, Some(tensors(0)));
}

#[test]
fn a_run_that_is_alive_in_the_target_is_left_to_its_attempt() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let north = workplace.path("north");
    finish_some(&north, &plan, 0..2);
    let target = Store::create(&workplace.store()).unwrap();
    let alive = claim(&target, &plan.runs[0].run, "alive");
    let told = ends_with(0, &mut merge(&[&north], &workplace.store()));
    assert_eq!((count(&told, "adopted"), count(&told, "alive")), (1, 1));
    assert_eq!(told["alive"][0]["id"], plan.runs[0].run.id.as_str());
    assert_eq!(target.run(&plan.runs[0].run.id).attempts().unwrap(), [1]);
    commit(&alive, &plan.runs[0].run, 0.125, 0);
    alive.end(&End::Finished).unwrap();
    assert_eq!(count(&ends_with(0, &mut merge(&[&north], &workplace.store())), "same"), 2);
}

/// Killed again and again, wherever it happens to be; the end is that of an undisturbed one.
#[test]
fn a_merge_that_is_killed_goes_on() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("many.yaml", &SMALL.replace(SEED_PAIRS, "").replace("2..3", "2..60"));
    let plan = plan(&sweep);
    let total = plan.runs.len();
    let (north, into) = (workplace.path("north"), workplace.store());
    let store = finish_some(&north, &plan, 0..total);
    let target = Store::open(&into).unwrap();
    let adopted = || plan.runs.iter().filter(|planned| target.run(&planned.run.id).result_path().exists()).count();
    for round in 1..=5 {
        let mut merge = start(&mut merge(&[&north], &into));
        wait_for("some runs", || (adopted() >= (round * total / 8).min(total)).then_some(()));
        merge.kill().unwrap();
        merge.wait().unwrap();
        // Whatever is there is whole.
        for planned in &plan.runs {
            target.run(&planned.run.id).result().unwrap();
        }
    }
    let before = adopted();
    assert!(before < total, "it was done before it was disturbed");
    let told = ends_with(0, &mut merge(&[&north], &into));
    assert_eq!((count(&told, "adopted"), count(&told, "same")), ((total - before) as u64, before as u64), "{told:#}");
    for planned in &plan.runs {
        assert_eq!(verified(&target.run(&planned.run.id)), verified(&store.run(&planned.run.id)));
    }
    assert_eq!(count(&ends_with(0, &mut merge(&[&north], &into)), "same"), total as u64);
}

/// A disk that takes no more is one message, leaves nothing half done, and the same command goes on.
#[test]
fn a_full_disk_stops_a_merge_which_then_goes_on() {
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
    let said = stderr(&output);
    assert_eq!(said.matches("error: cannot write").count(), 1, "{said}");
    assert!(said.contains("attempts/1/log"), "{said}");
    let target = Store::open(&into).unwrap();
    assert!(plan.runs.iter().all(|planned| target.run(&planned.run.id).result().unwrap().is_none()));
    assert!(content(&into).keys().all(|path| path.extension().is_none_or(|end| end != "draft")), "no drafts are left");
    assert_eq!(count(&ends_with(0, &mut merge(&[&north], &into)), "adopted"), 3);
}

#[test]
fn stores_that_cannot_be_joined_are_refused_before_anything_is_written() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let north = workplace.path("north");
    finish_some(&north, &plan, [0]);
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
    for (from, into, said) in cases {
        let output = merge(from, into).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}: {}", stderr(&output));
        assert!(stderr(&output).contains(said) && stderr(&output).contains("help:"), "{said}: {}", stderr(&output));
        assert_eq!(workplace.listing(), before, "{said}");
    }
}

#[test]
fn an_imported_ticket_brings_the_network_it_was_made_from() {
    let workplace = Workplace::new();
    let (north, into) = (workplace.path("north"), workplace.store());
    let problem = Problem::new(Dataset::Digits, Architecture::ResNet8);
    let found = tensors(42);
    let run = Run::new(Settings::Import(Import { problem, digest: found.digest().parse().unwrap() }), vec![]);
    let store = Store::create(&north).unwrap();
    finish(&store, &run, "imported", 1.0, 7);
    found.write(&store.run(&run.id).imported_path()).unwrap();
    ends_with(0, &mut merge(&[&north], &into));
    let target = Store::open(&into).unwrap().run(&run.id);
    assert_eq!(TensorFile::read(&target.imported_path()).unwrap(), Some(found));
    assert_eq!(verified(&target), verified(&store.run(&run.id)));
}

fn clean(workplace: &Workplace, arguments: &[&str], sweep: Option<&Path>) -> Output {
    let mut clean = winsign(&["clean", "--store"]);
    clean.arg(workplace.store()).args(arguments).args(sweep);
    succeed(&mut clean)
}

/// The paths that `winsign clean --json` named, within the store.
fn cleaned(workplace: &Workplace, arguments: &[&str], sweep: Option<&Path>) -> Vec<String> {
    let told = json(&clean(workplace, &[arguments, &["--json"]].concat(), sweep));
    let runs = workplace.store().join("runs");
    let within = |path: &str| Path::new(path).strip_prefix(&runs).unwrap().to_str().unwrap()[3..].to_string();
    let mut paths: Vec<String> =
        told["files"].as_array().unwrap().iter().map(|file| within(file["path"].as_str().unwrap())).collect();
    paths.sort();
    paths
}

#[test]
fn cleaning_shows_first_and_leaves_alone_what_a_run_goes_on_from() {
    const CHECKPOINT: &str = "checkpoint.safetensors";
    let workplace = Workplace::new();
    let (file, plan) = small(&workplace);
    let store = finish_some(&workplace.store(), &plan, [0, 1]);
    let directory = |at: usize| store.run(&plan.runs[at].run.id);
    let (hour, old) = (Duration::from_secs(3600), |path: &Path| {
        fs::write(path, b"12345678").unwrap();
        age(path, Duration::from_secs(7200));
    });

    // Done: a checkpoint that was not removed, another attempt's network, drafts, a damaged file.
    let done = directory(0);
    fs::write(done.attempt_path(1).join(CHECKPOINT), vec![0; 1000]).unwrap();
    Attempt::claim(&done, 3).unwrap().end(&End::Interrupted).unwrap();
    fs::write(done.attempt_path(2).join("network.safetensors"), b"x").unwrap();
    old(&done.path.join(".abc.draft"));
    old(&done.attempt_path(2).join(".def.draft"));
    old(&done.path.join("attempts/.now.node7.12"));
    fs::write(done.path.join(".new.draft"), b"being written").unwrap();
    age(&done.path.join(".new.draft"), hour / 2);
    fs::write(done.path.join("result.json.damaged-1"), b"x").unwrap();
    fs::write(done.path.join("notes.damaged-by-me"), b"not ours").unwrap();

    // Interrupted three times: the last checkpoint is torn, so the one before is gone on from.
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

    // Alive, and going on from the checkpoint of the attempt before.
    let alive = directory(3);
    let begun = claim(&store, &plan.runs[3].run, "alive");
    begun.save_checkpoint(&tensors(1)).unwrap();
    begun.end(&End::Interrupted).unwrap();
    let living = claim(&store, &plan.runs[3].run, "alive");
    old(&living.directory().join(".ghi.draft"));
    old(&alive.path.join(".jkl.draft"));

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
    assert_eq!(content(&workplace.store()), before, "nothing is deleted without --yes");

    assert_eq!(cleaned(&workplace, &["--yes"], Some(&file)), expected);
    let after = content(&workplace.store());
    let gone: Vec<&PathBuf> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    assert_eq!(gone.len(), expected.len(), "{gone:#?}");
    assert!(cleaned(&workplace, &[], Some(&file)).is_empty());
    assert!(stdout(&clean(&workplace, &["--yes"], Some(&file))).contains("nothing to delete"));

    assert!([0, 1].iter().all(|&at| verified(&directory(at)).is_some()));
    let mut next = Attempt::claim(&idle, 3).unwrap();
    assert_eq!(next.load_checkpoint().unwrap(), Some(tensors(2)));
    let mut living = living;
    assert_eq!(living.load_checkpoint().unwrap(), Some(tensors(1)));
}

#[test]
fn a_network_that_a_pending_run_needs_is_never_deleted() {
    let workplace = Workplace::new();
    let (file, plan) = small(&workplace);
    // Pending: the transfer of seed 3, the path between both, the path of the ticket.
    let store = finish_some(&workplace.store(), &plan, 0..4);
    let network = |at: usize| store.run(&plan.runs[at].run.id).attempt_path(1).join("network.safetensors");
    let networks = |places: &[usize]| {
        let ids = places.iter().map(|&at| format!("{}/attempts/1/network.safetensors", plan.runs[at].run.id));
        let mut paths: Vec<String> = ids.collect();
        paths.sort();
        paths
    };
    let report = || stdout(&succeed(workplace.winsign("report", &file).arg("--json")));
    let status = || stdout(&succeed(&mut workplace.winsign("status", &file)));
    let (report_before, status_before) = (report(), status());
    // Levels 0 and 1 have served; level 2 and the transfer have not.
    assert_eq!(cleaned(&workplace, &["--networks"], Some(&file)), networks(&[0, 1]));
    assert!(network(0).exists());
    assert_eq!(cleaned(&workplace, &["--networks", "--yes"], Some(&file)), networks(&[0, 1]));
    assert_eq!([0, 1, 2, 3].map(|at| network(at).exists()), [false, false, true, true]);
    assert_eq!((report(), status()), (report_before, status_before), "what is done stays done");
    assert!(cleaned(&workplace, &["--networks"], Some(&file)).is_empty());

    // The other sweep needs the transfer no longer, this one does: both are asked.
    let one = workplace.sweep("one.yaml", &SMALL.replace("2..3", "2").replace(SEED_PAIRS, ""));
    let mut both = winsign(&["clean", "--networks", "--json", "--store"]);
    let told = json(&succeed(both.arg(workplace.store()).args([&one, &file])));
    assert_eq!(told["files"], Value::Array(vec![]));
    assert_eq!(cleaned(&workplace, &["--networks"], Some(&one)), networks(&[3]));
    assert!(stdout(&clean(&workplace, &["--networks"], Some(&one))).contains("not named"));

    // Everything is done: nothing is needed any more. A run that is alive may yet need something.
    let living = claim(&store, &plan.runs[4].run, "alive");
    let refused =
        winsign(&["clean", "--networks", "--yes", "--store"]).arg(workplace.store()).arg(&file).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("active"), "{}", stderr(&refused));
    assert!(network(2).exists());
    commit(&living, &plan.runs[4].run, 4.125, 4);
    living.end(&End::Finished).unwrap();
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

    // A transfer that was added later needs the ticket, which needs the levels before it.
    let later = workplace.sweep("later.yaml", &SMALL.replace("2..3", "2..4"));
    let states: Vec<(Value, Value)> =
        workplace.plan(&later).iter().map(|run| (run["kind"].clone(), run["state"].clone())).collect();
    let pending = states.iter().filter(|(kind, state)| kind == "ticket" && state == "pending").count();
    assert_eq!(pending, 3, "{states:?}");
    // Two transfers that the new paths begin at, the new transfer, its two paths.
    let of = |kind: &str, wanted: &str| states.iter().filter(|state| state.0 == kind && state.1 == wanted).count();
    assert_eq!((of("transfer", "pending"), of("connect", "pending"), of("connect", "done")), (3, 2, 2));
    let text = stdout(&succeed(&mut workplace.winsign("plan", &later)));
    let why = "aws level 2, seed 1 will be computed again: its network was deleted by `winsign clean`";
    assert!(text.contains(why), "{text}");
}

/// A store that was cleaned is merged as it is: results count, networks are missing on purpose.
#[test]
fn what_was_cleaned_is_done_in_a_joined_store_as_well() {
    let workplace = Workplace::new();
    let (file, plan) = small(&workplace);
    finish_some(&workplace.store(), &plan, 0..7);
    clean(&workplace, &["--networks", "--yes"], Some(&file));
    let into = workplace.path("joined");
    let target = Store::create(&into).unwrap();
    // So that its attempt has another number there.
    claim(&target, &plan.runs[0].run, "begun").end(&End::Interrupted).unwrap();
    assert_eq!(count(&ends_with(0, &mut merge(&[&workplace.store()], &into)), "adopted"), 7);
    for planned in &plan.runs {
        assert!(matches!(target.run(&planned.run.id).state().unwrap(), State::Done(_)), "{}", planned.label);
    }
}

#[cfg(feature = "worker")]
#[test]
fn a_cleaned_ticket_that_is_needed_again_is_computed_to_the_same_digest() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    workplace.run_all(&sweep);
    let before = workplace.outcomes(&sweep);
    clean(&workplace, &["--networks", "--yes"], Some(&sweep));
    assert_eq!(workplace.run_all(&sweep), 0, "nothing needs what was deleted");

    let later = workplace
        .sweep("later.yaml", &SMALL.replace("2..3", "[2, 3]").replace("inherit: sign", "inherit: [sign, mask]"));
    // The chain again, and two transfers of the mask with their path.
    assert_eq!(workplace.run_all(&later), 6);
    assert_eq!(workplace.outcomes(&sweep), before);
    assert_eq!(workplace.run_all(&later), 0);

    // Should nobody have seen it coming, the worker that misses a network has it computed again.
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
    // The chain, the transfers at the other ends of the new paths, the new transfer, its two paths.
    assert_eq!(workplace.run_all(&more), 8);
    assert_eq!(workplace.outcomes(&sweep), before);
}

#[test]
fn a_network_on_its_way_out_can_be_put_back() {
    let workplace = Workplace::new();
    let (_, plan) = small(&workplace);
    let run = finish_some(&workplace.store(), &plan, [0]).run(&plan.runs[0].run.id);
    let whole = verified(&run);
    let network = run.result().unwrap().unwrap().network.unwrap();
    let before = content(&run.path);
    let retired = retire(&run, &network).unwrap().unwrap();
    assert!(cleaned_at(&run, &network).unwrap().is_some());
    assert!(matches!(run.state().unwrap(), State::Done(_)), "its numbers count");
    assert!(run.read_network(&network).unwrap_err().to_string().contains("deleted by `winsign clean`"));
    assert!(retire(&run, &network).unwrap().is_none(), "once is enough");
    retired.restore().unwrap();
    assert_eq!((verified(&run), content(&run.path)), (whole, before));

    // A marker excuses no other network than its own, and no network that is missing by accident.
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
fn the_logs_of_all_attempts_can_be_read() {
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
    let told: Value = serde_json::from_str(&print(&["--all", "--json"])).unwrap();
    assert_eq!(told["attempts"][1], serde_json::json!({ "attempt": 2, "log": ["three", "four"] }));
    let none = logs(&workplace, run, &["--attempt", "7"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("choose one of 2, from 1 to 2"), "{}", stderr(&none));
}

#[test]
fn a_log_is_followed_from_one_attempt_to_the_next_until_the_run_is_done() {
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
    // As the worker does, after the commit.
    append(&second, "committed\n");
    second.end(&End::Finished).unwrap();
    let output = follower.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(stderr(&output).contains("is done"), "{}", stderr(&output));
    let expected = "hello\nhalf a line\nlast words\n── attempt 2 ──\ngoes on\ncommitted\n";
    assert_eq!(fs::read_to_string(&printed).unwrap(), expected);
}

#[test]
fn following_a_run_that_fails_ends_with_its_message() {
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

/// Even while the log is silent.
#[test]
fn a_follower_ends_when_its_reader_does() {
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
