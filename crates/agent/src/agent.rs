//! Puts an agent together: reads what it must not forget, binds its ports, starts its tasks, and stops in good order.

use core::net::{IpAddr, SocketAddr};
use core::num::{NonZeroU32, NonZeroUsize};
use core::sync::atomic::AtomicU64;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ringmesh_dns::hot;
use ringmesh_dns::rate::Limits;
use ringmesh_dns::zone::ZoneConfig;
use ringmesh_gossip::admission::Gate;
use ringmesh_gossip::membership::ProbeConfig;
use ringmesh_gossip::parts::Parts;
use ringmesh_gossip::suspicion::SuspicionConfig;
use ringmesh_node::io::{Input, Persist, Source};
use ringmesh_node::registration::RawRegistration;
use ringmesh_node::{Node, NodeConfig, Restored};
use ringmesh_types::ids::Epoch;
use ringmesh_types::limits::{BATCH_STATEMENTS_MAX, HTTP_BODY_BYTES_MAX};
use ringmesh_types::sealed::Statement;
use ringmesh_types::time::Instant;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, wall_now};
use crate::config::{Cidr, Config, DeclaredService, Dns, Seed};
use crate::descriptors;
use crate::disk::{self, Remembered, Store, StoreError};
use crate::dns_guard::Guard;
use crate::dns_server::{self, DnsHandler};
use crate::dns_zone;
use crate::doctor::{self, Answerer, Caller, Doctor};
use crate::driver::{self, Calls, Driver, Published, all_stats};
use crate::events::Recorder;
use crate::followers::Followers;
use crate::gate::{self, GateStats};
use crate::http::{self, Api};
use crate::inherited::Inherited;
use crate::listen::Listen;
use crate::mesh::{Doors, Mesh, MeshError};
use crate::notify;
use crate::pki::{Authority, Credentials, PkiError, Validity};
use crate::seal::{ChainChecker, DocumentSealer, TrustError, trust_body};

