//! The settings that all runs of a study share, and those in which they differ.

use serde::Serialize;
use serde_json::Value;
use winsign_core::grouping::distinct;
use winsign_core::settings::Settings;

use super::columns::column;
use crate::RunRecord;
use crate::runs::settings_kind;
use crate::table::compare_numbers;

/// The settings of a study, for its head.
#[derive(Serialize, Default, PartialEq, Debug)]
pub(super) struct Summary {
    /// The axes of the study by the names of tables, each with its values.
    pub axes: Vec<(String, String)>,
    /// The settings that are the same in all runs that have them.
    pub common: Vec<(String, String)>,
    /// The other settings, for each kind of run.
    pub kinds: Vec<OfKind>,
}

#[derive(Serialize, PartialEq, Debug)]
pub(super) struct OfKind {
    pub kind: String,
    pub runs: usize,
    /// Each setting with its values; `none` is one of them if some runs of the kind lack the setting.
    pub settings: Vec<(String, String)>,
}

/// Named values of every run, flat: `training.lr`, in the order in which they first appear.
#[derive(Default)]
pub(super) struct Flat {
    keys: Vec<String>,
    /// For each key the value of each run; null where the run has none.
    values: Vec<Vec<Value>>,
}

impl Flat {
    /// The settings.
    pub(super) fn from_settings(records: &[RunRecord]) -> Flat {
        let mut flat = Flat::default();
        for (at, record) in records.iter().enumerate() {
            let settings = record.planned.run.settings.in_full();
            flat.add(at, "", settings);
        }
        flat.finished(records.len())
    }

    /// Adds missing values at the end, so that each setting has a value for every run.
    pub(super) fn finished(mut self, runs: usize) -> Flat {
        self.values.iter_mut().for_each(|values| values.resize(runs, Value::Null));
        self
    }

    /// Adds a value of the run at a place; runs come one after the other.
    pub(super) fn add(&mut self, at: usize, name: &str, value: Value) {
        match value {
            Value::Object(fields) => {
                let inside = |field: &str| if name.is_empty() { field.to_string() } else { format!("{name}.{field}") };
                fields.into_iter().for_each(|(field, value)| self.add(at, &inside(&field), value));
            }
            value => {
                let value = exact(value);
                let place = self.keys.iter().position(|key| key == name).unwrap_or_else(|| {
                    self.keys.push(name.to_string());
                    self.values.push(vec![]);
                    self.keys.len() - 1
                });
                self.values[place].resize(at, Value::Null);
                self.values[place].push(value);
            }
        }
    }

    pub(super) fn summary(&self, records: &[RunRecord]) -> Summary {
        let mut kinds: Vec<(String, Vec<usize>)> = vec![];
        for (at, record) in records.iter().enumerate() {
            let kind = settings_kind(&record.planned.run.settings);
            match kinds.iter_mut().find(|(name, _)| name == kind) {
                Some((_, runs)) => runs.push(at),
                None => kinds.push((kind.to_string(), vec![at])),
            }
        }
        let mut summary = Summary { axes: axes(records), ..Summary::default() };
        let mut differing = vec![];
        // The headings show the kind.
        for (key, values) in self.keys.iter().zip(&self.values).filter(|(key, _)| *key != "kind") {
            let found = sorted(values.iter().filter(|value| !value.is_null()).map(text));
            match &found[..] {
                [common] => summary.common.push((key.clone(), common.clone())),
                _ => differing.push((key, values)),
            }
        }
        for (kind, runs) in kinds {
            let of_kind = |(key, values): &(&String, &Vec<Value>)| {
                let has_some = runs.iter().any(|&at| !values[at].is_null());
                has_some.then(|| (key.to_string(), listed(&sorted(runs.iter().map(|&at| text(&values[at]))))))
            };
            let settings = differing.iter().filter_map(of_kind).collect();
            summary.kinds.push(OfKind { kind, runs: runs.len(), settings });
        }
        summary
    }

    /// Each setting with its column.
    pub(super) fn json(self) -> Value {
        let columns =
            self.keys.into_iter().zip(self.values).map(|(key, values)| Value::Array(vec![key.into(), column(values)]));
        Value::Array(columns.collect())
    }
}

/// A whole number, such as a seed, that scripts would round is text.
fn exact(value: Value) -> Value {
    const MOST: u64 = 1 << 53;
    match value.as_u64() {
        Some(number) if number > MOST => Value::String(number.to_string()),
        _ => value,
    }
}

