//! The declarations of the keys of YAML files. Reading, checking, documentation and schemas of sweep files, profiles and
//! reference tables follow from them.

use std::fmt::Write as _;
use std::ops::{Bound, RangeBounds};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};
use winsign_core::settings::Digest;

pub use super::values::Value;

use super::defaults;
use crate::yaml::{Content, Diagnostic, DocumentKind, Node, Place, grouped, listed, nearest, quoted};

/// A key of a file.
#[derive(Debug)]
pub struct Key {
    pub block: Block,
    /// The key with its block, as in `ticket.lr`; keys at the top level stand alone.
    pub path: &'static str,
    pub name: &'static str,
    pub kind: Kind,
    pub default: Fallback,
    /// The settings that determine whether the key has an effect.
    pub when: &'static [When],
    /// An example value, for messages.
    pub example: &'static str,
    /// A one-line description.
    pub doc: &'static str,
    /// The title of its column in tables, if it is not the name.
    pub title: Option<&'static str>,
}

/// A block of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Block {
    Top,
    /// The scopes of a sweep: a chain of tickets is a combination of settings of `Top` and `Ticket`, and has transfers
    /// and connects of its own.
    Ticket,
    Transfer,
    Connect,
    Resources,
    Report,
    /// The rows of a reference table.
    Rows,
}

/// The type of a key.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Word(&'static [&'static str]),
    Whole {
        min: u64,
        max: u64,
    },
    Real(Bound<f64>, Bound<f64>),
    /// A fraction of one thing, or several whole ones.
    Share {
        max: u32,
    },
    Truth,
    Text(Form),
    /// One text, or a list of texts.
    Lines(Form),
    /// The digest of an imported ticket.
    Digest,
    /// A level, `last`, or `all`.
    Level,
    /// One block, or a list of blocks if there may be several.
    Block(Block),
    Zip,
    Exclude,
}

/// A form of texts.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Describes such texts, as part of a sentence.
    pub expects: &'static str,
    /// Returns a text in its normal form, or why it does not have the form.
    pub read: fn(&Named, &str) -> Result<String, Complaint>,
}

/// A message and its help.
pub type Complaint = (String, String);

