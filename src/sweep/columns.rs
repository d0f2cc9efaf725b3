//! Which settings tell the runs of a sweep apart, besides those that every table shows anyway.

use strum::VariantArray;
use winsign_core::settings::Between;

use super::Axes;
use super::combine::Point;
use super::file::{File, Section};
use super::schema::{Block, Fallback, KEYS, Key};
use super::values::Value;

/// The settings of a file that are axes; of connects, among those that join the same kind of networks.
pub(crate) struct Columns(Vec<(&'static Key, Option<Between>)>);

impl Columns {
    pub(crate) fn of_file(file: &File) -> Columns {
        let axes = KEYS.iter().filter(|key| key.is_axis() && !is_always_shown(key));
        let kinds = |key: &Key| match key.block {
            Block::Connect => Between::VARIANTS.iter().copied().map(Some).collect(),
            _ => vec![None],
        };
        let columns = axes.flat_map(|key| kinds(key).into_iter().map(move |between| (key, between)));
        Columns(columns.filter(|(key, between)| differs(file, key, *between)).collect())
    }

    /// The values in a combination of those of these settings that have a say there, as text.
    pub(crate) fn within(&self, point: &Point, blocks: &[Block]) -> Axes {
        self.of(point, |key| blocks.contains(&key.block))
    }

    /// The same for a transfer that inherits from no ticket: besides its own settings, those of the ticket have a say
    /// that its own take their values from.
    pub(crate) fn without_ticket(&self, point: &Point, section: &Section) -> Axes {
        let follows = |key: &Key| {
            let mut own = Block::Transfer.keys().filter(|own| own.default == Fallback::Same(key.path));
            own.any(|own| section.axis(own.path).is_none())
        };
        self.of(point, |key| match key.block {
            Block::Ticket => follows(key),
            Block::Connect => false,
            _ => true,
        })
    }

    fn of(&self, point: &Point, counts: impl Fn(&Key) -> bool) -> Axes {
        let of_kind = |between: &Option<Between>| between.is_none_or(|between| between == point.between());
        // How a ticket that was found elsewhere would have been found here is nothing of it.
        let is_imported = point.digest("ticket.imported").is_some();
        let has_say = |key: &Key| !is_imported || key.block != Block::Ticket || key.path == "ticket.imported";
        let keys = self
            .0
            .iter()
            .filter(|(key, between)| counts(key) && has_say(key) && of_kind(between) && point.depends_on(key));
        keys.filter_map(|(key, _)| Some((key.path.to_string(), point.get(key.path)?.to_string()))).collect()
    }
}

/// Labels of runs have these already; a chain's number of levels makes no ticket another.
fn is_always_shown(key: &Key) -> bool {
    let name = ["method", "levels", "level", "inherit", "between"].contains(&key.name);
    name || (key.block == Block::Transfer && key.is_seed())
}

/// Whether a setting takes several values: within a block, or from block to block of one kind.
fn differs(file: &File, key: &Key, between: Option<Between>) -> bool {
    let sections: Vec<_> =
        file.sections().filter(|section| section.block == key.block && section.between() == between).collect();
    let given: Vec<_> = sections.iter().filter_map(|section| section.axis(key.path)).collect();
    let several = given.iter().any(|axis| !axis.is_single());
    let uneven = !given.is_empty() && given.len() < sections.len();
    let mut values: Vec<Option<Value>> = given.iter().map(|axis| axis.values().next()).collect();
    // A block that says what another one leaves at its default says the same.
    match usual(key) {
        _ if !uneven => {}
        None => return true,
        usual => values.push(usual),
    }
    // Who reads a barrier must know of matched units, be they matched in all.
    let matched = key.path == "connect.align" && values.iter().any(|value| *value != usual(key));
    several || matched || values.windows(2).any(|pair| pair[0] != pair[1])
}

/// The one value of a setting that is not given, where that depends on nothing.
fn usual(key: &Key) -> Option<Value> {
    match key.default {
        Fallback::Values([usual]) => Some(*usual),
        _ => None,
    }
}
