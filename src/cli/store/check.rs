//! `winsign store check`: checks whether a directory can hold a store.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::Args;
use serde_json::json;
use winsign_core::text::plural;
use winsign_core::{Diagnostic, Store, error, exit, files, owner};
use winsign_exec::batch::profile::Profile;
use winsign_exec::batch::{scheduler, submit};
use winsign_exec::hosts;

use super::super::{Common, output};
use super::agents::{Agent, Node};
use super::finding::{Finding, Verdict, merged, worst};
use super::mount::Mount;
use super::{one_node, several_nodes};

pub(super) const HELP: &str = "\
The directory is that of --store; if it does not exist, the directory above it is checked. Each
line is a check. `fine` and `slow` are no danger; `risky` is one, which is named; on an `unfit`
directory studies may fail or be wrong. On several nodes it takes from ten seconds to minutes,
depending on how long nodes cache what they know. All nodes need winsign under the same path. The
files of the check are in a folder of the directory, which is removed at the end.

Examples:
  winsign store check --store /scratch/results
  winsign store check --store /scratch/results --hosts 'node[1-4]'    this node and four, by ssh
  winsign store check --store /scratch/results --slurm --profile gpu  this node and two of Slurm
  winsign store check --json | jq '.checks[] | select(.verdict != \"fine\")'

Exit codes:
   0  no check is unfit
   1  a node cannot be reached
   3  the directory is unfit
  74  the directory cannot be read";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Check on this node and on these hosts, by ssh
    #[arg(long, value_name = "NAME,…", conflicts_with = "slurm")]
    hosts: Option<String>,
    /// Check on this node and on the nodes of this Slurm allocation, or on two nodes that are allocated for it
    #[arg(long)]
    slurm: bool,
    /// The profile of the cluster, with its partition and account, for --slurm
    #[arg(long, value_name = "NAME", env = "WINSIGN_PROFILE")]
    profile: Option<String>,
}

pub(super) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let directory = submit::absolute(&common.store)?;
    let nodes = match (&arguments.hosts, arguments.slurm) {
        (Some(hosts), _) => hosts::parse(hosts)?.into_iter().map(|host| Node::Host(host.name)).collect(),
        (None, true) => match scheduler::allocated_nodes(1)? {
            Some(nodes) => nodes.into_iter().map(|node| Node::Allocated(node.name)).collect(),
            None => return check_in_allocation(arguments.profile.as_deref()),
        },
        (None, false) => vec![],
    };
    let report = examine(&directory, &nodes)?;
    match common.json {
        true => output::json(&report.json())?,
        false => output::text(&report.text())?,
    };
    Ok(if worst(&report.findings) == Verdict::Unfit { exit::RUNS_FAILED } else { exit::SUCCESS })
}

/// Replaces this process by the same command in an allocation of two nodes.
fn check_in_allocation(profile: Option<&str>) -> Result<u8, Diagnostic> {
    if std::env::var_os("SLURM_JOB_ID").is_some() {
        let message = "this Slurm allocation has one node";
        return Err(Diagnostic::new(message, "request several nodes, or use this command outside of the allocation"));
    }
    let profile = profile.map(Profile::find).transpose()?.unwrap_or_default();
    let winsign = std::env::current_exe().map_err(error::Error::io("find the program", Path::new("winsign")))?;
    let mut salloc = Process::new("salloc");
    salloc.args(["--quiet", "--nodes=2", "--ntasks-per-node=1", "--time=15"]);
    let settings = [
        ("clusters", &profile.cluster),
        ("partition", &profile.partition),
        ("account", &profile.account),
        ("qos", &profile.qos),
        ("constraint", &profile.constraint),
    ];
    salloc.args(settings.iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?))));
    salloc.args(&profile.sbatch).arg(winsign).args(std::env::args_os().skip(1));
    let error = salloc.exec();
    Err(Diagnostic::new(format!("cannot start salloc: {error}"), "install Slurm, or give hosts with --hosts"))
}

/// What the checks of a directory have found.
struct Report {
    /// The directory that was checked.
    directory: PathBuf,
    nodes: Vec<String>,
    findings: Vec<Finding>,
}

impl Report {
    fn json(&self) -> serde_json::Value {
        let Report { directory, nodes, findings } = self;
        json!({ "directory": directory, "nodes": nodes, "verdict": worst(findings), "checks": findings })
    }

    fn text(&self) -> String {
        let nodes = format!("{} ({})", plural(self.nodes.len(), "node"), self.nodes.join(", "));
        let lines: String = self.findings.iter().map(|finding| finding.describe(self.nodes.len())).collect();
        format!("{} on {nodes}:\n{lines}", self.directory.display())
    }
}

/// The agents of a check. They end in the right order: the first one removes the folder.
struct Agents(Vec<Agent>);

