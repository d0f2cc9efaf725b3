//! Checks that a GPU computes correctly, and measures its speed. `launch/gpu-check` runs this program, from the repository or from
//! a bundle.
//!
//!     gpu --golden DIR --opponents DIR --programs DIR --python PYTHON [--out FILE] [--cpu]
//!
//! The correctness checks come first: golden values in float64, fp32 and bf16, the device against the CPU, and NCCL with one rank
//! per GPU. Then the speed of training is compared with that of `opponents/gpu.py`. Each side is a process that trains for each line
//! of its input. Finally, whole studies are run with `winsign run`, with 1, 2, 4 and 8 runs at the same time on one GPU; this needs
//! the folder of the programs. Writes one JSON file. With --cpu, the same code runs on the CPU with tiny sizes; its times mean
//! nothing. The exit code is 0 if everything is correct, even if goals are missed, 1 if a check fails, and 3 without a GPU.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use winsign_core::attempt::Attempt;
use winsign_core::random::Source;
use winsign_core::results::TrainScore;
use winsign_core::settings::{
    Align, Architecture, Between, Connect, Dataset, Masks, Matrix, Plane, Precision, Problem, Schedule, Sets, Settings,
    Training,
};
use winsign_core::{Run, Store};
use winsign_data::synth;
use winsign_sweep::plan::build::build;
use winsign_trainer::comm::{self, Comm, Place, Ranks, Single};
use winsign_trainer::data::batches::{Batch, Batches};
use winsign_trainer::data::{self, Data};
use winsign_trainer::device::{self, Request};
use winsign_trainer::failure::first_line;
use winsign_trainer::golden::{Bounds, EXACT, Numbers, compare_all};
use winsign_trainer::lmc;
use winsign_trainer::model::{Network, Weights};
use winsign_trainer::prune;
use winsign_trainer::session::{ExecOptions, Session};
use winsign_trainer::tch::{Device, Kind, Tensor};
use winsign_trainer::train::checkpoint::Checkpoint;
use winsign_trainer::train::evaluate::{Workers, evaluate};
use winsign_trainer::train::optimizer;
use winsign_trainer::train::step::{Stepper, forward_backward};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const NO_GPU: u8 = 3;

/// The bounds in fp32: three times the differences that were found on a CPU. Networks of fifty layers with normalization over
/// batches of two or four images amplify rounding errors, most of all over several steps. Errors in the computation itself show
/// in float64.
const SINGLE: Bounds =
    Bounds { logits: 2e-3, loss: 1e-3, gradient: 0.2, statistics: 1e-3, steps: 0.5, path: 2e-3, floor: 1e-3 };
/// The bounds in bf16, which has 8 significant bits. They only show that the network is the same. With batches of two or four
/// images, gradients and steps are mere noise, which must be finite; [`compare_bf16`] compares them with larger batches.
const HALF: Bounds =
    Bounds { logits: 0.5, loss: 0.2, gradient: ANY, statistics: 0.1, steps: ANY, path: 0.5, floor: 0.3 };
/// A bound for every finite number.
const ANY: f64 = 1e30;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let cpu = has("--cpu");
    device::load(if cpu { Request::Cpu } else { Request::Cuda });
    match arguments.first().map(String::as_str) {
        Some("serve") => return serve(&arguments[1..]).map(|()| ExitCode::SUCCESS),
        Some("ranks") => return run_rank(cpu).map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    let value =
        |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1));
    let folder = |name: &str| value(name).map(PathBuf::from).ok_or(format!("{name} DIR is missing"));
    let setting = Setting {
        cpu,
        device: if cpu { Device::Cpu } else { Device::Cuda(0) },
        golden: folder("--golden")?,
        opponents: folder("--opponents")?,
        programs: value("--programs").map(PathBuf::from),
        python: value("--python").cloned(),
    };
    let gpus = match device::gpus() {
        _ if cpu => vec![],
        Ok(gpus) => gpus,
        Err(reason) => {
            eprintln!("gpu-check: no GPU can be used: {reason}; help: --cpu tests the program without a GPU");
            return Ok(ExitCode::from(NO_GPU));
        }
    };
    let name = gpus.first().map_or("CPU".to_string(), |gpu| gpu.name.clone());
    let file = format!("{}.json", name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-"));
    let out = value("--out").map_or(Path::new("results/gpu").join(file), PathBuf::from);

    let start = Instant::now();
    device::prepare(setting.device, Precision::Fp32, false);
    // This must precede the first backward pass; it is turned on later.
    device::keep_activations_on_host(false);
    let data = tempfile::tempdir()?;
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut record = json!({
        "schema": 1,
        "date": jiff::Timestamp::now(),
        "winsign": env!("CARGO_PKG_VERSION"),
        "rehearsal": cpu,
        "gpus": gpus.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "cudnn": (!cpu).then(winsign_trainer::tch::utils::version_cudnn),
        "finished": false,
    });
    let mut checks = vec![];
    // The record is written after each part, so that it exists even if a later part hangs or is killed.
    let mut write = |checks: &[Value], key: &str, value: Value| -> Result<()> {
        record["correctness"] = json!(checks);
        record[key] = value;
        record["seconds"] = json!(start.elapsed().as_secs_f64());
        let draft = out.with_extension("partial");
        fs::write(&draft, format!("{record:#}\n"))?;
        Ok(fs::rename(&draft, &out)?)
    };

    announce("golden values, and the device against the CPU");
    if let Err(error) = attempt(|| check_correctness(&setting, data.path(), &mut checks)) {
        checks.push(check("all comparisons ran", false, error));
    }
    write(&checks, "finished", json!(false))?;

    announce("sums over ranks");
    let exchange = check_ranks(&setting, gpus.len().max(1));
    checks.push(check("ranks compute correct sums and stay equal", exchange["equal"] == true, exchange.to_string()));
    write(&checks, "sum over ranks", exchange)?;

    announce("large matrices");
    let peak = attempt(|| Ok(measure_matrix_peak(&setting)));
    if let Err(error) = &peak {
        checks.push(check("large matrices can be multiplied", false, error.clone()));
    }
    let peak = peak.ok();
    write(&checks, "matrix product in bf16, TFLOP/s", json!(peak))?;

    let mut rows = vec![];
    for shape in setting.shapes() {
        match attempt(|| compare_speed(&setting, data.path(), &shape, peak)) {
            Ok(compared) => rows.extend(compared),
            Err(error) => checks.push(check(&format!("training on {} can be compared", shape.name), false, error)),
        }
        write(&checks, "training", json!(rows))?;
    }
    announce("several runs on one GPU");
    let packing = attempt(|| measure_packing(&setting, data.path())).unwrap_or_else(|error| {
        checks.push(check("runs can share a GPU", false, error.clone()));
        json!({ "error": error })
    });
    write(&checks, "runs at once", packing)?;
    let passed = checks.iter().all(|check| check["passed"] == true);
    write(&checks, "passed", json!(passed))?;
    write(&checks, "finished", json!(true))?;
    println!("gpu-check: {}, {:.0} s", out.display(), start.elapsed().as_secs_f64());
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints which part comes next, since some parts take minutes without output.
fn announce(part: &str) {
    eprintln!("gpu-check: {part} ...");
}

/// Calls `work`, and turns panics into errors. Exceptions of libtorch are panics, and the record must be written in any case.
fn attempt<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => Err(first_line(&*panic)),
    }
}

