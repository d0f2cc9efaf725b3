//! Values, and axes of them: `0.1`, `[0.1, 0.05]`, `2..4`, `[1..3, 12]`.

use std::collections::HashSet;
use std::fmt;

use serde_json::Value as Json;
use winsign_core::settings::Digest;

use super::keys::{ALL, Key, Kind, LAST};
use crate::yaml::{Content, Diagnostic, Node, Place};

/// One value of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Word(&'static str),
    Truth(bool),
    Whole(u64),
    Digest(Digest),
    /// A number as its bits: no setting is negative, so they compare as the numbers do.
    Real(u64),
}

impl Value {
    pub const fn real(number: f64) -> Value {
        Value::Real(number.to_bits())
    }

    /// Returns the levels meant by `last`, `all` or a number, in a chain with this many.
    pub fn meant(self, levels: u64) -> Vec<Value> {
        match self {
            Value::Word(LAST) => vec![Value::Whole(levels)],
            Value::Word(ALL) => (1..=levels).map(Value::Whole).collect(),
            _ => vec![self],
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Value::Word(word) => f.write_str(word),
            Value::Truth(truth) => write!(f, "{truth}"),
            Value::Whole(number) => write!(f, "{number}"),
            Value::Digest(digest) => write!(f, "{digest}"),
            Value::Real(bits) => match f64::from_bits(bits) {
                small if small > 0.0 && small < 1e-4 => write!(f, "{small:e}"),
                number => write!(f, "{number}"),
            },
        }
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Json {
        match value {
            Value::Word(word) => word.into(),
            Value::Truth(truth) => truth.into(),
            Value::Whole(number) => number.into(),
            Value::Digest(digest) => digest.to_string().into(),
            Value::Real(bits) => f64::from_bits(bits).into(),
        }
    }
}

/// A setting as the file gives it: one value or several. Ranges stay unexpanded.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub key: &'static Key,
    pub place: Place,
    items: Vec<Item>,
    /// For each item, the number of values up to its end.
    ends: Vec<u128>,
}

/// One value, or an inclusive range of whole numbers in either direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub place: Place,
    first: Value,
    last: Value,
}

impl Axis {
    pub(crate) fn read(key: &'static Key, node: &Node) -> Result<Axis, Diagnostic> {
        let items = match &node.content {
            Content::List(nodes) => nodes.iter().map(|node| Item::read(key, node)).collect::<Result<Vec<_>, _>>()?,
            _ => vec![Item::read(key, node)?],
        };
        if items.is_empty() {
            let help = format!("give at least one value, or remove `{}` for its default", key.name);
            return Err(Diagnostic::at(node.place, format!("`{}` has no values", key.path), help));
        }
        let axis = Axis::new(key, node.place, items);
        axis.check_distinct()?;
        Ok(axis)
    }

    fn new(key: &'static Key, place: Place, items: Vec<Item>) -> Axis {
        let mut len = 0;
        let ends = items.iter().map(|item| {
            len += item.len();
            len
        });
        Axis { key, place, ends: ends.collect(), items }
    }

