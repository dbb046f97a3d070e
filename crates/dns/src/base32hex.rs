//! Bytes as digits that a label may have, without padding, in lower case (RFC 4648 7).

const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const BITS_PER_DIGIT: u32 = 5;

/// Why digits are no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoBytes {
    /// One of them is no digit.
    Digit,
    /// There are too few for the last byte, or the bits that the last one has to spare are not all zeros.
    End,
    /// There are more bytes than there is room for.
    Room,
}

/// The digits of `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= BITS_PER_DIGIT {
            held -= BITS_PER_DIGIT;
            text.push(digit(bits >> held));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        text.push(digit(bits << (BITS_PER_DIGIT - held)));
    }
    text
}

/// Writes the bytes that `digits` stand for into `bytes`, and gives those back. Takes nothing from the heap.
pub(crate) fn decode(digits: impl Iterator<Item = u8>, bytes: &mut [u8]) -> Result<&[u8], NoBytes> {
    let (mut bits, mut held, mut count) = (0_u32, 0, 0);
    let mut end = Ok(());
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'v' => digit - b'a' + 10,
            _ => return Err(NoBytes::Digit),
        };
        bits = (bits << BITS_PER_DIGIT) | u32::from(value);
        held += BITS_PER_DIGIT;
        if held >= 8 {
            held -= 8;
            match bytes.get_mut(count) {
                Some(byte) => *byte = (bits >> held) as u8,
                None => end = Err(NoBytes::Room),
            }
            count += 1;
            bits &= (1 << held) - 1;
        }
    }
    end?;
    if held >= BITS_PER_DIGIT || bits != 0 {
        return Err(NoBytes::End);
    }
    Ok(&bytes[..count])
}

fn digit(bits: u32) -> char {
    char::from(DIGITS[(bits & 31) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(text: &str) -> Result<Vec<u8>, NoBytes> {
        decode(text.bytes(), &mut [0; 1_024]).map(<[u8]>::to_vec)
    }

    #[test]
    fn rfc_4648_10_the_published_vectors() {
        let vectors = [
            ("", ""),
            ("f", "co"),
            ("fo", "cpng"),
            ("foo", "cpnmu"),
            ("foob", "cpnmuog"),
            ("fooba", "cpnmuoj1"),
            ("foobar", "cpnmuoj1e8"),
        ];
        for (bytes, digits) in vectors {
            assert_eq!(encode(bytes.as_bytes()), digits);
            assert_eq!(decoded(digits), Ok(bytes.as_bytes().to_vec()));
        }
    }

    #[test]
    fn what_nothing_encodes_to_is_no_bytes() {
        for (text, want) in [
            ("w0", NoBytes::Digit),
            ("cO", NoBytes::Digit),
            ("co======", NoBytes::Digit),
            ("c", NoBytes::End),
            ("cp", NoBytes::End),
            ("cpn", NoBytes::End),
            ("cpnmuo", NoBytes::End),
            ("00000000c", NoBytes::End),
        ] {
            assert_eq!(decoded(text), Err(want), "{text}");
        }
    }

    #[test]
    fn a_key_of_1024_bytes_has_room_and_one_of_1025_has_not() {
        assert_eq!(decoded(&encode(&[7; 1_024])), Ok(vec![7; 1_024]));
        assert_eq!(decoded(&encode(&[7; 1_025])), Err(NoBytes::Room));
    }

    proptest! {
        #[test]
        fn any_bytes_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..1_024)) {
            prop_assert_eq!(decoded(&encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn what_decodes_is_its_own_encoding(text in "[0-9a-w]{0,70}") {
            if let Ok(bytes) = decoded(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
