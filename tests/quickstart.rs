//! The quickstart gives the committed numbers on every processor, and its report says what they show.
#![cfg(feature = "worker")]

mod common;

use std::path::Path;

use common::{Workplace, json, stdout, succeed};

#[test]
fn quickstart_gives_the_committed_numbers_and_says_what_they_show() {
    let workplace = Workplace::new();
    let sweeps = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps");
    let sweep = sweeps.join("quickstart.yaml");
    assert_eq!(workplace.run_all(&sweep), 112);
    let checked =
        workplace.winsign("digest", &sweep).arg("--check").arg(sweeps.join("quickstart.digests")).output().unwrap();
    assert_eq!(stdout(&checked), "112 of 112 runs have the expected numbers, to the last bit\n");

    let out = workplace.path("report");
    let report = json(&succeed(workplace.winsign("report", &sweep).arg("--json").arg("--out").arg(&out)));
    for row in report["transfers"].as_array().unwrap() {
        assert_eq!((row["level"].as_u64(), row["tickets"].as_u64()), (Some(6), Some(4)), "{row}");
        assert!((row["remaining_ratio"].as_f64().unwrap() - 0.069).abs() < 0.001);
    }
    for file in ["report.md", "report.csv", "report.json", "transfer-error.svg", "interpolation.svg"] {
        assert!(out.join(file).metadata().unwrap().len() > 500, "{file}");
    }
}
