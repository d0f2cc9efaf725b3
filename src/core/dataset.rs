//! The data sets: their names, and what is known of each without reading it.
//!
//! The list below is the only place that names them all, beside the registry of their files in the crate `data`. Sweep
//! files, error messages, the JSON Schema, the command line and the tests follow from it; `docs/guides/adding-a-dataset.md` says
//! how to add one.

/// What is known of a data set without reading it.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The name that the publisher uses.
    pub title: &'static str,
    /// The address at which the data set is published; `None` if it is built into the program.
    pub published_at: Option<&'static str>,
    /// The numbers of training images and of test images.
    pub images: [usize; 2],
    pub classes: i64,
    /// Whether all classes of a part have the same number of images, if that number is whole.
    pub even_classes: bool,
    /// The number of channels of an image as networks see it.
    pub channels: i64,
    /// The height of an image as networks see it, which equals its width, in pixels.
    pub side: i64,
    /// The largest value of a pixel.
    pub white: f32,
    /// The mean of each channel, as a fraction of `white`.
    pub mean: &'static [f32],
    /// The standard deviation of each channel, as a fraction of `white`.
    pub deviation: &'static [f32],
    pub augmentation: Augmentation,
    /// The default settings of a study.
    pub recipe: Recipe,
}

/// The augmentation of training images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Augmentation {
    /// Images are shifted by up to `pixels` pixels in each direction and padded with zeros; if `flips` is true, half of
    /// them are mirrored.
    Shift { pixels: i64, flips: bool },
    /// Images are cropped to a region with an area in the range `scale`, as a fraction of that of the image, and an
    /// aspect ratio in 3/4..=4/3, and resized; half of them are mirrored.
    ResizedCrop { scale: (f64, f64) },
}

/// Default settings that data sets share; the crate `sweep` has their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// Small enough for a quickstart on one core.
    Quick,
    /// Gray images of 28×28 pixels.
    GrayImages,
    /// The small images of the paper.
    SmallImages,
    /// ImageNet, as in the paper.
    LargeImages,
}

declared! {
    /// A data set. Sweep files and the canonical JSON have its name in lower case.
    pub enum Dataset: pub Facts {
        /// 1,797 handwritten digits of 8×8 pixels, built into the worker.
        Digits "digits" {
            title: "Optical Recognition of Handwritten Digits",
            published_at: None,
            images: [1_437, 360],
            classes: 10,
            even_classes: false,
            channels: 1,
            side: 8,
            white: 16.0,
            mean: &[0.305375],
            deviation: &[0.3755],
            augmentation: Augmentation::Shift { pixels: 2, flips: false },
            recipe: Recipe::Quick,
        }
        /// 70,000 handwritten digits of 28×28 pixels.
        Mnist "mnist" {
            title: "MNIST",
            published_at: Some("http://yann.lecun.com/exdb/mnist/"),
            images: [60_000, 10_000],
            classes: 10,
            even_classes: false,
            channels: 1,
            side: 28,
            white: 255.0,
            mean: &[0.1307],
            deviation: &[0.3081],
            augmentation: Augmentation::Shift { pixels: 2, flips: false },
            recipe: Recipe::GrayImages,
        }
        /// 70,000 articles of clothing of 28×28 pixels, in the format of MNIST.
        FashionMnist "fashion-mnist" {
            title: "Fashion-MNIST",
            published_at: Some("https://github.com/zalandoresearch/fashion-mnist"),
            even_classes: true,
            mean: &[0.2860],
            deviation: &[0.3530],
            augmentation: Augmentation::Shift { pixels: 2, flips: true },
            ..Dataset::Mnist.facts()
        }
        /// 60,000 photographs of 10 classes, of 32×32 pixels.
        Cifar10 "cifar10" {
            title: "CIFAR-10",
            published_at: Some("https://www.cs.toronto.edu/~kriz/cifar.html"),
            images: [50_000, 10_000],
            classes: 10,
            even_classes: true,
            channels: 3,
            side: 32,
            white: 255.0,
            mean: &[0.4914, 0.4822, 0.4465],
            deviation: &[0.2023, 0.1994, 0.2010],
            augmentation: Augmentation::Shift { pixels: 4, flips: true },
            recipe: Recipe::SmallImages,
        }
        /// 60,000 photographs of 100 classes, of 32×32 pixels.
        Cifar100 "cifar100" {
            title: "CIFAR-100",
            classes: 100,
            ..Dataset::Cifar10.facts()
        }
        /// Tiny-ImageNet-200.
        TinyImagenet "tiny-imagenet" {
            title: "Tiny-ImageNet-200",
            published_at: Some("http://cs231n.stanford.edu/tiny-imagenet-200.zip"),
            images: [100_000, 10_000],
            classes: 200,
            side: 64,
            augmentation: Augmentation::ResizedCrop { scale: (0.5, 1.0) },
            recipe: Recipe::SmallImages,
            ..Dataset::Imagenet.facts()
        }
        /// The classification task of ILSVRC 2012.
        Imagenet "imagenet" {
            title: "ImageNet (ILSVRC 2012)",
            published_at: Some("https://image-net.org/download.php"),
            images: [1_281_167, 50_000],
            classes: 1_000,
            even_classes: true,
            channels: 3,
            side: 224,
            white: 255.0,
            mean: &[0.485, 0.456, 0.406],
            deviation: &[0.229, 0.224, 0.225],
            augmentation: Augmentation::ResizedCrop { scale: (0.08, 1.0) },
            recipe: Recipe::LargeImages,
        }
    }
}

impl Dataset {
    /// Returns the shape of one image as networks see it: the number of channels, and the height, which equals the
    /// width, in pixels.
    pub fn image_shape(self) -> (i64, i64) {
        (self.facts().channels, self.facts().side)
    }

    /// Returns the number of classes.
    pub fn classes(self) -> i64 {
        self.facts().classes
    }

    /// Returns true if architectures are built in their ImageNet variants, which shrink images early.
    pub fn has_large_images(self) -> bool {
        self.facts().side > 64
    }
}
