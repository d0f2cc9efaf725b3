//! Reports of made-up results: from several stores, of partial studies, with custom tables, and comparisons.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use winsign_core::Store;
use winsign_core::attempt::{Attempt, End};
use winsign_core::results::{
    ConnectOutcome, Outcome, PathOutcome, PathPoint, Processors, TicketOutcome, TransferOutcome,
};
use winsign_core::settings::Settings;
use winsign_sweep::plan::PlannedRun;
use winsign_sweep::plan::build::build;
use winsign_testkit::{Workplace, json, stderr, stdout, succeed};

const STUDY: &str = "
dataset: digits
architecture: resnet8
ticket: {method: [lrr, aws], levels: 2, epochs: 1, warmup_epochs: 1}
transfer: {inherit: [sign, mask], level: all, seed: 2..4}
connect: {between: seeds, points: 3}
";

/// Returns the same study with three tickets.
fn three_tickets() -> String {
    STUDY.replace("ticket: {", "ticket: {seed: 1..3, ")
}

fn ticket_seed(planned: &PlannedRun) -> f64 {
    let seed = planned.label.axes.iter().find(|(name, _)| name == "ticket.seed");
    seed.map_or(0.0, |(_, seed)| seed.parse().unwrap())
}

#[test]
fn report_of_another_sweep_of_the_same_name_is_not_replaced() {
    let workplace = Workplace::new();
    let write = |directory: &str, text: &str| {
        fs::create_dir_all(workplace.path(directory)).unwrap();
        workplace.sweep(&format!("{directory}/study.yaml"), text)
    };
    let (first, second) = (write("first", STUDY), write("second", &three_tickets()));
    for planned in plan_runs(&first) {
        finish(&workplace.store(), &planned, error(&planned));
    }
    let page = workplace.store().join("reports/study/report.md");
    succeed(&mut workplace.winsign("report", &first));
    let written = fs::read(&page).unwrap();

    let refused = workplace.winsign("report", &second).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(stdout(&refused).contains("runs done"), "the tables are printed");
    let message = stderr(&refused);
    assert!(message.contains("it is the report of ") && message.contains("first/study.yaml"), "{message}");
    assert!(message.contains("give another directory with --out"), "{message}");
    assert_eq!(fs::read(&page).unwrap(), written);
    succeed(workplace.winsign("report", &second).arg("--out").arg(workplace.path("out")));

    // The first sweep grows, and then moves.
    fs::write(&first, three_tickets()).unwrap();
    succeed(&mut workplace.winsign("report", &first));
    assert_ne!(fs::read(&page).unwrap(), written);
    succeed(&mut workplace.winsign("report", &second));
}

fn winsign(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_winsign"));
    command.args(arguments.iter().map(|argument| argument.as_ref())).env_remove("WINSIGN_LOG");
    command
}

fn plan_runs(sweep_file: &Path) -> Vec<PlannedRun> {
    build(&winsign_sweep::read(sweep_file).unwrap()).runs
}

/// Returns a made-up error: 10 + seed for LRR, 8 + seed / 2 for AWS.
fn error(planned: &PlannedRun) -> f64 {
    let seed = planned.label.seeds.first().map_or(0.0, |seeds| seeds.init as f64);
    match planned.label.method.unwrap().to_string().as_str() {
        "lrr" => 10.0 + seed,
        _ => 8.0 + seed / 2.0,
    }
}

fn finish(store: &Path, planned: &PlannedRun, test_error: f64) {
    let store = Store::create(store).unwrap();
    let directory = store.run(&planned.run.id);
    directory.prepare(&planned.run, &planned.label.to_string()).unwrap();
    let attempt = Attempt::claim(&directory, 1).unwrap();
    let remaining_ratio = 0.8_f64.powi(planned.label.level as i32);
    let outcome = match &planned.run.settings {
        Settings::Ticket(_) => Outcome::Ticket(TicketOutcome {
            remaining_ratio,
            survivors: 5,
            prunable: 10,
            test_error,
            test_loss: 0.25,
            layers: vec![],
        }),
        Settings::Transfer(_) => Outcome::Transfer(TransferOutcome { remaining_ratio, test_error, test_loss: 0.25 }),
        _ => {
            let points = [0.0, 0.5, 1.0].map(|t| PathPoint { t, test_error, test_loss: 0.25, train: None }).to_vec();
            Outcome::Connect(ConnectOutcome {
                remaining_ratio,
                path: PathOutcome { points, barrier: 1.5, similarity: None },
            })
        }
    };
    assert!(attempt.commit(outcome, None, Processors { ranks: 1, threads: 1 }, None).unwrap());
    attempt.end(&End::Finished).unwrap();
}

