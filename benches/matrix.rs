//! Compares the time for the barrier matrix of 20 seeds on the digits (190 paths of 11 points) with that of the paper's reference
//! implementation, which starts a process for each path; it reads the data, and estimates the statistics of BatchNorm for each point.
//!
//!     cargo bench --bench matrix -- --python PYTHON [--paths N] [--turns N]
//!
//! PYTHON needs torch and torchvision. Both sides have two processes with one thread each at the same time, and evaluate test
//! images only. The side of winsign is `winsign run`, from the plan to the last committed result, with the matrix in blocks of ten
//! networks, and for comparison with one run per path. Its networks are trained before, and this is not measured. The networks of
//! the other side are random, so it reads no files. It has no DataLoader workers, since this is fastest here. With `--paths`, only
//! this many of its paths are measured, and the time is scaled up. Writes `results/bench/matrix.json`.

#[allow(dead_code)]
mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::json;

use common::{Result, find_option, median, write};

const SEEDS: u32 = 20;
const PAIRS: usize = 190;
const POINTS: u32 = 11;
const BLOCK: u32 = 10;
const PROCESSES: usize = 2;
const GOAL: f64 = 5.0;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let python =
        find_option(&arguments, "--python").ok_or("--python PYTHON is missing; PYTHON needs torch and torchvision")?;
    let paths = find_option(&arguments, "--paths").map_or(Ok(PAIRS), |paths| paths.parse())?;
    let turns: usize = find_option(&arguments, "--turns").map_or(Ok(1), |turns| turns.parse())?;
    let folder = tempfile::tempdir()?;
    run(folder.path(), "")?;

    let (mut ours, mut singly, mut theirs) = (vec![], vec![], vec![]);
    for turn in 1..=turns {
        ours.push(measure_matrix(folder.path(), BLOCK)?);
        singly.push(measure_matrix(folder.path(), 1)?);
        let start = Instant::now();
        run_reference(&python, paths)?;
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
         point, test images alone; {PROCESSES} processes of one thread; of theirs {paths} paths were measured"
    );
    write("matrix", &what, turns, &rows)
}

/// Runs a sweep that transfers one ticket to all seeds; `connect` is its last block. Runs that are done are not executed again.
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
    winsign.args(["--quiet", "--jobs", &PROCESSES.to_string(), "--threads", "1"]);
    match winsign.status()? {
        status if status.success() => Ok(()),
        status => Err(format!("winsign run ended with {status}").into()),
    }
}

/// Computes the matrix in blocks of `block` networks, without results of earlier turns; returns the seconds that it took.
fn measure_matrix(folder: &Path, block: u32) -> Result<f64> {
    delete_paths(&folder.join("store/runs"))?;
    let start = Instant::now();
    run(folder, &format!("connect: {{between: seeds, block: {block}, points: {POINTS}, sets: test}}\n"))?;
    Ok(start.elapsed().as_secs_f64())
}

/// Deletes all runs that connect networks.
fn delete_paths(runs: &Path) -> Result<()> {
    for prefix in fs::read_dir(runs)? {
        for run in fs::read_dir(prefix?.path())? {
            let run = run?.path();
            let settings: serde_json::Value = serde_json::from_slice(&fs::read(run.join("run.json"))?)?;
            if matches!(settings["settings"]["kind"].as_str(), Some("connect" | "matrix")) {
                fs::remove_dir_all(&run)?;
            }
        }
    }
    Ok(())
}

fn start_path(python: &str) -> Result<Child> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    command.arg(root.join("benches/opponents/barrier.py")).arg(root.join("src/data/digits.bin.gz"));
    command.args(["resnet8", "10", &POINTS.to_string(), "1", "64", "0"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    // Its input ends after one line, so it computes one path.
    child.stdin.take().expect("it is piped").write_all(b"go\n")?;
    Ok(child)
}

/// Computes this many paths with the reference implementation, each in its own process.
fn run_reference(python: &str, paths: usize) -> Result<()> {
    let mut running: Vec<Child> = vec![];
    for _ in 0..paths {
        if running.len() == PROCESSES {
            wait(running.remove(0))?;
        }
        running.push(start_path(python)?);
    }
    running.into_iter().try_for_each(wait)
}

fn wait(mut child: Child) -> Result<()> {
    match child.wait()? {
        status if status.success() => Ok(()),
        status => Err(format!("a process of the reference implementation ended with {status}").into()),
    }
}
