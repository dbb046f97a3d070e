//! A program's view of an agent that comes, goes and changes its mind.

mod fake;

use std::sync::Arc;
use std::time::Duration;

use fake::{FakeAgent, hosts_of};
use ringmesh_client::{LookupError, Maps, Place, ServiceError, View, beat, register};
use ringmesh_partition::map::{Map, Parts, Seats};
use ringmesh_partition::place::Candidate;
use ringmesh_partition::plan::{PlanConfig, first};
use ringmesh_partition::position::{KeyError, Strategy};
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use serde_json::json;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_map_is_kept_while_the_agent_is_away_and_followed_when_it_is_back() {
    let agent = FakeAgent::start().await;
    let addr = agent.addr();
    let maps = Maps::watch(addr, service(), "test");
    assert_eq!(maps.owner(b"acme"), Err(LookupError::NoMap));
    let map = map();
    agent.tell_map(&map, None, node(0), &hosts_of(&map));
    let view = timeout(PATIENCE, maps.ready()).await.expect("comes in time");
    assert_eq!((view.me(), view.token().generation), (node(0), 1));
    let owner = maps.owner(b"acme").expect("somebody is live");
    assert!(maps.away_for().is_zero(), "the agent is heard");

    agent.stop().await;
    let missed = async {
        while maps.away_for().is_zero() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, missed).await.expect("that the agent is away is noticed");
    assert_eq!(maps.owner(b"acme"), Ok(owner), "the last map goes on to count");

    let agent = FakeAgent::start_at(addr).await;
    let moved = moved(&map, b"acme");
    agent.tell_map(&moved, Some(&map), node(0), &hosts_of(&moved));
    until(&maps, |view| view.token().generation == 2).await;
    assert!(maps.away_for().is_zero(), "the agent is heard again");
    let lookup = maps.lookup(b"acme").expect("somebody is live");
    assert_ne!(lookup.owner.id, owner);
    assert_eq!(lookup.before.map(|before| before.id), Some(owner));
    assert_eq!((lookup.token.generation, lookup.owner.endpoints.len()), (2, 1));
    assert!(matches!(lookup.place, Place::Partition { .. }));
}

#[tokio::test]
async fn who_is_down_is_passed_over_at_once() {
    let agent = FakeAgent::start().await;
    let map = map();
    let mut hosts = hosts_of(&map);
    agent.tell_map(&map, None, node(0), &hosts);
    let maps = Maps::watch(agent.addr(), service(), "test");
    timeout(PATIENCE, maps.ready()).await.expect("comes in time");
    let lookup = maps.lookup(b"acme").expect("somebody is live");
    let (owner, standby) = (lookup.owner.id, lookup.standbys[0].id);
    hosts.iter_mut().filter(|host| host.id == owner).for_each(|host| host.is_live = false);
    agent.tell_hosts(&hosts);
    until(&maps, |view| !view.is_live(owner)).await;
    assert_eq!(maps.owner(b"acme"), Ok(standby));
    hosts.iter_mut().for_each(|host| host.is_live = false);
    agent.tell_hosts(&hosts);
    until(&maps, |view| !view.is_live(standby)).await;
    assert_eq!(maps.owner(b"acme"), Err(LookupError::NobodyLive(1)));
    assert_eq!(maps.owner(b""), Err(LookupError::Key(KeyError::Empty)));
}

#[tokio::test]
async fn what_cannot_be_read_changes_nothing_and_the_watch_begins_anew() {
    let agent = FakeAgent::start().await;
    let map = map();
    agent.tell_map(&map, None, node(0), &hosts_of(&map));
    let maps = Maps::watch(agent.addr(), service(), "test");
    let mut views = maps.views();
    let first = timeout(PATIENCE, maps.ready()).await.expect("comes in time");
    agent.tell("event: map\ndata: {\"generation\":\"many\"}\n\n");
    // The agent greets who comes back with the map that it has.
    loop {
        let view = timeout(PATIENCE, views.recv()).await.expect("comes in time").expect("is told");
        if view.sequence() > first.sequence() {
            assert_eq!(view.map(), &map);
            break;
        }
    }
}

#[tokio::test]
async fn heat_is_reported() {
    let agent = FakeAgent::start().await;
    let map = map();
    agent.tell_map(&map, None, node(0), &hosts_of(&map));
    let maps = Maps::watch(agent.addr(), service(), "limiter-1");
    timeout(PATIENCE, maps.ready()).await.expect("comes in time");
    (0..50).for_each(|_| maps.count(b"acme", 2.0));
    maps.count(b"", 1.0);
    let is_heat = |(path, _): &(String, serde_json::Value)| path == "/api/v1/maps/limiter/heat";
    let report = async {
        loop {
            if let Some((_, body)) = agent.posts().into_iter().find(is_heat) {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let body = timeout(PATIENCE, report).await.expect("comes in time");
    assert_eq!(body["reporter"], "limiter-1");
    let report: ringmesh_partition::heat::Report =
        serde_json::from_value(body["report"].clone()).expect("is a report");
    assert_eq!((report.partitions.len(), report.hot.len()), (1, 1));
    assert_eq!(report.hot[0].0, Strategy::Hash.position(b"acme").expect("a key"));
}

#[tokio::test]
async fn services_are_registered_and_beat_and_refusals_are_told() {
    let agent = FakeAgent::start().await;
    let registration = json!({ "id": "limiter-1", "service": "limiter", "endpoints": [] });
    register(agent.addr(), &registration).await.expect("is taken");
    beat(agent.addr(), "limiter 1").await.expect("is known");
    let posts = agent.posts();
    assert_eq!(posts[0], ("/api/v1/services".to_owned(), registration.clone()));
    assert_eq!(posts[1].0, "/api/v1/instances/limiter%201/beat");
    let error = beat(agent.addr(), "missing").await.expect_err("nobody knows it");
    assert!(error.to_string().ends_with("refuses with 404: not found: there is none"), "{error}");
    let addr = agent.addr();
    agent.stop().await;
    let error = register(addr, &registration).await.expect_err("nobody is there");
    assert!(matches!(error, ServiceError::Unreachable { .. }), "{error}");
}

fn service() -> ServiceName {
    "limiter".parse().expect("a name")
}

fn node(number: u64) -> NodeId {
    NodeId::from_bytes((number + 1).to_be_bytes())
}

fn map() -> Map {
    let candidate = |number| Candidate {
        node: node(number),
        zone: "a".parse().expect("a name"),
        capacity: 100,
        is_live: true,
    };
    let candidates: Vec<Candidate> = (0..3).map(candidate).collect();
    first(service(), Strategy::Hash, node(0), &candidates, &PlanConfig::default()).expect("somebody serves")
}

/// The generation after `map`, in which the standby of `key` owns it.
fn moved(map: &Map, key: &[u8]) -> Map {
    let at = map.parts().strategy.position(key).expect("a key");
    let index = map.partition_of(at).expect("has partitions");
    let mut parts = map.parts().clone();
    let turned: Vec<_> = parts.seats[index].all().iter().rev().copied().collect();
    parts.seats[index] = Seats::new(&turned).expect("are distinct");
    Map::new(Parts { generation: parts.generation + 1, previous: map.digest(), ..parts }).expect("is a map")
}

async fn until(maps: &Maps, is_so: impl Fn(&View) -> bool) -> Arc<View> {
    let mut changed = maps.changed();
    let reached = changed.wait_for(|view| view.as_ref().is_some_and(|view| is_so(view)));
    let view = timeout(PATIENCE, reached).await.expect("comes in time").expect("is watched");
    view.clone().expect("was found")
}
