//! `winsign logs`: prints a run's log, and follows it.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use winsign_core::attempt::LOG;
use winsign_core::files::open_if_exists;
use winsign_core::{Diagnostic, Error, RunDirectory, State, Store, exit};

use super::{Common, output, show};

pub(crate) const HELP: &str = "\
Examples:
  winsign logs 3f09c2aa41d07e55
  winsign logs 3f09 -f                  follow the log until the run is done or has failed
  winsign logs 3f09 -n 20 --all         the last 20 lines of every attempt

With -f the exit code is 0 if the run is done, and 3 if it failed; with -f and --json, each line of
the log is printed as one line of JSON.";

/// The interval at which a followed log is read.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// How long a run must have been failed before following ends, since it may be restarted immediately.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The identity of the run, or its first digits
    run: String,
    /// Follow the log until the run is done or has failed
    #[arg(short, long)]
    follow: bool,
    /// Print only the last LINES lines of a log
    #[arg(short = 'n', long, value_name = "LINES")]
    lines: Option<usize>,
    /// Print the log of this attempt [default: the latest]
    #[arg(long, value_name = "N", conflicts_with_all = ["follow", "all"])]
    attempt: Option<u32>,
    /// Print the logs of all attempts
    #[arg(long)]
    all: bool,
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let store = Store::open(&common.store)?;
    let run = store.run(&show::find(&store, &arguments.run)?);
    let attempts = run.attempts()?;
    let chosen = match (arguments.attempt, attempts.last()) {
        (Some(attempt), _) if !attempts.contains(&attempt) => return Err(no_attempt(&run, attempt, &attempts)),
        (Some(attempt), _) => vec![attempt],
        (None, _) if arguments.all => attempts,
        (None, latest) => latest.copied().into_iter().collect(),
    };
    if arguments.follow {
        let Common { json, quiet, .. } = *common;
        let mut follower = Follower { run, json, quiet, titled: arguments.all, tail: None };
        return follower.follow(&chosen, arguments.lines);
    }
    let lines = arguments.lines.unwrap_or(usize::MAX);
    if common.json {
        let logs = chosen.iter().map(|&attempt| json!({ "attempt": attempt, "log": run.log_of(attempt, lines) }));
        return output::json(&json!({ "id": run.id, "attempts": logs.collect::<Vec<_>>() }));
    }
    if chosen.is_empty() {
        output::message(&format!("{} has no attempt yet", run.id));
    }
    let mut text = String::new();
    for &attempt in &chosen {
        if arguments.all {
            text += &title(attempt);
        }
        run.log_of(attempt, lines).iter().for_each(|line| text += &format!("{line}\n"));
    }
    output::text(&text)
}

fn no_attempt(run: &RunDirectory, attempt: u32, attempts: &[u32]) -> Diagnostic {
    let help = match attempts {
        [] => "run it first; it has no attempt yet".to_string(),
        [one] => format!("use attempt {one}, the only one"),
        [first, .., last] => format!("choose one of {}, from {first} to {last}", attempts.len()),
    };
    Diagnostic::new(format!("{} has no attempt {attempt}", run.id), help)
}

fn title(attempt: u32) -> String {
    format!("── attempt {attempt} ──\n")
}

/// A log that is being written, and the position up to which it was printed.
struct Tail {
    attempt: u32,
    path: PathBuf,
    offset: u64,
    /// The beginning of an unfinished line.
    begun: Vec<u8>,
}

impl Tail {
    /// Reads what was appended. The file is opened each time, since network file systems check its size only then.
    fn read(&mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = std::mem::take(&mut self.begun);
        let Some((mut file, _)) = open_if_exists(&self.path)? else { return Ok(bytes) };
        let read = file.seek(SeekFrom::Start(self.offset)).and_then(|_| file.read_to_end(&mut bytes));
        self.offset += read.map_err(Error::io("read", &self.path))? as u64;
        Ok(bytes)
    }

    /// Returns the lines finished since the last call; with `to_the_end` also an unfinished last line.
    fn lines(&mut self, to_the_end: bool) -> Result<Vec<String>, Error> {
        let mut bytes = self.read()?;
        let finished = match to_the_end {
            true => bytes.len(),
            false => bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1),
        };
        self.begun = bytes.split_off(finished);
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_string).collect())
    }
}

/// Prints the logs of the attempts of a run, in order.
struct Follower {
    run: RunDirectory,
    json: bool,
    quiet: bool,
    /// Whether the first log has a title as well.
    titled: bool,
    tail: Option<Tail>,
}

