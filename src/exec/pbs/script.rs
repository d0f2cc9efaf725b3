//! The parts of an array's script that only PBS understands.

use super::qsub;
use crate::batch::profile::Profile;
use crate::batch::scheduler::ScriptParts;
use crate::batch::script::{ArrayJob, Resources};

/// Holds the array, so that its other tasks do not fail alike. PBS can neither hold a single task nor keep jobs off a node, and
/// many sites let only operators requeue.
const HOLD: &str = r#"case $PBS_JOBID in
    *\[*) qhold "${PBS_JOBID%%\[*}[].${PBS_JOBID#*.}" ;;
    esac
    qrerun "$PBS_JOBID""#;

/// The signal that asks a job to stop. It has no effect on programs that do not wait for it.
pub(super) const STOP: &str = "URG";

pub(super) fn parts(array: &ArrayJob) -> ScriptParts {
    let mut head: Vec<String> = options(array).iter().map(|option| format!("{}{option}", qsub::PREFIX)).collect();
    head.extend(signals(array.profile));
    ScriptParts { head, task: qsub::INDEX, hold: HOLD.to_string() }
}

/// Returns the lines of shell that send SIGUSR1 to the script before the time limit, since PBS does not, and when they get
/// [`STOP`]. PBS sends signals to all processes of a job, also to the shell that started the script, which SIGUSR1 would end.
fn signals(profile: &Profile) -> Vec<String> {
    let limit = profile.time_limit().map(|limit| limit.as_secs().saturating_sub(profile.grace.into()));
    let is_over = limit.map_or("false".to_string(), |seconds| format!("[ $SECONDS -ge {seconds} ]"));
    let wait = format!("until {is_over}; do sleep 1; kill -0 $$ || exit; done");
    vec![
        "# Passes signals on to the script, and sends one before its time limit.".to_string(),
        format!("(trap 'kill -USR1 $$' {STOP}; {wait}; kill -USR1 $$) </dev/null >/dev/null 2>&1 &"),
    ]
}

fn options(array: &ArrayJob) -> Vec<String> {
    let ArrayJob { profile, name, tasks, .. } = array;
    let mut options = vec![
        format!("-N {name}"),
        // The first line of a script does not choose the shell that reads the profile of the user.
        "-S /bin/bash".to_string(),
        format!("{}0-{}", qsub::ARRAY, tasks - 1),
        // The script opens its own log after checking that this node can access the store.
        "-j oe".to_string(),
        "-o /dev/null".to_string(),
        "-m n".to_string(),
        // Arrays cannot be anything else.
        "-r y".to_string(),
    ];
    options.extend(array.at_once.map(|most| format!("-W max_run_subjobs={most}")));
    options.push(format!("-l select={}", chunks(&array.resources(), profile)));
    let has_place = profile.sbatch.iter().any(|option| option.contains("place="));
    if array.resources().nodes > 1 && !has_place {
        options.push("-l place=scatter".to_string());
    }
    let named = [("-q ", &profile.partition), ("-A ", &profile.account), ("-l walltime=", &profile.time)];
    options.extend(named.iter().filter_map(|(name, value)| Some(format!("{name}{}", value.as_ref()?))));
    options.extend(profile.sbatch.iter().cloned());
    options
}

/// Returns the resources of the nodes, one chunk on each.
fn chunks(resources: &Resources, profile: &Profile) -> String {
    let Resources { nodes, per_node, cores, gpus, .. } = resources;
    let mut chunks = format!("{nodes}:ncpus={}:mpiprocs={per_node}", per_node * cores);
    let gpus = gpus.map(|gpus| format!("ngpus={gpus}"));
    let memory = profile.memory.as_ref().map(|memory| format!("{}{memory}", qsub::CHUNK_MEMORY));
    for resource in gpus.iter().chain(&memory).chain(&profile.constraint) {
        chunks += &format!(":{resource}");
    }
    chunks
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;
    use crate::batch::submission::Execution;

    fn script(profile: &str, execution: &Execution) -> String {
        let text = format!("scheduler: pbs\n{profile}");
        let profile = Profile::parse(Path::new("profile.yaml"), &text).unwrap();
        let array = ArrayJob {
            profile: &profile,
            execution,
            store: Path::new("/s"),
            submission: Path::new("/s/submissions/3f"),
            programs: "beef",
            name: "study.3f.4",
            array: 4,
            tasks: 7,
            at_once: Some(3),
        };
        array.script()
    }

    fn execution() -> Execution {
        Execution { data: PathBuf::from("data"), threads: 2, ranks: 1, gpus: None, retries: 1 }
    }

    fn has(text: &str, option: &str) -> bool {
        text.lines().any(|line| line == format!("#PBS {option}"))
    }

    #[test]
    fn resources_are_chunks() {
        let one = script("", &execution());
        assert!(has(&one, "-J 0-6") && has(&one, "-W max_run_subjobs=3"), "{one}");
        assert!(has(&one, "-l select=1:ncpus=2:mpiprocs=1") && one.contains("until false;"), "{one}");

        let wide = "ranks_per_node: 4\nmemory: 8gb\nconstraint: gpu_model=a100\ntime: 1:00:00\npartition: long";
        let wide = script(wide, &Execution { ranks: 8, gpus: Some(1.0), ..execution() });
        let select = "-l select=2:ncpus=8:mpiprocs=4:ngpus=4:mem=8gb:gpu_model=a100";
        for option in [select, "-l place=scatter", "-l walltime=1:00:00", "-q long"] {
            assert!(has(&wide, option), "{option}: {wide}");
        }
        assert!(wide.contains("[ $SECONDS -ge 3480 ]"), "{wide}");
    }

    #[test]
    fn array_of_a_job_without_access_to_the_store_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("calls");
        for program in ["qhold", "qrerun"] {
            let path = folder.path().join(program);
            std::fs::write(&path, format!("#!/bin/sh\necho {program} \"$*\" >>'{}'\n", log.display())).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let path = std::env::join_paths([folder.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        for (job, expected) in
            [("17[3].head.site", "qhold 17[].head.site\nqrerun 17[3].head.site\n"), ("18.head", "qrerun 18.head\n")]
        {
            let mut bash = Command::new("bash");
            let ran =
                bash.arg("-c").arg(script("", &execution())).env("PATH", &path).env("PBS_JOBID", job).output().unwrap();
            assert_eq!(ran.status.code(), Some(74));
            assert_eq!(std::fs::read_to_string(&log).unwrap(), expected);
            std::fs::remove_file(&log).unwrap();
        }
    }
}
