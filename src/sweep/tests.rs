//! Tests of the meaning of sweep files, and of the errors of invalid ones.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use strum::VariantArray;
use winsign_core::settings::{Architecture, Dataset, Masks, Numerics, Schedule};

use super::defaults::{RECIPES, recipe};
use super::keys::{Block, Fallback, Kind};
use super::schema::KEYS;
use super::values::Value;
use super::*;
use crate::yaml::{MAX_BYTES, listed};

const QUICKSTART: &str = include_str!("../../sweeps/quickstart.yaml");
const DOCUMENTATION: &str = include_str!("../../docs/reference/sweep-file.md");

/// Parses a file about the digits.
fn digits(rest: &str) -> Result<Sweep, Diagnostic> {
    parse("study.yaml", &format!("dataset: digits\narchitecture: resnet8\n{rest}"))
}

fn expanded(rest: &str) -> Sweep {
    digits(rest).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

fn failed(rest: &str) -> Diagnostic {
    match digits(rest) {
        Ok(_) => panic!("this should be an error:\n{rest}"),
        Err(error) => error,
    }
}

// The meaning of files.

#[test]
fn quickstart_is_the_study_of_the_method() {
    let sweep = parse("sweeps/quickstart.yaml", QUICKSTART).unwrap();
    assert_eq!(sweep.name, "quickstart");
    let of = |method: Method| sweep.chains.iter().filter(move |chain| chain.method == method);
    assert_eq!((sweep.chains.len(), of(Method::Lrr).count(), of(Method::Aws).count()), (8, 4, 4));
    for chain in &sweep.chains {
        assert_eq!(chain.problem.numerics, Numerics::Portable);
        assert_eq!((chain.levels, chain.warmup.epochs, chain.training.epochs), (6, 10, 3));
        assert_eq!(chain.transfers.len(), 2 * 2);
        assert!(chain.transfers.iter().all(|transfer| transfer.level == 6 && transfer.training.epochs == 6));
        let connects: Vec<_> = chain.connects.iter().map(|connect| (connect.between, connect.inherit)).collect();
        let seeds = |inherit| (Between::Seeds, Some(inherit));
        assert_eq!(connects, [seeds(Inherit::Sign), seeds(Inherit::Mask), (Between::NormInit, None)]);
    }
}

#[test]
fn digits_have_complete_defaults() {
    let sweep = expanded("transfer:\nconnect: {between: [seeds, norm-init]}");
    assert_eq!(sweep.name, "study");
    assert_eq!(sweep.resources, Resources { jobs: None, threads: 1, ranks: 1, gpus: None, retries: 1 });
    assert_eq!(sweep.chains.len(), 2);

    let chain = &sweep.chains[0];
    let training = Training {
        epochs: 4,
        batch: 64,
        optimizer: Default::default(),
        lr: 0.1,
        momentum: 0.9,
        weight_decay: 5e-4,
        schedule: Schedule::Constant,
        precision: Default::default(),
    };
    assert_eq!(chain.problem, Problem::new(Dataset::Digits, Architecture::ResNet8));
    assert_eq!((chain.levels, chain.prune_ratio, chain.seeds), (12, 0.2, Seeds::from(1)));
    assert_eq!(chain.warmup, Training { epochs: 10, ..training.clone() });
    assert_eq!(chain.training, training);

    let transfers: Vec<_> = chain.transfers.iter().map(|transfer| (transfer.inherit, transfer.seeds.init)).collect();
    let inherits = [Inherit::Sign, Inherit::Mask, Inherit::Retrain];
    assert_eq!(transfers, inherits.map(|inherit| [(inherit, 2), (inherit, 3)]).concat());
    let first = &chain.transfers[0];
    assert_eq!((first.level, first.seeds), (12, Seeds::from(2)));
    assert_eq!(first.training, Training { epochs: 12, schedule: Schedule::MultiStep, ..training });

    let connects: Vec<_> = chain.connects.iter().map(|connect| (connect.inherit, connect.level)).collect();
    let joined = [Some(Inherit::Sign), Some(Inherit::Mask), Some(Inherit::Retrain), None];
    assert_eq!(connects, joined.map(|inherit| (inherit, 12)));
    assert!(chain.connects.iter().all(|connect| (connect.points, connect.batch) == (11, 64)));
}

/// A transfer has a schedule of its own.
#[test]
fn schedule_of_ticket_is_that_of_every_level() {
    let sweep = expanded("ticket: {method: imp, warmup_epochs: 160, epochs: 160, schedule: cosine}\ntransfer:");
    let chain = &sweep.chains[0];
    assert_eq!((chain.warmup.schedule, chain.training.schedule), (Schedule::Cosine, Schedule::Cosine));
    assert_eq!(chain.transfers[0].training.schedule, Schedule::MultiStep);
}

#[test]
fn blocks_are_optional() {
    let sweep = expanded("");
    assert_eq!(sweep.chains.len(), 2);
    assert!(sweep.chains.iter().all(|chain| chain.transfers.is_empty() && chain.connects.is_empty()));

    // Without transfers, the last level is joined to itself.
    let connects = &expanded("ticket: {levels: 3}\nconnect: {between: norm-init}").chains[0].connects;
    assert_eq!(connects.iter().map(|connect| connect.level).collect::<Vec<_>>(), [3]);
}

#[test]
fn transfers_follow_their_ticket() {
    let sweep = expanded("ticket: {lr: [0.1, 0.05], batch: 32}\ntransfer: {batch: 16}\nconnect: {between: norm-init}");
    for chain in &sweep.chains {
        assert!(chain.transfers.iter().all(|transfer| transfer.training.lr == chain.training.lr));
        assert!(chain.transfers.iter().all(|transfer| transfer.training.batch == 16));
        assert_eq!(chain.connects[0].batch, 32);
    }
}

#[test]
fn lists_and_ranges_run_in_either_direction() {
    let levels = |level: &str| {
        let sweep = expanded(&format!("ticket: {{method: aws}}\ntransfer: {{inherit: sign, seed: 2, level: {level}}}"));
        sweep.chains[0].transfers.iter().map(|transfer| transfer.level).collect::<Vec<_>>()
    };
    assert_eq!(levels("3..5"), [3, 4, 5]);
    assert_eq!(levels("12..10"), [12, 11, 10]);
    assert_eq!(levels("[1, 4..2, last]"), [1, 4, 3, 2, 12]);
    assert_eq!(levels("[7]"), [7]);
    assert_eq!(levels("'5 .. 6'"), [5, 6]);
    assert_eq!(levels("all"), (1..=12).collect::<Vec<_>>());
}

#[test]
fn last_and_all_refer_to_levels_of_the_chain() {
    let sweep = expanded("ticket: {method: lrr, levels: [2, 3]}\ntransfer: {inherit: sign, seed: 2, level: all}");
    let levels = |chain: &Chain| chain.transfers.iter().map(|transfer| transfer.level).collect::<Vec<_>>();
    assert_eq!(sweep.chains.iter().map(levels).collect::<Vec<_>>(), [vec![1, 2], vec![1, 2, 3]]);
}

#[test]
fn seeds_can_be_given_by_source() {
    let sweep =
        expanded("ticket: {method: aws, seed: 5, seed_alpha: 7..8}\ntransfer: {inherit: sign, seed_init: 4..5}");
    let seeds: Vec<_> = sweep.chains.iter().map(|chain| chain.seeds).collect();
    assert_eq!(seeds, [7, 8].map(|alpha| Seeds { init: 5, order: 5, alpha }));
    // The seed that is not given has one value, and transfers have no α of their own.
    let seeds: Vec<_> = sweep.chains[0].transfers.iter().map(|transfer| transfer.seeds).collect();
    assert_eq!(seeds, [4, 5].map(|init| Seeds { init, order: 2, alpha: init }));
}

#[test]
fn blocks_add_up() {
    let sweep = expanded(
        "ticket:
  - {method: lrr, lr: 0.1}
  - {method: [aws, lrr], lr: 0.1}
transfer:
  - {inherit: [sign, mask], seed: 2..3, lr: 0.05}
  - {inherit: sign, seed: 3..5, lr: 0.05}
connect:
  - {between: seeds, inherit: sign}
  - {between: seeds}
",
    );
    // A combination of two blocks occurs once.
    assert_eq!(sweep.chains.iter().map(|chain| chain.method).collect::<Vec<_>>(), [Method::Lrr, Method::Aws]);
    let chain = &sweep.chains[0];
    assert_eq!(chain.transfers.len(), 2 * 2 + 2);
    assert_eq!(chain.connects.len(), 2);
}

#[test]
fn zip_pairs_axes() {
    let sweep = expanded("ticket: {method: [lrr, aws], lr: [0.1, 0.05], seed: 1..3}\nzip: [method, ticket.lr]");
    assert_eq!(sweep.chains.len(), 2 * 3);
    assert!(sweep.chains.iter().all(|chain| (chain.method == Method::Lrr) == (chain.training.lr == 0.1)));
}

#[test]
fn zip_spans_blocks() {
    let file = "ticket: {method: aws, seed: [1, 4]}\ntransfer: {seed: 11..12, inherit: [sign, mask]}\nzip: [[ticket.seed, transfer.seed]]";
    let seeds = |chain: &Chain| {
        let transfers = chain.transfers.iter().map(|transfer| transfer.seeds.init).collect::<BTreeSet<_>>();
        (chain.seeds.init, chain.transfers.len(), transfers.into_iter().collect::<Vec<_>>())
    };
    let sweep = expanded(file);
    assert_eq!(sweep.chains.iter().map(seeds).collect::<Vec<_>>(), [(1, 2, vec![11]), (4, 2, vec![12])]);
}

/// The product would be four million transfers, beyond the limit.
#[test]
fn zip_counts_for_the_limit_as_it_is_expanded() {
    let sweep = expanded(
        "ticket: {method: aws, levels: 1, seed: 1..2000}
transfer: {inherit: sign, seed: 1..2000}
zip: [ticket.seed, transfer.seed]",
    );
    assert_eq!(sweep.chains.iter().map(|chain| chain.transfers.len()).sum::<usize>(), 2_000);
}

/// Single paths would be more than a million.
#[test]
fn blocks_count_for_the_limit() {
    let transfers =
        "ticket: {method: lrr}\ntransfer: {inherit: sign, seed: 1..2000}\nconnect: {between: seeds, block: 50}";
    let tickets = "ticket: {seed: 1..2000, levels: 1}\nconnect: {between: tickets, block: 100}";
    assert!(digits(transfers).is_ok() && digits(tickets).is_ok());
}

#[test]
fn levels_can_be_zipped() {
    let sweep = expanded(
        "ticket: {method: aws, levels: [4, 6]}\ntransfer: {inherit: sign, seed: 2, level: [2, 6]}\nzip: [levels, level]",
    );
    let levels = sweep.chains.iter().map(|chain| (chain.levels, chain.transfers[0].level, chain.transfers.len()));
    assert_eq!(levels.collect::<Vec<_>>(), [(4, 2, 1), (6, 6, 1)]);
}

#[test]
fn zip_leaves_single_values_alone() {
    let sweep = expanded(
        "ticket:
  - {method: [lrr, aws], lr: [0.1, 0.05]}
  - {method: [lrr, aws], lr: 0.2}
zip: [method, ticket.lr]",
    );
    assert_eq!(sweep.chains.len(), 2 + 2);
}

#[test]
fn exclude_drops_by_scope() {
    let base = "ticket: {method: [lrr, aws], seed: 1..2}\ntransfer: {inherit: [sign, mask], seed: 2..3}\nconnect: {between: [seeds, norm-init]}\n";
    let counts = |rules: &str| {
        let exclude = if rules.is_empty() { String::new() } else { format!("exclude: [{rules}]") };
        let sweep = expanded(&format!("{base}{exclude}"));
        sweep.chains.iter().map(|chain| (chain.transfers.len(), chain.connects.len())).collect::<Vec<_>>()
    };
    assert_eq!(counts(""), [(4, 3); 4]);
    assert_eq!(counts("{method: lrr, ticket.seed: 2}"), [(4, 3); 3]);
    // A connect joins only existing transfers.
    assert_eq!(counts("{method: lrr, inherit: mask}"), [(2, 2), (2, 2), (4, 3), (4, 3)]);
    assert_eq!(counts("{inherit: mask, between: seeds}"), [(4, 2); 4]);
    assert_eq!(counts("{method: aws, between: norm-init}"), [(4, 3), (4, 3), (4, 2), (4, 2)]);
    assert_eq!(counts("{inherit: mask, transfer.seed: 3}"), [(3, 2); 4]);
    assert_eq!(counts("{method: [lrr, aws], ticket.seed: 1..1}"), [(4, 3); 2]);
    assert_eq!(counts("{level: last, inherit: sign, ticket.seed: 1}"), [(2, 2), (4, 3), (2, 2), (4, 3)]);
}

#[test]
fn exclude_can_save_a_level_that_one_chain_lacks() {
    let base = "ticket: {method: lrr, levels: [2, 3]}\ntransfer: {inherit: sign, seed: 2, level: [2, 3]}\n";
    assert_eq!(failed(base).message, "`transfer.level: 3` is beyond the last level of the chain, 2");
    let sweep = expanded(&format!("{base}exclude: [{{levels: 2, level: 3}}]"));
    assert_eq!(sweep.chains.iter().map(|chain| chain.transfers.len()).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn seeds_are_joined_where_there_are_two() {
    let sweep = expanded(
        "ticket: {method: aws}
transfer:
  - {inherit: sign, level: 12..11, seed: 2..3}
  - {inherit: mask, level: 12, seed: 2}
connect: {between: seeds}
",
    );
    let connects = sweep.chains[0].connects.iter().map(|connect| (connect.level, connect.inherit));
    assert_eq!(connects.collect::<Vec<_>>(), [(12, Some(Inherit::Sign)), (11, Some(Inherit::Sign))]);
    // Another learning rate is another difference.
    let error = failed(
        "transfer: {seed: [2, 3], lr: [0.1, 0.2]}\nzip: [transfer.seed, transfer.lr]\nconnect: {between: seeds}",
    );
    assert_eq!(error.message, "this block connects nothing: no two transfers differ only in seeds");
}

#[test]
fn settings_without_effect_make_no_runs() {
    let sweep = expanded(
        "ticket: {method: [lrr, imp, aws], rewind_epoch: [0, 2], seed_alpha: [1, 7], levels: 2}
transfer: {inherit: [sign, mask], flip: [0, 0.1], seed: 2}",
    );
    let chains: Vec<_> =
        sweep.chains.iter().map(|chain| (chain.method, chain.rewind_epoch, chain.seeds.alpha)).collect();
    let expected = [
        (Method::Lrr, None, 1),
        (Method::Aws, None, 1),
        (Method::Aws, None, 7),
        (Method::Imp, Some(0), 1),
        (Method::Imp, Some(2), 1),
    ];
    assert_eq!(chains.len(), expected.len());
    assert!(expected.iter().all(|chain| chains.contains(chain)), "{chains:?}");
    let transfers = sweep.chains[0].transfers.iter().map(|transfer| (transfer.inherit, transfer.flip));
    let expected = [(Inherit::Sign, 0.0), (Inherit::Sign, 0.1), (Inherit::Mask, 0.0)];
    assert_eq!(transfers.collect::<Vec<_>>(), expected);
}

#[test]
fn dense_networks_belong_to_no_level() {
    let sweep = expanded(
        "ticket: {method: lrr, levels: 3, seed: 1..2, lr: [0.1, 0.2]}
transfer: {inherit: [sign, dense], level: all, batch: 32, seed: 2..3}
connect: {between: [seeds, norm-init]}",
    );
    let chain = &sweep.chains[0];
    let dense: Vec<_> = chain.transfers.iter().filter(|transfer| transfer.inherit == Inherit::Dense).collect();
    assert!(dense.iter().all(|transfer| transfer.level == 0), "{dense:?}");
    assert_eq!((dense.len(), chain.transfers.len()), (2, 2 + 3 * 2));
    let connects: Vec<_> = chain.connects.iter().map(|connect| (connect.level, connect.inherit)).collect();
    let sign = Some(Inherit::Sign);
    let expected = [(1, sign), (0, Some(Inherit::Dense)), (2, sign), (3, sign), (1, None), (2, None), (3, None)];
    assert_eq!(connects, expected);

    // With only dense networks, `norm-init` uses the last ticket.
    let sweep = expanded("ticket: {method: lrr, levels: 3}\ntransfer: {inherit: dense}\nconnect: {between: norm-init}");
    assert_eq!(sweep.chains[0].connects.iter().map(|connect| connect.level).collect::<Vec<_>>(), [3]);
}

#[test]
fn random_masks_are_connected_if_they_are_equal() {
    let connects = |transfer: &str, connect: &str| {
        let file = format!("ticket: {{method: lrr}}\ntransfer: {{{transfer}}}\nconnect: {{between: seeds{connect}}}");
        let sweep = expanded(&file);
        let joined = sweep.chains[0].connects.iter().map(|connect| (connect.inherit.unwrap(), connect.masks));
        joined.collect::<Vec<_>>()
    };
    let (sign, random) = (Inherit::Sign, Inherit::RandomMask);
    let both = "inherit: [sign, random-mask], seed: 2..3";
    assert_eq!(connects(both, ""), [(sign, Masks::Same)]);
    assert_eq!(connects(both, ", masks: union"), [(sign, Masks::Union), (random, Masks::Union)]);
    let axis = connects(both, ", masks: [same, union]");
    assert_eq!(axis, [(sign, Masks::Same), (random, Masks::Union)], "signs have one mask: nothing to choose");
    // The mask follows from the seed of the initialization.
    let orders = "inherit: random-mask, seed_init: 2, seed_order: 3..4";
    assert_eq!(connects(orders, ""), [(random, Masks::Same)]);
}

#[test]
fn combinations_that_do_not_fit_can_be_left_out() {
    let file = "dataset: [cifar100, imagenet]\narchitecture: [resnet50, mlpmixer]\n";
    let error = parse("study.yaml", file).unwrap_err();
    assert_eq!(error.message, "`architecture: mlpmixer` is not defined for `dataset: cifar100`");
    assert_eq!((error.line, error.column), (Some(2), Some(26)));
    let rule = "exclude: [{dataset: cifar100, architecture: mlpmixer}]";
    assert!(error.to_string().ends_with(&format!("`{rule}` excludes the combination")), "{error}");
    let problems: Vec<_> =
        parse("study.yaml", &format!("{file}{rule}")).unwrap().chains.into_iter().map(|chain| chain.problem).collect();
    assert_eq!(problems.len(), 2 * 3);
    assert!(problems.iter().all(|problem| problem.architecture.fits(problem.dataset)));

    let error = parse("study.yaml", "dataset: imagenet\narchitecture: resnet8\n").unwrap_err();
    assert_eq!((error.line, error.column), (Some(2), Some(15)));
    assert!(error.to_string().contains("; help: use one of `resnet"), "{error}");
    for architecture in Architecture::VARIANTS {
        let listed = error.to_string().contains(&format!("`{architecture}`"));
        assert_eq!(listed, architecture.fits(Dataset::Imagenet), "{error}");
    }
}

#[test]
fn anchors_and_merge_keys_work() {
    let sweep = expanded(
        "ticket: {method: aws, lr: &lr 0.2}\ntransfer:\n  - &one {inherit: sign, lr: *lr, seed: 2}\n  - {<<: *one, inherit: mask}",
    );
    let transfers = sweep.chains[0].transfers.iter().map(|transfer| (transfer.inherit, transfer.training.lr));
    assert_eq!(transfers.collect::<Vec<_>>(), [(Inherit::Sign, 0.2), (Inherit::Mask, 0.2)]);
}

#[test]
fn names_with_a_special_meaning_in_yaml_are_texts() {
    for name in ["no", "on", "y", "007"] {
        assert_eq!(expanded(&format!("name: {name}")).name, name);
    }
}

#[test]
fn resources_are_read() {
    let resources = |text: &str| expanded(&format!("resources: {{{text}}}")).resources;
    let all = resources("jobs: 2, threads: 1, ranks: 8, gpus: 0.25, retries: 0");
    let expected = Resources { jobs: Some(2), threads: 1, ranks: 8, gpus: Some(0.25), retries: 0 };
    assert_eq!(all, expected);
    // Several whole GPUs, however they are written.
    assert_eq!((resources("gpus: 2").gpus, resources("gpus: 1.0").gpus), (Some(2.0), Some(1.0)));
}

// Errors of invalid files.

#[test]
fn bad_input_is_explained_at_its_place() {
    // Lines count from 3, after the data set and the architecture.
    #[rustfmt::skip]
    let cases: &[(&str, usize, usize, &str, &str)] = &[
        // YAML
        ("ticket: [", 3, 9, "cannot read this as YAML: unclosed bracket '['", "check the indentation, colons, brackets and quotes here and just before"),
        ("a: b: c", 3, 5, "cannot read this as YAML: mapping values are not allowed in this context", "check the indentation"),
        ("name: \"open", 3, 7, "cannot read this as YAML: unclosed quote", "check the indentation"),
        ("ticket: *tickets", 3, 9, "cannot read this as YAML: reference to unknown value", "check the indentation"),
        ("ticket: {lr: !rate 0.1}", 3, 20, "cannot read this as YAML: unsupported tag `!rate`", "check the indentation"),
        ("---\na: 1", 4, 1, "a second YAML document begins here", "a sweep file is one document: remove the `---`"),
        ("ticket: {lr: 1, lr: 2}", 3, 17, "`lr` is given twice", "keep one of the two; a list gives several values"),
        ("ticket: {lr: 1}\nticket: {lr: 2}", 4, 1, "`ticket` is given twice", "keep one of the two; a list gives several values"),
        // Keys
        ("ticket: {lvels: 3}", 3, 10, "there is no setting `lvels` in `ticket`", "did you mean `levels`?"),
        ("tickets: {levels: 3}", 3, 1, "there is no setting `tickets` at the top level", "did you mean `ticket`?"),
        ("lr: 0.1", 3, 1, "there is no setting `lr` at the top level", "move it: it belongs in `ticket` or in `transfer`"),
        ("ticket:\n  inherit: sign", 4, 3, "there is no setting `inherit` in `ticket`", "move it: it belongs in `transfer` or in `connect`"),
        ("transfer: {warmup_epoch: 3}", 3, 12, "there is no setting `warmup_epoch` in `transfer`", "did you mean `warmup_epochs`, in `ticket`?"),
        ("resources: {nodes: 1}", 3, 13, "there is no setting `nodes` in `resources`", "the settings are `jobs`, `threads`, `ranks`, `gpus`, `retries`"),
        ("resources: {gpu: 1}", 3, 13, "there is no setting `gpu` in `resources`", "did you mean `gpus`?"),
        // Types and bounds
        ("ticket: {lr: fast}", 3, 14, "`ticket.lr` must be a number above 0, found the text `fast`", "for example `lr: 0.1`"),
        ("ticket: {lr: }", 3, 12, "`ticket.lr` must be a number above 0, found nothing", "for example `lr: 0.1`"),
        ("ticket: {lr: {a: 1}}", 3, 14, "`ticket.lr` must be a number above 0, found a block of settings", "for example `lr: 0.1`"),
        ("ticket: {lr: 0}", 3, 14, "`ticket.lr` must be a number above 0, found `0`", "for example `lr: 0.1`"),
        ("ticket: {lr: [0.1, -0.1]}", 3, 20, "`ticket.lr` must be a number above 0, found `-0.1`", "for example `lr: 0.1`"),
        ("ticket: {lr: .inf}", 3, 14, "`ticket.lr` must be a number above 0, found `.inf`", "for example `lr: 0.1`"),
        ("ticket: {lr: \"\\e[31m\"}", 3, 14, "`ticket.lr` must be a number above 0, found the text `\\u{1b}[31m`", "for example"),
        ("ticket: {prune_ratio: .nan}", 3, 23, "`ticket.prune_ratio` must be a number above 0 and below 1, found `.nan`", "for example `prune_ratio: 0.2`"),
        ("ticket: {prune_ratio: 1}", 3, 23, "`ticket.prune_ratio` must be a number above 0 and below 1, found `1`", "for example `prune_ratio: 0.2`"),
        ("ticket: {momentum: 1.0}", 3, 20, "`ticket.momentum` must be a number from 0 to below 1, found `1.0`", "for example `momentum: 0.9`"),
        ("ticket: {weight_decay: -1e-4}", 3, 24, "`ticket.weight_decay` must be a number, 0 or above, found `-1e-4`", "for example `weight_decay: 5e-4`"),
        ("ticket: {epochs: 0}", 3, 18, "`ticket.epochs` must be a whole number from 1 to 1,000,000, found `0`", "for example `epochs: 4`"),
        ("ticket: {epochs: 4.0}", 3, 18, "`ticket.epochs` must be a whole number from 1 to 1,000,000, found `4.0`", "for example `epochs: 4`"),
        ("ticket: {epochs: 5000000000}", 3, 18, "`ticket.epochs` must be a whole number from 1 to 1,000,000, found `5000000000`", "for example `epochs: 4`"),
        ("ticket: {warmup_epochs: true}", 3, 25, "`ticket.warmup_epochs` must be a whole number from 1 to 1,000,000, found `true`", "for example"),
        ("ticket: {batch: -1}", 3, 17, "`ticket.batch` must be a whole number from 1 to 1,000,000, found `-1`", "for example `batch: 64`"),
        ("ticket: {levels: 1001}", 3, 18, "`ticket.levels` must be a whole number from 1 to 1,000, found `1001`", "for example `levels: 12`"),
        ("ticket: {seed: 18446744073709551616}", 3, 16, "`ticket.seed` must be a whole number from 0 to 2^64 - 1, found `18446744073709551616`", "for example `seed: 1`"),
        ("connect: {between: norm-init, points: 1}", 3, 39, "`connect.points` must be a whole number from 2 to 1,000,000, found `1`", "for example `points: 11`"),
        ("resources: {jobs: [1, 2]}", 3, 19, "`resources.jobs` must be a whole number from 1 to 4,096, found a list", "for example `jobs: 2`"),
        ("resources: {ranks: 0}", 3, 20, "`resources.ranks` must be a whole number from 1 to 4,096, found `0`", "for example `ranks: 8`"),
        ("resources: {gpus: 1.5}", 3, 19, "`resources.gpus` must be a number above 0 and up to 1, or a whole number up to 1,024, found `1.5`", "for example `gpus: 0.25`"),
        ("resources: {gpus: 0}", 3, 19, "`resources.gpus` must be a number above 0 and up to 1, or a whole number up to 1,024, found `0`", "for example `gpus: 0.25`"),
        ("resources: {gpus: 2000}", 3, 19, "`resources.gpus` must be a number above 0 and up to 1, or a whole number up to 1,024, found `2000`", "for example"),
        ("resources: 2", 3, 12, "`resources` must be a block of settings, found `2`", "for example `resources: {jobs: 2}`"),
        ("ticket: [lrr]", 3, 10, "`ticket` must be a block of settings or a list of blocks, found the text `lrr`", "name the setting, as in `ticket: {method: lrr}`; several values are a list: `{method: [lrr, …]}`"),
        ("ticket: [lr]", 3, 10, "`ticket` must be a block of settings or a list of blocks, found the text `lr`", "for example `ticket: {method: aws}`"),
        ("ticket: {seed: 1-3}", 3, 16, "`ticket.seed` must be a whole number from 0 to 2^64 - 1, found the text `1-3`", "write the range as `seed: 1..3`"),
        ("transfer: []", 3, 11, "`transfer` is an empty list", "give a block of settings, or remove `transfer`"),
        ("name: a/b", 3, 7, "`name` cannot be `a/b`: it is used in file names", "use letters, digits"),
        // Words
        ("ticket: {method: lr}", 3, 18, "`ticket.method` must be one of `lrr`, `aws`, `imp`, `snip`, `synflow`, found the text `lr`", "did you mean `lrr`?"),
        // Axes
        ("ticket: {lr: []}", 3, 14, "`ticket.lr` has no values", "give at least one value, or remove `lr` for its default"),
        ("ticket: {lr: [[0.1]]}", 3, 15, "`ticket.lr` must be a number above 0, found a list", "for example `lr: 0.1`"),
        ("ticket: {lr: [0.1, 0.2, 1e-1]}", 3, 25, "`ticket.lr` has the value `0.1` twice", "remove one of the two"),
        ("ticket: {epochs: [1..5, 3]}", 3, 25, "`ticket.epochs` has the value `3` twice", "remove one of the two"),
        ("ticket: {epochs: 1..x}", 3, 18, "`ticket.epochs` must be a whole number from 1 to 1,000,000, found the text `1..x`", "write two whole numbers, as in `2..4`; both are included"),
        ("ticket: {epochs: 1...3}", 3, 18, "`ticket.epochs` must be a whole number from 1 to 1,000,000, found the text `1...3`", "write two whole numbers"),
        ("ticket: {epochs: 0..3}", 3, 18, "`ticket.epochs` must be a whole number from 1 to 1,000,000, found `0`", "for example"),
        ("ticket: {lr: 0.1..0.3}", 3, 14, "`ticket.lr` must be a number above 0, found the text `0.1..0.3`", "list the values, as in `lr: [0.1]`; ranges are only for whole numbers"),
        ("ticket: {seed: 1, seed_init: 1, seed_order: 1, seed_alpha: 2}", 3, 16, "`ticket.seed` has no effect: every seed is given separately", "remove `seed`, or one of the others"),
        // Levels
        ("transfer: {level: 13}", 3, 19, "`transfer.level: 13` is beyond the last level of the chain, 12", "use `last` or `all`, or raise `levels` in `ticket`"),
        ("transfer: {level: [3, 11..14]}", 3, 23, "`transfer.level: 13` is beyond the last level of the chain, 12", "use `last`"),
        ("transfer: {level: [3, 0]}", 3, 23, "`transfer.level` cannot be 0: level 0 is the dense network, not a ticket", "use 1, the level after the first pruning, or higher"),
        ("transfer: {level: lst}", 3, 19, "`transfer.level` must be a level from 1 to 1,000, `last` or `all`, found the text `lst`", "did you mean `last`?"),
        ("transfer: {level: [12, last]}", 3, 24, "`transfer.level` has level 12 twice in a chain of 12 levels", "remove one of the two"),
        ("connect: {between: norm-init, level: 13}", 3, 38, "`connect.level: 13` is beyond the last level of the chain, 12", "use `last`"),
        // Connects
        ("connect: {between: seeds}", 3, 10, "there are no transfers for `between: seeds` to connect", "add a `transfer` block with at least two seeds, or connect `norm-init` instead"),
        ("connect: {points: 3}", 3, 10, "`between` is missing in `connect`", "add `between: seeds`; it must be one of `seeds`, `norm-init`, `retrain`"),
        ("transfer:\nconnect: {between: seeds, level: [12, 5]}", 4, 39, "no transfer has `level: 5`", "use a transferred value (12), or remove `level` to connect all"),
        ("transfer: {inherit: sign}\nconnect: {between: seeds, inherit: mask}", 4, 36, "no transfer has `inherit: mask`", "use a transferred value (sign), or remove `inherit` to connect all"),
        ("transfer: {inherit: [sign, mask]}\nconnect: {between: seeds, inherit: mask}\nexclude: [{inherit: mask}]", 4, 36, "no transfer has `inherit: mask`", "use a transferred value (sign)"),
        ("transfer:\nconnect: {between: [seeds, norm-init], inherit: sign}", 4, 49, "`between: norm-init` has no `inherit`", "it connects a ticket with itself: remove `inherit`, or put `seeds` into a separate block"),
        ("transfer: {seed: 2}\nconnect: {between: seeds}", 4, 10, "this block connects nothing: no two transfers differ only in seeds", "give the transfers at least two seeds, as in `seed: 2..4`"),
        // Settings without effect, or beyond what there is
        ("ticket: {method: [lrr, aws], rewind_epoch: 3}", 3, 44, "`ticket.rewind_epoch` has no effect: no chain of this block uses `imp`", "remove it, or add `imp` to `method`"),
        ("ticket: {method: [lrr, imp], warmup_epochs: 3, rewind_epoch: [2, 4]}", 3, 66, "`ticket.rewind_epoch: 4` is beyond the epochs of level 0, 3", "lower it, or raise `warmup_epochs`"),
        ("ticket: {method: imp, warmup_epochs: 6, rewind_epoch: [0, 3, 4], schedule: multi-step}", 3, 62, "`ticket.rewind_epoch: 4` is after the first change of the learning rate of level 0", "use at most 3, or 6 (the last epoch of level 0), or set `schedule: constant`"),
        ("ticket: {imported: 3f09c2aa41d07e553f09c2aa41d07e55, schedule: cosine}", 3, 64, "`ticket.schedule` has no effect on an imported ticket", "remove it, or put `imported` into a separate `ticket` block"),
        ("ticket: {method: imp, rewind_epoch: -1}", 3, 37, "`ticket.rewind_epoch` must be a whole number from 0 to 1,000,000, found `-1`", "for example `rewind_epoch: 0`"),
        ("transfer:\n  - {inherit: sign}\n  - {inherit: [mask, random-sign, dense], flip: 0.1}", 5, 49, "`transfer.flip` has no effect: this block inherits no signs", "remove it, or add `sign` or `sign+norm` to `inherit`"),
        ("transfer: {inherit: sign, flip: 1.5}", 3, 33, "`transfer.flip` must be a number from 0 to 1, found `1.5`", "for example `flip: 0.1`"),
        ("transfer: {inherit: sign}\nconnect: {between: seeds, masks: union}", 4, 34, "`connect.masks` has no effect: all networks that this block connects have the same mask", "remove it, or connect transfers of `random-mask`"),
        ("transfer: {inherit: random-mask}\nconnect: {between: seeds}", 4, 10, "no two transfers of `random-mask` have the same mask: a new one is drawn for each `seed_init`", "add `masks: union`"),
        ("transfer: {inherit: [sign, random-mask-erk]}\nconnect: {between: seeds, inherit: [sign, random-mask-erk]}", 4, 43, "no two transfers of `random-mask-erk` have the same mask: a new one is drawn for each `seed_init`", "add `masks: union`"),
        ("transfer: {inherit: random-mask}\nconnect: {between: norm-init, masks: union}", 4, 38, "`between: norm-init` has no `masks`", "it connects a ticket with itself: remove `masks`"),
        // Zip
        ("zip: method", 3, 6, "`zip` must be lists of settings, found the text `method`", "for example `zip: [[ticket.method, ticket.lr]]`"),
        ("zip: [method]", 3, 6, "a zip needs at least two axes", "for example"),
        ("zip: [method, 3]", 3, 15, "`zip` must name settings, found `3`", "for example"),
        ("zip: [method, ticket.rl]", 3, 15, "there is no setting `ticket.rl`", "did you mean `ticket.lr`?"),
        ("zip: [method, transfer.levels]", 3, 15, "there is no setting `transfer.levels`", "did you mean `ticket.levels`?"),
        ("zip: [method, lr]", 3, 15, "`lr` exists in several blocks", "use one of `ticket.lr`, `transfer.lr`"),
        ("zip: [method, jobs]", 3, 15, "`jobs` is not a setting that can be an axis", "use the name of a setting, as in `dataset`, `ticket.lr` or `transfer.seed`"),
        ("ticket: {lr: [1, 2]}\nzip: [ticket.lr, method]", 4, 18, "`ticket.method` is not given in this file", "list its values to zip it, even if they are the defaults"),
        ("ticket: {lr: [1, 2], method: [lrr]}\nzip: [ticket.lr, method]", 4, 18, "`ticket.method` is not an axis: it has one value", "give it a list or a range, or take it out of the zip"),
        ("ticket: {lr: [1, 2], method: [lrr, aws]}\nzip: [method, ticket.lr, ticket.method]", 4, 26, "`ticket.method` is zipped twice", "name each axis once; a zip can have more than two axes"),
        ("ticket: {lr: [1, 2, 3], method: [lrr, aws]}\nzip: [method, ticket.lr]", 4, 15, "zipped axes differ in length: `ticket.method` has 2 values, `ticket.lr` has 3", "give both the same number of values in every block"),
        ("ticket: {levels: [2, 3]}\ntransfer: {level: all}\nzip: [levels, level]", 5, 15, "`transfer.level: all` cannot be zipped", "list the levels, as in `1..12`, to zip them"),
        ("transfer: {lr: [1, 2]}\nconnect: {between: seeds, points: [5, 11]}\nzip: [transfer.lr, points]", 5, 20, "`connect.points` cannot be zipped with `transfer.lr`", "a connection has several transfers"),
        ("ticket: {lr: [1, 2]}\nconnect: {between: [seeds, norm-init]}\ntransfer:\nzip: [ticket.lr, between]", 6, 18, "`connect.between` cannot be zipped", "write one `connect` block for each value"),
        // Exclude
        ("exclude: method", 3, 10, "a rule of `exclude` must be a block of settings, found the text `method`", "for example `exclude: [{method: lrr, inherit: mask}]`"),
        ("exclude: []", 3, 10, "`exclude` is an empty list", "for example `exclude: [{method: lrr, inherit: mask}]`"),
        ("exclude: [{}]", 3, 11, "this rule is empty and would exclude everything", "for example"),
        ("exclude: [{methd: lrr}]", 3, 12, "there is no setting `methd`", "did you mean `method`?"),
        ("exclude: [{seed: 1}]", 3, 12, "`seed` exists in several blocks", "use one of `ticket.seed`, `transfer.seed`"),
        ("exclude: [{method: []}]", 3, 20, "`ticket.method` has no values", "give at least one value"),
        ("exclude: [{method: lrr, ticket.method: aws}]", 3, 25, "this rule names `ticket.method` twice", "name it once, with a list of values"),
        ("exclude:\n  - {method: lrr, ticket.lr: [0.1]}\n  - {ticket.lr: 0.1, method: [lrr]}", 5, 5, "this rule repeats the one in line 4", "remove one of the two"),
        ("exclude: [{method: lrr}, {method: aws}]", 3, 26, "this rule excludes all runs of a `ticket` block", "exclude less, or remove the `ticket` block"),
        ("transfer: {inherit: mask}\nexclude: [{inherit: mask}]", 4, 11, "this rule excludes all runs of a `transfer` block", "exclude less, or remove the `transfer` block"),
        ("transfer:\nconnect: {between: seeds}\nexclude: [{between: seeds}]", 5, 11, "this rule excludes all runs of a `connect` block", "exclude less, or remove the `connect` block"),
        ("ticket: {lr: [0.1, 0.2]}\nexclude: [{ticket.lr: [0.1, 0.3]}]", 4, 29, "no chain has `ticket.lr: 0.3`", "its values are 0.1, 0.2"),
        ("ticket: {seed: 1..50}\nexclude: [{ticket.seed: 40..60}]", 4, 25, "no chain has `ticket.seed: 51`", "its values are 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, …, 50"),
        ("transfer: {inherit: [mask, sign], lr: [1, 2]}\nzip: [inherit, transfer.lr]\nexclude: [{inherit: mask, transfer.lr: 2}]", 5, 11, "this rule matches nothing: no transfer has all these values", "remove it, or use fewer settings"),
        ("exclude: [{inherit: mask}]", 3, 11, "this rule applies to transfers, but the sweep has none", "remove it, or add a `transfer` block"),
        ("transfer:\nconnect: {between: seeds}\nexclude: [{between: seeds, transfer.lr: 0.1}]", 5, 28, "a rule for connections cannot use `transfer.lr`: a connection has several transfers", "use `level` or `inherit`"),
        // Numerics
        ("numerics: portable\nticket: {precision: bf16}", 4, 21, "`precision: bf16` is not available with `numerics: portable`", "use `precision: fp32`, or `numerics: native`"),
        ("numerics: portable\ntransfer: {precision: tf32}", 4, 23, "`precision: tf32` is not available with `numerics: portable`", "use `precision: fp32`"),
        ("numerics: portable\nresources: {gpus: 1}", 4, 19, "`gpus` has no effect: `numerics: portable` runs on CPUs only", "remove it, or use `numerics: native`"),
        // Size
        ("ticket: {seed: 1..100000000000}", 3, 16, "this sweep is too large: more than 1,000,000 runs for tickets alone", "shorten an axis or split the sweep; the longest axes are `ticket.seed` (100,000,000,000 values)"),
        ("transfer: {seed_order: 0..18446744073709551615, seed_init: 0..18446744073709551615}", 3, 24, "this sweep is too large: more than 1,000,000 runs for tickets and transfers", "`transfer.seed_init` (18,446,744,073,709,551,616 values)"),
        ("ticket: {seed: 1..18446744073709551615}", 3, 16, "this sweep is too large: more than 1,000,000 runs for tickets alone", "(18,446,744,073,709,551,615 values)"),
        ("ticket: {seed: 1..2000, levels: 1}\nconnect: {between: tickets}", 3, 16, "this sweep is too large: more than 1,000,000 runs for tickets, transfers and connects", "`ticket.seed` (2,000 values)"),
        ("transfer: {seed: 1..2000}\nconnect: {between: seeds}", 3, 18, "this sweep is too large: more than 1,000,000 runs for tickets, transfers and connects", "`transfer.seed` (2,000 values)"),
        ("connect: {between: norm-init, points: 2..1000000, batch: 1..1000000}", 3, 58, "this sweep is too large: more than 1,000,000 runs for tickets, transfers and connects", "the longest axes are `connect.batch` (1,000,000 values), `connect.points` (999,999 values)"),
    ];
    for (text, line, column, message, help) in cases {
        let start = processor_time();
        let error = failed(text);
        assert_eq!(
            (error.message.as_str(), error.line, error.column),
            (*message, Some(*line), Some(*column)),
            "{text}"
        );
        assert!(error.to_string().contains(help), "{text}\n{error}");
        let took = processor_time() - start;
        assert!(took < Duration::from_secs(5), "{text} took {took:?}");
    }
}

#[test]
fn values_are_quoted_as_they_are_written() {
    let found = |text: &str| failed(text).message.rsplit_once("found ").unwrap().1.to_string();
    assert_eq!(found("ticket: {levels: 1e1}"), "`1e1`");
    assert_eq!(found("ticket: {levels: &a 0x7D1, epochs: 1}\ntransfer: {epochs: *a}"), "`0x7D1`");
    assert_eq!(found("ticket: {lr: 1e999}"), "`1e999`");
    assert_eq!(found("ticket: {method: 1_0.50}"), "the text `1_0.50`");
    assert_eq!(expanded("name: 695e0514").name, "695e0514");
    assert_eq!(expanded("name: &a 0x10").name, "0x10");
    let digest = "12345678901234567890123456789e12";
    let imported = expanded(&format!("ticket: {{imported: {digest}}}")).chains[0].imported;
    assert_eq!(imported.unwrap().to_string(), digest);
}

#[test]
fn characters_that_look_like_others_are_shown() {
    let cases = [
        ("ticket:\n\u{a0}\u{a0}levels: 2", "`<U+00A0><U+00A0>levels`", "replace U+00A0 by a plain space"),
        ("ticket:\n  levels:\u{a0}2", "`levels:<U+00A0>2`", "replace U+00A0 by a plain space"),
        ("ticket:\n  levels: 2\u{a0}", "`2<U+00A0>`", "replace U+00A0 by a plain space"),
        ("ticket:\n  levels\u{200b}: 2", "`levels<U+200B>`", "remove U+200B, which cannot be seen"),
        ("ticket: {m\u{435}thod: lrr}", "`m<U+0435>thod`", "replace U+0435 by the plain character that it looks like"),
    ];
    for (text, shown, help) in cases {
        let error = failed(text);
        assert!(error.message.contains(shown), "{error}");
        assert_eq!(error.help.as_deref(), Some(help), "{error}");
    }
}

#[test]
fn byte_order_mark_is_skipped() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("\u{feff}{QUICKSTART}")).unwrap();
    assert_eq!(read(file.path()).unwrap().chains, parse("quickstart.yaml", QUICKSTART).unwrap().chains);
}

/// A block's own settings take precedence over merged ones, and those of the first merged block over later ones.
#[test]
fn values_given_twice_are_errors_or_in_a_defined_order() {
    let merged = "ticket:
- &a {method: lrr, levels: 1, epochs: 3}
- &b {method: lrr, levels: 2, epochs: 4}
- {<<: *a, levels: 5}
- {levels: 6, <<: [*b, *a]}";
    let chains = expanded(merged).chains;
    let found: Vec<_> = chains.iter().map(|chain| (chain.levels, chain.training.epochs)).collect();
    assert_eq!(found, [(1, 3), (2, 4), (5, 3), (6, 4)]);
    for twice in ["{levels: 1, levels: 2}", "{levels: 1, \"levels\": 2}", "{levels: 1, ? levels : 2}"] {
        assert_eq!(failed(&format!("ticket: {twice}")).message, "`levels` is given twice", "{twice}");
    }
    let twice = failed("ticket:\n  <<: {levels: 1}\n  <<: {levels: 2}");
    assert_eq!(twice.message, "`<<` is given twice");
    let number = failed("ticket: {<<: 3}");
    assert!(number.message.starts_with("`<<` needs a block of settings or a list of blocks, found `3`"), "{number}");
}

#[test]
fn files_other_than_sweeps_are_explained() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for (from, to) in "abcdefg".chars().zip("bcdefgh".chars()) {
        bomb += &format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 10].join(", "));
    }
    let architectures = listed(<Architecture as strum::VariantNames>::VARIANTS.iter().copied());
    let unknown_architecture = format!("`architecture` must be one of {architectures}, found the text `resnt8`");
    let cases = [
        ("", "this file is empty"),
        ("# nothing yet\n", "this file is empty"),
        ("- digits", "a sweep file is a block of settings (`key: value`), found a list"),
        ("digits", "a sweep file is a block of settings (`key: value`), found the text `digits`"),
        ("{}", "`dataset` is missing"),
        ("dataset: digits", "`architecture` is missing"),
        (
            "dataset: svhn",
            "`dataset` must be one of `digits`, `mnist`, `fashion-mnist`, `cifar10`, `cifar100`, `tiny-imagenet`, `imagenet`, found the text `svhn`",
        ),
        ("architecture: resnt8", &unknown_architecture),
        (&"[".repeat(5_000), "cannot read this as YAML: recursion limit exceeded"),
        (&bomb, "this file is nested too deeply, or too large after expanding aliases"),
        (&"#".repeat(MAX_BYTES + 1), "this file has more than 1,048,576 bytes"),
    ];
    for (text, message) in cases {
        let error = parse("study.yaml", text).unwrap_err();
        assert_eq!(error.message, message);
        assert!(error.help.is_some());
    }
}

