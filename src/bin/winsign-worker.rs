//! Executes one run directory.
//!
//! The trainer is a part of this program and not of the library, so that `winsign` cannot come to link libtorch.

#[path = "../trainer/mod.rs"]
mod trainer;

use std::process::ExitCode;

fn main() -> ExitCode {
    trainer::worker::main()
}
