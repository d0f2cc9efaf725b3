//! From blocks of axes to chains, transfers and connects.
//!
//! Scope by scope: all chains first, then the transfers of each, then the connects. How many runs a scope will have is
//! known before it is expanded, so that a slip such as `seed: 1..100000000000` costs nothing.

use std::collections::HashSet;

use winsign_core::settings::{Between, Inherit, Method, Problem, Schedule, Seeds, Training};

use super::checks::{
    check_align, check_fits, check_level, check_numerics, check_path, check_rewind, check_runs, check_transferred,
    is_none_beside,
};
use super::combine::{Dimension, Point, Values};
use super::defaults::recipe;
use super::exclude::{Exclusion, Left};
use super::file::{File, Section};
use super::joining::{Joined, Transfers, runs_of_matrix};
use super::schema::{Block, Fallback, IMPORTED, Key, Kind};
use super::values::{Axis, Value};
use super::{Chain, ConnectBlock, TransferBlock};
use crate::yaml::Diagnostic;

pub(crate) fn expand(file: &File) -> Result<Vec<Chain>, Diagnostic> {
    let mut exclusion = Exclusion::new(&file.rules);

    let root = Point::root();
    let problems = root.combine(&dimensions(file, &file.top, &root, &Transfers::default())?);
    let points = chains(file, &problems, &mut exclusion)?;
    let transfers = transfers(file, &points, &mut exclusion)?;
    let connects = connects(file, &points, &transfers, &mut exclusion)?;
    exclusion.check_all_matched()?;

    let nested = points.iter().zip(transfers).zip(connects);
    Ok(nested.map(|((point, transfers), connects)| chain(point, transfers.blocks, connects)).collect())
}

/// The chains: combinations of top-level and ticket settings.
fn chains<'p, 'f>(
    file: &'f File,
    problems: &'p [Point<'p>],
    exclusion: &mut Exclusion<'f>,
) -> Result<Vec<Point<'p>>, Diagnostic> {
    let none = Transfers::default();
    let mut runs: u128 = 0;
    for section in &file.tickets {
        for problem in problems {
            runs = runs.saturating_add(count_tickets(problem, &dimensions(file, section, problem, &none)?));
        }
    }
    check_runs(file, runs, "tickets alone")?;

    let mut chains = Vec::new();
    let mut known = HashSet::new();
    for section in &file.tickets {
        let mut left = Left::default();
        let mut effects = Effects::of(section);
        for (index, problem) in problems.iter().enumerate() {
            let points = problem.combine(&dimensions(file, section, problem, &none)?);
            effects.see(&points);
            for point in exclusion.keep(points, &mut left) {
                check_fits(file, &point)?;
                check_numerics(section, "ticket.precision", &point)?;
                check_rewind(section, &point)?;
                // Two blocks may have a chain in common.
                if known.insert((index, point.identity())) {
                    chains.push(point);
                }
            }
        }
        effects.check()?;
        left.check(Block::Ticket)?;
    }
    Ok(chains)
}

/// The transfers of every chain.
fn transfers<'f>(
    file: &'f File,
    chains: &[Point],
    exclusion: &mut Exclusion<'f>,
) -> Result<Vec<Transfers>, Diagnostic> {
    let none = Transfers::default();
    let mut runs = chains.iter().map(tickets).sum::<u128>();
    for section in &file.transfers {
        for chain in chains {
            runs = runs.saturating_add(chain.count(&dimensions(file, section, chain, &none)?));
        }
    }
    check_runs(file, runs, "tickets and transfers")?;

    let mut all: Vec<Transfers> = chains.iter().map(|_| Transfers::default()).collect();
    for section in &file.transfers {
        let mut left = Left::default();
        let mut effects = Effects::of(section);
        for (chain, transfers) in chains.iter().zip(&mut all) {
            let points = chain.combine(&dimensions(file, section, chain, &none)?);
            effects.see(&points);
            for point in exclusion.keep(points, &mut left) {
                check_level(section, "transfer.level", &point)?;
                check_numerics(section, "transfer.precision", &point)?;
                transfers.add(&point, || transfer(&point));
            }
        }
        effects.check()?;
        left.check(Block::Transfer)?;
    }
    Ok(all)
}

