//! The sweep files in `sweeps/paper/` have the settings of the paper.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use winsign_testkit::{Workplace, json, succeed};

/// The settings of a study of the paper, independent of the program's defaults.
struct Study {
    file: &'static str,
    dataset: &'static str,
    architecture: &'static str,
    /// The optimizer; `None` for SGD, which the settings of a run omit.
    optimizer: Option<&'static str>,
    lr: f64,
    weight_decay: f64,
    batch: u64,
    warmup: u64,
    epochs: u64,
    levels: u64,
    transferred: (u64, u64),
    inherits: &'static [&'static str],
    schedule: &'static str,
    tickets: usize,
    transfers: usize,
}

const ALL_THREE: &[&str] = &["mask", "retrain", "sign"];
const WITHOUT_MASK: &[&str] = &["retrain", "sign"];

const fn small(file: &'static str, dataset: &'static str, architecture: &'static str, lr: f64) -> Study {
    Study {
        file,
        dataset,
        architecture,
        optimizer: None,
        lr,
        weight_decay: 5e-4,
        batch: 128,
        warmup: 10,
        epochs: 10,
        levels: 15,
        transferred: (1, 15),
        inherits: ALL_THREE,
        schedule: "multi-step",
        tickets: 32,
        transfers: 180,
    }
}

const fn imagenet(file: &'static str, architecture: &'static str, lr: f64, weight_decay: f64, batch: u64) -> Study {
    Study {
        file,
        dataset: "imagenet",
        architecture,
        optimizer: Some("adam"),
        lr,
        weight_decay,
        batch,
        warmup: 20,
        epochs: 5,
        levels: 10,
        transferred: (10, 10),
        inherits: WITHOUT_MASK,
        schedule: "cosine",
        tickets: 22,
        transfers: 8,
    }
}

const PAPER: &[Study] = &[
    small("cifar100-efficientnet.yaml", "cifar100", "efficientnet", 0.1),
    small("cifar100-mobilenetv2.yaml", "cifar100", "mobilenetv2", 0.05),
    small("cifar100-resnet50.yaml", "cifar100", "resnet50", 0.1),
    small("cifar100-shufflenet.yaml", "cifar100", "shufflenet", 0.1),
    imagenet("imagenet-mlpmixer.yaml", "mlpmixer", 0.001, 5e-5, 512),
    Study { optimizer: None, ..imagenet("imagenet-mobilenetv2.yaml", "mobilenetv2", 0.05, 5e-5, 256) },
    imagenet("imagenet-resnet50.yaml", "resnet50", 0.001, 1e-5, 256),
    small("tiny-imagenet-efficientnet.yaml", "tiny-imagenet", "efficientnet", 0.1),
    small("tiny-imagenet-mobilenetv2.yaml", "tiny-imagenet", "mobilenetv2", 0.05),
    small("tiny-imagenet-resnet50.yaml", "tiny-imagenet", "resnet50", 0.1),
    small("tiny-imagenet-shufflenet.yaml", "tiny-imagenet", "shufflenet", 0.1),
];

#[test]
fn sweep_files_equal_the_studies_of_the_paper() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps/paper");
    let mut files: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, PAPER.iter().map(|study| study.file).collect::<Vec<_>>());

    let workplace = Workplace::new();
    for study in PAPER {
        let path = folder.join(study.file);
        check(study, &json(&succeed(workplace.winsign("plan", &path).arg("--json")))["runs"]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.lines().count() <= 25 && text.contains(&format!("{} transfers", study.transfers)),
            "{}",
            study.file
        );
    }
}

fn check(study: &Study, runs: &Value) {
    let file = study.file;
    let of_kind = |kind: &str| -> Vec<&Value> {
        runs.as_array().unwrap().iter().filter(|run| run["kind"] == kind).map(|run| &run["settings"]).collect()
    };
    let (tickets, transfers) = (of_kind("ticket"), of_kind("transfer"));
    let counts = (tickets.len(), transfers.len(), runs.as_array().unwrap().len());
    assert_eq!(counts, (study.tickets, study.transfers, study.tickets + study.transfers), "{file}");

    let distinct = |settings: &[&Value], key: &str| -> BTreeSet<String> {
        settings.iter().map(|run| run.pointer(key).map_or("none".to_string(), |value| value.to_string())).collect()
    };
    let quoted = |words: &[&str]| -> BTreeSet<String> { words.iter().map(|word| format!("\"{word}\"")).collect() };
    assert_eq!(distinct(&tickets, "/method"), quoted(&["aws", "lrr"]), "{file}");
    assert_eq!(distinct(&tickets, "/seeds/init"), BTreeSet::from(["1".to_string()]), "{file}");
    assert_eq!(distinct(&tickets, "/level").len() as u64, study.levels + 1, "{file}");
    assert_eq!(distinct(&transfers, "/inherit"), quoted(study.inherits), "{file}");
    assert_eq!(distinct(&transfers, "/seeds/order"), ["2", "3"].map(str::to_string).into(), "{file}");
    assert_eq!(distinct(&transfers, "/flip"), ["none".to_string()].into(), "{file}");

    for settings in tickets.iter().chain(&transfers) {
        let training = &settings["training"];
        assert_eq!(
            (&settings["dataset"], &settings["architecture"]),
            (&json!(study.dataset), &json!(study.architecture))
        );
        assert_eq!(training["optimizer"].as_str(), study.optimizer, "{file}");
        assert_eq!(training["lr"], study.lr, "{file}");
        assert_eq!(training["momentum"], 0.9, "{file}");
        assert_eq!(training["weight_decay"], study.weight_decay, "{file}");
        assert_eq!(training["batch"], study.batch, "{file}");
        let (epochs, schedule) = match (settings["kind"].as_str(), settings["level"].as_u64()) {
            (Some("transfer"), _) => (100, study.schedule),
            (_, Some(0)) => (study.warmup, "constant"),
            _ => (study.epochs, "constant"),
        };
        assert_eq!((&training["epochs"], &training["schedule"]), (&json!(epochs), &json!(schedule)), "{file}");
        let is_pruned = settings["kind"] == "ticket" && settings["level"] != 0;
        assert_eq!(settings["prune_ratio"].as_f64(), is_pruned.then_some(0.2), "{file}");
    }

    // The level of a transfer is that of the ticket that it needs.
    let level_of = |id: &Value| {
        let run = runs.as_array().unwrap().iter().find(|run| run["id"] == *id).unwrap();
        run["settings"]["level"].as_u64().unwrap()
    };
    let needed: BTreeSet<u64> = (runs.as_array().unwrap().iter())
        .filter(|run| run["kind"] == "transfer")
        .map(|run| level_of(&run["needs"][0]))
        .collect();
    let (first, last) = study.transferred;
    assert_eq!(needed, (first..=last).collect(), "{file}");
}
