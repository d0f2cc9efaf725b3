//! The runs of connects: single paths, blocks of barrier matrices, planes.

use std::ops::Range;

use winsign_core::RunId;
use winsign_core::grouping::distinct;
use winsign_core::settings::{Between, Connect, Inherit, Masks, Matrix, Plane, Problem, Seeds, Settings};

use super::build::Runs;
use crate::{Chain, ConnectBlock, TransferBlock};

/// A planned transfer: as the sweep has it, and its run.
pub(super) struct Planned<'s> {
    pub block: &'s TransferBlock,
    /// Of the run, which may take fewer seeds into account than the sweep names.
    pub seeds: Seeds,
    pub id: RunId,
}

/// The runs of one chain's connects, but for those between tickets, which may be of several chains.
pub(super) fn add_of_chain(runs: &mut Runs, chain: &Chain, tickets: &[RunId], transfers: &[Planned]) {
    for connect in &chain.connects {
        match connect.between {
            Between::Seeds => add_between_seeds(runs, chain, connect, transfers),
            Between::Plane => add_planes(runs, chain, connect, transfers),
            Between::Retrain => add_retrain(runs, chain, connect, transfers),
            Between::NormInit => {
                let ticket = tickets[connect.level as usize].clone();
                runs.add(Settings::Connect(path(chain.problem, connect, Masks::Same)), vec![ticket]);
            }
            Between::Levels => {
                let ends = [connect.level, connect.level - 1].map(|level| tickets[level as usize].clone()).to_vec();
                runs.add(Settings::Connect(path(chain.problem, connect, Masks::Union)), ends);
            }
            Between::Tickets => {}
        }
    }
}

/// A ticket that is joined with others, and the seeds of its chain.
type Joined = (Seeds, RunId);

/// The matrices between tickets of one level and one problem.
pub(super) fn add_between_tickets(runs: &mut Runs, chains: &[(&Chain, Vec<RunId>)]) {
    let mut matrices: Vec<(&Chain, &ConnectBlock, Vec<Joined>)> = Vec::new();
    for (chain, tickets) in chains {
        for connect in chain.connects.iter().filter(|connect| connect.between == Between::Tickets) {
            let ticket = (chain.seeds, tickets[connect.level as usize].clone());
            let same = |(other, first, _): &&mut (&Chain, &ConnectBlock, _)| {
                other.problem == chain.problem && connect.asks_for_the_matrix_of(first)
            };
            match matrices.iter_mut().find(same) {
                Some((.., tickets)) => tickets.push(ticket),
                None => matrices.push((*chain, connect, vec![ticket])),
            }
        }
    }
    for (chain, connect, mut tickets) in matrices {
        let problem = chain.problem;
        // By seeds, so that more of them come at the end.
        tickets.sort_by_key(|(seeds, _)| *seeds);
        let networks: Vec<RunId> = distinct(tickets.into_iter().map(|(_, id)| id));
        if connect.block > 1 {
            add_blocks(runs, problem, connect, &networks, |_| Masks::Union);
            continue;
        }
        for (index, second) in networks.iter().enumerate() {
            for first in &networks[..index] {
                // In the order they have in blocks, so that the numbers are the same to the last bit.
                let ends = vec![first.clone(), second.clone()];
                runs.add(Settings::Connect(path(problem, connect, Masks::Union)), ends);
            }
        }
    }
}

/// One run for every pair of transfers that differ in nothing but their seeds, and have the same mask unless the union
/// is asked for; or one for every block of them.
fn add_between_seeds(runs: &mut Runs, chain: &Chain, connect: &ConnectBlock, transfers: &[Planned]) {
    for row in rows(connect, transfers) {
        if connect.block > 1 {
            let networks: Vec<RunId> = row.iter().map(|transfer| transfer.id.clone()).collect();
            let masks = |networks: &[usize]| masks_of(networks.iter().map(|&network| row[network]));
            add_blocks(runs, chain.problem, connect, &networks, masks);
            continue;
        }
        for (index, second) in row.iter().enumerate() {
            for first in &row[..index] {
                // Rows are in the order of seeds, so that the order in the file does not change a pair's identity.
                let inputs = vec![first.id.clone(), second.id.clone()];
                let masks = masks_of([*first, *second].into_iter());
                runs.add(Settings::Connect(path(chain.problem, connect, masks)), inputs);
            }
        }
    }
}

