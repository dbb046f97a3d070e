//! What an owner knows of the load on its partitions, and tells the author: how much, by which keys, and where its middle is.
//!
//! Everything decays: half of it is forgotten in [`HALF_LIFE`]. Bounds: [`HOT_KEYS`] keys for the whole owner, names of so many
//! and of the dedicated ones, and [`BINS`] numbers for each partition that it serves, at most [`PARTITIONS_MAX`] of them.

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_types::ids::NodeId;
use ringmesh_types::time::Instant;
use serde::{Deserialize, Serialize};

use crate::map::{DEDICATED_MAX, Map, PARTITIONS_MAX, Place};
use crate::position::{Position, Strategy};
use crate::sketch::{HyperLogLog, SpaceSaving};
use crate::slice::Slice;

/// Half of the load is forgotten after this time.
pub const HALF_LIFE: Duration = Duration::from_secs(10);
/// Keys that an owner keeps apart: one that makes up 1/128 of its load is among them.
pub const HOT_KEYS: usize = 128;
/// Names of keys in a report at most.
pub const NAMES_MAX: usize = 32;
/// Bytes of a name at most: longer keys stay nameless.
pub const NAME_BYTES_MAX: usize = 64;
/// Names that an owner remembers before it forgets those of keys that are hot no more.
const NAMES_KEPT: usize = 2 * (HOT_KEYS + DEDICATED_MAX);
/// A partition's load is kept in so many equal parts of it, of which the median is found.
pub const BINS: usize = 32;
/// Requests that one member can have in a second, in cost units, at most: whoever reports more reports nonsense.
pub const COST_PER_SECOND_MAX: f64 = 1e9;
/// Weights grow by this much at most before all are scaled down.
const GROWTH_MAX: f64 = 1e12;

/// What one member measures.
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    /// When weights were 1.
    landmark: Instant,
    bins: BTreeMap<Position, [f64; BINS]>,
    dedicated: BTreeMap<Position, f64>,
    hot: SpaceSaving,
    /// Keys that were seen while they were dedicated, or among those that cost most.
    names: BTreeMap<Position, Box<str>>,
    distinct: HyperLogLog,
}

/// What one partition costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartitionHeat {
    /// Cost units a second.
    pub cost: f64,
    /// Where a split would leave half of it on either side.
    pub median: Position,
}

/// What all members of a map report together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Heat {
    /// By where partitions start.
    pub partitions: BTreeMap<Position, PartitionHeat>,
    /// Dedicated keys, in cost units a second.
    pub dedicated: BTreeMap<Position, f64>,
    /// Keys that cost much and have no partition of their own, those that cost most first.
    pub hot: Vec<(Position, f64)>,
    /// Keys of which it is known how they are written.
    pub names: BTreeMap<Position, String>,
}

impl Heat {
    /// The sum of `reports`, of which only what can be is believed.
    pub fn of(reports: impl IntoIterator<Item = Report>, map: &Map) -> Self {
        let (mut heat, mut hot) = (Self::default(), BTreeMap::new());
        for report in reports.into_iter().map(|report| report.checked(map)) {
            heat.names.extend(report.named());
            for (start, part) in report.partitions {
                add_heat(&mut heat.partitions, start, part);
            }
            report
                .dedicated
                .into_iter()
                .for_each(|(at, cost)| *heat.dedicated.entry(at).or_default() += cost);
            report.hot.into_iter().for_each(|(at, cost)| *hot.entry(at).or_default() += cost);
        }
        match map.parts().strategy {
            Strategy::Hash => {
                heat.names.retain(|at, _| hot.contains_key(at) || heat.dedicated.contains_key(at));
            }
            // A position is the beginning of its keys, whatever somebody says.
            Strategy::Name => {
                let all = hot.keys().chain(heat.dedicated.keys());
                heat.names = all.map(|at| (*at, beginning(*at))).collect();
            }
        }
        heat.hot = by_cost(hot);
        heat
    }

    /// What is taken to be so where nobody measures: every part of the space costs the same.
    pub fn even(map: &Map) -> Self {
        let of = |index: usize| {
            let slice = map.slice(index);
            let middle = slice.at((slice.positions() / 2) as u64);
            (slice.start, PartitionHeat { cost: slice.share(), median: middle })
        };
        Self { partitions: (0..map.partitions()).map(of).collect(), ..Self::default() }
    }

