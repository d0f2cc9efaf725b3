//! The evidence that a report shows beside results: training curves, and the last lines of logs.
//!
//! Ten thousand runs of a hundred epochs have more than a hundred megabytes of metrics. So few of their lines are parsed, and
//! several threads read at once.

mod curve;

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use winsign_core::attempt::LOG;
use winsign_core::files::open_if_exists;
use winsign_core::parallel;
use winsign_core::{RunDirectory, RunId};
use winsign_sweep::plan::RunState;
use winsign_sweep::plan::survey::RunStatus;

use crate::{Curve, Notice};

/// The largest number of lines of a log's end, and of the bytes that are read for them.
const LOG_LINES: usize = 10;
const LOG_BYTES: u64 = 4_096;

/// The evidence of one run; empty unless it is done or has failed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// The training curve of a run that is done and was trained.
    pub curve: Option<Arc<Curve>>,
    /// The end of the log of the attempt that committed or failed.
    pub log_end: Option<Arc<str>>,
    /// The reason of a missing curve.
    pub metrics_error: Option<MetricsError>,
}

/// The problem with a run's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricsError {
    /// They were removed after the status of the run was read.
    Vanished,
    /// They differ from those that the result was committed with.
    Damaged,
}

/// Returns the evidence of each run, in their order. Files that cannot be read are left out, which is not an error: a
/// report shows the evidence that exists.
pub fn collect(runs: &[(RunDirectory, &RunStatus)]) -> Vec<Evidence> {
    parallel::map(runs, |(run, status)| read(run, status))
}

/// Returns the warnings about metrics that could not be read.
pub fn notices<'a>(runs: impl Iterator<Item = (&'a RunId, &'a Evidence)>) -> Vec<Notice> {
    let mut by_error: HashMap<MetricsError, Vec<RunId>> = HashMap::new();
    for (id, evidence) in runs {
        if let Some(error) = evidence.metrics_error {
            by_error.entry(error).or_default().push(id.clone());
        }
    }
    let notice = |error, what: &str| {
        let runs: Vec<RunId> = by_error.get(&error)?.clone();
        let message = match runs.len() {
            1 => format!("the metrics of a run {what}: its training curve is left out"),
            several => format!("the metrics of {several} runs {what}: their training curves are left out"),
        };
        Some(Notice { message, runs })
    };
    let vanished = notice(MetricsError::Vanished, "vanished while they were read");
    let damaged = notice(MetricsError::Damaged, "are not those that the result was committed with");
    vanished.into_iter().chain(damaged).collect()
}

fn read(run: &RunDirectory, status: &RunStatus) -> Evidence {
    let (curve, metrics_error) = match status.result.as_ref().and_then(|result| result.metrics.as_ref()) {
        Some(metrics) if status.state == RunState::Done => match curve::read(run, metrics) {
            Ok(curve) => (curve.map(Arc::new), None),
            Err(metrics_error) => (None, Some(metrics_error)),
        },
        _ => (None, None),
    };
    let has_log = matches!(status.state, RunState::Done | RunState::Failed);
    let log_end = has_log.then(|| log_end(&run.attempt_path(status.attempts).join(LOG))).flatten();
    Evidence { curve, log_end, metrics_error }
}

/// Returns the last lines of a file, without reading the lines before them.
fn log_end(path: &Path) -> Option<Arc<str>> {
    let (mut file, length) = open_if_exists(path).ok()??;
    let start = length.saturating_sub(LOG_BYTES);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = vec![];
    file.take(LOG_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    // The first line may begin before the bytes that were read.
    if start > 0 && lines.len() > 1 {
        lines.remove(0);
    }
    let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    let printable = |character: char| if character.is_control() && character != '\n' { ' ' } else { character };
    Some(end.chars().map(printable).collect::<String>()).filter(|end| !end.is_empty()).map(Arc::from)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn log_end_is_bounded_in_lines_and_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let end = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            log_end(&path)
        };
        assert_eq!(end(b"").as_deref(), None);
        assert_eq!(end(b"one\ntwo").as_deref(), Some("one\ntwo"));
        assert_eq!(end(b"\x1b[31mred\x1b[0m\n").as_deref(), Some(" [31mred [0m"));
        let long: String = (0..1000).map(|line| format!("line {line}\n")).collect();
        let expected: Vec<String> = (990..1000).map(|line| format!("line {line}")).collect();
        assert_eq!(end(long.as_bytes()).as_deref(), Some(expected.join("\n").as_str()));
        // Cut within a character, and within a line.
        let wide = "ψ".repeat(5000) + "\nlast";
        assert_eq!(end(wide.as_bytes()).as_deref(), Some("last"));
        assert!(end("x".repeat(10_000).as_bytes()).unwrap().len() <= LOG_BYTES as usize);
        assert_eq!(log_end(&folder.path().join("none")).as_deref(), None);
        // No process ever writes to this pipe.
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(log_end(&pipe).as_deref(), None);
    }
}