/// The plane through the first three transfers that differ in nothing but their seeds.
fn add_planes(runs: &mut Runs, chain: &Chain, connect: &ConnectBlock, transfers: &[Planned]) {
    for row in rows(connect, transfers) {
        let [first, second, third, ..] = row[..] else { continue };
        let corners = [first, second, third];
        let settings = Plane {
            problem: chain.problem,
            masks: masks_of(corners.into_iter()),
            points: connect.points,
            margin: connect.margin,
            batch: connect.batch,
            reestimation_batches: connect.reestimation_batches,
            sets: connect.sets,
            precision: connect.precision,
        };
        runs.add(Settings::Plane(settings), corners.map(|corner| corner.id.clone()).to_vec());
    }
}

/// One run for every transfer and the ticket it came from, trained on alike in the same order of images.
fn add_retrain(runs: &mut Runs, chain: &Chain, connect: &ConnectBlock, transfers: &[Planned]) {
    for transfer in transfers.iter().filter(|transfer| is_joined(connect, transfer)) {
        let alike = |other: &&Planned| {
            let (one, other) = (transfer.block, other.block);
            other.inherit == Inherit::Retrain
                && (other.level, &other.training, other.seeds.order) == (one.level, &one.training, one.seeds.order)
        };
        let masks = if transfer.block.inherit.draws_mask() { Masks::Union } else { Masks::Same };
        let Some(retrained) = transfers.iter().find(alike) else { continue };
        if masks == Masks::Union && connect.masks == Masks::Same {
            continue;
        }
        let ends = vec![transfer.id.clone(), retrained.id.clone()];
        runs.add(Settings::Connect(path(chain.problem, connect, masks)), ends);
    }
}

fn is_joined(connect: &ConnectBlock, transfer: &Planned) -> bool {
    transfer.block.level == connect.level && Some(transfer.block.inherit) == connect.inherit
}

/// The transfers that a connect joins, in rows that differ in nothing but their seeds and are in the order of these. Those
/// with different masks are in one row only if the union is asked for.
fn rows<'t, 's>(connect: &ConnectBlock, transfers: &'t [Planned<'s>]) -> Vec<Vec<&'t Planned<'s>>> {
    let mut rows: Vec<Vec<&Planned>> = Vec::new();
    for transfer in transfers.iter().filter(|transfer| is_joined(connect, transfer)) {
        let fits = |row: &&mut Vec<&Planned>| {
            let (one, other) = (row[0].block, transfer.block);
            let alike = (&one.training, one.flip) == (&other.training, other.flip);
            alike && (connect.masks == Masks::Union || masks_of([row[0], transfer].into_iter()) == Masks::Same)
        };
        match rows.iter_mut().find(fits) {
            Some(row) => row.push(transfer),
            None => rows.push(vec![transfer]),
        }
    }
    for row in &mut rows {
        row.sort_by_key(|transfer| transfer.seeds);
        row.dedup_by(|one, other| one.id == other.id);
    }
    rows
}

/// What joining transfers that are alike takes: the union if some have drawn another mask than others.
fn masks_of<'t, 's: 't>(mut transfers: impl Iterator<Item = &'t Planned<'s>>) -> Masks {
    let Some(first) = transfers.next() else { return Masks::Same };
    let other = |transfer: &Planned| transfer.block.seeds.init != first.block.seeds.init;
    if first.block.inherit.draws_mask() && transfers.any(other) { Masks::Union } else { Masks::Same }
}

/// One run for every block of the matrix between these networks; `masks` says what joining some of them takes.
fn add_blocks(
    runs: &mut Runs,
    problem: Problem,
    connect: &ConnectBlock,
    networks: &[RunId],
    masks: impl Fn(&[usize]) -> Masks,
) {
    let blocks = blocks(networks.len(), connect.block as usize);
    let count = blocks.len() as u32;
    for (number, (rows, columns)) in (1..).zip(blocks) {
        let side = rows.len() as u32;
        let places: Vec<usize> = rows.chain(columns).collect();
        let path = path(problem, connect, masks(&places));
        let inputs = places.iter().map(|&place| networks[place].clone()).collect();
        runs.add_block(Settings::Matrix(Matrix { path, rows: side }), inputs, Some((number, count)));
    }
}

