//! `winsign data`: data sets on disk, with one module per subcommand.

mod check;
mod pack;
mod synth;

use std::io::IsTerminal;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Common;
use winsign_core::Diagnostic;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check all data sets in a directory, and list unusable files
    #[command(after_help = check::HELP)]
    Check(check::Arguments),
    /// Pack an ImageNet-like directory into one file that is faster to read
    #[command(after_help = pack::HELP)]
    Pack(pack::Arguments),
    /// Generate a small learnable data set in the format of a published one
    #[command(after_help = synth::HELP)]
    Synth(synth::Arguments),
}

pub(crate) const HELP: &str = "\
Examples:
  winsign data synth --like cifar100 --train 5000 --test 1000 data    generate a small set
  winsign data check data                                             check all sets in data/
  winsign data pack data data/imagenet.pack                           pack ImageNet into one file";

pub(crate) fn command(common: &Common, command: &Command) -> Result<u8, Diagnostic> {
    match command {
        Command::Check(arguments) => check::command(common, arguments),
        Command::Pack(arguments) => pack::command(common, arguments),
        Command::Synth(arguments) => synth::command(common, arguments),
    }
}

/// Returns a progress bar on standard error, hidden unless that is a terminal.
fn bar(common: &Common, length: usize) -> ProgressBar {
    let visible = !common.quiet && std::io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} images, {per_sec:.0}, {eta} left{msg}");
    let bar = ProgressBar::with_draw_target(Some(length as u64), target);
    bar.set_style(style.expect("the template is well-formed").progress_chars("━╸─"));
    bar
}
