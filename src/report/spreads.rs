//! The effect of each source of randomness on the error.

use winsign_core::grouping::{distinct, grouped};
use winsign_core::settings::Inherit;
use winsign_sweep::Axes;

use super::statistics::mean;
use super::{SeedError, Spread, TransferRow};

/// Returns whether an axis is a seed of the ticket.
pub(crate) fn is_ticket_seed(name: &str) -> bool {
    name.starts_with("ticket.seed")
}

pub(crate) fn without_ticket_seeds(axes: &Axes) -> Axes {
    axes.iter().filter(|(name, _)| !is_ticket_seed(name)).cloned().collect()
}

/// The seeds and the error of one transfer.
struct Drawn {
    /// The initialization and order of the ticket, and its α.
    ticket: Option<[u64; 2]>,
    alpha: Option<u64>,
    /// The seed of the initialization; `None` for a retrained ticket.
    init: Option<u64>,
    order: u64,
    error: f64,
}

/// Returns the spread by source of randomness within each row. A source has no spread if no two runs differ in it
/// alone.
pub(crate) fn by_source(rows: &[TransferRow]) -> Vec<Spread> {
    rows.iter().flat_map(spreads_of_row).collect()
}

fn spreads_of_row(row: &TransferRow) -> Vec<Spread> {
    let drawn: Vec<Drawn> = row.errors.iter().map(|seed| drawn(row, seed)).collect();
    let spread = |source: &str, groups: Vec<Vec<&Drawn>>| {
        let groups: Vec<Vec<f64>> = (groups.iter())
            .filter(|group| group.len() > 1)
            .map(|group| group.iter().map(|drawn| drawn.error).collect())
            .collect();
        Some(Spread {
            method: row.method,
            level: row.level,
            inherit: row.inherit,
            axes: row.axes.clone(),
            source: source.to_string(),
            groups: groups.len(),
            runs: groups.iter().map(Vec::len).sum(),
            std: pooled_std(&groups)?,
            problem: row.problem,
            run_ids: row.errors.iter().map(|seed| seed.run.clone()).collect(),
        })
    };
    // If tickets differ in α alone, their spread would repeat that of α.
    let has_tickets = distinct(drawn.iter().map(|drawn| drawn.ticket)).len() > 1;
    let ticket = grouped(&drawn, |drawn| (drawn.init, drawn.order));
    [
        spread("initialization", grouped(&drawn, |drawn| (drawn.ticket, drawn.alpha, drawn.order))),
        spread("data order", grouped(&drawn, |drawn| (drawn.ticket, drawn.alpha, drawn.init))),
        spread("α", grouped(&drawn, |drawn| (drawn.ticket, drawn.init, drawn.order))),
        has_tickets.then(|| spread("ticket", ticket)).flatten(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn drawn(row: &TransferRow, seed: &SeedError) -> Drawn {
    Drawn {
        ticket: seed.ticket.map(|ticket| [ticket.init, ticket.order]),
        alpha: seed.ticket.map(|ticket| ticket.alpha),
        init: (row.inherit != Inherit::Retrain).then_some(seed.seeds.init),
        order: seed.seeds.order,
        error: seed.error,
    }
}

/// Returns the standard deviation within groups, pooled by their degrees of freedom.
fn pooled_std(groups: &[Vec<f64>]) -> Option<f64> {
    let freedom: usize = groups.iter().map(|group| group.len() - 1).sum();
    let squares = |group: &Vec<f64>| {
        let mean = mean(group)?;
        Some(group.iter().map(|value| (value - mean).powi(2)).sum::<f64>())
    };
    let sum: f64 = groups.iter().map(squares).sum::<Option<f64>>()?;
    (freedom > 0).then(|| (sum / freedom as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::SeedError;
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::settings::Seeds;
    use winsign_testkit::study::Study;

    fn row(template: &TransferRow, axes: &[(&str, &str)], errors: &[(u64, u64, f64)]) -> TransferRow {
        let error = |&(init, order, error): &(u64, u64, f64)| SeedError {
            seeds: Seeds { init, order, alpha: init },
            error,
            ..template.errors[0].clone()
        };
        TransferRow {
            axes: axes.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            errors: errors.iter().map(error).collect(),
            ..template.clone()
        }
    }

    fn describe(rows: &[TransferRow]) -> Vec<(String, usize, usize, f64)> {
        by_source(rows).into_iter().map(|spread| (spread.source, spread.groups, spread.runs, spread.std)).collect()
    }

    fn template() -> TransferRow {
        Study::digits().report().transfers[0].clone()
    }

    /// Only retrained tickets have a spread: their seeds are the order of images alone.
    #[test]
    fn seeds_that_vary_together_have_no_spread() {
        let spreads = Study::digits().report().spreads;
        let sources: Vec<_> =
            spreads.iter().map(|spread| (spread.inherit, spread.source.as_str(), spread.runs)).collect();
        assert_eq!(sources, [(Inherit::Retrain, "data order", 3); 2]);
        assert_eq!(describe(&[row(&template(), &[], &[(1, 1, 5.0), (2, 2, 6.0)])]), []);
    }

    #[test]
    fn grid_of_seeds_has_a_spread_for_each_source() {
        // Initialization 1: 1, 3; 2: 5, 7. Order 1: 1, 5; 2: 3, 7. One more of a pair of its own.
        let errors = [(1, 1, 1.0), (1, 2, 3.0), (2, 1, 5.0), (2, 2, 7.0), (8, 9, 50.0)];
        let expected = [("initialization", 2, 4, 8.0_f64.sqrt()), ("data order", 2, 4, 2.0_f64.sqrt())];
        assert_eq!(
            describe(&[row(&template(), &[], &errors)]),
            expected.map(|(s, g, r, std)| (s.to_string(), g, r, std))
        );
    }

    #[test]
    fn groups_are_pooled_by_their_degrees_of_freedom() {
        // Squares 2 (of two numbers) and 8 (of three): 10 / 3.
        let errors = [(1, 1, 4.0), (2, 1, 6.0), (1, 2, 1.0), (2, 2, 3.0), (3, 2, 5.0)];
        let spreads = describe(&[row(&template(), &[], &errors)]);
        assert_eq!((spreads[0].1, spreads[0].2), (2, 5));
        assert!((spreads[0].3 - (10.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn tickets_and_alpha_have_spreads_of_their_own() {
        let of = |ticket: u64, alpha: u64, error: f64| {
            let mut row = row(&template(), &[], &[(1, 1, error)]);
            row.errors[0].ticket = Some(Seeds { init: ticket, order: 1, alpha });
            row.errors.remove(0)
        };
        let of_row = |errors: Vec<SeedError>| TransferRow { errors, ..template() };
        let rows = [of(1, 1, 1.0), of(1, 2, 2.0), of(2, 1, 11.0), of(2, 2, 12.0)];
        let spreads = describe(&[of_row(rows.to_vec())]);
        assert_eq!(spreads[0], ("α".to_string(), 2, 4, 0.5_f64.sqrt()));
        // All four differ in the ticket alone: mean 6.5, squares 30.25, 20.25, 20.25, 30.25.
        assert_eq!(spreads[1], ("ticket".to_string(), 1, 4, (101.0_f64 / 3.0).sqrt()));
        let alpha_alone = [1, 2].map(|alpha| of(1, alpha, 2.0)).to_vec();
        assert_eq!(describe(&[of_row(alpha_alone)]), [("α".to_string(), 1, 2, 0.0)]);
    }

    #[test]
    fn retrained_ticket_has_no_spread_of_initializations() {
        let template = TransferRow { inherit: Inherit::Retrain, ..template() };
        let rows = [row(&template, &[], &[(1, 1, 2.0), (2, 2, 4.0)])];
        assert_eq!(describe(&rows), [("data order".to_string(), 1, 2, 2.0_f64.sqrt())]);
    }

    #[test]
    fn rows_of_other_settings_do_not_mix() {
        let rows = ["0.1", "0.2"].map(|lr| row(&template(), &[("transfer.lr", lr)], &[(1, 1, 2.0), (1, 2, 4.0)]));
        let spreads = by_source(&rows);
        assert_eq!(spreads.len(), 2);
        assert_eq!((spreads[1].axes[0].1.as_str(), spreads[1].source.as_str()), ("0.2", "data order"));
    }
}
