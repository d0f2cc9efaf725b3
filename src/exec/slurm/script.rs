//! The parts of an array's script that only Slurm understands.

use crate::batch::failed_nodes;
use crate::batch::profile::Profile;
use crate::batch::scheduler::ScriptParts;
use crate::batch::script::{ArrayJob, Resources};

/// Submits this task again, to run on another node, unless several nodes have failed; otherwise queues it again and holds it. A running
/// job cannot be kept off a node. The number of one of the tasks is that of the whole array, so both parts of the name are
/// needed. Variables of this job and of its user would change what is submitted. The failed nodes are lines of the new script,
/// since `--export=NONE` drops variables.
const HOLD: &str = r#"node=${SLURMD_NODENAME:-$(hostname)}
    job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    comment="winsign: node $node: $reason"
    submit_elsewhere() (
        excluded=$(unset "${!SQUEUE_@}"; squeue --all --noheader --format=%x --jobs="$job" | head -n 1)
        case $excluded in "" | N/A | "(null)") excluded= ;; *) excluded=$excluded, ;; esac
        task=$SLURM_ARRAY_TASK_ID
        for name in "${!SLURM_@}" "${!SBATCH_@}"; do
            case $name in SLURM_CONF | SLURM_CONF_SERVER | SLURM_JWT) ;; *) unset "$name" ;; esac
        done
        {
            sed -n "/^store=/q;p" "$0"
            printf "export %s=%q\n" @nodes@ "$nodes" @failure@ "$reason"
            sed -n "/^store=/,\$p" "$0"
        } | sbatch --array="$task" --exclude="$excluded$node" --comment="$comment"
    )
    nodes=${@nodes@:+$@nodes@,}$node:$(date +%s)
    case $nodes in
    @too many@) false ;;
    *) submit_elsewhere >/dev/null 2>&1 ;;
    esac || {
        scontrol update JobId="$job" Comment="$comment"
        scontrol requeuehold "$job"
    }"#;

fn hold() -> String {
    let too_many = format!("{}*", "*,".repeat(failed_nodes::MAX_NODES));
    let names =
        [("@nodes@", failed_nodes::NODES), ("@failure@", failed_nodes::START_FAILURE), ("@too many@", &too_many)];
    names.iter().fold(HOLD.to_string(), |text, (name, value)| text.replace(name, value))
}

