//! OpenMPI's launcher: one `mpirun` per run, which starts its ranks on the hosts of its seat.

use std::ffi::OsString;
use std::path::Path;

use tokio::process::Command;
use winsign_core::text::shell_word;

use super::Options;
use super::hosts::split_user;
use super::launcher::{Launcher, Output, Placement};
use super::slots::{Part, Seat};

const PROGRAM: &str = "mpirun";

/// Environment variables, or their prefixes, that ranks on all hosts need: locations and tuning of libraries, and the time after
/// which a process is lost.
const FORWARDED: &[&str] = &[
    "CUDA_",
    "DNNL_",
    "GOMP_",
    "KMP_",
    "LD_LIBRARY_PATH",
    "MKL_",
    "NCCL_",
    "OMP_",
    "ONEDNN_",
    "PYTORCH_",
    "TORCH_",
    "WINSIGN_LOST_AFTER",
];

/// Starts one `mpirun` per run. It passes its standard input on to rank 0, so that the run saves a checkpoint and
/// stops when this process exits, and SIGUSR1 to all ranks.
#[derive(Debug)]
pub struct Mpirun;

impl Launcher for Mpirun {
    fn program(&self) -> Option<&Path> {
        Some(Path::new(PROGRAM))
    }

    fn placement(&self) -> Placement {
        Placement::Hosts
    }

    fn command(&self, options: &Options, seat: &Seat, run: &Path, launch: &str) -> Command {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments(options, seat, run, launch, names, rustix::process::geteuid().is_root()))
            .env("OMP_NUM_THREADS", options.threads.to_string())
            .envs(agent_options(seat))
            // In a Slurm allocation mpirun starts a step on other nodes, which would otherwise block other steps.
            .env("SLURM_OVERLAP", "1")
            // The daemons that it starts by srun need the variables of this process.
            .env("SLURM_EXPORT_ENV", "ALL");
        command
    }

    fn read(&self, stderr: Vec<String>) -> Output {
        Output { reason: reason(&stderr), ranks: words_of_ranks(&stderr), memory_ran_out: false }
    }
}

/// Returns the arguments of mpirun. Variables are passed by name, with the value in the environment of mpirun, to avoid quoting;
/// except for the GPUs, which differ between hosts.
fn arguments(
    options: &Options,
    seat: &Seat,
    run: &Path,
    launch: &str,
    ours: impl Iterator<Item = String>,
    is_root: bool,
) -> Vec<OsString> {
    let mut names = forwarded(ours);
    names.push("OMP_NUM_THREADS".to_string());
    names.sort();
    names.dedup();

    let mut arguments: Vec<OsString> = vec![];
    if is_root {
        arguments.push("--allow-run-as-root".into());
    }
    // By default each rank is bound to one core, which its threads would share. The host of each rank is chosen here; Slurm
    // would count the requested tasks.
    let hosts = host_of_each_rank(&seat.parts);
    let ranks = hosts.len().to_string();
    arguments.extend(["--bind-to", "none", "--oversubscribe", "--map-by", "seq"].map(OsString::from));
    arguments.extend(["--host", &hosts.join(","), "-np", &ranks].map(OsString::from));
    for name in &names {
        arguments.extend(["-x".into(), name.into()]);
    }
    arguments.extend(with_gpus(&seat.parts).into_iter().map(OsString::from));
    arguments.push(options.worker.clone().into());
    arguments.extend(options.worker_arguments(run, launch));
    arguments
}

/// Returns the name of the host of each rank, without its user.
fn host_of_each_rank(parts: &[Part]) -> Vec<&str> {
    parts.iter().flat_map(|part| std::iter::repeat_n(split_user(&part.name).1, part.ranks())).collect()
}

/// Returns the arguments that give the ranks their GPUs: options of mpirun, or a shell if they differ between hosts, because
/// OpenMPI 5.0 crashes where a command line has different options for several hosts.
fn with_gpus(parts: &[Part]) -> Vec<String> {
    let variables = parts[0].gpu_variables(true);
    match parts.iter().all(|part| part.gpu_variables(true) == variables) {
        true => variables.into_iter().flat_map(|(name, value)| ["-x".to_string(), format!("{name}={value}")]).collect(),
        false => ["sh", "-c", &choose_gpus(parts)].map(str::to_string).into(),
    }
}

