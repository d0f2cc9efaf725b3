//! Compares the speed of training on CPUs with that of PyTorch. The sides take turns; a turn is an epoch of a few batches with an
//! evaluation after it.
//!
//!     cargo bench --bench training -- --python PYTHON [--only ARCHITECTURE] [--turns N]
//!
//! PYTHON needs torch and torchvision. `opponents/training.py` has the opponents: `reference` is like usual implementations of
//! pruning, and `fp32` and `bf16` are optimized by hand. Each side is a process that trains an epoch for each line of its input.
//! Ratios are medians over turns of the ratio within a turn. The last row compares two ranks with one thread each with one rank
//! with two threads; it needs mpirun. Writes `results/bench/training.json`.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::{Value, json};
use winsign_core::settings::{Architecture, Dataset, Precision, Problem, Schedule, Training};
use winsign_data::synth::{self, Request};
use winsign_trainer::comm;
use winsign_trainer::data::batches::Batches;
use winsign_trainer::model::{Network, Weights};
use winsign_trainer::train::evaluate::{Workers, evaluate};
use winsign_trainer::train::optimizer;
use winsign_trainer::train::step::Stepper;

use common::{Result, Side, find_option, median, print_table, ratio, take_turns, write};

const BATCH: usize = 64;
const THREADS: usize = 2;
/// The numbers of images of an epoch, and of the evaluation after it.
const TRAIN: usize = 4 * BATCH;
const TEST: usize = BATCH;
const TURNS: usize = 5;

/// The precision of winsign, the opponent, and the goal for the ratio of their speeds.
type Pair = (&'static str, &'static str, f64);

const ROWS: [(&str, &[Pair]); 3] = [
    (
        "resnet50",
        &[("bf16", "reference", 3.0), ("fp32", "reference", 1.2), ("bf16", "bf16", 1.0), ("fp32", "fp32", 1.0)],
    ),
    (
        "mobilenetv2",
        &[("bf16", "reference", 2.0), ("fp32", "reference", 1.6), ("bf16", "bf16", 1.0), ("fp32", "fp32", 1.0)],
    ),
    ("shufflenet", &[("fp32", "reference", 1.2), ("fp32", "fp32", 1.0), ("bf16", "bf16", 1.0)]),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [serve, rest @ ..] = &arguments[..]
        && serve == "serve"
    {
        return self::serve(rest);
    }
    let python =
        find_option(&arguments, "--python").ok_or("--python PYTHON is missing; PYTHON needs torch and torchvision")?;
    let only = find_option(&arguments, "--only");
    let turns = find_option(&arguments, "--turns").map_or(Ok(TURNS), |turns| turns.parse())?;
    let data = tempfile::tempdir()?;
    let request = Request::new(Dataset::Cifar100, TRAIN, TEST);
    synth::write(data.path(), &request, &|| {})?;

    let chosen = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let mut rows = vec![];
    for (architecture, pairs) in ROWS.into_iter().filter(|(architecture, _)| chosen(architecture)) {
        rows.extend(compare(data.path(), &python, architecture, pairs, turns)?);
    }
    if chosen("ranks") {
        rows.push(compare_ranks(data.path(), turns)?);
    }
    print_table(&rows, "images/s");
    let what = format!(
        "{TRAIN} images of 32×32 in batches of {BATCH}, then an evaluation of {TEST}; {THREADS} threads; images/s"
    );
    write("training", &what, turns, &rows)?;
    Ok(())
}

fn ours(data: &Path, architecture: &str, precision: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program is a file"));
    command.args(["serve", architecture, precision, &THREADS.to_string()]).arg(data);
    command
}

fn theirs(data: &Path, python: &str, architecture: &str, style: &str) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/opponents/training.py");
    let mut command = Command::new(python);
    command.arg(script).arg(data.join("cifar-100-binary")).args([architecture, style]);
    command.args([THREADS.to_string(), BATCH.to_string()]);
    command
}

