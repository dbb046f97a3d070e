//! The wire codec: the only module that names bincode. Everything that leaves a machine goes through [`encode`], all
//! that comes in through [`decode`], each with a limit for its channel and none that a sender can raise.
//!
//! Field order and enum order are the schema, so frames begin with [`FORMAT`], and golden vectors beside the types pin
//! the bytes. Integers are variable-length, little-endian.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::{DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX};

/// First byte of every datagram and frame: the format that the rest is in.
pub const FORMAT: u8 = 1;

/// What a message travels in; decides how large it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// A QUIC datagram: 1,160 bytes at most.
    Datagram,
    /// A frame on a stream, or a file: 4 MiB at most.
    Stream,
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Nothing at all, not even a format byte.
    #[error("the message is empty")]
    Empty,
    /// The sender speaks another format.
    #[error("format {0} is not spoken here, only format {FORMAT}")]
    Format(u8),
    /// Longer than the channel allows.
    #[error("the message has {0} bytes, at most {1} are allowed here")]
    TooLarge(usize, usize),
    /// The bytes do not decode.
    #[error("the message does not decode: {0}")]
    Malformed(String),
    /// Bytes are left over.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
}

type Datagram = bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<DATAGRAM_BYTES_MAX>,
>;
type Stream = bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<FRAME_BYTES_MAX>,
>;

const fn datagram() -> Datagram {
    bincode::config::standard().with_limit::<DATAGRAM_BYTES_MAX>()
}

const fn stream() -> Stream {
    bincode::config::standard().with_limit::<FRAME_BYTES_MAX>()
}

impl Channel {
    /// Bytes of one message at most.
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Datagram => DATAGRAM_BYTES_MAX,
            Self::Stream => FRAME_BYTES_MAX,
        }
    }
}

/// `value` as a message: the format byte, then its bytes.
///
/// # Errors
/// If it is larger than `channel` allows: a limit in [`crate::limits`] was not kept.
pub fn encode<T: Serialize>(channel: Channel, value: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![FORMAT];
    encode_into(&mut bytes, value)?;
    if bytes.len() > channel.bytes_max() {
        return Err(WireError::TooLarge(bytes.len(), channel.bytes_max()));
    }
    Ok(bytes)
}

/// The value in one whole message.
///
/// # Errors
/// Says what is wrong with the bytes. At most the channel's limit is ever allocated.
pub fn decode<T: DeserializeOwned>(channel: Channel, bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > channel.bytes_max() {
        return Err(WireError::TooLarge(bytes.len(), channel.bytes_max()));
    }
    let (format, rest) = bytes.split_first().ok_or(WireError::Empty)?;
    if *format != FORMAT {
        return Err(WireError::Format(*format));
    }
    let (value, used) = decode_prefix(channel, rest)?;
    if used != rest.len() {
        return Err(WireError::Trailing(rest.len() - used));
    }
    Ok(value)
}

/// Appends the bytes of `value` without a format byte: for parts of a message that is framed elsewhere.
///
/// # Errors
/// If the value cannot be represented.
pub fn encode_into<T: Serialize>(bytes: &mut Vec<u8>, value: &T) -> Result<(), WireError> {
    bincode::serde::encode_into_std_write(value, bytes, stream())
        .map(|_| ())
        .map_err(|error| WireError::Malformed(error.to_string()))
}

/// The value that `bytes` begin with, and how many bytes it took; no format byte.
///
/// # Errors
/// Says what is wrong with the bytes. At most the channel's limit is ever allocated.
pub fn decode_prefix<T: DeserializeOwned>(channel: Channel, bytes: &[u8]) -> Result<(T, usize), WireError> {
    match channel {
        Channel::Datagram => bincode::serde::decode_from_slice(bytes, datagram()),
        Channel::Stream => bincode::serde::decode_from_slice(bytes, stream()),
    }
    .map_err(|error| WireError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_bytes::ByteBuf;

    #[test]
    fn bytes_at_once_are_the_bytes_one_by_one() {
        for length in [0, 1, 250, 251, 300, 70_000] {
            let one_by_one: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[0]).collect();
            let at_once = ByteBuf::from(one_by_one.clone());
            let bytes = encode(Channel::Stream, &one_by_one).expect("encodes");
            assert_eq!(encode(Channel::Stream, &at_once).as_ref(), Ok(&bytes));
            assert_eq!(decode(Channel::Stream, &bytes), Ok(at_once));
        }
    }

    #[test]
    fn a_message_names_its_format_and_leaves_nothing_over() {
        let bytes = encode(Channel::Datagram, &(7_u64, "ab")).expect("encodes");
        assert_eq!(bytes, [FORMAT, 7, 2, b'a', b'b']);
        assert_eq!(decode::<(u64, String)>(Channel::Datagram, &bytes), Ok((7, "ab".to_owned())));
        assert_eq!(decode::<u64>(Channel::Datagram, &[9, 7]), Err(WireError::Format(9)));
        assert_eq!(decode::<u64>(Channel::Datagram, &[]), Err(WireError::Empty));
        assert_eq!(decode::<u64>(Channel::Datagram, &[FORMAT, 7, 7]), Err(WireError::Trailing(1)));
    }

    #[test]
    fn a_short_message_cannot_ask_for_a_large_allocation() {
        for length in [1 << 40, FRAME_BYTES_MAX as u64 - 1, 1] {
            let mut bytes = vec![FORMAT, 253];
            bytes.extend_from_slice(&length.to_le_bytes());
            assert!(matches!(decode::<Vec<u8>>(Channel::Stream, &bytes), Err(WireError::Malformed(_))));
            assert!(matches!(decode::<ByteBuf>(Channel::Stream, &bytes), Err(WireError::Malformed(_))));
            assert!(matches!(decode::<String>(Channel::Stream, &bytes), Err(WireError::Malformed(_))));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Vec<(u64, String)>>(Channel::Datagram, &bytes);
            let _ = decode::<Vec<Vec<u8>>>(Channel::Stream, &bytes);
            let _ = decode::<Vec<ByteBuf>>(Channel::Stream, &bytes);
        }
    }
}
