//! Golden values: the trainer's own code against numbers of the paper's reference implementation, in float64; prunings
//! and transfers in float32, as theirs.
//!
//! Every file in `tests/golden/`, or in the directory that WINSIGN_GOLDEN names, is read; `tests/golden/README.md` says
//! how weights and inputs follow from a formula. The trainer belongs to the worker's program, so it is included here as it
//! is there.

#[path = "golden/compare.rs"]
mod compare;
#[path = "../src/trainer/mod.rs"]
#[allow(dead_code, unused_imports)]
mod trainer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use compare::{EXACT, Numbers, compare_all};
use tch::{Device, Kind};
use winsign::run::settings::Precision;

/// Not run by the usual harness, which would run the trainer's unit tests here once more.
fn main() -> ExitCode {
    let directory = std::env::var_os("WINSIGN_GOLDEN")
        .map_or(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from);
    let numbers = Numbers { kind: Kind::Double, precision: Precision::Fp32, device: Device::Cpu, bounds: EXACT };
    let checks = compare_all(&directory, &numbers, |_| true);
    for (name, check) in &checks {
        println!("golden {name}: {} comparisons, {} differ", check.compared, check.differences.len());
        for difference in check.differences.iter().take(20) {
            println!("  {difference}");
        }
    }
    assert!(!checks.is_empty(), "no golden values in {}", directory.display());
    let equal = checks.iter().all(|(_, check)| check.differences.is_empty() && check.compared > 0);
    println!("golden: {} files, {}", checks.len(), if equal { "all equal the reference" } else { "FAILED" });
    if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
