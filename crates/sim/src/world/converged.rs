//! Hosts that know each other from the begin: what each would say is rehearsed, checked and read once, and told to all.

use core::time::Duration;
use std::thread;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use ringmesh_gossip::admission::Gate;
use ringmesh_health::monitor::EndpointKey;
use ringmesh_node::Node;
use ringmesh_node::io::{Input, Source};
use ringmesh_types::body::EndpointHealth;
use ringmesh_types::document::Topic;
use ringmesh_types::limits;
use ringmesh_types::sealed::Statement;
use ringmesh_types::service::HealthState;
use ringmesh_types::time::{Instant, WallTime};

use super::{Seedling, WALL_START, World};

/// So many hosts of a converged mesh are set up before the first of them starts.
const GROWN_AT_ONCE: usize = 64;

impl World {
    /// Starts hosts that know each other already, each at a random moment of one probe period from now on. What they know
    /// of each other is checked and read once, and shared.
    pub fn start_converged(&mut self, hosts: &[usize]) {
        let wall = WallTime::from_unix_millis(WALL_START + self.now.as_millis());
        let mut said = Vec::new();
        for host in hosts {
            // What a host will publish follows from its seed, its disk and the wall clock: a rehearsal shows it.
            self.hosts[*host].disk.health = all_passing(&self.rehearse(*host, wall), wall);
            let node = self.rehearse(*host, wall);
            let documents = node.documents_of(node.id());
            said.extend(documents.iter().map(|stored| Statement::Document(stored.document.clone())));
        }
        // In order of ids, as a joiner hears of them.
        said.sort_by_key(Statement::speaker);
        let trust: Vec<Statement> = said.iter().filter(|statement| is_trust(statement)).cloned().collect();
        let known = Gate::new(self.checker()).admit(self.now, wall, said).admitted;
        let period = self.hosts.first().map_or(Duration::ZERO, |host| host.config.probe.period);
        let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let phase = |rng: &mut ChaCha8Rng| Duration::from_nanos(rng.random_range(0..nanos.max(1)));
        let mut phases: Vec<_> = hosts.iter().map(|host| (phase(&mut self.rng), *host)).collect();
        phases.sort_unstable();
        let begun = self.now;
        let checker = self.checker();
        let grow = |(now, seedling): (Instant, Seedling)| {
            let mut gate = Gate::new(checker);
            gate.admit(now, wall, trust.clone());
            let mut node = seedling.grow(now, wall);
            for statements in known.chunks(limits::BATCH_STATEMENTS_MAX) {
                node.handle(now, Input::Statements { source: Source::Disk, statements: statements.to_vec() });
            }
            (node, gate)
        };
        for some in phases.chunks(GROWN_AT_ONCE) {
            let seedlings: Vec<_> =
                some.iter().map(|(phase, host)| (begun.after(*phase), self.seedling(*host, wall))).collect();
            for ((phase, host), (node, gate)) in some.iter().zip(side_by_side(seedlings, &grow)) {
                self.run_for(begun.after(*phase).since(self.now));
                self.begin_life(*host, node, gate);
                self.drain(*host);
            }
        }
        self.run_for(begun.after(period).since(self.now));
    }

    /// The node that a host would start with, if it did.
    fn rehearse(&mut self, host: usize, wall: WallTime) -> Node {
        let epoch = self.hosts[host].disk.epoch;
        let node = self.seedling(host, wall).grow(self.now, wall);
        self.hosts[host].disk.epoch = epoch;
        node
    }
}

/// What `act` makes of each, in order; of many with a thread for each core, for none knows of another.
fn side_by_side<T: Send, U: Send>(items: Vec<T>, act: &(impl Fn(T) -> U + Sync)) -> Vec<U> {
    if items.len() < GROWN_AT_ONCE {
        return items.into_iter().map(act).collect();
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut rest = items;
    thread::scope(|scope| {
        let mut parts = Vec::new();
        for thread in (1..=threads).rev() {
            let part = rest.split_off(rest.len() - rest.len() / thread);
            parts.push(scope.spawn(move || part.into_iter().map(act).collect::<Vec<U>>()));
        }
        parts.into_iter().rev().flat_map(|part| part.join().expect("no part of a set-up panics")).collect()
    })
}

/// The health of all endpoints on a node whose checks have passed for a while.
fn all_passing(node: &Node, wall: WallTime) -> Vec<(EndpointKey, EndpointHealth)> {
    let health = EndpointHealth { state: HealthState::Passing, since: wall };
    node.endpoints().map(|key| (key.clone(), health)).collect()
}

fn is_trust(statement: &Statement) -> bool {
    match statement {
        Statement::Document(document) => document.key.topic.as_str() == Topic::TRUST,
        Statement::Accusation(_) => false,
    }
}
