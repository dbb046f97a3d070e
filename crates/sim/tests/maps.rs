//! Maps of keys in a mesh on virtual time: one map everywhere, whoever dies, comes, or is cut off.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringmesh_gossip::message::Push;
use ringmesh_node::io::{Command, DrainTarget, Said};
use ringmesh_node::maps::MapOrder;
use ringmesh_node::registration::{RawEndpoint, RawRegistration};
use ringmesh_partition::difference::Difference;
use ringmesh_partition::map::{Map, Parts, Seat, Seats};
use ringmesh_partition::position::{Position, Strategy};
use ringmesh_sim::seal::SimSealer;
use ringmesh_sim::world::{World, WorldConfig};
use ringmesh_types::body::LayoutBody;
use ringmesh_types::document::{Document, Key, Topic};
use ringmesh_types::event::{Event, EventKind};
use ringmesh_types::ids::{NodeId, Version};
use ringmesh_types::map_spec::{MapSpec, Pin};
use ringmesh_types::name::ServiceName;
use ringmesh_types::sealed::{Seal, Statement, Verified};
use ringmesh_types::time::WallTime;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn limiter() -> ServiceName {
    "limiter".parse().expect("a name")
}

fn registration(host: usize) -> RawRegistration {
    RawRegistration {
        id: format!("limiter-{host}"),
        service: "limiter".to_owned(),
        endpoints: vec![RawEndpoint {
            transport: "tcp".to_owned(),
            address: "10.0.0.1".to_owned(),
            port: 7_500,
            ..RawEndpoint::default()
        }],
        ..RawRegistration::default()
    }
}

/// A mesh in which `limiters` hosts run limiters and all declare their map.
fn mesh(seed: u64, hosts: usize, limiters: usize, spec: MapSpec) -> World {
    let maps = BTreeMap::from([(limiter(), spec)]);
    let mut world = World::new(seed, &WorldConfig { hosts, maps, ..WorldConfig::default() });
    for host in 0..limiters {
        world.declare(host, vec![registration(host)]);
    }
    world
}

/// The map that a host follows.
fn map(world: &mut World, host: usize) -> Option<Arc<Map>> {
    world.maps(host)?.by_service.get(&limiter())?.map.clone()
}

fn running(world: &World) -> Vec<usize> {
    (0..world.hosts()).filter(|host| world.is_running(*host)).collect()
}

/// Whether all running hosts follow one and the same map.
fn is_one(world: &mut World) -> bool {
    let maps: BTreeSet<Option<[u8; 32]>> =
        running(world).into_iter().map(|host| map(world, host).map(|map| map.digest())).collect();
    maps.len() == 1 && !maps.contains(&None)
}

fn until_one(world: &mut World, within: Duration) -> Duration {
    let took = world.run_until(within, is_one);
    let tokens: Vec<_> = running(world)
        .into_iter()
        .map(|host| map(world, host).map(|map| (map.parts().generation, map.parts().author)))
        .collect();
    took.unwrap_or_else(|| panic!("no one map within {within:?}: {tokens:?}"))
}

/// How many partitions each host owns.
fn owned(map: &Map) -> BTreeMap<NodeId, usize> {
    let mut owned = BTreeMap::new();
    for seats in &map.parts().seats {
        *owned.entry(map.host(seats.owner()).node).or_default() += 1;
    }
    owned
}

/// The owner that `host` names for a position, leaving out whom it holds Down.
fn owner(world: &mut World, host: usize, at: Position) -> Option<NodeId> {
    let snapshot = world.snapshot(host)?;
    let map = map(world, host)?;
    let is_live = |id: NodeId| snapshot.member(id).is_some_and(|member| member.state.is_serving());
    let found = map.lookup_at(at)?;
    let mut named = found.seats.iter().map(|seat| map.host(*seat).node);
    named.find(|node| is_live(*node)).or_else(|| map.last_resort(at, is_live))
}

fn author(world: &mut World) -> usize {
    let host = running(world)[0];
    let author = world.maps(host).and_then(|maps| maps.by_service[&limiter()].author).expect("an author");
    (0..world.hosts()).find(|host| world.id(*host) == author).expect("is a host")
}

