//! YAML as a tree in which every node has its place.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};
use winsign_core::text::printable;

use super::{Diagnostic, DocumentKind, Place, quoted};

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub place: Place,
    pub content: Content,
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

/// Reads one YAML document.
pub(super) fn read(text: &str, kind: &DocumentKind) -> Result<Node, Diagnostic> {
    let options = serde_saphyr::options! {
        // `on`, `no`, `y` and `007` are ordinary names.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        reject_unsupported_tags: true,
        // As texts they are reported like all other values that are not numbers.
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| fault(error, kind))
}

impl Node {
    /// Returns the value of a key, if this is a block that has it.
    pub fn get(&self, name: &str) -> Option<&Node> {
        let Content::Map(entries) = &self.content else { return None };
        entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
    }
}

impl Content {
    /// Describes the content in messages about something else that was expected.
    pub fn found(&self) -> String {
        match self {
            Content::Nothing => "nothing".to_string(),
            Content::Truth(value) => format!("`{value}`"),
            Content::Whole(value) => format!("`{value}`"),
            Content::Real(value) => format!("`{value:?}`"),
            Content::Text(text) => format!("the text {}", quoted(text)),
            Content::List(_) => "a list".to_string(),
            Content::Map(_) => "a block of settings".to_string(),
        }
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
        Ok(Node { place: place(spanned.referenced), content: spanned.value })
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
