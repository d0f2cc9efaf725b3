//! Bad input leads to one clear message and the documented exit code, and nothing is written.

use std::process::Command;

use winsign_testkit::{SMALL, Workplace, json, stderr, succeed};

/// A sweep file, the line and column of its error, and a part of the message.
type Bad<'a> = (&'a str, Option<(u64, u64)>, &'a str);

const BAD: &[Bad] = &[
    ("dataset: [digits\narchitecture: resnet8\n", None, ""),
    ("dataset: digits\narchitecture: resnet8\nticket:\n  metod: lrr\n", Some((4, 3)), "method"),
    ("dataset: digits\narchitecture: resnet8\nticket: {levels: many}\n", Some((3, 18)), "levels"),
    ("dataset: digits\narchitecture: resnet8\nticket: {method: []}\n", Some((3, 18)), "method"),
    ("dataset: digits\narchitecture: resnet8\nticket: {levels: 3}\ntransfer: {level: 4}\n", Some((4, 19)), "4"),
    ("dataset: digits\narchitecture: resnet8\nticket: {prune_ratio: 1.5}\n", Some((3, 23)), "prune_ratio"),
    ("dataset: digits\narchitecture: resnet8\nexclude: [{method: [lrr, aws]}]\n", Some((3, 11)), ""),
    ("dataset: digits\narchitecture: resnet8\nticket: {seed: 1..100000000}\n", None, "1,000,000"),
    ("dataset: svhn\narchitecture: resnet8\n", Some((1, 10)), "digits"),
    ("dataset: digits\narchitecture: vgg\n", Some((2, 15)), "resnet8"),
];

#[test]
fn wrong_sweep_file_is_reported_with_its_position() {
    let workplace = Workplace::new();
    let deep = format!("dataset: {}1{}\n", "[".repeat(3_000), "]".repeat(3_000));
    let bomb = (0..12).fold("a0: &a0 [x, x, x, x, x, x, x, x]\n".to_string(), |text, n| {
        let next = n + 1;
        text + &format!("a{next}: &a{next} [*a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}]\n")
    });
    let hostile: [Bad; 2] = [(&deep, None, ""), (&bomb, None, "")];
    for (text, position, part) in BAD.iter().copied().chain(hostile) {
        let sweep = workplace.sweep("bad.yaml", text);
        let before = workplace.listing();
        for command in ["plan", "run", "status", "report"] {
            let output = workplace.winsign(command, &sweep).arg("--json").output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{command}: {text}\n{}", stderr(&output));
            let error = &json(&output)["error"];
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
            assert!(stderr(&output).contains("bad.yaml"), "{}", stderr(&output));
            assert!(error.to_string().contains(part) || stderr(&output).contains(part), "{part}: {error}");
            if let Some((line, column)) = position {
                assert_eq!((error["line"].as_u64(), error["column"].as_u64()), (Some(line), Some(column)), "{text}");
                assert!(stderr(&output).contains(&format!("bad.yaml:{line}:{column}")), "{}", stderr(&output));
            }
        }
        assert_eq!(workplace.listing(), before, "nothing must be written");
    }
}

#[test]
fn lines_may_end_with_carriage_returns() {
    let workplace = Workplace::new();
    let text = "dataset: digits\narchitecture: resnet8\nticket:\n  levels: 1\n";
    for end in ["\r", "\r\n"] {
        let sweep = workplace.sweep("sweep.yaml", &text.replace('\n', end));
        assert_eq!(workplace.plan(&sweep).len(), 4);
        let sweep = workplace.sweep("bad.yaml", &text.replace("levels", "level").replace('\n', end));
        let output = workplace.winsign("plan", &sweep).output().unwrap();
        assert!(stderr(&output).contains("bad.yaml:4:3"), "{}", stderr(&output));
    }
}

#[test]
fn missing_file_or_wrong_command_exits_with_2() {
    let workplace = Workplace::new();
    let output = workplace.winsign("plan", &workplace.path("none.yaml")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("none.yaml"), "{}", stderr(&output));
    let output = Command::new(env!("CARGO_BIN_EXE_winsign")).arg("paln").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("plan"), "the message must suggest the nearest command: {}", stderr(&output));
    let output = Command::new(env!("CARGO_BIN_EXE_winsign")).args(["status", "--jsn", "--json"]).output().unwrap();
    assert_eq!((output.status.code(), json(&output)["error"]["exit_code"].as_u64()), (Some(2), Some(2)));
    assert!(json(&output)["error"]["message"].as_str().unwrap().contains("--jsn"), "{}", json(&output));
}

