//! Runs the commands of a scheduler.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::Error;

/// The delays between retries when the controller does not respond. It may be restarting.
const PATIENCE: &[Duration] = &[Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// The maximum number of words in one call, to limit the length of the command line.
pub(crate) const AT_ONCE: usize = 500;

/// The commands of a scheduler.
pub(crate) struct Commands {
    /// The name of the scheduler.
    pub(crate) title: &'static str,
    /// Returns the error that the message of a command means.
    pub(crate) classify: fn(command: String, words: String) -> Error,
}

impl Commands {
    /// Runs a command, repeatedly if the controller does not respond, and returns its output.
    pub(crate) fn ask(&self, command: &mut Command) -> Result<String, Error> {
        self.with_input(command, b"", Error::is_unavailable)
    }

    /// Runs a command, and repeats it after errors that are `repeatable`; returns its output.
    pub(crate) fn with_input(
        &self,
        command: &mut Command,
        input: &[u8],
        repeatable: fn(&Error) -> bool,
    ) -> Result<String, Error> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut delays = PATIENCE.iter();
        loop {
            let output = execute(command, input).map_err(|error| match error.kind() {
                ErrorKind::NotFound => Error::Missing { scheduler: self.title, command: name.clone() },
                _ => Error::Refused { command: name.clone(), words: error.to_string() },
            })?;
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            let words = describe(&name, &output);
            let error = match output.status.code() {
                Some(_) => (self.classify)(name.clone(), words),
                // Killed, perhaps together with the job that it has requeued.
                None => Error::Unavailable { command: name.clone(), words },
            };
            match delays.next() {
                Some(&delay) if repeatable(&error) => std::thread::sleep(delay),
                _ => return Err(error),
            }
        }
    }
}

fn execute(command: &mut Command, input: &[u8]) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    // If the command fails before it has read everything, its own error is reported.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output()
}

/// Returns the error message of a command, without its name before every line.
fn describe(name: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().map(|line| line.strip_prefix(&format!("{name}: ")).unwrap_or(line));
    let lines: Vec<&str> = lines.map(|line| line.strip_prefix("error: ").unwrap_or(line)).collect();
    match lines.is_empty() {
        true => output.status.to_string(),
        false => lines.join("\n"),
    }
}
