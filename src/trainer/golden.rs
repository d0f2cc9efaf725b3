//! Comparison of the trainer with the reference implementation of the paper, for `tests/golden.rs` and
//! `launch/gpu-check`.
//!
//! The golden values were computed in float64. [`Bounds`] are the allowed deviations for other floating-point types and
//! devices.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use strum::VariantArray;
use tch::{Device, Kind, Tensor};
use winsign_core::settings::{Architecture, Dataset, Inherit, Optimizer, Precision, Problem, Schedule, Training};

use crate::data::batches::Batch;
use crate::failure::first_line;
use crate::lmc::interpolate;
use crate::model::{Layout, Mode, Network, Role, Weights};
use crate::prune::{prune, start_of};
use crate::train::evaluate::update_statistics;
use crate::train::optimizer;
use crate::train::step::forward_backward;

/// The floating-point type and the device of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    pub kind: Kind,
    pub precision: Precision,
    pub device: Device,
    pub bounds: Bounds,
}

/// The allowed deviations, relative to the scale of the numbers: that of a row of logits, or the norm of a tensor.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub logits: f64,
    pub loss: f64,
    pub gradient: f64,
    pub statistics: f64,
    /// The bound for the losses of three steps, and for the weights after them.
    pub steps: f64,
    pub path: f64,
    /// The smallest scale: numbers that cancel to zero are zero only up to rounding.
    pub floor: f64,
}

/// The bounds for 64-bit floats.
pub const EXACT: Bounds =
    Bounds { logits: 1e-9, loss: 1e-7, gradient: 1e-7, statistics: 1e-9, steps: 1e-5, path: 1e-8, floor: 1e-11 };

/// Compares with every file of a folder whose name `wanted` accepts, and returns the result for each file with its name.
pub fn compare_all(directory: &Path, numbers: &Numbers, wanted: impl Fn(&str) -> bool) -> Vec<(String, Check)> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    files.sort();
    let mut checks = vec![];
    for path in &files {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let kind = name.split('_').next().unwrap_or_default();
        if !name.ends_with(".json") || !["model", "prune", "lmc"].contains(&kind) || !wanted(name) {
            continue;
        }
        let mut check = Check { floor: numbers.bounds.floor, ..Check::default() };
        // Exceptions of libtorch become panics, and those of one file must not prevent the other comparisons.
        let compared = catch_unwind(AssertUnwindSafe(|| match kind {
            "model" => check_model(&read(path), numbers, &mut check),
            "prune" => check_pruning(&read(path), numbers, &mut check),
            _ => check_path(&read(path), numbers, &mut check),
        }));
        if let Err(panic) = compared {
            check.differences.push(format!("cannot compute the values: {}", first_line(&*panic)));
        }
        checks.push((name.to_string(), check));
    }
    checks
}

fn read<T: DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

// --- models -----------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Model {
    dataset: String,
    architecture: String,
    salt: String,
    alpha: f64,
    batch: i64,
    image_size: i64,
    classes: i64,
    tensors: Vec<(String, Vec<i64>)>,
    prunable: Vec<String>,
    parameters: i64,
    prunable_parameters: i64,
    eval_logits_dense: Vec<Vec<f64>>,
    eval_logits_masked: Vec<Vec<f64>>,
    train_logits: Vec<Vec<f64>>,
    train_loss: f64,
    gradients: BTreeMap<String, Summary>,
    running_after: BTreeMap<String, Summary>,
    steps: Steps,
}

#[derive(Deserialize)]
struct Steps {
    optimizer: Optimizer,
    lr: f64,
    momentum: f64,
    weight_decay: f64,
    losses: Vec<f64>,
    surviving: BTreeMap<String, Summary>,
}

/// The summary of a tensor in a file: its norm, its sum, and its first values.
#[derive(Deserialize)]
struct Summary {
    l2: f64,
    sum: f64,
    first: Vec<f64>,
}