#[test]
fn those_that_start_together_have_one_map_with_all_of_them() {
    for seed in 0..5 {
        let mut world = mesh(seed, 8, 6, MapSpec::default());
        world.start_all();
        until_one(&mut world, secs(20));
        let followed = map(&mut world, 7).expect("followed without being in it");
        assert_eq!(followed.parts().roster.len(), 6, "seed {seed}");
        assert_eq!((followed.parts().generation, followed.partitions()), (1, 120), "seed {seed}");
        world.run_for(secs(120));
        let later = map(&mut world, 0).expect("followed");
        assert_eq!(later.parts().generation, 1, "seed {seed}: nothing happened");
    }
}

#[test]
fn a_host_that_dies_leaves_its_keys_to_all_and_no_key_is_ever_without_a_live_owner() {
    for seed in 0..5 {
        let mut world = mesh(seed, 10, 10, MapSpec::default());
        world.start_all();
        until_one(&mut world, secs(20));
        let dead = (3 + seed as usize) % 10;
        let before = map(&mut world, 0).expect("followed");
        let share = owned(&before)[&world.id(dead)];
        world.crash(dead);
        let observer = (dead + 1) % 10;
        let mut is_known = false;
        for _ in 0..200 {
            world.run_for(Duration::from_millis(100));
            let holds_down = !world.sees(observer, dead).is_some_and(|state| state.is_serving());
            is_known |= holds_down;
            for slice in 0..64_u64 {
                let owner = owner(&mut world, observer, Position(slice << 58)).expect("somebody");
                assert!(!holds_down || owner != world.id(dead), "seed {seed}: a dead owner is named");
            }
        }
        assert!(is_known, "seed {seed}");
        until_one(&mut world, secs(5));
        let after = map(&mut world, observer).expect("followed");
        let (was, is) = (owned(&before), owned(&after));
        assert!(!is.contains_key(&world.id(dead)), "seed {seed}");
        for (node, now) in &is {
            let more = now - was.get(node).copied().unwrap_or_default().min(*now);
            assert!(more as f64 <= 2.0 * (share as f64 / 9.0).ceil(), "seed {seed}: {more} of {share}");
        }
        let excused = |node| node == world.id(dead);
        let moved = ringmesh_partition::follow::moved(&before, &after, excused);
        assert_eq!(moved, 0.0, "seed {seed}: only what the dead one had is given to others");
    }
}

#[test]
fn authors_that_die_one_after_the_other_are_replaced_and_their_work_goes_on() {
    for seed in 0..5 {
        let mut world = mesh(seed, 9, 8, MapSpec::default());
        world.start_all();
        until_one(&mut world, secs(20));
        for _ in 0..2 {
            let first = author(&mut world);
            // Somebody drains, so that the author has something to do for several rounds, in the midst of which it dies.
            let drained = (0..8).find(|host| *host != first && world.is_running(*host)).expect("one runs");
            world.command(drained, Command::Drain(DrainTarget::Node));
            world.run_for(secs(45));
            world.crash(first);
            world.run_for(secs(15));
            until_one(&mut world, secs(10));
            let next = author(&mut world);
            assert_ne!(next, first, "seed {seed}");
            world.command(drained, Command::Undrain(DrainTarget::Node));
        }
        let map = map(&mut world, 8).expect("followed");
        let serving: BTreeSet<NodeId> = running(&world).into_iter().map(|host| world.id(host)).collect();
        assert!(owned(&map).keys().all(|node| serving.contains(node)), "seed {seed}");
    }
}