/// The connects of every chain.
fn connects<'f>(
    file: &'f File,
    chains: &[Point],
    transfers: &[Transfers],
    exclusion: &mut Exclusion<'f>,
) -> Result<Vec<Vec<ConnectBlock>>, Diagnostic> {
    let before = chains.iter().map(tickets).sum::<u128>() + transfers.iter().map(Transfers::count).sum::<u128>();
    let mut runs = before;
    for section in &file.connects {
        for (chain, transfers) in chains.iter().zip(transfers) {
            runs = runs.saturating_add(chain.count(&dimensions(file, section, chain, transfers)?));
        }
    }
    check_runs(file, runs, "tickets, transfers and connects")?;

    let levels = transfers.iter().flat_map(|transfers| transfers.levels.iter().copied()).collect();
    let inherits = transfers.iter().flat_map(|transfers| transfers.inherits.iter().copied()).collect();
    let mut runs = before;
    let mut all: Vec<Vec<ConnectBlock>> = vec![Vec::new(); chains.len()];
    let mut known: HashSet<(usize, Vec<Value>)> = HashSet::new();
    for section in &file.connects {
        let mut left = Left::default();
        let mut effects = Effects::of(section);
        let mut joined = Joined::default();
        for (index, (chain, transfers)) in chains.iter().zip(transfers).enumerate() {
            let mut points = chain.combine(&dimensions(file, section, chain, transfers)?);
            for point in &points {
                check_level(section, "connect.level", point)?;
                if section.between().is_some_and(Between::joins_transfers) {
                    check_transferred(section, "connect.level", point, &levels)?;
                    check_transferred(section, "connect.inherit", point, &inherits)?;
                }
                check_path(section, point)?;
            }
            effects.see(&points);
            points.retain(|point| joined.see(point, chain, transfers));
            for point in exclusion.keep(points, &mut left) {
                check_align(section, &point)?;
                check_numerics(section, "connect.precision", &point)?;
                if known.insert((index, point.identity().0)) {
                    runs = runs.saturating_add(transfers.runs(&point));
                    all[index].push(connect(&point));
                }
            }
        }
        joined.check(section)?;
        effects.check()?;
        left.check(Block::Connect)?;
    }
    runs = runs.saturating_add(count_matrices(chains, &all));
    check_runs(file, runs, "tickets, transfers and connects")?;
    Ok(all)
}

/// The runs between tickets, which may be of several chains.
fn count_matrices(chains: &[Point], connects: &[Vec<ConnectBlock>]) -> u128 {
    let mut matrices: Vec<(Problem, &ConnectBlock, u64)> = Vec::new();
    for (chain, connects) in chains.iter().zip(connects) {
        let problem = problem(chain);
        for connect in connects.iter().filter(|connect| connect.between == Between::Tickets) {
            let same = |(other, first, _): &&mut (Problem, &ConnectBlock, u64)| {
                *other == problem && connect.asks_for_the_matrix_of(first)
            };
            match matrices.iter_mut().find(same) {
                Some((.., tickets)) => *tickets += 1,
                None => matrices.push((problem, connect, 1)),
            }
        }
    }
    matrices.iter().map(|(_, first, tickets)| runs_of_matrix(*tickets, first.block.into())).sum()
}

/// The settings of a block that have a say in some combinations only, and whether these have been met.
struct Effects<'f> {
    unmet: Vec<(&'f Axis, &'static str, &'static str)>,
}

