//! What the workers are at, written by them and read by whoever draws it.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::time::Instant;

use super::speed;
use crate::progress::bar;

/// No play has this number.
const NONE: usize = usize::MAX;

/// How a play is called, and when it is over.
pub(super) struct Label {
    pub(super) scenario: String,
    pub(super) seed: String,
    pub(super) virtual_s: f64,
}

/// All workers.
pub(super) struct Board {
    begun: Instant,
    labels: Vec<Label>,
    workers: Vec<Worker>,
    /// Virtual time of the plays that are over.
    over_nanos: AtomicU64,
}

struct Worker {
    play: AtomicUsize,
    at_nanos: AtomicU64,
}

/// A worker at a play; it ends when this is dropped.
pub(super) struct Seat<'a> {
    board: &'a Board,
    worker: &'a Worker,
}

impl Board {
    /// `labels` are those of the plays, by number.
    pub(super) fn new(labels: Vec<Label>, workers: usize) -> Self {
        let worker = || Worker { play: AtomicUsize::new(NONE), at_nanos: AtomicU64::new(0) };
        let workers = (0..workers).map(|_| worker()).collect();
        Self { begun: Instant::now(), labels, workers, over_nanos: AtomicU64::new(0) }
    }

    /// A worker begins a play.
    pub(super) fn sit(&self, worker: usize, play: usize) -> Seat<'_> {
        let worker = &self.workers[worker];
        worker.play.store(play, Ordering::Relaxed);
        Seat { board: self, worker }
    }

    /// The play that is waited for, and how fast all of them are together.
    pub(super) fn line(&self) -> Option<String> {
        let first = self.workers.iter().min_by_key(|worker| worker.play.load(Ordering::Relaxed))?;
        let Label { scenario, seed, virtual_s } = self.labels.get(first.play.load(Ordering::Relaxed))?;
        let at_s = seconds(&first.at_nanos);
        let all_s: f64 = self.workers.iter().map(|worker| seconds(&worker.at_nanos)).sum();
        let speed = speed(all_s + seconds(&self.over_nanos), self.begun.elapsed().as_secs_f64());
        let bar = bar(at_s / virtual_s);
        Some(format!("{scenario}  {seed}  {bar} {at_s:.1} s of {virtual_s} s  ×{speed:.0}"))
    }
}

impl Seat<'_> {
    /// So much virtual time has passed in its play.
    pub(super) fn is_at(&self, at: Duration) {
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.worker.at_nanos.store(nanos, Ordering::Relaxed);
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.worker.play.store(NONE, Ordering::Relaxed);
        let nanos = self.worker.at_nanos.swap(0, Ordering::Relaxed);
        self.board.over_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

fn seconds(nanos: &AtomicU64) -> f64 {
    nanos.load(Ordering::Relaxed) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_the_first_play_that_is_not_over() {
        let label = |seed: &str| Label {
            scenario: "vm-dies".to_owned(),
            seed: format!("seed {seed}/2"),
            virtual_s: 60.0,
        };
        let board = Board::new(vec![label("1"), label("2")], 2);
        assert_eq!(board.line(), None);
        let (second, first) = (board.sit(0, 1), board.sit(1, 0));
        second.is_at(Duration::from_secs(30));
        first.is_at(Duration::from_millis(7_500));
        let line = board.line().expect("something runs");
        assert!(
            line.starts_with("vm-dies  seed 1/2  [###---") && line.contains("7.5 s of 60 s  ×"),
            "{line}"
        );
        drop(first);
        assert!(board.line().expect("something runs").contains("seed 2/2"));
    }
}
