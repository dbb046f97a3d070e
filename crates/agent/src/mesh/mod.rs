//! The mesh over QUIC: one endpoint, one link per peer, and what travels on it.
//!
//! Datagrams carry packets and never wait: they go out on an open link or are handed to the dial that opens one, at most
//! two of them. Pushes wait in a bounded queue per peer, so that a stalled peer costs only its own queue. Requests open a
//! stream of their own and fail after [`REQUEST_TIMEOUT`]. Everything that comes in goes to the node's door or, if it
//! carries statements, through the gate first ([`crate::gate`]).

mod inbound;
mod links;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use quinn::{Connection, Endpoint};
use ringmesh_gossip::message::{Push, Request, Response};
use ringmesh_node::io::{Class, Input, Source, Target, Ticket};
use ringmesh_types::ids::NodeId;
use ringmesh_types::limits::FRAME_BYTES_MAX;
use ringmesh_types::name::ClusterName;
use ringmesh_types::sealed::Statement;
use ringmesh_types::wire::{self, Channel};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::doctor::Examinee;
use crate::events::Recorder;
use crate::gate::Batch;
use crate::pki::{Credentials, server_name_of_cluster, server_name_of_node};
use crate::quic;

pub(crate) use links::Links;

/// A dial that takes longer has failed.
pub const DIAL_TIMEOUT: Duration = Duration::from_millis(1_500);
/// A request that takes longer, dial included, has failed.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Links at most: beyond it the least used one is closed.
pub const LINKS_MAX: usize = 1_024;
/// Handshakes of others under way at most.
const HANDSHAKES_MAX: usize = 64;

