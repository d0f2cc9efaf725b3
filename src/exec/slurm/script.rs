//! What Slurm needs in the script of an array.

use crate::batch::scheduler::ScriptParts;
use crate::batch::script::{ArrayJob, Resources};

pub(super) fn parts(array: &ArrayJob) -> ScriptParts {
    ScriptParts {
        head: options(array).iter().map(|option| format!("#SBATCH {}", directive(option))).collect(),
        task: "$SLURM_ARRAY_TASK_ID",
        hold: r#"scontrol update JobId="$SLURM_JOB_ID" Comment="winsign: ${SLURMD_NODENAME:-$(hostname)} $reason"
    scontrol requeuehold "$SLURM_JOB_ID""#,
    }
}

fn options(array: &ArrayJob) -> Vec<String> {
    let ArrayJob { profile, name, tasks, .. } = array;
    let mut options = vec![
        format!("--job-name={name}"),
        format!("--array=0-{}{}", tasks - 1, array.at_once.map(|most| format!("%{most}")).unwrap_or_default()),
        // The script opens its own log after checking that this node can access the store.
        "--output=/dev/null".to_string(),
        "--open-mode=append".to_string(),
        "--kill-on-invalid-dep=yes".to_string(),
        format!("--signal=B:USR1@{}", profile.grace),
    ];
    options.push(if profile.requeue { "--requeue" } else { "--no-requeue" }.to_string());
    options.extend(resources(&array.resources(), profile.gpu_type.as_deref()));
    let named = [
        ("partition", &profile.partition),
        ("account", &profile.account),
        ("qos", &profile.qos),
        ("constraint", &profile.constraint),
        ("time", &profile.time),
        ("mem", &profile.memory),
    ];
    options.extend(named.iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?))));
    options.extend(profile.sbatch.iter().cloned());
    options
}

fn resources(resources: &Resources, gpu_type: Option<&str>) -> Vec<String> {
    let Resources { nodes, processes, per_node, cores, gpus } = resources;
    let mut options = vec![format!("--nodes={nodes}"), format!("--ntasks={processes}")];
    if *processes > 1 {
        options.push(format!("--ntasks-per-node={per_node}"));
    }
    options.push(format!("--cpus-per-task={cores}"));
    let kind = gpu_type.map(|kind| format!("{kind}:")).unwrap_or_default();
    options.extend(gpus.map(|gpus| format!("--gres=gpu:{kind}{gpus}")));
    options
}

/// Formats an option for a `#SBATCH` line; values that Slurm would split are quoted.
fn directive(option: &str) -> String {
    match option.split_once('=') {
        Some((name, value))
            if value.contains(|character: char| character.is_whitespace() || "\"'\\#".contains(character)) =>
        {
            format!("{name}=\"{}\"", value.replace('\\', r"\\").replace('"', r#"\""#))
        }
        _ => option.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_with_spaces_are_quoted() {
        assert_eq!(directive("--exclusive"), "--exclusive");
        assert_eq!(directive("--comment=hello \"world\""), r#"--comment="hello \"world\"""#);
    }
}
