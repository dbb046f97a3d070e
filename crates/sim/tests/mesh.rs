//! What members do to each other, on virtual time. Every figure is a bound of the design, not a measurement.

use core::net::SocketAddr;
use core::time::Duration;

use ringmesh_gossip::message::Push;
use ringmesh_node::io::{Command, DrainTarget};
use ringmesh_node::registration::{RawEndpoint, RawRegistration};
use ringmesh_sim::link::LinkConfig;
use ringmesh_sim::seal::SimSealer;
use ringmesh_sim::world::{World, WorldConfig};
use ringmesh_types::event::{Event, EventKind};
use ringmesh_types::sealed::{Accusation, Evidence, Seal, Statement, Verified};
use ringmesh_types::service::HealthState;
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::time::WallTime;

const SEEDS: core::ops::Range<u64> = 0..5;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn world(seed: u64, hosts: usize, loss: f64) -> World {
    let link = LinkConfig { loss, duplication: loss / 10.0, ..LinkConfig::default() };
    World::new(seed, &WorldConfig { hosts, link, ..WorldConfig::default() })
}

/// A mesh that has found itself.
fn mesh(seed: u64, hosts: usize, loss: f64) -> World {
    let mut world = world(seed, hosts, loss);
    world.start_all();
    let took = world.run_until(secs(60), World::agrees);
    assert!(took.is_some(), "seed {seed}: {hosts} hosts did not agree in 60 s");
    world
}

fn sees_down(world: &mut World, observers: &[usize], subject: usize) -> bool {
    observers.iter().all(|observer| world.sees(*observer, subject) == Some(MemberState::Down))
}

fn ever_down(world: &World, name: &str) -> bool {
    world
        .events
        .iter()
        .any(|(_, _, event)| event.kind == EventKind::Member && event.subject == name && event.to == "Down")
}

fn sip(host: usize) -> RawRegistration {
    RawRegistration {
        id: format!("sip-{host}"),
        service: "sip".to_owned(),
        endpoints: vec![RawEndpoint {
            transport: "udp".to_owned(),
            address: format!("10.0.0.{}", host + 1),
            port: 5060,
            checks: vec![ringmesh_health::spec::RawCheck {
                kind: "sip".to_owned(),
                interval: Some("1s".to_owned()),
                timeout: Some("500ms".to_owned()),
                ..Default::default()
            }],
            ..RawEndpoint::default()
        }],
        ..RawRegistration::default()
    }
}

fn endpoint(host: usize) -> SocketAddr {
    format!("10.0.0.{}:5060", host + 1).parse().expect("a socket address")
}

/// How `observer` sees the sip instance on `host`.
fn health(world: &mut World, observer: usize, host: usize) -> Option<HealthState> {
    let snapshot = world.snapshot(observer)?;
    let service = snapshot.services.get("sip")?;
    let name = format!("sip-{host}");
    let instance = service.instances.iter().find(|instance| instance.instance.id.as_str() == name)?;
    instance.health.first().map(|health| health.state)
}

