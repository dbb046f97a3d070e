//! What a name asks for (DESIGN 8.1), as one closed enum. Only what exists is named: a name below the domain that has
//! no records and nothing below it is [`Asked::Nothing`], one with something below it is an empty non-terminal
//! (RFC 1034 3.1, RFC 4592 2.2.2, RFC 8020 2). What type is asked for does not matter here.
//!
//! Below the name of a service that has a map its keys have names ([`key`]); they have none in one zone alone, and
//! no full view.
//!
//! SRV names follow RFC 2782; `_sips._tcp` and `_sip._tls` both mean SIP over TLS (RFC 3263 4.1). Case never matters.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};

use hickory_proto::rr::Name;
use ringmesh_types::name::{NodeName, ProtocolName, ServiceName, ZoneName};
use ringmesh_types::owners::KeyOwners;
use ringmesh_types::service::{Endpoint, Transport};
use ringmesh_types::snapshot::{ServiceView, Snapshot};

use crate::host;
use crate::key::{self, Named, WrongKey};
use crate::zone::ZoneConfig;

/// What a name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The domain itself.
    Apex,
    /// The endpoints of a service over one transport: it has at least one.
    Srv {
        /// The service.
        service: ServiceName,
        /// What they must speak; `None` for whatever they speak.
        protocol: Option<ProtocolName>,
        /// What carries it.
        transport: Transport,
        /// The zone they must be in, if one was named.
        zone: Option<ZoneName>,
        /// Whether all are wanted, not just some.
        all: bool,
    },
    /// A service that has at least one instance.
    Service {
        /// The service.
        service: ServiceName,
        /// The zone its instances must be in, if one was named.
        zone: Option<ZoneName>,
        /// Whether all are wanted, not just some.
        all: bool,
    },
    /// Whoever serves a key of a service that has a map.
    Owners {
        /// The service, which has at least one instance.
        service: ServiceName,
        /// Where the key lies.
        at: u64,
        /// What must be spoken; `None` for whatever is spoken.
        protocol: Option<ProtocolName>,
        /// What carries it; `None` for whatever does.
        transport: Option<Transport>,
    },
    /// How the agent does: `_status`.
    Status,
    /// A node that is known.
    Node(NodeName),
    /// The short name of an address that is known.
    Host(IpAddr),
    /// The reverse name of an address that is known.
    Reverse(IpAddr),
    /// A name without records that has names with records below it.
    EmptyNonTerminal,
    /// A name that does not exist because there is no such key.
    WrongKey(WrongKey),
    /// Another name below the domain that does not exist.
    Nothing,
    /// A name that is none of this agent's business.
    OutOfZone,
}

