//! Snapshots of what users and other programs read: the files of reports, plans, help texts and errors. After an intended
//! change, run `INSTA_UPDATE=always cargo test --profile ci --test snapshots`, and read the diff.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::read::DeflateDecoder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use winsign_core::settings::{Inherit, Kind};
use winsign_sweep::plan::PlannedRun;
use winsign_testkit::made_up::MadeUp;
use winsign_testkit::{Workplace, stderr, stdout, succeed};

const SEEDS: &str = "
name: seeds
dataset: digits
architecture: resnet8
ticket: {method: [lrr, aws], levels: 2, prune_ratio: 0.5, seed: 1..3}
transfer: {inherit: [sign, mask], level: [1, 2], seed: 2..3}
connect:
  - {between: seeds, points: 5}
  - {between: norm-init, points: 5}
";

const PARTIAL: &str = "
name: partial
dataset: digits
architecture: resnet8
ticket: {method: [lrr, aws], levels: 1, prune_ratio: 0.5, seed: 1..2}
transfer: {inherit: [sign, mask], lr: [0.1, 0.05], seed: 2..3}
connect: {between: seeds, points: 5}
";

const PATHS: &str = "
name: paths
dataset: digits
architecture: resnet8
ticket: {method: [lrr, aws], levels: 1, prune_ratio: 0.5}
transfer:
  - {inherit: [sign, mask], seed: 2..5}
  - {inherit: dense, seed: 2..5}
connect:
  - {between: seeds, inherit: sign, block: 2, points: 5}
  - {between: seeds, inherit: [mask, dense], align: [none, weights], points: 5}
  - {between: tickets, level: all, align: weights, points: 5}
  - {between: levels, points: 5}
  - {between: plane, inherit: [sign, mask], points: 5}
";

fn is_transfer(planned: &PlannedRun, inherit: Inherit, seed: u64) -> bool {
    planned.run.kind() == Kind::Transfer
        && planned.label.inherit == Some(inherit)
        && planned.label.seeds[0].init == seed
}

#[test]
fn report_of_seeds_is_unchanged() {
    let (workplace, sweep) = make_up_results(SEEDS, |_| false, |_| false);
    assert_report("seeds", &workplace, &["report", sweep.to_str().unwrap()]);
}

#[test]
fn report_with_a_custom_table_is_unchanged() {
    let (workplace, sweep) = make_up_results(SEEDS, |_| false, |_| false);
    let chosen = ["report", sweep.to_str().unwrap(), "--rows", "inherit", "--columns", "method", "--show", "mean-ci"];
    let out = workplace.path("chosen");
    let output = winsign(&workplace, &[&chosen[..], &["--out", out.to_str().unwrap()]].concat());
    assert_snapshot("chosen", "terminal", &describe(&workplace, &output));
    for file in ["chosen.csv", "table-chosen.tex", "report.md"] {
        assert_snapshot("chosen", file, &fs::read_to_string(out.join(file)).unwrap());
    }
}

#[test]
fn report_of_matrices_and_planes_is_unchanged() {
    let (workplace, sweep) = make_up_results(PATHS, |_| false, |_| false);
    assert_report("paths", &workplace, &["report", sweep.to_str().unwrap()]);
    assert_report("paths-without-sweep-file", &workplace, &["report", workplace.store().to_str().unwrap()]);
}

#[test]
fn report_of_a_partial_study_is_unchanged() {
    let fails = |planned: &PlannedRun| is_transfer(planned, Inherit::Mask, 2);
    let waits = |planned: &PlannedRun| is_transfer(planned, Inherit::Sign, 3);
    let (workplace, sweep) = make_up_results(PARTIAL, fails, waits);
    assert_report("partial", &workplace, &["report", sweep.to_str().unwrap()]);
}

#[test]
fn comparison_and_status_are_unchanged() {
    let (workplace, sweep) = make_up_results(SEEDS, |_| false, |_| false);
    let other = workplace.sweep(
        "other.yaml",
        &SEEDS.replace("name: seeds", "name: other").replace("levels: 2", "levels: 1").replace("[1, 2]", "1"),
    );
    MadeUp::new(&other, &workplace.store()).finish(|_| false, |_| false);
    let files = [sweep.to_str().unwrap(), other.to_str().unwrap()];
    for arguments in [&["compare", files[0], files[1]][..], &["status", files[0]], &["plan", files[0], "--all"]] {
        assert_snapshot("commands", arguments[0], &describe(&workplace, &winsign(&workplace, arguments)));
    }
}

