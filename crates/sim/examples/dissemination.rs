//! How fast one changed document is everywhere, and how many copies of it a node gets: random sources, links of 1 ms.
//! `cargo run --release -p ringmesh-sim --example dissemination -- NODES CHANGES [LOSS]`

use core::time::Duration;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringmesh_sim::link::LinkConfig;
use ringmesh_sim::outcome::quantile;
use ringmesh_sim::world::{World, WorldConfig};

use ringmesh_node::registration::{RawEndpoint, RawRegistration};
use ringmesh_types::document::Topic;
use ringmesh_types::ids::{NodeId, Version};
use ringmesh_types::stored::Stored;

/// How often all nodes are asked whether they have it.
const STEP: Duration = Duration::from_micros(500);
/// By then nobody is a newcomer any more, and nobody compares catalogues because others came.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// Changes before those that are counted: the tree is grown by then.
const WARM_UP: usize = 20;
/// Whoever has not got it by then never will in time.
const LATE: Duration = Duration::from_secs(5);

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: f64| -> Result<f64, String> {
        arguments
            .get(index)
            .map_or(Ok(default), |text| text.parse().map_err(|_| format!("{text:?} is no number")))
    };
    let (nodes, changes, loss) = (number(0, 1_000.0)? as usize, number(1, 50.0)? as usize, number(2, 0.0)?);
    let link = LinkConfig {
        latency: Duration::from_millis(1),
        jitter: Duration::ZERO,
        loss,
        ..LinkConfig::default()
    };
    let config = WorldConfig { hosts: nodes, link, is_bare: nodes > 2_000, ..WorldConfig::default() };
    let mut world = World::new(1, &config);
    world.start_converged(&(0..nodes).collect::<Vec<_>>());
    world.run_for(SETTLES_WITHIN);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut delays, mut late) = (Vec::new(), 0);
    let mut before = (0, 0);
    for change in 0..WARM_UP + changes {
        if change == WARM_UP {
            before = copies(&world);
        }
        let source = rng.random_range(0..nodes);
        let endpoint = RawEndpoint {
            transport: "udp".to_owned(),
            address: "10.1.0.1".to_owned(),
            port: 5_060,
            ..RawEndpoint::default()
        };
        let registration = RawRegistration {
            id: format!("instance-{change}"),
            service: "sip".to_owned(),
            endpoints: vec![endpoint],
            ..RawRegistration::default()
        };
        let owner = world.id(source);
        let before = version(&world, source, owner);
        world.register(source, registration);
        while version(&world, source, owner) == before {
            world.run_for(STEP);
        }
        let begun = world.now();
        let wanted = version(&world, source, owner);
        let mut without: Vec<usize> =
            (0..nodes).filter(|host| version(&world, *host, owner) != wanted).collect();
        while !without.is_empty() && world.now().since(begun) < LATE {
            world.run_for(STEP);
            let passed = world.now().since(begun).as_secs_f64();
            without.retain(|host| {
                let has = version(&world, *host, owner) == wanted;
                if has && change >= WARM_UP {
                    delays.push(passed);
                }
                !has
            });
        }
        late += without.len();
        world.run_for(Duration::from_millis(500));
    }
    let after = copies(&world);
    let fresh = (after.0 - before.0) as f64;
    let grafts: u64 =
        (0..nodes).filter_map(|host| world.node(host)).map(|node| node.spread_stats().grafts).sum();
    let hops = (0..nodes).filter_map(|host| world.node(host)).map(|node| node.spread_stats().hops_max).max();
    delays.sort_by(f64::total_cmp);
    let millis = |share| quantile(&delays, share).unwrap_or(f64::NAN) * 1_000.0;
    println!(
        "{nodes} nodes, {changes} changes, loss {loss}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms, {late} late; {:.3} copies a node, {grafts} grafts, at most {} hops",
        millis(0.5),
        millis(0.99),
        millis(1.0),
        (fresh + (after.1 - before.1) as f64) / fresh,
        hops.unwrap_or(0),
    );
    Ok(())
}

/// Which version of what `owner` runs a host has.
fn version(world: &World, host: usize, owner: NodeId) -> Option<Version> {
    let documents = world.node(host).map(|node| node.documents_of(owner)).unwrap_or_default();
    let is_it = |stored: &&Arc<Stored>| stored.document.key.topic.as_str() == Topic::SERVICES;
    documents.iter().find(is_it).map(|stored| stored.document.version)
}

/// Statements that came along the tree and were news, and those that were not.
fn copies(world: &World) -> (u64, u64) {
    let stats = (0..world.hosts()).filter_map(|host| world.node(host)).map(|node| node.spread_stats());
    stats.fold((0, 0), |(fresh, repeated), stats| (fresh + stats.fresh, repeated + stats.repeated))
}
