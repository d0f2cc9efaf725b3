//! Reports of studies that are made up.

use winsign_sweep::plan::RunState;
use winsign_testkit::study::Study;

use crate::{Finding, Report, gather};

/// What a report needs of a made-up study.
pub(crate) trait Reported {
    fn findings(&self) -> Vec<Finding<'_>>;
    fn report(&self) -> Report;
}

impl Reported for Study {
    fn findings(&self) -> Vec<Finding<'_>> {
        self.runs
            .iter()
            .map(|(planned, state, result)| Finding {
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
        gather("digits", &self.findings())
    }
}
