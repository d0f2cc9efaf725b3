//! Work on threads whose results are taken in order, with bounded memory.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Results that may wait for one that takes long, for each thread.
const AHEAD: usize = 8;

/// Calls `work` for every number of the range on `threads` threads, and `each` with the results in order, on this
/// thread, until it breaks. At most 8 results a thread exist at once. Each thread hands `work` a state of its own.
pub fn in_order<S, T: Send>(
    range: Range<usize>,
    threads: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
    mut each: impl FnMut(usize, T) -> ControlFlow<()>,
) {
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
        for _ in 0..threads.max(1) {
            scope.spawn(produce);
        }
        let _ends = OnExit(|| {
            lock(&shared).stop = true;
            room.notify_all();
        });
        for number in range {
            let waits = |shared: &mut Shared<T>| !shared.stop && !shared.done.contains_key(&number);
            let mut held = news.wait_while(lock(&shared), waits).unwrap_or_else(PoisonError::into_inner);
            // None if a thread has panicked; the scope passes that on.
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

/// A panic elsewhere leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls a function when it goes out of scope, also by a panic.
struct OnExit<F: Fn()>(F);

impl<F: Fn()> Drop for OnExit<F> {
    fn drop(&mut self) {
        (self.0)();
    }
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
    fn a_panic_of_a_thread_is_passed_on() {
        let work = |_: &mut (), number| assert_ne!(number, 20);
        let run = || in_order(0..100, 2, || (), work, |_, ()| ControlFlow::Continue(()));
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