/// Returns a line of shell that sets the variables of a rank's host, and executes its arguments.
fn choose_gpus(parts: &[Part]) -> String {
    let (mut line, mut first) = (String::new(), 0);
    for part in parts {
        let variables = part.gpu_variables(true).into_iter();
        let assignments: Vec<String> =
            variables.map(|(name, value)| format!("{name}={}", shell_word(&value))).collect();
        // The last of these that applies is that of the rank's own host.
        line += &format!("[ $OMPI_COMM_WORLD_RANK -lt {first} ] || export {}; ", assignments.join(" "));
        first += part.ranks();
    }
    line + r#"exec "$0" "$@""#
}

/// Returns the variables with the options of ssh, if the hosts have a user: `--host` does not take one. OpenMPI 5 reads another
/// name than earlier versions.
fn agent_options(seat: &Seat) -> Vec<(&'static str, String)> {
    let (Some(user), _) = split_user(&seat.parts[0].name) else { return vec![] };
    let with_user = |name| {
        let others = std::env::var(name).unwrap_or_default();
        (name, format!("{others} -l {user}").trim().to_string())
    };
    ["OMPI_MCA_plm_rsh_args", "PRTE_MCA_plm_ssh_args"].map(with_user).into()
}

/// Returns the variables that are passed to ranks unchanged.
fn forwarded(ours: impl Iterator<Item = String>) -> Vec<String> {
    // These are specific to this machine.
    ours.filter(|name| !["CUDA_VISIBLE_DEVICES", super::gpus::MPS_PERCENTAGE].contains(&name.as_str()))
        .filter(|name| FORWARDED.iter().any(|prefix| name.starts_with(prefix)))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .collect()
}