/// Returns the axes with several values: those that every label shows, the seeds of transfers, and those of the study.
fn axes(records: &[RunRecord]) -> Vec<(String, String)> {
    let labels = || records.iter().map(|record| &record.planned.label);
    let mut axes: Vec<(String, Vec<String>)> = vec![
        ("method".to_string(), labels().filter_map(|label| label.method).map(|method| method.to_string()).collect()),
        ("level".to_string(), labels().map(|label| label.level.to_string()).collect()),
        (
            winsign_sweep::title("inherit").to_string(),
            labels().filter_map(|label| label.inherit).map(|inherit| inherit.to_string()).collect(),
        ),
        (
            "between".to_string(),
            labels().filter_map(|label| label.between).map(|between| between.to_string()).collect(),
        ),
    ];
    let seeds = records.iter().filter_map(|record| match &record.planned.run.settings {
        Settings::Transfer(transfer) => Some(transfer.seeds.init.to_string()),
        _ => None,
    });
    axes.push(("initialization".to_string(), seeds.collect()));
    for (name, value) in labels().flat_map(|label| &label.axes) {
        match axes.iter_mut().find(|(other, _)| other == name) {
            Some((_, values)) => values.push(value.clone()),
            None => axes.push((name.clone(), vec![value.clone()])),
        }
    }
    let axes = axes.into_iter().map(|(name, values)| (name, sorted(values.into_iter())));
    axes.filter(|(_, values)| values.len() > 1).map(|(name, values)| (name, listed(&values))).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns each text once: numbers in ascending order, then all others in the order in which they appear.
fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts = distinct(texts);
    let is_text = |text: &String| text.parse::<f64>().is_err();
    texts.sort_by(|a, b| compare_numbers(a, b).unwrap_or_else(|| is_text(a).cmp(&is_text(b))));
    texts
}

/// Returns values as a short list: `1 to 24` instead of all whole numbers between, and not more than the first of many.
fn listed(texts: &[String]) -> String {
    const MOST: usize = 24;
    const FIRST_OF_MANY: usize = 20;
    let numbers: Option<Vec<u64>> = texts.iter().map(|text| text.parse().ok()).collect();
    let is_range = |numbers: &Vec<u64>| numbers.len() > 3 && numbers.windows(2).all(|pair| pair[1] - pair[0] == 1);
    match (numbers.filter(is_range), texts) {
        (Some(_), [first, .., last]) => format!("{first} to {last}"),
        (_, texts) if texts.len() > MOST => {
            format!("{}, … {} in all", texts[..FIRST_OF_MANY].join(", "), texts.len())
        }
        _ => texts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::made_up::Reported as _;
    use winsign_testkit::study::Study;

    /// Scripts know whole numbers up to 2⁵³.
    #[test]
    fn large_seeds_are_text() {
        let mut flat = Flat::default();
        for (at, seed) in [7, 1 << 53, (1 << 53) + 1, u64::MAX].into_iter().enumerate() {
            flat.add(at, "", json!({ "seeds": { "init": seed } }));
        }
        assert_eq!(
            flat.values,
            [[json!(7), json!(1u64 << 53), json!("9007199254740993"), json!("18446744073709551615")]]
        );
    }

    #[test]
    fn values_are_listed_in_short() {
        let list = |texts: &[&str]| listed(&sorted(texts.iter().map(|text| text.to_string())));
        assert_eq!(list(&["2", "4", "3", "1"]), "1 to 4");
        assert_eq!(list(&["0.1", "1e-5", "none"]), "1e-5, 0.1, none");
        let seeds = ["18446744073709551615", "9007199254740993", "9007199254740992", "9"];
        assert_eq!(list(&seeds), "9, 9007199254740992, 9007199254740993, 18446744073709551615");
        let many: Vec<String> = (0..30).map(|number| (2 * number).to_string()).collect();
        assert!(listed(&many).ends_with("38, … 30 in all"), "{}", listed(&many));
    }

    #[test]
    fn settings_are_listed_once_if_equal_and_by_kind_if_not() {
        let axes = |lr: &str| vec![("lr".to_string(), lr.to_string())];
        let study = Study::new(&[12], &[3, 2], &[axes("0.1"), axes("0.05")]);
        let records = study.records();
        let summary = Flat::from_settings(&records).summary(&records);

        let names: Vec<&str> = summary.axes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["method", "level", "transferred", "between", "initialization", "lr"]);
        assert_eq!(summary.axes[0].1, "lrr, aws");
        assert_eq!(summary.axes[4].1, "2, 3");
        assert_eq!(summary.axes[5].1, "0.05, 0.1");

        let common = |key: &str| summary.common.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        assert_eq!(common("dataset"), Some("digits".to_string()));
        assert_eq!(common("training.epochs"), Some("4".to_string()));
        assert_eq!(common("prune_ratio"), Some("0.2".to_string()));
        assert_eq!(common("training.lr"), None);

        let kinds: Vec<(&str, usize)> = summary.kinds.iter().map(|kind| (kind.kind.as_str(), kind.runs)).collect();
        assert_eq!(kinds, [("ticket", 52), ("transfer", 32), ("connect", 20)]);
        let of = |kind: usize, key: &str| {
            summary.kinds[kind].settings.iter().find(|(name, _)| name == key).map(|(_, values)| values.clone())
        };
        assert_eq!(of(0, "seeds.init"), Some("1".to_string()));
        assert_eq!(of(1, "training.lr"), Some("0.05, 0.1".to_string()));
        assert_eq!(of(2, "training.lr"), None);
        assert_eq!(of(2, "dataset"), None);
    }
}
