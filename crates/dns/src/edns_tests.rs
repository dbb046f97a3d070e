//! What RFCs ask of EDNS, of cookies, and of questions that nobody should ask, clause by clause; requests are bytes, as
//! they come from programs that know no better.

use core::net::IpAddr;
use std::sync::LazyLock;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use proptest::prelude::*;
use proptest::sample::Index;
use ringmesh_types::snapshot::Snapshot;
use ringmesh_types::time::WallTime;

use crate::answer::{self, Via};
use crate::client::Client;
use crate::cookie::Secrets;
use crate::testing::{World, zone};

const WORLD: &str = "a passing udp tcp tls; b passing udp tcp; c passing udp";
const SIP: &[u8] = b"\x03sip\x01m\x04test\0";
const A: u16 = 1;
const ANY: u16 = 255;
const IN: u16 = 1;
/// OPT: 1,232 bytes, no response code, version 0, no flags.
const OPT: &[u8] = &[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0];

/// A request: how many questions it claims, the questions, the records besides.
fn request(count: u16, questions: &[(&[u8], u16, u16)], besides: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 0x01, 0];
    let besides_count = u16::try_from(besides.len()).expect("few");
    for number in [count, 0, 0, besides_count] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    for (name, kind, class) in questions {
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&class.to_be_bytes());
    }
    bytes.extend(besides.iter().flatten());
    bytes
}

/// An OPT record with these options.
fn opt(options: &[(u16, &[u8])]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).expect("it is short").to_be_bytes();
    let mut data = Vec::new();
    for (code, option) in options {
        data.extend_from_slice(&code.to_be_bytes());
        data.extend_from_slice(&length(option.len()));
        data.extend_from_slice(option);
    }
    [OPT, &length(data.len()), &data].concat()
}

fn ask_over(client: &Client<'_>, bytes: &[u8], via: Via) -> Message {
    let snapshot = World::read(WORLD).snapshot();
    let response = answer::respond(&zone(), &snapshot, client, bytes, via, 1).expect("a request is answered");
    let response = Message::from_vec(&response).expect("a response can be read");
    assert_eq!(response.metadata.id, 0xabcd);
    response
}

fn stranger(secrets: &Secrets) -> Client<'_> {
    Client {
        address: IpAddr::from([192, 0, 2, 1]),
        is_trusted: false,
        now: WallTime::from_unix_millis(1_800_000_000_000),
        profile: crate::profile::Profile::Full,
        secrets: Some(secrets),
    }
}

/// What a stranger who comes by TCP is told.
fn ask(bytes: &[u8]) -> Message {
    ask_over(&stranger(&Secrets::new([1; 16])), bytes, Via::Tcp)
}

fn sip_with(options: &[(u16, &[u8])]) -> Vec<u8> {
    request(1, &[(SIP, A, IN)], &[opt(options)])
}

/// The options of a response: their numbers and what they hold.
fn options(response: &Message) -> Vec<(u16, Vec<u8>)> {
    let edns = response.edns.iter().flat_map(|edns| edns.options().as_ref());
    let one = |(code, option): &(EdnsCode, EdnsOption)| {
        let EdnsOption::Unknown(_, data) = option else {
            panic!("{option:?} is none of ours");
        };
        (u16::from(*code), data.clone())
    };
    edns.map(one).collect()
}

fn cookie(response: &Message) -> Vec<u8> {
    let found = options(response).into_iter().find(|(code, _)| *code == 10);
    found.expect("a response to a cookie has one").1
}

/// The response code, whether there is OPT, and how many answers.
fn check(bytes: &[u8], want: (ResponseCode, bool, usize)) {
    let response = ask(bytes);
    let has = (response.metadata.response_code, response.edns.is_some(), response.answers.len());
    assert_eq!((u16::from(has.0), has.1, has.2), (u16::from(want.0), want.1, want.2));
}

#[test]
fn rfc_6891_6_1_1_two_opt_records_are_a_format_error() {
    check(&request(1, &[(SIP, A, IN)], &[opt(&[]), opt(&[])]), (ResponseCode::FormErr, false, 0));
    check(&request(1, &[(SIP, A, IN)], &[opt(&[])]), (ResponseCode::NoError, true, 3));
}

#[test]
fn rfc_6891_6_1_2_unknown_options_and_flags_are_ignored() {
    check(&sip_with(&[(65_001, b"what"), (3, b""), (12, &[0; 40])]), (ResponseCode::NoError, true, 3));
    let mut flagged = request(1, &[(SIP, A, IN)], &[opt(&[])]);
    let at = flagged.len() - 4;
    flagged[at..at + 2].copy_from_slice(&[0xff, 0xff]);
    let response = ask(&flagged);
    assert_eq!(response.answers.len(), 3);
    let flags = *response.edns.expect("it had one").flags();
    assert_eq!((flags.dnssec_ok, flags.z), (true, 0), "DO is repeated (RFC 3225, 3), nothing else is");
}

