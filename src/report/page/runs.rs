//! The runs of a study: their list, and what the view of a single run adds.

use std::thread;

use serde_json::{Value, json};
use winsign_core::results::{Outcome, PathOutcome};
use winsign_sweep::plan::RunState;

use super::columns::{Shared, column, object, short};
use super::index::Index;
use super::settings::Flat;
use super::tables::columns;
use crate::table::{Form, MISSING, remaining_text};
use crate::tables::{NATS, PERCENT};
use crate::{Curve, RunRecord};

/// Points of training curves in a page, at most: with more runs each has fewer, down to [`FEWEST_POINTS`]. This and what
/// follows keeps the page of ten thousand runs small enough to be sent by mail.
const CURVE_POINTS: usize = 240_000;
const FEWEST_POINTS: usize = 8;
/// Points on paths between networks, at most; paths beyond that have their barrier alone.
const PATH_POINTS: usize = 200_000;
/// Lines of logs, at most: of runs that are done each has fewer, the more there are.
const LOG_LINES: usize = 20_000;
const MOST_LINES: usize = 10;

/// All that the page knows of runs, in the order of the plan.
pub(super) fn runs(index: &Index, flat: Flat) -> Value {
    let records = index.records;
    let ids: String = records.iter().map(|record| record.planned.run.id.as_str()).collect();
    let inputs = |record: &RunRecord| -> Vec<Value> {
        record.planned.run.inputs.iter().map(|input| json!(index.place(input))).collect()
    };
    let table = crate::runs::runs(records);
    // The curves are a fifth of the work.
    thread::scope(|scope| {
        let curves = scope.spawn(|| curves(records));
        object([
            ("ids", ids.into()),
            ("columns", json!(columns(&table.full()))),
            ("note", table.note.clone().into()),
            ("settings", flat.json()),
            ("inputs", column_of(records, |record| inputs(record).into())),
            ("reason", column_of(records, |record| json!(record.note))),
            ("log", log_ends(records)),
            ("paths", paths(index)),
            ("layers", layers(records)),
            ("curves", curves.join().expect("curves do not panic")),
        ])
    })
}

fn column_of(records: &[RunRecord], value: impl Fn(&RunRecord) -> Value) -> Value {
    column(records.iter().map(value).collect())
}

/// Returns the ends of logs: whole for runs that failed, and as much as there is room for of the others.
fn log_ends(records: &[RunRecord]) -> Value {
    let others = records.iter().filter(|record| record.log_end.is_some() && record.state != RunState::Failed);
    let share = (LOG_LINES / others.count().max(1)).clamp(1, MOST_LINES);
    column_of(records, |record| {
        let lines = if record.state == RunState::Failed { usize::MAX } else { share };
        json!(record.log_end.as_ref().map(|log| last_lines(log, lines)))
    })
}

fn last_lines(text: &str, most: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(most)..].join("\n")
}

/// The form of errors along curves and paths: finer than in tables, as charts are drawn from them.
const CURVE_PERCENT: Form = Form::Decimals(2);

/// Returns the texts of a curve, in one string: a list of them would be half as long again.
fn texts(form: Form, values: impl Iterator<Item = Option<f64>>) -> Value {
    let text = |value: Option<f64>| value.map_or(MISSING.to_string(), |value| form.number_text(value));
    values.map(text).collect::<Vec<String>>().join(" ").into()
}

fn curves(records: &[RunRecord]) -> Value {
    let curves: Vec<(usize, &Curve)> =
        records.iter().enumerate().filter_map(|(at, record)| Some((at, record.curve.as_deref()?))).collect();
    let share = (CURVE_POINTS / curves.len().max(1)).max(FEWEST_POINTS);
    let mut epochs = Shared::default();
    let [mut train_error, mut test_error, mut train_loss, mut test_loss] = [const { Vec::<Value>::new() }; 4];
    for (_, curve) in &curves {
        let kept: Vec<usize> = Curve::places(curve.epoch.len(), share).collect();
        epochs.push(kept.iter().map(|&at| json!(curve.epoch[at])).collect());
        let kept_texts = |form: Form, values: &[f32]| {
            texts(form, kept.iter().map(|&at| values.get(at).map(|&value| f64::from(value))))
        };
        train_error.push(kept_texts(CURVE_PERCENT, &curve.train_error));
        test_error.push(kept_texts(CURVE_PERCENT, &curve.test_error));
        train_loss.push(kept_texts(NATS, &curve.train_loss));
        test_loss.push(kept_texts(NATS, &curve.test_loss));
    }
    object([
        ("run", curves.iter().map(|(at, _)| *at).collect::<Vec<usize>>().into()),
        ("x", epochs.json()),
        ("train_error", train_error.into()),
        ("test_error", test_error.into()),
        ("train_loss", train_loss.into()),
        ("test_loss", test_loss.into()),
    ])
}

