//! Whether a request over UDP from outside the trusted networks is answered, by how often its network asks and by what its
//! cookie proves. Everything within is answered without asking here.
//!
//! What is too much and gets a response gets one that is no longer than a request with a cookie could be, and that sends
//! its asker to a way that cannot be forged: TC to TCP, or BADCOOKIE to the cookie that comes with it (RFC 7873, 5.2.3).
//!
//! Nothing is taken from the heap.

use hickory_proto::op::ResponseCode;
use ringmesh_types::time::Instant;

use crate::client::Client;
use crate::cookie::{Judged, Standing};
use crate::glance::{Glance, HEADER_BYTES, Tail};
use crate::rate::{Limiter, Verdict};

const QR_TC: u8 = 0x82;
const QR: u8 = 0x80;
const RD: u8 = 0x01;
const CD: u8 = 0x10;

/// What becomes of a request, and of the cookie that it showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// What becomes of it.
    pub verdict: Admission,
    /// What its cookie proves, if it has one.
    pub cookie: Option<Standing>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is answered.
    Answer,
    /// It gets this many bytes of the buffer instead.
    Instead(usize),
    /// It gets no response.
    Drop,
}

/// Judges `request` from `client`, which is not trusted; writes what is sent instead of an answer into `response`. Without
/// a `limiter` everything is answered.
pub fn admit(
    limiter: Option<&mut Limiter>,
    client: &Client<'_>,
    request: &[u8],
    response: &mut [u8],
    now: Instant,
) -> Admitted {
    let glance = Glance::at(request);
    let opt = glance.and_then(|glance| glance.opt);
    let judged = client.judge(opt.and_then(|opt| opt.cookie())).ok().flatten();
    let cookie = judged.map(|judged| judged.standing);
    let verdict = match limiter {
        None => Verdict::Answer,
        Some(_) if cookie == Some(Standing::Proven) => Verdict::Answer,
        Some(limiter) => limiter.take(client.address, now),
    };
    let verdict = match verdict {
        Verdict::Answer => Admission::Answer,
        Verdict::Drop => Admission::Drop,
        Verdict::Slip => {
            let length = glance.and_then(|glance| send_away(request, &glance, judged.as_ref(), response));
            length.map_or(Admission::Drop, Admission::Instead)
        }
    };
    Admitted { verdict, cookie }
}