/// Why an agent could not start. Every message names the thing, the cause and the cure.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder for what it must not forget.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificates.
    #[error("tls: {0}")]
    Pki(#[from] PkiError),
    /// What vouches for the document key.
    #[error("tls: {0}")]
    Trust(#[from] TrustError),
    /// The mesh port.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// A port for DNS or HTTP.
    #[error("{0}")]
    Bind(String),
    /// A setting that only shows itself as wrong now.
    #[error("{0}")]
    Setting(String),
    /// The operating system.
    #[error("the operating system: {0}")]
    System(#[from] io::Error),
}

/// Starts the agent that `config` describes and runs it until `stop` says so or it leaves. What comes by `reloads` is
/// taken over as far as it can be while the agent runs. `lines_lost` says how many lines of the log nobody took.
///
/// # Errors
/// If it could not start; what was on disk before is untouched.
pub async fn run(
    config: Config,
    inherited: Inherited,
    stop: watch::Receiver<bool>,
    reloads: mpsc::Receiver<Config>,
    lines_lost: impl Fn() -> u64 + Send + Sync + 'static,
) -> Result<(), StartError> {
    let clock = Clock::start();
    let shares = descriptors::shares(descriptors::raise(), config.dns.listen.len());
    let recorder = Arc::new(Recorder::default());
    let followers = Arc::new(Followers::new(wall_now()));
    let store = Store::open(&config.node.data_dir)?;
    let credentials = credentials(&config, &store)?;
    if let Some(why) = doubt(&credentials.validity, wall_now().as_unix_millis() / 1_000) {
        tracing::warn!("{why}");
    }
    let secret = store.secret(rand::random())?;
    let mut remembered = store.remember(|why| tracing::warn!(why, "a file of an earlier life"))?;
    let epoch = remembered.epoch.next().max(Epoch(wall_now().as_unix_millis()));
    if let Err(error) = store.write(&Persist::Epoch(epoch)) {
        tracing::warn!(
            %error,
            "node.data_dir: nothing can be kept there, so the agent goes on without: free space there"
        );
    }

    let dns_sockets = bind_dns(&config, inherited)?;
    let http_listener =
        http::bind(config.http.listen).await.map_err(|error| StartError::Bind(error.to_string()))?;
    let (urgent_door, urgent) = mpsc::channel(4_096);
    let (bulk_door, bulk) = mpsc::channel(256);
    let (gate_door, batches) = mpsc::channel(256);
    let bulk_reload = bulk_door.clone();
    let (examinations, examinees) = mpsc::channel(64);
    let doors = Doors { urgent: urgent_door.clone(), bulk: bulk_door.clone(), gate: gate_door, examinations };
    let mesh = Mesh::start(config.mesh.listen, &credentials, &secret, doors, recorder.clone())?;

    let sealer = DocumentSealer::from_secret(&secret);
    let body = trust_body(&credentials, &sealer)?;
    let node_config = node_config(&config, body, resolve(&config.mesh.seeds).await)?;
    let (view, down) = (core::mem::take(&mut remembered.view), core::mem::take(&mut remembered.down));
    let mut node = Node::new(
        clock.now(),
        wall_now(),
        epoch,
        node_config,
        restored(remembered),
        Box::new(sealer),
        rand::random(),
    );
    let mut gate = Gate::new(ChainChecker::new(credentials.cluster.clone(), credentials.roots.clone()));
    restore_view(&mut node, &mut gate, clock, view);
    node.handle(clock.now(), Input::Remembered { down });

    let zone_config = Arc::new(zone_config(&config)?);
    let snapshot = node.snapshot(clock.now());
    let zone = Arc::new(ArcSwap::from_pointee(hot::Zone::new(zone_config.clone(), &snapshot)));
    let snapshot = Arc::new(ArcSwap::new(snapshot));
    let published = Arc::new(Published {
        snapshot: snapshot.clone(),
        zone: zone.clone(),
        maps: ArcSwap::new(node.maps_view(clock.now())),
        stats: ArcSwap::from_pointee(all_stats(&node)),
        agreed_ms: core::array::from_fn(|_| AtomicU64::new(0)),
        root: AtomicU64::new(node.root_digest()),
        documents: AtomicU64::new(node.documents() as u64),
        turns: AtomicU64::new(0),
        turn_us_max: AtomicU64::new(0),
    });
    let (zone_bell, shown) = dns_zone::start(snapshot.clone(), zone.clone())?;
    let gate_stats = Arc::new(GateStats::default());
    let gate_thread = {
        let stats = gate_stats.clone();
        move || gate::run(gate, clock, batches, &bulk_door, &stats)
    };
    std::thread::Builder::new().name("gate".to_owned()).spawn(gate_thread)?;
    let (disk_door, wishes) = mpsc::channel(1_024);
    let disk_thread = {
        let urgent = urgent_door.clone();
        move || disk::run(&store, wishes, &urgent)
    };
    let disk_thread = std::thread::Builder::new().name("disk".to_owned()).spawn(disk_thread)?;

    let shutdown = CancellationToken::new();
    let guard = dns_guard(&config.dns);
    let allowed = allows(&config.dns.allow);
    let profiles = config.dns.profiles.clone();
    let dns = DnsHandler::new(snapshot, zone, zone_config.clone(), allowed, guard, profiles, rand::random());
    let (guarded, until) = (dns.clone(), shutdown.clone());
    tokio::spawn(async move { guarded.guard().keep_renewing(until).await });
    tokio::spawn(dns_server::tell_of_limits(dns.clone(), shutdown.clone()));
    let dns_listen = config.dns.listen.clone();
    let mut dns_tasks = Vec::new();
    for sockets in dns_sockets {
        dns_tasks.push(tokio::spawn(dns_server::serve(sockets, &dns, shares.dns, shutdown.clone())?));
    }
    let caller = Caller::new(&mesh, &credentials).map_err(MeshError::Config)?;
    let examined = published.snapshot.clone();
    tokio::spawn(Answerer::new(caller.clone(), examined.clone()).run(examinees));
    let doctor = Doctor::new(caller, mesh.clone(), examined, config.mesh.seeds.clone());
    let (handle, door) = driver::calls(shown.clone());
    let api = Arc::new(Api {
        handle,
        shown,
        watchers: Arc::new(Semaphore::new(http::WATCHERS_MAX)),
        directory: ArcSwap::from_pointee(http::Directory::new(
            published.snapshot.load_full(),
            published.maps.load_full(),
            None,
        )),
        published: published.clone(),
        recorder: recorder.clone(),
        followers: followers.clone(),
        zone: zone_config,
        mesh: mesh.clone(),
        gate: gate_stats,
        doctor,
        dns,
        dns_listen,
        domain: config.dns.domain.clone(),
        started: std::time::Instant::now(),
        is_allowed: allows(&config.http.allow),
        requests: AtomicU64::new(0),
        lines_lost: Box::new(lines_lost),
    });
    let http_task = tokio::spawn(http::serve(http_listener, api, shares.http, shutdown.clone()));

    notify::ready(&published);
    tracing::info!(
        node = %config.node.name,
        cluster = %config.node.cluster,
        epoch = %epoch,
        mesh = %config.mesh.listen,
        http = %config.http.listen,
        dns = ?config.dns.listen,
        "agent started"
    );
    tokio::spawn(reload(config.clone(), reloads, bulk_reload));
    let driver = Driver {
        node,
        clock,
        mesh,
        disk: disk_door,
        urgent,
        urgent_door,
        bulk,
        door,
        calls: Calls::default(),
        stop,
        zone_bell,
        published,
        recorder,
        followers,
        probes: driver::probe_permits(),
        is_view_dirty: true,
        next_publish: Instant::START,
        next_stats: Instant::START,
        is_stopping: false,
    };
    driver.run().await;
    notify::stopping();
    shutdown.cancel();
    let _ = tokio::time::timeout(Duration::from_millis(500), async {
        for task in dns_tasks {
            let _ = task.await;
        }
        let _ = http_task.await;
    })
    .await;
    let _ = tokio::task::spawn_blocking(move || disk_thread.join()).await;
    tracing::info!(node = %config.node.name, "agent stopped");
    Ok(())
}

/// The certificates that the configuration names, or ones of a CA that this agent makes for itself alone.
fn credentials(config: &Config, store: &Store) -> Result<Credentials, StartError> {
    let credentials = match &config.tls {
        Some(tls) => Credentials::load(&tls.certificate, &tls.key, &tls.ca)?,
        None => dev_credentials(config, store)?,
    };
    check_owner(config, &credentials).map_err(StartError::Setting)?;
    Ok(credentials)
}

/// Whether the certificate is this node's.
fn check_owner(config: &Config, credentials: &Credentials) -> Result<(), String> {
    if credentials.name == config.node.name && credentials.cluster == config.node.cluster {
        return Ok(());
    }
    Err(format!(
        "tls.certificate: it is for node {} of cluster {}, the configuration says node {} of cluster {}",
        credentials.name, credentials.cluster, config.node.name, config.node.cluster
    ))
}

/// What peers will not like about a certificate that an agent starts with all the same.
fn doubt(validity: &Validity, now_unix_s: u64) -> Option<String> {
    let about = |seconds: u64| match seconds {
        172_800.. => format!("{} days", seconds / 86_400),
        7_200.. => format!("{} hours", seconds / 3_600),
        _ => format!("{} minutes", seconds / 60 + 1),
    };
    if now_unix_s < validity.not_before_unix_s {
        let wait = about(validity.not_before_unix_s - now_unix_s);
        return Some(format!(
            "tls.certificate: it is valid in {wait} only, by this clock: until then peers refuse it"
        ));
    }
    if now_unix_s > validity.not_after_unix_s {
        let late = about(now_unix_s - validity.not_after_unix_s);
        return Some(format!("tls.certificate: it expired {late} ago: peers refuse it, so renew it"));
    }
    None
}

/// Certificates of a development CA in the data folder, made at the first start.
fn dev_credentials(config: &Config, store: &Store) -> Result<Credentials, StartError> {
    let path = |name: &str| config.node.data_dir.join(name);
    let now = wall_now().as_unix_millis() / 1_000;
    let authority =
        match (std::fs::read_to_string(path("dev-ca.pem")), std::fs::read_to_string(path("dev-ca.key"))) {
            (Ok(certificate), Ok(key)) => Authority::from_pem(&certificate, &key)?,
            _ => {
                let made = Authority::generate(&config.node.cluster, now)?;
                for (name, text) in [("dev-ca.pem", made.cert_pem()), ("dev-ca.key", &made.key_pem())] {
                    store.keep(name, text.as_bytes()).map_err(|error| {
                        StartError::Setting(format!(
                            "node.data_dir: {} cannot be written: {error}. Free space there, or change it",
                            path(name).display()
                        ))
                    })?;
                }
                made
            }
        };
    let validity = Validity { not_before_unix_s: now - 3_600, not_after_unix_s: now + 90 * 86_400 };
    let issued = authority.issue(&config.node.cluster, &config.node.name, validity)?;
    Ok(Credentials::from_pem(&issued.cert_pem, &issued.key_pem, authority.cert_pem())?)
}

/// Takes over the services of each configuration that comes, and says what else would need a restart.
async fn reload(running: Config, mut reloads: mpsc::Receiver<Config>, door: mpsc::Sender<Input>) {
    while let Some(config) = reloads.recv().await {
        let same = |is_same: bool, section: &'static str| if is_same { None } else { Some(section) };
        let stays: Vec<&str> = [
            same(config.node == running.node, "[node]"),
            same(config.mesh == running.mesh, "[mesh]"),
            same(config.tls == running.tls, "[tls]"),
            same(config.dns == running.dns, "[dns]"),
            same(config.http == running.http, "[http]"),
            same(config.log == running.log, "[log]"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !stays.is_empty() {
            tracing::warn!(sections = stays.join(" "), "changes here count after a restart only");
        }
        match config.services.iter().map(declared).collect::<Result<Vec<_>, _>>() {
            Ok(declared) => {
                let _ = door.send(Input::Reload(declared, config.maps)).await;
            }
            Err(error) => tracing::warn!(%error, "the configuration is not taken over"),
        }
    }
}

/// Whether an agent could start with this: the certificate is there and this node's, and no port is wanted twice. Gives back
/// what keeps no agent from starting, and is wrong all the same.
///
/// # Errors
/// Every problem, with its setting.
pub fn preflight(config: &Config) -> Result<Vec<String>, Vec<String>> {
    let (mut problems, mut doubts) = (Vec::new(), Vec::new());
    if let Some(tls) = &config.tls {
        match Credentials::load(&tls.certificate, &tls.key, &tls.ca) {
            Ok(credentials) => {
                problems.extend(check_owner(config, &credentials).err());
                doubts.extend(doubt(&credentials.validity, wall_now().as_unix_millis() / 1_000));
            }
            Err(error) => problems.push(format!("tls: {error}")),
        }
    }
    doubts.extend(config.dns.profiles.never_hold().map(|(rule, earlier)| {
        format!("dns.profiles: {rule} never holds, because {earlier} stands before it: put it first, or leave it out")
    }));
    let mut ports = vec![
        ("http.listen", "tcp", Listen::from(config.http.listen)),
        ("mesh.listen", "udp", Listen::from(config.mesh.listen)),
    ];
    for listen in Listen::all(&config.dns.listen) {
        ports.extend(["tcp", "udp"].map(|transport| ("dns.listen", transport, listen)));
    }
    for (index, (setting, transport, listen)) in ports.iter().enumerate() {
        let earlier = ports[..index]
            .iter()
            .find(|(_, other, there)| other == transport && there.is_in_the_way_of(*listen));
        if let Some((other, _, there)) = earlier {
            let (addr, taken) = (listen.addr, there.addr);
            problems.push(format!("{setting}: {addr} over {transport} is taken by {other}, {taken}"));
        }
    }
    if problems.is_empty() { Ok(doubts) } else { Err(problems) }
}

fn bind_dns(config: &Config, mut inherited: Inherited) -> Result<Vec<dns_server::DnsSockets>, StartError> {
    let mut sockets = Vec::new();
    for listen in Listen::all(&config.dns.listen) {
        let bound = dns_server::bind(listen, dns_server::workers(), &mut inherited)
            .map_err(|error| StartError::Bind(error.to_string()))?;
        sockets.push(bound);
    }
    for socket in inherited.left() {
        tracing::warn!(
            %socket,
            "the service manager gave a socket that nobody asks for: add its address to dns.listen, or take it out of the socket unit"
        );
    }
    Ok(sockets)
}

fn zone_config(config: &Config) -> Result<ZoneConfig, StartError> {
    let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let dns = &config.dns;
    ZoneConfig::new(&dns.domain, seconds(dns.ttl), seconds(dns.negative_ttl), dns.default_sip_service.clone())
        .map_err(|why| StartError::Setting(format!("dns.domain: {why}")))
}

fn dns_guard(dns: &Dns) -> Guard {
    let limits = NonZeroU32::new(dns.rate_limit).zip(NonZeroU32::new(dns.rate_burst));
    Guard::new(allows(&dns.trusted), limits.map(|(rate, burst)| Limits { rate, burst }))
}

fn allows(cidrs: &[Cidr]) -> Arc<dyn Fn(IpAddr) -> bool + Send + Sync> {
    let cidrs = cidrs.to_vec();
    Arc::new(move |address| cidrs.iter().any(|cidr| cidr.contains(address)))
}

fn node_config(
    config: &Config,
    trust_body: Vec<u8>,
    seeds: Vec<SocketAddr>,
) -> Result<NodeConfig, StartError> {
    Ok(NodeConfig {
        cluster: config.node.cluster.clone(),
        name: config.node.name.clone(),
        zone: config.node.zone.clone(),
        region: config.node.region.clone(),
        mesh: config.mesh.advertise,
        addresses: config.node.addresses.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        seeds,
        declared: config.services.iter().map(declared).collect::<Result<_, _>>()?,
        maps: config.maps.clone(),
        probe: ProbeConfig {
            period: config.mesh.probe_interval,
            timeout: config.mesh.probe_timeout,
            indirect: NonZeroUsize::MIN.saturating_add(2),
        },
        parts: Parts::ALL,
        suspicion: SuspicionConfig { min: config.mesh.suspicion_min, max: config.mesh.suspicion_max },
        hold: config.mesh.hold,
        is_allowed: allows(&config.mesh.advertise_allowed),
        trust_body,
        is_terse: false,
    })
}

fn declared(service: &DeclaredService) -> Result<RawRegistration, StartError> {
    let size = service.body.to_string().len();
    if size > HTTP_BODY_BYTES_MAX {
        return Err(StartError::Setting(format!("line {}: the service is too large", service.line)));
    }
    serde_json::from_value(service.body.clone())
        .map_err(|error| StartError::Setting(format!("line {}: service: {error}", service.line)))
}

/// The addresses of the seeds. A name that does not resolve now is left out, loudly.
async fn resolve(seeds: &[Seed]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for seed in seeds {
        match doctor::resolve(seed).await {
            Ok(found) => addresses.extend(found),
            Err(why) => tracing::warn!(%seed, why, "mesh.seeds: does not resolve"),
        }
    }
    addresses
}

fn restored(remembered: Remembered) -> Restored {
    Restored {
        registrations: remembered.registrations,
        health: remembered.health.into_iter().collect(),
        peers: remembered.peers,
        maps: remembered.maps,
    }
}

/// Shows the node what the mesh looked like, so that its first answer is not an empty one.
fn restore_view(
    node: &mut Node,
    gate: &mut Gate<ChainChecker>,
    clock: Clock,
    view: Vec<ringmesh_types::document::Document>,
) {
    let statements: Vec<Statement> = view.into_iter().map(Statement::Document).collect();
    let mut admitted = gate.admit(clock.now(), wall_now(), statements).admitted;
    while !admitted.is_empty() {
        let rest = admitted.split_off(admitted.len().min(BATCH_STATEMENTS_MAX));
        let statements = core::mem::replace(&mut admitted, rest);
        node.handle(clock.now(), Input::Statements { source: Source::Disk, statements });
    }
}