impl Asked {
    /// Whether the name has records of any type.
    pub const fn has_records(&self) -> bool {
        match self {
            Self::Apex
            | Self::Srv { .. }
            | Self::Service { .. }
            | Self::Owners { .. }
            | Self::Status
            | Self::Node(_)
            | Self::Host(_)
            | Self::Reverse(_) => true,
            Self::EmptyNonTerminal | Self::WrongKey(_) | Self::Nothing | Self::OutOfZone => false,
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apex => write!(f, "the domain itself"),
            Self::Srv { service, protocol, transport, zone, all } => {
                write!(f, "{} endpoints of service {service}", if *all { "all" } else { "some" })?;
                match protocol {
                    Some(protocol) => write!(f, " that speak {protocol} over {transport}")?,
                    None => write!(f, " over {transport}")?,
                }
                in_zone(f, zone.as_ref())
            }
            Self::Service { service, zone, all } => {
                write!(f, "{} instances of service {service}", if *all { "all" } else { "some" })?;
                in_zone(f, zone.as_ref())
            }
            Self::Owners { service, at, protocol, transport } => {
                write!(f, "whoever serves the keys of {service} at position {at:016x}")?;
                protocol.as_ref().map_or(Ok(()), |protocol| write!(f, ", speaking {protocol}"))?;
                transport.map_or(Ok(()), |transport| write!(f, ", over {transport}"))
            }
            Self::Status => write!(f, "how this agent does"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Host(address) => write!(f, "the host with address {address}"),
            Self::Reverse(address) => write!(f, "the nodes that have address {address}"),
            Self::EmptyNonTerminal => write!(f, "nothing itself, there are names below it"),
            Self::WrongKey(why) => write!(f, "no name of this domain: {why}"),
            Self::Nothing => write!(f, "no name of this domain"),
            Self::OutOfZone => write!(f, "a name outside this domain"),
        }
    }
}

fn in_zone(f: &mut fmt::Formatter<'_>, zone: Option<&ZoneName>) -> fmt::Result {
    zone.map_or(Ok(()), |zone| write!(f, " in zone {zone}"))
}

/// What `name` asks for.
pub fn parse(config: &ZoneConfig, snapshot: &Snapshot, name: &Name) -> Asked {
    if !config.domain.zone_of(name) {
        return match reverse(name).filter(|address| snapshot.hosts.contains_key(address)) {
            Some(address) => Asked::Reverse(address),
            None => Asked::OutOfZone,
        };
    }
    let depth = name.iter().len() - config.domain.iter().len();
    let labels: Option<Vec<String>> = name
        .iter()
        .take(depth)
        .map(|label| core::str::from_utf8(label).ok().map(str::to_ascii_lowercase))
        .collect();
    let Some(labels) = labels else {
        return Asked::Nothing;
    };
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    below_domain(config, snapshot, &labels)
}

/// What `labels`, which stand before the domain, ask for.
fn below_domain(config: &ZoneConfig, snapshot: &Snapshot, labels: &[&str]) -> Asked {
    let everywhere = Scope { config, snapshot, zone: None };
    match labels {
        [] => Asked::Apex,
        ["_status"] => Asked::Status,
        ["n" | "h" | "zone"] => Asked::EmptyNonTerminal,
        [node, "n"] => match snapshot.members.get_key_value(*node) {
            Some((name, _)) => Asked::Node(name.clone()),
            None => Asked::Nothing,
        },
        [label, "h"] => match host::address(label) {
            Some(address) if snapshot.hosts.contains_key(&address) => Asked::Host(address),
            Some(_) | None => Asked::Nothing,
        },
        [.., "n" | "h"] => Asked::Nothing,
        [rest @ .., zone, "zone"] => match known_zone(snapshot, zone) {
            None => Asked::Nothing,
            Some(_) if rest.is_empty() => Asked::EmptyNonTerminal,
            zone => Scope { zone, ..everywhere }.parse(rest),
        },
        labels => everywhere.parse(labels),
    }
}

fn known_zone(snapshot: &Snapshot, text: &str) -> Option<ZoneName> {
    let zones = snapshot.members.values().map(|member| &member.zone);
    zones.chain([&snapshot.local.zone]).find(|zone| zone.as_str() == text).cloned()
}

/// The domain, or one zone of it.
struct Scope<'a> {
    config: &'a ZoneConfig,
    snapshot: &'a Snapshot,
    zone: Option<ZoneName>,
}

