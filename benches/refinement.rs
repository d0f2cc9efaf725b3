//! Compares the time and accuracy of `refine` with those of even grids, for barriers between networks on the digits. `refine`
//! adds points around the largest error.
//!
//!     cargo bench --bench refinement -- [--store STORE]
//!
//! The networks are the transfers of `sweeps/digits.yaml`. Each row of the results has all pairs of seeds. A STORE with these
//! networks saves the time to train them. Barriers are compared with that on an even grid of 33 points; 5 points and 3 rounds
//! have the same resolution around the maximum, if they find it. Errors are measured on test images, with one thread. Writes
//! `results/bench/refinement.json`.

#[allow(dead_code)]
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use winsign_core::attempt::Attempt;
use winsign_core::results::PathOutcome;
use winsign_core::settings::{Connect, Sets, Settings};
use winsign_core::{Run, RunId, Store};
use winsign_sweep::plan::PlannedRun;
use winsign_sweep::plan::build::build;
use winsign_trainer::comm::Ranks;
use winsign_trainer::model::{Network, Weights};
use winsign_trainer::session::{ExecOptions, Session};

use common::{Result, find_option, write};

const THREADS: u32 = 1;
/// The points and rounds of refinement of each grid. All are compared with the first.
const GRIDS: [(u32, u32); 3] = [(33, 0), (5, 3), (11, 0)];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sweep = repository.join("sweeps/digits.yaml");
    let scratch = tempfile::tempdir()?;
    let store = find_option(&arguments, "--store").map_or(scratch.path().join("store"), PathBuf::from);
    let mut run = Command::new(env!("CARGO_BIN_EXE_winsign"));
    if !run.arg("run").arg(&sweep).arg("--store").arg(&store).status()?.success() {
        return Err("winsign run failed".into());
    }
    winsign_trainer::memory::keep_freed();
    winsign_trainer::tch::set_num_threads(THREADS as i32);

    let plan = build(&winsign_sweep::read(&sweep)?);
    let store = Store::open(&store)?;
    let mut rows: BTreeMap<String, Vec<[Measurement; GRIDS.len()]>> = BTreeMap::new();
    for PlannedRun { run, label } in &plan.runs {
        // Paths of a ticket to itself are flat or have their maximum at an end.
        let (Settings::Connect(connect), [a, b], Some(inherit)) = (&run.settings, &run.inputs[..], label.inherit)
        else {
            continue;
        };
        let network = Network::new(connect.problem);
        let ends = [load(&store, a, &network)?, load(&store, b, &network)?];
        let name = format!("{}, {inherit}", label.method.map(|method| method.to_string()).unwrap_or_default());
        rows.entry(name).or_default().push(measure(connect, &network, &ends)?);
        eprintln!("{label}");
    }
    let rows: Vec<Value> = rows.iter().map(|(name, pairs)| summarize(name, pairs)).collect();
    for row in &rows {
        println!("{row:#}");
    }
    let what = "barriers of the digits' transfers, in percentage points, by even grids and by refinement; differences \
                are from the grid of 33 points";
    write("refinement", what, 1, &rows)
}

/// A barrier, and the effort to measure it.
struct Measurement {
    barrier: f64,
    evaluations: usize,
    seconds: f64,
}

fn load(store: &Store, id: &RunId, network: &Network) -> Result<Weights> {
    let directory = store.run(id);
    let result = directory.result()?.ok_or("a network's run has no result")?;
    let file = directory.read_network(&result.network.ok_or("a run has no network")?)?;
    Ok(Weights::from_file(&network.layout, &file)?)
}

/// Measures the barrier of a pair on every grid.
fn measure(connect: &Connect, network: &Network, [a, b]: &[Weights; 2]) -> Result<[Measurement; GRIDS.len()]> {
    let folder = tempfile::tempdir()?;
    let store = Store::create(folder.path())?;
    let mut measurements = vec![];
    for (points, refine) in GRIDS {
        let connect = Connect { points, refine, sets: Sets::Test, ..connect.clone() };
        let run = Run::new(Settings::Connect(connect.clone()), vec![]);
        let directory = store.run(&run.id);
        directory.prepare(&run, "a barrier")?;
        let attempt = Attempt::claim(&directory, 0)?;
        let options = ExecOptions { threads: THREADS, checkpoint_every: Duration::MAX, ..ExecOptions::default() };
        let mut session = Session::new(Ranks::alone(), Some(attempt), vec![], options);
        let data = session.load_data(connect.problem.dataset)?;
        let start = Instant::now();
        let PathOutcome { points, barrier, .. } =
            winsign_trainer::lmc::path(&mut session, network, &data, (a, b), &connect)?.path;
        measurements.push(Measurement { barrier, evaluations: points.len(), seconds: start.elapsed().as_secs_f64() });
    }
    measurements.try_into().map_err(|_| "a grid is missing".into())
}

/// Returns a row of the results: the mean barriers of its pairs, and their differences from those on the first grid.
fn summarize(name: &str, pairs: &[[Measurement; GRIDS.len()]]) -> Value {
    let mean = |of: &dyn Fn(&[Measurement; GRIDS.len()]) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    let grids = GRIDS.iter().enumerate().map(|(grid, (points, refine))| {
        let difference = |pair: &[Measurement; GRIDS.len()]| (pair[grid].barrier - pair[0].barrier).abs();
        json!({
            "points": points,
            "refine": refine,
            "evaluations": mean(&|pair| pair[grid].evaluations as f64),
            "barrier": mean(&|pair| pair[grid].barrier),
            "mean difference": mean(&difference),
            "largest difference": pairs.iter().map(difference).fold(0.0, f64::max),
            "seconds": mean(&|pair| pair[grid].seconds),
        })
    });
    json!({ "row": name, "pairs": pairs.len(), "grids": grids.collect::<Vec<Value>>() })
}
