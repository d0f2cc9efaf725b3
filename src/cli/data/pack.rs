//! `winsign data pack`: packs a data set of many files into one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{HumanBytes, ProgressBar};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use winsign_core::{Diagnostic, exit};
use winsign_data::pack::{Options, Progress, pack, partial_path};
use winsign_data::{Error, Set, imagenet, processors};

use super::super::{Common, output};
use super::bar;

pub(super) const HELP: &str = "\
Examples:
  winsign data pack /data/imagenet imagenet.pack                      original images, 147 GB
  winsign data pack /data/imagenet small.pack --short-side 256        a sixth of that, twice as fast

If packing was interrupted, run the same command again; the existing part is checked and kept.";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The data set, with train/CLASS/*.JPEG and val, or the directory that contains it as `imagenet`
    #[arg(value_name = "DIR")]
    root: PathBuf,
    /// The file to write
    file: PathBuf,
    /// Scale down images whose shorter side exceeds N pixels
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_500))]
    short_side: Option<u32>,
    /// JPEG quality of scaled images
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(i32).range(1..=100), requires = "short_side")]
    quality: i32,
    /// Skip damaged images instead of stopping at the first
    #[arg(long)]
    skip_unreadable: bool,
    /// Number of threads that read and scale images [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    threads: Option<u16>,
}

/// The maximum number of damaged images listed; others are only counted.
const NAMED: usize = 20;

pub(super) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
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
            let reason = reason.as_deref().unwrap_or("damaged, as found by an earlier run");
            output::message(&format!("skipped: {}: {reason}", path.display()));
        }
        if summary.skipped.len() > NAMED {
            output::message(&format!("skipped: {} more", summary.skipped.len() - NAMED));
        }
    }
    if !summary.finished {
        let done = summary.images + summary.skipped.len();
        output::message(&format!("interrupted after {done} of {total} images; run the same command again to continue"));
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
        // The images of an earlier run must not affect the estimated time.
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.reset_eta();
    }
    bar.set_position(progress.done as u64);
    bar.set_message(format!(", {} written", HumanBytes(progress.bytes)));
}

/// Returns a flag that the first SIGINT or SIGTERM sets. The second ends the process; the next run repeats what is lost.
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

/// Adds help to an error that occurred while packing.
fn explain(error: Error, file: &Path) -> Diagnostic {
    let help = match &error {
        Error::Io { .. } => {
            "free space or repair the file system, then run the same command again; what was packed is kept"
        }
        Error::Malformed { path, .. } if *path == file || *path == partial_path(file) => {
            "choose another file, or delete it; nothing was changed"
        }
        _ => {
            "download it again or skip damaged images with --skip-unreadable, then run the same command again; \
             `winsign data check DIR` lists all damaged images"
        }
    };
    let mut diagnostic = Diagnostic::from(error);
    diagnostic.help = Some(help.to_string());
    diagnostic
}