#[test]
fn a_roster_that_doubles_and_shrinks_again_moves_little_at_a_time() {
    let mut world = mesh(1, 40, 40, MapSpec::default());
    (0..20).for_each(|host| world.start(host));
    until_one(&mut world, secs(20));
    world.run_for(secs(40));
    (20..40).for_each(|host| world.start(host));
    let is_even = |world: &mut World, hosts: usize| {
        let Some(map) = map(world, 0) else { return false };
        let owned = owned(&map);
        let most = owned.values().max().copied().unwrap_or_default() as f64;
        owned.len() == hosts && most <= 1.35 * map.partitions() as f64 / hosts as f64
    };
    let took = world.run_until(secs(300), |world| is_even(world, 40) && is_one(world));
    assert!(took.is_some(), "{:?}", map(&mut world, 0).map(|map| owned(&map)));
    for host in 20..40 {
        world.command(host, Command::Leave);
    }
    let took = world.run_until(secs(300), |world| is_even(world, 20) && is_one(world));
    assert!(took.is_some(), "{:?}", map(&mut world, 0).map(|map| owned(&map)));
}

#[test]
fn two_sides_of_a_split_plan_and_have_one_map_within_ten_seconds_of_being_healed() {
    for seed in 0..5 {
        let mut world = mesh(seed, 12, 12, MapSpec::default());
        world.start_all();
        until_one(&mut world, secs(20));
        let side: Vec<usize> = (0..12).filter(|host| host % 3 == 0).collect();
        world.split(&side);
        world.run_for(secs(if seed == 0 { 300 } else { 60 }));
        let (ours, theirs) = (map(&mut world, 0).expect("one"), map(&mut world, 1).expect("one"));
        assert_ne!(ours.digest(), theirs.digest(), "seed {seed}: both sides plan");
        assert_eq!(owned(&ours).len(), side.len(), "seed {seed}");
        world.links.mend();
        until_one(&mut world, secs(10));
        let said = world.events.iter().any(|(_, _, event)| {
            event.kind == EventKind::Map && event.cause.contains("the network was split")
        });
        assert!(said, "seed {seed}: it is said");
        world.run_for(secs(120));
        until_one(&mut world, secs(5));
        let owned = owned(&map(&mut world, 5).expect("followed"));
        assert_eq!(owned.len(), 12, "seed {seed}: everybody owns something again");
    }
}

#[test]
fn who_was_away_asks_for_the_steps_that_it_missed() {
    for seed in 0..5 {
        let mut world = mesh(seed, 6, 4, MapSpec::default());
        world.start_all();
        until_one(&mut world, secs(20));
        world.split(&[5]);
        for index in 1..5 {
            world.run_for(secs(2));
            let start = map(&mut world, 0).expect("followed").parts().starts[index];
            world.command(0, Command::OrderMap(limiter(), MapOrder::Merge { start }));
        }
        world.run_for(secs(20));
        let behind = |world: &mut World| {
            let generation = |map: Option<Arc<Map>>| map.expect("followed").parts().generation;
            generation(map(world, 0)) - generation(map(world, 5))
        };
        assert!(behind(&mut world) >= 2, "seed {seed}");
        world.links.mend();
        until_one(&mut world, secs(15));
        let adopted =
            |(_, host, event): &&(_, usize, Event)| *host == 5 && event.cause.contains("could not be had");
        assert_eq!(world.events.iter().filter(adopted).count(), 0, "seed {seed}: it checks every step");
    }
}

#[test]
fn all_restart_and_go_on_with_the_map_that_they_had() {
    let mut world = mesh(2, 6, 6, MapSpec::default());
    world.start_all();
    until_one(&mut world, secs(20));
    world.command(0, Command::OrderMap(limiter(), MapOrder::Merge { start: Position(0) }));
    world.run_for(secs(5));
    let start = map(&mut world, 0).expect("followed").parts().starts[1];
    world.command(3, Command::OrderMap(limiter(), MapOrder::Split { start, at: None }));
    world.run_for(secs(5));
    until_one(&mut world, secs(5));
    let before = map(&mut world, 0).expect("followed");
    assert!(before.parts().generation > 1, "operators ordered something");
    (0..6).for_each(|host| world.crash(host));
    world.start_all();
    world.run_for(secs(10));
    until_one(&mut world, secs(10));
    assert!(map(&mut world, 4).expect("followed").parts().generation >= before.parts().generation);
}

