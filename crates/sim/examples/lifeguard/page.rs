//! What was recorded, and the page made of it.

use core::fmt;
use std::path::Path;

use crate::cell::{Cell, Counts, Plan};

/// One cell of one system, all seeds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    system: String,
    nodes: usize,
    slow: usize,
    hold_ms: u128,
    free_ms: u128,
    seeds: u64,
    false_positives: u64,
    by_healthy: u64,
    /// When the first and the last healthy member knew of the crash, in ms, by seed; none if one never did.
    first: Vec<Option<u128>>,
    last: Vec<Option<u128>>,
    messages: u64,
    bytes: u64,
}

impl Line {
    pub(crate) fn of(system: &str, plan: &Plan, cell: Cell, runs: &[Counts]) -> Self {
        let healthy = plan.nodes - 1 - cell.slow;
        let crashes = || runs.iter().map(|run| run.crash.as_ref());
        Self {
            system: system.to_owned(),
            nodes: plan.nodes,
            slow: cell.slow,
            hold_ms: cell.hold.as_millis(),
            free_ms: cell.free.as_millis(),
            seeds: plan.seeds,
            false_positives: runs.iter().map(|run| run.false_positives).sum(),
            by_healthy: runs.iter().map(|run| run.false_positives_by_healthy).sum(),
            first: crashes().map(|crash| Some(crash?.first()?.as_millis())).collect(),
            last: crashes().map(|crash| Some(crash?.last(healthy)?.as_millis())).collect(),
            messages: runs.iter().map(|run| run.messages).sum(),
            bytes: runs.iter().map(|run| run.bytes).sum(),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |times: &[Option<u128>]| {
            let all = times.iter().map(|time| time.map_or_else(|| "-".to_owned(), |time| time.to_string()));
            all.collect::<Vec<_>>().join(",")
        };
        writeln!(
            f,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            self.system,
            self.nodes,
            self.slow,
            self.hold_ms,
            self.free_ms,
            self.seeds,
            self.false_positives,
            self.by_healthy,
            list(&self.first),
            list(&self.last),
            self.messages,
            self.bytes
        )
    }
}

pub(crate) fn write(_record: &Path, _folder: &Path) -> std::io::Result<()> {
    Ok(())
}
