//! How a field of some records would do as a key: how many values it has, which of them weigh most, and how even the load of
//! hosts would be, as a first map has it and after planning. Of any number of records, in constant memory: half a megabyte of
//! sums, and [`HOT_KEYS`] keys.

use std::collections::BTreeMap;

use ringmesh_types::ids::NodeId;

use crate::heat::{Heat, PartitionHeat};
use crate::map::{Map, Place};
use crate::place::Candidate;
use crate::plan::{self, PlanConfig, What};
use crate::position::{KeyError, Position, Strategy};
use crate::sketch::{HyperLogLog, SpaceSaving};

/// Keys that are kept apart.
pub const HOT_KEYS: usize = 1_024;
/// The space is summed up in so many equal parts.
const BINS: usize = 1 << BIN_BITS;
const BIN_BITS: u32 = 16;
/// Bytes of a key that are kept to name it.
const LABEL_BYTES_MAX: usize = 64;
/// Rounds of planning at most; it settles long before.
const ROUNDS_MAX: usize = 200;

/// What was seen of one field.
#[derive(Debug, Clone)]
pub struct Sample {
    bins: Vec<f64>,
    hot: SpaceSaving,
    labels: BTreeMap<Position, Vec<u8>>,
    distinct: HyperLogLog,
    records: u64,
    empty: u64,
    too_long: u64,
}

/// A value that weighs much.
#[derive(Debug, Clone, PartialEq)]
pub struct Top {
    /// Its first bytes.
    pub label: Vec<u8>,
    /// Its share of all that are not empty, for certain.
    pub share: f64,
}

/// How load would lie on hosts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// The busiest host beside the mean.
    pub max_over_mean: f64,
    /// Partitions.
    pub partitions: usize,
    /// Keys with partitions of their own.
    pub dedicated: usize,
    /// Hosts that share the one that most share.
    pub sharers: usize,
    /// Splits on the way.
    pub splits: usize,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            bins: vec![0.0; BINS],
            hot: SpaceSaving::new(HOT_KEYS),
            labels: BTreeMap::new(),
            distinct: HyperLogLog::default(),
            records: 0,
            empty: 0,
            too_long: 0,
        }
    }
}

impl Sample {
    /// A record has this value; an empty one is what a missing field is.
    pub fn add(&mut self, value: &[u8]) {
        self.records += 1;
        let at = match Strategy::Hash.position(value) {
            Ok(at) => at,
            Err(KeyError::Empty) => {
                self.empty += 1;
                return;
            }
            Err(KeyError::TooLong(_)) => {
                self.too_long += 1;
                return;
            }
        };
        self.distinct.add(at);
        self.hot.add(at, 1.0);
        self.bins[bin_of(at)] += 1.0;
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.labels.entry(at) {
            vacant.insert(value[..value.len().min(LABEL_BYTES_MAX)].to_vec());
            if self.labels.len() > 4 * HOT_KEYS {
                let kept: BTreeMap<Position, ()> = self.hot.top().map(|(at, _)| (at, ())).collect();
                self.labels.retain(|at, _| kept.contains_key(at));
            }
        }
    }

    /// Records that were seen.
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Of them without a value.
    pub const fn empty(&self) -> u64 {
        self.empty
    }

    /// Of them with one that is too long for a key.
    pub const fn too_long(&self) -> u64 {
        self.too_long
    }

    /// Records whose value can be a key.
    pub const fn keyed(&self) -> u64 {
        self.records - self.empty - self.too_long
    }

    /// How many different values there are, about.
    pub fn distinct(&self) -> f64 {
        self.distinct.estimate().min(self.keyed() as f64)
    }

    /// The values that weigh most.
    pub fn top(&self, count: usize) -> Vec<Top> {
        let share = |cost: f64| cost / self.keyed().max(1) as f64;
        let known = self.hot.top().filter(|(_, count)| count.cost > count.error);
        let top = known.map(|(at, count)| Top {
            label: self.labels.get(&at).cloned().unwrap_or_default(),
            share: share(count.cost - count.error),
        });
        let mut top: Vec<Top> = top.collect();
        top.sort_by(|one, other| other.share.total_cmp(&one.share));
        top.truncate(count);
        top
    }

    /// How load would lie on so many equal hosts, with so many partitions each: by a first map, and after planning until
    /// nothing is to be done. Nothing without a key, or without hosts.
    pub fn loads(&self, hosts: u16, partitions_per_host: usize) -> Option<(Load, Load)> {
        if self.keyed() == 0 || hosts == 0 {
            return None;
        }
        let config = PlanConfig { partitions_per_host, ..PlanConfig::default() };
        let candidates = candidates(hosts);
        let author = candidates[0].node;
        let service = "sample".parse().expect("a name");
        let mut map = plan::first(service, Strategy::Hash, author, &candidates, &config).ok()?;
        let load = |map: &Map, splits| Load {
            max_over_mean: self.max_over_mean(map, hosts),
            partitions: map.partitions(),
            dedicated: map.parts().dedicated.len(),
            sharers: map.parts().dedicated.iter().map(|key| key.owners.len()).max().unwrap_or_default(),
            splits,
        };
        let before = load(&map, 0);
        let mut splits = 0;
        for _ in 0..ROUNDS_MAX {
            let heat = self.heat(&map);
            let Ok(Some(planned)) = plan::plan(&map, author, &candidates, Some(&heat), &config) else {
                break;
            };
            splits += planned.steps.iter().filter(|step| matches!(step.what, What::Split { .. })).count();
            map = planned.map;
        }
        Some((before, load(&map, splits)))
    }

