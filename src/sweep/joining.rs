//! What a connect joins: how many runs that is, and what is said where it is nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use winsign_core::settings::{Between, Inherit, Masks};

use super::TransferBlock;
use super::combine::Point;
use super::file::Section;
use super::schema::PROBLEM;
use super::values::Value;
use crate::yaml::Diagnostic;

/// The transfers of one chain, and what of them can be joined.
#[derive(Default)]
pub(crate) struct Transfers {
    pub blocks: Vec<TransferBlock>,
    /// In the order of the file.
    pub levels: Vec<Value>,
    pub inherits: Vec<Value>,
    known: HashSet<Vec<Value>>,
    /// The rows of each level and inherit, by all that their transfers have in common.
    rows: HashMap<(Value, Value), HashMap<Vec<Value>, Row>>,
    /// Tickets that are trained on: how, and in which order of images.
    retrained: HashSet<(Vec<Value>, u64)>,
}

/// Transfers that differ in nothing but their seeds.
#[derive(Default)]
struct Row {
    /// Of the initialization, and of the order of images.
    seeds: BTreeSet<(u64, u64)>,
    /// Level and training, whatever is inherited.
    training: Vec<Value>,
    draws_mask: bool,
}

impl Transfers {
    /// Adds the transfer that `make` gives for a combination, unless it is there.
    pub(crate) fn add(&mut self, point: &Point, make: impl FnOnce() -> TransferBlock) {
        // Two blocks may have a transfer in common.
        if !self.known.insert(point.identity().0) {
            return;
        }
        let block = make();
        let (level, inherit) = (Value::Whole(block.level.into()), Value::Word(point.text("transfer.inherit")));
        for (list, value) in [(&mut self.levels, level), (&mut self.inherits, inherit)] {
            if !list.contains(&value) {
                list.push(value);
            }
        }
        let training =
            point.values_of(|key| !key.is_seed() && !["transfer.inherit", "transfer.flip"].contains(&key.path));
        let row = (self.rows.entry((level, inherit)).or_default())
            .entry(point.values_of(|key| !key.is_seed()))
            .or_insert_with(|| Row { draws_mask: block.inherit.draws_mask(), training, ..Row::default() });
        let order = block.seeds.order;
        // A ticket that is trained on needs no initialization.
        if block.inherit == Inherit::Retrain {
            row.seeds.insert((order, order));
            self.retrained.insert((row.training.clone(), order));
        } else {
            row.seeds.insert((block.seeds.init, order));
        }
        self.blocks.push(block);
    }

    pub(crate) fn count(&self) -> u128 {
        self.blocks.len() as u128
    }

    /// The levels whose tickets are transferred; the last if only dense networks are.
    pub(crate) fn levels_of_tickets(&self, last: u64) -> Vec<Value> {
        const DENSE: Value = Value::Whole(0);
        match self.levels[..] {
            [DENSE] => vec![Value::Whole(last)],
            _ => self.levels.iter().copied().filter(|level| *level != DENSE).collect(),
        }
    }

    /// How many runs a connect of a chain makes. Tickets of several chains are counted where all chains are known.
    pub(crate) fn runs(&self, connect: &Point) -> u128 {
        self.runs_over(connect, connect.word("connect.masks"))
    }

    /// The same, over these masks.
    fn runs_over(&self, connect: &Point, masks: Masks) -> u128 {
        let rows = || {
            let joined = connect.get("connect.level").zip(connect.get("connect.inherit"));
            joined.and_then(|joined| self.rows.get(&joined)).into_iter().flat_map(HashMap::values)
        };
        match connect.between() {
            Between::NormInit => 1,
            // An imported ticket has no level before it.
            Between::Levels => u128::from(connect.digest("ticket.imported").is_none()),
            Between::Tickets => 0,
            Between::Seeds => {
                let side = connect.whole("connect.block");
                rows().flat_map(|row| row.of_one_mask(masks)).map(|networks| runs_of_matrix(networks, side)).sum()
            }
            Between::Plane => {
                rows().flat_map(|row| row.of_one_mask(masks)).filter(|networks| *networks >= 3).count() as u128
            }
            Between::Retrain => {
                let retrained = |row: &Row, order| self.retrained.contains(&(row.training.clone(), order));
                let joined = rows().filter(|row| !row.draws_mask || masks == Masks::Union);
                joined.flat_map(|row| row.seeds.iter().filter(|(_, order)| retrained(row, *order))).count() as u128
            }
        }
    }
}

