//! Studies on every data set and with every architecture, with files in the publishers' formats.
#![cfg(feature = "worker")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use strum::VariantArray;
use winsign_core::settings::{Architecture, Dataset};
use winsign_core::tensors::TensorFile;
use winsign_data::cifar::Format;
use winsign_data::synth::{self, Layout, Request};
use winsign_testkit::{Workplace, json, read_json, stderr, succeed};

/// Synthesizes a data set in the workplace's folder `data`.
fn synthesize(workplace: &Workplace, like: Dataset, counts: [usize; 2], classes: usize) -> Request {
    let [train, test] = counts;
    let classes = matches!(like, Dataset::TinyImagenet | Dataset::Imagenet).then_some(classes);
    let request = Request { like, train, test, classes, seed: 1, format: None, layout: None };
    synth::write(&workplace.path("data"), &request, &|| {}).unwrap();
    request
}

/// Runs a sweep on the workplace's data; returns the outcomes of all runs in the order of the plan.
fn outcomes(workplace: &Workplace, sweep: &str) -> Vec<Value> {
    let sweep = workplace.sweep("sweep.yaml", sweep);
    succeed(workplace.winsign("run", &sweep).arg("--data").arg(workplace.path("data")));
    let runs = workplace.plan(&sweep);
    let outcome = |run: &Value| read_json(&workplace.run_directory(run["id"].as_str().unwrap()).join("result.json"));
    runs.iter().map(|run| outcome(run)["outcome"].clone()).collect()
}

/// Returns a sweep with a ticket at two levels, transfers to two initializations, and the path between them.
fn study_text(dataset: &str, architecture: &str, epochs: u32, batch: u32) -> String {
    format!(
        "
dataset: {dataset}
architecture: {architecture}
ticket: {{method: aws, levels: 1, warmup_epochs: {epochs}, epochs: 1, batch: {batch}}}
transfer: {{inherit: sign, level: 1, epochs: 1, seed: 2..3}}
connect: {{between: seeds, points: 2}}
"
    )
}

