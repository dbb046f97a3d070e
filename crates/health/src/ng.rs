//! rtpengine's NG control protocol as a question about health: writes the ping, reads the pong; and answers
//! pings for responders that speak nothing else.
//!
//! A datagram is `cookie SP dictionary`, the dictionary in bencode. It decides which answer is ours and
//! whether it is a pong. It does not send, wait or repeat: its driver does, with the same cookie, so that
//! rtpengine answers a repeated ping from its cache. Decoding copies nothing, checks every length against the
//! bytes that are left, and bounds depth and number of values.
//!
//! Sources: rtpengine's "The NG Control Protocol" · ping · full; BEP 3, "bencoding" · full, but for the order
//! of keys, which rtpengine does not keep.

use crate::sip::printable;

/// Nested lists and dictionaries at most.
pub const DEPTH_MAX: usize = 8;
/// Values in one message at most, nested ones included.
pub const VALUES_MAX: usize = 1_024;
/// Bytes of an error reason that are kept.
pub const REASON_BYTES_MAX: usize = 128;

/// Bytes of a number with its end mark at most: more than 64 bits need.
const NUMBER_BYTES_MAX: usize = 24;

/// An answer that says the media engine is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong;

/// Why bytes are no pong for us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NgError {
    /// It answers another command, perhaps an earlier one.
    #[error("answers another command")]
    NotOurs,
    /// The bytes are no message.
    #[error("is malformed: {0}")]
    Malformed(&'static str),
    /// Values are nested deeper than [`DEPTH_MAX`].
    #[error("nests values deeper than {0}")]
    TooDeep(usize),
    /// There are more than [`VALUES_MAX`] values.
    #[error("has more than {0} values")]
    TooManyValues(usize),
    /// The engine answered, but not with a pong.
    #[error("answered {result:?}, reason {reason:?}")]
    Refused {
        /// Its `result`, shortened and printable.
        result: String,
        /// Its `error-reason`, shortened and printable; empty if it gave none.
        reason: String,
    },
}

/// A ping. `cookie` is not empty, has no space and is never used for another command.
pub fn ping(cookie: &str) -> Vec<u8> {
    format!("{cookie} d7:command4:pinge").into_bytes()
}

/// Reads the answer to the ping that carried `cookie`.
///
/// # Errors
/// Says why the bytes are no pong; [`NgError::NotOurs`] is the one to wait past.
pub fn parse_pong(bytes: &[u8], cookie: &str) -> Result<Pong, NgError> {
    let (their_cookie, body) = split_cookie(bytes).ok_or(NgError::Malformed("no cookie"))?;
    if their_cookie != cookie.as_bytes() {
        return Err(NgError::NotOurs);
    }
    let answer = Bencode::decode(body)?;
    let text = |key: &str| answer.entry(key).and_then(Bencode::as_bytes);
    let result = text("result").ok_or(NgError::Malformed("no result"))?;
    if result == b"pong" {
        return Ok(Pong);
    }
    let shown = |bytes: &[u8]| printable(&String::from_utf8_lossy(bytes), REASON_BYTES_MAX);
    let reason = text("error-reason").map(shown).unwrap_or_default();
    Err(NgError::Refused { result: shown(result), reason })
}

/// The answer to any command: a pong to a ping, an error to the rest. `None` if the bytes are no NG message.
pub fn pong(request: &[u8]) -> Option<Vec<u8>> {
    let (cookie, body) = split_cookie(request)?;
    let request = Bencode::decode(body).ok()?;
    let command = request.entry("command").and_then(Bencode::as_bytes)?;
    let answer: &[u8] = if command == b"ping" {
        b"d6:result4:ponge"
    } else {
        b"d12:error-reason20:Unrecognized command6:result5:errore"
    };
    Some([cookie, b" ", answer].concat())
}

/// One bencoded value, borrowed from its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bencode<'a> {
    /// A signed number.
    Integer(i64),
    /// Text, or any other bytes.
    Bytes(&'a [u8]),
    /// Values in order.
    List(Vec<Self>),
    /// Keys and values, in the order of the message; of equal keys the first counts.
    Dictionary(Vec<(&'a [u8], Self)>),
}

impl<'a> Bencode<'a> {
    /// Decodes exactly one value.
    ///
    /// # Errors
    /// The bytes are malformed, are more than one value, or break a bound.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, NgError> {
        let mut decoder = Decoder { rest: bytes, values_left: VALUES_MAX };
        let value = decoder.value(0)?;
        if decoder.rest.is_empty() { Ok(value) } else { Err(NgError::Malformed("bytes after the value")) }
    }

    /// The value of `key`, if this is a dictionary that has it.
    pub fn entry(&self, key: &str) -> Option<&Self> {
        let Self::Dictionary(entries) = self else { return None };
        entries.iter().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value)
    }

    /// The bytes, if this is a string.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        let Self::Bytes(bytes) = self else { return None };
        Some(*bytes)
    }
}

struct Decoder<'a> {
    rest: &'a [u8],
    values_left: usize,
}

