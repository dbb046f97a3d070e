//! The author's first choice: which member should have a partition, if nothing were there yet.
//!
//! Rendezvous hashing gives every member a rank for every partition, so each member that goes leaves its partitions to many,
//! and one that comes takes some from all. Loads are bounded on top. Readers never do this: they read the map.
//!
//! Sources: Thaler, Ravishankar, "Using name-based mappings to increase hit rates" (1998), weighted by Schindelhauer, Schomaker
//! (SPAA 2005). Mirrokni, Thorup, Zadimoghaddam, "Consistent hashing with bounded loads" (SODA 2018).

use std::collections::BTreeMap;

use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ZoneName;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::map::{Host, Seat, Seats};
use crate::position::Position;

/// A member that may serve partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// Where it is: standbys are elsewhere, if there is an elsewhere.
    pub zone: ZoneName,
    /// What it can take, beside the others'; 0: nothing.
    pub capacity: u16,
    /// Whether it is there. Who is not owns nothing new.
    pub is_live: bool,
}

impl Candidate {
    /// As the roster of a map has it.
    pub(crate) const fn host(&self) -> Host {
        Host { node: self.node, capacity: self.capacity }
    }

    /// Whether it may be given something.
    pub const fn may_serve(&self) -> bool {
        self.is_live && self.capacity > 0
    }
}

/// How much a member wants the partition that starts at `start`: the highest wins.
pub(crate) fn score(host: &Host, start: Position) -> f64 {
    let hash = xxh3_64_with_seed(host.node.as_bytes(), start.0);
    // The middle of one of 2^53 parts between 0 and 1.
    let unit = ((hash >> 11) as f64 + 0.5) / 2_f64.powi(53);
    -f64::from(host.capacity) / unit.ln()
}

/// How much each member that may serve wants a partition. Seats are places among the candidates.
#[derive(Debug)]
pub(crate) struct Wishes(Vec<(f64, NodeId, Seat)>);

impl Wishes {
    pub(crate) fn of(candidates: &[Candidate], start: Position) -> Self {
        let all = candidates.iter().enumerate().filter(|(_, candidate)| candidate.may_serve());
        let wish = |(place, candidate): (usize, &Candidate)| {
            (score(&candidate.host(), start), candidate.node, Seat(place as u16))
        };
        Self(all.map(wish).collect())
    }

    /// Of those with the lowest `rank`, who wants it most; nobody has one without.
    fn best<R: Ord>(&self, rank: impl Fn(Seat) -> Option<R>) -> Option<Seat> {
        let ranked = self.0.iter().filter_map(|wish| Some((rank(wish.2)?, wish)));
        let best = ranked.min_by(|(rank, wish), (other_rank, other)| {
            rank.cmp(other_rank).then(other.0.total_cmp(&wish.0)).then(wish.1.cmp(&other.1))
        });
        best.map(|(_, wish)| wish.2)
    }
}

/// How many partitions of an owner have which first standby: if an owner dies, none of them should get much of it.
#[derive(Debug, Default)]
pub(crate) struct Heirs(BTreeMap<(Seat, Seat), usize>);

impl Heirs {
    /// Counts an assignment.
    pub(crate) fn note(&mut self, seats: &Seats) {
        if let Some(heir) = seats.standbys().first() {
            *self.0.entry((seats.owner(), *heir)).or_default() += 1;
        }
    }

    /// For how many partitions of an owner a member is the first standby.
    pub(crate) fn of(&self, owner: Seat, heir: Seat) -> usize {
        self.0.get(&(owner, heir)).copied().unwrap_or_default()
    }

    /// One of them has another standby now.
    pub(crate) fn forget(&mut self, owner: Seat, heir: Seat) {
        if let Some(count) = self.0.get_mut(&(owner, heir)) {
            *count = count.saturating_sub(1);
        }
    }

    /// An owner and its standbys. The first is in another zone than the owner, if anybody is, and one that inherits little of
    /// this owner yet; the others are those that want it most. Counts it.
    pub(crate) fn with_standbys(
        &mut self,
        owner: Seat,
        wishes: &Wishes,
        candidates: &[Candidate],
        standbys: usize,
    ) -> Seats {
        let mut seats = Seats::of(owner);
        let is_at_home = |seat: Seat| candidates[seat.index()].zone == candidates[owner.index()].zone;
        let inherits = |seat: Seat| self.of(owner, seat);
        while seats.standbys().len() < standbys {
            let is_first = seats.standbys().is_empty();
            let rank = |seat| if is_first { (is_at_home(seat), inherits(seat)) } else { (false, 0) };
            let Some(standby) = wishes.best(|seat| (!seats.all().contains(&seat)).then(|| rank(seat))) else {
                break;
            };
            if !seats.add(standby) {
                break;
            }
        }
        self.note(&seats);
        seats
    }
}

