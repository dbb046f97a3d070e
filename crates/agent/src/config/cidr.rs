//! Networks as people write them (`10.0.0.0/8`, `2001:db8::/32`), and which addresses are in them.
//!
//! IPv4 addresses that arrive mapped into IPv6 count as the IPv4 addresses they are.
//! Sources: RFC 4632 · 3.1 · full; RFC 4291 · 2.3, 2.5.5.2 · full.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// All addresses that begin with the same bits. IPv4 and IPv6 never match each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// The first address: its bits beyond `length` are zero.
    network: IpAddr,
    /// How many leading bits are shared, at most 32 or 128.
    length: u32,
}

impl Cidr {
    /// Whether `address` is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.length) == self.network
    }

    /// Whether all addresses of `other` are in the network.
    pub fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.network)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

impl FromStr for Cidr {
    type Err = String;

    /// Reads `<address>/<length>`; an address alone is a network of one.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no network: write it as 10.0.0.0/8 or 2001:db8::/32");
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        if address.to_canonical() != address {
            return Err(format!("{text:?} is IPv4 mapped into IPv6: write it as IPv4"));
        }
        let length = match length {
            Some(digits) => digits.parse::<u32>().map_err(|_| wrong())?,
            None => bits(address),
        };
        if length > bits(address) {
            return Err(format!("{text:?} has too long a prefix: /0 to /{} are allowed", bits(address)));
        }
        let network = masked(address, length);
        if network != address {
            return Err(format!("{text:?} has bits beyond its prefix: write it as {network}/{length}"));
        }
        Ok(Self { network, length })
    }
}

/// How many bits an address of this family has.
fn bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => Ipv4Addr::BITS,
        IpAddr::V6(_) => Ipv6Addr::BITS,
    }
}

/// The address with all but its leading `length` bits zero. A shift by a whole address leaves nothing.
fn masked(address: IpAddr, length: u32) -> IpAddr {
    let host_bits = bits(address).saturating_sub(length);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_the_addresses_that_share_its_prefix() {
        let check = |network: &str, address: &str, want: bool| {
            let network: Cidr = network.parse().expect("a network");
            assert_eq!(network.contains(address.parse().expect("an address")), want, "{network} {address}");
        };
        check("10.0.0.0/8", "10.255.255.255", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("::/0", "2001:db8::1", true);
        check("::/0", "203.0.113.9", false);
        check("2001:db8::/33", "2001:db8:7fff::1", true);
        check("2001:db8::/33", "2001:db8:8000::1", false);
        check("::1/128", "::1", true);
        check("127.0.0.0/8", "::ffff:127.0.0.1", true);
    }

    #[test]
    fn networks_are_written_as_they_are_read() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "2001:db8::/32", "::/0", "::1/128"] {
            assert_eq!(text.parse::<Cidr>().map(|network| network.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_the_right_form() {
        let wrong = ["", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "localhost"];
        for text in wrong.into_iter().chain(["::ffff:10.0.0.0/104"]) {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        let why = "10.1.2.3/8".parse::<Cidr>().expect_err("host bits");
        assert!(why.ends_with("write it as 10.0.0.0/8"), "{why}");
    }
}
