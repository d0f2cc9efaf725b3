//! Measures how fast batches of CIFAR-100 are shuffled, cropped, flipped and normalized, in comparison with torchvision.
//!
//! ```text
//! cargo bench --bench augmentation                            measures winsign only
//! cargo bench --bench augmentation -- --python PYTHON         also measures torchvision; PYTHON needs torch and torchvision
//! ```
//!
//! Both sides read the same file of 50,000 random images, and take turns. In each turn they make an epoch of batches of 128,
//! with two threads or two worker processes. The time of winsign includes shuffling and random numbers, but not reading and
//! padding the set, which is done once. Writes results/bench/augmentation.json.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use winsign_core::random::Source;
use winsign_core::settings::Dataset;
use winsign_trainer::comm::Place;
use winsign_trainer::data::batches::Batches;

const IMAGES: usize = 50_000;
const BATCH: u32 = 128;
const THREADS: i32 = 2;
/// The number of measured epochs of each side.
const REPEATS: u32 = 5;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let python = arguments.iter().position(|argument| argument == "--python").map(|at| &arguments[at + 1]);
    let root = tempfile::tempdir()?;
    write_random_set(root.path())?;

    winsign_trainer::tch::set_num_threads(THREADS);
    let data = winsign_trainer::data::load(Dataset::Cifar100, root.path(), THREADS as usize)?;
    let batches = Batches::new(&data, BATCH, 1, "bench");
    let epoch = |epoch: u32| -> Result<f64> {
        let start = Instant::now();
        let mut images = 0;
        for batch in batches.epoch(epoch).shares(0, Place::ALONE) {
            images += black_box(batch?.images).size()[0];
        }
        assert_eq!(images, IMAGES as i64);
        Ok(images as f64 / start.elapsed().as_secs_f64())
    };
    epoch(0)?;
    let (mut ours, mut theirs) = (vec![], vec![]);
    for repeat in 1..=REPEATS {
        ours.push(epoch(repeat)?);
        if let Some(python) = python {
            theirs.push(measure_torchvision(python, root.path())?);
        }
    }
    let mut record = json!({
        "date": jiff::Timestamp::now(),
        "what": "CIFAR-100 training images per second: shuffle, crop with padding 4, flip, normalize; batches of 128",
        "threads": THREADS,
        "winsign": summarize(&mut ours),
    });
    println!("winsign      {:>9.0} images/s", median(&mut ours));
    if !theirs.is_empty() {
        let ratio = median(&mut ours) / median(&mut theirs);
        println!("torchvision  {:>9.0} images/s\nratio        {ratio:>9.1}  (goal: 10)", median(&mut theirs));
        record["torchvision"] = summarize(&mut theirs);
        record["ratio"] = json!(ratio);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/bench/augmentation.json");
    fs::create_dir_all(path.parent().expect("a file in a folder"))?;
    fs::write(&path, format!("{record:#}\n"))?;
    Ok(())
}

/// Writes the binary version of CIFAR-100 with random pixels, since their values do not change the speed.
fn write_random_set(root: &Path) -> Result<()> {
    let folder = root.join("cifar-100-binary");
    fs::create_dir_all(&folder)?;
    let mut stream = Source::new(1, "pixels", 0).stream(0);
    let mut records = |count: usize| -> Vec<u8> {
        let record = |index: usize| {
            let pixels: Vec<u8> = (0..3_072 / 8).flat_map(|_| stream.bits().to_le_bytes()).collect();
            [vec![(index % 20) as u8, (index % 100) as u8], pixels].concat()
        };
        (0..count).flat_map(record).collect()
    };
    fs::write(folder.join("train.bin"), records(IMAGES))?;
    fs::write(folder.join("test.bin"), records(100))?;
    Ok(())
}

/// Measures one epoch of torchvision, in images per second.
fn measure_torchvision(python: &str, root: &Path) -> Result<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/opponents/augmentation.py");
    let output = Command::new(python).arg(script).arg(root).arg(THREADS.to_string()).output()?;
    if !output.status.success() {
        return Err(format!("{python}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let times: Value = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| times[key].as_f64().ok_or(format!("the opponent did not print {key}"));
    Ok(number("images")? / number("seconds")?)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn summarize(values: &mut [f64]) -> Value {
    json!({ "median": median(values), "lowest": values[0], "highest": values[values.len() - 1] })
}