#[test]
fn plans_of_all_sweep_files_are_unchanged() {
    let workplace = Workplace::new();
    for sweep in sweep_files() {
        let plan = workplace.plan(&sweep);
        let name = sweep.file_stem().unwrap().to_str().unwrap();
        // A run's identity depends on all of its settings, so settings are listed for one run of each kind only.
        let lines: String = plan.iter().map(|run| format!("{} {}\n", text(&run["id"]), text(&run["label"]))).collect();
        assert_snapshot("plans", name, &lines);
        let mut first_of_kind: BTreeMap<&str, &Value> = BTreeMap::new();
        for run in &plan {
            first_of_kind.entry(text(&run["kind"])).or_insert(run);
        }
        assert_snapshot("plans", &format!("{name}-settings"), &pretty(&serde_json::json!(first_of_kind)));
    }
}

#[test]
fn help_is_unchanged() {
    let help = |arguments: &[&str]| {
        let mut winsign = Command::new(env!("CARGO_BIN_EXE_winsign"));
        stdout(&succeed(winsign.args(arguments).arg("--help").env_clear().env("COLUMNS", "100")))
    };
    let commands = |help: &str| {
        let list = help.split_once("Commands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
        let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        names.filter(|name| !name.is_empty() && *name != "help").map(str::to_string).collect::<Vec<_>>()
    };
    let main = help(&[]);
    assert_snapshot("help", "winsign", &main);
    for command in commands(&main) {
        let text = help(&[&command]);
        assert_snapshot("help", &command, &text);
        for subcommand in commands(&text) {
            assert_snapshot("help", &format!("{command}-{subcommand}"), &help(&[&command, &subcommand]));
        }
    }
}

#[test]
fn errors_in_sweep_files_are_unchanged() {
    let workplace = Workplace::new();
    let mut printed = String::new();
    for text in BAD_SWEEPS {
        let sweep = workplace.sweep("bad.yaml", text);
        let output = winsign(&workplace, &["plan", sweep.to_str().unwrap()]);
        write!(printed, "{}\n{}\n", text.trim_start(), describe(&workplace, &output)).unwrap();
    }
    assert_snapshot("errors", "sweep-files", &printed);
}

#[test]
fn errors_on_command_lines_are_unchanged() {
    let (workplace, sweep) = make_up_results(SEEDS, |_| false, |_| false);
    let sweep = sweep.to_str().unwrap();
    let mut printed = String::new();
    for line in BAD_COMMAND_LINES {
        let arguments: Vec<&str> = line.split(' ').map(|word| if word == "SWEEP" { sweep } else { word }).collect();
        writeln!(printed, "$ winsign {line}\n{}", describe(&workplace, &winsign(&workplace, &arguments))).unwrap();
    }
    assert_snapshot("errors", "command-lines", &printed);
}

const BAD_SWEEPS: &[&str] = &[
    "",
    "dataset: [digits\n",
    "dataset: digits\n",
    "dataset: svhn\narchitecture: resnet8\n",
    "dataset: digits\narchitecture: vgg\n",
    "dataset: digits\narchitecture: resnet8\ndataset: digits\n",
    "dataset: digits\narchitecture: resnet8\nticket:\n  metod: lrr\n",
    "dataset: digits\narchitecture: resnet8\nticket: {levels: many}\n",
    "dataset: digits\narchitecture: resnet8\nticket: {levels: -1}\n",
    "dataset: digits\narchitecture: resnet8\nticket: {method: []}\n",
    "dataset: digits\narchitecture: resnet8\nticket: {method: lrr, method: aws}\n",
    "dataset: digits\narchitecture: resnet8\nticket: {prune_ratio: 1.5}\n",
    "dataset: digits\narchitecture: resnet8\nticket: {seed: 1..100000000}\n",
    "dataset: digits\narchitecture: resnet8\nticket: {seed: 5..1}\n",
    "dataset: digits\narchitecture: resnet8\nticket: {levels: 3}\ntransfer: {level: 4}\n",
    "dataset: digits\narchitecture: resnet8\ntransfer: {inherit: mask, flip: 0.5}\n",
    "dataset: digits\narchitecture: resnet8\nconnect: {points: 3}\n",
    "dataset: digits\narchitecture: resnet8\nconnect: {between: seeds}\n",
    "dataset: digits\narchitecture: resnet8\nexclude: [{method: [lrr, aws]}]\n",
    "dataset: digits\narchitecture: resnet8\nticket: {method: [lrr, aws], lr: [0.1, 0.2, 0.3]}\nzip: [[method, ticket.lr]]\n",
    "dataset: digits\narchitecture: resnet8\nresources: {gpus: 2.5}\n",
    "dataset: digits\narchitecture: resnet8\nresources: {ranks: 0}\n",
    "dataset: digits\narchitecture: resnet8\nnumerics: portable\nresources: {gpus: 1}\n",
    "dataset: digits\narchitecture: resnet8\nreport: {rows: [nothing]}\n",
    "dataset: digits\narchitecture: resnet8\nticket:\n\u{a0}\u{a0}levels: 1\n",
];

const BAD_COMMAND_LINES: &[&str] = &[
    "paln",
    "plan",
    "plan nowhere.yaml",
    "plan SWEEP --colour",
    "run SWEEP --gpus 2.5",
    "run SWEEP --jobs 0",
    "run SWEEP --threads 0",
    "run SWEEP --worker nowhere",
    "run SWEEP --host",
    "submit SWEEP --gpus 100000",
    "submit SWEEP --profile nowhere.yaml",
    "report SWEEP --rows nothing",
    "report SWEEP --value loses",
    "report SWEEP --confidence 2",
    "report nowhere",
    "compare SWEEP",
    "show ffff",
    "show xyz",
    "logs ffff",
    "export ffff out.safetensors",
    "merge nowhere",
    "digest SWEEP --check nowhere",
    "completions tcsh",
    "serve SWEEP --bind nowhere",
    "retry SWEEP ffff",
];

/// Compares a text with `tests/snapshots/FOLDER/NAME.snap`.
fn assert_snapshot(folder: &str, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path(format!("snapshots/{folder}"));
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Creates a study with made-up results in a new workplace; also returns its sweep file.
fn make_up_results(
    text: &str,
    fails: impl Fn(&PlannedRun) -> bool,
    waits: impl Fn(&PlannedRun) -> bool,
) -> (Workplace, PathBuf) {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("study.yaml", text);
    MadeUp::new(&sweep, &workplace.store()).finish(fails, waits);
    (workplace, sweep)
}

fn winsign(workplace: &Workplace, arguments: &[&str]) -> Output {
    let mut winsign = Command::new(env!("CARGO_BIN_EXE_winsign"));
    winsign.args(arguments).arg("--store").arg(workplace.store()).current_dir(workplace.path(""));
    winsign.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("COLUMNS", "120").output().unwrap()
}

/// Returns the output of a command, and its exit code, without the path of the workplace.
fn describe(workplace: &Workplace, output: &Output) -> String {
    let text = format!("{}{}exit code {}\n", stdout(output), stderr(output), output.status.code().unwrap());
    text.replace(workplace.path("").to_str().unwrap(), "WORKPLACE/")
}

/// Writes a report, and compares each of its files with its snapshot.
fn assert_report(name: &str, workplace: &Workplace, arguments: &[&str]) {
    let folder = workplace.path(name);
    let events = workplace.path(&format!("{name}-events"));
    let mut arguments = arguments.to_vec();
    arguments.extend(["--out", folder.to_str().unwrap(), "--tensorboard", events.to_str().unwrap()]);
    assert_snapshot(name, "terminal", &describe(workplace, &winsign(workplace, &arguments)));
    let mut names: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_snapshot(name, "files", &names.join("\n"));
    for file in names {
        let path = folder.join(&file);
        let text = match path.extension().unwrap().to_str().unwrap() {
            "html" => page_data(&fs::read_to_string(&path).unwrap()),
            "json" => pretty(&serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()),
            "parquet" => parquet_rows(&path),
            _ => fs::read_to_string(&path).unwrap(),
        };
        assert_snapshot(name, &file, &text.replace(workplace.path("").to_str().unwrap(), "WORKPLACE/"));
    }
}

/// Returns the data of a page, without its figures.
fn page_data(page: &str) -> String {
    let packed =
        page.split_once("<script id=\"data\" type=\"text/plain\">").unwrap().1.split_once("</script>").unwrap().0;
    let mut data = String::new();
    DeflateDecoder::new(&BASE64_STANDARD.decode(packed).unwrap()[..]).read_to_string(&mut data).unwrap();
    let mut data: Value = serde_json::from_str(&data).unwrap();
    // Figures are also written to separate files.
    for figure in data["figures"].as_array_mut().unwrap() {
        figure["svg"] = Value::Null;
    }
    pretty(&data)
}

fn parquet_rows(path: &Path) -> String {
    let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    let mut text = String::new();
    for row in reader.get_row_iter(None).unwrap() {
        writeln!(text, "{}", row.unwrap()).unwrap();
    }
    text
}

fn sweep_files() -> Vec<PathBuf> {
    let sweeps = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps");
    let in_folder =
        |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut files = [in_folder(&sweeps), in_folder(&sweeps.join("paper"))].concat();
    files.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    files
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
