//! Data sets on disk: synthesized, checked, loaded, damaged and missing.
#![cfg(feature = "data")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use winsign_core::settings::Dataset;
use winsign_data::synth::Request;
use winsign_data::{Contents, Split};
use winsign_testkit::{Workplace, json, stderr, succeed};

/// Creates the command `winsign data ARGUMENTS FOLDER`.
fn data(arguments: &str, folder: &Path) -> Command {
    let mut winsign = Command::new(env!("CARGO_BIN_EXE_winsign"));
    winsign.arg("data").args(arguments.split_whitespace()).arg(folder).env_remove("WINSIGN_LOG");
    winsign
}

fn labels(contents: &Contents, split: Split) -> Vec<u16> {
    match (contents, split) {
        (Contents::InMemory(set), Split::Train) => set.train.labels.clone(),
        (Contents::InMemory(set), Split::Test) => set.test.labels.clone(),
        (Contents::Streamed(source), split) => (0..source.count(split)).map(|at| source.label(split, at)).collect(),
    }
}

fn check(folder: &Path) -> Output {
    data("check --json", folder).output().unwrap()
}

/// Truncates a file before its middle, but not between two records of CIFAR.
fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() * 9 / 20]).unwrap();
}

/// Returns the arguments of `synth` for every version of every data set, and the folder that it creates.
fn versions() -> Vec<(String, &'static str)> {
    let mut versions = vec![];
    for (like, files) in winsign_data::on_disk() {
        let plain = Request { like, train: 12, test: 6, classes: Some(3), seed: 1, format: None, layout: None };
        versions.push((format!("--like {like}"), files.folder(&plain)));
        for &format in files.formats() {
            let request = Request { format: Some(format), ..plain.clone() };
            versions.push((format!("--like {like} --format {format}"), files.folder(&request)));
        }
        for layout in files.layouts() {
            versions.push((format!("--like {like} --layout {layout}"), files.folder(&plain)));
        }
    }
    versions
}

fn synthesize(arguments: &str, root: &Path) {
    succeed(&mut data(&format!("synth {arguments} --train 12 --test 6 --classes 3"), root));
}

#[test]
fn every_data_set_is_synthesized_checked_and_opened() {
    for (arguments, folder) in versions() {
        let root = tempfile::tempdir().unwrap();
        synthesize(&arguments, root.path());
        let names: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [folder], "nothing else must be written");
        let report = &json(&succeed(&mut data("check --json", root.path())))["sets"];
        assert_eq!(report.as_array().unwrap().len(), 1, "{report:#}");
        let counts: Vec<_> = [0, 1].iter().map(|&part| report[0]["parts"][part]["images"].as_u64().unwrap()).collect();
        assert_eq!(counts, [12, 6], "{report:#}");
        assert_eq!(report[0]["parts"][0]["classes"], 3);
        let text = succeed(&mut data("check", root.path()));
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains("warning: train has 12 of the") && text.contains("readable"), "{text}");

        let name = arguments.split_whitespace().nth(1).unwrap();
        let contents = winsign_data::open(name.parse::<Dataset>().unwrap(), root.path(), 2).unwrap();
        let [train, test] = [Split::Train, Split::Test].map(|split| labels(&contents, split));
        for (mut labels, each) in [(train, 4), (test, 2)] {
            labels.sort_unstable();
            let expected: Vec<u16> = (0..3).flat_map(|class| vec![class; each]).collect();
            assert_eq!(labels, expected, "{arguments}");
        }
    }
}

