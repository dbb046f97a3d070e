//! DNS over TCP: accepts connections within bounds and keeps them open while they are used. What is done on one of them
//! is decided in [`connection`].
//!
//! Sources: RFC 1035 · 4.2.2 · full. RFC 7766 · 6.2, 7, 8 · full: requests are pipelined, a connection outlives its
//! answers, and responses leave in the order of their requests, which section 7 allows. RFC 9210 · 4.2, 4.3 · full:
//! limits in all and for each source, idle time-outs. No edns-tcp-keepalive (RFC 7828), no TCP Fast Open.
//!
//! Invariant: no failed accept ends the loop. Invariant: whoever is owed a response, and takes it, is not cut off to make room.
//! Invariant: whoever may not ask does not take the place of somebody who may.

mod connection;
#[cfg(test)]
mod tests;

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::sync::atomic::AtomicU64;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use socket2::{SockAddr, SockRef, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::accepting::{self, Failures};
use crate::dns_server::{DnsHandler, increment};
use crate::listen::Listen;
use connection::{Connection, Idleness};

/// Connections that wait to be accepted at most, as of most servers.
const BACKLOG: i32 = 1_024;
/// What the kernel is asked to hold of a connection each way, of which it makes twice as much: the largest message fits, and
/// a reader that takes nothing costs no more.
const SOCKET_BUFFER_BYTES: usize = 64 << 10;
/// How long connections may take to answer what they have received when the agent stops.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// Connections of one listener at once at most.
pub(crate) const CONNECTIONS_MAX: usize = 256;

/// What one listener grants its askers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at once at most. Default 256: half a megabyte each at the very worst, half of it the kernel's, and a
    /// quarter of the 1,024 file descriptors that a process usually has. More only helps if more askers than that stay.
    connections: usize,
    /// How many of them one source may have: an IPv4 address, or the /64 of an IPv6 address (one host may use all of
    /// it). Default 16: a resolver with a connection for each of its threads fits, and 15 hosts do not fill the listener.
    connections_per_source: usize,
    /// Sources that may have as many as there are. Default: loopback, where all askers share one address.
    is_exempt: fn(&IpAddr) -> bool,
    /// How long a connection may be silent between messages. Default 10 s; RFC 7766, 6.2.3: of the order of a few
    /// seconds.
    idle: Duration,
    /// How long a message may take from its first byte to its last. Default 5 s: a request is one segment or two.
    message_within: Duration,
    /// How long the asker may take to let a write of responses pass. Default 5 s.
    write_within: Duration,
}

impl Limits {
    /// The defaults, with so many connections at once.
    pub(crate) fn of(connections: usize) -> Self {
        Self {
            connections,
            connections_per_source: 16,
            is_exempt: IpAddr::is_loopback,
            idle: Duration::from_secs(10),
            message_within: Duration::from_secs(5),
            write_within: Duration::from_secs(5),
        }
    }
}

/// Opens `listen`, or takes the listener that was inherited.
///
/// # Errors
/// What the system says.
pub(crate) fn bind(listen: Listen, inherited: Option<std::net::TcpListener>) -> io::Result<TcpListener> {
    let listener = match inherited {
        Some(listener) => listener,
        None => {
            let socket = listen.open(Type::STREAM)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SockAddr::from(listen.addr))?;
            socket.listen(BACKLOG)?;
            socket.into()
        }
    };
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let socket = SockRef::from(&listener);
    // Connections inherit both.
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    Ok(listener)
}

/// Serves the connections that `accept` gives, until `shutdown`; what has been received then is still answered, within a
/// second.
pub(crate) async fn serve<A>(accept: A, handler: &DnsHandler, limits: Limits, shutdown: &CancellationToken)
where
    A: AsyncFn() -> io::Result<(TcpStream, SocketAddr)>,
{
    let mut peers =
        Peers { handler, limits, tasks: JoinSet::new(), peers: Vec::new(), order: Arc::default() };
    let (mut failures, mut again_at) = (Failures::default(), None);
    loop {
        let accepted = async {
            if let Some(again_at) = again_at {
                sleep_until(again_at).await;
            }
            accept().await
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = peers.tasks.join_next() => peers.on_ended(ended),
            accepted = accepted => match accepted {
                Ok((stream, from)) => {
                    failures.end();
                    again_at = None;
                    peers.admit(stream, from, shutdown);
                }
                // The peer has gone already, or descriptors or memory are short: neither lasts.
                Err(error) => {
                    if accepting::is_exhaustion(&error) {
                        peers.give_one_up();
                    }
                    again_at = Some(failures.add(Instant::now(), "dns over tcp", &error));
                }
            }
        }
    }
    drop(accept);
    peers.finish().await;
}

