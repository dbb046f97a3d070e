//! The hot path says what [`answer`](crate::answer) says, to whoever asks what in whatever world.

use std::sync::{Arc, LazyLock};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use ringmesh_types::time::WallTime;

use super::*;
use crate::answer::{self, Via};
use crate::cookie::Secrets;
use crate::profile::Profile;
use crate::testing::{World, zone};
use crate::urn::SplitMix;

const WORLD: &str = "a passing udp tcp tls; b passing udp v6 weight=20; c passing udp; c passing service=media protocol=ng; \
     map sip 0=b,a 80=a+b+c";

fn request(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let name = if name.ends_with('.') { name.to_owned() } else { format!("{name}.m.test.") };
    let name = Name::from_ascii(name.trim_start_matches('.')).expect("a domain name");
    let mut request = Message::new(7, MessageType::Query, OpCode::Query);
    request.metadata.recursion_desired = true;
    request.queries = vec![Query::query(name, kind)];
    request.edns = edns.map(|bytes| {
        let mut edns = Edns::new();
        edns.set_max_payload(bytes);
        edns
    });
    request.to_vec().expect("a request can be written")
}

/// The response of the hot path to this agent itself, if it has one, checked against the other.
fn check(
    zone: &Zone,
    config: &ZoneConfig,
    snapshot: &Snapshot,
    request: &[u8],
    draw: u64,
) -> Option<Message> {
    check_from(&Client::LOCAL, zone, config, snapshot, request, draw)
}

/// The same for anybody.
fn check_from(
    client: &Client<'_>,
    zone: &Zone,
    config: &ZoneConfig,
    snapshot: &Snapshot,
    request: &[u8],
    draw: u64,
) -> Option<Message> {
    let mut buffer = [0xaa; RESPONSE_BYTES_MAX];
    let answered = zone.answer(client, request, &mut buffer, draw)?;
    let hot = &buffer[..answered.length];
    let slow =
        answer::respond(config, snapshot, client, request, Via::Udp, draw).expect("a request is answered");
    let (hot, slow) =
        [hot, &slow].map(|bytes| Message::from_vec(bytes).expect("a response can be read")).into();
    assert_eq!(hot, slow);
    assert_eq!(answered.is_truncated, slow.metadata.truncation);
    assert_eq!(answered.is_nxdomain, slow.metadata.response_code == ResponseCode::NXDomain);
    let asked = Message::from_vec(request).expect("it was answered");
    assert!(hot.queries[0].name.eq_case(&asked.queries[0].name), "0x20");
    Some(hot)
}

fn ask(world: &str, name: &str, kind: RecordType) -> Option<Message> {
    let (config, snapshot) = (zone(), World::read(world).snapshot());
    let zone = Zone::new(Arc::new(config.clone()), &snapshot);
    check(&zone, &config, &snapshot, &request(name, kind, None), 42)
}