#[test]
fn rfc_6891_6_1_3_another_version_is_told_ours() {
    for version in [1, 255] {
        let mut opt = opt(&[(10, &[1; 3])]);
        opt[6] = version;
        let response = ask(&request(1, &[(SIP, A, IN)], &[opt]));
        assert_eq!(u16::from(response.metadata.response_code), u16::from(ResponseCode::BADVERS));
        assert_eq!(response.edns.as_ref().map(|edns| edns.version()), Some(0));
        assert_eq!((response.answers.len(), options(&response).len()), (0, 0));
    }
}

#[test]
fn rfc_6891_6_2_3_less_than_512_means_512() {
    let mut small = opt(&[]);
    small[3..5].copy_from_slice(&[0, 1]);
    let bytes = request(1, &[(SIP, A, IN)], &[small]);
    let response = ask_over(&Client::LOCAL, &bytes, Via::Udp);
    assert_eq!((response.answers.len(), response.metadata.truncation), (3, false));
}

#[test]
fn rfc_7871_client_subnet_is_ignored_and_not_repeated() {
    let subnet: &[u8] = &[0, 1, 24, 0, 198, 51, 100];
    let response = ask(&sip_with(&[(8, subnet)]));
    assert_eq!((response.answers.len(), options(&response)), (3, vec![]));
}

#[test]
fn rfc_9619_one_question_or_a_format_error() {
    let question = (SIP, A, IN);
    check(&request(0, &[], &[]), (ResponseCode::FormErr, false, 0));
    check(&request(0, &[], &[opt(&[])]), (ResponseCode::FormErr, true, 0));
    check(&request(2, &[question, question], &[]), (ResponseCode::FormErr, false, 0));
    check(&request(u16::MAX, &[question], &[]), (ResponseCode::FormErr, false, 0));
}

#[test]
fn rfc_8906_3_1_4_unknown_operations_are_not_implemented() {
    for op_code in [1, 2, 3, 4, 5, 6, 15] {
        let mut bytes = sip_with(&[]);
        bytes[2] = op_code << 3;
        let response = ask(&bytes);
        assert_eq!(response.metadata.response_code, ResponseCode::NotImp, "{op_code}");
    }
}

#[test]
fn rfc_8906_3_1_2_unknown_types_have_no_data_and_unknown_classes_are_refused() {
    for kind in [65_280, 99, 64] {
        let response = ask(&request(1, &[(SIP, kind, IN)], &[]));
        assert_eq!(response.metadata.response_code, ResponseCode::NoError);
        assert_eq!((response.answers.len(), response.authorities[0].record_type()), (0, RecordType::SOA));
    }
    for class in [3, 4, 254, 65_280] {
        check(&request(1, &[(SIP, A, class)], &[]), (ResponseCode::Refused, false, 0));
    }
}

#[test]
fn rfc_8482_4_2_any_is_one_small_record() {
    let response = ask(&request(1, &[(SIP, ANY, IN)], &[opt(&[])]));
    assert_eq!((response.answers.len(), response.answers[0].record_type()), (1, RecordType::HINFO));
}

#[test]
fn rfc_7873_5_2_1_without_a_cookie_there_is_none() {
    assert_eq!(options(&ask(&sip_with(&[]))), []);
    assert_eq!(ask(&request(1, &[(SIP, A, IN)], &[])).edns, None);
}

#[test]
fn rfc_7873_5_2_2_a_cookie_of_a_wrong_length_is_a_format_error() {
    for length in [0_usize, 1, 7, 9, 15, 41, 64] {
        let response = ask(&sip_with(&[(10, &vec![1; length])]));
        assert_eq!(response.metadata.response_code, ResponseCode::FormErr, "{length}");
        assert_eq!((response.answers.len(), options(&response)), (0, vec![]));
    }
}

#[test]
fn rfc_7873_5_2_3_a_client_cookie_gets_ours_with_the_answer() {
    for (name, code) in [(SIP, ResponseCode::NoError), (b"\x01x\0", ResponseCode::Refused)] {
        let response = ask(&request(1, &[(name, A, IN)], &[opt(&[(10, &[1; 8])])]));
        assert_eq!(response.metadata.response_code, code);
        let cookie = cookie(&response);
        assert_eq!((cookie.len(), &cookie[..8]), (24, &[1; 8][..]));
    }
}

#[test]
fn rfc_7873_5_2_4_a_bad_cookie_is_as_none_and_gets_a_new_one() {
    let bad = [2; 24];
    let response = ask(&sip_with(&[(10, &bad)]));
    assert_eq!((response.metadata.response_code, response.answers.len()), (ResponseCode::NoError, 3));
    assert_ne!(cookie(&response), bad);
    assert_eq!(cookie(&response)[..8], bad[..8]);
}

#[test]
fn rfc_7873_5_2_5_our_own_cookie_is_repeated() {
    let cookie_of = |cookie_sent: &[u8]| cookie(&ask(&sip_with(&[(10, cookie_sent)])));
    let ours = cookie_of(&[1; 8]);
    assert_eq!(cookie_of(&ours), ours);
}

