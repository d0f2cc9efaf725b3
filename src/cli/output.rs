//! Output of commands.

use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::Serialize;
use winsign_core::Diagnostic;

use super::colors;

/// Prints a text. A closed pipe (`winsign plan … | head`) is not an error.
pub(crate) fn text(text: &str) -> Result<u8, Diagnostic> {
    more(text).map(|_| winsign_core::exit::SUCCESS)
}

/// Prints a text; returns false if the reader has closed the pipe.
pub(crate) fn more(text: &str) -> Result<bool, Diagnostic> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(winsign_core::Error::io("write", Path::new("standard output"))(error).into()),
    }
}

/// Prints a message on standard error; errors are ignored.
pub(crate) fn message(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints an error on standard error, also as JSON on standard output if wanted; returns the exit code.
pub(crate) fn error(error: &Diagnostic, as_json: bool) -> u8 {
    message(&error.render(colors(&std::io::stderr())));
    if as_json {
        let _ = json(&serde_json::json!({ "error": error }));
    }
    error.exit_code
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<u8, Diagnostic> {
    let json = serde_json::to_string_pretty(value).expect("what is printed is plain data");
    text(&(json + "\n"))
}
