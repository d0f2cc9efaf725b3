//! From blocks of axes to chains, transfers and connects.
//!
//! Scope by scope: all chains first, then the transfers of each, then the connects. How many runs a scope will have is
//! known before it is expanded, so that a slip such as `seed: 1..100000000000` costs nothing.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::columns::Columns;
use super::combine::{Dimension, Point, Values};
use super::defaults::recipe;
use super::error::{Fault, grouped};
use super::exclude::{Exclusion, Left, some_of};
use super::file::{File, Section};
use super::schema::{Block, Fallback, Key, Kind};
use super::values::{Axis, Value};
use super::{Chain, ConnectBlock, TransferBlock};
use crate::run::settings::{Between, Problem, Schedule, Seeds, Training};

/// More runs than anybody means.
const MAX_RUNS: u128 = 1_000_000;

pub fn expand(file: &File) -> Result<Vec<Chain>, Fault> {
    let mut exclusion = Exclusion::new(&file.rules);
    let columns = Columns::of(file);

    let root = Point::root();
    let problems = root.combine(&dimensions(file, &file.top, &root, &Transfers::default())?);
    let points = chains(file, &problems, &mut exclusion)?;
    let transfers = transfers(file, &points, &columns, &mut exclusion)?;
    let connects = connects(file, &points, &transfers, &columns, &mut exclusion)?;
    exclusion.check_all_matched()?;

    let nested = points.iter().zip(transfers).zip(connects);
    Ok(nested.map(|((point, transfers), connects)| chain(point, transfers.blocks, connects, &columns)).collect())
}

/// The chains: combinations of top-level and ticket settings.
fn chains<'p, 'f>(
    file: &'f File,
    problems: &'p [Point<'p>],
    exclusion: &mut Exclusion<'f>,
) -> Result<Vec<Point<'p>>, Fault> {
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
        for (index, problem) in problems.iter().enumerate() {
            let points = problem.combine(&dimensions(file, section, problem, &none)?);
            // Two blocks may have a chain in common.
            let mut is_new = |point: &Point| known.insert((index, point.identity(is_told_by_value)));
            chains.extend(exclusion.keep(points, &mut left).into_iter().filter(|point| is_new(point)));
        }
        left.check(Block::Ticket)?;
    }
    Ok(chains)
}

/// The transfers of every chain.
fn transfers<'f>(
    file: &'f File,
    chains: &[Point],
    columns: &Columns,
    exclusion: &mut Exclusion<'f>,
) -> Result<Vec<Transfers>, Fault> {
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
        for (chain, transfers) in chains.iter().zip(&mut all) {
            let points = chain.combine(&dimensions(file, section, chain, &none)?);
            for point in exclusion.keep(points, &mut left) {
                check_level(section, "transfer.level", &point)?;
                transfers.add(&point, columns);
            }
        }
        left.check(Block::Transfer)?;
    }
    Ok(all)
}

/// The connects of every chain.
fn connects<'f>(
    file: &'f File,
    chains: &[Point],
    transfers: &[Transfers],
    columns: &Columns,
    exclusion: &mut Exclusion<'f>,
) -> Result<Vec<Vec<ConnectBlock>>, Fault> {
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
        let mut joins_any = false;
        for (index, (chain, transfers)) in chains.iter().zip(transfers).enumerate() {
            let mut points = chain.combine(&dimensions(file, section, chain, transfers)?);
            for point in &points {
                check_level(section, "connect.level", point)?;
                if section.joins_seeds() {
                    check_transferred(section, "connect.level", point, &levels)?;
                    check_transferred(section, "connect.inherit", point, &inherits)?;
                }
            }
            points.retain(|point| transfers.paths(point) > 0);
            joins_any |= !points.is_empty();
            for point in exclusion.keep(points, &mut left) {
                if known.insert((index, point.identity(is_told_by_value).0)) {
                    runs = runs.saturating_add(transfers.paths(&point));
                    all[index].push(connect(&point, columns));
                }
            }
        }
        if !joins_any {
            let message = "this block joins nothing: no two transfers differ in nothing but seeds";
            return Err(Fault::at(section.place, message, "give the transfers at least two seeds, as in `seed: 2..4`"));
        }
        left.check(Block::Connect)?;
    }
    check_runs(file, runs, "tickets, transfers and connects")?;
    Ok(all)
}

/// The transfers of one chain, and what of them can be joined.
#[derive(Default)]
struct Transfers {
    blocks: Vec<TransferBlock>,
    /// In the order of the file.
    levels: Vec<Value>,
    inherits: Vec<Value>,
    known: HashSet<Vec<Value>>,
    /// The seeds of the transfers that are alike in everything else.
    alike: HashMap<Vec<Value>, BTreeSet<(u64, u64)>>,
    /// Pairs of transfers that differ in nothing but seeds, by level and inherit.
    pairs: HashMap<(Value, Value), u128>,
}

impl Transfers {
    fn add(&mut self, point: &Point, columns: &Columns) {
        // Two blocks may have a transfer in common.
        if !self.known.insert(point.identity(is_told_by_value).0) {
            return;
        }
        let block = transfer(point, columns);
        let (level, inherit) = (Value::Whole(block.level.into()), Value::Word(point.text("transfer.inherit")));
        for (list, value) in [(&mut self.levels, level), (&mut self.inherits, inherit)] {
            if !list.contains(&value) {
                list.push(value);
            }
        }
        let alike = self.alike.entry(point.identity(|key| !key.is_seed()).0).or_default();
        *self.pairs.entry((level, inherit)).or_default() += alike.len() as u128;
        alike.insert((block.seeds.init, block.seeds.order));
        self.blocks.push(block);
    }

