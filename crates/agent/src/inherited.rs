//! Sockets that the service manager opened before it started the agent (sd_listen_fds(3)). They outlive it: while it
//! restarts, questions wait in them and none is lost.

use core::fmt;
use core::net::SocketAddr;
use std::io;
use std::net::{TcpListener, UdpSocket};

use listenfd::ListenFd;

use crate::listen::Listen;

/// Why what the service manager gave cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "LISTEN_FDS: socket {number} of those that the service manager gave cannot be used: {source}. Give only UDP sockets and TCP listeners, each with an address and a port (ListenDatagram=, ListenStream=)"
)]
pub struct ConfigInheritedError {
    number: usize,
    source: io::Error,
}

/// What was inherited, and what of it is not in use yet.
#[derive(Debug, Default)]
pub struct Inherited {
    given: Vec<Given>,
    udp: Vec<(SocketAddr, UdpSocket)>,
    tcp: Vec<(SocketAddr, TcpListener)>,
}

/// Where a socket is that the service manager gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    addr: SocketAddr,
    transport: &'static str,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {}", self.addr, self.transport)
    }
}

impl Inherited {
    /// Takes what this process was given, once, before it has threads: the variables that say so are removed, so that programs
    /// started by it do not take them for theirs.
    ///
    /// # Errors
    /// If something that was given is no socket of UDP or TCP.
    pub fn from_environment() -> Result<Self, ConfigInheritedError> {
        let (mut given, mut inherited) = (ListenFd::from_env(), Self::default());
        for index in 0..given.len() {
            inherited
                .take(&mut given, index)
                .map_err(|source| ConfigInheritedError { number: index + 1, source })?;
        }
        Ok(inherited)
    }

    fn take(&mut self, given: &mut ListenFd, index: usize) -> io::Result<()> {
        if let Ok(Some(socket)) = given.take_udp_socket(index) {
            let addr = socket.local_addr()?;
            // The copy is not handed on to programs that are started.
            self.udp.push((addr, socket.try_clone()?));
            self.given.push(Given { addr, transport: "udp" });
        } else if let Some(listener) = given.take_tcp_listener(index)? {
            let addr = listener.local_addr()?;
            self.tcp.push((addr, listener.try_clone()?));
            self.given.push(Given { addr, transport: "tcp" });
        }
        Ok(())
    }

    /// The UDP socket on `addr`, if there is one.
    pub(crate) fn udp(&mut self, addr: SocketAddr) -> Option<UdpSocket> {
        take(&mut self.udp, addr)
    }

    /// The TCP listener on `addr`, if there is one.
    pub(crate) fn tcp(&mut self, addr: SocketAddr) -> Option<TcpListener> {
        take(&mut self.tcp, addr)
    }

    /// What was given, in use or not, and keeps a socket of our own from being on `addr`.
    pub(crate) fn in_the_way(&self, listen: Listen, transport: &str) -> Option<Given> {
        self.given
            .iter()
            .copied()
            .find(|given| given.transport == transport && Listen::from(given.addr).is_in_the_way_of(listen))
    }

    /// What nobody took.
    pub(crate) fn left(&self) -> impl Iterator<Item = Given> {
        let udp = self.udp.iter().map(|(addr, _)| Given { addr: *addr, transport: "udp" });
        udp.chain(self.tcp.iter().map(|(addr, _)| Given { addr: *addr, transport: "tcp" }))
    }
}

fn take<T>(sockets: &mut Vec<(SocketAddr, T)>, addr: SocketAddr) -> Option<T> {
    let place = sockets.iter().position(|(other, _)| *other == addr)?;
    Some(sockets.swap_remove(place).1)
}
