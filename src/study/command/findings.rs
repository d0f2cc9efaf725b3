//! What is known of every run of a plan, for reports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::run::{RunDirectory, Store};
use crate::study::evidence::{self, Cache, Evidence};
use crate::study::plan::Plan;
use crate::study::plan::survey::Standing;
use crate::study::report::{Finding, Notice};

/// What the disk said of a plan's runs at one moment.
pub struct Known {
    pub standings: Vec<Standing>,
    pub evidence: Vec<Evidence>,
}

impl Known {
    /// Reads what belongs to these standings and is not in the cache.
    pub fn of(plan: &Plan, store: &Store, standings: Vec<Standing>, cache: &mut Cache) -> Known {
        let directories = plan.runs.iter().map(|planned| store.run(&planned.run.id));
        let runs: Vec<(RunDirectory, &Standing)> = directories.zip(&standings).collect();
        let evidence = evidence::collect(&runs, cache);
        Known { standings, evidence }
    }

    /// In the plan's order.
    pub fn findings<'a>(&self, plan: &'a Plan, store: &Arc<Path>) -> Vec<Finding<'a>> {
        let known = self.standings.iter().zip(&self.evidence);
        (plan.runs.iter().zip(known))
            .map(|(planned, (standing, evidence))| Finding {
                planned,
                state: standing.state,
                result: standing.result.clone(),
                note: standing.note.clone(),
                curve: evidence.curve.clone(),
                log_end: evidence.log_end.as_deref().map(str::to_string),
                store: Some(Arc::clone(store)),
            })
            .collect()
    }

    pub fn notices(&self, plan: &Plan) -> Vec<Notice> {
        evidence::notices(plan.runs.iter().map(|planned| &planned.run.id).zip(&self.evidence))
    }
}

/// Where reports of a study go, unless somebody says otherwise.
pub fn reports(store: &Store, plan: &Plan) -> PathBuf {
    store.root().join("reports").join(&plan.name)
}

/// What was read for earlier reports of a study.
pub fn cache_path(store: &Store, plan: &Plan) -> PathBuf {
    reports(store, plan).join("evidence.cache")
}