    /// Returns the axis with one of its items alone.
    pub(crate) fn with_item(&self, item: Item) -> Axis {
        Axis::new(self.key, self.place, vec![item])
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    pub(crate) fn len(&self) -> u128 {
        self.ends.last().copied().unwrap_or(0)
    }

    pub(crate) fn is_single(&self) -> bool {
        self.len() == 1
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = Value> {
        self.items.iter().flat_map(Item::values)
    }

    /// Returns the value at a position below the axis's length.
    pub(crate) fn value_at(&self, position: u128) -> Value {
        let index = self.ends.partition_point(|end| *end <= position);
        let before = index.checked_sub(1).map_or(0, |earlier| self.ends[earlier]);
        self.items[index].value_at(position - before)
    }

    /// Returns the levels meant in a chain with this many.
    pub(crate) fn levels(&self, levels: u64) -> Result<Vec<Value>, Diagnostic> {
        let mut meant = Vec::new();
        let mut known = HashSet::new();
        for item in &self.items {
            for level in item.values().flat_map(|value| value.meant(levels)) {
                // Words and numbers can mean the same level; two equal numbers were found when the file was read.
                if !known.insert(level) {
                    let message = format!("`{}` has level {level} twice in a chain of {levels} levels", self.key.path);
                    return Err(Diagnostic::at(item.place, message, "remove one of the two"));
                }
                meant.push(level);
            }
        }
        Ok(meant)
    }

    /// Returns the item that stands for a value, in a chain with this many levels.
    pub(crate) fn item_for(&self, value: Value, levels: u64) -> Option<&Item> {
        self.items.iter().find(|item| item.contains(value, levels))
    }

    /// Returns an error if a value is given twice, as it would be the same run twice. Ranges must not overlap.
    fn check_distinct(&self) -> Result<(), Diagnostic> {
        let mut items: Vec<_> = self.items.iter().collect();
        items.sort_by_key(|item| (item.bounds(), item.place));
        for pair in items.windows(2) {
            let (earlier, later) = (pair[0].bounds(), pair[1].bounds());
            if later.0 <= earlier.1 {
                let message = format!("`{}` has the value `{}` twice", self.key.path, later.0);
                return Err(Diagnostic::at(pair[0].place.max(pair[1].place), message, "remove one of the two"));
            }
        }
        Ok(())
    }
}

impl Item {
    fn read(key: &'static Key, node: &Node) -> Result<Item, Diagnostic> {
        match &node.content {
            Content::Text(text) if text.contains("..") => Item::read_range(key, node, text),
            _ => Item::read_single(key, node),
        }
    }

    fn read_single(key: &'static Key, node: &Node) -> Result<Item, Diagnostic> {
        let value = value(key, node)?;
        Ok(Item { place: node.place, first: value, last: value })
    }

    fn read_range(key: &'static Key, node: &Node, text: &str) -> Result<Item, Diagnostic> {
        let (unexpected, _) = key.unexpected(node);
        if !key.kind.has_ranges() {
            let help =
                format!("list the values, as in `{}: [{}]`; ranges are only for whole numbers", key.name, key.example);
            return Err(Diagnostic::at(node.place, unexpected, help));
        }
        let number = |text: &str| text.trim().parse::<i128>().ok();
        let ends = text.split_once("..").map(|(first, last)| (number(first), number(last)));
        let Some((Some(first), Some(last))) = ends else {
            let help = "write two whole numbers, as in `2..4`; both are included";
            return Err(Diagnostic::at(node.place, unexpected, help));
        };
        let end = |number| value(key, &Node::new(node.place, Content::Whole(number), number.to_string()));
        Ok(Item { place: node.place, first: end(first)?, last: end(last)? })
    }

    pub(crate) fn len(&self) -> u128 {
        match (self.first, self.last) {
            (Value::Whole(first), Value::Whole(last)) => u128::from(first.abs_diff(last)) + 1,
            _ => 1,
        }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = Value> {
        (0..self.len()).map(|position| self.value_at(position))
    }

    fn value_at(&self, position: u128) -> Value {
        match (self.first, self.last) {
            (Value::Whole(first), Value::Whole(last)) if first <= last => Value::Whole(first + position as u64),
            (Value::Whole(first), Value::Whole(_)) => Value::Whole(first - position as u64),
            (single, _) => single,
        }
    }

    /// Returns whether the item stands for a value, in a chain with this many levels.
    pub(crate) fn contains(&self, value: Value, levels: u64) -> bool {
        match self.first {
            Value::Word(LAST) => value == Value::Whole(levels),
            Value::Word(ALL) => (Value::Whole(1)..=Value::Whole(levels)).contains(&value),
            _ => {
                let (lowest, highest) = self.bounds();
                (lowest..=highest).contains(&value)
            }
        }
    }

    /// Returns whether the item is the word `all`, which stands for as many levels as the chain has.
    pub(crate) fn is_all(&self) -> bool {
        self.first == Value::Word(ALL)
    }

    /// Returns whether the item is a word that stands for levels.
    pub(crate) fn is_level_word(&self) -> bool {
        self.is_all() || self.first == Value::Word(LAST)
    }

    /// Returns the smallest and the largest value.
    pub(crate) fn bounds(&self) -> (Value, Value) {
        (self.first.min(self.last), self.first.max(self.last))
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.len() == 1 { write!(f, "{}", self.first) } else { write!(f, "{}..{}", self.first, self.last) }
    }
}

/// Reads one value of an axis.
fn value(key: &'static Key, node: &Node) -> Result<Value, Diagnostic> {
    let json = key.read(node)?;
    let text = json.as_str().unwrap_or_default();
    let value = match key.kind {
        Kind::Word(words) => words.iter().find(|word| **word == text).map(|word| Value::Word(word)),
        Kind::Level if !text.is_empty() => [LAST, ALL].into_iter().find(|word| *word == text).map(Value::Word),
        Kind::Digest => text.parse().ok().map(Value::Digest),
        Kind::Real(..) | Kind::Share { .. } => json.as_f64().map(Value::real),
        _ => json.as_u64().map(Value::Whole),
    };
    Ok(value.expect("the value agrees with the declaration"))
}