#[test]
fn damaged_file_is_reported_with_its_position() {
    /// The arguments of `synth`, the file to damage, a function that damages it, and a part of the message.
    type Damage<'a> = (&'a str, &'a str, fn(&Path), &'a str);
    let damages: &[Damage] = &[
        (
            "--like cifar100",
            "cifar-100-binary/train.bin",
            cut,
            "ends at byte 16599 within record 5, which begins at byte 15370",
        ),
        ("--like cifar100 --format python", "cifar-100-python/train", cut, "the file is truncated: it ends at byte"),
        (
            "--like cifar10",
            "cifar-10-batches-bin/data_batch_3.bin",
            |path| fs::remove_file(path).unwrap(),
            "No such file",
        ),
        (
            "--like cifar10",
            "cifar-10-batches-bin/test_batch.bin",
            |path| {
                let mut bytes = fs::read(path).unwrap();
                bytes[2 * 3073] = 10;
                fs::write(path, bytes).unwrap();
            },
            "record 2 (byte 6146) has the label 10, which is not in 0..9",
        ),
        ("--like mnist", "mnist/train-images-idx3-ubyte", cut, "it ends at byte 4240 and has the dimensions"),
        ("--like tiny-imagenet", "tiny-imagenet-200/val/images/val_4.JPEG", cut, "cut off: the file ends at byte"),
        ("--like imagenet --layout devkit", "imagenet/val/ILSVRC2012_val_00000002.JPEG", cut, "cut off"),
        (
            "--like imagenet --layout devkit",
            "imagenet/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
            |path| fs::write(path, "449\n1001\n").unwrap(),
            "line 2: there is no class 1001",
        ),
        (
            "--like imagenet --layout kaggle",
            "imagenet/LOC_val_solution.csv",
            |path| fs::write(path, "ImageId\n").unwrap(),
            "ImageId,PredictionString",
        ),
        (
            "--like tiny-imagenet",
            "tiny-imagenet-200/val/val_annotations.txt",
            |path| {
                let text = fs::read_to_string(path).unwrap();
                let other = text.lines().find(|line| line.split('\t').nth(1) != text.split('\t').nth(1)).unwrap();
                let class = other.split('\t').nth(1).unwrap();
                fs::write(path, format!("{text}val_0.JPEG\t{class}\t0\t0\t1\t1\n")).unwrap();
            },
            "line 7: val_0.JPEG is of the class",
        ),
    ];
    for (arguments, file, damage, part) in damages {
        let root = tempfile::tempdir().unwrap();
        synthesize(arguments, root.path());
        let path = root.path().join(file);
        damage(&path);
        let output = check(root.path());
        assert_eq!(output.status.code(), Some(65), "{file}: {}", stderr(&output));
        let problems = json(&output)["sets"][0]["problems"].as_array().unwrap().clone();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0]["path"].as_str().unwrap(), path.to_str().unwrap());
        assert!(problems[0]["reason"].as_str().unwrap().contains(part), "{part}: {problems:?}");
    }
}

#[test]
fn missing_or_malformed_set_is_reported_once_before_a_sweep() {
    let workplace = Workplace::new();
    let text = "dataset: cifar10\narchitecture: resnet8\nticket: {levels: 1, seed: 1..20}\n";
    let sweep = workplace.sweep("study.yaml", text);
    let root = workplace.path("data");
    let run = |command: &str| {
        let mut command = workplace.winsign(command, &sweep);
        command.arg("--data").arg(&root).args(["--worker", "/bin/true"]);
        command
    };
    let expect = |commands: &[&str], code: i32, part: &str| {
        for command in commands {
            let output = run(command).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{command}: {}", stderr(&output));
            assert_eq!(stderr(&output).matches(part).count(), 1, "{command}: {}", stderr(&output));
            assert!(!workplace.store().exists(), "nothing must be written");
        }
    };
    expect(&["run"], 2, "cannot find CIFAR-10");
    // The cluster is not reached here, but the warning comes before.
    let submitted = run("submit").args(["--dry-run"]).output().unwrap();
    assert!(stderr(&submitted).contains("does not exist on this machine"), "{}", stderr(&submitted));
    fs::create_dir(&root).unwrap();
    expect(&["run", "submit"], 2, "cannot find CIFAR-10");
    synthesize("--like cifar10", &root);
    cut(&root.join("cifar-10-batches-bin/data_batch_2.bin"));
    expect(&["run", "submit"], 65, "data_batch_2.bin: ");
}

#[test]
fn pack_is_checked_like_its_folder() {
    let root = tempfile::tempdir().unwrap();
    synthesize("--like imagenet", root.path());
    let pack = root.path().join("small.pack");
    succeed(data("pack", root.path()).arg(&pack));
    let report = &json(&succeed(&mut data("check --json", &pack)))["sets"][0];
    assert_eq!((report["parts"][0]["images"].as_u64(), report["parts"][1]["images"].as_u64()), (Some(12), Some(6)));
    let mut bytes = fs::read(&pack).unwrap();
    bytes[1_000] ^= 0xff;
    fs::write(&pack, &bytes).unwrap();
    let output = check(&pack);
    assert_eq!(output.status.code(), Some(65));
    assert!(json(&output)["sets"][0]["problems"][0]["reason"].as_str().unwrap().contains("checksum"));
    cut(&pack);
    assert_eq!(check(&pack).status.code(), Some(65));
}

#[test]
fn missing_or_existing_set_exits_with_2_and_is_unchanged() {
    let root = tempfile::tempdir().unwrap();
    let output = check(root.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cifar-100-binary/train.bin"), "{}", stderr(&output));
    let output = data("check --like tiny-imagenet", root.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cs231n.stanford.edu"), "{}", stderr(&output));

    synthesize("--like cifar100", root.path());
    let file = root.path().join("cifar-100-binary/train.bin");
    let before = fs::read(&file).unwrap();
    let output = data("synth --like cifar100 --train 50 --test 5 --seed 9", root.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cifar-100-binary: it already exists"), "{}", stderr(&output));
    let output = data("synth --like tiny-imagenet --layout kaggle --train 50 --test 5", root.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "drafts must be removed");
}
