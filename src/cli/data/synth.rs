//! `winsign data synth`: generates small sets in the published formats.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use winsign_core::Diagnostic;
use winsign_data::cifar::Format;
use winsign_data::{Set, synth};

use super::super::{Common, output};
use super::bar;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The directory in which the set is created, under its published name
    folder: PathBuf,
    /// The set to imitate
    #[arg(long, value_name = "SET")]
    like: Set,
    /// Number of training images
    #[arg(long, value_name = "N")]
    train: usize,
    /// Number of test images
    #[arg(long, value_name = "M")]
    test: usize,
    /// Number of classes with images [default: enough for 20 training images per class, at most those of the published set]
    #[arg(long, value_name = "K")]
    classes: Option<usize>,
    /// Format of CIFAR [default: binary]
    #[arg(long)]
    format: Option<Format>,
    /// Layout of image files [default: original for tiny-imagenet, folders for imagenet]
    #[arg(long)]
    layout: Option<synth::Layout>,
    /// Seed of the patterns
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(super) const HELP: &str = "\
Every class is a smooth pattern of colors, which a small network learns in a few epochs. Files have
the names and formats of the published set, so any program that reads that set can read this one.
Existing files are never overwritten.

Examples:
  winsign data synth --like cifar100 --train 5000 --test 1000 data
  winsign data synth --like cifar10 --format python --train 500 --test 100 data
  winsign data synth --like tiny-imagenet --layout per-class --train 2000 --test 400 data
  winsign data synth --like imagenet --layout devkit --train 1000 --test 100 --classes 10 data

Exit codes:
   0  the set was written
   2  the set already exists, or the request is invalid; nothing was written
  74  the set cannot be written (for example, the disk is full); partial files were removed";

pub(super) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let &Arguments { like, train, test, classes, seed, format, layout, .. } = arguments;
    let bar = bar(common, train.saturating_add(test));
    bar.set_prefix(like.name());
    let request = synth::Request { like, train, test, classes, seed, format, layout };
    let written = synth::write(&arguments.folder, &request, &|| bar.inc(1));
    bar.finish_and_clear();
    let folder = written?;
    match common.json {
        true => output::json(&json!({ "set": like, "folder": folder, "train": train, "test": test })),
        false if common.quiet => Ok(winsign_core::exit::SUCCESS),
        false => output::text(&format!("{} has {train} training and {test} test images\n", folder.display())),
    }
}
