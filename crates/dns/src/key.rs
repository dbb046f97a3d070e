//! Names of keys (DESIGN 8.1): what stands between what is asked of a key's owner and the name of the map. Nothing is
//! taken from the heap.
//!
//! * `<key>.key`: a key of a–z, 0–9, `-` and `_`, as it is written, in lower case;
//! * `<base32hex of the key>.kx`: any key, in as many labels as it needs;
//! * `<16 hex digits>.kh`: whatever lies at this position.
//!
//! A key has at most 1,024 bytes. A name holds 255, so that only keys of about 130 bytes, less the longer the domain is, can be
//! asked by `kx`; longer ones are asked by their position.

use core::fmt;

use ringmesh_types::owners::KeyOwners;

use crate::base32hex::{self, NoBytes};
use crate::glance::NAME_BYTES_MAX;

/// Bytes that the digits in a name stand for at most.
const ASKED_BYTES_MAX: usize = NAME_BYTES_MAX * 5 / 8;
/// Hexadecimal digits of a position.
const POSITION_DIGITS: usize = 16;

/// Why a name that looks like that of a key is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongKey {
    /// It has characters that only a key by `kx` may have.
    Characters,
    /// It is not in base32hex.
    Base32Hex,
    /// It is no position.
    Position,
    /// The map says that there is no such key.
    Refused,
}

impl WrongKey {
    /// In at most 15 bytes.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Characters => "ask it by kx",
            Self::Base32Hex => "not base32hex",
            Self::Position => "not 16 digits",
            Self::Refused => "no such key",
        }
    }
}

impl fmt::Display for WrongKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Characters => {
                "only keys of a-z, 0-9, '-' and '_' have names below key: ask others in base32hex below kx"
            }
            Self::Base32Hex => "a key below kx is written in base32hex, with the digits 0-9 and a-v",
            Self::Position => "a position has 16 hexadecimal digits",
            Self::Refused => "the map refuses the key",
        })
    }
}

/// What the labels of a key are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// The name of what lies at this position.
    At(u64),
    /// No key, but the end of names of keys.
    End,
    /// No key, and no end of one.
    Wrong(WrongKey),
}

/// What `labels`, which stand before the name of `map`, in lower case, say of a key, and the labels before those; `None` if
/// they are about no key.
pub(crate) fn read<'l, 'a>(map: &dyn KeyOwners, labels: &'l [&'a str]) -> Option<(Named, &'l [&'a str])> {
    match labels {
        ["key" | "kx" | "kh"] => Some((Named::End, &[])),
        [before @ .., key, "key"] => Some((plain(map, key), before)),
        [before @ .., digits, "kh"] => Some((position(digits), before)),
        [labels @ .., "kx"] => {
            let (before, digits) =
                labels.split_at(labels.iter().take_while(|label| label.starts_with('_')).count());
            Some((encoded(map, digits), before))
        }
        _ => None,
    }
}

fn plain(map: &dyn KeyOwners, key: &str) -> Named {
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if key.is_empty() || !key.bytes().all(is_allowed) {
        return Named::Wrong(WrongKey::Characters);
    }
    at(map, key.as_bytes())
}

/// RFC 8020, 2: digits that are no key by themselves are the end of one in several labels, so there is something below them.
fn encoded(map: &dyn KeyOwners, labels: &[&str]) -> Named {
    let mut bytes = [0; ASKED_BYTES_MAX];
    match base32hex::decode(labels.iter().flat_map(|label| label.bytes()), &mut bytes) {
        Ok([]) | Err(NoBytes::Digit | NoBytes::Room) => Named::Wrong(WrongKey::Base32Hex),
        Ok(key) => at(map, key),
        Err(NoBytes::End) => Named::End,
    }
}

fn position(digits: &str) -> Named {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != POSITION_DIGITS || !digits.bytes().all(is_digit) {
        return Named::Wrong(WrongKey::Position);
    }
    u64::from_str_radix(digits, 16).map_or(Named::Wrong(WrongKey::Position), Named::At)
}