impl<'f> Effects<'f> {
    fn of(section: &'f Section) -> Effects<'f> {
        let rewind = ("no chain of this block uses `imp`", "remove it, or add `imp` to `method`");
        let flip = ("this block inherits no signs", "remove it, or add `sign` or `sign+norm` to `inherit`");
        let masks = (
            "all networks that this block connects have the same mask",
            "remove it, or connect transfers of `random-mask` or `random-mask-erk`",
        );
        let batches = ("this architecture has no BatchNorm", "remove it");
        let known = [
            ("ticket.rewind_epoch", rewind),
            ("transfer.flip", flip),
            ("connect.masks", masks),
            ("connect.reestimation_batches", batches),
        ];
        let given = known.into_iter().filter_map(|(path, (why, help))| Some((section.axis(path)?, why, help)));
        Effects { unmet: given.collect() }
    }

    fn see(&mut self, points: &[Point]) {
        self.unmet.retain(|(axis, ..)| !points.iter().any(|point| point.depends_on(axis.key)));
    }

    /// A setting without effect is a mistake.
    fn check(&self) -> Result<(), Diagnostic> {
        match self.unmet.first() {
            Some((axis, why, help)) => {
                Err(Diagnostic::at(axis.place, format!("`{}` has no effect: {why}", axis.key.path), *help))
            }
            None => Ok(()),
        }
    }
}

/// The values each setting of a section takes within a combination of the scope around it.
fn dimensions<'f>(
    file: &File,
    section: &'f Section,
    outer: &Point,
    transfers: &Transfers,
) -> Result<Vec<Dimension<'f>>, Diagnostic> {
    let mut dimensions = Vec::new();
    for key in section.block.keys().filter(|key| key.is_axis()) {
        let axis = section.axis(key.path);
        let values = match axis {
            Some(axis) if key.kind == Kind::Level => Values::List(axis.levels(outer.levels())?),
            Some(axis) => Values::Axis(axis),
            None => match default(file, section, key, outer, transfers) {
                Some(values) => values,
                None => continue,
            },
        };
        dimensions.push(Dimension { key, values, zip: axis.and_then(|axis| file.zip_of(axis)) });
    }
    Ok(dimensions)
}

/// What a setting is where the file does not give it; none if it has no meaning there.
fn default<'f>(file: &File, section: &Section, key: &Key, outer: &Point, transfers: &Transfers) -> Option<Values<'f>> {
    let list = match (key.path, key.default) {
        // Who gives one of the two seeds alone wants one value of the other, not a product.
        ("transfer.seed", Fallback::Values(seeds)) if section.has_own_seeds() => seeds[..1].to_vec(),
        ("ticket.method", _) if section.axis("ticket.imported").is_some() => vec![Value::Word(IMPORTED)],
        ("ticket.levels", _) if section.axis("ticket.imported").is_some() => vec![Value::Whole(1)],
        ("connect.level", _) => match section.between()? {
            Between::Levels => (1..=outer.levels()).map(Value::Whole).collect(),
            Between::Seeds | Between::Plane => transfers.levels.clone(),
            _ if file.transfers.is_empty() => vec![Value::Whole(outer.levels())],
            Between::Retrain | Between::NormInit | Between::Tickets => transfers.levels_of_tickets(outer.levels()),
        },
        ("connect.inherit", _) => match section.between()? {
            Between::Seeds | Between::Plane => transfers.inherits.clone(),
            Between::Retrain => {
                transfers.inherits.iter().copied().filter(|inherit| !is_none_beside(*inherit)).collect()
            }
            Between::NormInit | Between::Levels | Between::Tickets => return None,
        },
        ("connect.points", _) if section.between() == Some(Between::Plane) => vec![Value::Whole(15)],
        ("connect.points", _) => vec![Value::Whole(11)],
        (_, Fallback::Values(values)) => values.to_vec(),
        (_, Fallback::Recipe) if key.kind == Kind::Level => {
            recipe(problem(outer), key).iter().flat_map(|level| level.meant(outer.levels())).collect()
        }
        (_, Fallback::Recipe) => recipe(problem(outer), key).to_vec(),
        (_, Fallback::Same(path)) => return Some(Values::Same(path)),
        (_, Fallback::Required | Fallback::Depends(_)) => return None,
    };
    Some(Values::List(list))
}