/// The blocks of a symmetric matrix: the networks of their rows, and of their columns where those are others. Networks that
/// are added at the end leave all whole blocks as they are.
fn blocks(networks: usize, side: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let groups: Vec<Range<usize>> =
        (0..networks).step_by(side).map(|start| start..networks.min(start + side)).collect();
    let mut blocks = Vec::new();
    for (index, columns) in groups.iter().enumerate() {
        blocks.extend(groups[..index].iter().map(|rows| (rows.clone(), columns.clone())));
        // One network alone has no pair.
        if columns.len() > 1 {
            blocks.push((columns.clone(), 0..0));
        }
    }
    blocks
}

fn path(problem: Problem, connect: &ConnectBlock, masks: Masks) -> Connect {
    Connect {
        problem,
        between: connect.between,
        masks,
        points: connect.points,
        refine: connect.refine,
        batch: connect.batch,
        reestimation_batches: connect.reestimation_batches,
        sets: connect.sets,
        align: connect.align,
        precision: connect.precision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;
    use crate::plan::build::build;
    use crate::plan::{Label, Plan, PlannedRun};

    fn planned(text: &str) -> Plan {
        let file = format!("dataset: digits\narchitecture: resnet8\n{text}");
        build(&parse("study.yaml", &file).unwrap_or_else(|error| panic!("{}", error.render(false))))
    }

    fn connects(plan: &Plan) -> Vec<&PlannedRun> {
        plan.runs.iter().filter(|planned| planned.label.between.is_some()).collect()
    }

    fn label_of<'p>(plan: &'p Plan, id: &RunId) -> &'p Label {
        &plan.runs.iter().find(|planned| planned.run.id == *id).unwrap().label
    }

    fn labels(plan: &Plan) -> Vec<String> {
        connects(plan).iter().map(|planned| planned.label.to_string()).collect()
    }

    /// The pairs of seeds that the matrices of a plan join, each once.
    fn pairs(plan: &Plan) -> Vec<(u64, u64)> {
        let mut pairs = vec![];
        for planned in connects(plan) {
            let Settings::Matrix(matrix) = &planned.run.settings else { panic!("{}", planned.label) };
            let inputs = &planned.run.inputs;
            let seed = |place: u32| label_of(plan, &inputs[place as usize]).seeds[0].init;
            pairs.extend(matrix.ends(inputs.len() as u32).map(|(a, b)| (seed(a), seed(b))));
        }
        pairs.sort();
        pairs
    }

    fn matrix_of(seeds: &str) -> Plan {
        planned(&format!(
            "ticket: {{method: aws, levels: 1}}\ntransfer: {{inherit: sign, seed: {seeds}}}\nconnect: {{between: seeds, block: 3}}"
        ))
    }

    #[test]
    fn blocks_have_every_pair_once() {
        // In the file they are in another order than that of their seeds.
        let plan = matrix_of("[8..5, 1..4]");
        let expected: Vec<(u64, u64)> = (1..=8).flat_map(|a| (a + 1..=8).map(move |b| (a, b))).collect();
        assert_eq!(pairs(&plan), expected);
        let labels = labels(&plan);
        assert_eq!((labels.len(), labels[0].as_str()), (6, "aws level 1, sign, between seeds, block 1 of 6"));
        assert!(connects(&plan).iter().all(|planned| planned.label.seeds.is_empty()));
        // One network is left over, and has no pair of its own.
        assert_eq!((pairs(&matrix_of("1..7")).len(), connects(&matrix_of("1..7")).len()), (21, 5));
    }

    #[test]
    fn more_seeds_repeat_only_blocks_that_have_them() {
        let ids = |seeds: &str| -> Vec<RunId> {
            connects(&matrix_of(seeds)).iter().map(|planned| planned.run.id.clone()).collect()
        };
        let (six, seven) = (ids("1..6"), ids("1..7"));
        assert_eq!(six.len(), 3);
        assert!(six.iter().all(|id| seven.contains(id)));
    }

    #[test]
    fn drawn_masks_are_joined_in_blocks_as_they_are_in_pairs() {
        let file = |masks: &str| {
            planned(&format!(
                "ticket: {{method: lrr, levels: 1}}
transfer: {{inherit: random-mask, seed_init: 2..3, seed_order: [4, 5]}}
connect: {{between: seeds, block: 4, masks: {masks}}}"
            ))
        };
        let masks = |plan: &Plan| -> Vec<(Masks, usize)> {
            let of = |planned: &&PlannedRun| match &planned.run.settings {
                Settings::Matrix(matrix) => (matrix.path.masks, planned.run.inputs.len()),
                other => panic!("{other:?}"),
            };
            connects(plan).iter().map(of).collect()
        };
        assert_eq!(masks(&file("same")), [(Masks::Same, 2), (Masks::Same, 2)], "those of one initialization");
        assert_eq!(masks(&file("union")), [(Masks::Union, 4)]);
    }

    #[test]
    fn what_is_transferred_is_joined_with_the_ticket_trained_on() {
        let plan = planned(
            "ticket: {method: aws, levels: 2}
transfer: {inherit: [sign, mask, retrain], level: [1, 2], seed_init: 7, seed_order: 5..6}
connect: {between: retrain}",
        );
        let all = connects(&plan);
        assert_eq!(all.len(), 2 * 2 * 2);
        for planned in &all {
            let [transfer, retrained] = [0, 1].map(|end| label_of(&plan, &planned.run.inputs[end]));
            assert_eq!(retrained.inherit, Some(Inherit::Retrain));
            assert_eq!((transfer.level, transfer.inherit), (planned.label.level, planned.label.inherit));
            assert_eq!((retrained.level, retrained.seeds[0].order), (transfer.level, transfer.seeds[0].order));
            assert_eq!(planned.label.seeds, [transfer.seeds[0], retrained.seeds[0]]);
            let Settings::Connect(path) = &planned.run.settings else { panic!("{}", planned.label) };
            assert_eq!(path.masks, Masks::Same);
        }
    }

    #[test]
    fn neighbouring_levels_are_joined_down_to_the_dense_network() {
        let plan = planned("ticket: {method: lrr, levels: 3}\nconnect: {between: levels}");
        let levels = |planned: &&PlannedRun| -> Vec<u32> {
            planned.run.inputs.iter().map(|id| label_of(&plan, id).level).collect()
        };
        assert_eq!(connects(&plan).iter().map(levels).collect::<Vec<_>>(), [[1, 0], [2, 1], [3, 2]]);
        let Settings::Connect(path) = &connects(&plan)[0].run.settings else { panic!("a path") };
        assert_eq!(path.masks, Masks::Union);
        assert_eq!(labels(&plan)[2], "lrr level 3, between levels");
    }

    #[test]
    fn tickets_of_all_chains_are_joined() {
        let file = |block: u32| {
            planned(&format!(
                "ticket:
  - {{method: [lrr, aws], levels: 2, seed: 1..2}}
  - {{method: snip, levels: 2, batch: 32}}
connect: {{between: tickets, level: all, block: {block}}}"
            ))
        };
        let plan = file(1);
        let all = connects(&plan);
        assert_eq!(all.len(), 2 * 10);
        assert!(all.iter().all(|planned| planned.label.method.is_none() && planned.label.axes.is_empty()));
        for planned in &all {
            let ends: Vec<_> = planned.run.inputs.iter().map(|id| label_of(&plan, id)).collect();
            assert_eq!([ends[0].level, ends[1].level], [planned.label.level; 2]);
        }
        let plan = file(2);
        let level_2: Vec<_> = connects(&plan).into_iter().filter(|planned| planned.label.level == 2).collect();
        // Groups of two, two and one: three blocks beside the diagonal and two on it.
        assert_eq!(level_2.len(), 5);
        let methods: Vec<_> =
            level_2[0].run.inputs.iter().map(|id| label_of(&plan, id).method.unwrap().to_string()).collect();
        assert_eq!(methods, ["lrr", "aws"], "by seeds, then as in the file");
    }

    /// Which end is at t = 1 changes the last bits of a path.
    #[test]
    fn single_pairs_of_tickets_have_the_ends_that_they_have_in_blocks() {
        let ends = |block: u32| {
            let plan = planned(&format!(
                "ticket: {{method: [lrr, aws], levels: 1, seed: [3, 1, 2]}}\nconnect: {{between: tickets, block: {block}}}"
            ));
            let of = |planned: &&PlannedRun| -> Vec<(RunId, RunId)> {
                let inputs = &planned.run.inputs;
                let pair = |(a, b)| (inputs[a as usize].clone(), inputs[b as usize].clone());
                match &planned.run.settings {
                    Settings::Matrix(matrix) => matrix.ends(inputs.len() as u32).map(pair).collect(),
                    _ => vec![pair((0, 1))],
                }
            };
            let mut ends: Vec<(RunId, RunId)> = connects(&plan).iter().flat_map(of).collect();
            ends.sort();
            ends
        };
        let single = ends(1);
        assert_eq!(single.len(), 6 * 5 / 2);
        assert!(single.iter().any(|(a, b)| a > b), "by seeds, not by identities");
        assert!([2, 4, 10].iter().all(|block| ends(*block) == single));
    }

    #[test]
    fn chains_of_other_lengths_share_their_tickets() {
        let plan = planned("ticket: {levels: [2, 3], seed: 1..2, method: lrr}\nconnect: {between: tickets, level: 2}");
        assert_eq!(connects(&plan).len(), 1);
    }

    #[test]
    fn a_plane_leads_through_the_first_three_seeds() {
        let plan = planned(
            "ticket: {method: aws, levels: 1}
transfer: {inherit: [sign, mask], seed: [5, 4..2], lr: [0.1, 0.2]}
connect: {between: plane, points: 9, margin: 0.1}",
        );
        let labels = labels(&plan);
        assert_eq!(
            (labels.len(), labels[0].as_str()),
            (4, "aws level 1, sign, plane of seeds 2, 3 and 4, transfer.lr 0.1")
        );
        let Settings::Plane(plane) = &connects(&plan)[0].run.settings else { panic!("a plane") };
        assert_eq!((plane.points, plane.margin, plane.masks), (9, 0.1, Masks::Same));
        assert_eq!(connects(&plan)[0].run.inputs.len(), 3);
    }

    /// The study of twenty seeds: all 190 pairs of each of four rows, each once.
    #[test]
    fn twenty_seeds_have_all_their_pairs() {
        let text = include_str!("../../../sweeps/quickstart-seeds.yaml");
        let plan = build(&parse("quickstart-seeds.yaml", text).unwrap());
        let matrices = plan.runs.iter().filter_map(|planned| match &planned.run.settings {
            Settings::Matrix(matrix) => Some(matrix.pairs(planned.run.inputs.len() as u32)),
            _ => None,
        });
        assert_eq!(matrices.clone().sum::<usize>(), 4 * 190);
        assert_eq!(matrices.count(), 4 * 10);
        let planes: Vec<String> = labels(&plan).into_iter().filter(|label| label.contains("plane")).collect();
        assert_eq!(
            planes,
            ["aws level 12, sign, plane of seeds 2, 3 and 4", "aws level 12, mask, plane of seeds 2, 3 and 4"]
        );
    }

    /// What changes no number changes no identity.
    #[test]
    fn settings_at_their_defaults_leave_identities_alone() {
        let of = |connect: &str| -> Vec<RunId> {
            let plan = planned(&format!(
                "ticket: {{method: aws, levels: 1}}\ntransfer: {{inherit: sign}}\nconnect: {{between: seeds{connect}}}"
            ));
            connects(&plan).iter().map(|planned| planned.run.id.clone()).collect()
        };
        assert_eq!(of(", refine: 0, sets: both, align: none, block: 1, points: 11"), of(""));
        for other in [", refine: 1", ", sets: test", ", align: weights", ", reestimation_batches: 3", ", block: 2"] {
            assert_ne!(of(other), of(""), "{other}");
        }
    }

    #[test]
    fn paths_between_tickets_of_several_problems_name_theirs() {
        let text = "dataset: digits\narchitecture: resnet8\nnumerics: [native, portable]\n\
                    ticket: {method: lrr, levels: 1, seed: 1..2}\nconnect: {between: tickets, level: 1}";
        let plan = build(&parse("study.yaml", text).unwrap());
        let paths = plan.runs.iter().map(|planned| &planned.label).filter(|label| label.between.is_some());
        let axes: Vec<String> = paths.map(|label| format!("{:?}", label.axes)).collect();
        assert_eq!(axes, [r#"[("numerics", "native")]"#, r#"[("numerics", "portable")]"#]);
    }
}