impl Scope<'_> {
    /// What `labels`, at least one, ask for.
    fn parse(&self, labels: &[&str]) -> Asked {
        match labels {
            // Consul's form: what follows is the same with and without it.
            ["service"] => self.non_terminal(|_| true),
            [rest @ .., "service"] => self.named(rest),
            labels => self.named(labels),
        }
    }

    fn named(&self, labels: &[&str]) -> Asked {
        match labels {
            [] => Asked::Nothing,
            [carrier] if carrier.starts_with('_') => self.bare_carrier(carrier),
            [name, carrier] if carrier.starts_with('_') => self.bare_srv(name, carrier),
            [rest @ .., "all", service] => self.of_service(rest, service, true),
            [rest @ .., service] => self.of_service(rest, service, false),
        }
    }

    /// `_<transport>` right below the domain or zone.
    fn bare_carrier(&self, carrier: &str) -> Asked {
        let default = &self.config.default_sip_service;
        if carrier == "_tcp" && self.service(default.as_str()).is_some_and(|view| self.has(view, is_sips)) {
            return Asked::EmptyNonTerminal;
        }
        match transport(carrier) {
            Some(transport) => self.non_terminal(|endpoint| endpoint.transport == transport),
            None => Asked::Nothing,
        }
    }

    /// `_<service>._<transport>`; for SIP, whose clients know no service names, also the default SIP service (RFC 3263,
    /// 4.1: without NAPTR a client asks for `_sip._udp`, `_sip._tcp` and `_sips._tcp` of the domain it was given).
    fn bare_srv(&self, name: &str, carrier: &str) -> Asked {
        let default = self.config.default_sip_service.as_str();
        let Some(service) = name.strip_prefix('_') else {
            return Asked::Nothing;
        };
        match (service, transport(carrier)) {
            (_, None) => Asked::Nothing,
            ("sips", Some(Transport::Tcp)) => self.srv(default, Some(sip()), Transport::Tls, false),
            ("sip", Some(transport)) if self.service("sip").is_none() => {
                self.srv(default, Some(sip()), transport, false)
            }
            (service, Some(transport)) => self.srv(service, None, transport, false),
        }
    }

    /// Whatever stands before the label of a service.
    fn of_service(&self, labels: &[&str], service: &str, all: bool) -> Asked {
        let Some(view) = self.service(service) else {
            return Asked::Nothing;
        };
        let map = if all { None } else { self.map(view) };
        if let Some((named, before)) = map.and_then(|map| key::read(map, labels)) {
            return self.of_key(view, named, before);
        }
        match labels {
            [] => Asked::Service { service: view.name.clone(), zone: self.zone.clone(), all },
            [carrier] if self.has(view, |endpoint| is_below(carrier, endpoint)) => Asked::EmptyNonTerminal,
            [name, carrier] => match protocol_and_transport(name, carrier) {
                Some((protocol, transport)) => self.srv(service, Some(protocol), transport, all),
                None => Asked::Nothing,
            },
            _ => Asked::Nothing,
        }
    }

    /// The name of a key of a service, and whatever stands before it.
    fn of_key(&self, view: &ServiceView, named: Named, before: &[&str]) -> Asked {
        let owners =
            |at, protocol, transport| Asked::Owners { service: view.name.clone(), at, protocol, transport };
        match (named, before) {
            (Named::Wrong(why), _) => Asked::WrongKey(why),
            (Named::End, []) => Asked::EmptyNonTerminal,
            (Named::At(at), []) => owners(at, None, None),
            (Named::At(_), [carrier]) if self.has(view, |endpoint| is_below(carrier, endpoint)) => {
                Asked::EmptyNonTerminal
            }
            (Named::At(at), [name, carrier]) => match self.part(view, name, carrier) {
                Some((protocol, transport)) => owners(at, protocol, Some(transport)),
                None => Asked::Nothing,
            },
            (Named::End | Named::At(_), _) => Asked::Nothing,
        }
    }

    /// The endpoints of a service that `_<protocol>._<transport>` or `_<service>._<transport>` is about, if it has any.
    fn part(
        &self,
        view: &ServiceView,
        name: &str,
        carrier: &str,
    ) -> Option<(Option<ProtocolName>, Transport)> {
        let is_there = |(protocol, transport): &(Option<ProtocolName>, Transport)| {
            self.has(view, |endpoint| is_part(endpoint, protocol.as_ref(), *transport))
        };
        let spoken =
            protocol_and_transport(name, carrier).map(|(protocol, transport)| (Some(protocol), transport));
        let service = transport(carrier).filter(|_| name.strip_prefix('_') == Some(view.name.as_str()));
        spoken.filter(is_there).or_else(|| service.map(|transport| (None, transport)).filter(is_there))
    }

    fn srv(&self, service: &str, protocol: Option<ProtocolName>, transport: Transport, all: bool) -> Asked {
        let is_wanted = |endpoint: &Endpoint| is_part(endpoint, protocol.as_ref(), transport);
        match self.service(service).filter(|view| self.has(view, is_wanted)) {
            Some(view) => {
                Asked::Srv { service: view.name.clone(), protocol, transport, zone: self.zone.clone(), all }
            }
            None => Asked::Nothing,
        }
    }

    /// A name that exists because of names of services below it, if any service has such an endpoint.
    fn non_terminal(&self, is_wanted: impl Fn(&Endpoint) -> bool) -> Asked {
        if self.snapshot.services.values().any(|view| self.has(view, &is_wanted)) {
            Asked::EmptyNonTerminal
        } else {
            Asked::Nothing
        }
    }

    /// The service, if it has an instance here.
    fn service(&self, service: &str) -> Option<&ServiceView> {
        let view = self.snapshot.services.get(service)?;
        self.has(view, |_| true).then_some(view)
    }

    /// The map of a service; it has none for one zone alone.
    fn map(&self, view: &ServiceView) -> Option<&dyn KeyOwners> {
        let map = self.snapshot.maps.get(&view.name).filter(|_| self.zone.is_none());
        map.map(|map| &**map)
    }

    fn has(&self, view: &ServiceView, is_wanted: impl Fn(&Endpoint) -> bool) -> bool {
        view.instances
            .iter()
            .filter(|instance| self.zone.as_ref().is_none_or(|zone| instance.member.zone == *zone))
            .any(|instance| instance.instance.endpoints.iter().any(&is_wanted))
    }
}