#[test]
fn rfc_7873_5_2_of_several_cookies_the_first_counts() {
    let response = ask(&sip_with(&[(10, &[1; 8]), (10, &[2; 7])]));
    assert_eq!((response.answers.len(), &cookie(&response)[..8]), (3, &[1; 8][..]));
    let cookies = options(&response);
    assert_eq!(cookies.len(), 1);
}

#[test]
fn rfc_7873_5_4_a_cookie_can_be_asked_for_alone() {
    let ask_for = |cookie: &[u8]| ask(&request(0, &[], &[opt(&[(10, cookie)])]));
    let first = ask_for(&[1; 8]);
    assert_eq!((first.metadata.response_code, first.answers.len()), (ResponseCode::NoError, 0));
    let ours = cookie(&first);
    assert_eq!(ask_for(&ours).metadata.response_code, ResponseCode::NoError);
    let bad = ask_for(&[1; 24]);
    assert_eq!((bad.metadata.response_code, cookie(&bad)), (ResponseCode::BADCOOKIE, ours));
    assert_eq!(ask_for(&[1; 9]).metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn rfc_8914_who_speaks_edns_is_told_why() {
    let check = |name: &[u8], kind, class, want: Option<u8>| {
        let bytes = request(1, &[(name, kind, class)], &[opt(&[])]);
        let options = options(&ask(&bytes));
        let causes: Vec<_> =
            options.iter().filter(|(code, _)| *code == 15).map(|(_, data)| data[1]).collect();
        assert_eq!(causes, want.into_iter().collect::<Vec<u8>>());
        let without = ask(&request(1, &[(name, kind, class)], &[]));
        assert_eq!(without.edns, None);
    };
    check(SIP, A, IN, None);
    check(b"\x01x\x01m\x04test\0", A, IN, None);
    check(b"\x07example\x03com\0", A, IN, Some(20));
    check(b"\x01m\x04test\0", 252, IN, Some(21));
    check(b"\x01m\x04test\0", 251, IN, Some(21));
    check(SIP, A, 3, Some(21));
    let refused = answer::refuse(&Client::LOCAL, &sip_with(&[])).expect("a request is answered");
    let refused = Message::from_vec(&refused).expect("a response can be read");
    assert_eq!(options(&refused), [(15, b"\0\x12see dns.allow".to_vec())]);
}

#[test]
fn over_udp_a_stranger_gets_three_times_its_request_or_comes_by_tcp() {
    let secrets = Secrets::new([1; 16]);
    let stranger = stranger(&secrets);
    let srv = |options: &[(u16, &[u8])]| {
        request(1, &[(b"\x04_sip\x04_udp\x01m\x04test\0", 33, IN)], &[opt(options)])
    };
    let bytes = srv(&[]);
    let cut = ask_over(&stranger, &bytes, Via::Udp);
    assert!(cut.metadata.truncation);
    assert_eq!((cut.all_sections().count(), cut.edns.is_some()), (0, true));
    assert_eq!(ask_over(&stranger, &bytes, Via::Tcp).answers.len(), 3);
    assert_eq!(ask_over(&Client { is_trusted: true, ..stranger }, &bytes, Via::Udp).answers.len(), 3);
    let first = ask_over(&stranger, &srv(&[(10, &[1; 8])]), Via::Udp);
    let proven = ask_over(&stranger, &srv(&[(10, &cookie(&first))]), Via::Udp);
    assert_eq!((proven.answers.len(), proven.metadata.truncation), (3, false));
    let small = ask_over(&stranger, &sip_with(&[]), Via::Udp);
    assert_eq!((small.answers.len(), small.metadata.truncation), (3, false), "within three times");
}

/// Requests that get much, each in its own way.
fn bases() -> Vec<Vec<u8>> {
    let questions: [(&[u8], u16); 5] =
        [(SIP, A), (SIP, 35), (b"\x01m\x04test\0", 6), (b"\x04_udp\x03sip\x01m\x04test\0", 255), (b"\0", A)];
    let cookie: Vec<&[(u16, &[u8])]> = vec![&[], &[(10, &[1; 8])], &[(10, &[1; 24]), (65_001, &[0; 9])]];
    let besides = cookie.into_iter().map(|options| vec![opt(options)]).chain([vec![]]);
    let all = besides.flat_map(|besides| {
        questions.map(|(name, kind)| request(1, &[(name, kind, IN)], &besides)).into_iter()
    });
    all.chain([request(0, &[], &[opt(&[(10, &[1; 8])])])]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_a_stranger_sends_over_udp_it_gets_at_most_three_times_that(
        base: Index,
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4),
    ) {
        static BASES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(bases);
        static SNAPSHOT: LazyLock<Snapshot> =
            LazyLock::new(|| World::read(WORLD).snapshot());
        let mut bytes = base.get(&BASES).clone();
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        let secrets = Secrets::new([1; 16]);
        let stranger = stranger(&secrets);
        let answered = answer::respond(&zone(), &SNAPSHOT, &stranger, &bytes, Via::Udp, 1);
        for response in [answered, answer::refuse(&stranger, &bytes)].into_iter().flatten() {
            prop_assert!(response.len() <= 3 * bytes.len(), "{} for {}", response.len(), bytes.len());
        }
    }
}
