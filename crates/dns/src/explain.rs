//! The decisions behind an answer, in words: what a name was understood as, and for every endpoint of the service it is
//! about whether it is served and why. Decides nothing: it asks the same functions as the answer does.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use ringmesh_types::name::ServiceName;
use ringmesh_types::snapshot::Snapshot;
use serde::Serialize;

use crate::answer::{self, Via};
use crate::client::Client;
use crate::owners::{Owners, Role};
use crate::profile::Profile;
use crate::qname::{self, Asked};
use crate::selection::{self, Candidate, Filter, Reason, Verdict};
use crate::zone::{self, ZoneConfig};

/// Why an answer is what it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The name, in full.
    pub name: String,
    /// The type, as in the question.
    pub qtype: String,
    /// What the name was understood as.
    pub understood: String,
    /// Which stack it is answered like.
    pub profile: String,
    /// What is done with the targets of SRV answers for that stack.
    pub targets: String,
    /// The service it is about, if it is about one.
    pub service: Option<ServiceName>,
    /// The response code, or `NODATA` if the name exists without records of this type.
    pub rcode: String,
    /// Set if something unhealthy is served because nothing healthy is left, and says what.
    pub floor: Option<String>,
    /// Every endpoint of the service, the served ones first.
    pub candidates: Vec<ExplainedCandidate>,
}

/// One endpoint, and why it is served or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedCandidate {
    /// The instance.
    pub instance: String,
    /// The node it runs on.
    pub node: String,
    /// The zone of that node.
    pub zone: String,
    /// Protocol, transport, address and port.
    pub endpoint: String,
    /// How the endpoint does.
    pub state: String,
    /// Since when, in unix milliseconds by the owner's clock; 0 if its owner says nothing.
    pub since: u64,
    /// How this agent sees the node.
    pub member_state: String,
    /// Whether it is among those that answers are made of.
    pub in_answer: bool,
    /// Why.
    pub reason: String,
    /// Its SRV priority, if it is served.
    pub priority: Option<u16>,
    /// Its weight: its share among those of its priority.
    pub weight: u16,
    /// The weight in its SRV record, if it has one in answers for this stack.
    pub sent_weight: Option<u16>,
    /// How often it comes first among those of its priority, 0 to 1; 0 if it is not served.
    pub share: f64,
}

/// Explains the answer that a stack like `profile` gets to a question for `name`, which may leave the domain out, of type
/// `qtype`. Unless given, that is SRV for services and what looks like one, TXT for `_status`, PTR for reverse names, SOA for
/// the domain itself, AAAA for hosts with such an address, and A for whatever else.
///
/// # Errors
/// If `name` or `qtype` cannot be in a question; which of them, and why.
pub fn explain(
    config: &ZoneConfig,
    snapshot: &Snapshot,
    name: &str,
    qtype: Option<&str>,
    profile: Profile,
) -> Result<Explanation, String> {
    let (name, asked) = understand(config, snapshot, name).map_err(|why| format!("name: {why}"))?;
    let qtype = match qtype {
        Some(text) => text.to_ascii_uppercase().parse::<RecordType>().map_err(|_| {
            format!("type: {text:?} is no type of record, as SRV, NAPTR, A, AAAA, PTR or TXT")
        })?,
        None => usual_type(&name, &asked),
    };
    let part = part(config, &asked, qtype);
    let judged = part
        .as_ref()
        .map_or_else(Vec::new, |(service, filter)| judged(snapshot, (&asked, qtype), service, filter));
    let (candidates, roles): (Vec<_>, Vec<_>) = judged.into_iter().unzip();
    Ok(Explanation {
        rcode: rcode(config, snapshot, &name, qtype),
        name: name.to_ascii(),
        qtype: qtype.to_string(),
        understood: asked.to_string(),
        profile: profile.to_string(),
        targets: profile.says().to_owned(),
        floor: candidates.iter().find_map(|candidate| candidate.floor).map(|floor| floor.to_string()),
        candidates: lines(snapshot, (&candidates, &roles), qtype, profile),
        service: part.map(|(service, _)| service),
    })
}