#[test]
fn meshes_of_three_to_fifty_find_themselves() {
    for (hosts, loss) in [(3, 0.0), (6, 0.0), (6, 0.25), (20, 0.05), (50, 0.0)] {
        let mut world = world(1, hosts, loss);
        world.start_all();
        let limit = if loss > 0.0 { secs(40) } else { secs(3) };
        assert!(world.run_until(limit, World::agrees).is_some(), "{hosts} hosts at loss {loss}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let run = |seed| {
        let mut world = mesh(seed, 6, 0.1);
        world.crash(3);
        world.run_for(secs(20));
        world.trace_hash()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_crashed_member_is_down_everywhere_within_ten_seconds() {
    for seed in SEEDS {
        let mut world = mesh(seed, 6, 0.0);
        world.crash(5);
        let took = world.run_until(secs(10), |world| sees_down(world, &[0, 1, 2, 3, 4], 5));
        assert!(took.is_some(), "seed {seed}");
    }
}

#[test]
fn a_member_that_restarts_is_back_within_three_seconds() {
    for seed in SEEDS {
        let mut world = mesh(seed, 6, 0.0);
        world.crash(5);
        world.run_for(secs(15));
        let before = world.node(0).expect("runs").identity();
        world.start(5);
        assert!(world.run_until(secs(3), World::agrees).is_some(), "seed {seed}");
        assert_eq!(world.node(0).expect("runs").identity(), before, "nobody else had to renew");
    }
}

#[test]
fn a_member_that_restarts_within_its_hold_is_never_down() {
    let mut world = mesh(1, 6, 0.0);
    for host in 0..6 {
        world.stop(host);
        world.run_for(secs(12));
        world.start(host);
        assert!(world.run_until(secs(5), World::agrees).is_some(), "host {host}");
    }
    for host in 0..6 {
        assert!(!ever_down(&world, &format!("node-{host}")), "host {host}");
    }
}

#[test]
fn a_member_that_does_not_come_back_from_its_hold_is_down() {
    let mut world = mesh(1, 6, 0.0);
    world.stop(5);
    world.run_for(secs(19));
    assert_eq!(world.sees(0, 5), Some(MemberState::Holding));
    world.run_for(secs(2));
    assert!(sees_down(&mut world, &[0, 1, 2, 3, 4], 5));
}

fn isolated_since(world: &mut World, host: usize) -> Option<WallTime> {
    world.snapshot(host).expect("runs").isolated_since
}

#[test]
fn who_hears_nobody_of_those_it_knows_is_isolated_until_it_does() {
    for hosts in [2, 6] {
        let mut world = mesh(1, hosts, 0.0);
        world.run_for(secs(30));
        world.split(&[0]);
        let cut = world.now();
        let is_isolated = |world: &mut World| isolated_since(world, 0).is_some();
        let took = world.run_until(secs(12), is_isolated).expect("it is isolated");
        assert!(took >= secs(9), "{took:?}");
        world.run_for(secs(60));
        assert!(is_isolated(&mut world), "those that are Down are missed, too");
        assert_eq!(isolated_since(&mut world, 1).is_some(), hosts == 2, "the others have each other");
        world.links.mend();
        let took = world.run_until(secs(10), |world| !is_isolated(world));
        assert!(took.is_some(), "{hosts} hosts, cut off at {cut:?}");
        let said = |event: &&(_, usize, Event)| event.1 == 0 && event.2.to == "isolated";
        assert_eq!(world.events.iter().filter(said).count(), 1);
    }
}

#[test]
fn who_is_alone_knows_nobody_is_paused_or_saw_all_others_leave_is_not_isolated() {
    let mut alone = world(1, 1, 0.0);
    alone.start_all();
    alone.run_for(secs(60));
    assert_eq!(isolated_since(&mut alone, 0), None);
    let mut world = mesh(1, 3, 0.0);
    world.freeze(0, secs(30));
    world.run_for(secs(60));
    for host in [1, 2] {
        world.command(host, Command::Leave);
        world.run_for(secs(1));
        world.crash(host);
    }
    world.run_for(secs(60));
    assert_eq!(isolated_since(&mut world, 0), None);
    assert!(!world.events.iter().any(|(_, host, event)| *host == 0 && event.to == "isolated"));
}

#[test]
fn a_member_that_leaves_is_left_and_not_down() {
    let mut world = mesh(1, 6, 0.0);
    world.command(5, Command::Leave);
    world.crash(5);
    let left = |world: &mut World| (0..5).all(|observer| world.sees(observer, 5) == Some(MemberState::Left));
    assert!(world.run_until(Duration::from_millis(500), left).is_some());
    world.run_for(secs(30));
    assert!(left(&mut world));
    world.start(5);
    assert!(world.run_until(secs(3), World::agrees).is_some());
}

#[test]
fn both_sides_of_a_split_agree_again_within_ten_seconds_of_its_end() {
    for seed in SEEDS {
        let mut world = mesh(seed, 15, 0.0);
        world.split(&[0, 3, 6, 9, 12]);
        world.run_for(secs(30));
        assert!(sees_down(&mut world, &[0, 3, 6], 1), "seed {seed}");
        assert!(sees_down(&mut world, &[1, 2, 4], 0), "seed {seed}");
        world.links.mend();
        let took = world.run_until(secs(10), World::agrees);
        assert!(took.is_some(), "seed {seed}");
    }
}

#[test]
fn a_slow_member_gets_nobody_else_removed() {
    for seed in SEEDS {
        let mut world = mesh(seed, 10, 0.0);
        for _ in 0..20 {
            world.freeze(4, Duration::from_millis(3_000));
            world.run_for(secs(4));
        }
        for host in (0..10).filter(|host| *host != 4) {
            assert!(!ever_down(&world, &format!("node-{host}")), "seed {seed}, host {host}");
        }
        assert!(world.run_until(secs(20), World::agrees).is_some(), "seed {seed}");
    }
}

#[test]
fn a_quarter_of_all_packets_lost_removes_nobody() {
    for seed in 0..3 {
        let mut world = mesh(seed, 10, 0.25);
        world.run_for(secs(300));
        for host in 0..10 {
            assert!(!ever_down(&world, &format!("node-{host}")), "seed {seed}, host {host}");
        }
    }
}

#[test]
fn a_mesh_that_was_cut_off_all_at_once_comes_back_from_its_disks() {
    let mut world = mesh(1, 20, 0.0);
    world.run_for(secs(30));
    for host in 0..20 {
        world.crash(host);
    }
    world.run_for(secs(60));
    for host in 0..20 {
        world.start(host);
    }
    assert!(world.run_until(secs(10), World::agrees).is_some());
}

#[test]
fn a_member_alone_keeps_answering_from_what_it_knows() {
    let mut world = mesh(1, 3, 0.0);
    for host in 0..3 {
        world.register(host, sip(host));
    }
    world.run_for(secs(5));
    world.crash(0);
    world.crash(1);
    world.run_for(secs(120));
    let snapshot = world.snapshot(2).expect("runs");
    assert_eq!(snapshot.services["sip"].instances.len(), 3);
    assert_eq!(snapshot.serving_members(), 1);
    world.crash(2);
    world.start(2);
    let snapshot = world.snapshot(2).expect("runs");
    assert_eq!(snapshot.services["sip"].instances.len(), 3, "not even its own restart makes it forget");
    assert_eq!(snapshot.serving_members(), 1, "nor forget who was Down");
}

#[test]
fn a_clock_a_year_ahead_is_refused_and_its_owner_falls_back() {
    let mut world = world(1, 6, 0.0);
    world.set_clock_offset(5, 365 * 86_400_000);
    world.start_all();
    assert!(world.run_until(secs(5), World::agrees).is_some());
    let epoch = world.node(5).expect("runs").identity().epoch;
    let new_year_2026 = 1_767_225_600_000;
    let is_todays = (new_year_2026..new_year_2026 + 60_000).contains(&epoch.0);
    assert!(is_todays, "{epoch} should be what the clocks of those say who refused it");
    assert!(world.events.iter().any(|(_, host, event)| *host == 5 && event.kind == EventKind::Refused));
    world.set_clock_offset(5, 0);
    world.crash(5);
    world.run_for(secs(12));
    world.start(5);
    assert!(world.run_until(secs(5), World::agrees).is_some(), "with its clock mended it comes back");
}

#[test]
fn two_nodes_with_one_name_are_noticed_and_named() {
    let mut world = world(1, 6, 0.0);
    world.rename(5, 4);
    for host in 0..5 {
        world.start(host);
    }
    world.run_for(secs(10));
    world.start(5);
    world.run_for(secs(30));
    let clashes = world.events.iter().filter(|(_, _, event)| event.kind == EventKind::NameClash);
    let reporters: std::collections::BTreeSet<usize> = clashes.map(|(_, host, _)| *host).collect();
    assert!(reporters.contains(&4), "the first of the two says so: {reporters:?}");
    let snapshot = world.snapshot(4).expect("runs");
    assert!(snapshot.local.clash.is_some());
    for host in 0..4 {
        assert!(!ever_down(&world, &format!("node-{host}")));
    }
    let told = |world: &mut World| {
        let mut all = (0..4).filter_map(|host| world.snapshot(host));
        all.any(|snapshot| snapshot.members.values().any(|member| member.clash.is_some()))
    };
    assert!(told(&mut world), "others say so, too");
    world.crash(4);
    world.run_for(secs(615));
    assert!(!told(&mut world), "nobody tells of a second agent that is gone");
}

fn lie(world: &World, liar: usize, subject: usize) -> Option<Statement> {
    let identity = world.node(subject)?.identity();
    let incarnations = 0..4_u16;
    let accusation = Accusation {
        accuser: world.id(liar),
        subject: identity.id,
        epoch: identity.epoch,
        revival: identity.revival,
        incarnation: incarnations.start,
        evidence: Evidence::ProbeUnanswered,
        sequence: world.now().as_nanos(),
        seal: Seal([0; 64]),
    };
    Some(Statement::Accusation(
        Verified::seal_accusation(accusation, &SimSealer::of(world.id(liar))).into_inner(),
    ))
}

#[test]
fn one_liar_removes_nobody() {
    let mut world = mesh(1, 6, 0.0);
    for round in 0..300_u16 {
        for victim in 0..5 {
            let Some(Statement::Accusation(mut accusation)) = lie(&world, 5, victim) else {
                continue;
            };
            accusation.incarnation = round / 2;
            let accusation = Verified::seal_accusation(accusation, &SimSealer::of(world.id(5))).into_inner();
            let push = Push::Statements(vec![Statement::Accusation(accusation)]);
            for told in 0..5 {
                world.forge_push(5, told, &push);
            }
        }
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(secs(20));
    for host in 0..5 {
        assert!(!ever_down(&world, &format!("node-{host}")), "host {host}");
    }
}

#[test]
fn a_liar_that_does_not_tell_its_victim_removes_nobody() {
    let mut world = mesh(1, 30, 0.0);
    for round in 0..100 {
        let victim = round / 20;
        let life = world.node(victim).expect("runs").identity();
        let known = world.snapshot(10).expect("runs").member(life.id).map_or(0, |member| member.incarnation);
        let accusation = Accusation {
            accuser: world.id(29),
            subject: life.id,
            epoch: life.epoch,
            revival: life.revival,
            incarnation: known,
            evidence: Evidence::ProbeUnanswered,
            sequence: world.now().as_nanos(),
            seal: Seal([0; 64]),
        };
        let accusation = Verified::seal_accusation(accusation, &SimSealer::of(world.id(29))).into_inner();
        let push = Push::Statements(vec![Statement::Accusation(accusation)]);
        for told in (0..29).filter(|told| *told != victim) {
            world.forge_push(29, told, &push);
        }
        world.run_for(Duration::from_millis(500));
    }
    world.run_for(secs(20));
    for host in 0..29 {
        assert!(!ever_down(&world, &format!("node-{host}")), "host {host}");
    }
}

#[test]
fn whoever_speaks_for_another_is_rejected_and_counted() {
    let mut world = mesh(1, 4, 0.0);
    let identity = |world: &World, host: usize| world.node(host).expect("runs").identity();
    let header = foca::Header {
        src: ringmesh_gossip::codec::Peer::from(identity(&world, 1)),
        src_incarnation: 0,
        dst: ringmesh_gossip::codec::Peer::from(identity(&world, 0)),
        message: foca::Message::Ping(1),
    };
    let mut packet = Vec::new();
    ringmesh_types::wire::encode_into(&mut packet, &header).expect("fits");
    packet.extend_from_slice(&[0, 0]);
    let at = identity(&world, 1).addr;
    let datagram = ringmesh_gossip::message::Datagram::Packet { at, packet };
    let bytes =
        ringmesh_types::wire::encode(ringmesh_types::wire::Channel::Datagram, &datagram).expect("fits");
    world.forge_datagram(1, 0, bytes.clone());
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.node(0).expect("runs").stats().impostors, 0, "it speaks for itself");
    world.forge_datagram(3, 0, bytes);
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.node(0).expect("runs").stats().impostors, 1);
}

#[test]
fn an_accusation_under_another_name_counts_for_nothing() {
    let mut world = mesh(1, 4, 0.0);
    let Some(Statement::Accusation(mut forged)) = lie(&world, 1, 0) else {
        panic!("runs");
    };
    forged = Verified::seal_accusation(forged, &SimSealer::of(world.id(3))).into_inner();
    world.forge_push(3, 2, &Push::Statements(vec![Statement::Accusation(forged)]));
    world.run_for(secs(1));
    let stats = world.node(2).expect("runs").stats();
    assert_eq!((stats.accusations_counted, world.sees(2, 0)), (0, Some(MemberState::Alive)));
}

#[test]
fn a_mesh_that_agrees_is_quiet() {
    let mut world = mesh(1, 6, 0.0);
    world.crash(5);
    world.run_for(secs(12));
    world.command(0, Command::Forget("node-5".parse().expect("a name")));
    world.run_for(secs(2));
    world.crash(0);
    world.run_for(secs(20));
    world.start(0);
    world.run_for(secs(60));
    let before: Vec<_> = (0..5).map(|host| world.traffic(host)).collect();
    world.run_for(secs(120));
    for (host, before) in before.iter().enumerate() {
        let now = world.traffic(host);
        assert!(
            now.messages - before.messages < 40,
            "host {host}: {} messages in 2 min",
            now.messages - before.messages
        );
        assert!(
            now.datagrams - before.datagrams < 2 * 120 + 40 + 40,
            "host {host}: one ping and one ack a second, and four beats every 12 s"
        );
    }
}

#[test]
fn a_seed_that_too_many_join_at_sends_some_of_them_to_others() {
    let mut world = world(1, 121, 0.0);
    let old: Vec<usize> = (0..60).collect();
    world.start_converged(&old);
    world.run_for(secs(5));
    let sent = |world: &World| world.traffic(0).bytes;
    let before = sent(&world);
    world.start(60);
    world.run_for(Duration::from_millis(500));
    let for_one = sent(&world) - before;
    let before = sent(&world);
    (61..121).for_each(|host| world.start(host));
    assert!(world.run_until(secs(5), World::agrees).is_some());
    let for_sixty = sent(&world) - before;
    assert!(for_sixty < 48 * for_one, "{for_sixty} bytes for sixty, {for_one} for one");
}

#[test]
fn what_no_member_has_agreed_with_for_long_is_said_to_be_stale() {
    let mut world = mesh(1, 3, 0.0);
    for host in [1, 2] {
        world.command(host, Command::Hold(Some(secs(300))));
    }
    world.run_for(secs(1));
    [1, 2].into_iter().for_each(|host| world.crash(host));
    let is_said = |world: &World, to: &str| {
        world
            .events
            .iter()
            .any(|(_, host, event)| *host == 0 && event.kind == EventKind::Agent && event.to == to)
    };
    world.run_for(secs(85));
    assert!(!is_said(&world, "stale"));
    world.run_for(secs(40));
    assert!(is_said(&world, "stale"));
    [1, 2].into_iter().for_each(|host| world.start(host));
    world.run_for(secs(40));
    assert!(is_said(&world, "current"));
}

#[test]
fn followers_are_told_together_of_what_happens_together() {
    let mut world = mesh(1, 30, 0.0);
    world.run_for(secs(10));
    world.presences.clear();
    [5, 6, 7].into_iter().for_each(|host| world.crash(host));
    world.run_for(secs(20));
    for observer in (0..30).filter(|host| !(5..8).contains(host)) {
        let told: Vec<_> = world.presences.iter().filter(|(_, host, _)| *host == observer).collect();
        assert!(told.len() <= 2, "host {observer} was told {} times", told.len());
        let changes = told.iter().map(|(_, _, changes)| changes.len()).sum::<usize>();
        assert_eq!(changes, 3, "host {observer}: {told:?}");
    }
}

#[test]
fn a_member_that_slept_holds_nothing_against_the_others() {
    for seed in SEEDS {
        let mut world = mesh(seed, 10, 0.05);
        for _ in 0..5 {
            world.freeze(4, secs(8));
            world.run_for(secs(15));
        }
        for host in (0..10).filter(|host| *host != 4) {
            let name = format!("node-{host}");
            let blamed =
                world.events.iter().filter(|(_, _, event)| event.subject == name && event.to == "Down");
            assert_eq!(blamed.count(), 0, "seed {seed}, host {host}");
        }
    }
}

#[test]
fn a_service_that_dies_is_failing_everywhere_within_its_checks() {
    for seed in SEEDS {
        let mut world = mesh(seed, 6, 0.0);
        for host in 0..3 {
            world.register(host, sip(host));
        }
        let passing = |world: &mut World| {
            (0..6).all(|observer| {
                (0..3).all(|host| health(world, observer, host) == Some(HealthState::Passing))
            })
        };
        assert!(world.run_until(secs(3), passing).is_some(), "seed {seed}");
        world.set_endpoint(1, endpoint(1), false);
        let limit = Duration::from_millis(1_100 * 2 + 500 + 200);
        let failing = |world: &mut World| {
            (0..6).all(|observer| health(world, observer, 1) == Some(HealthState::Failing))
        };
        assert!(world.run_until(limit, failing).is_some(), "seed {seed}");
        world.set_endpoint(1, endpoint(1), true);
        assert!(world.run_until(secs(4), passing).is_some(), "seed {seed}");
    }
}

#[test]
fn registrations_and_drains_survive_a_crash_with_their_health() {
    let mut world = mesh(1, 3, 0.0);
    world.register(2, sip(2));
    world.run_for(secs(4));
    world.command(2, Command::Drain(DrainTarget::Node));
    world.run_for(secs(4));
    assert!(world.take_answers(2).iter().all(Result::is_ok));
    world.crash(2);
    world.start(2);
    assert_eq!(health(&mut world, 2, 2), Some(HealthState::Passing), "before the first check");
    world.run_for(secs(2));
    let snapshot = world.snapshot(0).expect("runs");
    assert!(snapshot.services["sip"].instances[0].is_draining);
}

#[test]
fn a_forgotten_member_stays_away_until_it_starts_again() {
    let mut world = mesh(1, 4, 0.0);
    world.crash(3);
    world.command(0, Command::Forget("node-3".parse().expect("a name")));
    assert!(world.take_answers(0)[0].is_err(), "it still seems alive");
    world.run_for(secs(12));
    world.command(0, Command::Forget("node-3".parse().expect("a name")));
    assert!(world.take_answers(0)[0].is_ok());
    let gone = |world: &mut World| (0..3).all(|observer| world.sees(observer, 3).is_none());
    assert!(world.run_until(secs(2), gone).is_some());
    world.run_for(secs(60));
    assert!(gone(&mut world), "no ghost returns");
    world.start(3);
    assert!(world.run_until(secs(3), World::agrees).is_some());
}
