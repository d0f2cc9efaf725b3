//! Checkpoints: the state from which a training resumes as if it had never stopped.

use std::collections::BTreeMap;

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use winsign_core::results::EpochMetrics;
use winsign_core::settings::Optimizer;
use winsign_core::tensors::TensorFile;

use super::optimizer::fresh_moments;
use crate::model::Weights;
use crate::model::weights::{raw, tensor};

/// The prefix of the names of moments; their order is that of the names.
const MOMENT: &str = "moment ";

/// The state of a training between two steps, which a checkpoint holds. [`super::train`] works on it.
#[derive(Debug)]
pub struct Checkpoint {
    pub weights: Weights,
    /// The moments of the optimizer: see [`fresh_moments`].
    pub moments: Vec<Tensor>,
    /// The loss of each step of the epoch so far; shape (steps).
    pub losses: Tensor,
    /// The number of misclassified images of each step of the epoch so far; shape (steps).
    pub wrong: Tensor,
    pub place: Place,
}

/// The position in a training, and the metrics before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The current epoch, counted from 1.
    pub epoch: u32,
    /// The next step, counted from 0.
    pub step: u32,
    /// The metrics of the finished epochs.
    pub metrics: Vec<EpochMetrics>,
}

impl Checkpoint {
    /// Returns the state before the first step, from the given weights; `steps` is the number of steps of an epoch.
    pub fn new(weights: Weights, optimizer: Optimizer, steps: u32) -> Checkpoint {
        let per_step = || Tensor::zeros([steps.into()], (Kind::Float, weights.parameters.device()));
        Checkpoint {
            moments: fresh_moments(optimizer, &weights.parameters),
            losses: per_step(),
            wrong: per_step(),
            place: Place { epoch: 1, step: 0, metrics: vec![] },
            weights,
        }
    }

    /// Moves the state to a device.
    pub fn on(self, device: Device) -> Checkpoint {
        let Checkpoint { weights, moments, losses, wrong, place } = self;
        Checkpoint {
            weights: weights.on(device),
            moments: moments.into_iter().map(|moment| moment.to_device(device)).collect(),
            losses: losses.to_device(device),
            wrong: wrong.to_device(device),
            place,
        }
    }

    /// Converts the state to a file.
    pub fn to_file(&self) -> TensorFile {
        let tensors = self.named_tensors().into_iter().map(|(name, values)| {
            assert_eq!(values.kind(), Kind::Float, "{name}");
            (name, raw(values, Dtype::F32, &values.size()))
        });
        let metadata = serde_json::to_string(&self.place).expect("a position is plain data");
        TensorFile { tensors: tensors.collect::<BTreeMap<_, _>>(), metadata }
    }

    /// Reads the state from a file. The error describes the part that does not fit; only a file of another version can
    /// cause one.
    pub fn from_file(file: &TensorFile) -> Result<Checkpoint, String> {
        let find = |name: &str| file.tensors.get(name).map(tensor).ok_or_else(|| format!("it has no tensor {name}"));
        Ok(Checkpoint {
            weights: Weights { parameters: find("parameters")?, statistics: find("statistics")?, mask: find("mask")? },
            moments: file
                .tensors
                .keys()
                .filter(|name| name.starts_with(MOMENT))
                .map(|name| find(name))
                .collect::<Result<_, _>>()?,
            losses: find("losses")?,
            wrong: find("wrong")?,
            place: serde_json::from_str(&file.metadata).map_err(|error| error.to_string())?,
        })
    }

    /// Returns a checksum that differs between almost all states: the sums of the bits of each tensor.
    pub fn checksum(&self) -> Vec<u8> {
        let sum = |values: &Tensor| values.detach().view_dtype(Kind::Int).sum(Kind::Int64).int64_value(&[]);
        self.named_tensors().into_iter().flat_map(|(_, values)| sum(values).to_le_bytes()).collect()
    }

    fn named_tensors(&self) -> Vec<(String, &Tensor)> {
        let mut named = vec![
            ("parameters".to_string(), &self.weights.parameters),
            ("statistics".to_string(), &self.weights.statistics),
            ("mask".to_string(), &self.weights.mask),
            ("losses".to_string(), &self.losses),
            ("wrong".to_string(), &self.wrong),
        ];
        named.extend(self.moments.iter().enumerate().map(|(index, moment)| (format!("{MOMENT}{index}"), moment)));
        named
    }
}
