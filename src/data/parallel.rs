//! Parallel work on threads, with results in order.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The number of results per thread that may wait for a slow one.
const AHEAD: usize = 8;

/// Calls `work` for every number of the range on `threads` threads, and `each` with the results in order on the calling
/// thread, until it breaks. At most 8 results per thread exist at once. Each thread passes a state of its own to
/// `work`.
pub(crate) fn in_order<S, T: Send>(
    range: Range<usize>,
    threads: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
    mut each: impl FnMut(usize, T) -> ControlFlow<()>,
) {
    let threads = threads.max(1);
    let (end, ahead) = (range.end, AHEAD * threads);
    let shared = Mutex::new(Shared { next: range.start, taken: range.start, done: BTreeMap::new(), stop: false });
    let (room, news) = (Condvar::new(), Condvar::new());
    let produce = || {
        let _ends = OnExit(|| {
            lock(&shared).stop |= std::thread::panicking();
            news.notify_all();
            room.notify_all();
        });
        let mut own = state();
        loop {
            let waits =
                |shared: &mut Shared<T>| !shared.stop && shared.next < end && shared.next >= shared.taken + ahead;
            let mut claim = room.wait_while(lock(&shared), waits).unwrap_or_else(PoisonError::into_inner);
            if claim.stop || claim.next >= end {
                return;
            }
            let number = claim.next;
            claim.next += 1;
            drop(claim);
            let result = work(&mut own, number);
            lock(&shared).done.insert(number, result);
            news.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(produce);
        }
        let _ends = OnExit(|| {
            lock(&shared).stop = true;
            room.notify_all();
        });
        for number in range {
            let waits = |shared: &mut Shared<T>| !shared.stop && !shared.done.contains_key(&number);
            let mut held = news.wait_while(lock(&shared), waits).unwrap_or_else(PoisonError::into_inner);
            // The result is missing only if a thread has panicked; the scope propagates the panic.
            let Some(result) = held.done.remove(&number) else { return };
            held.taken = number + 1;
            drop(held);
            room.notify_all();
            if each(number, result).is_break() {
                return;
            }
        }
    });
}

struct Shared<T> {
    next: usize,
    taken: usize,
    done: BTreeMap<usize, T>,
    stop: bool,
}

/// Locks a mutex. A poisoned one is fine, because no panic can leave its content inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls a function when it goes out of scope, even by a panic.
struct OnExit<F: Fn()>(F);

impl<F: Fn()> Drop for OnExit<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Calls `work` for every task on up to `threads` threads, and returns the results in the order of the tasks. After a
/// failure no new task is started. Tasks are started in order, and the first failure in that order is returned, so that
/// it does not depend on timing.
pub(crate) fn try_map<T, R: Send, E: Send>(
    threads: usize,
    tasks: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let tasks = Mutex::new(Some(tasks.enumerate()));
    let results = Mutex::new(vec![]);
    let failures = Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut done = vec![];
                loop {
                    let task = lock(&tasks).as_mut().and_then(Iterator::next);
                    let Some((index, task)) = task else {
                        break;
                    };
                    match work(task) {
                        Ok(result) => done.push((index, result)),
                        Err(error) => {
                            *lock(&tasks) = None;
                            lock(&failures).push((index, error));
                        }
                    }
                }
                lock(&results).extend(done);
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, error)) = failures.into_iter().min_by_key(|(index, _)| *index) {
        return Err(error);
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Returns the number of threads that this machine runs at once.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn results_come_in_order_and_few_wait() {
        let (begun, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut numbers = vec![];
        in_order(
            3..200,
            3,
            || (),
            |(), number| {
                let ahead = begun.fetch_add(1, Ordering::SeqCst) as isize - taken.load(Ordering::SeqCst) as isize;
                assert!(ahead <= 3 * AHEAD as isize, "{ahead}");
                std::thread::sleep(Duration::from_micros(if number % 7 == 3 { 500 } else { 0 }));
                number
            },
            |number, result| {
                assert_eq!(number, result);
                numbers.push(number);
                taken.fetch_add(1, Ordering::SeqCst);
                if number == 150 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        assert_eq!(numbers, (3..=150).collect::<Vec<_>>());
    }

    #[test]
    fn zero_threads_count_as_one() {
        let mut numbers = vec![];
        let each = |_, number| {
            numbers.push(number);
            ControlFlow::Continue(())
        };
        in_order(0..20, 0, || (), |(), number| number, each);
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn panic_of_a_thread_is_propagated() {
        let work = |_: &mut (), number| assert_ne!(number, 20);
        let run = || in_order(0..100, 2, || (), work, |_, ()| ControlFlow::Continue(()));
        assert!(std::panic::catch_unwind(run).is_err());
    }

    #[test]
    fn results_are_in_order_and_the_first_failure_counts() {
        let square = |number: usize| Ok::<_, usize>(number * number);
        assert_eq!(try_map(4, 0..1_000, square).unwrap(), (0..1_000).map(|number| number * number).collect::<Vec<_>>());
        for _ in 0..20 {
            let failing = |number: usize| if number % 7 == 6 { Err(number) } else { Ok(number) };
            assert_eq!(try_map(4, 0..1_000, failing), Err(6));
        }
    }
}
