//! What all runs of a study have in common, and in what they differ.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Value, json};
use winsign_core::settings::Settings;

use super::columns::column;
use crate::RunRecord;
use crate::runs::settings_kind;

/// The settings of a study, for its head.
#[derive(Serialize, Default, PartialEq, Debug)]
pub(super) struct Summary {
    /// What tells the runs of the study apart, by the names of tables, and the values there are.
    pub axes: Vec<(String, Vec<Value>)>,
    /// The settings that are the same in all runs that have them.
    pub common: Vec<(String, Value)>,
    /// Of each kind of run, those that are not.
    pub kinds: Vec<OfKind>,
}

#[derive(Serialize, PartialEq, Debug)]
pub(super) struct OfKind {
    pub kind: String,
    pub runs: usize,
    /// A setting and its values; of one that some runs of the kind have not, with null among them.
    pub settings: Vec<(String, Vec<Value>)>,
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

    /// With a value for each of so many runs.
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
        // The kind is said by the headings.
        for (key, values) in self.keys.iter().zip(&self.values).filter(|(key, _)| *key != "kind") {
            let mut found = distinct(values.iter().filter(|value| !value.is_null()));
            match found.len() {
                1 => summary.common.push((key.clone(), found.remove(0))),
                _ => differing.push((key, values)),
            }
        }
        for (kind, runs) in kinds {
            let of_kind = |(key, values): &(&String, &Vec<Value>)| {
                let found = distinct(runs.iter().map(|&at| &values[at]));
                let said = found.iter().any(|value| !value.is_null());
                said.then(|| (key.to_string(), found))
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

/// Method, level, what is transferred and joined, seeds, and the sweep's other axes; those with several values.
fn axes(records: &[RunRecord]) -> Vec<(String, Vec<Value>)> {
    let labels = || records.iter().map(|record| &record.planned.label);
    let mut axes: Vec<(String, Vec<Value>)> = vec![
        ("method".to_string(), labels().filter_map(|label| label.method).map(|method| json!(method)).collect()),
        ("level".to_string(), labels().map(|label| json!(label.level)).collect()),
        ("transferred".to_string(), labels().filter_map(|label| label.inherit).map(|what| json!(what)).collect()),
        ("between".to_string(), labels().filter_map(|label| label.between).map(|what| json!(what)).collect()),
    ];
    let seeds = records.iter().filter_map(|record| match &record.planned.run.settings {
        Settings::Transfer(transfer) => Some(exact(json!(transfer.seeds.init))),
        _ => None,
    });
    axes.push(("initialization".to_string(), seeds.collect()));
    for (name, value) in labels().flat_map(|label| &label.axes) {
        let value = value.parse::<f64>().map_or(json!(value), |number| json!(number));
        match axes.iter_mut().find(|(other, _)| other == name) {
            Some((_, values)) => values.push(value),
            None => axes.push((name.clone(), vec![value])),
        }
    }
    let several = |(name, values): (String, Vec<Value>)| {
        let values = distinct(values.iter());
        (values.len() > 1).then_some((name, values))
    };
    axes.into_iter().filter_map(several).collect()
}

/// Each value once: numbers ascending, before all others in the order in which they appear.
fn distinct<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let mut distinct: Vec<Value> = values.filter(|value| seen.insert(*value)).cloned().collect();
    distinct.sort_by(|a, b| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    });
    distinct
}

#[cfg(test)]
mod tests {
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
    fn what_is_common_is_said_once_and_what_differs_by_kind() {
        let axes = |lr: &str| vec![("lr".to_string(), lr.to_string())];
        let study = Study::new(&[12], &[3, 2], &[axes("0.1"), axes("0.05")]);
        let records = study.records();
        let summary = Flat::from_settings(&records).summary(&records);

        let names: Vec<&str> = summary.axes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["method", "level", "transferred", "between", "initialization", "lr"]);
        assert_eq!(summary.axes[0].1, ["lrr", "aws"]);
        assert_eq!(summary.axes[4].1, [2, 3]);
        assert_eq!(summary.axes[5].1, [0.05, 0.1]);

        let common = |key: &str| summary.common.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        assert_eq!(common("dataset"), Some(json!("digits")));
        assert_eq!(common("training.epochs"), Some(json!(4)));
        assert_eq!(common("prune_ratio"), Some(json!(0.2)));
        assert_eq!(common("training.lr"), None);

        let kinds: Vec<(&str, usize)> = summary.kinds.iter().map(|kind| (kind.kind.as_str(), kind.runs)).collect();
        assert_eq!(kinds, [("ticket", 52), ("transfer", 32), ("connect", 20)]);
        let of = |kind: usize, key: &str| {
            summary.kinds[kind].settings.iter().find(|(name, _)| name == key).map(|(_, values)| values.clone())
        };
        assert_eq!(of(0, "seeds.init"), Some(vec![json!(1)]));
        assert_eq!(of(1, "training.lr"), Some(vec![json!(0.05), json!(0.1)]));
        assert_eq!(of(2, "training.lr"), None);
        assert_eq!(of(2, "dataset"), None);
    }
}
