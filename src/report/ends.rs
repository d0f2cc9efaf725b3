//! Names of the networks that are joined.

use std::collections::{HashMap, HashSet};

use winsign_core::RunId;
use winsign_core::grouping::{distinct, grouped};
use winsign_core::settings::{Method, Seeds};
use winsign_sweep::plan::{Label, PlannedRun};

use super::spreads::{is_ticket_seed, without_ticket_seeds};
use super::table::method_text;
use super::{End, RunRecord};

/// The labels of all runs of a plan, and the inputs of the runs.
pub(crate) struct Labels<'a>(HashMap<&'a RunId, (&'a Label, &'a [RunId])>);

impl<'a> Labels<'a> {
    pub(crate) fn new(records: &'a [RunRecord]) -> Labels<'a> {
        Labels(records.iter().map(|record| entry(record.planned)).collect())
    }

    fn label(&self, run: &RunId) -> Option<&'a Label> {
        self.0.get(run).map(|(label, _)| *label)
    }

    /// Returns the seeds of a transfer; `None` for a ticket.
    pub(crate) fn transfer_seeds(&self, run: &RunId) -> Option<Seeds> {
        let label = self.label(run).filter(|label| label.inherit.is_some())?;
        label.seeds.first().copied()
    }

    /// Returns the seeds of the ticket that a transfer or path starts from; `None` if there is none, or if it was
    /// imported.
    pub(crate) fn ticket_of(&self, run: &RunId) -> Option<Seeds> {
        self.label(self.ticket_run_of(run)?)?.seeds.first().copied()
    }

    /// Returns the ticket that a transfer or path starts from.
    pub(crate) fn ticket_run_of(&self, run: &RunId) -> Option<&'a RunId> {
        let (_, inputs) = self.0.get(run)?;
        let first = inputs.first()?;
        match self.label(first)?.inherit {
            None => Some(first),
            Some(_) => self.ticket_run_of(first),
        }
    }

    /// Returns the kinds of tickets: those of a kind differ in nothing but their seeds.
    pub(crate) fn kinds<'r>(&self, tickets: impl IntoIterator<Item = &'r RunId>) -> Kinds {
        let known = distinct(tickets).into_iter().filter_map(|run| Some((run, self.label(run)?)));
        let kinds = grouped(known, |(_, label)| (label.method, without_ticket_seeds(&label.axes)));
        let bare = |kind: &Vec<(&RunId, &Label)>| Label {
            axes: without_ticket_seeds(&kind[0].1.axes),
            seeds: vec![],
            ..kind[0].1.clone()
        };
        let labels: Vec<Label> = kinds.iter().map(bare).collect();
        let of_kind = |(at, kind): (usize, &Vec<(&RunId, &Label)>)| {
            kind.iter().map(|(run, _)| ((*run).clone(), at)).collect::<Vec<_>>()
        };
        Kinds {
            names: differing(&labels.iter().collect::<Vec<_>>()),
            methods: labels.iter().map(|label| label.method).collect(),
            places: kinds.iter().enumerate().flat_map(of_kind).collect(),
        }
    }

    /// Returns short names that distinguish these runs: their seeds if these suffice, otherwise all parts of their
    /// labels that differ.
    pub(crate) fn names<'r>(&self, runs: impl IntoIterator<Item = &'r RunId>) -> Names {
        let runs: Vec<&RunId> = distinct(runs);
        let known: Vec<(&RunId, &Label)> = runs.iter().filter_map(|run| Some((*run, self.label(run)?))).collect();
        let names = match known[..] {
            [(_, alone)] => vec![alone.to_string()],
            _ => differing(&known.iter().map(|(_, label)| *label).collect::<Vec<_>>()),
        };
        let mut names: HashMap<RunId, String> = known.iter().map(|(run, _)| (*run).clone()).zip(names).collect();
        // Runs with equal labels, or without a label, are named by their identities.
        let mut seen = HashSet::new();
        let twice: HashSet<String> = names.values().filter(|name| !seen.insert(*name)).cloned().collect();
        for run in runs {
            let short = &run.as_str()[..8];
            match names.get_mut(run) {
                Some(name) if name.is_empty() => *name = short.to_string(),
                Some(name) if twice.contains(name) => *name = format!("{name}, {short}"),
                Some(_) => {}
                None => drop(names.insert(run.clone(), short.to_string())),
            }
        }
        Names(names)
    }
}

