//! The command lines of the two programs.

use std::process::Command;

use winsign_testkit::{SMALL, Workplace, stdout, succeed};

fn winsign() -> Command {
    Command::new(env!("CARGO_BIN_EXE_winsign"))
}

#[test]
fn winsign_links_neither_libtorch_nor_mpi() {
    let listed = stdout(&succeed(Command::new("ldd").arg(env!("CARGO_BIN_EXE_winsign"))));
    // Compare only the names, since the addresses beside them may contain any of the texts below.
    let libraries: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(libraries.contains(&"libc.so.6"), "{listed}");
    for foreign in ["torch", "c10", "mpi", "cuda", "stdc++"] {
        assert!(!libraries.iter().any(|library| library.contains(foreign)), "{listed}");
    }
}

#[test]
fn every_command_has_help_with_examples() {
    let commands = [
        "plan",
        "run",
        "submit",
        "cancel",
        "hold",
        "release",
        "retry",
        "status",
        "show",
        "logs",
        "report",
        "compare",
        "digest",
        "serve",
        "merge",
        "clean",
        "completions",
    ];
    for command in commands {
        let help = stdout(&succeed(winsign().args([command, "--help"])));
        assert!(help.contains("Example") && help.contains("--store") && help.contains("--json"), "{help}");
    }
    let help = stdout(&succeed(winsign().arg("--help")));
    assert!(commands.iter().all(|command| help.contains(command)), "{help}");
    assert!(help.contains("Exit codes"), "{help}");
}

#[test]
fn completions_and_schema_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&succeed(winsign().args(["completions", shell]))).contains("report"), "{shell}");
    }
    let schema: serde_json::Value = serde_json::from_str(&stdout(&succeed(winsign().arg("schema")))).unwrap();
    assert!(schema["properties"]["ticket"].is_object());
}

#[test]
fn plan_lists_dependencies() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let plan = workplace.plan(&sweep);
    let kinds: Vec<&str> = plan.iter().map(|run| run["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ticket", "ticket", "ticket", "transfer", "transfer", "connect", "connect"]);
    let id = |at: usize| plan[at]["id"].clone();
    let needs = |at: usize| plan[at]["needs"].as_array().unwrap().clone();
    assert!(needs(0).is_empty());
    assert_eq!((needs(1), needs(2)), (vec![id(0)], vec![id(1)]));
    assert_eq!((needs(3), needs(4)), (vec![id(2)], vec![id(2)]));
    assert_eq!((needs(5), needs(6)), (vec![id(3), id(4)], vec![id(2)]));
    assert!(plan.iter().all(|run| run["state"] == "pending"));
    assert!(!workplace.store().exists(), "`winsign plan` must not write");

    let dot = stdout(&succeed(workplace.winsign("plan", &sweep).args(["--graph", "dot"])));
    assert_eq!(dot.matches(" -> ").count(), 7, "{dot}");
    let mermaid = stdout(&succeed(workplace.winsign("plan", &sweep).args(["--graph", "mermaid"])));
    assert_eq!(mermaid.matches(" --> ").count(), 7, "{mermaid}");
}

