//! `winsign data check`: is what lies in a folder sound?

use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use winsign_core::exit;
use winsign_data::check::{self, Progress, Report};
use winsign_data::{Set, processors};

use super::super::{Common, Failure, output};
use super::bar;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder that holds the data sets, one set's own folder, or a pack
    folder: PathBuf,
    /// Look for this set only
    #[arg(long, value_name = "SET")]
    like: Option<Set>,
    /// How many threads read images [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

pub(super) const HELP: &str = "\
Every image is decoded, every label is looked at, and the numbers are compared with the
publisher's. A set of another size can be used, so that is a warning; an unreadable image or a
malformed file is not.

Examples:
  winsign data check data
  winsign data check data/imagenet --threads 16
  winsign data check imagenet.pack
  winsign data check data --like cifar100 --json | jq '.sets[0].parts'

Exit codes:
   0  every set that is there can be used
   2  there is no such set there; the message says what was looked for
  65  some files cannot be used: all of them are named
  74  a folder or file cannot be read";

pub(super) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
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
    let sound = reports.iter().all(|report| report.problems.is_empty());
    Ok(if sound { exit::SUCCESS } else { exit::DAMAGED_INPUT })
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
        let _ = writeln!(text, "  cannot be used: {}: {}", problem.path.display(), problem.reason);
    }
    let verdict = match (report.problems.len(), report.warnings.is_empty()) {
        (0, true) => "sound, and as published".to_string(),
        (0, false) => "sound, but not as published".to_string(),
        (1, _) => "1 file cannot be used".to_string(),
        (count, _) => format!("{count} files cannot be used"),
    };
    let _ = writeln!(text, "  {verdict}");
    text
}