/// Returns why a run did not start, on one line: the message of ssh, or the text box of mpirun.
fn reason(stderr: &[String]) -> String {
    let (boxed, bare) = by_origin(stderr);
    let lines = if bare.is_empty() { boxed } else { bare };
    // A box starts with the error; possible causes follow.
    lines.into_iter().take(5).map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Returns the lines that the ranks wrote.
fn words_of_ranks(stderr: &[String]) -> Vec<String> {
    by_origin(stderr).1.into_iter().cloned().collect()
}

/// Returns true for lines without text, to which OpenMPI 5.0 adds zero bytes, and for warnings that every start can print.
fn says_nothing(line: &str) -> bool {
    line.chars().all(|character| character.is_whitespace() || character.is_control())
        || line.starts_with("Warning: Permanently added")
        || line.contains(": Warning: setpgid(")
}

/// Separates the lines of mpirun's boxes, which have a ruler above and below, from the others. Lines that say nothing are left
/// out.
fn by_origin(stderr: &[String]) -> (Vec<&String>, Vec<&String>) {
    let is_ruler = |line: &str| line.len() > 20 && line.bytes().all(|byte| byte == b'-');
    let (mut boxed, mut bare) = (vec![], vec![]);
    let mut inside = false;
    for line in stderr.iter().filter(|line| !says_nothing(line)) {
        match is_ruler(line) {
            true => inside = !inside,
            false if inside => boxed.push(line),
            false => bare.push(line),
        }
    }
    (boxed, bare)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::Options;
    use super::super::gpus::Share;
    use super::super::hosts::Named;
    use super::super::slots::Slots;
    use super::*;

    fn options(slots: Slots, ranks: u32) -> Options {
        Options {
            launcher: std::sync::Arc::new(Mpirun),
            slots,
            ranks,
            threads: 2,
            data: "/my data".into(),
            retries: 0,
            retry_out_of_memory: true,
            worker: "/bin/the \"worker\"".into(),
        }
    }

    fn hosts(slots: &[(&str, u32)], share: Share) -> Slots {
        Slots::on(slots.iter().map(|&(name, slots)| Named { name: name.to_string(), slots }).collect(), share)
    }

    fn built(options: Options, ours: &[&str]) -> Vec<String> {
        let seat = options.slots.clone().take(options.ranks, Instant::now()).unwrap();
        let ours = ours.iter().map(|name| name.to_string());
        let arguments = arguments(&options, &seat, Path::new("/store/runs/3f/3f"), "t.1", ours, false);
        arguments.into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    #[test]
    fn command_has_hosts_and_variables_of_the_seat() {
        let built = built(options(hosts(&[("a", 2), ("b", 1)], Share::Even), 3), &["PATH", "NCCL_DEBUG", "OMP_X y"]);
        let begin = "--bind-to none --oversubscribe --map-by seq --host a,a,b -np 3 -x NCCL_DEBUG -x OMP_NUM_THREADS";
        let begin: Vec<&str> = begin.split(' ').collect();
        let worker = ["/bin/the \"worker\"", "--ranks", "3", "--threads", "2", "--stop-with-stdin", "--launch", "t.1"];
        let end = ["--data", "/my data", "--", "/store/runs/3f/3f"];
        assert_eq!(built, [&begin[..], &worker, &end].concat());
    }

    #[test]
    fn each_host_gets_its_own_gpus() {
        let alike = options(hosts(&[("a", 2), ("b", 2)], Share::Whole(1)), 4);
        let alike = built(alike, &["CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING"]).join(" ");
        let variables = "-x CUDA_LAUNCH_BLOCKING -x OMP_NUM_THREADS -x CUDA_VISIBLE_DEVICES=0,1";
        assert!(alike.contains(&format!("--host a,a,b,b -np 4 {variables} /bin")), "{alike}");

        let different = built(options(hosts(&[("a", 2), ("b", 1)], Share::Whole(1)), 3), &[]);
        let shell = different.iter().position(|argument| argument == "sh").expect("a shell chooses the GPUs");
        assert_eq!((&*different[shell + 1], &*different[shell + 3]), ("-c", "/bin/the \"worker\""));
        for (rank, gpus) in [("0", "0,1"), ("1", "0,1"), ("2", "0")] {
            let mut chosen = std::process::Command::new("sh");
            chosen.args(["-c", &different[shell + 2], "printenv", "CUDA_VISIBLE_DEVICES"]);
            let chosen = chosen.env("OMPI_COMM_WORLD_RANK", rank).output().unwrap();
            assert_eq!(String::from_utf8(chosen.stdout).unwrap().trim(), gpus, "rank {rank}");
        }

        let shared = self::built(options(hosts(&[("a", 1)], Share::OneOf(4)), 1), &[]).join(" ");
        let variables = "-x CUDA_VISIBLE_DEVICES=0 -x WINSIGN_GPU_SHARE=0.2500 -x CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25";
        assert!(shared.contains(&format!("{variables} /bin")), "{shared}");
    }

    #[test]
    fn user_of_the_hosts_is_an_option_of_ssh() {
        let options = options(hosts(&[("me@a", 1), ("me@b", 1)], Share::Even), 2);
        let seat = options.slots.clone().take(2, Instant::now()).unwrap();
        let variables = ["OMPI_MCA_plm_rsh_args", "PRTE_MCA_plm_ssh_args"].map(|name| (name, "-l me".to_string()));
        assert_eq!(agent_options(&seat), variables);
        assert!(built(options, &[]).join(" ").contains("--host a,b -np 2"));
    }

    #[test]
    fn single_rank_runs_without_mpi() {
        assert!(built(options(hosts(&[("a", 1)], Share::Even), 1), &[]).contains(&"--alone".to_string()));
    }

    #[test]
    fn reason_is_extracted_from_mpirun_output() {
        let lines = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
        let ruler = "-".repeat(74);
        let unreachable = format!(
            "Warning: Permanently added 'b' to the list.\nssh: connect to host b port 22: Connection refused\n{ruler}\n\
             ORTE was unable to reliably start one or more daemons.\nThis usually is caused by:\n\n* many things\n{ruler}"
        );
        assert_eq!(reason(&lines(&unreachable)), "ssh: connect to host b port 22: Connection refused");
        let missing = format!("{ruler}\nmpirun was unable to launch it:\n\nExecutable: /bin/x\nNode: b\n\n{ruler}\n");
        assert_eq!(reason(&lines(&missing)), "mpirun was unable to launch it: Executable: /bin/x Node: b");
        let failed = format!("WARN cold\nwinsign-worker: the loss is NaN\n{ruler}\nPrimary job terminated\n{ruler}\n");
        assert_eq!(words_of_ranks(&lines(&failed)), ["WARN cold", "winsign-worker: the loss is NaN"]);
        let warning = "[a:1] plm:ssh: Warning: setpgid(8,8) failed";
        let lost = format!("{warning}\n{ruler}\nPRTE has lost a daemon.\n\n  HNP daemon : [a]\n{ruler}\n\0\n");
        assert_eq!(words_of_ranks(&lines(&lost)), [""; 0]);
        assert_eq!(reason(&lines(&lost)), "PRTE has lost a daemon. HNP daemon : [a]");
    }
}
