//! Conversion of networks that other programs wrote to the form in which this program stores them.

use std::collections::BTreeMap;

use safetensors::tensor::Dtype;
use tch::Kind;
use winsign_core::tensors::{RawTensor, TensorFile};

use super::weights::{mask_name, raw, tensor};
use super::{Layout, Parameter, Role};

/// Converts a file to the names of this program, to single precision, and to a mask for every prunable tensor. The result
/// may still not fit the layout, which [`Weights::from_file`] checks.
///
/// - A prefix that all names share is removed if the names fit then: see [`shared_prefix`].
/// - BatchNorm's `num_batches_tracked` is omitted.
/// - `L.weight_orig` and `L.weight_mask`, of PyTorch's pruning utilities, become `L.weight` and `L.mask`.
/// - Masks may have any type, with 0 for pruned weights and 1 for the others. If there is no mask, weights equal to zero count
///   as pruned.
///
/// [`Weights::from_file`]: super::Weights::from_file
pub fn convert(layout: &Layout, file: &TensorFile) -> Result<TensorFile, String> {
    let mut tensors = BTreeMap::new();
    let prefix = shared_prefix(layout, file);
    if !prefix.is_empty() {
        tracing::warn!("removed the prefix `{prefix}` from all names");
    }
    for (name, found) in &file.tensors {
        let name = &name[prefix.len()..];
        if name.ends_with(".num_batches_tracked") {
            continue;
        }
        let name = match (name.strip_suffix(".weight_orig"), name.strip_suffix(".weight_mask")) {
            (Some(layer), _) => format!("{layer}.weight"),
            (_, Some(layer)) => format!("{layer}.mask"),
            _ => name.to_string(),
        };
        let is_mask = name.ends_with(".mask");
        let is_float = matches!(found.dtype, Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16);
        let is_integer = matches!(found.dtype, Dtype::BOOL | Dtype::U8 | Dtype::I8 | Dtype::I32 | Dtype::I64);
        if !(is_float || is_mask && is_integer) {
            let what = if is_mask { "a mask" } else { "weights" };
            return Err(format!("{name} has the type {:?}, which is not that of {what}", found.dtype));
        }
        let values = tensor(found);
        if is_mask && !bool::try_from(values.eq(0.0).logical_or(&values.eq(1.0)).all()).unwrap_or(false) {
            return Err(format!("the mask {name} has values other than 0 and 1"));
        }
        if !is_mask && !bool::try_from(values.isfinite().all()).unwrap_or(false) {
            return Err(format!("{name} has values that are not finite"));
        }
        let kind = if is_mask { Dtype::BOOL } else { Dtype::F32 };
        if tensors.insert(name.clone(), convert_tensor(found, kind)).is_some() {
            return Err(format!("two tensors would have the name {name}"));
        }
    }
    let prunable = layout.tensors.iter().filter(|tensor| tensor.role == Role::Prunable);
    if !tensors.keys().any(|name| name.ends_with(".mask")) {
        for weight in prunable {
            if let Some(found) = tensors.get(&weight.name) {
                let mask = convert_tensor(found, Dtype::BOOL);
                tensors.insert(mask_name(&weight.name), mask);
            }
        }
    }
    Ok(TensorFile { tensors, metadata: String::new() })
}

/// Returns the prefix that all names in a file share and without which most of them are names of the layout, such as
/// `module.` of PyTorch's data-parallel models, `_orig_mod.` of compiled models, or several such prefixes.
fn shared_prefix<'f>(layout: &Layout, file: &'f TensorFile) -> &'f str {
    let Some(first) = file.tensors.keys().next() else { return "" };
    let fitting = |prefix: &str| {
        let name_of = |tensor: &Parameter| format!("{prefix}{}", tensor.name);
        let is_there = |name: String| file.tensors.contains_key(&name) || file.tensors.contains_key(&(name + "_orig"));
        layout.tensors.iter().map(name_of).filter(|name| is_there(name.clone())).count()
    };
    let prefixes = first.match_indices('.').map(|(at, _)| &first[..=at]);
    let shared = prefixes.filter(|prefix| file.tensors.keys().all(|name| name.starts_with(prefix)));
    // The shortest of the best.
    shared.fold("", |best, prefix| if fitting(prefix) > fitting(best) { prefix } else { best })
}

