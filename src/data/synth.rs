//! Small synthetic data sets in the formats of the real ones, for trying things out and for tests.
//!
//! Every class is a smooth pattern of colors; an image is the pattern of its class, shifted, with changed brightness
//! and noise. An image is a function of (seed, part, index) and the number of classes alone.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use winsign_core::random::{Source, Stream};
use winsign_core::settings::Dataset;

use super::cifar::Format;
use super::error::{Error, Result};
use super::image::{ImageError, Rgb, encode_jpeg};
use super::parallel::{processors, try_map};
use super::{Files, Images, Split, on_disk};

/// The options of a synthetic set.
#[derive(Debug, Clone)]
pub struct Request {
    pub like: Dataset,
    pub train: usize,
    pub test: usize,
    /// The number of classes that have images. By default such that each class has 20 training images, as far as the
    /// published set has that many classes.
    pub classes: Option<usize>,
    pub seed: u64,
    /// The version of a CIFAR set; the binary version by default.
    pub format: Option<Format>,
    /// The layout of image folders: for Tiny-ImageNet as published by default, for ImageNet class folders.
    pub layout: Option<Layout>,
}

/// The layout of image files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, strum::Display)]
#[strum(serialize_all = "kebab-case")]
pub enum Layout {
    /// Tiny-ImageNet: as published, with annotations
    Original,
    /// Tiny-ImageNet: class folders
    PerClass,
    /// ImageNet: class folders
    Folders,
    /// ImageNet: flat validation images, and the devkit
    Devkit,
    /// ImageNet: Kaggle's folders, flat validation images, and its table
    Kaggle,
}

impl Request {
    /// Returns a request for a set with these numbers of training images and test images, and the default options.
    pub fn new(like: Dataset, train: usize, test: usize) -> Request {
        Request { like, train, test, classes: None, seed: 1, format: None, layout: None }
    }

    pub(crate) fn classes(&self) -> usize {
        self.classes.unwrap_or((self.train / 20).clamp(2, self.most_classes()).min(self.train))
    }

    fn validate(&self, files: &dyn Files) -> Result<()> {
        let (like, classes) = (self.like, self.classes());
        let wrong = |reason: String| Err(Error::Request(reason));
        if let Some(format) = self.format.filter(|format| !files.formats().contains(format)) {
            return wrong(format!("{like} has no {format} version, only CIFAR has"));
        }
        if let Some(layout) = self.layout.filter(|layout| !files.layouts().contains(layout)) {
            return wrong(format!("{like} has no layout {layout}"));
        }
        let least = files.least_train();
        if self.train < least || self.test == 0 {
            return wrong(format!("{like} needs at least {least} training images and one test image"));
        }
        for split in [Split::Train, Split::Test] {
            let (wanted, published) = (self.count(split), split.published(like));
            if wanted > published {
                return wrong(format!("cannot make {wanted} {split} images: the published {like} has {published}"));
            }
        }
        let most = self.most_classes().min(self.train);
        if classes == 0 || classes > most {
            return wrong(format!("{} training images of {like} need 1 to {most} classes", self.train));
        }
        Ok(())
    }

    fn most_classes(&self) -> usize {
        self.like.classes() as usize
    }

    fn count(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Test => self.test,
        }
    }

    /// Returns the class of each image: classes have the same number of images, up to one, in random order.
    pub(crate) fn labels(&self, split: Split) -> Vec<usize> {
        let order = Source::new(self.seed, &format!("synth {split} order"), 0).permutation(self.count(split));
        order.into_iter().map(|rank| rank as usize % self.classes()).collect()
    }
}

/// Writes a set below `root`, in a folder with the name that the publisher uses, and returns that folder. `progress` is
/// called for every image. The set appears atomically, and an existing folder is never overwritten.
pub fn write(root: &Path, request: &Request, progress: &(dyn Fn() + Sync)) -> Result<PathBuf> {
    let Some((_, files)) = on_disk().find(|(dataset, _)| *dataset == request.like) else {
        return Err(Error::Request(format!("{} has no files: it is built in", request.like)));
    };
    request.validate(files)?;
    let name = files.folder(request);
    let target = root.join(name);
    if fs::symlink_metadata(&target).is_ok() {
        return Err(Error::Exists { path: target });
    }
    fs::create_dir_all(root).map_err(Error::io("create the folder", root))?;
    let draft = tempfile::Builder::new().prefix(".synth-").tempdir_in(root).map_err(Error::io("write in", root))?;
    let folder = draft.path().join(name);
    create(&folder)?;
    files.synthesize(&folder, request, progress)?;
    match fs::rename(&folder, &target) {
        // Another process has created it meanwhile.
        Err(_) if target.exists() => Err(Error::Exists { path: target }),
        renamed => renamed.map(|()| target.clone()).map_err(Error::io("write", &target)),
    }
}

