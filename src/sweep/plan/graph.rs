//! The plan as a graph, for Graphviz and for Mermaid.

use std::fmt::Write;

use strum::VariantArray;

use super::survey::RunStatus;
use super::{Plan, RunState};

/// The languages a graph can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// For Graphviz: `winsign plan SWEEP --graph dot | dot -Tsvg > plan.svg`
    Dot,
    /// For Markdown pages and mermaid.live
    Mermaid,
}

/// Renders the plan as a graph: boxes are runs, colored by state; arrows lead from a run to those that need it.
pub fn render(plan: &Plan, statuses: &[RunStatus], language: Language) -> String {
    match language {
        Language::Dot => dot(plan, statuses),
        Language::Mermaid => mermaid(plan, statuses),
    }
}

fn dot(plan: &Plan, statuses: &[RunStatus]) -> String {
    let mut text = String::from("digraph plan {\n  rankdir=LR;\n");
    text.push_str("  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n");
    for (planned, status) in plan.runs.iter().zip(statuses) {
        let (id, label) = (&planned.run.id, escape(&planned.label.to_string()));
        let color = color(status.state);
        let _ = writeln!(text, "  \"{id}\" [label=\"{label}\\n{}\", fillcolor=\"{color}\"];", status.state);
    }
    for planned in &plan.runs {
        for input in &planned.run.inputs {
            let _ = writeln!(text, "  \"{input}\" -> \"{}\";", planned.run.id);
        }
    }
    text.push_str("}\n");
    text
}

fn mermaid(plan: &Plan, statuses: &[RunStatus]) -> String {
    let mut text = String::from("flowchart LR\n");
    for (planned, status) in plan.runs.iter().zip(statuses) {
        // A node's name must not begin like a keyword; identities are hexadecimal.
        let (id, label) = (&planned.run.id, planned.label.to_string().replace('"', "#quot;"));
        let _ = writeln!(text, "  r{id}[\"{label}<br/>{0}\"]:::{0}", status.state);
    }
    for planned in &plan.runs {
        for input in &planned.run.inputs {
            let _ = writeln!(text, "  r{input} --> r{}", planned.run.id);
        }
    }
    for &state in RunState::VARIANTS {
        let _ = writeln!(text, "  classDef {state} fill:{},stroke:#444,color:#111", color(state));
    }
    text
}

fn color(state: RunState) -> &'static str {
    match state {
        RunState::Done => "#a6dba0",
        RunState::Running => "#92c5de",
        RunState::Queued => "#d1e5f0",
        RunState::Failed => "#f4a582",
        RunState::Blocked => "#fddbc7",
        RunState::Pending => "#f7f7f7",
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
