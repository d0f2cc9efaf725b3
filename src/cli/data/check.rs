//! `winsign data check`: checks data sets on disk.

use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use winsign_core::{Diagnostic, exit};
use winsign_data::check::{self, Progress, Report};
use winsign_data::{Set, processors};

use super::super::{Common, output};
use super::bar;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The directory with the data sets, the directory of one set, or a pack
    folder: PathBuf,
    /// Check only this set
    #[arg(long, value_name = "SET")]
    like: Option<Set>,
    /// Number of threads that read images [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

pub(super) const HELP: &str = "\
Every image is decoded, every label is checked, and the numbers of images are compared with those of
the published set. A different size is a warning; unreadable images and malformed files are errors.

Examples:
  winsign data check data
  winsign data check data/imagenet --threads 16
  winsign data check imagenet.pack
  winsign data check data --like cifar100 --json | jq '.sets[0].parts'

Exit codes:
   0  all sets found are usable
   2  no set was found; the message lists the expected files
  65  some files are unusable; all of them are listed
  74  a directory or file cannot be read";

pub(super) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let threads = arguments.threads.map_or_else(processors, NonZeroUsize::get);
    let bar = bar(common, 0);
    let reports = check::check(&arguments.folder, arguments.like, threads, &|progress| match progress {
        Progress::Begin(set, images) => {
            bar.reset();
            bar.set_length(images as u64);
            bar.set_prefix(set.name());
        }
        Progress::Image => bar.inc(1),
    });
    bar.finish_and_clear();
    let reports = reports?;
    if common.json {
        output::json(&json!({ "sets": reports }))?;
    } else {
        output::text(&reports.iter().map(describe).collect::<Vec<_>>().join("\n"))?;
    }
    let readable = reports.iter().all(|report| report.problems.is_empty());
    Ok(if readable { exit::SUCCESS } else { exit::DAMAGED_INPUT })
}

fn describe(report: &Report) -> String {
    let version = report.format.map_or(String::new(), |format| format!(", {format} version"));
    let mut text = format!("{}{version}, in {}\n", report.set.name(), report.folder.display());
    for part in &report.parts {
        let _ = writeln!(text, "  {:<8} {} images of {} classes", part.part.to_string(), part.images, part.classes);
    }
    for note in &report.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
    for problem in &report.problems {
        let _ = writeln!(text, "  unusable: {}: {}", problem.path.display(), problem.reason);
    }
    let verdict = match (report.problems.len(), report.warnings.is_empty()) {
        (0, true) => "readable, and identical in size to the published set".to_string(),
        (0, false) => "readable, but differs from the published set".to_string(),
        (1, _) => "1 file is unusable".to_string(),
        (count, _) => format!("{count} files are unusable"),
    };
    let _ = writeln!(text, "  {verdict}");
    text
}
