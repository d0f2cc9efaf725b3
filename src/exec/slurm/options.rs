//! The options of sbatch in a profile.

use winsign_core::Diagnostic;

use crate::batch::profile::Profile;

/// Options of sbatch with a setting of their own, and the setting.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("--clusters", "-M", "cluster"),
    ("--partition", "-p", "partition"),
    ("--account", "-A", "account"),
    ("--qos", "-q", "qos"),
    ("--constraint", "-C", "constraint"),
    ("--time", "-t", "time"),
    ("--mem", "", "memory"),
    ("--gpus", "-G", "gpu_option"),
    ("--gpus-per-node", "", "gpu_option"),
    ("--signal", "", "grace"),
    ("--requeue", "", "requeue"),
    ("--no-requeue", "", "requeue"),
];

/// Options of sbatch that winsign sets itself.
const TAKEN: &[(&str, &str)] = &[
    ("--array", "-a"),
    ("--dependency", "-d"),
    ("--kill-on-invalid-dep", ""),
    ("--job-name", "-J"),
    ("--output", "-o"),
    ("--error", "-e"),
    ("--input", "-i"),
    ("--open-mode", ""),
    ("--wrap", ""),
    ("--parsable", ""),
    ("--test-only", ""),
    ("--wait", "-W"),
    ("--nodes", "-N"),
    ("--ntasks", "-n"),
    ("--ntasks-per-node", ""),
    ("--cpus-per-task", "-c"),
    ("--gpus-per-task", ""),
];

/// Checks that the options of a profile neither have a setting of their own nor are set by winsign.
pub(super) fn check(profile: &Profile) -> Result<(), Diagnostic> {
    for (line, option) in profile.sbatch.iter().enumerate() {
        for word in option.split_whitespace() {
            if let Some((_, _, setting)) = SETTINGS.iter().find(|(long, short, _)| is_option(word, long, short)) {
                return Err(profile.option_with_setting(line, word, setting));
            }
            if TAKEN.iter().any(|(long, short)| is_option(word, long, short)) {
                return Err(profile.option_of_winsign(line, word));
            }
        }
    }
    Ok(())
}

/// Returns true if a word of a command line is an option, by its short name or its long name, which sbatch accepts
/// abbreviated.
fn is_option(word: &str, long: &str, short: &str) -> bool {
    let is_short = !short.is_empty() && !word.starts_with("--") && word.starts_with(short);
    let name = word.split('=').next().unwrap_or_default();
    is_short || (name.len() > "--".len() && long.starts_with(name))
}