/// The protocol that NAPTR and `_sips` are about.
pub(crate) fn sip() -> ProtocolName {
    "sip".parse().expect("a valid label")
}

fn transport(carrier: &str) -> Option<Transport> {
    carrier.strip_prefix('_')?.parse().ok()
}

fn protocol_and_transport(name: &str, carrier: &str) -> Option<(ProtocolName, Transport)> {
    if (name, carrier) == ("_sips", "_tcp") {
        return Some((sip(), Transport::Tls));
    }
    Some((name.strip_prefix('_')?.parse().ok()?, transport(carrier)?))
}

fn is_part(endpoint: &Endpoint, protocol: Option<&ProtocolName>, transport: Transport) -> bool {
    endpoint.transport == transport && protocol.is_none_or(|wanted| *wanted == endpoint.protocol)
}

fn is_sips(endpoint: &Endpoint) -> bool {
    endpoint.transport == Transport::Tls && endpoint.protocol.as_str() == "sip"
}

/// Whether `endpoint` has an SRV name directly below `carrier`.
fn is_below(carrier: &str, endpoint: &Endpoint) -> bool {
    transport(carrier) == Some(endpoint.transport) || (carrier == "_tcp" && is_sips(endpoint))
}

/// The address whose reverse name this is (RFC 1035 3.5, RFC 3596 2.5).
fn reverse(name: &Name) -> Option<IpAddr> {
    let labels: Option<Vec<&str>> = name.iter().rev().map(|label| core::str::from_utf8(label).ok()).collect();
    let labels = labels?;
    let [arpa, family, digits @ ..] = labels.as_slice() else {
        return None;
    };
    if !arpa.eq_ignore_ascii_case("arpa") {
        return None;
    }
    let address = if family.eq_ignore_ascii_case("in-addr") {
        let octets: Option<Vec<u8>> = digits.iter().map(|octet| octet.parse().ok()).collect();
        IpAddr::from(<[u8; 4]>::try_from(octets?).ok()?)
    } else {
        let nibbles: Option<Vec<u32>> =
            digits.iter().map(|nibble| u32::from_str_radix(nibble, 16).ok()).collect();
        let nibbles = nibbles.filter(|nibbles| nibbles.len() == 32)?;
        let bits = nibbles.into_iter().fold(0, |bits: u128, nibble| (bits << 4) | u128::from(nibble));
        IpAddr::from(Ipv6Addr::from(bits))
    };
    // Refuses what parses without being the name, such as `010.0.0.10.in-addr.arpa`.
    (Name::from(address) == *name).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, name, zone};

    const WORLD: &str = "a passing udp tcp tls; b passing udp; c passing service=media protocol=ng udp";

    fn asked(world: &str, text: &str) -> Asked {
        let text = if text.ends_with('.') { text.to_owned() } else { format!("{text}.m.test.") };
        let name = Name::from_ascii(text.trim_start_matches('.')).expect("a domain name");
        parse(&zone(), &World::read(world).snapshot(), &name)
    }

    fn check(text: &str, want: &str) {
        assert_eq!(asked(WORLD, text).to_string(), want, "{text}");
    }

    const NOTHING: &str = "no name of this domain";
    const NON_TERMINAL: &str = "nothing itself, there are names below it";
    const OUTSIDE: &str = "a name outside this domain";

    #[test]
    fn rfc_2782_srv_names_name_a_service_or_a_protocol_of_one() {
        check("_sip._udp", "some endpoints of service sip over udp");
        check("_media._udp", "some endpoints of service media over udp");
        check("_sip._tcp.sip", "some endpoints of service sip that speak sip over tcp");
        check("_ng._udp.media", "some endpoints of service media that speak ng over udp");
        check("_sip._udp.sip.ber.zone", "some endpoints of service sip that speak sip over udp in zone ber");
        check("_sip._udp.all.sip", "all endpoints of service sip that speak sip over udp");
        check("_SIP._UdP.Sip", "some endpoints of service sip that speak sip over udp");
        check("_sip._udp.media", NOTHING);
        check("_ng._tcp.media", NOTHING);
        check("_sip._tcp.sip.ber.zone", NOTHING);
        check("_sip._sctp.sip", NOTHING);
        check("x._sip._udp.sip", NOTHING);
        check("sip._udp", NOTHING);
    }

    #[test]
    fn rfc_3263_4_1_sips_over_tcp_is_sip_over_tls() {
        let want = "some endpoints of service sip that speak sip over tls";
        check("_sips._tcp.sip", want);
        check("_sip._tls.sip", want);
        check("_sips._tcp", want);
        check("_sips._udp.sip", NOTHING);
        check("_sips._tcp.media", NOTHING);
    }

    #[test]
    fn rfc_3263_4_1_the_bare_domain_falls_back_to_the_default_sip_service() {
        let mut config = zone();
        config.default_sip_service = name("edge");
        let snapshot = World::read("a passing service=edge udp tls").snapshot();
        let understood = |text: &str| {
            let name = Name::from_ascii(format!("{text}.m.test.")).expect("a domain name");
            parse(&config, &snapshot, &name).to_string()
        };
        assert_eq!(understood("_sip._udp"), "some endpoints of service edge that speak sip over udp");
        assert_eq!(understood("_sips._tcp"), "some endpoints of service edge that speak sip over tls");
        assert_eq!(understood("_tcp"), NON_TERMINAL);
        assert_eq!(understood("_sip._tcp"), NOTHING);
    }

    #[test]
    fn services_nodes_and_hosts_have_names() {
        check("sip", "some instances of service sip");
        check("sip.fra.zone", "some instances of service sip in zone fra");
        check("all.media", "all instances of service media");
        check("all.sip.ber.zone", "all instances of service sip in zone ber");
        check("sip.service", "some instances of service sip");
        check("_sip._udp.service", "some endpoints of service sip over udp");
        check("sip.service.ber.zone", "some instances of service sip in zone ber");
        check("b.n", "node b");
        check("180000g.h", "the host with address 10.0.0.2");
        check("400gre00000000000000000008.h", "the host with address 2001:db8::2");
        check(".m.test.", "the domain itself");
    }

    const KEYS: &str =
        "a passing udp tls; b passing tcp protocol=http; c passing service=media; map sip 0=a,b; map web 0=a";

    fn check_key(text: &str, want: &str) {
        assert_eq!(asked(KEYS, text).to_string(), want, "{text}");
    }

    #[test]
    fn keys_of_a_service_with_a_map_have_names() {
        let at = "whoever serves the keys of sip at position";
        check_key("a.key.sip", &format!("{at} 6100000000000000"));
        check_key("ACCT-1_2.KEY.Sip", &format!("{at} 616363742d315f32"));
        check_key("acct-1_2.key.sip.service", &format!("{at} 616363742d315f32"));
        check_key("84.kx.sip", &format!("{at} 4100000000000000"));
        check_key("8.4.Kx.sip", &format!("{at} 4100000000000000"));
        check_key("00000000000000fF.kh.sip", &format!("{at} 00000000000000ff"));
        check_key("_sip._udp.a.key.sip", &format!("{at} 6100000000000000, speaking sip, over udp"));
        check_key("_http._tcp.84.kx.sip", &format!("{at} 4100000000000000, speaking http, over tcp"));
        check_key(
            "_sips._tcp.00000000000000ff.kh.sip",
            &format!("{at} 00000000000000ff, speaking sip, over tls"),
        );
        check_key("_sip._tcp.a.key.sip", &format!("{at} 6100000000000000, over tcp"));
        check_key("_tcp.key.sip", &format!("{at} 5f74637000000000"));
    }

    #[test]
    fn rfc_4592_names_above_keys_and_below_them_are_empty_non_terminals() {
        for text in [
            "key.sip",
            "kx.sip",
            "kh.sip",
            "key.sip.service",
            "c.kx.sip",
            "cp.kx.sip",
            "_udp.a.key.sip",
            "_tcp.84.kx.sip",
        ] {
            check_key(text, NON_TERMINAL);
        }
    }

    #[test]
    fn rfc_8020_names_of_keys_that_are_none_do_not_exist() {
        for text in [
            "a.key.web",
            "key.web",
            "a.key.media",
            "key.media",
            "a.key",
            "key",
            "a.key.nosuch",
            "a.key.all.sip",
            "a.key.sip.fra.zone",
            "x._sip._udp.a.key.sip",
            "x.a.key.sip",
            "_tls.84.key.media",
            "_http._udp.a.key.sip",
            "_web._tcp.a.key.sip",
            "_udp.c.kx.sip",
            "a.b.sip",
        ] {
            check_key(text, NOTHING);
        }
        for text in ["*.key.sip", "w.kx.sip", "_tcp.kx.sip", "ff.kh.sip", "_sip._udp.w.kx.sip"] {
            assert!(matches!(asked(KEYS, text), Asked::WrongKey(_)), "{text}");
        }
        let labels: [&[u8]; 5] = [b"+49@x.Y", b"key", b"sip", b"m", b"test"];
        let name = Name::from_labels(labels).expect("a domain name");
        let understood = parse(&zone(), &World::read(KEYS).snapshot(), &name);
        assert_eq!(understood, Asked::WrongKey(WrongKey::Characters));
    }

    #[test]
    fn rfc_8020_what_does_not_exist_has_nothing_below_it() {
        for text in [
            "web",
            "web.fra.zone",
            "media.fra.zone",
            "sip.nowhere.zone",
            "nowhere.zone",
            "all",
            "x.all.sip",
            "x.sip",
            "z.n",
            "x.a.n",
            "1800001.h",
            "18000.h",
            "x.1800008.h",
            "_web._udp",
            "_sctp",
            "_tcp.media",
            "_tls.media",
            "service.service",
            "_udp.web",
        ] {
            check(text, NOTHING);
        }
    }

    #[test]
    fn rfc_4592_names_with_something_below_them_are_empty_non_terminals() {
        for text in [
            "n",
            "h",
            "zone",
            "fra.zone",
            "nyc.zone",
            "_udp",
            "_tcp",
            "_tls",
            "_udp.sip",
            "_tcp.sip",
            "_tls.sip",
            "_udp.media",
            "_udp.all.sip",
            "_udp.ber.zone",
            "service",
            "_udp.service",
            "service.fra.zone",
        ] {
            check(text, NON_TERMINAL);
        }
        check("_tcp.ber.zone", NOTHING);
        assert_eq!(asked("a passing tls", "_tcp.sip"), Asked::EmptyNonTerminal, "_sips is below it");
        assert_eq!(asked("", "service"), Asked::Nothing);
    }

    #[test]
    fn only_reverse_names_of_known_addresses_are_ours() {
        let v6 = "0.".repeat(23);
        check("2.0.0.10.in-addr.arpa.", "the nodes that have address 10.0.0.2");
        check("2.0.0.10.IN-ADDR.ARPA.", "the nodes that have address 10.0.0.2");
        check(&format!("2.{v6}8.b.d.0.1.0.0.2.ip6.arpa."), "the nodes that have address 2001:db8::2");
        for text in [
            "9.0.0.10.in-addr.arpa.",
            "02.0.0.10.in-addr.arpa.",
            "0.0.10.in-addr.arpa.",
            "+2.0.0.10.in-addr.arpa.",
            "in-addr.arpa.",
            "arpa.",
            "example.com.",
            "test.",
            "xm.test.",
            "2.0.0.10.in-addr.m.",
        ] {
            if let Ok(name) = Name::from_ascii(text) {
                let snapshot = World::read(WORLD).snapshot();
                assert_eq!(parse(&zone(), &snapshot, &name).to_string(), OUTSIDE, "{text}");
            }
        }
    }
}
