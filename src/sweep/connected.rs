//! Checks that `connect` blocks connect networks, with help for those that do not.

use std::collections::{HashMap, HashSet};

use winsign_core::settings::{Between, Masks, Problem};

use super::ConnectBlock;
use super::combine::Point;
use super::expand::{problem, ticket_identity};
use super::file::Section;
use super::joins::Joinable;
use super::values::Value;
use crate::yaml::Diagnostic;

/// The networks that one block connects.
#[derive(Default)]
pub(crate) struct Connected {
    any: bool,
    /// For each value of `inherit`: whether transfers are connected, and whether only their masks prevent it.
    inherits: HashMap<Value, (bool, bool)>,
    /// The tickets of each problem and level, by what distinguishes their chains.
    tickets: HashMap<(Problem, u32), HashSet<Vec<Value>>>,
}

impl Connected {
    /// Adds a connect of the block, and returns whether it connects anything of this chain.
    pub(crate) fn add(&mut self, connect: &ConnectBlock, point: &Point, chain: &Point, joinable: &Joinable) -> bool {
        if connect.between == Between::Tickets {
            return self.add_ticket(connect, chain);
        }
        // An imported ticket has no previous level.
        let is_first = connect.between == Between::Levels && chain.digest("ticket.imported").is_some();
        let joins = !is_first && joinable.count(connect) > 0;
        self.any |= joins;
        if let Some(inherit) = point.get("connect.inherit") {
            let (joined, masks_differ) = self.inherits.entry(inherit).or_default();
            *joined |= joins;
            *masks_differ |= !joins && joinable.count(&ConnectBlock { masks: Masks::Union, ..connect.clone() }) > 0;
        }
        joins
    }

    /// Adds the ticket of a chain, which may be connected with those of other chains.
    fn add_ticket(&mut self, connect: &ConnectBlock, chain: &Point) -> bool {
        let tickets = self.tickets.entry((problem(chain), connect.level)).or_default();
        tickets.insert(ticket_identity(chain));
        self.any |= tickets.len() > 1;
        true
    }

    /// Returns an error if the block connects nothing, or nothing of a value of `inherit` that it gives. Transfers that
    /// it does not name are left out if their masks differ.
    pub(crate) fn check(&self, section: &Section) -> Result<(), Diagnostic> {
        let Some(between) = section.between() else { return Ok(()) };
        let separated = self.inherits.iter().filter_map(|(&inherit, &(joined, masks_differ))| {
            let named = section.axis("connect.inherit").and_then(|axis| axis.item_for(inherit, 0));
            let place = named.map(|item| item.place).or((!self.any).then_some(section.place))?;
            (masks_differ && !joined).then_some((place, inherit))
        });
        if let Some((place, inherit)) = separated.min() {
            let (networks, masks) = match between {
                Between::Plane => ("three transfers", "all"),
                _ => ("two transfers", "both"),
            };
            let message = match between {
                Between::Retrain => {
                    format!("no transfer of `{inherit}` has the mask of its ticket: it draws a new mask")
                }
                _ => {
                    format!("no {networks} of `{inherit}` have the same mask: a new one is drawn for each `seed_init`")
                }
            };
            let help = format!("add `masks: union` to use the union of {masks} masks");
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
    use crate::yaml::Diagnostic;
    use crate::{ConnectBlock, Sweep, parse};
    use winsign_core::settings::{Align, Between, Inherit, Masks, Sets};

    fn digits(rest: &str) -> Result<Sweep, Diagnostic> {
        parse("study.yaml", &format!("dataset: digits\narchitecture: resnet8\n{rest}"))
    }

    /// Returns the connects of the first chain.
    fn connects(rest: &str) -> Vec<ConnectBlock> {
        let sweep = digits(rest).unwrap_or_else(|error| panic!("{}", error.render(false)));
        sweep.chains.into_iter().next().unwrap().connects
    }

    #[test]
    fn defaults_follow_from_between() {
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
    fn paths_divided_into_other_blocks_are_the_same() {
        let twice = "transfer: {inherit: sign}\nconnect: [{between: seeds, block: 2}, {between: seeds}]";
        assert_eq!(connects(twice).len(), 1);
    }

    #[test]
    fn transfers_are_connected_with_retrained_tickets_if_both_exist() {
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
    fn blocks_that_connect_nothing_are_explained_at_their_place() {
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
    fn align_needs_an_architecture_that_can_be_aligned() {
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
