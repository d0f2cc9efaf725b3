//! Combinations: every setting of a scope at one of its values.

use std::str::FromStr;

use winsign_core::settings::{Architecture, Between, Digest, Inherit, Method};

use super::schema::{Block, Key};
use super::values::{Axis, Value};

/// One combination, within the combination of the scope around it: a transfer's within its chain's.
#[derive(Debug, Clone)]
pub(crate) struct Point<'a> {
    outer: Option<&'a Point<'a>>,
    values: Vec<(&'static Key, Value)>,
    /// Where the zips stand that the combination has gone along: (zip, position).
    zipped: Vec<(usize, usize)>,
}

/// A setting, and the values it goes along in a scope.
#[derive(Debug, Clone)]
pub(crate) struct Dimension<'f> {
    pub key: &'static Key,
    pub values: Values<'f>,
    pub zip: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) enum Values<'f> {
    /// As the file gives them.
    Axis(&'f Axis),
    List(Vec<Value>),
    /// Whatever value another setting has in the combination.
    Same(&'static str),
}

impl Dimension<'_> {
    /// All values; none if they follow from another setting.
    pub(crate) fn values(&self) -> Vec<Value> {
        match &self.values {
            Values::Axis(axis) => axis.values().collect(),
            Values::List(values) => values.clone(),
            Values::Same(_) => Vec::new(),
        }
    }
}

impl Values<'_> {
    fn len(&self) -> u128 {
        match self {
            Values::Axis(axis) => axis.len(),
            Values::List(values) => values.len() as u128,
            Values::Same(_) => 1,
        }
    }
}

impl<'a> Point<'a> {
    /// The combination of no settings, around all others.
    pub(crate) fn root() -> Point<'a> {
        Point { outer: None, values: Vec::new(), zipped: Vec::new() }
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let own = self.values.iter().find(|(key, _)| key.path == path).map(|(_, value)| *value);
        own.or_else(|| self.outer?.get(path))
    }

    pub(crate) fn whole(&self, path: &str) -> u64 {
        match self.get(path) {
            Some(Value::Whole(number)) => number,
            other => unreachable!("{path} is {other:?}, not a whole number"),
        }
    }

    /// A whole number that the table of keys keeps below a million or so.
    pub(crate) fn number(&self, path: &str) -> u32 {
        u32::try_from(self.whole(path)).expect("the table of keys bounds this")
    }

    pub(crate) fn real(&self, path: &str) -> f64 {
        match self.get(path) {
            Some(Value::Real(bits)) => f64::from_bits(bits),
            other => unreachable!("{path} is {other:?}, not a real number"),
        }
    }

    /// None where nothing is imported.
    pub(crate) fn digest(&self, path: &str) -> Option<Digest> {
        match self.get(path) {
            Some(Value::Digest(digest)) => Some(digest),
            _ => None,
        }
    }

    pub(crate) fn text(&self, path: &str) -> &'static str {
        match self.get(path) {
            Some(Value::Word(word)) => word,
            other => unreachable!("{path} is {other:?}, not a word"),
        }
    }

    /// A word as the type that the table of keys took it from.
    pub(crate) fn word<T: FromStr>(&self, path: &str) -> T {
        self.text(path).parse().ok().expect("the table of keys has the words of the type")
    }

    /// The last level of the chain.
    pub(crate) fn levels(&self) -> u64 {
        self.whole("ticket.levels")
    }

    /// Which networks a connect joins.
    pub(crate) fn between(&self) -> Between {
        self.word("connect.between")
    }

    /// Whether a setting of this scope has a say in the combination: another value of it would make no other run.
    pub(crate) fn depends_on(&self, key: &Key) -> bool {
        match key.path {
            "ticket.rewind_epoch" => self.word::<Method>("ticket.method") == Method::Imp,
            "ticket.seed_alpha" => self.word::<Method>("ticket.method") == Method::Aws,
            "transfer.level" => self.word::<Inherit>("transfer.inherit").needs_ticket(),
            "transfer.flip" => self.word::<Inherit>("transfer.inherit").has_signs(),
            "connect.masks" => {
                self.get("connect.inherit").is_some() && self.word::<Inherit>("connect.inherit").draws_mask()
            }
            // How a matrix is cut into runs changes none of its paths.
            "connect.block" => false,
            "connect.align" | "connect.refine" | "connect.margin" => key.lack(self.between()).is_none(),
            "connect.reestimation_batches" => self.word::<Architecture>("architecture").has_batch_norm(),
            _ => true,
        }
    }

    /// The scope the combination belongs to.
    pub(crate) fn block(&self) -> Block {
        self.values.last().map_or(Block::Top, |(key, _)| key.block)
    }

    /// The combinations of these dimensions within this one, the first dimension outermost.
    pub(crate) fn combine(&'a self, dimensions: &[Dimension]) -> Vec<Point<'a>> {
        let mut points = vec![Point { outer: Some(self), ..Point::root() }];
        for dimension in dimensions {
            points = match dimension.values {
                Values::Same(path) => points.into_iter().map(|point| point.with_same(dimension.key, path)).collect(),
                _ => spread(points, dimension),
            };
        }
        points
    }

    /// How many combinations there would be.
    pub(crate) fn count(&self, dimensions: &[Dimension]) -> u128 {
        let mut counted = Vec::new();
        let mut count: u128 = 1;
        for dimension in dimensions {
            match dimension.zip {
                Some(zip) if self.position(zip).is_some() || counted.contains(&zip) => continue,
                Some(zip) => counted.push(zip),
                None => {}
            }
            count = count.saturating_mul(dimension.values.len());
        }
        count
    }

    /// What tells combinations of a scope apart: the values of settings that have a say, and where their zips stand.
    pub(crate) fn identity(&self) -> (Vec<Value>, Vec<(usize, usize)>) {
        (self.values_of(|_| true), self.zipped.clone())
    }

    /// The values of those settings of the scope that have a say and that `counts` picks.
    pub(crate) fn values_of(&self, counts: impl Fn(&Key) -> bool) -> Vec<Value> {
        // `seed` only stands for the seeds it sets.
        let tells = |key: &Key| key.name != "seed" && self.depends_on(key) && counts(key);
        let values = self.values.iter().filter(|(key, _)| tells(key));
        values.map(|(_, value)| *value).collect()
    }

    fn position(&self, zip: usize) -> Option<usize> {
        let own = self.zipped.iter().find(|(other, _)| *other == zip).map(|(_, position)| *position);
        own.or_else(|| self.outer?.position(zip))
    }

    fn with(mut self, key: &'static Key, value: Value) -> Point<'a> {
        self.values.push((key, value));
        self
    }

    fn with_same(self, key: &'static Key, path: &str) -> Point<'a> {
        let value = self.get(path).expect("a key follows those its default refers to");
        self.with(key, value)
    }
}

/// Every point at every value of a dimension, or where its zip stands already, at the value that belongs there.
fn spread<'a>(points: Vec<Point<'a>>, dimension: &Dimension) -> Vec<Point<'a>> {
    let values = dimension.values();
    let mut spread = Vec::with_capacity(points.len());
    for point in points {
        let position = dimension.zip.and_then(|zip| point.position(zip));
        match (position, values.as_slice()) {
            (Some(position), _) => spread.push(point.with(dimension.key, values[position])),
            (None, [single]) => spread.push(point.with(dimension.key, *single)),
            (None, _) => spread.extend(values.iter().enumerate().map(|(position, value)| {
                let mut point = point.clone();
                point.zipped.extend(dimension.zip.map(|zip| (zip, position)));
                point.with(dimension.key, *value)
            })),
        }
    }
    spread
}