/// The identity of a run depends on its settings, not on their order in the sweep file.
#[test]
fn equal_settings_in_different_files_are_the_same_runs() {
    let workplace = Workplace::new();
    let one = workplace.plan(&workplace.sweep("one.yaml", SMALL));
    let other = SMALL.replace("seed: 2..3", "seed: [3, 2]") + "name: another\n";
    let other = workplace.plan(&workplace.sweep("other.yaml", &other));
    let sorted = |plan: &[serde_json::Value]| {
        let mut ids: Vec<String> = plan.iter().map(|run| run["id"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(sorted(&one), sorted(&other));
}

#[test]
fn closed_pipe_is_not_an_error() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("many.yaml", &SMALL.replace("seed: 2..3", "seed: 2..60"));
    let script = "\"$1\" plan \"$2\" --all --store \"$3\" | head -n 1; exit \"${PIPESTATUS[0]}\"";
    let mut piped = Command::new("bash");
    piped.args(["-c", script, "bash", env!("CARGO_BIN_EXE_winsign")]).arg(&sweep).arg(workplace.store());
    let output = succeed(&mut piped);
    assert!(winsign_testkit::stderr(&output).is_empty(), "{}", winsign_testkit::stderr(&output));
}

#[test]
fn output_without_a_terminal_has_no_colors() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("bad.yaml", "dataset: svhn\n");
    let output = workplace.winsign("plan", &sweep).output().unwrap();
    assert!(!output.stderr.contains(&0x1b), "{}", winsign_testkit::stderr(&output));
}

/// Syncing a directory to disk may take longer than everything else between two runs.
#[test]
fn directory_of_the_next_run_is_prepared_ahead() {
    let workplace = Workplace::new();
    let text = "dataset: digits\narchitecture: resnet8\nticket: {method: snip, levels: 1, seed: 1..4}\n";
    let (sweep, worker, seen) = (workplace.sweep("eight.yaml", text), workplace.path("worker"), workplace.path("seen"));
    // The worker exits once there are two directories; its exit code 127 ends the sweep, like a worker that cannot be started.
    let script = format!(
        "#!/bin/sh\nfor i in $(seq 500); do\n    set -- '{0}'/runs/*/*/run.json\n    [ $# = 1 ] || break\n    sleep 0.02\n\
         done\necho $# >'{1}'\nexit 127\n",
        workplace.store().display(),
        seen.display()
    );
    std::fs::write(&worker, script).unwrap();
    succeed(Command::new("chmod").arg("+x").arg(&worker));
    let output = workplace.winsign("run", &sweep).args(["--jobs", "1", "--worker"]).arg(&worker).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(std::fs::read_to_string(seen).unwrap().trim(), "2", "only the next run must be prepared ahead");
}

/// The stand-in for NVML is the one of the unit tests, which check that it notices being used.
#[cfg(feature = "worker")]
#[test]
fn run_on_the_cpu_does_not_use_nvml() {
    let workplace = Workplace::new();
    let started = workplace.path("values.started");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "src/trainer/device/nvml_stand_in.c"]);
    compiler.arg(format!("-DVALUES={:?}", workplace.path("values")));
    succeed(compiler.arg("-o").arg(workplace.path("libnvidia-ml.so.1")));
    let sweep = workplace.sweep("small.yaml", SMALL);
    let mut run = workplace.winsign("run", &sweep);
    succeed(run.args(["--gpus", "0"]).env("LD_LIBRARY_PATH", workplace.path(".")));
    let id = winsign_testkit::ids(&workplace.plan(&sweep), "transfer")[0].clone();
    let show = stdout(&succeed(winsign().args(["show", &id, "--json", "--store"]).arg(workplace.store())));
    let shown: serde_json::Value = serde_json::from_str(&show).unwrap();
    assert_eq!((&shown["state"], &shown["gpu_utilization"]), (&"done".into(), &serde_json::Value::Null));
    assert!(shown["result"]["usage"].get("gpu_utilization").is_none(), "as in versions that did not record it");
    assert!(!started.exists(), "no GPU is used");
}

#[cfg(feature = "worker")]
#[test]
fn show_prints_settings_metrics_and_log() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    workplace.run_all(&sweep);
    let id = winsign_testkit::ids(&workplace.plan(&sweep), "transfer")[1].clone();
    let show = |arguments: &[&str]| {
        stdout(&succeed(winsign().arg("show").args(arguments).arg("--store").arg(workplace.store())))
    };
    let text = show(&[&id[..6]]);
    for part in [
        "state: done",
        "inherit: sign",
        "training.lr: 0.1",
        "seeds.init: 3",
        "train loss",
        "committed after",
        "wall time: ",
        "peak memory: ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&show(&[&id, "--json"])).unwrap();
    assert_eq!(json["metrics"].as_array().unwrap().len(), 3);
    assert_eq!(json["settings"]["inherit"], "sign");
    assert!(json["log"].as_array().unwrap().len() >= 4);
    // libtorch alone uses more memory.
    assert!(json["peak_memory"].as_u64().is_some_and(|peak| peak > 50_000_000), "{json:#}");
    assert_eq!(json["result"]["usage"]["gpus"], 0.0);
    assert_eq!(json["result"]["usage"]["gpu_peak_memory"], serde_json::Value::Null);
}
