//! The records of one service as they are sent, made when something about it changes and copied for every question.

use core::net::IpAddr;
use core::ops::Deref;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringmesh_types::name::ProtocolName;
use ringmesh_types::service::Transport;
use ringmesh_types::snapshot::{ServiceView, Snapshot};

use super::owners::ByMember;
use crate::host;
use crate::owners;
use crate::qname;
use crate::selection::{self, Candidate, Filter};
use crate::urn::Urn;
use crate::zone::ZoneConfig;

pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;
pub(super) const NAPTR: u16 = 35;

const CLASS_IN: [u8; 2] = [0, 1];
/// A pointer to the name in the question, right behind the header (RFC 1035 4.1.4).
const ASKED: [u8; 2] = [0xc0, 12];
/// Owner, type, class, time to live and length of a record.
pub(super) const FIXED_BYTES: usize = 12;
/// Where the priority stands in an SRV record whose owner is a pointer.
pub(super) const PRIORITY_AT: usize = FIXED_BYTES;
/// Where the weight stands in an SRV record whose owner is a pointer.
pub(super) const WEIGHT_AT: usize = FIXED_BYTES + 2;
/// Where the port stands in an SRV record whose owner is a pointer.
pub(super) const PORT_AT: usize = FIXED_BYTES + 4;
/// Where the target begins in an SRV record whose owner is a pointer.
pub(super) const TARGET_AT: usize = FIXED_BYTES + 6;

/// What one service is answered with.
#[derive(Debug)]
pub(super) struct Service {
    srv: Vec<Srv>,
    /// Addresses for questions without a port, in both families.
    pub(super) v4: Choice,
    pub(super) v6: Choice,
    /// How SIP is found, all records.
    pub(super) naptr: Choice,
    /// What keys are answered with, if there is a map.
    pub(super) keyed: Option<Keyed>,
    /// Whether there is any endpoint at all: without one there is no such name.
    pub(super) is_there: bool,
}

/// Records of all endpoints, for names of keys without a transport.
#[derive(Debug)]
pub(super) struct Keyed {
    pub(super) targets: ByMember,
    pub(super) v4: ByMember,
    pub(super) v6: ByMember,
}

/// The endpoints over one transport that speak one protocol, or any.
#[derive(Debug)]
struct Srv {
    protocol: Option<ProtocolName>,
    transport: Transport,
    choice: Arc<Choice>,
    /// The same for keys, if there is a map.
    by_member: Option<Arc<ByMember>>,
}

/// Records to choose from, by class of priority, the first class first.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) classes: Vec<Class>,
    bytes: Vec<u8>,
    records: Vec<Encoded>,
    /// The hosts that records are about.
    hosts: Vec<IpAddr>,
}

/// Records of one priority.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) urn: Urn,
    /// The place of its first record.
    pub(super) first: usize,
}

#[derive(Debug, Clone, Copy)]
struct Encoded {
    from: u32,
    to: u32,
    host: u32,
}

impl Service {
    pub(super) fn new(config: &ZoneConfig, domain: &[u8], snapshot: &Snapshot, view: &ServiceView) -> Self {
        let endpoints = || view.instances.iter().flat_map(|instance| &instance.instance.endpoints);
        let kinds: BTreeSet<(Option<&ProtocolName>, Transport)> = endpoints()
            .flat_map(|endpoint| [None, Some(&endpoint.protocol)].map(|one| (one, endpoint.transport)))
            .collect();
        let encoder = Encoder { config, domain, snapshot, view };
        let has_map = snapshot.maps.contains_key(&view.name);
        let mut srv: Vec<Srv> = Vec::new();
        for (protocol, transport) in &kinds {
            // Where all speak the same, whatever they speak is that.
            let protocols = kinds.iter().filter(|(_, other)| other == transport).count() - 1;
            let same = srv.iter().find(|other| protocols == 1 && other.transport == *transport);
            let filter = Filter { protocol: protocol.cloned(), transport: Some(*transport), zone: None };
            let known = same.map(|other| (Arc::clone(&other.choice), other.by_member.clone()));
            let (choice, by_member) = known.unwrap_or_else(|| {
                let by_member = has_map.then(|| Arc::new(encoder.srv_by_member(&filter)));
                (Arc::new(encoder.srv(&filter)), by_member)
            });
            srv.push(Srv { protocol: protocol.cloned(), transport: *transport, choice, by_member });
        }
        Self {
            is_there: !kinds.is_empty(),
            srv,
            v4: encoder.addresses(IpAddr::is_ipv4),
            v6: encoder.addresses(IpAddr::is_ipv6),
            naptr: encoder.naptr(),
            keyed: has_map.then(|| encoder.keyed()),
        }
    }

    /// The endpoints over `transport` that speak `protocol`, or any; `None` if it has none of that kind, be they served or
    /// not.
    pub(super) fn srv(&self, protocol: Option<&str>, transport: Transport) -> Option<&Choice> {
        self.find(protocol, transport).map(|srv| &*srv.choice)
    }