#[test]
fn what_operators_say_reaches_the_author_and_its_answer_the_operator() {
    let mut world = mesh(3, 6, 6, MapSpec { mode: "approve".to_owned(), ..MapSpec::default() });
    world.start_all();
    until_one(&mut world, secs(20));
    let author = author(&mut world);
    let other = (author + 1) % 6;
    let said = |world: &mut World, host: usize, command| {
        world.take_answers(host);
        world.command(host, command);
        world.run_for(secs(2));
        world.take_answers(host).pop().expect("an answer")
    };
    let apply =
        |plan: Option<&str>| Command::OrderMap(limiter(), MapOrder::Apply { plan: plan.map(str::to_owned) });
    let nothing = said(&mut world, other, apply(None));
    assert!(nothing.expect_err("nothing waits").detail.contains("nothing waits for approval"));
    world.command(other, Command::Drain(DrainTarget::Node));
    world.run_for(secs(50));
    let before = map(&mut world, 0).expect("followed");
    let Ok(Said::Author(view)) = said(&mut world, other, Command::MapAuthor(limiter())) else {
        panic!("no view");
    };
    let proposal = view.proposal.expect("a drained host is to be emptied");
    assert!(proposal.steps.iter().any(|step| step.contains("should own nothing")), "{proposal:?}");
    let another = said(&mut world, other, apply(Some("00000000")));
    assert!(another.expect_err("it is another one").detail.contains("another plan waits"));
    let done = said(&mut world, other, apply(Some(&proposal.id)));
    assert!(matches!(&done, Ok(Said::Words(says)) if says.contains("generation")), "{done:?}");
    until_one(&mut world, secs(5));
    let after = map(&mut world, 0).expect("followed");
    let drained = world.id(other);
    assert!(owned(&after).get(&drained) < owned(&before).get(&drained));
    let unknown = Command::MapAuthor("nobody".parse().expect("a name"));
    assert!(said(&mut world, other, unknown).expect_err("no map").detail.contains("has no map"));
}

#[test]
fn a_pinned_key_is_served_by_its_host_and_by_another_while_that_one_is_away() {
    let mut world = mesh(4, 5, 5, MapSpec::default());
    world.start_all();
    until_one(&mut world, secs(20));
    let pin = Pin { key: "acme".to_owned(), node: Some("node-3".parse().expect("a name")) };
    world.command(1, Command::Pin(limiter(), pin));
    let at = Strategy::Hash.position(b"acme").expect("a key");
    let pinned = world.id(3);
    let took = world.run_until(secs(20), |world| {
        is_one(world)
            && map(world, 0).is_some_and(|map| map.is_dedicated(at))
            && owner(world, 0, at) == Some(pinned)
    });
    assert!(took.is_some(), "it is pinned");
    world.crash(3);
    let took = world.run_until(secs(20), |world| owner(world, 0, at).is_some_and(|owner| owner != pinned));
    assert!(took.is_some(), "somebody else serves it");
    world.start(3);
    let took = world.run_until(secs(60), |world| owner(world, 0, at) == Some(pinned));
    assert!(took.is_some(), "it is back");
    world.command(1, Command::WithdrawMap(limiter()));
    let took = world.run_until(secs(120), |world| map(world, 0).is_some_and(|map| !map.is_dedicated(at)));
    assert!(took.is_some(), "the files declare no pin");
}

/// What `liar` would publish as a map that follows `before`.
fn forged(world: &World, liar: usize, before: &Map, sequence: u64, change: impl Fn(&mut Parts)) -> Statement {
    let mut parts = Parts {
        generation: before.parts().generation + 1,
        author: world.id(liar),
        previous: before.digest(),
        ..before.parts().clone()
    };
    change(&mut parts);
    let map = Map::new(parts).expect("its form is right");
    let bytes = Difference::between(before, &map).map_or_else(|| map.to_bytes(), |step| step.to_bytes());
    let body = LayoutBody { bytes, made: WallTime::default(), steps: Vec::new(), steps_count: 0 };
    let document = Document {
        key: Key { owner: world.id(liar), topic: Topic::layout(&limiter()) },
        version: Version { epoch: world.node(liar).expect("it runs").identity().epoch, sequence },
        body: body.to_bytes().expect("fits").into(),
        seal: Seal([0; 64]),
    };
    let sealed = Verified::seal_document(document, &SimSealer::of(world.id(liar)));
    Statement::Document(sealed.expect("small").into_inner())
}

