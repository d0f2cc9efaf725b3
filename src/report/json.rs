//! `report.json` and the output of `--json`: the [`Report`] itself.

use super::Report;
use crate::export::{Exported, ExportedFile, Exporter};

/// `report.json`: the whole [`Report`].
pub struct Json;

impl Exporter for Json {
    fn names(&self) -> &'static [&'static str] {
        &["report.json"]
    }

    fn files(&self, study: &Exported) -> Vec<ExportedFile> {
        vec![("report.json", render(study.report).into_bytes())]
    }
}

pub fn render(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report is plain data");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::settings::{Kind, Method, Seeds};
    use winsign_sweep::plan::RunState;
    use winsign_testkit::study::{Study, remaining};

    fn parsed(study: &Study) -> Value {
        serde_json::from_str(&render(&study.report())).unwrap()
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    /// Other programs read these names.
    #[test]
    fn field_names_are_stable() {
        let axes =
            |seed: &str| [("lr", "0.05"), ("ticket.seed", seed)].map(|(name, value)| (name.into(), value.into()));
        let mut study = Study::new(&[12], &[2, 3], &["1", "2"].map(|seed| axes(seed).to_vec()));
        study.unfinish(RunState::Failed, |planned| planned.run.kind() == Kind::Ticket && planned.label.level == 0);
        let report = parsed(&study);
        assert_eq!(
            keys(&report),
            [
                "name",
                "runs",
                "tickets",
                "transfers",
                "connections",
                "failed",
                "blocked",
                "planes",
                "differences",
                "spreads",
                "notices",
                "pivot",
                "levels",
                "statements"
            ]
        );
        assert_eq!(keys(&report["runs"]), ["total", "done", "running", "queued", "failed", "blocked", "pending"]);
        let mut ticket = report["tickets"][24].clone();
        let layers = ticket["layers"].take();
        assert_eq!(keys(&layers[0]), ["name", "remaining_ratio"]);
        assert_eq!(
            ticket,
            json!({
                "method": "lrr",
                "level": 12,
                "remaining_ratio": remaining(12),
                "test_error": 4.5,
                "axes": {"lr": "0.05", "ticket.seed": "1"},
                "run": ticket["run"],
                "seeds": {"init": 1, "order": 1, "alpha": 1},
                "test_loss": 0.1,
                "layers": null,
                "dataset": "digits",
                "architecture": "resnet8",
                "seconds": 4.0
            })
        );
        let transfer = &report["transfers"][2];
        assert_eq!(
            keys(transfer),
            [
                "method",
                "level",
                "remaining_ratio",
                "inherit",
                "seeds",
                "seeds_planned",
                "error_mean",
                "error_std",
                "errors",
                "axes",
                "summary",
                "dataset",
                "architecture",
                "tickets",
                "tickets_planned",
                "best"
            ]
        );
        assert_eq!(transfer["inherit"], "sign+norm");
        assert_eq!(transfer["axes"], json!({"lr": "0.05"}));
        assert_eq!(
            keys(&transfer["errors"][0]),
            ["init", "order", "alpha", "error", "loss", "run", "seconds", "ticket"]
        );
        assert_eq!(keys(&transfer["summary"]), ["count", "mean", "median", "min", "max", "std", "interval"]);
        assert_eq!(keys(&transfer["summary"]["interval"]), ["low", "high", "level", "method", "over", "independent"]);
        let connection = &report["connections"][0];
        assert_eq!(
            keys(connection),
            [
                "method",
                "level",
                "remaining_ratio",
                "inherit",
                "between",
                "pairs",
                "pairs_planned",
                "barrier_mean",
                "barrier_max",
                "path",
                "paths",
                "axes",
                "summary",
                "train_summary",
                "loss_summary",
                "dataset",
                "architecture",
                "tickets",
                "tickets_planned",
                "best"
            ]
        );
        assert_eq!(keys(&connection["path"][0]), ["t", "error_mean", "train_error_mean", "loss_mean"]);
        let path = &connection["paths"][0];
        assert_eq!(
            keys(path),
            ["seeds", "barrier", "path", "run", "ends", "similarity", "train_barrier", "loss_barrier", "ticket"]
        );
        assert_eq!(keys(&path["path"][0]), ["t", "error", "loss", "train_error", "train_loss"]);
        assert_eq!(keys(&path["ends"][0]), ["run", "label"]);
        assert_eq!(keys(&path["similarity"]), ["sign_agreement", "mask_overlap"]);
        assert_eq!(connection["between"], "seeds");
        let difference = &report["differences"][0];
        let names = keys(difference);
        assert_eq!(names[..3], ["setting", "a", "b"]);
        assert_eq!(names[8..], ["summary", "p", "dataset", "architecture", "tickets", "value", "between", "verdict"]);
        assert_eq!((&difference["value"], &difference["verdict"]), (&json!("error"), &json!("lower")));
        assert_eq!(
            keys(&report["levels"][0]),
            [
                "method",
                "level",
                "remaining_ratio",
                "tickets",
                "tickets_planned",
                "error_mean",
                "error_std",
                "axes",
                "summary",
                "dataset",
                "architecture"
            ]
        );
        assert_eq!(report["connections"][4]["between"], "norm-init");
        assert_eq!(report["connections"][4]["inherit"], Value::Null);
        assert_eq!(keys(&report["failed"][0]), ["id", "kind", "label", "message"]);
    }

    #[test]
    fn missing_numbers_are_null() {
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| {
            planned.label.method == Some(Method::Lrr) && planned.label.seeds == [Seeds::from(3)]
                || planned.label.seeds.contains(&Seeds::from(4))
        });
        study.unfinish(RunState::Pending, |planned| planned.label.method == Some(Method::Aws));
        let report = parsed(&study);
        assert_eq!(report["transfers"][0]["seeds"], 1);
        assert_eq!(report["transfers"][0]["error_mean"], 5.0);
        assert_eq!(report["transfers"][0]["error_std"], Value::Null);
        let nothing = &report["transfers"][4];
        assert_eq!(nothing["seeds"], 0);
        assert_eq!((&nothing["error_mean"], &nothing["errors"]), (&Value::Null, &json!([])));
        assert_eq!(report["tickets"][13]["remaining_ratio"], Value::Null);
    }
}
