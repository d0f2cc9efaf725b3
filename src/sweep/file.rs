//! The file as it is written: blocks of axes, and rules about their combinations.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};
use winsign_core::settings::Between;

use super::Resources;
use super::exclude::Rule;
use super::keys::{Block, Complaint, Form, Key, Named};
use super::layout::Layout;
use super::schema::SWEEP_FILE;
use super::values::{Axis, Value};
use super::zip::Zip;
use crate::yaml::{Content, Diagnostic, Node, Place, listed, quoted};

pub(crate) struct File {
    pub name: Option<String>,
    pub top: Section,
    pub tickets: Vec<Section>,
    pub transfers: Vec<Section>,
    pub connects: Vec<Section>,
    pub resources: Resources,
    /// The place of `gpus`, if it is given.
    pub gpus: Option<Place>,
    pub layout: Layout,
    pub zips: Vec<Zip>,
    pub rules: Vec<Rule>,
}

/// One block: the settings that the file gives in it.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub block: Block,
    pub place: Place,
    axes: Vec<Axis>,
}

impl File {
    pub(crate) fn read(root: &Node) -> Result<File, Diagnostic> {
        if root.content == Content::Nothing {
            return Err(Diagnostic::at(root.place, "this file is empty", SWEEP_FILE.start()));
        }
        let entries = SWEEP_FILE.entries(Block::Top, root)?;
        let top = Section::read(Block::Top, root)?;
        let name = entries.iter().find(|(key, _)| key.path == "name").map(|(key, node)| key.read(node)).transpose()?;
        let resources = entries.get("resources");
        let mut file = File {
            name: name.and_then(|name| Some(name.as_str()?.to_string())),
            top,
            tickets: match entries.get("ticket") {
                Some(node) => sections(Block::Ticket, node)?,
                None => vec![Section { block: Block::Ticket, place: root.place, axes: Vec::new() }],
            },
            transfers: entries.get("transfer").map_or(Ok(Vec::new()), |node| sections(Block::Transfer, node))?,
            connects: entries.get("connect").map_or(Ok(Vec::new()), connects)?,
            resources: read_block(Block::Resources, resources, SWEEP_FILE.defaults(Block::Resources))?,
            gpus: resources.and_then(|node| node.get("gpus")).map(|node| node.place),
            layout: read_block(Block::Report, entries.get("report"), Map::new())?,
            zips: Vec::new(),
            rules: Vec::new(),
        };
        SWEEP_FILE.check_required(Block::Top, root.place, |key| file.top.axis(key.path).is_some())?;
        file.check_connects_have_transfers()?;
        if let Some(node) = entries.get("zip") {
            file.zips = Zip::read_all(node, &file)?;
        }
        if let Some(node) = entries.get("exclude") {
            file.rules = Rule::read_all(node, &file)?;
        }
        Ok(file)
    }

    /// Returns the blocks with settings of chains, transfers and connects.
    pub(crate) fn sections(&self) -> impl Iterator<Item = &Section> {
        let nested = self.transfers.iter().chain(&self.connects);
        std::iter::once(&self.top).chain(&self.tickets).chain(nested)
    }

    /// Returns the axes of a setting in all blocks that give it.
    pub(crate) fn given(&self, key: &Key) -> impl Iterator<Item = &Axis> {
        self.sections().filter_map(|section| section.axis(key.path))
    }

    pub(crate) fn has(&self, block: Block) -> bool {
        self.sections().any(|section| section.block == block)
    }

    /// Returns the position of the zip that an axis belongs to, if any.
    pub(crate) fn zip_of(&self, axis: &Axis) -> Option<usize> {
        self.zips.iter().position(|zip| zip.joins(axis))
    }

    fn check_connects_have_transfers(&self) -> Result<(), Diagnostic> {
        let joins_transfers = |connect: &&Section| connect.between().is_some_and(Between::joins_transfers);
        match self.connects.iter().find(joins_transfers).and_then(|connect| Some((connect, connect.between()?))) {
            Some((connect, between)) if self.transfers.is_empty() => {
                let seeds = if between == Between::Plane { "three" } else { "two" };
                let help = match between {
                    Between::Retrain => {
                        "add a `transfer` block with `retrain` and another value of `inherit`".to_string()
                    }
                    _ => format!("add a `transfer` block with at least {seeds} seeds, or connect `norm-init` instead"),
                };
                let message = format!("there are no transfers for `between: {between}` to connect");
                Err(Diagnostic::at(connect.place, message, help))
            }
            _ => Ok(()),
        }
    }
}

impl Section {
    fn read(block: Block, node: &Node) -> Result<Section, Diagnostic> {
        let entries = SWEEP_FILE.entries(block, node)?;
        let axes = entries.iter().filter(|(key, _)| key.is_axis()).map(|(key, node)| Axis::read(key, node));
        let section = Section { block, place: node.place, axes: axes.collect::<Result<_, _>>()? };
        section.check_import()?;
        section.check_seed_counts()?;
        Ok(section)
    }

    /// Returns an error for a setting of the search for tickets beside an imported ticket.
    fn check_import(&self) -> Result<(), Diagnostic> {
        const TO_FIND_ONE: [&str; 7] =
            ["method", "levels", "prune_ratio", "warmup_epochs", "epochs", "rewind_epoch", "schedule"];
        let imported = self.axis("ticket.imported").is_some();
        let of_search =
            |axis: &&Axis| self.block == Block::Ticket && (axis.key.is_seed() || TO_FIND_ONE.contains(&axis.key.name));
        if let Some(axis) = self.axes.iter().find(of_search).filter(|_| imported) {
            let message = format!("`{}` has no effect on an imported ticket", axis.key.path);
            return Err(Diagnostic::at(
                axis.place,
                message,
                "remove it, or put `imported` into a separate `ticket` block",
            ));
        }
        Ok(())
    }

