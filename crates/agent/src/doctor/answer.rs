//! Answers peers that examine the path to us.
//!
//! A call back goes to the one address that the asker's own document names, never to one that the question names, so
//! that nobody can be made to knock at strangers' doors. It comes from two ports: from the mesh port, as links do, and
//! from a fresh one, since the asker has just opened its firewall to our mesh port by asking.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;
use quinn::{Connection, RecvStream, SendStream};
use ringmesh_types::ids::NodeId;
use ringmesh_types::snapshot::Snapshot;
use ringmesh_types::wire::{self, Channel};
use tokio::sync::{Semaphore, mpsc};

use super::call::{Caller, Port};
use super::message::{CallBack, Question, Reply};
use crate::clock::wall_now;
use crate::pki::PeerIdentity;
use crate::quic;

/// Connections that are examined at once at most; more wait in the channel that they come by.
const EXAMINED_MAX: usize = 64;
/// A connection is closed after this time.
const EXAMINED_FOR: Duration = Duration::from_secs(6);
/// Questions on one connection at most.
const QUESTIONS_MAX: usize = 4;
/// Bytes of a question at most.
const QUESTION_BYTES_MAX: usize = 64;
/// Calls back under way at most.
const CALLS_MAX: usize = 4;
/// One peer is called back at most this often.
pub(super) const CALL_EVERY: Duration = Duration::from_secs(1);
/// Peers that were called back within that time, at most.
const CALLED_MAX: usize = 256;

/// A peer and the connection that it examines.
pub(crate) type Examinee = (PeerIdentity, Connection);

/// Answers examinations.
pub(crate) struct Answerer {
    caller: Caller,
    snapshot: Arc<ArcSwap<Snapshot>>,
    calls: Semaphore,
    recent: Mutex<Recent>,
}

/// Who was called back within the last second.
#[derive(Debug, Default)]
struct Recent(HashMap<NodeId, Instant>);

impl Answerer {
    pub(crate) fn new(caller: Caller, snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { caller, snapshot, calls: Semaphore::new(CALLS_MAX), recent: Mutex::default() }
    }

    /// Answers on every connection that comes, until no more can come.
    pub(crate) async fn run(self, mut examinees: mpsc::Receiver<Examinee>) {
        let answerer = Arc::new(self);
        let permits = Arc::new(Semaphore::new(EXAMINED_MAX));
        while let Ok(permit) = permits.clone().acquire_owned().await {
            let Some((peer, connection)) = examinees.recv().await else {
                return;
            };
            let answerer = answerer.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(EXAMINED_FOR, answerer.serve(peer.id, &connection)).await;
                connection.close(quic::CLOSE_EXAMINED, b"an examination takes 6 s and 4 questions at most");
                drop(permit);
            });
        }
    }

    async fn serve(&self, peer: NodeId, connection: &Connection) {
        for _ in 0..QUESTIONS_MAX {
            let Ok((send, receive)) = connection.accept_bi().await else {
                return;
            };
            if self.answer(peer, send, receive).await.is_none() {
                tracing::debug!(%peer, "examination broke off");
                return;
            }
        }
    }

    async fn answer(&self, peer: NodeId, mut send: SendStream, mut receive: RecvStream) -> Option<()> {
        let bytes = receive.read_to_end(QUESTION_BYTES_MAX).await.ok()?;
        let reply = match wire::decode(Channel::Stream, &bytes).ok()? {
            Question::Here => {
                let epoch = self.snapshot.load().local.identity.epoch;
                Reply::Here { wall_ms: wall_now().as_unix_millis(), epoch }
            }
            Question::CallBack => Reply::CalledBack(self.call_back(peer).await),
        };
        let bytes = wire::encode(Channel::Stream, &reply).ok()?;
        send.write_all(&bytes).await.ok()?;
        send.finish().ok()?;
        send.stopped().await.ok().map(|_| ())
    }

    async fn call_back(&self, peer: NodeId) -> CallBack {
        let Some(at) = self.snapshot.load().member(peer).map(|member| member.identity.addr) else {
            return CallBack::Unknown;
        };
        let Ok(_permit) = self.calls.try_acquire() else {
            return CallBack::Busy;
        };
        if !self.may_call(peer) {
            return CallBack::Busy;
        }
        let addr = SocketAddr::from(at);
        let call = |from| self.caller.call(addr, Some(peer), from);
        let (from_mesh, from_fresh) = tokio::join!(call(Port::Mesh), call(Port::Fresh));
        match (from_fresh, from_mesh) {
            (Ok(_), _) => CallBack::Reached { at },
            (Err(_), Ok(_)) => CallBack::Guarded { at },
            (Err(_), Err(trouble)) => CallBack::Blocked { at, trouble },
        }
    }

    fn may_call(&self, peer: NodeId) -> bool {
        self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).admit(Instant::now(), peer)
    }
}

impl Recent {
    /// Whether a peer may be called now. If so, it counts as called.
    fn admit(&mut self, now: Instant, peer: NodeId) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) < CALL_EVERY);
        let may = self.0.len() < CALLED_MAX && !self.0.contains_key(&peer);
        if may {
            self.0.insert(peer, now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_called_back_once_a_second_and_not_too_many_are() {
        let (mut recent, begun) = (Recent::default(), Instant::now());
        let peer = |number: usize| NodeId::from_bytes(number.to_be_bytes());
        assert!(recent.admit(begun, peer(0)));
        assert!(!recent.admit(begun, peer(0)));
        for number in 1..CALLED_MAX {
            assert!(recent.admit(begun, peer(number)));
        }
        assert!(!recent.admit(begun, peer(CALLED_MAX)));
        assert!(recent.admit(begun + CALL_EVERY, peer(0)));
    }
}