fn entry(planned: &PlannedRun) -> (&RunId, (&Label, &[RunId])) {
    (&planned.run.id, (&planned.label, &planned.run.inputs))
}

/// The names of networks within one row.
pub(crate) struct Names(HashMap<RunId, String>);

impl Names {
    pub(crate) fn end(&self, run: &RunId) -> End {
        End { run: run.clone(), label: self.0.get(run).cloned().unwrap_or_default() }
    }
}

/// The kinds of tickets that are joined with each other.
pub(crate) struct Kinds {
    /// The methods and settings in which they differ.
    pub names: Vec<String>,
    pub methods: Vec<Option<Method>>,
    places: HashMap<RunId, usize>,
}

impl Kinds {
    /// Returns the kinds of two tickets, whichever comes first.
    pub(crate) fn pair(&self, a: Option<&RunId>, b: Option<&RunId>) -> (usize, usize) {
        let place = |run: Option<&RunId>| run.and_then(|run| self.places.get(run)).copied().unwrap_or(0);
        (place(a).min(place(b)), place(a).max(place(b)))
    }
}

/// Returns the parts of each label in which they differ.
fn differing(labels: &[&Label]) -> Vec<String> {
    let seeds = seed_texts(&labels.iter().map(|label| label.seeds.first().copied()).collect::<Vec<_>>());
    let alike = distinct(labels.iter().map(|label| (label.method, label.inherit))).len() == 1;
    if alike && distinct(&seeds).len() == labels.len() {
        return seeds;
    }
    let mut features: Vec<Vec<String>> = vec![
        labels.iter().map(|label| method_text(label.method)).collect(),
        labels.iter().map(|label| format!("level {}", label.level)).collect(),
        labels.iter().map(|label| label.inherit.map_or(String::new(), |inherit| inherit.to_string())).collect(),
        seeds,
    ];
    // The seeds of tickets are among the features already.
    let counts = |label: &Label, name: &str| label.inherit.is_some() || !is_ticket_seed(name);
    let names = labels.iter().flat_map(|label| label.axes.iter().filter(|(name, _)| counts(label, name)));
    for name in distinct(names.map(|(name, _)| name)) {
        let value = |label: &&Label| {
            let found = label.axes.iter().find(|(other, _)| other == name);
            found.map_or(String::new(), |(name, value)| format!("{name} {value}"))
        };
        features.push(labels.iter().map(value).collect());
    }
    features.retain(|texts| distinct(texts).len() > 1);
    let parts = |at: usize| features.iter().map(move |texts| texts[at].as_str()).filter(|text| !text.is_empty());
    (0..labels.len()).map(|at| parts(at).collect::<Vec<_>>().join(", ")).collect()
}

