//! Shows a state repeatedly while it changes.

use std::future::pending;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output;
use winsign_core::Diagnostic;

/// A source of states that can be watched until a state is final.
pub(crate) trait Watched: Send + Sync + 'static {
    /// The state at one time.
    type Snapshot: Send + Sync + 'static;

    /// Returns the current state; `before` is the previous one.
    fn poll(&self, before: Option<&Self::Snapshot>) -> Result<Self::Snapshot, Diagnostic>;
    fn show(&self, snapshot: &Self::Snapshot) -> String;
    /// Returns true if the state is final.
    fn is_over(&self, snapshot: &Self::Snapshot) -> bool;
}

/// Shows the state until it is final, then returns it. Returns `None` if SIGINT or SIGTERM arrives before that, or if the
/// reader closes standard output.
///
/// On a terminal each state replaces the previous one, on the alternate screen, with long lines truncated. Elsewhere each
/// state is printed after the previous one.
pub(crate) fn watch<W: Watched>(
    watched: &Arc<W>,
    every: Duration,
    plain: bool,
) -> Result<Option<Arc<W::Snapshot>>, Diagnostic> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(winsign_core::Error::io("watch", std::path::Path::new("the store")))?;
    let last = runtime.block_on(poll_until_final(watched, every, plain));
    // A pending poll may hang on a file system that does not respond.
    runtime.shutdown_background();
    last
}

async fn poll_until_final<W: Watched>(
    watched: &Arc<W>,
    every: Duration,
    plain: bool,
) -> Result<Option<Arc<W::Snapshot>>, Diagnostic> {
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
    let mut resized = signal(SignalKind::window_change()).expect("SIGWINCH can be caught");
    let screen = (!plain && std::io::stdout().is_terminal()).then(Screen::open);
    let mut last: Option<Arc<W::Snapshot>> = None;
    loop {
        let began = Instant::now();
        let (polled, before) = (Arc::clone(watched), last.clone());
        let poll = tokio::task::spawn_blocking(move || polled.poll(before.as_deref()));
        let snapshot = tokio::select! {
            result = poll => Arc::new(result.expect("polling does not panic")?),
            () = stop_signal(&mut interrupt, &mut terminate) => return Ok(None),
        };
        let took = began.elapsed();
        let has_reader = match &screen {
            Some(screen) => screen.draw(&watched.show(&snapshot)),
            None => output::more(&watched.show(&snapshot))?,
        };
        if !has_reader {
            return Ok(None);
        }
        if watched.is_over(&snapshot) {
            drop(screen);
            return Ok(Some(snapshot));
        }
        // Polling must not keep a slow file system busy.
        let wait = tokio::time::sleep(every.max(took));
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => break,
                () = stop_signal(&mut interrupt, &mut terminate) => return Ok(None),
                _ = resized.recv() => if let Some(screen) = &screen { screen.draw(&watched.show(&snapshot)); },
            }
        }
        last = Some(snapshot);
    }
}

/// Waits for a signal to stop.
async fn stop_signal(interrupt: &mut Signal, terminate: &mut Signal) {
    let received = tokio::select! {
        received = interrupt.recv() => received,
        received = terminate.recv() => received,
    };
    if received.is_none() {
        pending::<()>().await;
    }
}

/// The terminal's alternate screen, until it is dropped.
struct Screen;

/// Enters the alternate screen, hides the cursor and disables line wrapping.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

impl Screen {
    fn open() -> Screen {
        write(ENTER);
        Screen
    }

    /// Draws over the previous content without clearing it first, to avoid flicker; returns false if the terminal was closed.
    fn draw(&self, text: &str) -> bool {
        let size = tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let (columns, rows) = size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()));
        // Erasing the rest of a full line would delete its last character.
        let lines = fit_lines(text, columns - 1, rows);
        write(&format!("\x1b[H{}\x1b[J", lines.join("\x1b[K\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write(LEAVE);
    }
}

fn write(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// Returns the lines of a text that fit on a screen, truncated to its width.
fn fit_lines(text: &str, columns: usize, rows: usize) -> Vec<String> {
    let all: Vec<&str> = text.lines().collect();
    let shown = if all.len() > rows { rows - 1 } else { all.len() };
    let mut lines: Vec<String> = all[..shown].iter().map(|line| truncate(line, columns)).collect();
    if shown < all.len() {
        lines.push(truncate(&format!("… {} more lines", all.len() - shown), columns));
    }
    lines
}

/// Truncates a line to a number of columns; color codes take no columns.
fn truncate(line: &str, columns: usize) -> String {
    let mut taken = 0;
    let mut in_color = false;
    let total: usize = line.chars().map(|character| width(character, &mut in_color)).sum();
    if total <= columns {
        return line.to_string();
    }
    in_color = false;
    let mut beginning = String::new();
    for character in line.chars() {
        taken += width(character, &mut in_color);
        if taken == columns {
            break;
        }
        beginning.push(character);
    }
    let reset = if beginning.contains('\x1b') { "\x1b[0m" } else { "" };
    format!("{beginning}…{reset}")
}

/// Returns the number of columns of a character; `in_color` is true within a color code.
fn width(character: char, in_color: &mut bool) -> usize {
    let was_in_color = *in_color;
    *in_color = character == '\x1b' || was_in_color && character != 'm';
    usize::from(!was_in_color && !*in_color)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_truncated() {
        assert_eq!(truncate("levels 1..12", 12), "levels 1..12");
        assert_eq!(truncate("levels 1..12", 11), "levels 1..…");
        assert_eq!(truncate("levels", 1), "…");
        assert_eq!(truncate("ψ₀ and ψ₁", 4), "ψ₀ …");
        assert_eq!(truncate("\x1b[1mname\x1b[0m", 4), "\x1b[1mname\x1b[0m", "colors take no columns");
        assert_eq!(truncate("\x1b[31mfailed\x1b[0m: x", 4), "\x1b[31mfai…\x1b[0m");
    }

    #[test]
    fn lines_that_do_not_fit_are_counted() {
        assert_eq!(fit_lines("a\nb\nc\n", 20, 3), ["a", "b", "c"]);
        assert_eq!(fit_lines("a\nb\nc\nd\n", 20, 3), ["a", "b", "… 2 more lines"]);
        assert_eq!(fit_lines("a\nb\n", 20, 1), ["… 2 more lines"]);
    }
}
