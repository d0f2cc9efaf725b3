//! Builds the runs of a sweep.

use std::collections::HashSet;

use winsign_core::settings::{Import, Method, Schedule, Seeds, Settings, Ticket, Training, Transfer};
use winsign_core::{Run, RunId};

use super::{Plan, joins, label};
use crate::{Chain, Sweep, TransferBlock};

/// Lists every run of a sweep once, after the runs it needs. Chains that share their first levels share those runs.
pub fn build(sweep: &Sweep) -> Plan {
    let mut runs = Runs::default();
    let mut chains = vec![];
    for chain in &sweep.chains {
        let tickets = add_tickets(&mut runs, chain);
        let transfers: Vec<RunId> =
            chain.transfers.iter().map(|transfer| add_transfer(&mut runs, chain, transfer, &tickets)).collect();
        joins::add_of_chain(&mut runs, chain, &tickets, &transfers);
        chains.push((chain, tickets));
    }
    joins::add_between_tickets(&mut runs, &chains);
    Plan { name: sweep.name.clone(), runs: label::label(runs.planned), resources: sweep.resources }
}

/// The runs so far, each once, with its block if it is one of several runs of a matrix.
#[derive(Default)]
pub(super) struct Runs {
    planned: Vec<(Run, Option<label::Block>)>,
    known: HashSet<RunId>,
}

impl Runs {
    pub(super) fn add(&mut self, settings: Settings, inputs: Vec<RunId>) -> RunId {
        self.add_block(settings, inputs, None)
    }

    pub(super) fn add_block(&mut self, settings: Settings, inputs: Vec<RunId>, block: Option<label::Block>) -> RunId {
        let run = Run::new(settings, inputs);
        let id = run.id.clone();
        if self.known.insert(id.clone()) {
            self.planned.push((run, block));
        }
        id
    }
}

/// Adds one run per level, with the inputs of its method, and returns the identities by level.
fn add_tickets(runs: &mut Runs, chain: &Chain) -> Vec<RunId> {
    if let Some(digest) = chain.imported {
        let settings = Settings::Import(Import { problem: chain.problem, digest });
        let ticket = runs.add(settings, vec![]);
        // The ticket is at level 1, the only one that is transferred; nothing refers to level 0.
        return vec![ticket; chain.levels as usize + 1];
    }
    let dense = add_ticket(runs, chain, 0, &chain.warmup, vec![]);
    let rewind_point = rewind_point(runs, chain, &dense);
    let mut tickets = vec![dense];
    for level in 1..=chain.levels {
        let before = tickets.last().filter(|_| chain.method.is_iterative());
        let inputs = before.into_iter().chain(&rewind_point).cloned().collect();
        tickets.push(add_ticket(runs, chain, level, &chain.training, inputs));
    }
    tickets
}

/// Returns the network to which IMP rewinds weights: `None` for the initialization, which follows from the seed; level
/// 0 itself for its last epoch; otherwise level 0 trained for that number of epochs, in which its learning rate is
/// constant.
fn rewind_point(runs: &mut Runs, chain: &Chain, dense: &RunId) -> Option<RunId> {
    match chain.rewind_epoch {
        None | Some(0) => None,
        Some(last) if last == chain.warmup.epochs => Some(dense.clone()),
        Some(epoch) => {
            let training = Training { epochs: epoch, schedule: Schedule::Constant, ..chain.warmup.clone() };
            Some(add_ticket(runs, chain, 0, &training, vec![]))
        }
    }
}

fn add_ticket(runs: &mut Runs, chain: &Chain, level: u32, training: &Training, inputs: Vec<RunId>) -> RunId {
    // Only AWS draws α: chains of other methods that differ only in its seed are the same.
    let seeds = match chain.method {
        Method::Aws => chain.seeds,
        Method::Lrr | Method::Imp | Method::Snip | Method::SynFlow | Method::Imported => {
            Seeds { alpha: chain.seeds.init, ..chain.seeds }
        }
    };
    let settings = Ticket {
        problem: chain.problem,
        method: chain.method,
        level,
        prune_ratio: (level > 0).then_some(chain.prune_ratio),
        rewind_epoch: chain.rewind_epoch.filter(|_| level > 0),
        training: training.clone(),
        seeds,
    };
    runs.add(Settings::Ticket(settings), inputs)
}

