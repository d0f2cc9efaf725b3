//! Every data set and every architecture, trained from files in the publishers' formats: tickets, a transfer, a path.
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

/// A synthesized set, in the workplace's folder `data`.
fn synthesize(workplace: &Workplace, like: Dataset, counts: [usize; 2], classes: usize) -> Request {
    let [train, test] = counts;
    let classes = matches!(like, Dataset::TinyImagenet | Dataset::Imagenet).then_some(classes);
    let request = Request { like, train, test, classes, seed: 1, format: None, layout: None };
    synth::write(&workplace.path("data"), &request, &|| {}).unwrap();
    request
}

/// Runs a sweep on the workplace's data; the outcomes of all runs in the order of the plan.
fn outcomes(workplace: &Workplace, sweep: &str) -> Vec<Value> {
    let sweep = workplace.sweep("sweep.yaml", sweep);
    succeed(workplace.winsign("run", &sweep).arg("--data").arg(workplace.path("data")));
    let runs = workplace.plan(&sweep);
    let outcome = |run: &Value| read_json(&workplace.run_directory(run["id"].as_str().unwrap()).join("result.json"));
    runs.iter().map(|run| outcome(run)["outcome"].clone()).collect()
}

/// Tickets at two levels, a transfer to two initializations and their path.
fn story(dataset: &str, architecture: &str, epochs: u32, batch: u32) -> String {
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
        let outcomes = outcomes(&workplace, &story(&dataset.to_string(), "resnet8", 8, 32));
        assert_eq!(outcomes.len(), 5);
        // Chance is wrong in 90 % of all cases.
        let error = outcomes[1]["test_error"].as_f64().unwrap();
        assert!(error < 50.0, "{error} % after nine epochs on {dataset}");
        assert_eq!(outcomes[4]["path"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn tiny_imagenet_is_learned() {
    let workplace = Workplace::new();
    synthesize(&workplace, Dataset::TinyImagenet, [200, 60], 5);
    let outcomes = outcomes(&workplace, &story("tiny-imagenet", "resnet8", 6, 20));
    // 200 classes are known, five have images: after the first batches chance is wrong in 80 %.
    let error = outcomes[1]["test_error"].as_f64().unwrap();
    assert!(error < 50.0, "{error} % after seven epochs");
}

/// ImageNet in folders, and the same images in a pack, give the same numbers.
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

/// In bf16 the same is learned: tickets, transfers and paths; and it is another run than in fp32.
#[test]
fn digits_are_learned_in_bf16() {
    let workplace = Workplace::new();
    let sweep = |precision: &str| {
        format!(
            "
dataset: digits
architecture: resnet8
ticket: {{method: aws, levels: 1, warmup_epochs: 6, epochs: 2{precision}}}
transfer: {{inherit: sign, epochs: 2, seed: 2..3}}
connect: {{between: seeds, points: 3}}
"
        )
    };
    let bf16 = outcomes(&workplace, &sweep(", precision: bf16"));
    let error = bf16[1]["test_error"].as_f64().unwrap();
    assert!(error < 40.0, "{error} % after eight epochs");
    assert_eq!(bf16[4]["path"].as_array().unwrap().len(), 3);
    let fp32 = outcomes(&workplace, &sweep(""));
    assert!(bf16.iter().zip(&fp32).all(|(bf16, fp32)| bf16 != fp32));
}

/// Every architecture, on images of CIFAR-100 if it is defined for them, else of ImageNet.
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
        // With Adam, which is the default there.
        let outcomes = outcomes(&imagenet, &story("imagenet", &architecture.to_string(), 1, 4));
        assert_eq!(outcomes.len(), 5, "{architecture}");
    }
}

#[test]
fn both_versions_of_cifar_give_the_same_numbers() {
    let sweep = "
dataset: cifar100
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 1, epochs: 1, batch: 50}
";
    let of_format = |format| {
        let workplace = Workplace::new();
        let request =
            Request { like: Dataset::Cifar100, train: 100, test: 100, classes: None, seed: 1, format, layout: None };
        synth::write(&workplace.path("data"), &request, &|| {}).unwrap();
        outcomes(&workplace, sweep)
    };
    assert_eq!(of_format(Some(Format::Binary)), of_format(Some(Format::Python)));
}

#[test]
fn every_layout_of_imagenets_validation_images_gives_the_same_numbers() {
    let sweep = "
dataset: imagenet
architecture: mobilenetv2
ticket: {method: lrr, levels: 1, warmup_epochs: 1, epochs: 1, batch: 4}
";
    let of_layout = |layout| {
        let workplace = Workplace::new();
        let request = Request {
            like: Dataset::Imagenet,
            train: 8,
            test: 4,
            classes: Some(2),
            seed: 1,
            format: None,
            layout: Some(layout),
        };
        synth::write(&workplace.path("data"), &request, &|| {}).unwrap();
        outcomes(&workplace, sweep)
    };
    let folders = of_layout(Layout::Folders);
    for layout in [Layout::Devkit, Layout::Kaggle] {
        for (flat, folders) in of_layout(layout).iter().zip(&folders) {
            assert_eq!(flat["test_error"], folders["test_error"], "{layout:?}");
            // Images come in another order: what is added up differs in the last bits.
            let [flat, folders] = [flat, folders].map(|outcome| outcome["test_loss"].as_f64().unwrap());
            assert!((flat - folders).abs() < 1e-5, "{layout:?}: {flat} {folders}");
        }
    }
}