struct Setting {
    /// Whether everything runs on the CPU with tiny sizes.
    cpu: bool,
    device: Device,
    golden: PathBuf,
    opponents: PathBuf,
    /// The folder of `winsign` and `winsign-worker`.
    programs: Option<PathBuf>,
    python: Option<String>,
}

// --- correctness ------------------------------------------------------------------------------------------------

/// Prints and returns the result of a check.
fn check(name: &str, passed: bool, detail: String) -> Value {
    println!("{} {name}: {detail}", if passed { "ok    " } else { "FAILED" });
    json!({ "name": name, "passed": passed, "detail": detail })
}

fn check_correctness(setting: &Setting, folder: &Path, checks: &mut Vec<Value>) -> Result<()> {
    for (name, kind, precision, bounds) in [
        ("float64", Kind::Double, Precision::Fp32, EXACT),
        ("fp32", Kind::Float, Precision::Fp32, SINGLE),
        ("bf16", Kind::Float, Precision::Bf16, HALF),
    ] {
        let numbers = Numbers { kind, precision, device: setting.device, bounds };
        // With --cpu, only one small network and one pruning are checked.
        let wanted =
            |file: &str| !setting.cpu || ["shufflenet", "prune_imagenet"].iter().any(|part| file.contains(part));
        for (file, comparison) in compare_all(&setting.golden, &numbers, wanted) {
            let name = format!("golden values in {name}, {}", file.trim_end_matches(".json"));
            let first = comparison.differences.first().map_or(String::new(), |difference| format!("; {difference}"));
            let detail = format!(
                "{} compared, {} differ, the largest difference is {:.3} of its bound{first}",
                comparison.compared,
                comparison.differences.len(),
                comparison.worst
            );
            checks.push(check(&name, comparison.differences.is_empty() && comparison.compared > 0, detail));
        }
    }
    let request = synth::Request::new(Dataset::Cifar100, 6_400, 512);
    synth::write(folder, &request, &|| {})?;
    for (architecture, dataset, logits, gradient) in
        [(Architecture::ResNet8, Dataset::Digits, 0.02, 0.2), (Architecture::MlpMixer, Dataset::Cifar100, 0.03, 0.03)]
    {
        let problem = Problem::new(dataset, architecture);
        checks.push(compare_bf16(setting, folder, problem, (logits, gradient))?);
    }
    checks.push(compare_activations(setting));
    compare_with_cpu(setting, folder, checks)
}

/// Compares passes with activations on the device and on the host: the gradients must be equal, and the device must need less
/// memory.
fn compare_activations(setting: &Setting) -> Value {
    let (architecture, images) = if setting.cpu { (Architecture::ResNet8, 16) } else { (Architecture::ResNet50, 128) };
    let network = Network::new(Problem::new(Dataset::Cifar100, architecture));
    let batch = random_batch(Dataset::Cifar100, images, setting.device);
    device::prepare(setting.device, Precision::Fp32, true);
    let [near, far] = [false, true].map(|on_host| {
        device::keep_activations_on_host(on_host);
        repeat_pass(&network, &batch, setting.device)
    });
    device::keep_activations_on_host(false);
    device::prepare(setting.device, Precision::Fp32, false);
    let equal = near.gradient == far.gradient;
    let [before, after] = [near.peak_memory, far.peak_memory].map(|peak| peak.unwrap_or(0));
    let detail = format!(
        "gradients equal: {equal}; peak memory {:.2} GB instead of {:.2} GB, with {:.2} GB on the host; {:.0} ms a pass instead of \
         {:.0} ms",
        after as f64 / 1e9,
        before as f64 / 1e9,
        device::activations_on_host().peak as f64 / 1e9,
        1000.0 * far.seconds,
        1000.0 * near.seconds
    );
    let passed = equal && (setting.cpu || after < before);
    check(&format!("{architecture} with activations on the host equals that without"), passed, detail)
}

