//! Grouping of items, in the order in which their keys first appear.

use std::collections::HashMap;
use std::hash::Hash;

/// Groups the items by key. Groups are in the order in which their keys first appear, items in their original order.
pub fn grouped<T, K: Eq + Hash>(items: impl IntoIterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut group_of = HashMap::new();
    for item in items {
        let group = *group_of.entry(key(&item)).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        groups[group].push(item);
    }
    groups
}

/// Returns each distinct value once, in the order of first appearance.
pub fn distinct<T: Eq + Hash + Clone>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    grouped(values, T::clone).into_iter().filter_map(|group| group.into_iter().next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_in_order_of_appearance() {
        let groups = grouped([31, 12, 11, 32, 21], |item| item / 10);
        assert_eq!(groups, [vec![31, 32], vec![12, 11], vec![21]]);
        assert_eq!(distinct(["b", "a", "b", "c", "a"]), ["b", "a", "c"]);
    }
}
