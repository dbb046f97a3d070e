//! Small worlds for tests, from one line of text.
//!
//! `a passing; b failing tcp weight=20` has the service `sip` on the nodes `a` and `b`. A node has a fixed place (see
//! [`place`]) and the address `10.0.0.<n>`, with `a` as 1, `b` as 2 and so on; what counts is its last letter, so `xa` has the
//! address of `a`. The words after its name: a health state (of all endpoints), `tcp`, `tls` or `udp` (endpoints, `udp` unless
//! given), `service=`, `protocol=`, `weight=`, `suspect=<accusers>`, `holding`, `down`, `left`, `flapping`, `unreliable`,
//! `spared`, `draining`, `short` (the health report has no entries) and `v6` (listen on `2001:db8::<n>` too). The agent that
//! answers is `a`, whether it runs anything or not.
//!
//! `map sip 0=a,b 64=b,a 80=b+c` has a map for `sip`: keys lie where their first eight bytes say (see [`FakeMap`]); those from
//! `64` on, which is `d`, are served by `b`, with `a` standing by; those from `80` on are shared by `b` and `c`.

use core::fmt::Debug;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;
use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_types::body::EndpointHealth;
use ringmesh_types::ids::{Epoch, Identity, MeshAddr, NodeId};
use ringmesh_types::name::{NodeName, ServiceName};
use ringmesh_types::owners::{KeyOwners, Sharing, Visit};
use ringmesh_types::service::{Endpoint, HealthState, Instance, Transport};
use ringmesh_types::snapshot::{Demotion, InstanceView, MemberState, MemberView, ServiceView, Snapshot};
use ringmesh_types::time::WallTime;

use crate::zone::ZoneConfig;

/// The zone `m.test`, with the service `sip` for SIP.
pub(crate) fn zone() -> ZoneConfig {
    ZoneConfig::new("m.test", 5, 15, name("sip")).expect("a valid zone")
}

/// Any kind of name that is valid.
pub(crate) fn name<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("a valid name")
}

/// Zone and region of a node.
fn place(node: &str) -> (&'static str, &'static str) {
    match node {
        "a" => ("fra", "eu"),
        "b" => ("ber", "eu"),
        _ => ("nyc", "us"),
    }
}

/// Nodes and what runs on them.
#[derive(Default)]
pub(crate) struct World {
    is_isolated: bool,
    members: BTreeMap<NodeName, Arc<MemberView>>,
    services: BTreeMap<ServiceName, Vec<InstanceView>>,
    maps: BTreeMap<ServiceName, Arc<dyn KeyOwners>>,
}

impl World {
    /// The world that `text` describes.
    pub(crate) fn read(text: &str) -> Self {
        let mut world = Self::default();
        world.member("a", MemberState::Alive, None);
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match part.strip_prefix("map ") {
                Some(map) => {
                    let (service, parts) = map.split_once(' ').unwrap_or((map, ""));
                    world.maps.insert(name(service), Arc::new(FakeMap::read(parts)));
                }
                None => world.instance(part),
            }
        }
        world
    }

    /// Whether the agent on `a` hears nobody, since 400 ms after 1970.
    pub(crate) fn isolated(self, is_isolated: bool) -> Self {
        Self { is_isolated, ..self }
    }

    /// The map of a service.
    pub(crate) fn map(&self, service: &str) -> Arc<dyn KeyOwners> {
        Arc::clone(&self.maps[service])
    }

    /// What the agent on `a` answers from.
    pub(crate) fn snapshot(self) -> Snapshot {
        let mut hosts: BTreeMap<IpAddr, Vec<NodeName>> = BTreeMap::new();
        for member in self.members.values() {
            for address in &member.addresses {
                hosts.entry(*address).or_default().push(member.name.clone());
            }
        }
        let services = self
            .services
            .into_iter()
            .map(|(name, instances)| (name.clone(), Arc::new(ServiceView { name, instances })))
            .collect();
        Snapshot {
            serial: 7,
            cluster: name("test"),
            local: Arc::clone(&self.members["a"]),
            members: self.members,
            services,
            hosts: Arc::new(hosts),
            maps: Arc::new(self.maps),
            isolated_since: self.is_isolated.then_some(WallTime::from_unix_millis(400)),
            made: WallTime::from_unix_millis(1_000),
        }
    }

    fn member(&mut self, node: &str, state: MemberState, demoted: Option<Demotion>) -> Arc<MemberView> {
        let (zone, region) = place(node);
        let key: NodeName = name(node);
        let [v4, v6] = addresses(node);
        let identity = Identity {
            id: id(node),
            epoch: Epoch(1),
            revival: 0,
            addr: MeshAddr::from(SocketAddr::new(v4, 7300)),
        };
        let member = Arc::new(MemberView {
            demoted,
            name: key.clone(),
            identity,
            zone: name(zone),
            region: name(region),
            addresses: vec![v4, v6],
            agent_version: "0.1.0".to_owned(),
            state,
            since: WallTime::from_unix_millis(500),
            cause: "test".into(),
            incarnation: 0,
            clash: None,
            is_self: node == "a",
        });
        self.members.insert(key, Arc::clone(&member));
        member
    }

    fn instance(&mut self, text: &str) {
        let (node, words) = text.split_once(' ').expect("a node and words");
        let words: Vec<&str> = words.split(' ').collect();
        let has = |word: &str| words.contains(&word);
        let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
        let member = self.member(node, member_state(&words), demotion(&words));
        let endpoints = endpoints(node, &words);
        let health = EndpointHealth { state: health_state(&words), since: WallTime::from_unix_millis(900) };
        let service: ServiceName = name(value("service=").unwrap_or("sip"));
        let view = InstanceView {
            health: if has("short") { Vec::new() } else { vec![health; endpoints.len()] },
            instance: Arc::new(Instance {
                id: name(&format!("{service}-1")),
                service: service.clone(),
                endpoints,
                weight: value("weight=").map_or(100, name),
                tags: Vec::new(),
                is_draining: has("draining"),
            }),
            member,
            is_draining: has("draining"),
        };
        self.services.entry(service).or_default().push(view);
    }
}