#[test]
fn small_images_of_ten_classes_are_learned() {
    for dataset in [Dataset::Mnist, Dataset::FashionMnist, Dataset::Cifar10] {
        let workplace = Workplace::new();
        synthesize(&workplace, dataset, [400, 100], 10);
        let outcomes = outcomes(&workplace, &study_text(&dataset.to_string(), "resnet8", 8, 32));
        assert_eq!(outcomes.len(), 5);
        // The error of a random classifier is 90 %.
        let error = outcomes[1]["test_error"].as_f64().unwrap();
        assert!(error < 50.0, "{error} % after nine epochs on {dataset}");
        assert_eq!(outcomes[4]["path"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn tiny_imagenet_is_learned() {
    let workplace = Workplace::new();
    synthesize(&workplace, Dataset::TinyImagenet, [200, 60], 5);
    let outcomes = outcomes(&workplace, &study_text("tiny-imagenet", "resnet8", 6, 20));
    // Five of the 200 classes have images, so the error of guessing among them is 80 %.
    let error = outcomes[1]["test_error"].as_f64().unwrap();
    assert!(error < 50.0, "{error} % after seven epochs");
}

/// The results are the same with ImageNet in folders and with the same images in a pack.
#[test]
fn imagenet_is_streamed() {
    let workplace = Workplace::new();
    synthesize(&workplace, Dataset::Imagenet, [24, 8], 2);
    let sweep = "
dataset: imagenet
architecture: mobilenetv2
ticket: {method: lrr, levels: 1, warmup_epochs: 1, epochs: 1, batch: 8}
";
    let from_folders = outcomes(&workplace, sweep);
    assert_eq!(from_folders.len(), 2);

    let packed = Workplace::new();
    std::fs::create_dir(packed.path("data")).unwrap();
    let mut pack = Command::new(env!("CARGO_BIN_EXE_winsign"));
    let pack_file = packed.path("data").join("imagenet.pack");
    succeed(pack.args(["data", "pack", "--quiet"]).arg(workplace.path("data")).arg(&pack_file));
    assert_eq!(outcomes(&packed, sweep), from_folders);
}

/// A study in bf16 learns as well, and its results differ from those in fp32.
#[test]
fn digits_are_learned_in_bf16() {
    let workplace = Workplace::new();
    let sweep = "
dataset: digits
architecture: resnet8
ticket: {method: aws, levels: 1, warmup_epochs: 6, epochs: 2}
transfer: {inherit: sign, epochs: 2, seed: 2..3}
connect: {between: seeds, points: 3}
";
    let bf16 = outcomes(&workplace, &sweep.replacen("epochs: 2}", "epochs: 2, precision: bf16}", 1));
    let error = bf16[1]["test_error"].as_f64().unwrap();
    assert!(error < 40.0, "{error} % after eight epochs");
    assert_eq!(bf16[4]["path"].as_array().unwrap().len(), 3);
    let fp32 = outcomes(&workplace, sweep);
    assert!(bf16.iter().zip(&fp32).all(|(bf16, fp32)| bf16 != fp32));
}

/// Architectures are trained on images of CIFAR-100 if they are defined for it, and of ImageNet otherwise.
#[test]
fn every_architecture_trains() {
    let workplace = Workplace::new();
    synthesize(&workplace, Dataset::Cifar100, [20, 20], 20);
    let (small, large): (Vec<Architecture>, Vec<Architecture>) =
        Architecture::VARIANTS.iter().partition(|architecture| architecture.fits(Dataset::Cifar100));
    for architecture in small {
        let sweep = format!(
            "
dataset: cifar100
architecture: {architecture}
ticket: {{method: aws, levels: 1, warmup_epochs: 1, epochs: 1, batch: 10}}
"
        );
        let outcomes = outcomes(&workplace, &sweep);
        assert!((outcomes[1]["remaining_ratio"].as_f64().unwrap() - 0.8).abs() < 1e-4, "{architecture}");
    }
    let imagenet = Workplace::new();
    synthesize(&imagenet, Dataset::Imagenet, [8, 4], 2);
    for architecture in large {
        // The default optimizer of these architectures is Adam.
        let outcomes = outcomes(&imagenet, &study_text("imagenet", &architecture.to_string(), 1, 4));
        assert_eq!(outcomes.len(), 5, "{architecture}");
    }
}

#[test]
fn cifar_formats_have_the_same_results() {
    let sweep = "
dataset: cifar100
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 1, epochs: 1, batch: 50}
";
    let [binary, python] = [Format::Binary, Format::Python].map(|format| {
        let workplace = Workplace::new();
        let (train, test, format) = (100, 100, Some(format));
        let request = Request { like: Dataset::Cifar100, train, test, classes: None, seed: 1, format, layout: None };
        synth::write(&workplace.path("data"), &request, &|| {}).unwrap();
        outcomes(&workplace, sweep)
    });
    assert_eq!(binary, python);
}

#[test]
fn imagenet_layouts_have_the_same_results() {
    let sweep = "
dataset: imagenet
architecture: mobilenetv2
ticket: {method: lrr, levels: 1, warmup_epochs: 1, epochs: 1, batch: 4}
";
    let [folders, devkit, kaggle] = [Layout::Folders, Layout::Devkit, Layout::Kaggle].map(|layout| {
        let workplace = Workplace::new();
        let (classes, layout) = (Some(2), Some(layout));
        let request = Request { like: Dataset::Imagenet, train: 8, test: 4, classes, seed: 1, format: None, layout };
        synth::write(&workplace.path("data"), &request, &|| {}).unwrap();
        outcomes(&workplace, sweep)
    });
    for (layout, outcomes) in [(Layout::Devkit, devkit), (Layout::Kaggle, kaggle)] {
        for (flat, folders) in outcomes.iter().zip(&folders) {
            assert_eq!(flat["test_error"], folders["test_error"], "{layout:?}");
            // The order of the images differs, so rounding changes the last bits of the sum.
            let [flat, folders] = [flat, folders].map(|outcome| outcome["test_loss"].as_f64().unwrap());
            assert!((flat - folders).abs() < 1e-5, "{layout:?}: {flat} {folders}");
        }
    }
}

/// The state of dropout, and both moments of Adam, are part of the checkpoint.
#[test]
fn interrupted_dropout_and_adam_resume_bit_equal() {
    let sweep = "
dataset: digits
architecture: efficientnet
ticket: {method: aws, levels: 1, warmup_epochs: 2, epochs: 1, batch: 256, optimizer: adam, lr: 0.001}
";
    let uninterrupted = Workplace::new();
    let expected = outcomes(&uninterrupted, sweep);
    let interrupted = Workplace::new();
    let file = interrupted.sweep("sweep.yaml", sweep);
    let mut child = winsign_testkit::start(&mut interrupted.winsign("run", &file));
    let id = interrupted.plan(&file)[0]["id"].as_str().unwrap().to_string();
    let checkpoint = interrupted.run_directory(&id).join("attempts/1/checkpoint.safetensors");
    winsign_testkit::wait_for("a checkpoint", || checkpoint.exists().then_some(()));
    winsign_testkit::signal(child.id(), rustix::process::Signal::INT);
    child.wait().unwrap();
    assert_eq!(outcomes(&interrupted, sweep), expected);
    assert!(interrupted.attempts(&id) > 1, "the run must have been interrupted");
}

#[test]
fn missing_or_damaged_set_fails_with_one_message() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("sweep.yaml", &study_text("cifar100", "resnet8", 1, 32));
    let run = |workplace: &Workplace| {
        let mut winsign = workplace.winsign("run", &sweep);
        let output = winsign.arg("--data").arg(workplace.path("data")).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    let (code, message) = run(&workplace);
    assert_eq!(code, Some(2), "{message}");
    for part in ["cannot find CIFAR-100", "cifar-100-binary", "cifar-100-python", "cs.toronto.edu", "--data"] {
        assert!(message.contains(part), "{part} in {message}");
    }

    synthesize(&workplace, Dataset::Cifar100, [100, 100], 100);
    let train = workplace.path("data/cifar-100-binary/train.bin");
    let intact = std::fs::read(&train).unwrap();
    std::fs::write(&train, &intact[..100_000]).unwrap();
    let (code, message) = run(&workplace);
    assert_eq!(code, Some(65), "{message}");
    assert!(message.contains("train.bin") && message.contains("byte 98368"), "{message}");

    // With an intact file, the same command succeeds.
    std::fs::write(&train, &intact).unwrap();
    let (code, message) = run(&workplace);
    assert_eq!(code, Some(0), "{message}");
}

/// Files of the same data set may differ in content; the results of both must not be combined.
#[test]
fn transfer_on_other_data_is_refused() {
    let workplace = Workplace::new();
    let sweep = "
dataset: cifar10
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 1, epochs: 1, batch: 50}
";
    synthesize(&workplace, Dataset::Cifar10, [100, 50], 10);
    outcomes(&workplace, sweep);
    let other =
        Request { like: Dataset::Cifar10, train: 100, test: 50, classes: None, seed: 2, format: None, layout: None };
    synth::write(&workplace.path("other"), &other, &|| {}).unwrap();
    let transfer = "transfer: {inherit: sign, level: 1, epochs: 1, seed: 2}";
    let file = workplace.sweep("sweep.yaml", &format!("{sweep}{transfer}\n"));
    let mut winsign = workplace.winsign("run", &file);
    let refused = winsign.arg("--data").arg(workplace.path("other")).output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("was computed from other data than those in"), "{}", stderr(&refused));
    succeed(workplace.winsign("run", &file).arg("--data").arg(workplace.path("data")));
}

/// An exported ticket has the same results after it is imported into another store.
#[test]
fn exported_ticket_is_imported_unchanged() {
    let home = Workplace::new();
    let sweep = home.sweep(
        "sweep.yaml",
        "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 2, warmup_epochs: 2, epochs: 1, batch: 128}
transfer: {inherit: sign, epochs: 1, seed: 2}
",
    );
    home.run(&sweep);
    let plan = home.plan(&sweep);
    let result = |workplace: &Workplace, id: &str| read_json(&workplace.run_directory(id).join("result.json"));
    let ticket = plan[2]["id"].as_str().unwrap();
    let file = home.path("ticket.safetensors");
    let mut export = Command::new(env!("CARGO_BIN_EXE_winsign"));
    succeed(export.args(["export", ticket]).arg(&file).arg("--store").arg(home.store()));
    let again = export.output().unwrap();
    assert_eq!(again.status.code(), Some(2), "an existing file must not be overwritten: {}", stderr(&again));

    let away = Workplace::new();
    let import_into = |store: &Path, file: &Path| {
        let mut import = Command::new(env!("CARGO_BIN_EXE_winsign"));
        import.arg("import").arg(file).args(["--as", "ticket", "--dataset", "digits", "--architecture", "resnet8"]);
        import.arg("--store").arg(store).arg("--json");
        import
    };
    let import = |file: &Path| import_into(&away.store(), file);
    let imported = json(&succeed(&mut import(&file)));
    assert_eq!(imported["result"]["outcome"], result(&home, ticket)["outcome"], "the evaluation must be equal");
    let digest = imported["digest"].as_str().unwrap();
    let sweep = away.sweep(
        "sweep.yaml",
        &format!(
            "
dataset: digits
architecture: resnet8
ticket: {{imported: {digest}, batch: 128}}
transfer: {{inherit: sign, epochs: 1, seed: 2}}
"
        ),
    );
    away.run(&sweep);
    let [there, here] =
        [plan[3]["id"].as_str().unwrap().to_string(), away.plan(&sweep)[1]["id"].as_str().unwrap().to_string()];
    assert_eq!(result(&away, &here)["outcome"], result(&home, &there)["outcome"], "the transfer must be equal");

    // Wrappers of PyTorch put a prefix before every name.
    let mut network = TensorFile::read_foreign(&file).unwrap();
    let tensors = network.tensors.iter().map(|(name, tensor)| (format!("module._orig_mod.{name}"), tensor.clone()));
    let wrapped = TensorFile { tensors: tensors.collect(), metadata: String::new() };
    wrapped.export(&home.path("wrapped.safetensors"), Default::default()).unwrap();
    let output = succeed(&mut import(&home.path("wrapped.safetensors")));
    assert_eq!(json(&output)["result"]["outcome"], result(&home, ticket)["outcome"]);
    assert!(stderr(&output).contains("removed the prefix `module._orig_mod.`"), "{}", stderr(&output));

    // Tensors that do not match the architecture are listed.
    let bias = network.tensors.remove("fc.bias").unwrap();
    network.tensors.insert("classifier.bias".to_string(), bias);
    let mismatched = home.path("unfit.safetensors");
    network.export(&mismatched, Default::default()).unwrap();
    let before = away.listing();
    let refused = import(&mismatched).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let message = stderr(&refused);
    let reason = "missing: fc.bias; not part of this network: classifier.bias";
    assert_eq!(message.matches(reason).count(), 1, "{message}");
    assert_eq!(away.listing(), before, "a rejected network must leave nothing");
    let nowhere = away.path("other-store");
    let refused = import_into(&nowhere, &mismatched).output().unwrap();
    assert_eq!((refused.status.code(), nowhere.exists()), (Some(1), false), "{}", stderr(&refused));
    std::fs::write(&mismatched, "not a network").unwrap();
    let refused = import(&mismatched).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("unfit.safetensors as a safetensors file"), "{}", stderr(&refused));
}

/// OpenMPI 5.0 exits with this code after it has lost a host.
#[test]
fn launcher_that_exits_with_code_0_and_starts_nothing_is_reported() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("sweep.yaml", "dataset: digits\narchitecture: resnet8\nticket: {levels: 1}\n");
    let output = workplace.winsign("run", &sweep).args(["--launcher", "true {ranks}"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot start ranks with true"), "{}", stderr(&output));
}

/// The launcher may start runs on other machines, so the data set is not looked for before the start.
#[test]
fn run_without_its_data_set_is_not_retried() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("sweep.yaml", "dataset: cifar10\narchitecture: resnet8\nticket: {levels: 1}\n");
    let mut run = workplace.winsign("run", &sweep);
    let output =
        run.args(["--launcher", "env RANKS={ranks}"]).arg("--data").arg(workplace.path("none")).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot find CIFAR-10"), "{}", stderr(&output));
    assert_eq!(workplace.attempts(workplace.plan(&sweep)[0]["id"].as_str().unwrap()), 1);
}
