//! Plans, launches, watches and reports. See `winsign::study`.

use std::process::ExitCode;

fn main() -> ExitCode {
    winsign::study::command::main()
}
