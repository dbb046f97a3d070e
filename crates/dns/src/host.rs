//! Short names of addresses, for SRV targets: SIP and media hosts have several addresses, so a target names an address,
//! not a node. The name is the address itself in base32hex without padding, lower case (RFC 4648 7; RFC 2782 "Target":
//! must have address records), so every agent gives an address the same name.

use core::net::IpAddr;

use crate::base32hex;

/// The label of `address`: 7 characters for IPv4, 26 for IPv6.
pub fn label(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => base32hex::encode(&v4.octets()),
        IpAddr::V6(v6) => base32hex::encode(&v6.octets()),
    }
}

/// The address that has exactly this label. Takes nothing from the heap.
pub fn address(text: &str) -> Option<IpAddr> {
    match text.len() {
        7 => decode::<4>(text).map(IpAddr::from),
        26 => decode::<16>(text).map(IpAddr::from),
        _ => None,
    }
}

/// The bytes that `text` stands for, if there are exactly so many.
fn decode<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    let count = base32hex::decode(text.bytes(), &mut bytes).ok()?.len();
    (count == BYTES).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_are_the_published_vectors() {
        let check = |text: &str, want: &str| {
            let given: IpAddr = text.parse().expect("an address");
            assert_eq!(label(given), want);
            assert_eq!(address(want), Some(given));
        };
        check("10.0.0.1", "1800008");
        check("192.0.2.1", "o000408");
        check("255.255.255.255", "vvvvvvo");
        check("2001:db8::1", "400gre00000000000000000004");
        check("::", "00000000000000000000000000");
    }

    #[test]
    fn nothing_else_is_a_label() {
        for text in ["", "180000", "18000080", "1800009", "180000W", "180000w", "1800008.", "vvvvvvv"] {
            assert_eq!(address(text), None, "{text}");
        }
        assert_eq!(address("400gre00000000000000000005"), None);
    }

    proptest! {
        #[test]
        fn every_ipv4_address_round_trips(octets: [u8; 4]) {
            let given = IpAddr::from(octets);
            prop_assert_eq!(address(&label(given)), Some(given));
            prop_assert_eq!(label(given).len(), 7);
        }

        #[test]
        fn every_ipv6_address_round_trips(octets: [u8; 16]) {
            let given = IpAddr::from(octets);
            prop_assert_eq!(address(&label(given)), Some(given));
            prop_assert_eq!(label(given).len(), 26);
        }

        #[test]
        fn what_parses_is_its_own_label(text in "[0-9a-w]{0,27}") {
            if let Some(found) = address(&text) {
                prop_assert_eq!(label(found), text);
            }
        }
    }
}
