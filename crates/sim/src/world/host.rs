//! One host: a node, its disk, its clock, and the services beside it.

use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroUsize;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_gossip::admission::Gate;
use ringmesh_gossip::membership::ProbeConfig;
use ringmesh_health::monitor::EndpointKey;
use ringmesh_node::io::{CommandError, Said, Ticket};
use ringmesh_node::registration::SavedState;
use ringmesh_node::{Node, NodeConfig};
use ringmesh_partition::map::Map;
use ringmesh_types::body::EndpointHealth;
use ringmesh_types::ids::{Epoch, NodeId};
use ringmesh_types::name::ServiceName;
use ringmesh_types::stored::Stored;
use ringmesh_types::time::Instant;

use super::{Due, Traffic, WorldConfig};
use crate::seal::{SimChecker, key_of};

/// What a host keeps while it does not run.
#[derive(Debug, Default, Clone)]
pub(super) struct Disk {
    pub(super) epoch: Epoch,
    pub(super) registrations: SavedState,
    pub(super) health: Vec<(EndpointKey, EndpointHealth)>,
    pub(super) view: Vec<Arc<Stored>>,
    pub(super) down: Vec<NodeId>,
    pub(super) peers: Vec<SocketAddr>,
    pub(super) maps: Vec<(ServiceName, Arc<Map>)>,
}

/// What a host has only while it runs.
pub(super) struct Running {
    pub(super) node: Node,
    pub(super) gate: Gate<SimChecker>,
    pub(super) asked_by: BTreeMap<Ticket, Asker>,
    pub(super) wake: Option<Instant>,
    /// Until when it is frozen, and what waits for that.
    pub(super) frozen: Option<(Instant, Vec<Due>)>,
}

/// Who asked: a reply finds only the life that did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub(super) host: usize,
    pub(super) life: u32,
    pub(super) ticket: Ticket,
}

/// Inbox and outbox are held for `hold`, then free for `free`, again and again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slow {
    pub(super) since: Instant,
    pub(super) hold: Duration,
    pub(super) free: Duration,
}

impl Slow {
    /// How long a message of now is held.
    pub(super) fn held(&self, now: Instant) -> Duration {
        let cycle = (self.hold + self.free).as_nanos().max(1);
        let into = now.since(self.since).as_nanos() % cycle;
        let left = self.hold.as_nanos().saturating_sub(into);
        Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
    }
}

/// How something that listens on a host answers probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// After this time.
    Answers(Duration),
    /// Never.
    Silent,
}

/// How long a well endpoint takes to answer.
pub(super) const ANSWERS_AFTER: Duration = Duration::from_millis(1);

pub(super) struct Host {
    pub(super) id: NodeId,
    pub(super) addr: SocketAddr,
    pub(super) config: NodeConfig,
    pub(super) disk: Disk,
    /// Whether a newer version of the agent is installed: the next life speaks it.
    pub(super) is_newer: bool,
    pub(super) is_disk_full: bool,
    pub(super) clock_offset_ms: i64,
    pub(super) life: u32,
    pub(super) running: Option<Box<Running>>,
    pub(super) slow: Option<Slow>,
    pub(super) endpoints: BTreeMap<SocketAddr, Endpoint>,
    pub(super) answers: Vec<Result<Said, CommandError>>,
    pub(super) sent: Traffic,
    pub(super) is_changed: bool,
}

/// The mesh address of a host.
pub(super) fn address(host: usize) -> SocketAddr {
    let [high, low] = u16::try_from(host + 1).unwrap_or(u16::MAX).to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 7300))
}

/// The address of a host.
pub fn address_of(host: usize) -> IpAddr {
    address(host).ip()
}

/// The host that has an address, if there are so many.
pub fn host_of(addr: IpAddr) -> Option<usize> {
    match addr {
        IpAddr::V4(ip) => {
            let [_, _, high, low] = ip.octets();
            usize::from(u16::from_be_bytes([high, low])).checked_sub(1)
        }
        IpAddr::V6(_) => None,
    }
}

impl Host {
    pub(super) fn new(host: usize, config: &WorldConfig) -> Self {
        let cluster = "sim".parse().expect("a valid cluster name");
        let name = format!("node-{host}").parse().expect("a valid node name");
        let zone = match config.zone_names.get(host % config.zones.max(1)) {
            Some(zone) => zone.clone(),
            None => format!("zone-{}", host % config.zones.max(1)),
        };
        let zone = zone.parse().expect("a valid zone name");
        let id = NodeId::derive(&cluster, &name);
        let addr = address(host);
        let is_allowed: Arc<dyn Fn(IpAddr) -> bool + Send + Sync> = Arc::new(|_| true);
        Self {
            id,
            addr,
            config: NodeConfig {
                cluster,
                name,
                zone,
                region: "region".parse().expect("a valid region name"),
                mesh: addr,
                addresses: vec![addr.ip()],
                agent_version: "sim".to_owned(),
                seeds: (0..config.seeds.min(config.hosts)).map(address).collect(),
                declared: Vec::new(),
                maps: config.maps.clone(),
                probe: ProbeConfig { indirect: NonZeroUsize::MIN.saturating_add(2), ..config.probe.clone() },
                suspicion: config.suspicion.clone(),
                parts: config.parts,
                hold: config.hold,
                is_allowed,
                trust_body: if config.is_bare { Vec::new() } else { key_of(id).to_vec() },
                is_terse: config.is_bare,
            },
            disk: Disk::default(),
            is_newer: false,
            is_disk_full: false,
            clock_offset_ms: 0,
            life: 0,
            running: None,
            slow: None,
            endpoints: BTreeMap::new(),
            answers: Vec::new(),
            sent: Traffic::default(),
            is_changed: false,
        }
    }

    /// How long a message that comes or goes now is held.
    pub(super) fn held(&self, now: Instant) -> Duration {
        self.slow.map_or(Duration::ZERO, |slow| slow.held(now))
    }
}