#[test]
fn errors_show_the_place() {
    let error = digits("ticket:\n  method: [lrr, aws]\n  lr: fäst # not\n  levels: 12\ntransfer:\n").unwrap_err();
    let expected = "\
error: `ticket.lr` must be a number above 0, found the text `fäst`
 --> study.yaml:5:7
  |
3 | ticket:
4 |   method: [lrr, aws]
5 |   lr: fäst # not
  |       ^^^^
6 |   levels: 12
7 | transfer:
  |
  = help: for example `lr: 0.1`";
    assert_eq!(error.render(false), expected);
    assert!(error.render(true).contains("\u{1b}["));
    let line =
        "study.yaml:5:7: `ticket.lr` must be a number above 0, found the text `fäst`; help: for example `lr: 0.1`";
    assert_eq!(error.to_string(), line);
}

#[test]
fn errors_have_a_form_for_programs() {
    let json = serde_json::to_value(digits("ticket: {lvels: 3}").unwrap_err()).unwrap();
    let expected = serde_json::json!({
        "message": "there is no setting `lvels` in `ticket`",
        "file": "study.yaml",
        "line": 3,
        "column": 10,
        "help": "did you mean `levels`?",
        "exit_code": 2,
    });
    assert_eq!(json, expected);
}

#[test]
fn unreadable_files_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("quickstart.yaml"), QUICKSTART).unwrap();
    std::fs::write(path("binary.yaml"), [b'a', 0xff, 0xfe]).unwrap();
    let error = |path: &Path| read(path).unwrap_err();

    assert_eq!(read(&path("quickstart.yaml")).unwrap().name, "quickstart");
    let missing = error(&path("quikstart.yaml"));
    assert_eq!(missing.message, "the file does not exist");
    let [file, similar] = ["quikstart.yaml", "quickstart.yaml"].map(|name| path(name).display().to_string());
    let expected = format!("error: {file}: the file does not exist\n |\n = help: did you mean {similar}?");
    assert_eq!(missing.render(false), expected);
    let help = error(&path("else.yaml")).help.unwrap();
    assert_eq!(help, "give the path of a sweep file, such as sweeps/quickstart.yaml");
    assert_eq!(error(directory.path()).message, "this is a directory, not a file");
    assert_eq!(error(&path("binary.yaml")).message, "cannot read this file as text: byte 1 is not UTF-8");
    assert_eq!(error(&path("quickstart.yaml/x")).line, None);
}

