//! Groups the runs of a plan into job arrays, with their dependencies and the number of tasks that run at the same time.

use std::collections::{BTreeSet, HashMap};

use winsign_core::RunId;
use winsign_core::settings::{Kind, Problem};
use winsign_sweep::plan::Plan;

/// The limits on arrays and tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Runs per task.
    pub pack: u32,
    /// The maximum number of tasks of an array.
    pub array: u32,
    /// The maximum number of tasks that run at the same time, over all arrays.
    pub max_running: Option<u32>,
}

/// A job array to submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    pub kind: Kind,
    /// The runs of each task, by their index in the plan.
    pub tasks: Vec<Vec<usize>>,
    /// The indices of the arrays that must end first, all smaller than that of this one.
    pub after: BTreeSet<usize>,
    /// The maximum number of tasks of this array that run at the same time.
    pub at_once: Option<u32>,
}

/// Groups the wanted runs of a plan into arrays, each after its dependencies.
///
/// An array holds runs of one kind and problem with the same depth in the graph, so that dependents of level t wait only for
/// the array of level t, and the number of arrays does not grow with the number of runs.
pub fn arrange(plan: &Plan, wanted: &[bool], shape: Shape) -> Vec<Array> {
    let index: HashMap<&RunId, usize> =
        plan.runs.iter().enumerate().map(|(at, planned)| (&planned.run.id, at)).collect();
    let needed = |at: usize| plan.runs[at].run.inputs.iter().map(|input| index[input]).filter(|&input| wanted[input]);

    // Runs come after their inputs.
    let mut depths = vec![0; plan.runs.len()];
    let mut groups: Vec<((u32, Kind, usize), Vec<usize>)> = vec![];
    let mut known: HashMap<(u32, Kind, Problem), usize> = HashMap::new();
    for at in (0..plan.runs.len()).filter(|&at| wanted[at]) {
        depths[at] = needed(at).map(|input| depths[input] + 1).max().unwrap_or(0);
        let run = &plan.runs[at].run;
        let key = (depths[at], run.kind(), run.settings.problem());
        let group = *known.entry(key).or_insert_with(|| {
            groups.push(((key.0, key.1, groups.len()), vec![]));
            groups.len() - 1
        });
        groups[group].1.push(at);
    }
    // Tickets first, since everything else waits for them.
    groups.sort_by_key(|(key, _)| *key);

    let mut arrays: Vec<Array> = vec![];
    let mut array_of: HashMap<usize, usize> = HashMap::new();
    for ((_, kind, _), runs) in groups {
        let tasks: Vec<Vec<usize>> = runs.chunks(shape.pack.max(1) as usize).map(<[usize]>::to_vec).collect();
        for tasks in tasks.chunks(shape.array.max(1) as usize) {
            let runs = tasks.iter().flatten();
            let after = runs.clone().flat_map(|&at| needed(at)).map(|input| array_of[&input]).collect();
            array_of.extend(runs.map(|&at| (at, arrays.len())));
            arrays.push(Array { kind, tasks: tasks.to_vec(), after, at_once: None });
        }
    }
    if let Some(most) = shape.max_running {
        limit(&mut arrays, most.max(1));
    }
    arrays
}

