//! Who asks most, and how many there are, in constant memory.
//!
//! Sources: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data streams" (ICDT 2005),
//! Space-Saving, with weights. Cormode, Shkapenyuk, Srivastava, Xu, "Forward decay" (ICDE 2009), exponential. Flajolet,
//! Fusy, Gandouet, Meunier, "HyperLogLog" (AofA 2007), with linear counting for few.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::position::Position;

/// The keys that cost most, of a stream of any length. A key that makes up more than one part in so many of the whole as it
/// has rooms is in it for certain.
#[derive(Debug, Clone)]
pub struct SpaceSaving {
    rooms: usize,
    counts: BTreeMap<Position, Count>,
    order: BTreeSet<(Bits, Position)>,
}

/// What is known of a key's cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Count {
    /// At most this much.
    pub cost: f64,
    /// Of which so much may be others'.
    pub error: f64,
}

/// A cost as bits that are in order; costs are finite and not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bits(u64);

impl Bits {
    fn of(cost: f64) -> Self {
        Self(cost.to_bits())
    }
}

impl SpaceSaving {
    /// A sketch of so many keys, one at least.
    pub fn new(rooms: usize) -> Self {
        Self { rooms: rooms.max(1), counts: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// A key at `at` costs so much; ignored unless that is above 0 and finite. Says whether it had a room already.
    pub fn add(&mut self, at: Position, cost: f64) -> bool {
        if !(cost > 0.0 && cost.is_finite()) {
            return false;
        }
        let known = self.counts.get(&at).copied();
        let before = known.unwrap_or_else(|| self.make_room());
        if known.is_some() {
            self.order.remove(&(Bits::of(before.cost), at));
        }
        let count = Count { cost: before.cost + cost, ..before };
        self.counts.insert(at, count);
        self.order.insert((Bits::of(count.cost), at));
        known.is_some()
    }

    /// A newcomer takes the place of the smallest, whose cost may be its own.
    fn make_room(&mut self) -> Count {
        if self.counts.len() < self.rooms {
            return Count { cost: 0.0, error: 0.0 };
        }
        let smallest = self.order.pop_first().and_then(|(_, at)| self.counts.remove(&at));
        let cost = smallest.map_or(0.0, |count| count.cost);
        Count { cost, error: cost }
    }

    /// Whether the key at `at` has a room.
    pub fn knows(&self, at: Position) -> bool {
        self.counts.contains_key(&at)
    }

    /// The keys with the highest costs, the first first.
    pub fn top(&self) -> impl Iterator<Item = (Position, Count)> {
        self.order.iter().rev().map(|(_, at)| (*at, self.counts[at]))
    }

    /// Multiplies every cost by `factor`, above 0; what is next to nothing then is forgotten.
    pub fn scale(&mut self, factor: f64) {
        self.counts.retain(|_, count| {
            (count.cost, count.error) = (count.cost * factor, count.error * factor);
            count.cost > f64::MIN_POSITIVE
        });
        self.order = self.counts.iter().map(|(at, count)| (Bits::of(count.cost), *at)).collect();
    }
}

/// How many bits of a hash choose a register.
const REGISTER_BITS: u32 = 10;
const REGISTERS: usize = 1 << REGISTER_BITS;

/// How many different keys there were, 3 % off: 1.04 / sqrt(1,024).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct HyperLogLog(Vec<u8>);

/// Why bytes are no sketch of how many there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("distinct: must be {REGISTERS} numbers of 0 to 55")]
pub struct PeerSketchError;

impl TryFrom<Vec<u8>> for HyperLogLog {
    type Error = PeerSketchError;

    fn try_from(registers: Vec<u8>) -> Result<Self, PeerSketchError> {
        let is_sketch = registers.len() == REGISTERS
            && registers.iter().all(|rank| u32::from(*rank) <= 64 - REGISTER_BITS + 1);
        if is_sketch { Ok(Self(registers)) } else { Err(PeerSketchError) }
    }
}

impl From<HyperLogLog> for Vec<u8> {
    fn from(sketch: HyperLogLog) -> Self {
        sketch.0
    }
}

impl Default for HyperLogLog {
    fn default() -> Self {
        Self(vec![0; REGISTERS])
    }
}

impl HyperLogLog {
    /// A key came, whose bits are as good as random: its position in a map by hash.
    pub fn add(&mut self, at: Position) {
        let (register, rest) = ((at.0 >> (64 - REGISTER_BITS)) as usize, at.0 << REGISTER_BITS);
        let rank = (rest.leading_zeros() + 1).min(64 - REGISTER_BITS + 1) as u8;
        self.0[register] = self.0[register].max(rank);
    }

    /// What both have seen together.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(ours, theirs)| *ours = (*ours).max(*theirs));
    }

    /// How many different keys that were.
    pub fn estimate(&self) -> f64 {
        let registers = REGISTERS as f64;
        let sum: f64 = self.0.iter().map(|rank| 0.5_f64.powi(i32::from(*rank))).sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let empty = self.0.iter().filter(|rank| **rank == 0).count();
        let are_few = raw <= 2.5 * registers && empty > 0;
        if are_few { registers * (registers / empty as f64).ln() } else { raw }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, proptest};
    use xxhash_rust::xxh3::xxh3_64;

    proptest! {
        #[test]
        fn costs_are_never_too_low_and_no_higher_than_their_errors_say(
            keys in proptest::collection::vec((0_u64..40, 1_u32..100), 1..400),
            rooms in 1_usize..20,
        ) {
            let (mut sketch, mut exact) = (SpaceSaving::new(rooms), BTreeMap::<u64, f64>::new());
            let mut whole = 0.0;
            for (key, cost) in keys {
                sketch.add(Position(key), cost.into());
                *exact.entry(key).or_default() += f64::from(cost);
                whole += f64::from(cost);
            }
            let known: BTreeMap<u64, Count> = sketch.top().map(|(at, count)| (at.0, count)).collect();
            prop_assert!(known.len() <= rooms);
            for (key, cost) in exact {
                match known.get(&key) {
                    Some(count) => prop_assert!(count.cost >= cost && count.cost - count.error <= cost),
                    None => prop_assert!(cost <= whole / rooms as f64),
                }
            }
        }

        #[test]
        fn what_two_have_seen_is_what_one_would_have(one in proptest::collection::vec(any::<u64>(), 0..50), other in proptest::collection::vec(any::<u64>(), 0..50)) {
            let of = |keys: &[u64]| {
                let mut sketch = HyperLogLog::default();
                keys.iter().for_each(|key| sketch.add(Position(*key)));
                sketch
            };
            let mut merged = of(&one);
            merged.merge(&of(&other));
            prop_assert!(merged == of(&[one, other].concat()));
        }
    }

    #[test]
    fn the_order_of_the_top_follows_costs_and_scaling_keeps_it() {
        let mut sketch = SpaceSaving::new(3);
        for (key, cost) in
            [(1, 5.0), (2, 9.0), (3, 1.0), (4, 2.0), (1, f64::NAN), (1, -3.0), (2, f64::INFINITY)]
        {
            sketch.add(Position(key), cost);
        }
        let top =
            |sketch: &SpaceSaving| sketch.top().map(|(at, count)| (at.0, count.cost)).collect::<Vec<_>>();
        assert_eq!(top(&sketch), [(2, 9.0), (1, 5.0), (4, 3.0)]);
        sketch.scale(0.5);
        assert_eq!(top(&sketch), [(2, 4.5), (1, 2.5), (4, 1.5)]);
        sketch.scale(0.0);
        assert_eq!(top(&sketch), []);
    }

    #[test]
    fn different_keys_are_counted_within_a_tenth() {
        for count in [0_u64, 1, 100, 2_000, 3_000, 100_000, 1_000_000] {
            let mut sketch = HyperLogLog::default();
            (0..count).for_each(|key| sketch.add(Position(xxh3_64(&key.to_be_bytes()))));
            let estimate = sketch.estimate();
            assert!((estimate - count as f64).abs() <= 0.1 * count as f64, "{count}: {estimate}");
        }
    }
}
