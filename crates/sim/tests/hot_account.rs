//! A hot account among limiters in a mesh on virtual time: each host measures what it serves by the map that it follows itself, its
//! agent reports that to the author, and the load is even again within a minute.

use core::time::Duration;
use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use ringmesh_node::io::Command;
use ringmesh_node::registration::{RawEndpoint, RawRegistration};
use ringmesh_partition::heat::Meter;
use ringmesh_partition::map::{Map, Place};
use ringmesh_partition::position::{Position, Strategy};
use ringmesh_sim::world::{World, WorldConfig};
use ringmesh_types::map_spec::MapSpec;
use ringmesh_types::name::ServiceName;

const HOSTS: usize = 20;
const ACCOUNTS: u32 = 20_000;
const PER_SECOND: usize = 4_000;
const EXPONENT: f64 = 1.1;
/// What the account that jumps has of all requests.
const JUMP: f64 = 0.4;

fn limiter() -> ServiceName {
    "limiter".parse().expect("a name")
}

struct Traffic {
    world: World,
    meters: Vec<Meter>,
    followed: Vec<std::sync::Arc<Map>>,
    rng: ChaCha8Rng,
    sums: Vec<f64>,
    positions: Vec<Position>,
    /// Requests that each host served, by second.
    served: Vec<[u32; HOSTS]>,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        let maps = BTreeMap::from([(limiter(), MapSpec::default())]);
        let mut world = World::new(seed, &WorldConfig { hosts: HOSTS, maps, ..WorldConfig::default() });
        for host in 0..HOSTS {
            let endpoint = RawEndpoint {
                transport: "tcp".to_owned(),
                address: "10.0.0.1".to_owned(),
                port: 7_500,
                ..RawEndpoint::default()
            };
            world.declare(
                host,
                vec![RawRegistration {
                    id: format!("limiter-{host}"),
                    service: "limiter".to_owned(),
                    endpoints: vec![endpoint],
                    ..RawRegistration::default()
                }],
            );
        }
        world.start_all();
        world.run_for(Duration::from_secs(15));
        let followed: Vec<_> = (0..HOSTS).map(|host| map(&mut world, host)).collect();
        let mut sum = 0.0;
        let mut sums: Vec<f64> = (1..=ACCOUNTS)
            .map(|rank| {
                sum += f64::from(rank).powf(-EXPONENT);
                sum
            })
            .collect();
        sums.iter_mut().for_each(|part| *part /= sum);
        let position =
            |account: u32| Strategy::Hash.position(format!("account-{account}").as_bytes()).expect("a key");
        Self {
            meters: (0..HOSTS).map(|_| Meter::new(world.now())).collect(),
            world,
            followed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            sums,
            positions: (0..ACCOUNTS).map(position).collect(),
            served: Vec::new(),
        }
    }

    /// One second of requests; every asker goes by the map of the first host. Every fifth second programs report.
    fn second(&mut self, jumper: Option<u32>) {
        for host in 0..HOSTS {
            let now = map(&mut self.world, host);
            if now.parts().generation != self.followed[host].parts().generation {
                self.meters[host].follow(&self.followed[host], &now);
                self.followed[host] = now;
            }
        }
        let (asked, now) = (self.followed[0].clone(), self.world.now());
        let mut served = [0; HOSTS];
        for _ in 0..PER_SECOND {
            let at: f64 = self.rng.random();
            let account = match jumper {
                Some(account) if self.rng.random::<f64>() < JUMP => account,
                _ => self.sums.partition_point(|sum| *sum < at) as u32,
            };
            let at = self.positions[account as usize];
            let found = asked.lookup_at(at).expect("there are hosts");
            let seat = match found.place {
                Place::Dedicated => found.seats[self.rng.random_range(0..found.seats.len())],
                Place::Partition(_) => found.seats[0],
            };
            let node = asked.host(seat).node;
            let host = (0..HOSTS).find(|host| self.world.id(*host) == node).expect("is a host");
            served[host] += 1;
            let own = self.followed[host].clone();
            self.meters[host].add(now, &own, at, 1.0);
        }
        if self.served.len() % 5 == 4 {
            for host in 0..HOSTS {
                let report = Box::new(self.meters[host].report(now, &self.followed[host]));
                let reporter = "limiter".to_owned();
                self.world.command(host, Command::ReportHeat { service: limiter(), reporter, report });
            }
        }
        self.served.push(served);
        self.world.run_for(Duration::from_secs(1));
    }

    /// Max ÷ mean over the last so many seconds.
    fn imbalance(&self, seconds: usize) -> f64 {
        let mut sums = [0_u32; HOSTS];
        for second in &self.served[self.served.len() - seconds..] {
            sums.iter_mut().zip(second).for_each(|(sum, one)| *sum += one);
        }
        let mean = f64::from(sums.iter().sum::<u32>()) / HOSTS as f64;
        f64::from(*sums.iter().max().expect("there are hosts")) / mean
    }
}

fn map(world: &mut World, host: usize) -> std::sync::Arc<Map> {
    let maps = world.maps(host).expect("it runs");
    maps.by_service[&limiter()].map.clone().expect("a map is followed")
}

#[test]
fn an_account_that_jumps_to_two_fifths_of_all_traffic_is_spread_within_a_minute() {
    for seed in 1..=2 {
        let mut traffic = Traffic::new(seed);
        for _ in 0..240 {
            traffic.second(None);
        }
        let calm = traffic.imbalance(20);
        assert!(calm <= 1.2, "seed {seed}: {calm:.2} before the jump");
        let quiet = map(&mut traffic.world, 0).parts().generation;
        let mut even_after = None;
        for second in 1..=70 {
            traffic.second(Some(17_123));
            if second >= 5 && even_after.is_none() && traffic.imbalance(5) <= 1.2 {
                even_after = Some(second);
            }
        }
        assert!(even_after.is_some_and(|second| second <= 60), "seed {seed}: {even_after:?}");
        let map = map(&mut traffic.world, 0);
        assert!(map.is_dedicated(traffic.positions[17_123]), "seed {seed}");
        let late = traffic.imbalance(10);
        println!(
            "seed {seed}: {calm:.2} before (generation {quiet}), ≤ 1.2 after {even_after:?} s, then {late:.2}"
        );
        assert!(late <= 1.25, "seed {seed}: {late:.2} a minute later");
    }
}
