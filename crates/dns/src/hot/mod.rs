//! The usual questions, answered from records that are encoded already: a look-up, a draw, and some copies; nothing is
//! taken from the heap and no lock is held.
//!
//! Usual is what SIP stacks ask all the time: SRV of a service over a transport, the addresses and NAPTR of a service and of
//! the domain, the addresses of hosts; what limiters ask: SRV and addresses of whoever serves a key; and all of that for
//! services and keys that do not exist. Everything else is left to [`answer`](crate::answer), which decides the same, more
//! slowly, and is the judge: for the same draw both say the same (`tests`).
//!
//! Names stand for what [`qname`](crate::qname) says, who is served for what [`selection`](crate::selection) says, and who is
//! named for a key for what `owners` says.

mod encoded;
mod owners;
mod question;
#[cfg(test)]
mod stacks;
#[cfg(test)]
mod tests;
mod writer;

use core::net::IpAddr;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_types::name::{NodeName, ServiceName};
use ringmesh_types::owners::KeyOwners;
use ringmesh_types::service::Transport;
use ringmesh_types::snapshot::{MemberView, ServiceView, Snapshot};

use crate::client::Client;
use crate::glance::Tail;
use crate::host;
use crate::key::{self, Named};
use crate::lookup::ADDRESSES_MAX;
use crate::records;
use crate::zone::ZoneConfig;
use encoded::{A, AAAA, Choice, NAPTR, SRV, Service, address, push_label, record};
use owners::{ByMember, Owners};
use question::Question;
use writer::Writer;

const SOA: u16 = 6;
const TC: u8 = 0x02;
/// No response is longer.
pub const RESPONSE_BYTES_MAX: usize = crate::fit::UDP_BYTES_MAX as usize;

/// The domain as one agent answers for it, encoded.
#[derive(Debug)]
pub struct Zone {
    /// What is configured.
    configured: Arc<ZoneConfig>,
    /// What holds.
    config: Arc<ZoneConfig>,
    /// Whether answers say that they may be stale, which they do elsewhere.
    is_isolated: bool,
    /// On the wire, in lower case.
    domain: Vec<u8>,
    local: Arc<MemberView>,
    services: Services,
    hosts: Arc<BTreeMap<IpAddr, Vec<NodeName>>>,
    soa: Soa,
}

#[expect(clippy::disallowed_types, reason = "names are looked up, and never gone through in order")]
type Services = std::collections::HashMap<ServiceName, Entry>;

#[derive(Debug, Clone)]
struct Entry {
    view: Arc<ServiceView>,
    map: Option<Arc<dyn KeyOwners>>,
    service: Arc<Service>,
}

/// What says that there is nothing (RFC 2308 3), but for three pointers to the domain.
#[derive(Debug)]
struct Soa {
    bytes: Vec<u8>,
    pointers: [usize; 3],
}

/// A response that is ready to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// How many bytes of the buffer it takes.
    pub length: usize,
    /// Whether the name does not exist.
    pub is_nxdomain: bool,
    /// Whether it sends the asker to TCP.
    pub is_truncated: bool,
}

impl Zone {
    /// Encodes all of `snapshot`.
    pub fn new(config: Arc<ZoneConfig>, snapshot: &Snapshot) -> Self {
        let mut domain = Vec::new();
        for label in config.domain.iter() {
            domain.push(u8::try_from(label.len()).expect("a label is short"));
            domain.extend_from_slice(label);
        }
        domain.push(0);
        let empty = Self {
            soa: Soa::new(&config, snapshot),
            configured: Arc::clone(&config),
            config,
            is_isolated: false,
            domain,
            local: Arc::clone(&snapshot.local),
            services: Services::new(),
            hosts: Arc::clone(&snapshot.hosts),
        };
        empty.follow(snapshot)
    }

    /// The same for a later snapshot: only services that changed are encoded anew.
    #[must_use]
    pub fn follow(&self, snapshot: &Snapshot) -> Self {
        let place = |local: &MemberView| (local.zone.clone(), local.region.clone());
        let config = match self.configured.of(snapshot) {
            Cow::Borrowed(_) => Arc::clone(&self.configured),
            Cow::Owned(config) => Arc::new(config),
        };
        let is_same = place(&self.local) == place(&snapshot.local) && config.ttl == self.config.ttl;
        let entry = |view: &Arc<ServiceView>| {
            let map = snapshot.maps.get(&view.name).cloned();
            let is_known = |known: &&Entry| {
                is_same && Arc::ptr_eq(&known.view, view) && known.map.is_some() == map.is_some()
            };
            let known = self.services.get(&view.name).filter(is_known);
            let service = known.map(|known| Arc::clone(&known.service));
            let service =
                service.unwrap_or_else(|| Arc::new(Service::new(&config, &self.domain, snapshot, view)));
            Entry { view: Arc::clone(view), map, service }
        };
        Self {
            configured: Arc::clone(&self.configured),
            is_isolated: snapshot.isolated_since.is_some(),
            domain: self.domain.clone(),
            local: Arc::clone(&snapshot.local),
            services: snapshot.services.iter().map(|(name, view)| (name.clone(), entry(view))).collect(),
            hosts: Arc::clone(&snapshot.hosts),
            soa: Soa::new(&config, snapshot),
            config,
        }
    }