/// The name in full, and what it asks for: as it stands, or below the domain if it is not in there as it stands.
fn understand(config: &ZoneConfig, snapshot: &Snapshot, text: &str) -> Result<(Name, Asked), String> {
    let is_absolute = text.ends_with('.');
    let mut name = zone::read_name(text)?;
    name.set_fqdn(true);
    let asked = qname::parse(config, snapshot, &name);
    if asked == Asked::OutOfZone
        && !is_absolute
        && let Ok(below) = name.clone().append_domain(&config.domain)
    {
        let asked = qname::parse(config, snapshot, &below);
        return Ok((below, asked));
    }
    Ok((name, asked))
}

/// What suits what `name` asks for; what has no records is taken for what it looks like.
fn usual_type(name: &Name, asked: &Asked) -> RecordType {
    let is_like_srv = name.iter().next().is_some_and(|label| label.starts_with(b"_"));
    match asked {
        Asked::Apex => RecordType::SOA,
        Asked::Srv { .. } | Asked::Service { .. } | Asked::Owners { .. } => RecordType::SRV,
        Asked::Reverse(_) => RecordType::PTR,
        Asked::Status => RecordType::TXT,
        Asked::Host(address) if address.is_ipv6() => RecordType::AAAA,
        Asked::Node(_) | Asked::Host(_) => RecordType::A,
        Asked::EmptyNonTerminal | Asked::WrongKey(_) | Asked::Nothing | Asked::OutOfZone => {
            if is_like_srv {
                RecordType::SRV
            } else {
                RecordType::A
            }
        }
    }
}

/// The part of a service that the question is about.
fn part(config: &ZoneConfig, asked: &Asked, qtype: RecordType) -> Option<(ServiceName, Filter)> {
    let protocol = (qtype == RecordType::NAPTR).then(qname::sip);
    match asked {
        Asked::Apex if protocol.is_some() => {
            let filter = Filter { protocol, ..Filter::default() };
            Some((config.default_sip_service.clone(), filter))
        }
        Asked::Service { service, zone, .. } => {
            Some((service.clone(), Filter { protocol, transport: None, zone: zone.clone() }))
        }
        Asked::Srv { service, protocol, transport, zone, .. } => {
            let filter =
                Filter { protocol: protocol.clone(), transport: Some(*transport), zone: zone.clone() };
            Some((service.clone(), filter))
        }
        Asked::Owners { service, protocol, transport, .. } => {
            let filter = Filter { protocol: protocol.clone(), transport: *transport, zone: None };
            Some((service.clone(), filter))
        }
        Asked::Apex
        | Asked::Status
        | Asked::Node(_)
        | Asked::Host(_)
        | Asked::Reverse(_)
        | Asked::EmptyNonTerminal
        | Asked::WrongKey(_)
        | Asked::Nothing
        | Asked::OutOfZone => None,
    }
}

/// Every endpoint of `service` with what was decided about it, and what its member is to the key, if a key was asked for.
fn judged<'a>(
    snapshot: &'a Snapshot,
    (asked, qtype): (&Asked, RecordType),
    service: &ServiceName,
    filter: &Filter,
) -> Vec<(Candidate<'a>, Option<Role>)> {
    let Some(view) = snapshot.services.get(service) else {
        return Vec::new();
    };
    if let (Asked::Owners { at, .. }, Some(map)) = (asked, snapshot.maps.get(service)) {
        let mut explained = Owners::new(snapshot, view, (&**map, *at), filter).explained();
        if [RecordType::A, RecordType::AAAA].contains(&qtype) {
            let candidates = explained.iter_mut().map(|(candidate, _)| candidate);
            let others = candidates.filter(|one| one.served().is_some_and(|(priority, _)| priority > 0));
            others.for_each(|other| other.verdict = Verdict::Out(Reason::NotFirst));
        }
        return explained;
    }
    selection::candidates(snapshot, view, filter).into_iter().map(|candidate| (candidate, None)).collect()
}

