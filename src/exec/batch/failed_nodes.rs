//! The nodes on which a task has failed, as its next job knows them: by variables that its script exports.

use std::env;

/// The names of the nodes, separated by commas.
pub(crate) const NODES: &str = "WINSIGN_FAILED_NODES";
/// The reason why the last node could not start the task.
pub(crate) const START_FAILURE: &str = "WINSIGN_NODE_FAILURE";
/// The worker that was killed again and again on the last node.
const KILLS: &str = "WINSIGN_NODE_KILLS";

/// All these variables. Those of a job are about its own task, not about others that it submits.
pub(crate) const VARIABLES: &[&str] = &[NODES, START_FAILURE, KILLS];

/// If a task cannot start on more nodes than this, the cause is not a node.
pub const MAX_NODES: usize = 3;

/// The nodes on which a task has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedNodes {
    pub nodes: Vec<String>,
    /// The failure of the last one, as a continuation of its name.
    pub reason: String,
    pub proof: Proof,
}

/// The proof that the last node is the cause of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The task starts on another node.
    Start,
    /// The task completes its runs on another node: a run may be what kills its worker.
    Completion,
}

impl FailedNodes {
    /// Returns the nodes on which the task of this process's job has failed before; `None` if there are none.
    pub fn of_this_task() -> Option<FailedNodes> {
        let nodes = env::var(NODES).ok()?;
        let nodes: Vec<String> = nodes.split(',').filter(|node| !node.is_empty()).map(str::to_string).collect();
        let (reason, proof) = match env::var(KILLS) {
            Ok(reason) => (reason, Proof::Completion),
            Err(_) => (env::var(START_FAILURE).unwrap_or_default(), Proof::Start),
        };
        (!nodes.is_empty()).then_some(FailedNodes { nodes, reason, proof })
    }

    /// Returns the variables of the next job of the task.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        let name = match self.proof {
            Proof::Start => START_FAILURE,
            Proof::Completion => KILLS,
        };
        [(NODES, self.nodes.join(",")), (name, self.reason.clone())]
    }
}
