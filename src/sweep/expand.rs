//! Expands blocks of axes into chains, transfers and connects.
//!
//! Scope by scope: all chains first, then the transfers of each, then the connects. The combinations of a scope are counted
//! before it is expanded, so that a slip such as `seed: 1..100000000000` costs nothing.

use std::collections::HashSet;

use winsign_core::settings::{Between, Inherit, Method, Problem, Seeds, Training};

use super::checks::{
    check_align, check_fits, check_level, check_numerics, check_path, check_rewind, check_runs, check_transferred,
    has_no_retrained,
};
use super::combine::{Dimension, Point, Values};
use super::connected::Connected;
use super::defaults::recipe;
use super::exclude::{Exclusion, Left};
use super::file::{File, Section};
use super::joins::{Joinable, TicketMatrix, count_blocks, ticket_matrices};
use super::schema::{Block, Fallback, IMPORTED, Key, Kind};
use super::values::{Axis, Value};
use super::{Chain, ConnectBlock, TransferBlock};
use crate::yaml::Diagnostic;

pub(crate) fn expand(file: &File) -> Result<Vec<Chain>, Diagnostic> {
    let mut exclusion = Exclusion::new(&file.rules);

    let root = Point::root();
    let mut problems = vec![];
    root.visit(&dimensions(file, &file.top, &root, &Transfers::default())?, &mut |point| {
        problems.push(point.clone());
        Ok(())
    })?;
    let points = chains(file, &problems, &mut exclusion)?;
    let transfers = transfers(file, &points, &mut exclusion)?;
    let connects = connects(file, &points, &transfers, &mut exclusion)?;
    exclusion.check_all_matched()?;

    let nested = points.iter().zip(transfers).zip(connects);
    Ok(nested.map(|((point, transfers), connects)| chain(point, transfers.blocks, connects)).collect())
}

/// Returns the chains: combinations of top-level and ticket settings.
fn chains<'p, 'f>(
    file: &'f File,
    problems: &'p [Point<'p>],
    exclusion: &mut Exclusion<'f>,
) -> Result<Vec<Point<'p>>, Diagnostic> {
    let none = Transfers::default();
    let scope = problems.iter().map(|problem| (problem, &none));
    check_size(file, &file.tickets, scope, 0, count_tickets, "tickets alone")?;

    let mut chains = Vec::new();
    let mut known = HashSet::new();
    for section in &file.tickets {
        let mut left = Left::default();
        let mut effects = Effects::new(section);
        for (index, problem) in problems.iter().enumerate() {
            problem.visit(&dimensions(file, section, problem, &none)?, &mut |point| {
                effects.add(point);
                if exclusion.drops(point, &mut left) {
                    return Ok(());
                }
                check_fits(file, point)?;
                check_numerics(section, "ticket.precision", point)?;
                check_rewind(section, point)?;
                // Two blocks may have a chain in common.
                if known.insert((index, point.identity())) {
                    chains.push(point.clone());
                }
                Ok(())
            })?;
        }
        effects.check()?;
        left.check(Block::Ticket)?;
    }
    Ok(chains)
}

/// The transfers of one chain.
#[derive(Default)]
struct Transfers {
    blocks: Vec<TransferBlock>,
    /// Their levels and what they inherit, in the order of the file.
    levels: Vec<Value>,
    inherits: Vec<Value>,
    /// The level and what is inherited of some transfer.
    pairs: HashSet<(u32, Inherit)>,
    known: HashSet<Vec<Value>>,
}

impl Transfers {
    /// Adds the transfer of a combination, unless another block has added it.
    fn add(&mut self, point: &Point) {
        if !self.known.insert(point.identity().0) {
            return;
        }
        let block = transfer(point);
        if self.pairs.insert((block.level, block.inherit)) {
            let (level, inherit) = (Value::Whole(block.level.into()), Value::Word(point.text("transfer.inherit")));
            for (list, value) in [(&mut self.levels, level), (&mut self.inherits, inherit)] {
                if !list.contains(&value) {
                    list.push(value);
                }
            }
        }
        self.blocks.push(block);
    }

    /// Returns the levels whose tickets are transferred; the last if all transfers are dense networks.
    fn ticket_levels(&self, last: u64) -> Vec<Value> {
        const DENSE: Value = Value::Whole(0);
        match self.levels[..] {
            [DENSE] => vec![Value::Whole(last)],
            _ => self.levels.iter().copied().filter(|level| *level != DENSE).collect(),
        }
    }
}