struct MeasuredPass {
    gradient: Tensor,
    peak_memory: Option<u64>,
    seconds: f64,
}

/// Computes the same pass three times; measures the last one.
fn repeat_pass(network: &Network, batch: &Batch, device: Device) -> MeasuredPass {
    let mut weights = Weights::initialize(&network.layout, 1).on(device);
    weights.parameters = weights.parameters.set_requires_grad(true);
    let norm_init = network.layout.norm_init(Kind::Float).to_device(device);
    let mut pass = || {
        device::wait(device);
        device::peak_memory(device);
        let start = Instant::now();
        let gradient = forward_backward(network, &mut weights, batch, None, &norm_init, None).gradient;
        device::wait(device);
        MeasuredPass { gradient, peak_memory: device::peak_memory(device), seconds: start.elapsed().as_secs_f64() }
    };
    (pass(), pass(), pass()).2
}

/// Compares bf16 on the device with fp32 on the CPU, with a batch that is large enough for meaningful gradients. The bounds are
/// those of the same comparison on a CPU; for resnet8, it is a unit test of the trainer.
fn compare_bf16(setting: &Setting, folder: &Path, problem: Problem, bounds: (f64, f64)) -> Result<Value> {
    let expected = first_pass(problem, folder, Precision::Fp32, Device::Cpu)?;
    let found = first_pass(problem, folder, Precision::Bf16, setting.device)?;
    let relative_difference = |which: usize| {
        let (found, expected) = (&found[which], &expected[which]);
        ((found - expected).norm() / expected.norm()).double_value(&[])
    };
    let (logits, gradient) = (relative_difference(0), relative_difference(1));
    let close = (1e-4..bounds.0).contains(&logits) && (1e-4..bounds.1).contains(&gradient);
    let detail = format!("the logits differ by {:.2} %, the gradient by {:.1} %", 100.0 * logits, 100.0 * gradient);
    Ok(check(&format!("{} in bf16 equals fp32 on the CPU", problem.architecture), close, detail))
}

/// Returns the logits and the gradient of the first pass of a training.
fn first_pass(problem: Problem, folder: &Path, precision: Precision, device: Device) -> Result<[Tensor; 2]> {
    let network = Network::new(problem).with_precision(precision);
    let data = data::load(problem.dataset, folder, 2)?.on(device);
    let mut weights = Weights::initialize(&network.layout, 1).on(device);
    weights.parameters = weights.parameters.set_requires_grad(true);
    let batches = Batches::new(&data, 128, 1, "check");
    let batch = batches.epoch(1).shares(0, Place::ALONE).next().ok_or("there are no images")??;
    let norm_init = network.layout.norm_init(Kind::Float).to_device(device);
    let pass = forward_backward(&network, &mut weights, &batch, Some(0.3), &norm_init, None);
    Ok([pass.logits, pass.gradient].map(|tensor| tensor.to_device(Device::Cpu)))
}

/// Compares the trainer on the device with the trainer on the CPU, mostly in float64.
fn compare_with_cpu(setting: &Setting, folder: &Path, checks: &mut Vec<Value>) -> Result<()> {
    let device = setting.device;
    let load = |dataset| data::load(dataset, folder, 2);

    let values: Vec<i64> = (0..100_000).map(|value| value * value - 7).collect();
    let back = Vec::<i64>::try_from(device::upload(&values, device))?;
    checks.push(check("uploaded values are equal", back == values, format!("{} values", values.len())));

    for (architecture, dataset) in
        [(Architecture::ResNet8, Dataset::Digits), (Architecture::EfficientNet, Dataset::Cifar100)]
    {
        let found = [Device::Cpu, device].map(|device| train(&load(dataset)?.on(device), architecture, dataset, 3));
        let [expected, found] = found;
        let (expected, found) = (expected?, found?);
        let weights = (&found.parameters - &expected.parameters).abs().max().double_value(&[]);
        let batches = (&found.images - &expected.images).abs().max().double_value(&[]);
        let loss = (found.loss - expected.loss).abs();
        let detail = format!("pixels differ by {batches:.1e}, the loss by {loss:.1e}, weights by {weights:.1e}");
        let equal = batches < 1e-5 && loss < 1e-4 && weights < 1e-4;
        checks.push(check(
            &format!("three steps of {architecture} and an evaluation equal those on the CPU"),
            equal,
            detail,
        ));
    }

    let network = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8));
    let weights = Weights::initialize(&network.layout, 1);
    let masks = [Device::Cpu, device].map(|device| -> Result<Tensor> {
        let mut pruned = weights.copy().on(device);
        prune::prune(&mut pruned, &network.layout, 0.3)?;
        Ok(pruned.mask.to_device(Device::Cpu))
    });
    let [expected, found] = masks;
    let equal = found? == expected?;
    checks.push(check("the mask equals that on the CPU", equal, "30 % of resnet8".to_string()));

    checks.push(compare_paths(setting)?);

    let state = Checkpoint::new(weights, Default::default(), 7);
    let (before, sum) = (state.to_file(), state.checksum());
    let moved = state.on(device);
    let equal = moved.to_file() == before && moved.checksum() == sum;
    checks.push(check("checkpoints are equal wherever the state is stored", equal, "bit for bit".to_string()));
    Ok(())
}

