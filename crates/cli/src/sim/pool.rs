//! Work for all cores, with its results in order, and a panic in one piece of it that ends this piece only.

use core::cell::RefCell;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Once, mpsc};
use std::time::Instant;

use super::interrupt;

/// A piece of work that ended.
pub(super) struct Ended<T> {
    /// How long it took.
    pub(super) wall: Duration,
    /// What came of it, or what it said when it panicked.
    pub(super) result: Result<T, String>,
}

/// Does `count` pieces of work on `jobs` threads: `work` gets the number of its thread and of the piece. `each` gets
/// the results in the order of the pieces, each as soon as those before it are there. If it breaks, or somebody
/// presses Ctrl-C, no further piece begins; those that run are waited for, and `each` gets them too.
pub(super) fn in_order<T: Send>(
    count: usize,
    jobs: usize,
    work: impl Fn(usize, usize) -> T + Sync,
    mut each: impl FnMut(usize, Ended<T>) -> ControlFlow<()>,
) {
    keep_panics_of_workers();
    let next = AtomicUsize::new(0);
    let is_stopped = AtomicBool::new(false);
    // A worker that is ahead of whoever takes the results waits.
    let (sender, receiver) = mpsc::sync_channel(jobs);
    std::thread::scope(|scope| {
        for worker in 0..jobs.min(count) {
            let (sender, next, is_stopped, work) = (sender.clone(), &next, &is_stopped, &work);
            scope.spawn(move || {
                while !is_stopped.load(Ordering::Relaxed) && !interrupt::is_asked() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || sender.send((index, caught(|| work(worker, index)))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (index, ended) in receiver {
            early.insert(index, ended);
            while let Some(ended) = early.remove(&due) {
                if each(due, ended).is_break() {
                    is_stopped.store(true, Ordering::Relaxed);
                }
                due += 1;
            }
        }
    });
}

thread_local! {
    /// On a worker at work, what the last panic said; nothing anywhere else.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn caught<T>(work: impl FnOnce() -> T) -> Ended<T> {
    let begun = Instant::now();
    SAID.set(Some(String::new()));
    // What the work shares with others are counters, which have no state that could be half changed.
    let result = catch_unwind(AssertUnwindSafe(work)).map_err(|_| SAID.take().unwrap_or_default());
    SAID.set(None);
    Ended { wall: begun.elapsed(), result }
}

/// From now on a panic at work is kept for [`Ended`], and not printed into the middle of something else.
fn keep_panics_of_workers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !is_kept(info) {
                usual(info);
            }
        }));
    });
}

fn is_kept(info: &PanicHookInfo<'_>) -> bool {
    let keep = |said: &RefCell<Option<String>>| {
        let mut said = said.borrow_mut();
        let is_at_work = said.is_some();
        if is_at_work {
            *said = Some(described(info));
        }
        is_at_work
    };
    SAID.try_with(keep).unwrap_or(false)
}

fn described(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let literal = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = literal.or_else(|| payload.downcast_ref::<String>().cloned());
    let message = message.unwrap_or_else(|| "without a message".to_owned());
    match info.location() {
        Some(at) => format!("{message} ({}:{})", at.file(), at.line()),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(count: usize, jobs: usize, breaks_at: usize) -> Vec<Result<usize, String>> {
        let mut results = Vec::new();
        let work = |_worker: usize, index: usize| {
            assert!(index != 3, "three is too many");
            index
        };
        in_order(count, jobs, work, |index, ended| {
            results.push(ended.result);
            if index == breaks_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        results
    }

    #[test]
    fn results_come_in_order_and_a_panic_is_one_of_them() {
        for jobs in [1, 2, 7] {
            let mut results = results(20, jobs, usize::MAX);
            let says = results.remove(3).expect_err("the third panics");
            assert!(says.starts_with("three is too many (") && says.contains("pool.rs:"), "{says}");
            let expect: Vec<Result<usize, String>> = (0..20).filter(|index| *index != 3).map(Ok).collect();
            assert_eq!(results, expect);
        }
    }

    #[test]
    fn nothing_begins_after_a_break() {
        // A few more are on their way when the break comes.
        let results = results(1_000, 1, 1);
        assert!((2..6).contains(&results.len()), "{}", results.len());
    }
}
