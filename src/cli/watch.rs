//! Something that is looked at again and again, and shown anew each time.

use std::future::pending;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, output};

/// How a look at something becomes text, and when there is nothing more to see.
pub(crate) trait Watched: Send + Sync + 'static {
    /// What a look finds.
    type Look: Send + Sync + 'static;

    /// Looks; `before` is what was found last time.
    fn look(&self, before: Option<&Self::Look>) -> Result<Self::Look, Failure>;
    fn show(&self, look: &Self::Look) -> String;
    /// Whether another look could find anything else.
    fn is_over(&self, look: &Self::Look) -> bool;
}

/// Shows what is found until nothing more will come: then gives the last look. None if it was stopped before that, by
/// SIGINT or SIGTERM or because nobody reads on.
///
/// On a terminal each look replaces the one before, on a screen of its own that is gone afterwards, lines cut where the
/// terminal ends. Elsewhere one follows the other.
pub(crate) fn watch<W: Watched>(
    watched: &Arc<W>,
    every: Duration,
    plain: bool,
) -> Result<Option<Arc<W::Look>>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(winsign_core::Error::io("watch", std::path::Path::new("the store")))?;
    let seen = runtime.block_on(watch_on(watched, every, plain));
    // A look under way may hang on a file system that does not answer.
    runtime.shutdown_background();
    seen
}

async fn watch_on<W: Watched>(watched: &Arc<W>, every: Duration, plain: bool) -> Result<Option<Arc<W::Look>>, Failure> {
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
        // A slow file system must not be kept busy by those who look at it.
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
    let told = tokio::select! {
        told = interrupt.recv() => told,
        told = terminate.recv() => told,
    };
    if told.is_none() {
        pending::<()>().await;
    }
}

/// The terminal's other screen, until it is dropped.
struct Screen;

/// To the other screen, without a cursor, and without wrapping what is too wide.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

impl Screen {
    fn open() -> Screen {
        write(ENTER);
        Screen
    }

    /// Draws over what is there, without a moment in which nothing is; false if the terminal is gone.
    fn draw(&self, text: &str) -> bool {
        let size = tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let (columns, rows) = size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()));
        // To erase the rest of a line that is full would take its last character.
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

/// The lines of a text that fit on a screen, each as far as it fits.
fn fit(text: &str, columns: usize, rows: usize) -> Vec<String> {
    let all: Vec<&str> = text.lines().collect();
    let shown = if all.len() > rows { rows - 1 } else { all.len() };
    let mut lines: Vec<String> = all[..shown].iter().map(|line| cut(line, columns)).collect();
    if shown < all.len() {
        lines.push(cut(&format!("… {} more lines", all.len() - shown), columns));
    }
    lines
}

/// The beginning of a line that takes so many columns; colors take none.
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
    fn lines_are_cut_where_the_terminal_ends() {
        assert_eq!(cut("levels 1..12", 12), "levels 1..12");
        assert_eq!(cut("levels 1..12", 11), "levels 1..…");
        assert_eq!(cut("levels", 1), "…");
        assert_eq!(cut("ψ₀ and ψ₁", 4), "ψ₀ …");
        assert_eq!(cut("\x1b[1mname\x1b[0m", 4), "\x1b[1mname\x1b[0m", "colors take no columns");
        assert_eq!(cut("\x1b[31mfailed\x1b[0m: x", 4), "\x1b[31mfai…\x1b[0m");
    }

    #[test]
    fn what_does_not_fit_below_is_counted() {
        assert_eq!(fit("a\nb\nc\n", 20, 3), ["a", "b", "c"]);
        assert_eq!(fit("a\nb\nc\nd\n", 20, 3), ["a", "b", "… 2 more lines"]);
        assert_eq!(fit("a\nb\n", 20, 1), ["… 2 more lines"]);
    }
}