/// Compares matrices of paths, with and without alignment, and a plane on the device with those on the CPU. It compares losses,
/// since errors are discrete.
fn compare_paths(setting: &Setting) -> Result<Value> {
    let [expected, found] = [Device::Cpu, setting.device].map(compute_losses);
    let (expected, found) = (expected?, found?);
    let differences = expected.iter().zip(&found).map(|(expected, found)| (found - expected).abs() / expected);
    let largest = differences.fold(
        0.0,
        |largest: f64, difference| {
            if difference.is_finite() { largest.max(difference) } else { f64::INFINITY }
        },
    );
    let detail = format!("{} losses of resnet8 differ by {largest:.1e} at most", expected.len());
    let equal = expected.len() == found.len() && largest < 1e-3;
    Ok(check("paths, aligned paths and a plane equal those on the CPU", equal, detail))
}

/// Returns the test and training losses on all paths between three networks, and on the plane through them.
fn compute_losses(device: Device) -> Result<Vec<f64>> {
    let problem = Problem::new(Dataset::Digits, Architecture::ResNet8);
    let path = |align| Connect {
        problem,
        between: Between::Seeds,
        masks: Masks::Union,
        points: 3,
        refine: 1,
        batch: 128,
        reestimation_batches: Some(4),
        sets: Sets::Both,
        align,
        precision: Precision::Fp32,
    };
    let network = Network::new(problem);
    let folder = tempfile::tempdir()?;
    let networks = [1, 2, 3].map(|seed| -> Result<Weights> {
        let mut weights = Weights::initialize(&network.layout, seed);
        prune::prune(&mut weights, &network.layout, 0.2)?;
        Ok(weights.on(device))
    });
    let networks = networks.into_iter().collect::<Result<Vec<_>>>()?;
    let mut losses = vec![];
    let mut add = |test: f64, train: Option<TrainScore>| {
        losses.extend([test, train.map_or(f64::NAN, |train| train.train_loss)]);
    };
    for align in [Align::None, Align::Weights] {
        let matrix = Matrix { path: path(align), rows: 3 };
        let mut session = start_session(folder.path(), device, Settings::Matrix(matrix.clone()))?;
        let data = session.load_data(problem.dataset)?;
        let result = lmc::matrix(&mut session, &network, &data, &networks, &matrix)?;
        result.pairs.iter().flat_map(|pair| &pair.path.points).for_each(|point| add(point.test_loss, point.train));
    }
    let plane = Plane {
        problem,
        masks: Masks::Union,
        points: 3,
        margin: 0.1,
        batch: 128,
        reestimation_batches: Some(4),
        sets: Sets::Both,
        precision: Precision::Fp32,
    };
    let mut session = start_session(folder.path(), device, Settings::Plane(plane.clone()))?;
    let data = session.load_data(problem.dataset)?;
    let corners = networks.try_into().map_err(|_| "there are three networks")?;
    let result = lmc::plane(&mut session, &network, &data, corners, &plane)?;
    result.points.iter().for_each(|point| add(point.test_loss, point.train));
    Ok(losses)
}

fn start_session(store: &Path, device: Device, settings: Settings) -> Result<Session> {
    let run = Run::new(settings, vec![]);
    let directory = Store::create(store)?.run(&run.id);
    directory.prepare(&run, "paths")?;
    let attempt = Attempt::claim(&directory, 0)?;
    let options = ExecOptions { device, checkpoint_every: Duration::MAX, ..ExecOptions::default() };
    Ok(Session::new(Ranks::alone(), Some(attempt), vec![], options))
}

/// The results of a few steps, on the CPU.
struct Steps {
    /// The images of the last batch.
    images: Tensor,
    parameters: Tensor,
    /// The sum of the losses of all steps and of the test set.
    loss: f64,
}

/// Trains a few steps in float64, with norm interpolation, dropout and masks.
fn train(data: &Data, architecture: Architecture, dataset: Dataset, steps: usize) -> Result<Steps> {
    let network = Network::new(Problem::new(dataset, architecture));
    let device = data.device();
    let mut weights = Weights::initialize(&network.layout, 1);
    prune::prune(&mut weights, &network.layout, 0.2)?;
    let weights = weights.on(device);
    let double = |flat: &Tensor| flat.to_kind(Kind::Double);
    let mut weights = Weights {
        parameters: double(&weights.parameters).set_requires_grad(true),
        statistics: double(&weights.statistics),
        mask: double(&weights.mask),
    };
    let training = training(Precision::Fp32, 32, 0.01);
    let mut moments = optimizer::fresh_moments(training.optimizer, &weights.parameters);
    let mut stepper = Stepper::new(&Single, &network, &training, &weights);
    let batches = Batches::new(data, training.batch, 1, "check");
    let epoch = batches.epoch(1);
    let (mut images, mut loss) = (Tensor::new(), 0.0);
    for (number, batch) in (1..).zip(epoch.shares(0, Place::ALONE).take(steps)) {
        let batch = batch?;
        let dropout = network.drops().then(|| {
            let source = Source::new(1, "dropout", number);
            batch.indices.iter().map(|&index| source.stream(index as u64)).collect()
        });
        let state = (&mut weights, &mut moments[..]);
        let pass = stepper.step(state, &batch, (training.lr, number), Some(0.3), dropout);
        loss += pass.loss.double_value(&[]);
        images = batch.images.to_device(Device::Cpu);
    }
    let workers = Workers { comm: &Single, stop: &AtomicBool::new(false) };
    loss += evaluate(workers, &network, &weights.parameters.detach(), &weights.statistics, data)?.loss;
    Ok(Steps { images, parameters: weights.parameters.detach().to_device(Device::Cpu), loss })
}

