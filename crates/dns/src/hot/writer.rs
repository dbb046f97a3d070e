//! A response as it is written: records are copied behind the question as long as they fit, and what depends on the place
//! or on the asker is put into the copies (RFC 1035 4.1).

use hickory_proto::op::ResponseCode;

use super::Soa;
use super::encoded::{Choice, PRIORITY_AT, TARGET_AT, WEIGHT_AT, address};
use super::owners::Owners;
use super::question::Question;
use crate::glance::{HEADER_BYTES, Tail};
use crate::lookup::ADDRESSES_MAX;
use crate::profile::Profile;
use crate::urn::{DRAWN_MAX, Order, SplitMix};

const QR_AA: u8 = 0x84;
/// A name that is given as a place in the message (RFC 1035 4.1.4).
const POINTER: u16 = 0xc000;

/// A response as it grows.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
    /// It may not grow beyond this, with what comes at its end still missing.
    limit: usize,
    /// Answers, authorities, records besides.
    pub(super) counts: [u16; 3],
}

impl<'a> Writer<'a> {
    /// A response that repeats the question.
    pub(super) fn begin(out: &'a mut [u8], question: &Question<'_>, tail: &Tail) -> Option<Self> {
        let (_, asked) = question.asked();
        out.get_mut(HEADER_BYTES..question.end)?.copy_from_slice(asked);
        let limit = question.limit.min(out.len()) - tail.as_bytes().len();
        Some(Self { out, at: question.end, limit, counts: [0; 3] })
    }

    /// Adds `bytes` to a section if they fit. Says where they begin.
    pub(super) fn push(&mut self, section: usize, bytes: &[u8]) -> Option<usize> {
        let from = self.at;
        let to = from + bytes.len();
        if to > self.limit {
            return None;
        }
        self.out[from..to].copy_from_slice(bytes);
        self.at = to;
        self.counts[section] += 1;
        Some(from)
    }

    fn point(&mut self, at: usize, to: u16) {
        self.out[at..at + 2].copy_from_slice(&(POINTER | to).to_be_bytes());
    }

    /// As many of the drawn targets as fit, then as many of their addresses as fit. `None` if not even one does.
    pub(super) fn targets(
        &mut self,
        choice: &Choice,
        max: usize,
        profile: Profile,
        draw: u64,
        ttl: u32,
    ) -> Option<()> {
        let (drawn, count) = draw_from(choice, max, profile.order(), draw);
        self.place(choice, &drawn[..count], ttl, |record, _| {
            if let Some(weight) = profile.equal_weight() {
                record[WEIGHT_AT..WEIGHT_AT + 2].copy_from_slice(&weight.to_be_bytes());
            }
        })
    }

    /// The same of what the owners of a key have.
    pub(super) fn owners(
        &mut self,
        owners: Owners<'_>,
        max: usize,
        profile: Profile,
        draw: u64,
        ttl: u32,
    ) -> Option<()> {
        let drawn = owners.targets(max, profile.order(), draw);
        let weight = profile.equal_weight().or(drawn.equal_weight);
        self.place(&owners.records.choice, drawn.places(), ttl, |record, number| {
            let priority = drawn.priorities()[number];
            record[PRIORITY_AT..PRIORITY_AT + 2].copy_from_slice(&priority.to_be_bytes());
            if let Some(weight) = weight {
                record[WEIGHT_AT..WEIGHT_AT + 2].copy_from_slice(&weight.to_be_bytes());
            }
        })
    }

    /// As many of the `drawn` targets as fit, each after `change` was made to its record, then as many of their addresses as
    /// fit. `None` if not even one target does.
    fn place(
        &mut self,
        choice: &Choice,
        drawn: &[usize],
        ttl: u32,
        change: impl Fn(&mut [u8], usize),
    ) -> Option<()> {
        let mut places = [0; DRAWN_MAX];
        let mut placed = 0;
        for place in drawn {
            let Some(at) = self.push(0, choice.record(*place)) else {
                break;
            };
            change(&mut self.out[at..self.at], placed);
            places[placed] = at;
            placed += 1;
        }
        if placed == 0 && !drawn.is_empty() {
            return None;
        }
        for (number, place) in drawn[..placed].iter().enumerate() {
            let host = choice.host(*place);
            if drawn[..number].iter().any(|before| choice.host(*before) == host) {
                continue;
            }
            let Some(at) = self.push(2, &address(host, ttl)) else {
                break;
            };
            self.point(at, u16::try_from(places[number] + TARGET_AT).ok()?);
        }
        Some(())
    }

    /// As many of the drawn records as fit. `None` if not even one does.
    pub(super) fn chosen(&mut self, choice: &Choice, max: usize, draw: u64) -> Option<()> {
        let (drawn, count) = draw_from(choice, max, Order::ByWeight, draw);
        self.some(choice, &drawn[..count])
    }

    /// As many as fit of the addresses of those owners of a key that are asked first. `None` if not even one does.
    pub(super) fn owners_addresses(&mut self, owners: Owners<'_>, draw: u64) -> Option<()> {
        self.some(&owners.records.choice, owners.hosts(ADDRESSES_MAX, draw).places())
    }

    /// As many of the `drawn` records as fit. `None` if not even one does.
    fn some(&mut self, choice: &Choice, drawn: &[usize]) -> Option<()> {
        let placed = drawn.iter().map_while(|place| self.push(0, choice.record(*place))).count();
        (placed > 0 || drawn.is_empty()).then_some(())
    }

    /// All records, or `None` if they do not fit.
    pub(super) fn all(&mut self, choice: &Choice) -> Option<()> {
        (0..choice.len()).try_for_each(|place| self.push(0, choice.record(place)).map(drop))
    }

    pub(super) fn nothing(&mut self, soa: &Soa, domain_at: u16) -> Option<()> {
        let at = self.push(1, &soa.bytes)?;
        soa.pointers.iter().for_each(|pointer| self.point(at + pointer, domain_at));
        Some(())
    }

    /// Writes what is known only now. Gives back how long the response is.
    pub(super) fn end(mut self, question: &Question<'_>, tail: &Tail, is_nxdomain: bool) -> Option<usize> {
        if question.opt.is_some() {
            self.limit += tail.as_bytes().len();
            self.push(2, tail.as_bytes())?;
        }
        let (id, _) = question.asked();
        let (rd, cd) = question.flags();
        let code = if is_nxdomain { ResponseCode::NXDomain } else { ResponseCode::NoError };
        self.out[..2].copy_from_slice(id);
        self.out[2..6].copy_from_slice(&[QR_AA | rd, cd | code.low(), 0, 1]);
        for (section, count) in self.counts.iter().enumerate() {
            let at = 6 + 2 * section;
            self.out[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        Some(self.at)
    }
}

/// At most `max` places of records, the best class first.
fn draw_from(choice: &Choice, max: usize, order: Order, draw: u64) -> ([usize; DRAWN_MAX], usize) {
    let (mut drawn, mut count) = ([0; DRAWN_MAX], 0);
    let max = max.min(DRAWN_MAX);
    let mut random = SplitMix(draw);
    for class in &choice.classes {
        class.urn.draw(&mut random, max - count, order, |next| {
            drawn[count] = class.first + next;
            count += 1;
        });
    }
    (drawn, count)
}