impl Row {
    /// How many networks there are to be joined with each other: all, or those of each mask.
    fn of_one_mask(&self, masks: Masks) -> Vec<u64> {
        if !self.draws_mask || masks == Masks::Union {
            return vec![self.seeds.len() as u64];
        }
        let mut by_init: BTreeMap<u64, u64> = BTreeMap::new();
        for (init, _) in &self.seeds {
            *by_init.entry(*init).or_default() += 1;
        }
        by_init.into_values().collect()
    }
}

/// How many runs measure all pairs of so many networks, in blocks of `side` networks on a side; with 1, each pair is one.
pub(crate) fn runs_of_matrix(networks: u64, side: u64) -> u128 {
    let (networks, side) = (u128::from(networks), u128::from(side));
    if side == 1 {
        return networks * networks.saturating_sub(1) / 2;
    }
    let groups = networks.div_ceil(side);
    // The last group may be one network alone, which has no pairs of its own.
    groups * (groups + 1) / 2 - u128::from(networks % side == 1)
}

/// What a connect block has been found to join.
#[derive(Default)]
pub(crate) struct Joined {
    any: bool,
    /// Of each inherit that is met: whether something is joined, or would be but for different masks.
    inherits: HashMap<Value, (bool, bool)>,
    /// Which tickets there are of each problem and level: what tells their chains apart.
    tickets: HashMap<(Vec<Value>, Value), HashSet<Vec<Value>>>,
}

impl Joined {
    /// Whether the connect joins anything of this chain.
    pub(crate) fn see(&mut self, connect: &Point, chain: &Point, transfers: &Transfers) -> bool {
        if connect.between() == Between::Tickets {
            return self.see_ticket(connect, chain);
        }
        let joins = transfers.runs(connect) > 0;
        self.any |= joins;
        if let Some(inherit) = connect.get("connect.inherit") {
            let (joined, masks_differ) = self.inherits.entry(inherit).or_default();
            *joined |= joins;
            *masks_differ |= !joins && transfers.runs_over(connect, Masks::Union) > 0;
        }
        joins
    }

    /// A ticket may be joined with those of other chains.
    fn see_ticket(&mut self, connect: &Point, chain: &Point) -> bool {
        let problem = PROBLEM.map(|path| Value::Word(chain.text(path))).to_vec();
        let level = Value::Whole(connect.whole("connect.level"));
        let tickets = self.tickets.entry((problem, level)).or_default();
        // How far its chain goes makes no ticket another.
        tickets.insert(chain.values_of(|key| key.path != "ticket.levels"));
        self.any |= tickets.len() > 1;
        true
    }

    /// A block that joins nothing, or nothing of what it names, is a mistake. What it does not name is left out where
    /// masks differ.
    pub(crate) fn check(&self, section: &Section) -> Result<(), Diagnostic> {
        let Some(between) = section.between() else { return Ok(()) };
        let apart = |(inherit, &(joined, masks_differ)): (&Value, &(bool, bool))| {
            let named = section.axis("connect.inherit").and_then(|axis| axis.item_for(*inherit, 0));
            let place = named.map(|item| item.place).or((!self.any).then_some(section.place))?;
            (masks_differ && !joined).then_some((place, *inherit))
        };
        if let Some((place, inherit)) = self.inherits.iter().filter_map(apart).min() {
            let message = match between {
                Between::Retrain => {
                    format!("no transfer of `{inherit}` has the mask of its ticket: it draws a new mask")
                }
                Between::Plane => {
                    format!(
                        "no three transfers of `{inherit}` have the same mask: a new one is drawn for each `seed_init`"
                    )
                }
                _ => format!(
                    "no two transfers of `{inherit}` have the same mask: a new one is drawn for each `seed_init`"
                ),
            };
            let help = match between {
                Between::Plane => "add `masks: union` to use the union of all masks",
                _ => "add `masks: union` to use the union of both masks",
            };
            return Err(Diagnostic::at(place, message, help));
        }
        if self.any {
            return Ok(());
        }
        let (why, help) = match between {
            Between::Seeds => {
                ("no two transfers differ only in seeds", "give the transfers at least two seeds, as in `seed: 2..4`")
            }
            Between::Plane => (
                "no three transfers differ only in seeds",
                "give the transfers at least three seeds, as in `seed: 2..4`",
            ),
            Between::Retrain => (
                "no transfer has a `retrain` transfer with the same level, training and `seed_order`",
                "add `retrain` to `inherit` in `transfer`, with the same levels and seeds",
            ),
            Between::Levels => {
                ("an imported ticket has no previous level", "remove it, or find tickets with a `method`")
            }
            Between::Tickets => (
                "no level has two tickets with the same data set and architecture",
                "give `ticket` at least two methods or seeds, as in `seed: 1..3`",
            ),
            Between::NormInit => ("there is no ticket", "remove it, or exclude less"),
        };
        Err(Diagnostic::at(section.place, format!("this block connects nothing: {why}"), help))
    }
}