/// Who shares one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source(IpAddr);

impl Source {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V6(ip) => Self(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy)]
struct Caller {
    ip: IpAddr,
    /// Whether somebody there may ask.
    is_allowed: bool,
}

impl Caller {
    fn is_beside(self, other: Self) -> bool {
        Source::of(self.ip) == Source::of(other.ip)
    }
}

/// A connection that is open.
struct Peer {
    caller: Caller,
    idleness: Arc<Idleness>,
    task: AbortHandle,
}

/// The connections of one listener.
struct Peers<'a> {
    handler: &'a DnsHandler,
    limits: Limits,
    tasks: JoinSet<()>,
    /// In the order in which they came.
    peers: Vec<Peer>,
    /// How often a connection fell idle.
    order: Arc<AtomicU64>,
}

impl Peers<'_> {
    fn admit(&mut self, stream: TcpStream, from: SocketAddr, shutdown: &CancellationToken) {
        let ip = from.ip().to_canonical();
        let caller = Caller { ip, is_allowed: self.handler.is_allowed(ip) };
        while let Some(ended) = self.tasks.try_join_next() {
            self.on_ended(ended);
        }
        if !self.make_room(caller) {
            increment(&self.handler.stats().connections_refused);
            debug!(%from, "dns over tcp: too many connections");
            return;
        }
        let idleness = Arc::new(Idleness::new(self.order.clone()));
        let connection =
            Connection::new(stream, caller, self.handler, self.limits, idleness.clone(), shutdown.clone());
        let task = self.tasks.spawn(connection.run());
        self.peers.push(Peer { caller, idleness, task });
    }

    /// Whether so many come from where `caller` is that there may be no more.
    fn is_source_full(&self, caller: Caller) -> bool {
        let count = self.peers.iter().filter(|peer| peer.caller.is_beside(caller)).count();
        count >= self.limits.connections_per_source && !(self.limits.is_exempt)(&caller.ip)
    }

    /// Whether there is room for `caller`. RFC 7766, 6.2.3: idle connections may be closed at any time if resources are
    /// short; the one that has been idle longest goes: of its own source if that one has too many, or else of all, and then
    /// before it those of who may not ask.
    fn make_room(&mut self, caller: Caller) -> bool {
        // One that is found idle may be asked something at this moment; then the next one is tried.
        for _ in 0..=self.limits.connections {
            let is_source_full = self.is_source_full(caller);
            if !is_source_full && self.peers.len() < self.limits.connections {
                return true;
            }
            let may_go = |peer: Caller| {
                (caller.is_allowed || !peer.is_allowed) && (!is_source_full || peer.is_beside(caller))
            };
            if !self.displace_idle(may_go) {
                return false;
            }
        }
        false
    }

    /// The system has no descriptors or memory left for another connection.
    fn give_one_up(&mut self) {
        self.displace_idle(|_| true);
    }

    /// Closes the connection that has been idle longest, of those that `may_go`, unless it is asked something at this very
    /// moment. Says whether any is idle.
    fn displace_idle(&mut self, may_go: impl Fn(Caller) -> bool) -> bool {
        let idle = self.peers.iter().enumerate().filter_map(|(index, peer)| {
            let since = peer.idleness.since().filter(|_| may_go(peer.caller))?;
            Some((peer.caller.is_allowed, since, index))
        });
        let Some((_, since, index)) = idle.min() else {
            return false;
        };
        if self.peers[index].idleness.end_for_good(since) {
            self.peers.remove(index).task.abort();
            increment(&self.handler.stats().connections_displaced);
        }
        true
    }

    fn on_ended(&mut self, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            error!(%error, "dns over tcp: a connection failed");
        }
        self.peers.retain(|peer| !peer.task.is_finished());
    }

    async fn finish(mut self) {
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(STOP_WITHIN, ended).await.is_err() {
            debug!(left = self.tasks.len(), "dns over tcp: connections were cut off");
        }
        self.tasks.shutdown().await;
    }
}