/// Mutated files give a sweep, or an error at a line of the file.
#[test]
fn mutated_files_never_panic() {
    let pieces = [
        "[",
        "]",
        "{",
        "}",
        ":",
        "-",
        "..",
        "all",
        "0",
        "\n",
        "  ",
        "&a ",
        "*a",
        "é",
        "\u{1F600}",
        "'",
        "\"",
        "#",
        "!x ",
        "\t",
    ];
    let text: Vec<char> =
        QUICKSTART.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n").chars().collect();
    let mut state: u64 = 1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..1_000 {
        let (start, end) = (random(text.len()), random(8));
        let piece = pieces[random(pieces.len())];
        let rest = text.iter().skip(start + end);
        let mutated: String = text[..start].iter().copied().chain(piece.chars()).chain(rest.copied()).collect();
        if let Err(error) = parse("study.yaml", &mutated) {
            error.render(true);
            assert!(error.line.is_some_and(|line| line <= mutated.lines().count() + 1), "{mutated}\n{error:?}");
        }
    }
}

#[test]
fn large_sweeps_are_read_quickly() {
    let start = processor_time();
    let pairs = expanded("ticket: {method: aws}\ntransfer: {seed: 1..140, inherit: sign}\nconnect: {between: seeds}");
    assert_eq!((pairs.chains[0].transfers.len(), pairs.chains[0].connects.len()), (140, 1));
    let chains = expanded("ticket: {seed: 1..50, levels: 24}\ntransfer: {level: all, inherit: sign, seed: 2..4}");
    assert_eq!(chains.chains.iter().map(|chain| chain.transfers.len()).sum::<usize>(), 100 * 24 * 3);
    // The limit for a release build is 0.3 s; this one is not optimized.
    let took = processor_time() - start;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Eight times as much takes about 8 times as long, and 64 times if the effort is quadratic.
#[test]
fn effort_grows_in_proportion_to_the_file_and_its_runs() {
    const LONG_LIST: fn(usize) -> String = |size| format!("ticket: {{method: lrr, levels: 1, seed: [{}]}}", odd(size));
    const ZIPPED_LISTS: fn(usize) -> String = |size| {
        format!(
            "{}\ntransfer: {{inherit: sign, seed: [{}]}}\nzip: [ticket.seed, transfer.seed]",
            LONG_LIST(size),
            odd(size)
        )
    };
    const BLOCKS_BETWEEN_TICKETS: fn(usize) -> String = |size| {
        let block = |index| format!("\n- {{between: tickets, points: {}}}", index + 2);
        format!("ticket: {{method: lrr, levels: 1, seed: 1..2}}\nconnect:{}", (0..size).map(block).collect::<String>())
    };
    const AXIS_BETWEEN_TICKETS: fn(usize) -> String = |size| {
        format!("ticket: {{method: lrr, levels: 1, seed: 1..2}}\nconnect: {{between: tickets, points: 2..{size}}}")
    };
    const NONE_RETRAINED: fn(usize) -> String = |size| {
        format!(
            "ticket: {{method: lrr, levels: 1}}\ntransfer: [{{inherit: sign, seed: 1..{size}}}, {{inherit: retrain, seed: 0}}]
connect: {{between: retrain, points: 2..{size}}}"
        )
    };
    const RULES: fn(usize) -> String = |size| {
        let rule = |index| format!("\n- {{ticket.seed: {}}}", 4 * index + 1);
        let rules: String = (0..size).map(rule).collect();
        format!("ticket: {{method: lrr, levels: 1, seed: 1..{}}}\nexclude:{rules}", 4 * size)
    };
    const RULES_THAT_OVERLAP: fn(usize) -> String = |size| {
        let rule = |index| format!("\n- {{ticket.seed: {}..{}}}", index + 1, index + size);
        let rules: String = (0..size).map(rule).collect();
        format!("ticket: {{method: lrr, levels: 1, seed: 1..{}}}\nexclude:{rules}", 4 * size)
    };
    let cases = [
        (LONG_LIST, 64_000),
        (ZIPPED_LISTS, 12_000),
        (BLOCKS_BETWEEN_TICKETS, 8_000),
        (AXIS_BETWEEN_TICKETS, 16_000),
        (NONE_RETRAINED, 12_000),
        (RULES, 4_000),
        (RULES_THAT_OVERLAP, 4_000),
    ];
    for (file, size) in cases {
        let small = processor_time_to_read(&file(size / 8)).min(processor_time_to_read(&file(size / 8)));
        let large = processor_time_to_read(&file(size));
        assert!(large < 24 * small, "{large:?} after {small:?}: {:.200}", file(3));
    }
}

/// Returns a list of odd numbers, which no range stands for.
fn odd(count: usize) -> String {
    (0..count).map(|index| (2 * index + 1).to_string()).collect::<Vec<_>>().join(", ")
}

fn processor_time_to_read(text: &str) -> Duration {
    let start = processor_time();
    // An error at the end takes as long.
    let _ = digits(text);
    processor_time() - start
}

/// The processor time of this thread. Other load on the machine does not count.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("time goes forward")
}