fn at(map: &dyn KeyOwners, key: &[u8]) -> Named {
    map.position(key).map_or(Named::Wrong(WrongKey::Refused), Named::At)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeMap, World};
    use proptest::prelude::*;

    fn read_text(text: &str) -> Option<Named> {
        let labels: Vec<&str> = text.split('.').collect();
        read(&FakeMap::default(), &labels).map(|(named, _)| named)
    }

    /// Where the map for tests puts a key: at its first eight bytes.
    fn place(key: &[u8]) -> Named {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(key).for_each(|(byte, of_key)| *byte = *of_key);
        Named::At(u64::from_be_bytes(bytes))
    }

    /// The name of a key by `kx`, with labels of `digits` digits at most.
    fn kx(key: &[u8], digits: usize) -> String {
        let text = base32hex::encode(key);
        let labels: Vec<&str> =
            (0..text.len()).step_by(digits).map(|from| &text[from..text.len().min(from + digits)]).collect();
        format!("{}.kx", labels.join("."))
    }

    #[test]
    fn plain_keys_are_written_as_they_are() {
        for key in ["a", "acct-42", "_tcp", "a_b", "49", &"z".repeat(63)] {
            assert_eq!(read_text(&format!("{key}.key")), Some(place(key.as_bytes())), "{key}");
        }
        for key in ["a+b", "a@b", "A", "é", ""] {
            assert_eq!(read_text(&format!("{key}.key")), Some(Named::Wrong(WrongKey::Characters)), "{key}");
        }
    }

    #[test]
    fn any_key_is_written_in_base32hex() {
        for key in ["+4930123456", "alice@example.com", "Alice", "a.b", "\0", "é", "plain"] {
            for digits in [1, 2, 7, 63] {
                assert_eq!(read_text(&kx(key.as_bytes(), digits)), Some(place(key.as_bytes())), "{key}");
            }
        }
        for text in ["w0.kx", "co==.kx", ".kx", "co.w.kx"] {
            assert_eq!(read_text(text), Some(Named::Wrong(WrongKey::Base32Hex)), "{text}");
        }
    }

    #[test]
    fn rfc_8020_2_below_the_end_of_a_key_there_are_keys() {
        let key = kx(&[0xff; 40], 63);
        let (_, end) = key.split_once('.').expect("it has two labels");
        assert_eq!(read_text(&key), Some(place(&[0xff; 8])));
        assert_eq!(end, "v.kx");
        for text in [end, "c.kx", "cp.kx", "kx", "key", "kh"] {
            assert_eq!(read_text(text), Some(Named::End), "{text}");
        }
    }

    #[test]
    fn positions_have_16_digits() {
        assert_eq!(read_text("00000000000000ff.kh"), Some(Named::At(0xff)));
        assert_eq!(read_text("ffffffffffffffff.kh"), Some(Named::At(u64::MAX)));
        for text in ["ff.kh", "+0000000000000ff.kh", "000000000000000g.kh", "0000000000000000f.kh", ".kh"] {
            assert_eq!(read_text(text), Some(Named::Wrong(WrongKey::Position)), "{text}");
        }
    }

    #[test]
    fn what_stands_before_a_key_is_told_apart() {
        let check = |labels: &[&str], want: usize| {
            let map = FakeMap::default();
            let (named, before) = read(&map, labels).expect("it is about a key");
            assert!(matches!(named, Named::At(_)), "{labels:?}");
            assert_eq!(before, &labels[..want], "{labels:?}");
        };
        check(&["_http", "_tcp", "a", "key"], 2);
        check(&["_http", "_tcp", "_tcp", "key"], 2);
        check(&["_tcp", "key"], 0);
        check(&["_http", "_tcp", "c", "o", "kx"], 2);
        check(&["_tcp", "0123456789abcdef", "kh"], 1);
        assert_eq!(read(&FakeMap::default(), &["_http", "_tcp"]), None);
        assert_eq!(read(&FakeMap::default(), &["a"]), None);
    }

    #[test]
    fn a_key_that_the_map_refuses_is_wrong() {
        let map = World::read("map sip 0=a").map("sip");
        assert!(map.position(&[1; 1_024]).is_ok() && map.position(&[1; 1_025]).is_err());
        let refuses = FakeMap::refusing_above(3);
        assert_eq!(read(&refuses, &["abcd", "key"]), Some((Named::Wrong(WrongKey::Refused), &[][..])));
    }

    proptest! {
        #[test]
        fn any_key_that_a_name_holds_can_be_asked(
            key in proptest::collection::vec(any::<u8>(), 1..=ASKED_BYTES_MAX),
            digits in 1_usize..64,
        ) {
            prop_assert_eq!(read_text(&kx(&key, digits)), Some(place(&key)));
        }

        #[test]
        fn no_labels_do_harm(labels in proptest::collection::vec("[a-z0-9_+-]{0,20}|key|kx|kh|\\PC*", 0..6)) {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            read(&FakeMap::default(), &labels);
        }
    }
}
