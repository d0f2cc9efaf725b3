//! The program `winsign-worker`, which executes one run directory.

use std::process::ExitCode;

fn main() -> ExitCode {
    winsign_trainer::worker::main()
}