/// Every path of every run that measured some, between which runs, and the errors along it.
fn paths(index: &Index) -> Value {
    let mut found: Vec<(usize, [Option<usize>; 2], &PathOutcome)> = vec![];
    for (at, record) in index.records.iter().enumerate() {
        let inputs = &record.planned.run.inputs;
        // A path with one input leads from a network to the same network, changed.
        let end = |place: usize| inputs.get(place).or(inputs.first()).and_then(|id| index.place(id));
        match record.result.as_ref().map(|result| &result.outcome) {
            Some(Outcome::Connect(connect)) => found.push((at, [end(0), end(1)], &connect.path)),
            Some(Outcome::Matrix(matrix)) => {
                let ends = |(a, b): (u32, u32)| [end(a as usize), end(b as usize)];
                found.extend(matrix.pairs.iter().map(|pair| (at, ends(pair.ends), &pair.path)));
            }
            _ => {}
        }
    }
    let mut positions = Shared::default();
    let [mut test_error, mut train_error] = [const { Vec::<Value>::new() }; 2];
    let mut room = PATH_POINTS;
    for (.., path) in &found {
        let points = if path.points.len() <= room { &path.points[..] } else { &[] };
        room -= points.len();
        positions.push(points.iter().map(|point| short(point.t)).collect());
        test_error.push(texts(CURVE_PERCENT, points.iter().map(|point| Some(point.test_error))));
        train_error.push(texts(CURVE_PERCENT, points.iter().map(|point| Some(point.train?.train_error))));
    }
    let barrier = |path: &PathOutcome| json!(PERCENT.number_text(path.barrier));
    let agreement = |path: &PathOutcome| json!(remaining_text(path.similarity.map(|alike| alike.sign_agreement)));
    object([
        ("run", column(found.iter().map(|(at, ..)| json!(at)).collect())),
        ("a", column(found.iter().map(|(_, [a, _], _)| json!(a)).collect())),
        ("b", column(found.iter().map(|(_, [_, b], _)| json!(b)).collect())),
        ("barrier", column(found.iter().map(|(.., path)| barrier(path)).collect())),
        ("sign_agreement", column(found.iter().map(|(.., path)| agreement(path)).collect())),
        ("x", positions.json()),
        ("test_error", test_error.into()),
        ("train_error", train_error.into()),
    ])
}

/// Returns the remaining weights of every layer, for tickets that recorded them.
fn layers(records: &[RunRecord]) -> Value {
    let mut runs = vec![];
    let (mut names, mut prunable) = (Shared::default(), Shared::default());
    let (mut survivors, mut remaining) = (vec![], vec![]);
    for (at, record) in records.iter().enumerate() {
        if let Some(Outcome::Ticket(ticket)) = record.result.as_ref().map(|result| &result.outcome)
            && !ticket.layers.is_empty()
        {
            runs.push(at);
            names.push(ticket.layers.iter().map(|layer| json!(layer.name)).collect());
            prunable.push(ticket.layers.iter().map(|layer| json!(layer.prunable)).collect());
            survivors.push(ticket.layers.iter().map(|layer| layer.survivors).collect::<Vec<u64>>());
            let ratios = ticket.layers.iter().map(|layer| layer.survivors as f64 / layer.prunable as f64);
            remaining.push(ratios.map(|ratio| remaining_text(Some(ratio))).collect::<Vec<String>>());
        }
    }
    json!({ "run": runs, "names": names.json(), "prunable": prunable.json(), "survivors": survivors, "remaining": remaining })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinned_curves_end_where_they_ended() {
        let places = |epochs, most| Curve::places(epochs, most).collect::<Vec<usize>>();
        assert_eq!(places(3, 8), [0, 1, 2]);
        assert_eq!(places(100, 4), [24, 49, 74, 99]);
        assert_eq!(places(0, 4), [0usize; 0]);
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
    }
}