    /// The same for keys; `None` also if there is no map.
    pub(super) fn srv_by_member(&self, protocol: Option<&str>, transport: Transport) -> Option<&ByMember> {
        self.find(protocol, transport).and_then(|srv| srv.by_member.as_deref())
    }

    fn find(&self, protocol: Option<&str>, transport: Transport) -> Option<&Srv> {
        let is_it = |srv: &&Srv| {
            srv.transport == transport && srv.protocol.as_ref().map(ProtocolName::as_str) == protocol
        };
        self.srv.iter().find(is_it)
    }

    /// Bytes on the heap, about.
    pub(super) fn bytes(&self) -> usize {
        let is_first = |index: usize| {
            !self.srv[..index].iter().any(|before| Arc::ptr_eq(&before.choice, &self.srv[index].choice))
        };
        let srv: Vec<&Srv> =
            (0..self.srv.len()).filter(|index| is_first(*index)).map(|index| &self.srv[index]).collect();
        let choices = srv.iter().map(|srv| &*srv.choice).chain([&self.v4, &self.v6, &self.naptr]);
        let keyed = self.keyed.iter().flat_map(|keyed| [&keyed.targets, &keyed.v4, &keyed.v6]);
        let by_member = srv.iter().filter_map(|srv| srv.by_member.as_deref()).chain(keyed);
        choices.map(Choice::heap_bytes).sum::<usize>() + by_member.map(ByMember::heap_bytes).sum::<usize>()
    }
}

impl Choice {
    /// A record as it is sent.
    pub(super) fn record(&self, place: usize) -> &[u8] {
        let Encoded { from, to, .. } = self.records[place];
        &self.bytes[from as usize..to as usize]
    }

    /// Which host a record is about.
    pub(super) fn host(&self, place: usize) -> IpAddr {
        self.hosts[self.records[place].host as usize]
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    fn push(&mut self, host: usize, record: &[u8]) {
        let number =
            |number: usize| u32::try_from(number).expect("one service has less than 4 GiB of records");
        let from = number(self.bytes.len());
        self.bytes.extend_from_slice(record);
        self.records.push(Encoded { from, to: number(self.bytes.len()), host: number(host) });
    }

    /// Gives back what was taken in reserve.
    fn shrunk(mut self) -> Self {
        self.bytes.shrink_to_fit();
        self.records.shrink_to_fit();
        self.hosts.shrink_to_fit();
        self
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let record = size_of::<Encoded>() + size_of::<u64>();
        self.bytes.len() + self.records.len() * record + self.hosts.len() * size_of::<IpAddr>()
    }
}

/// What records are made from.
struct Encoder<'a> {
    config: &'a ZoneConfig,
    domain: &'a [u8],
    snapshot: &'a Snapshot,
    view: &'a ServiceView,
}

