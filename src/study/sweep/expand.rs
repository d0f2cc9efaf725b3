//! From blocks of axes to chains, transfers and connects.
//!
//! Scope by scope: all chains first, then the transfers of each, then the connects. How many runs a scope will have is
//! known before it is expanded, so that a slip such as `seed: 1..100000000000` costs nothing.

use std::collections::{BTreeSet, HashMap, HashSet};

use strum::VariantArray;

use super::columns::Columns;
use super::combine::{Dimension, Point, Values};
use super::defaults::recipe;
use super::exclude::{Exclusion, Left, some_of};
use super::file::{File, Section};
use super::schema::{Block, Fallback, IMPORTED, Key, Kind};
use super::values::{Axis, Value};
use super::{Chain, ConnectBlock, TransferBlock};
use crate::run::settings::{Architecture, Between, Inherit, Masks, Method, Problem, Schedule, Seeds, Training};
use crate::study::yaml::{Fault, grouped, listed};

/// More runs than anybody means.
const MAX_RUNS: u128 = 1_000_000;

pub fn expand(file: &File) -> Result<Vec<Chain>, Fault> {
    let mut exclusion = Exclusion::new(&file.rules);
    let columns = Columns::of_file(file);

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
        let mut effects = Effects::of(section);
        for (index, problem) in problems.iter().enumerate() {
            let points = problem.combine(&dimensions(file, section, problem, &none)?);
            effects.see(&points);
            for point in exclusion.keep(points, &mut left) {
                check_fits(file, &point)?;
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
        let mut effects = Effects::of(section);
        for (chain, transfers) in chains.iter().zip(&mut all) {
            let points = chain.combine(&dimensions(file, section, chain, &none)?);
            effects.see(&points);
            for point in exclusion.keep(points, &mut left) {
                check_level(section, "transfer.level", &point)?;
                transfers.add(&point, section, columns);
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
        let mut effects = Effects::of(section);
        let mut joined = Joined::default();
        for (index, (chain, transfers)) in chains.iter().zip(transfers).enumerate() {
            let mut points = chain.combine(&dimensions(file, section, chain, transfers)?);
            for point in &points {
                check_level(section, "connect.level", point)?;
                if section.joins_seeds() {
                    check_transferred(section, "connect.level", point, &levels)?;
                    check_transferred(section, "connect.inherit", point, &inherits)?;
                }
            }
            effects.see(&points);
            points.retain(|point| joined.see(point, transfers));
            for point in exclusion.keep(points, &mut left) {
                if known.insert((index, point.identity().0)) {
                    runs = runs.saturating_add(transfers.paths(&point));
                    all[index].push(connect(&point, columns));
                }
            }
        }
        joined.check(section)?;
        effects.check()?;
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
    pairs: HashMap<(Value, Value), Pairs>,
}

/// How many pairs there are.
#[derive(Default)]
struct Pairs {
    all: u128,
    /// Those of which both ends have the same mask.
    of_one_mask: u128,
}

impl Transfers {
    fn add(&mut self, point: &Point, section: &Section, columns: &Columns) {
        // Two blocks may have a transfer in common.
        if !self.known.insert(point.identity().0) {
            return;
        }
        let block = transfer(point, section, columns);
        let (level, inherit) = (Value::Whole(block.level.into()), Value::Word(point.text("transfer.inherit")));
        for (list, value) in [(&mut self.levels, level), (&mut self.inherits, inherit)] {
            if !list.contains(&value) {
                list.push(value);
            }
        }
        let alike = self.alike.entry(point.values_of(|key| !key.is_seed())).or_default();
        let pairs = self.pairs.entry((level, inherit)).or_default();
        let (init, order) = (block.seeds.init, block.seeds.order);
        let of_one_mask = match block.inherit.draws_mask() {
            true => alike.range((init, 0)..=(init, u64::MAX)).count(),
            false => alike.len(),
        };
        pairs.all += alike.len() as u128;
        pairs.of_one_mask += of_one_mask as u128;
        alike.insert((init, order));
        self.blocks.push(block);
    }

    fn count(&self) -> u128 {
        self.blocks.len() as u128
    }

    /// The levels whose tickets are transferred; the last if only dense networks are.
    fn levels_of_tickets(&self, last: u64) -> Vec<Value> {
        const DENSE: Value = Value::Whole(0);
        match self.levels[..] {
            [DENSE] => vec![Value::Whole(last)],
            _ => self.levels.iter().copied().filter(|level| *level != DENSE).collect(),
        }
    }

    /// How many paths a connect measures: one for a ticket and itself, or one for each pair of transfers it may join.
    fn paths(&self, connect: &Point) -> u128 {
        match (self.pairs(connect), connect.word("connect.masks")) {
            (Some(pairs), Masks::Same) => pairs.of_one_mask,
            (Some(pairs), Masks::Union) => pairs.all,
            (None, _) if connect.get("connect.inherit").is_some() => 0,
            (None, _) => 1,
        }
    }

    /// The pairs of transfers that a connect is about.
    fn pairs(&self, connect: &Point) -> Option<&Pairs> {
        self.pairs.get(&connect.get("connect.level").zip(connect.get("connect.inherit"))?)
    }
}

/// What a connect block has been found to join.
#[derive(Default)]
struct Joined {
    any: bool,
    /// Of each inherit that is met: whether something is joined, or would be but for different masks.
    inherits: HashMap<Value, (bool, bool)>,
}

impl Joined {
    /// Whether the connect joins anything among these transfers.
    fn see(&mut self, connect: &Point, transfers: &Transfers) -> bool {
        let joins = transfers.paths(connect) > 0;
        self.any |= joins;
        if let Some(inherit) = connect.get("connect.inherit") {
            let (joined, masks_differ) = self.inherits.entry(inherit).or_default();
            *joined |= joins;
            *masks_differ |= !joins && transfers.pairs(connect).is_some_and(|pairs| pairs.all > 0);
        }
        joins
    }

    /// A block that joins nothing, or nothing of what it names, is a mistake. What it does not name is left out where
    /// masks differ.
    fn check(&self, section: &Section) -> Result<(), Fault> {
        let apart = |(inherit, &(joined, masks_differ)): (&Value, &(bool, bool))| {
            let named = section.axis("connect.inherit").and_then(|axis| axis.item_for(*inherit, 0));
            let place = named.map(|item| item.place).or((!self.any).then_some(section.place))?;
            (masks_differ && !joined).then_some((place, *inherit))
        };
        if let Some((place, inherit)) = self.inherits.iter().filter_map(apart).min() {
            let message =
                format!("no two transfers of `{inherit}` have the same mask: it is drawn for each `seed_init`");
            return Err(Fault::at(
                place,
                message,
                "add `masks: union`: the path then leads over the weights of both masks",
            ));
        }
        if !self.any {
            let message = "this block joins nothing: no two transfers differ in nothing but seeds";
            return Err(Fault::at(section.place, message, "give the transfers at least two seeds, as in `seed: 2..4`"));
        }
        Ok(())
    }
}

/// The settings of a block that have a say in some combinations only, and whether these have been met.
struct Effects<'f> {
    unmet: Vec<(&'f Axis, &'static str, &'static str)>,
}

impl<'f> Effects<'f> {
    fn of(section: &'f Section) -> Effects<'f> {
        let rewind = ("no chain of this block is found by `imp`", "remove it, or add `imp` to `method`");
        let flip = ("this block inherits no signs", "remove it, or add `sign` or `sign+norm` to `inherit`");
        let masks = (
            "any two networks that this block joins have one mask",
            "remove it, or join transfers of `random-mask` or `random-mask-erk`",
        );
        let known = [("ticket.rewind_epoch", rewind), ("transfer.flip", flip), ("connect.masks", masks)];
        let given = known.into_iter().filter_map(|(path, (why, help))| Some((section.axis(path)?, why, help)));
        Effects { unmet: given.collect() }
    }

    fn see(&mut self, points: &[Point]) {
        self.unmet.retain(|(axis, ..)| !points.iter().any(|point| point.depends_on(axis.key)));
    }

    /// A setting without effect is a mistake.
    fn check(&self) -> Result<(), Fault> {
        match self.unmet.first() {
            Some((axis, why, help)) => {
                Err(Fault::at(axis.place, format!("`{}` has no effect: {why}", axis.key.path), *help))
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
        ("ticket.method", _) if section.axis("ticket.imported").is_some() => vec![Value::Word(IMPORTED)],
        ("ticket.levels", _) if section.axis("ticket.imported").is_some() => vec![Value::Whole(1)],
        ("connect.level", _) if file.transfers.is_empty() => vec![Value::Whole(outer.levels())],
        ("connect.level", _) if section.joins_seeds() => transfers.levels.clone(),
        ("connect.level", _) => transfers.levels_of_tickets(outer.levels()),
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

/// An architecture that is not defined for the images of its data set.
fn check_fits(file: &File, point: &Point) -> Result<(), Fault> {
    let Problem { dataset, architecture } = problem(point);
    if architecture.fits(dataset) {
        return Ok(());
    }
    let axis = file.top.axis("architecture").expect("it is required");
    let value = Value::Word(point.text("architecture"));
    let place = axis.item_for(value, 0).map_or(axis.place, |item| item.place);
    let known = Architecture::VARIANTS.iter().filter(|other| other.fits(dataset)).map(ToString::to_string);
    let known = known.collect::<Vec<_>>();
    let mut help = format!("for `{dataset}` there are {}", listed(known.iter().map(String::as_str)));
    if ["dataset", "architecture"].iter().any(|path| file.top.axis(path).is_some_and(|axis| !axis.is_single())) {
        help += &format!("; `exclude: [{{dataset: {dataset}, architecture: {architecture}}}]` leaves it out");
    }
    Err(Fault::at(place, format!("`architecture: {architecture}` is not defined for `dataset: {dataset}`"), help))
}

/// Weights can be put back to an epoch that level 0 has.
fn check_rewind(section: &Section, point: &Point) -> Result<(), Fault> {
    let (epoch, last) = (point.whole("ticket.rewind_epoch"), point.whole("ticket.warmup_epochs"));
    if point.word::<Method>("ticket.method") != Method::Imp || epoch <= last {
        return Ok(());
    }
    let item = section.axis("ticket.rewind_epoch").and_then(|axis| axis.item_for(Value::Whole(epoch), 0));
    let place = item.map_or(section.place, |item| item.place);
    let message = format!("`ticket.rewind_epoch: {epoch}` is beyond the epochs of level 0, {last}");
    Err(Fault::at(place, message, "lower it, or raise `warmup_epochs`"))
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
        axes: columns.within(point, &[Block::Top, Block::Ticket]),
        transfers,
        connects,
    }
}

fn transfer(point: &Point, section: &Section, columns: &Columns) -> TransferBlock {
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
        axes: match inherit.needs_ticket() {
            true => columns.within(point, &[Block::Transfer]),
            false => columns.without_ticket(point, section),
        },
    }
}

fn connect(point: &Point, columns: &Columns) -> ConnectBlock {
    let between: Between = point.word("connect.between");
    ConnectBlock {
        between,
        level: point.number("connect.level"),
        inherit: point.get("connect.inherit").map(|_| point.word("connect.inherit")),
        masks: point.word("connect.masks"),
        points: point.number("connect.points"),
        batch: point.number("connect.batch"),
        precision: point.word("connect.precision"),
        axes: columns.within(point, &[Block::Connect]),
    }
}