fn training(precision: Precision, batch: u32, lr: f64) -> Training {
    Training {
        epochs: 1,
        batch,
        optimizer: Default::default(),
        lr,
        momentum: 0.9,
        weight_decay: 5e-4,
        schedule: Schedule::Constant,
        precision,
    }
}

// --- ranks ------------------------------------------------------------------------------------------------------

/// Runs [`run_rank`] in one process per GPU, or in two with --cpu; returns the JSON that rank 0 prints.
fn check_ranks(setting: &Setting, gpus: usize) -> Value {
    let program = std::env::current_exe().expect("this program is a file");
    let ranks = if setting.cpu { 2 } else { gpus };
    let mut command = match ranks {
        1 => Command::new(&program),
        _ => {
            let mut mpirun = Command::new("mpirun");
            mpirun.args(["--bind-to", "none", "-np", &ranks.to_string()]).arg(&program);
            mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
            mpirun
        }
    };
    command.arg("ranks").args(setting.cpu.then_some("--cpu"));
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return json!({ "ranks": ranks, "equal": false, "error": error.to_string() }),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let error = || String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("no output").to_string();
    result.unwrap_or_else(|| json!({ "ranks": ranks, "equal": false, "error": error() }))
}

/// Runs one rank: checks sums of known values, checks that ranks are equal after some steps, and measures sums of 100 MB.
fn run_rank(cpu: bool) -> Result<()> {
    let mut ranks = comm::join(false, None, "")?;
    let request = if cpu { Request::Cpu } else { Request::Cuda };
    let (device, _) = device::choose(request, Precision::Fp32, &*ranks.comm)?;
    device::prepare(device, Precision::Fp32, false);
    ranks.connect(device)?;
    // A single rank does not need NCCL, but tests it.
    #[cfg(feature = "nccl")]
    if let (Device::Cuda(gpu), Place::ALONE) = (device, ranks.comm.place()) {
        let link = comm::nccl::Link::new(comm::nccl::share_id(&Single)?, Place::ALONE, gpu)?;
        ranks.comm = Box::new(comm::nccl::Nccl { mpi: Box::new(Single), link });
    }
    let comm = &*ranks.comm;
    let Place { rank, ranks: count } = comm.place();

    let mut correct = true;
    for kind in [Kind::Float, Kind::Double] {
        // The device is still computing these values, so a sum that did not wait for them would be wrong.
        let mut tensor = Tensor::arange(1_000_003, (kind, device)).remainder(1_000.0) * (rank as f64 + 1.0);
        let expected = Tensor::arange(1_000_003, (kind, device)).remainder(1_000.0) * (count * (count + 1) / 2) as f64;
        comm.sum(&mut tensor);
        correct &= tensor == expected;
    }
    let sums = comm.gather(&train_together(comm, device)?);
    let equal = correct && comm.largest(sums.iter().any(|sum| *sum != sums[0]).into()) == 0;

    let bytes: i64 = if cpu { 1_000_000 } else { 100_000_000 };
    let mut tensor = Tensor::ones([bytes / 4], (Kind::Float, device));
    let mut repeat = |times: u32| {
        comm.largest(0);
        let start = Instant::now();
        (0..times).for_each(|_| comm.sum(&mut tensor));
        device::wait(device);
        start.elapsed().as_secs_f64() / f64::from(times)
    };
    repeat(5);
    let seconds = repeat(20);
    let algorithm = bytes as f64 / seconds / 1e9;
    let bus = algorithm * 2.0 * (count as f64 - 1.0) / count as f64;
    if rank == 0 {
        println!(
            "{}",
            json!({ "ranks": count, "equal": equal, "MB": bytes / 1_000_000, "ms": seconds * 1e3,
                "GB/s": algorithm, "bus bandwidth, GB/s": bus })
        );
    }
    if let Some(watch) = ranks.watch {
        watch.leave(0);
    }
    Ok(())
}

/// Trains ten steps with all ranks; returns the checksum of the state.
fn train_together(comm: &dyn Comm, device: Device) -> Result<Vec<u8>> {
    let network = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8));
    let data = data::load(Dataset::Digits, Path::new(""), 1)?.on(device);
    let training = training(Precision::Fp32, 96, 0.1);
    let weights = Weights::initialize(&network.layout, 1).on(device);
    let mut state = Checkpoint::new(weights, training.optimizer, 10);
    state.weights.parameters = state.weights.parameters.set_requires_grad(true);
    let mut stepper = Stepper::new(comm, &network, &training, &state.weights);
    let batches = Batches::new(&data, training.batch, 1, "check");
    for (number, batch) in (1..).zip(batches.epoch(1).shares(0, comm.place()).take(10)) {
        let Checkpoint { weights, moments, .. } = &mut state;
        stepper.step((weights, moments), &batch?, (training.lr, number), Some(0.3), None);
    }
    Ok(state.checksum())
}