#[test]
fn what_sip_stacks_ask_is_answered_here() {
    let usual = [
        ("_sip._udp", RecordType::SRV, 4),
        ("_sIp._uDp.SIP", RecordType::SRV, 4),
        ("_sips._tcp", RecordType::SRV, 1),
        ("_sips._tcp.sip", RecordType::SRV, 1),
        ("_sip._tcp.sip.service", RecordType::SRV, 1),
        ("_media._udp", RecordType::SRV, 1),
        ("_ng._udp.media", RecordType::SRV, 1),
        ("sip", RecordType::NAPTR, 3),
        ("m.test.", RecordType::NAPTR, 3),
        ("sip", RecordType::A, 3),
        ("sip", RecordType::AAAA, 1),
        ("media.service", RecordType::A, 1),
        ("1800008.h", RecordType::A, 1),
        ("1800008.h", RecordType::AAAA, 0),
        ("400gre00000000000000000008.h", RecordType::AAAA, 1),
        ("media", RecordType::NAPTR, 0),
        ("acct-1.key.sip", RecordType::SRV, 4),
        ("Acct-1.Key.sip.service", RecordType::A, 1),
        ("acct-1.key.sip", RecordType::AAAA, 1),
        ("acct-1.key.sip", RecordType::NAPTR, 0),
        ("_sip._udp.acct-1.key.sip", RecordType::SRV, 3),
        ("_sips._tcp.acct-1.key.sip", RecordType::SRV, 1),
        ("_sip._udp.85M6IOR581.ingobde1m6abj3dtmg.kx.sip", RecordType::SRV, 3),
        ("5cq3icpg64p36d1l6o.kx.sip", RecordType::A, 1),
        ("vvvg.kx.sip", RecordType::A, 3),
        ("80000000000000ff.kh.sip", RecordType::SRV, 5),
        ("key.sip", RecordType::A, 0),
        ("c.kx.sip", RecordType::A, 0),
    ];
    for (name, kind, answers) in usual {
        let response = ask(WORLD, name, kind).unwrap_or_else(|| panic!("{name} {kind} is usual"));
        assert_eq!(response.answers.len(), answers, "{name} {kind}");
        assert_eq!(response.metadata.response_code, ResponseCode::NoError, "{name} {kind}");
    }
    for name in [
        "_sip._udp.nosuch",
        "nosuch",
        "_sip._udp.media",
        "_x._udp.sip",
        "_sip._sctp.sip",
        "vvvvvvo.h",
        "zzz.h",
        "acct-1.key.media",
        "acct-1.key.nosuch",
        "*.key.sip",
        "w.kx.sip",
        "0.kh.sip",
        "_ng._udp.acct-1.key.sip",
    ] {
        let response = ask(WORLD, name, RecordType::SRV).unwrap_or_else(|| panic!("{name} is usual"));
        assert_eq!(response.metadata.response_code, ResponseCode::NXDomain, "{name}");
    }
}

#[test]
fn what_is_not_usual_is_left_to_others() {
    for (name, kind) in [
        ("m.test.", RecordType::SOA),
        ("sip", RecordType::ANY),
        ("nosuch", RecordType::AXFR),
        ("nosuch", RecordType::TXT),
        ("_udp.sip", RecordType::SRV),
        ("_udp.acct-1.key.sip", RecordType::SRV),
        ("_sip._udp.acct-1.key.sip", RecordType::A),
        ("acct-1.key.all.sip", RecordType::SRV),
        ("acct-1.key.sip.fra.zone", RecordType::SRV),
        ("acct-1.key.sip", RecordType::TXT),
        ("all.sip", RecordType::A),
        ("_sip._udp.sip.fra.zone", RecordType::SRV),
        ("a.n", RecordType::A),
        ("elsewhere.example.", RecordType::A),
        ("xm.test.", RecordType::A),
        ("1.0.0.10.in-addr.arpa.", RecordType::PTR),
    ] {
        assert_eq!(ask(WORLD, name, kind), None, "{name} {kind}");
    }
    let (config, snapshot) = (zone(), World::read(WORLD).snapshot());
    let zone = Zone::new(Arc::new(config), &snapshot);
    let usual = request("sip", RecordType::A, Some(1_232));
    let answers =
        |bytes: &[u8]| zone.answer(&Client::LOCAL, bytes, &mut [0; RESPONSE_BYTES_MAX], 1).is_some();
    assert!(answers(&usual));
    for length in 0..usual.len() {
        assert!(!answers(&usual[..length]), "{length} bytes");
    }
    assert!(!answers(&[usual.as_slice(), &[0]].concat()), "a byte behind it");
    for (at, bits) in [
        (2, 0x80),
        (2, 0x08),
        (2, 0x04),
        (2, 0x02),
        (3, 0x80),
        (3, 0x40),
        (3, 1),
        (5, 2),
        (7, 1),
        (9, 1),
        (11, 2),
    ] {
        let mut changed = usual.clone();
        changed[at] ^= bits;
        assert!(!answers(&changed), "byte {at} ^ {bits}");
    }
}

