//! Rewinding: restores earlier weights under a new mask.

use crate::model::{Layout, Weights};

/// Returns the network of `origin`, including its norm parameters and BatchNorm statistics, under the mask of `pruned`.
pub fn rewind(layout: &Layout, pruned: &Weights, origin: Weights) -> Weights {
    let mut rewound = Weights { mask: pruned.mask.copy(), ..origin };
    rewound.apply_mask(layout);
    rewound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;
    use crate::prune::prune;
    use winsign_core::settings::{Architecture, Dataset, Problem};

    #[test]
    fn rewind_restores_everything_but_pruned_weights() {
        let layout = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8)).layout;
        let list = |tensor: &tch::Tensor| Vec::<f32>::try_from(tensor).unwrap();
        let mut origin = Weights::initialize(&layout, 1);
        // After a few epochs, norm parameters and statistics have changed.
        origin.parameters += 0.01;
        origin.statistics += 0.3;
        let mut pruned = Weights::initialize(&layout, 2);
        prune(&mut pruned, &layout, 0.6).unwrap();

        let rewound = rewind(&layout, &pruned, origin.copy());
        assert_eq!((rewound.survivors(), &rewound.mask), (pruned.survivors(), &pruned.mask));
        assert_eq!(rewound.statistics, origin.statistics);
        let (mask, before) = (list(&pruned.mask), list(&origin.parameters));
        for (at, after) in list(&rewound.parameters).into_iter().enumerate() {
            let expected = if mask.get(at) == Some(&0.0) { 0.0 } else { before[at] };
            assert_eq!(after, expected, "{at}");
        }
    }
}
