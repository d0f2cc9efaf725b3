//! Executes one run directory. See `winsign::trainer`.

use std::process::ExitCode;

fn main() -> ExitCode {
    winsign::trainer::worker::main()
}
