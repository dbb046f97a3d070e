//! An agent's DNS alone, for measuring: the shipped path, limits and counters with it, over a generated catalogue.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use ringmesh_dns::hot;
use ringmesh_dns::zone::ZoneConfig;
use ringmesh_types::body::EndpointHealth;
use ringmesh_types::ids::{Epoch, Identity, MeshAddr, NodeId};
use ringmesh_types::name::{NameError, NodeName, ServiceName};
use ringmesh_types::service::{Endpoint, HealthState, Instance, Transport};
use ringmesh_types::snapshot::{InstanceView, MemberState, MemberView, ServiceView, Snapshot};
use ringmesh_types::time::WallTime;
use tokio_util::sync::CancellationToken;

use crate::config::Profiles;
use crate::dns_guard::Guard;
use crate::dns_server::{self, DnsHandler};
use crate::dns_zone::{self, Bell};
use crate::inherited::Inherited;

/// The domain that is answered for.
pub const DOMAIN: &str = "voip.mesh.test";
/// Services at most.
pub const SERVICES_MAX: usize = 10_000;
/// Targets of each service at most.
pub const TARGETS_MAX: usize = 200;

/// Changes of health that are measured before anything is served.
const CHANGES_MEASURED: usize = 101;
/// As the agent: changes wait for each other so long.
const PUBLISHED_EVERY: Duration = Duration::from_millis(5);

/// What to serve, and how.
#[derive(Debug, Clone, Copy)]
pub struct BenchZone {
    /// Services: `svc001` and so on, each with SIP over UDP.
    pub services: usize,
    /// Targets of each. The last one is in another zone, with twice the weight.
    pub targets: usize,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How many threads answer over UDP.
    pub threads: usize,
    /// Changes of health a second.
    pub changes: u32,
}

/// A bench zone that is served until it is shut down.
pub struct Served {
    /// Where.
    pub addr: SocketAddr,
    /// Bytes of its encoded records.
    pub zone_bytes: usize,
    /// How long it takes to encode one changed service: the median of some.
    pub change_takes: Duration,
    /// Ends when it was shut down.
    pub ended: tokio::task::JoinHandle<()>,
}

/// Serves until `shutdown`.
///
/// # Errors
/// If the address cannot be bound, or the system gives no threads.
pub fn serve(bench: &BenchZone, shutdown: CancellationToken) -> io::Result<Served> {
    let service: ServiceName = "svc001".parse().map_err(io::Error::other)?;
    let config = Arc::new(ZoneConfig::new(DOMAIN, 60, 60, service).map_err(io::Error::other)?);
    let mut snapshot = snapshot(bench).map_err(io::Error::other)?;
    let mut zone = hot::Zone::new(config.clone(), &snapshot);
    let zone_bytes = zone.heap_bytes();
    let mut took: Vec<Duration> = (0..CHANGES_MEASURED)
        .map(|number| {
            snapshot = changed(&snapshot, number);
            let begun = Instant::now();
            zone = zone.follow(&snapshot);
            begun.elapsed()
        })
        .collect();
    took.sort();
    let (snapshot, zone) = (Arc::new(ArcSwap::from_pointee(snapshot)), Arc::new(ArcSwap::from_pointee(zone)));
    let (bell, _) = dns_zone::start(snapshot.clone(), zone.clone())?;
    if bench.changes > 0 {
        tokio::spawn(keep_changing(bench.changes, snapshot.clone(), bell, shutdown.clone()));
    }
    let is_allowed = Arc::new(|from: IpAddr| from.is_loopback());
    let guard = Guard::new(is_allowed.clone(), None);
    let profiles = Profiles::default();
    let handler = DnsHandler::new(snapshot, zone, config, is_allowed, guard, profiles, rand::random());
    let sockets = dns_server::bind(bench.listen.into(), bench.threads, &mut Inherited::default())
        .map_err(io::Error::other)?;
    let addr = sockets.addr;
    let ended =
        tokio::spawn(dns_server::serve(sockets, &handler, crate::dns_tcp::CONNECTIONS_MAX, shutdown)?);
    Ok(Served { addr, zone_bytes, change_takes: took[took.len() / 2], ended })
}