fn check_model(golden: &Model, numbers: &Numbers, check: &mut Check) {
    let bounds = numbers.bounds;
    let problem = find_problem(&golden.dataset, &golden.architecture);
    assert_eq!(problem.dataset.image_shape(), (3, golden.image_size));
    assert_eq!(problem.dataset.classes(), golden.classes);
    let network = Network::new(problem).with_precision(numbers.precision);
    let layout = &network.layout;

    let names: Vec<String> = golden.tensors.iter().map(|(name, _)| name.clone()).collect();
    check.equal("names", &layout.names, &names);
    for (name, shape) in &golden.tensors {
        let own = layout.tensors.iter().find(|tensor| tensor.name == *name).map(|tensor| tensor.shape.clone());
        let statistic = || layout.statistics.iter().find(|statistic| statistic.name == *name);
        let own = own.or_else(|| Some(vec![statistic()?.length]));
        check.equal(&format!("shape of {name}"), &own.as_ref(), &Some(shape));
    }
    let prunable = layout.tensors.iter().filter(|tensor| tensor.role == Role::Prunable);
    check.equal("prunable", &prunable.map(|tensor| tensor.name.clone()).collect(), &golden.prunable);
    check.equal("parameters", &layout.parameters(), &golden.parameters);
    check.equal("prunable parameters", &layout.prunable(), &golden.prunable_parameters);
    if !check.differences.is_empty() {
        return;
    }

    let images = formula_images(&golden.salt, "input", golden.batch, golden.image_size);
    let batch = label_images(images, golden.classes, numbers);
    let dense = numbers.weights(formula_weights(layout, &golden.salt, None));
    let logits =
        |weights: &Weights| network.logits(&weights.parameters, &weights.statistics, Mode::Evaluate, &batch.images);
    check.close_rows("dense logits", &logits(&dense), &golden.eval_logits_dense, bounds.logits);
    let masked = numbers.weights(formula_weights(layout, &golden.salt, Some(&golden.salt)));
    check.close_rows("masked logits", &logits(&masked), &golden.eval_logits_masked, bounds.logits);

    let norm_init = layout.norm_init(numbers.kind).to_device(numbers.device);
    let backward =
        |weights: &mut Weights| forward_backward(&network, weights, &batch, Some(golden.alpha), &norm_init, None);
    let mut weights = trainable(masked.copy());
    let pass = backward(&mut weights);
    check.close_rows("training logits", &pass.logits, &golden.train_logits, bounds.logits);
    check.close("training loss", pass.loss.double_value(&[]), golden.train_loss, bounds.loss);
    check.close_summaries("gradient", layout, &pass.gradient, &golden.gradients, bounds.gradient);
    for (name, summary) in &golden.running_after {
        let statistic =
            layout.statistics.iter().find(|statistic| statistic.name == *name).expect("names were compared");
        check.close_summary(
            name,
            &weights.statistics.narrow(0, statistic.start, statistic.length),
            summary,
            bounds.statistics,
        );
    }

    let Steps { optimizer, lr, momentum, weight_decay, .. } = golden.steps;
    let training = Training {
        epochs: 1,
        batch: golden.batch as u32,
        optimizer,
        lr,
        momentum,
        weight_decay,
        schedule: Schedule::Constant,
        precision: numbers.precision,
    };
    let mut weights = trainable(masked);
    let mut moments = optimizer::fresh_moments(optimizer, &weights.parameters);
    for (number, loss) in (1..).zip(&golden.steps.losses) {
        let pass = backward(&mut weights);
        check.close(&format!("loss of step {number}"), pass.loss.double_value(&[]), *loss, bounds.steps);
        optimizer::step(&training, layout, (lr, number), &weights.parameters, &mut moments, &pass.gradient);
    }
    check.close_summaries(
        "after the steps,",
        layout,
        &weights.parameters.detach(),
        &golden.steps.surviving,
        bounds.steps,
    );
}

fn trainable(weights: Weights) -> Weights {
    Weights { parameters: weights.parameters.set_requires_grad(true), ..weights }
}

