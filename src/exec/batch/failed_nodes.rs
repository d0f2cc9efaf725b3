//! The nodes on which a task has failed, as its next job knows them: by variables that its script exports.

use std::time::{Duration, SystemTime};

use std::{env, fmt};
use winsign_core::text::printable;

/// The nodes, separated by commas, as `NAME:SECONDS`, with the time of the failure since 1970.
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
    pub nodes: Vec<FailedNode>,
    /// The failure of the last one, as a continuation of its name.
    pub reason: String,
    pub proof: Proof,
}

/// A node on which a task has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedNode {
    pub name: String,
    /// The time of the failure, by the clock of the node.
    pub failed_at: SystemTime,
}

impl FailedNode {
    /// Returns a node on which a task fails now.
    pub fn now(name: String) -> FailedNode {
        FailedNode { name, failed_at: SystemTime::now() }
    }

    /// Parses `NAME:SECONDS`. A failure without a time is older than any release.
    pub(crate) fn parse(text: &str) -> FailedNode {
        let (name, seconds) = text.split_once(':').unwrap_or((text, ""));
        let failed_at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.parse::<u32>().unwrap_or(0).into());
        FailedNode { name: name.to_string(), failed_at }
    }
}

/// Formats the node as [`FailedNode::parse`] expects it.
impl fmt::Display for FailedNode {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}:{}", self.name, seconds(self.failed_at))
    }
}

/// Returns the seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |duration| duration.as_secs())
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
    /// Returns the nodes on which the task of this process's job has failed before, as its environment says; `None` if there are none.
    pub fn of_this_task() -> Option<FailedNodes> {
        FailedNodes::from_variables(|name| env::var(name).ok())
    }

    fn from_variables(value: impl Fn(&str) -> Option<String>) -> Option<FailedNodes> {
        let nodes = value(NODES)?;
        let nodes: Vec<FailedNode> = nodes.split(',').filter(|node| !node.is_empty()).map(FailedNode::parse).collect();
        let (reason, proof) = match value(KILLS) {
            Some(reason) => (reason, Proof::Completion),
            None => (value(START_FAILURE).unwrap_or_default(), Proof::Start),
        };
        (!nodes.is_empty()).then_some(FailedNodes { nodes, reason, proof })
    }

    /// Parses the lines `NAME=VALUE` of [`FailedNodes::lines`].
    pub(crate) fn parse(lines: &str) -> Option<FailedNodes> {
        let value = |name: &str| {
            let mut lines = lines.lines().filter_map(|line| line.split_once('='));
            lines.find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        FailedNodes::from_variables(value)
    }

    /// Returns the variables of the next job of the task as lines, for a job that is queued again with its old environment.
    pub(crate) fn lines(&self) -> String {
        self.variables().iter().map(|(name, value)| format!("{name}={}\n", printable(value))).collect()
    }

    /// Returns the time of the last failure.
    pub fn last_failure(&self) -> Option<SystemTime> {
        self.nodes.last().map(|node| node.failed_at)
    }

    /// Returns the nodes without those that failed before a release, since `winsign release` lets jobs use all nodes again; `None` if
    /// there are none.
    pub fn since(mut self, released: Option<SystemTime>) -> Option<FailedNodes> {
        self.nodes.retain(|node| released.is_none_or(|released| seconds(node.failed_at) >= seconds(released)));
        (!self.nodes.is_empty()).then_some(self)
    }

    /// Returns the names of the nodes.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.nodes.iter().map(|node| &node.name)
    }

    /// Returns the variables of the next job of the task.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        let name = match self.proof {
            Proof::Start => START_FAILURE,
            Proof::Completion => KILLS,
        };
        let nodes: Vec<String> = self.nodes.iter().map(FailedNode::to_string).collect();
        [(NODES, nodes.join(",")), (name, self.reason.clone())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_before_a_release_do_not_count() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let nodes = ["n1:100", "n2", "n3:300"].map(FailedNode::parse).to_vec();
        let failed = FailedNodes { nodes, reason: "cannot start".to_string(), proof: Proof::Start };
        let names = |failed: Option<FailedNodes>| failed.map(|failed| failed.names().cloned().collect::<Vec<_>>());
        assert_eq!(names(failed.clone().since(None)).unwrap(), ["n1", "n2", "n3"]);
        assert_eq!(names(failed.clone().since(Some(at(100)))).unwrap(), ["n1", "n3"]);
        assert_eq!(names(failed.clone().since(Some(at(301)))), None);
        assert_eq!(FailedNodes::parse(&failed.lines()), Some(failed.clone()));
        assert_eq!(failed.variables()[0], (NODES, "n1:100,n2:0,n3:300".to_string()));
    }
}
