//! The file as it is written: blocks of axes, and what is said about their combinations.

use winsign_core::settings::Between;

use super::Resources;
use super::exclude::Rule;
use super::layout::{self, Layout};
use super::schema::{Block, Key, unknown_key};
use super::values::{Axis, Value};
use super::zip::Zip;
use crate::yaml::{Content, Diagnostic, Name, Node, Place, listed, quoted};

pub(crate) struct File {
    pub name: Option<String>,
    pub top: Section,
    pub tickets: Vec<Section>,
    pub transfers: Vec<Section>,
    pub connects: Vec<Section>,
    pub resources: Resources,
    /// Where GPUs are asked for, if they are.
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

type Entries = [(Name, Node)];

impl File {
    pub(crate) fn read(root: &Node) -> Result<File, Diagnostic> {
        let start = "begin with `dataset: digits` and `architecture: resnet8`";
        let entries = match &root.content {
            Content::Map(entries) => entries,
            Content::Nothing => return Err(Diagnostic::at(root.place, "this file is empty", start)),
            other => {
                let message = format!("a sweep file is a block of settings (`key: value`), found {}", other.found());
                return Err(Diagnostic::at(root.place, message, start));
            }
        };
        let top = Section::read(Block::Top, root.place, entries)?;
        let mut file = File {
            name: find(entries, "name").map(study_name).transpose()?,
            top,
            tickets: match find(entries, "ticket") {
                Some(node) => sections(Block::Ticket, node)?,
                None => vec![Section { block: Block::Ticket, place: root.place, axes: Vec::new() }],
            },
            transfers: find(entries, "transfer").map_or(Ok(Vec::new()), |node| sections(Block::Transfer, node))?,
            connects: find(entries, "connect").map_or(Ok(Vec::new()), connects)?,
            resources: resources(find(entries, "resources"))?,
            gpus: gpus(find(entries, "resources"))?,
            layout: find(entries, "report").map_or(Ok(Layout::default()), layout::read)?,
            zips: Vec::new(),
            rules: Vec::new(),
        };
        file.check_required()?;
        file.check_connects_have_transfers()?;
        if let Some(node) = find(entries, "zip") {
            file.zips = Zip::read_all(node, &file)?;
        }
        if let Some(node) = find(entries, "exclude") {
            file.rules = Rule::read_all(node, &file)?;
        }
        Ok(file)
    }

    /// The blocks in which a chain, or what is nested in it, finds its settings.
    pub(crate) fn sections(&self) -> impl Iterator<Item = &Section> {
        let nested = self.transfers.iter().chain(&self.connects);
        std::iter::once(&self.top).chain(&self.tickets).chain(nested)
    }

    /// A setting wherever it is given.
    pub(crate) fn given(&self, key: &Key) -> impl Iterator<Item = &Axis> {
        self.sections().filter_map(|section| section.axis(key.path))
    }

    pub(crate) fn has(&self, block: Block) -> bool {
        self.sections().any(|section| section.block == block)
    }

    /// The zip an axis belongs to, if any, by its position.
    pub(crate) fn zip_of(&self, axis: &Axis) -> Option<usize> {
        self.zips.iter().position(|zip| zip.joins(axis))
    }