fn add_transfer(runs: &mut Runs, chain: &Chain, transfer: &TransferBlock, tickets: &[RunId]) -> RunId {
    let seeds = transfer.run_seeds();
    let settings = Transfer {
        problem: chain.problem,
        inherit: transfer.inherit,
        flip: transfer.flip,
        training: transfer.training.clone(),
        seeds,
    };
    let ticket = transfer.inherit.needs_ticket().then(|| tickets[transfer.level as usize].clone());
    runs.add(Settings::Transfer(settings), ticket.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;
    use crate::plan::PlannedRun;
    use winsign_core::settings::{Inherit, Masks};

    fn planned(text: &str) -> Plan {
        let file = format!("dataset: digits\narchitecture: resnet8\n{text}");
        build(&parse("study.yaml", &file).unwrap_or_else(|error| panic!("{}", error.render(false))))
    }

    fn labels(plan: &Plan) -> Vec<String> {
        plan.runs.iter().map(|planned| planned.label.to_string()).collect()
    }

    /// Returns the labels of the runs that a run reads.
    fn inputs<'p>(plan: &'p Plan, label: &str) -> Vec<String> {
        let find =
            |is: &dyn Fn(&PlannedRun) -> bool| -> &'p PlannedRun { plan.runs.iter().find(|run| is(run)).unwrap() };
        let run = find(&|planned| planned.label.to_string() == label);
        run.run.inputs.iter().map(|id| find(&|planned| planned.run.id == *id).label.to_string()).collect()
    }

    /// Stores of version 0.1 stay usable: its runs keep their identities. It measured only test images.
    #[test]
    fn runs_of_the_first_version_keep_their_identities() {
        let study = |sets: &str| {
            let text = include_str!("../../../sweeps/digits.yaml");
            let text = text.replace("- between:", &format!("- sets: {sets}\n    between:"));
            build(&parse("digits.yaml", &text).unwrap())
        };
        let plan = study("test");
        let known = [
            ("96647238e8290f03", "lrr level 0, seed 1"),
            ("0193c6f5a39e5b4c", "lrr level 12, seed 1"),
            ("c6721d6dd4085234", "aws level 12, seed 1"),
            ("e500112a761045f7", "lrr level 12, sign, seed 2"),
            ("7ec995f8ae3e5f0e", "aws level 12, mask, seed 2"),
            ("b1e8fb4252d8027a", "aws level 12, sign+norm, seed 3"),
            ("5fce179dc9c0b2a0", "lrr level 12, retrain, seed 4"),
            ("5dfb22a3515e2589", "aws level 12, sign, between seeds 2 and 3"),
            ("6c9d4fc47dbef3cd", "aws level 12, between norm-init"),
        ];
        for (id, label) in known {
            let found = plan.runs.iter().find(|planned| planned.label.to_string() == label);
            assert_eq!(found.map(|planned| planned.run.id.as_str()), Some(id), "{label}");
        }
        for (with_both, planned) in study("both").runs.iter().zip(&plan.runs) {
            assert_eq!(with_both.label, planned.label);
            assert_eq!(with_both.run.id == planned.run.id, planned.label.between.is_none(), "{}", planned.label);
        }
    }

    /// Settings written by version 0.1 do not name the images that were measured.
    #[test]
    fn paths_of_the_first_version_are_of_test_images_alone() {
        let plan = planned("ticket: {method: aws, levels: 1}\nconnect: {between: norm-init, sets: [test, both]}");
        let paths = plan.runs.iter().filter(|planned| planned.label.between.is_some());
        let written: Vec<_> = paths.clone().map(|planned| serde_json::json!(planned.run.settings)).collect();
        assert_eq!([&written[0]["sets"], &written[1]["sets"]], [&serde_json::Value::Null, &"both".into()]);
        for (written, planned) in written.into_iter().zip(paths) {
            assert_eq!(serde_json::from_value::<Settings>(written).unwrap(), planned.run.settings);
        }
    }

    #[test]
    fn imp_tickets_need_their_rewind_point() {
        let chain = |rewind: &str| planned(&format!("ticket: {{method: imp, levels: 2, warmup_epochs: 3, {rewind}}}"));
        let from_start = chain("rewind_epoch: 0");
        assert_eq!(labels(&from_start), ["imp level 0, seed 1", "imp level 1, seed 1", "imp level 2, seed 1"]);
        assert_eq!(inputs(&from_start, "imp level 1, seed 1"), ["imp level 0, seed 1"]);

        let early = chain("rewind_epoch: 2");
        assert_eq!(early.runs.len(), 4);
        assert_eq!(labels(&early)[1], "imp level 0 at epoch 2, seed 1");
        let both = ["imp level 1, seed 1", "imp level 0 at epoch 2, seed 1"];
        assert_eq!(inputs(&early, "imp level 2, seed 1"), both);
        assert_eq!(early.runs[0].run.id, from_start.runs[0].run.id, "level 0 is level 0");
        assert_ne!(early.runs[2].run.id, from_start.runs[1].run.id);

        let end_of_level_0 = chain("rewind_epoch: 3");
        assert_eq!(inputs(&end_of_level_0, "imp level 1, seed 1"), ["imp level 0, seed 1", "imp level 0, seed 1"]);

        // Until its rate changes, level 0 is what the rewind point is.
        let scheduled = chain("schedule: cosine, rewind_epoch: 1");
        let constant = chain("rewind_epoch: 1");
        assert_eq!(scheduled.runs[1].run.id, constant.runs[1].run.id);
        assert_eq!(labels(&scheduled), labels(&constant));

        // The rewind point of one chain is level 0 of the other: one run, labeled as a level.
        let shared = planned("ticket: {method: imp, levels: 1, warmup_epochs: [3, 2], rewind_epoch: 2}");
        let level_0 = shared.runs.iter().filter(|planned| planned.label.level == 0);
        assert!(level_0.clone().all(|planned| planned.label.rewind_point.is_none()));
        assert_eq!(level_0.count(), 2);

        let labels = labels(&chain("rewind_epoch: [1, 2]"));
        assert_eq!(labels[..2], ["imp level 0, seed 1", "imp level 0 at epoch 1, seed 1"]);
        assert_eq!(labels[2], "imp level 1, seed 1, ticket.rewind_epoch 1");
        assert_eq!(labels.len(), 1 + 2 * (1 + 2));
    }

    #[test]
    fn tickets_found_at_initialization_have_no_inputs() {
        let plan = planned("ticket: {method: [snip, synflow], levels: 2, seed_alpha: [1, 2]}");
        assert_eq!(plan.runs.len(), 2 * 3);
        assert!(plan.runs.iter().all(|planned| planned.run.inputs.is_empty()));
    }

    #[test]
    fn dense_networks_are_trained_once_for_all_tickets() {
        let plan = planned(
            "ticket: {levels: 3, seed: 1..2, epochs: [4, 8]}
transfer: {inherit: [sign, dense], level: all, seed: 2..4}
connect: {between: seeds}",
        );
        let dense: Vec<_> = plan.runs.iter().filter(|planned| planned.label.inherit == Some(Inherit::Dense)).collect();
        let labels: Vec<String> = dense.iter().map(|planned| planned.label.to_string()).collect();
        let pairs = ["2 and 3", "2 and 4", "3 and 4"].map(|pair| format!("dense, between seeds {pair}"));
        assert_eq!(labels[..3], ["dense, seed 2", "dense, seed 3", "dense, seed 4"]);
        assert_eq!(labels[3..], pairs);
        assert!(dense[..3].iter().all(|planned| planned.run.inputs.is_empty()));
        assert!(dense.iter().all(|planned| planned.label.axes.is_empty() && planned.label.level == 0));
    }

    #[test]
    fn flipped_signs_are_runs_of_their_own_where_there_are_signs() {
        let count = |flip: &str| {
            planned(&format!(
                "ticket: {{method: lrr, levels: 1}}
transfer: {{inherit: [sign, sign+norm, mask, retrain, dense, random-sign], seed: 2, flip: {flip}}}"
            ))
            .runs
            .len()
        };
        assert_eq!((count("0"), count("[0, 0.1, 0.2]")), (2 + 6, 2 + 6 + 2 * 2));
    }

    /// Masks of different initializations are joined over their union on request; paths between networks with one mask
    /// do not change.
    #[test]
    fn paths_between_different_masks_use_the_union_on_request() {
        let plan = planned(
            "ticket: {method: lrr, levels: 1}
transfer: {inherit: [sign, random-mask], seed_init: 2..3, seed_order: [4, 5]}
connect: {between: seeds, masks: [same, union]}",
        );
        let masks_of = |inherit| -> Vec<Masks> {
            let of_it = plan.runs.iter().filter(|planned| planned.label.inherit == Some(inherit));
            of_it
                .filter_map(|planned| match &planned.run.settings {
                    Settings::Connect(connect) => Some(connect.masks),
                    _ => None,
                })
                .collect()
        };
        assert_eq!(masks_of(Inherit::Sign), [Masks::Same; 6]);
        let random = masks_of(Inherit::RandomMask);
        let union = random.iter().filter(|masks| **masks == Masks::Union).count();
        assert_eq!((random.len(), union), (6, 4));
    }
}