/// Repeats the question and says nothing but where to go. Gives back how long that is.
fn send_away(
    request: &[u8],
    glance: &Glance<'_>,
    cookie: Option<&Judged>,
    response: &mut [u8],
) -> Option<usize> {
    let (flags, code) = match cookie {
        Some(_) => (QR, ResponseCode::BADCOOKIE),
        None => (QR_TC, ResponseCode::NoError),
    };
    let tail = Tail::new(glance.opt, code.high(), cookie);
    let tail = tail.as_bytes();
    let length = glance.end + tail.len();
    let response = response.get_mut(..length)?;
    response[..glance.end].copy_from_slice(&request[..glance.end]);
    response[2] = flags | request[2] & RD;
    response[3] = request[3] & CD | code.low();
    response[HEADER_BYTES - 1] = u8::from(!tail.is_empty());
    response[glance.end..].copy_from_slice(tail);
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::Secrets;
    use crate::rate::Limits;
    use crate::testing::name;
    use core::net::IpAddr;
    use core::num::NonZeroU32;
    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    use hickory_proto::rr::{Name, RecordType};
    use proptest::prelude::*;
    use ringmesh_types::time::WallTime;

    /// One response, and then one each second.
    fn limiter() -> Limiter {
        Limiter::new(Limits { rate: NonZeroU32::MIN, burst: NonZeroU32::MIN }, 1)
    }

    fn stranger(secrets: &Secrets) -> Client<'_> {
        let now = WallTime::from_unix_millis(1_800_000_000_000);
        Client { address: name("192.0.2.1"), is_trusted: false, now, secrets: Some(secrets), ..Client::LOCAL }
    }

    fn request(edns: bool, cookie: Option<&[u8]>) -> Vec<u8> {
        let mut request = Message::new(7, MessageType::Query, OpCode::Query);
        request.metadata.recursion_desired = true;
        let name = Name::from_ascii("_Sip._udp.m.test.").expect("a domain name");
        request.queries = vec![Query::query(name, RecordType::SRV)];
        request.edns = edns.then(|| {
            let mut edns = Edns::new();
            let cookie = cookie.map(|cookie| EdnsOption::Unknown(10, cookie.to_vec()));
            cookie.into_iter().for_each(|cookie| edns.options_mut().insert(cookie));
            edns
        });
        request.to_vec().expect("a request can be written")
    }

    /// What each of `count` requests gets, all at once.
    fn flood(request: &[u8], count: usize) -> Vec<Result<Message, Admission>> {
        let (mut limiter, secrets) = (limiter(), Secrets::new([7; 16]));
        let mut room = [0xaa; 512];
        let mut one = |_| {
            let client = stranger(&secrets);
            match admit(Some(&mut limiter), &client, request, &mut room, Instant::START).verdict {
                Admission::Instead(length) => {
                    Ok(Message::from_vec(&room[..length]).expect("a response can be read"))
                }
                verdict @ (Admission::Answer | Admission::Drop) => Err(verdict),
            }
        };
        (0..count).map(&mut one).collect()
    }

    #[test]
    fn what_is_too_much_is_sent_to_tcp_or_dropped() {
        for edns in [false, true] {
            let request = request(edns, None);
            let flood = flood(&request, 5);
            assert_eq!(flood[0], Err(Admission::Answer));
            assert_eq!([&flood[2], &flood[4]], [&Err(Admission::Drop); 2]);
            let slip = flood[1].as_ref().expect("every second is told");
            assert_eq!(flood[3].as_ref(), Ok(slip));
            assert!(slip.metadata.truncation && slip.metadata.recursion_desired);
            assert_eq!(slip.metadata.message_type, MessageType::Response);
            assert_eq!(slip.metadata.response_code, ResponseCode::NoError);
            assert_eq!(slip.queries, Message::from_vec(&request).expect("a request").queries);
            assert_eq!((slip.all_sections().count(), slip.edns.is_some()), (0, edns));
        }
    }

    #[test]
    fn rfc_7873_5_2_3_who_could_show_a_cookie_is_sent_to_it() {
        let flood = flood(&request(true, Some(&[9; 8])), 2);
        let sent = flood[1].as_ref().expect("every second is told");
        assert_eq!(sent.metadata.response_code, ResponseCode::BADCOOKIE);
        assert!(!sent.metadata.truncation);
        let edns = sent.edns.as_ref().expect("it had one");
        let Some(EdnsOption::Unknown(10, cookie)) = edns.option(EdnsCode::Cookie) else {
            panic!("no cookie in {edns:?}");
        };
        // The cookie that comes with it ends the limit.
        let (mut limiter, secrets) = (limiter(), Secrets::new([7; 16]));
        let mut room = [0; 512];
        for _ in 0..100 {
            let proven = request(true, Some(cookie));
            let admitted = admit(Some(&mut limiter), &stranger(&secrets), &proven, &mut room, Instant::START);
            let want = Admitted { verdict: Admission::Answer, cookie: Some(Standing::Proven) };
            assert_eq!(admitted, want);
        }
        // The same cookie from elsewhere does not.
        let elsewhere = Client { address: IpAddr::from([192, 0, 2, 9]), ..stranger(&secrets) };
        let request = request(true, Some(cookie));
        let mut admitted = || admit(Some(&mut limiter), &elsewhere, &request, &mut room, Instant::START);
        assert_eq!(admitted().verdict, Admission::Answer);
        assert!(matches!(admitted().verdict, Admission::Instead(_)));
        assert_eq!(admitted(), Admitted { verdict: Admission::Drop, cookie: Some(Standing::Bad) });
    }

    #[test]
    fn what_is_no_plain_question_is_dropped_when_it_is_too_much() {
        let mut response = request(false, None);
        response[2] |= 0x80;
        for odd in [response, vec![0; 3], request(false, None)[..20].to_vec()] {
            let flood = flood(&odd, 3);
            assert_eq!(flood, [Err(Admission::Answer), Err(Admission::Drop), Err(Admission::Drop)]);
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_answered_with_little(
            at in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
            noise in proptest::collection::vec(any::<u8>(), 0..80),
            edns: bool,
            is_noise: bool,
        ) {
            let mut bytes = if is_noise { noise } else { request(edns, Some(&[9; 8])) };
            for (at, byte) in at {
                let length = bytes.len().max(1);
                bytes.get_mut(at % length).into_iter().for_each(|place| *place = byte);
            }
            let (mut limiter, secrets) = (limiter(), Secrets::new([7; 16]));
            let mut room = [0; 512];
            for _ in 0..3 {
                let verdict =
                    admit(Some(&mut limiter), &stranger(&secrets), &bytes, &mut room, Instant::START).verdict;
                if let Admission::Instead(length) = verdict {
                    // A cookie of ours is longer by as much than the shortest of an asker.
                    prop_assert!(length <= bytes.len() + 16);
                    let read = Message::from_vec(&room[..length]).expect("a response can be read");
                    prop_assert_eq!(read.metadata.message_type, MessageType::Response);
                }
            }
        }
    }
}