/// Returns the transfers of every chain.
fn transfers<'f>(
    file: &'f File,
    chains: &[Point],
    exclusion: &mut Exclusion<'f>,
) -> Result<Vec<Transfers>, Diagnostic> {
    let none = Transfers::default();
    let tickets = chains.iter().map(ticket_count).sum();
    let scope = chains.iter().map(|chain| (chain, &none));
    check_size(file, &file.transfers, scope, tickets, |chain, axes| chain.count(axes), "tickets and transfers")?;

    let mut all: Vec<Transfers> = chains.iter().map(|_| Transfers::default()).collect();
    for section in &file.transfers {
        let mut left = Left::default();
        let mut effects = Effects::new(section);
        for (chain, transfers) in chains.iter().zip(&mut all) {
            chain.visit(&dimensions(file, section, chain, &none)?, &mut |point| {
                effects.add(point);
                if exclusion.drops(point, &mut left) {
                    return Ok(());
                }
                check_level(section, "transfer.level", point)?;
                check_numerics(section, "transfer.precision", point)?;
                transfers.add(point);
                Ok(())
            })?;
        }
        effects.check()?;
        left.check(Block::Transfer)?;
    }
    Ok(all)
}

/// Returns the connects of every chain.
fn connects<'f>(
    file: &'f File,
    chains: &[Point],
    transfers: &[Transfers],
    exclusion: &mut Exclusion<'f>,
) -> Result<Vec<Vec<ConnectBlock>>, Diagnostic> {
    const WHAT: &str = "tickets, transfers and connects";
    let tickets: usize = chains.iter().map(ticket_count).sum();
    let mut runs = tickets + transfers.iter().map(|transfers| transfers.blocks.len()).sum::<usize>();
    check_size(file, &file.connects, chains.iter().zip(transfers), runs, |chain, axes| chain.count(axes), WHAT)?;

    let levels = transfers.iter().flat_map(|transfers| transfers.levels.iter().copied()).collect();
    let inherits = transfers.iter().flat_map(|transfers| transfers.inherits.iter().copied()).collect();
    let joinable: Vec<Joinable> = transfers.iter().map(|transfers| Joinable::new(&transfers.blocks)).collect();
    let mut all: Vec<Vec<ConnectBlock>> = vec![Vec::new(); chains.len()];
    let mut known: HashSet<(usize, Vec<Value>)> = HashSet::new();
    for section in &file.connects {
        let mut left = Left::default();
        let mut effects = Effects::new(section);
        let mut connected = Connected::default();
        for (index, (chain, joinable)) in chains.iter().zip(&joinable).enumerate() {
            chain.visit(&dimensions(file, section, chain, &transfers[index])?, &mut |point| {
                check_level(section, "connect.level", point)?;
                if section.between().is_some_and(Between::joins_transfers) {
                    check_transferred(section, "connect.level", point, &levels)?;
                    check_transferred(section, "connect.inherit", point, &inherits)?;
                }
                check_path(section, point)?;
                effects.add(point);
                let connect = connect(section, point);
                if !connected.add(&connect, point, chain, joinable) || exclusion.drops(point, &mut left) {
                    return Ok(());
                }
                check_align(section, point)?;
                check_numerics(section, "connect.precision", point)?;
                if known.insert((index, point.identity().0)) {
                    runs += joinable.count(&connect);
                    check_runs(file, runs, WHAT)?;
                    all[index].push(connect);
                }
                Ok(())
            })?;
        }
        connected.check(section)?;
        effects.check()?;
        left.check(Block::Connect)?;
    }
    for TicketMatrix { connect, chains: joined } in
        ticket_matrices(chains.iter().map(problem).zip(all.iter().map(Vec::as_slice)))
    {
        let tickets: HashSet<_> = joined.into_iter().map(|chain| ticket_identity(&chains[chain])).collect();
        runs += count_blocks(tickets.len(), connect.block);
        check_runs(file, runs, WHAT)?;
    }
    Ok(all)
}

/// Adds the runs of the combinations of a scope to earlier `runs`; returns an error once there are too many.
fn check_size<'p>(
    file: &File,
    sections: &[Section],
    scope: impl Iterator<Item = (&'p Point<'p>, &'p Transfers)> + Clone,
    mut runs: usize,
    count: fn(&Point, &[Dimension]) -> u128,
    what: &str,
) -> Result<(), Diagnostic> {
    for section in sections {
        for (outer, transfers) in scope.clone() {
            let further = count(outer, &dimensions(file, section, outer, transfers)?);
            runs = runs.saturating_add(usize::try_from(further).unwrap_or(usize::MAX));
            check_runs(file, runs, what)?;
        }
    }
    Ok(())
}

