//! What a person sees while a sweep runs: one bar for the whole, one line per active run. Quiet when standard error is
//! not a terminal, but for warnings and failures.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use winsign_core::attempt::Progress;

/// Draws on standard error.
pub struct Display {
    bars: MultiProgress,
    overall: ProgressBar,
    active: BTreeMap<usize, ProgressBar>,
    /// Lines that appear above the bars; false where only warnings are wanted.
    visible: bool,
}

impl Display {
    /// `quiet` hides the bars also on a terminal.
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

    /// How many runs are done, and how long the others may take.
    pub fn overall(&self, done: usize, left: Option<Duration>) {
        self.overall.set_position(done as u64);
        self.overall.set_message(match left {
            Some(left) => format!(", about {} left", HumanDuration(left)),
            None => String::new(),
        });
    }

    /// Shows or moves the line of an active run. `place` says where it runs if not here.
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

    /// Takes the line of a run away.
    pub fn inactive(&mut self, key: usize) {
        if let Some(bar) = self.active.remove(&key) {
            self.bars.remove(&bar);
        }
    }

    /// Something a person should know, above the bars.
    pub fn say(&self, text: &str) {
        self.bars.suspend(|| {
            // Whoever listened may be gone.
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }

    /// Leaves the terminal clean.
    pub fn finish(&mut self) {
        for (_, bar) in std::mem::take(&mut self.active) {
            self.bars.remove(&bar);
        }
        self.overall.finish_and_clear();
    }
}
