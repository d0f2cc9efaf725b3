//! JSON Schemas of files, for editors that check and complete them.

use std::collections::BTreeSet;
use std::ops::Bound;

use serde_json::{Map, Value as Json, json};

use super::keys::{ALL, Block, Fallback, Key, Kind, LAST, MAX_LEVEL};
use super::layout::FIELDS;
use super::schema::{KEYS, axis};
use crate::yaml::DocumentKind;

/// Returns the schema of a kind of file, in JSON Schema draft 2020-12.
pub fn json_schema(kind: &DocumentKind) -> Json {
    let mut definitions = Map::new();
    if kind.has_axes() {
        let zip = json!({ "type": "array", "items": { "enum": axis_names() }, "minItems": 2 });
        let rule =
            json!({ "type": "object", "properties": conditions(), "additionalProperties": false, "minProperties": 1 });
        definitions.extend([("zip".to_string(), zip), ("rule".to_string(), rule)]);
    }
    let blocks: BTreeSet<Block> = kind.keys.iter().map(|key| key.block).collect();
    for block in blocks.into_iter().filter(|block| *block != Block::Top) {
        // A block of which every line is commented out is null.
        definitions.insert(block.to_string(), block_schema(kind, block, json!(["object", "null"])));
    }
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("winsign {}", kind.name),
        "description": kind.description,
    });
    let top = block_schema(kind, Block::Top, json!("object"));
    for (name, part) in top.as_object().into_iter().flatten() {
        schema[name] = part.clone();
    }
    schema["$defs"] = definitions.into();
    schema
}

fn block_schema(kind: &DocumentKind, block: Block, json_type: Json) -> Json {
    let keys = || kind.block(block);
    let properties: Map<String, Json> = keys().map(|key| (key.name.to_string(), key_schema(kind, key))).collect();
    let required: Vec<_> = keys().filter(|key| key.default == Fallback::Required).map(|key| key.name).collect();
    json!({ "type": json_type, "properties": properties, "required": required, "additionalProperties": false })
}

fn key_schema(kind: &DocumentKind, key: &Key) -> Json {
    let mut schema = match key.kind {
        Kind::Block(block) if block.repeats() => one_or_more(block.into()),
        Kind::Block(block) => definition(block.into()),
        Kind::Zip => one_or_more("zip"),
        Kind::Exclude => one_or_more("rule"),
        Kind::Lines(_) if key.block == Block::Report => {
            json!({ "anyOf": [field(), { "type": "array", "items": field() }] })
        }
        _ if kind.has_axes() && key.is_axis() => axis_schema(key),
        _ => value_schema(key.kind),
    };
    schema["description"] = json!(format!("{} Default: {}.", key.doc, key.default_text()));
    schema
}

fn definition(name: &str) -> Json {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn one_or_more(name: &str) -> Json {
    let list = json!({ "type": "array", "items": definition(name), "minItems": 1 });
    json!({ "anyOf": [definition(name), list, { "type": "null" }] })
}

/// Returns the schema of one value, or a list of values and ranges.
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
        Kind::Truth => json!({ "type": "boolean" }),
        Kind::Text(_) => json!({ "type": ["string", "number"], "minLength": 1 }),
        Kind::Digest => json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        Kind::Level => json!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": MAX_LEVEL },
            { "enum": [LAST, ALL] },
        ] }),
        Kind::Real(min, max) => {
            let mut schema = json!({ "type": "number" });
            for (bound, included, excluded) in
                [(min, "minimum", "exclusiveMinimum"), (max, "maximum", "exclusiveMaximum")]
            {
                match bound {
                    Bound::Included(bound) => schema[included] = number(bound),
                    Bound::Excluded(bound) => schema[excluded] = number(bound),
                    Bound::Unbounded => {}
                }
            }
            schema
        }
        Kind::Share { max } => json!({ "anyOf": [
            { "type": "number", "exclusiveMinimum": 0, "maximum": 1 },
            { "type": "integer", "minimum": 1, "maximum": max },
        ] }),
        Kind::Lines(_) => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
        ] }),
        Kind::Block(_) | Kind::Zip | Kind::Exclude => json!({}),
    }
}

/// Returns a bound, without a fraction if it is whole.
fn number(bound: f64) -> Json {
    if bound.fract() == 0.0 { json!(bound as i64) } else { json!(bound) }
}

/// Returns the schema of a name in `rows` or `columns`.
fn field() -> Json {
    json!({ "enum": FIELDS.into_iter().chain(axis_names()).collect::<BTreeSet<_>>() })
}

/// Returns the names that `zip` and `exclude` understand, with their keys.
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

/// Returns the settings of a rule; each has the values that it has in its block.
fn conditions() -> Map<String, Json> {
    let place = |key: &Key| match key.block {
        Block::Top => format!("#/properties/{}", key.name),
        block => format!("#/$defs/{block}/properties/{}", key.name),
    };
    named_axes().map(|(name, key)| (name.to_string(), json!({ "$ref": place(key) }))).collect()
}
