//! Records, and the names in them (RFC 1035 3.3, RFC 2782, RFC 3263 4.1, RFC 3403, RFC 3596).

use core::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, HINFO, NAPTR, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record};
use ringmesh_types::name::NodeName;
use ringmesh_types::service::{Endpoint, Transport};
use ringmesh_types::snapshot::Snapshot;

use crate::host;
use crate::zone::ZoneConfig;

/// SOA timers in seconds; nobody transfers this zone, so they are merely sensible (RFC 1912 2.2).
const REFRESH: u32 = 3_600;
const RETRY: u32 = 600;
const EXPIRE: u32 = 86_400;

/// Among records of one order there is only one.
pub(crate) const NAPTR_PREFERENCE: u16 = 10;

/// A record that may be kept as long as the configuration says, and never for no time at all.
pub(crate) fn record(config: &ZoneConfig, owner: Name, data: RData) -> Record {
    Record::from_rdata(owner, config.ttl.max(1), data)
}

/// A record that says how long there is nothing.
pub(crate) fn negative(config: &ZoneConfig, owner: Name, data: RData) -> Record {
    Record::from_rdata(owner, config.negative_ttl.max(1), data)
}

/// The data of an address record.
pub(crate) fn address(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

/// The address record of the host that has `address`.
pub(crate) fn host(config: &ZoneConfig, host: IpAddr) -> Record {
    record(config, host_name(config, host), address(host))
}

/// The data of an SRV record.
pub(crate) fn srv(config: &ZoneConfig, (priority, weight): (u16, u16), endpoint: &Endpoint) -> RData {
    RData::SRV(SRV::new(priority, weight, endpoint.port, host_name(config, endpoint.address)))
}

/// The data of a PTR record.
pub(crate) fn ptr(config: &ZoneConfig, node: &NodeName) -> RData {
    RData::PTR(PTR(node_name(config, node)))
}

/// The data of the NS record.
pub(crate) fn ns(config: &ZoneConfig, snapshot: &Snapshot) -> RData {
    RData::NS(NS(node_name(config, &snapshot.local.name)))
}

/// The data of a TXT record.
pub(crate) fn txt(texts: Vec<String>) -> RData {
    RData::TXT(TXT::new(texts))
}

/// RFC 8482, 4.2: what is answered instead of all records.
pub(crate) fn hinfo() -> RData {
    RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()))
}

/// The data of the SOA record.
pub(crate) fn soa(config: &ZoneConfig, snapshot: &Snapshot) -> RData {
    let [serial, refresh, retry, expire, minimum] = soa_numbers(config, snapshot);
    let seconds = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    RData::SOA(SOA::new(
        node_name(config, &snapshot.local.name),
        below(config, &["hostmaster"]),
        serial,
        seconds(refresh),
        seconds(retry),
        seconds(expire),
        minimum,
    ))
}

/// Serial, refresh, retry, expire and minimum.
pub(crate) fn soa_numbers(config: &ZoneConfig, snapshot: &Snapshot) -> [u32; 5] {
    [snapshot.serial, REFRESH, RETRY, EXPIRE, config.negative_ttl.max(1)]
}

/// RFC 3263, 4.1: how SIP over `transport` is found; `service` are the labels of the service.
pub(crate) fn naptr(config: &ZoneConfig, transport: Transport, service: &[&str]) -> RData {
    let (order, kind, srv) = naptr_of(transport);
    let replacement = below(config, &[srv.as_slice(), service].concat());
    RData::NAPTR(NAPTR::new(order, NAPTR_PREFERENCE, boxed("s"), boxed(kind), boxed(""), replacement))
}

/// Order, service field and SRV labels of SIP over `transport`.
pub(crate) const fn naptr_of(transport: Transport) -> (u16, &'static str, [&'static str; 2]) {
    match transport {
        Transport::Udp => (10, "SIP+D2U", ["_sip", "_udp"]),
        Transport::Tcp => (20, "SIP+D2T", ["_sip", "_tcp"]),
        Transport::Tls => (30, "SIPS+D2T", ["_sips", "_tcp"]),
    }
}

fn boxed(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

fn host_name(config: &ZoneConfig, host: IpAddr) -> Name {
    below(config, &[host::label(host).as_str(), "h"])
}

/// The name of a node.
pub(crate) fn node_name(config: &ZoneConfig, node: &NodeName) -> Name {
    below(config, &[node.as_str(), "n"])
}

fn below(config: &ZoneConfig, labels: &[&str]) -> Name {
    let labels = labels.iter().map(|label| label.as_bytes()).chain(config.domain.iter());
    // Six labels at most, two of them of 63 bytes, and a domain of 100: that is less than 255.
    Name::from_labels(labels).expect("our labels are short enough for a name")
}
