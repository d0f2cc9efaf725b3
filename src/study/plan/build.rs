//! From a sweep to its runs.

use std::collections::HashSet;

use super::{Label, Plan, PlannedRun};
use crate::run::settings::{Between, Connect, Inherit, Method, Seeds, Settings, Ticket, Transfer};
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
    known: HashSet<RunId>,
}

impl Runs {
    fn add(&mut self, settings: Settings, inputs: Vec<RunId>, label: Label) -> RunId {
        let run = Run::new(settings, inputs);
        let id = run.id.clone();
        if self.known.insert(id.clone()) {
            self.planned.push(PlannedRun { run, label });
        }
        id
    }
}

/// One run per level, each from the one before; gives their identities by level.
fn add_tickets(runs: &mut Runs, chain: &Chain) -> Vec<RunId> {
    let mut tickets: Vec<RunId> = vec![];
    // LRR draws no α: chains that differ in its seed alone are one.
    let seeds = match chain.method {
        Method::Lrr => Seeds { alpha: chain.seeds.init, ..chain.seeds },
        Method::Aws => chain.seeds,
    };
    for level in 0..=chain.levels {
        let settings = Ticket {
            problem: chain.problem,
            method: chain.method,
            level,
            prune_ratio: (level > 0).then_some(chain.prune_ratio),
            training: if level == 0 { &chain.warmup } else { &chain.training }.clone(),
            seeds,
        };
        let label = Label { seeds: vec![seeds], ..label(chain, level, &[]) };
        tickets.push(runs.add(Settings::Ticket(settings), tickets.last().cloned().into_iter().collect(), label));
    }
    tickets
}

fn add_transfer(runs: &mut Runs, chain: &Chain, transfer: &TransferBlock, tickets: &[RunId]) -> RunId {
    // A ticket that is trained on needs no initialization: transfers that differ in its seed alone are one.
    let seeds = match transfer.inherit {
        Inherit::Retrain => Seeds::from(transfer.seeds.order),
        _ => transfer.seeds,
    };
    let settings =
        Transfer { problem: chain.problem, inherit: transfer.inherit, training: transfer.training.clone(), seeds };
    let label =
        Label { inherit: Some(transfer.inherit), seeds: vec![seeds], ..label(chain, transfer.level, &transfer.axes) };
    let ticket = tickets[transfer.level as usize].clone();
    runs.add(Settings::Transfer(settings), vec![ticket], label)
}

/// One run for every pair of transfers that differ in nothing but their seeds.
fn add_seed_pairs(runs: &mut Runs, chain: &Chain, connect: &ConnectBlock, transfers: &[(&TransferBlock, RunId)]) {
    let joined: Vec<&(&TransferBlock, RunId)> = (transfers.iter())
        .filter(|(transfer, _)| transfer.level == connect.level && Some(transfer.inherit) == connect.inherit)
        .collect();
    for (index, (second, second_id)) in joined.iter().enumerate() {
        for (first, first_id) in &joined[..index] {
            let alike = first.training == second.training && first.axes == second.axes;
            if !alike || first_id == second_id {
                continue;
            }
            // Ends in the order of their seeds, so that the order in the file does not change a pair's identity.
            let mut ends = [(first.seeds, first_id), (second.seeds, second_id)];
            ends.sort();
            let inputs = ends.map(|(_, id)| id.clone()).to_vec();
            let axes: Axes = first.axes.iter().chain(&connect.axes).cloned().collect();
            let label = Label {
                inherit: connect.inherit,
                between: Some(Between::Seeds),
                seeds: ends.map(|(seeds, _)| seeds).to_vec(),
                ..label(chain, connect.level, &axes)
            };
            runs.add(path(chain, connect), inputs, label);
        }
    }
}

fn add_norm_init(runs: &mut Runs, chain: &Chain, connect: &ConnectBlock, tickets: &[RunId]) {
    let label = Label { between: Some(Between::NormInit), ..label(chain, connect.level, &connect.axes) };
    runs.add(path(chain, connect), vec![tickets[connect.level as usize].clone()], label);
}

fn path(chain: &Chain, connect: &ConnectBlock) -> Settings {
    Settings::Connect(Connect {
        problem: chain.problem,
        between: connect.between,
        points: connect.points,
        batch: connect.batch,
    })
}

fn label(chain: &Chain, level: u32, axes: &[(String, String)]) -> Label {
    Label {
        problem: chain.problem,
        method: chain.method,
        level,
        inherit: None,
        between: None,
        seeds: Vec::<Seeds>::new(),
        axes: chain.axes.iter().chain(axes).cloned().collect(),
    }
}
