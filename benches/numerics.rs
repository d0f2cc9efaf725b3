//! Compares the time of a training with native and with portable numerics. The processes take turns.
//!
//!     cargo bench --bench numerics [-- --turns N]
//!
//! The networks train with one thread, on the digits and on synthetic images in CIFAR-100's format. The ratio is the time with
//! native numerics divided by that with portable numerics; if it is below 1, portable numerics are slower. Writes
//! `results/bench/numerics.json`.

#[allow(dead_code)]
mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use common::{Result, find_option, median, write};

const WINSIGN: &str = env!("CARGO_BIN_EXE_winsign");

/// A data set, an architecture, and the epochs of the dense network.
const CASES: [(&str, &str, u32); 4] = [
    ("digits", "resnet8", 20),
    ("cifar100", "resnet20", 2),
    ("cifar100", "mobilenetv2", 1),
    ("cifar100", "resnet50", 1),
];
const IMAGES: [&str; 4] = ["--train", "128", "--test", "32"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let turns: usize = find_option(&arguments, "--turns").map_or(Ok(3), |turns| turns.parse())?;
    let folder = tempfile::tempdir()?;
    let mut synth = Command::new(WINSIGN);
    synth.args(["data", "synth", "--like", "cifar100"]).args(IMAGES).arg(folder.path());
    succeed(&mut synth)?;

    let mut rows = vec![];
    for (dataset, architecture, epochs) in CASES {
        let mut seconds: [Vec<f64>; 2] = Default::default();
        for turn in 1..=turns {
            for (numerics, seconds) in ["native", "portable"].into_iter().zip(&mut seconds) {
                let study = format!(
                    "dataset: {dataset}\narchitecture: {architecture}\nnumerics: {numerics}\n\
                     ticket: {{method: aws, levels: 1, warmup_epochs: {epochs}, epochs: 1}}\n"
                );
                seconds.push(measure(folder.path(), &study)?);
            }
            eprintln!("{architecture}: turn {turn} of {turns}");
        }
        let [native, portable] = seconds;
        let ratio = median(native.iter().zip(&portable).map(|(native, portable)| native / portable).collect());
        let row = json!({
            "row": format!("{architecture} on {dataset}"),
            "native, s": median(native),
            "portable, s": median(portable),
            "ratio": ratio,
        });
        println!("{row}");
        rows.push(row);
    }
    write("numerics", "two trainings and their evaluations by one thread, native over portable numerics", turns, &rows)
}

/// Runs a study in a new store; returns the seconds that it took.
fn measure(folder: &Path, study: &str) -> Result<f64> {
    let (sweep, store) = (folder.join("study.yaml"), folder.join("store"));
    fs::write(&sweep, study)?;
    let start = Instant::now();
    let mut winsign = Command::new(WINSIGN);
    winsign.arg("run").arg(&sweep).arg("--store").arg(&store).arg("--data").arg(folder);
    succeed(winsign.args(["--quiet", "--jobs", "1", "--threads", "1"]))?;
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_dir_all(&store)?;
    Ok(seconds)
}

fn succeed(command: &mut Command) -> Result<()> {
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(format!("{command:?} ended with {status}").into()),
    }
}
