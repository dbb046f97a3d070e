//! The doors of the machine: everything that can come in and everything that can go out.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_gossip::message::{Push, Request, Response};
use ringmesh_gossip::plumtree::TreeMessage;
use ringmesh_health::monitor::{EndpointKey, Outcome, ProbeId};
use ringmesh_health::spec::CheckSpec;
use ringmesh_partition::heat::Report;
use ringmesh_partition::map::Map;
use ringmesh_types::body::EndpointHealth;
use ringmesh_types::event::Event;
use ringmesh_types::ids::{Epoch, NodeId};
use ringmesh_types::map_spec::{MapSpec, Pin};
use ringmesh_types::name::{InstanceId, NodeName, ServiceName};
use ringmesh_types::sealed::VerifiedStatement;
use ringmesh_types::service::Endpoint;
use ringmesh_types::stored::Stored;
use ringmesh_types::time::WallTime;

use crate::maps::{AuthorView, MapOrder};
use crate::registration::{RawRegistration, SavedState};

/// Names something that the driver will answer, or that waits for our answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Where to reach a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Who must answer there; for a seed nobody knows yet.
    pub id: Option<NodeId>,
    /// Its mesh port.
    pub addr: SocketAddr,
}

/// How urgent a push is. Later variants give way to earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Refutations, leaves and holds.
    Standing,
    /// Accusations.
    Accusation,
    /// Changes of health.
    Health,
    /// Everything else.
    Bulk,
}

/// What statements came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A peer pushed them: news, to be forwarded.
    Pushed(NodeId),
    /// A peer answered a request of ours, or sent them along with its own.
    Answered(NodeId),
    /// Our own disk.
    Disk,
    /// A neighbour pushed them along the tree.
    Spread {
        /// The neighbour.
        from: NodeId,
        /// Links that they have passed.
        hops: u8,
    },
}

impl Source {
    /// The peer that they came from.
    pub const fn peer(self) -> Option<NodeId> {
        match self {
            Self::Pushed(from) | Self::Answered(from) | Self::Spread { from, .. } => Some(from),
            Self::Disk => None,
        }
    }
}

/// What can come in.
#[derive(Debug)]
pub enum Input {
    /// A datagram, from the peer with this certificate.
    Datagram {
        /// The peer.
        from: NodeId,
        /// Where it sent from.
        addr: SocketAddr,
        /// The envelope's bytes.
        bytes: Vec<u8>,
    },
    /// Checked statements, at most [`ringmesh_types::limits::BATCH_STATEMENTS_MAX`] of them.
    Statements {
        /// What they came by.
        source: Source,
        /// The statements.
        statements: Vec<VerifiedStatement>,
    },
    /// Statements wait for these speakers' `trust` documents: ask `from` for them.
    TrustWanted {
        /// Who sent the statements.
        from: NodeId,
        /// Whose trust is missing.
        speakers: Vec<NodeId>,
    },
    /// A neighbour speaks of the tree.
    Tree {
        /// The neighbour.
        from: NodeId,
        /// What it says.
        message: TreeMessage,
    },
    /// A peer announced documents that were too large to push.
    Announced {
        /// The peer.
        from: NodeId,
        /// What it has.
        documents: Vec<(ringmesh_types::document::Key, ringmesh_types::ids::Version)>,
    },
    /// A peer asks; its documents were taken out for checking.
    Request {
        /// The peer.
        from: NodeId,
        /// Where it asks from.
        addr: SocketAddr,
        /// Names the question.
        ticket: Ticket,
        /// The question.
        request: Request,
    },
    /// A peer answered, or nobody did; its documents were taken out for checking.
    Response {
        /// Names our question.
        ticket: Ticket,
        /// Who answered what, or why nobody did.
        result: Result<(NodeId, Response), String>,
    },
    /// A health probe came back.
    Probed {
        /// Names the probe.
        id: ProbeId,
        /// What it found.
        outcome: Outcome,
    },
    /// Somebody on this VM wants something.
    Command {
        /// Names the wish.
        ticket: Ticket,
        /// The wish.
        command: Command,
    },
    /// What we wanted on disk is there, or is not.
    Persisted {
        /// Names what was written.
        ticket: Ticket,
        /// Why it is not there.
        result: Result<(), String>,
    },
    /// All that came so far came from disk; these members were Down when it was written.
    Remembered {
        /// Who was Down.
        down: Vec<NodeId>,
    },
    /// Somebody with a certificate of our own name speaks from this address.
    TwinSeen(SocketAddr),
    /// The configuration file was read again: it declares these instances and maps now.
    Reload(Vec<RawRegistration>, BTreeMap<ServiceName, MapSpec>),
    /// What the wall clock says now.
    WallClock(WallTime),
    /// The agent is asked to stop: announce a hold, then stop.
    Shutdown,
}

