//! The script of an array's jobs.

use std::path::Path;

use winsign_core::text::shell_word;

use super::profile::Profile;
use super::programs;
use super::scheduler::ScriptParts;
use super::submission::Execution;

/// An array of jobs that are to be submitted.
pub struct ArrayJob<'a> {
    pub profile: &'a Profile,
    pub execution: &'a Execution,
    pub store: &'a Path,
    pub submission: &'a Path,
    pub programs: &'a str,
    /// The name of its jobs.
    pub name: &'a str,
    /// The number of the array in its submission.
    pub array: usize,
    pub tasks: usize,
    /// The maximum number of tasks that run at the same time.
    pub at_once: Option<u32>,
}

/// The resources of one task, for all runs that it executes at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    pub nodes: u32,
    /// The processes that the scheduler starts or makes room for.
    pub processes: u32,
    /// The maximum number of processes on a node.
    pub per_node: u32,
    /// Cores per process.
    pub cores: u32,
    /// GPUs per node.
    pub gpus: Option<u32>,
}

impl ArrayJob<'_> {
    pub fn resources(&self) -> Resources {
        let Execution { ranks, threads, .. } = *self.execution;
        let all = ranks * self.profile.side_by_side;
        // One process executes all runs of one rank; each rank of larger runs is a process of its own.
        if ranks == 1 {
            return Resources { nodes: 1, processes: 1, per_node: 1, cores: threads * all, gpus: self.gpus(all) };
        }
        let per_node = self.execution.ranks_on_node(all, self.profile);
        let gpus = self.gpus(per_node);
        Resources { nodes: all.div_ceil(per_node), processes: all, per_node, cores: threads, gpus }
    }

    /// Returns the GPUs of one node with this many ranks.
    fn gpus(&self, ranks: u32) -> Option<u32> {
        let share = self.execution.gpus?;
        let gpus = (share * f64::from(ranks)).ceil().max(1.0) as u32;
        Some(self.profile.gpus_per_node.map_or(gpus, |most| gpus.min(most)))
    }

    /// Returns the script of the jobs. Paths are only in its shell part, in quotes.
    pub fn script(&self) -> String {
        let ScriptParts { head, task, hold } = self.profile.scheduler().script(self);
        let ArrayJob { profile, array, .. } = self;
        let store = shell_word(&self.store.to_string_lossy());
        let submission = shell_word(&self.submission.to_string_lossy());
        let programs = shell_word(&programs::folder(self.store, self.programs).to_string_lossy());
        let setup = match profile.setup.trim_end() {
            "" => String::new(),
            setup => format!("# `setup` of the profile.\n{setup}\n"),
        };
        format!(
            r#"#!/bin/bash
{head}

store={store}
submission={submission}
programs={programs}
# The program handles these signals as soon as it runs. Until then they must not end the job, which would not be queued again.
trap '' USR1 TERM
log=$submission/log/{array}_{task}
# A job that cannot start the program is held, since all others would fail as well. `winsign status` shows the reason.
reason="cannot use the store $store"
trap 'code=$?
    {hold}
    exit $code' EXIT
[ -r "$submission/submission.json" ] && [ -w "$store" ] || exit 74
mkdir -p "$submission/log" && exec >>"$log" 2>&1 || exit 74
reason="cannot start the program; see $log"
{setup}[ -x "$programs/{winsign}" ] || exit 127
exec "$programs/{winsign}" task -v "$submission" {array} "{task}"
"#,
            head = head.join("\n"),
            winsign = programs::WINSIGN,
        )
    }
}