/// A map whose keys lie where their first eight bytes say, as a number.
#[derive(Debug)]
pub(crate) struct FakeMap {
    /// Where each part begins, and who serves it.
    parts: BTreeMap<u64, (Vec<NodeId>, Sharing)>,
    /// Bytes of a key at most.
    key_bytes_max: usize,
}

impl Default for FakeMap {
    fn default() -> Self {
        Self { parts: BTreeMap::new(), key_bytes_max: 1_024 }
    }
}

impl FakeMap {
    /// One that refuses longer keys.
    pub(crate) fn refusing_above(key_bytes_max: usize) -> Self {
        Self { key_bytes_max, ..Self::default() }
    }

    /// Reads `<first hexadecimal digits>=<node>,<node>...`, with `+` between those that share a part.
    fn read(text: &str) -> Self {
        let part = |part: &str| {
            let (start, nodes) = part.split_once('=').expect("<start>=<nodes>");
            let start = u64::from_str_radix(&format!("{start:0<16}"), 16).expect("hexadecimal digits");
            let sharing = if nodes.contains('+') { Sharing::Equal } else { Sharing::InOrder };
            (start, (nodes.split([',', '+']).map(id).collect(), sharing))
        };
        Self { parts: text.split_whitespace().map(part).collect(), ..Self::default() }
    }
}

impl KeyOwners for FakeMap {
    fn position(&self, key: &[u8]) -> Result<u64, String> {
        if key.is_empty() || key.len() > self.key_bytes_max {
            return Err(format!("the key has {} bytes", key.len()));
        }
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(key).for_each(|(byte, of_key)| *byte = *of_key);
        Ok(u64::from_be_bytes(bytes))
    }

    fn visit(&self, at: u64, each: &mut dyn FnMut(NodeId) -> Visit) -> Sharing {
        let Some((_, (nodes, sharing))) = self.parts.range(..=at).next_back() else {
            return Sharing::InOrder;
        };
        let _stopped = nodes.iter().find(|node| each(**node) == Visit::Enough);
        *sharing
    }

    fn last_resort(&self, _at: u64, is_live: &dyn Fn(NodeId) -> bool) -> Option<NodeId> {
        self.parts.values().flat_map(|(nodes, _)| nodes).copied().find(|node| is_live(*node))
    }
}

fn id(node: &str) -> NodeId {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(node.bytes()).for_each(|(byte, letter)| *byte = letter);
    NodeId::from_bytes(bytes)
}

fn addresses(node: &str) -> [IpAddr; 2] {
    let number = node.bytes().next_back().expect("a node has a name") - b'a' + 1;
    let [v4, v6] = [format!("10.0.0.{number}"), format!("2001:db8::{number:x}")];
    [name(&v4), name(&v6)]
}

fn member_state(words: &[&str]) -> MemberState {
    let accusers: Option<u16> = words.iter().find_map(|word| word.strip_prefix("suspect=")).map(name);
    let named = [("holding", MemberState::Holding), ("down", MemberState::Down), ("left", MemberState::Left)];
    match accusers {
        Some(accusers) => MemberState::Suspect { accusers },
        None => named
            .into_iter()
            .find(|(word, _)| words.contains(word))
            .map_or(MemberState::Alive, |(_, state)| state),
    }
}

fn demotion(words: &[&str]) -> Option<Demotion> {
    let named = [Demotion::Flapping, Demotion::Unreliable, Demotion::Spared];
    named.into_iter().find(|demotion| words.contains(&demotion.name()))
}

fn health_state(words: &[&str]) -> HealthState {
    words.iter().find_map(|word| word.parse().ok()).expect("a health state is given")
}

fn endpoints(node: &str, words: &[&str]) -> Vec<Endpoint> {
    let mut transports: Vec<Transport> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if transports.is_empty() {
        transports.push(Transport::Udp);
    }
    let protocol = words.iter().find_map(|word| word.strip_prefix("protocol=")).unwrap_or("sip");
    let families = if words.contains(&"v6") { 2 } else { 1 };
    let mut endpoints = Vec::new();
    for transport in transports {
        for address in addresses(node).into_iter().take(families) {
            let port = if transport == Transport::Tls { 5061 } else { 5060 };
            endpoints.push(Endpoint { protocol: name(protocol), transport, address, port });
        }
    }
    endpoints
}