impl<'a> Decoder<'a> {
    /// The next value, inside `depth` lists and dictionaries.
    fn value(&mut self, depth: usize) -> Result<Bencode<'a>, NgError> {
        self.values_left = self.values_left.checked_sub(1).ok_or(NgError::TooManyValues(VALUES_MAX))?;
        if self.take_if(b'i')? {
            return self.integer().map(Bencode::Integer);
        }
        if self.take_if(b'l')? {
            return self.list(depth + 1).map(Bencode::List);
        }
        if self.take_if(b'd')? {
            return self.dictionary(depth + 1).map(Bencode::Dictionary);
        }
        self.bytes().map(Bencode::Bytes)
    }

    fn integer(&mut self) -> Result<i64, NgError> {
        let text = self.take_until(b'e')?;
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !is_digits(digits) {
            return Err(NgError::Malformed("an integer is no number"));
        }
        text.parse().map_err(|_| NgError::Malformed("an integer has more than 64 bits"))
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Bencode<'a>>, NgError> {
        check_depth(depth)?;
        let mut values = Vec::new();
        while !self.take_if(b'e')? {
            values.push(self.value(depth)?);
        }
        Ok(values)
    }

    fn dictionary(&mut self, depth: usize) -> Result<Vec<(&'a [u8], Bencode<'a>)>, NgError> {
        check_depth(depth)?;
        let mut entries = Vec::new();
        while !self.take_if(b'e')? {
            let key = self.bytes()?;
            entries.push((key, self.value(depth)?));
        }
        Ok(entries)
    }

    fn bytes(&mut self) -> Result<&'a [u8], NgError> {
        let digits = self.take_until(b':')?;
        if !is_digits(digits) {
            return Err(NgError::Malformed("a string has no length"));
        }
        let rest = self.rest;
        let (bytes, rest) = digits
            .parse::<usize>()
            .ok()
            .and_then(|len| rest.split_at_checked(len))
            .ok_or(NgError::Malformed("a string is longer than its message"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Whether the next byte is `wanted`, which is then taken.
    fn take_if(&mut self, wanted: u8) -> Result<bool, NgError> {
        let rest = self.rest;
        let (next, rest) = rest.split_first().ok_or(NgError::Malformed("it ends early"))?;
        if *next == wanted {
            self.rest = rest;
        }
        Ok(*next == wanted)
    }

    /// The text of a number before `end`, which is taken too.
    fn take_until(&mut self, end: u8) -> Result<&'a str, NgError> {
        let rest = self.rest;
        let at = rest
            .iter()
            .take(NUMBER_BYTES_MAX)
            .position(|byte| *byte == end)
            .ok_or(NgError::Malformed("a number does not end"))?;
        self.rest = &rest[at + 1..];
        core::str::from_utf8(&rest[..at]).map_err(|_| NgError::Malformed("a number is no text"))
    }
}