/// Returns the number of tickets of all chains of these dimensions, or a number above all limits.
fn count_tickets(outer: &Point, dimensions: &[Dimension]) -> u128 {
    let levels = dimensions.iter().find(|dimension| dimension.key.path == "ticket.levels").expect("all chains have it");
    let mut tickets = 0;
    let mut lengths = 0;
    for value in levels.values_within(outer) {
        let Value::Whole(last) = value else { unreachable!("{value:?} is no number of levels") };
        tickets += u128::from(last) + 1;
        lengths += 1;
    }
    // Each length of a chain has as many combinations as every other.
    (outer.count(dimensions) / lengths).saturating_mul(tickets)
}

/// Returns the number of tickets of a chain: one for each level, and level 0.
fn ticket_count(chain: &Point) -> usize {
    chain.levels() as usize + 1
}

/// Returns what distinguishes the tickets of chains at one level: the length of its chain does not change a ticket.
pub(crate) fn ticket_identity(chain: &Point) -> Vec<Value> {
    chain.values_of(|key| key.path != "ticket.levels")
}

/// The settings of a block that have had no effect so far, with the reason and what to do.
struct Effects<'f>(Vec<(&'f Axis, Option<(&'static str, &'static str)>)>);

impl<'f> Effects<'f> {
    fn new(section: &'f Section) -> Effects<'f> {
        Effects(section.axes().iter().map(|axis| (axis, None)).collect())
    }

    fn add(&mut self, point: &Point) {
        self.0.retain_mut(|(axis, without)| {
            *without = axis.key.when.iter().find_map(|when| Some((point.reason(when)?, when.help?)));
            without.is_some()
        });
    }

    /// Returns an error for a setting without effect.
    fn check(&self) -> Result<(), Diagnostic> {
        match self.0.iter().find_map(|(axis, without)| Some((axis, (*without)?))) {
            Some((axis, (reason, help))) => {
                Err(Diagnostic::at(axis.place, format!("`{}` has no effect: {reason}", axis.key.path), help))
            }
            None => Ok(()),
        }
    }
}

/// Returns the values that each setting of a section takes within a combination of the scope around it.
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
            Some(axis) if matches!(key.kind, Kind::Level) => Values::List(axis.levels(outer.levels())?),
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

/// Returns the default of a setting; `None` if it does not exist there.
fn default<'f>(file: &File, section: &Section, key: &Key, outer: &Point, transfers: &Transfers) -> Option<Values<'f>> {
    let list = match (key.path, key.default) {
        // If one of the two seeds is given, the other has one value: a product was not requested.
        ("transfer.seed", Fallback::Values(seeds)) if section.has_own_seeds() => seeds[..1].to_vec(),
        ("ticket.method", _) if section.axis("ticket.imported").is_some() => vec![Value::Word(IMPORTED)],
        ("ticket.levels", _) if section.axis("ticket.imported").is_some() => vec![Value::Whole(1)],
        ("connect.level", _) => match section.between()? {
            Between::Levels => (1..=outer.levels()).map(Value::Whole).collect(),
            Between::Seeds | Between::Plane => transfers.levels.clone(),
            _ if file.transfers.is_empty() => vec![Value::Whole(outer.levels())],
            Between::Retrain | Between::NormInit | Between::Tickets => transfers.ticket_levels(outer.levels()),
        },
        ("connect.inherit", _) => match section.between()? {
            Between::Seeds | Between::Plane => transfers.inherits.clone(),
            Between::Retrain => {
                transfers.inherits.iter().copied().filter(|inherit| !has_no_retrained(*inherit)).collect()
            }
            Between::NormInit | Between::Levels | Between::Tickets => return None,
        },
        (_, Fallback::Values(values)) => values.to_vec(),
        (_, Fallback::Recipe) if matches!(key.kind, Kind::Level) => {
            recipe(problem(outer), key).iter().flat_map(|level| level.meant(outer.levels())).collect()
        }
        (_, Fallback::Recipe) => recipe(problem(outer), key).to_vec(),
        (_, Fallback::ByWord(path, words, other)) => {
            let given = section.axis(path)?.values().next();
            let own = words.iter().find(|(word, _)| given == Some(Value::Word(word)));
            vec![own.map_or(other, |(_, value)| *value)]
        }
        (_, Fallback::Same(path)) => return Some(Values::Same(path)),
        (_, Fallback::Required | Fallback::Depends(_)) => return None,
    };
    Some(Values::List(list))
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
        schedule: point.word("ticket.schedule"),
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

fn connect(section: &Section, point: &Point) -> ConnectBlock {
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
        batch_is_given: section.axis("connect.batch").is_some(),
        precision_is_given: section.axis("connect.precision").is_some(),
    }
}