/// Returns the images of a part, of the shape and with the number of channels that the data set has.
pub(crate) fn images(request: &Request, split: Split, progress: &(dyn Fn() + Sync)) -> Images {
    let empty = Images::empty(request.like);
    let (patterns, labels) = (patterns(request), request.labels(split));
    let draw = |(index, &label): (usize, &usize)| {
        progress();
        let image = patterns[label].image(request, split, index, empty.side, empty.side);
        Ok::<_, Infallible>(if empty.channels == 1 { gray(&image) } else { planar(&image) })
    };
    let Ok(pixels) = try_map(processors(), labels.iter().enumerate(), draw);
    Images { pixels: pixels.concat(), labels: labels.into_iter().map(|label| label as u16).collect(), ..empty }
}

/// The kind of an image file.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Color,
    Gray,
    Cmyk,
    /// A PNG in a file with the name of a JPEG.
    Png,
}

/// Writes the images of both parts. The functions give the path, the (width, height) and the kind of each image.
pub(crate) fn write_images(
    request: &Request,
    path: &(dyn Fn(Split, usize, usize) -> PathBuf + Sync),
    size: &(dyn Fn(Split, usize) -> (usize, usize) + Sync),
    kind: &(dyn Fn(Split, usize) -> Kind + Sync),
    progress: &(dyn Fn() + Sync),
) -> Result<()> {
    for split in [Split::Train, Split::Test] {
        let labels = request.labels(split);
        for (index, &label) in labels.iter().enumerate() {
            let path = path(split, index, label);
            create(path.parent().expect("an image lies in a folder"))?;
        }
        let patterns = patterns(request);
        try_map(processors(), labels.iter().enumerate(), |(index, &label)| {
            let path = path(split, index, label);
            let (width, height) = size(split, index);
            let image = patterns[label].image(request, split, index, width, height);
            let bytes =
                encode(&image, kind(split, index)).map_err(|error| Error::malformed(&path, error.to_string()))?;
            write_file(&path, &bytes)?;
            progress();
            Ok::<_, Error>(())
        })?;
    }
    Ok(())
}

fn encode(image: &Rgb, kind: Kind) -> std::result::Result<Vec<u8>, ImageError> {
    let Rgb { width, height, pixels } = image;
    match kind {
        Kind::Color => encode_jpeg(image, QUALITY),
        Kind::Gray => compress(turbojpeg::PixelFormat::GRAY, turbojpeg::Subsamp::Gray, *width, *height, &gray(image)),
        Kind::Cmyk => {
            // Inverted, as Adobe programs write it: light is stored, not ink.
            let cmyk: Vec<u8> = pixels.chunks_exact(3).flat_map(|rgb| [rgb[0], rgb[1], rgb[2], 255]).collect();
            compress(turbojpeg::PixelFormat::CMYK, turbojpeg::Subsamp::None, *width, *height, &cmyk)
        }
        Kind::Png => {
            let mut bytes = vec![];
            let mut encoder = png::Encoder::new(&mut bytes, *width as u32, *height as u32);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_compression(png::Compression::Fast);
            let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(pixels));
            written.map(|()| bytes).map_err(|error| ImageError::Png(error.to_string()))
        }
    }
}

const QUALITY: i32 = 90;

fn compress(
    format: turbojpeg::PixelFormat,
    subsampling: turbojpeg::Subsamp,
    width: usize,
    height: usize,
    pixels: &[u8],
) -> std::result::Result<Vec<u8>, ImageError> {
    let image = turbojpeg::Image { pixels, width, pitch: width * format.size(), height, format };
    let packed = turbojpeg::compress(image, QUALITY, subsampling);
    packed.map(|packed| packed.to_vec()).map_err(|error| ImageError::Encode(error.to_string()))
}

/// The pattern of a class: for each channel a mean, and waves across the image.
struct Pattern {
    means: [f64; 3],
    waves: [[Wave; 3]; 3],
}

struct Wave {
    /// The number of periods across the width, and across the height.
    periods: (f64, f64),
    phase: f64,
    height: f64,
}

fn patterns(request: &Request) -> Vec<Pattern> {
    (0..request.classes() as u64)
        .map(|class| Pattern::new(&mut Source::new(request.seed, "synth class", 0).stream(class)))
        .collect()
}