    /// Bytes that the encoded records take, about.
    pub fn heap_bytes(&self) -> usize {
        self.services.values().map(|entry| entry.service.bytes()).sum()
    }

    /// Writes the response to `request` from `client` into `response`, which has room for [`RESPONSE_BYTES_MAX`] bytes;
    /// `draw` stands for chance. `None` if the question is not a usual one: then [`answer`](crate::answer) knows.
    pub fn answer(
        &self,
        client: &Client<'_>,
        request: &[u8],
        response: &mut [u8],
        draw: u64,
    ) -> Option<Answered> {
        let question = Question::read(request, &self.domain, client.profile)?;
        if self.is_isolated && question.opt.is_some() {
            return None;
        }
        let found = self.find(&question)?;
        let cookie = client.judge(question.opt.and_then(|opt| opt.cookie())).ok()?;
        let tail = Tail::new(question.opt, 0, cookie.as_ref());
        let mut writer = Writer::begin(response, &question, &tail)?;
        let ttl = self.config.ttl.max(1);
        match found {
            Found::Targets(choice) => {
                writer.targets(choice, self.config.targets_max, client.profile, draw, ttl)?;
            }
            Found::Addresses(choice) => writer.chosen(choice, ADDRESSES_MAX, draw)?,
            Found::Owners(owners) => {
                writer.owners(owners, self.config.targets_max, client.profile, draw, ttl)?;
            }
            Found::OwnersAddresses(owners) => writer.owners_addresses(owners, draw)?,
            Found::All(choice) => writer.all(choice)?,
            Found::Address(host) => {
                writer.push(0, &address(host, ttl))?;
            }
            Found::NoData | Found::Nothing => {}
        }
        let is_nxdomain = matches!(found, Found::Nothing);
        if writer.counts == [0; 3] {
            writer.nothing(&self.soa, question.domain_at)?;
        }
        let mut length = writer.end(&question, &tail, is_nxdomain)?;
        let is_truncated = length > client.bytes_max(request.len(), cookie.as_ref());
        if is_truncated {
            length = Writer::begin(response, &question, &tail)?.end(&question, &tail, is_nxdomain)?;
            response[2] |= TC;
        }
        Some(Answered { length, is_nxdomain, is_truncated })
    }

    /// What answers a question; `None` if it is not a usual one.
    fn find(&self, question: &Question<'_>) -> Option<Found<'_>> {
        let (labels, count) = question.labels();
        let kind = question.kind;
        if ![A, AAAA, SRV, NAPTR].contains(&kind) {
            return None;
        }
        match &labels[..count] {
            [] if kind == NAPTR => {
                let service = self.service(self.config.default_sip_service.as_str());
                Some(service.map_or(Found::NoData, |service| Found::All(&service.naptr)))
            }
            [] | [.., "n" | "zone"] | ["service"] => None,
            [label, "h"] => self.host(kind, label),
            [.., "h"] => None,
            // Consul's form: what follows is the same with and without it.
            [rest @ .., "service"] => self.named(question, rest),
            labels => self.named(question, labels),
        }
    }

    fn host(&self, kind: u16, label: &str) -> Option<Found<'_>> {
        let Some(address) = host::address(label).filter(|address| self.hosts.contains_key(address)) else {
            return Some(Found::Nothing);
        };
        match kind {
            A if address.is_ipv4() => Some(Found::Address(address)),
            AAAA if address.is_ipv6() => Some(Found::Address(address)),
            A | AAAA | SRV | NAPTR => Some(Found::NoData),
            _ => None,
        }
    }

    fn named(&self, question: &Question<'_>, labels: &[&str]) -> Option<Found<'_>> {
        let kind = question.kind;
        match labels {
            [carrier] if carrier.starts_with('_') => None,
            [name, carrier] if carrier.starts_with('_') => self.bare_srv(kind, name, carrier),
            [.., "all", _] => None,
            [rest @ .., service] => {
                let Some(entry) = self.entry(service) else {
                    return Some(Found::Nothing);
                };
                let map = entry.map.as_deref();
                if let Some((map, (named, before))) = map.and_then(|map| Some((map, key::read(map, rest)?))) {
                    return of_key(question, entry, map, named, before);
                }
                match rest {
                    [] => of_service(kind, &entry.service),
                    [name, carrier] => {
                        let choice = |(protocol, transport)| entry.service.srv(Some(protocol), transport);
                        srv(kind, wanted(name, carrier).and_then(choice))
                    }
                    _ => None,
                }
            }
            [] => None,
        }
    }

    /// `_<service>._<transport>`; for SIP also the default SIP service.
    fn bare_srv(&self, kind: u16, name: &str, carrier: &str) -> Option<Found<'_>> {
        let default = || self.service(self.config.default_sip_service.as_str());
        let choice = match wanted(name, carrier) {
            None => None,
            Some(("sip", Transport::Tls)) if name == "_sips" => {
                default().and_then(|service| service.srv(Some("sip"), Transport::Tls))
            }
            Some(("sip", transport)) if self.service("sip").is_none() => {
                default().and_then(|service| service.srv(Some("sip"), transport))
            }
            Some((service, transport)) => {
                self.service(service).and_then(|service| service.srv(None, transport))
            }
        };
        srv(kind, choice)
    }