#[cfg(test)]
mod tests {
    use super::runs_of_matrix;
    use crate::yaml::Diagnostic;
    use crate::{ConnectBlock, Sweep, parse};
    use winsign_core::settings::{Align, Between, Inherit, Masks, Sets};

    fn digits(rest: &str) -> Result<Sweep, Diagnostic> {
        parse("study.yaml", &format!("dataset: digits\narchitecture: resnet8\n{rest}"))
    }

    /// The connects of the first chain.
    fn connects(rest: &str) -> Vec<ConnectBlock> {
        let sweep = digits(rest).unwrap_or_else(|error| panic!("{}", error.render(false)));
        sweep.chains.into_iter().next().unwrap().connects
    }

    #[test]
    fn blocks_are_counted_as_they_are_cut() {
        assert_eq!([0, 1, 2, 20].map(|networks| runs_of_matrix(networks, 1)), [0, 0, 1, 190]);
        // Groups of 5, 5 and 2: three pairs of groups, and three groups by themselves.
        assert_eq!(runs_of_matrix(12, 5), 6);
        // The third group is one network.
        assert_eq!(runs_of_matrix(11, 5), 5);
        assert_eq!([0, 1, 2, 5].map(|networks| runs_of_matrix(networks, 5)), [0, 0, 1, 1]);
    }

    #[test]
    fn defaults_are_those_of_what_is_joined() {
        let all = connects(
            "ticket: {method: [lrr, aws], levels: 4}
transfer: {inherit: [sign, retrain, dense], level: [2, 4], seed: 2..4}
connect: {between: [seeds, norm-init, retrain, levels, tickets, plane]}",
        );
        let of = |between| all.iter().filter(move |connect| connect.between == between);
        let joined = |between| of(between).map(|connect| (connect.level, connect.inherit)).collect::<Vec<_>>();
        let (sign, retrain, dense) = (Some(Inherit::Sign), Some(Inherit::Retrain), Some(Inherit::Dense));
        let of_transfers = [(2, sign), (2, retrain), (0, dense), (4, sign), (4, retrain)];
        assert_eq!(joined(Between::Seeds), of_transfers);
        assert_eq!(joined(Between::Plane), of_transfers);
        assert_eq!(joined(Between::Retrain), [(2, sign), (4, sign)]);
        assert_eq!(joined(Between::Levels), [1, 2, 3, 4].map(|level| (level, None)), "also those not transferred");
        assert_eq!(joined(Between::Tickets), [2, 4].map(|level| (level, None)));
        assert_eq!(joined(Between::NormInit), [2, 4].map(|level| (level, None)));
        assert!(all.iter().all(|connect| connect.points == if connect.between == Between::Plane { 15 } else { 11 }));
        assert!(all.iter().all(|connect| (connect.refine, connect.block, connect.margin) == (0, 1, 0.25)));
        assert!(all.iter().all(|connect| (connect.sets, connect.align) == (Sets::Both, Align::None)));
        assert!(all.iter().all(|connect| connect.reestimation_batches.is_none()));
        assert_eq!(connects("ticket: {levels: 3}\nconnect: {between: tickets}")[0].level, 3);
    }

    #[test]
    fn settings_of_paths_are_read() {
        let path = &connects(
            "transfer: {inherit: sign}
connect: {between: seeds, refine: 3, reestimation_batches: 5, sets: test, align: weights, block: 4}",
        )[0];
        assert_eq!((path.refine, path.reestimation_batches, path.block), (3, Some(5), 4));
        assert_eq!((path.sets, path.align), (Sets::Test, Align::Weights));
        let plane =
            &connects("transfer: {inherit: sign, seed: 2..4}\nconnect: {between: plane, margin: 0, points: 7}")[0];
        assert_eq!((plane.margin, plane.points), (0.0, 7));
    }

