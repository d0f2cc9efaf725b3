//! Data sets that are read and decoded during the training, several batches ahead.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use winsign_core::dataset::{Augmentation, Facts};
use winsign_core::random::Source;
use winsign_data::stream::{self, ImageBatch, ImageSource, Options, View};
use winsign_data::{Result, Split};

use crate::device::upload;

/// The number of batches that are prepared ahead. Memory holds one more than these, with 150,528 bytes per image: 193
/// MB for batches of 256.
const AHEAD: usize = 4;

/// The number of images of each part whose bytes enter the fingerprint.
const SAMPLED: usize = 64;

/// A data set on disk.
pub(super) struct Streamed {
    source: Arc<ImageSource>,
    /// See [`super::Data::fingerprint`].
    pub fingerprint: String,
    /// The height and width of network inputs in pixels.
    side: usize,
    /// The range of areas of random crops for training, as fractions of the area of the image.
    scale: (f64, f64),
    threads: usize,
    device: Device,
}

impl Streamed {
    pub(super) fn new(source: ImageSource, facts: &Facts, threads: usize) -> Result<Streamed> {
        let Augmentation::ResizedCrop { scale } = facts.augmentation else {
            unreachable!("{} is read in crops of any size, but declares {:?}", facts.title, facts.augmentation);
        };
        let (fingerprint, side) = (Streamed::fingerprint(&source)?, facts.side as usize);
        Ok(Streamed { source: Arc::new(source), fingerprint, side, scale, threads, device: Device::Cpu })
    }

    /// Returns the data set with its batches on a device. They are copied as bytes, while the device works.
    pub(super) fn on(self, device: Device) -> Streamed {
        Streamed { device, ..self }
    }

    /// Returns the fingerprint; see [`super::Data::fingerprint`]. It is the same for folders and for a pack with their
    /// unchanged files. Only some of the images are read, since all of them would take minutes.
    fn fingerprint(source: &ImageSource) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for class in source.classes() {
            hasher.update(class.as_bytes()).update(&[0]);
        }
        let mut buffer = vec![];
        for split in [Split::Train, Split::Test] {
            let count = source.count(split);
            hasher.update(&(count as u64).to_le_bytes());
            let labels: Vec<u8> = (0..count).flat_map(|index| source.label(split, index).to_le_bytes()).collect();
            hasher.update(&labels);
            for sample in 0..SAMPLED.min(count) {
                hasher.update(source.bytes(split, sample * count / SAMPLED.min(count), &mut buffer)?);
            }
        }
        Ok(hasher.finalize().to_hex()[..16].to_string())
    }

    /// Returns the number of images of a part.
    pub(super) fn count(&self, split: Split) -> i64 {
        self.source.count(split) as i64
    }

    /// Returns the training images `order` in batches of `batch`; the random numbers of the stream of an image
    /// determine its crop and whether it is mirrored.
    pub(super) fn train(
        &self,
        order: &[i64],
        draws: Source,
        batch: i64,
    ) -> impl Iterator<Item = Result<Pixels>> + use<> {
        self.batches(Split::Train, order, View::Random { side: self.side, scale: self.scale, draws }, batch)
    }

    /// Returns the images `order` of a part in batches of `batch` for evaluation: the center of each.
    pub(super) fn plain(
        &self,
        split: Split,
        order: Vec<i64>,
        batch: i64,
    ) -> impl Iterator<Item = Result<Pixels>> + use<> {
        // The shorter side is resized to 256 pixels for inputs of 224, as is usual.
        let short = self.side * 8 / 7;
        self.batches(split, &order, View::Center { side: self.side, short }, batch)
    }

    /// Returns a batch without images.
    pub(super) fn no_pixels(&self) -> Pixels {
        let side = self.side as i64;
        Pixels {
            pixels: Tensor::zeros([0, 3, side, side], (Kind::Uint8, self.device)),
            labels: Tensor::zeros([0], (Kind::Int64, self.device)),
        }
    }

    fn batches(
        &self,
        split: Split,
        order: &[i64],
        view: View,
        batch: i64,
    ) -> impl Iterator<Item = Result<Pixels>> + use<> {
        let order: Vec<usize> = order.iter().map(|&index| index as usize).collect();
        let options = Options { batch: batch as usize, first: 0, threads: self.threads, ahead: AHEAD };
        let (device, side) = (self.device, self.side as i64);
        stream::batches(self.source.clone(), split, order, view, options)
            .map(move |batch| Ok(Pixels::new(&batch?, side, device)))
    }
}

/// A batch as bytes.
pub(super) struct Pixels {
    /// The pixels as bytes; shape (batch, channels, height, width), with the channels of a pixel adjacent in memory.
    pub pixels: Tensor,
    pub labels: Tensor,
}

impl Pixels {
    fn new(batch: &ImageBatch, side: i64, device: Device) -> Pixels {
        let shape = [batch.labels.len() as i64, side, side, 3];
        Pixels {
            pixels: upload(&batch.pixels, device).view(shape).permute([0, 3, 1, 2]),
            labels: upload(&batch.labels, device),
        }
    }
}
