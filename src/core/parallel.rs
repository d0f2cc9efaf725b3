//! Many small looks at a disk at once.

use std::thread;

/// What `work` makes of each of many, in their order. Reading thousands of small files is mostly waiting, above all on a
/// network file system: several threads wait at once.
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
