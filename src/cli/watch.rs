//! Repeated display of something that changes.

use std::future::pending;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output;
use winsign_core::Diagnostic;

/// Something that can be watched until it is over.
pub(crate) trait Watched: Send + Sync + 'static {
    /// The state at one time.
    type Look: Send + Sync + 'static;

    /// Returns the current state; `before` is the previous one.
    fn look(&self, before: Option<&Self::Look>) -> Result<Self::Look, Diagnostic>;
    fn show(&self, look: &Self::Look) -> String;
    /// Whether the state is final.
    fn is_over(&self, look: &Self::Look) -> bool;
}

/// Shows the state until it is final, then returns it. Returns `None` if it was stopped before that, by SIGINT or SIGTERM or
/// because the reader is gone.
///
/// On a terminal each state replaces the previous one, on the alternate screen, with long lines truncated. Elsewhere states
/// are printed one after another.
pub(crate) fn watch<W: Watched>(
    watched: &Arc<W>,
    every: Duration,
    plain: bool,
) -> Result<Option<Arc<W::Look>>, Diagnostic> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(winsign_core::Error::io("watch", std::path::Path::new("the store")))?;
    let seen = runtime.block_on(watch_on(watched, every, plain));
    // A pending look may hang on a file system that does not respond.
    runtime.shutdown_background();
    seen
}

async fn watch_on<W: Watched>(
    watched: &Arc<W>,
    every: Duration,
    plain: bool,
) -> Result<Option<Arc<W::Look>>, Diagnostic> {
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
    let mut resized = signal(SignalKind::window_change()).expect("SIGWINCH can be caught");
    let screen = (!plain && std::io::stdout().is_terminal()).then(Screen::open);
    let mut last: Option<Arc<W::Look>> = None;
    loop {
        let began = Instant::now();
        let (looking, before) = (Arc::clone(watched), last.clone());
        let look = tokio::task::spawn_blocking(move || looking.look(before.as_deref()));
        let look = tokio::select! {
            look = look => Arc::new(look.expect("looking does not panic")?),
            () = stopped(&mut interrupt, &mut terminate) => return Ok(None),
        };
        let took = began.elapsed();
        let goes_on = match &screen {
            Some(screen) => screen.draw(&watched.show(&look)),
            None => output::more(&watched.show(&look))?,
        };
        if !goes_on {
            return Ok(None);
        }
        if watched.is_over(&look) {
            drop(screen);
            return Ok(Some(look));
        }
        // Polling must not keep a slow file system busy.
        let wait = tokio::time::sleep(every.max(took));
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => break,
                () = stopped(&mut interrupt, &mut terminate) => return Ok(None),
                _ = resized.recv() => if let Some(screen) = &screen { screen.draw(&watched.show(&look)); },
            }
        }
        last = Some(look);
    }
}

async fn stopped(interrupt: &mut Signal, terminate: &mut Signal) {
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

    /// Draws over the previous content without clearing it first, to avoid flicker; returns false if the terminal is gone.
    fn draw(&self, text: &str) -> bool {
        let size = tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let (columns, rows) = size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()));
        // Erasing the rest of a full line would delete its last character.
        let lines = fit(text, columns - 1, rows);
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
fn fit(text: &str, columns: usize, rows: usize) -> Vec<String> {
    let all: Vec<&str> = text.lines().collect();
    let shown = if all.len() > rows { rows - 1 } else { all.len() };
    let mut lines: Vec<String> = all[..shown].iter().map(|line| cut(line, columns)).collect();
    if shown < all.len() {
        lines.push(cut(&format!("… {} more lines", all.len() - shown), columns));
    }
    lines
}

/// Truncates a line to a number of columns; color codes take none.
fn cut(line: &str, columns: usize) -> String {
    let mut taken = 0;
    let mut in_color = false;
    let width = |character: char, in_color: &mut bool| {
        let was = *in_color;
        *in_color = character == '\x1b' || was && character != 'm';
        usize::from(!was && !*in_color)
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_truncated() {
        assert_eq!(cut("levels 1..12", 12), "levels 1..12");
        assert_eq!(cut("levels 1..12", 11), "levels 1..…");
        assert_eq!(cut("levels", 1), "…");
        assert_eq!(cut("ψ₀ and ψ₁", 4), "ψ₀ …");
        assert_eq!(cut("\x1b[1mname\x1b[0m", 4), "\x1b[1mname\x1b[0m", "colors take no columns");
        assert_eq!(cut("\x1b[31mfailed\x1b[0m: x", 4), "\x1b[31mfai…\x1b[0m");
    }

    #[test]
    fn lines_that_do_not_fit_are_counted() {
        assert_eq!(fit("a\nb\nc\n", 20, 3), ["a", "b", "c"]);
        assert_eq!(fit("a\nb\nc\nd\n", 20, 3), ["a", "b", "… 2 more lines"]);
        assert_eq!(fit("a\nb\n", 20, 1), ["… 2 more lines"]);
    }
}