fn tell_all(world: &mut World, liar: usize, statement: &Statement) {
    for told in (0..world.hosts()).filter(|told| *told != liar) {
        world.forge_push(liar, told, &Push::Statements(vec![statement.clone()]));
    }
    world.run_for(secs(40));
}

#[test]
fn a_rogue_that_claims_a_far_generation_or_moves_half_the_space_is_not_followed() {
    let mut world = mesh(5, 8, 8, MapSpec::default());
    world.start_all();
    until_one(&mut world, secs(20));
    world.run_for(secs(700));
    let honest = map(&mut world, 0).expect("followed");
    let rogue = (author(&mut world) + 1) % 8;
    let seat = honest.parts().roster.iter().position(|host| host.node == world.id(rogue)).expect("in it");
    let takes_half = |parts: &mut Parts| {
        let half = parts.seats.len() / 2;
        parts.seats[..half].iter_mut().for_each(|seats| *seats = Seats::of(Seat(seat as u16)));
    };
    let far = forged(&world, rogue, &honest, 1_000, |parts| parts.generation = 1 << 63);
    let half = forged(&world, rogue, &honest, 1_001, takes_half);
    let first = forged(&world, rogue, &honest, 1_002, |parts| {
        (parts.generation, parts.previous) = (1, [0; 32]);
        takes_half(parts);
    });
    let of_another = forged(&world, rogue, &honest, 1_003, |parts| parts.author = NodeId::from_bytes([9; 8]));
    for lie in [far, half, first, of_another] {
        tell_all(&mut world, rogue, &lie);
        for host in (0..8).filter(|host| *host != rogue) {
            let followed = map(&mut world, host).expect("followed");
            // The author outbids what might be honest; nothing moves.
            let (ours, before) = (followed.parts(), honest.parts());
            assert_eq!((&ours.starts, &ours.seats), (&before.starts, &before.seats), "host {host}: {lie:?}");
            assert_eq!(
                (&ours.roster, &ours.dedicated),
                (&before.roster, &before.dedicated),
                "host {host}: {lie:?}"
            );
            assert_ne!(ours.author, world.id(rogue), "host {host}: {lie:?}");
            assert!(ours.generation <= before.generation + 2, "host {host}: {lie:?}");
        }
    }
    let refused = |why: &str| world.events.iter().any(|(_, _, event)| event.cause.contains(why));
    assert!(refused("% of the space"), "it is said why");
    assert!(refused("it calls itself generation"), "it is said why");
    // Whoever keeps within what a round may move is followed: the budget is what bounds a rogue.
    let before = map(&mut world, 0).expect("followed");
    let little = forged(&world, rogue, &before, 1_004, |parts| parts.seats[3] = Seats::of(Seat(seat as u16)));
    tell_all(&mut world, rogue, &little);
    let followed = map(&mut world, 0).expect("followed").parts().generation;
    assert!(followed > before.parts().generation, "{followed}");
}

#[test]
fn a_map_of_one_host_and_of_none_goes_on_when_others_come() {
    let mut world = mesh(6, 4, 1, MapSpec::default());
    world.start_all();
    until_one(&mut world, secs(20));
    let alone = map(&mut world, 3).expect("followed");
    assert_eq!((alone.parts().roster.len(), alone.partitions()), (1, 20));
    let first = world.id(0);
    assert_eq!(owner(&mut world, 3, Position(7)), Some(first));
    world.crash(0);
    let took = world.run_until(secs(20), |world| world.sees(3, 0).is_some_and(|state| !state.is_serving()));
    assert!(took.is_some());
    world.run_for(secs(30));
    assert_eq!(owner(&mut world, 3, Position(7)), None, "nobody is there, and that is said");
    let before = map(&mut world, 3).expect("the map stays").parts().generation;
    // None of its roster is left, so somebody else has to go on.
    world.register(2, registration(2));
    let second = world.id(2);
    let took = world.run_until(secs(30), |world| owner(world, 3, Position(7)) == Some(second));
    assert!(took.is_some(), "a host that comes owns everything");
    assert!(map(&mut world, 3).expect("followed").parts().generation > before);
    world.start(0);
    let took = world.run_until(secs(300), |world| {
        is_one(world) && map(world, 3).is_some_and(|map| owned(&map).len() == 2)
    });
    assert!(took.is_some(), "who comes back gets its share");
}

