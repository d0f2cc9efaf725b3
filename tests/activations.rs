//! Activations in the memory of the host give the same numbers, and need no memory after the backward pass.
#![cfg(feature = "worker")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use strum::VariantArray;
use winsign_core::attempt::{Attempt, End};
use winsign_core::random::Source;
use winsign_core::settings::{Architecture, Dataset, Precision, Problem};
use winsign_core::{RunDirectory, Store};
use winsign_sweep::plan::build::build;
use winsign_testkit::{Workplace, json, read_json, stderr, stdout, succeed};
use winsign_trainer::data::batches::Batch;
use winsign_trainer::device::{activations_on_host, keep_activations_on_host};
use winsign_trainer::model::{Network, Weights};
use winsign_trainer::tch::{Device, Kind, Tensor, no_grad};
use winsign_trainer::train::step::forward_backward;

const FLOATS: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Waits until no other test uses the setting, which holds for the whole process.
fn take_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the bytes of activations that are on the host.
fn held() -> u64 {
    activations_on_host().held
}

/// A pass over a few random images, which can be repeated.
struct Repeatable {
    network: Network,
    weights: Weights,
    images: Tensor,
}

const IMAGES: i64 = 4;

impl Repeatable {
    fn new(architecture: Architecture, precision: Precision) -> Repeatable {
        let (dataset, pixels) = match architecture.fits(Dataset::Cifar10) {
            true => (Dataset::Cifar10, 32),
            false => (Dataset::Imagenet, 224),
        };
        let network = Network::new(Problem::new(dataset, architecture)).with_precision(precision);
        let weights = Weights::initialize(&network.layout, 1);
        let mut random = Source::new(1, "images", 1).stream(0);
        let values: Vec<f32> = (0..IMAGES * 3 * pixels * pixels).map(|_| random.uniform() as f32).collect();
        let images = Tensor::from_slice(&values).view([IMAGES, 3, pixels, pixels]);
        Repeatable { network, weights, images }
    }

    /// Returns loss, gradient and statistics.
    fn run(&self) -> [Tensor; 3] {
        let Repeatable { network, weights, images } = self;
        let batch = Batch {
            images: images.shallow_clone(),
            labels: Tensor::arange(IMAGES, (Kind::Int64, Device::Cpu)),
            indices: (0..IMAGES).collect(),
            whole: IMAGES,
        };
        let source = Source::new(1, "dropout", 1);
        let dropout = network.drops().then(|| (0..IMAGES).map(|index| source.stream(index as u64)).collect());
        let weights = weights.copy();
        let mut weights = Weights { parameters: weights.parameters.set_requires_grad(true), ..weights };
        let norm_init = network.layout.norm_init(Kind::Float);
        let found = forward_backward(network, &mut weights, &batch, Some(0.3), &norm_init, dropout);
        [found.loss, found.gradient, weights.statistics]
    }
}

#[test]
fn gradients_are_the_same_to_the_last_bit() {
    let _turn = take_turn();
    let in_fp32 = Architecture::VARIANTS.iter().map(|&architecture| (architecture, Precision::Fp32));
    for (architecture, precision) in in_fp32.chain([(Architecture::ResNet8, Precision::Bf16)]) {
        let pass = Repeatable::new(architecture, precision);
        let expected = pass.run();
        keep_activations_on_host(true);
        let found = pass.run();
        keep_activations_on_host(false);
        assert_eq!(found, expected, "{architecture} in {precision}");
        assert_eq!(held(), 0, "the backward pass of {architecture} frees all memory");
    }
    assert!(activations_on_host().peak > 0);
}

#[test]
fn only_large_intermediate_tensors_are_copied() {
    let _turn = take_turn();
    keep_activations_on_host(true);
    let each = 64 * 512 * 4;
    let parameters = Tensor::ones([1 << 20], FLOATS).set_requires_grad(true);
    let view = parameters.narrow(0, 0, 1 << 18).view([512, 512]);
    let images = Tensor::ones([64, 512], FLOATS);
    let x = images.matmul(&view);
    assert_eq!(held(), each, "the images, but no parameters");
    let y = x.relu();
    assert_eq!(held(), 2 * each, "the output of relu");
    let z = y.matmul(&view).sum(Kind::Float).square();
    assert_eq!(held(), 2 * each, "the same tensor is copied once, and small ones are not");
    let _evaluated = no_grad(|| y.matmul(&view).relu());
    assert_eq!(held(), 2 * each, "nothing is saved without a backward pass");
    z.backward();
    assert_eq!(held(), 0);
    keep_activations_on_host(false);
}

/// A tensor that is changed in place between two operations that save it is another tensor for the second.
#[test]
fn changed_tensor_is_copied_again() {
    let _turn = take_turn();
    keep_activations_on_host(true);
    let weight = Tensor::ones([1 << 16], FLOATS).set_requires_grad(true);
    let mut x = Tensor::full([1 << 16], 2.0, FLOATS);
    let first = &weight * &x;
    x += 3.0;
    let second = &weight * &x;
    (first + second).sum(Kind::Float).backward();
    keep_activations_on_host(false);
    assert_eq!(weight.grad(), Tensor::full([1 << 16], 7.0, FLOATS));
}

