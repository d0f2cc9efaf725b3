//! Values, and axes of them: `0.1`, `[0.1, 0.05]`, `2..4`, `[1..3, 12]`.

use std::fmt;

use winsign_core::settings::Digest;

use super::schema::{ALL, Key, Kind, LAST, MAX_LEVEL};
use crate::yaml::{Content, Diagnostic, Node, Place, nearest};

/// One value of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Word(&'static str),
    Whole(u64),
    Digest(Digest),
    /// By its bits: no setting is negative, so they compare as the numbers do.
    Real(u64),
}

impl Value {
    pub const fn real(number: f64) -> Value {
        Value::Real(number.to_bits())
    }

    /// The levels meant by `last`, `all` or a number, in a chain with this many.
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
            Value::Whole(number) => write!(f, "{number}"),
            Value::Digest(digest) => write!(f, "{digest}"),
            Value::Real(bits) => match f64::from_bits(bits) {
                small if small > 0.0 && small < 1e-4 => write!(f, "{small:e}"),
                number => write!(f, "{number}"),
            },
        }
    }
}

/// A setting as the file gives it: one value or several. Ranges stay unexpanded until it is known that there are few
/// enough runs.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub key: &'static Key,
    pub place: Place,
    pub items: Vec<Item>,
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
        let axis = Axis { key, place: node.place, items };
        axis.check_distinct()?;
        Ok(axis)
    }

    /// A setting that holds one value and is no axis.
    pub(crate) fn read_single(key: &'static Key, node: &Node) -> Result<Axis, Diagnostic> {
        let single = Axis { key, place: node.place, items: vec![Item::read_single(key, node)?] };
        Ok(single)
    }

    pub(crate) fn len(&self) -> u128 {
        self.items.iter().map(Item::len).sum()
    }

    pub(crate) fn is_single(&self) -> bool {
        self.len() == 1
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = Value> {
        self.items.iter().flat_map(Item::values)
    }

    /// Returns the value at a position below the axis's length.
    pub(crate) fn value_at(&self, position: u128) -> Value {
        let mut before = 0;
        let item = self.items.iter().find(|item| {
            before += item.len();
            position < before
        });
        let item = item.expect("the position is below the length");
        item.value_at(position + item.len() - before)
    }

    /// The levels meant in a chain with this many of them.
    pub(crate) fn levels(&self, levels: u64) -> Result<Vec<Value>, Diagnostic> {
        let mut meant = Vec::new();
        for item in &self.items {
            for level in item.values().flat_map(|value| value.meant(levels)) {
                // Words and numbers can mean the same level; two equal numbers were found when the file was read.
                if meant.contains(&level) {
                    let message = format!("`{}` has level {level} twice in a chain of {levels} levels", self.key.path);
                    return Err(Diagnostic::at(item.place, message, "remove one of the two"));
                }
                meant.push(level);
            }
        }
        Ok(meant)
    }

    /// The item that stands for a value, in a chain with this many levels.
    pub(crate) fn item_for(&self, value: Value, levels: u64) -> Option<&Item> {
        self.items.iter().find(|item| item.contains(value, levels))
    }

    /// The same value twice would be the same run twice. Ranges make this a question of overlap.
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
        if !key.kind.has_ranges() {
            let help =
                format!("list the values, as in `{}: [{}]`; ranges are only for whole numbers", key.name, key.example);
            return Err(Diagnostic::at(node.place, unexpected(key, node), help));
        }
        let number = |text: &str| text.trim().parse::<i128>().ok();
        let ends = text.split_once("..").map(|(first, last)| (number(first), number(last)));
        let Some((Some(first), Some(last))) = ends else {
            let help = "write two whole numbers, as in `2..4`; both are included";
            return Err(Diagnostic::at(node.place, unexpected(key, node), help));
        };
        let end = |number| value(key, &Node { place: node.place, content: Content::Whole(number) });
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

    /// Whether the item stands for a value, in a chain with this many levels.
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

    /// Whether the item is the word `all`, which stands for as many levels as the chain has.
    pub(crate) fn is_all(&self) -> bool {
        self.first == Value::Word(ALL)
    }

    /// Whether the item is a word that stands for levels.
    pub(crate) fn is_level_word(&self) -> bool {
        self.is_all() || self.first == Value::Word(LAST)
    }

    fn bounds(&self) -> (Value, Value) {
        (self.first.min(self.last), self.first.max(self.last))
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.len() == 1 { write!(f, "{}", self.first) } else { write!(f, "{}..{}", self.first, self.last) }
    }
}

/// Reads one value as the key's kind has it.
fn value(key: &'static Key, node: &Node) -> Result<Value, Diagnostic> {
    let value = match (key.kind, &node.content) {
        (Kind::Word(words), Content::Text(text)) => {
            words.iter().find(|word| *word == text).map(|word| Value::Word(word))
        }
        (Kind::Whole { min, max }, &Content::Whole(number)) => whole(number, min, max),
        (Kind::Real(interval), &Content::Real(number)) => interval.contains(number).then(|| real(number)),
        (Kind::Real(interval), &Content::Whole(number)) => {
            interval.contains(number as f64).then(|| real(number as f64))
        }
        (Kind::Digest, Content::Text(text)) => text.parse().ok().map(Value::Digest),
        (Kind::Level, Content::Text(text)) => [LAST, ALL].into_iter().find(|word| word == text).map(Value::Word),
        (Kind::Level, Content::Whole(0)) => return Err(level_zero(key, node)),
        (Kind::Level, &Content::Whole(number)) => whole(number, 1, MAX_LEVEL),
        _ => None,
    };
    value.ok_or_else(|| Diagnostic::at(node.place, unexpected(key, node), suggestion(key, node)))
}

fn whole(number: i128, min: u64, max: u64) -> Option<Value> {
    u64::try_from(number).ok().filter(|number| (min..=max).contains(number)).map(Value::Whole)
}

fn real(number: f64) -> Value {
    // Minus zero is zero.
    Value::real(number + 0.0)
}

fn level_zero(key: &Key, node: &Node) -> Diagnostic {
    let message = format!("`{}` cannot be 0: level 0 is the dense network, not a ticket", key.path);
    Diagnostic::at(node.place, message, "use 1, the level after the first pruning, or higher")
}

fn unexpected(key: &Key, node: &Node) -> String {
    format!("`{}` must be {}, found {}", key.path, key.kind.expects(), node.content.found())
}

fn suggestion(key: &Key, node: &Node) -> String {
    let meant = match (&node.content, key.kind) {
        (Content::Text(text), Kind::Word(words)) => nearest(text, words.iter().copied()),
        (Content::Text(text), Kind::Level) => nearest(text, [LAST, ALL]),
        _ => None,
    };
    match meant {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("for example `{}: {}`", key.name, key.example),
    }
}
