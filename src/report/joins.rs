//! The join of paths to transfers.

use std::collections::HashMap;

use winsign_core::grouping::{distinct, grouped};
use winsign_core::settings::{Between, Inherit, Method, Problem};

use super::{ConnectionRow, TransferRow};

/// The properties that a transfer and the paths between its seeds share.
type Key<'r> = (Problem, Option<Method>, u32, Inherit, Vec<&'r (String, String)>);

/// The paths between the seeds of each transfer.
pub(crate) struct SeedPaths<'r> {
    rows: HashMap<Key<'r>, Vec<&'r ConnectionRow>>,
    /// The problems of which all these paths were measured by one protocol: only then can one column compare them.
    comparable: Vec<Problem>,
}

impl<'r> SeedPaths<'r> {
    pub(crate) fn new(connections: &'r [ConnectionRow]) -> SeedPaths<'r> {
        let keyed: Vec<_> = connections.iter().filter_map(|row| Some((path_key(row)?, row))).collect();
        let problems = grouped(&keyed, |(_, row)| row.problem).into_iter();
        let alike = problems.filter(|rows| distinct(rows.iter().map(|(_, row)| row.protocol)).len() == 1);
        let comparable = alike.map(|rows| rows[0].1.problem).collect();
        let mut rows: HashMap<_, Vec<&ConnectionRow>> = HashMap::new();
        keyed.into_iter().for_each(|(key, row)| rows.entry(key).or_default().push(row));
        SeedPaths { rows, comparable }
    }

    /// Returns the paths between the seeds of a transfer: one row for each protocol by which they were measured.
    pub(crate) fn between_seeds<'s>(&'s self, row: &'s TransferRow) -> &'s [&'r ConnectionRow] {
        let key = (row.problem, row.method, row.level, row.inherit, row.axes.iter().collect());
        self.rows.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Returns the paths whose barrier stands beside a transfer in a table; none if there are several, or if other rows of
    /// the column were measured by another protocol.
    pub(crate) fn beside<'s>(&'s self, row: &'s TransferRow) -> Option<&'r ConnectionRow> {
        match self.between_seeds(row) {
            [one] if self.comparable.contains(&one.problem) => Some(one),
            _ => None,
        }
    }
}

/// Returns the key of the transfer whose seeds a path joins; `None` for other paths. Transfers do not differ in the
/// protocol of their paths.
fn path_key(row: &ConnectionRow) -> Option<Key<'_>> {
    let inherit = row.inherit.filter(|_| row.between == Between::Seeds)?;
    let axes = row.axes.iter().filter(|(name, _)| !name.starts_with("connect.")).collect();
    Some((row.problem, row.method, row.level, inherit, axes))
}
