//! Reports made up for tests of single figures, with planted shapes.

use std::sync::Arc;

use resvg::usvg::roxmltree::{Document, Node};
use resvg::usvg::{self, Tree};
use winsign_core::RunId;
use winsign_core::results::{PlaneOutcome, PlanePoint, Similarity};
use winsign_core::settings::{Architecture, Between, Dataset, Inherit, Method, Problem, Seeds};
use winsign_testkit::study::Study;

use super::svg::{OPTIONS, Rect};
use crate::made_up::Reported as _;
use crate::{ConnectionRow, Curve, End, LayerRatio, PairPath, PathError, PathMean, PlaneRow, Report, RunRecord};

const PROBLEM: Problem = Problem::new(Dataset::Digits, Architecture::ResNet8);

/// A value that is shown on hover.
#[derive(Debug)]
pub(super) struct Tooltip {
    pub text: String,
    /// The middle of the target.
    pub at: (f64, f64),
    pub runs: Vec<String>,
}

/// Returns all values of a picture, as a reader of SVG finds them.
pub(super) fn tooltips(svg: &str) -> Vec<Tooltip> {
    let document = Document::parse(svg).expect("XML");
    let group = document.descendants().find(|node| node.attribute("class") == Some("values")).expect("values");
    let target = |node: Node| {
        let number = |name: &str| node.attribute(name).map_or(0.0, |text| text.parse::<f64>().expect("a number"));
        let middle = |centre: &str, corner: &str, length: &str| match node.tag_name().name() {
            "circle" => number(centre),
            _ => number(corner) + number(length) / 2.0,
        };
        Tooltip {
            text: node.first_element_child().expect("a title").text().expect("text").to_string(),
            at: (middle("cx", "x", "width"), middle("cy", "y", "height")),
            runs: node.attribute("data-runs").into_iter().flat_map(str::split_whitespace).map(str::to_string).collect(),
        }
    };
    group.children().filter(Node::is_element).map(target).collect()
}

/// Returns every line of text, and where it is in the picture.
pub(super) fn lines(svg: &str) -> Vec<(String, Rect)> {
    let tree = Tree::from_str(svg, &OPTIONS).expect("a picture");
    let line = |node: &usvg::Node| {
        let usvg::Node::Text(text) = node else { return None };
        let place = node.abs_bounding_box();
        let [left, top, right, bottom] = [place.left(), place.top(), place.right(), place.bottom()].map(f64::from);
        let text = text.chunks().iter().map(|chunk| chunk.text()).collect();
        Some((text, Rect { left, top, right, bottom }))
    };
    tree.root().children().iter().filter_map(line).collect()
}

/// Returns the texts of a picture that are cut at its border or lie on each other.
pub(super) fn faults(svg: &str) -> Vec<String> {
    let (picture, lines) = (Rect::between((0.0, 0.0), size(svg)), lines(svg));
    let cut = lines.iter().filter(|(_, place)| !place.is_within(picture)).map(|line| format!("{line:?} is cut"));
    let pairs = lines.iter().enumerate().flat_map(|(at, line)| lines[..at].iter().map(move |other| (line, other)));
    let met = pairs.filter(|(line, other)| line.1.meets(other.1));
    cut.chain(met.map(|(line, other)| format!("{line:?} is on {other:?}"))).collect()
}

/// Returns the width and the height of a picture.
pub(super) fn size(svg: &str) -> (f64, f64) {
    let document = Document::parse(svg).expect("XML");
    let length = |name: &str| document.root_element().attribute(name).and_then(|text| text.parse().ok());
    (length("width").expect("a number"), length("height").expect("a number"))
}

/// Returns the texts that are drawn, in their order.
pub(super) fn texts(svg: &str) -> Vec<String> {
    let document = Document::parse(svg).expect("XML");
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts.map(|node| node.text().unwrap_or_default().to_string()).collect()
}

/// Returns the identity of a run with this number.
pub(super) fn run(number: usize) -> RunId {
    format!("{number:016x}").parse().expect("16 digits")
}

/// Returns a report with every level from dense to sparse, for three tickets.
pub(super) fn levels() -> Report {
    let axes = |seed: &str| vec![("ticket.seed".to_string(), seed.to_string())];
    let mut study = Study::new(&(0..=12).collect::<Vec<_>>(), &[2, 3], &["1", "2", "3"].map(axes));
    study.add_dense(&[2, 3, 4]);
    study.report()
}

fn empty() -> Report {
    let mut study = Study::digits();
    study.runs.clear();
    study.report()
}

/// Returns the records of a study, with curves that halve the error every epoch, down to 2 % of AWS and 4 % of others;
/// the seed adds a tenth of it.
pub(super) fn with_curves<'a>(study: &'a Study, epochs: u32) -> Vec<RunRecord<'a>> {
    let mut records = study.records();
    for record in &mut records {
        let label = &record.planned.label;
        if label.between.is_some() {
            continue;
        }
        let floor = if label.method == Some(Method::Aws) { 2.0 } else { 4.0 };
        let seed = label.seeds[0].init as f32;
        let test = |epoch: u32| floor + 80.0 * 0.5_f32.powi(epoch as i32) + 0.1 * seed;
        let epochs: Vec<u32> = (1..=epochs).collect();
        record.curve = Some(Arc::new(Curve {
            train_loss: epochs.iter().map(|epoch| test(*epoch) / 60.0).collect(),
            train_error: epochs.iter().map(|epoch| test(*epoch) / 2.0).collect(),
            test_loss: epochs.iter().map(|epoch| test(*epoch) / 30.0).collect(),
            test_error: epochs.iter().map(|epoch| test(*epoch)).collect(),
            epoch: epochs,
        }));
    }
    records
}

