//! The runs of connects: single paths, blocks of barrier matrices, planes.

use winsign_core::RunId;
use winsign_core::grouping::distinct;
use winsign_core::settings::{Between, Connect, Masks, Matrix, Plane, Problem, Settings};

use super::build::Runs;
use crate::joins::{Joinable, TicketMatrix, blocks, ticket_matrices};
use crate::{Chain, ConnectBlock, TransferBlock};

/// Adds the runs of one chain's connects, except those between tickets, which may be of several chains.
pub(super) fn add_of_chain(runs: &mut Runs, chain: &Chain, tickets: &[RunId], transfers: &[RunId]) {
    let joinable = Joinable::new(&chain.transfers);
    for connect in &chain.connects {
        match connect.between {
            Between::Seeds => add_between_seeds(runs, chain, connect, &joinable, transfers),
            Between::Plane => add_planes(runs, chain, connect, &joinable, transfers),
            Between::Retrain => add_retrain(runs, chain, connect, &joinable, transfers),
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

/// Adds the matrices between tickets of one level and one problem.
pub(super) fn add_between_tickets(runs: &mut Runs, chains: &[(&Chain, Vec<RunId>)]) {
    for TicketMatrix { connect, chains: joined } in
        ticket_matrices(chains.iter().map(|(chain, _)| (chain.problem, chain.connects.as_slice())))
    {
        let mut joined: Vec<_> = joined.into_iter().map(|chain| &chains[chain]).collect();
        // Tickets are sorted by seeds, so that additional seeds come last.
        joined.sort_by_key(|(chain, _)| chain.seeds);
        let networks = distinct(joined.iter().map(|(_, tickets)| tickets[connect.level as usize].clone()));
        add_matrix(runs, joined[0].0.problem, connect, &networks, |_| Masks::Union);
    }
}

/// Adds the matrices between transfers that differ only in seeds.
fn add_between_seeds(runs: &mut Runs, chain: &Chain, connect: &ConnectBlock, joinable: &Joinable, transfers: &[RunId]) {
    for row in joinable.rows(connect) {
        let networks: Vec<RunId> = row.iter().map(|&network| transfers[network].clone()).collect();
        let masks = |places: &[usize]| masks_of(places.iter().map(|&place| &chain.transfers[row[place]]));
        add_matrix(runs, chain.problem, connect, &networks, masks);
    }
}

/// Adds the planes through transfers that differ only in seeds.
fn add_planes(runs: &mut Runs, chain: &Chain, connect: &ConnectBlock, joinable: &Joinable, transfers: &[RunId]) {
    for corners in joinable.planes(connect) {
        let settings = Plane {
            problem: chain.problem,
            masks: masks_of(corners.iter().map(|&network| &chain.transfers[network])),
            points: connect.points,
            margin: connect.margin,
            batch: connect.batch,
            reestimation_batches: connect.reestimation_batches,
            sets: connect.sets,
            precision: connect.precision,
        };
        runs.add(Settings::Plane(settings), corners.map(|network| transfers[network].clone()).to_vec());
    }
}

/// Adds one run for every transfer and the `retrain` transfer of its ticket.
fn add_retrain(runs: &mut Runs, chain: &Chain, connect: &ConnectBlock, joinable: &Joinable, transfers: &[RunId]) {
    for ends in joinable.retrained(connect) {
        let masks = if chain.transfers[ends[0]].inherit.draws_mask() { Masks::Union } else { Masks::Same };
        let ends = ends.map(|network| transfers[network].clone()).to_vec();
        runs.add(Settings::Connect(path(chain.problem, connect, masks)), ends);
    }
}

/// Returns the masks of a run that joins transfers of one row: the union if some have drawn another mask than others.
fn masks_of<'t>(mut transfers: impl Iterator<Item = &'t TransferBlock>) -> Masks {
    let Some(first) = transfers.next() else { return Masks::Same };
    let differs = transfers.any(|other| other.seeds.init != first.seeds.init);
    if first.inherit.draws_mask() && differs { Masks::Union } else { Masks::Same }
}

/// Adds one run for every block of the matrix between these networks, or for every pair if blocks have one network on a
/// side. `masks` returns the masks of a run that joins some of the networks.
fn add_matrix(
    runs: &mut Runs,
    problem: Problem,
    connect: &ConnectBlock,
    networks: &[RunId],
    masks: impl Fn(&[usize]) -> Masks,
) {
    let blocks: Vec<_> = blocks(networks.len(), connect.block).collect();
    let count = blocks.len() as u32;
    for (number, (rows, columns)) in (1..).zip(blocks) {
        let side = rows.len() as u32;
        let places: Vec<usize> = rows.chain(columns).collect();
        let inputs = places.iter().map(|&place| networks[place].clone()).collect();
        let path = path(problem, connect, masks(&places));
        if connect.block == 1 {
            runs.add(Settings::Connect(path), inputs);
        } else {
            runs.add_block(Settings::Matrix(Matrix { path, rows: side }), inputs, Some((number, count)));
        }
    }
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
    use winsign_core::settings::Inherit;

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

    /// Returns the pairs of seeds that the matrices of a plan join.
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
    fn transfers_are_joined_with_the_retrained_ticket() {
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

    /// The order of the ends changes the last bits of a path.
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
    fn plane_leads_through_the_first_three_seeds() {
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

    /// Settings that change no number change no identity.
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