    fn count(&self) -> u128 {
        self.blocks.len() as u128
    }

    /// How many paths a connect measures: one for a ticket and itself, or one for each pair of transfers.
    fn paths(&self, connect: &Point) -> u128 {
        match connect.get("connect.level").zip(connect.get("connect.inherit")) {
            Some(joined) => self.pairs.get(&joined).copied().unwrap_or(0),
            None => 1,
        }
    }
}

/// The values each setting of a section takes within a combination of the scope around it.
fn dimensions<'f>(
    file: &File,
    section: &'f Section,
    outer: &Point,
    transfers: &Transfers,
) -> Result<Vec<Dimension<'f>>, Fault> {
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
        ("connect.level", _) if file.transfers.is_empty() => vec![Value::Whole(outer.levels())],
        ("connect.level", _) => transfers.levels.clone(),
        ("connect.inherit", _) if section.joins_seeds() => transfers.inherits.clone(),
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

/// `seed` only stands for the seeds it sets.
fn is_told_by_value(key: &Key) -> bool {
    key.name != "seed"
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

fn check_runs(file: &File, runs: u128, what: &str) -> Result<(), Fault> {
    if runs <= MAX_RUNS {
        return Ok(());
    }
    let mut axes: Vec<&Axis> = file.sections().flat_map(Section::axes).filter(|axis| !axis.is_single()).collect();
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.len()));
    let place = axes.first().map_or(file.top.place, |axis| axis.place);
    let lengths = axes.iter().take(4).map(|axis| format!("`{}` ({} values)", axis.key.path, grouped(axis.len())));
    let lengths = lengths.collect::<Vec<_>>().join(", ");
    let number = if runs == u128::MAX { "more than 10^38".to_string() } else { grouped(runs) };
    let message = format!("this sweep is too large: {what} would be {number} runs, the limit is {}", grouped(MAX_RUNS));
    Err(Fault::at(place, message, format!("shorten an axis or split the sweep; the longest axes are {lengths}")))
}

fn check_level(section: &Section, path: &'static str, point: &Point) -> Result<(), Fault> {
    let (level, levels) = (point.whole(path), point.levels());
    if level <= levels {
        return Ok(());
    }
    let item = section.axis(path).and_then(|axis| axis.item_for(Value::Whole(level), levels));
    let place = item.map_or(section.place, |item| item.place);
    let message = format!("`{path}: {level}` is beyond the last level of the chain, {levels}");
    Err(Fault::at(place, message, "use `last` or `all`, or raise `levels` in `ticket`"))
}

/// Whether some chain has transfers that a connect between seeds asks for by level or by what they inherit.
fn check_transferred(
    section: &Section,
    path: &'static str,
    point: &Point,
    transferred: &BTreeSet<Value>,
) -> Result<(), Fault> {
    let Some((axis, value)) = section.axis(path).zip(point.get(path)) else { return Ok(()) };
    if transferred.contains(&value) {
        return Ok(());
    }
    let place = axis.item_for(value, point.levels()).map_or(axis.place, |item| item.place);
    let message = format!("no transfer has `{}: {value}`", axis.key.name);
    let help = format!("transferred are {}; without `{}` all of them are joined", some_of(transferred), axis.key.name);
    Err(Fault::at(place, message, help))
}

fn problem(point: &Point) -> Problem {
    Problem { dataset: point.word("dataset"), architecture: point.word("architecture") }
}

fn chain(point: &Point, transfers: Vec<TransferBlock>, connects: Vec<ConnectBlock>, columns: &Columns) -> Chain {
    let training = Training {
        epochs: point.number("ticket.epochs"),
        batch: point.number("ticket.batch"),
        optimizer: point.word("ticket.optimizer"),
        lr: point.real("ticket.lr"),
        momentum: point.real("ticket.momentum"),
        weight_decay: point.real("ticket.weight_decay"),
        schedule: Schedule::Constant,
    };
    Chain {
        problem: problem(point),
        method: point.word("ticket.method"),
        levels: point.number("ticket.levels"),
        prune_ratio: point.real("ticket.prune_ratio"),
        warmup: Training { epochs: point.number("ticket.warmup_epochs"), ..training.clone() },
        training,
        seeds: Seeds {
            init: point.whole("ticket.seed_init"),
            order: point.whole("ticket.seed_order"),
            alpha: point.whole("ticket.seed_alpha"),
        },
        axes: columns.within(point, &[Block::Top, Block::Ticket]),
        transfers,
        connects,
    }
}

fn transfer(point: &Point, columns: &Columns) -> TransferBlock {
    let init = point.whole("transfer.seed_init");
    TransferBlock {
        level: point.number("transfer.level"),
        inherit: point.word("transfer.inherit"),
        training: Training {
            epochs: point.number("transfer.epochs"),
            batch: point.number("transfer.batch"),
            optimizer: point.word("transfer.optimizer"),
            lr: point.real("transfer.lr"),
            momentum: point.real("transfer.momentum"),
            weight_decay: point.real("transfer.weight_decay"),
            schedule: point.word("transfer.schedule"),
        },
        // Transfers train without α; a seed that follows from another one never makes two runs of one.
        seeds: Seeds { init, order: point.whole("transfer.seed_order"), alpha: init },
        axes: columns.within(point, &[Block::Transfer]),
    }
}

fn connect(point: &Point, columns: &Columns) -> ConnectBlock {
    let between: Between = point.word("connect.between");
    ConnectBlock {
        between,
        level: point.number("connect.level"),
        inherit: point.get("connect.inherit").map(|_| point.word("connect.inherit")),
        points: point.number("connect.points"),
        batch: point.number("connect.batch"),
        axes: columns.within(point, &[Block::Connect]),
    }
}