    /// Who is silent is not idle: what it owns is taken to cost as much for its size as what the others own.
    pub fn fill_in(&mut self, map: &Map, is_silent: impl Fn(NodeId) -> bool) {
        let owner = |index: usize| map.host(map.parts().seats[index].owner()).node;
        let (silent, told): (Vec<usize>, Vec<usize>) =
            (0..map.partitions()).partition(|index| is_silent(owner(*index)));
        let share = |all: &[usize]| all.iter().map(|index| map.slice(*index).share()).sum::<f64>();
        let cost =
            |index: &usize| self.partitions.get(&map.slice(*index).start).map_or(0.0, |heat| heat.cost);
        let density = told.iter().map(cost).sum::<f64>() / share(&told);
        if !density.is_finite() || density <= 0.0 {
            return;
        }
        for index in silent {
            let slice = map.slice(index);
            let median = slice.at((slice.positions() / 2) as u64);
            let usual = PartitionHeat { cost: density * slice.share(), median };
            self.partitions.entry(slice.start).or_insert(usual);
        }
    }

    /// Dedicated keys, those that cost most first.
    pub fn dedicated_by_cost(&self) -> Vec<(Position, f64)> {
        by_cost(self.dedicated.clone())
    }

    /// What everything costs together, in cost units a second.
    pub fn total(&self) -> f64 {
        self.partitions.values().map(|heat| heat.cost).chain(self.dedicated.values().copied()).sum()
    }
}

/// The middle of what two report is that of who saw most of it.
fn add_heat(heat: &mut BTreeMap<Position, PartitionHeat>, start: Position, part: PartitionHeat) {
    heat.entry(start)
        .and_modify(|sum| {
            let median = if part.cost > sum.cost { part.median } else { sum.median };
            *sum = PartitionHeat { cost: (sum.cost + part.cost).min(COST_PER_SECOND_MAX), median };
        })
        .or_insert(part);
}

/// Keys, those that cost most first.
fn by_cost(keys: BTreeMap<Position, f64>) -> Vec<(Position, f64)> {
    let mut keys: Vec<(Position, f64)> = keys.into_iter().collect();
    keys.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    keys
}

/// What a member reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawReport", into = "RawReport")]
pub struct Report {
    /// How long it has measured; less than a few half-lives says little.
    pub measured: Duration,
    /// By where partitions start.
    pub partitions: BTreeMap<Position, PartitionHeat>,
    /// Dedicated keys that it serves, in cost units a second.
    pub dedicated: BTreeMap<Position, f64>,
    /// The keys that cost most, in cost units a second, for certain.
    pub hot: Vec<(Position, f64)>,
    /// How many different keys there were.
    pub distinct: HyperLogLog,
    /// How some of the dedicated and hot keys are written, for people to read.
    pub names: Vec<String>,
}

/// A report as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReport {
    measured_ms: u64,
    partitions: Vec<RawPartition>,
    #[serde(default)]
    dedicated: Vec<RawKey>,
    #[serde(default)]
    hot: Vec<RawKey>,
    #[serde(default)]
    distinct: HyperLogLog,
    #[serde(default)]
    names: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPartition {
    start: Position,
    cost: f64,
    median: Position,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    at: Position,
    cost: f64,
}

/// Why something is no report.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PeerReportError {
    /// A cost that cannot be.
    #[error("{field}[{index}].cost: {cost} is not allowed: 0 to {COST_PER_SECOND_MAX:e}")]
    Cost {
        /// Of what.
        field: &'static str,
        /// Which one.
        index: usize,
        /// What it says.
        cost: f64,
    },
    /// Too many of something.
    #[error("{field}: has {count}, at most {most} are allowed")]
    TooMany {
        /// Of what.
        field: &'static str,
        /// How many there are.
        count: usize,
        /// How many may be.
        most: usize,
    },
    /// A name that is none, or too long.
    #[error("names[{index}]: has {bytes} bytes, 1 to {NAME_BYTES_MAX} are allowed")]
    Name {
        /// Which one.
        index: usize,
        /// How long it is.
        bytes: usize,
    },
}

impl TryFrom<RawReport> for Report {
    type Error = PeerReportError;

