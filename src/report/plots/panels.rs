//! The panels of a figure, and their headings.

use winsign_core::grouping::distinct;
use winsign_core::settings::{Between, Inherit, Method, Problem};
use winsign_core::text::plural;
use winsign_sweep::Axes;

use super::text::Font;
use super::theme::{HEADING, NOTE};
use crate::ConnectionRow;
use crate::table::{method_text, remaining_text};

/// A panel of a figure: its place in the grid, and the lines over it.
pub(super) struct Panel {
    pub row: usize,
    pub column: usize,
    pub heading: Vec<(Font, String)>,
}

impl Panel {
    /// Returns a panel with a heading of which the first line is bold.
    pub(super) fn new(row: usize, column: usize, heading: Vec<String>) -> Panel {
        let fonts = std::iter::once(HEADING).chain(std::iter::repeat(NOTE));
        Panel { row, column, heading: fonts.zip(heading).collect() }
    }

    /// Returns panels row after row.
    pub(super) fn grid(headings: impl IntoIterator<Item = Vec<String>>, columns: usize) -> Vec<Panel> {
        let place = |(index, heading)| Panel::new(index / columns, index % columns, heading);
        headings.into_iter().enumerate().map(place).collect()
    }
}

/// Returns at most `most` of the items, evenly picked from all of them.
pub(super) fn thinned<T>(items: &[T], most: usize) -> impl Iterator<Item = &T> {
    let drawn = items.len().min(most);
    (0..drawn).map(move |index| &items[index * items.len() / drawn])
}

/// Returns at most `most` groups, and the sentence for the caption if there are more.
pub(super) fn limited<T>(mut groups: Vec<T>, most: usize, name: &str) -> (Vec<T>, Option<String>) {
    let total = groups.len();
    groups.truncate(most);
    let left_out = (total > most).then(|| format!("Only the first {most} of {total} {name} are drawn."));
    (groups, left_out)
}

/// Returns the groups, or only those of the last level if there are too many, and the sentence for the caption.
pub(super) fn last_level<T>(mut groups: Vec<T>, most: usize, level: impl Fn(&T) -> u32) -> (Vec<T>, Option<String>) {
    let several = distinct(groups.iter().map(&level)).len() > 1;
    let last = groups.iter().map(&level).max().filter(|_| groups.len() > most && several);
    groups.retain(|group| last.is_none_or(|last| level(group) == last));
    (groups, last.map(|level| format!("Of several levels, only level {level} is drawn.")))
}

