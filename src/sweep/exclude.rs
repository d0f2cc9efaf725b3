//! Combinations to leave out.

use std::collections::{BTreeMap, BTreeSet};

use super::combine::Point;
use super::file::File;
use super::schema::{self, Block, Key};
use super::values::{Axis, Value};
use crate::yaml::{Content, Diagnostic, Name, Node, Place};

const EXAMPLE: &str = "for example `exclude: [{method: lrr, inherit: mask}]`";

/// Drops the combinations in which every setting that it names has one of the values that it gives.
#[derive(Debug)]
pub(crate) struct Rule {
    place: Place,
    /// The innermost block that it names; it drops combinations of that scope.
    scope: Block,
    conditions: Vec<Axis>,
}

impl Rule {
    pub(crate) fn read_all(node: &Node, file: &File) -> Result<Vec<Rule>, Diagnostic> {
        let mut rules: Vec<Rule> = Vec::new();
        let nodes = match &node.content {
            Content::List(nodes) if nodes.is_empty() => {
                return Err(Diagnostic::at(node.place, "`exclude` is an empty list", EXAMPLE));
            }
            Content::List(nodes) => nodes.as_slice(),
            // A key of which every line is commented out.
            Content::Nothing => &[],
            _ => std::slice::from_ref(node),
        };
        for node in nodes {
            let rule = Rule::read(node, file)?;
            if let Some(earlier) = rules.iter().find(|earlier| earlier.text() == rule.text()) {
                let message = format!("this rule repeats the one in line {}", earlier.place.line);
                return Err(Diagnostic::at(rule.place, message, "remove one of the two"));
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    fn read(node: &Node, file: &File) -> Result<Rule, Diagnostic> {
        let entries = match &node.content {
            Content::Map(entries) if entries.is_empty() => {
                return Err(Diagnostic::at(node.place, "this rule is empty and would exclude everything", EXAMPLE));
            }
            Content::Map(entries) => entries,
            other => {
                let message = format!("a rule of `exclude` must be a block of settings, found {}", other.found());
                return Err(Diagnostic::at(node.place, message, EXAMPLE));
            }
        };
        let named =
            entries.iter().map(|(name, node)| Ok((name, axis(name)?, node))).collect::<Result<Vec<_>, Diagnostic>>()?;
        let innermost = named.iter().map(|(_, key, _)| key.block).max().unwrap_or(Block::Top);
        let scope = innermost.max(Block::Ticket);
        if !file.has(scope) {
            let message = format!("this rule applies to {scope}s, but the sweep has none");
            return Err(Diagnostic::at(node.place, message, format!("remove it, or add a `{scope}` block")));
        }
        let mut conditions: Vec<Axis> = Vec::new();
        for (name, key, node) in named {
            let key = if scope == Block::Connect { within_connect(name, key)? } else { key };
            if conditions.iter().any(|condition| condition.key == key) {
                let message = format!("this rule names `{}` twice", key.path);
                return Err(Diagnostic::at(name.place, message, "name it once, with a list of values"));
            }
            conditions.push(Axis::read(key, node)?);
        }
        Ok(Rule { place: node.place, scope, conditions })
    }

    fn matches(&self, point: &Point, levels: u64) -> bool {
        self.conditions.iter().all(|condition| {
            let value = point.get(condition.key.path);
            value.is_some_and(|value| condition.item_for(value, levels).is_some())
        })
    }

    /// Returns the rule in one spelling, whatever the order of its settings and values.
    fn text(&self) -> BTreeSet<String> {
        let sorted = |axis: &Axis| axis.items.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        self.conditions.iter().map(|condition| format!("{}: {:?}", condition.key.path, sorted(condition))).collect()
    }
}

fn axis(name: &Name) -> Result<&'static Key, Diagnostic> {
    schema::axis(&name.text).map_err(|(message, help)| Diagnostic::at(name.place, message, help))
}

/// Returns the connect's own key for `level` and `inherit` of transfers: all transfers of a connect agree in these two.
fn within_connect(name: &Name, key: &'static Key) -> Result<&'static Key, Diagnostic> {
    match (key.block, Block::Connect.key(key.name)) {
        (Block::Transfer, Some(own)) if ["level", "inherit"].contains(&key.name) => Ok(own),
        (Block::Transfer, _) => {
            let message =
                format!("a rule for connections cannot use `{}`: a connection has several transfers", key.path);
            Err(Diagnostic::at(name.place, message, "use `level` or `inherit`, or write a rule for transfers only"))
        }
        _ => Ok(key),
    }
}

/// The rules and what they have matched, so that a rule without effect can be reported.
pub(crate) struct Exclusion<'f> {
    rules: &'f [Rule],
    /// Whether each rule has matched a combination.
    matched: Vec<bool>,
    /// The values over the combinations of a scope of each setting that rules of this scope name.
    values: BTreeMap<(Block, &'static str), BTreeSet<Value>>,
}

impl<'f> Exclusion<'f> {
    pub(crate) fn new(rules: &'f [Rule]) -> Exclusion<'f> {
        let named = rules.iter().flat_map(|rule| rule.conditions.iter().map(|axis| (rule.scope, axis.key.path)));
        let values = named.map(|setting| (setting, BTreeSet::new())).collect();
        Exclusion { rules, matched: vec![false; rules.len()], values }
    }

    /// Returns whether a rule drops a combination. A chain may lose all combinations of a block; `left` records whether
    /// every chain does.
    pub(crate) fn drops(&mut self, point: &Point, left: &mut Left<'f>) -> bool {
        let rule = self.dropped_by(point);
        left.any |= rule.is_none();
        left.last_rule = rule.or(left.last_rule);
        rule.is_some()
    }

    fn dropped_by(&mut self, point: &Point) -> Option<&'f Rule> {
        let levels = point.levels();
        for ((scope, path), values) in &mut self.values {
            if *scope == point.block() {
                values.extend(point.get(path));
            }
        }
        let mut dropped_by = None;
        for (rule, matched) in self.rules.iter().zip(&mut self.matched) {
            if rule.scope == point.block() && rule.matches(point, levels) {
                *matched = true;
                dropped_by = Some(rule);
            }
        }
        dropped_by
    }

    /// Returns an error for a rule without effect: no combination has one of its values, or all of them together.
    pub(crate) fn check_all_matched(&self) -> Result<(), Diagnostic> {
        for (rule, matched) in self.rules.iter().zip(&self.matched) {
            for condition in &rule.conditions {
                check_values_exist(rule.scope, condition, &self.values[&(rule.scope, condition.key.path)])?;
            }
            if !matched {
                let message = format!("this rule matches nothing: no {} has all these values", scope_name(rule.scope));
                let help = "remove it, or use fewer settings; another rule may already exclude these combinations";
                return Err(Diagnostic::at(rule.place, message, help));
            }
        }
        Ok(())
    }
}

fn check_values_exist(scope: Block, condition: &Axis, values: &BTreeSet<Value>) -> Result<(), Diagnostic> {
    // Every chain has the levels `last` and `all`.
    for item in condition.items.iter().filter(|item| !item.is_level_word()) {
        if let Some(absent) = item.values().find(|value| !values.contains(value)) {
            let path = condition.key.path;
            let message = format!("no {} has `{path}: {absent}`", scope_name(scope));
            return Err(Diagnostic::at(item.place, message, format!("its values are {}", some_of(values))));
        }
    }
    Ok(())
}

/// Lists values in order, shortened if there are many.
pub(crate) fn some_of(values: &BTreeSet<Value>) -> String {
    const MANY: usize = 12;
    let mut texts: Vec<_> = values.iter().take(MANY).map(ToString::to_string).collect();
    if values.len() > MANY {
        texts.extend(["…".to_string(), values.iter().next_back().map(ToString::to_string).unwrap_or_default()]);
    }
    texts.join(", ")
}

fn scope_name(scope: Block) -> &'static str {
    if scope <= Block::Ticket { "chain" } else { scope.into() }
}

/// Records whether the rules leave any combination of one block, over all chains.
#[derive(Default, Clone)]
pub(crate) struct Left<'f> {
    any: bool,
    last_rule: Option<&'f Rule>,
}

impl Left<'_> {
    /// Returns an error for a block of which nothing is left.
    pub(crate) fn check(&self, block: Block) -> Result<(), Diagnostic> {
        match self.last_rule {
            Some(rule) if !self.any => {
                let message = format!("this rule excludes all runs of a `{block}` block");
                Err(Diagnostic::at(rule.place, message, format!("exclude less, or remove the `{block}` block")))
            }
            _ => Ok(()),
        }
    }
}
