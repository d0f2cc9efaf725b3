//! Shapes: for each part a file of pixels and a file of labels.
//!
//! Pixels are in the order (image, channel, row, column). Labels are one byte each, counted from 0.

use std::fs;
use std::path::{Path, PathBuf};

use winsign_core::settings::Dataset;

use super::error::{Error, Result};
use super::synth::{self, Request, write_file};
use super::{Contents, Files, Images, SmallSet, Split, check};

const DATASET: Dataset = Dataset::Cifar10;
/// The name of the folder.
const FOLDER: &str = "shapes";

pub(crate) struct Shapes;

impl Files for Shapes {
    fn open(&self, root: &Path, _: usize) -> Result<Contents> {
        let folder = find(root)?;
        Ok(Contents::InMemory(SmallSet::read(|split| read(&folder, split))?))
    }

    fn check(&self, root: &Path, options: &check::Options) -> Result<Vec<check::Report>> {
        let folder = find(root)?;
        let report = check::Report::new(DATASET, folder.clone());
        Ok(vec![report.with_parts(options, |split| read(&folder, split))])
    }

    fn folder(&self, _: &Request) -> &'static str {
        FOLDER
    }

    fn synthesize(&self, folder: &Path, request: &Request, progress: &(dyn Fn() + Sync)) -> Result<()> {
        for split in [Split::Train, Split::Test] {
            let images = synth::images(request, split, progress);
            let labels: Vec<u8> = images.labels.iter().map(|&label| label as u8).collect();
            write_file(&folder.join(format!("{split}.pixels")), &images.pixels)?;
            write_file(&folder.join(format!("{split}.labels")), &labels)?;
        }
        Ok(())
    }
}

/// Returns the folder of the data set, which may be `root` itself.
fn find(root: &Path) -> Result<PathBuf> {
    let places = [root.join(FOLDER), root.to_path_buf()];
    let looked = places.iter().map(|place| place.join("train.pixels").display().to_string()).collect();
    let found = places.into_iter().find(|place| place.join("train.pixels").is_file());
    found.ok_or(Error::Missing { dataset: DATASET, looked })
}

fn read(folder: &Path, split: Split) -> Result<Images> {
    let bytes = |path: &Path| fs::read(path).map_err(Error::io("read", path));
    let path = folder.join(format!("{split}.labels"));
    let labels: Vec<u16> = bytes(&path)?.into_iter().map(u16::from).collect();
    let classes = DATASET.classes() as u16;
    if let Some(index) = labels.iter().position(|&label| label >= classes) {
        let reason = format!("label {index} is {}, which is not in 0..{}", labels[index], classes - 1);
        return Err(Error::malformed(&path, reason));
    }
    let path = folder.join(format!("{split}.pixels"));
    let pixels = bytes(&path)?;
    if labels.is_empty() || pixels.len() != labels.len() * 3 * 32 * 32 {
        let reason = format!("it has {} bytes, which are not {} images", pixels.len(), labels.len());
        return Err(Error::malformed(&path, reason));
    }
    Ok(Images { pixels, labels, ..Images::empty(DATASET) })
}