const NODES: [&str; 13] = ["a", "b", "c", "d", "e", "f", "g", "i", "j", "k", "l", "o", "xb"];
const WORDS: [&str; 14] = [
    "udp",
    "tcp",
    "tls",
    "v6",
    "service=media",
    "service=b2b",
    "protocol=ng",
    "weight=0",
    "weight=7",
    "weight=65535",
    "draining",
    "flapping",
    "short",
    "suspect=2",
];
const STATES: [&str; 4] = ["passing", "failing", "greylisted", "unknown"];
const STANDINGS: [&str; 4] = ["", " down", " left", " down spared"];

fn worlds() -> impl Strategy<Value = String> {
    let words = subsequence(WORDS.to_vec(), 0..6);
    let instance = (select(&NODES), select(&STATES), select(&STANDINGS), words);
    let instance = instance.prop_map(|(node, state, standing, words)| {
        let words: String = words.iter().map(|word| format!(" {word}")).collect();
        format!("{node} {state}{standing}{words}")
    });
    let few = proptest::collection::vec(instance.clone(), 0..8);
    let many = proptest::collection::vec(instance, 20..70);
    let maps = proptest::collection::vec(maps(), 0..3);
    (prop_oneof![few, many], maps).prop_map(|(instances, maps)| [instances, maps].concat().join("; "))
}

fn maps() -> impl Strategy<Value = String> {
    let nodes = proptest::collection::vec(select(&NODES), 1..20);
    let parts = proptest::collection::vec((nodes, any::<bool>()), 1..4);
    (select(vec!["sip", "sip", "media", "b2b"]), parts).prop_map(|(service, parts)| {
        let part = |(start, (nodes, is_shared)): (&str, &(Vec<&str>, bool))| {
            format!(" {start}={}", nodes.join(if *is_shared { "+" } else { "," }))
        };
        let parts: String = ["0", "80", "c0"].into_iter().zip(&parts).map(part).collect();
        format!("map {service}{parts}")
    })
}

fn names() -> impl Strategy<Value = String> {
    static LABELS: LazyLock<Vec<&str>> = LazyLock::new(|| {
        vec![
            "_sip",
            "_sips",
            "_ng",
            "_media",
            "_b2b",
            "_udp",
            "_tcp",
            "_tls",
            "_sctp",
            "sip",
            "SIP",
            "media",
            "b2b",
            "nosuch",
            "service",
            "all",
            "zone",
            "fra",
            "n",
            "h",
            "a",
            "1800008",
            "1800009",
            "180000g",
            "400gre00000000000000000004",
            "key",
            "kx",
            "kh",
            "vvvg",
            "c",
            "80000000000000ff",
        ]
    });
    let usual = select(vec![
        "_sip._udp",
        "_sip._tcp",
        "_sips._tcp",
        "_sip._udp.sip",
        "_Sip._UDP.sip",
        "_ng._udp.media",
        "_media._udp",
        "_sip._udp.b2b",
        "sip",
        "media",
        "b2b",
        "180000g.h",
        "_sip._udp.sip.service",
        "sip.service",
    ]);
    let key = select(vec![
        "a.key", "_tcp.key", "Z9.KEY", "*.key", "vvvg.kx", "VV.vg.kx", "5cq3.kx", "c.kx", "w.kx",
    ]);
    let at = any::<u64>().prop_map(|at| format!("{at:016x}.kh"));
    let before = select(vec![
        "",
        "",
        "",
        "_sip._udp.",
        "_sip._tcp.",
        "_sips._tcp.",
        "_b2b._tcp.",
        "_Media._udp.",
        "_x._udp.",
    ]);
    let key = (
        before,
        prop_oneof![key.prop_map(str::to_owned), at],
        select(vec!["sip", "sip", "media", "b2b.service"]),
    )
        .prop_map(|(before, key, service)| format!("{before}{key}.{service}"));
    let any = proptest::collection::vec(select(LABELS.as_slice()), 0..5).prop_map(|labels| labels.join("."));
    prop_oneof![2 => usual.prop_map(str::to_owned), 2 => key, 1 => any]
        .prop_map(|name| if name.is_empty() { "m.test.".to_owned() } else { name })
}