// --- pruning and transfer ---------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Pruning {
    dataset: String,
    architecture: String,
    salt: String,
    rate: f64,
    levels: Vec<Level>,
    sign_transfer: BTreeMap<String, Summary>,
    mask_transfer: BTreeMap<String, Summary>,
}

#[derive(Deserialize)]
struct Level {
    level: u32,
    remaining: i64,
    remaining_ratio: f64,
    #[serde(default)]
    per_layer: Option<BTreeMap<String, i64>>,
}

fn check_pruning(golden: &Pruning, numbers: &Numbers, check: &mut Check) {
    // Networks are stored in single precision, whatever the precision of the training.
    let numbers = Numbers { kind: Kind::Float, ..*numbers };
    let layout = Network::new(find_problem(&golden.dataset, &golden.architecture)).layout;
    let mut ticket = numbers.weights(formula_weights(&layout, &golden.salt, None));
    for level in &golden.levels {
        prune(&mut ticket, &layout, golden.rate).expect("some weights survive");
        check.equal(&format!("survivors of level {}", level.level), &(ticket.survivors() as i64), &level.remaining);
        check.close("remaining ratio", ticket.remaining_ratio(), level.remaining_ratio, 1e-12);
        for (name, survivors) in level.per_layer.iter().flatten() {
            let tensor = layout.tensors.iter().find(|tensor| tensor.name == *name).expect("a known layer");
            let mask = ticket.mask.narrow(0, tensor.start, tensor.length());
            let found = mask.sum(Kind::Double).double_value(&[]) as i64;
            check.equal(&format!("survivors of {name} at level {}", level.level), &found, survivors);
        }
    }
    let fresh = numbers.weights(formula_weights(&layout, &format!("{}-init", golden.salt), None));
    for (inherit, golden) in [(Inherit::Sign, &golden.sign_transfer), (Inherit::Mask, &golden.mask_transfer)] {
        let start = start_of(inherit, &layout, Some(ticket.copy()), &fresh, 0);
        // As in the reference, the norm parameters are those of the initialization, which are not ψ₀ here.
        check.close_summaries(&format!("{inherit} transfer:"), &layout, &start.parameters, golden, 1e-6);
    }
}

// --- paths ------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct GoldenPath {
    dataset: String,
    architecture: String,
    salt: String,
    batch: i64,
    batches: i64,
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    t: f64,
    logits: Vec<Vec<f64>>,
}

fn check_path(golden: &GoldenPath, numbers: &Numbers, check: &mut Check) {
    let problem = find_problem(&golden.dataset, &golden.architecture);
    let network = Network::new(problem).with_precision(numbers.precision);
    let (_, size) = problem.dataset.image_shape();
    let end = |end| formula_weights(&network.layout, &format!("{}-{end}", golden.salt), Some(&golden.salt));
    let [a, b] = ["a", "b"].map(|name| numbers.weights(end(name)));
    let inputs: Vec<Tensor> = (0..golden.batches)
        .map(|batch| numbers.tensor(&formula_images(&golden.salt, &format!("input{batch}"), golden.batch, size)))
        .collect();
    for Point { t, logits } in &golden.points {
        let parameters = interpolate(&a.parameters, &b.parameters, *t);
        let statistics = network.layout.fresh_statistics(numbers.kind).to_device(numbers.device);
        for images in &inputs {
            update_statistics(&network, &parameters, &statistics, images, 0.1);
        }
        let found = crate::tch::no_grad(|| network.logits(&parameters, &statistics, Mode::Evaluate, &inputs[0]));
        check.close_rows(&format!("logits at t = {t},"), &found, logits, numbers.bounds.path);
    }
}

// --- the formula ------------------------------------------------------------------------------------------------

/// Returns `n` pseudorandom values in [0, 1), which the formula derives from a tag.
fn uniform(tag: &str, n: i64) -> Vec<f64> {
    let hash =
        tag.bytes().fold(0xCBF29CE484222325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100000001B3));
    (0..n as u64).map(|index| splitmix(hash, index)).collect()
}

