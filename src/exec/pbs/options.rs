//! The settings of a profile that PBS has not, and the options of qsub in it.

use winsign_core::Diagnostic;

use crate::batch::profile::Profile;

/// Settings without an equivalent in PBS, and what to do instead.
const MISSING: &[(&str, &str)] = &[
    ("cluster", "remove it; the environment variable PBS_DEFAULT chooses the server"),
    ("qos", "remove it; queues of PBS have priorities: write `partition: …`"),
    ("gpu_type", "write `constraint: RESOURCE=TYPE`, with the site's resource for types of GPUs"),
    ("gpu_option", "remove it; PBS counts GPUs as `ngpus`"),
];

/// The beginnings of options of qsub with a setting of their own, and the setting.
const SETTINGS: &[(&str, &str)] =
    &[("-A ", "account"), ("-q ", "partition"), ("-l walltime", "time"), ("-l mem", "memory"), ("-r ", "requeue")];

/// The beginnings of options of qsub that winsign sets itself.
const TAKEN: &[&str] = &[
    "-J ",
    "-N ",
    "-S ",
    "-C ",
    "-o ",
    "-e ",
    "-j ",
    "-k ",
    "-h ",
    "-I ",
    "-v ",
    "-z ",
    "-m ",
    "-l select",
    "-l nodes",
    "-l ncpus",
    "-l ngpus",
    "-W depend",
    "-W block",
    "-W max_run_subjobs",
];

pub(super) fn check(profile: &Profile) -> Result<(), Diagnostic> {
    if let Some((setting, help)) = MISSING.iter().find(|(setting, _)| profile.gives(setting)) {
        return Err(profile.fault(setting, 0, format!("PBS has no `{setting}`"), *help));
    }
    if profile.partition.as_ref().is_some_and(|queue| queue.contains('@')) {
        let message = "`partition` cannot name a server of PBS".to_string();
        return Err(profile.fault("partition", 0, message, "name the queue only; PBS_DEFAULT chooses the server"));
    }
    if profile.launcher == "srun" {
        let help = "write `launcher: mpirun`, or `launcher: direct` if every run is one process";
        return Err(profile.fault("launcher", 0, "the launcher `srun` needs Slurm".to_string(), help));
    }
    for (line, text) in profile.sbatch.iter().enumerate() {
        for option in options(text) {
            if let Some((_, setting)) = SETTINGS.iter().find(|(start, _)| option.starts_with(start)) {
                return Err(profile.option_with_setting(line, option.trim_end(), setting));
            }
            if TAKEN.iter().any(|start| option.starts_with(start)) {
                return Err(profile.option_of_winsign(line, option.trim_end()));
            }
        }
    }
    Ok(())
}

/// Returns the options in a line, each as a letter and its value: `-l select=1`.
fn options(line: &str) -> Vec<String> {
    let mut options: Vec<String> = vec![];
    for word in line.split_whitespace() {
        match (word.strip_prefix('-').and_then(|rest| rest.chars().next()), options.last_mut()) {
            (Some(letter), _) => options.push(format!("-{letter} {}", &word[1 + letter.len_utf8()..])),
            (None, Some(option)) => option.push_str(word),
            (None, None) => options.push(word.to_string()),
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn fault(text: &str) -> String {
        let text = format!("scheduler: pbs\n{text}");
        Profile::parse(Path::new("profile.yaml"), &text).unwrap_err().message
    }

    #[test]
    fn settings_of_slurm_are_rejected() {
        assert_eq!(fault("qos: high"), "PBS has no `qos`");
        assert_eq!(fault("time: 1-0"), "`time` must be seconds, or a time such as `4:00:00`, found the text `1-0`");
        assert!(fault("memory: 32G").starts_with("`memory` must be a whole number of bytes"));
        assert_eq!(fault("partition: long@head"), "`partition` cannot name a server of PBS");
        assert_eq!(fault("launcher: srun"), "the launcher `srun` needs Slurm");
    }

    #[test]
    fn options_that_winsign_sets_are_rejected() {
        for option in ["-J 0-3", "-l select=2:ncpus=4", "-lselect=2", "-P x -v A=B", "-W depend=afterok:7"] {
            assert!(fault(&format!("sbatch: [\"{option}\"]")).contains("is set by winsign"), "{option}");
        }
        for option in ["-A lottery", "-qlong", "-l walltime=60"] {
            assert!(fault(&format!("sbatch: [\"{option}\"]")).contains("has its own setting"), "{option}");
        }
        let text = "scheduler: pbs\nsbatch: ['-P lottery', '-l place=excl', '-W umask=022']";
        assert_eq!(Profile::parse(Path::new("profile.yaml"), text).unwrap().launcher, "mpirun");
    }
}
