//! From a sweep to its runs.

use std::collections::HashMap;

use super::{Label, Plan, PlannedRun};
use crate::run::settings::{
    Between, Connect, Import, Inherit, Masks, Method, Seeds, Settings, Ticket, Training, Transfer,
};
use crate::run::{Run, RunId};
use crate::study::sweep::{Axes, Chain, ConnectBlock, Sweep, TransferBlock};

/// Lists every run of a sweep once, after the runs it needs. Chains that share their first levels share those runs.
pub fn build(sweep: &Sweep) -> Plan {
    let mut runs = Runs::default();
    for chain in &sweep.chains {
        let tickets = add_tickets(&mut runs, chain);
        let transfers: Vec<(&TransferBlock, RunId)> = (chain.transfers.iter())
            .map(|transfer| (transfer, add_transfer(&mut runs, chain, transfer, &tickets)))
            .collect();
        for connect in &chain.connects {
            match connect.between {
                Between::Seeds => add_seed_pairs(&mut runs, chain, connect, &transfers),
                Between::NormInit => add_norm_init(&mut runs, chain, connect, &tickets),
            }
        }
    }
    Plan { name: sweep.name.clone(), runs: runs.planned, resources: sweep.resources }
}

#[derive(Default)]
struct Runs {
    planned: Vec<PlannedRun>,
    known: HashMap<RunId, usize>,
}

impl Runs {
    fn add(&mut self, settings: Settings, inputs: Vec<RunId>, label: Label) -> RunId {
        let run = Run::new(settings, inputs);
        let id = run.id.clone();
        match self.known.get(&id) {
            None => {
                self.known.insert(id.clone(), self.planned.len());
                self.planned.push(PlannedRun { run, label });
            }
            // What one chain rewinds to is level 0 of another one.
            Some(&known) if label.rewind_point.is_none() && self.planned[known].label.rewind_point.is_some() => {
                self.planned[known].label = label;
            }
            Some(_) => {}
        }
        id
    }
}

/// One run per level, each from what its method starts it from; gives their identities by level.
fn add_tickets(runs: &mut Runs, chain: &Chain) -> Vec<RunId> {
    if let Some(digest) = chain.imported {
        let settings = Settings::Import(Import { problem: chain.problem, digest });
        let ticket = runs.add(settings, vec![], label(chain, chain.levels, &[]));
        // It is at the only level that is transferred; level 0 was elsewhere, and nothing refers to it.
        return vec![ticket; chain.levels as usize + 1];
    }
    let dense = add_ticket(runs, chain, 0, &chain.warmup, vec![], None);
    let rewind_point = rewind_point(runs, chain, &dense);
    let mut tickets = vec![dense];
    for level in 1..=chain.levels {
        let before = tickets.last().filter(|_| chain.method.is_iterative());
        let inputs = before.into_iter().chain(&rewind_point).cloned().collect();
        tickets.push(add_ticket(runs, chain, level, &chain.training, inputs, None));
    }
    tickets
}

/// The network that IMP puts weights back to: none for the initialization, which follows from the seed, level 0 itself
/// for its last epoch, and else level 0 trained for so many epochs, which is what it was after them.
fn rewind_point(runs: &mut Runs, chain: &Chain, dense: &RunId) -> Option<RunId> {
    match chain.rewind_epoch {
        None | Some(0) => None,
        Some(last) if last == chain.warmup.epochs => Some(dense.clone()),
        Some(epoch) => {
            let training = Training { epochs: epoch, ..chain.warmup.clone() };
            Some(add_ticket(runs, chain, 0, &training, vec![], Some(epoch)))
        }
    }
}

fn add_ticket(
    runs: &mut Runs,
    chain: &Chain,
    level: u32,
    training: &Training,
    inputs: Vec<RunId>,
    rewind_point: Option<u32>,
) -> RunId {
    // AWS alone draws α: other chains that differ in its seed alone are one.
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
    let label = Label { seeds: vec![seeds], rewind_point, ..label(chain, level, &[]) };
    runs.add(Settings::Ticket(settings), inputs, label)
}

