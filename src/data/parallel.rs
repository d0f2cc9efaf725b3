//! Work shared out to threads.

use std::sync::Mutex;

/// `work` done for every task on up to `threads` threads; the results are in the order of the tasks. After a failure no
/// new task is begun. Tasks are begun in order, so which failure is reported, the first, does not depend on chance.
pub fn try_map<T, R: Send, E: Send>(
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
                    let task = tasks.lock().expect(NO_PANIC).as_mut().and_then(Iterator::next);
                    let Some((index, task)) = task else {
                        break;
                    };
                    match work(task) {
                        Ok(result) => done.push((index, result)),
                        Err(error) => {
                            *tasks.lock().expect(NO_PANIC) = None;
                            failures.lock().expect(NO_PANIC).push((index, error));
                        }
                    }
                }
                results.lock().expect(NO_PANIC).extend(done);
            });
        }
    });
    let failures = failures.into_inner().expect(NO_PANIC);
    if let Some((_, error)) = failures.into_iter().min_by_key(|(index, _)| *index) {
        return Err(error);
    }
    let mut results = results.into_inner().expect(NO_PANIC);
    results.sort_unstable_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

const NO_PANIC: &str = "no thread panics while it holds this";

/// How many threads this machine runs at once.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

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