/// Returns the gradient of the square of a gradient, which some masks at initialization are found by.
fn second_derivative() -> Tensor {
    let weight = Tensor::arange(1 << 16, FLOATS).set_requires_grad(true);
    let y = (&weight * 1e-4).sin().sum(Kind::Float);
    let gradients = Tensor::run_backward(&[y], std::slice::from_ref(&weight), true, true);
    gradients[0].square().sum(Kind::Float).backward();
    weight.grad()
}

#[test]
fn second_derivatives_are_the_same_to_the_last_bit() {
    let _turn = take_turn();
    let expected = second_derivative();
    keep_activations_on_host(true);
    let found = second_derivative();
    keep_activations_on_host(false);
    assert_eq!(found, expected);
    assert!(found.abs().max().double_value(&[]) > 0.0);
    assert_eq!(held(), 0);
}

/// A study of two runs that may not be retried.
const STUDY: &str = "
dataset: digits
architecture: resnet8
ticket: {method: lrr, levels: 1, warmup_epochs: 4, epochs: 3}
resources: {retries: 0}
";

/// Creates a stand-in for `winsign-worker` whose first attempt at a run ends after an epoch like that of a worker whose GPU has
/// too little memory.
fn worker_without_gpu_memory(workplace: &Workplace) -> PathBuf {
    let script = format!(
        "#!/bin/sh
for run; do :; done
[ -e \"$run/attempts/1.json\" ] && exec {worker} \"$@\"
exec 3<&0
{worker} \"$@\" <&3 &
until [ -e \"$run/attempts/1/checkpoint.safetensors\" ]; do
  kill -0 $! || exit 1
  sleep 0.02
done
kill -9 $!
wait $!
echo 'winsign-worker: out of memory on GPU 0 of node3' >&2
exit 72
",
        worker = env!("CARGO_BIN_EXE_winsign-worker")
    );
    let path = workplace.sweep("worker", &script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn run_without_gpu_memory_continues_with_activations_on_the_host() {
    let undisturbed = Workplace::new();
    let sweep = undisturbed.sweep("study.yaml", STUDY);
    assert_eq!(undisturbed.run_all(&sweep), 2);
    let expected = undisturbed.outcomes(&sweep);

    let workplace = Workplace::new();
    let sweep = workplace.sweep("study.yaml", STUDY);
    let run = succeed(workplace.winsign("run", &sweep).arg("--worker").arg(worker_without_gpu_memory(&workplace)));
    let id = workplace.plan(&sweep)[0]["id"].as_str().unwrap().to_string();
    let message = stderr(&run) + &stdout(&run);
    assert!(message.contains("restarting it: out of memory on GPU 0 of node3"), "{message}");
    assert_eq!(workplace.outcomes(&sweep), expected, "the same bits");

    let file = |name: &str| read_json(&workplace.run_directory(&id).join(name));
    assert_eq!(file("attempts/1/end.json")["end"], "out-of-gpu-memory");
    assert_eq!(file("attempts/2.json")["activations_on_host"], true);
    assert!(file("result.json")["usage"]["peak_activations_on_host"].as_u64().unwrap() > 0);
    let log = fs::read_to_string(workplace.run_directory(&id).join("attempts/2/log")).unwrap();
    assert!(
        log.contains("keeping activations in the memory of the host") && log.contains("resuming at epoch"),
        "{log}"
    );

    let show = |extra: &[&str]| succeed(workplace.winsign("show", id.as_ref()).args(extra));
    let text = stdout(&show(&[]));
    for part in [
        "out of memory on GPU 0 of node3\n",
        ", activations on the host: finished\n",
        "peak memory of activations on the host: ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let shown = json(&show(&["--json"]));
    let on_host: Vec<_> = (0..2).map(|number| shown["history"][number]["activations_on_host"].clone()).collect();
    assert_eq!(on_host, [false, true]);
    assert!(shown["peak_activations_on_host"].as_u64().unwrap() > 0);
}

#[test]
fn ranks_agree_on_activations_on_the_host() {
    let [undisturbed, workplace] = [Workplace::new(), Workplace::new()];
    let sweep = undisturbed.sweep("study.yaml", STUDY);
    let plan = build(&winsign_sweep::read(&sweep).unwrap());
    let first = Store::create(&workplace.store()).unwrap().run(&plan.runs[0].run.id);
    first.prepare(&plan.runs[0].run, "a ticket").unwrap();
    let attempt = Attempt::claim(&first, 4).unwrap();
    attempt.end(&End::OutOfGpuMemory { message: "out of memory on GPU 0 of node3".to_string() }).unwrap();

    let [expected, found] = [&undisturbed, &workplace].map(|workplace| {
        succeed(workplace.winsign("run", &sweep).args(["--ranks", "2"]));
        workplace.outcomes(&sweep)
    });
    assert_eq!(found, expected, "the same bits");
    let peak_of =
        |directory: &RunDirectory| directory.result().unwrap().unwrap().usage.unwrap().peak_activations_on_host;
    assert!(peak_of(&first).is_some_and(|peak| peak > 0));
    assert_eq!(peak_of(&first.sibling(&plan.runs[1].run.id)), None, "the other run had enough memory");
}