// The declarations.

#[test]
fn documented_sweeps_are_sweeps() {
    let blocks: Vec<_> =
        DOCUMENTATION.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        parse("docs/reference/sweep-file.md", block).unwrap_or_else(|error| panic!("{}", error.render(false)));
    }
}

#[test]
fn recipes_are_complete_and_of_the_right_kind() {
    for dataset in Dataset::VARIANTS {
        for architecture in Architecture::VARIANTS {
            let problem = Problem::new(*dataset, *architecture);
            for key in KEYS.iter().filter(|key| key.default == Fallback::Recipe) {
                assert!(!recipe(problem, key).is_empty(), "no recipe for {} of {problem:?}", key.path);
            }
        }
    }
    // Each default is a value that a file may give.
    for key in KEYS.iter().filter(|key| key.is_axis()) {
        let from_recipes = RECIPES.iter().filter_map(|recipe| recipe.get(key));
        let constant = if let Fallback::Values(values) = key.default { Some(values) } else { None };
        for value in from_recipes.chain(constant).flatten() {
            let fits = match (key.kind, value) {
                (Kind::Word(words), Value::Word(word)) => words.contains(word),
                (Kind::Level, Value::Word(word)) => [keys::LAST, keys::ALL].contains(word),
                (kind, Value::Whole(number)) => kind.has_whole(*number),
                (kind, Value::Real(bits)) => kind.has_real(f64::from_bits(*bits)),
                _ => false,
            };
            assert!(fits, "{} = {value}", key.path);
        }
    }
}

#[test]
fn keys_have_paths_and_follow_their_defaults() {
    for (index, key) in KEYS.iter().enumerate() {
        let path = if key.block == Block::Top { key.name.to_string() } else { format!("{}.{}", key.block, key.name) };
        assert_eq!(key.path, path);
        if let Fallback::Same(other) = key.default {
            assert!(KEYS[..index].iter().any(|earlier| earlier.path == other), "{path} before {other}");
        }
    }
}