impl Follower {
    fn follow(&mut self, chosen: &[u32], lines: Option<usize>) -> Result<u8, Diagnostic> {
        for &attempt in chosen {
            if !self.go_over_to(attempt, lines)? {
                return Ok(exit::SUCCESS);
            }
        }
        let mut failed: Option<Instant> = None;
        let mut reported_waiting = false;
        loop {
            // The state is read before the log, so that the whole log is printed before the end is reported.
            let state = match self.run.state() {
                // The next process that runs it sets the file aside and computes it again.
                Err(Error::Damaged { .. }) => State::Idle { attempts: 0 },
                other => other?,
            };
            let current = self.tail.as_ref().map_or(0, |tail| tail.attempt);
            if let Some(next) = self.run.attempts()?.into_iter().find(|&attempt| attempt > current) {
                if !(self.print(true)? && self.go_over_to(next, None)?) {
                    return Ok(exit::SUCCESS);
                }
                continue;
            }
            let over = match &state {
                // The log may continue after the commit.
                State::Done(_) => current == 0 || self.run.claim_if_alive(current)?.is_none(),
                State::Failed { .. } => failed.get_or_insert_with(Instant::now).elapsed() >= GRACE,
                State::Running { .. } | State::Idle { .. } => {
                    failed = None;
                    false
                }
            };
            if !self.print(over)? {
                return Ok(exit::SUCCESS);
            }
            match state {
                State::Done(_) if over => return self.ended("done", None, exit::SUCCESS),
                State::Failed { message, .. } if over => {
                    return self.ended("failed", Some(message), exit::RUNS_FAILED);
                }
                State::Idle { .. } if !(reported_waiting || self.quiet) => {
                    reported_waiting = true;
                    output::message(&format!("{} is not running; waiting for the next attempt", self.run.id));
                }
                State::Running { .. } => reported_waiting = false,
                _ => {}
            }
            if !reader_waits() {
                return Ok(exit::SUCCESS);
            }
        }
    }

    /// Starts with the log of an attempt, with its last lines only if `lines` is given; returns false if the reader is
    /// gone.
    fn go_over_to(&mut self, attempt: u32, lines: Option<usize>) -> Result<bool, Diagnostic> {
        let path = self.run.attempt_path(attempt).join(LOG);
        let first = self.tail.is_none();
        let mut tail = Tail { attempt, path, offset: 0, begun: vec![] };
        if (!first || self.titled) && !self.json && !output::more(&title(attempt))? {
            return Ok(false);
        }
        let all = tail.lines(false)?;
        let wanted = &all[all.len().saturating_sub(lines.unwrap_or(usize::MAX))..];
        self.tail = Some(tail);
        self.print_lines(attempt, wanted)
    }

    /// Prints new lines; returns false if the reader is gone.
    fn print(&mut self, to_the_end: bool) -> Result<bool, Diagnostic> {
        let Some(tail) = &mut self.tail else {
            return Ok(true);
        };
        let (attempt, lines) = (tail.attempt, tail.lines(to_the_end)?);
        self.print_lines(attempt, &lines)
    }

    fn print_lines(&self, attempt: u32, lines: &[String]) -> Result<bool, Diagnostic> {
        let as_output = |line: &String| match self.json {
            true => format!("{}\n", json!({ "attempt": attempt, "line": line })),
            false => format!("{line}\n"),
        };
        output::more(&lines.iter().map(as_output).collect::<String>())
    }

    /// Reports how the run ended.
    fn ended(&self, state: &str, message: Option<String>, code: u8) -> Result<u8, Diagnostic> {
        if self.json {
            output::more(&format!("{}\n", json!({ "state": state, "message": message })))?;
            return Ok(code);
        }
        let message = message.map(|message| format!(": {message}")).unwrap_or_default();
        output::message(&format!(
            "{} {}{message}",
            self.run.id,
            if state == "done" { "is done" } else { "has failed" }
        ));
        Ok(code)
    }
}

/// Waits for the next tick; returns false if the reader of standard output is gone. Without this, `winsign logs -f … | head`
/// would end only with the next line of the log.
fn reader_waits() -> bool {
    let stdout = std::io::stdout();
    let mut stdout = [PollFd::new(&stdout, PollFlags::empty())];
    // A signal may end the wait early, which does no harm.
    let _ = poll(&mut stdout, Some(&TICK));
    !stdout[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}
