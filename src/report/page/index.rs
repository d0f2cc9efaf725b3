//! The places of runs in the plan, by which the page names them.

use std::collections::HashMap;

use winsign_core::RunId;

use crate::RunRecord;

pub(super) struct Index<'a> {
    pub records: &'a [RunRecord<'a>],
    places: HashMap<&'a RunId, usize>,
}

impl<'a> Index<'a> {
    pub(super) fn new(records: &'a [RunRecord<'a>]) -> Index<'a> {
        let places = records.iter().enumerate().map(|(at, record)| (&record.planned.run.id, at)).collect();
        Index { records, places }
    }

    /// Returns the place of a run; none if it is not in the plan.
    pub(super) fn place(&self, id: &RunId) -> Option<usize> {
        self.places.get(id).copied()
    }

    /// Returns the places of runs, in the order of the plan.
    pub(super) fn places(&self, ids: &[RunId]) -> Vec<usize> {
        let mut places: Vec<usize> = ids.iter().filter_map(|id| self.place(id)).collect();
        places.sort_unstable();
        places.dedup();
        places
    }
}
