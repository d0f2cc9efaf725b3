//! `winsign` plans, launches, watches and reports.

use std::process::ExitCode;

fn main() -> ExitCode {
    winsign_cli::main()
}
