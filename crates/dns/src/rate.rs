//! How often somebody is answered: a token bucket for each network of askers, so that nobody is flooded with responses
//! to requests in its name.
//!
//! A bucket is one number, the time at which it is full again (the generic cell rate algorithm, ITU-T I.371). The table
//! has a fixed size. A network that is not in it has a full bucket; when one must go to make room, it is the fullest of
//! the four at its place. So a collision forgives, and never punishes: **invariant:** whoever stays below the rate is
//! never limited, whatever others do. The price: who has to make room in the midst of a flood gets another burst.
//!
//! Not decided here: who is counted at all ([`admission`](crate::admission)).

use core::net::IpAddr;
use core::num::NonZeroU32;

use ringmesh_types::time::Instant;

use crate::urn::mix;

/// Networks that are counted at one time; 16 bytes each.
pub const NETWORKS_MAX: usize = 16_384;
/// Networks with the same place in the table.
const WAYS: usize = 4;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Tell the two families apart; an empty place has neither.
const V4: u64 = 1 << 61;
const V6: u64 = 1 << 62;
/// Whether what last exceeded the rate was told to come by TCP.
const SLIPPED: u64 = 1 << 63;

/// How often a network is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Responses a second, in the long run.
    pub rate: NonZeroU32,
    /// Responses at once, after a rest.
    pub burst: NonZeroU32,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is answered.
    Answer,
    /// It is too much; its asker is told to come by a way that cannot be forged.
    Slip,
    /// It is too much, and gets no response.
    Drop,
}

/// Counts responses by network: 256 leading addresses of IPv4 (/24), a site of IPv6 (/56).
#[derive(Debug)]
pub struct Limiter {
    /// Nanoseconds that one response costs.
    pace: u64,
    /// Nanoseconds that a bucket holds.
    depth: u64,
    /// Keeps others from choosing who shares a place.
    seed: u64,
    /// Two lists rather than one of pairs: the system gives their memory when it is first written to.
    networks: Vec<u64>,
    full_at: Vec<u64>,
}

impl Limiter {
    /// All buckets are full. Limiters with different `seed` put networks at different places.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self::with_room(limits, seed, NETWORKS_MAX)
    }

    /// For so many networks, a power of two.
    fn with_room(limits: Limits, seed: u64, networks: usize) -> Self {
        let pace = (NANOS_PER_SECOND / u64::from(limits.rate.get())).max(1);
        Self {
            pace,
            depth: pace * u64::from(limits.burst.get()),
            seed,
            networks: vec![0; networks],
            full_at: vec![0; networks],
        }
    }

    /// Takes a response for `from` out of the bucket of its network.
    pub fn take(&mut self, from: IpAddr, now: Instant) -> Verdict {
        let place = self.place(network(from));
        let full_at = self.full_at[place].max(now.as_nanos()).saturating_add(self.pace);
        if full_at - now.as_nanos() <= self.depth {
            self.full_at[place] = full_at;
            return Verdict::Answer;
        }
        self.networks[place] ^= SLIPPED;
        if self.networks[place] & SLIPPED == 0 { Verdict::Drop } else { Verdict::Slip }
    }

    /// Where `network` is; if it is nowhere, the fullest bucket makes room.
    fn place(&mut self, network: u64) -> usize {
        let places = self.networks.len() as u64 / WAYS as u64;
        let first = (mix(network ^ self.seed) & (places - 1)) as usize * WAYS;
        let ways = first..first + WAYS;
        if let Some(place) = ways.clone().find(|place| self.networks[*place] & !SLIPPED == network) {
            return place;
        }
        let place = ways.min_by_key(|place| self.full_at[*place]).unwrap_or(first);
        self.networks[place] = network;
        self.full_at[place] = 0;
        place
    }
}