fn convert_tensor(found: &RawTensor, dtype: Dtype) -> RawTensor {
    let values = tensor(found);
    let values = if dtype == Dtype::BOOL { values.ne(0.0) } else { values.to_kind(Kind::Float) };
    let shape: Vec<i64> = found.shape.iter().map(|&side| side as i64).collect();
    raw(&values, dtype, &shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Network, Weights};
    use winsign_core::settings::{Architecture, Dataset, Problem};

    #[test]
    fn prefix_shared_by_all_names_is_removed() {
        let layout = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8)).layout;
        let own = Weights::initialize(&layout, 3).to_file(&layout);
        let prefixed = |prefix: &str| {
            let tensors = own.tensors.iter().map(|(name, found)| (format!("{prefix}{name}"), found.clone())).collect();
            TensorFile { tensors, metadata: String::new() }
        };
        for prefix in ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.0."] {
            assert_eq!(shared_prefix(&layout, &prefixed(prefix)), prefix);
            assert_eq!(convert(&layout, &prefixed(prefix)).unwrap(), own);
        }
        // A tensor without the prefix, and a missing tensor.
        let mut file = prefixed("model.");
        file.tensors.insert("temperature".to_string(), own.tensors["conv1.weight"].clone());
        assert_eq!(shared_prefix(&layout, &file), "");
        file.tensors.remove("temperature");
        file.tensors.remove("model.conv1.weight");
        assert_eq!(shared_prefix(&layout, &file), "model.");
    }

    #[test]
    fn networks_of_other_programs_are_converted() {
        let layout = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8)).layout;
        let mut weights = Weights::initialize(&layout, 3);
        let _ = weights.mask.narrow(0, 100, 5_000).fill_(0.0);
        weights.apply_mask(&layout);
        let own = weights.to_file(&layout);

        // This file has zeros instead of masks, double precision, a prefix, and a counter.
        let mut plain = TensorFile::default();
        for (name, found) in own.tensors.iter().filter(|(name, _)| !name.ends_with(".mask")) {
            let values = raw(&tensor(found).to_kind(Kind::Double), Dtype::F64, &tensor(found).size());
            plain.tensors.insert(format!("module.{name}"), values);
        }
        let counter = RawTensor { dtype: Dtype::I64, shape: vec![], bytes: vec![0; 8] };
        plain.tensors.insert("module.bn1.num_batches_tracked".to_string(), counter);
        assert_eq!(convert(&layout, &plain).unwrap(), own);

        // PyTorch's pruning utilities keep the values of pruned weights.
        let mut pruned = TensorFile::default();
        for (name, found) in &own.tensors {
            match name.strip_suffix(".mask") {
                Some(layer) => {
                    let mask = raw(&tensor(found).to_kind(Kind::Float), Dtype::F32, &tensor(found).size());
                    pruned.tensors.insert(format!("{layer}.weight_mask"), mask);
                    let dense = raw(
                        &(tensor(&own.tensors[&format!("{layer}.weight")]) + 1.0),
                        Dtype::F32,
                        &tensor(found).size(),
                    );
                    pruned.tensors.insert(format!("{layer}.weight_orig"), dense);
                }
                None if own.tensors.contains_key(&mask_name(name)) => {}
                None => {
                    pruned.tensors.insert(name.clone(), found.clone());
                }
            }
        }
        let converted = Weights::from_file(&layout, &convert(&layout, &pruned).unwrap()).unwrap();
        assert_eq!(converted.mask, weights.mask);
        let prunable = |weights: &Weights| weights.parameters.narrow(0, 0, layout.prunable());
        assert_eq!(prunable(&converted), (prunable(&weights) + 1.0) * &weights.mask);
    }
}