impl Drop for Agents {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

/// Checks a directory on this node and on others.
fn examine(directory: &Path, others: &[Node]) -> Result<Report, Diagnostic> {
    let (first, greeting) = Agent::start(&Node::Here, directory, true, &[])?;
    let (directory, nodes) = (greeting.directory.clone(), vec![first.name.clone()]);
    let mut agents = Agents(vec![first]);
    let mut findings = one_node::check(&mut agents.0[0], &greeting, one_node::WRITING);
    let mut report = Report { directory, nodes, findings: vec![] };
    let folder = match greeting.folder {
        Ok(folder) if worst(&findings) < Verdict::Unfit => folder,
        _ => return Ok(Report { findings, ..report }),
    };
    if others.is_empty() {
        agents.0.push(Agent::start(&Node::Here, &folder, false, &[])?.0);
        findings.extend(check_processes(&mut agents.0));
        return Ok(Report { findings, ..report });
    }
    for node in others {
        let (agent, found) = check_other_node(node, &folder)?;
        report.nodes.push(agent.name.clone());
        findings.extend(found);
        agents.0.push(agent);
    }
    report.findings = merged(findings);
    // A node that does not see the folder cannot take part.
    if worst(&report.findings) < Verdict::Unfit {
        report.findings.extend(check_nodes(&mut agents.0, &folder)?);
    }
    Ok(report)
}

/// Starts an agent on another node, and checks the directory there. The free space is that of the first node unless there is little.
fn check_other_node(node: &Node, folder: &Path) -> Result<(Agent, Vec<Finding>), Diagnostic> {
    let (mut agent, greeting) = Agent::start(node, folder, false, &[])?;
    let mut findings = one_node::check(&mut agent, &greeting, several_nodes::SAME_FILES);
    findings.retain(|finding| finding.check != one_node::SPACE || finding.verdict > Verdict::Fine);
    Ok((agent, findings))
}

/// Checks what needs two processes.
fn check_processes(agents: &mut [Agent]) -> Vec<Finding> {
    let [writer, reader, ..] = agents else { unreachable!("there are two agents") };
    let replacement = one_node::check_replacement(writer, reader);
    vec![replacement, several_nodes::check_exclusive_creation(agents)]
}

/// Checks what needs two nodes.
fn check_nodes(agents: &mut [Agent], folder: &Path) -> Result<Vec<Finding>, Diagnostic> {
    let mut findings = vec![several_nodes::check_same_files(agents)];
    if worst(&findings) == Verdict::Unfit {
        return Ok(findings);
    }
    findings.extend(check_processes(agents));
    findings.push(several_nodes::check_clocks(agents));
    match several_nodes::measure_visibility(agents) {
        Ok(visibility) => {
            findings.push(several_nodes::judge_visibility(&visibility));
            let lost_after = several_nodes::lost_after(&visibility);
            let variables = [(owner::LOST_AFTER, lost_after.to_string())];
            let holder = Agent::start(&agents[0].node, folder, false, &variables)?.0;
            let mut watcher = Agent::start(&agents[1].node, folder, false, &variables)?.0;
            findings.push(several_nodes::check_takeover(holder, &mut watcher, lost_after));
        }
        Err(failure) => findings.push(one_node::unfit(several_nodes::VISIBILITY, &failure)),
    }
    Ok(findings)
}

/// The folder of a store with what its check has found, one file for each mount.
const CHECKED: &str = "checked";

/// Checks a new store on this node, and prints what is not fine. It does so once for each mount, since nodes of one kind have the
/// same mounts.
pub(crate) fn warn_once(store: &Store) {
    if let Err(error) = check_once(store.root()) {
        output::message(&format!("warning: the store was not checked: {error}"));
    }
}

fn check_once(root: &Path) -> Result<(), Diagnostic> {
    let mount = serde_json::to_vec(&Mount::holding(root)).expect("a mount is plain data");
    let record = root.join(CHECKED).join(format!("{}.json", files::digest(&mount)));
    if files::exists(&record)? {
        return Ok(());
    }
    let (mut agent, greeting) = Agent::start(&Node::Here, root, true, &[])?;
    let findings = one_node::check(&mut agent, &greeting, one_node::WRITING);
    findings.iter().filter(|finding| finding.verdict > Verdict::Fine).for_each(warn);
    files::create_directory(&root.join(CHECKED))?;
    Ok(files::write_atomic(&record, &files::seal(&json!({ "checks": findings })))?)
}

fn warn(finding: &Finding) {
    let Finding { check, verdict, message, help, .. } = finding;
    let help = help.as_ref().map_or(String::new(), |help| format!("; help: {help}"));
    output::message(&format!("warning: the store is {verdict}: {check}: {message}{help}"));
}