/// What somebody on this VM can want.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Add or replace an instance.
    Register {
        /// As it was written.
        registration: RawRegistration,
        /// What to do about another one with its id.
        on_conflict: OnConflict,
    },
    /// Remove an instance.
    Deregister(InstanceId),
    /// The instance says that it is well.
    Beat(InstanceId),
    /// Stop naming this in new answers.
    Drain(DrainTarget),
    /// Name it again.
    Undrain(DrainTarget),
    /// This agent restarts soon: keep serving what it vouched for.
    Hold(Option<Duration>),
    /// Withdraw everything and stop.
    Leave,
    /// Drop a member that is Down or Left for good.
    Forget(NodeName),
    /// Spread the keys of a service so.
    DeclareMap(ServiceName, MapSpec),
    /// What operators said about a map counts no more.
    WithdrawMap(ServiceName),
    /// Give a key a partition of its own.
    Pin(ServiceName, Pin),
    /// It needs none any more.
    Unpin(ServiceName, String),
    /// A program on this VM, called so, measured this load.
    ReportHeat {
        /// The service.
        service: ServiceName,
        /// What the program calls itself.
        reporter: String,
        /// What it measured.
        report: Box<Report>,
    },
    /// What does the author of a map know, and what would it do?
    MapAuthor(ServiceName),
    /// The author of a map shall do this.
    OrderMap(ServiceName, MapOrder),
}

/// What is said to a command that was carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// What was done, in words.
    Words(String),
    /// To [`Command::MapAuthor`].
    Author(Box<AuthorView>),
}

/// What to do about another instance with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Refuse the new one.
    Refuse,
    /// Replace the old one.
    Replace,
}

/// What a drain is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainTarget {
    /// The whole node.
    Node,
    /// One instance on it.
    Instance(InstanceId),
}

/// What kind of thing went wrong with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandErrorKind {
    /// The command does not make sense.
    Invalid,
    /// It names something that is not here.
    NotFound,
    /// It contradicts what is here.
    Conflict,
    /// The disk did not keep it.
    Disk,
}

/// Why a command was not carried out. What was there before is untouched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// What kind of thing went wrong.
    pub kind: CommandErrorKind,
    /// The thing, the cause and the cure.
    pub detail: String,
}

/// What goes to disk. Each replaces what was there.
#[derive(Debug, Clone)]
pub enum Persist {
    /// The epoch that this start uses.
    Epoch(Epoch),
    /// What is registered here.
    Registrations(SavedState),
    /// How the endpoints here do.
    Health(Vec<(EndpointKey, EndpointHealth)>),
    /// What the mesh looked like.
    View {
        /// The documents of all members but those that left.
        documents: Vec<Arc<Stored>>,
        /// Which of them were Down.
        down: Vec<NodeId>,
    },
    /// Where other members can be reached.
    Peers(Vec<SocketAddr>),
    /// The maps that are followed.
    Maps(Vec<(ServiceName, Arc<Map>)>),
}

/// What can go out.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram.
    Datagram {
        /// To whom.
        to: Target,
        /// The envelope's bytes.
        bytes: Vec<u8>,
    },
    /// Push a frame to each of these.
    Push {
        /// To whom.
        to: Vec<Target>,
        /// How urgent it is.
        class: Class,
        /// What.
        push: Arc<Push>,
    },
    /// Ask a peer and bring the answer.
    Request {
        /// Whom.
        to: Target,
        /// Names the question.
        ticket: Ticket,
        /// The question.
        request: Request,
    },
    /// Answer a peer's question.
    Reply {
        /// Names the question.
        ticket: Ticket,
        /// The answer.
        response: Response,
    },
    /// Probe an endpoint on this VM.
    Probe {
        /// Names the probe.
        id: ProbeId,
        /// Where.
        endpoint: Endpoint,
        /// How.
        spec: Arc<CheckSpec>,
    },
    /// Write this to disk; answer if there is a ticket.
    Persist {
        /// Names what waits for it.
        ticket: Option<Ticket>,
        /// What.
        what: Persist,
    },
    /// Answer a command.
    Answer {
        /// Names the command.
        ticket: Ticket,
        /// What came of it.
        result: Result<Said, CommandError>,
    },
    /// The snapshot differs: take a new one with [`crate::Node::snapshot`].
    ViewChanged,
    /// What whoever follows the members should know: what happened at once comes at once.
    Presence(Vec<crate::watch::PresenceChange>),
    /// Something happened that somebody may want to know.
    Event(Event),
    /// A peer said something it may not say.
    Rejected {
        /// The peer.
        from: NodeId,
        /// What was wrong.
        reason: String,
    },
    /// Drop the connection to this peer: it is dead or gone, and the next try should begin afresh.
    Disconnect(NodeId),
    /// Everything that had to be said is said: stop.
    Stop,
}

/// Why the machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// A probe of a member is due.
    Membership,
    /// A check of an endpoint is due.
    Health,
    /// One of the node's own timers is due.
    Node,
}
