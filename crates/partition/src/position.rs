//! From a key to its position in the space that a map cuts into partitions.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a key at most.
pub const KEY_BYTES_MAX: usize = 1_024;

/// Where a key lies: a point of a circle of 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Why a text is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a position is 16 hexadecimal digits, this is {0:?}")]
pub struct PositionError(String);

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_hex);
        number.map(Self).ok_or_else(|| PositionError(text.chars().take(40).collect()))
    }
}

/// For people and programs 16 hexadecimal digits, for not every language has integers of 64 bits.
impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

/// How keys are laid out in the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// By XXH3 with 64 bits and seed 0: evenly, whatever the keys are like. Only the upper 32 bits of a start may be set.
    Hash,
    /// By the first eight bytes, as a number: keys with one prefix are neighbours, and so are those of one carrier. Shorter
    /// keys are filled up with zeros; what follows the eighth byte makes no difference.
    Name,
}

/// Why a key has no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has no bytes.
    #[error("the key is empty: it must have 1 to {KEY_BYTES_MAX} bytes")]
    Empty,
    /// It has too many.
    #[error("the key has {0} bytes: it must have 1 to {KEY_BYTES_MAX}")]
    TooLong(usize),
}

impl Strategy {
    /// The position of `key`, which may be any bytes.
    ///
    /// # Errors
    /// If it is empty, or longer than [`KEY_BYTES_MAX`].
    pub fn position(self, key: &[u8]) -> Result<Position, KeyError> {
        match key.len() {
            0 => Err(KeyError::Empty),
            1..=KEY_BYTES_MAX => Ok(self.place(key)),
            length => Err(KeyError::TooLong(length)),
        }
    }

    fn place(self, key: &[u8]) -> Position {
        match self {
            Self::Hash => Position(xxh3_64(key)),
            Self::Name => {
                let mut bytes = [0; 8];
                for (byte, of_key) in bytes.iter_mut().zip(key) {
                    *byte = *of_key;
                }
                Position(u64::from_be_bytes(bytes))
            }
        }
    }

    /// How many of the lowest bits of each start are zero.
    pub const fn zero_bits(self) -> u32 {
        match self {
            Self::Hash => 32,
            Self::Name => 0,
        }
    }

    /// The nearest position at or before `at` where a partition may start.
    pub const fn start_at(self, at: Position) -> Position {
        Position(at.0 >> self.zero_bits() << self.zero_bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_impossible_length_are_refused() {
        for strategy in [Strategy::Hash, Strategy::Name] {
            assert_eq!(strategy.position(b""), Err(KeyError::Empty));
            assert!(strategy.position(&[0; KEY_BYTES_MAX]).is_ok());
            assert_eq!(strategy.position(&[0; KEY_BYTES_MAX + 1]), Err(KeyError::TooLong(KEY_BYTES_MAX + 1)));
        }
    }

    #[test]
    fn names_keep_their_order_and_capitals_count() {
        let at = |key: &str| Strategy::Name.position(key.as_bytes()).expect("a key");
        assert!(at("+49") < at("+4930") && at("+4930") < at("+4931") && at("+4931") < at("+5"));
        assert_eq!(at("+49301234567"), at("+49301239999"), "eight bytes count");
        assert_ne!(at("Acme"), at("acme"));
        let hashed = |key: &str| Strategy::Hash.position(key.as_bytes()).expect("a key");
        assert_ne!(hashed("Acme"), hashed("acme"));
    }
}
