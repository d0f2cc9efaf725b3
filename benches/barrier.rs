//! Compares the time for an error barrier of 11 points with that of PyTorch. For each point, the usual implementation makes a pass
//! over the training images through a DataLoader, to estimate the statistics of BatchNorm, and then evaluates the test images.
//!
//!     cargo bench --bench barrier -- --python PYTHON [--turns N]
//!
//! PYTHON needs torch and torchvision. The networks are resnet8 on the digits, and resnet20 on a synthesized CIFAR-100. The sides
//! take turns, and have two threads each. Both compute in fp32, except for the last row, where winsign computes in bf16. Ratios
//! are medians over turns of the ratio within a turn. Writes `results/bench/barrier.json`.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use winsign_core::attempt::Attempt;
use winsign_core::settings::{Architecture, Between, Connect, Dataset, Precision, Problem, Sets, Settings};
use winsign_core::{Run, Store};
use winsign_data::synth::{self, Request};
use winsign_trainer::comm::Ranks;
use winsign_trainer::model::{Network, Weights};
use winsign_trainer::session::{ExecOptions, Session};

use common::{Result, Side, find_option, median, print_table, ratio, take_turns, write};

const THREADS: u32 = 2;
const POINTS: u32 = 11;
const BATCH: u32 = 64;
const TURNS: usize = 5;
/// The numbers of images of the synthesized set.
const TRAIN: usize = 2_000;
const TEST: usize = 500;
const GOAL: f64 = 3.0;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [serve, rest @ ..] = &arguments[..]
        && serve == "serve"
    {
        return self::serve(rest);
    }
    let python =
        find_option(&arguments, "--python").ok_or("--python PYTHON is missing; PYTHON needs torch and torchvision")?;
    let turns = find_option(&arguments, "--turns").map_or(Ok(TURNS), |turns| turns.parse())?;
    let data = tempfile::tempdir()?;
    let request = Request::new(Dataset::Cifar100, TRAIN, TEST);
    synth::write(data.path(), &request, &|| {})?;

    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data/digits.bin.gz");
    let cifar = data.path().join("cifar-100-binary");
    let mut rows = vec![];
    for (dataset, architecture, precision, classes, file) in [
        (Dataset::Digits, Architecture::ResNet8, Precision::Fp32, 10, &digits),
        (Dataset::Cifar100, Architecture::ResNet20, Precision::Fp32, 100, &cifar),
        (Dataset::Cifar100, Architecture::ResNet20, Precision::Bf16, 100, &cifar),
    ] {
        let mut ours = Command::new(std::env::current_exe()?);
        ours.args(["serve", &dataset.to_string(), &architecture.to_string(), &precision.to_string()]).arg(data.path());
        let mut theirs = Command::new(&python);
        theirs.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/opponents/barrier.py")).arg(file);
        theirs.args([architecture.to_string(), classes.to_string()]);
        theirs.args([POINTS, THREADS, BATCH].map(|number| number.to_string()));
        let mut sides = [Side::start(&mut ours)?, Side::start(&mut theirs)?];
        take_turns(&mut sides, turns, &dataset.to_string())?;
        let [ours, theirs] = &sides;
        let seconds = |side: &Side| median(side.rates.iter().map(|rate| 1.0 / rate).collect());
        rows.push(json!({
            "row": format!("{dataset}, {architecture}, {precision}: {:.2} s against {:.2} s", seconds(ours), seconds(theirs)),
            "ours": median(ours.rates.clone()),
            "theirs": median(theirs.rates.clone()),
            "ratio": ratio(ours, theirs),
            "goal": GOAL,
        }));
    }
    print_table(&rows, "barriers/s");
    let what = format!(
        "a barrier of {POINTS} points, statistics estimated anew for each, batches of {BATCH}, {THREADS} threads; barriers/s; \
         CIFAR-100's format with {TRAIN} training and {TEST} test images"
    );
    write("barrier", &what, turns, &rows)
}

/// Runs winsign's side: computes the path once for each line of standard input, with the code of the trainer.
fn serve(arguments: &[String]) -> Result<()> {
    let [dataset, architecture, precision, data] = arguments else { return Err("four arguments are needed".into()) };
    winsign_trainer::memory::keep_freed();
    winsign_trainer::tch::set_num_threads(THREADS as i32);
    let problem = Problem::new(dataset.parse()?, architecture.parse()?);
    let connect = Connect {
        problem,
        between: Between::Seeds,
        masks: Default::default(),
        points: POINTS,
        refine: 0,
        reestimation_batches: None,
        // The opponents evaluate on test images alone.
        sets: Sets::Test,
        align: Default::default(),
        batch: BATCH,
        precision: precision.parse()?,
    };
    let folder = tempfile::tempdir()?;
    let run = Run::new(Settings::Connect(connect.clone()), vec![]);
    let directory = Store::create(folder.path())?.run(&run.id);
    directory.prepare(&run, "a barrier")?;
    let attempt = Attempt::claim(&directory, 0)?;
    let options =
        ExecOptions { data: data.into(), threads: THREADS, checkpoint_every: Duration::MAX, ..ExecOptions::default() };
    let mut session = Session::new(Ranks::alone(), Some(attempt), vec![], options);
    let network = Network::new(problem).with_precision(connect.precision);
    let data = session.load_data(problem.dataset)?;
    let [a, b] = [1, 2].map(|seed| Weights::initialize(&network.layout, seed));
    print_line(&json!({ "parameters": network.layout.parameters() }));
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line)? > 0 {
        let start = Instant::now();
        let result = winsign_trainer::lmc::path(&mut session, &network, &data, (&a, &b), &connect)?;
        print_line(&json!({ "seconds": start.elapsed().as_secs_f64(), "barrier": result.path.barrier }));
    }
    Ok(())
}

fn print_line(message: &Value) {
    println!("{message}");
}
