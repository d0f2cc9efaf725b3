//! Combinations to leave out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use winsign_core::grouping::grouped;

use super::combine::Point;
use super::file::File;
use super::keys::{ALL, LAST};
use super::schema::{self, Block, Key, Kind};
use super::values::{Axis, Item, Value};
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
        let mut rules = Vec::new();
        let mut lines = HashMap::new();
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
            if let Some(earlier) = lines.insert(rule.canonical(), rule.place.line) {
                let message = format!("this rule repeats the one in line {earlier}");
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
            _ => {
                let message = format!("a rule of `exclude` must be a block of settings, found {}", node.found());
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

    /// Returns the conditions in one spelling, whatever the order of settings and values.
    fn canonical(&self) -> BTreeMap<&'static str, BTreeSet<(Value, Value)>> {
        let bounds = |axis: &Axis| axis.items().iter().map(Item::bounds).collect();
        self.conditions.iter().map(|condition| (condition.key.path, bounds(condition))).collect()
    }

    /// Returns an error if no combination has one of the rule's values, of those that combinations have, or if it has
    /// matched none.
    fn check_effect(&self, has_matched: bool, values: &HashMap<&str, Vec<Value>>) -> Result<(), Diagnostic> {
        for condition in &self.conditions {
            let (path, values) = (condition.key.path, &values[condition.key.path]);
            // Every chain has the levels `last` and `all`.
            for item in condition.items().iter().filter(|item| !item.is_level_word()) {
                if let Some(absent) = first_absent(item, values) {
                    let message = format!("no {} has `{path}: {absent}`", scope_name(self.scope));
                    return Err(Diagnostic::at(item.place, message, format!("its values are {}", some_of(values))));
                }
            }
        }
        if has_matched {
            return Ok(());
        }
        let message = format!("this rule matches nothing: no {} has all these values", scope_name(self.scope));
        let help = "remove it, or use fewer settings; another rule may already exclude these combinations";
        Err(Diagnostic::at(self.place, message, help))
    }

    /// Returns the condition on a setting.
    fn condition(&self, key: &Key) -> Option<&Axis> {
        self.conditions.iter().find(|condition| condition.key == key)
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

/// The rules by their scopes.
pub(crate) struct Exclusion<'f>(Vec<Scope<'f>>);

impl<'f> Exclusion<'f> {
    pub(crate) fn new(rules: &'f [Rule]) -> Exclusion<'f> {
        let scopes = grouped(rules, |rule| rule.scope);
        Exclusion(scopes.into_iter().map(Scope::new).collect())
    }

    /// Returns whether a rule drops a combination. A chain may lose all combinations of a block; `left` records whether
    /// every chain does.
    pub(crate) fn drops(&mut self, point: &Point, left: &mut Left<'f>) -> bool {
        let scope = self.0.iter_mut().find(|scope| scope.block == point.block());
        let rule = scope.and_then(|scope| scope.dropped_by(point));
        left.any |= rule.is_none();
        left.last_rule = rule.or(left.last_rule);
        rule.is_some()
    }

    /// Returns an error for a rule without effect: no combination has one of its values, or all of them together.
    pub(crate) fn check_all_matched(&self) -> Result<(), Diagnostic> {
        let errors = self.0.iter().filter_map(Scope::first_without_effect);
        errors.min_by_key(|(place, _)| *place).map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// The rules that drop combinations of one scope, and what they have matched. Sets of rules are bits in the order of the
/// file, so that the rules that match a combination are found without trying each.
struct Scope<'f> {
    block: Block,
    rules: Vec<&'f Rule>,
    conditions: Vec<Condition>,
    /// The rules that have matched some combination.
    matched: Vec<u64>,
    /// The rules that match the current combination.
    matching: Vec<u64>,
}

impl<'f> Scope<'f> {
    fn new(rules: Vec<&'f Rule>) -> Scope<'f> {
        let keys = rules.iter().flat_map(|rule| &rule.conditions).map(|condition| condition.key.path);
        let keys: HashSet<_> = keys.collect();
        let named = schema::KEYS.iter().filter(|key| keys.contains(key.path));
        let none = vec![0; rules.len().div_ceil(BITS)];
        Scope {
            block: rules[0].scope,
            conditions: named.map(|key| Condition::new(key, &rules)).collect(),
            matched: none.clone(),
            matching: none,
            rules,
        }
    }

    fn dropped_by(&mut self, point: &Point) -> Option<&'f Rule> {
        let levels = point.levels();
        self.matching.fill(u64::MAX);
        for condition in &mut self.conditions {
            condition.keep_satisfied(point, levels, &mut self.matching);
        }
        for (matched, matching) in self.matched.iter_mut().zip(&self.matching) {
            *matched |= matching;
        }
        let last = self.matching.iter().rposition(|word| *word != 0)?;
        Some(self.rules[last * BITS + self.matching[last].ilog2() as usize])
    }

    /// Returns the error of the first rule without effect, and the place of the rule.
    fn first_without_effect(&self) -> Option<(Place, Diagnostic)> {
        let values: HashMap<_, _> =
            self.conditions.iter().map(|condition| (condition.key.path, condition.sorted_values())).collect();
        self.rules.iter().enumerate().find_map(|(index, rule)| {
            let has_matched = self.matched[index / BITS] >> (index % BITS) & 1 == 1;
            Some((rule.place, rule.check_effect(has_matched, &values).err()?))
        })
    }
}

/// The bits of a word.
const BITS: usize = u64::BITS as usize;

/// The conditions of the rules of a scope on one setting.
struct Condition {
    key: &'static Key,
    /// The rules without a condition on the setting.
    others: Rc<[u64]>,
    /// The rules that all values from a bound on satisfy, up to the next bound.
    satisfied: Vec<(Bound, Rc<[u64]>)>,
    /// The values of the setting over the combinations of the scope.
    values: HashSet<Value>,
}

/// A bound before or after a value.
type Bound = (Value, Side);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Before,
    After,
}

impl Condition {
    fn new(key: &'static Key, rules: &[&Rule]) -> Condition {
        let mut current = vec![0; rules.len().div_ceil(BITS)];
        let mut bounds = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            match rule.condition(key) {
                None => flip(&mut current, index),
                Some(axis) => bounds.extend(
                    axis.items()
                        .iter()
                        .map(Item::bounds)
                        .flat_map(|(lowest, highest)| [(lowest, Side::Before, index), (highest, Side::After, index)]),
                ),
            }
        }
        bounds.sort_unstable();

        let others: Rc<[u64]> = current.as_slice().into();
        let mut satisfied = Vec::new();
        // Most values are named by no rule. They share one set, which saves memory.
        let mut named_by = 0;
        for at_bound in bounds.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let (value, side, _) = at_bound[0];
            at_bound.iter().for_each(|(.., rule)| flip(&mut current, *rule));
            named_by = if side == Side::Before { named_by + at_bound.len() } else { named_by - at_bound.len() };
            let set = if named_by == 0 { others.clone() } else { current.as_slice().into() };
            satisfied.push(((value, side), set));
        }
        Condition { key, others, satisfied, values: HashSet::new() }
    }

    /// Keeps the rules that the setting of a combination satisfies.
    fn keep_satisfied(&mut self, point: &Point, levels: u64, rules: &mut [u64]) {
        let Some(value) = point.get(self.key.path) else { return keep(rules, &self.others, &self.others) };
        self.values.insert(value);
        match value {
            // Words name levels, too.
            Value::Whole(level) if matches!(self.key.kind, Kind::Level) => {
                let last = if level == levels { self.satisfied(Value::Word(LAST)) } else { &self.others };
                let all = if (1..=levels).contains(&level) { self.satisfied(Value::Word(ALL)) } else { &self.others };
                let words: Vec<u64> = last.iter().zip(all).map(|(last, all)| last | all).collect();
                keep(rules, self.satisfied(value), &words);
            }
            _ => keep(rules, self.satisfied(value), &self.others),
        }
    }

    fn satisfied(&self, value: Value) -> &[u64] {
        let bounds = self.satisfied.partition_point(|(bound, _)| *bound <= (value, Side::Before));
        bounds.checked_sub(1).map_or(&self.others, |last| &self.satisfied[last].1)
    }

    fn sorted_values(&self) -> Vec<Value> {
        let mut values: Vec<_> = self.values.iter().copied().collect();
        values.sort_unstable();
        values
    }
}

/// Adds a rule to a set, or removes it.
fn flip(set: &mut [u64], rule: usize) {
    set[rule / BITS] ^= 1 << (rule % BITS);
}

/// Keeps the rules of a set that are in one of two others.
fn keep(rules: &mut [u64], one: &[u64], other: &[u64]) {
    for ((rules, one), other) in rules.iter_mut().zip(one).zip(other) {
        *rules &= one | other;
    }
}

/// Returns the first value of an item that is not among these, which are sorted.
fn first_absent(item: &Item, values: &[Value]) -> Option<Value> {
    let (lowest, highest) = item.bounds();
    let present = values.partition_point(|value| *value <= highest) - values.partition_point(|value| *value < lowest);
    let is_absent = |value: &Value| values.binary_search(value).is_err();
    if present as u128 == item.len() { None } else { item.values().find(is_absent) }
}

/// Lists sorted values, shortened if there are many.
pub(crate) fn some_of(values: &[Value]) -> String {
    const MANY: usize = 12;
    let mut texts: Vec<_> = values.iter().take(MANY).map(ToString::to_string).collect();
    if values.len() > MANY {
        texts.extend(["…".to_string(), values.last().map(ToString::to_string).unwrap_or_default()]);
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