fn add_transfer(runs: &mut Runs, chain: &Chain, transfer: &TransferBlock, tickets: &[RunId]) -> RunId {
    // A ticket that is trained on needs no initialization: transfers that differ in its seed alone are one.
    let seeds = match transfer.inherit {
        Inherit::Retrain => Seeds::from(transfer.seeds.order),
        _ => transfer.seeds,
    };
    let settings = Transfer {
        problem: chain.problem,
        inherit: transfer.inherit,
        flip: transfer.flip,
        training: transfer.training.clone(),
        seeds,
    };
    let label = Label { seeds: vec![seeds], ..label_of_transfer(chain, transfer, &[]) };
    let ticket = transfer.inherit.needs_ticket().then(|| tickets[transfer.level as usize].clone());
    runs.add(Settings::Transfer(settings), ticket.into_iter().collect(), label)
}

/// One run for every pair of transfers that differ in nothing but their seeds, and have the same mask unless the union
/// is asked for.
fn add_seed_pairs(runs: &mut Runs, chain: &Chain, connect: &ConnectBlock, transfers: &[(&TransferBlock, RunId)]) {
    let joined: Vec<&(&TransferBlock, RunId)> = (transfers.iter())
        .filter(|(transfer, _)| transfer.level == connect.level && Some(transfer.inherit) == connect.inherit)
        .collect();
    for (index, (second, second_id)) in joined.iter().enumerate() {
        for (first, first_id) in &joined[..index] {
            let alike = (&first.training, first.flip, &first.axes) == (&second.training, second.flip, &second.axes);
            let masks_differ = first.inherit.draws_mask() && first.seeds.init != second.seeds.init;
            if !alike || first_id == second_id || (masks_differ && connect.masks == Masks::Same) {
                continue;
            }
            let masks = if masks_differ { Masks::Union } else { Masks::Same };
            // Ends in the order of their seeds, so that the order in the file does not change a pair's identity.
            let mut ends = [(first.seeds, first_id), (second.seeds, second_id)];
            ends.sort();
            let inputs = ends.map(|(_, id)| id.clone()).to_vec();
            let label = Label {
                between: Some(Between::Seeds),
                seeds: ends.map(|(seeds, _)| seeds).to_vec(),
                ..label_of_transfer(chain, first, &connect.axes)
            };
            runs.add(path(chain, connect, masks), inputs, label);
        }
    }
}

fn add_norm_init(runs: &mut Runs, chain: &Chain, connect: &ConnectBlock, tickets: &[RunId]) {
    let label = Label { between: Some(Between::NormInit), ..label(chain, connect.level, &connect.axes) };
    runs.add(path(chain, connect, Masks::Same), vec![tickets[connect.level as usize].clone()], label);
}

fn path(chain: &Chain, connect: &ConnectBlock, masks: Masks) -> Settings {
    Settings::Connect(Connect {
        problem: chain.problem,
        between: connect.between,
        masks,
        points: connect.points,
        batch: connect.batch,
    })
}

/// Of a transfer, and of a path between such transfers with axes of its own. What inherits from no ticket belongs to no
/// chain: all chains share it.
fn label_of_transfer(chain: &Chain, transfer: &TransferBlock, axes: &[(String, String)]) -> Label {
    let all: Axes = transfer.axes.iter().chain(axes).cloned().collect();
    let label = Label { inherit: Some(transfer.inherit), ..label(chain, transfer.level, &all) };
    match transfer.inherit.needs_ticket() {
        true => label,
        false => Label { method: None, axes: all, ..label },
    }
}

fn label(chain: &Chain, level: u32, axes: &[(String, String)]) -> Label {
    Label {
        problem: chain.problem,
        method: Some(chain.method),
        level,
        rewind_point: None,
        inherit: None,
        between: None,
        seeds: Vec::<Seeds>::new(),
        axes: chain.axes.iter().chain(axes).cloned().collect(),
    }
}