    #[test]
    fn the_same_paths_cut_otherwise_are_the_same_paths() {
        let twice = "transfer: {inherit: sign}\nconnect: [{between: seeds, block: 2}, {between: seeds}]";
        assert_eq!(connects(twice).len(), 1);
    }

    #[test]
    fn what_is_transferred_is_joined_with_what_is_trained_on_where_both_are() {
        let joined = |transfer: &str, connect: &str| {
            let file = format!("ticket: {{method: lrr}}\ntransfer: {transfer}\nconnect: {{between: retrain{connect}}}");
            connects(&file).iter().map(|connect| (connect.inherit.unwrap(), connect.masks)).collect::<Vec<_>>()
        };
        let (sign, random) = (Inherit::Sign, Inherit::RandomMask);
        let both = "{inherit: [sign, random-mask, retrain, dense], seed: 2..3}";
        assert_eq!(joined(both, ""), [(sign, Masks::Same)]);
        assert_eq!(joined(both, ", masks: union"), [(sign, Masks::Union), (random, Masks::Union)]);
        // The order of images is what the two have in common; initializations differ in any case.
        let orders = "[{inherit: sign, seed_init: 7, seed_order: 5}, {inherit: retrain, seed: 5}]";
        assert_eq!(joined(orders, ""), [(sign, Masks::Same)]);
    }

    #[test]
    fn blocks_count_for_the_limit() {
        // As single paths these would be 2 million.
        let sweep = digits(
            "ticket: {method: lrr}\ntransfer: {inherit: sign, seed: 1..2000}\nconnect: {between: seeds, block: 50}",
        );
        assert!(sweep.is_ok());
        let error = digits("ticket: {seed: 1..2000, levels: 1}\nconnect: {between: tickets}").unwrap_err();
        let expected = "this sweep is too large: 8,006,000 runs for tickets, transfers and connects";
        assert!(error.message.starts_with(expected), "{}", error.message);
        assert!(digits("ticket: {seed: 1..2000, levels: 1}\nconnect: {between: tickets, block: 100}").is_ok());
    }