/// Returns a report with networks in two basins, those of even and those of odd numbers: barriers of about 1 within a
/// basin, of about 50 between.
pub(super) fn two_basins(networks: usize) -> Report {
    let barrier = |a: usize, b: usize| {
        let wave = ((a * 7 + b * 13) % 10) as f64 / 10.0;
        if a % 2 == b % 2 { 1.0 + wave } else { 50.0 + 10.0 * wave }
    };
    Report { connections: vec![pairs(networks, |a, b| (barrier(a, b), None), Inherit::Sign)], ..empty() }
}

fn pairs(
    networks: usize,
    measure: impl Fn(usize, usize) -> (f64, Option<Similarity>),
    inherit: Inherit,
) -> ConnectionRow {
    let end = |number: usize| End { run: run(number), label: format!("seed {number}") };
    let path = [(0.0, 5.0), (0.5, 20.0), (1.0, 6.0)]
        .map(|(t, error_mean)| PathMean { t, error_mean, train_error_mean: None, loss_mean: None })
        .to_vec();
    let paths: Vec<PairPath> = (0..networks)
        .flat_map(|b| (0..b).map(move |a| (a, b)))
        .map(|(a, b)| {
            let (barrier, similarity) = measure(a, b);
            let seeds = [a, b].map(|number| Seeds::from(number as u64)).to_vec();
            PairPath {
                seeds,
                barrier,
                path: path
                    .iter()
                    .map(|mean| PathError { t: mean.t, error: mean.error_mean, loss: 0.1, train: None })
                    .collect(),
                run: run(1000),
                ends: vec![end(a), end(b)],
                similarity,
                train_barrier: None,
                loss_barrier: None,
                ticket: Some(Seeds::from(1)),
            }
        })
        .collect();
    ConnectionRow {
        protocol: None,
        method: Some(Method::Lrr),
        level: 12,
        remaining_ratio: Some(0.0687),
        inherit: Some(inherit),
        between: Between::Seeds,
        pairs: paths.len(),
        pairs_planned: paths.len(),
        barrier_mean: Some(25.0),
        barrier_max: Some(60.0),
        path,
        paths,
        axes: vec![],
        summary: None,
        train_summary: None,
        loss_summary: None,
        norm_change: None,
        problem: PROBLEM,
        tickets: 1,
        tickets_planned: 1,
        best: false,
        parts: vec![],
    }
}

/// Returns a report with tickets of one level whose signs agree in two groups, as in [`two_basins`]: by 0.9 within, 0.5
/// between.
pub(super) fn tickets(count: usize) -> Report {
    let measure = |a: usize, b: usize| {
        let sign_agreement = if a % 2 == b % 2 { 0.9 } else { 0.5 };
        (1.0, Some(Similarity { sign_agreement, mask_overlap: sign_agreement / 2.0 }))
    };
    let row = pairs(count, measure, Inherit::Sign);
    Report {
        connections: vec![ConnectionRow { method: None, inherit: None, between: Between::Tickets, ..row }],
        ..empty()
    }
}

/// Returns a report with tickets joined to those of the previous level: the sparser they are, the less their signs
/// agree.
pub(super) fn neighbours() -> Report {
    let row = |method: Method, level: u32| {
        let mut row = pairs(
            2,
            |_, _| {
                let lost = f64::from(level) * if method == Method::Lrr { 0.01 } else { 0.02 };
                (0.5, Some(Similarity { sign_agreement: 1.0 - lost, mask_overlap: 0.8 }))
            },
            Inherit::Sign,
        );
        row.paths[0].ends[0].label = format!("level {level}");
        ConnectionRow {
            method: Some(method),
            level,
            remaining_ratio: Some(0.8_f64.powi(level as i32)),
            inherit: None,
            between: Between::Levels,
            ..row
        }
    };
    let connections =
        [Method::Lrr, Method::Aws].into_iter().flat_map(|method| (1..=12).map(move |level| row(method, level)));
    Report { connections: connections.collect(), ..empty() }
}

/// Returns a report with a plane whose errors grow with the squared distance from (1, 1), from 2 % there.
pub(super) fn bowl() -> Report {
    let x: Vec<f64> = (0..25).map(|step| -1.0 + f64::from(step) / 6.0).collect();
    let y = x.clone();
    let point = |x: f64, y: f64| {
        let error = 2.0 + 5.0 * ((x - 1.0).powi(2) + (y - 1.0).powi(2));
        PlanePoint { test_error: error, test_loss: error / 30.0, train: None }
    };
    let points = y.iter().flat_map(|&y| x.iter().map(move |&x| point(x, y))).collect();
    let plane = PlaneOutcome { remaining_ratio: 0.0687, networks: [(0.0, 0.0), (2.0, 0.0), (1.0, 1.7)], x, y, points };
    let ends = (2..=4).map(|seed| End { run: run(seed), label: format!("seed {seed}") }).collect();
    let row = PlaneRow {
        method: Some(Method::Aws),
        level: 12,
        remaining_ratio: Some(0.0687),
        inherit: Some(Inherit::Sign),
        axes: vec![],
        run: run(9),
        ends,
        plane: Some(plane),
        problem: PROBLEM,
    };
    Report { planes: vec![row], ..empty() }
}

/// Returns a report of tickets whose later layers are pruned more.
pub(super) fn layered(layers: usize) -> Report {
    let mut report = Study::digits().report();
    for row in &mut report.tickets {
        let level = row.level as i32;
        row.layers = (0..layers)
            .map(|layer| LayerRatio {
                name: format!("layer{}.{}.conv{}.weight", 1 + layer / 4, layer / 2 % 2, 1 + layer % 2),
                remaining_ratio: (1.0 - 0.3 * (layer + 1) as f64 / layers as f64).powi(level),
            })
            .collect();
    }
    report
}
