//! Measures how many images per second are read, decoded, cropped at random, resized to 224 × 224 and mirrored with two
//! threads, in comparison with the usual loaders for PyTorch.
//!
//! ```text
//! cargo bench --bench loading                                  measures winsign only
//! cargo bench --bench loading -- --python PATH                 also measures torchvision's ImageFolder with two workers
//! cargo bench --bench loading -- --python PATH --ffcv PATH     also measures FFCV 1.0.2
//! ```
//!
//! PATH is a Python interpreter with torch and torchvision, or with ffcv. The images are 1,000 synthetic JPEGs with the usual size
//! of ImageNet's. All loaders take turns, and medians are compared. Prints tables and writes results/bench/loading.json (see
//! [`Record`]). All files are in the page cache, so the speed of the disk does not matter.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use comfy_table::{CellAlignment, Table, presets};
use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use serde::Serialize;
use winsign_core::random::Source;
use winsign_data::crop::random_region;
use winsign_data::image::{Decoder, Rgb, decode, encode_jpeg};
use winsign_data::pack::{Options as PackOptions, Pack, pack};
use winsign_data::stream::{ImageSource, Options, View, batches};
use winsign_data::{Listing, Split, imagenet};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// The number of turns of each loader.
const TURNS: usize = 7;
const IMAGES: usize = 1_000;
/// The number of images in a turn, in which each is loaded twice.
const SEEN: usize = 2 * IMAGES;
const CLASSES: usize = 10;
const SIZE: (usize, usize) = (500, 375);
const SIDE: usize = 224;
const SCALE: (f64, f64) = (0.08, 1.0);
const SHORT_SIDE: usize = 256;
const OPTIONS: Options = Options { batch: 256, first: 0, threads: 2, ahead: 3 };

/// The content of results/bench/loading.json.
#[derive(Serialize)]
struct Record {
    /// The version of this schema.
    schema: u32,
    date: jiff::Timestamp,
    /// The version of winsign.
    winsign: &'static str,
    /// The measured commit; `None` outside a git repository.
    commit: Option<String>,
    cpu: String,
    cores: usize,
    /// The load average of the minute before; other programs were running if it is above 0.
    load_before: f64,
    #[serde(rename = "how")]
    description: String,
    #[serde(rename = "ways")]
    loaders: Vec<Loader>,
    memory: Vec<Memory>,
    parts: Vec<Part>,
}

/// The speed of a loader, in images per second.
#[derive(Serialize)]
struct Loader {
    name: &'static str,
    min: f64,
    median: f64,
    max: f64,
    /// The ratio to the speed of torchvision in the same turn; the median over turns.
    over_torchvision: Option<f64>,
    /// The goal for `over_torchvision`.
    goal: Option<f64>,
    over_ffcv: Option<f64>,
}

/// The peak memory of a process that loads all images of a folder once with winsign.
#[derive(Serialize)]
struct Memory {
    images: usize,
    peak_bytes: u64,
}

