//! The response to a request: a pure function of the configuration, the snapshot, the request, how it came and a number
//! that stands for chance.
//!
//! Sources: RFC 1034 4.3 and RFC 1035 4.1 (responses), RFC 2181 5.2 and 9 (one TTL per RRset, TC), RFC 2308 2 and 3
//! (negative answers), RFC 2782 (SRV), RFC 3263 4.1 (NAPTR), RFC 6891 6 and 7 (EDNS), RFC 7873 5 (cookies), RFC 8482 4.2
//! (ANY), RFC 8906 3 (always answer), RFC 8914 (extended errors). Partial: no DNSSEC, no zone transfer.

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use ringmesh_types::snapshot::Snapshot;

use crate::client::Client;
use crate::cookie::{self, Judged, PeerCookieLengthError, Standing};
use crate::extended::{self, Cause};
use crate::fit;
use crate::lookup::Lookup;
use crate::zone::ZoneConfig;

/// How a request came, and so how large its response may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// In a datagram.
    Udp,
    /// On a stream.
    Tcp,
}

/// The response to the request in `bytes` from `client`, ready to send. `None` for what must not be answered: what is too
/// short to be a message, and responses, which two servers would otherwise throw at each other forever.
pub fn respond(
    config: &ZoneConfig,
    snapshot: &Snapshot,
    client: &Client<'_>,
    bytes: &[u8],
    via: Via,
    draw: u64,
) -> Option<Vec<u8>> {
    respond_with(bytes, |request| {
        let mut response = answer(config, snapshot, client, request, via, draw);
        if via == Via::Udp {
            let cookie = client.judge_message(request).ok().flatten();
            fit::cap(&mut response, client.bytes_max(bytes.len(), cookie.as_ref()));
        }
        response
    })
}

/// The response to the request in `bytes` from `client`, who may not ask; `None` as for [`respond`].
pub fn refuse(client: &Client<'_>, bytes: &[u8]) -> Option<Vec<u8>> {
    respond_with(bytes, |request| refusal(client, request))
}

/// The response to `request` from `client`, who may not ask.
pub fn refusal(client: &Client<'_>, request: &Message) -> Message {
    let mut response = prepare(request, client.judge_message(request));
    fail(&mut response, Failure(ResponseCode::Refused, Some(Cause::Prohibited)));
    response
}

fn respond_with(bytes: &[u8], answer: impl FnOnce(&Message) -> Message) -> Option<Vec<u8>> {
    let header = Header::from_bytes(bytes).ok()?;
    if header.metadata.message_type == MessageType::Response {
        return None;
    }
    let response = if header.metadata.op_code != OpCode::Query {
        failure(&header.metadata, ResponseCode::NotImp)
    } else if header.counts.queries > 1 {
        // Read from the header alone: the decoder would make room for 65,535 questions before it looks for them.
        failure(&header.metadata, ResponseCode::FormErr)
    } else {
        match Message::from_vec(bytes) {
            Ok(request) => answer(&request),
            Err(_) => failure(&header.metadata, ResponseCode::FormErr),
        }
    };
    response.to_vec().or_else(|_| failure(&header.metadata, ResponseCode::ServFail).to_vec()).ok()
}

/// The response to `request` from `client`.
pub fn answer(
    config: &ZoneConfig,
    snapshot: &Snapshot,
    client: &Client<'_>,
    request: &Message,
    via: Via,
    draw: u64,
) -> Message {
    let cookie = client.judge_message(request);
    let mut response = prepare(request, cookie);
    let config = &*config.of(snapshot);
    match question(request, cookie) {
        Err(failure) => fail(&mut response, failure),
        Ok(question) => {
            let (limit, profile) = (fit::limit(request, via, client.profile), client.profile);
            let lookup = Lookup { config, snapshot, question, profile, now: client.now, limit, draw };
            lookup.fill(&mut response, via);
            let code = response.metadata.response_code;
            let is_stale = snapshot.isolated_since.is_some();
            let cause = if code == ResponseCode::Refused {
                Some(Cause::NotAuthoritative)
            } else if code == ResponseCode::NXDomain {
                is_stale.then_some(Cause::StaleNxdomain)
            } else {
                is_stale.then_some(Cause::StaleAnswer)
            };
            cause.into_iter().for_each(|cause| extended::add(&mut response, cause, limit));
        }
    }
    response
}

