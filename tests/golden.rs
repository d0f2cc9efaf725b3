//! Golden values: compares the trainer with the paper's reference implementation, in float64; prunings and transfers in
//! float32, like the reference.
//!
//! The test reads every file in `tests/golden/`, or in the directory WINSIGN_GOLDEN. `tests/golden/README.md` has the
//! formula for weights and inputs.
#![cfg(feature = "worker")]

use std::path::{Path, PathBuf};

use winsign_core::settings::Precision;
use winsign_trainer::golden::{EXACT, Numbers, compare_all};
use winsign_trainer::tch::{Device, Kind};

#[test]
fn trainer_equals_the_reference() {
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
    assert!(!checks.is_empty(), "there are no golden values in {}", directory.display());
    let equal = checks.iter().all(|(_, check)| check.differences.is_empty() && check.compared > 0);
    assert!(equal, "the trainer differs from the reference, see above");
}