/// What an asker would be told.
fn rcode(config: &ZoneConfig, snapshot: &Snapshot, name: &Name, qtype: RecordType) -> String {
    let mut request = Message::new(0, MessageType::Query, OpCode::Query);
    request.queries = vec![Query::query(name.clone(), qtype)];
    let response = answer::answer(config, snapshot, &Client::LOCAL, &request, Via::Tcp, 0);
    let code = response.metadata.response_code;
    let known = [
        (ResponseCode::NoError, "NOERROR"),
        (ResponseCode::NXDomain, "NXDOMAIN"),
        (ResponseCode::Refused, "REFUSED"),
        (ResponseCode::ServFail, "SERVFAIL"),
    ];
    if code == ResponseCode::NoError && response.answers.is_empty() {
        return "NODATA".to_owned();
    }
    known.into_iter().find(|(known, _)| *known == code).map_or(code.to_str(), |(_, text)| text).to_owned()
}

fn lines(
    snapshot: &Snapshot,
    (candidates, roles): (&[Candidate<'_>], &[Option<Role>]),
    qtype: RecordType,
    profile: Profile,
) -> Vec<ExplainedCandidate> {
    let line = |(candidate, role): (_, &Option<Role>)| ExplainedCandidate {
        sent_weight: sent_weight(candidate, qtype, profile),
        ..line(snapshot, candidates, (candidate, *role), qtype)
    };
    let mut lines: Vec<_> = candidates.iter().zip(roles).map(line).collect();
    lines.sort_by(|one, other| {
        let key = |line: &ExplainedCandidate| (!line.in_answer, line.priority.unwrap_or(u16::MAX));
        let names =
            (&one.node, &one.instance, &one.endpoint).cmp(&(&other.node, &other.instance, &other.endpoint));
        key(one).cmp(&key(other)).then(names)
    });
    lines
}

fn line(
    snapshot: &Snapshot,
    all: &[Candidate<'_>],
    (candidate, role): (&Candidate<'_>, Option<Role>),
    qtype: RecordType,
) -> ExplainedCandidate {
    let (instance, member) = (&candidate.instance.instance, &candidate.instance.member);
    let other_family = if candidate.endpoint.address.is_ipv4() { RecordType::AAAA } else { RecordType::A };
    let is_family = qtype != other_family;
    let reason =
        if is_family { reason(snapshot, candidate, role) } else { "other address family".to_owned() };
    ExplainedCandidate {
        instance: instance.id.to_string(),
        node: member.name.to_string(),
        zone: member.zone.to_string(),
        endpoint: candidate.endpoint.to_string(),
        state: candidate.health.state.to_string(),
        since: candidate.health.since.as_unix_millis(),
        member_state: member.state.to_string(),
        in_answer: is_family && candidate.served().is_some(),
        reason,
        priority: candidate.served().map(|(priority, _)| priority),
        weight: instance.weight,
        sent_weight: None,
        share: share(all, candidate),
    }
}

fn reason(snapshot: &Snapshot, candidate: &Candidate<'_>, role: Option<Role>) -> String {
    if let Some(role) = role {
        return match candidate.verdict {
            Verdict::Out(reason) => format!("{role}, {reason}"),
            Verdict::In { .. } if candidate.instance.is_draining => format!("{role}, draining"),
            Verdict::In { .. } => format!("{role}, {}", candidate.health.state),
        };
    }
    let (local, member) = (&snapshot.local, &candidate.instance.member);
    let nearness = if member.zone == local.zone {
        "same zone"
    } else if member.region == local.region {
        "same region"
    } else {
        "elsewhere"
    };
    match (candidate.verdict, candidate.floor) {
        (Verdict::Out(reason), _) => reason.to_string(),
        (Verdict::In { .. }, Some(floor)) => format!("{nearness}; {floor}"),
        (Verdict::In { .. }, None) => match member.demoted {
            Some(demoted) => format!("{}, {nearness}; {demoted}", candidate.health.state),
            None => format!("{}, {nearness}", candidate.health.state),
        },
    }
}

/// The weight that its record says, if there are such records.
fn sent_weight(candidate: &Candidate<'_>, qtype: RecordType, profile: Profile) -> Option<u16> {
    let (_, weight) = candidate.served().filter(|_| qtype == RecordType::SRV)?;
    Some(profile.equal_weight().unwrap_or(weight))
}

/// The part of its priority's weight that is the candidate's.
fn share(all: &[Candidate<'_>], candidate: &Candidate<'_>) -> f64 {
    let Some((priority, weight)) = candidate.served() else {
        return 0.0;
    };
    let class = all.iter().filter_map(Candidate::served).filter(|(other, _)| *other == priority);
    let sum: f64 = class.map(|(_, weight)| f64::from(weight)).sum();
    if sum > 0.0 { f64::from(weight) / sum } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{RData, Record};

    use crate::testing::{World, zone};

    fn explained(world: &str, name: &str, qtype: Option<&str>) -> Explanation {
        explain(&zone(), &World::read(world).snapshot(), name, qtype, Profile::Full).expect("a question")
    }

    /// `type rcode: node priority share reason; …`
    fn check(world: &str, name: &str, qtype: Option<&str>, want: &str) {
        let found = explained(world, name, qtype);
        let lines: Vec<String> = found
            .candidates
            .iter()
            .map(|line| match line.priority {
                Some(priority) => format!("{} {priority} {:.2} {}", line.node, line.share, line.reason),
                None => format!("{} {}", line.node, line.reason),
            })
            .collect();
        assert_eq!(format!("{} {}: {}", found.qtype, found.rcode, lines.join("; ")), want, "{name}");
    }

    #[test]
    fn every_endpoint_is_listed_with_its_reason_the_served_ones_first() {
        check(
            "a failing; b passing; c passing weight=300; d greylisted; e passing weight=100",
            "_sip._udp.sip",
            None,
            "SRV NOERROR: b 20 1.00 passing, same region; c 30 0.75 passing, elsewhere; \
             e 30 0.25 passing, elsewhere; d 130 1.00 greylisted, elsewhere; a failing",
        );
        check(
            "a passing; b passing down spared",
            "_sip._udp.sip",
            None,
            "SRV NOERROR: a 10 1.00 passing, same zone; b 220 1.00 passing, same region; \
             too many went Down at once: its instances come last, for a minute at most",
        );
        check(
            "a passing; b passing tcp",
            "_sip._udp.sip",
            None,
            "SRV NOERROR: a 10 1.00 passing, same zone; b wrong transport",
        );
    }

    #[test]
    fn the_sent_weight_is_that_of_the_record() {
        let snapshot = World::read("a passing weight=300; b passing weight=100; c failing").snapshot();
        let check = |qtype: &str, profile: Profile, want: [Option<u16>; 3]| {
            let found = explain(&zone(), &snapshot, "sip", Some(qtype), profile).expect("a question");
            let sent: Vec<_> = found.candidates.iter().map(|line| line.sent_weight).collect();
            assert_eq!(sent, want, "{qtype} {profile}");
            assert_eq!(found.candidates[0].weight, 300);
            let client = Client { profile, ..Client::LOCAL };
            let mut request = Message::new(0, MessageType::Query, OpCode::Query);
            let name = Name::from_ascii(&found.name).expect("a name");
            request.queries = vec![Query::query(name, qtype.parse().expect("a type"))];
            let response = answer::answer(&zone(), &snapshot, &client, &request, Via::Tcp, 0);
            let in_record = |record: &Record| {
                let RData::SRV(srv) = &record.data else { return None };
                Some(srv.weight)
            };
            let mut in_records: Vec<_> = response.answers.iter().map(in_record).collect();
            in_records.sort_by_key(|weight| core::cmp::Reverse(*weight));
            assert_eq!(in_records, want[..2], "{qtype} {profile}");
        };
        check("SRV", Profile::Full, [Some(300), Some(100), None]);
        check("SRV", Profile::Kamailio, [Some(1), Some(1), None]);
        check("A", Profile::Full, [None; 3]);
    }

    #[test]
    fn the_floor_is_named() {
        let found = explained("a unknown; b failing", "sip.m.test", None);
        assert_eq!(found.floor.as_deref(), Some("no instance is healthy: the unknown ones are served"));
        assert_eq!(explained("a passing; b failing", "sip.m.test", None).floor, None);
    }

    #[test]
    fn names_may_leave_the_domain_out() {
        for name in ["sip", "sip.m.test", "sip.m.test.", "SIP"] {
            let found = explained("a passing", name, Some("a"));
            assert_eq!(
                (found.name.to_ascii_lowercase().as_str(), found.rcode.as_str()),
                ("sip.m.test.", "NOERROR")
            );
        }
        assert_eq!(explained("a passing", "sip.", None).rcode, "REFUSED");
        assert_eq!(explained("a passing", "1.0.0.10.in-addr.arpa", None).qtype, "PTR");
    }

    #[test]
    fn names_without_a_service_have_no_candidates() {
        check("a passing", "web", None, "A NXDOMAIN: ");
        check("a passing", "_udp.sip", None, "SRV NODATA: ");
        check("a passing", "a.n", None, "A NOERROR: ");
    }

    #[test]
    fn other_families_and_protocols_are_told_apart() {
        check("a passing", "sip", Some("AAAA"), "AAAA NODATA: a 10 1.00 other address family");
        let world = "a passing; b passing protocol=ng";
        check(world, "sip", Some("NAPTR"), "NAPTR NOERROR: a 10 1.00 passing, same zone; b wrong protocol");
        check(
            world,
            "m.test",
            Some("naptr"),
            "NAPTR NOERROR: a 10 1.00 passing, same zone; b wrong protocol",
        );
    }

    #[test]
    fn of_a_key_it_is_said_who_owns_it_and_who_stands_by() {
        let world =
            "a passing; b passing tcp; c passing down; d passing; e failing; map sip 0=c,a,e,b 80=c e0=a+b";
        check(
            world,
            "acct-1.key.sip",
            None,
            "SRV NOERROR: a 0 1.00 standby 1, passing; b 1 1.00 standby 3, passing; e 2 1.00 standby 2, failing; \
             c owner, node down; d neither owner nor standby",
        );
        check(
            world,
            "_sip._udp.acct-1.key.sip",
            None,
            "SRV NOERROR: a 0 1.00 standby 1, passing; e 1 1.00 standby 2, failing; b standby 3, wrong transport; \
             c owner, node down; d neither owner nor standby",
        );
        check(
            world,
            "8000000000000000.kh.sip",
            None,
            "SRV NOERROR: a 0 1.00 nobody that the map names is there: it stands in, passing; \
             b neither owner nor standby; c owner, node down; d neither owner nor standby; e neither owner nor standby",
        );
        check(
            world,
            "vvvg.kx.sip",
            None,
            "SRV NOERROR: a 0 0.50 shares the key, passing; b 0 0.50 shares the key, passing; \
             c node down; d neither owner nor standby; e neither owner nor standby",
        );
        check(
            "a passing; b passing; map sip 0=a,b",
            "x.key.sip",
            Some("A"),
            "A NOERROR: a 0 1.00 owner, passing; b standby 1, addresses are those of the first",
        );
        check(world, "a.key.media", None, "A NXDOMAIN: ");
        let found = explained(world, "acct-1.key.sip", None);
        assert_eq!(found.understood, "whoever serves the keys of sip at position 616363742d310000");
        assert_eq!(found.service, Some("sip".parse().expect("a service name")));
        assert!(explained(world, "ww.kx.sip", None).understood.contains("base32hex"));
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let snapshot = World::read("a passing").snapshot();
        assert!(explain(&zone(), &snapshot, "a b", None, Profile::Full).is_err());
        assert!(explain(&zone(), &snapshot, "sip", Some("nonsense"), Profile::Full).is_err());
    }
}