/// A response that repeats what every response repeats, and says nothing yet.
fn prepare(request: &Message, cookie: Result<Option<Judged>, PeerCookieLengthError>) -> Message {
    let mut response = failure(&request.metadata, ResponseCode::NoError);
    if let [question] = request.queries.as_slice() {
        response.queries = vec![question.clone()];
    }
    response.edns = request.edns.as_ref().map(echo);
    if let (Some(edns), Ok(Some(cookie))) = (&mut response.edns, cookie) {
        edns.options_mut().insert(EdnsOption::Unknown(cookie::OPTION, cookie.reply.to_vec()));
    }
    response
}

/// A response that says `code` and nothing else, not even what was asked: it may not have been readable.
fn failure(request: &Metadata, code: ResponseCode) -> Message {
    let mut response = Message::error_msg(request.id, request.op_code, code);
    response.metadata.recursion_desired = request.recursion_desired;
    response.metadata.checking_disabled = request.checking_disabled;
    response
}

/// RFC 6891, 6.1.1: a request with OPT gets a response with OPT.
fn echo(request: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(fit::UDP_BYTES_MAX);
    edns.set_dnssec_ok(request.flags().dnssec_ok);
    edns
}

/// Why a question is not looked up, for programs and for people.
struct Failure(ResponseCode, Option<Cause>);

fn fail(response: &mut Message, Failure(code, cause): Failure) {
    response.metadata.response_code = code;
    if let Some(cause) = cause {
        extended::add(response, cause, fit::UDP_BYTES_MIN.into());
    }
}

