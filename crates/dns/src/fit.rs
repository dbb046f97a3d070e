//! How much of an answer is sent: what fits. A chosen subset of a service's targets is a complete RRset, so leaving
//! targets out does not truncate it (RFC 2181 9); neither does leaving out glue, which nobody must have asked for.
//! Only a full view that does not fit over UDP is truncated: its asker wants it all and is sent to TCP (RFC 7766 5).

use hickory_proto::op::Message;
use hickory_proto::rr::Record;

use crate::answer::Via;
use crate::extended;
use crate::profile::Profile;

/// RFC 1035, 2.3.4: what every asker takes over UDP.
pub(crate) const UDP_BYTES_MIN: u16 = 512;
/// RFC 9715, 3.1: what is not fragmented on the way.
pub(crate) const UDP_BYTES_MAX: u16 = 1_232;
/// What a response may take over TCP. A server that spells the first owner name out instead of pointing at the question
/// must stay within 65,535 bytes, too.
pub(crate) const TCP_BYTES_MAX: usize = 65_535 - 512;
/// An SRV record takes no less: pointer, fixed part, and a target of a host label, `h` and a domain of one letter.
const SRV_BYTES_MIN: usize = 2 + 10 + 6 + 13;

/// Records that answer a question.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The answers, the best first.
    pub(crate) answers: Vec<Record>,
    /// What spares the asker another question; each with the number of the answer it belongs to.
    pub(crate) glue: Vec<(usize, Record)>,
    /// Whether the answers are wanted all or not at all.
    pub(crate) is_whole: bool,
}

impl Found {
    /// These answers and nothing else.
    pub(crate) fn answers(answers: Vec<Record>) -> Self {
        Self { answers, ..Self::default() }
    }
}

/// How many bytes a response to `request` may take.
pub(crate) fn limit(request: &Message, via: Via, profile: Profile) -> usize {
    match via {
        Via::Tcp => TCP_BYTES_MAX,
        // RFC 6891, 6.2.3: less than 512 means 512.
        Via::Udp => {
            let announced = request.edns.as_ref().map_or(UDP_BYTES_MIN, |edns| edns.max_payload());
            usize::from(announced.clamp(UDP_BYTES_MIN, profile.udp_bytes_max()))
        }
    }
}

/// More SRV records than this do not fit for sure, so nobody needs to make them.
pub(crate) const fn srv_records_max(limit: usize) -> usize {
    limit / SRV_BYTES_MIN + 1
}

/// Puts as much of `found` into `response` as fits.
pub(crate) fn place(response: &mut Message, found: Found, limit: usize, via: Via) {
    let Found { answers, mut glue, is_whole } = found;
    let count = answers.len();
    let fitting =
        largest(count, |count| fits(response, limit, |message| &mut message.answers, &answers[..count]));
    let is_cut = fitting < count && (fitting == 0 || (is_whole && via == Via::Udp));
    if is_cut {
        response.metadata.truncation = true;
        return;
    }
    response.answers = answers;
    response.answers.truncate(fitting);
    glue.retain(|(answer, _)| *answer < fitting);
    let glue: Vec<Record> = glue.into_iter().map(|(_, record)| record).collect();
    let fitting = largest(glue.len(), |count| {
        fits(response, limit, |message| &mut message.additionals, &glue[..count])
    });
    response.additionals = glue;
    response.additionals.truncate(fitting);
}

/// Sends the asker to TCP if `response` takes more than `bytes_max`.
pub(crate) fn cap(response: &mut Message, bytes_max: usize) {
    let fits = |response: &Message| response.to_vec().is_ok_and(|bytes| bytes.len() <= bytes_max);
    if bytes_max == usize::MAX || fits(response) {
        return;
    }
    extended::remove(response);
    if fits(response) {
        return;
    }
    response.metadata.truncation = true;
    response.answers.clear();
    response.authorities.clear();
    response.additionals.clear();
}

/// Whether `response` with `records` in one of its sections keeps the limit.
fn fits(
    response: &mut Message,
    limit: usize,
    section: impl Fn(&mut Message) -> &mut Vec<Record>,
    records: &[Record],
) -> bool {
    *section(response) = records.to_vec();
    let encoded = response.to_vec();
    section(response).clear();
    // The encoder cuts what exceeds 65,535 bytes and says so in TC, the second bit of the third byte.
    encoded.is_ok_and(|bytes| bytes.len() <= limit && bytes.get(2).is_some_and(|flags| flags & 0b10 == 0))
}

/// The largest number up to `count` for which `fits` holds, if it holds for all smaller ones.
fn largest(count: usize, mut fits: impl FnMut(usize) -> bool) -> usize {
    if fits(count) {
        return count;
    }
    let (mut fitting, mut too_many) = (0, count);
    while too_many - fitting > 1 {
        let middle = fitting + (too_many - fitting) / 2;
        if fits(middle) {
            fitting = middle;
        } else {
            too_many = middle;
        }
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_fitting_number_is_found() {
        for count in 0..20 {
            for most in 0..=count {
                assert_eq!(largest(count, |number| number <= most), most);
            }
        }
    }
}