fn compare(data: &Path, python: &str, architecture: &str, pairs: &[Pair], turns: usize) -> Result<Vec<Value>> {
    let mut names: Vec<(bool, &str)> = vec![];
    for &(own, opponent, _) in pairs {
        for name in [(true, own), (false, opponent)] {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let mut sides = vec![];
    for &(own, name) in &names {
        let mut command = if own { ours(data, architecture, name) } else { theirs(data, python, architecture, name) };
        sides.push(Side::start(&mut command)?);
    }
    take_turns(&mut sides, turns, architecture)?;
    let side = |own: bool, name: &str| {
        let at = names.iter().position(|started| *started == (own, name)).expect("it was started");
        &sides[at]
    };
    let row = |&(own, opponent, goal): &Pair| {
        let (own_side, opponent_side) = (side(true, own), side(false, opponent));
        json!({
            "row": format!("{architecture}, {own}, against {opponent}"),
            "ours": median(own_side.rates.clone()),
            "theirs": median(opponent_side.rates.clone()),
            "ratio": ratio(own_side, opponent_side),
            "goal": goal,
            "our memory per image, MB": memory_per_image(own_side),
            "their memory per image, MB": memory_per_image(opponent_side),
        })
    };
    Ok(pairs.iter().map(row).collect())
}

/// Returns the peak memory in MB per image of a batch.
fn memory_per_image(side: &Side) -> Option<f64> {
    side.memory.map(|bytes| bytes / BATCH as f64 / 1e6)
}

/// Compares two ranks with one thread each with one rank with two threads.
fn compare_ranks(data: &Path, turns: usize) -> Result<Value> {
    let architecture = "resnet20";
    let one = Side::start(&mut ours(data, architecture, "fp32"))?;
    let program = std::env::current_exe()?;
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["--bind-to", "none", "-np", "2"]).arg(program).args(["serve", architecture, "fp32", "1"]).arg(data);
    mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    // Idle ranks must not use the cores of the other side.
    mpirun.env("OMPI_MCA_mpi_yield_when_idle", "1");
    let two = Side::start(&mut mpirun)?;
    let mut sides = [one, two];
    take_turns(&mut sides, turns, "ranks")?;
    let [one, two] = &sides;
    Ok(json!({
        "row": format!("{architecture}, two ranks of one thread, against one rank of two"),
        "ours": median(two.rates.clone()),
        "theirs": median(one.rates.clone()),
        "ratio": ratio(two, one),
        "goal": 0.95,
    }))
}

/// Runs a side of winsign: trains an epoch with the code of the trainer for each line that rank 0 reads.
fn serve(arguments: &[String]) -> Result<()> {
    let [architecture, precision, threads, data] = arguments else { return Err("four arguments are needed".into()) };
    winsign_trainer::memory::keep_freed();
    winsign_trainer::tch::set_num_threads(threads.parse()?);
    let ranks = comm::join(false, None, "")?;
    let comm = &*ranks.comm;
    let problem = Problem::new(Dataset::Cifar100, architecture.parse::<Architecture>()?);
    let precision: Precision = precision.parse()?;
    let training = Training {
        epochs: 1,
        batch: BATCH as u32,
        optimizer: Default::default(),
        lr: 0.1,
        momentum: 0.9,
        weight_decay: 5e-4,
        schedule: Schedule::Constant,
        precision,
    };
    let network = Network::new(problem).with_precision(precision);
    let data = winsign_trainer::data::load(Dataset::Cifar100, data.as_ref(), threads.parse()?)?;
    let batches = Batches::new(&data, training.batch, 1, "bench");
    let mut weights = Weights::initialize(&network.layout, 1);
    winsign_trainer::prune::prune(&mut weights, &network.layout, 0.2)?;
    weights.parameters = weights.parameters.set_requires_grad(true);
    let mut moments = optimizer::fresh_moments(training.optimizer, &weights.parameters);
    let mut stepper = Stepper::new(comm, &network, &training, &weights);
    let root = comm.place().is_root();
    let print_line = |message: Value| {
        if root {
            println!("{message}");
        }
    };
    print_line(json!({ "parameters": network.layout.parameters() }));
    let before = process_status("VmRSS")?;
    let mut number = 0;
    for epoch in 1.. {
        let mut line = String::new();
        let has_turn = root && std::io::stdin().read_line(&mut line)? > 0;
        if comm.largest(has_turn.into()) == 0 {
            break;
        }
        let start = Instant::now();
        let (mut losses, mut images) =
            (winsign_trainer::tch::Tensor::zeros([], winsign_trainer::tch::kind::FLOAT_CPU), 0);
        for batch in batches.epoch(epoch).shares(0, comm.place()) {
            let batch = batch?;
            number += 1;
            let pass = stepper.step((&mut weights, &mut moments), &batch, (training.lr, number), None, None);
            losses += &pass.loss;
            images += batch.whole;
        }
        let workers = Workers { comm, stop: &AtomicBool::new(false) };
        evaluate(workers, &network, &weights.parameters.detach(), &weights.statistics, &data)?;
        let seconds = start.elapsed().as_secs_f64();
        let memory = process_status("VmHWM")? - before;
        print_line(json!({ "seconds": seconds, "images": images, "memory": memory, "loss": losses.double_value(&[]) }));
    }
    Ok(())
}

/// Returns a size in the status of this process, in bytes.
fn process_status(name: &str) -> Result<i64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<i64>()? * 1024)
}