/// A training with dropout and two moments, killed and continued, ends as one that was left alone.
#[test]
fn dropout_and_adam_go_on_where_they_were() {
    let sweep = "
dataset: digits
architecture: efficientnet
ticket: {method: aws, levels: 1, warmup_epochs: 2, epochs: 1, batch: 256, optimizer: adam, lr: 0.001}
";
    let undisturbed = Workplace::new();
    let expected = outcomes(&undisturbed, sweep);
    let disturbed = Workplace::new();
    let file = disturbed.sweep("sweep.yaml", sweep);
    let mut child = winsign_testkit::start(&mut disturbed.winsign("run", &file));
    let id = disturbed.plan(&file)[0]["id"].as_str().unwrap().to_string();
    let checkpoint = disturbed.run_directory(&id).join("attempts/1/checkpoint.safetensors");
    winsign_testkit::wait_for("a checkpoint", || checkpoint.exists().then_some(()));
    winsign_testkit::signal(child.id(), rustix::process::Signal::INT);
    child.wait().unwrap();
    assert_eq!(outcomes(&disturbed, sweep), expected);
    assert!(disturbed.attempts(&id) > 1, "it was interrupted");
}

#[test]
fn a_missing_or_damaged_set_fails_the_run_with_one_clear_message() {
    let workplace = Workplace::new();
    let sweep = workplace.sweep("sweep.yaml", &story("cifar100", "resnet8", 1, 32));
    let run = |workplace: &Workplace| {
        let mut winsign = workplace.winsign("run", &sweep);
        let output = winsign.arg("--data").arg(workplace.path("data")).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    let (code, message) = run(&workplace);
    assert_eq!(code, Some(3), "{message}");
    for part in ["cannot find CIFAR-100", "cifar-100-binary", "cifar-100-python", "cs.toronto.edu", "--data"] {
        assert!(message.contains(part), "{part} in {message}");
    }

    synthesize(&workplace, Dataset::Cifar100, [100, 100], 100);
    let train = workplace.path("data/cifar-100-binary/train.bin");
    let whole = std::fs::read(&train).unwrap();
    std::fs::write(&train, &whole[..100_000]).unwrap();
    let (code, message) = run(&workplace);
    assert_eq!(code, Some(3), "{message}");
    assert!(message.contains("train.bin") && message.contains("byte 98368"), "{message}");

    // Mended, the same command does the rest.
    std::fs::write(&train, &whole).unwrap();
    let (code, message) = run(&workplace);
    assert_eq!(code, Some(0), "{message}");
}

/// Data of the same name are not the same data: results are not mixed.
#[test]
fn a_ticket_is_not_transferred_on_other_data() {
    let workplace = Workplace::new();
    let sweep = |transfer: &str| {
        format!(
            "
dataset: cifar10
architecture: resnet8
ticket: {{method: lrr, levels: 1, warmup_epochs: 1, epochs: 1, batch: 50}}
{transfer}
"
        )
    };
    synthesize(&workplace, Dataset::Cifar10, [100, 50], 10);
    outcomes(&workplace, &sweep(""));
    let other =
        Request { like: Dataset::Cifar10, train: 100, test: 50, classes: None, seed: 2, format: None, layout: None };
    synth::write(&workplace.path("other"), &other, &|| {}).unwrap();
    let file = workplace.sweep("sweep.yaml", &sweep("transfer: {inherit: sign, level: 1, epochs: 1, seed: 2}"));
    let mut winsign = workplace.winsign("run", &file);
    let refused = winsign.arg("--data").arg(workplace.path("other")).output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("was computed from other data than those in"), "{}", stderr(&refused));
    succeed(workplace.winsign("run", &file).arg("--data").arg(workplace.path("data")));
}

/// A ticket that leaves as a file and comes back is the same ticket.
#[test]
fn tickets_travel() {
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
    assert_eq!(again.status.code(), Some(2), "nothing is overwritten: {}", stderr(&again));

    let away = Workplace::new();
    let import = |file: &Path| {
        let mut import = Command::new(env!("CARGO_BIN_EXE_winsign"));
        import.arg("import").arg(file).args(["--as", "ticket", "--dataset", "digits", "--architecture", "resnet8"]);
        import.arg("--store").arg(away.store()).arg("--json");
        import
    };
    let imported = json(&succeed(&mut import(&file)));
    assert_eq!(imported["result"]["outcome"], result(&home, ticket)["outcome"], "evaluated alike");
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
    assert_eq!(result(&away, &here)["outcome"], result(&home, &there)["outcome"], "and transferred alike");

    // What does not fit is listed.
    let mut network = TensorFile::read_foreign(&file).unwrap();
    let bias = network.tensors.remove("fc.bias").unwrap();
    network.tensors.insert("classifier.bias".to_string(), bias);
    let unfit = home.path("unfit.safetensors");
    network.export(&unfit, Default::default()).unwrap();
    let refused = import(&unfit).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let message = stderr(&refused);
    assert!(message.contains("missing: fc.bias; not part of this network: classifier.bias"), "{message}");
    std::fs::write(&unfit, "not a network").unwrap();
    let refused = import(&unfit).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("unfit.safetensors as a safetensors file"), "{}", stderr(&refused));
}