/// Changes health so often a second, until `shutdown`, and publishes it as the agent does.
async fn keep_changing(
    changes: u32,
    snapshot: Arc<ArcSwap<Snapshot>>,
    bell: Bell,
    shutdown: CancellationToken,
) {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(PUBLISHED_EVERY);
    let mut done = 0;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let due = (begun.elapsed().as_secs_f64() * f64::from(changes)) as usize;
        if due > done {
            let latest = snapshot.load_full();
            let latest = (done..due).fold(latest, |snapshot, number| Arc::new(changed(&snapshot, number)));
            snapshot.store(latest);
            bell.ring();
            done = due;
        }
    }
}

/// The same, but that the first target of one service, a different one for each `number`, is well or overloaded instead.
fn changed(snapshot: &Snapshot, number: usize) -> Snapshot {
    let mut changed = snapshot.clone();
    let place = number % changed.services.len();
    if let Some(service) = changed.services.values_mut().nth(place) {
        let service = Arc::make_mut(service);
        let health = service.instances.first_mut().and_then(|instance| instance.health.first_mut());
        if let Some(health) = health {
            health.state = match health.state {
                HealthState::Passing => HealthState::Greylisted,
                HealthState::Greylisted | HealthState::Unknown | HealthState::Failing => HealthState::Passing,
            };
        }
    }
    changed
}

/// The catalogue that is served.
pub(crate) fn snapshot(bench: &BenchZone) -> Result<Snapshot, NameError> {
    let local = Arc::new(member("local", "a", vec![IpAddr::from([127, 0, 0, 1])])?);
    let mut members = BTreeMap::from([(local.name.clone(), Arc::clone(&local))]);
    let mut services = BTreeMap::new();
    let mut hosts: BTreeMap<IpAddr, Vec<NodeName>> = BTreeMap::new();
    for number in 1..=bench.services {
        let name: ServiceName = format!("svc{number:03}").parse()?;
        let mut instances = Vec::new();
        for target in 1..=bench.targets {
            let is_last = target == bench.targets && target > 1;
            let addresses = addresses(number, target);
            let zone = if is_last { "b" } else { "a" };
            let member = Arc::new(member(&format!("n{number}-{target}"), zone, addresses.to_vec())?);
            for address in addresses {
                hosts.entry(address).or_default().push(member.name.clone());
            }
            members.insert(member.name.clone(), Arc::clone(&member));
            let endpoint = Endpoint {
                protocol: "sip".parse()?,
                transport: Transport::Udp,
                address: addresses[0],
                port: 5_060,
            };
            let instance = Instance {
                id: format!("{name}-{target}").parse()?,
                service: name.clone(),
                endpoints: vec![endpoint],
                weight: if is_last { 100 } else { 50 },
                tags: Vec::new(),
                is_draining: false,
            };
            let passing = EndpointHealth { state: HealthState::Passing, since: WallTime::default() };
            instances.push(InstanceView {
                instance: Arc::new(instance),
                member,
                health: vec![passing],
                is_draining: false,
            });
        }
        services.insert(name.clone(), Arc::new(ServiceView { name, instances }));
    }
    Ok(Snapshot {
        serial: 1,
        cluster: "bench".parse()?,
        local,
        members,
        services,
        hosts: Arc::new(hosts),
        maps: Arc::default(),
        isolated_since: None,
        made: WallTime::default(),
    })
}

/// The addresses of a target, in both families.
fn addresses(service: usize, target: usize) -> [IpAddr; 2] {
    let [.., one, two, three] = u32::try_from(service * 256 + target).unwrap_or(u32::MAX).to_be_bytes();
    let words = [0xfd00, 0x10, u16::from_be_bytes([one, two]), 0, 0, 0, 0, u16::from(three)];
    [Ipv4Addr::new(10, one, two, three).into(), Ipv6Addr::from(words).into()]
}

fn member(name: &str, zone: &str, addresses: Vec<IpAddr>) -> Result<MemberView, NameError> {
    let name: NodeName = name.parse()?;
    let cluster = "bench".parse()?;
    Ok(MemberView {
        demoted: None,
        identity: Identity {
            id: NodeId::derive(&cluster, &name),
            epoch: Epoch(1),
            revival: 0,
            addr: MeshAddr::from(SocketAddr::new(addresses[0], 7_300)),
        },
        is_self: name.as_str() == "local",
        name,
        zone: zone.parse()?,
        region: "r".parse()?,
        addresses,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        state: MemberState::Alive,
        since: WallTime::default(),
        cause: "it is generated".into(),
        incarnation: 0,
        clash: None,
    })
}