#[test]
fn what_an_operator_said_outlives_the_agent_where_it_was_said() {
    let mut world = mesh(7, 6, 4, MapSpec::default());
    world.start_all();
    until_one(&mut world, secs(20));
    let said = MapSpec { standbys: 2, ..MapSpec::default() };
    world.command(5, Command::DeclareMap(limiter(), said.clone()));
    let gone: ServiceName = "gone".parse().expect("a name");
    world.command(5, Command::DeclareMap(gone.clone(), MapSpec::default()));
    let spec = |world: &mut World, host: usize, service: &ServiceName| {
        world.maps(host).and_then(|maps| Some(maps.by_service.get(service)?.spec.clone()))
    };
    let known = |world: &mut World, hosts: &[usize]| {
        hosts.iter().all(|host| {
            spec(world, *host, &limiter()) == Some(said.clone()) && spec(world, *host, &gone).is_some()
        })
    };
    assert!(world.run_until(secs(10), |world| known(world, &[0, 1, 2, 3, 4])).is_some());
    world.command(5, Command::Leave);
    world.run_for(secs(3));
    world.command(1, Command::Forget("node-5".parse().expect("a name")));
    world.run_for(secs(10));
    assert!(world.sees(2, 5).is_none(), "it is forgotten");
    assert!(known(&mut world, &[0, 1, 2, 3, 4]), "and what was said there counts");
    for host in 0..5 {
        world.crash(host);
        world.start(host);
        world.run_for(secs(20));
    }
    assert_eq!(spec(&mut world, 4, &limiter()), Some(said.clone()), "also after restarts");
}

#[test]
fn a_withdrawal_outlives_the_agent_where_it_was_said_and_whoever_was_away() {
    let mut world = mesh(8, 6, 4, MapSpec::default());
    world.start_all();
    until_one(&mut world, secs(20));
    let gone: ServiceName = "gone".parse().expect("a name");
    let knows = |world: &mut World, host: usize| {
        world.maps(host).is_some_and(|maps| maps.by_service.contains_key("gone"))
    };
    world.command(4, Command::DeclareMap(gone.clone(), MapSpec::default()));
    assert!(world.run_until(secs(10), |world| (0..6).all(|host| knows(world, host))).is_some());
    world.crash(4);
    world.run_for(secs(10));
    world.command(5, Command::WithdrawMap(gone));
    assert!(world.run_until(secs(10), |world| (0..4).all(|host| !knows(world, host))).is_some());
    world.command(5, Command::Leave);
    world.run_for(secs(3));
    world.command(1, Command::Forget("node-5".parse().expect("a name")));
    world.run_for(secs(10));
    (0..4).for_each(|host| world.crash(host));
    (0..5).for_each(|host| world.start(host));
    world.run_for(secs(30));
    assert_eq!((0..5).filter(|host| knows(&mut world, *host)).count(), 0, "the last word counts");
}