/// Who serves partitions of one size each that start at `starts`, none of them more than `bound` times its share of them
/// (1 or more), rounded up. Nothing if nobody may serve.
pub fn place(
    candidates: &[Candidate],
    starts: &[Position],
    bound: f64,
    standbys: usize,
) -> Option<Vec<Seats>> {
    let capacity: f64 =
        candidates.iter().filter(|one| one.may_serve()).map(|one| f64::from(one.capacity)).sum();
    let room = |candidate: &Candidate| {
        let share = f64::from(candidate.capacity) / capacity * starts.len() as f64;
        (bound.max(1.0) * share).ceil() as usize
    };
    let (mut rooms, mut heirs): (Vec<usize>, _) = (candidates.iter().map(room).collect(), Heirs::default());
    let place_one = |start: &Position| {
        let wishes = Wishes::of(candidates, *start);
        let owner = wishes.best(|seat| (rooms[seat.index()] > 0).then_some(()))?;
        rooms[owner.index()] -= 1;
        Some(heirs.with_standbys(owner, &wishes, candidates, standbys))
    };
    starts.iter().map(place_one).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::map::tests::node;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    pub(crate) fn candidates(count: u16) -> Vec<Candidate> {
        let zones = ["a", "b", "c"].map(|zone| zone.parse::<ZoneName>().expect("a name"));
        let one = |number: u16| Candidate {
            node: node(number),
            zone: zones[usize::from(number) % 3].clone(),
            capacity: 100,
            is_live: true,
        };
        (0..count).map(one).collect()
    }

    fn evenly(count: u64) -> Vec<Position> {
        (0..count).map(|index| Position((u64::MAX / count * index) >> 32 << 32)).collect()
    }

    proptest! {
        #[test]
        fn nobody_has_more_than_the_bound_and_standbys_are_others_elsewhere(
            capacities in proptest::collection::vec((0_u16..300, any::<bool>()), 1..12),
            partitions in 1_u64..200,
            bound in 1.0..2.0_f64,
        ) {
            let mut candidates = candidates(capacities.len() as u16);
            for (candidate, (capacity, is_live)) in candidates.iter_mut().zip(&capacities) {
                (candidate.capacity, candidate.is_live) = (*capacity, *is_live);
            }
            let serving: Vec<&Candidate> = candidates.iter().filter(|one| one.may_serve()).collect();
            let placed = place(&candidates, &evenly(partitions), bound, 2);
            prop_assert_eq!(placed.is_some(), !serving.is_empty());
            let whole: f64 = serving.iter().map(|one| f64::from(one.capacity)).sum();
            for (place, candidate) in candidates.iter().enumerate() {
                let owned = placed.iter().flatten().filter(|seats| seats.owner().index() == place).count();
                let share = f64::from(candidate.capacity) / whole * partitions as f64;
                prop_assert!(owned == 0 || owned as f64 <= (bound * share).ceil());
                prop_assert!(owned == 0 || candidate.may_serve());
            }
            for seats in placed.iter().flatten() {
                let zone = |seat: Seat| &candidates[seat.index()].zone;
                let owner = seats.owner();
                prop_assert_eq!(seats.standbys().len(), 2.min(serving.len() - 1));
                let is_elsewhere = serving.iter().any(|one| one.zone != *zone(owner));
                prop_assert!(!is_elsewhere || zone(seats.standbys()[0]) != zone(owner));
            }
        }

        #[test]
        fn without_a_bound_only_the_partitions_of_who_goes_move(count in 2_u16..12, gone in any::<u16>()) {
            let (before, mut after) = (candidates(count), candidates(count));
            let gone = gone % count;
            after[usize::from(gone)].is_live = false;
            let starts = evenly(100);
            let owners = |candidates| place(candidates, &starts, 1e9, 0).expect("somebody serves");
            for (was, is) in owners(&before).iter().zip(owners(&after)) {
                prop_assert_eq!(was.owner() != is.owner(), was.owner() == Seat(gone));
            }
        }
    }

    #[test]
    fn nobody_inherits_more_than_twice_its_fair_share_of_one_that_dies() {
        for hosts in [2_u16, 3, 5, 20] {
            let candidates = candidates(hosts);
            let placed = place(&candidates, &evenly(20 * u64::from(hosts)), 1.1, 1).expect("somebody serves");
            for owner in (0..hosts).map(Seat) {
                let owned: Vec<&Seats> = placed.iter().filter(|seats| seats.owner() == owner).collect();
                let most = (0..hosts)
                    .map(Seat)
                    .map(|heir| owned.iter().filter(|seats| seats.standbys()[0] == heir).count());
                let fair = owned.len() as f64 / f64::from(hosts - 1);
                let most = most.max().expect("there are hosts");
                assert!(most as f64 <= (2.0 * fair).ceil(), "{hosts} hosts: {most} of {}", owned.len());
            }
        }
    }

    #[test]
    fn shares_follow_capacities() {
        let mut candidates = candidates(3);
        candidates[2].capacity = 200;
        let placed = place(&candidates, &evenly(20_000), 1e9, 0).expect("somebody serves");
        let owned =
            |place| placed.iter().filter(|seats| seats.owner() == Seat(place)).count() as f64 / 20_000.0;
        assert!(
            (owned(0) - 0.25).abs() < 0.01 && (owned(1) - 0.25).abs() < 0.01,
            "{} {}",
            owned(0),
            owned(1)
        );
        assert!((owned(2) - 0.5).abs() < 0.01, "{}", owned(2));
    }
}
