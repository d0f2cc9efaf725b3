//! The quickstart has the committed results on every processor, and its report has the statements of the README.
#![cfg(feature = "worker")]

use std::path::Path;

use winsign_testkit::{Workplace, json, stdout, succeed};

#[test]
fn quickstart_has_the_committed_digests_and_statements() {
    let workplace = Workplace::new();
    let sweeps = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps");
    let sweep = sweeps.join("quickstart.yaml");
    assert_eq!(workplace.run_all(&sweep), 112);
    let checked =
        workplace.winsign("digest", &sweep).arg("--check").arg(sweeps.join("quickstart.digests")).output().unwrap();
    assert_eq!(stdout(&checked), "112 of 112 runs have the expected digest\n");

    let out = workplace.path("report");
    let report = json(&succeed(workplace.winsign("report", &sweep).arg("--json").arg("--out").arg(&out)));
    let statements: Vec<&str> =
        report["statements"].as_array().unwrap().iter().map(|statement| statement.as_str().unwrap()).collect();
    // The README quotes these statements.
    for stated in [
        "test error: sign is 17.7 points lower than mask (95 % interval 12.4 to 23.1, 4 tickets, LRR)",
        "test error: sign is 25.0 points lower than mask (95 % interval 8.1 to 41.8, 4 tickets, AWS)",
        "barrier between seeds: sign is 52.9 points lower than mask (95 % interval 49.1 to 56.7, 4 tickets, LRR)",
        "barrier between seeds: sign is 51.0 points lower than mask (95 % interval 37.9 to 64.2, 4 tickets, AWS)",
        "test error added by ψ₀: AWS is 9.4 points lower than LRR (95 % interval 4.0 to 14.9, 4 tickets)",
        "test error: no difference shown between AWS and LRR (AWS − LRR: −0.9 points, 95 % interval −4.6 to 2.8, 4 tickets, sign)",
    ] {
        assert!(statements.contains(&stated), "{statements:#?}");
    }
    assert_tables_agree(&out.join("report.csv"), &sweeps.join("../docs/quickstart/report.csv"));
    for file in ["report.md", "report.csv", "report.json", "transfer-error.svg", "interpolation.svg"] {
        assert!(out.join(file).metadata().unwrap().len() > 500, "{file}");
    }
}

/// Asserts that the first table has the cells of the second, except for rounding of numbers. The first may have more columns
/// at its end, which a later version added.
fn assert_tables_agree(one: &Path, other: &Path) {
    let [one, other] = [one, other].map(|path| std::fs::read_to_string(path).unwrap());
    assert_eq!(one.lines().count(), other.lines().count());
    for (one, other) in one.lines().zip(other.lines()) {
        assert!(one.split(',').count() >= other.split(',').count(), "{one}\n{other}");
        for (a, b) in one.split(',').zip(other.split(',')) {
            let close = match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) => (a - b).abs() <= 1e-9 * b.abs().max(1.0),
                _ => a == b,
            };
            assert!(close, "{a} and {b} in\n{one}\n{other}");
        }
    }
}
