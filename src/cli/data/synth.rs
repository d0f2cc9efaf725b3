//! `winsign data synth`: small sets in the true formats.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use winsign_data::cifar::Format;
use winsign_data::{Set, synth};

use super::super::{Common, Failure, output};
use super::bar;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder that is to hold the set, under its publisher's name for it; made if need be
    folder: PathBuf,
    /// Which set it is to be like
    #[arg(long, value_name = "SET")]
    like: Set,
    /// How many training images
    #[arg(long, value_name = "N")]
    train: usize,
    /// How many test images
    #[arg(long, value_name = "M")]
    test: usize,
    /// How many classes have images [default: so many that each has 20 training images, but not more than the true set]
    #[arg(long, value_name = "K")]
    classes: Option<usize>,
    /// Which version of CIFAR [default: binary]
    #[arg(long)]
    format: Option<Format>,
    /// How image files lie [default: original for tiny-imagenet, folders for imagenet]
    #[arg(long)]
    layout: Option<synth::Layout>,
    /// Other seeds make other patterns
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(super) const HELP: &str = "\
Every class is a smooth pattern of colors, so a small network learns it in a few epochs. Files
have the true names and formats: whatever reads the true set reads this one. Nothing that exists
is ever overwritten.

Examples:
  winsign data synth --like cifar100 --train 5000 --test 1000 data
  winsign data synth --like cifar10 --format python --train 500 --test 100 data
  winsign data synth --like tiny-imagenet --layout per-class --train 2000 --test 400 data
  winsign data synth --like imagenet --layout devkit --train 1000 --test 100 --classes 10 data

Exit codes:
   0  the set is there, whole
   2  there is such a set already, or what is asked for cannot be; nothing was written
  74  it cannot be written (full disk, say); nothing was left behind";

pub(super) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
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
