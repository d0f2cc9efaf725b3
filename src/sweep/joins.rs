//! The networks that connects join. The expansion of a sweep counts these runs, and the plan contains them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use strum::VariantArray;
use winsign_core::grouping::grouped;
use winsign_core::settings::{Between, Inherit, Masks, Optimizer, Precision, Problem, Schedule, Training};

use super::{ConnectBlock, TransferBlock};

/// The transfers of one chain, arranged as connects join them. Networks are positions in the list of transfers.
pub(crate) struct Joinable<'t> {
    transfers: &'t [TransferBlock],
    rows: HashMap<(u32, Inherit, Masks), Vec<Vec<usize>>>,
    /// The first ticket that is trained on, by its level, training and order of images.
    retrained: HashMap<(u32, TrainingKey, u64), usize>,
    /// The numbers of runs that were counted, by the settings of connects that can change them.
    counts: RefCell<HashMap<CountKey, usize>>,
}

/// The settings of a training, with real numbers as bits.
type TrainingKey = (u32, u32, Optimizer, [u64; 3], Schedule, Precision);

type CountKey = (Between, u32, Option<Inherit>, Masks, u32);

impl<'t> Joinable<'t> {
    pub(crate) fn new(transfers: &'t [TransferBlock]) -> Joinable<'t> {
        let mut retrained = HashMap::new();
        let mut rows: HashMap<_, Vec<Vec<usize>>> = HashMap::new();
        let mut row_of = HashMap::new();
        for (index, transfer) in transfers.iter().enumerate() {
            let TransferBlock { level, inherit, flip, ref training, seeds } = *transfer;
            let training = key(training);
            if inherit == Inherit::Retrain {
                retrained.entry((level, training, seeds.order)).or_insert(index);
            }
            for &masks in Masks::VARIANTS {
                let mask = (masks == Masks::Same && inherit.draws_mask()).then_some(seeds.init);
                let rows = rows.entry((level, inherit, masks)).or_default();
                let row = *row_of.entry((level, inherit, masks, mask, flip.to_bits(), training)).or_insert_with(|| {
                    rows.push(vec![]);
                    rows.len() - 1
                });
                rows[row].push(index);
            }
        }
        for row in rows.values_mut().flatten() {
            // The order in the file does not change a pair's identity.
            row.sort_by_key(|&network| transfers[network].run_seeds());
            row.dedup_by_key(|network| transfers[*network].run_seeds());
        }
        Joinable { transfers, rows, retrained, counts: RefCell::default() }
    }

    /// Returns the transfers that a connect may join with each other: rows that differ only in seeds, in the order of
    /// these. Transfers with different masks share a row only if the connect uses the union.
    pub(crate) fn rows(&self, connect: &ConnectBlock) -> &[Vec<usize>] {
        let key = connect.inherit.map(|inherit| (connect.level, inherit, connect.masks));
        key.and_then(|key| self.rows.get(&key)).map_or(&[], Vec::as_slice)
    }

    /// Returns the corners of the planes of a connect: the first three transfers of each row.
    pub(crate) fn planes(&self, connect: &ConnectBlock) -> impl Iterator<Item = [usize; 3]> {
        self.rows(connect).iter().filter_map(|row| row.first_chunk().copied())
    }

    /// Returns the transfers of a connect with the `retrain` transfers of the same level, training and order of images.
    pub(crate) fn retrained(&self, connect: &ConnectBlock) -> impl Iterator<Item = [usize; 2]> {
        let has_new_masks = connect.masks == Masks::Same && connect.inherit.is_some_and(Inherit::draws_mask);
        let mut networks = if has_new_masks { vec![] } else { self.rows(connect).concat() };
        networks.sort_unstable();
        networks.into_iter().filter_map(|network| {
            let TransferBlock { level, training, seeds, .. } = &self.transfers[network];
            Some([network, *self.retrained.get(&(*level, key(training), seeds.order))?])
        })
    }

    /// Returns the number of runs of a connect within its chain.
    pub(crate) fn count(&self, connect: &ConnectBlock) -> usize {
        let ConnectBlock { between, level, inherit, masks, block, .. } = *connect;
        let mut counts = self.counts.borrow_mut();
        *counts.entry((between, level, inherit, masks, block)).or_insert_with(|| match between {
            Between::NormInit | Between::Levels => 1,
            Between::Tickets => 0,
            Between::Plane => self.planes(connect).count(),
            Between::Retrain => self.retrained(connect).count(),
            Between::Seeds => self.rows(connect).iter().map(|row| count_blocks(row.len(), block)).sum(),
        })
    }
}

fn key(training: &Training) -> TrainingKey {
    let Training { epochs, batch, optimizer, lr, momentum, weight_decay, schedule, precision } = *training;
    (epochs, batch, optimizer, [lr, momentum, weight_decay].map(f64::to_bits), schedule, precision)
}

/// Returns the blocks of a symmetric matrix without its diagonal: the networks of their rows, and of their columns if
/// those differ. Appended networks leave all complete blocks as they are.
pub(crate) fn blocks(networks: usize, side: u32) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let group = move |start: usize| start..networks.min(start + side as usize);
    let groups = (0..networks).step_by(side as usize);
    groups.flat_map(move |start| {
        let pairs = (0..start).step_by(side as usize).map(move |earlier| (group(earlier), group(start)));
        // A single network has no pair.
        pairs.chain((group(start).len() > 1).then_some((group(start), 0..0)))
    })
}