fn fail(store: &Path, planned: &PlannedRun) {
    let directory = Store::create(store).unwrap().run(&planned.run.id);
    directory.prepare(&planned.run, "").unwrap();
    Attempt::claim(&directory, 1).unwrap().end(&End::Failed { message: "the loss became NaN".to_string() }).unwrap();
}

/// Returns every file below a folder, with its content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(content(&entry)),
            false => drop(found.insert(entry.clone(), fs::read(&entry).unwrap())),
        }
    }
    found
}

fn transfer<'r>(report: &'r Value, method: &str, inherit: &str, level: u64) -> &'r Value {
    let rows = report["transfers"].as_array().unwrap();
    let is = |row: &&Value| row["method"] == method && row["inherit"] == inherit && row["level"] == level;
    rows.iter().find(is).unwrap()
}

fn sorted_rows(report: &Value, table: &str) -> Vec<String> {
    let mut rows: Vec<String> = report[table].as_array().unwrap().iter().map(ToString::to_string).collect();
    rows.sort();
    rows
}

/// Every second run is in the other store.
#[test]
fn runs_of_several_stores_make_one_report() {
    let workplace = Workplace::new();
    let file = workplace.sweep("study.yaml", STUDY);
    let runs = plan_runs(&file);
    let (north, south) = (workplace.path("north"), workplace.path("south"));
    for (at, run) in runs.iter().enumerate() {
        finish(if at % 2 == 0 { &north } else { &south }, run, error(run));
    }
    let before = (content(&north), content(&south));
    let unchanged = || assert_eq!((content(&north), content(&south)), before);
    let report = json(&succeed(workplace.winsign("report", &file).args([&north, &south]).arg("--json")));
    assert_eq!(report["runs"]["done"], runs.len());
    // With --json, files are written only to --out.
    let folder = workplace.path("out");
    succeed(workplace.winsign("report", &file).args([&north, &south]).arg("--json").arg("--out").arg(&folder));
    assert!(folder.join("report.json").exists());
    assert_eq!(content(&workplace.store()), BTreeMap::new());
    unchanged();
    assert_eq!(report["notices"], Value::Array(vec![]));
    let sign = transfer(&report, "lrr", "sign", 2);
    assert_eq!((&sign["error_mean"], &sign["summary"]["std"]), (&13.0.into(), &1.0.into()));
    let difference = &report["differences"].as_array().unwrap()[0];
    assert_eq!(
        (&difference["a"], &difference["b"], &difference["summary"]["mean"]),
        (&"AWS".into(), &"LRR".into(), &(-3.5).into())
    );

    // The files go to the own store; the other stores are only read.
    let out = stdout(&succeed(workplace.winsign("report", &file).args([&north, &south])));
    assert!(out.contains("all 54 runs done"), "{out}");
    assert!(workplace.store().join("reports/study/report.json").exists());
    assert!(workplace.store().join("reports/study/runs.parquet").exists());
    unchanged();

    // The report has the same rows without the sweep file.
    let report_without_sweep_file = json(&succeed(&mut winsign(&[&"report", &north, &south, &"--json"])));
    assert_eq!(report_without_sweep_file["name"], "north+south");
    succeed(&mut winsign(&[&"report", &north, &south, &"--json", &"--out", &folder]));
    unchanged();
    for table in ["tickets", "transfers"] {
        assert_eq!(sorted_rows(&report_without_sweep_file, table), sorted_rows(&report, table));
    }
    assert_eq!(
        report_without_sweep_file["connections"].as_array().unwrap().len(),
        report["connections"].as_array().unwrap().len()
    );
}

/// One run has different outcomes in two stores.
#[test]
fn conflicting_results_are_reported_and_not_averaged() {
    let workplace = Workplace::new();
    let file = workplace.sweep("study.yaml", STUDY);
    let runs = plan_runs(&file);
    let other = workplace.path("other");
    for run in &runs {
        finish(&workplace.store(), run, error(run));
    }
    let transferred = runs.iter().find(|planned| planned.run.kind().to_string() == "transfer").unwrap();
    finish(&other, transferred, 50.0);
    let report = |stores: &[&Path]| json(&succeed(workplace.winsign("report", &file).args(stores).arg("--json")));
    let mean = |report: &Value| transfer(report, "lrr", "sign", 1)["error_mean"].as_f64().unwrap();
    // The named stores come before --store.
    let with_other = report(&[&other]);
    assert_eq!(mean(&with_other), (50.0 + 13.0 + 14.0) / 3.0);
    let store = workplace.store();
    let own_first = report(&[&store, &other]);
    assert_eq!(mean(&own_first), 13.0);
    for report in [with_other, own_first] {
        let notices = report["notices"].as_array().unwrap();
        assert_eq!(notices.len(), 1);
        assert_eq!(notices[0]["runs"][0], transferred.run.id.as_str());
        assert!(notices[0]["message"].as_str().unwrap().contains("different results"), "{notices:?}");
    }
    let shown = stdout(&succeed(workplace.winsign("report", &file).arg(&other)));
    assert!(shown.contains("note: 1 run with different results in several stores"), "{shown}");
}

