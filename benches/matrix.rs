//! The barrier matrix of 20 seeds on the digits (190 paths of 11 points) against the way of the paper's reference implementation:
//! a process for every path, which reads the data and estimates BatchNorm's statistics anew for every point.
//!
//!     cargo bench --bench matrix -- --python PYTHON [--paths N] [--turns N]
//!
//! PYTHON needs torch and torchvision. Both sides use two cores by two processes of one thread side by side, and test images alone.
//! Ours is `winsign run`, from the plan to the last committed result: the matrix in blocks of ten networks, and for
//! comparison a run for every path. The networks of our side are trained before (not measured); theirs are drawn at random,
//! which saves them reading files. They get as many DataLoader workers as are quickest here: none. `--paths` measures so many
//! of their paths and multiplies (all of them unless given). Writes `results/bench/matrix.json`.

#[allow(dead_code)]
mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::json;

use common::{Result, median, option, write};

const SEEDS: u32 = 20;
const PAIRS: usize = 190;
const POINTS: u32 = 11;
const BLOCK: u32 = 10;
const SIDE_BY_SIDE: usize = 2;
const GOAL: f64 = 5.0;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let python = option(&arguments, "--python").ok_or("say which Python has torch and torchvision: --python PYTHON")?;
    let paths = option(&arguments, "--paths").map_or(Ok(PAIRS), |paths| paths.parse())?;
    let turns: usize = option(&arguments, "--turns").map_or(Ok(1), |turns| turns.parse())?;
    let folder = tempfile::tempdir()?;
    run(folder.path(), "")?;

    let (mut ours, mut singly, mut theirs) = (vec![], vec![], vec![]);
    for turn in 1..=turns {
        ours.push(matrix(folder.path(), BLOCK)?);
        singly.push(matrix(folder.path(), 1)?);
        let start = Instant::now();
        reference(&python, paths)?;
        theirs.push(start.elapsed().as_secs_f64() * PAIRS as f64 / paths as f64);
        eprintln!("turn {turn} of {turns}");
    }
    let ratio = |ours: &[f64]| median(theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect());
    let row = |name: &str, seconds: &[f64]| {
        json!({
            "row": name,
            "ours, s": median(seconds.to_vec()),
            "theirs, s": median(theirs.clone()),
            "ratio": ratio(seconds),
            "goal": GOAL,
        })
    };
    let rows = [row(&format!("blocks of {BLOCK} networks"), &ours), row("a run for every path", &singly)];
    rows.iter().for_each(|row| println!("{row}"));
    let what = format!(
        "{PAIRS} paths of {POINTS} points between {SEEDS} seeds of a signed mask on the digits, statistics estimated anew for each \
         point, test images alone; {SIDE_BY_SIDE} processes of one thread; of theirs {paths} paths were measured"
    );
    write("matrix", &what, turns, &rows)
}

/// A sweep of one ticket that is handed to the seeds; what is joined is in `connect`. All that is done already is not done
/// again.
fn run(folder: &Path, connect: &str) -> Result<()> {
    let sweep = folder.join("matrix.yaml");
    let last = SEEDS + 1;
    fs::write(
        &sweep,
        format!(
            "dataset: digits\narchitecture: resnet8\nticket: {{method: aws, levels: 3, warmup_epochs: 3, epochs: 1}}\n\
             transfer: {{inherit: sign, level: last, epochs: 2, seed: 2..{last}}}\n{connect}"
        ),
    )?;
    let mut winsign = Command::new(env!("CARGO_BIN_EXE_winsign"));
    winsign.arg("run").arg(&sweep).arg("--store").arg(folder.join("store"));
    winsign.args(["--quiet", "--jobs", &SIDE_BY_SIDE.to_string(), "--threads", "1"]);
    match winsign.status()? {
        status if status.success() => Ok(()),
        status => Err(format!("winsign run ended with {status}").into()),
    }
}

/// Seconds of the matrix in blocks of so many networks, with no path there before.
fn matrix(folder: &Path, block: u32) -> Result<f64> {
    forget_paths(&folder.join("store/runs"))?;
    let start = Instant::now();
    run(folder, &format!("connect: {{between: seeds, block: {block}, points: {POINTS}, sets: test}}\n"))?;
    Ok(start.elapsed().as_secs_f64())
}

/// Deletes every run that joins networks.
fn forget_paths(runs: &Path) -> Result<()> {
    for shelf in fs::read_dir(runs)? {
        for run in fs::read_dir(shelf?.path())? {
            let run = run?.path();
            let settings: serde_json::Value = serde_json::from_slice(&fs::read(run.join("run.json"))?)?;
            if matches!(settings["settings"]["kind"].as_str(), Some("connect" | "matrix")) {
                fs::remove_dir_all(&run)?;
            }
        }
    }
    Ok(())
}

/// So many paths, each by a process of its own.
fn reference(python: &str, paths: usize) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let start_one = || -> Result<Child> {
        let mut command = Command::new(python);
        command.arg(root.join("benches/opponents/barrier.py")).arg(root.join("src/data/digits.bin.gz"));
        command.args(["resnet8", "10", &POINTS.to_string(), "1", "64", "0"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        // One path, and then the end of its input.
        child.stdin.take().expect("it is piped").write_all(b"go\n")?;
        Ok(child)
    };
    let mut at_work: Vec<Child> = vec![];
    for _ in 0..paths {
        if at_work.len() == SIDE_BY_SIDE {
            ended(at_work.remove(0))?;
        }
        at_work.push(start_one()?);
    }
    at_work.into_iter().try_for_each(ended)
}

fn ended(mut child: Child) -> Result<()> {
    match child.wait()? {
        status if status.success() => Ok(()),
        status => Err(format!("a path of theirs ended with {status}").into()),
    }
}