impl Encoder<'_> {
    fn candidates(&self, filter: &Filter) -> Vec<Candidate<'_>> {
        selection::candidates(self.snapshot, self.view, filter)
    }

    fn srv(&self, filter: &Filter) -> Choice {
        let targets = targets(&self.candidates(filter));
        let mut choice = Choice { classes: classes(&targets), ..Choice::default() };
        self.push_targets(&mut choice, &mut BTreeMap::new(), &targets);
        choice.shrunk()
    }

    /// Adds the records of `targets`; `places` says where hosts are that are in already.
    fn push_targets(
        &self,
        choice: &mut Choice,
        places: &mut BTreeMap<IpAddr, usize>,
        targets: &[Candidate<'_>],
    ) {
        for target in targets {
            let address = target.endpoint.address;
            let host = *places.entry(address).or_insert_with(|| {
                choice.hosts.push(address);
                choice.hosts.len() - 1
            });
            let (priority, weight) = target.served().unwrap_or_default();
            let mut data = Vec::new();
            for number in [priority, weight, target.endpoint.port] {
                data.extend_from_slice(&number.to_be_bytes());
            }
            push_label(&mut data, &host::label(address));
            push_label(&mut data, "h");
            data.extend_from_slice(self.domain);
            choice.push(host, &self.record(SRV, &data));
        }
    }

    fn keyed(&self) -> Keyed {
        Keyed {
            targets: self.srv_by_member(&Filter::default()),
            v4: self.addresses_by_member(|address| address.is_ipv4()),
            v6: self.addresses_by_member(|address| address.is_ipv6()),
        }
    }

    fn srv_by_member(&self, filter: &Filter) -> ByMember {
        let mut places = BTreeMap::new();
        let push = |choice: &mut Choice, targets: &[Candidate<'_>]| {
            self.push_targets(choice, &mut places, targets);
        };
        self.by_member(filter, targets, push)
    }

    fn addresses_by_member(&self, is_wanted: impl Fn(IpAddr) -> bool) -> ByMember {
        let push = |choice: &mut Choice, hosts: &[Candidate<'_>]| self.push_addresses(choice, hosts);
        self.by_member(&Filter::default(), |candidates| owners::hosts(candidates, &is_wanted), push)
    }

    /// One class for each member that is there, of those of its candidates that `pick` gives back.
    fn by_member(
        &self,
        filter: &Filter,
        pick: impl for<'a> Fn(&[Candidate<'a>]) -> Vec<Candidate<'a>>,
        mut push: impl FnMut(&mut Choice, &[Candidate<'_>]),
    ) -> ByMember {
        let (mut members, mut choice) = (Vec::new(), Choice::default());
        for (node, candidates) in owners::by_member(self.snapshot, self.view, filter) {
            if let Some(condition) = owners::condition(&candidates) {
                let picked = pick(&candidates);
                members.push((node, condition));
                choice.classes.push(Class { urn: owners::urn(&picked), first: choice.len() });
                push(&mut choice, &picked);
            }
        }
        ByMember { members, choice: choice.shrunk() }
    }

    fn addresses(&self, is_wanted: impl Fn(&IpAddr) -> bool) -> Choice {
        let mut family = self.candidates(&Filter::default());
        family.retain(|one| is_wanted(&one.endpoint.address));
        let mut hosts = selection::distinct(&family, |one| one.endpoint.address);
        selection::drop_last(&mut hosts);
        let mut choice = Choice { classes: classes(&hosts), ..Choice::default() };
        self.push_addresses(&mut choice, &hosts);
        choice.shrunk()
    }

    fn push_addresses(&self, choice: &mut Choice, hosts: &[Candidate<'_>]) {
        for host in hosts {
            choice.push(0, &address(host.endpoint.address, self.config.ttl.max(1)));
        }
    }

    /// RFC 3263, 4.1; all records are given, in this order.
    fn naptr(&self) -> Choice {
        let filter = Filter { protocol: Some(qname::sip()), ..Filter::default() };
        let candidates = self.candidates(&filter);
        let mut choice = Choice::default();
        for transport in Transport::ALL {
            let is_it = |one: &Candidate<'_>| one.served().is_some() && one.endpoint.transport == transport;
            if candidates.iter().any(is_it) {
                let (order, kind, [name, carrier]) = crate::records::naptr_of(transport);
                let mut data = Vec::new();
                data.extend_from_slice(&order.to_be_bytes());
                data.extend_from_slice(&crate::records::NAPTR_PREFERENCE.to_be_bytes());
                for text in ["s", kind, ""] {
                    push_label(&mut data, text);
                }
                for label in [name, carrier, self.view.name.as_str()] {
                    push_label(&mut data, label);
                }
                data.extend_from_slice(self.domain);
                choice.push(0, &self.record(NAPTR, &data));
            }
        }
        choice
    }

    fn record(&self, kind: u16, data: &[u8]) -> Vec<u8> {
        record(kind, self.config.ttl.max(1), data)
    }
}

/// A record whose owner is the name in the question.
pub(super) fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("our records are short");
    [fixed_part(kind, ttl, length).as_slice(), data].concat()
}

/// What stands before the data of a record whose owner is the name in the question.
pub(super) const fn fixed_part(kind: u16, ttl: u32, length: u16) -> [u8; FIXED_BYTES] {
    let ([owner_high, owner_low], [class_high, class_low]) = (ASKED, CLASS_IN);
    let ([kind_high, kind_low], [high, low]) = (kind.to_be_bytes(), length.to_be_bytes());
    let [one, two, three, four] = ttl.to_be_bytes();
    [owner_high, owner_low, kind_high, kind_low, class_high, class_low, one, two, three, four, high, low]
}

/// The address record of a host; nothing is taken from the heap.
pub(super) fn address(address: IpAddr, ttl: u32) -> AddressRecord {
    let (kind, octets, length) = match address {
        IpAddr::V4(v4) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&v4.octets());
            (A, octets, 4)
        }
        IpAddr::V6(v6) => (AAAA, v6.octets(), 16),
    };
    let mut bytes = [0; FIXED_BYTES + 16];
    bytes[..FIXED_BYTES].copy_from_slice(&fixed_part(kind, ttl, length));
    bytes[FIXED_BYTES..].copy_from_slice(&octets);
    AddressRecord { bytes, length: FIXED_BYTES + usize::from(length) }
}

/// An address record as it is sent.
pub(super) struct AddressRecord {
    bytes: [u8; FIXED_BYTES + 16],
    length: usize,
}

impl Deref for AddressRecord {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A label, or a character string, which are the same on the wire (RFC 1035 3.1 and 3.3).
pub(super) fn push_label(bytes: &mut Vec<u8>, label: &str) {
    bytes.push(u8::try_from(label.len()).expect("a label is short"));
    bytes.extend_from_slice(label.as_bytes());
}

/// The served candidates, each address and port once.
fn targets<'a>(candidates: &[Candidate<'a>]) -> Vec<Candidate<'a>> {
    selection::distinct(candidates, |one| one.endpoint.socket_addr())
}

/// The classes of candidates that are sorted by priority.
fn classes(candidates: &[Candidate<'_>]) -> Vec<Class> {
    let mut first = 0;
    candidates
        .chunk_by(|one, next| one.served().map(|one| one.0) == next.served().map(|next| next.0))
        .map(|class| {
            let weights = class.iter().filter_map(Candidate::served).map(|(_, weight)| weight).collect();
            let class_first = first;
            first += class.len();
            Class { urn: Urn::new(weights), first: class_first }
        })
        .collect()
}