    fn try_from(raw: RawReport) -> Result<Self, PeerReportError> {
        let is_sane = |cost: f64| (0.0..=COST_PER_SECOND_MAX).contains(&cost);
        if let Some((index, bad)) = raw.partitions.iter().enumerate().find(|(_, one)| !is_sane(one.cost)) {
            return Err(PeerReportError::Cost { field: "partitions", index, cost: bad.cost });
        }
        for (field, keys, most) in [("dedicated", &raw.dedicated, DEDICATED_MAX), ("hot", &raw.hot, HOT_KEYS)]
        {
            if let Some((index, bad)) = keys.iter().enumerate().find(|(_, one)| !is_sane(one.cost)) {
                return Err(PeerReportError::Cost { field, index, cost: bad.cost });
            }
            if keys.len() > most {
                return Err(PeerReportError::TooMany { field, count: keys.len(), most });
            }
        }
        if raw.partitions.len() > PARTITIONS_MAX {
            let count = raw.partitions.len();
            return Err(PeerReportError::TooMany { field: "partitions", count, most: PARTITIONS_MAX });
        }
        if raw.names.len() > NAMES_MAX {
            return Err(PeerReportError::TooMany { field: "names", count: raw.names.len(), most: NAMES_MAX });
        }
        let lengths = raw.names.iter().map(String::len).enumerate();
        if let Some((index, bytes)) =
            lengths.into_iter().find(|(_, bytes)| !(1..=NAME_BYTES_MAX).contains(bytes))
        {
            return Err(PeerReportError::Name { index, bytes });
        }
        let partition = |one: RawPartition| (one.start, PartitionHeat { cost: one.cost, median: one.median });
        Ok(Self {
            measured: Duration::from_millis(raw.measured_ms),
            partitions: raw.partitions.into_iter().map(partition).collect(),
            dedicated: raw.dedicated.into_iter().map(|one| (one.at, one.cost)).collect(),
            hot: raw.hot.into_iter().map(|one| (one.at, one.cost)).collect(),
            names: raw.names,
            distinct: raw.distinct,
        })
    }
}

impl From<Report> for RawReport {
    fn from(report: Report) -> Self {
        let key = |(at, cost)| RawKey { at, cost };
        let partition =
            |(start, heat): (_, PartitionHeat)| RawPartition { start, cost: heat.cost, median: heat.median };
        Self {
            measured_ms: u64::try_from(report.measured.as_millis()).unwrap_or(u64::MAX),
            partitions: report.partitions.into_iter().map(partition).collect(),
            dedicated: report.dedicated.into_iter().map(key).collect(),
            hot: report.hot.into_iter().map(key).collect(),
            names: report.names,
            distinct: report.distinct,
        }
    }
}

impl Meter {
    /// One that has measured nothing.
    pub fn new(now: Instant) -> Self {
        Self {
            begun: now,
            landmark: now,
            bins: BTreeMap::new(),
            dedicated: BTreeMap::new(),
            hot: SpaceSaving::new(HOT_KEYS),
            names: BTreeMap::new(),
            distinct: HyperLogLog::default(),
        }
    }

    /// A request for `key` was served, which costs so many units; ignored unless that is above 0 and finite, and if it is no key.
    pub fn count(&mut self, now: Instant, map: &Map, key: &[u8], cost: f64) {
        let Ok(at) = map.parts().strategy.position(key) else { return };
        let is_hot = self.add(now, map, at, cost);
        if is_hot && key.len() <= NAME_BYTES_MAX && !self.names.contains_key(&at) {
            self.remember(map, at, key);
        }
    }

    fn remember(&mut self, map: &Map, at: Position, key: &[u8]) {
        let Ok(name) = core::str::from_utf8(key) else { return };
        if self.names.len() >= NAMES_KEPT {
            let Self { names, hot, .. } = self;
            names.retain(|at, _| hot.knows(*at) || map.is_dedicated(*at));
        }
        self.names.insert(at, name.into());
    }

