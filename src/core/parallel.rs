//! Parallel access to many small files.

use std::thread;

/// Applies `work` to each item on several threads; the results are in the order of the items. Reading thousands of
/// small files is mostly waiting, above all on a network file system, and several threads wait at once.
pub fn map<T: Sync, R: Send>(many: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    const THREADS: usize = 8;
    let share = many.len().div_ceil(THREADS).max(1);
    let work = &work;
    thread::scope(|scope| {
        let workers: Vec<_> =
            many.chunks(share).map(|some| scope.spawn(move || some.iter().map(work).collect::<Vec<_>>())).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("workers do not panic")).collect()
    })
}
