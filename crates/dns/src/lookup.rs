//! The records that answer one question, and what is said when there are none (RFC 1034 4.3.2, RFC 2308 2 and 3,
//! RFC 2782, RFC 3263 4.1, RFC 8482 4.2).

use core::net::IpAddr;
use std::collections::BTreeSet;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use ringmesh_types::name::{NodeName, ServiceName, ZoneName};
use ringmesh_types::service::Transport;
use ringmesh_types::snapshot::Snapshot;
use ringmesh_types::time::WallTime;

use crate::answer::Via;
use crate::extended::Cause;
use crate::fit::{self, Found};
use crate::owners::Owners;
use crate::profile::Profile;
use crate::qname::{self, Asked};
use crate::records;
use crate::selection::{self, Candidate, Filter};
use crate::urn::Order;
use crate::zone::ZoneConfig;

/// Addresses in one answer at most, whatever else is configured.
pub(crate) const ADDRESSES_MAX: usize = 8;
/// Nodes in one reverse answer at most.
const REVERSE_MAX: usize = 8;

/// The types that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    A,
    Aaaa,
    Srv,
    Naptr,
    Ptr,
    Soa,
    Ns,
    Txt,
    Any,
    Other,
}

impl Kind {
    const KNOWN: [(RecordType, Self); 9] = [
        (RecordType::A, Self::A),
        (RecordType::AAAA, Self::Aaaa),
        (RecordType::SRV, Self::Srv),
        (RecordType::NAPTR, Self::Naptr),
        (RecordType::PTR, Self::Ptr),
        (RecordType::SOA, Self::Soa),
        (RecordType::NS, Self::Ns),
        (RecordType::TXT, Self::Txt),
        (RecordType::ANY, Self::Any),
    ];

    fn of(qtype: RecordType) -> Self {
        Self::KNOWN.into_iter().find(|(known, _)| *known == qtype).map_or(Self::Other, |(_, kind)| kind)
    }

    /// Whether an address goes into records of this kind.
    fn holds(self, address: IpAddr) -> bool {
        match self {
            Self::A => address.is_ipv4(),
            Self::Aaaa => address.is_ipv6(),
            Self::Srv
            | Self::Naptr
            | Self::Ptr
            | Self::Soa
            | Self::Ns
            | Self::Txt
            | Self::Any
            | Self::Other => false,
        }
    }
}

/// The part of a service that a question is about.
struct Part<'a> {
    service: &'a ServiceName,
    filter: Filter,
    is_all: bool,
}

/// One question and what is needed to answer it.
pub(crate) struct Lookup<'a> {
    pub(crate) config: &'a ZoneConfig,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) question: &'a Query,
    /// Who asks.
    pub(crate) profile: Profile,
    /// When.
    pub(crate) now: WallTime,
    /// How many bytes the response may take.
    pub(crate) limit: usize,
    /// Stands for chance.
    pub(crate) draw: u64,
}

