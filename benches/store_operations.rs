//! Counts the operations of a store's file system. Only for root, on a machine with /dev/fuse.
//!
//! ```text
//! cargo bench --bench store_operations
//! ```
//!
//! The store is on the file system of `tests/shared_store/`, which remembers names and attributes for 3 seconds, as a client of NFS
//! does at least; only operations that reach the server count.
//!
//! - **executing**: `winsign run` of a ticket of 1 epoch and of 11 epochs, each with its worker.
//! - **waiting**: `winsign run` for a minute, while another machine executes all ready runs. That machine is this program, which
//!   claims the runs and sends heartbeats.
//!
//! Prints a table, and writes no file.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use winsign_core::Store;
use winsign_core::attempt::Attempt;
use winsign_sweep::plan::build::build;
use winsign_testkit::Workplace;
use winsign_testkit::faulty_fs::FaultyFs;

/// The seconds for which the client remembers names and attributes.
const CACHE: i64 = 3;
/// The time before the minute that is counted.
const START: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

type Operations = BTreeMap<String, u64>;

fn main() {
    let workplace = Workplace::new();
    let mut columns = vec![];
    for epochs in [1, 11] {
        let Some(operations) = count_run(&workplace, epochs) else { return };
        columns.push((format!("run, {epochs} epochs"), operations));
    }
    for runs in [1, 10, 100] {
        let Some(operations) = count_waiting(&workplace, runs) else { return };
        columns.push((format!("minute, {runs} runs"), operations));
    }
    print_table(&columns);
}

/// Counts the operations of `winsign run` for a single run.
fn count_run(workplace: &Workplace, epochs: u32) -> Option<Operations> {
    let name = format!("run-{epochs}");
    let sweep = workplace.sweep(&format!("{name}.yaml"), &study(epochs, 1));
    let mount = mount(workplace, &name)?;
    winsign_testkit::succeed(&mut run(&sweep, &mount));
    Some(mount.operations())
}

/// Counts the operations of a minute in which `winsign run` waits for runs on another machine.
fn count_waiting(workplace: &Workplace, runs: u32) -> Option<Operations> {
    let name = format!("waiting-{runs}");
    let text = study(1, runs);
    let sweep = workplace.sweep(&format!("{name}.yaml"), &text);
    let mount = mount(workplace, &name)?;
    let store = Store::create(&workplace.path(&format!("{name}-server"))).unwrap();
    let plan = build(&winsign_sweep::parse("study.yaml", &text).unwrap()).runs;
    let attempts = plan.iter().map(|planned| {
        let directory = store.run(&planned.run.id);
        directory.prepare(&planned.run, "").unwrap();
        Attempt::claim(&directory, 1).unwrap()
    });
    let attempts: Vec<Attempt> = attempts.collect();
    let mut waiting = run(&sweep, &mount).env("WINSIGN_MACHINE", "other").spawn().unwrap();
    std::thread::sleep(START);
    let before = mount.operations();
    std::thread::sleep(MINUTE);
    let after = mount.operations();
    assert_eq!(waiting.try_wait().unwrap(), None, "winsign must wait for the runs");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    drop(attempts);
    Some(after.into_iter().map(|(kind, count)| (kind.clone(), count - before[&kind])).collect())
}

/// Returns a sweep of runs that need no others.
fn study(epochs: u32, runs: u32) -> String {
    let ticket = format!("{{method: snip, levels: 1, epochs: {epochs}, seed: 1..{runs}}}");
    format!("dataset: digits\narchitecture: resnet8\nticket: {ticket}\n")
}

fn mount(workplace: &Workplace, name: &str) -> Option<FaultyFs> {
    let mount = FaultyFs::mount(&workplace.path(&format!("{name}-server")), &workplace.path(name))?;
    mount.set("cache", CACHE);
    Some(mount)
}

fn run(sweep: &Path, mount: &FaultyFs) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_winsign"));
    command.args(["run", "--jobs", "1"]).arg(sweep).arg("--store").arg(mount.path(""));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn print_table(columns: &[(String, Operations)]) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["operations"].into_iter().chain(columns.iter().map(|(title, _)| title.as_str())));
    for kind in columns[0].1.keys() {
        add_row(&mut table, kind, columns.iter().map(|(_, counts)| counts[kind]));
    }
    add_row(&mut table, "in all", columns.iter().map(|(_, counts)| counts.values().sum()));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

fn add_row(table: &mut Table, name: &str, counts: impl Iterator<Item = u64>) {
    table.add_row([name.to_string()].into_iter().chain(counts.map(|count| count.to_string())));
}
