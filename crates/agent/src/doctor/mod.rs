//! Examines the path to each seed and member, there and back, and says in words what is blocked and how to mend it.
//!
//! For each of them a fresh connection is opened, with a protocol of its own, so that no link is touched; on it the peer
//! says what its clock says and calls back (`answer`). What a failure means is decided in `call`, what is said of it
//! in `words`. Nothing here reaches the node: whatever an examination finds, the mesh decides as before.

mod answer;
mod call;
mod message;
mod seen;
mod targets;
mod words;

use core::time::Duration;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ringmesh_types::snapshot::Snapshot;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub(crate) use answer::{Answerer, Examinee};
pub(crate) use call::Caller;
pub use targets::resolve;
pub use words::{Finding, FindingKind};

use crate::clock::wall_now;
use crate::config::Seed;
use crate::mesh::Mesh;
use answer::CALL_EVERY;
use call::{CALLED_BACK_WITHIN, Called, Port};
use message::{CallBack, Question, Reply, Trouble, TroubleKind};
use seen::{Clock, Seen, There, Us};
use targets::{Target, Unresolved};

/// Targets that are examined at the same time.
const UNDER_WAY_MAX: usize = 16;

/// How many are examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All seeds and some members, those in trouble first: 64 at most.
    Usual,
    /// All seeds and all members: 1,024 at most.
    All,
}

impl Scope {
    const fn targets_max(self) -> usize {
        match self {
            Self::Usual => 64,
            Self::All => 1_024,
        }
    }
}

/// An examination is under way already; there is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an examination is under way: ask again when it is done, in some seconds, or minutes with all=true")]
pub struct AlreadyUnderWay;

/// What an examination found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Examination {
    /// The node that examined.
    pub node: String,
    /// Its cluster.
    pub cluster: String,
    /// Its advertised mesh address, which peers call back.
    pub mesh: String,
    /// Seeds and members that were not examined because they were too many.
    pub left_out: usize,
    /// What was found at each seed and member, seeds first.
    pub targets: Vec<Checkup>,
}

/// What was found at one seed or member.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checkup {
    /// The node that is known to be there, or that answered.
    pub node: Option<String>,
    /// Where; of a seed that does not resolve, the seed as it was written.
    pub address: String,
    /// Whether it is a seed.
    pub is_seed: bool,
    /// How the member is seen, if it is one: Alive, Suspect, Holding or Down.
    pub state: Option<&'static str>,
    /// Whether this agent reaches it.
    pub to_peer: Way,
    /// Whether it reaches this agent.
    pub from_peer: Way,
    /// The time of a packet there and back, in microseconds.
    pub round_trip_us: Option<u64>,
    /// The time of the handshake, in microseconds.
    pub handshake_us: Option<u64>,
    /// How far its clock is ahead of this agent's, in milliseconds; below zero if it is behind.
    pub clock_difference_ms: Option<i64>,
    /// What is wrong; empty if nothing is.
    pub findings: Vec<Finding>,
}

/// One direction between two agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Connections can be opened.
    Open,
    /// Connections can be opened from the mesh port only: a firewall takes them for answers, or looks at that port.
    Guarded,
    /// No connection can be opened.
    Blocked,
    /// It was not examined.
    Unknown,
}

/// Examines.
pub(crate) struct Doctor {
    caller: Caller,
    mesh: Arc<Mesh>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    seeds: Vec<Seed>,
    turn: Semaphore,
}

impl Doctor {
    pub(crate) fn new(
        caller: Caller,
        mesh: Arc<Mesh>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        seeds: Vec<Seed>,
    ) -> Self {
        Self { caller, mesh, snapshot, seeds, turn: Semaphore::new(1) }
    }

    /// Examines all seeds and as many members as `scope` says, and takes some seconds for it.
    ///
    /// # Errors
    /// If another examination is under way; nothing was examined then.
    pub(crate) async fn examine(&self, scope: Scope) -> Result<Examination, AlreadyUnderWay> {
        let Ok(_turn) = self.turn.try_acquire() else {
            return Err(AlreadyUnderWay);
        };
        let snapshot = self.snapshot.load_full();
        let chosen = targets::choose(&self.seeds, &snapshot, scope.targets_max()).await;
        let us = Us::of(&snapshot);
        let mut targets: Vec<Checkup> = chosen.unresolved.into_iter().map(unresolved).collect();
        targets.extend(self.examine_each(chosen.targets, &us).await);
        let myself = snapshot.member(us.id).and_then(|member| member.clash.as_deref());
        targets.extend(myself.map(|other| displaced(&us, other)));
        Ok(Examination {
            node: us.name.clone(),
            cluster: us.cluster.clone(),
            mesh: us.addr.to_string(),
            left_out: chosen.left_out,
            targets,
        })
    }

