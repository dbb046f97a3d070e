//! A look at a request that takes nothing from the heap: where its question ends, and what its OPT record says
//! (RFC 1035 4.1, RFC 6891 6.1). What it means is decided elsewhere.

use crate::cookie::{self, Judged, REPLY_BYTES};
use crate::fit::UDP_BYTES_MAX;

/// Where the question begins.
pub(crate) const HEADER_BYTES: usize = 12;
/// A name on the wire takes no more (RFC 1035 2.3.4).
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// An OPT record without options.
const OPT_BYTES: usize = 11;
/// An option without data.
const OPTION_BYTES: usize = 4;
const TAIL_BYTES_MAX: usize = OPT_BYTES + OPTION_BYTES + REPLY_BYTES;

const QR_AND_OPCODE: u8 = 0xf8;

/// A query with one question, no records, and at most an OPT record besides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glance<'a> {
    /// Behind the question.
    pub(crate) end: usize,
    pub(crate) opt: Option<Opt<'a>>,
}

impl<'a> Glance<'a> {
    /// Looks at `request`; `None` if it is anything else.
    pub(crate) fn at(request: &'a [u8]) -> Option<Self> {
        let (header, rest) = request.split_at_checked(HEADER_BYTES)?;
        let is_query = header[2] & QR_AND_OPCODE == 0;
        if !is_query || header[4..11] != [0, 1, 0, 0, 0, 0, 0] || header[11] > 1 {
            return None;
        }
        let end = HEADER_BYTES + name_length(rest)? + 4;
        let rest = request.get(end..)?;
        let opt = if header[11] == 1 { Some(Opt::read(rest)?) } else { None };
        Some(Self { end, opt })
    }
}

/// An OPT record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opt<'a> {
    /// How many bytes the asker takes over UDP, as it says.
    pub(crate) announced: u16,
    pub(crate) is_dnssec_ok: bool,
    /// Whether version and response code are 0, so that options are what they are known for.
    is_plain: bool,
    options: &'a [u8],
}

impl<'a> Opt<'a> {
    /// Reads `bytes`, which must be an OPT record and nothing else.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (fixed, options) = bytes.split_first_chunk::<OPT_BYTES>()?;
        let [0, 0, 41, size @ .., code, version, flags, _, length_high, length_low] = *fixed else {
            return None;
        };
        if usize::from(u16::from_be_bytes([length_high, length_low])) != options.len() {
            return None;
        }
        Some(Self {
            announced: u16::from_be_bytes(size),
            is_dnssec_ok: flags & 0x80 != 0,
            is_plain: [code, version] == [0, 0],
            options,
        })
    }

    /// Whether there are no options, or a cookie alone.
    pub(crate) fn is_usual(&self) -> bool {
        let is_known = match split_option(self.options) {
            None => self.options.is_empty(),
            Some((code, _, rest)) => code == cookie::OPTION && rest.is_empty(),
        };
        self.is_plain && is_known
    }

    /// What the first COOKIE option holds (RFC 7873, 5.2: the others do not count).
    pub(crate) fn cookie(&self) -> Option<&'a [u8]> {
        let mut options = if self.is_plain { self.options } else { &[] };
        loop {
            let (code, data, rest) = split_option(options)?;
            if code == cookie::OPTION {
                return Some(data);
            }
            options = rest;
        }
    }
}

/// The first option's number and data, and what is behind it.
fn split_option(options: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, rest) = options.split_first_chunk::<OPTION_BYTES>()?;
    let [code_high, code_low, length_high, length_low] = *head;
    let length = u16::from_be_bytes([length_high, length_low]);
    let (data, rest) = rest.split_at_checked(usize::from(length))?;
    Some((u16::from_be_bytes([code_high, code_low]), data, rest))
}

/// The OPT record of a response, which is its end; nothing if the request had none (RFC 6891, 6.1.1).
pub(crate) struct Tail {
    bytes: [u8; TAIL_BYTES_MAX],
    length: usize,
}

impl Tail {
    /// What answers `opt`, with the upper bits of the response code and the cookie.
    pub(crate) fn new(opt: Option<Opt<'_>>, code_high: u8, cookie: Option<&Judged>) -> Self {
        let mut bytes = [0; TAIL_BYTES_MAX];
        let Some(opt) = opt else {
            return Self { bytes, length: 0 };
        };
        let [high, low] = UDP_BYTES_MAX.to_be_bytes();
        let flags = if opt.is_dnssec_ok { 0x80 } else { 0 };
        bytes[..OPT_BYTES].copy_from_slice(&[0, 0, 41, high, low, code_high, 0, flags, 0, 0, 0]);
        let Some(cookie) = cookie else {
            return Self { bytes, length: OPT_BYTES };
        };
        bytes[OPT_BYTES - 1] = (OPTION_BYTES + REPLY_BYTES) as u8;
        let [code_high, code_low] = cookie::OPTION.to_be_bytes();
        bytes[OPT_BYTES..][..OPTION_BYTES].copy_from_slice(&[code_high, code_low, 0, REPLY_BYTES as u8]);
        bytes[OPT_BYTES + OPTION_BYTES..].copy_from_slice(&cookie.reply);
        Self { bytes, length: TAIL_BYTES_MAX }
    }

    /// The record's bytes; none if there is no record.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// How many bytes the name at the begin of `bytes` takes, its root included. None has pointers: there is nothing before
/// that they could point to.
pub(crate) fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length > 63 || at > NAME_BYTES_MAX {
            return None;
        }
        if length == 0 {
            return (at <= bytes.len()).then_some(at);
        }
    }
}