/// Joins the sentences that exist.
pub(super) fn sentences<'a>(all: impl IntoIterator<Item = Option<&'a str>>) -> String {
    all.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

pub(super) fn level_text(level: u32, ratio: Option<f64>) -> String {
    match ratio {
        Some(_) => format!("level {level}, {} remaining", remaining_text(ratio)),
        None => format!("level {level}"),
    }
}

/// Returns a name such as `AWS sign`.
pub(super) fn series_text(method: Option<Method>, inherit: Option<Inherit>) -> String {
    match (method, inherit) {
        (None, Some(inherit)) => inherit.to_string(),
        (method, Some(inherit)) => format!("{} {inherit}", method_text(method)),
        (method, None) => format!("{} ticket", method_text(method)),
    }
}

/// Returns a name such as `AWS sign, level 12 (6.9 % remaining)`.
pub(super) fn series_level_text(
    method: Option<Method>,
    inherit: Option<Inherit>,
    level: u32,
    ratio: Option<f64>,
) -> String {
    let series = series_text(method, inherit);
    match (method, ratio) {
        (None, _) => series,
        (_, None) => format!("{series}, level {level}"),
        (_, Some(_)) => format!("{series}, level {level} ({} remaining)", remaining_text(ratio)),
    }
}

/// Returns the kinds of networks that paths join, such as `sign` between seeds, or `sign to retrain`.
fn ends_text(inherit: Option<Inherit>, between: Between) -> String {
    match (inherit, between) {
        (Some(inherit), Between::Seeds) => inherit.to_string(),
        (Some(inherit), other) => format!("{inherit} to {other}"),
        (None, between) => between.to_string(),
    }
}

/// Returns the lines over a panel of one row: its name, its level and its axes.
pub(super) fn row_heading(name: String, level: u32, ratio: Option<f64>, axes: &Axes) -> Vec<String> {
    let level = (level > 0).then(|| level_text(level, ratio));
    [name].into_iter().chain(level).chain(axes_text(axes)).collect()
}

/// Returns the lines over a panel of paths.
pub(super) fn paths_heading(row: &ConnectionRow) -> Vec<String> {
    let ends = ends_text(row.inherit, row.between);
    let name = if row.method.is_some() { format!("{} · {ends}", method_text(row.method)) } else { ends };
    row_heading(name, row.level, row.remaining_ratio, &row.axes)
}

/// Returns `None` for a study without axes.
pub(super) fn axes_text(axes: &Axes) -> Option<String> {
    let values: Vec<String> = axes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The chain that a ticket is a part of, and its level.
#[derive(Clone, PartialEq)]
pub(super) struct InChain {
    pub problem: Problem,
    pub method: Option<Method>,
    pub level: u32,
    pub axes: Axes,
}

impl InChain {
    /// Returns whether this is level 0 of the other's chain. Chains that differ only in the training of later levels
    /// share it, and it lacks the axes in which they differ.
    fn is_level_0_of(&self, other: &InChain) -> bool {
        let is_same = (self.problem, self.method) == (other.problem, other.method);
        is_same && self.level == 0 && other.level > 0 && self.axes.iter().all(|axis| other.axes.contains(axis))
    }
}

/// Moves each level 0 that is alone in its group to the groups of all chains that share it.
pub(super) fn share_level_0<R: Copy>(groups: Vec<Vec<R>>, place: impl Fn(R) -> InChain) -> Vec<Vec<R>> {
    let places: Vec<Vec<InChain>> = groups.iter().map(|rows| rows.iter().map(|row| place(*row)).collect()).collect();
    let has_chain = |group: usize, first: &InChain| places[group].iter().any(|other| first.is_level_0_of(other));
    let mut shared: Vec<Vec<R>> = vec![vec![]; groups.len()];
    for (group, (rows, places)) in groups.iter().zip(&places).enumerate() {
        for (row, place) in rows.iter().zip(places) {
            let chains: Vec<usize> = match has_chain(group, place) {
                true => vec![group],
                false => (0..groups.len()).filter(|other| has_chain(*other, place)).collect(),
            };
            let targets = if chains.is_empty() { vec![group] } else { chains };
            targets.into_iter().for_each(|target| shared[target].push(*row));
        }
    }
    shared.retain(|rows| !rows.is_empty());
    shared
}

/// Returns a count such as `5 tickets, 10 seeds`; dense networks have no tickets.
pub(super) fn samples_text(tickets: usize, count: usize, name: &str) -> String {
    if tickets == 0 { plural(count, name) } else { format!("{}, {}", plural(tickets, "ticket"), plural(count, name)) }
}

/// Returns a count such as `5 tickets` or `1 to 5 tickets`; `None` for dense networks alone.
pub(super) fn tickets_text(tickets: impl Iterator<Item = usize> + Clone) -> Option<String> {
    let of_tickets = tickets.filter(|tickets| *tickets > 0);
    let (fewest, most) = (of_tickets.clone().min()?, of_tickets.max()?);
    Some(if fewest == most { plural(most, "ticket") } else { format!("{fewest} to {most} tickets") })
}

#[cfg(test)]
mod tests {
    use winsign_core::settings::{Architecture, Dataset};

    use super::*;

    #[test]
    fn level_0_without_a_chain_is_drawn_with_the_chains_that_share_it() {
        let row = |level: u32, axes: &[&str]| InChain {
            problem: Problem::new(Dataset::Digits, Architecture::ResNet8),
            method: Some(Method::Lrr),
            level,
            axes: axes.iter().map(|value| ("ticket.epochs".to_string(), value.to_string())).collect(),
        };
        let (first, four, eight) = (row(0, &[]), row(1, &["4"]), row(1, &["8"]));
        let shared = share_level_0(vec![vec![&first], vec![&four], vec![&eight]], InChain::clone);
        assert!(shared == [[&first, &four], [&first, &eight]]);
        let (own, alone) = (row(0, &["4"]), InChain { method: Some(Method::Aws), ..row(0, &[]) });
        let groups = vec![vec![&own, &four], vec![&alone]];
        assert!(share_level_0(groups.clone(), InChain::clone) == groups);
    }

    #[test]
    fn thinning_keeps_few_and_spreads_many() {
        assert_eq!(thinned(&[1, 2, 3], 5).collect::<Vec<_>>(), [&1, &2, &3]);
        assert_eq!(thinned(&(0..10).collect::<Vec<_>>(), 3).collect::<Vec<_>>(), [&0, &3, &6]);
        assert_eq!(thinned::<i32>(&[], 3).count(), 0);
    }

    #[test]
    fn caption_mentions_groups_that_are_left_out() {
        assert_eq!(limited(vec![1, 2], 2, "levels"), (vec![1, 2], None));
        let expected = Some("Only the first 2 of 3 levels are drawn.".to_string());
        assert_eq!(limited(vec![1, 2, 3], 2, "levels"), (vec![1, 2], expected));
    }

    #[test]
    fn last_of_too_many_levels_is_drawn() {
        let groups = vec![(1, "a"), (2, "a"), (1, "b"), (2, "b")];
        assert_eq!(last_level(groups.clone(), 4, |group| group.0), (groups.clone(), None));
        let expected = Some("Of several levels, only level 2 is drawn.".to_string());
        assert_eq!(last_level(groups.clone(), 3, |group| group.0), (vec![(2, "a"), (2, "b")], expected));
        assert_eq!(last_level(groups.clone(), 3, |_| 7), (groups, None));
    }

    #[test]
    fn series_have_readable_names() {
        let aws = Some(Method::Aws);
        assert_eq!(series_level_text(aws, Some(Inherit::Sign), 3, Some(0.512)), "AWS sign, level 3 (51.2 % remaining)");
        assert_eq!(series_level_text(aws, None, 3, None), "AWS ticket, level 3");
        assert_eq!(series_level_text(None, Some(Inherit::Dense), 0, Some(1.0)), "dense");
    }
}