    /// The service, if it has any endpoint.
    fn service(&self, name: &str) -> Option<&Service> {
        self.entry(name).map(|entry| &*entry.service)
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.services.get(name).filter(|entry| entry.service.is_there)
    }
}

/// What answers a question.
#[derive(Debug, Clone, Copy)]
enum Found<'a> {
    /// Some of these targets, with their addresses.
    Targets(&'a Choice),
    /// Some of these addresses.
    Addresses(&'a Choice),
    /// Some of what the owners of a key have, with its addresses.
    Owners(Owners<'a>),
    /// Some of the addresses of those owners that are asked first.
    OwnersAddresses(Owners<'a>),
    /// All of these.
    All(&'a Choice),
    /// This one.
    Address(IpAddr),
    /// The name has no records of this type.
    NoData,
    /// There is no such name.
    Nothing,
}

fn of_service(kind: u16, service: &Service) -> Option<Found<'_>> {
    match kind {
        A => Some(Found::Addresses(&service.v4)),
        AAAA => Some(Found::Addresses(&service.v6)),
        NAPTR => Some(Found::All(&service.naptr)),
        _ => None,
    }
}

/// What is at the name of a key, and at those below it.
fn of_key<'a>(
    question: &Question<'_>,
    entry: &'a Entry,
    map: &'a dyn KeyOwners,
    named: Named,
    before: &[&str],
) -> Option<Found<'a>> {
    let keyed = entry.service.keyed.as_ref()?;
    let owners = |at, records| Owners { map, at, records };
    match (named, before) {
        // Who speaks EDNS is told what is wrong, which is done elsewhere.
        (Named::Wrong(_), _) => question.opt.is_none().then_some(Found::Nothing),
        (Named::End, []) => Some(Found::NoData),
        (Named::At(at), []) => match question.kind {
            SRV => Some(Found::Owners(owners(at, &keyed.targets))),
            A => Some(Found::OwnersAddresses(owners(at, &keyed.v4))),
            AAAA => Some(Found::OwnersAddresses(owners(at, &keyed.v6))),
            _ => Some(Found::NoData),
        },
        (Named::At(at), [name, carrier]) => match part_of_key(entry, name, carrier) {
            None => Some(Found::Nothing),
            Some(records) => (question.kind == SRV).then(|| Found::Owners(owners(at, records))),
        },
        (Named::End | Named::At(_), _) => None,
    }
}

/// The endpoints that `_<protocol>._<transport>` or `_<service>._<transport>` before a key is about.
fn part_of_key<'a>(entry: &'a Entry, name: &str, carrier: &str) -> Option<&'a ByMember> {
    let spoken = wanted(name, carrier)
        .and_then(|(protocol, transport)| entry.service.srv_by_member(Some(protocol), transport));
    let is_service = name.strip_prefix('_') == Some(entry.view.name.as_str());
    let transport = || carrier.strip_prefix('_')?.parse().ok().filter(|_| is_service);
    spoken.or_else(|| entry.service.srv_by_member(None, transport()?))
}

/// What is at a name of SRV form: these targets, or there is no such name.
fn srv(kind: u16, choice: Option<&Choice>) -> Option<Found<'_>> {
    match choice {
        None => Some(Found::Nothing),
        Some(choice) => (kind == SRV).then_some(Found::Targets(choice)),
    }
}

/// The protocol, or service, and transport that `_<name>._<carrier>` is about; `_sips._tcp` is SIP over TLS.
fn wanted<'a>(name: &'a str, carrier: &str) -> Option<(&'a str, Transport)> {
    if (name, carrier) == ("_sips", "_tcp") {
        return Some(("sip", Transport::Tls));
    }
    Some((name.strip_prefix('_')?, carrier.strip_prefix('_')?.parse().ok()?))
}

impl Soa {
    fn new(config: &ZoneConfig, snapshot: &Snapshot) -> Self {
        let mut data = Vec::new();
        push_label(&mut data, snapshot.local.name.as_str());
        push_label(&mut data, "n");
        let server_domain = data.len();
        data.extend_from_slice(&[0; 2]);
        push_label(&mut data, "hostmaster");
        let mailbox_domain = data.len();
        data.extend_from_slice(&[0; 2]);
        for number in records::soa_numbers(config, snapshot) {
            data.extend_from_slice(&number.to_be_bytes());
        }
        let bytes = record(SOA, config.negative_ttl.max(1), &data);
        let before = bytes.len() - data.len();
        Self { bytes, pointers: [0, before + server_domain, before + mailbox_domain] }
    }
}