#[test]
fn what_was_said_where_nobody_is_any_more_is_known_to_those_who_come_later() {
    for seed in 0..8 {
        let config = WorldConfig { hosts: 8, ..WorldConfig::default() };
        let mut world = World::new(seed, &config);
        (0..8).for_each(|host| world.declare(host, vec![registration(host)]));
        (0..4).for_each(|host| world.start(host));
        world.run_for(secs(5));
        world.command(3, Command::DeclareMap(limiter(), MapSpec { standbys: 2, ..MapSpec::default() }));
        until_one(&mut world, secs(20));
        world.crash(3);
        world.run_for(secs(15));
        (4..8).for_each(|host| world.start(host));
        world.run_for(secs(10));
        until_one(&mut world, secs(20));
        assert!(
            map(&mut world, 7).is_some(),
            "seed {seed}: it is told of a map that was declared before it came"
        );
        world.command(0, Command::Forget("node-3".parse().expect("a name")));
        world.run_for(secs(10));
        for host in [0, 1, 2, 4, 5, 6, 7] {
            world.crash(host);
            world.start(host);
            world.run_for(secs(5));
        }
        world.run_for(secs(20));
        let spec = world.maps(6).and_then(|maps| Some(maps.by_service.get(&limiter())?.spec.standbys));
        assert_eq!(spec, Some(2), "seed {seed}: and goes on to be");
    }
}

#[test]
fn an_agent_says_no_more_about_maps_than_others_keep_of_it() {
    let mut world = mesh(9, 3, 2, MapSpec::default());
    world.start_all();
    until_one(&mut world, secs(20));
    world.take_answers(0);
    for number in 0..30 {
        let service: ServiceName = format!("map-{number}").parse().expect("a name");
        world.command(0, Command::DeclareMap(service.clone(), MapSpec::default()));
        world.run_for(secs(2));
        world.command(0, Command::WithdrawMap(service));
        world.run_for(secs(2));
    }
    let mut answers = world.take_answers(0);
    let refused = answers.split_off(46);
    assert!(answers.iter().all(Result::is_ok), "with the one of its file 24: {answers:?}");
    let detail = &refused[0].as_ref().expect_err("the 25th").detail;
    assert!(detail.ends_with("say this at another agent"), "{detail}");
    world.command(1, Command::DeclareMap("map-29".parse().expect("a name"), MapSpec::default()));
    let declared =
        |world: &mut World| world.maps(0).is_some_and(|maps| maps.by_service.contains_key("map-29"));
    assert!(world.run_until(secs(5), declared).is_some());
}

#[test]
fn an_order_that_reaches_an_author_that_stood_still_undoes_nothing() {
    for seed in 8..12 {
        let mut world = mesh(seed, 6, 6, MapSpec::default());
        world.start_all();
        until_one(&mut world, secs(20));
        let author = author(&mut world);
        let other = (author + 1) % 6;
        let start = map(&mut world, other).expect("followed").parts().starts[5];
        world.freeze(author, secs(20));
        world.run_for(secs(1));
        world.command(other, Command::OrderMap(limiter(), MapOrder::Split { start, at: None }));
        world.run_for(secs(18));
        let covered = map(&mut world, other).expect("followed");
        assert!(!owned(&covered).contains_key(&world.id(author)), "seed {seed}: it is covered for");
        world.run_for(secs(30));
        until_one(&mut world, secs(20));
        let gone = world.id(author);
        let excused = |node| node == gone;
        let after = map(&mut world, other).expect("followed");
        let moved = ringmesh_partition::follow::moved(&covered, &after, excused);
        assert!(moved <= 0.2, "seed {seed}: {moved:.2} of the space went back at once");
    }
}

#[test]
fn tokens_rise_over_a_change_of_strategy_and_the_old_map_serves_until_the_new_one_is_there() {
    let mut world = mesh(12, 5, 5, MapSpec::default());
    world.start_all();
    until_one(&mut world, secs(20));
    let before = map(&mut world, 2).expect("followed").parts().generation;
    let by_name = MapSpec { strategy: "name".to_owned(), ..MapSpec::default() };
    world.command(1, Command::DeclareMap(limiter(), by_name));
    let took = world.run_until(secs(30), |world| {
        assert!((0..5).all(|host| map(world, host).is_some()), "there is always a map");
        is_one(world) && map(world, 0).is_some_and(|map| map.parts().strategy == Strategy::Name)
    });
    assert!(took.is_some(), "the new map is there");
    assert!(map(&mut world, 2).expect("followed").parts().generation > before);
}
