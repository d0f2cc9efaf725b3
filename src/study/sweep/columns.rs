//! Which settings tell the runs of a sweep apart, besides those that every table shows anyway.

use super::Axes;
use super::combine::Point;
use super::file::{File, Section};
use super::schema::{Block, Fallback, KEYS, Key};

/// The settings of a file that are axes.
pub struct Columns(Vec<&'static Key>);

impl Columns {
    pub fn of_file(file: &File) -> Columns {
        Columns(KEYS.iter().filter(|key| key.is_axis() && !is_always_shown(key) && differs(file, key)).collect())
    }

    /// The values in a combination of those of these settings that have a say there, as text.
    pub fn within(&self, point: &Point, blocks: &[Block]) -> Axes {
        self.of(point, |key| blocks.contains(&key.block))
    }

    /// The same for a transfer that inherits from no ticket: besides its own settings, those of the ticket have a say
    /// that its own take their values from.
    pub fn without_ticket(&self, point: &Point, section: &Section) -> Axes {
        let follows = |key: &Key| {
            let mut own = Block::Transfer.keys().filter(|own| own.default == Fallback::Same(key.path));
            own.any(|own| section.axis(own.path).is_none())
        };
        self.of(point, |key| key.block != Block::Ticket || follows(key))
    }

    fn of(&self, point: &Point, counts: impl Fn(&Key) -> bool) -> Axes {
        let keys = self.0.iter().filter(|key| counts(key) && point.depends_on(key));
        keys.filter_map(|key| Some((key.path.to_string(), point.get(key.path)?.to_string()))).collect()
    }
}

/// Labels of runs have these already; a chain's number of levels makes no ticket another.
fn is_always_shown(key: &Key) -> bool {
    let name = ["method", "levels", "level", "inherit", "between"].contains(&key.name);
    name || (key.block == Block::Transfer && key.is_seed())
}

/// Whether a setting takes several values: within a block, or from block to block.
fn differs(file: &File, key: &Key) -> bool {
    let sections = file.sections().filter(|section| section.block == key.block).count();
    let given: Vec<_> = file.given(key).collect();
    let several = given.iter().any(|axis| !axis.is_single());
    let uneven = !given.is_empty() && given.len() < sections;
    let unlike = given.windows(2).any(|pair| pair[0].values().next() != pair[1].values().next());
    several || uneven || unlike
}