#[test]
fn report_of_a_partial_study_lists_missing_runs() {
    let workplace = Workplace::new();
    let file = workplace.sweep("study.yaml", STUDY);
    let runs = plan_runs(&file);
    for run in &runs {
        let (label, kind) = (&run.label, run.run.kind().to_string());
        match kind.as_str() {
            "ticket" => finish(&workplace.store(), run, error(run)),
            "transfer" if label.seeds[0].init == 2 => finish(&workplace.store(), run, error(run)),
            "transfer" if label.seeds[0].init == 3 && label.level == 2 => fail(&workplace.store(), run),
            _ => {}
        }
    }
    let report = json(&succeed(workplace.winsign("report", &file).arg("--json")));
    assert_eq!((&report["runs"]["failed"], &report["runs"]["blocked"]), (&4.into(), &8.into()));
    assert_eq!((report["failed"].as_array().unwrap().len(), report["blocked"].as_array().unwrap().len()), (4, 8));
    let sign = transfer(&report, "lrr", "sign", 2);
    assert_eq!(
        (&sign["seeds"], &sign["seeds_planned"], &sign["summary"]["interval"]),
        (&1.into(), &3.into(), &Value::Null)
    );
    let shown = stdout(&succeed(&mut workplace.winsign("report", &file)));
    assert!(shown.contains("4 failed") && shown.contains("1/3"), "{shown}");
}

#[test]
fn custom_tables_follow_options_and_sweep_file() {
    let workplace = Workplace::new();
    let file = workplace.sweep("study.yaml", STUDY);
    for run in &plan_runs(&file) {
        finish(&workplace.store(), run, error(run));
    }
    let report = |options: &[&str]| {
        workplace.winsign("report", &file).args(options).arg("--out").arg(workplace.path("out")).output().unwrap()
    };
    let shown = stdout(&report(&["--rows", "method,inherit", "--columns", "level", "--value", "error"]));
    assert!(shown.contains("LRR     sign         13.0 ± 1.0 (1, 3)  13.0 ± 1.0 (1, 3)"), "{shown}");
    let one_ticket = stdout(&report(&["--rows", "inherit", "--columns", "level", "--show", "mean-ci"]));
    assert!(
        one_ticket.contains("13.0 (1, 3)") && one_ticket.contains("too few tickets for an interval"),
        "{one_ticket}"
    );
    assert!(one_ticket.contains("Each value of method has its own rows"), "{one_ticket}");
    assert!(workplace.path("out/chosen.csv").exists() && workplace.path("out/table-chosen.tex").exists());

    for (options, code, message) in [
        (&["--rows", "inhert"][..], 2, "did you mean `inherit`?"),
        (&["--rows", "level", "--columns", "level"], 2, "`level` is given twice"),
        (&["--value", "eror"], 2, "did you mean `error`?"),
        (&["--show", "meen"], 2, "did you mean `mean`?"),
        (&["--confidence", "95"], 2, "must be a number from 0.000001 to 0.999999"),
    ] {
        let refused = report(options);
        assert_eq!(refused.status.code(), Some(code), "{options:?}");
        assert!(stderr(&refused).contains(message), "{}", stderr(&refused));
    }

    // The sweep file can have the same settings, which do not change the identities of runs.
    let with_block =
        workplace.sweep("table.yaml", &format!("{STUDY}report: {{rows: inherit, columns: method, value: barrier}}\n"));
    let ids = |file: &Path| plan_runs(file).iter().map(|planned| planned.run.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&with_block), ids(&file));
    let shown = stdout(&succeed(&mut workplace.winsign("report", &with_block)));
    assert!(shown.contains("barrier of the test error") && shown.contains("level  transferred"), "{shown}");
    let wrong = workplace.sweep("wrong.yaml", &format!("{STUDY}report:\n  rows: [method, inhert]\n"));
    let refused = workplace.winsign("report", &wrong).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let message = stderr(&refused);
    assert!(message.contains("wrong.yaml:8:18") && message.contains("did you mean `inherit`?"), "{message}");
}

