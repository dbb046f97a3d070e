//! A request of the usual shape: one question of class IN for a name in the domain, perhaps with a plain OPT record
//! (RFC 1035 4.1, RFC 6891 6.1). What is not of this shape is somebody else's to judge.

use crate::fit::UDP_BYTES_MIN;
use crate::profile::Profile;

/// Where the question begins.
pub(super) const HEADER_BYTES: usize = 12;
/// A name on the wire takes no more (RFC 1035 2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// Labels before the domain; none of ours has more.
const LABELS_MAX: usize = 6;
/// An OPT record without options.
pub(super) const OPT_BYTES: usize = 11;

const RD: u8 = 0x01;
const AD: u8 = 0x20;
const CD: u8 = 0x10;
const CLASS_IN: [u8; 2] = [0, 1];

/// What is needed to answer a request.
#[derive(Debug)]
pub(super) struct Question<'a> {
    request: &'a [u8],
    /// The name in lower case, as on the wire.
    name: [u8; NAME_BYTES_MAX],
    /// Where each label before the domain begins in it, behind its length, and where it ends.
    labels: [(u8, u8); LABELS_MAX],
    count: usize,
    /// Where the domain begins in the message.
    pub(super) domain_at: u16,
    /// Behind the question.
    pub(super) end: usize,
    /// What type is asked for.
    pub(super) kind: u16,
    /// Whether there is an OPT record, and whether it has the DO bit.
    pub(super) opt: Option<bool>,
    /// How many bytes the response may take.
    pub(super) limit: usize,
}

impl<'a> Question<'a> {
    /// The question in `request`, if it is of the usual shape; `domain` is on the wire and in lower case.
    pub(super) fn read(request: &'a [u8], domain: &[u8], profile: Profile) -> Option<Self> {
        let (header, rest) = request.split_at_checked(HEADER_BYTES)?;
        let is_usual = header[2] & !RD == 0 && header[3] & !(AD | CD) == 0;
        // One question, no answers, no authorities, and at most one record besides.
        if !is_usual || header[4..10] != [0, 1, 0, 0, 0, 0] || header[10] != 0 || header[11] > 1 {
            return None;
        }
        let length = name_length(rest)?;
        let (name, rest) = rest.split_at(length);
        let (fixed, rest) = rest.split_at_checked(4)?;
        if fixed[2..] != CLASS_IN {
            return None;
        }
        let announced = if header[11] == 1 { Some(plain_opt(rest)?) } else { None };
        if announced.is_none() && !rest.is_empty() {
            return None;
        }
        let mut lower = [0; NAME_BYTES_MAX];
        lower[..length].copy_from_slice(name);
        lower[..length].make_ascii_lowercase();
        let before = length.checked_sub(domain.len()).filter(|before| lower[*before..length] == *domain)?;
        let (labels, count) = labels_before(&lower, before)?;
        let limit =
            announced.map_or(UDP_BYTES_MIN, |(bytes, _)| bytes.clamp(UDP_BYTES_MIN, profile.udp_bytes_max()));
        Some(Self {
            request,
            name: lower,
            labels,
            count,
            domain_at: u16::try_from(HEADER_BYTES + before).ok()?,
            end: HEADER_BYTES + length + 4,
            kind: u16::from_be_bytes([fixed[0], fixed[1]]),
            opt: announced.map(|(_, is_dnssec_ok)| is_dnssec_ok),
            limit: usize::from(limit),
        })
    }

    /// The header's id, and the question as it was asked.
    pub(super) fn asked(&self) -> (&'a [u8], &'a [u8]) {
        (&self.request[..2], &self.request[HEADER_BYTES..self.end])
    }

    /// What is copied from the flags of the request: RD and CD.
    pub(super) fn flags(&self) -> (u8, u8) {
        (self.request[2] & RD, self.request[3] & CD)
    }

    /// The labels before the domain. One that is no text is empty, which is no name of ours.
    pub(super) fn labels(&self) -> ([&str; LABELS_MAX], usize) {
        let mut labels = [""; LABELS_MAX];
        for (label, (from, to)) in labels.iter_mut().zip(&self.labels[..self.count]) {
            *label = core::str::from_utf8(&self.name[usize::from(*from)..usize::from(*to)]).unwrap_or("");
        }
        (labels, self.count)
    }
}

/// How many bytes the name at the begin of `bytes` takes, its root included. None has pointers: there is nothing before
/// that they could point to.
fn name_length(bytes: &[u8]) -> Option<usize> {
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

/// The labels within the first `before` bytes, if the domain begins with a label of its own there.
fn labels_before(name: &[u8], before: usize) -> Option<([(u8, u8); LABELS_MAX], usize)> {
    let (mut labels, mut count, mut at) = ([(0, 0); LABELS_MAX], 0, 0);
    while at < before {
        let end = at + 1 + usize::from(name[at]);
        *labels.get_mut(count)? = (u8::try_from(at + 1).ok()?, u8::try_from(end).ok()?);
        count += 1;
        at = end;
    }
    (at == before).then_some((labels, count))
}

/// The size that an OPT record without options announces and its DO bit, if `bytes` is nothing else.
fn plain_opt(bytes: &[u8]) -> Option<(u16, bool)> {
    let [0, 0, 41, size_high, size_low, 0, 0, flags_high, _, 0, 0] = *bytes else {
        return None;
    };
    Some((u16::from_be_bytes([size_high, size_low]), flags_high & 0x80 != 0))
}