/// The network of an address, and its family.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => V4 | u64::from(v4.to_bits() >> 8),
        IpAddr::V6(v6) => V6 | (v6.to_bits() >> 72) as u64,
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::name;
    use proptest::prelude::*;

    const LIMITS: Limits = limits(10, 4);

    #[test]
    fn a_burst_is_answered_and_then_the_rate() {
        let mut limiter = Limiter::new(LIMITS, 1);
        let mut take = |millis| limiter.take(name("192.0.2.1"), Instant::from_millis(millis));
        assert_eq!([(); 4].map(|()| take(5)), [Verdict::Answer; 4]);
        let every_second = [Verdict::Slip, Verdict::Drop, Verdict::Slip, Verdict::Drop];
        assert_eq!([(); 4].map(|()| take(5)), every_second);
        assert_eq!([104, 105, 106].map(&mut take), [Verdict::Slip, Verdict::Answer, Verdict::Drop]);
        // However long it was too much, after a rest the bucket is full.
        assert_eq!([(); 4].map(|()| take(505)), [Verdict::Answer; 4]);
    }

    #[test]
    fn neighbours_share_a_bucket_and_strangers_do_not() {
        let is_shared = |one: &str, other: &str| {
            let mut limiter = Limiter::new(limits(1, 1), 7);
            assert_eq!(limiter.take(name(one), Instant::START), Verdict::Answer);
            limiter.take(name(other), Instant::START) != Verdict::Answer
        };
        assert!(is_shared("192.0.2.0", "192.0.2.255"));
        assert!(!is_shared("192.0.2.0", "192.0.3.0"));
        assert!(is_shared("2001:db8:0:100::1", "2001:db8:0:1ff:ffff::"));
        assert!(!is_shared("2001:db8:0:100::1", "2001:db8:0:200::1"));
        assert!(is_shared("192.0.2.1", "::ffff:192.0.2.9"));
        assert!(!is_shared("0.0.0.0", "::"));
    }

    #[test]
    fn a_flood_of_networks_takes_no_more_room() {
        let mut limiter = Limiter::new(LIMITS, 3);
        for number in 0..200_000_u32 {
            limiter.take(IpAddr::from((number << 8).to_be_bytes()), Instant::from_millis(number.into()));
        }
        assert_eq!((limiter.networks.len(), limiter.full_at.len()), (NETWORKS_MAX, NETWORKS_MAX));
    }

    #[test]
    fn a_flood_keeps_its_place_while_others_come_and_go() {
        let mut limiter = Limiter::with_room(limits(10, 100), 3, WAYS);
        let mut answered = 0;
        for number in 0..10_000_u32 {
            // All four at the only place there is, and the clock stands still.
            let passing = IpAddr::from(((number + 1_000) << 8).to_be_bytes());
            assert_eq!(limiter.take(passing, Instant::START), Verdict::Answer);
            let verdict = limiter.take(name("192.0.2.1"), Instant::START);
            answered += u32::from(verdict == Verdict::Answer);
        }
        assert_eq!(answered, 100);
    }

    /// A bucket that is filled as one would do it by hand.
    struct Bucket {
        tokens: u64,
        at: u64,
    }

    /// The naive model: a bucket for everybody, in thousandths of a response.
    #[derive(Default)]
    struct Model(BTreeMap<u8, Bucket>);

    impl Model {
        fn is_answered(&mut self, who: u8, millis: u64) -> bool {
            let most = u64::from(LIMITS.burst.get()) * 1_000;
            let bucket = self.0.entry(who).or_insert(Bucket { tokens: most, at: 0 });
            bucket.tokens = most.min(bucket.tokens + (millis - bucket.at) * u64::from(LIMITS.rate.get()));
            bucket.at = millis;
            let is_answered = bucket.tokens >= 1_000;
            bucket.tokens -= if is_answered { 1_000 } else { 0 };
            is_answered
        }
    }

    /// Who asks, and how many milliseconds after the one before.
    fn requests(askers: u8) -> impl Strategy<Value = Vec<(u8, u64)>> {
        let pause = prop_oneof![4 => 0_u64..30, 1 => 0_u64..2_000];
        proptest::collection::vec((0..askers, pause), 0..400)
    }

    proptest! {
        #[test]
        fn as_long_as_all_have_room_it_is_as_the_naive_model(requests in requests(WAYS as u8), seed: u64) {
            let (mut limiter, mut model) = (Limiter::with_room(LIMITS, seed, WAYS), Model::default());
            let mut millis = 0;
            for (who, pause) in requests {
                millis += pause;
                let verdict = limiter.take(address(who), Instant::from_millis(millis));
                prop_assert_eq!(verdict == Verdict::Answer, model.is_answered(who, millis));
            }
        }

        #[test]
        fn who_stays_below_the_rate_is_never_limited_whatever_others_do(
            requests in requests(40),
            seed: u64,
            room in prop_oneof![Just(WAYS), Just(2 * WAYS), Just(8 * WAYS)],
        ) {
            let (mut limiter, mut model) = (Limiter::with_room(LIMITS, seed, room), Model::default());
            let mut modest = [true; 40];
            let mut millis = 0;
            for (who, pause) in requests {
                millis += pause;
                modest[usize::from(who)] &= model.is_answered(who, millis);
                let verdict = limiter.take(address(who), Instant::from_millis(millis));
                prop_assert!(verdict == Verdict::Answer || !modest[usize::from(who)]);
            }
        }

        #[test]
        fn at_least_every_second_excess_is_told(requests in requests(WAYS as u8), seed: u64) {
            let mut limiter = Limiter::with_room(LIMITS, seed, WAYS);
            let (mut millis, mut before) = (0, [Verdict::Answer; WAYS]);
            for (who, pause) in requests {
                millis += pause;
                let verdict = limiter.take(address(who), Instant::from_millis(millis));
                let before = &mut before[usize::from(who)];
                prop_assert!(verdict != Verdict::Drop || *before != Verdict::Drop);
                *before = if verdict == Verdict::Answer { *before } else { verdict };
            }
        }
    }

    const fn limits(rate: u32, burst: u32) -> Limits {
        match (NonZeroU32::new(rate), NonZeroU32::new(burst)) {
            (Some(rate), Some(burst)) => Limits { rate, burst },
            _ => panic!("not zero"),
        }
    }

    fn address(who: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, who, 0, 1))
    }
}
