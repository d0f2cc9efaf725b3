//! YAML as a tree in which every node has its place.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};
use winsign_core::text::printable;

use super::{Diagnostic, DocumentKind, Place, quoted};

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub place: Place,
    pub content: Content,
    /// A truth value or a number as it is written; empty for everything else.
    written: String,
    /// The place of the value if this is an alias, and otherwise of the node.
    defined: Place,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Nothing,
    Truth(bool),
    Whole(i128),
    Real(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Name, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    pub place: Place,
    pub text: String,
}

/// The key whose value is a block of settings, which become those of its own block.
const MERGE_KEY: &str = "<<";

/// Reads one YAML document.
pub(super) fn read(text: &str, kind: &DocumentKind) -> Result<Node, Diagnostic> {
    let options = serde_saphyr::options! {
        // `on`, `no`, `y` and `007` are ordinary names.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        reject_unsupported_tags: true,
        // No setting has such a number, but a text may look like one.
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
        // Merged by `merge`, so that a second `<<` in a block is an error like every other key that is given twice.
        merge_keys: serde_saphyr::options::MergeKeyPolicy::AsOrdinary,
    };
    let root: Result<Node, _> = serde_saphyr::from_str_with_options(text, options);
    let mut root = root.map_err(|error| fault(error, kind))?;
    root.add_written(text);
    root.merge()?;
    Ok(root)
}

impl Node {
    /// Returns a node that is not in a file, with a value as it is written if it is a truth value or a number.
    pub(crate) fn new(place: Place, content: Content, written: String) -> Node {
        Node { place, content, written, defined: place }
    }

    /// Returns a node with a text that is not in a file.
    pub fn from_text(text: &str) -> Node {
        Node::new(Place::default(), Content::Text(text.to_string()), String::new())
    }

    /// Keeps truth values and numbers as they are written, here and below.
    fn add_written(&mut self, text: &str) {
        match &mut self.content {
            Content::Truth(_) | Content::Whole(_) | Content::Real(_) => {
                self.written = text.get(self.defined.start..self.defined.end).unwrap_or_default().trim().to_string();
            }
            Content::List(nodes) => nodes.iter_mut().for_each(|node| node.add_written(text)),
            Content::Map(entries) => entries.iter_mut().for_each(|(_, node)| node.add_written(text)),
            Content::Nothing | Content::Text(_) => {}
        }
    }

    /// Replaces the merge key of blocks, here and below, by the settings of the blocks that it names. A block's own settings
    /// come first, then those of the first merged block.
    fn merge(&mut self) -> Result<(), Diagnostic> {
        match &mut self.content {
            Content::List(nodes) => nodes.iter_mut().try_for_each(Node::merge),
            Content::Map(entries) => {
                entries.iter_mut().try_for_each(|(_, node)| node.merge())?;
                let Some(at) = entries.iter().position(|(name, _)| name.text == MERGE_KEY) else { return Ok(()) };
                let (_, merged) = entries.remove(at);
                let mut known: HashSet<String> = entries.iter().map(|(name, _)| name.text.clone()).collect();
                let new = merged.into_merged()?.into_iter().filter(|(name, _)| known.insert(name.text.clone()));
                entries.extend(new);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns the settings of the value of a merge key: a block, or several in order.
    fn into_merged(self) -> Result<Vec<(Name, Node)>, Diagnostic> {
        match self.content {
            Content::Map(entries) => Ok(entries),
            Content::List(nodes) if nodes.iter().all(|node| matches!(node.content, Content::Map(_))) => {
                Ok(nodes.into_iter().map(Node::into_merged).collect::<Result<Vec<_>, _>>()?.concat())
            }
            _ => {
                let message =
                    format!("`{MERGE_KEY}` needs a block of settings or a list of blocks, found {}", self.found());
                Err(Diagnostic::at(self.place, message, "name one that has an anchor, as in `<<: *base`"))
            }
        }
    }

    /// Returns the text of a value, whatever it looks like; `None` for nothing, lists and blocks.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Truth(_) | Content::Whole(_) | Content::Real(_) => Some(&self.written),
            Content::Nothing | Content::List(_) | Content::Map(_) => None,
        }
    }

    /// Describes the content in messages about something else that was expected.
    pub fn found(&self) -> String {
        match &self.content {
            Content::Nothing => "nothing".to_string(),
            Content::Truth(_) | Content::Whole(_) | Content::Real(_) => quoted(&self.written),
            Content::Text(text) => format!("the text {}", quoted(text)),
            Content::List(_) => "a list".to_string(),
            Content::Map(_) => "a block of settings".to_string(),
        }
    }

    /// Returns the value of a key, if this is a block that has it.
    pub fn get(&self, name: &str) -> Option<&Node> {
        let Content::Map(entries) = &self.content else { return None };
        entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
    }
}

/// Returns the diagnostic for a YAML error.
fn fault(error: serde_saphyr::Error, kind: &DocumentKind) -> Diagnostic {
    use serde_saphyr::Error as Yaml;

    let (message, help) = match &error {
        Yaml::DuplicateMappingKey { key: Some(key), .. } => {
            (format!("{} is given twice", quoted(key)), kind.twice.to_string())
        }
        Yaml::MultipleDocuments { .. } => {
            let help = format!("a {} is one document: remove the `---`", kind.name);
            ("a second YAML document begins here".to_string(), help)
        }
        Yaml::Budget { .. } | Yaml::AliasError { .. } => (
            "this file is nested too deeply, or too large after expanding aliases".to_string(),
            format!("a {} needs {} levels; replace aliases (`*name`) by their values", kind.name, kind.levels),
        ),
        _ => {
            let message = printable(&UserMessageFormatter.format_message(&error));
            let help = "check the indentation, colons, brackets and quotes here and just before";
            (format!("cannot read this as YAML: {message}"), help.to_string())
        }
    };
    match error.location() {
        Some(location) if location.line() > 0 => Diagnostic::at(place(location), message, help),
        _ => Diagnostic::new(message, help),
    }
}

fn place(location: Location) -> Place {
    let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let start = index(location.span().byte_offset().unwrap_or(0));
    let length = index(location.span().byte_len().unwrap_or(0));
    Place { line: index(location.line()), column: index(location.column()), start, end: start.saturating_add(length) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        let (place, defined) = (place(spanned.referenced), place(spanned.defined));
        Ok(Node { place, content: spanned.value, written: String::new(), defined })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Name { place: place(spanned.referenced), text: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value, a list or a block of settings")
    }

    fn visit_unit<E: Error>(self) -> Result<Content, E> {
        Ok(Content::Nothing)
    }

    fn visit_none<E: Error>(self) -> Result<Content, E> {
        Ok(Content::Nothing)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Truth(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Whole(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Whole(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Content, E> {
        Ok(Content::Whole(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Real(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Content::Map(map))
    }
}