/// Returns the number of [`blocks`].
pub(crate) fn count_blocks(networks: usize, side: u32) -> usize {
    let side = side as usize;
    let groups = networks.div_ceil(side);
    let lone = usize::from(networks % side == 1);
    let groups_with_pairs = if side == 1 { 0 } else { groups - lone };
    groups * groups.saturating_sub(1) / 2 + groups_with_pairs
}

/// The matrix between the tickets of one level and one problem: the connect of its first chain, and the positions of
/// its chains.
pub(crate) struct TicketMatrix<'c> {
    pub connect: &'c ConnectBlock,
    pub chains: Vec<usize>,
}

/// Returns the matrices between tickets of chains, each given as its problem and its connects.
pub(crate) fn ticket_matrices<'c>(
    chains: impl IntoIterator<Item = (Problem, &'c [ConnectBlock])>,
) -> Vec<TicketMatrix<'c>> {
    let requests = chains.into_iter().enumerate().flat_map(|(chain, (problem, connects))| {
        let between_tickets = connects.iter().filter(|connect| connect.between == Between::Tickets);
        between_tickets.map(move |connect| (chain, problem, connect))
    });
    let matrices = grouped(requests, |(_, problem, connect)| (*problem, connect.matrix_settings()));
    let matrix = |requests: Vec<(usize, Problem, &'c ConnectBlock)>| TicketMatrix {
        connect: requests[0].2,
        chains: requests.into_iter().map(|(chain, ..)| chain).collect(),
    };
    matrices.into_iter().map(matrix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_pairs() {
        let counts = |networks: [usize; 4], side| networks.map(|networks| blocks(networks, side).count());
        assert_eq!(counts([0, 1, 2, 20], 1), [0, 0, 1, 190]);
        // Groups of 5, 5 and 2: three pairs of groups, and three groups by themselves; the third of 11 is one network.
        assert_eq!(counts([5, 6, 11, 12], 5), [1, 2, 5, 6]);
        for (networks, side) in (0..20).flat_map(|networks| (1..7).map(move |side| (networks, side))) {
            assert_eq!(count_blocks(networks, side), blocks(networks, side).count(), "{networks} in blocks of {side}");
        }
        let pairs = |(rows, columns): (Range<usize>, Range<usize>)| (rows.start, columns.start);
        assert_eq!(blocks(3, 1).map(pairs).collect::<Vec<_>>(), [(0, 1), (0, 2), (1, 2)]);
    }
}