fn check_depth(depth: usize) -> Result<(), NgError> {
    if depth > DEPTH_MAX { Err(NgError::TooDeep(DEPTH_MAX)) } else { Ok(()) }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The cookie and what follows its space.
fn split_cookie(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b' ').filter(|at| *at > 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATISTICS: &str = "7f_1 d6:result2:ok10:statisticsd17:currentstatisticsd11:sessionsowni12e\
        13:sessionstotali14e10:packetratei-1ee9:intervalsl1:ai2eleeee";

    #[test]
    fn a_ping_is_a_cookie_and_a_dictionary() {
        assert_eq!(ping("7f_1"), b"7f_1 d7:command4:pinge");
    }

    #[test]
    fn answers_of_an_engine_are_read() {
        let check = |text: &str, want: Result<Pong, NgError>| {
            assert_eq!(parse_pong(text.as_bytes(), "7f_1"), want, "{text}");
        };
        let refused = |result: &str, reason: &str| {
            Err(NgError::Refused { result: result.to_owned(), reason: reason.to_owned() })
        };
        check("7f_1 d6:result4:ponge", Ok(Pong));
        check("7f_1 d12:created-fromi1e6:result4:pong4:load4:somee", Ok(Pong));
        check(
            "7f_1 d6:result5:error12:error-reason20:Unrecognized commande",
            refused("error", "Unrecognized command"),
        );
        check("7f_1 d6:result10:load limit12:error-reason3:a\0be", refused("load limit", "a?b"));
        check(STATISTICS, refused("ok", ""));
        check("7f_2 d6:result4:ponge", Err(NgError::NotOurs));
        check("7f_10 d6:result4:ponge", Err(NgError::NotOurs));
        check("d6:result4:ponge", Err(NgError::Malformed("no cookie")));
        check(" d6:result4:ponge", Err(NgError::Malformed("no cookie")));
        check("7f_1 de", Err(NgError::Malformed("no result")));
        check("7f_1 d6:resulti1ee", Err(NgError::Malformed("no result")));
        check("7f_1 4:pong", Err(NgError::Malformed("no result")));
        check("7f_1 ", Err(NgError::Malformed("it ends early")));
    }

    #[test]
    fn a_long_reason_is_shortened() {
        let text = format!("c d12:error-reason300:{}6:result5:errore", "x".repeat(300));
        let reason = "x".repeat(REASON_BYTES_MAX);
        let want = NgError::Refused { result: "error".to_owned(), reason };
        assert_eq!(parse_pong(text.as_bytes(), "c"), Err(want));
    }

    #[test]
    fn values_of_every_kind_are_decoded() {
        let body = STATISTICS.strip_prefix("7f_1 ").expect("begins with its cookie");
        let value = Bencode::decode(body.as_bytes()).expect("is one value");
        let statistics = value.entry("statistics").expect("has statistics");
        let current = statistics.entry("currentstatistics").expect("has current ones");
        assert_eq!(current.entry("sessionsown"), Some(&Bencode::Integer(12)));
        assert_eq!(current.entry("packetrate"), Some(&Bencode::Integer(-1)));
        let inner = vec![Bencode::Bytes(b"a"), Bencode::Integer(2), Bencode::List(Vec::new())];
        assert_eq!(statistics.entry("intervals"), Some(&Bencode::List(inner)));
        assert_eq!(current.entry("none"), None);
        assert_eq!(current.as_bytes(), None);
    }

    #[test]
    fn malformed_values_are_refused() {
        let check = |text: &str| {
            assert!(matches!(Bencode::decode(text.as_bytes()), Err(NgError::Malformed(_))), "{text}");
        };
        for text in ["", "x", "i", "ie", "i-e", "i+1e", "i1", "ixe", "i9223372036854775808e", "i1ei2e"] {
            check(text);
        }
        for text in ["l", "li1e", "d", "d1:a", "di1ei2ee", "d1:ae", "5:abc", "-1:a", "+1:a", ":", "1:ab"] {
            check(text);
        }
        check("99999999999999999999:a");
        check("18446744073709551615:a");
        check("00000000000000000000000000001:a");
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "l".repeat(depth), "e".repeat(depth));
        assert!(Bencode::decode(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(Bencode::decode(nested(DEPTH_MAX + 1).as_bytes()), Err(NgError::TooDeep(DEPTH_MAX)));
        assert_eq!(Bencode::decode("l".repeat(60_000).as_bytes()), Err(NgError::TooDeep(DEPTH_MAX)));
        let listed = |count: usize| format!("l{}e", "0:".repeat(count));
        assert!(Bencode::decode(listed(VALUES_MAX - 1).as_bytes()).is_ok());
        assert_eq!(Bencode::decode(listed(VALUES_MAX).as_bytes()), Err(NgError::TooManyValues(VALUES_MAX)));
    }

    #[test]
    fn a_responder_answers_pings_and_refuses_the_rest() {
        let answer = pong(&ping("7f_1")).expect("is a command");
        assert_eq!(parse_pong(&answer, "7f_1"), Ok(Pong));
        let answer = pong(b"c d7:command5:offer3:sdp0:e").expect("is a command");
        let (result, reason) = ("error".to_owned(), "Unrecognized command".to_owned());
        assert_eq!(parse_pong(&answer, "c"), Err(NgError::Refused { result, reason }));
        for request in ["", "c", "c ", "c x", "c de", "c d7:commandi1ee", "d7:command4:pinge", "c 4:ping"] {
            assert_eq!(pong(request.as_bytes()), None, "{request}");
        }
    }

    const SAMPLES: &[&str] = &[
        STATISTICS,
        "7f_1 d6:result4:ponge",
        "7f_1 d12:error-reason20:Unrecognized command6:result5:errore",
        "7f_1 d7:command4:pinge",
    ];

    const PIECES: &[&str] = &[
        "d",
        "l",
        "e",
        "i",
        "i1e",
        "-",
        "0:",
        "1:a",
        "6:result",
        "4:pong",
        "5:error",
        "12:error-reason",
        "7:command",
        "4:ping",
        "9",
        "99999999999999999999:",
        "7f_1 ",
        " ",
        "\0",
        "é",
    ];

    /// Reads `bytes` in every way there is, and holds the results to what they promise.
    fn feed(bytes: &[u8]) {
        if let Err(NgError::Refused { result, reason }) = parse_pong(bytes, "7f_1") {
            assert!(result.len() <= REASON_BYTES_MAX && reason.len() <= REASON_BYTES_MAX);
        }
        if let Some(answer) = pong(bytes) {
            let (_, body) = split_cookie(&answer).expect("has a cookie");
            assert!(Bencode::decode(body).is_ok());
        }
        let _ = Bencode::decode(bytes);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            feed(&bytes);
        }

        #[test]
        fn mutated_messages_never_panic(
            sample in proptest::sample::select(SAMPLES),
            edits in proptest::collection::vec((0_usize..200, any::<u8>()), 0..6),
            cut in 0_usize..300,
        ) {
            let mut bytes = sample.as_bytes().to_vec();
            for (at, byte) in edits {
                let len = bytes.len();
                bytes[at % len] = byte;
            }
            bytes.truncate(cut);
            feed(&bytes);
        }

        #[test]
        fn shuffled_pieces_never_panic(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..32),
        ) {
            let text = pieces.concat();
            feed(text.as_bytes());
            feed(format!("7f_1 {text}").as_bytes());
        }
    }
}
