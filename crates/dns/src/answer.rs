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
        let cookie = client.judge_message(request);
        let mut response = answer_judged(config, snapshot, client, request, cookie, via, draw);
        if via == Via::Udp {
            fit::cap(&mut response, client.bytes_max(bytes.len(), cookie.ok().flatten().as_ref()));
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
    // RFC 8906, 3.1.4: of operations that are not known here nothing else is an error.
    let is_query = header.metadata.op_code == OpCode::Query;
    let unreadable = if is_query { ResponseCode::FormErr } else { ResponseCode::NotImp };
    // The decoder would make room for 65,535 questions before it looks for them.
    let request = (header.counts.queries <= 1).then(|| Message::from_vec(bytes).ok()).flatten();
    let response = request.map_or_else(|| failure(&header.metadata, unreadable), |request| answer(&request));
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
    answer_judged(config, snapshot, client, request, client.judge_message(request), via, draw)
}

fn answer_judged(
    config: &ZoneConfig,
    snapshot: &Snapshot,
    client: &Client<'_>,
    request: &Message,
    cookie: Result<Option<Judged>, PeerCookieLengthError>,
    via: Via,
    draw: u64,
) -> Message {
    let mut response = prepare(request, cookie);
    let config = &*config.of(snapshot);
    match question(request, cookie) {
        Err(failure) => fail(&mut response, failure),
        Ok(question) => {
            let (limit, profile) = (fit::limit(request, via, client.profile), client.profile);
            let lookup = Lookup { config, snapshot, question, profile, now: client.now, limit, draw };
            let mistake = lookup.fill(&mut response, via);
            let is_nxdomain = response.metadata.response_code == ResponseCode::NXDomain;
            let stale = if is_nxdomain { Cause::StaleNxdomain } else { Cause::StaleAnswer };
            let cause = mistake.or_else(|| snapshot.isolated_since.map(|_| stale));
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
    use crate::conformance::ask::Ask;
    use crate::testing::{World, zone};
    use hickory_proto::rr::Name;
    use proptest::prelude::*;
    use ringmesh_types::time::WallTime;

    const WORLD: &str = "a passing udp tcp tls; b passing udp tcp; c passing udp; c passing service=media protocol=ng; \
         map sip 0=a,b 80=b+c";

    /// The response as it arrives.
    fn ask(config: &ZoneConfig, snapshot: &Snapshot, text: &str) -> Message {
        let ask = Ask::read(text);
        let response = respond(config, snapshot, &Client::LOCAL, &ask.bytes, ask.via, 42)
            .expect("a request is answered");
        assert!(response.len() <= ask.bytes_max, "{text}: {} bytes", response.len());
        Message::from_vec(&response).expect("a response can be read")
    }

    #[test]
    fn the_status_tells_how_old_answers_may_be() {
        let request = Message::from_vec(&Ask::read("_status TXT").bytes).expect("a request can be read");
        let check = |is_isolated, millis, want: &str| {
            let snapshot = World::read("b passing; c passing down").isolated(is_isolated).snapshot();
            let client = Client { now: WallTime::from_unix_millis(millis), ..Client::LOCAL };
            let response = answer(&zone(), &snapshot, &client, &request, Via::Udp, 0);
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
    fn rfc_2181_9_leaving_targets_or_glue_out_is_no_truncation() {
        let domain = format!("{}.{}.test.", "d".repeat(45), "e".repeat(45));
        let config = ZoneConfig { domain: Name::from_ascii(&domain).expect("a domain name"), ..zone() };
        let question = format!("_sip._udp.sip.{domain} SRV");
        let small = ask(&config, &crowd(), &question);
        assert!((1..8).contains(&small.answers.len()), "{}", small.answers.len());
        assert!(!small.metadata.truncation);
        let large = ask(&config, &crowd(), &format!("{question} +bufsize=1232"));
        assert_eq!(large.answers.len(), 8);
        assert!(large.additionals.len() < 8 && !large.metadata.truncation);
        let whole = ask(&config, &crowd(), &format!("{question} +tcp"));
        assert_eq!((whole.answers.len(), whole.additionals.len()), (8, 8));
    }

    static TARGET: LazyLock<(ZoneConfig, Snapshot)> =
        LazyLock::new(|| (zone(), World::read(WORLD).snapshot()));
    static REQUESTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let texts = [
            "_sip._udp.sip SRV +bufsize=4096",
            "all.sip SRV",
            "@ NS +bufsize=512",
            "180000g.h ANY",
            "_sip._udp.acct-1.key.sip SRV +edns",
            "vvvg.kx.sip A",
            "80000000000000ff.kh.sip SRV +bufsize=1232",
            "web.fra.zone A +opcode=UPDATE +edns",
        ];
        texts.map(|text| Ask::read(text).bytes).to_vec()
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
            base in 0_usize..=REQUESTS.len(),
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