#[test]
fn tickets_are_samples_and_can_be_rows() {
    let workplace = Workplace::new();
    let file = workplace.sweep("study.yaml", &three_tickets());
    for run in &plan_runs(&file) {
        finish(&workplace.store(), run, error(run) + ticket_seed(run));
    }
    let report = |options: &[&str]| stdout(&succeed(workplace.winsign("report", &file).args(options)));
    // The tickets have errors 14, 15 and 16. t with 2 degrees of freedom is 4.3027: 4.3027 · 1 / √3 = 2.5, and 1.7 at 90 %.
    let default = report(&[]);
    assert!(default.contains("sign               3      9  15.0 ± 1.0 [12.5, 17.5]"), "{default}");
    assert!(
        default.contains("test error: no difference shown between mask and sign (mask − sign: 0.0 points, "),
        "{default}"
    );
    let intervals = report(&["--rows", "inherit", "--columns", "level", "--show", "mean-ci", "--confidence", "0.9"]);
    assert!(intervals.contains("15.0 ± 1.7 (3, 9)") && intervals.contains("over 3 tickets"), "{intervals}");
    let by_ticket = report(&["--rows", "ticket.seed,inherit", "--columns", "method,level"]);
    assert!(by_ticket.contains("2            sign         15.0 ± 1.0 (1, 3)"), "{by_ticket}");
}

#[test]
fn compare_accepts_studies_and_tables() {
    let workplace = Workplace::new();
    let file = workplace.sweep("study.yaml", &three_tickets());
    let (store, other) = (workplace.store(), workplace.path("other"));
    for run in &plan_runs(&file) {
        finish(&store, run, error(run));
        // This error is lower by 1 + seed / 10.
        finish(&other, run, error(run) - 1.0 - ticket_seed(run) / 10.0);
    }
    let compare = |arguments: &[&dyn AsRef<std::ffi::OsStr>]| {
        let mut command = winsign(arguments);
        command.arg("--store").arg(&store);
        command
    };
    let comparison = json(&succeed(&mut compare(&[&"compare", &file, &file, &"--store-b", &other, &"--json"])));
    let rows = comparison["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &comparison["a"]["runs"]["done"]), (8, &162.into()));
    let row = &rows[0];
    assert_eq!((&row["test"], &row["pairs"], &row["tickets"]), (&"paired".into(), &9.into(), &3.into()));
    assert!((row["difference"].as_f64().unwrap() - 1.2).abs() < 1e-9);
    // 4.3027 · 0.1 / √3 = 0.2484.
    assert!((row["interval"]["low"].as_f64().unwrap() - 0.9516).abs() < 1e-4, "{row}");
    assert_eq!(row["verdict"], "higher");

    let table = workplace.sweep(
        "table.yaml",
        "source: a made-up table\ndataset: digits\narchitecture: resnet8\nrows:\n  \
         - {method: lrr, remaining: 0.64, inherit: sign, error: 12.5, std: 1, seeds: 8, tickets: 4}\n",
    );
    let shown = stdout(&succeed(&mut compare(&[&"compare", &file, &table])));
    for expected in [
        "B: table: a made-up table",
        "13.0 ± 0.0 (9)",
        "12.5 ± 1.0 (8)",
        "no difference shown",
        "welch",
        "only in A: digits resnet8, lrr level 1, sign",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    // The options that name a store apply to sweep files only.
    for (arguments, message) in [
        ([&store as &dyn AsRef<std::ffi::OsStr>, &file, &"--store-a"], "it is a store, not a sweep file"),
        ([&file, &table, &"--store-b"], "it is a reference table, not a sweep file"),
    ] {
        let [a, b, option] = arguments;
        let refused = compare(&[&"compare", a, b, option, &other]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(message), "{}", stderr(&refused));
    }
    let wrong = workplace.sweep("wrong.yaml", "source: x\nrows:\n  - {method: lrr}\n");
    let refused = compare(&[&"compare", &file, &wrong]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("wrong.yaml:3:5"), "{}", stderr(&refused));
}

#[test]
fn committed_reference_tables_are_valid() {
    let mut tables = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sweeps/tables")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        winsign_report::reference_table::parse(&path.display().to_string(), &text)
            .unwrap_or_else(|error| panic!("{error}"));
        tables += 1;
    }
    assert!(tables > 0);
}