pub(super) fn parts(array: &ArrayJob) -> ScriptParts {
    ScriptParts {
        head: options(array).iter().map(|option| format!("#SBATCH {}", directive(option))).collect(),
        task: "$SLURM_ARRAY_TASK_ID",
        hold: hold(),
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
    options.extend(resources(&array.resources(), profile));
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

fn resources(resources: &Resources, profile: &Profile) -> Vec<String> {
    let Resources { nodes, processes, per_node, cores, gpus } = resources;
    let mut options = vec![format!("--nodes={nodes}"), format!("--ntasks={processes}")];
    if *processes > 1 {
        options.push(format!("--ntasks-per-node={per_node}"));
    }
    options.push(format!("--cpus-per-task={cores}"));
    let kind = profile.gpu_type.as_ref().map(|kind| format!("{kind}:")).unwrap_or_default();
    options.extend(gpus.map(|gpus| match profile.gpu_option.as_str() {
        "gpus" => format!("--gpus={kind}{}", gpus * nodes),
        "gpus-per-node" => format!("--gpus-per-node={kind}{gpus}"),
        _ => format!("--gres=gpu:{kind}{gpus}"),
    }));
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
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    use winsign_core::text::shell_word;

    use super::*;
    use crate::batch::submission::Execution;

    #[test]
    fn options_with_spaces_are_quoted() {
        assert_eq!(directive("--exclusive"), "--exclusive");
        assert_eq!(directive("--comment=hello \"world\""), r#"--comment="hello \"world\"""#);
    }

    fn profile(text: &str) -> Profile {
        Profile::parse(Path::new("profile.yaml"), text).unwrap()
    }

    fn execution() -> Execution {
        Execution { data: PathBuf::from("data"), threads: 2, ranks: 1, gpus: None, retries: 1 }
    }

    fn script(profile: &Profile, execution: &Execution, store: &str) -> String {
        let submission = format!("{store}/submissions/3f");
        let array = ArrayJob {
            profile,
            execution,
            store: Path::new(store),
            submission: Path::new(&submission),
            programs: "beef",
            name: "study.3f.4",
            array: 4,
            tasks: 7,
            at_once: Some(3),
        };
        array.script()
    }

    fn has(text: &str, option: &str) -> bool {
        text.lines().any(|line| line == format!("#SBATCH {option}"))
    }

    #[test]
    fn resources_cover_all_concurrent_runs() {
        let one = script(&Profile::default(), &execution(), "/s");
        assert!(has(&one, "--array=0-6%3") && has(&one, "--cpus-per-task=2") && has(&one, "--ntasks=1"), "{one}");
        assert!(!one.contains("gres"), "{one}");

        let shared = profile("pack: 4\nside_by_side: 4");
        let shared = script(&shared, &Execution { gpus: Some(0.25), ..execution() }, "/s");
        assert!(has(&shared, "--cpus-per-task=8") && has(&shared, "--gres=gpu:1"), "{shared}");

        let by_gpus = profile("gpus_per_node: 4");
        let by_gpus = script(&by_gpus, &Execution { ranks: 8, gpus: Some(1.0), ..execution() }, "/s");
        assert!(has(&by_gpus, "--nodes=2") && has(&by_gpus, "--gres=gpu:4"), "{by_gpus}");

        let wide = profile("ranks_per_node: 4\ngpu_type: a100");
        let wide = script(&wide, &Execution { ranks: 8, gpus: Some(1.0), ..execution() }, "/s");
        assert!(
            has(&wide, "--nodes=2") && has(&wide, "--ntasks-per-node=4") && has(&wide, "--gres=gpu:a100:4"),
            "{wide}"
        );
        for (option, expected) in [("gpus", "--gpus=a100:8"), ("gpus-per-node", "--gpus-per-node=a100:4")] {
            let other = profile(&format!("ranks_per_node: 4\ngpu_type: a100\ngpu_option: {option}"));
            let other = script(&other, &Execution { ranks: 8, gpus: Some(1.0), ..execution() }, "/s");
            assert!(has(&other, expected) && !other.contains("gres"), "{other}");
        }
    }

    #[test]
    fn script_has_the_settings_of_the_profile() {
        let profile = profile("partition: long\ntime: 1-0\nsbatch: --exclusive\nsetup: module load x");
        let text = script(&profile, &execution(), "/s");
        for option in ["--partition=long", "--time=1-0", "--exclusive", "--requeue", "--signal=B:USR1@120"] {
            assert!(has(&text, option), "{option}: {text}");
        }
        assert!(text.find("exec >>").unwrap() < text.find("module load x").unwrap(), "its output is in the log");
    }

    fn write_program(path: &Path, lines: &str) {
        std::fs::write(path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Writes a program that appends its arguments to a file.
    fn write_recorder(path: &Path, file: &Path) {
        write_program(path, &format!("printf '%s\\n' \"$*\" >>{}", shell_word(&file.to_string_lossy())));
    }

    /// Runs a script as task 3 of the array 17 on node7, with the programs of a folder.
    fn run_task_3(script: &str, programs: &Path) -> Output {
        let path = std::env::join_paths([programs, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        let file = programs.join("slurm_script");
        std::fs::write(&file, script).unwrap();
        let mut bash = Command::new("bash");
        bash.arg(&file).env("PATH", path).env("SQUEUE_PARTITION", "other");
        bash.envs([("SLURM_ARRAY_JOB_ID", "17"), ("SLURM_ARRAY_TASK_ID", "3"), ("SLURMD_NODENAME", "node7")]);
        bash.output().unwrap()
    }

    /// Runs the script of a task that cannot use its store, after it has failed on these nodes; returns the calls of sbatch, with
    /// the variables that the submitted script exports, and of scontrol. sbatch fails if `rejects`.
    fn calls_without_store(failed_nodes: &str, rejects: bool) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("calls");
        write_recorder(&folder.path().join("scontrol"), &log);
        let record = format!(
            "eval \"$(grep '^export WINSIGN')\"\n\
             echo \"sbatch $* with $WINSIGN_FAILED_NODES; $WINSIGN_NODE_FAILURE; $SLURM_CONF $SLURM_NTASKS$SBATCH_QOS\" >>{}",
            shell_word(&log.to_string_lossy())
        );
        write_program(&folder.path().join("sbatch"), &format!("{record}\n{}", if rejects { "exit 1" } else { "" }));
        write_program(&folder.path().join("date"), "echo 17");
        write_program(&folder.path().join("squeue"), "[ -n \"$SQUEUE_PARTITION\" ] || echo 'node[1-2]'");
        let environment = "export SLURM_CONF=/conf SLURM_NTASKS=1 SBATCH_QOS=other\n";
        let exported = format!("export WINSIGN_FAILED_NODES={failed_nodes}\nstore=");
        let text = script(&Profile::default(), &execution(), "/no such store").replacen("store=", &exported, 1);
        let text = environment.to_string() + &text;
        assert_eq!(run_task_3(&text, folder.path()).status.code(), Some(74));
        std::fs::read_to_string(log).unwrap().lines().map(str::to_string).collect()
    }

    #[test]
    fn task_without_access_to_the_store_is_submitted_elsewhere() {
        let calls = calls_without_store("node8", false);
        let comment = "winsign: node node7: cannot use the store /no such store";
        let exclude = "--exclude=node[1-2],node7";
        let variables = "node8,node7:17; cannot use the store /no such store; /conf ";
        assert_eq!(calls, [format!("sbatch --array=3 {exclude} --comment={comment} with {variables}")]);
    }

    #[test]
    fn task_that_cannot_run_elsewhere_is_held() {
        let held =
            ["update JobId=17_3 Comment=winsign: node node7: cannot use the store /no such store", "requeuehold 17_3"];
        assert_eq!(calls_without_store("node8", true)[1..], held);
        assert_eq!(calls_without_store("node8,node9,node10", false), held, "four nodes have failed");
    }

    #[test]
    fn job_with_failed_setup_or_missing_program_is_held() {
        for setup in ["exit 3", "true"] {
            let folder = tempfile::tempdir().unwrap();
            let log = folder.path().join("calls");
            write_recorder(&folder.path().join("scontrol"), &log);
            let store = folder.path().join("store");
            std::fs::create_dir_all(store.join("submissions/3f")).unwrap();
            std::fs::write(store.join("submissions/3f/submission.json"), "").unwrap();
            let profile = profile(&format!("setup: '{setup}'"));
            let ran = run_task_3(&script(&profile, &execution(), &store.to_string_lossy()), folder.path());
            assert!(!ran.status.success());
            let log = std::fs::read_to_string(log).unwrap();
            assert!(log.contains("node node7: cannot start the program") && log.contains("requeuehold 17_3"), "{log}");
        }
    }

    #[test]
    fn paths_with_special_characters_are_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("a 'b' \"c\" $d `e`\n#SBATCH --nodes=9\n*");
        let submission = store.join("submissions/3f");
        std::fs::create_dir_all(submission.join("log")).unwrap();
        std::fs::write(submission.join("submission.json"), "").unwrap();
        let programs = store.join("programs/beef");
        std::fs::create_dir_all(&programs).unwrap();
        write_program(&programs.join("winsign"), "printf '%s\\0' \"$@\"");

        let text = script(&Profile::default(), &execution(), &store.to_string_lossy());
        let options = text.lines().skip(1).take_while(|line| !line.is_empty());
        assert!(options.clone().all(|line| line.starts_with("#SBATCH --")) && options.count() > 5, "{text}");
        let head: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
        assert!(!head.iter().any(|line| line.contains("nodes=9")), "{text}");

        let ran = Command::new("bash").arg("-c").arg(&text).env("SLURM_ARRAY_TASK_ID", "5").output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let log = std::fs::read_to_string(submission.join("log/4_5")).unwrap();
        let words: Vec<&str> = log.split_terminator('\0').collect();
        assert_eq!(words, ["task", "-v", submission.to_str().unwrap(), "4", "5"]);
    }
}
