//! The same with Ringmesh nodes.

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_sim::world::{World, WorldConfig};
use ringmesh_types::event::EventKind;
use ringmesh_types::time::Instant;

use crate::cell::{Cell, Counts, Crash, Plan};

/// Plays a cell once.
pub(crate) fn play(plan: &Plan, cell: Cell, seed: u64, config: &WorldConfig) -> Counts {
    let config = WorldConfig { hosts: plan.nodes, zones: 1, ..config.clone() };
    let mut world = World::new(seed, &config);
    let hosts: Vec<usize> = (0..plan.nodes).collect();
    world.start_converged(&hosts);
    world.events.clear();
    let begun = world.now();
    let before = sent(&world);
    let mut counts = Counts::default();
    let slow = || hosts.iter().copied().filter(|host| plan.is_slow(cell, *host));
    run_until(&mut world, begun.after(plan.slow_from()));
    slow().for_each(|host| world.slow(host, Some((cell.hold, cell.free))));
    run_until(&mut world, begun.after(plan.crash_at()));
    world.crash(plan.crashes());
    run_until(&mut world, begun.after(plan.slow_until()));
    slow().for_each(|host| world.slow(host, None));
    run_until(&mut world, begun.after(plan.length()));
    let names: BTreeMap<String, usize> = hosts.iter().map(|host| (format!("node-{host}"), *host)).collect();
    for (at, observer, event) in core::mem::take(&mut world.events) {
        let subject = names.get(&event.subject).copied();
        let Some(subject) = subject.filter(|_| event.kind == EventKind::Member && event.to == "Down") else {
            continue;
        };
        let after = at.since(begun);
        if subject == plan.crashes() && after >= plan.crash_at() {
            if !plan.is_slow(cell, observer) {
                let crash = counts.crash.get_or_insert_with(Crash::default);
                crash.known(observer, after - plan.crash_at());
            }
        } else if !plan.is_slow(cell, subject) {
            counts.false_positives += 1;
            counts.false_positives_by_healthy += u64::from(!plan.is_slow(cell, observer));
        }
    }
    let after = sent(&world);
    (counts.messages, counts.bytes) = (after.0 - before.0, after.1 - before.1);
    counts
}

fn run_until(world: &mut World, at: Instant) {
    let left: Duration = at.since(world.now());
    world.run_for(left);
}

fn sent(world: &World) -> (u64, u64) {
    (0..world.hosts()).map(|host| world.traffic(host)).fold((0, 0), |(messages, bytes), traffic| {
        (messages + traffic.datagrams + traffic.messages, bytes + traffic.bytes)
    })
}
