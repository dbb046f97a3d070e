//! What an examination saw at one target, before anything is said of it.

use core::net::SocketAddr;
use core::time::Duration;

use ringmesh_types::ids::{Epoch, NodeId};
use ringmesh_types::snapshot::Snapshot;

use super::Way;
use super::message::{CallBack, Trouble, TroubleKind};

/// The agent that examines.
#[derive(Debug, Clone)]
pub(super) struct Us {
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) id: NodeId,
    pub(super) epoch: Epoch,
    pub(super) addr: SocketAddr,
}

impl Us {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let identity = snapshot.local.identity;
        Self {
            name: snapshot.local.name.to_string(),
            cluster: snapshot.cluster.to_string(),
            id: identity.id,
            epoch: identity.epoch,
            addr: identity.addr.into(),
        }
    }
}

/// What came of calling a target.
#[derive(Debug, Clone)]
pub(super) enum There {
    /// It answered.
    Reached {
        /// The time of a packet there and back.
        round_trip: Duration,
        /// The time of the handshake.
        handshake: Duration,
    },
    /// We ourselves answered.
    Ourselves,
    /// Another agent with our name answered.
    Twin,
    /// Nobody did, or not as it should.
    Not {
        /// Why.
        trouble: Trouble,
        /// Whether it answers on a link that it dialled.
        is_heard: bool,
    },
}

/// What is known of a target's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// It said how late it is.
    Ahead {
        /// How far it is ahead of ours; below zero if it is behind.
        difference_ms: i64,
    },
    /// Nothing.
    Unknown,
}

impl Clock {
    pub(super) const fn difference_ms(self) -> Option<i64> {
        match self {
            Self::Ahead { difference_ms } => Some(difference_ms),
            Self::Unknown => None,
        }
    }
}

/// All that was seen at one target.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) there: There,
    /// What came of asking it to call back, if it was asked.
    pub(super) back: Option<Result<CallBack, Trouble>>,
    pub(super) clock: Clock,
}

impl Seen {
    /// Whether we reach it.
    pub(super) const fn way_there(&self) -> Way {
        match &self.there {
            There::Reached { .. } | There::Ourselves | There::Twin => Way::Open,
            There::Not { trouble, .. } => way_of(trouble),
        }
    }

    /// Whether it reaches us.
    pub(super) const fn way_back(&self) -> Way {
        match (&self.there, &self.back) {
            (There::Ourselves, _) | (There::Not { is_heard: true, .. }, _) => Way::Open,
            (_, Some(Ok(CallBack::Reached { .. }))) => Way::Open,
            (_, Some(Ok(CallBack::Guarded { .. }))) => Way::Guarded,
            (_, Some(Ok(CallBack::Blocked { trouble, .. }))) => way_of(trouble),
            (_, None | Some(Ok(CallBack::Unknown | CallBack::Busy) | Err(_))) => Way::Unknown,
        }
    }
}

const fn way_of(trouble: &Trouble) -> Way {
    match trouble.kind {
        TroubleKind::Busy => Way::Unknown,
        TroubleKind::Silent
        | TroubleKind::Closed
        | TroubleKind::NoRoute
        | TroubleKind::Expired
        | TroubleKind::NotYetValid
        | TroubleKind::OtherAuthority
        | TroubleKind::Revoked
        | TroubleKind::Certificate
        | TroubleKind::Cluster
        | TroubleKind::Protocol
        | TroubleKind::OtherNode
        | TroubleKind::Lost => Way::Blocked,
    }
}