impl Lookup<'_> {
    /// Puts the answer to the question into `response`, or that there is none. Says why if that is the asker's mistake.
    pub(crate) fn fill(&self, response: &mut Message, via: Via) -> Option<Cause> {
        let asked = qname::parse(self.config, self.snapshot, &self.question.name);
        if asked == Asked::OutOfZone {
            response.metadata.response_code = ResponseCode::Refused;
            return Some(Cause::NotAuthoritative);
        }
        response.metadata.authoritative = true;
        if matches!(asked, Asked::Nothing | Asked::WrongKey(_)) {
            response.metadata.response_code = ResponseCode::NXDomain;
        }
        let found = self.find(&asked);
        if found.answers.is_empty() {
            response.authorities = vec![self.negative_soa(&asked)];
        } else {
            fit::place(response, found, self.limit, via);
        }
        if let Asked::WrongKey(why) = asked { Some(Cause::WrongKey(why)) } else { None }
    }

    fn find(&self, asked: &Asked) -> Found {
        let kind = Kind::of(self.question.query_type);
        if kind == Kind::Any && asked.has_records() {
            return self.answers([records::hinfo()]);
        }
        match asked {
            Asked::Apex => self.apex(kind),
            Asked::Srv { service, protocol, transport, zone, all } => {
                let filter =
                    Filter { protocol: protocol.clone(), transport: Some(*transport), zone: zone.clone() };
                self.part(kind, &Part { service, filter, is_all: *all })
            }
            Asked::Service { service, zone, .. } if kind == Kind::Naptr => self.naptr(service, zone.as_ref()),
            Asked::Service { service, zone, all } => {
                let filter = Filter { zone: zone.clone(), ..Filter::default() };
                self.part(kind, &Part { service, filter, is_all: *all })
            }
            Asked::Owners { service, at, protocol, transport } => {
                let filter = Filter { protocol: protocol.clone(), transport: *transport, zone: None };
                self.owners(kind, service, *at, &filter)
            }
            Asked::Status if kind == Kind::Txt => self.status(),
            Asked::Node(node) => self.node(kind, node),
            Asked::Host(address) => self.addresses(kind, &[*address]),
            Asked::Reverse(address) => self.reverse(kind, *address),
            Asked::Status
            | Asked::EmptyNonTerminal
            | Asked::WrongKey(_)
            | Asked::Nothing
            | Asked::OutOfZone => Found::default(),
        }
    }

    /// How old what is answered may be, in seconds, and what it is made of.
    fn status(&self) -> Found {
        let isolated = self.snapshot.isolated_since;
        let age = isolated.map_or(0, |since| self.now.since(since).as_secs());
        let state = if isolated.is_some() { "isolated" } else { "connected" };
        let texts = [
            format!("state={state}"),
            format!("age={age}"),
            format!("members={}", self.snapshot.members.len()),
            format!("serving={}", self.snapshot.serving_members()),
            format!("serial={}", self.snapshot.serial),
        ];
        self.answers([records::txt(texts.to_vec())])
    }

    fn apex(&self, kind: Kind) -> Found {
        match kind {
            Kind::Soa => self.soa(),
            Kind::Ns => self.name_server(),
            Kind::Naptr => self.naptr(&self.config.default_sip_service, None),
            Kind::A | Kind::Aaaa | Kind::Srv | Kind::Ptr | Kind::Txt | Kind::Any | Kind::Other => {
                Found::default()
            }
        }
    }

    /// RFC 2308, 3: kept no longer than what does not exist, so that it has one time to live wherever it is.
    fn soa(&self) -> Found {
        let data = records::soa(self.config, self.snapshot);
        Found::answers(vec![records::negative(self.config, self.question.name.clone(), data)])
    }

    fn name_server(&self) -> Found {
        let mut found = self.answers([records::ns(self.config, self.snapshot)]);
        let local = &self.snapshot.local;
        let glue = |address: &IpAddr| {
            let owner = records::node_name(self.config, &local.name);
            (0, records::record(self.config, owner, records::address(*address)))
        };
        found.glue = local.addresses.iter().take(ADDRESSES_MAX).map(glue).collect();
        found
    }

    /// RFC 3263, 4.1: only transports on which something is served.
    fn naptr(&self, service: &ServiceName, zone: Option<&ZoneName>) -> Found {
        let filter = Filter { protocol: Some(qname::sip()), transport: None, zone: zone.cloned() };
        let candidates = self.candidates(service, &filter);
        let is_served = |transport: &Transport| {
            candidates
                .iter()
                .any(|candidate| candidate.served().is_some() && candidate.endpoint.transport == *transport)
        };
        let labels = match zone {
            Some(zone) => vec![service.as_str(), zone.as_str(), "zone"],
            None => vec![service.as_str()],
        };
        let data = |transport| records::naptr(self.config, transport, &labels);
        self.answers(Transport::ALL.into_iter().filter(is_served).map(data))
    }

    fn part(&self, kind: Kind, part: &Part<'_>) -> Found {
        let candidates = self.candidates(part.service, &part.filter);
        match kind {
            Kind::Srv => self.srv(&candidates, part.is_all),
            Kind::A | Kind::Aaaa => self.service_addresses(kind, &candidates),
            Kind::Txt if part.is_all => {
                let count = selection::distinct(&candidates, |one| one.endpoint.socket_addr()).len();
                self.answers([records::txt(vec![format!("count={count}")])])
            }
            Kind::Txt | Kind::Naptr | Kind::Ptr | Kind::Soa | Kind::Ns | Kind::Any | Kind::Other => {
                Found::default()
            }
        }
    }

    fn candidates(&self, service: &ServiceName, filter: &Filter) -> Vec<Candidate<'_>> {
        let view = self.snapshot.services.get(service);
        view.map_or_else(Vec::new, |view| selection::candidates(self.snapshot, view, filter))
    }

    /// RFC 2782: targets with the addresses of each; some of them drawn by weight, or all in a steady order.
    fn srv(&self, candidates: &[Candidate<'_>], is_all: bool) -> Found {
        let mut targets = selection::distinct(candidates, |one| one.endpoint.socket_addr());
        if is_all {
            targets.truncate(fit::srv_records_max(self.limit));
        } else {
            targets = selection::draw(&targets, self.config.targets_max, self.profile.order(), self.draw);
        }
        Found { is_whole: is_all, ..self.targets(&targets) }
    }

    /// SRV records of `targets`, as they are, with the addresses of each.
    fn targets(&self, targets: &[Candidate<'_>]) -> Found {
        let data = |target: &Candidate<'_>| {
            let (priority, weight) = target.served()?;
            let weight = self.profile.equal_weight().unwrap_or(weight);
            Some(records::srv(self.config, (priority, weight), target.endpoint))
        };
        let mut found = self.answers(targets.iter().filter_map(data));
        let mut hosts = BTreeSet::new();
        for (number, target) in targets.iter().enumerate() {
            let address = target.endpoint.address;
            if hosts.insert(address) {
                found.glue.push((number, records::host(self.config, address)));
            }
        }
        found
    }

    /// The endpoints of whoever serves a key, as of a service; addresses are the owner's alone.
    fn owners(&self, kind: Kind, service: &ServiceName, at: u64, filter: &Filter) -> Found {
        let (services, maps) = (&self.snapshot.services, &self.snapshot.maps);
        let (Some(view), Some(map)) = (services.get(service), maps.get(service)) else {
            return Found::default();
        };
        let owners = Owners::new(self.snapshot, view, (&**map, at), filter);
        match kind {
            Kind::Srv => {
                let order = self.profile.order();
                self.targets(&owners.targets(self.config.targets_max, order, self.draw))
            }
            Kind::A | Kind::Aaaa => {
                let hosts = owners.hosts(ADDRESSES_MAX, self.draw, |address| kind.holds(address));
                self.answers(hosts.iter().map(|one| records::address(one.endpoint.address)))
            }
            Kind::Txt | Kind::Naptr | Kind::Ptr | Kind::Soa | Kind::Ns | Kind::Any | Kind::Other => {
                Found::default()
            }
        }
    }

    fn service_addresses(&self, kind: Kind, candidates: &[Candidate<'_>]) -> Found {
        let family: Vec<_> =
            candidates.iter().copied().filter(|one| kind.holds(one.endpoint.address)).collect();
        let mut hosts = selection::distinct(&family, |one| one.endpoint.address);
        selection::drop_last(&mut hosts);
        let drawn = selection::draw(&hosts, ADDRESSES_MAX, Order::ByWeight, self.draw);
        self.answers(drawn.iter().map(|one| records::address(one.endpoint.address)))
    }

    fn node(&self, kind: Kind, node: &NodeName) -> Found {
        match self.snapshot.members.get(node) {
            Some(member) => self.addresses(kind, &member.addresses),
            None => Found::default(),
        }
    }

    fn addresses(&self, kind: Kind, addresses: &[IpAddr]) -> Found {
        let family = addresses.iter().copied().filter(|address| kind.holds(*address));
        self.answers(family.map(records::address))
    }

    /// Each reverse name is a zone of its own (RFC 1034, 4.2.1).
    fn reverse(&self, kind: Kind, address: IpAddr) -> Found {
        match (kind, self.snapshot.hosts.get(&address)) {
            (Kind::Ptr, Some(nodes)) => {
                self.answers(nodes.iter().take(REVERSE_MAX).map(|node| records::ptr(self.config, node)))
            }
            (Kind::Soa, Some(_)) => self.soa(),
            (Kind::Ns, Some(_)) => self.name_server(),
            (_, Some(_) | None) => Found::default(),
        }
    }

    /// Answers whose owner is written as it was asked for, which some askers check (0x20).
    fn answers(&self, data: impl IntoIterator<Item = RData>) -> Found {
        let owner = &self.question.name;
        let answers =
            data.into_iter().map(|data| records::record(self.config, owner.clone(), data)).collect();
        Found::answers(answers)
    }

    /// RFC 2308, 3 and 5: what says how long there is nothing. Its owner is the zone, written as in the question; each
    /// reverse name is a zone of its own.
    fn negative_soa(&self, asked: &Asked) -> Record {
        let name = &self.question.name;
        let owner = match asked {
            Asked::Reverse(_) => name.clone(),
            Asked::Apex
            | Asked::Srv { .. }
            | Asked::Service { .. }
            | Asked::Owners { .. }
            | Asked::Status
            | Asked::Node(_)
            | Asked::Host(_)
            | Asked::EmptyNonTerminal
            | Asked::WrongKey(_)
            | Asked::Nothing
            | Asked::OutOfZone => name.trim_to(self.config.domain.iter().len()),
        };
        let data = records::soa(self.config, self.snapshot);
        records::negative(self.config, owner, data)
    }
}