// --- speed ------------------------------------------------------------------------------------------------------

/// Measures the TFLOP/s of a product of large matrices in bf16.
fn measure_matrix_peak(setting: &Setting) -> f64 {
    let side: i64 = if setting.cpu { 256 } else { 8_192 };
    let [a, b] = [(); 2].map(|()| Tensor::randn([side, side], (Kind::BFloat16, setting.device)));
    let repeat = |times: u32| {
        let start = Instant::now();
        (0..times).for_each(|_| drop(a.matmul(&b)));
        device::wait(setting.device);
        start.elapsed().as_secs_f64() / f64::from(times)
    };
    repeat(10);
    2.0 * (side as f64).powi(3) / repeat(30) / 1e12
}

/// The network and the size of a training whose speed is compared.
struct Shape {
    /// `cifar` reads, shifts and mirrors images; `imagenet` uses one batch that is already on the device.
    name: &'static str,
    architecture: &'static str,
    batch: i64,
    /// The number of steps in a turn.
    steps: i64,
    turns: usize,
    /// The floating-point operations of a training step for one image, which are those of three forward passes.
    operations: f64,
    /// The goal for the ratio to the `reference` opponent.
    goal: f64,
}

impl Setting {
    fn shapes(&self) -> [Shape; 2] {
        let cifar = Shape {
            name: "cifar",
            architecture: "resnet50",
            batch: 128,
            steps: 50,
            turns: 3,
            operations: 3.0 * 2.0 * 1.30e9,
            goal: 5.0,
        };
        let imagenet =
            Shape { name: "imagenet", batch: 256, steps: 20, operations: 3.0 * 2.0 * 4.09e9, goal: 2.5, ..cifar };
        if !self.cpu {
            return [cifar, imagenet];
        }
        [
            Shape { architecture: "resnet20", batch: 16, steps: 2, turns: 1, operations: 3.0 * 2.0 * 0.041e9, ..cifar },
            Shape { batch: 2, steps: 1, turns: 1, ..imagenet },
        ]
    }

    fn ours(&self, data: &Path, shape: &Shape, precision: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this program is a file"));
        command.args(["serve", shape.name, shape.architecture, precision]);
        command.args([shape.batch, shape.steps].map(|number| number.to_string())).arg(data);
        command.args(self.cpu.then_some("--cpu"));
        command
    }

    fn theirs(&self, data: &Path, shape: &Shape, style: &str) -> Option<Command> {
        let mut command = Command::new(self.python.as_ref()?);
        command.arg(self.opponents.join("gpu.py")).args([shape.name, shape.architecture, style]);
        command.args([shape.batch, shape.steps].map(|number| number.to_string()));
        command.arg(data.join("cifar-100-binary")).arg(if self.cpu { "cpu" } else { "cuda" });
        Some(command)
    }
}