/// The times of the parts of loading one image, on one thread.
#[derive(Serialize)]
struct Part {
    #[serde(rename = "of")]
    source: &'static str,
    read_microseconds: f64,
    decode_microseconds: f64,
    resize_microseconds: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let done = if let Some(folder) = value("--peak-of") {
        // A separate process, so that its memory is that of loading alone.
        print_peak_memory(Path::new(folder))
    } else if arguments.iter().any(|argument| argument == "--bench") {
        bench(value("--python"), value("--ffcv"))
    } else {
        println!("nothing is measured: use cargo bench --bench loading");
        Ok(())
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loading: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(python: Option<&str>, ffcv: Option<&str>) -> Result<()> {
    let (cpu, load_before) = describe_machine()?;
    let cores = std::thread::available_parallelism()?.get();
    println!("{cpu}, {cores} cores, load {load_before}");
    let scratch = tempfile::tempdir()?;
    let folder = scratch.path().join("imagenet");
    let bytes = make_images(&folder)?;
    println!("{IMAGES} images of {} × {}, {:.1} KB each\n", SIZE.0, SIZE.1, bytes / 1e3);

    let original = Arc::new(ImageSource::Folder(imagenet::list(&folder)?));
    let packed = |name: &str, short_side| -> Result<Arc<ImageSource>> {
        let file = scratch.path().join(name);
        let options = PackOptions { short_side, quality: 90, threads: cores, skip_unreadable: false };
        pack(&imagenet::list(&folder)?, &file, &options, &AtomicBool::new(false), |_| ())?;
        Ok(Arc::new(ImageSource::Pack(Pack::open(&file)?)))
    };
    let (whole, small) = (packed("original.pack", None)?, packed("small.pack", Some(SHORT_SIDE))?);
    let train = folder.join("train").display().to_string();

    type Measure<'a> = Box<dyn Fn(u64) -> Result<f64> + 'a>;
    let ours = |source: Arc<ImageSource>| -> Measure { Box::new(move |turn| load(&source, turn)) };
    let count = SEEN.to_string();
    let mut loaders: Vec<(&'static str, Option<f64>, Measure)> = vec![
        ("winsign, folder", Some(3.0), ours(original.clone())),
        ("winsign, pack", Some(3.5), ours(whole.clone())),
        ("winsign, pack --short-side 256", Some(7.0), ours(small.clone())),
    ];
    if let Some(python) = python {
        let arguments = [train.as_str(), &count, "2"].map(str::to_string).to_vec();
        loaders.push((TORCHVISION, None, Box::new(move |_| run_opponent(python, "loading.py", &arguments))));
    }
    if let Some(python) = ffcv {
        for (name, largest) in [(FFCV, SIZE.0), (FFCV_SMALL, SHORT_SIDE * SIZE.0 / SIZE.1)] {
            let file = scratch.path().join(format!("{largest}.beton")).display().to_string();
            let arguments = [train.as_str(), &file, &count, "2", &largest.to_string()].map(str::to_string).to_vec();
            loaders.push((name, None, Box::new(move |_| run_opponent(python, "loading_ffcv.py", &arguments))));
        }
    }
    let mut speeds: Vec<Vec<f64>> = vec![vec![]; loaders.len()];
    // The first turn warms up caches, and does not count.
    for turn in 0..=TURNS {
        for ((name, _, measure), speeds) in loaders.iter().zip(&mut speeds) {
            let speed = measure(turn as u64)?;
            eprintln!("turn {turn}: {name}: {speed:.0} images/s");
            if turn > 0 {
                speeds.push(speed);
            }
        }
    }
    let names: Vec<&str> = loaders.iter().map(|(name, ..)| *name).collect();
    let ratio = |ours: &[f64], other: &str| {
        let at = names.iter().position(|name| *name == other)?;
        Some(median(ours.iter().zip(&speeds[at]).map(|(ours, other)| ours / other).collect()))
    };
    let loaders: Vec<Loader> = loaders
        .iter()
        .zip(&speeds)
        .map(|((name, goal, _), speeds)| {
            let is_ours = goal.is_some();
            let comparable = if name.ends_with("256") { FFCV_SMALL } else { FFCV };
            Loader {
                name,
                min: speeds.iter().copied().fold(f64::INFINITY, f64::min),
                median: median(speeds.clone()),
                max: speeds.iter().copied().fold(0.0, f64::max),
                over_torchvision: is_ours.then(|| ratio(speeds, TORCHVISION)).flatten(),
                goal: *goal,
                over_ffcv: is_ours.then(|| ratio(speeds, comparable)).flatten(),
            }
        })
        .collect();
    println!("{}", table(&loaders));

    let mut memory = vec![];
    for copies in [1, 4] {
        let large = scratch.path().join(format!("copies-{copies}"));
        copy_links(&folder, &large, copies)?;
        let output = Command::new(std::env::current_exe()?).arg("--peak-of").arg(&large).output()?;
        let text = String::from_utf8(output.stdout)?;
        let peak_bytes = text.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
        println!("peak memory for {} images: {:.0} MB", copies * IMAGES, peak_bytes as f64 / 1e6);
        memory.push(Memory { images: copies * IMAGES, peak_bytes });
    }
    let parts = vec![measure_parts("folder", &original)?, measure_parts("pack --short-side 256", &small)?];
    for part in &parts {
        let Part { source, read_microseconds: read, decode_microseconds: decode, resize_microseconds: resize } = part;
        println!("one image of the {source}: read {read:.0} µs, decode {decode:.0} µs, resize {resize:.0} µs");
    }
    let record = Record {
        schema: 1,
        date: jiff::Timestamp::now(),
        winsign: env!("CARGO_PKG_VERSION"),
        commit: commit(),
        cpu,
        cores,
        load_before,
        description: format!(
            "{IMAGES} JPEGs of {} × {} and {:.1} KB, each loaded twice a turn in random order; RandomResizedCrop {SIDE} \
             (scale {SCALE:?}) and flip in batches of {}, {} threads or workers; {TURNS} turns each, alternating; \
             ratios are medians of the turns' ratios; images per second; page cache warm; torchvision returns normalized floats, winsign and FFCV return bytes",
            SIZE.0,
            SIZE.1,
            bytes / 1e3,
            OPTIONS.batch,
            OPTIONS.threads
        ),
        loaders,
        memory,
        parts,
    };
    let results = Path::new(REPOSITORY).join("results/bench");
    fs::create_dir_all(&results)?;
    fs::write(results.join("loading.json"), serde_json::to_string_pretty(&record)? + "\n")?;
    println!("written to results/bench/loading.json");
    Ok(())
}

const TORCHVISION: &str = "torchvision ImageFolder, DataLoader";
const FFCV: &str = "FFCV, original size";
const FFCV_SMALL: &str = "FFCV, shorter side 256";

/// Returns how training views the images of an epoch.
fn view(epoch: u64) -> View {
    View::Random { side: SIDE, scale: SCALE, draws: Source::new(1, "bench", epoch) }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Loads all images twice with winsign; returns the images per second.
fn load(source: &Arc<ImageSource>, epoch: u64) -> Result<f64> {
    let shuffled = Source::new(1, "order", epoch).permutation(SEEN);
    let order = shuffled.iter().map(|&index| index as usize % IMAGES).collect();
    let began = Instant::now();
    let mut seen = 0;
    for batch in batches(source.clone(), Split::Train, order, view(epoch), OPTIONS) {
        seen += black_box(batch?).labels.len();
    }
    assert_eq!(seen, SEEN);
    Ok(seen as f64 / began.elapsed().as_secs_f64())
}

/// Runs a program in benches/opponents; returns the number that it prints.
fn run_opponent(python: &str, program: &str, arguments: &[String]) -> Result<f64> {
    let path = Path::new(REPOSITORY).join("benches/opponents").join(program);
    let output = Command::new(python).arg(path).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.trim().lines().last().unwrap_or_default().parse()?)
}

/// Loads an epoch of a folder, and prints the peak memory of this process in bytes.
fn print_peak_memory(folder: &Path) -> Result<()> {
    let listing = imagenet::list(folder)?;
    let order: Vec<usize> = (0..listing.train.len()).collect();
    let source = Arc::new(ImageSource::Folder(listing));
    for batch in batches(source, Split::Train, order, view(0), OPTIONS) {
        black_box(batch?);
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    println!("{}", kilobytes * 1024);
    Ok(())
}

/// Measures the times of the parts of loading an image, on one thread.
fn measure_parts(name: &'static str, source: &ImageSource) -> Result<Part> {
    const COUNT: usize = 300;
    let draws = Source::new(1, "resized-crop", 0);
    let (mut decoder, mut resizer, mut buffer) = (Decoder::new(), Resizer::new(), vec![]);
    let mut pixels = vec![0; SIDE * SIDE * 3];
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let (mut read, mut both, mut resize) = (0.0, 0.0, 0.0);
    for index in 0..COUNT {
        let began = Instant::now();
        let bytes = black_box(source.bytes(Split::Train, index, &mut buffer)?);
        read += began.elapsed().as_secs_f64();
        let image = decode(bytes)?;
        let region = random_region(image.width, image.height, SCALE, &mut draws.stream(index as u64));
        let began = Instant::now();
        decoder.decode_region(bytes, |_, _| region, SIDE, false, &mut pixels)?;
        both += began.elapsed().as_secs_f64();

        let whole = TypedImageRef::<U8x3>::from_buffer(image.width as u32, image.height as u32, &image.pixels)?;
        let [left, top, width, height] = [region.left, region.top, region.width, region.height].map(|it| it as u32);
        let cropped = TypedCroppedImage::from_ref(&whole, left, top, width, height)?;
        let mut result = TypedImage::<U8x3>::from_buffer(SIDE as u32, SIDE as u32, &mut pixels)?;
        let began = Instant::now();
        resizer.resize_typed(&cropped, &mut result, &options)?;
        resize += began.elapsed().as_secs_f64();
    }
    let each = |seconds: f64| seconds * 1e6 / COUNT as f64;
    Ok(Part {
        source: name,
        read_microseconds: each(read),
        decode_microseconds: each(both - resize),
        resize_microseconds: each(resize),
    })
}

/// Writes images in class folders; returns their mean size in bytes.
fn make_images(folder: &Path) -> Result<f64> {
    let mut bytes = 0;
    for number in 0..IMAGES {
        let file = encode_jpeg(&picture(number as u64), 90)?;
        bytes += file.len();
        let class = format!("n{:08}", number % CLASSES);
        for part in ["train", "val"] {
            let class = folder.join(part).join(&class);
            fs::create_dir_all(&class)?;
            if part == "train" || number < CLASSES {
                fs::write(class.join(format!("{number:06}.JPEG")), &file)?;
            }
        }
    }
    Ok(bytes as f64 / IMAGES as f64)
}

/// Makes an image with large shapes, edges and fine detail, like a photograph: noise of all scales, with stronger coarse noise.
fn picture(number: u64) -> Rgb {
    let (width, height) = if number.is_multiple_of(5) { (SIZE.1, SIZE.0) } else { SIZE };
    let mut draws = Source::new(7, "picture", 0).stream(number);
    let mut values = vec![128.0f32; width * height * 3];
    for (cell, strength) in [(128, 70.0), (48, 50.0), (16, 36.0), (6, 34.0), (2, 50.0), (1, 46.0)] {
        let (columns, rows) = (width / cell + 2, height / cell + 2);
        let mut corner = || (draws.uniform() as f32 - 0.5) * strength;
        let gray: Vec<f32> = (0..columns * rows).map(|_| corner()).collect();
        let color: Vec<f32> = (0..columns * rows * 3).map(|_| corner() * 0.4).collect();
        for y in 0..height {
            for x in 0..width {
                let (column, row) = (x / cell, y / cell);
                let (right, down) = ((x % cell) as f32 / cell as f32, (y % cell) as f32 / cell as f32);
                let at = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(x, y)| (row + y) * columns + column + x);
                let share = [(1.0 - right) * (1.0 - down), right * (1.0 - down), (1.0 - right) * down, right * down];
                for channel in 0..3 {
                    let sum: f32 = (0..4).map(|n| share[n] * (gray[at[n]] + color[3 * at[n] + channel])).sum();
                    values[(y * width + x) * 3 + channel] += sum;
                }
            }
        }
    }
    // These rectangles add hard edges.
    for _ in 0..4 {
        let mut below = |n: usize| draws.below(n as u64) as usize;
        let (left, top) = (below(width), below(height));
        let (right, bottom) = ((left + 20 + below(80)).min(width), (top + 20 + below(80)).min(height));
        let shift = below(120) as f32 - 60.0;
        for y in top..bottom {
            for value in &mut values[(y * width + left) * 3..(y * width + right) * 3] {
                *value += shift;
            }
        }
    }
    Rgb { width, height, pixels: values.iter().map(|value| value.clamp(0.0, 255.0) as u8).collect() }
}

/// Makes a folder with every training image several times, as hard links.
fn copy_links(from: &Path, to: &Path, copies: usize) -> Result<()> {
    let Listing { train, test, .. } = imagenet::list(from)?;
    for (entries, copies, part) in [(train, copies, "train"), (test, 1, "val")] {
        for entry in entries {
            let class = entry.path.parent().and_then(Path::file_name).ok_or("a class folder")?;
            let folder: PathBuf = to.join(part).join(class);
            fs::create_dir_all(&folder)?;
            let name = entry.path.file_name().ok_or("a name")?.to_string_lossy().into_owned();
            for copy in 0..copies {
                fs::hard_link(&entry.path, folder.join(format!("{copy}-{name}")))?;
            }
        }
    }
    Ok(())
}

fn table(loaders: &[Loader]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["images/s", "min", "median", "max", "× torchvision", "goal", "× FFCV"]);
    for loader in loaders {
        let whole = |speed: f64| format!("{speed:.0}");
        let ratio = |ratio: Option<f64>| ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        table.add_row([
            loader.name.to_string(),
            whole(loader.min),
            whole(loader.median),
            whole(loader.max),
            ratio(loader.over_torchvision),
            loader.goal.map(|goal| format!("≥ {goal}")).unwrap_or_default(),
            ratio(loader.over_ffcv),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Returns the name of the processor, and the load average.
fn describe_machine() -> Result<(String, f64)> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let name = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    let load = fs::read_to_string("/proc/loadavg")?;
    let name = name.map_or("unknown CPU", |(_, name)| name.trim()).to_string();
    Ok((name, load.split(' ').next().unwrap_or_default().parse()?))
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["-C", REPOSITORY, "rev-parse", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