/// Returns number `index` of SplitMix64 from a seed, as a value in [0, 1) with 24 bits.
fn splitmix(seed: u64, index: u64) -> f64 {
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB);
    z ^= z >> 31;
    (z >> 40) as f64 / (1u64 << 24) as f64
}

/// Returns a network in float64, with the mask of `mask_salt` if there is one.
fn formula_weights(layout: &Layout, salt: &str, mask_salt: Option<&str>) -> Weights {
    let mut parameters = vec![0.0; layout.parameters() as usize];
    let mut mask = vec![1.0; layout.prunable() as usize];
    for tensor in &layout.tensors {
        let place = tensor.start as usize..(tensor.start + tensor.length()) as usize;
        let values = uniform(&format!("{salt}/{}", tensor.name), tensor.length());
        let fan_in = (tensor.length() / tensor.shape[0]) as f64;
        let is_bias = tensor.name.ends_with(".bias");
        let value = |u: f64| match tensor.role {
            Role::NormScale => 0.5 + u,
            Role::NormShift => u - 0.5,
            _ if is_bias => 0.1 * (u - 0.5),
            _ => (2.0 * u - 1.0) * (3.0 / fan_in).sqrt(),
        };
        for (slot, u) in parameters[place.clone()].iter_mut().zip(values) {
            *slot = value(u);
        }
        if let (Role::Prunable, Some(salt)) = (tensor.role, mask_salt) {
            let layer = tensor.name.strip_suffix(".weight").expect("weights are prunable");
            let values = uniform(&format!("{salt}/{layer}.fixed_m"), tensor.length());
            for (slot, u) in mask[place].iter_mut().zip(values) {
                *slot = f64::from(u8::from(u < 0.5));
            }
        }
    }
    let statistics = layout.statistics.iter().flat_map(|statistic| {
        let is_mean = statistic.name.ends_with("running_mean");
        let values = uniform(&format!("{salt}/{}", statistic.name), statistic.length);
        values.into_iter().map(move |u| if is_mean { 0.2 * (u - 0.5) } else { 0.5 + u })
    });
    let statistics = Tensor::from_slice(&statistics.collect::<Vec<f64>>());
    let mut weights =
        Weights { parameters: Tensor::from_slice(&parameters), statistics, mask: Tensor::from_slice(&mask) };
    weights.apply_mask(layout);
    weights
}

fn formula_images(salt: &str, name: &str, batch: i64, size: i64) -> Tensor {
    let values: Vec<f64> =
        uniform(&format!("{salt}/{name}"), batch * 3 * size * size).into_iter().map(|u| 2.0 * u - 1.0).collect();
    Tensor::from_slice(&values).view([batch, 3, size, size])
}

impl Numbers {
    fn tensor(&self, values: &Tensor) -> Tensor {
        values.to_device(self.device).to_kind(self.kind)
    }

    fn weights(&self, weights: Weights) -> Weights {
        let Weights { parameters, statistics, mask } = weights;
        let [parameters, statistics, mask] = [parameters, statistics, mask].map(|flat| self.tensor(&flat));
        Weights { parameters, statistics, mask }
    }
}

fn label_images(images: Tensor, classes: i64, numbers: &Numbers) -> Batch {
    let indices: Vec<i64> = (0..images.size()[0]).collect();
    let labels: Vec<i64> = indices.iter().map(|index| index % classes).collect();
    let labels = Tensor::from_slice(&labels).to_device(numbers.device);
    Batch { images: numbers.tensor(&images), labels, whole: indices.len() as i64, indices }
}

/// Finds a problem by the names in a file, which are those of sweep files with or without separators.
fn find_problem(dataset: &str, architecture: &str) -> Problem {
    let plain = |name: &str| name.replace(['-', '_'], "").to_lowercase();
    let dataset = Dataset::VARIANTS.iter().find(|known| plain(&known.to_string()) == plain(dataset));
    let found = Architecture::VARIANTS.iter().find(|known| plain(&known.to_string()) == plain(architecture));
    Problem::new(*dataset.expect("a known data set"), *found.expect("a known architecture"))
}

