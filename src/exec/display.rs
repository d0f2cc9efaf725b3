//! The progress display of a sweep: one bar for the sweep, one line per active run. If standard error is not a terminal, only
//! warnings and failures are shown.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use winsign_core::attempt::Progress;

/// A display on standard error.
pub struct Display {
    bars: MultiProgress,
    overall: ProgressBar,
    active: BTreeMap<usize, ProgressBar>,
    /// Whether bars are shown.
    visible: bool,
}

impl Display {
    /// Creates a display; `quiet` hides the bars even on a terminal.
    pub fn new(name: &str, total: usize, quiet: bool) -> Display {
        let visible = !quiet && std::io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let overall = bars.add(ProgressBar::new(total as u64));
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} runs, {elapsed} so far{msg}");
        overall.set_style(style.expect("the template is well-formed").progress_chars("━╸─"));
        overall.set_prefix(name.to_string());
        Display { bars, overall, active: BTreeMap::new(), visible }
    }

    /// Shows the number of finished runs, and the estimated time for the others.
    pub fn overall(&self, done: usize, left: Option<Duration>) {
        self.overall.set_position(done as u64);
        self.overall.set_message(match left {
            Some(left) => format!(", about {} left", HumanDuration(left)),
            None => String::new(),
        });
    }

    /// Shows or updates the line of an active run; `place` is its location on another host.
    pub fn active(&mut self, key: usize, label: &str, place: Option<&str>, progress: Option<&Progress>) {
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
    pub fn inactive(&mut self, key: usize) {
        if let Some(bar) = self.active.remove(&key) {
            self.bars.remove(&bar);
        }
    }

    /// Prints a message above the bars.
    pub fn say(&self, text: &str) {
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