    #[test]
    fn what_joins_nothing_is_explained_at_its_place() {
        let digest = "3f09c2aa41d07e553f09c2aa41d07e55";
        let imported = format!("ticket: {{imported: {digest}}}\nconnect: {{between: levels}}");
        #[rustfmt::skip]
        let cases: &[(&str, usize, usize, &str, &str)] = &[
            ("connect: {between: plane}", 3, 10, "there are no transfers for `between: plane` to connect", "add a `transfer` block with at least three seeds"),
            ("connect: {between: retrain}", 3, 10, "there are no transfers for `between: retrain` to connect", "add a `transfer` block with `retrain` and another value of `inherit`"),
            ("transfer: {seed: 2..3}\nconnect: {between: plane}", 4, 10, "this block connects nothing: no three transfers differ only in seeds", "give the transfers at least three seeds"),
            ("transfer: {inherit: random-mask, seed: 2..4}\nconnect: {between: plane}", 4, 10, "no three transfers of `random-mask` have the same mask: a new one is drawn for each `seed_init`", "add `masks: union`"),
            ("transfer: {inherit: [sign, mask]}\nconnect: {between: retrain}", 4, 10, "this block connects nothing: no transfer has a `retrain` transfer with the same level, training and `seed_order`", "add `retrain` to `inherit` in `transfer`"),
            ("transfer: [{inherit: sign, seed: 2}, {inherit: retrain, seed: 3}]\nconnect: {between: retrain}", 4, 10, "this block connects nothing: no transfer has a `retrain` transfer with the same level, training and `seed_order`", "with the same levels and seeds"),
            ("transfer: [{inherit: sign, level: 5}, {inherit: retrain, level: 6}]\nconnect: {between: retrain}", 4, 10, "this block connects nothing: no transfer has a `retrain` transfer with the same level, training and `seed_order`", "with the same levels"),
            ("transfer: [{inherit: sign, lr: 0.2}, {inherit: retrain}]\nconnect: {between: retrain}", 4, 10, "this block connects nothing: no transfer has a `retrain` transfer with the same level, training and `seed_order`", "add `retrain`"),
            ("transfer: {inherit: retrain}\nconnect: {between: retrain}", 4, 10, "this block connects nothing: no transfer has a `retrain` transfer with the same level, training and `seed_order`", "add `retrain`"),
            ("transfer: {inherit: [sign, retrain]}\nconnect: {between: retrain, inherit: [sign, retrain]}", 4, 45, "`between: retrain` cannot connect `retrain`", "use transfers that inherit from a ticket"),
            ("transfer: {inherit: [random-mask, retrain]}\nconnect: {between: retrain}", 4, 10, "no transfer of `random-mask` has the mask of its ticket: it draws a new mask", "add `masks: union`"),
            ("ticket: {method: lrr}\nconnect: {between: tickets}", 4, 10, "this block connects nothing: no level has two tickets with the same data set and architecture", "give `ticket` at least two methods or seeds"),
            ("ticket: {method: lrr, levels: [3, 4]}\nconnect: {between: tickets, level: 2}", 4, 10, "this block connects nothing: no level has two tickets with the same data set and architecture", "give `ticket`"),
            (&imported, 4, 10, "this block connects nothing: an imported ticket has no previous level", "find tickets with a `method`"),
            // Settings without a meaning
            ("connect: {between: tickets, inherit: sign}", 3, 38, "`between: tickets` has no `inherit`", "it connects tickets: remove `inherit`"),
            ("connect: {between: levels, masks: union}", 3, 35, "`between: levels` has no `masks`", "tickets are always connected over both masks: remove `masks`"),
            ("connect: {between: norm-init, align: weights}", 3, 38, "`between: norm-init` has no `align`", "it connects a ticket with itself: remove `align`"),
            ("connect: {between: [tickets, levels], block: 4}", 3, 46, "`between: levels` has no `block`", "it has no matrix to divide into blocks: remove `block`, or put `tickets` into a separate block"),
            ("connect: {between: tickets, margin: 0.1}", 3, 37, "`between: tickets` has no `margin`", "only a plane has a margin: remove `margin`"),
            ("transfer: {seed: 2..4}\nconnect: {between: [seeds, plane], refine: 2}", 4, 44, "`between: plane` has no `refine`", "a plane has a regular grid: remove `refine`, or put `seeds` into a separate block"),
            ("transfer:\nconnect: {between: seeds, block: [2, 4]}", 4, 34, "`connect.block` cannot be an axis", "give one number"),
            ("transfer:\nconnect: {between: seeds, block: 0}", 4, 34, "`connect.block` must be a whole number from 1 to 1,000, found `0`", "for example `block: 10`"),
            ("transfer:\nconnect: {between: seeds, refine: 21}", 4, 35, "`connect.refine` must be a whole number from 0 to 20, found `21`", "for example `refine: 3`"),
            ("transfer:\nconnect: {between: seeds, reestimation_batches: 0}", 4, 49, "`connect.reestimation_batches` must be a whole number from 1 to 1,000,000, found `0`", "for example"),
            ("transfer: {seed: 2..4}\nconnect: {between: plane, points: 1001}", 4, 35, "a plane with 1001 points on a side is too fine: the limit is 1,000", "try 15 to 50"),
            ("transfer: {seed: 2..4}\nconnect: {between: plane, margin: -1}", 4, 35, "`connect.margin` must be a number, 0 or above, found `-1`", "for example"),
        ];
        for (text, line, column, message, help) in cases {
            let error = digits(text).expect_err(text);
            let found = (error.message.as_str(), error.line, error.column);
            assert_eq!(found, (*message, Some(*line), Some(*column)), "{text}");
            assert!(error.to_string().contains(help), "{text}\n{error}");
        }
    }

    #[test]
    fn units_are_matched_where_somebody_knows_how() {
        let file = |architecture: &str, rest: &str| {
            let text = format!(
                "dataset: cifar10\narchitecture: {architecture}\ntransfer: {{inherit: dense}}\nconnect: {{between: seeds, align: weights}}\n{rest}"
            );
            parse("study.yaml", &text)
        };
        assert!(file("mobilenetv2", "").is_ok());
        let error = file("[resnet8, shufflenet]", "").unwrap_err();
        assert_eq!(
            (error.message.as_str(), error.line, error.column),
            ("the units of `shufflenet` cannot be aligned", Some(4), Some(34))
        );
        assert!(error.to_string().contains("`resnet50`"), "{error}");
        assert!(file("[resnet8, shufflenet]", "exclude: [{architecture: shufflenet, align: weights}]").is_ok());
        let mixer = "dataset: imagenet\narchitecture: mlpmixer\nconnect: {between: norm-init, reestimation_batches: 3}";
        let error = parse("study.yaml", mixer).unwrap_err();
        assert_eq!(error.message, "`connect.reestimation_batches` has no effect: this architecture has no BatchNorm");
    }
}
