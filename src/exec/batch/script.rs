//! The script of an array's jobs.

use std::path::Path;

use winsign_core::text::shell_word;

use super::profile::Profile;
use super::programs;
use super::scheduler::ScriptParts;
use super::submission::Execution;

/// An array of jobs that are to be submitted.
pub struct ArrayJob<'a> {
    pub profile: &'a Profile,
    pub execution: &'a Execution,
    pub store: &'a Path,
    pub submission: &'a Path,
    pub programs: &'a str,
    /// The name of its jobs.
    pub name: &'a str,
    /// The number of the array in its submission.
    pub array: usize,
    pub tasks: usize,
    /// The maximum number of tasks that run at the same time.
    pub at_once: Option<u32>,
}

/// The resources of one task, for all runs that it executes at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    pub nodes: u32,
    /// The processes that the scheduler starts or makes room for.
    pub processes: u32,
    /// The maximum number of processes on a node.
    pub per_node: u32,
    /// Cores per process.
    pub cores: u32,
    /// GPUs per node.
    pub gpus: Option<u32>,
}

impl ArrayJob<'_> {
    pub fn resources(&self) -> Resources {
        let Execution { ranks, threads, .. } = *self.execution;
        let all = ranks * self.profile.side_by_side;
        // One process executes all runs of one rank; each rank of larger runs is a process of its own.
        if ranks == 1 {
            return Resources { nodes: 1, processes: 1, per_node: 1, cores: threads * all, gpus: self.gpus(all) };
        }
        let per_node = self.execution.ranks_on_node(all, self.profile);
        let gpus = self.gpus(per_node);
        Resources { nodes: all.div_ceil(per_node), processes: all, per_node, cores: threads, gpus }
    }

    /// Returns the GPUs of one node with this many ranks.
    fn gpus(&self, ranks: u32) -> Option<u32> {
        let share = self.execution.gpus?;
        let gpus = (share * f64::from(ranks)).ceil().max(1.0) as u32;
        Some(self.profile.gpus_per_node.map_or(gpus, |most| gpus.min(most)))
    }

    /// Returns the script of the jobs. Paths are only in its shell part, in quotes.
    pub fn script(&self) -> String {
        let ScriptParts { head, task, hold } = self.profile.scheduler().script(self);
        let ArrayJob { profile, array, .. } = self;
        let store = shell_word(&self.store.to_string_lossy());
        let submission = shell_word(&self.submission.to_string_lossy());
        let programs = shell_word(&programs::folder(self.store, self.programs).to_string_lossy());
        let setup = match profile.setup.trim_end() {
            "" => String::new(),
            setup => format!("# `setup` of the profile.\n{setup}\n"),
        };
        format!(
            r#"#!/bin/bash
{head}

store={store}
submission={submission}
programs={programs}
# The program handles these signals as soon as it runs. Until then they must not end the job, which would not be queued again.
trap '' USR1 TERM
log=$submission/log/{array}_{task}
# A job that cannot start the program is held, since all others would fail as well. `winsign status` shows the reason.
reason="cannot use the store $store"
trap 'code=$?
    {hold}
    exit $code' EXIT
[ -r "$submission/submission.json" ] && [ -w "$store" ] || exit 74
mkdir -p "$submission/log" && exec >>"$log" 2>&1 || exit 74
reason="cannot start the program; see $log"
{setup}[ -x "$programs/{winsign}" ] || exit 127
exec "$programs/{winsign}" task -v "$submission" {array} "{task}"
"#,
            head = head.join("\n"),
            winsign = programs::WINSIGN,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

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

        let shared = Profile { side_by_side: 4, ..Profile::default() };
        let shared = script(&shared, &Execution { gpus: Some(0.25), ..execution() }, "/s");
        assert!(has(&shared, "--cpus-per-task=8") && has(&shared, "--gres=gpu:1"), "{shared}");

        let by_gpus = Profile { gpus_per_node: Some(4), ..Profile::default() };
        let by_gpus = script(&by_gpus, &Execution { ranks: 8, gpus: Some(1.0), ..execution() }, "/s");
        assert!(has(&by_gpus, "--nodes=2") && has(&by_gpus, "--gres=gpu:4"), "{by_gpus}");

        let wide = Profile { ranks_per_node: Some(4), gpu_type: Some("a100".into()), ..Profile::default() };
        let wide = script(&wide, &Execution { ranks: 8, gpus: Some(1.0), ..execution() }, "/s");
        assert!(
            has(&wide, "--nodes=2") && has(&wide, "--ntasks-per-node=4") && has(&wide, "--gres=gpu:a100:4"),
            "{wide}"
        );
    }

    #[test]
    fn script_has_the_settings_of_the_profile() {
        let profile = Profile {
            partition: Some("long".into()),
            time: Some("1-0".into()),
            sbatch: vec!["--exclusive".into()],
            setup: "module load x\n".into(),
            ..Profile::default()
        };
        let text = script(&profile, &execution(), "/s");
        for option in ["--partition=long", "--time=1-0", "--exclusive", "--requeue", "--signal=B:USR1@120"] {
            assert!(has(&text, option), "{option}: {text}");
        }
        assert!(text.find("exec >>").unwrap() < text.find("module load x").unwrap(), "its words are in the log");
    }

    /// A program that writes down what it is given.
    fn echoing(path: &Path, to: &Path) {
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"$*\" >>{}\n", shell_word(&to.to_string_lossy()));
        std::fs::write(path, script).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    #[test]
    fn job_without_access_to_the_store_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("told");
        echoing(&folder.path().join("scontrol"), &log);
        let path = std::env::join_paths([folder.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        let ran = Command::new("bash")
            .arg("-c")
            .arg(script(&Profile::default(), &execution(), "/no such store"))
            .env("PATH", path)
            .envs([("SLURM_JOB_ID", "17"), ("SLURM_ARRAY_TASK_ID", "0"), ("SLURMD_NODENAME", "node7")])
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(74));
        let log = std::fs::read_to_string(log).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(
            lines,
            ["update JobId=17 Comment=winsign: node7 cannot use the store /no such store", "requeuehold 17"]
        );
    }

    #[test]
    fn job_with_failed_setup_or_missing_program_is_held() {
        for setup in ["exit 3", "true"] {
            let folder = tempfile::tempdir().unwrap();
            let log = folder.path().join("told");
            echoing(&folder.path().join("scontrol"), &log);
            let store = folder.path().join("store");
            std::fs::create_dir_all(store.join("submissions/3f")).unwrap();
            std::fs::write(store.join("submissions/3f/submission.json"), "").unwrap();
            let profile = Profile { setup: setup.to_string(), ..Profile::default() };
            let path = std::env::join_paths([folder.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
            let ran = Command::new("bash")
                .arg("-c")
                .arg(script(&profile, &execution(), &store.to_string_lossy()))
                .env("PATH", path)
                .envs([("SLURM_JOB_ID", "17"), ("SLURM_ARRAY_TASK_ID", "0"), ("SLURMD_NODENAME", "node7")])
                .output()
                .unwrap();
            assert!(!ran.status.success());
            let log = std::fs::read_to_string(log).unwrap();
            assert!(log.contains("node7 cannot start the program") && log.contains("requeuehold 17"), "{log}");
        }
    }

    /// The shell itself says what it makes of the script.
    #[test]
    fn paths_with_special_characters_are_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("a 'b' \"c\" $d `e`\n#SBATCH --nodes=9\n*");
        let submission = store.join("submissions/3f");
        std::fs::create_dir_all(submission.join("log")).unwrap();
        std::fs::write(submission.join("submission.json"), "").unwrap();
        let programs = store.join("programs/beef");
        std::fs::create_dir_all(&programs).unwrap();
        let program = programs.join("winsign");
        std::fs::write(&program, "#!/bin/sh\nprintf '%s\\0' \"$@\"\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, executable).unwrap();

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