impl Pattern {
    fn new(stream: &mut Stream) -> Pattern {
        let mut between = |low: f64, high: f64| low + (high - low) * stream.uniform();
        Pattern {
            means: std::array::from_fn(|_| between(80.0, 175.0)),
            waves: std::array::from_fn(|_| {
                std::array::from_fn(|_| Wave {
                    periods: (between(-2.5, 2.5), between(-2.5, 2.5)),
                    phase: between(0.0, std::f64::consts::TAU),
                    height: between(10.0, 30.0),
                })
            }),
        }
    }

    /// Returns an image: the pattern shifted by up to a tenth of the image, darker or lighter, and with noise.
    fn image(&self, request: &Request, split: Split, index: usize, width: usize, height: usize) -> Rgb {
        let mut stream = Source::new(request.seed, &format!("synth {split} image"), 0).stream(index as u64);
        let mut within = |reach: f64| reach * (2.0 * stream.uniform() - 1.0);
        let (right, down) = (within(0.1), within(0.1));
        let (light, contrast) = (within(25.0), 1.0 + within(0.25));
        let mut pixels = vec![0; width * height * 3];
        for (channel, waves) in self.waves.iter().enumerate() {
            // By the addition theorem, the waves need only cosines and sines of the rows and of the columns.
            let angles = |length: usize, moved: f64, periods: f64, phase: f64| -> Vec<(f32, f32)> {
                let angle = |at| std::f64::consts::TAU * periods * (at as f64 / length as f64 + moved) + phase;
                (0..length).map(|at| (angle(at).cos() as f32, angle(at).sin() as f32)).collect()
            };
            let columns = waves.each_ref().map(|wave| angles(width, right, wave.periods.0, wave.phase));
            let rows = waves.each_ref().map(|wave| angles(height, down, wave.periods.1, 0.0));
            let crests = waves.each_ref().map(|wave| (wave.height * contrast) as f32);
            let base = (self.means[channel] + light) as f32;
            for row in 0..height {
                for column in 0..width {
                    let wave = |wave: usize| {
                        let ((cos_x, sin_x), (cos_y, sin_y)) = (columns[wave][column], rows[wave][row]);
                        crests[wave] * (cos_x * cos_y - sin_x * sin_y)
                    };
                    let value = base + wave(0) + wave(1) + wave(2);
                    pixels[(row * width + column) * 3 + channel] = value.clamp(0.0, 255.0) as u8;
                }
            }
        }
        for chunk in pixels.chunks_mut(8) {
            for (pixel, noise) in chunk.iter_mut().zip(stream.bits().to_le_bytes()) {
                *pixel = pixel.saturating_add_signed((noise as i8) / NOISE);
            }
        }
        Rgb { width, height, pixels }
    }
}

/// The divisor of the noise, which is uniform within ±128 before the division.
const NOISE: i8 = 8;

/// Converts interleaved pixels to the order (channel, row, column).
fn planar(image: &Rgb) -> Vec<u8> {
    (0..3).flat_map(|channel| image.pixels.iter().skip(channel).step_by(3).copied()).collect()
}

/// Converts interleaved pixels to gray ones.
fn gray(image: &Rgb) -> Vec<u8> {
    image.pixels.iter().skip(1).step_by(3).copied().collect()
}