fn kinds() -> impl Strategy<Value = RecordType> {
    use RecordType::{A, AAAA, ANY, AXFR, HTTPS, IXFR, NAPTR, NULL, PTR, SOA, SRV, TXT, Unknown};
    let usual = select(vec![SRV, SRV, SRV, A, A, AAAA, NAPTR]);
    let others = select(vec![TXT, SOA, PTR, ANY, AXFR, IXFR, HTTPS, NULL, Unknown(41), Unknown(65_280)]);
    prop_oneof![3 => usual, 1 => others]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn both_paths_say_the_same(
        world in worlds(),
        name in names(),
        kind in kinds(),
        edns in proptest::option::of(select(vec![0_u16, 512, 600, 700, 1_232, 4_096])),
        flags in select(vec![(0_u8, 0_u8), (1, 0), (0, 0x10), (1, 0x20)]),
        profile in select(&Profile::ALL),
        is_isolated: bool,
        draw: u64,
    ) {
        let config = ZoneConfig { ttl: 60, ..zone() };
        let snapshot = World::read(&world).isolated(is_isolated).snapshot();
        let zone = Zone::new(Arc::new(config.clone()), &snapshot);
        let mut request = request(&name, kind, edns);
        request[2] = flags.0;
        request[3] = flags.1;
        let client = Client { profile, ..Client::LOCAL };
        check_from(&client, &zone, &config, &snapshot, &request, draw);
    }

    #[test]
    fn both_paths_say_the_same_to_strangers_with_and_without_cookies(
        world in worlds(),
        name in names(),
        kind in kinds(),
        edns in proptest::option::of(select(vec![512_u16, 1_232])),
        cookies in proptest::collection::vec((select(vec![7_usize, 8, 15, 16, 24, 40, 41]), any::<bool>()), 0..3),
        is_trusted: bool,
        has_secrets: bool,
        draw: u64,
    ) {
        let (config, snapshot) = (zone(), World::read(&world).snapshot());
        let zone = Zone::new(Arc::new(config.clone()), &snapshot);
        let secrets = Secrets::new([3; 16]);
        let client = Client {
            address: IpAddr::from([192, 0, 2, 1]),
            is_trusted,
            now: WallTime::from_unix_millis(1_800_000_000_000),
            profile: Profile::Full,
            secrets: has_secrets.then_some(&secrets),
        };
        let shown = Client { secrets: Some(&secrets), ..client }.judge(Some(&[5; 8]));
        let shown = shown.expect("a cookie").expect("there are secrets").reply;
        let mut request = Message::from_vec(&request(&name, kind, edns)).expect("a request can be read");
        for (length, is_ours) in cookies {
            let cookie = if is_ours { shown.to_vec() } else { vec![5; length] };
            let edns = request.edns.iter_mut();
            edns.for_each(|edns| edns.options_mut().insert(EdnsOption::Unknown(10, cookie.clone())));
        }
        let request = request.to_vec().expect("a request can be written");
        check_from(&client, &zone, &config, &snapshot, &request, draw);
    }

    #[test]
    fn a_zone_that_followed_is_as_a_new_one(
        before in worlds(),
        after in worlds(),
        are_isolated in any::<[bool; 2]>(),
        name in names(),
        draw: u64,
    ) {
        let config = ZoneConfig { ttl: 60, ..zone() };
        let [before, after] = [(before, are_isolated[0]), (after, are_isolated[1])]
            .map(|(world, is_isolated)| World::read(&world).isolated(is_isolated).snapshot());
        let zone = Zone::new(Arc::new(config.clone()), &before).follow(&after);
        check(&zone, &config, &after, &request(&name, RecordType::SRV, Some(1_232)), draw);
    }

    #[test]
    fn what_is_mangled_is_answered_as_before_or_not_here(
        at in proptest::collection::vec((0_usize..60, 0_u8..), 1..4),
        name in names(),
        kind in kinds(),
        draw: u64,
    ) {
        static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| World::read(WORLD).snapshot());
        static ZONE: LazyLock<Zone> = LazyLock::new(|| Zone::new(Arc::new(zone()), &SNAPSHOT));
        let mut request = request(&name, kind, Some(1_232));
        for (at, byte) in at {
            let at = at % request.len();
            request[at] = byte;
        }
        check(&ZONE, &zone(), &SNAPSHOT, &request, draw);
    }

    #[test]
    fn noise_is_answered_as_by_others_or_not_here(bytes in proptest::collection::vec(0_u8.., 0..600)) {
        static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| World::read(WORLD).snapshot());
        static ZONE: LazyLock<Zone> = LazyLock::new(|| Zone::new(Arc::new(zone()), &SNAPSHOT));
        check(&ZONE, &zone(), &SNAPSHOT, &bytes, 1);
    }
}