    /// What was found at each, in their order.
    async fn examine_each(&self, targets: Vec<Target>, us: &Us) -> Vec<Checkup> {
        let permits = Arc::new(Semaphore::new(UNDER_WAY_MAX));
        let mut examined = JoinSet::new();
        for (index, target) in targets.into_iter().enumerate() {
            let (patient, us) =
                (Patient { caller: self.caller.clone(), mesh: self.mesh.clone() }, us.clone());
            let permits = permits.clone();
            examined.spawn(async move {
                let _permit = permits.acquire_owned().await;
                (index, patient.examine(target, &us).await)
            });
        }
        let mut found = examined.join_all().await;
        found.sort_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, checkup)| checkup).collect()
    }
}

/// What one target's examination needs.
struct Patient {
    caller: Caller,
    mesh: Arc<Mesh>,
}

impl Patient {
    async fn examine(&self, target: Target, us: &Us) -> Checkup {
        match self.caller.call(target.addr, target.id, Port::Mesh).await {
            Ok(called) => answered(target, called, us).await,
            Err(trouble) => self.unanswered(target, trouble, us).await,
        }
    }

    /// It was not reached: does it reach us?
    async fn unanswered(&self, target: Target, trouble: Trouble, us: &Us) -> Checkup {
        let is_heard = match target.id {
            Some(id) => self.mesh.is_heard(id).await,
            None => false,
        };
        let seen = Seen { there: There::Not { trouble, is_heard }, back: None, clock: Clock::Unknown };
        checkup(target, seen, us)
    }
}

/// Asks the peer that answered to call back.
async fn answered(mut target: Target, called: Called, us: &Us) -> Checkup {
    let now_ms = wall_now().as_unix_millis();
    let way_ms = u64::try_from(called.round_trip().as_millis() / 2).unwrap_or(0);
    let theirs = i64::try_from(called.wall_ms.saturating_add(way_ms)).unwrap_or(i64::MAX);
    let difference_ms = theirs.saturating_sub(i64::try_from(now_ms).unwrap_or(i64::MAX));
    target.name = Some(called.peer.name.to_string());
    let there = if called.peer.id != us.id {
        There::Reached { round_trip: called.round_trip(), handshake: called.handshake }
    } else if called.epoch == us.epoch {
        There::Ourselves
    } else {
        There::Twin
    };
    let back = match there {
        There::Reached { .. } => Some(call_back(&called).await),
        There::Not { .. } | There::Ourselves | There::Twin => None,
    };
    checkup(target, Seen { there, back, clock: Clock::Ahead { difference_ms } }, us)
}

/// What comes of asking to be called back. Who is busy is asked once more.
async fn call_back(called: &Called) -> Result<CallBack, Trouble> {
    match ask_back(called).await {
        Ok(CallBack::Busy) => {
            tokio::time::sleep(CALL_EVERY + Duration::from_millis(100)).await;
            ask_back(called).await
        }
        said => said,
    }
}

async fn ask_back(called: &Called) -> Result<CallBack, Trouble> {
    let lost = |words: &str| Trouble::new(TroubleKind::Lost, message::End::Dialler, words);
    match tokio::time::timeout(CALLED_BACK_WITHIN, called.ask(Question::CallBack)).await {
        Ok(Ok(Reply::CalledBack(back))) => Ok(back.shown()),
        Ok(Ok(Reply::Here { .. })) => Err(lost("its answer is to another question")),
        Ok(Err(trouble)) => Err(trouble),
        Err(_) => Err(lost("it did not say in time whether it reaches us")),
    }
}

fn checkup(target: Target, seen: Seen, us: &Us) -> Checkup {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (round_trip_us, handshake_us) = match &seen.there {
        There::Reached { round_trip, handshake } => (Some(micros(*round_trip)), Some(micros(*handshake))),
        There::Not { .. } | There::Ourselves | There::Twin => (None, None),
    };
    Checkup {
        to_peer: seen.way_there(),
        from_peer: seen.way_back(),
        round_trip_us,
        handshake_us,
        clock_difference_ms: seen.clock.difference_ms(),
        findings: words::findings(us, &target, &seen),
        node: target.name,
        address: target.addr.to_string(),
        is_seed: target.is_seed,
        state: target.state,
    }
}

fn unresolved(seed: Unresolved) -> Checkup {
    let findings = vec![words::unresolved(&seed)];
    Checkup { is_seed: true, ..unexamined(None, seed.seed, findings) }
}

/// We ourselves are no target, but when another agent has our name that is to be told.
fn displaced(us: &Us, other: &str) -> Checkup {
    unexamined(Some(us.name.clone()), us.addr.to_string(), vec![words::twin(us, &other)])
}

fn unexamined(node: Option<String>, address: String, findings: Vec<Finding>) -> Checkup {
    Checkup {
        node,
        address,
        findings,
        is_seed: false,
        state: None,
        to_peer: Way::Unknown,
        from_peer: Way::Unknown,
        round_trip_us: None,
        handshake_us: None,
        clock_difference_ms: None,
    }
}
