//! `winsign store`: the directory that holds the runs.
//!
//! `winsign store check` starts agents, one on each node, and has them carry out operations on the file system: `agent` is
//! what an agent does, `agents` starts and asks them, `one_node` and `several_nodes` are the checks, `mount` is what is known of
//! file systems, and `finding` is what a check finds.

mod agent;
mod agents;
mod check;
mod finding;
mod mount;
mod one_node;
mod several_nodes;

use clap::Subcommand;
use winsign_core::Diagnostic;

use super::Common;

pub(crate) use check::warn_once;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check whether a directory can hold a store for one or several nodes
    #[command(after_help = check::HELP)]
    Check(check::Arguments),
    /// Carry out operations of a check on this node
    #[command(hide = true)]
    Agent(agent::Arguments),
}

pub(crate) const HELP: &str = "\
Examples:
  winsign store check --store /scratch/me/results                        on this node
  winsign store check --store /scratch/me/results --hosts node1,node2    on several nodes, by ssh
  winsign store check --store /scratch/me/results --slurm                on two nodes, by Slurm";

pub(crate) fn command(common: &Common, command: &Command) -> Result<u8, Diagnostic> {
    match command {
        Command::Check(arguments) => check::command(common, arguments),
        Command::Agent(arguments) => agent::command(arguments),
    }
}