#[test]
fn a_zone_that_followed_knows_maps_that_came_changed_and_went() {
    let config = zone();
    let with_map = |map: &str| World::read(&format!("a passing; b passing{map}")).snapshot();
    let base = with_map("");
    let mut zone = Zone::new(Arc::new(config.clone()), &base);
    for (map, want) in [("; map sip 0=a", 1), ("; map sip 0=a,b", 2), ("", 0), ("; map sip 0=b", 1)] {
        let snapshot = Snapshot { maps: with_map(map).maps, ..base.clone() };
        zone = zone.follow(&snapshot);
        let request = request("x.key.sip", RecordType::SRV, None);
        let response = check(&zone, &config, &snapshot, &request, 42).expect("it is usual");
        assert_eq!(response.answers.len(), want, "{map}");
    }
}

#[test]
fn the_longest_names_of_keys_are_answered() {
    let (config, snapshot) = (zone(), World::read(WORLD).snapshot());
    let zone = Zone::new(Arc::new(config.clone()), &snapshot);
    for length in 1..=145 {
        let text = crate::base32hex::encode(&vec![0xf5; length]);
        let labels: Vec<&str> =
            (0..text.len()).step_by(63).map(|from| &text[from..text.len().min(from + 63)]).collect();
        let name = format!("{}.kx.sip", labels.join("."));
        let slow = answer::respond(
            &config,
            &snapshot,
            &Client::LOCAL,
            &request(&name, RecordType::SRV, None),
            Via::Udp,
            1,
        );
        let slow = Message::from_vec(&slow.expect("a request is answered")).expect("a response can be read");
        assert!(!slow.answers.is_empty() && slow.metadata.response_code == ResponseCode::NoError, "{length}");
        let hot = check(&zone, &config, &snapshot, &request(&name, RecordType::SRV, None), 1);
        assert!(hot.is_some(), "{length}");
    }
}