/// Where what comes in goes.
#[derive(Clone)]
pub(crate) struct Doors {
    /// Packets and requests: they do not wait behind documents.
    pub(crate) urgent: mpsc::Sender<Input>,
    /// Everything else.
    pub(crate) bulk: mpsc::Sender<Input>,
    /// Statements, to be checked first.
    pub(crate) gate: mpsc::Sender<Batch>,
    /// Connections that are no links: peers examine the path to us.
    pub(crate) examinations: mpsc::Sender<Examinee>,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct MeshStats {
    /// Dials that succeeded.
    pub dials: AtomicU64,
    /// Dials that failed.
    pub dials_failed: AtomicU64,
    /// Links that others opened.
    pub accepted: AtomicU64,
    /// Handshakes of others that failed, and peers that were refused after theirs.
    pub refused: AtomicU64,
    /// Bytes of datagrams, pushes, requests and responses that were given to QUIC: what is sent without its headers,
    /// acknowledgements and encryption.
    pub payload_bytes: AtomicU64,
    /// Datagrams and pushes that were dropped because a queue was full.
    pub dropped: AtomicU64,
    /// Streams whose contents did not decode.
    pub undecodable: AtomicU64,
    /// Connections of peers that examined the path to us.
    pub examined: AtomicU64,
    /// Examinations that were turned away because too many were under way.
    pub examinations_refused: AtomicU64,
}

impl MeshStats {
    fn count_payload(&self, bytes: usize) {
        self.payload_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The transport.
pub struct Mesh {
    endpoint: Endpoint,
    client: quinn::ClientConfig,
    cluster: ClusterName,
    me: NodeId,
    links: Mutex<Links>,
    replies: Mutex<HashMap<Ticket, oneshot::Sender<Response>>>,
    tickets: AtomicU64,
    handshakes: Arc<Semaphore>,
    doors: Doors,
    recorder: Arc<Recorder>,
    /// Pushes that have not been acknowledged yet.
    unsent: watch::Sender<usize>,
    /// What is counted.
    pub stats: MeshStats,
}

/// Why the transport could not start.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The socket could not be bound.
    #[error(
        "mesh.listen: {addr} cannot be bound: {error}. Is another agent running there? Change mesh.listen"
    )]
    Bind {
        /// Which address.
        addr: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The certificates do not make a configuration.
    #[error(transparent)]
    Config(#[from] quic::QuicConfigError),
}

impl Mesh {
    /// Binds `listen` and starts to accept links.
    ///
    /// # Errors
    /// If the address is taken or the certificates do not fit.
    pub(crate) fn start(
        listen: SocketAddr,
        credentials: &Credentials,
        secret: &[u8; 32],
        doors: Doors,
        recorder: Arc<Recorder>,
    ) -> Result<Arc<Self>, MeshError> {
        let bound = |error| MeshError::Bind { addr: listen, error };
        let socket = bind(listen).map_err(bound)?;
        let server = quic::server_config(credentials)?;
        let client = quic::client_config(credentials)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let config = quic::endpoint_config(secret);
        let endpoint = Endpoint::new(config, Some(server), socket, runtime).map_err(bound)?;
        let mesh = Arc::new(Self {
            endpoint,
            client,
            cluster: credentials.cluster.clone(),
            me: credentials.id,
            links: Mutex::new(Links::new(LINKS_MAX)),
            replies: Mutex::new(HashMap::new()),
            tickets: AtomicU64::new(0),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            doors,
            recorder,
            unsent: watch::Sender::new(0),
            stats: MeshStats::default(),
        });
        tokio::spawn(inbound::accept(mesh.clone()));
        Ok(mesh)
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many links are open.
    pub fn open_links(&self) -> usize {
        self.links().len()
    }

    /// The address that the endpoint is bound to.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.endpoint.local_addr().ok()
    }

    /// What connections are dialled from and accepted on.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether there is a link that the peer dialled, and it answers on it: then it reaches us, whatever else fails.
    pub(crate) async fn is_heard(&self, id: NodeId) -> bool {
        let Some(connection) = self.links().open_from(id, self.me) else {
            return false;
        };
        let nothing = Request::Pull { keys: Vec::new() };
        let answered = tokio::time::timeout(DIAL_TIMEOUT, self.ask_on(&connection, &nothing)).await;
        matches!(answered, Ok(Ok(_)))
    }

    /// Sends a datagram, dialling if there is no link; never waits.
    pub(crate) fn send_datagram(self: &Arc<Self>, to: Target, bytes: Vec<u8>) {
        let Some(id) = to.id else {
            return;
        };
        let open = self.links().open(id);
        match open {
            Some(connection) => {
                let len = bytes.len();
                match connection.send_datagram(bytes.into()) {
                    Ok(()) => self.stats.count_payload(len),
                    Err(_) => {
                        self.stats.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            None => {
                let is_dialling = self.links().wait_with_datagram(id, bytes);
                if !is_dialling {
                    self.dial_for(to, id);
                }
            }
        }
    }

    /// Queues a push for each target, dialling where there is no link; never waits.
    pub(crate) fn push(self: &Arc<Self>, to: &[Target], class: Class, push: &Push) {
        let Ok(bytes) = wire::encode(Channel::Stream, push) else {
            self.stats.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let bytes: bytes::Bytes = bytes.into();
        for target in to {
            if let Some(id) = target.id {
                self.push_to(*target, id, class, bytes.clone());
            }
        }
    }

    fn push_to(self: &Arc<Self>, target: Target, id: NodeId, class: Class, bytes: bytes::Bytes) {
        let queued = self.links().queue_push(id, class, bytes);
        match queued {
            links::Queued::Sent => self.unsent.send_modify(|unsent| *unsent += 1),
            links::Queued::Full => {
                self.stats.dropped.fetch_add(1, Ordering::Relaxed);
            }
            links::Queued::Waits { is_dialling: true } => {}
            links::Queued::Waits { is_dialling: false } => self.dial_for(target, id),
        }
    }

    /// Dials in the background for what waits; what waits is dropped if that fails.
    fn dial_for(self: &Arc<Self>, to: Target, id: NodeId) {
        let mesh = self.clone();
        tokio::spawn(async move {
            match mesh.dial(to).await {
                Ok(_) => {}
                Err(why) => {
                    let dropped = mesh.links().give_up(id);
                    mesh.stats.dropped.fetch_add(dropped, Ordering::Relaxed);
                    tracing::debug!(peer = %id, addr = %to.addr, %why, "dial failed");
                }
            }
        });
    }

    /// Opens a link and says who answered.
    async fn dial(self: &Arc<Self>, to: Target) -> Result<(NodeId, Connection), String> {
        let name = match to.id {
            Some(id) => server_name_of_node(&self.cluster, &id),
            None => server_name_of_cluster(&self.cluster),
        };
        let connecting = self
            .endpoint
            .connect_with(self.client.clone(), to.addr, &name)
            .map_err(|error| format!("{} cannot be dialled: {error}", to.addr))?;
        let connected = tokio::time::timeout(DIAL_TIMEOUT, connecting).await;
        let outcome = match connected {
            Ok(Ok(connection)) => inbound::admit(self, connection, inbound::Role::Dialler),
            Ok(Err(error)) => Err(inbound::explain(&error)),
            Err(_) => Err(format!("no answer within {} ms", DIAL_TIMEOUT.as_millis())),
        };
        let counter = if outcome.is_ok() { &self.stats.dials } else { &self.stats.dials_failed };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Err(why) = &outcome {
            self.recorder.dial_failed(to.addr, why);
        }
        outcome
    }

    /// Asks a peer; the answer comes through the doors.
    pub(crate) fn request(self: &Arc<Self>, to: Target, ticket: Ticket, request: Request) {
        let mesh = self.clone();
        tokio::spawn(async move {
            let answered = tokio::time::timeout(REQUEST_TIMEOUT, mesh.exchange(to, &request)).await;
            let result = answered.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            let result = match result {
                Ok((peer, mut response)) => {
                    mesh.check(Source::Answered(peer), response.take_documents()).await;
                    Ok((peer, response))
                }
                Err(why) => Err(why),
            };
            // Whether a suspect answers must not wait behind documents.
            let is_urgent = matches!(result, Ok((_, Response::Here { .. })));
            let door = if is_urgent { &mesh.doors.urgent } else { &mesh.doors.bulk };
            let _ = door.send(Input::Response { ticket, result }).await;
        });
    }

    async fn exchange(self: &Arc<Self>, to: Target, request: &Request) -> Result<(NodeId, Response), String> {
        let open = to.id.and_then(|id| self.links().open(id).map(|connection| (id, connection)));
        let (peer, connection) = match open {
            Some(open) => open,
            None => self.dial(to).await?,
        };
        let response = self.ask_on(&connection, request).await?;
        Ok((peer, response))
    }

    /// Asks over a link that is open.
    async fn ask_on(&self, connection: &Connection, request: &Request) -> Result<Response, String> {
        let bytes = wire::encode(Channel::Stream, request).map_err(|error| error.to_string())?;
        let addr = connection.remote_address();
        let lost = |error: &dyn std::fmt::Display| format!("the link to {addr} was lost: {error}");
        let (mut send, mut receive) = connection.open_bi().await.map_err(|error| lost(&error))?;
        send.write_all(&bytes).await.map_err(|error| lost(&error))?;
        send.finish().map_err(|error| lost(&error))?;
        self.stats.count_payload(bytes.len());
        let bytes = receive.read_to_end(FRAME_BYTES_MAX).await.map_err(|error| lost(&error))?;
        wire::decode(Channel::Stream, &bytes).map_err(|error| error.to_string())
    }

    /// Hands documents to the gate; waits while it is busy, which slows only whoever sent them.
    async fn check(&self, source: Source, documents: Vec<ringmesh_types::document::Document>) {
        if !documents.is_empty() {
            let statements = documents.into_iter().map(Statement::Document).collect();
            let _ = self.doors.gate.send(Batch { source, statements }).await;
        }
    }

    /// The node's answer to a peer's question.
    pub(crate) fn reply(&self, ticket: Ticket, response: Response) {
        let waiting = self.replies.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&ticket);
        if let Some(waiting) = waiting {
            let _ = waiting.send(response);
        }
    }

    /// Registers a question of a peer that the node will answer.
    fn expect_reply(&self) -> (Ticket, oneshot::Receiver<Response>) {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed) + 1);
        let (sender, receiver) = oneshot::channel();
        let mut replies = self.replies.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        replies.retain(|_, waiting| !waiting.is_closed());
        replies.insert(ticket, sender);
        (ticket, receiver)
    }

    /// Drops the link to a peer.
    pub(crate) fn disconnect(&self, id: NodeId) {
        if let Some(connection) = self.links().remove(id) {
            connection.close(quic::CLOSE_AGED, b"held Down: dial again");
        }
    }

    /// Waits until every queued push was acknowledged, at most `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        let mut unsent = self.unsent.subscribe();
        let _ = tokio::time::timeout(limit, unsent.wait_for(|unsent| *unsent == 0)).await;
    }

    /// Closes every link and the socket.
    pub(crate) async fn close(&self) {
        self.endpoint.close(quic::CLOSE_SHUTDOWN, b"this agent stops");
        let _ = tokio::time::timeout(Duration::from_millis(300), self.endpoint.wait_idle()).await;
    }
}

/// A UDP socket with room for bursts: the kernel's default holds a few hundred packets.
fn bind(listen: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(listen),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    let _ = socket.set_recv_buffer_size(4 << 20);
    let _ = socket.set_send_buffer_size(4 << 20);
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}
