//! Keys as they are written: any bytes, percent-encoded in a query, or one a line on standard input.

use std::io::{self, BufRead};

use ringmesh_partition::position::{KEY_BYTES_MAX, KeyError};

/// Percent-encodes every byte that is not unreserved (RFC 3986, 2.3).
pub(super) fn encoded(key: &[u8]) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// One line: a key, or what is too long to be one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Key(Vec<u8>),
    /// The beginning of it, and why it is none.
    Wrong(Vec<u8>, KeyError),
}

/// Reads the next line, without its end (LF or CR LF), and never holds more of it than a key has; nothing at the end.
pub(super) fn next(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let (mut key, mut length, mut is_ended) = (Vec::new(), 0, false);
    while !is_ended {
        let bytes = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            break;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        is_ended = end.is_some();
        let part = &bytes[..end.unwrap_or(bytes.len())];
        length += part.len();
        // One byte more than a key has: it may be the CR of the line's end.
        let room = (KEY_BYTES_MAX + 1).saturating_sub(key.len());
        key.extend_from_slice(&part[..part.len().min(room)]);
        let taken = part.len() + usize::from(is_ended);
        input.consume(taken);
    }
    if length == 0 && !is_ended {
        return Ok(None);
    }
    if is_ended && length == key.len() && key.last() == Some(&b'\r') {
        key.pop();
        length -= 1;
    }
    if length <= KEY_BYTES_MAX {
        return Ok(Some(Line::Key(key)));
    }
    key.truncate(KEY_BYTES_MAX);
    Ok(Some(Line::Wrong(key, KeyError::TooLong(length))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_unreserved_characters_is_percent_encoded() {
        assert_eq!(encoded(b"azAZ09-._~"), "azAZ09-._~");
        assert_eq!(encoded(b"+4930@a.b C/%&=?#"), "%2B4930%40a.b%20C%2F%25%26%3D%3F%23");
        assert_eq!(encoded("ü\n".as_bytes()), "%C3%BC%0A");
        assert_eq!(encoded(&[0, 0x7f, 0xff]), "%00%7F%FF");
    }

    fn lines(text: &[u8], room: usize) -> Vec<Line> {
        let mut input = io::BufReader::with_capacity(room, text);
        core::iter::from_fn(|| next(&mut input).expect("can be read")).collect()
    }

    #[test]
    fn lines_are_keys_whatever_comes_in_at_once() {
        let key = |text: &str| Line::Key(text.as_bytes().to_vec());
        for room in [1, 2, 3, 64] {
            assert_eq!(lines(b"a\nbc\r\n\n+4\rd\ne", room), ["a", "bc", "", "+4\rd", "e"].map(key));
            assert_eq!(lines(b"", room), []);
            assert_eq!(lines(b"a\r", room), [key("a\r")], "without a line's end it is a part of the key");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_told_from_keys_and_never_kept_whole() {
        let long = |count: usize| "x".repeat(count);
        let text = format!("{}\n{}\r\n{}\n{}", long(1_024), long(1_024), long(1_025), long(100_000));
        let read = lines(text.as_bytes(), 100);
        let key = || long(1_024).into_bytes();
        let wrong = |length| Line::Wrong(key(), KeyError::TooLong(length));
        assert_eq!(read, [Line::Key(key()), Line::Key(key()), wrong(1_025), wrong(100_000)]);
    }
}