#[test]
fn a_cookie_alone_is_usual_and_other_options_are_not() {
    let (config, snapshot) = (zone(), World::read(WORLD).snapshot());
    let zone = Zone::new(Arc::new(config.clone()), &snapshot);
    let secrets = Secrets::new([3; 16]);
    let client = Client { is_trusted: false, secrets: Some(&secrets), ..Client::LOCAL };
    let answer = |options: &[(u16, usize)]| {
        let mut request =
            Message::from_vec(&request("_sip._udp", RecordType::SRV, Some(1_232))).expect("a request");
        let edns = request.edns.as_mut().expect("it has one");
        for (code, length) in options {
            edns.options_mut().insert(EdnsOption::Unknown(*code, vec![1; *length]));
        }
        let request = request.to_vec().expect("a request can be written");
        check_from(&client, &zone, &config, &snapshot, &request, 1)
    };
    for (code, length) in [(10, 7), (10, 9), (3, 0), (65_001, 2)] {
        assert_eq!(answer(&[(code, length)]), None, "{code}");
    }
    assert_eq!(answer(&[(10, 8), (10, 8)]), None);
    let unproven = answer(&[(10, 8)]).expect("it is usual");
    assert!(unproven.metadata.truncation && unproven.answers.is_empty(), "over three times the request");
    let edns = unproven.edns.expect("it had one");
    let Some(EdnsOption::Unknown(10, cookie)) = edns.option(EdnsCode::Cookie) else {
        panic!("no cookie in {edns:?}");
    };
    let mut request =
        Message::from_vec(&request("_sip._udp", RecordType::SRV, Some(1_232))).expect("a request");
    let edns = request.edns.as_mut().expect("it has one");
    edns.options_mut().insert(EdnsOption::Unknown(10, cookie.clone()));
    let request = request.to_vec().expect("a request can be written");
    let proven = check_from(&client, &zone, &config, &snapshot, &request, 1).expect("it is usual");
    assert!(!proven.metadata.truncation && proven.answers.len() == 4);
}

#[test]
fn class_any_is_left_to_others() {
    let (config, snapshot) = (zone(), World::read(WORLD).snapshot());
    let zone = Zone::new(Arc::new(config), &snapshot);
    let mut request = Message::from_vec(&request("sip", RecordType::A, None)).expect("a request");
    request.queries[0].query_class = DNSClass::ANY;
    let bytes = request.to_vec().expect("a request can be written");
    assert!(zone.answer(&Client::LOCAL, &bytes, &mut [0; RESPONSE_BYTES_MAX], 1).is_none());
}

/// Answers so many requests that were mangled by chance: bits, bytes, lengths, repeated parts. Says how many had an answer.
fn mangle(count: u64) -> u64 {
    let snapshot = World::read(WORLD).snapshot();
    let zone = Zone::new(Arc::new(zone()), &snapshot);
    let names = [
        "_sip._udp",
        "_sip._udp.sip.service",
        "sip",
        "m.test.",
        "1800008.h",
        "_udp.sip",
        "nosuch",
        "_sip._udp.acct-1.key.sip",
        "85m6ior581.ingobde1m6abj3dtmg.kx.sip",
        "80000000000000ff.kh.sip",
    ];
    let requests: Vec<Vec<u8>> = names
        .iter()
        .flat_map(|name| [None, Some(1_232)].map(|edns| request(name, RecordType::SRV, edns)))
        .collect();
    let (mut random, mut response) = (SplitMix(1), [0; RESPONSE_BYTES_MAX]);
    let mut number = |bound: usize| usize::try_from(random.below(bound as u64)).expect("a small number");
    let mut answered = 0;
    for draw in 0..count {
        let mut bytes = requests[number(requests.len())].clone();
        for _ in 0..=number(2) * number(3) {
            let at = number(bytes.len().max(1));
            match number(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), u8::try_from(number(256)).expect("a byte")),
                2 => bytes.extend_from_within(at.min(bytes.len())..),
                3 if at < bytes.len() => bytes[at] = [0, 1, 0x3f, 0x40, 0xc0, 0xff][number(6)],
                _ if at < bytes.len() => bytes[at] ^= 1 << number(8),
                _ => {}
            }
        }
        let profile = Profile::ALL[number(Profile::ALL.len())];
        let client = Client { profile, ..Client::LOCAL };
        let Some(found) = zone.answer(&client, &bytes, &mut response, draw) else {
            continue;
        };
        answered += 1;
        assert!(found.length <= RESPONSE_BYTES_MAX && response[..2] == bytes[..2], "{bytes:x?}");
    }
    answered
}

#[test]
fn mangled_requests_do_no_harm() {
    let answered = mangle(2_000_000);
    assert!(answered > 100_000, "{answered} were answered");
}