// --- comparison -------------------------------------------------------------------------------------------------

/// The result of comparing with one file.
#[derive(Default)]
pub struct Check {
    pub compared: usize,
    /// A description of each difference.
    pub differences: Vec<String>,
    /// The largest deviation as a fraction of its bound.
    pub worst: f64,
    floor: f64,
}

impl Check {
    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: &T, golden: &T) {
        self.compared += 1;
        if found != golden {
            self.differences.push(format!("{what}: {found:?} instead of {golden:?}"));
        }
    }

    fn close(&mut self, what: &str, found: f64, golden: f64, tolerance: f64) {
        self.close_at(what, found, golden, tolerance, golden.abs());
    }

    /// Compares two numbers, relative to `scale`, the magnitude of the numbers that were summed.
    fn close_at(&mut self, what: &str, found: f64, golden: f64, tolerance: f64, scale: f64) {
        self.within(what, found, golden, tolerance * scale + self.floor);
    }

    fn within(&mut self, what: &str, found: f64, golden: f64, bound: f64) {
        self.compared += 1;
        let part = (found - golden).abs() / bound;
        self.worst = if part.is_nan() { part } else { self.worst.max(part) };
        let close = part <= 1.0;
        if !close {
            self.differences.push(format!("{what}: {found:e} instead of {golden:e}"));
        }
    }

    /// Compares the first columns of each row, relative to the largest number of the row.
    fn close_rows(&mut self, what: &str, found: &Tensor, golden: &[Vec<f64>], tolerance: f64) {
        self.equal(&format!("rows of {what}"), &(found.size()[0] as usize), &golden.len());
        let found = found.to_device(Device::Cpu);
        for (row, golden) in (0..found.size()[0]).zip(golden) {
            let scale = golden.iter().fold(0.0f64, |scale, value| scale.max(value.abs()));
            for (column, golden) in (0..).zip(golden) {
                let found = found.double_value(&[row, column]);
                self.close_at(&format!("{what} row {row}, column {column}"), found, *golden, tolerance, scale);
            }
        }
    }

    /// Compares every tensor in the file; no other tensor may have changed.
    fn close_summaries(
        &mut self,
        what: &str,
        layout: &Layout,
        flat: &Tensor,
        golden: &BTreeMap<String, Summary>,
        tolerance: f64,
    ) {
        for name in golden.keys().filter(|name| !layout.tensors.iter().any(|tensor| tensor.name == **name)) {
            self.differences.push(format!("{what} {name}: there is no such tensor"));
        }
        let flat = flat.to_device(Device::Cpu);
        for tensor in &layout.tensors {
            let values = flat.narrow(0, tensor.start, tensor.length());
            match golden.get(&tensor.name) {
                Some(golden) => self.close_summary(&format!("{what} {}", tensor.name), &values, golden, tolerance),
                None => self.equal(&format!("{what} {} is idle", tensor.name), &tensor.idle, &true),
            }
        }
    }

    fn close_summary(&mut self, what: &str, found: &Tensor, golden: &Summary, tolerance: f64) {
        let found = found.to_device(Device::Cpu).to_kind(Kind::Double);
        let norm = found.square().sum(Kind::Double).double_value(&[]).sqrt();
        self.close(&format!("norm of {what}"), norm, golden.l2, tolerance);
        // A sum may cancel, so its error is relative to the summed numbers.
        let count = (found.numel() as f64).sqrt();
        let sum = found.sum(Kind::Double).double_value(&[]);
        self.within(&format!("sum of {what}"), sum, golden.sum, (tolerance * golden.l2 + self.floor) * count);
        for (index, golden_value) in (0..).zip(&golden.first) {
            let value = found.double_value(&[index]);
            self.close_at(&format!("{what} [{index}]"), value, *golden_value, tolerance, golden.l2);
        }
    }
}