/// Limits the number of tasks that run at the same time, over all arrays, to `most`.
///
/// Slurm can limit only single arrays. Therefore arrays form two lanes, tickets and the rest, in which each array waits for the
/// previous one; the lanes share the limit. After the last tickets, the other lane has the whole limit.
fn limit(arrays: &mut [Array], most: u32) {
    let lane = |array: &Array| most > 1 && array.kind != Kind::Ticket;
    let widest = |wanted: bool| {
        let tasks = arrays.iter().filter(|array| lane(array) == wanted).map(|array| array.tasks.len() as u32);
        tasks.max().unwrap_or(0)
    };
    let tickets = match (widest(false), widest(true)) {
        (_, 0) => most,
        (0, _) => 0,
        (widest, _) => widest.min((most / 2).max(1)),
    };
    let last_ticket = arrays.iter().rposition(|array| !lane(array));
    let mut before = [None, None];
    // Whether the rest of the other lane runs after all tickets.
    let mut alone = false;
    for (at, array) in arrays.iter_mut().enumerate() {
        let lane = usize::from(lane(array));
        alone |= lane == 1 && last_ticket.is_some_and(|last| array.after.contains(&last));
        array.after.extend(before[lane]);
        before[lane] = Some(at);
        array.at_once = Some(match (lane, alone) {
            (0, _) => tickets,
            (_, true) => most,
            (_, false) => most - tickets,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use winsign_sweep::parse;
    use winsign_sweep::plan::build::build;

    const SHAPE: Shape = Shape { pack: 1, array: 1_000, max_running: None };

    fn plan(levels: u32, seeds: u32) -> Plan {
        let last = 1 + seeds;
        let text = format!(
            "dataset: digits\narchitecture: resnet8\nticket: {{method: [lrr, aws], levels: {levels}}}\n\
             transfer: {{inherit: sign, level: all, seed: 2..{last}}}\nconnect: {{between: seeds}}\n"
        );
        build(&parse("study.yaml", &text).unwrap())
    }

    fn all(plan: &Plan) -> Vec<bool> {
        vec![true; plan.runs.len()]
    }

    fn tasks(array: &Array) -> usize {
        array.tasks.len()
    }

    /// Every run once, and after what it needs.
    fn check(plan: &Plan, arrays: &[Array]) {
        let mut array_of = HashMap::new();
        for (number, array) in arrays.iter().enumerate() {
            assert!(array.after.iter().all(|&before| before < number));
            for &at in array.tasks.iter().flatten() {
                assert_eq!(array_of.insert(plan.runs[at].run.id.clone(), number), None);
                for input in &plan.runs[at].run.inputs {
                    assert!(array.after.contains(&array_of[input]), "array {number} waits for what it needs");
                }
            }
        }
        assert_eq!(array_of.len(), plan.runs.len());
    }

    #[test]
    fn dependents_wait_only_for_their_level() {
        let plan = plan(3, 2);
        let arrays = arrange(&plan, &all(&plan), SHAPE);
        check(&plan, &arrays);
        let arranged: Vec<(Kind, usize, Vec<usize>)> =
            arrays.iter().map(|array| (array.kind, tasks(array), array.after.iter().copied().collect())).collect();
        use Kind::{Connect, Ticket, Transfer};
        assert_eq!(
            arranged,
            [
                (Ticket, 2, vec![]),
                (Ticket, 2, vec![0]),
                (Ticket, 2, vec![1]),
                (Transfer, 4, vec![1]),
                (Ticket, 2, vec![2]),
                (Transfer, 4, vec![2]),
                (Connect, 2, vec![3]),
                (Transfer, 4, vec![4]),
                (Connect, 2, vec![5]),
                (Connect, 2, vec![7]),
            ]
        );
    }

    #[test]
    fn arrays_and_packs_have_their_size() {
        let plan = plan(2, 7);
        let shape = Shape { pack: 3, array: 2, max_running: None };
        let arrays = arrange(&plan, &all(&plan), shape);
        check(&plan, &arrays);
        assert!(arrays.iter().all(|array| tasks(array) <= 2 && array.tasks.iter().all(|task| task.len() <= 3)));
        // 14 transfers from each level: 5 tasks, in arrays of 2.
        assert_eq!(arrays.iter().filter(|array| array.kind == Kind::Transfer).count(), 2 * 3);
    }

    #[test]
    fn only_wanted_runs_are_arranged() {
        let plan = plan(2, 2);
        let wanted: Vec<bool> = plan.runs.iter().map(|planned| planned.run.kind() == Kind::Connect).collect();
        let arrays = arrange(&plan, &wanted, SHAPE);
        assert_eq!(arrays.len(), 1, "nothing tells apart what waits for nothing");
        assert_eq!((tasks(&arrays[0]), arrays[0].after.len()), (4, 0));
        assert!(arrange(&plan, &vec![false; plan.runs.len()], SHAPE).is_empty());
    }

    /// Plays the arrays in any order that Slurm could choose, greedily, and counts what runs at once.
    fn most_at_once(arrays: &[Array]) -> u32 {
        let mut ended: BTreeSet<usize> = BTreeSet::new();
        let mut most = 0;
        while ended.len() < arrays.len() {
            let runs = |at: &usize| !ended.contains(at) && arrays[*at].after.is_subset(&ended);
            let running: Vec<usize> = (0..arrays.len()).filter(runs).collect();
            let width = |&at: &usize| arrays[at].at_once.unwrap_or(u32::MAX).min(arrays[at].tasks.len() as u32);
            most = most.max(running.iter().map(width).sum());
            ended.insert(running[0]);
        }
        most
    }

    #[test]
    fn running_tasks_stay_within_the_limit() {
        for (levels, seeds) in [(1, 2), (4, 9)] {
            let plan = plan(levels, seeds);
            for most in [1, 2, 3, 8, 100] {
                let arrays = arrange(&plan, &all(&plan), Shape { max_running: Some(most), ..SHAPE });
                check(&plan, &arrays);
                assert!(arrays.iter().all(|array| array.at_once.is_some_and(|at_once| at_once > 0)), "{most}");
                assert!(most_at_once(&arrays) <= most, "{most}");
                let last = arrays.last().unwrap();
                assert_eq!(last.at_once, Some(most), "when the tickets are done the rest may have it all");
            }
        }
    }
}