pub(crate) fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::super::cifar::{self, Cifar};
    use super::super::{SmallSet, imagenet, tiny_imagenet};
    use super::*;

    fn request(like: Dataset, train: usize, test: usize) -> Request {
        Request { like, train, test, classes: None, seed: 1, format: None, layout: None }
    }

    fn written(root: &Path, request: &Request) -> PathBuf {
        write(root, request, &|| ()).unwrap()
    }

    /// Returns the error in percent of a classifier that chooses the class with the nearest mean training image.
    fn error_of_nearest_mean(set: &SmallSet) -> f64 {
        let classes = 1 + usize::from(*set.train.labels.iter().max().unwrap());
        let mut means = vec![(vec![0.0; set.train.pixels_of(0).len()], 0.0); classes];
        let images = |images: &Images| (0..images.len()).map(|image| (image, images.labels[image])).collect::<Vec<_>>();
        for (image, label) in images(&set.train) {
            let (sum, count) = &mut means[usize::from(label)];
            sum.iter_mut().zip(set.train.pixels_of(image)).for_each(|(sum, &pixel)| *sum += f64::from(pixel));
            *count += 1.0;
        }
        let wrong = images(&set.test).into_iter().filter(|&(image, label)| {
            let distance = |(sum, count): &(Vec<f64>, f64)| -> f64 {
                sum.iter()
                    .zip(set.test.pixels_of(image))
                    .map(|(sum, &pixel)| (sum / count - f64::from(pixel)).powi(2))
                    .sum()
            };
            let distances: Vec<f64> = means.iter().map(distance).collect();
            let nearest = (0..classes).min_by(|&a, &b| distances[a].total_cmp(&distances[b])).unwrap();
            nearest != usize::from(label)
        });
        100.0 * wrong.count() as f64 / set.test.len() as f64
    }

    #[test]
    fn classes_can_be_learned_and_are_not_trivial_copies() {
        let root = tempfile::tempdir().unwrap();
        written(root.path(), &request(Dataset::Cifar100, 400, 100));
        let set = cifar::load(root.path(), Cifar::Hundred).unwrap();
        assert_eq!(set.train.labels.iter().max(), Some(&19), "20 images a class");
        let error = error_of_nearest_mean(&set);
        assert!(error < 30.0, "chance is 95 %, not {error} %");
        assert_ne!(set.train.pixels_of(0), set.test.pixels_of(0));
    }

    #[test]
    fn versions_of_cifar_have_the_same_images_unless_the_seed_differs() {
        for (like, cifar) in [(Dataset::Cifar10, Cifar::Ten), (Dataset::Cifar100, Cifar::Hundred)] {
            let root = tempfile::tempdir().unwrap();
            let request = Request { classes: Some(7), ..request(like, 33, 12) };
            let binary = written(root.path(), &request);
            let python = written(root.path(), &Request { format: Some(Format::Python), ..request.clone() });
            let set = cifar::load(&binary, cifar).unwrap();
            assert_eq!(set, cifar::load(&python, cifar).unwrap());
            assert_eq!((set.train.len(), set.test.len()), (33, 12));
            let mut counts = [0; 7];
            set.train.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
            assert!(counts.iter().all(|&count| count == 4 || count == 5), "{counts:?}");
            let elsewhere = tempfile::tempdir().unwrap();
            written(elsewhere.path(), &Request { seed: 2, ..request });
            assert_ne!(cifar::load(elsewhere.path(), cifar).unwrap(), set);
        }
    }

    #[test]
    fn every_layout_gives_the_same_images_and_labels() {
        let load = |layout| {
            let root = tempfile::tempdir().unwrap();
            written(root.path(), &Request { layout, classes: Some(3), ..request(Dataset::TinyImagenet, 12, 10) });
            tiny_imagenet::load(root.path(), 2).unwrap()
        };
        let original = load(Some(Layout::Original));
        assert_eq!(load(None), original);
        let per_class = load(Some(Layout::PerClass));
        assert_eq!(per_class.train, original.train);
        let sorted = |images: &Images| {
            let mut all: Vec<_> =
                (0..images.len()).map(|at| (images.labels[at], images.pixels_of(at).to_vec())).collect();
            all.sort();
            all
        };
        assert_eq!(sorted(&per_class.test), sorted(&original.test));

        let list = |layout| {
            let root = tempfile::tempdir().unwrap();
            written(
                root.path(),
                &Request { layout: Some(layout), classes: Some(3), ..request(Dataset::Imagenet, 12, 10) },
            );
            let listing = imagenet::list(root.path()).unwrap();
            let content = |entry: &super::super::Entry| {
                (entry.path.file_name().unwrap().to_owned(), entry.label, fs::read(&entry.path).unwrap())
            };
            let all = listing.train.iter().chain(&listing.test);
            let mut all: Vec<_> = all.map(content).collect();
            all.sort();
            all
        };
        let folders = list(Layout::Folders);
        assert_eq!(folders.len(), 22);
        assert!(list(Layout::Devkit) == folders && list(Layout::Kaggle) == folders);
    }

    #[test]
    fn existing_folders_and_invalid_requests_are_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("cifar-10-batches-bin")).unwrap();
        let error = write(root.path(), &request(Dataset::Cifar10, 10, 5), &|| ()).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        let wrong = [
            Request { layout: Some(Layout::Kaggle), ..request(Dataset::TinyImagenet, 10, 5) },
            Request { layout: Some(Layout::Original), ..request(Dataset::Cifar100, 10, 5) },
            Request { format: Some(Format::Python), ..request(Dataset::Imagenet, 10, 5) },
            Request { classes: Some(11), ..request(Dataset::TinyImagenet, 10, 5) },
            Request { classes: Some(101), ..request(Dataset::Cifar100, 1_000, 5) },
            Request { classes: Some(0), ..request(Dataset::Cifar100, 1_000, 5) },
            request(Dataset::Cifar10, 4, 1),
            request(Dataset::Digits, 10, 5),
            request(Dataset::Imagenet, 10, 0),
        ];
        for request in wrong {
            let error = write(root.path(), &request, &|| ()).unwrap_err();
            assert!(matches!(error, Error::Request(_)), "{request:?}: {error}");
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left");
    }
}