    /// What lies where: sums of bins without the hot keys in them, and those.
    fn costs(&self) -> impl Iterator<Item = (Position, f64, bool)> {
        let mut rest = self.bins.clone();
        let hot: Vec<(Position, f64)> = self
            .hot
            .top()
            .map(|(at, count)| (at, count.cost - count.error))
            .filter(|(_, cost)| *cost > 0.0)
            .collect();
        for (at, cost) in &hot {
            rest[bin_of(*at)] = (rest[bin_of(*at)] - cost).max(0.0);
        }
        let middle = |bin: usize| Position(((bin as u64) << (64 - BIN_BITS)) | 1 << (63 - BIN_BITS));
        let rest = rest.into_iter().enumerate().filter(|(_, cost)| *cost > 0.0);
        let rest = rest.map(move |(bin, cost)| (middle(bin), cost, false));
        rest.chain(hot.into_iter().map(|(at, cost)| (at, cost, true)))
    }

    /// What members would report.
    fn heat(&self, map: &Map) -> Heat {
        let (mut heat, mut parts) = (Heat::default(), BTreeMap::<usize, Vec<(Position, f64)>>::new());
        for (at, cost, is_key) in self.costs() {
            match map.lookup_at(at).map(|found| found.place) {
                Some(Place::Dedicated) if is_key => *heat.dedicated.entry(at).or_default() += cost,
                Some(Place::Dedicated) | None => {}
                Some(Place::Partition(index)) => {
                    parts.entry(index).or_default().push((at, cost));
                    if is_key {
                        heat.hot.push((at, cost));
                    }
                }
            }
        }
        for (index, mut costs) in parts {
            let slice = map.slice(index);
            costs.sort_by_key(|(at, _)| at.0.wrapping_sub(slice.start.0));
            let cost: f64 = costs.iter().map(|(_, cost)| cost).sum();
            let mut left = cost / 2.0;
            let median = costs.iter().find(|(_, cost)| {
                left -= cost;
                left <= 0.0
            });
            let median = median.map_or(slice.start, |(at, _)| *at);
            heat.partitions.insert(slice.start, PartitionHeat { cost, median });
        }
        heat.hot.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        heat
    }

    fn max_over_mean(&self, map: &Map, hosts: u16) -> f64 {
        let mut loads = vec![0.0; usize::from(hosts)];
        for (at, cost, is_key) in self.costs() {
            let found = map.lookup_at(at).expect("there are hosts");
            let owners = match found.place {
                Place::Dedicated if is_key => found.seats,
                Place::Dedicated | Place::Partition(_) => &found.seats[..1],
            };
            owners.iter().for_each(|seat| loads[seat.index()] += cost / owners.len() as f64);
        }
        loads.iter().copied().fold(0.0, f64::max) / (loads.iter().sum::<f64>() / f64::from(hosts))
    }
}

fn bin_of(at: Position) -> usize {
    (at.0 >> (64 - BIN_BITS)) as usize
}

fn candidates(hosts: u16) -> Vec<Candidate> {
    let zone = || "z".parse().expect("a name");
    let one = |host: u16| Candidate {
        node: NodeId::from_bytes((u64::from(host) + 1).to_be_bytes()),
        zone: zone(),
        capacity: 100,
        is_live: true,
    };
    (0..hosts).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(counts: impl Iterator<Item = u64>) -> Sample {
        let mut sample = Sample::default();
        for (key, count) in counts.enumerate() {
            (0..count).for_each(|_| sample.add(format!("key-{key}").as_bytes()));
        }
        sample
    }

    #[test]
    fn records_are_counted_by_what_they_have() {
        let mut sample = sample([5, 3, 2].into_iter());
        sample.add(b"");
        sample.add(&[b'x'; 2_000]);
        assert_eq!((sample.records(), sample.empty(), sample.too_long(), sample.keyed()), (12, 1, 1, 10));
        assert!((sample.distinct() - 3.0).abs() < 0.1);
        let top = sample.top(2);
        assert_eq!((top.len(), &*top[0].label, top[0].share), (2, &b"key-0"[..], 0.5));
    }

    #[test]
    fn a_heavy_key_makes_hosts_uneven_until_it_is_spread() {
        let heavy = sample((0..5_000).map(|key| if key == 0 { 10_000 } else { 5 }));
        let (before, after) = heavy.loads(20, 20).expect("there are keys");
        assert!(before.max_over_mean > 5.0, "{before:?}");
        assert!(after.max_over_mean < 1.2 && after.dedicated == 1 && after.sharers > 5, "{after:?}");
    }

    #[test]
    fn many_equal_keys_are_even_at_once_or_soon() {
        let (before, after) = sample((0..20_000).map(|_| 3)).loads(10, 20).expect("there are keys");
        assert!(before.max_over_mean < 1.3 && after.max_over_mean < 1.1, "{before:?} {after:?}");
        assert_eq!(after.dedicated, 0);
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(Sample::default().loads(5, 20), None);
        assert_eq!(sample([1].into_iter()).loads(0, 20), None);
        assert!(sample([1].into_iter()).loads(1, 1).is_some());
    }
}