/// The default of a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fallback {
    Required,
    Values(&'static [Value]),
    /// The default depends on the data set and the architecture.
    Recipe,
    /// The value of another key.
    Same(&'static str),
    /// The default depends on a word of another key: some words have their own, and all others the last value.
    ByWord(&'static str, &'static [(&'static str, Value)], Value),
    /// The default depends on other things, described in words.
    Depends(&'static str),
}

/// A setting that determines whether a key has an effect.
#[derive(Debug)]
pub struct When {
    pub setting: &'static str,
    /// Returns why the key has no effect if the setting has this value; `None` if it has an effect.
    pub reason: fn(&str) -> Option<&'static str>,
    /// The help for a key without effect; `None` if this is not an error.
    pub help: Option<&'static str>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.path == other.path
    }
}

impl Key {
    pub const fn new(
        block: Block,
        path: &'static str,
        kind: Kind,
        default: Fallback,
        example: &'static str,
        doc: &'static str,
    ) -> Key {
        Key { block, path, name: last_part(path), kind, default, when: &[], example, doc, title: None }
    }

    pub const fn when(self, when: &'static [When]) -> Key {
        Key { when, ..self }
    }

    pub const fn title(self, title: &'static str) -> Key {
        Key { title: Some(title), ..self }
    }

    /// Returns the value that is the default whatever else is in the file, if there is one.
    pub fn constant(&self) -> Option<Value> {
        match self.default {
            Fallback::Values([value]) => Some(*value),
            _ => None,
        }
    }

    /// Describes the default.
    pub fn default_text(&self) -> String {
        match self.default {
            Fallback::Required => "required".to_string(),
            Fallback::Values(values) => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            Fallback::ByWord(_, words, other) => {
                let own = words.iter().map(|(word, value)| format!("; {value} for `{word}`"));
                other.to_string() + &own.collect::<String>()
            }
            Fallback::Same(path) => format!("same as `{path}`"),
            Fallback::Depends(words) => words.to_string(),
            Fallback::Recipe => defaults::describe(self),
        }
    }

    /// Returns the value that a file gives.
    pub fn read(&self, node: &Node) -> Result<Json, Diagnostic> {
        Named { key: self, label: self.path }.read(node)
    }

    /// Returns the value that an option of a command line gives.
    pub fn read_option(&self, option: &str, text: &str) -> Result<Json, Diagnostic> {
        let content = match self.kind {
            Kind::Whole { .. } => text.parse().map(Content::Whole).ok(),
            Kind::Truth => text.parse().map(Content::Truth).ok(),
            _ => None,
        };
        let content = content.unwrap_or_else(|| Content::Text(text.to_string()));
        let node = Node::new(Place::default(), content, text.to_string());
        Named { key: self, label: option }.read(&node).map_err(Diagnostic::without_place)
    }

    pub(crate) fn unexpected(&self, node: &Node) -> Complaint {
        Named { key: self, label: self.path }.unexpected(node)
    }
}

const fn last_part(path: &'static str) -> &'static str {
    let mut start = path.len();
    while start > 0 && path.as_bytes()[start - 1] != b'.' {
        start -= 1;
    }
    path.split_at(start).1
}

/// A key with its name in messages: its path, or an option of a command line.
pub struct Named<'k> {
    pub key: &'k Key,
    pub label: &'k str,
}

impl Named<'_> {
    fn read(&self, node: &Node) -> Result<Json, Diagnostic> {
        let value = match (self.key.kind, &node.content) {
            (Kind::Lines(form), Content::List(nodes)) => {
                let lines = nodes.iter().map(|node| self.text(form, node)).collect::<Result<Vec<_>, _>>()?;
                Some(json!(lines))
            }
            (Kind::Lines(form), _) => Some(json!([self.text(form, node)?])),
            (Kind::Text(form), _) => Some(json!(self.text(form, node)?)),
            (Kind::Word(words), Content::Text(word)) => words.contains(&word.as_str()).then(|| json!(word)),
            (Kind::Level, Content::Text(word)) => [LAST, ALL].contains(&word.as_str()).then(|| json!(word)),
            (Kind::Digest, _) => node.text().filter(|text| text.parse::<Digest>().is_ok()).map(Json::from),
            (Kind::Truth, Content::Truth(truth)) => Some(json!(truth)),
            (Kind::Whole { .. } | Kind::Level, &Content::Whole(number)) => {
                u64::try_from(number).ok().filter(|number| self.key.kind.has_whole(*number)).map(Json::from)
            }
            // Minus zero is zero.
            (kind, &Content::Whole(number)) => kind.has_real(number as f64).then(|| json!(number as f64 + 0.0)),
            (kind, &Content::Real(number)) => kind.has_real(number).then(|| json!(number + 0.0)),
            _ => None,
        };
        value.ok_or_else(|| at(node, self.unexpected(node)))
    }

    fn text(&self, form: Form, node: &Node) -> Result<String, Diagnostic> {
        let text = node.text().ok_or_else(|| self.unexpected(node)).and_then(|text| (form.read)(self, text));
        text.map_err(|complaint| at(node, complaint))
    }

    /// Returns the key with a value, as it is written in a file or on a command line.
    pub fn example(&self, value: &str) -> String {
        if self.label.starts_with('-') {
            format!("{} {value}", self.label)
        } else {
            format!("{}: {value}", self.key.name)
        }
    }

    /// Returns the complaint about a value that the key cannot have.
    pub fn unexpected(&self, node: &Node) -> Complaint {
        let Named { key, label } = self;
        let content = &node.content;
        if matches!((key.kind, content), (Kind::Level, Content::Whole(0))) {
            let message = format!("`{label}` cannot be 0: level 0 is the dense network, not a ticket");
            return (message, "use 1, the level after the first pruning, or higher".to_string());
        }
        let example = format!("for example `{}`", self.example(key.example));
        let meant = match (key.kind, content) {
            (Kind::Word(words), Content::Text(text)) => nearest(text, words.iter().copied()),
            (Kind::Level, Content::Text(text)) => nearest(text, [LAST, ALL]),
            (Kind::Truth, Content::Text(text)) => match text.to_lowercase().as_str() {
                "yes" | "y" | "on" => Some("true"),
                "no" | "n" | "off" => Some("false"),
                _ => None,
            },
            _ => None,
        };
        let help = match (meant, key.kind, content) {
            (Some(word), ..) => format!("did you mean `{word}`?"),
            (_, kind, Content::Text(text)) if kind.has_ranges() && is_hyphenated_range(text) => {
                format!("write the range as `{}`", self.example(&text.replace(['-', '–'], "..")))
            }
            (_, Kind::Text(_), Content::List(_) | Content::Map(_)) => {
                format!("put it in quotes if this is the text; {example}")
            }
            _ => example,
        };
        (format!("`{label}` must be {}, found {}", key.kind.expects(), node.found()), help)
    }
}

/// Returns true for a text such as `1-3`.
fn is_hyphenated_range(text: &str) -> bool {
    let is_number = |text: &str| text.parse::<u64>().is_ok();
    text.split_once(['-', '–']).is_some_and(|(first, last)| is_number(first) && is_number(last))
}

fn at(node: &Node, (message, help): Complaint) -> Diagnostic {
    Diagnostic::at(node.place, message, help)
}

/// Any text that is not empty.
pub const ANY_TEXT: Form = Form { expects: "a text", read: any_text };

fn any_text(named: &Named, text: &str) -> Result<String, Complaint> {
    match text.trim() {
        "" => {
            let help = format!("remove it, or give a value, as in `{}`", named.example(named.key.example));
            Err((format!("`{}` is empty", named.label), help))
        }
        text => Ok(text.to_string()),
    }
}

pub(crate) const LAST: &str = "last";
pub(crate) const ALL: &str = "all";
/// The highest level; at a prune ratio of 0.2 one weight in 10⁹⁷ would remain.
pub const MAX_LEVEL: u64 = 1_000;

impl Kind {
    /// Describes the values, as part of a sentence.
    pub fn expects(self) -> String {
        use Bound::{Excluded, Included, Unbounded};

        match self {
            Kind::Word([word]) => format!("`{word}`"),
            Kind::Word(words) => format!("one of {}", listed(words.iter().copied())),
            Kind::Whole { min, max: u64::MAX } => format!("a whole number from {min} to 2^64 - 1"),
            Kind::Whole { min, max } => format!("a whole number from {min} to {}", grouped(max.into())),
            Kind::Real(Excluded(min), Unbounded) => format!("a number above {min}"),
            Kind::Real(Included(min), Unbounded) => format!("a number, {min} or above"),
            Kind::Real(Excluded(min), Excluded(max)) => format!("a number above {min} and below {max}"),
            Kind::Real(Excluded(min), Included(max)) => format!("a number above {min} and up to {max}"),
            Kind::Real(Included(min), Excluded(max)) => format!("a number from {min} to below {max}"),
            Kind::Real(Included(min), Included(max)) => format!("a number from {min} to {max}"),
            Kind::Real(Unbounded, _) => "a number".to_string(),
            Kind::Share { max } => {
                format!("a number above 0 and up to 1, or a whole number up to {}", grouped(max.into()))
            }
            Kind::Truth => "`true` or `false`".to_string(),
            Kind::Text(form) | Kind::Lines(form) => form.expects.to_string(),
            Kind::Digest => "a digest of 32 hexadecimal digits".to_string(),
            Kind::Level => format!("a level from 1 to {}, `{LAST}` or `{ALL}`", grouped(MAX_LEVEL.into())),
            Kind::Block(block) if block.repeats() => "a block of settings or a list of blocks".to_string(),
            Kind::Block(_) => "a block of settings".to_string(),
            Kind::Zip => "a list of lists of settings".to_string(),
            Kind::Exclude => "a list of rules".to_string(),
        }
    }

    /// Returns whether `a..b` may stand for several values.
    pub(crate) fn has_ranges(self) -> bool {
        matches!(self, Kind::Whole { .. } | Kind::Level)
    }

    pub(crate) fn has_whole(self, number: u64) -> bool {
        match self {
            Kind::Whole { min, max } => (min..=max).contains(&number),
            Kind::Level => (1..=MAX_LEVEL).contains(&number),
            _ => false,
        }
    }

    pub(crate) fn has_real(self, number: f64) -> bool {
        match self {
            Kind::Real(min, max) => number.is_finite() && (min, max).contains(&number),
            Kind::Share { max } => number > 0.0 && (number <= 1.0 || number.fract() == 0.0) && number <= f64::from(max),
            _ => false,
        }
    }
}

impl Block {
    /// Returns whether a file may have several blocks of this kind.
    pub(crate) fn repeats(self) -> bool {
        matches!(self, Block::Ticket | Block::Transfer | Block::Connect | Block::Rows)
    }
}

/// A block of settings, all of which are declared.
#[derive(Debug)]
pub struct Entries<'n> {
    pub place: Place,
    list: Vec<(&'static Key, &'n Node)>,
}

impl<'n> Entries<'n> {
    pub fn iter(&self) -> impl Iterator<Item = (&'static Key, &'n Node)> {
        self.list.iter().copied()
    }

    pub fn get(&self, name: &str) -> Option<&'n Node> {
        self.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    /// Returns the checked values of the block in a type whose fields are the keys. Nested blocks are left out.
    pub fn read<T: DeserializeOwned>(&self, defaults: Map<String, Json>) -> Result<T, Diagnostic> {
        let mut values = defaults;
        for (key, node) in self.iter().filter(|(key, _)| !matches!(key.kind, Kind::Block(_))) {
            values.insert(key.name.to_string(), key.read(node)?);
        }
        Ok(serde_json::from_value(values.into()).expect("the fields of the type agree with the declarations"))
    }
}

impl DocumentKind {
    pub(crate) fn block(&self, block: Block) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().filter(move |key| key.block == block)
    }

    /// Returns whether settings may have several values, to be combined.
    pub(crate) fn has_axes(&self) -> bool {
        self.keys.iter().any(|key| matches!(key.kind, Kind::Zip))
    }

    pub fn key(&self, block: Block, name: &str) -> Option<&'static Key> {
        self.block(block).find(|key| key.name == name)
    }

    /// Returns the constant defaults of a block.
    pub fn defaults(&self, block: Block) -> Map<String, Json> {
        let constants = self.block(block).filter_map(|key| Some((key.name.to_string(), key.constant()?.into())));
        constants.collect()
    }

    /// Returns the entries of a block.
    pub fn entries<'n>(&self, block: Block, node: &'n Node) -> Result<Entries<'n>, Diagnostic> {
        let entries = match &node.content {
            Content::Map(entries) => entries.as_slice(),
            // Every line of the block is commented out.
            Content::Nothing => &[],
            _ => return Err(at(node, self.not_a_block(block, node))),
        };
        let declared = entries.iter().map(|(name, node)| match self.key(block, &name.text) {
            Some(key) => Ok((key, node)),
            None => {
                let (message, help) = self.unknown(block, &name.text);
                Err(Diagnostic::at(name.place, message, help))
            }
        });
        Ok(Entries { place: node.place, list: declared.collect::<Result<_, _>>()? })
    }

    fn not_a_block(&self, block: Block, found: &Node) -> Complaint {
        let required: Vec<&Key> = self.block(block).filter(|key| key.default == Fallback::Required).collect();
        let first = if required.is_empty() { self.block(block).take(1).collect() } else { required };
        if block == Block::Top {
            let message = format!("a {} is a block of settings (`key: value`), found {}", self.name, found.found());
            return (message, begin_with(&first));
        }
        let message = format!("`{block}` must be {}, found {}", Kind::Block(block).expects(), found.found());
        let help = match self.setting_of(block, &found.content) {
            Some((name, word)) => format!(
                "name the setting, as in `{block}: {{{name}: {word}}}`; several values are a list: `{{{name}: [{word}, …]}}`"
            ),
            None => format!("for example `{block}: {{{}: {}}}`", first[0].name, first[0].example),
        };
        (message, help)
    }

    /// Returns the name of the setting of a block that can have this word as its value, and the word.
    fn setting_of(&self, block: Block, found: &Content) -> Option<(&'static str, &'static str)> {
        let Content::Text(text) = found else { return None };
        self.block(block).find_map(|key| match key.kind {
            Kind::Word(words) => Some((key.name, *words.iter().find(|word| *word == text)?)),
            _ => None,
        })
    }

    /// Returns how a file of this kind begins.
    pub(crate) fn start(&self) -> String {
        begin_with(&self.block(Block::Top).filter(|key| key.default == Fallback::Required).collect::<Vec<_>>())
    }

    /// Returns an error if a required key of a block is missing.
    pub fn check_required(
        &self,
        block: Block,
        place: Place,
        is_given: impl Fn(&Key) -> bool,
    ) -> Result<(), Diagnostic> {
        let mut required = self.block(block).filter(|key| key.default == Fallback::Required);
        let Some(key) = required.find(|key| !is_given(key)) else { return Ok(()) };
        let within = if block == Block::Top { String::new() } else { format!(" in `{block}`") };
        let help = format!("add `{}: {}`; it must be {}", key.name, key.example, key.kind.expects());
        Err(Diagnostic::at(place, format!("`{}` is missing{within}", key.name), help))
    }

    /// Describes a block, as part of a sentence.
    fn place(&self, block: Block) -> String {
        match block {
            Block::Top if self.keys.iter().all(|key| key.block == Block::Top) => format!("in a {}", self.name),
            Block::Top => "at the top level".to_string(),
            block => format!("in `{block}`"),
        }
    }

    /// Returns the complaint about a key that a block does not have.
    fn unknown(&self, block: Block, name: &str) -> Complaint {
        let message = format!("there is no setting {} {}", quoted(name), self.place(block));
        let mut elsewhere: Vec<String> =
            self.keys.iter().filter(|key| key.name == name).map(|key| self.place(key.block)).collect();
        elsewhere.dedup();
        let help = match self.nearest(block, name) {
            _ if !elsewhere.is_empty() => format!("move it: it belongs {}", elsewhere.join(" or ")),
            Some(known) => format!("did you mean `{known}`?"),
            None => match nearest(name, self.keys.iter().map(|key| key.name)) {
                Some(known) => {
                    let key = self.keys.iter().find(|key| key.name == known).expect("it is one of them");
                    format!("did you mean `{known}`, {}?", self.place(key.block))
                }
                None => format!("the settings are {}", listed(self.block(block).map(|key| key.name))),
            },
        };
        (message, help)
    }

    /// Returns the key of a block that was probably meant by a name.
    pub fn nearest(&self, block: Block, name: &str) -> Option<&'static str> {
        let plain = name.trim_start_matches('-').replace('-', "_");
        let other = self.other_names.iter().find(|(other, _)| *other == plain).map(|(_, known)| *known);
        other.or(nearest(&plain, self.block(block).map(|key| key.name)))
    }

    /// Returns the Markdown table of the keys of a block.
    pub fn documentation(&self, block: Block) -> String {
        let mut table = "| key | type | default | meaning |\n|---|---|---|---|\n".to_string();
        for key in self.block(block) {
            writeln!(table, "| `{}` | {} | {} | {} |", key.name, key.kind.expects(), key.default_text(), key.doc)
                .expect("a String takes all text");
        }
        table
    }
}

fn begin_with(keys: &[&Key]) -> String {
    let examples: Vec<String> = keys.iter().map(|key| format!("`{}: {}`", key.name, key.example)).collect();
    format!("begin with {}", examples.join(" and "))
}