/// Compares each precision of winsign with both opponents; returns the rows of the table.
fn compare_speed(setting: &Setting, data: &Path, shape: &Shape, peak: Option<f64>) -> Result<Vec<Value>> {
    let precisions: &[&str] = if setting.cpu { &["bf16", "fp32"] } else { &["bf16", "tf32", "fp32"] };
    // The memory of the GPU may be too small for both, so they run one after the other.
    let theirs: Vec<(&str, Value)> = ["reference", "best"]
        .into_iter()
        .map(|style| {
            announce(&format!("training on {}: PyTorch, {style}", shape.name));
            let measured = match setting.theirs(data, shape, style) {
                Some(mut command) => measure(&mut command, shape),
                None => Err("no --python was given".into()),
            };
            (style, measured.unwrap_or_else(|error| json!({ "error": error.to_string() })))
        })
        .collect();
    let mut rows = vec![];
    for precision in precisions {
        announce(&format!("training on {}: winsign, {precision}", shape.name));
        let ours = measure(&mut setting.ours(data, shape, precision), shape);
        // The memory of the GPU may be too small.
        let ours = ours.unwrap_or_else(|error| json!({ "error": error.to_string() }));
        for (style, theirs) in &theirs {
            let counts = [&ours["parameters"], &theirs["parameters"]];
            if ours["error"].is_null() && theirs["error"].is_null() && counts[0] != counts[1] {
                return Err(format!("the networks differ: {counts:?} parameters").into());
            }
            let rate = |side: &Value| side["images/s"].as_f64();
            let ratio = rate(&ours).zip(rate(theirs)).map(|(ours, theirs)| ours / theirs);
            // The opponents use PyTorch's defaults, which is TF32 in convolutions, or bf16.
            let goal = (*precision == "bf16").then_some(if *style == "reference" { shape.goal } else { 1.0 });
            let used = rate(&ours).zip(peak).map(|(rate, peak)| 100.0 * rate * shape.operations / (peak * 1e12));
            let row = json!({
                "row": format!("{}, {}, batch {}: {precision} against {style}", shape.name, shape.architecture, shape.batch),
                "ratio": ratio, "goal": goal, "ours": ours, "theirs": theirs, "percent of the matrix peak": used,
            });
            let show = |number: Option<f64>| number.map_or("?".to_string(), |number| format!("{number:.2}"));
            println!(
                "{}: {} images/s, theirs {}, ratio {}, goal {}, {} % of the matrix peak",
                row["row"].as_str().unwrap_or_default(),
                show(rate(&ours)),
                show(rate(theirs)),
                show(ratio),
                show(goal),
                show(used)
            );
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Measures a side: returns medians over turns, after a first turn that warms it up.
fn measure(command: &mut Command, shape: &Shape) -> Result<Value> {
    let mut side = Side::start(command)?;
    let parameters = side.read()?["parameters"].clone();
    let turns = (0..=shape.turns).map(|_| side.take_turn()).collect::<Result<Vec<Value>>>()?;
    let number = |turn: &Value, key: &str| turn[key].as_f64().ok_or(format!("no {key}"));
    let mut rates = vec![];
    for turn in &turns[1..] {
        rates.push(number(turn, "images")? / number(turn, "seconds")?);
    }
    rates.sort_by(f64::total_cmp);
    let last = turns.last().expect("there was a turn");
    Ok(json!({
        "parameters": parameters,
        "images/s": rates[rates.len() / 2],
        "memory per image, MB": number(last, "memory")? / shape.batch as f64 / 1e6,
        "part of the time until all steps were queued": last["queued"],
        "loss": last["loss"],
    }))
}

/// A process that trains for each line of its input.
struct Side {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Side {
    fn start(command: &mut Command) -> Result<Side> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Ok(Side { child, input, output })
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line).map_err(|_| format!("a side printed no JSON: {line:?}"))?)
    }

    fn take_turn(&mut self) -> Result<Value> {
        writeln!(self.input, "go")?;
        self.read()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a side of winsign: trains with the code of the trainer for each line of standard input.
fn serve(arguments: &[String]) -> Result<()> {
    let [shape, architecture, precision, batch, steps, folder, rest @ ..] = arguments else {
        return Err("six arguments are needed".into());
    };
    let device = if rest.iter().any(|word| word == "--cpu") { Device::Cpu } else { Device::Cuda(0) };
    let precision: Precision = precision.parse()?;
    let (batch, steps): (i64, usize) = (batch.parse()?, steps.parse()?);
    device::prepare(device, precision, false);
    let dataset = if shape == "cifar" { Dataset::Cifar100 } else { Dataset::Imagenet };
    let problem = Problem::new(dataset, architecture.parse()?);
    let network = Network::new(problem).with_precision(precision);
    let training = training(precision, batch as u32, 0.01);
    let mut weights = Weights::initialize(&network.layout, 1);
    prune::prune(&mut weights, &network.layout, 0.2)?;
    let mut weights = weights.on(device);
    weights.parameters = weights.parameters.set_requires_grad(true);
    let mut moments = optimizer::fresh_moments(training.optimizer, &weights.parameters);
    let mut stepper = Stepper::new(&Single, &network, &training, &weights);
    let data = match dataset {
        Dataset::Cifar100 => Some(data::load(dataset, folder.as_ref(), 2)?.on(device)),
        _ => None,
    };
    let fixed = if data.is_some() { None } else { Some(random_batch(dataset, batch, device)) };

    println!("{}", json!({ "parameters": network.layout.parameters() }));
    let mut line = String::new();
    let mut number = 0;
    for epoch in 1.. {
        line.clear();
        if std::io::stdin().read_line(&mut line)? == 0 {
            break;
        }
        device::wait(device);
        device::peak_memory(device);
        let start = Instant::now();
        let mut losses = Tensor::zeros([], (Kind::Float, device));
        let mut images = 0;
        let mut step = |batch: &Batch| {
            number += 1;
            let pass = stepper.step((&mut weights, &mut moments), batch, (training.lr, number), None, None);
            losses += &pass.loss;
            images += batch.whole;
        };
        match (&data, &fixed) {
            (Some(data), _) => {
                let batches = Batches::new(data, training.batch, 1, "bench");
                for batch in batches.epoch(epoch).shares(0, Place::ALONE).take(steps) {
                    step(&batch?);
                }
            }
            (None, Some(fixed)) => (0..steps).for_each(|_| step(fixed)),
            (None, None) => unreachable!("there are data or a fixed batch"),
        }
        // If this is well before the end of the turn, steps do not wait for the device.
        let queued = start.elapsed().as_secs_f64();
        if let Some(data) = &data {
            let workers = Workers { comm: &Single, stop: &AtomicBool::new(false) };
            evaluate(workers, &network, &weights.parameters.detach(), &weights.statistics, data)?;
        }
        let loss = losses.double_value(&[]);
        device::wait(device);
        let seconds = start.elapsed().as_secs_f64();
        let memory = device::peak_memory(device).unwrap_or(0);
        let times =
            json!({ "seconds": seconds, "images": images, "memory": memory, "queued": queued / seconds, "loss": loss });
        println!("{times}");
    }
    Ok(())
}

fn random_batch(dataset: Dataset, count: i64, device: Device) -> Batch {
    let (channels, side) = dataset.image_shape();
    let images = Tensor::randn([count, side, side, channels], (Kind::Float, device)).permute([0, 3, 1, 2]);
    let labels = Tensor::randint(dataset.classes(), [count], (Kind::Int64, device));
    Batch { images, labels, indices: (0..count).collect(), whole: count }
}

// --- runs that share a GPU --------------------------------------------------------------------------------------

/// Measures studies of small networks on one GPU, with increasing numbers of runs at the same time. The time is that of the whole
/// `winsign run`, including the start of all processes.
fn measure_packing(setting: &Setting, folder: &Path) -> Result<Value> {
    let Some(programs) = &setting.programs else {
        let reason = "--programs is missing";
        println!("runs at once: skipped, {reason}");
        return Ok(json!({ "skipped": reason }));
    };
    let folder = folder.join("packing");
    let images = if setting.cpu { 64 } else { 6_400 };
    let request = synth::Request::new(Dataset::Cifar100, images, images / 8);
    fs::create_dir(&folder)?;
    synth::write(&folder, &request, &|| {})?;
    let deadline = Instant::now() + PACKING_LIMIT;
    let mut rows: Vec<Value> = vec![];
    let at_once: &[u32] = if setting.cpu { &[1, 2] } else { &[1, 2, 4, 8] };
    for &at_once in at_once {
        let study = Study { at_once, epochs: if setting.cpu { 1 } else { 20 }, images };
        let row = match study.run(setting, programs, &folder, deadline)? {
            Some(mut row) => {
                let rate = |row: &Value| row["images/s"].as_f64();
                let alone = rows.first().and_then(rate).or(rate(&row));
                row["times one at once"] = json!(rate(&row).zip(alone).map(|(rate, alone)| rate / alone));
                row
            }
            None => json!({ "runs at once": at_once, "skipped": "no time was left" }),
        };
        println!("{at_once} at once: {row}");
        rows.push(row);
    }
    Ok(Value::from(rows))
}

/// The time for all studies together; all of gpu-check must take less than 8 minutes.
const PACKING_LIMIT: Duration = Duration::from_secs(120);
/// The time in which a study that exceeds this limit must save its runs.
const GRACE: Duration = Duration::from_secs(20);

/// A study of independent runs, with `at_once` of them at the same time.
struct Study {
    at_once: u32,
    epochs: u32,
    images: usize,
}

impl Study {
    /// Returns the sweep. It has two runs per seed, so there are at least two runs.
    fn text(&self) -> String {
        let Study { at_once, epochs, .. } = self;
        let seeds = at_once.div_ceil(2);
        format!(
            "dataset: cifar100\narchitecture: resnet20\nticket: {{method: snip, levels: 1, seed: 1..{seeds}, \
             warmup_epochs: {epochs}, epochs: {epochs}}}\n"
        )
    }

    /// Runs the study; returns its times, or `None` if it did not end before the deadline.
    fn run(&self, setting: &Setting, programs: &Path, folder: &Path, deadline: Instant) -> Result<Option<Value>> {
        let (sweep, store) = (folder.join("sweep.yaml"), folder.join(format!("store-{}", self.at_once)));
        fs::write(&sweep, self.text())?;
        let plan = build(&winsign_sweep::read(&sweep)?);
        let mut command = Command::new(programs.join("winsign"));
        command.arg("run").arg(&sweep).arg("--store").arg(&store).arg("--data").arg(folder);
        command.arg("--worker").arg(programs.join("winsign-worker"));
        command.args(["--jobs", &self.at_once.to_string(), "--threads", "1", "--gpus"]);
        command.arg(if setting.cpu { 0.0 } else { 1.0 / f64::from(self.at_once) }.to_string());
        // Without this, it would use all nodes of an allocation.
        command.env_remove("SLURM_JOB_NUM_NODES");
        if !setting.cpu {
            let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
            let first = visible.split(',').next().filter(|gpu| !gpu.is_empty());
            command.env("CUDA_VISIBLE_DEVICES", first.unwrap_or("0"));
        }
        let begun = Instant::now();
        let Some(messages) = run_until(deadline, command.stdout(Stdio::null()).stderr(Stdio::piped()))? else {
            return Ok(None);
        };
        let seconds = begun.elapsed().as_secs_f64();
        let store = Store::open(&store)?;
        let (mut training, mut memory) = (vec![], None);
        for planned in &plan.runs {
            let result = store.run(&planned.run.id).result()?.ok_or_else(|| format!("a run failed: {messages}"))?;
            training.push(result.seconds);
            memory = memory.max(result.usage.and_then(|usage| usage.gpu_peak_memory));
        }
        training.sort_by(f64::total_cmp);
        let runs = plan.runs.len();
        let images = runs as f64 * f64::from(self.epochs) * self.images as f64;
        Ok(Some(json!({
            "runs at once": self.at_once, "runs": runs, "seconds": seconds, "runs/hour": runs as f64 * 3600.0 / seconds,
            "images/s": images / seconds, "seconds of a run": training[runs / 2], "bytes of GPU memory of a run": memory,
        })))
    }
}

/// Runs a command; returns its standard error, or `None` if it was stopped at the deadline.
fn run_until(deadline: Instant, command: &mut Command) -> Result<Option<String>> {
    if Instant::now() >= deadline {
        return Ok(None);
    }
    let mut child = command.spawn()?;
    let mut errors = child.stderr.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let mut stopped = false;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline && !stopped {
            // On this signal, winsign stops its workers.
            stopped = true;
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        }
        if Instant::now() >= deadline + GRACE {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let messages = reader.join().unwrap_or_default();
    Ok((!stopped).then_some(messages))
}