/// A source of randomness: its name and its seed.
type Source = (&'static str, fn(&Seeds) -> u64);

/// Returns one number for each run if its three seeds are equal; otherwise the seeds by name, without those that all
/// runs share.
fn seed_texts(seeds: &[Option<Seeds>]) -> Vec<String> {
    let given = || seeds.iter().flatten();
    if given().all(|seeds| *seeds == Seeds::from(seeds.init)) {
        return seeds.iter().map(|seeds| seeds.map_or(String::new(), |seeds| format!("seed {}", seeds.init))).collect();
    }
    // The α of a transfer has no effect and repeats the initialization.
    let alpha_repeats = given().all(|seeds| seeds.alpha == seeds.init);
    let sources: [Source; 3] =
        [("init", |seeds| seeds.init), ("order", |seeds| seeds.order), ("alpha", |seeds| seeds.alpha)];
    let tells = |(name, of): &Source| distinct(given().map(of)).len() > 1 && !(*name == "alpha" && alpha_repeats);
    let sources: Vec<_> = sources.into_iter().filter(tells).collect();
    let text = |seeds: &Seeds| sources.iter().map(|(name, of)| format!("{name} {}", of(seeds))).collect::<Vec<_>>();
    seeds.iter().map(|seeds| seeds.as_ref().map_or(String::new(), |seeds| text(seeds).join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::settings::{Inherit, Kind, Method};
    use winsign_sweep::Axes;
    use winsign_testkit::study::Study;

    fn names(study: &Study, is: impl Fn(&Label, Kind) -> bool) -> Vec<String> {
        let records = study.records();
        let labels = Labels::new(&records);
        let runs = || {
            let of_it = records.iter().filter(|record| is(&record.planned.label, record.planned.run.kind()));
            of_it.map(|record| &record.planned.run.id)
        };
        let names = labels.names(runs());
        runs().map(|run| names.end(run).label).collect()
    }

    fn is_lrr_sign(label: &Label, kind: Kind) -> bool {
        kind == Kind::Transfer && label.method == Some(Method::Lrr) && label.inherit == Some(Inherit::Sign)
    }

    #[test]
    fn tickets_of_one_method_and_setting_are_of_one_kind_whatever_their_seeds() {
        let axes = |name: &str, value: &str| vec![(name.to_string(), value.to_string())];
        let kinds = |combinations: &[Axes], is: fn(&Label) -> bool| {
            let study = Study::new(&[12], &[2], combinations);
            let records = study.records();
            let level_12 = records.iter().filter(|record| {
                let label = &record.planned.label;
                label.level == 12 && record.planned.run.kind() == Kind::Ticket && is(label)
            });
            Labels::new(&records).kinds(level_12.map(|record| &record.planned.run.id)).names
        };
        let any = |_: &Label| true;
        let lrr = |label: &Label| label.method == Some(Method::Lrr);
        let seeds = [axes("ticket.seed", "1"), axes("ticket.seed", "2")];
        let rates = [axes("ticket.lr", "0.1"), axes("ticket.lr", "0.2")];
        assert_eq!((kinds(&seeds, lrr).len(), kinds(&seeds, any)), (1, vec!["LRR".to_string(), "AWS".to_string()]));
        assert_eq!(kinds(&rates, lrr), ["ticket.lr 0.1", "ticket.lr 0.2"]);
    }

    #[test]
    fn networks_are_named_by_seeds_that_distinguish_them() {
        let mut study = Study::digits();
        assert_eq!(names(&study, is_lrr_sign), ["seed 2", "seed 3", "seed 4"]);
        for (planned, ..) in &mut study.runs {
            if is_lrr_sign(&planned.label, planned.run.kind()) {
                planned.label.seeds[0].init = 7;
                planned.label.seeds[0].alpha = 7;
            }
        }
        assert_eq!(names(&study, is_lrr_sign), ["order 2", "order 3", "order 4"]);
    }

    #[test]
    fn networks_with_equal_seeds_are_named_by_all_differences() {
        let study = Study::digits();
        let level_12 = |label: &Label, kind| kind == Kind::Ticket && label.level == 12;
        assert_eq!(names(&study, level_12), ["LRR", "AWS"]);
        let last = |label: &Label, kind| kind == Kind::Ticket && label.level > 10;
        assert_eq!(names(&study, last), ["LRR, level 11", "LRR, level 12", "AWS, level 11", "AWS, level 12"]);
        let retrained = |label: &Label, kind| {
            let inherits = [Some(Inherit::Sign), Some(Inherit::Retrain)].contains(&label.inherit);
            kind == Kind::Transfer && label.method == Some(Method::Lrr) && inherits
        };
        assert_eq!(names(&study, retrained)[2..4], ["sign, seed 4", "retrain, seed 2"]);
    }

    #[test]
    fn networks_with_equal_labels_are_named_by_axes_or_identities() {
        let axes = |lr: &str| vec![("ticket.lr".to_string(), lr.to_string())];
        let mut study = Study::new(&[12], &[2, 3], &[axes("0.1"), axes("0.05")]);
        let is = |label: &Label, kind| kind == Kind::Ticket && label.level == 12 && label.method == Some(Method::Aws);
        assert_eq!(names(&study, is), ["ticket.lr 0.1", "ticket.lr 0.05"]);
        for (planned, ..) in &mut study.runs {
            planned.label.axes.clear();
        }
        let ids: Vec<String> = (study.runs.iter())
            .filter(|(planned, ..)| is(&planned.label, planned.run.kind()))
            .map(|(planned, ..)| planned.run.id.as_str()[..8].to_string())
            .collect();
        assert_eq!(names(&study, is), ids);
    }

    #[test]
    fn one_network_has_its_whole_label_and_an_unknown_one_its_identity() {
        let study = Study::digits();
        let is = |label: &Label, kind| kind == Kind::Ticket && label.level == 3 && label.method == Some(Method::Aws);
        assert_eq!(names(&study, is), ["aws level 3, seed 1"]);
        let unknown: RunId = "0123456789abcdef".parse().unwrap();
        let records = study.records();
        assert_eq!(Labels::new(&records).names([&unknown]).end(&unknown).label, "01234567");
    }
}
