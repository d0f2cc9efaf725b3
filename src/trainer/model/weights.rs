//! The values of a network: flat tensors in memory, named tensors on disk.

use std::collections::{BTreeMap, HashSet};

use safetensors::tensor::Dtype;
use tch::{Device, Kind, Tensor};
use winsign_core::random::Source;
use winsign_core::results::LayerSurvivors;
use winsign_core::tensors::{RawTensor, TensorFile};

use super::{Init, Layout, Parameter, Role};

/// The maximum number of tensors that a message names.
const MAX_NAMED: usize = 8;

/// φ, ψ, BatchNorm statistics and the mask of one network. Masked weights are kept at zero, so a forward pass does not need
/// the mask.
#[derive(Debug)]
pub struct Weights {
    /// The parameters, a flat tensor of length [`Layout::parameters`].
    pub parameters: Tensor,
    /// The BatchNorm statistics, a flat tensor of length [`Layout::statistics`].
    pub statistics: Tensor,
    /// The mask, a flat tensor of length [`Layout::prunable`]: 1 for surviving weights, 0 for the others.
    pub mask: Tensor,
}

impl Weights {
    /// Returns a new dense network. Each value is a function of the seed, the name of its tensor and its index in it.
    pub fn initialize(layout: &Layout, seed: u64) -> Weights {
        let mut parameters = vec![0f32; layout.parameters() as usize];
        for tensor in &layout.tensors {
            let values = &mut parameters[tensor.start as usize..][..tensor.length() as usize];
            let mut stream = Source::new(seed, &format!("weights {}", tensor.name), 0).stream(0);
            values.fill_with(|| match tensor.init {
                Init::Constant(value) => value as f32,
                Init::Uniform { bound } => ((2.0 * stream.uniform() - 1.0) * bound) as f32,
                Init::Normal { deviation } => (stream.normal() * deviation) as f32,
            });
        }
        Weights {
            parameters: Tensor::from_slice(&parameters),
            statistics: layout.fresh_statistics(Kind::Float),
            mask: Tensor::ones([layout.prunable()], (Kind::Float, Device::Cpu)),
        }
    }

    /// Returns a copy that shares no storage with the original.
    pub fn copy(&self) -> Weights {
        Weights { parameters: self.parameters.copy(), statistics: self.statistics.copy(), mask: self.mask.copy() }
    }

    /// Returns the weights on a device. If they are already there, the storage is shared.
    pub fn on(&self, device: Device) -> Weights {
        let [parameters, statistics, mask] =
            [&self.parameters, &self.statistics, &self.mask].map(|flat| flat.to_device(device));
        Weights { parameters, statistics, mask }
    }

    /// Returns the number of surviving weights.
    pub fn survivors(&self) -> u64 {
        self.mask.sum(Kind::Double).double_value(&[]) as u64
    }

    /// Returns the fraction of the prunable weights that survive.
    pub fn remaining_ratio(&self) -> f64 {
        self.survivors() as f64 / self.mask.numel() as f64
    }

    /// Returns the number of surviving weights of each prunable tensor, in the order of the network.
    pub fn layers(&self, layout: &Layout) -> Vec<LayerSurvivors> {
        let prunable = layout.tensors.iter().filter(|tensor| tensor.role == Role::Prunable);
        let layer = |tensor: &Parameter| LayerSurvivors {
            name: tensor.name.clone(),
            survivors: self.mask.narrow(0, tensor.start, tensor.length()).sum(Kind::Double).double_value(&[]) as u64,
            prunable: tensor.length() as u64,
        };
        prunable.map(layer).collect()
    }

    /// Converts the network to a file with PyTorch's names; the mask of layer L is `L.mask`.
    pub fn to_file(&self, layout: &Layout) -> TensorFile {
        let mut tensors = BTreeMap::new();
        for tensor in &layout.tensors {
            let values = self.parameters.narrow(0, tensor.start, tensor.length());
            tensors.insert(tensor.name.clone(), raw(&values, Dtype::F32, &tensor.shape));
            if tensor.role == Role::Prunable {
                let mask = self.mask.narrow(0, tensor.start, tensor.length()).to_kind(Kind::Bool);
                tensors.insert(mask_name(&tensor.name), raw(&mask, Dtype::BOOL, &tensor.shape));
            }
        }
        for statistic in &layout.statistics {
            let values = self.statistics.narrow(0, statistic.start, statistic.length);
            tensors.insert(statistic.name.clone(), raw(&values, Dtype::F32, &[statistic.length]));
        }
        TensorFile { tensors, metadata: String::new() }
    }

