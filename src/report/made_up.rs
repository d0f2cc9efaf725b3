//! Reports of studies that are made up.

use winsign_sweep::plan::RunState;
use winsign_testkit::study::Study;

use crate::{Report, RunRecord, gather};

/// Conversions of a made-up study to records and a report.
pub(crate) trait Reported {
    fn records(&self) -> Vec<RunRecord<'_>>;
    fn report(&self) -> Report;
}

impl Reported for Study {
    fn records(&self) -> Vec<RunRecord<'_>> {
        self.runs
            .iter()
            .map(|(planned, state, result)| RunRecord {
                planned,
                state: *state,
                result: result.clone(),
                note: (*state == RunState::Failed).then(|| "the loss became NaN".to_string()),
                curve: None,
                log_end: None,
                store: None,
            })
            .collect()
    }

    fn report(&self) -> Report {
        gather("digits", &self.records())
    }
}