    pub(crate) fn axis(&self, path: &str) -> Option<&Axis> {
        self.axes.iter().find(|axis| axis.key.path == path)
    }

    pub(crate) fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Returns whether a seed of one source is given, such as `seed_init`.
    pub(crate) fn has_own_seeds(&self) -> bool {
        self.axes.iter().any(|axis| axis.key.is_seed() && axis.key.name != "seed")
    }

    /// Returns the kind of networks that a section of connects joins; `None` for other sections.
    pub(crate) fn between(&self) -> Option<Between> {
        self.axis("connect.between")?.values().next().and_then(kind_of)
    }

    /// Returns an error for a `seed` that all sources of randomness override: it would only repeat runs.
    fn check_seed_counts(&self) -> Result<(), Diagnostic> {
        let mut sources = self.block.keys().filter(|key| key.is_seed() && key.name != "seed");
        let seed = self.axes.iter().find(|axis| axis.key.name == "seed");
        match seed {
            Some(seed) if sources.all(|source| self.axis(source.path).is_some()) => {
                let message = format!("`{}` has no effect: every seed is given separately", seed.key.path);
                Err(Diagnostic::at(seed.place, message, "remove `seed`, or one of the others"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads a block without axes.
fn read_block<T: DeserializeOwned>(
    block: Block,
    node: Option<&Node>,
    defaults: Map<String, Json>,
) -> Result<T, Diagnostic> {
    let nothing = Node::new(Place::default(), Content::Nothing, String::new());
    SWEEP_FILE.entries(block, node.unwrap_or(&nothing))?.read(defaults)
}

/// Reads one block, or a list of blocks.
fn sections(block: Block, node: &Node) -> Result<Vec<Section>, Diagnostic> {
    match &node.content {
        Content::List(nodes) if nodes.is_empty() => {
            let message = format!("`{block}` is an empty list");
            Err(Diagnostic::at(node.place, message, format!("give a block of settings, or remove `{block}`")))
        }
        Content::List(nodes) => nodes.iter().map(|node| Section::read(block, node)).collect(),
        _ => Ok(vec![Section::read(block, node)?]),
    }
}

/// Reads the `connect` blocks and divides them by `between`, since each kind has settings of its own.
fn connects(node: &Node) -> Result<Vec<Section>, Diagnostic> {
    let mut connects = Vec::new();
    for section in sections(Block::Connect, node)? {
        SWEEP_FILE.check_required(Block::Connect, section.place, |key| section.axis(key.path).is_some())?;
        let between = section.axis("connect.between").expect("it is required");
        if let Some(block) = section.axis("connect.block").filter(|block| !block.is_single()) {
            let help = "give one number; it does not change results";
            return Err(Diagnostic::at(block.place, "`connect.block` cannot be an axis", help));
        }
        let kinds: Vec<Between> = between.values().filter_map(kind_of).collect();
        for (&item, &kind) in between.items().iter().zip(&kinds) {
            let missing = |axis: &Axis| axis.key.missing_between(kind);
            if let Some((axis, reason)) = section.axes.iter().find_map(|axis| Some((axis, missing(axis)?))) {
                let name = axis.key.name;
                let others = kinds.iter().filter(|other| axis.key.missing_between(**other).is_none());
                let others: Vec<String> = others.map(ToString::to_string).collect();
                let apart = match &others[..] {
                    [] => String::new(),
                    others => {
                        format!(", or put {} into a separate block", listed(others.iter().map(String::as_str)))
                    }
                };
                let help = format!("{reason}: remove `{name}`{apart}");
                return Err(Diagnostic::at(axis.place, format!("`between: {kind}` has no `{name}`"), help));
            }
            let axes = section.axes.iter().map(|axis| match axis.key.name {
                "between" => axis.with_item(item),
                _ => axis.clone(),
            });
            connects.push(Section { axes: axes.collect(), ..section.clone() });
        }
    }
    Ok(connects)
}

fn kind_of(value: Value) -> Option<Between> {
    if let Value::Word(word) = value { word.parse().ok() } else { None }
}

/// The form of a study's name, which becomes part of file names.
pub(crate) const FILE_NAME: Form = Form { expects: "a text", read: study_name };

fn study_name(named: &Named, text: &str) -> Result<String, Complaint> {
    if is_file_name(text) {
        return Ok(text.to_string());
    }
    let message = format!("`{}` cannot be {}: it is used in file names", named.label, quoted(text));
    let example = named.example(named.key.example);
    Err((message, format!("use letters, digits, spaces, `-`, `_`, `+` and `.`, as in `{example}`")))
}

/// Returns the name of a study whose sweep file has this name without its extension.
pub fn name_from(stem: &str) -> String {
    let plain = stem.replace(|character| !is_plain(character), "-");
    let mut name = plain.trim_matches(['.', ' ', '-']).to_string();
    while name.len() > 100 {
        name.pop();
    }
    let name = name.trim_end();
    if name.is_empty() { "sweep".to_string() } else { name.to_string() }
}

fn is_plain(character: char) -> bool {
    character.is_alphanumeric() || "-_.+ ".contains(character)
}

fn is_file_name(text: &str) -> bool {
    let edges = text.starts_with(['.', ' ', '-']) || text.ends_with(' ');
    !text.is_empty() && text.len() <= 100 && text.chars().all(is_plain) && !edges
}