/// The tickets of a chain: one for each level, and level 0.
fn tickets(chain: &Point) -> u128 {
    u128::from(chain.levels()) + 1
}

/// The tickets of all chains of a section, before they are expanded.
fn count_tickets(problem: &Point, dimensions: &[Dimension]) -> u128 {
    let chains = problem.count(dimensions);
    let levels = dimensions.iter().find(|dimension| dimension.key.path == "ticket.levels");
    let levels: Vec<_> = levels.map(Dimension::values).unwrap_or_default();
    let tickets = levels.iter().map(|level| if let Value::Whole(level) = level { u128::from(*level) + 1 } else { 1 });
    // Every number of levels occurs in equally many chains.
    (chains / levels.len().max(1) as u128).saturating_mul(tickets.sum())
}

pub(crate) fn problem(point: &Point) -> Problem {
    Problem {
        dataset: point.word("dataset"),
        architecture: point.word("architecture"),
        numerics: point.word("numerics"),
    }
}

fn chain(point: &Point, transfers: Vec<TransferBlock>, connects: Vec<ConnectBlock>) -> Chain {
    let training = Training {
        epochs: point.number("ticket.epochs"),
        batch: point.number("ticket.batch"),
        optimizer: point.word("ticket.optimizer"),
        lr: point.real("ticket.lr"),
        momentum: point.real("ticket.momentum"),
        weight_decay: point.real("ticket.weight_decay"),
        schedule: Schedule::Constant,
        precision: point.word("ticket.precision"),
    };
    let method = point.word("ticket.method");
    Chain {
        problem: problem(point),
        method,
        imported: point.digest("ticket.imported"),
        levels: point.number("ticket.levels"),
        prune_ratio: point.real("ticket.prune_ratio"),
        rewind_epoch: (method == Method::Imp).then(|| point.number("ticket.rewind_epoch")),
        warmup: Training { epochs: point.number("ticket.warmup_epochs"), ..training.clone() },
        training,
        seeds: Seeds {
            init: point.whole("ticket.seed_init"),
            order: point.whole("ticket.seed_order"),
            alpha: point.whole("ticket.seed_alpha"),
        },
        transfers,
        connects,
    }
}

fn transfer(point: &Point) -> TransferBlock {
    let init = point.whole("transfer.seed_init");
    let inherit: Inherit = point.word("transfer.inherit");
    TransferBlock {
        level: if inherit.needs_ticket() { point.number("transfer.level") } else { 0 },
        inherit,
        flip: if inherit.has_signs() { point.real("transfer.flip") } else { 0.0 },
        training: Training {
            epochs: point.number("transfer.epochs"),
            batch: point.number("transfer.batch"),
            optimizer: point.word("transfer.optimizer"),
            lr: point.real("transfer.lr"),
            momentum: point.real("transfer.momentum"),
            weight_decay: point.real("transfer.weight_decay"),
            schedule: point.word("transfer.schedule"),
            precision: point.word("transfer.precision"),
        },
        // Transfers train without α; a seed that follows from another one never makes two runs of one.
        seeds: Seeds { init, order: point.whole("transfer.seed_order"), alpha: init },
    }
}

fn connect(point: &Point) -> ConnectBlock {
    let batches = Block::Connect.key("reestimation_batches").filter(|key| point.depends_on(key));
    ConnectBlock {
        between: point.between(),
        level: point.number("connect.level"),
        inherit: point.get("connect.inherit").map(|_| point.word("connect.inherit")),
        block: point.number("connect.block"),
        masks: point.word("connect.masks"),
        align: point.word("connect.align"),
        points: point.number("connect.points"),
        refine: point.number("connect.refine"),
        margin: point.real("connect.margin"),
        sets: point.word("connect.sets"),
        batch: point.number("connect.batch"),
        reestimation_batches: batches
            .and_then(|key| point.get(key.path))
            .map(|_| point.number("connect.reestimation_batches")),
        precision: point.word("connect.precision"),
    }
}
