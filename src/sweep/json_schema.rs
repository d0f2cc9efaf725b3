//! The table of keys as a JSON Schema, for editors that check and complete sweep files.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::defaults::RECIPES;
use super::layout::FIELDS;
use super::schema::{
    ALL, Block, Fallback, Interval, KEYS, Key, Kind, LAST, LEAST_CONFIDENCE, MAX_LEVEL, MOST_CONFIDENCE, axis,
};

/// The schema of sweep files, JSON Schema draft 2020-12. `winsign schema > sweeps/schema.json` renews the committed
/// copy.
pub fn json_schema() -> Json {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "winsign sweep file",
        "description": "A sweep of lottery-ticket experiments. Any setting with several values is an axis.",
    });
    let mut definitions = json!({
        "zip": { "type": "array", "items": { "enum": axis_names() }, "minItems": 2 },
        "rule": { "type": "object", "properties": conditions(), "additionalProperties": false, "minProperties": 1 },
    });
    for block in [Block::Ticket, Block::Transfer, Block::Connect, Block::Resources, Block::Report] {
        // A block of which every line is commented out is null.
        definitions[block.to_string()] = block_schema(block, json!(["object", "null"]));
    }
    let root = block_schema(Block::Top, json!("object"));
    for (name, part) in root.as_object().into_iter().flatten() {
        schema[name] = part.clone();
    }
    schema["$defs"] = definitions;
    schema
}

fn block_schema(block: Block, kind: Json) -> Json {
    let properties: Map<String, Json> = block.keys().map(|key| (key.name.to_string(), key_schema(key))).collect();
    let required: Vec<_> = block.keys().filter(|key| key.default == Fallback::Required).map(|key| key.name).collect();
    json!({ "type": kind, "properties": properties, "required": required, "additionalProperties": false })
}

fn key_schema(key: &Key) -> Json {
    let mut schema = match key.kind {
        Kind::Name => json!({ "type": "string", "minLength": 1, "maxLength": 100 }),
        Kind::Block(block) if block.repeats() => one_or_more(block.into()),
        Kind::Block(block) => definition(block.into()),
        Kind::Zip => one_or_more("zip"),
        Kind::Exclude => one_or_more("rule"),
        Kind::Fields => json!({ "anyOf": [field(), { "type": "array", "items": field() }] }),
        _ if key.is_axis() => axis_schema(key),
        _ => value_schema(key.kind),
    };
    schema["description"] = json!(format!("{} Default: {}.", key.doc, default_text(key)));
    schema
}

fn definition(name: &str) -> Json {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn one_or_more(name: &str) -> Json {
    let list = json!({ "type": "array", "items": definition(name), "minItems": 1 });
    json!({ "anyOf": [definition(name), list, { "type": "null" }] })
}

/// One value, or a list of values and ranges.
fn axis_schema(key: &Key) -> Json {
    let mut forms = vec![value_schema(key.kind)];
    if key.kind.has_ranges() {
        forms.push(json!({ "type": "string", "pattern": r"^\s*[0-9]+\s*\.\.\s*[0-9]+\s*$" }));
    }
    let item = json!({ "anyOf": forms });
    forms.push(json!({ "type": "array", "items": item, "minItems": 1 }));
    json!({ "anyOf": forms })
}

fn value_schema(kind: Kind) -> Json {
    match kind {
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Whole { min, max: u64::MAX } => json!({ "type": "integer", "minimum": min }),
        Kind::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Digest => json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        Kind::Level => json!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": MAX_LEVEL },
            { "enum": [LAST, ALL] },
        ] }),
        Kind::Real(Interval::Positive) => json!({ "type": "number", "exclusiveMinimum": 0 }),
        Kind::Real(Interval::NotNegative) => json!({ "type": "number", "minimum": 0 }),
        Kind::Real(Interval::Ratio) => json!({ "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 }),
        Kind::Real(Interval::Confidence) => {
            json!({ "type": "number", "minimum": LEAST_CONFIDENCE, "maximum": MOST_CONFIDENCE })
        }
        Kind::Real(Interval::BelowOne) => json!({ "type": "number", "minimum": 0, "exclusiveMaximum": 1 }),
        Kind::Real(Interval::Fraction) => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Kind::Real(Interval::Share { max }) => json!({ "anyOf": [
            { "type": "number", "exclusiveMinimum": 0, "maximum": 1 },
            { "type": "integer", "minimum": 1, "maximum": max },
        ] }),
        Kind::Name | Kind::Block(_) | Kind::Zip | Kind::Exclude | Kind::Fields => json!({}),
    }
}

/// A name in `rows` or `columns`.
fn field() -> Json {
    json!({ "enum": FIELDS.into_iter().chain(axis_names()).collect::<BTreeSet<_>>() })
}

/// The names that `zip` and `exclude` understand, and what they name.
fn named_axes() -> impl Iterator<Item = (&'static str, &'static Key)> {
    let names =
        KEYS.iter().flat_map(|key| if key.name == key.path { vec![key.name] } else { vec![key.name, key.path] });
    let mut seen = Vec::new();
    names.filter_map(move |name| {
        let is_new = !seen.contains(&name);
        seen.push(name);
        axis(name).ok().filter(|_| is_new).map(|key| (name, key))
    })
}

fn axis_names() -> Vec<&'static str> {
    named_axes().map(|(name, _)| name).collect()
}

/// In a rule, a setting holds what it can hold in its block.
fn conditions() -> Map<String, Json> {
    let place = |key: &Key| match key.block {
        Block::Top => format!("#/properties/{}", key.name),
        block => format!("#/$defs/{block}/properties/{}", key.name),
    };
    named_axes().map(|(name, key)| (name.to_string(), json!({ "$ref": place(key) }))).collect()
}

/// What a key holds where the file says nothing, in words.
pub(crate) fn default_text(key: &Key) -> String {
    let joined =
        |values: &[super::values::Value]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match key.default {
        Fallback::Required => "required".to_string(),
        Fallback::Values(values) => joined(values),
        Fallback::Same(path) => format!("same as `{path}`"),
        Fallback::Depends(words) => words.to_string(),
        Fallback::Recipe => {
            let mut known: Vec<(String, Vec<String>)> = Vec::new();
            for (text, recipe) in RECIPES.iter().filter_map(|recipe| Some((joined(recipe.get(key)?), recipe))) {
                match known.iter_mut().find(|(other, _)| *other == text) {
                    Some((_, recipes)) => recipes.push(recipe.to_string()),
                    None => known.push((text, vec![recipe.to_string()])),
                }
            }
            match known.as_slice() {
                [(everywhere, _)] => everywhere.clone(),
                _ => {
                    known.iter().map(|(text, of)| format!("{text} {}", of.join(" and "))).collect::<Vec<_>>().join("; ")
                }
            }
        }
    }
}
