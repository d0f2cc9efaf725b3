//! What a check finds.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;
use winsign_core::text::printable;

/// A verdict on a store, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub(super) enum Verdict {
    Fine,
    /// Studies are right, but take longer.
    Slow,
    /// Studies are right, unless something happens that the message names.
    Risky,
    /// Studies fail or may be wrong.
    Unfit,
}

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    /// The nodes that the check is about; empty if it is about all of them.
    pub(super) nodes: Vec<String>,
    pub(super) message: String,
    /// What helps, as an imperative.
    pub(super) help: Option<String>,
    /// The numbers, for other programs.
    pub(super) measured: Value,
}

impl Finding {
    pub(super) fn fine(check: &'static str, message: impl Into<String>) -> Finding {
        let (message, measured) = (message.into(), Value::Null);
        Finding { check, verdict: Verdict::Fine, nodes: vec![], message, help: None, measured }
    }

    pub(super) fn poor(verdict: Verdict, check: &'static str, message: impl Into<String>, help: &str) -> Finding {
        Finding { verdict, help: Some(help.to_string()), ..Finding::fine(check, message) }
    }

    pub(super) fn unfit(check: &'static str, message: impl Into<String>, help: &str) -> Finding {
        Finding::poor(Verdict::Unfit, check, message, help)
    }

    #[must_use]
    pub(super) fn on(self, node: &str) -> Finding {
        Finding { nodes: vec![node.to_string()], ..self }
    }

    #[must_use]
    pub(super) fn measuring(self, measured: impl Serialize) -> Finding {
        Finding { measured: serde_json::to_value(measured).expect("measured values are plain data"), ..self }
    }

    /// Describes the finding on one line, and what helps on another; names its nodes unless it is about all of that many.
    pub(super) fn describe(&self, all: usize) -> String {
        let nodes = match self.nodes.len() == all || self.nodes.is_empty() {
            true => String::new(),
            false => format!("{}: ", self.nodes.join(", ")),
        };
        let verdict = self.verdict.to_string();
        let mut text = format!("{verdict:<6} {:<19} {nodes}{}\n", self.check, printable(&self.message));
        if let Some(help) = &self.help {
            let _ = writeln!(text, "{:26} help: {help}", "");
        }
        text
    }
}

/// Merges findings that differ only in their nodes, and puts those of one check together.
pub(super) fn merged(findings: Vec<Finding>) -> Vec<Finding> {
    let mut merged: Vec<Finding> = vec![];
    for finding in findings {
        let is_same = |other: &&mut Finding| other.check == finding.check && other.message == finding.message;
        match merged.iter_mut().find(is_same) {
            Some(same) => same.nodes.extend(finding.nodes),
            None => {
                let last = merged.iter().rposition(|other| other.check == finding.check);
                merged.insert(last.map_or(merged.len(), |last| last + 1), finding);
            }
        }
    }
    merged
}

/// Returns the worst verdict.
pub(super) fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Fine)
}

/// Formats a time for messages.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        short if short < 0.001 => format!("{:.0} µs", short * 1e6),
        short if short < 1.0 => format!("{:.1} ms", short * 1e3),
        long => format!("{long:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_findings_of_several_nodes_are_merged() {
        let fine = |node| Finding::fine("space", "much").on(node);
        let full = Finding::unfit("space", "none", "free some").on("c");
        let other = Finding::fine("links", "they work").on("a");
        let findings = merged(vec![fine("a"), other.clone(), fine("b"), full.clone()]);
        assert_eq!(findings, [Finding { nodes: vec!["a".into(), "b".into()], ..fine("a") }, full, other]);
        assert_eq!(worst(&findings), Verdict::Unfit);
    }
}
