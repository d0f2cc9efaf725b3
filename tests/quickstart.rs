//! The quickstart sweep shows the paper's finding.
#![cfg(feature = "worker")]

mod common;

use std::path::Path;

use common::{Workplace, json, succeed};

#[test]
fn signs_carry_the_ticket_masks_alone_do_not_and_aws_beats_lrr() {
    let workplace = Workplace::new();
    let sweep = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps/quickstart.yaml");
    assert_eq!(workplace.run_all(&sweep), 76);
    let out = workplace.path("report");
    let report = json(&succeed(workplace.winsign("report", &sweep).arg("--json").arg("--out").arg(&out)));

    let error = |method: &str, inherit: &str| {
        let rows = report["transfers"].as_array().unwrap();
        let row = rows.iter().find(|row| row["method"] == method && row["inherit"] == inherit).unwrap();
        assert_eq!((row["level"].as_u64(), row["seeds"].as_u64()), (Some(12), Some(3)));
        assert!((row["remaining_ratio"].as_f64().unwrap() - 0.069).abs() < 0.001);
        assert!(row["error_std"].as_f64().unwrap() > 0.0);
        row["error_mean"].as_f64().unwrap()
    };
    assert!(error("aws", "sign") < error("lrr", "sign"));
    for method in ["lrr", "aws"] {
        assert!(error(method, "sign") < error(method, "mask"), "{method}");
    }
    assert!(error("lrr", "sign") < error("aws", "mask"));

    let barrier = |method: &str, inherit: Option<&str>, between: &str| {
        let rows = report["connections"].as_array().unwrap();
        let is_it = |row: &&serde_json::Value| {
            row["method"] == method && row["inherit"].as_str() == inherit && row["between"] == between
        };
        let row = rows.iter().find(is_it).unwrap();
        assert_eq!(row["pairs"].as_u64(), Some(if between == "seeds" { 3 } else { 1 }));
        row["barrier_mean"].as_f64().unwrap()
    };
    for method in ["lrr", "aws"] {
        assert!(barrier(method, Some("sign"), "seeds") < 5.0, "{method}");
        assert!(barrier(method, Some("mask"), "seeds") > 30.0, "{method}");
    }
    assert!(barrier("aws", None, "norm-init") < barrier("lrr", None, "norm-init"));

    // Without re-estimated statistics an AWS ticket's error is far higher than that of the ticket itself.
    for ticket in report["tickets"].as_array().unwrap() {
        let error = ticket["test_error"].as_f64().unwrap();
        assert!(error < 25.0, "{ticket}");
    }

    for file in ["report.md", "report.csv", "report.json", "transfer-error.svg", "interpolation.svg"] {
        assert!(out.join(file).metadata().unwrap().len() > 500, "{file}");
    }
}
