//! The progress of a sweep on standard error: on a terminal, a bar for the sweep and a line for each active run; elsewhere, a
//! line when something has changed, at most every 30 seconds.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use winsign_core::attempt::Progress;

/// A display on standard error.
pub struct Display {
    bars: MultiProgress,
    overall: ProgressBar,
    active: BTreeMap<usize, ProgressBar>,
    /// True if bars are shown; otherwise `lines` are printed, if any.
    visible: bool,
    lines: Option<Lines>,
    /// True if nothing is printed, not even messages.
    silent: bool,
}

/// The progress where standard error is not a terminal.
struct Lines {
    name: String,
    total: usize,
    /// The time at which the last line was printed, and the number of runs that were done then.
    last: Option<(Instant, usize)>,
}

/// The minimum time between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

impl Lines {
    /// Returns a line if more runs are done than when the last one was printed, at least [`LINE_INTERVAL`] ago. Returns `None`
    /// when all runs are done, because the summary follows.
    fn next(&mut self, now: Instant, done: usize, left: Option<Duration>) -> Option<String> {
        if done == self.total || self.last.is_some_and(|(at, before)| now - at < LINE_INTERVAL || done == before) {
            return None;
        }
        self.last = Some((now, done));
        let left = left.map_or(String::new(), |left| format!(", about {} left", HumanDuration(left)));
        Some(format!("{}: {done} of {} runs done{left}", self.name, self.total))
    }
}

impl Display {
    /// Creates a display; `quiet` hides bars and lines.
    pub fn new(name: &str, total: usize, quiet: bool) -> Display {
        let visible = !quiet && std::io::stderr().is_terminal();
        let lines = (!quiet && !visible).then(|| Lines { name: name.to_string(), total, last: None });
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let overall = bars.add(ProgressBar::new(total as u64));
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} runs, {elapsed} so far{msg}");
        overall.set_style(style.expect("the template is well-formed").progress_chars("━╸─"));
        overall.set_prefix(name.to_string());
        Display { bars, overall, active: BTreeMap::new(), visible, lines, silent: false }
    }

    /// Creates a display that prints nothing, for callers that print the outcome themselves.
    pub fn silent() -> Display {
        Display { silent: true, ..Display::new("", 0, true) }
    }

    /// Shows how many runs are done, and how long the others may take.
    pub fn show_overall(&mut self, done: usize, left: Option<Duration>) {
        if let Some(line) = self.lines.as_mut().and_then(|lines| lines.next(Instant::now(), done, left)) {
            self.print(&line);
        }
        self.overall.set_position(done as u64);
        self.overall.set_message(match left {
            Some(left) => format!(", about {} left", HumanDuration(left)),
            None => String::new(),
        });
    }

    /// Returns true if active runs are shown.
    pub fn shows_runs(&self) -> bool {
        self.visible
    }

    /// Shows or updates the line of an active run; `place` is the process of another dispatcher that executes it.
    pub fn show_active(&mut self, key: usize, label: &str, place: Option<&str>, progress: Option<&Progress>) {
        if !self.visible {
            return;
        }
        let bar = self.active.entry(key).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(1));
            let style = ProgressStyle::with_template("  {bar:10} {msg}").expect("the template is well-formed");
            bar.set_style(style.progress_chars("━╸─"));
            bar
        });
        let mut message = label.to_string();
        if let Some(place) = place {
            message += &format!(" ({place})");
        }
        if let Some(progress) = progress {
            bar.set_length(u64::from(progress.total));
            bar.set_position(u64::from(progress.done));
            if let Some(error) = progress.test_error {
                message += &format!(": {}/{} epochs, test error {error:.1} %", progress.done, progress.total);
            }
        }
        bar.set_message(message);
    }

    /// Removes the line of a run.
    pub fn remove_active(&mut self, key: usize) {
        if let Some(bar) = self.active.remove(&key) {
            self.bars.remove(&bar);
        }
    }

    /// Prints a message above the bars.
    pub fn print(&self, text: &str) {
        if self.silent {
            return;
        }
        self.bars.suspend(|| {
            // Standard error may be closed.
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }

    /// Removes all bars.
    pub fn finish(&mut self) {
        for (_, bar) in std::mem::take(&mut self.active) {
            self.bars.remove(&bar);
        }
        self.overall.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_printed_after_a_change_and_a_minimum_time() {
        let began = Instant::now();
        let mut lines = Lines { name: "study".to_string(), total: 9, last: None };
        let mut at = |seconds: u64, done| lines.next(began + Duration::from_secs(seconds), done, None);
        assert_eq!(at(0, 0).as_deref(), Some("study: 0 of 9 runs done"));
        assert_eq!((at(29, 2), at(31, 0)), (None, None), "too early; nothing has changed");
        assert_eq!(at(32, 2).as_deref(), Some("study: 2 of 9 runs done"));
        assert_eq!((at(61, 3), at(70, 9)), (None, None), "too early; the summary follows");
        let left = Some(Duration::from_secs(480));
        let line = lines.next(began + Duration::from_secs(90), 4, left);
        assert_eq!(line.as_deref(), Some("study: 4 of 9 runs done, about 8 minutes left"));
    }
}