    fn check_required(&self) -> Result<(), Diagnostic> {
        for path in ["dataset", "architecture"] {
            if self.top.axis(path).is_none() {
                let key = Block::Top.key(path).expect("a key of the table");
                let help = format!("add `{path}: {}`; it must be {}", key.example, key.kind.expects());
                return Err(Diagnostic::at(self.top.place, format!("`{path}` is missing"), help));
            }
        }
        Ok(())
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
    fn read(block: Block, place: Place, entries: &Entries) -> Result<Section, Diagnostic> {
        let mut axes = Vec::new();
        for (name, node) in entries {
            let Some(key) = block.key(&name.text) else {
                let (message, help) = unknown_key(block, &name.text);
                return Err(Diagnostic::at(name.place, message, help));
            };
            if key.is_axis() {
                axes.push(Axis::read(key, node)?);
            } else if block == Block::Resources {
                axes.push(Axis::read_single(key, node)?);
            }
        }
        let section = Section { block, place, axes };
        section.check_import()?;
        section.check_seed_counts()?;
        Ok(section)
    }

    /// An imported ticket is what it is: nothing says how to find it.
    fn check_import(&self) -> Result<(), Diagnostic> {
        const TO_FIND_ONE: [&str; 6] = ["method", "levels", "prune_ratio", "warmup_epochs", "epochs", "rewind_epoch"];
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

    /// Whether seeds of one source are given, such as `seed_init`, rather than `seed` for all.
    pub(crate) fn has_own_seeds(&self) -> bool {
        self.axes.iter().any(|axis| axis.key.is_seed() && axis.key.name != "seed")
    }

    /// Which networks the connects of this section join; none of other sections.
    pub(crate) fn between(&self) -> Option<Between> {
        self.axis("connect.between")?.values().next().and_then(kind_of)
    }

    /// A `seed` that every source of randomness overrides would multiply runs without changing them.
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

fn find<'a>(entries: &'a Entries, name: &str) -> Option<&'a Node> {
    entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
}

/// One block, or a list of blocks.
fn sections(block: Block, node: &Node) -> Result<Vec<Section>, Diagnostic> {
    match &node.content {
        Content::List(nodes) if nodes.is_empty() => {
            let message = format!("`{block}` is an empty list");
            Err(Diagnostic::at(node.place, message, format!("give a block of settings, or remove `{block}`")))
        }
        Content::List(nodes) => nodes.iter().map(|node| section(block, node)).collect(),
        _ => Ok(vec![section(block, node)?]),
    }
}

fn section(block: Block, node: &Node) -> Result<Section, Diagnostic> {
    match &node.content {
        Content::Map(entries) => Section::read(block, node.place, entries),
        // A block of which every line is commented out.
        Content::Nothing => Section::read(block, node.place, &[]),
        other => {
            let several = if block.repeats() { " or a list of blocks" } else { "" };
            let message = format!("`{block}` must be a block of settings{several}, found {}", other.found());
            let key = block.keys().next().expect("every block has keys");
            Err(Diagnostic::at(
                node.place,
                message,
                format!("for example `{block}: {{{}: {}}}`", key.name, key.example),
            ))
        }
    }
}

/// The connect blocks, each with one kind of networks to join: what joins seeds has other settings than what joins a
/// ticket to itself.
fn connects(node: &Node) -> Result<Vec<Section>, Diagnostic> {
    let mut connects = Vec::new();
    for section in sections(Block::Connect, node)? {
        let Some(between) = section.axis("connect.between") else {
            let help = format!("add `between: seeds`; it must be {}", between_key().kind.expects());
            return Err(Diagnostic::at(section.place, "`between` is missing in `connect`", help));
        };
        if let Some(block) = section.axis("connect.block").filter(|block| !block.is_single()) {
            let help = "give one number; it does not change results";
            return Err(Diagnostic::at(block.place, "`connect.block` cannot be an axis", help));
        }
        let kinds: Vec<Between> = between.values().filter_map(kind_of).collect();
        for (&item, &kind) in between.items.iter().zip(&kinds) {
            if let Some((axis, lack)) = section.axes.iter().find_map(|axis| Some((axis, axis.key.lack(kind)?))) {
                let name = axis.key.name;
                let others = kinds.iter().filter(|other| axis.key.lack(**other).is_none());
                let others: Vec<String> = others.map(ToString::to_string).collect();
                let apart = match &others[..] {
                    [] => String::new(),
                    others => {
                        format!(", or put {} into a separate block", listed(others.iter().map(String::as_str)))
                    }
                };
                let help = format!("{lack}: remove `{name}`{apart}");
                return Err(Diagnostic::at(axis.place, format!("`between: {kind}` has no `{name}`"), help));
            }
            let axes = section.axes.iter().map(|axis| match axis.key.name {
                "between" => Axis { items: vec![item], ..axis.clone() },
                _ => axis.clone(),
            });
            connects.push(Section { axes: axes.collect(), ..section.clone() });
        }
    }
    Ok(connects)
}

fn between_key() -> &'static Key {
    Block::Connect.key("between").expect("a key of the table")
}

fn kind_of(value: Value) -> Option<Between> {
    if let Value::Word(word) = value { word.parse().ok() } else { None }
}

fn resources(node: Option<&Node>) -> Result<Resources, Diagnostic> {
    let section = node.map(|node| section(Block::Resources, node)).transpose()?;
    let value = |name| {
        let key = Block::Resources.key(name)?;
        let given = section.as_ref().and_then(|section| section.axis(key.path)?.values().next());
        given.or(key.constant())
    };
    let number = |name| match value(name)? {
        Value::Whole(number) => u32::try_from(number).ok(),
        _ => None,
    };
    let share = |name| match value(name)? {
        Value::Real(bits) => Some(f64::from_bits(bits)),
        _ => None,
    };
    Ok(Resources {
        jobs: number("jobs"),
        threads: number("threads"),
        ranks: number("ranks"),
        gpus: share("gpus"),
        retries: number("retries").expect("the table of keys has a default"),
    })
}

fn gpus(node: Option<&Node>) -> Result<Option<Place>, Diagnostic> {
    let section = node.map(|node| section(Block::Resources, node)).transpose()?;
    Ok(section.and_then(|section| section.axis("resources.gpus").map(|axis| axis.place)))
}

/// The name becomes part of file names.
fn study_name(node: &Node) -> Result<String, Diagnostic> {
    match &node.content {
        Content::Text(text) if is_file_name(text) => Ok(text.clone()),
        Content::Text(text) => {
            let message = format!("`name` cannot be {}: it is used in file names", quoted(text));
            Err(Diagnostic::at(
                node.place,
                message,
                "use letters, digits, spaces, `-`, `_`, `+` and `.`, as in `name: quickstart`",
            ))
        }
        other => {
            let message = format!("`name` must be a text, found {}", other.found());
            Err(Diagnostic::at(node.place, message, "put it in quotes, as in `name: \"2024\"`"))
        }
    }
}

/// A name made of that of the sweep file, whatever it is called.
pub fn name_from(stem: &str) -> String {
    let tame = |character: char| if is_plain(character) { character } else { '-' };
    let mut name: String = stem.chars().map(tame).collect::<String>().trim_matches(['.', ' ', '-']).to_string();
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
