//! Addresses to listen at, and which of them cannot be had together.

use core::net::{IpAddr, SocketAddr};
use std::io;

use socket2::{Domain, Socket, Type};

/// Where to listen.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// The address; port 0 lets the system choose.
    pub addr: SocketAddr,
    /// Whether a wildcard address of IPv6 leaves IPv4 to another socket (`IPV6_V6ONLY`, ipv6(7)).
    pub is_v6_only: bool,
}

impl Listen {
    /// Each of `addrs`. An IPv6 wildcard address takes IPv4 as well, unless IPv4 has an entry of its own.
    pub fn all(addrs: &[SocketAddr]) -> impl Iterator<Item = Self> {
        addrs.iter().map(|addr| {
            let is_beside = |other: &SocketAddr| other.is_ipv4() && other.port() == addr.port();
            Self { addr: *addr, is_v6_only: addr.is_ipv6() && addrs.iter().any(is_beside) }
        })
    }

    /// Whether sockets of one transport cannot be had at both.
    pub(crate) fn is_in_the_way_of(self, other: Self) -> bool {
        let takes = |wide: Self, ip: IpAddr| {
            let is_of_family = wide.addr.is_ipv6() == ip.is_ipv6();
            wide.addr.ip().is_unspecified() && (is_of_family || (wide.addr.is_ipv6() && !wide.is_v6_only))
        };
        let (ip, other_ip) = (self.addr.ip(), other.addr.ip());
        let is_one_port = self.addr.port() == other.addr.port();
        is_one_port && (ip == other_ip || takes(self, other_ip) || takes(other, ip))
    }

    /// A socket for it that is not bound yet.
    pub(crate) fn open(self, kind: Type) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.addr), kind, None)?;
        if self.addr.is_ipv6() {
            socket.set_only_v6(self.is_v6_only)?;
        }
        Ok(socket)
    }
}

impl From<SocketAddr> for Listen {
    fn from(addr: SocketAddr) -> Self {
        Self { addr, is_v6_only: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> SocketAddr {
        text.parse().expect("an address and a port")
    }

    #[test]
    fn wildcard_addresses_are_in_the_way_of_others() {
        let check = |one: &str, other: &str, want: bool| {
            let [one, other] = [one, other].map(|text| Listen::from(parse(text)));
            let both = [one.is_in_the_way_of(other), other.is_in_the_way_of(one)];
            assert_eq!(both, [want; 2], "{one:?} {other:?}");
        };
        check("127.0.0.1:53", "127.0.0.1:53", true);
        check("127.0.0.1:53", "127.0.0.2:53", false);
        check("0.0.0.0:53", "127.0.0.2:53", true);
        check("0.0.0.0:53", "127.0.0.2:54", false);
        check("0.0.0.0:53", "[::1]:53", false);
        check("[::]:53", "127.0.0.1:53", true);
        check("[::]:53", "0.0.0.0:53", true);
    }

    #[test]
    fn the_wildcard_addresses_of_both_families_can_be_had_together() {
        let all: Vec<Listen> = Listen::all(&["0.0.0.0:53", "[::]:53", "[::1]:54"].map(parse)).collect();
        assert_eq!(all.iter().map(|listen| listen.is_v6_only).collect::<Vec<_>>(), [false, true, false]);
        assert!(!all[0].is_in_the_way_of(all[1]));
    }
}