/// The question of `request`, or why it is not answered.
fn question(
    request: &Message,
    cookie: Result<Option<Judged>, PeerCookieLengthError>,
) -> Result<&Query, Failure> {
    let fail = |code| Err(Failure(code, None));
    if request.metadata.op_code != OpCode::Query {
        return fail(ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return fail(ResponseCode::BADVERS);
    }
    // RFC 7873, 5.2.2: a cookie of no possible length is a format error.
    let Ok(cookie) = cookie else {
        return fail(ResponseCode::FormErr);
    };
    let question = match (request.queries.as_slice(), cookie) {
        ([question], _) => question,
        // RFC 7873, 5.4: who asks for nothing but a cookie gets it.
        ([], Some(Judged { standing: Standing::Bad, .. })) => return fail(ResponseCode::BADCOOKIE),
        ([], Some(_)) => return fail(ResponseCode::NoError),
        _ => return fail(ResponseCode::FormErr),
    };
    let is_class = [DNSClass::IN, DNSClass::ANY].contains(&question.query_class);
    if !is_class || [RecordType::AXFR, RecordType::IXFR].contains(&question.query_type) {
        return Err(Failure(ResponseCode::Refused, Some(Cause::NotSupported)));
    }
    Ok(question)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::testing::{World, name, zone};
    use hickory_proto::rr::rdata::opt::EdnsCode;
    use hickory_proto::rr::{Name, Record};
    use proptest::prelude::*;

    const WORLD: &str =
        "a passing udp tcp tls; b passing udp tcp; c passing udp; c passing service=media protocol=ng";
    const SOA: &str = "m.test. SOA a.n hostmaster 7 3600 600 86400 15";

    /// The request that `text` describes: a name (below `m.test` unless it ends with a dot, `@` for the domain), a
    /// type, and `edns=<bytes>`, `version=<number>` or `class=<class>`.
    fn request(text: &str) -> Message {
        let words: Vec<&str> = text.split(' ').collect();
        let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
        let qname = match words[0] {
            "@" => "m.test.".to_owned(),
            absolute if absolute.ends_with('.') => absolute.to_owned(),
            below => format!("{below}.m.test."),
        };
        let qtype = match words[1] {
            "IXFR" => RecordType::IXFR,
            "TYPE65280" => RecordType::Unknown(65_280),
            known => known.parse().expect("a known type"),
        };
        let mut question = Query::query(Name::from_ascii(qname).expect("a domain name"), qtype);
        if let Some(class) = value("class=") {
            question.query_class = class.parse().expect("a known class");
        }
        let mut request = Message::new(1, MessageType::Query, OpCode::Query);
        request.metadata.recursion_desired = true;
        request.queries = vec![question];
        if value("edns=").is_some() || value("version=").is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(value("edns=").map_or(1_232, name));
            edns.set_version(value("version=").map_or(0, name));
            request.edns = Some(edns);
        }
        request
    }

    /// The response as it arrives.
    fn ask(config: &ZoneConfig, snapshot: &Snapshot, text: &str) -> Message {
        let via = if text.ends_with(" tcp") { Via::Tcp } else { Via::Udp };
        let bytes = request(text).to_vec().expect("a request can be written");
        let response =
            respond(config, snapshot, &Client::LOCAL, &bytes, via, 42).expect("a request is answered");
        if via == Via::Udp {
            assert!(
                response.len() <= fit::limit(&request(text), via, Client::LOCAL.profile),
                "{text}: {} bytes",
                response.len()
            );
        }
        Message::from_vec(&response).expect("a response can be read")
    }

    fn section(records: &[Record], question: Option<&Query>) -> String {
        let text = |record: &Record| {
            let data = format!("{} {}", record.record_type(), record.data);
            if question.is_some_and(|question| question.name.eq_case(&record.name)) {
                data.trim_end().to_owned()
            } else {
                format!("{} {}", record.name.to_ascii(), data.trim_end())
            }
        };
        let texts: Vec<String> = records.iter().map(text).collect();
        if texts.is_empty() { "-".to_owned() } else { texts.join("; ").replace(".m.test.", "") }
    }

    fn print(response: &Message) -> String {
        let question = response.queries.first();
        let code = response.metadata.response_code;
        // RFC 6891 and RFC 8945 share the number 16.
        let code = if u16::from(code) == 16 { "BADVERS".to_owned() } else { format!("{code:?}") };
        let flags = [
            (response.metadata.authoritative, " aa"),
            (response.metadata.truncation, " tc"),
            (response.metadata.recursion_available, " ra"),
            (!response.metadata.recursion_desired, " no-rd"),
            (response.edns.is_some(), " opt"),
        ];
        let flags: String = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).collect();
        format!(
            "{code}{flags} | {} | {} | {}",
            section(&response.answers, question),
            section(&response.authorities, question),
            section(&response.additionals, question)
        )
    }

    /// Asks a world and compares `rcode flags | answers | authorities | additionals`; an owner is shown where it is not
    /// the name in the question, letter by letter.
    fn check_in(world: &str, question: &str, want: &str) {
        let response = ask(&zone(), &World::read(world).snapshot(), question);
        assert_eq!(print(&response), want, "{question}");
    }

    fn check(question: &str, want: &str) {
        check_in(WORLD, question, want);
    }

    fn check_no_data(question: &str) {
        check(question, &format!("NoError aa | - | {SOA} | -"));
    }

    #[test]
    fn rfc_2782_srv_names_targets_with_addresses_the_nearest_first() {
        check(
            "_sip._udp.sip SRV",
            "NoError aa | SRV 10 100 5060 1800008.h; SRV 20 100 5060 180000g.h; SRV 30 100 5060 180000o.h | - \
             | 1800008.h A 10.0.0.1; 180000g.h A 10.0.0.2; 180000o.h A 10.0.0.3",
        );
        check("_sips._tcp.sip SRV", "NoError aa | SRV 10 100 5061 1800008.h | - | 1800008.h A 10.0.0.1");
        check(
            "_sip._udp.sip.ber.zone SRV",
            "NoError aa | SRV 20 100 5060 180000g.h | - | 180000g.h A 10.0.0.2",
        );
        check("_ng._udp.media SRV", "NoError aa | SRV 30 100 5060 180000o.h | - | 180000o.h A 10.0.0.3");
    }

    #[test]
    fn rfc_2782_a_target_and_port_is_named_once() {
        let once = "NoError aa | SRV 20 100 5060 180000g.h | - | 180000g.h A 10.0.0.2";
        check_in("b passing; b passing", "_sip._udp.sip SRV", once);
    }

    #[test]
    fn rfc_7984_a_target_on_ipv6_has_an_ipv6_address() {
        check_in(
            "b passing v6",
            "_sip._udp.all.sip SRV",
            "NoError aa | SRV 20 100 5060 180000g.h; SRV 20 100 5060 400gre00000000000000000008.h | - \
             | 180000g.h A 10.0.0.2; 400gre00000000000000000008.h AAAA 2001:db8::2",
        );
    }

    #[test]
    fn names_that_own_srv_own_addresses() {
        for name in ["sip", "_sip._udp.sip", "sip.service"] {
            check(&format!("{name} A"), "NoError aa | A 10.0.0.1; A 10.0.0.2; A 10.0.0.3 | - | -");
            check_no_data(&format!("{name} AAAA"));
        }
        check_in("b passing v6", "sip AAAA", "NoError aa | AAAA 2001:db8::2 | - | -");
        check_in("a passing flapping; c passing", "sip A", "NoError aa | A 10.0.0.3 | - | -");
        check_in("a greylisted; c passing", "sip A", "NoError aa | A 10.0.0.3 | - | -");
    }

    #[test]
    fn rfc_3263_4_1_naptr_names_only_transports_that_are_served() {
        let all = "NoError aa | NAPTR 10 10 \"s\" \"SIP+D2U\" \"\" _sip._udp.sip; \
                   NAPTR 20 10 \"s\" \"SIP+D2T\" \"\" _sip._tcp.sip; \
                   NAPTR 30 10 \"s\" \"SIPS+D2T\" \"\" _sips._tcp.sip | - | -";
        check("sip NAPTR", all);
        check("@ NAPTR", all);
        let zone = "NoError aa | NAPTR 10 10 \"s\" \"SIP+D2U\" \"\" _sip._udp.sip.ber.zone | - | -";
        check_in("a passing tcp; b passing udp", "sip.ber.zone NAPTR", zone);
        let udp = "NoError aa | NAPTR 10 10 \"s\" \"SIP+D2U\" \"\" _sip._udp.sip | - | -";
        check_in("a passing udp; b failing tcp", "sip NAPTR", udp);
        check_in("a failing tls udp tcp", "sip NAPTR", all);
        check_no_data("media NAPTR");
    }

    #[test]
    fn a_known_service_is_never_answered_empty() {
        let b = "NoError aa | SRV 20 100 5060 180000g.h | - | 180000g.h A 10.0.0.2";
        for world in
            ["a failing; b unknown", "b failing; c passing down", "b passing down", "b passing draining"]
        {
            check_in(world, "_sip._udp.sip SRV", b);
        }
    }

    #[test]
    fn the_domain_has_soa_and_ns_and_no_address() {
        check("@ SOA", "NoError aa | SOA a.n hostmaster 7 3600 600 86400 15 | - | -");
        check("@ NS", "NoError aa | NS a.n | - | a.n A 10.0.0.1; a.n AAAA 2001:db8::1");
        check("@ A", "NoError aa | - | SOA a.n hostmaster 7 3600 600 86400 15 | -");
    }

    #[test]
    fn nodes_hosts_and_reverse_names_resolve_even_if_the_node_is_down() {
        let world = "b passing down";
        check_in(world, "b.n A", "NoError aa | A 10.0.0.2 | - | -");
        check_in(world, "b.n AAAA", "NoError aa | AAAA 2001:db8::2 | - | -");
        check_in(world, "180000g.h A", "NoError aa | A 10.0.0.2 | - | -");
        check_in(world, "180000g.h AAAA", &format!("NoError aa | - | {SOA} | -"));
        check_in(world, "2.0.0.10.in-addr.arpa. PTR", "NoError aa | PTR b.n | - | -");
        let no_data = "NoError aa | - | SOA a.n hostmaster 7 3600 600 86400 15 | -";
        check_in(world, "2.0.0.10.in-addr.arpa. A", no_data);
    }

    #[test]
    fn rfc_2308_nothing_is_said_with_the_soa() {
        check("_sip._udp.sip TXT", &format!("NoError aa | - | {SOA} | -"));
        check("web A", &format!("NXDomain aa | - | {SOA} | -"));
        check("_sip._udp.web SRV", &format!("NXDomain aa | - | {SOA} | -"));
    }

    #[test]
    fn rfc_8020_empty_non_terminals_exist() {
        for name in ["_udp.sip", "_udp", "h", "n", "zone", "ber.zone"] {
            check_no_data(&format!("{name} SRV"));
            check_no_data(&format!("{name} ANY"));
        }
    }

    #[test]
    fn rfc_8482_any_is_answered_with_little() {
        check("sip ANY", "NoError aa | HINFO RFC8482 | - | -");
        check("web ANY", &format!("NXDomain aa | - | {SOA} | -"));
    }

    #[test]
    fn rfc_8906_everything_gets_an_answer() {
        check_no_data("sip TYPE65280");
        check_no_data("sip MX");
        check("_sips._tcp.sip A class=ANY", "NoError aa | A 10.0.0.1 | - | -");
        check("example.com. A", "Refused | - | - | -");
        check("9.0.0.10.in-addr.arpa. PTR", "Refused | - | - | -");
        check("sip A class=CH", "Refused | - | - | -");
        check("@ AXFR", "Refused | - | - | -");
        check("@ IXFR", "Refused | - | - | -");
    }

    #[test]
    fn rfc_6891_opt_is_answered_with_opt() {
        check(
            "_sips._tcp.sip SRV edns=1232",
            "NoError aa opt | SRV 10 100 5061 1800008.h | - | 1800008.h A 10.0.0.1",
        );
        check("sip A version=1", "BADVERS opt | - | - | -");
        let config = zone();
        let snapshot = World::read(WORLD).snapshot();
        let response = ask(&config, &snapshot, "sip A edns=4096");
        assert_eq!(response.edns.map(|edns| (edns.max_payload(), edns.version())), Some((1_232, 0)));
    }

    #[test]
    fn rfc_4343_names_are_echoed_as_they_were_written() {
        check(
            "_SiP._uDp.SIP.fRa.ZoNe SRV",
            "NoError aa | SRV 10 100 5060 1800008.h | - | 1800008.h A 10.0.0.1",
        );
        let response = ask(&zone(), &World::read(WORLD).snapshot(), "SiP A");
        assert_eq!(response.queries[0].name.to_ascii(), "SiP.m.test.");
        assert_eq!(response.answers[0].name.to_ascii(), "SiP.m.test.");
    }

    #[test]
    fn rfc_2181_8_no_time_to_live_is_0() {
        let snapshot = World::read(WORLD).snapshot();
        for (question, want) in
            [("_sip._udp.sip SRV", 5), ("sip ANY", 5), ("@ SOA", 5), ("web A", 15), ("@ A", 15)]
        {
            let response = ask(&zone(), &snapshot, question);
            let mut ttls = response.all_sections().map(|record| record.ttl);
            assert!(ttls.all(|ttl| ttl == want), "{question}");
        }
    }

    #[test]
    fn rfc_8767_4_what_is_stale_is_kept_for_five_seconds_and_rfc_8914_says_so() {
        let config = ZoneConfig { ttl: 300, ..zone() };
        let check = |is_isolated, text: &str, ttl: u32, cause: Option<u8>| {
            let snapshot = World::read(WORLD).isolated(is_isolated).snapshot();
            let response = ask(&config, &snapshot, text);
            assert!(response.answers.iter().all(|record| record.ttl == ttl), "{text}: {response}");
            let edns = response.edns.as_ref();
            let said = edns.and_then(|edns| match edns.option(EdnsCode::Unknown(15)) {
                Some(EdnsOption::Unknown(_, data)) => data.get(1).copied(),
                Some(EdnsOption::Subnet(_) | EdnsOption::NSID(_) | _) | None => None,
            });
            assert_eq!(said, cause, "{text}");
        };
        for question in ["_sip._udp.sip SRV", "sip A", "all.sip TXT", "@ SOA", "a.n A"] {
            check(false, question, 300, None);
            check(true, question, 5, None);
            check(false, &format!("{question} edns=1232"), 300, None);
            check(true, &format!("{question} edns=1232"), 5, Some(3));
        }
        check(true, "nosuch A edns=1232", 5, Some(19));
        check(true, "elsewhere.example. A edns=1232", 5, Some(20));
    }

    #[test]
    fn the_status_tells_how_old_answers_may_be() {
        let check = |is_isolated, millis, want: &str| {
            let snapshot = World::read("b passing; c passing down").isolated(is_isolated).snapshot();
            let client =
                Client { now: ringmesh_types::time::WallTime::from_unix_millis(millis), ..Client::LOCAL };
            let response = answer(&zone(), &snapshot, &client, &request("_status TXT"), Via::Udp, 0);
            assert_eq!(response.answers[0].data.to_string(), want);
        };
        check(false, 90_000, "state=connectedage=0members=3serving=2serial=7");
        check(true, 90_400, "state=isolatedage=90members=3serving=2serial=7");
        check(true, 0, "state=isolatedage=0members=3serving=2serial=7");
        let nothing = ask(&zone(), &World::read(WORLD).snapshot(), "_status A");
        assert_eq!((nothing.metadata.response_code, nothing.answers.len()), (ResponseCode::NoError, 0));
    }

    /// Twenty nodes of one priority.
    fn crowd() -> Snapshot {
        let nodes: Vec<String> = ('d'..='w').map(|node| format!("{node} passing")).collect();
        World::read(&nodes.join("; ")).snapshot()
    }

    #[test]
    fn at_most_8_targets_are_drawn() {
        let response = ask(&zone(), &crowd(), "_sip._udp.sip SRV");
        assert_eq!((response.answers.len(), response.additionals.len()), (8, 8));
        assert_eq!(ask(&zone(), &crowd(), "sip A").answers.len(), 8);
    }

    #[test]
    fn rfc_2181_9_leaving_targets_or_glue_out_is_no_truncation() {
        let domain = format!("{}.{}.test.", "d".repeat(45), "e".repeat(45));
        let config = ZoneConfig { domain: Name::from_ascii(&domain).expect("a domain name"), ..zone() };
        let question = format!("_sip._udp.sip.{domain} SRV");
        let small = ask(&config, &crowd(), &question);
        assert!((1..8).contains(&small.answers.len()), "{}", small.answers.len());
        assert!(!small.metadata.truncation);
        let large = ask(&config, &crowd(), &format!("{question} edns=1232"));
        assert_eq!(large.answers.len(), 8);
        assert!(large.additionals.len() < 8 && !large.metadata.truncation);
        let whole = ask(&config, &crowd(), &format!("{question} tcp"));
        assert_eq!((whole.answers.len(), whole.additionals.len()), (8, 8));
    }

    #[test]
    fn rfc_7766_a_full_view_that_does_not_fit_is_for_tcp() {
        check(
            "_sip._tcp.all.sip SRV",
            "NoError aa | SRV 10 100 5060 1800008.h; SRV 20 100 5060 180000g.h | - \
             | 1800008.h A 10.0.0.1; 180000g.h A 10.0.0.2",
        );
        for name in ["_sip._udp.all.sip", "all.sip"] {
            let cut = ask(&zone(), &crowd(), &format!("{name} SRV"));
            assert_eq!(print(&cut), "NoError aa tc | - | - | -");
            let whole = ask(&zone(), &crowd(), &format!("{name} SRV tcp"));
            assert_eq!((whole.answers.len(), whole.additionals.len()), (20, 20));
            assert!(!whole.metadata.truncation);
            assert_eq!(
                print(&ask(&zone(), &crowd(), &format!("{name} TXT"))),
                "NoError aa | TXT count=20 | - | -"
            );
        }
    }

    #[test]
    fn responses_and_fragments_are_not_answered() {
        let snapshot = World::read(WORLD).snapshot();
        let mut bytes = request("sip A").to_vec().expect("a request can be written");
        assert_eq!(respond(&zone(), &snapshot, &Client::LOCAL, &bytes[..11], Via::Udp, 0), None);
        bytes[2] |= 0x80;
        assert_eq!(respond(&zone(), &snapshot, &Client::LOCAL, &bytes, Via::Udp, 0), None);
        assert_eq!(refuse(&Client::LOCAL, &bytes), None);
    }

    #[test]
    fn who_may_not_ask_is_told_so_with_the_question() {
        let bytes = request("sip A edns=1232").to_vec().expect("a request can be written");
        let response = refuse(&Client::LOCAL, &bytes).expect("a request is answered");
        let response = Message::from_vec(&response).expect("a response can be read");
        assert_eq!(print(&response), "Refused opt | - | - | -");
        assert_eq!(response.queries, request("sip A").queries);
    }

    #[test]
    fn rfc_8906_what_cannot_be_read_is_a_format_error_and_other_operations_are_not_implemented() {
        let snapshot = World::read(WORLD).snapshot();
        let request = request("sip A").to_vec().expect("a request can be written");
        let code = |at: usize, byte: u8, length: usize| {
            let mut bytes = request.clone();
            bytes[at] = byte;
            bytes.truncate(length);
            let response = respond(&zone(), &snapshot, &Client::LOCAL, &bytes, Via::Udp, 0)
                .expect("a request is answered");
            print(&Message::from_vec(&response).expect("a response can be read"))
        };
        assert_eq!(code(0, 0, 15), "FormErr | - | - | -");
        assert_eq!(code(5, 0, 999), "FormErr | - | - | -");
        assert_eq!(code(5, 2, 999), "FormErr | - | - | -");
        assert_eq!(code(2, 0x29, 999), "NotImp | - | - | -");
    }

    static TARGET: LazyLock<(ZoneConfig, Snapshot)> =
        LazyLock::new(|| (zone(), World::read(WORLD).snapshot()));
    static REQUESTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        ["_sip._udp.sip SRV edns=4096", "all.sip SRV", "@ NS edns=512", "180000g.h ANY", "web.fra.zone A"]
            .map(|text| request(text).to_vec().expect("a request can be written"))
            .to_vec()
    });

    fn check_response(bytes: &[u8], via: Via, draw: u64) {
        let (config, snapshot) = &*TARGET;
        let Some(response) = respond(config, snapshot, &Client::LOCAL, bytes, via, draw) else {
            return;
        };
        let edns = Message::from_vec(bytes).ok().and_then(|request| request.edns);
        let limit = match via {
            Via::Tcp => 65_535,
            Via::Udp => edns.map_or(512, |edns| edns.max_payload().clamp(512, 1_232)),
        };
        assert!(response.len() <= usize::from(limit), "{} bytes, {limit} are allowed", response.len());
        let read = Message::from_vec(&response).expect("a response can be read");
        assert_eq!(read.metadata.message_type, MessageType::Response);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn whatever_is_received_is_answered_in_bounds_or_not_at_all(
            base in 0_usize..6,
            random in proptest::collection::vec(any::<u8>(), 0..80),
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
            is_stream in any::<bool>(),
            draw in any::<u64>(),
        ) {
            let mut bytes = REQUESTS.get(base).cloned().unwrap_or(random);
            for (at, byte) in changes {
                if !bytes.is_empty() {
                    let length = bytes.len();
                    bytes[at % length] = byte;
                }
            }
            check_response(&bytes, if is_stream { Via::Tcp } else { Via::Udp }, draw);
        }
    }
}
