//! The links: one per peer, at most so many, and what waits for one that is being dialled.

use std::collections::HashMap;
use std::collections::VecDeque;

use bytes::Bytes;
use quinn::Connection;
use ringmesh_node::io::Class;
use ringmesh_types::ids::NodeId;
use tokio::sync::mpsc;

use crate::quic;

/// Pushes that wait for one peer at most.
const PUSHES_MAX: usize = 256;
/// Datagrams that wait for a dial at most: older ones are stale.
const WAITING_DATAGRAMS_MAX: usize = 2;

/// A push and how urgent it is.
pub(crate) type QueuedPush = (Class, Bytes);

#[derive(Debug)]
struct Link {
    connection: Connection,
    /// Whether the node with the lower id dialled it: of two links that one stays.
    is_preferred: bool,
    pushes: mpsc::Sender<QueuedPush>,
    used: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    datagrams: VecDeque<Vec<u8>>,
    pushes: VecDeque<QueuedPush>,
}

/// What became of a push.
pub(crate) enum Queued {
    /// It is in the queue of an open link.
    Sent,
    /// The queue is full.
    Full,
    /// It waits for a link; a dial is under way, or should be.
    Waits {
        /// Whether a dial is under way.
        is_dialling: bool,
    },
}

/// The open links and the dials under way.
pub(crate) struct Links {
    most: usize,
    clock: u64,
    open: HashMap<NodeId, Link>,
    dialling: HashMap<NodeId, Waiting>,
}

/// A link that was added, and what had waited for it.
pub(crate) struct Added {
    /// The queue of pushes for the link's writer.
    pub(crate) pushes: mpsc::Receiver<QueuedPush>,
    /// How many pushes waited and are in the queue now.
    pub(crate) queued: usize,
    /// Bytes of the datagrams that waited and were sent.
    pub(crate) datagram_bytes: usize,
    /// A link that gives way to the new one.
    pub(crate) replaced: Option<Connection>,
}

impl Links {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, clock: 0, open: HashMap::new(), dialling: HashMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.values().filter(|link| link.connection.close_reason().is_none()).count()
    }

    /// The open link to a peer.
    pub(crate) fn open(&mut self, id: NodeId) -> Option<Connection> {
        self.clock += 1;
        let link = self.open.get_mut(&id)?;
        if link.connection.close_reason().is_some() {
            self.open.remove(&id);
            return None;
        }
        link.used = self.clock;
        Some(link.connection.clone())
    }

    /// The open link to a peer, if the peer dialled it. `me` is who we are.
    pub(crate) fn open_from(&mut self, id: NodeId, me: NodeId) -> Option<Connection> {
        let connection = self.open(id)?;
        let is_ours = self.open.get(&id).is_some_and(|link| link.is_preferred == (me < id));
        if is_ours { None } else { Some(connection) }
    }

    /// Lets a datagram wait for a dial. Says whether one is under way.
    pub(crate) fn wait_with_datagram(&mut self, id: NodeId, bytes: Vec<u8>) -> bool {
        let is_dialling = self.dialling.contains_key(&id);
        let waiting = self.dialling.entry(id).or_default();
        if waiting.datagrams.len() >= WAITING_DATAGRAMS_MAX {
            waiting.datagrams.pop_front();
        }
        waiting.datagrams.push_back(bytes);
        is_dialling
    }

    pub(crate) fn queue_push(&mut self, id: NodeId, class: Class, bytes: Bytes) -> Queued {
        if self.open(id).is_some()
            && let Some(link) = self.open.get(&id)
        {
            return match link.pushes.try_send((class, bytes)) {
                Ok(()) => Queued::Sent,
                Err(_) => Queued::Full,
            };
        }
        let is_dialling = self.dialling.contains_key(&id);
        let waiting = self.dialling.entry(id).or_default();
        if waiting.pushes.len() >= PUSHES_MAX {
            return Queued::Full;
        }
        waiting.pushes.push_back((class, bytes));
        Queued::Waits { is_dialling }
    }

    /// A dial failed: drops what waited for it and says how much that was.
    pub(crate) fn give_up(&mut self, id: NodeId) -> u64 {
        self.dialling.remove(&id).map_or(0, |waiting| (waiting.datagrams.len() + waiting.pushes.len()) as u64)
    }

    /// Adds a link. Nothing comes back if the one that is open is to stay.
    pub(crate) fn add(&mut self, id: NodeId, connection: &Connection, is_preferred: bool) -> Option<Added> {
        let is_open_preferred =
            self.open(id).is_some() && self.open.get(&id).is_some_and(|link| link.is_preferred);
        if is_open_preferred && !is_preferred {
            return None;
        }
        let (sender, pushes) = mpsc::channel(PUSHES_MAX);
        let waiting = self.dialling.remove(&id).unwrap_or_default();
        let mut datagram_bytes = 0;
        for datagram in waiting.datagrams {
            let len = datagram.len();
            if connection.send_datagram(datagram.into()).is_ok() {
                datagram_bytes += len;
            }
        }
        let mut queued = 0;
        for push in waiting.pushes {
            queued += usize::from(sender.try_send(push).is_ok());
        }
        let link = Link { connection: connection.clone(), is_preferred, pushes: sender, used: self.clock };
        let replaced = self.open.insert(id, link).map(|link| link.connection);
        self.evict();
        Some(Added { pushes, queued, datagram_bytes, replaced })
    }

    fn evict(&mut self) {
        while self.open.len() > self.most {
            let Some(least) = self.open.iter().min_by_key(|(_, link)| link.used).map(|(id, _)| *id) else {
                return;
            };
            if let Some(link) = self.open.remove(&least) {
                link.connection.close(quic::CLOSE_EVICTED, b"too many links, this one was used least");
            }
        }
    }

    /// Forgets the link to a peer.
    pub(crate) fn remove(&mut self, id: NodeId) -> Option<Connection> {
        self.open.remove(&id).map(|link| link.connection)
    }

    /// Forgets this very link, if it is still the one to that peer.
    pub(crate) fn remove_closed(&mut self, id: NodeId, connection: &Connection) {
        let is_it =
            self.open.get(&id).is_some_and(|link| link.connection.stable_id() == connection.stable_id());
        if is_it {
            self.open.remove(&id);
        }
    }
}
