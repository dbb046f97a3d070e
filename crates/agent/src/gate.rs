//! Checks seals on a thread of its own, so that no ping waits behind cryptography.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringmesh_gossip::admission::Gate;
use ringmesh_node::io::{Input, Source};
use ringmesh_types::limits::BATCH_STATEMENTS_MAX;
use ringmesh_types::sealed::{CheckSeal, Statement};
use tokio::sync::mpsc;

use crate::clock::{Clock, wall_now};

/// Statements checked and handed on at once: few, so that a ping gets in between.
const AT_ONCE: usize = 16;

/// Statements that came together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// What they came by.
    pub(crate) source: Source,
    /// The statements.
    pub(crate) statements: Vec<Statement>,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct GateStats {
    /// Statements that passed.
    pub admitted: AtomicU64,
    /// Statements whose seal, size or trust was wrong.
    pub rejected: AtomicU64,
}

/// Checks batches until the channel closes. Runs on a thread of its own.
pub(crate) fn run(
    mut gate: Gate<impl CheckSeal>,
    clock: Clock,
    mut batches: mpsc::Receiver<Batch>,
    bulk: &mpsc::Sender<Input>,
    stats: &Arc<GateStats>,
) {
    while let Some(Batch { source, mut statements }) = batches.blocking_recv() {
        while !statements.is_empty() {
            let rest = statements.split_off(statements.len().min(AT_ONCE));
            let part = core::mem::replace(&mut statements, rest);
            if !pass(&mut gate, clock, source, part, bulk, stats) {
                return;
            }
        }
    }
}

/// Checks one part of a batch and hands on what passes. Says whether anybody still listens.
fn pass(
    gate: &mut Gate<impl CheckSeal>,
    clock: Clock,
    source: Source,
    part: Vec<Statement>,
    bulk: &mpsc::Sender<Input>,
    stats: &Arc<GateStats>,
) -> bool {
    let mut admission = gate.admit(clock.now(), wall_now(), part);
    stats.admitted.fetch_add(admission.admitted.len() as u64, Ordering::Relaxed);
    stats.rejected.fetch_add(admission.rejected.len() as u64, Ordering::Relaxed);
    for (speaker, why) in admission.rejected {
        tracing::debug!(%speaker, %why, "statement rejected");
    }
    while !admission.admitted.is_empty() {
        let rest = admission.admitted.split_off(admission.admitted.len().min(BATCH_STATEMENTS_MAX));
        let statements = core::mem::replace(&mut admission.admitted, rest);
        if bulk.blocking_send(Input::Statements { source, statements }).is_err() {
            return false;
        }
    }
    match source.peer() {
        Some(from) if !admission.wanted.is_empty() => {
            let speakers = admission.wanted.into_iter().collect();
            bulk.blocking_send(Input::TrustWanted { from, speakers }).is_ok()
        }
        Some(_) | None => true,
    }
}
