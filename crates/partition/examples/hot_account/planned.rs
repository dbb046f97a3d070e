//! Maps that are planned every ten seconds, from what meters on the hosts report.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use ringmesh_partition::churn::{Churn, MINUTE_PLANNED};
use ringmesh_partition::heat::{Heat, Meter};
use ringmesh_partition::map::Map;
use ringmesh_partition::place::Candidate;
use ringmesh_partition::plan::{self, PlanConfig};
use ringmesh_partition::position::{Position, Strategy};
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ZoneName;
use ringmesh_types::time::Instant;

use super::requests::{ACCOUNTS, key};
use super::{HOSTS, Owners};

const ROUND: u64 = 10;

/// The hosts of the experiment.
pub(crate) fn hosts() -> Vec<Candidate> {
    let zones: [ZoneName; 3] = ["a", "b", "c"].map(|zone| zone.parse().expect("a name"));
    let one = |host: u16| Candidate {
        node: NodeId::from_bytes((u64::from(host) + 1).to_be_bytes()),
        zone: zones[usize::from(host) % 3].clone(),
        capacity: 100,
        is_live: true,
    };
    (0..HOSTS).map(one).collect()
}

/// The first map of them.
pub(crate) fn first() -> Map {
    let (hosts, service) = (hosts(), "limiter".parse().expect("a name"));
    plan::first(service, Strategy::Hash, hosts[0].node, &hosts, &PlanConfig::default())
        .expect("there are hosts")
}

pub(crate) fn positions() -> Vec<Position> {
    (0..ACCOUNTS).map(|account| Strategy::Hash.position(&key(account)).expect("a key")).collect()
}

pub(crate) struct Planned {
    hosts: Vec<Candidate>,
    map: Map,
    meters: Vec<Meter>,
    positions: Vec<Position>,
    rng: ChaCha8Rng,
    churn: Churn,
}

impl Planned {
    pub(crate) fn new(seed: u64) -> Self {
        let meters = (0..HOSTS).map(|_| Meter::new(Instant::START)).collect();
        let rng = ChaCha8Rng::seed_from_u64(!seed);
        Self { hosts: hosts(), map: first(), meters, positions: positions(), rng, churn: Churn::default() }
    }

    fn owner(&self, at: Position) -> u16 {
        self.map.lookup_at(at).expect("there are hosts").seats[0].0
    }
}

impl Owners for Planned {
    fn name(&self) -> &'static str {
        "Ringmesh"
    }

    fn serve(&mut self, second: u64, account: u32) -> u16 {
        let at = self.positions[account as usize];
        let found = self.map.lookup_at(at).expect("there are hosts");
        let owners = match found.place {
            ringmesh_partition::map::Place::Dedicated => found.seats,
            ringmesh_partition::map::Place::Partition(_) => &found.seats[..1],
        };
        let host = owners[self.rng.random_range(0..owners.len())].0;
        self.meters[usize::from(host)].add(Instant::from_millis(1_000 * second), &self.map, at, 1.0);
        host
    }

    fn tick(&mut self, second: u64) -> f64 {
        if second % ROUND != ROUND - 1 {
            return 0.0;
        }
        let now = Instant::from_millis(1_000 * second);
        let reports = self.meters.iter().map(|meter| meter.report(now, &self.map));
        let heat = Heat::of(reports, &self.map);
        let whole = PlanConfig::default();
        let left = self.churn.left(now, MINUTE_PLANNED).max(0.0);
        let config = PlanConfig { churn_max: whole.churn_max.min(left), ..whole };
        let planned = plan::plan(&self.map, self.hosts[0].node, &self.hosts, Some(&heat), &config);
        let Some(planned) = planned.expect("there are hosts") else { return 0.0 };
        let before: Vec<u16> = self.positions.iter().map(|at| self.owner(*at)).collect();
        self.churn.add(now, planned.churn());
        self.meters.iter_mut().for_each(|meter| meter.follow(&self.map, &planned.map));
        self.map = planned.map;
        let moved =
            self.positions.iter().zip(before).filter(|(at, before)| self.owner(**at) != *before).count();
        moved as f64 / f64::from(ACCOUNTS)
    }

    fn hosts_of(&self, account: u32) -> usize {
        let found = self.map.lookup_at(self.positions[account as usize]).expect("there are hosts");
        match found.place {
            ringmesh_partition::map::Place::Dedicated => found.seats.len(),
            ringmesh_partition::map::Place::Partition(_) => 1,
        }
    }
}