    /// Reads a network that [`Weights::to_file`] converted. The error lists every tensor that is missing, is unknown or does not
    /// fit.
    pub fn from_file(layout: &Layout, file: &TensorFile) -> Result<Weights, String> {
        let expected = expected_tensors(layout);
        let differences = describe_differences(&expected, file);
        if !differences.is_empty() {
            return Err(differences);
        }
        let flat = |name: &str| tensor(&file.tensors[name]).view([-1]).to_kind(Kind::Float);
        let empty = |length| Tensor::zeros([length], (Kind::Float, Device::Cpu));
        let mut weights = Weights {
            parameters: empty(layout.parameters()),
            statistics: empty(layout.statistics()),
            mask: empty(layout.prunable()),
        };
        for tensor in &layout.tensors {
            fill(&weights.parameters, tensor.start, flat(&tensor.name));
            if tensor.role == Role::Prunable {
                fill(&weights.mask, tensor.start, flat(&mask_name(&tensor.name)));
            }
        }
        for statistic in &layout.statistics {
            fill(&weights.statistics, statistic.start, flat(&statistic.name));
        }
        weights.apply_mask(layout);
        Ok(weights)
    }

    /// Sets masked weights to zero.
    pub fn apply_mask(&mut self, layout: &Layout) {
        let _ = self.parameters.narrow(0, 0, layout.prunable()).g_mul_(&self.mask);
    }
}

/// Writes values to a flat tensor from an index on.
fn fill(flat: &Tensor, start: i64, values: Tensor) {
    flat.narrow(0, start, values.numel() as i64).copy_(&values);
}

/// Returns the name, type and shape of every tensor in the file of a network.
fn expected_tensors(layout: &Layout) -> Vec<(String, Dtype, Vec<i64>)> {
    let mut expected = vec![];
    for tensor in &layout.tensors {
        expected.push((tensor.name.clone(), Dtype::F32, tensor.shape.clone()));
        if tensor.role == Role::Prunable {
            expected.push((mask_name(&tensor.name), Dtype::BOOL, tensor.shape.clone()));
        }
    }
    let statistics = layout.statistics.iter();
    expected.extend(statistics.map(|statistic| (statistic.name.clone(), Dtype::F32, vec![statistic.length])));
    expected
}

