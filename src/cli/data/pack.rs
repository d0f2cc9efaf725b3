//! `winsign data pack`: a data set of many files as one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{HumanBytes, ProgressBar};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use winsign_core::exit;
use winsign_data::pack::{Options, Progress, pack, partial_path};
use winsign_data::{Error, Set, imagenet, processors};

use super::super::{Common, Failure, output};
use super::bar;

pub(super) const HELP: &str = "\
Examples:
  winsign data pack /data/imagenet imagenet.pack                      as published: 147 GB
  winsign data pack /data/imagenet small.pack --short-side 256        a sixth, read twice as fast

A packing that was interrupted goes on when it is started again: what is there is checked and
kept.";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The data set: train/CLASS/*.JPEG and val, or the folder that holds it as `imagenet`
    #[arg(value_name = "DIR")]
    root: PathBuf,
    /// The file to be written
    file: PathBuf,
    /// Make images smaller whose shorter side is longer than this, in pixels; others stay as they are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_500))]
    short_side: Option<u32>,
    /// Quality of the JPEGs that are made smaller
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(i32).range(1..=100), requires = "short_side")]
    quality: i32,
    /// Leave damaged images out, instead of stopping at the first
    #[arg(long)]
    skip_unreadable: bool,
    /// Threads that read, and make smaller [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    threads: Option<u16>,
}

/// Damaged images that are named; more are only counted.
const NAMED: usize = 20;

pub(super) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let listing = imagenet::list(&arguments.root)?;
    let options = Options {
        short_side: arguments.short_side.map(|side| side as usize),
        quality: arguments.quality,
        threads: arguments.threads.map_or_else(processors, usize::from),
        skip_unreadable: arguments.skip_unreadable,
    };
    let (bar, stop) = (bar(common, 0), stop_at_signal());
    bar.set_prefix(Set::Imagenet.name());
    let packed = pack(&listing, &arguments.file, &options, &stop, |progress| show(&bar, progress));
    bar.finish_and_clear();
    let summary = packed.map_err(|error| explain(error, &arguments.file))?;
    let total = listing.train.len() + listing.test.len();
    if common.json {
        output::json(&json!({
            "file": arguments.file.to_string_lossy(),
            "finished": summary.finished,
            "images": summary.images,
            "bytes": summary.bytes,
            "skipped": summary.skipped.iter().map(|(path, _)| path.to_string_lossy()).collect::<Vec<_>>(),
        }))?;
    } else if !common.quiet {
        for (path, reason) in summary.skipped.iter().take(NAMED) {
            let reason = reason.as_deref().unwrap_or("damaged, as an earlier run found");
            output::tell(&format!("left out: {}: {reason}", path.display()));
        }
        if summary.skipped.len() > NAMED {
            output::tell(&format!("left out: {} more", summary.skipped.len() - NAMED));
        }
    }
    if !summary.finished {
        let done = summary.images + summary.skipped.len();
        output::tell(&format!("stopped after {done} of {total} images; the same command goes on"));
        return Ok(exit::INTERRUPTED);
    }
    if !common.json {
        let size = HumanBytes(summary.bytes);
        output::text(&format!("{}: {} images, {size}\n", arguments.file.display(), summary.images))?;
    }
    Ok(exit::SUCCESS)
}

fn show(bar: &ProgressBar, progress: Progress) {
    if bar.length() != Some(progress.total as u64) {
        // What an earlier run did says nothing about how fast this one is.
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.reset_eta();
    }
    bar.set_position(progress.done as u64);
    bar.set_message(format!(", {} written", HumanBytes(progress.bytes)));
}

/// Set by the first SIGINT or SIGTERM. The second ends the process, which loses nothing that the next run cannot make.
fn stop_at_signal() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime can be built");
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
            let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
            loop {
                tokio::select! {
                    _ = interrupt.recv() => (),
                    _ = terminate.recv() => (),
                }
                if seen.swap(true, Ordering::Relaxed) {
                    std::process::exit(i32::from(exit::INTERRUPTED));
                }
            }
        });
    });
    stop
}

/// What to do after an error in the middle.
fn explain(error: Error, file: &Path) -> Failure {
    let help = match &error {
        Error::Io { .. } => {
            "what is packed is kept: free some space or mend what is wrong, then run the same command again"
        }
        Error::Malformed { path, .. } if *path == file || *path == partial_path(file) => "nothing was changed",
        _ => {
            "fetch it again, or leave it and other damaged images out with --skip-unreadable; \
             `winsign data check DIR` names them all; the same command goes on"
        }
    };
    Failure::Data(error, Some(help.to_string()))
}