#[test]
fn store_of_another_format_is_refused() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    std::fs::create_dir(workplace.store()).unwrap();
    std::fs::write(workplace.store().join("store.json"), r#"{"format": 999}"#).unwrap();
    let output = workplace.winsign("plan", &sweep).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("999") && stderr(&output).contains("store.json"), "{}", stderr(&output));
}

#[test]
fn store_that_cannot_be_created_is_named() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    std::fs::write(workplace.store(), "a file in place of the store").unwrap();
    let worker = ["--worker", env!("CARGO_BIN_EXE_winsign")]; // any program, since it is not started
    let output = workplace.winsign("run", &sweep).args(worker).output().unwrap();
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
    assert!(stderr(&output).contains(workplace.store().to_str().unwrap()), "{}", stderr(&output));
}

#[test]
fn missing_worker_is_reported_before_anything_is_written() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let before = workplace.listing();
    let output = workplace.winsign("run", &sweep).args(["--worker", "/nowhere/worker"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("/nowhere/worker") && stderr(&output).contains("cargo build"));
    assert_eq!(workplace.listing(), before);
}

/// If the worker does not start, for example because libtorch is missing, the sweep stops, and its runs do not fail.
#[test]
fn worker_that_does_not_start_stops_the_sweep() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("small.yaml", SMALL);
    let worker = workplace.path("worker");
    std::fs::write(&worker, "#!/bin/sh\necho 'cannot open shared object file' >&2\nexit 127\n").unwrap();
    succeed(Command::new("chmod").arg("+x").arg(&worker));
    let output = workplace.winsign("run", &sweep).arg("--worker").arg(&worker).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot open shared object file"), "{}", stderr(&output));
}

#[cfg(feature = "worker")]
mod with_worker {
    use std::process::Command;
    use winsign_testkit::{self, SMALL, Workplace, ids, json, stderr, stdout, succeed};

    #[test]
    fn nan_loss_fails_the_run_and_blocks_its_dependents() {
        let workplace = Workplace::new();
        let text = SMALL.replace("{inherit: sign, ", "{inherit: sign, lr: [0.1, 1e30], ").replace("aws", "lrr");
        let text = text + "resources: {retries: 2}\n";
        let sweep = workplace.sweep("nan.yaml", &text);
        let output = workplace.winsign("run", &sweep).arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        let summary = &json(&output)["runs"];
        // The two transfers with the huge learning rate fail, and their path is blocked.
        assert_eq!((summary["total"].as_u64(), summary["done"].as_u64()), (Some(10), Some(7)), "{summary:#}");
        assert_eq!(summary["blocked"], 1);
        let failed = summary["failed"].as_array().unwrap();
        assert_eq!(failed.len(), 2);
        for failure in failed {
            let message = failure["message"].as_str().unwrap();
            assert!(message.contains("epoch 1, step 2") && message.contains("the loss became"), "{message}");
            assert!(failure["log_end"].as_array().unwrap().iter().any(|line| line.to_string().contains(message)));
            assert_eq!(workplace.attempts(failure["id"].as_str().unwrap()), 3, "a failed run must be retried twice");
        }
        let states: Vec<String> = workplace.plan(&sweep).iter().map(|run| run["state"].to_string()).collect();
        let count = |state: &str| states.iter().filter(|found| **found == format!("\"{state}\"")).count();
        assert_eq!((count("done"), count("failed"), count("blocked")), (7, 2, 1));
        let status = stdout(&succeed(&mut workplace.winsign("status", &sweep)));
        assert!(status.contains("failed") && status.contains("the loss became"), "{status}");
        let report = json(&succeed(workplace.winsign("report", &sweep).arg("--json")));
        assert_eq!(report["failed"].as_array().unwrap().len(), 2, "the report must list failed runs");
    }

    /// Another attempt would fail in the same way.
    #[test]
    fn run_that_this_machine_cannot_compute_is_not_retried() {
        let workplace = Workplace::new();
        let text = SMALL.replace("epochs: 2}", "epochs: 2, precision: tf32}") + "resources: {retries: 2}\n";
        let sweep = workplace.sweep("tf32.yaml", &text);
        // GPUs of this machine are hidden.
        let output = workplace.winsign("run", &sweep).arg("--json").env("CUDA_VISIBLE_DEVICES", "").output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        let summary = &json(&output)["runs"];
        let failed = summary["failed"].as_array().unwrap();
        assert!(!failed.is_empty(), "{summary:#}");
        for failure in failed {
            assert!(failure["message"].as_str().unwrap().contains("precision tf32"), "{failure}");
            assert_eq!(workplace.attempts(failure["id"].as_str().unwrap()), 1, "{failure}");
        }
        assert!(!stderr(&output).contains("restarting"), "{}", stderr(&output));
        // A later report has the same failures.
        let report = json(&succeed(workplace.winsign("report", &sweep).arg("--json")));
        let listed = report["failed"].as_array().unwrap();
        assert_eq!(listed.len(), failed.len(), "{listed:?}");
        assert!(listed.iter().all(|run| run["message"].as_str().unwrap().contains("precision tf32")), "{listed:?}");
    }

