//! A request of the usual shape: one question of class IN for a name in the domain, perhaps with an OPT record that
//! holds no more than a cookie (RFC 1035 4.1, RFC 6891 6.1, RFC 7873 4). What is not of this shape is somebody else's to
//! judge.

use crate::fit::UDP_BYTES_MIN;
use crate::glance::{HEADER_BYTES, NAME_BYTES_MAX, Opt, name_length};
use crate::profile::Profile;

/// Labels before the domain; none of the usual names has more.
const LABELS_MAX: usize = 6;

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
    pub(super) opt: Option<Opt<'a>>,
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
        let opt = if header[11] == 1 { Some(Opt::read(rest).filter(Opt::is_usual)?) } else { None };
        if opt.is_none() && !rest.is_empty() {
            return None;
        }
        let mut lower = [0; NAME_BYTES_MAX];
        lower[..length].copy_from_slice(name);
        lower[..length].make_ascii_lowercase();
        let before = length.checked_sub(domain.len()).filter(|before| lower[*before..length] == *domain)?;
        let (labels, count) = labels_before(&lower, before)?;
        let limit =
            opt.map_or(UDP_BYTES_MIN, |opt| opt.announced.clamp(UDP_BYTES_MIN, profile.udp_bytes_max()));
        Some(Self {
            request,
            name: lower,
            labels,
            count,
            domain_at: u16::try_from(HEADER_BYTES + before).ok()?,
            end: HEADER_BYTES + length + 4,
            kind: u16::from_be_bytes([fixed[0], fixed[1]]),
            opt,
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
