//! Combinations: every setting of a scope at one of its values.

use std::collections::HashSet;
use std::ops::Range;
use std::str::FromStr;

use winsign_core::settings::{Between, Digest};

use super::keys::{Block, Key, When};
use super::values::{Axis, Value};
use crate::yaml::Diagnostic;

/// One combination, within the combination of the scope around it: a transfer's within its chain's.
#[derive(Debug, Clone)]
pub(crate) struct Point<'a> {
    outer: Option<&'a Point<'a>>,
    values: Vec<(&'static Key, Value)>,
    /// The position that each zip has reached: (zip, position).
    zipped: Vec<(usize, u128)>,
}

/// A setting, and its values in a scope.
#[derive(Debug, Clone)]
pub(crate) struct Dimension<'f> {
    pub key: &'static Key,
    pub values: Values<'f>,
    pub zip: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) enum Values<'f> {
    /// The values that the file gives.
    Axis(&'f Axis),
    List(Vec<Value>),
    /// The value of another setting in the combination.
    Same(&'static str),
}

impl Dimension<'_> {
    /// Returns the values within a combination.
    pub(crate) fn values_within(&self, point: &Point) -> impl Iterator<Item = Value> {
        self.positions(point).map(|position| self.value(position, point))
    }

    /// Returns the positions of the values within a combination: all, or the one that the zip has reached.
    fn positions(&self, point: &Point) -> Range<u128> {
        match (self.zip.and_then(|zip| point.position(zip)), &self.values) {
            (Some(position), _) => position..position + 1,
            (None, Values::Axis(axis)) => 0..axis.len(),
            (None, Values::List(values)) => 0..values.len() as u128,
            (None, Values::Same(_)) => 0..1,
        }
    }

    fn value(&self, position: u128, point: &Point) -> Value {
        match &self.values {
            Values::Axis(axis) => axis.value_at(position),
            Values::List(values) => values[position as usize],
            Values::Same(path) => point.get(path).expect("a key follows those its default refers to"),
        }
    }
}

impl<'a> Point<'a> {
    /// Returns the combination of no settings, which is around all others.
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

    /// Returns a whole number whose declared maximum fits.
    pub(crate) fn number(&self, path: &str) -> u32 {
        u32::try_from(self.whole(path)).expect("the declaration bounds this")
    }

    pub(crate) fn real(&self, path: &str) -> f64 {
        match self.get(path) {
            Some(Value::Real(bits)) => f64::from_bits(bits),
            other => unreachable!("{path} is {other:?}, not a real number"),
        }
    }

    /// Returns the digest of an imported ticket; `None` if nothing is imported.
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

    /// Returns a word as a value of the type whose variants its declaration lists.
    pub(crate) fn word<T: FromStr>(&self, path: &str) -> T {
        self.text(path).parse().ok().expect("the declaration lists the words of the type")
    }

    /// Returns the last level of the chain.
    pub(crate) fn levels(&self) -> u64 {
        self.whole("ticket.levels")
    }

    /// Returns the kind of networks that a connect joins.
    pub(crate) fn between(&self) -> Between {
        self.word("connect.between")
    }

    /// Returns whether a setting of this scope has an effect: another value of it would make another run.
    pub(crate) fn depends_on(&self, key: &Key) -> bool {
        // The division of a matrix into runs changes none of its paths.
        key.path != "connect.block" && key.when.iter().all(|when| self.reason(when).is_none())
    }

    /// Returns why a setting with this condition has no effect; `None` if it has.
    pub(crate) fn reason(&self, when: &When) -> Option<&'static str> {
        match self.get(when.setting) {
            Some(Value::Word(word)) => (when.reason)(word),
            _ => Some("the setting it depends on does not apply"),
        }
    }

    /// Returns the scope of the combination.
    pub(crate) fn block(&self) -> Block {
        self.values.last().map_or(Block::Top, |(key, _)| key.block)
    }

    /// Returns the number of combinations of these dimensions within this one, or `u128::MAX` if there are more.
    pub(crate) fn count(&self, dimensions: &[Dimension]) -> u128 {
        let mut zips = HashSet::new();
        let independent = dimensions.iter().filter(|dimension| dimension.zip.is_none_or(|zip| zips.insert(zip)));
        let lengths = independent.map(|dimension| dimension.positions(self)).map(|range| range.end - range.start);
        lengths.fold(1, u128::saturating_mul)
    }

    /// Calls `visit` with each combination of these dimensions within this one; the first dimension varies slowest.
    pub(crate) fn visit(
        &'a self,
        dimensions: &[Dimension],
        visit: &mut dyn FnMut(&Point<'a>) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        Point { outer: Some(self), ..Point::root() }.vary(dimensions, visit)
    }

    fn vary(
        &mut self,
        dimensions: &[Dimension],
        visit: &mut dyn FnMut(&Point<'a>) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let Some((dimension, rest)) = dimensions.split_first() else { return visit(self) };
        let reached = self.zipped.len();
        let zip = dimension.zip.filter(|zip| self.position(*zip).is_none());
        for position in dimension.positions(self) {
            self.values.push((dimension.key, dimension.value(position, self)));
            self.zipped.extend(zip.map(|zip| (zip, position)));
            self.vary(rest, visit)?;
            self.zipped.truncate(reached);
            self.values.pop();
        }
        Ok(())
    }

    /// Returns what distinguishes the combinations of a scope: the values of settings that have an effect, and the
    /// positions of their zips.
    pub(crate) fn identity(&self) -> (Vec<Value>, Vec<(usize, u128)>) {
        (self.values_of(|_| true), self.zipped.clone())
    }

    /// Returns the values of those settings of the scope that have an effect and that `counts` picks.
    pub(crate) fn values_of(&self, counts: impl Fn(&Key) -> bool) -> Vec<Value> {
        // `seed` only stands for the seeds it sets.
        let counted = self.values.iter().filter(|(key, _)| key.name != "seed" && self.depends_on(key) && counts(key));
        counted.map(|(_, value)| *value).collect()
    }

    fn position(&self, zip: usize) -> Option<u128> {
        let own = self.zipped.iter().find(|(other, _)| *other == zip).map(|(_, position)| *position);
        own.or_else(|| self.outer?.position(zip))
    }
}