    /// A request for the key at `at` was served, which costs so many units; ignored unless that is above 0 and finite. Says whether the
    /// key is dedicated, or was already among those that cost most.
    pub fn add(&mut self, now: Instant, map: &Map, at: Position, cost: f64) -> bool {
        let Some(found) = map.lookup_at(at).filter(|_| cost > 0.0 && cost.is_finite()) else {
            return false;
        };
        let cost = cost.min(COST_PER_SECOND_MAX) * self.weight(now);
        self.distinct.add(at);
        match found.place {
            Place::Dedicated => {
                if self.dedicated.len() < DEDICATED_MAX || self.dedicated.contains_key(&at) {
                    *self.dedicated.entry(at).or_default() += cost;
                }
                true
            }
            Place::Partition(index) => {
                let slice = map.slice(index);
                let was_known = self.hot.add(at, cost);
                if self.bins.len() < PARTITIONS_MAX || self.bins.contains_key(&slice.start) {
                    self.bins.entry(slice.start).or_insert([0.0; BINS])[bin_of(&slice, at)] += cost;
                }
                was_known
            }
        }
    }

    /// Another map counts now: what was measured of partitions that were split or merged is spread over what they are now.
    pub fn follow(&mut self, before: &Map, after: &Map) {
        for (start, bins) in core::mem::take(&mut self.bins) {
            let Some(index) = before.partition_of(start) else { continue };
            let slice = before.slice(index);
            for (bin, cost) in bins.into_iter().enumerate().filter(|(_, cost)| *cost > 0.0) {
                let Some(index) = after.partition_of(middle_of(&slice, bin)) else { continue };
                let slice_now = after.slice(index);
                let bin_now = bin_of(&slice_now, middle_of(&slice, bin));
                self.bins.entry(slice_now.start).or_insert([0.0; BINS])[bin_now] += cost;
            }
        }
        self.dedicated.retain(|at, _| after.is_dedicated(*at));
        // What a key that is dedicated now has cost is its partition's no more.
        let come = after.parts().dedicated.iter().filter(|key| !before.is_dedicated(key.at));
        let costs: BTreeMap<Position, f64> =
            self.hot.top().map(|(at, count)| (at, count.cost - count.error)).collect();
        for key in come {
            let Some(cost) = costs.get(&key.at) else { continue };
            let Some(index) = after.partition_of(key.at) else { continue };
            let slice = after.slice(index);
            if let Some(bins) = self.bins.get_mut(&slice.start) {
                let bin = &mut bins[bin_of(&slice, key.at)];
                *bin = (*bin - cost).max(0.0);
            }
            *self.dedicated.entry(key.at).or_default() += cost;
        }
    }

    /// What it says now. Of partitions that it has given away, too: what it remembers of them and what their new owners
    /// measure is what they cost.
    pub fn report(&self, now: Instant, map: &Map) -> Report {
        let rate = self.rate(now);
        let partitions = self.bins.iter().filter_map(|(start, bins)| {
            let index = map.partition_of(*start)?;
            let cost: f64 = bins.iter().sum();
            let heat = PartitionHeat { cost: cost * rate, median: median_of(&map.slice(index), bins) };
            (map.slice(index).start == *start && heat.cost > 0.0).then_some((*start, heat))
        });
        let hot = self.hot.top().filter(|(at, _)| !map.is_dedicated(*at));
        let hot: Vec<(Position, f64)> =
            hot.map(|(at, count)| (at, (count.cost - count.error) * rate)).collect();
        let dedicated: BTreeMap<Position, f64> =
            self.dedicated.iter().map(|(at, cost)| (*at, cost * rate)).collect();
        let costly =
            by_cost(hot.iter().copied().chain(dedicated.iter().map(|(at, cost)| (*at, *cost))).collect());
        let names = costly.iter().filter_map(|(at, _)| self.names.get(at)).take(NAMES_MAX);
        Report {
            measured: now.since(self.begun),
            partitions: partitions.collect(),
            names: names.map(|name| name.to_string()).collect(),
            dedicated,
            hot,
            distinct: self.distinct.clone(),
        }
    }

    /// What a request weighs now: forward decay, so that nothing has to be touched as time goes by.
    fn weight(&mut self, now: Instant) -> f64 {
        let weight = growth(now.since(self.landmark));
        if weight < GROWTH_MAX {
            return weight;
        }
        let factor = 1.0 / weight;
        self.bins.values_mut().flatten().for_each(|cost| *cost *= factor);
        self.bins.retain(|_, bins| bins.iter().any(|cost| *cost > f64::MIN_POSITIVE));
        self.dedicated.values_mut().for_each(|cost| *cost *= factor);
        self.hot.scale(factor.max(f64::MIN_POSITIVE));
        self.landmark = now;
        1.0
    }

