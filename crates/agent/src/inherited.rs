//! Sockets that the service manager opened before it started the agent (sd_listen_fds(3)). They outlive it: while it
//! restarts, questions wait in them and none is lost.

use core::net::SocketAddr;
use std::io;
use std::net::{TcpListener, UdpSocket};

use listenfd::ListenFd;

/// What was inherited and is not in use yet.
#[derive(Debug, Default)]
pub struct Inherited {
    udp: Vec<(SocketAddr, UdpSocket)>,
    tcp: Vec<(SocketAddr, TcpListener)>,
}

impl Inherited {
    /// Takes what this process was given, once, before it has threads: the variables that say so are removed, so that programs
    /// started by it do not take them for theirs.
    ///
    /// # Errors
    /// If something that was given is no socket of UDP or TCP.
    pub fn from_environment() -> io::Result<Self> {
        let (mut given, mut inherited) = (ListenFd::from_env(), Self::default());
        for index in 0..given.len() {
            if let Ok(Some(socket)) = given.take_udp_socket(index) {
                // The copy is not handed on to programs that are started.
                inherited.udp.push((socket.local_addr()?, socket.try_clone()?));
            } else if let Some(listener) = given.take_tcp_listener(index)? {
                inherited.tcp.push((listener.local_addr()?, listener.try_clone()?));
            }
        }
        Ok(inherited)
    }

    /// The UDP socket on `addr`, if there is one.
    pub(crate) fn udp(&mut self, addr: SocketAddr) -> Option<UdpSocket> {
        take(&mut self.udp, addr)
    }

    /// The TCP listener on `addr`, if there is one.
    pub(crate) fn tcp(&mut self, addr: SocketAddr) -> Option<TcpListener> {
        take(&mut self.tcp, addr)
    }

    /// The addresses of what nobody took.
    pub(crate) fn left(&self) -> impl Iterator<Item = SocketAddr> {
        let udp = self.udp.iter().map(|(addr, _)| *addr);
        udp.chain(self.tcp.iter().map(|(addr, _)| *addr))
    }
}

fn take<T>(sockets: &mut Vec<(SocketAddr, T)>, addr: SocketAddr) -> Option<T> {
    let place = sockets.iter().position(|(other, _)| *other == addr)?;
    Some(sockets.swap_remove(place).1)
}
