//! Which runs stand behind a number.

use std::collections::HashMap;

use winsign_core::RunId;
use winsign_core::settings::Kind;
use winsign_sweep::Axes;
use winsign_sweep::plan::{Label, RunState};

use super::tables::Place;
use crate::tables::{axis_value, method_text};
use crate::{Difference, RunRecord, Spread};

/// The runs of a study, by identity and by their place in it.
pub(super) struct Index<'a> {
    pub records: &'a [RunRecord<'a>],
    places: HashMap<&'a RunId, usize>,
    of_row: HashMap<(Place, &'a Axes), Vec<usize>>,
}

impl<'a> Index<'a> {
    pub(super) fn new(records: &'a [RunRecord<'a>]) -> Index<'a> {
        let mut of_row: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, record) in records.iter().enumerate() {
            let label = &record.planned.label;
            of_row.entry((place(record.planned.run.kind(), label), &label.axes)).or_default().push(at);
        }
        let places = records.iter().enumerate().map(|(at, record)| (&record.planned.run.id, at)).collect();
        Index { records, places, of_row }
    }

    /// The place of a run in the plan; none of one that is not in it.
    pub(super) fn place(&self, id: &RunId) -> Option<usize> {
        self.places.get(id).copied()
    }

    /// The runs whose numbers are in a row, and those that will be: what is planned for it and not done.
    pub(super) fn of_row<'r>(&self, done: impl Iterator<Item = &'r RunId>, place: Place, axes: &Axes) -> Vec<usize> {
        let mut runs: Vec<usize> = done.filter_map(|id| self.place(id)).collect();
        let planned = self.of_row.get(&(place, axes)).map_or(&[][..], Vec::as_slice);
        runs.extend(planned.iter().filter(|&&at| self.records[at].state != RunState::Done));
        runs.sort_unstable();
        runs.dedup();
        runs
    }

    /// The done runs of both sides. Axes of a difference leave out seeds, which are axes of the runs.
    pub(super) fn of_difference(&self, row: &Difference) -> Vec<usize> {
        let between_tickets = row.inherit.is_none() && row.setting != "inherit";
        let kind = match row.between {
            Some(_) => Kind::Connect,
            None if between_tickets => Kind::Ticket,
            None => Kind::Transfer,
        };
        self.done(|of_kind, label| {
            let alike = (of_kind, label.level, label.between) == (kind, row.level, row.between)
                && label.rewind_point.is_none()
                && (row.setting == "method" || label.method == row.method)
                && (row.setting == "inherit" || label.inherit == row.inherit)
                && row.axes.iter().all(|axis| label.axes.contains(axis));
            let value = || match row.setting.as_str() {
                "method" => method_text(label.method),
                "inherit" => label.inherit.map_or(String::new(), |inherit| inherit.to_string()),
                name => axis_value(&label.axes, name).to_string(),
            };
            alike && [&row.a, &row.b].contains(&&value())
        })
    }

    /// The done runs that a spread is of. Its axes leave out the seeds, which are axes of the runs.
    pub(super) fn of_spread(&self, row: &Spread) -> Vec<usize> {
        self.done(|kind, label| {
            kind == Kind::Transfer
                && (label.method, label.level, label.inherit) == (row.method, row.level, Some(row.inherit))
                && row.axes.iter().all(|axis| label.axes.contains(axis))
        })
    }

    fn done(&self, matches: impl Fn(Kind, &Label) -> bool) -> Vec<usize> {
        let is_one = |record: &RunRecord| {
            record.state == RunState::Done && matches(record.planned.run.kind(), &record.planned.label)
        };
        (0..self.records.len()).filter(|&at| is_one(&self.records[at])).collect()
    }
}

fn place(kind: Kind, label: &Label) -> Place {
    (kind, label.method, label.level, label.inherit, label.between)
}