    /// Cost units a second of a sum of weights: a steady load of 1 sums up to half-life / ln 2, less while young.
    fn rate(&self, now: Instant) -> f64 {
        let steady = HALF_LIFE.as_secs_f64() / core::f64::consts::LN_2;
        let grown_up = 1.0 - 1.0 / growth(now.since(self.begun).max(Duration::from_secs(1)));
        1.0 / (growth(now.since(self.landmark)) * steady * grown_up)
    }
}

/// How keys at a position begin under [`Strategy::Name`].
fn beginning(at: Position) -> String {
    let bytes = at.0.to_be_bytes();
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let more = if length == bytes.len() { "…" } else { "" };
    format!("{}{more}", String::from_utf8_lossy(&bytes[..length]))
}

/// How much more a request counts than one that came `after` before it.
fn growth(after: Duration) -> f64 {
    (after.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2()
}

fn bin_of(slice: &Slice, at: Position) -> usize {
    let offset = u128::from(at.0.wrapping_sub(slice.start.0));
    ((offset * BINS as u128 / slice.positions()) as usize).min(BINS - 1)
}

fn begin_of(slice: &Slice, bin: usize) -> Position {
    slice.at((slice.positions() * bin as u128 / BINS as u128) as u64)
}

fn middle_of(slice: &Slice, bin: usize) -> Position {
    slice.at((slice.positions() * (2 * bin as u128 + 1) / (2 * BINS as u128)) as u64)
}

/// Where half of the load has been: within a bin, in proportion.
fn median_of(slice: &Slice, bins: &[f64; BINS]) -> Position {
    let mut left = bins.iter().sum::<f64>() / 2.0;
    for (bin, cost) in bins.iter().enumerate() {
        if *cost > 0.0 && *cost >= left {
            let width = slice.positions() / BINS as u128;
            return Position(begin_of(slice, bin).0.wrapping_add((width as f64 * (left / cost)) as u64));
        }
        left -= cost;
    }
    middle_of(slice, BINS / 2)
}

impl Report {
    /// What it says that everything costs together, in cost units a second.
    pub fn total(&self) -> f64 {
        self.partitions.values().map(|heat| heat.cost).chain(self.dedicated.values().copied()).sum()
    }

    /// What several report that serve together.
    pub fn add(&mut self, other: Self) {
        self.measured = self.measured.min(other.measured);
        for (start, part) in other.partitions {
            add_heat(&mut self.partitions, start, part);
        }
        let add = |sum: &mut f64, cost: f64| *sum = (*sum + cost).min(COST_PER_SECOND_MAX);
        other.dedicated.into_iter().for_each(|(at, cost)| add(self.dedicated.entry(at).or_default(), cost));
        let mut hot: BTreeMap<Position, f64> = self.hot.drain(..).collect();
        other.hot.into_iter().for_each(|(at, cost)| add(hot.entry(at).or_default(), cost));
        self.hot = by_cost(hot);
        self.hot.truncate(HOT_KEYS);
        // Both name their costliest first, and each keeps half of the room at least.
        self.names.truncate(NAMES_MAX - other.names.len().min(NAMES_MAX / 2));
        for name in other.names {
            if self.names.len() < NAMES_MAX && !self.names.contains(&name) {
                self.names.push(name);
            }
        }
        self.distinct.merge(&other.distinct);
    }

    /// The names, each with where its hash is: to call another's key so takes a collision.
    fn named(&self) -> impl Iterator<Item = (Position, String)> {
        let at = |name: &String| Strategy::Hash.position(name.as_bytes()).ok();
        self.names.iter().filter_map(move |name| Some((at(name)?, name.clone())))
    }

    /// What may be believed of it: nothing negative, absurd or no number; of partitions and keys that are no longer so, nothing.
    pub fn checked(mut self, map: &Map) -> Self {
        let is_sane = |cost: f64| (0.0..=COST_PER_SECOND_MAX).contains(&cost);
        self.partitions.retain(|start, heat| {
            let slice = map.partition_of(*start).map(|index| map.slice(index));
            is_sane(heat.cost)
                && slice.is_some_and(|slice| slice.start == *start && slice.contains(heat.median))
        });
        self.dedicated.retain(|_, cost| is_sane(*cost));
        self.hot.retain(|(_, cost)| is_sane(*cost));
        self.hot.truncate(HOT_KEYS);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Dedicated, Host, Parts, Seat, Seats, tests::node};
    use crate::position::Strategy;

    fn map(starts: &[u64], dedicated: &[u64]) -> Map {
        Map::new(Parts {
            service: "limiter".parse().expect("a name"),
            generation: 1,
            author: node(0),
            previous: [0; 32],
            strategy: Strategy::Hash,
            roster: vec![Host { node: node(0), capacity: 100 }],
            starts: starts.iter().map(|start| Position(start << 60)).collect(),
            seats: starts.iter().map(|_| Seats::of(Seat(0))).collect(),
            dedicated: dedicated
                .iter()
                .map(|at| Dedicated { at: Position(*at), owners: vec![Seat(0)] })
                .collect(),
        })
        .expect("is a map")
    }

    const HOUR: u64 = 3_600;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000 * seconds)
    }

    /// So many requests a second, for so many seconds, evenly over a partition.
    fn load(meter: &mut Meter, map: &Map, from: u64, seconds: u64, slice: Slice, per_second: u64) {
        for second in from..from + seconds {
            for number in 0..per_second {
                let offset = slice.positions() * u128::from(number) / u128::from(per_second);
                meter.add(at(second), map, slice.at(offset as u64), 2.0);
            }
        }
    }

    #[test]
    fn a_steady_load_is_reported_as_it_is_early_and_after_hours() {
        let map = map(&[0, 8], &[]);
        let mut meter = Meter::new(at(0));
        load(&mut meter, &map, 0, 3, map.slice(0), 100);
        let early = meter.report(at(3), &map);
        let cost = early.partitions[&Position(0)].cost;
        assert!((150.0..250.0).contains(&cost), "{cost}");
        load(&mut meter, &map, 3, HOUR, map.slice(0), 100);
        let late = meter.report(at(3 + HOUR), &map);
        let heat = late.partitions[&Position(0)];
        assert!((185.0..215.0).contains(&heat.cost), "{heat:?}");
        let off = heat.median.0.abs_diff(4 << 60) as f64 / (8_u64 << 60) as f64;
        assert!(off < 0.02, "the middle of an even load is the middle: {heat:?}");
        assert_eq!(late.partitions.len(), 1);
    }

    #[test]
    fn what_is_over_is_forgotten_by_halves() {
        let map = map(&[0], &[]);
        let mut meter = Meter::new(at(0));
        load(&mut meter, &map, 0, 100, map.slice(0), 50);
        let cost = |after| meter.report(at(after), &map).partitions[&Position(0)].cost;
        let ratio = cost(110) / cost(100);
        assert!((0.49..0.51).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_hot_key_is_named_and_draws_the_median_to_itself() {
        let map = map(&[0, 8], &[9]);
        let mut meter = Meter::new(at(0));
        load(&mut meter, &map, 0, 60, map.slice(0), 20);
        for second in 0..60 {
            for _ in 0..60 {
                meter.add(at(second), &map, Position(3 << 58), 1.0);
            }
            meter.add(at(second), &map, Position(9), 7.0);
        }
        let report = meter.report(at(60), &map);
        assert_eq!(report.hot[0].0, Position(3 << 58));
        assert!((50.0..70.0).contains(&report.hot[0].1), "{:?}", report.hot[0]);
        let median = report.partitions[&Position(0)].median.0;
        assert!(median.abs_diff(3 << 58) < (8 << 60) / BINS as u64, "{median:x}");
        assert!((6.0..8.0).contains(&report.dedicated[&Position(9)]));
    }

    #[test]
    fn what_is_hot_is_called_by_its_name_and_by_no_other() {
        let dedicated = Strategy::Hash.position(b"own").expect("a key");
        let map = map(&[0, 8], &[dedicated.0]);
        let mut meter = Meter::new(at(0));
        let long = "l".repeat(NAME_BYTES_MAX + 1);
        for second in 0..20 {
            for (key, cost) in [("loud", 50.0), ("own", 90.0), ("quiet", 1.0), (&*long, 70.0)] {
                meter.count(at(second), &map, key.as_bytes(), cost);
            }
            meter.count(at(second), &map, b"\xff\xfe", 80.0);
            meter.count(at(second), &map, b"", 80.0);
            (0..200).for_each(|one| {
                meter.count(at(second), &map, format!("once-{second}-{one}").as_bytes(), 0.01);
            });
        }
        let report = meter.report(at(20), &map);
        assert_eq!(report.names[..3], ["own", "loud", "quiet"]);
        assert!(meter.names.len() <= NAMES_KEPT && report.names.len() <= NAMES_MAX);
        let liar = Report { names: vec!["nobody".to_owned(), "loud".to_owned()], ..report.clone() };
        let heat = Heat::of([liar, report], &map);
        assert!(heat.names.values().all(|name| name != "nobody"));
        assert_eq!(heat.names[&dedicated], "own");
        assert_eq!(heat.names[&heat.hot[2].0], "loud", "after the two that have no name");
        let mut sum =
            Report { names: vec!["x".to_owned(); NAMES_MAX], ..Meter::new(at(0)).report(at(1), &map) };
        sum.add(Report { names: vec!["y".to_owned()], ..Meter::new(at(0)).report(at(1), &map) });
        assert_eq!((sum.names.len(), &*sum.names[NAMES_MAX - 1]), (NAMES_MAX, "y"));
        for (names, want) in [
            (vec![String::new()], "names[0]: has 0 bytes"),
            (vec![long], "names[0]: has 65 bytes"),
            (vec!["a".to_owned(); 33], "names: has 33"),
        ] {
            let raw = serde_json::json!({ "measured_ms": 1, "partitions": [], "names": names });
            let error = serde_json::from_value::<Report>(raw).expect_err("is refused").to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn by_name_a_hot_place_is_the_beginning_of_its_keys() {
        let mut parts = map(&[0], &[]).into_parts();
        parts.strategy = Strategy::Name;
        let map = Map::new(parts).expect("is a map");
        let mut meter = Meter::new(at(0));
        for second in 0..20 {
            meter.count(at(second), &map, b"+4930123456", 5.0);
            meter.count(at(second), &map, b"ada", 4.0);
        }
        let liar = Report { names: vec!["+4930123-anything".to_owned()], ..meter.report(at(20), &map) };
        let heat = Heat::of([liar], &map);
        assert_eq!(heat.hot.iter().map(|(at, _)| &*heat.names[at]).collect::<Vec<_>>(), ["+4930123…", "ada"]);
    }

    #[test]
    fn a_split_or_a_merge_loses_no_load() {
        let (whole, halves) = (map(&[0], &[]), map(&[0, 8], &[]));
        let mut meter = Meter::new(at(0));
        load(&mut meter, &whole, 0, 60, whole.slice(0), 64);
        let cost = |meter: &Meter, map: &Map| {
            let report = meter.report(at(60), map);
            report.partitions.values().map(|heat| heat.cost).collect::<Vec<_>>()
        };
        let before = cost(&meter, &whole)[0];
        meter.follow(&whole, &halves);
        let split = cost(&meter, &halves);
        assert!((split[0] - before / 2.0).abs() < before / 50.0 && split.len() == 2, "{split:?}");
        meter.follow(&halves, &whole);
        assert!((cost(&meter, &whole)[0] - before).abs() < 1e-6 * before);
    }

    #[test]
    fn nonsense_is_neither_measured_nor_believed() {
        let map = map(&[0, 8], &[]);
        let mut meter = Meter::new(at(0));
        for cost in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            meter.add(at(0), &map, Position(1), cost);
        }
        let nothing = meter.report(at(1), &map);
        assert!(nothing.partitions.is_empty() && nothing.hot.is_empty());
        let heat = |cost, median| PartitionHeat { cost, median: Position(median) };
        let report = Report {
            partitions: [
                (Position(0), heat(f64::NAN, 1)),
                (Position(8 << 60), heat(5.0, 1)),
                (Position(3), heat(5.0, 4)),
            ]
            .into(),
            dedicated: [(Position(1), -1.0), (Position(2), 3.0)].into(),
            hot: vec![(Position(1), 1e300), (Position(2), 3.0)],
            ..nothing
        };
        let believed = report.checked(&map);
        assert!(believed.partitions.is_empty());
        assert_eq!((believed.dedicated.len(), believed.hot), (1, vec![(Position(2), 3.0)]));
    }
}