    /// Each of two dispatchers allows the requested number of retries, and both find the same failures.
    #[test]
    fn two_dispatchers_agree_on_failed_runs() {
        let workplace = Workplace::new();
        let text = SMALL.replace("{inherit: sign, ", "{inherit: sign, lr: [0.1, 1e30], ");
        let sweep = workplace.sweep("nan.yaml", &(text + "resources: {retries: 1}\n"));
        let both = [0, 1].map(|_| winsign_testkit::start(workplace.winsign("run", &sweep).arg("--json")));
        for run in both {
            let output = run.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
            let summary = &json(&output)["runs"];
            assert_eq!((summary["done"].as_u64(), summary["blocked"].as_u64()), (Some(7), Some(1)), "{summary:#}");
            for failure in summary["failed"].as_array().unwrap() {
                assert!(failure["message"].as_str().unwrap().contains("the loss became"), "{failure}");
                assert!((2..=4).contains(&workplace.attempts(failure["id"].as_str().unwrap())));
            }
        }
    }

    /// Warnings that cannot be written must not stop the command.
    #[test]
    fn full_standard_error_is_ignored() {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("nan.yaml", &SMALL.replace("{inherit: sign, ", "{inherit: sign, lr: 1e30, "));
        let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = workplace.winsign("run", &sweep).arg("--json").stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(json(&output)["runs"]["failed"].as_array().unwrap().len(), 2);
        let missing = workplace.winsign("plan", &workplace.path("none.yaml")).stderr(full()).status().unwrap();
        assert_eq!(missing.code(), Some(2));
    }

    /// A limit on the size of files simulates a full disk.
    #[test]
    fn full_disk_stops_the_sweep_and_the_next_run_continues() {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("small.yaml", SMALL);
        let mut limited = Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_winsign")]);
        let output = limited.arg("run").arg(&sweep).arg("--store").arg(workplace.store()).output().unwrap();
        assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
        let message = stderr(&output);
        assert!(message.contains("checkpoint.safetensors") && message.contains("File too large"), "{message}");
        assert!(message.contains("free space") && message.contains("run the same command again"), "{message}");
        let drafts: Vec<_> =
            workplace.listing().into_iter().filter(|(path, _)| path.to_string_lossy().contains("draft")).collect();
        assert!(drafts.is_empty(), "{drafts:?}");
        workplace.run_all(&sweep);
    }

    #[test]
    fn invalid_run_directory_is_reported_by_the_worker() {
        let workplace = Workplace::new();
        let worker =
            |path: &std::path::Path| Command::new(env!("CARGO_BIN_EXE_winsign-worker")).arg(path).output().unwrap();
        let output = worker(&workplace.path("nowhere"));
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("nowhere is not a run directory"), "{}", stderr(&output));
        assert!(stderr(&output).contains("; help: pass the directory of a run"), "{}", stderr(&output));
        // A launcher creates the directory of a run before it starts the worker. So if the directory is missing, the store is
        // missing.
        let mut launched = Command::new(env!("CARGO_BIN_EXE_winsign-worker"));
        let output = launched.args(["--launch", "token"]).arg(workplace.path("nowhere")).output().unwrap();
        assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
        std::fs::create_dir(workplace.path("empty")).unwrap();
        let output = worker(&workplace.path("empty"));
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("run.json"), "{}", stderr(&output));

        // GPUs of this machine are hidden.
        let sweep = workplace.sweep("small.yaml", SMALL);
        workplace.run_all(&sweep);
        let directory = workplace.run_directory(&ids(&workplace.plan(&sweep), "ticket")[0]);
        std::fs::remove_file(directory.join("result.json")).unwrap();
        let mut on_gpu = Command::new(env!("CARGO_BIN_EXE_winsign-worker"));
        let output =
            on_gpu.args(["--device", "cuda"]).arg(&directory).env("CUDA_VISIBLE_DEVICES", "").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("rank 0 on") && stderr(&output).contains("has no GPU"), "{}", stderr(&output));

        // Edited settings do not hash to the name of the directory.
        let directory = workplace.run_directory(&ids(&workplace.plan(&sweep), "transfer")[0]);
        let path = directory.join("run.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"lr\": 0.1", "\"lr\": 0.2")).unwrap();
        let output = worker(&directory);
        assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
        assert!(stderr(&output).contains("run.json is damaged"), "{}", stderr(&output));
    }
}