/// Describes the differences between a file and the expected tensors; returns an empty text if there are none.
fn describe_differences(expected: &[(String, Dtype, Vec<i64>)], file: &TensorFile) -> String {
    let known: HashSet<&str> = expected.iter().map(|(name, ..)| name.as_str()).collect();
    let mut parts = vec![];
    let missing: Vec<&str> =
        expected.iter().map(|(name, ..)| name.as_str()).filter(|name| !file.tensors.contains_key(*name)).collect();
    if !missing.is_empty() {
        parts.push(format!("missing: {}", list(&missing)));
    }
    let unknown: Vec<&str> = file.tensors.keys().map(String::as_str).filter(|name| !known.contains(name)).collect();
    if !unknown.is_empty() {
        parts.push(format!("not part of this network: {}", list(&unknown)));
    }
    let unfit: Vec<String> = (expected.iter())
        .filter_map(|(name, dtype, shape)| {
            let found = file.tensors.get(name)?;
            let fits = found.dtype == *dtype && found.shape.iter().map(|&side| side as i64).eq(shape.iter().copied());
            (!fits).then(|| format!("{name} is {:?} {:?} instead of {dtype:?} {shape:?}", found.dtype, found.shape))
        })
        .collect();
    if !unfit.is_empty() {
        parts.push(list(&unfit.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    parts.join("; ")
}

fn list(names: &[&str]) -> String {
    let shown = names.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMED { format!("{shown} and {} more", names.len() - MAX_NAMED) } else { shown }
}

/// Returns the name of the mask of a weight: `L.mask` for `L.weight`.
pub fn mask_name(weight_name: &str) -> String {
    format!("{}.mask", weight_name.strip_suffix(".weight").unwrap_or(weight_name))
}

/// Converts a tensor for a file.
pub fn raw(tensor: &Tensor, dtype: Dtype, shape: &[i64]) -> RawTensor {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    RawTensor { dtype, shape: shape.iter().map(|&side| side as usize).collect(), bytes }
}

/// Converts a tensor of a file.
pub fn tensor(raw: &RawTensor) -> Tensor {
    let kind = match raw.dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::U8 => Kind::Uint8,
        Dtype::I8 => Kind::Int8,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::BOOL => Kind::Bool,
        other => unreachable!("tensors of type {other:?} are rejected before"),
    };
    let shape: Vec<i64> = raw.shape.iter().map(|&side| side as i64).collect();
    Tensor::from_data_size(&raw.bytes, &shape, kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;
    use winsign_core::settings::{Architecture, Dataset, Problem};

    fn layout() -> Layout {
        Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8)).layout
    }

    #[test]
    fn resnet8_has_the_stated_size_and_pytorchs_names() {
        let layout = layout();
        assert_eq!(layout.prunable(), 19_144);
        let names: Vec<&str> = layout.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names[..4], ["conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.conv1.weight"]);
        assert_eq!(names[names.len() - 2..], ["fc.weight", "fc.bias"]);
        assert!(names.contains(&"layer2.0.downsample.0.weight") && !names.contains(&"layer1.0.downsample.0.weight"));
    }

    #[test]
    fn network_is_read_back_from_its_file() {
        let layout = layout();
        let mut weights = Weights::initialize(&layout, 3);
        let _ = weights.mask.narrow(0, 100, 5_000).fill_(0.0);
        weights.apply_mask(&layout);
        let back = Weights::from_file(&layout, &weights.to_file(&layout)).unwrap();
        assert_eq!(back.parameters, weights.parameters);
        assert_eq!(back.statistics, weights.statistics);
        assert_eq!(back.mask, weights.mask);
        assert_eq!(back.survivors(), 14_144);
        let layers = back.layers(&layout);
        // The first 72 weights are those of conv1, and the next two times 576 those of layer1; masked weights begin at 100.
        let found: Vec<_> =
            layers[..3].iter().map(|layer| (layer.name.as_str(), layer.survivors, layer.prunable)).collect();
        assert_eq!(
            found,
            [("conv1.weight", 72, 72), ("layer1.0.conv1.weight", 28, 576), ("layer1.0.conv2.weight", 0, 576)]
        );
        assert_eq!(layers.iter().map(|layer| layer.survivors).sum::<u64>(), 14_144);
        assert_eq!(layers.iter().map(|layer| layer.prunable).sum::<u64>(), 19_144);

        let mut file = weights.to_file(&layout);
        file.tensors.remove("layer3.0.conv2.mask");
        let bias = file.tensors.remove("fc.bias").unwrap();
        file.tensors.insert("head.bias".to_string(), bias.clone());
        file.tensors.insert("bn1.bias".to_string(), bias);
        let expected = "missing: layer3.0.conv2.mask, fc.bias; not part of this network: head.bias; \
            bn1.bias is F32 [10] instead of F32 [8]";
        assert_eq!(Weights::from_file(&layout, &file).unwrap_err(), expected);
    }

    #[test]
    fn initial_weights_depend_on_the_seed_and_have_their_distributions() {
        let layout = layout();
        let first = Weights::initialize(&layout, 1).parameters;
        assert_eq!(first, Weights::initialize(&layout, 1).parameters);
        assert_ne!(first, Weights::initialize(&layout, 2).parameters);
        for tensor in &layout.tensors {
            let values = first.narrow(0, tensor.start, tensor.length());
            let (smallest, largest) = (values.min().double_value(&[]), values.max().double_value(&[]));
            match tensor.init {
                Init::Constant(value) => assert_eq!((smallest, largest), (value, value)),
                Init::Uniform { bound } => {
                    assert!(largest < bound && smallest > -bound, "{}", tensor.name);
                    assert!(largest > 0.8 * bound || tensor.length() < 100, "{}", tensor.name);
                }
                Init::Normal { deviation } => {
                    let found = values.std(true).double_value(&[]);
                    // The tolerance is four standard errors of a deviation that is estimated from this number of values.
                    let tolerance = 4.0 * deviation / (2.0 * tensor.length() as f64).sqrt();
                    assert!((found - deviation).abs() < tolerance, "{}: {found} {deviation}", tensor.name);
                }
            }
        }
    }
}
