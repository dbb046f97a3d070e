//! Which generation a reader goes by: whose it takes, which it keeps unused, and who was the owner before.
//!
//! A map is taken if it comes right after one that is held, its author is in that one's roster, and it moves no more of the space
//! than a round may, but for what members had that are Down. So nobody gets far ahead at once, whatever generation it claims. An
//! author whose map, or another's higher one, most members do not follow goes on from what they follow, above both. After
//! a split of the network two maps come after one: the higher (generation, author) wins, on every reader alike.
//!
//! Invariant: what is answered never comes from a map that was not taken. Not decided here: how maps travel, and who is Down.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use ringmesh_types::ids::NodeId;
use ringmesh_types::time::Instant;

use crate::churn::{Churn, MINUTE_MAX};
use crate::map::{Map, Parts};
use crate::position::Position;
use crate::slice::Slice;

/// What a round may move: what planners keep within, and a little for a reader that holds somebody Down later than they.
pub const CHURN_ROUND_MAX: f64 = 0.10;
/// Generations that one step may go ahead: one, or more for an author that outbids one that most members do not follow.
pub const OUTBID_MAX: u64 = 16;
/// Keys that may become dedicated, or be dedicated no more, in a round.
pub const DEDICATED_ROUND_MAX: usize = 64;
/// How long the owner before is named, so that its state can be fetched from it.
pub const HAND_OVER: Duration = Duration::from_secs(10);
/// Maps that are held beside the present one, at least and at most: those before it, and those of another author.
const HELD: (usize, usize) = (16, 512);
/// Partitions of all that are held, about: some ten megabytes.
const HELD_PARTITIONS_MAX: usize = 512 << 10;
/// Two firsts of one service, made where nobody knew of the other, come together within this time after one was followed.
pub const ROOTS_MEET_WITHIN: Duration = Duration::from_secs(600);
/// A map that was not seen coming is so many generations ahead at most, and one more for each second.
const AHEAD: u64 = 64;
/// What is followed by then has gone through so few generations, or is no first any more.
const YOUNG: u64 = 64;

/// Who may grant: of two the higher one, and a resource that has seen it accepts no lower one any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Of the map that names the owner.
    pub generation: u64,
    /// Who made that map.
    pub author: NodeId,
}

impl Token {
    /// Of whoever goes by `map`.
    pub fn of(map: &Map) -> Self {
        Self { generation: map.parts().generation, author: map.parts().author }
    }
}

/// What a resource remembers, so that of two owners in a split network it obeys one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Fence(Option<Token>);

/// A grant by somebody who goes by an older map than another one that has been here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("generation {} of {} is older than generation {} of {}, which was seen here", given.generation, given.author, seen.generation, seen.author)]
pub struct PeerTokenError {
    /// What was shown.
    pub given: Token,
    /// The highest that was seen.
    pub seen: Token,
}

impl Fence {
    /// Somebody acts with this token.
    ///
    /// # Errors
    /// If a higher one was seen; nothing changes then.
    pub fn admit(&mut self, given: Token) -> Result<(), PeerTokenError> {
        match self.0 {
            Some(seen) if given < seen => Err(PeerTokenError { given, seen }),
            Some(_) | None => {
                self.0 = Some(given);
                Ok(())
            }
        }
    }
}

/// Why a map is not followed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PeerClaimError {
    /// It is about other keys.
    #[error("it is a map of another service, or lays keys out in another way")]
    Service,
    /// It skips too many generations, or is none after its own predecessor.
    #[error("it calls itself generation {claimed}, and the one before it is {before}")]
    Generation {
        /// What it says.
        claimed: u64,
        /// What comes before it.
        before: u64,
    },
    /// Its author may not make maps.
    #[error("its author {0} is not in the roster of the map before")]
    Author(NodeId),
    /// It is a first map, and another one has been followed for long.
    #[error("it is a first map by {0}, and another one is followed here")]
    First(NodeId),
    /// It moves too much.
    #[error("it moves {:.1} % of the space, at most {:.1} % may be", 100.0 * moved, 100.0 * allowed)]
    Churn {
        /// The share of the space.
        moved: f64,
        /// And what would be allowed.
        allowed: f64,
    },
    /// It makes too many keys dedicated, or too few.
    #[error("it changes {0} dedicated keys, at most {DEDICATED_ROUND_MAX} may be")]
    Dedicated(usize),
}

/// What became of a map.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// It is followed now.
    Taken,
    /// It is followed now instead of another one: the network was split.
    TakenInstead {
        /// What was followed.
        of: Token,
    },
    /// It is held, but the present one is higher, or it is the present one.
    Known,
    /// The map before it, of this digest, must come first.
    Wants([u8; 32]),
    /// It is not followed.
    Refused(PeerClaimError),
}

#[derive(Debug, Clone)]
struct Held {
    map: Arc<Map>,
    digest: [u8; 32],
}

impl Held {
    fn new(map: Map) -> Self {
        Self { digest: map.digest(), map: Arc::new(map) }
    }
}

/// What a reader goes by.
#[derive(Debug)]
pub struct Follower {
    present: Held,
    taken: Instant,
    /// What was followed before, and for how long its owners are named.
    before: Option<(Arc<Map>, Instant)>,
    held: VecDeque<Held>,
    churn: Churn,
    /// Until when another first map may win.
    is_open_until: Instant,
}

impl Follower {
    /// Begins with a map that was read from disk, or is the first that came.
    pub fn new(now: Instant, map: Map) -> Self {
        let is_young = map.parts().generation <= YOUNG;
        Self {
            present: Held::new(map),
            taken: now,
            before: None,
            held: VecDeque::new(),
            churn: Churn::default(),
            is_open_until: if is_young { now.after(ROOTS_MEET_WITHIN) } else { now },
        }
    }

    /// The map that answers come from.
    pub fn map(&self) -> &Map {
        &self.present.map
    }

    /// The same, to be kept.
    pub fn shared(&self) -> Arc<Map> {
        Arc::clone(&self.present.map)
    }

    /// Its digest.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.present.digest
    }

    /// The map whose owners are named as those before, and until when.
    pub fn before(&self, now: Instant) -> Option<(Arc<Map>, Instant)> {
        self.before.clone().filter(|(_, until)| now < *until)
    }

    /// What may still move within this minute, if planners move `most` in one.
    pub fn churn_left(&mut self, now: Instant, most: f64) -> f64 {
        self.churn.left(now, most).max(0.0)
    }

    /// Since when.
    pub const fn taken(&self) -> Instant {
        self.taken
    }

    /// The map with this digest, for whoever wants it.
    pub fn find(&self, digest: &[u8; 32]) -> Option<&Map> {
        let mut all = core::iter::once(&self.present).chain(&self.held);
        all.find(|held| held.digest == *digest).map(|held| &*held.map)
    }

    /// The same keys at the same hosts, by `author`, in a generation above that of `over`, right after the map with this digest; nothing
    /// if that is not held, or too far behind.
    pub fn outbid(&self, base: &[u8; 32], over: Token, author: NodeId) -> Option<Map> {
        let base = self.find(base)?;
        let generation = over.generation.checked_add(1)?;
        let ahead = generation.checked_sub(base.parts().generation)?;
        let parts = Parts { generation, author, previous: base.digest(), ..base.parts().clone() };
        (1..=OUTBID_MAX).contains(&ahead).then(|| Map::new(parts).expect("only its head differs"))
    }

    /// The member that owned a position before, as long as it may still have something to hand over.
    pub fn owner_before(&self, now: Instant, at: Position) -> Option<NodeId> {
        let (map, until) = self.before.as_ref()?;
        let owner = |map: &Map| map.lookup_at(at).map(|found| map.host(found.seats[0]).node);
        owner(map).filter(|before| now < *until && Some(*before) != owner(self.map()))
    }

    /// A map came. `may_be_lost` says of an author and another member whether that author may hold, or have held, it Down: because
    /// it is Down here, too, or was since the map before was taken, for maps come late; or because the author itself is or was,
    /// for then the network was split, and who can tell what it saw. What such members had may be taken away beside the budget.
    pub fn offer(&mut self, now: Instant, map: Map, may_be_lost: impl Fn(NodeId, NodeId) -> bool) -> Claim {
        let offered = Held::new(map);
        if self.find(&offered.digest).is_some() {
            return Claim::Known;
        }
        let previous = offered.map.parts().previous;
        if previous == [0; 32] {
            return self.offer_first(now, offered);
        }
        let Some(base) = self.find(&previous) else {
            return Claim::Wants(previous);
        };
        let moved = match check(base, &offered.map, may_be_lost) {
            Ok(moved) => moved,
            Err(refusal) => return Claim::Refused(refusal),
        };
        if previous == self.present.digest {
            let allowed = self.churn.left(now, MINUTE_MAX);
            if moved > allowed {
                return Claim::Refused(PeerClaimError::Churn { moved, allowed: allowed.max(0.0) });
            }
            self.churn.add(now, moved);
            self.follow(now, offered);
            return Claim::Taken;
        }
        self.take_higher(now, offered)
    }

    /// Two sides of a network that was split from the start each made a first map: for a while they come together.
    fn offer_first(&mut self, now: Instant, offered: Held) -> Claim {
        let (ours, parts) = (self.present.map.parts(), offered.map.parts());
        if (&ours.service, ours.strategy) != (&parts.service, parts.strategy) {
            return Claim::Refused(PeerClaimError::Service);
        }
        // The first map of another strategy goes on counting where the one before it ended.
        if parts.generation > ours.generation.saturating_add(AHEAD) {
            let (claimed, before) = (parts.generation, ours.generation);
            return Claim::Refused(PeerClaimError::Generation { claimed, before });
        }
        if !is_in_roster(parts, parts.author) {
            return Claim::Refused(PeerClaimError::Author(parts.author));
        }
        if now >= self.is_open_until {
            return Claim::Refused(PeerClaimError::First(parts.author));
        }
        self.take_higher(now, offered)
    }

    /// A map came whose predecessors nobody can show any more, for all that had them have restarted. It is judged by what it moves of
    /// the map that is followed, and by how far it can honestly have got meanwhile. Two first maps come together so, too.
    pub fn offer_distant(
        &mut self,
        now: Instant,
        map: Map,
        may_be_lost: impl Fn(NodeId, NodeId) -> bool,
    ) -> Claim {
        let offered = Held::new(map);
        if self.find(&offered.digest).is_some() {
            return Claim::Known;
        }
        let (ours, theirs) = (self.present.map.parts(), offered.map.parts());
        if (&ours.service, ours.strategy) != (&theirs.service, theirs.strategy) {
            return Claim::Refused(PeerClaimError::Service);
        }
        let honest = ours.generation.saturating_add(AHEAD + now.since(self.taken).as_secs());
        if theirs.generation > honest {
            let (claimed, before) = (theirs.generation, ours.generation);
            return Claim::Refused(PeerClaimError::Generation { claimed, before });
        }
        let author = theirs.author;
        let is_open = now < self.is_open_until && is_in_roster(theirs, author);
        if !is_open && !is_in_roster(ours, author) {
            return Claim::Refused(PeerClaimError::Author(author));
        }
        let moved = moved(&self.present.map, &offered.map, |lost| may_be_lost(author, lost));
        if !is_open && moved > CHURN_ROUND_MAX {
            return Claim::Refused(PeerClaimError::Churn { moved, allowed: CHURN_ROUND_MAX });
        }
        self.take_higher(now, offered)
    }

    fn take_higher(&mut self, now: Instant, offered: Held) -> Claim {
        let (ours, theirs) = (Token::of(self.map()), Token::of(&offered.map));
        // An author that crashed before its disk had a map may make another one of the same number.
        if (theirs, &offered.digest) > (ours, &self.present.digest) {
            self.follow(now, offered);
            return Claim::TakenInstead { of: ours };
        }
        self.hold(offered);
        Claim::Known
    }

    fn follow(&mut self, now: Instant, offered: Held) {
        let before = core::mem::replace(&mut self.present, offered);
        self.before = Some((before.map.clone(), now.after(HAND_OVER)));
        self.taken = now;
        self.hold(before);
    }

    fn hold(&mut self, map: Held) {
        let size = map.map.partitions().max(1);
        self.held.push_back(map);
        let most = (HELD_PARTITIONS_MAX / size).clamp(HELD.0, HELD.1);
        while self.held.len() > most {
            self.held.pop_front();
        }
    }
}

fn is_in_roster(parts: &Parts, node: NodeId) -> bool {
    parts.roster.iter().any(|host| host.node == node)
}

/// Whether `after` may come after `before`. Says which share of the space it moves beside what the lost had.
fn check(
    before: &Map,
    after: &Map,
    may_be_lost: impl Fn(NodeId, NodeId) -> bool,
) -> Result<f64, PeerClaimError> {
    let (old, new) = (before.parts(), after.parts());
    if (&old.service, old.strategy) != (&new.service, new.strategy) {
        return Err(PeerClaimError::Service);
    }
    if new.generation <= old.generation || new.generation - old.generation > OUTBID_MAX {
        return Err(PeerClaimError::Generation { claimed: new.generation, before: old.generation });
    }
    // If all of them are gone somebody else has to go on.
    if !is_in_roster(old, new.author) && !old.roster.iter().all(|host| may_be_lost(host.node, host.node)) {
        return Err(PeerClaimError::Author(new.author));
    }
    let gone = old.dedicated.iter().filter(|key| !after.is_dedicated(key.at)).count();
    let come = new.dedicated.iter().filter(|key| !before.is_dedicated(key.at)).count();
    if gone + come > DEDICATED_ROUND_MAX {
        return Err(PeerClaimError::Dedicated(gone + come));
    }
    let moved = moved(before, after, |lost| may_be_lost(new.author, lost));
    if moved > CHURN_ROUND_MAX {
        return Err(PeerClaimError::Churn { moved, allowed: CHURN_ROUND_MAX });
    }
    Ok(moved)
}

/// The share of the space whose owner is another one in `after`, but for what those had that `is_excused` names.
pub fn moved(before: &Map, after: &Map, is_excused: impl Fn(NodeId) -> bool) -> f64 {
    let mut bounds: Vec<Position> =
        before.parts().starts.iter().chain(&after.parts().starts).copied().collect();
    bounds.sort_unstable();
    bounds.dedup();
    let owner = |map: &Map, at| {
        let index = map.partition_of(at)?;
        Some(map.host(map.parts().seats[index].owner()).node)
    };
    let share = |(index, at): (usize, &Position)| {
        let (was, is) = (owner(before, *at), owner(after, *at));
        let slice = Slice { start: *at, end: bounds[(index + 1) % bounds.len()] };
        if was == is || was.is_some_and(&is_excused) { 0.0 } else { slice.share() }
    };
    bounds.iter().enumerate().map(share).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::{Heat, PartitionHeat};
    use crate::map::Seats;
    use crate::map::tests::node;
    use crate::place::Candidate;
    use crate::place::tests::candidates;
    use crate::plan::{PlanConfig, first, plan};
    use crate::position::Strategy;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn start(hosts: u16) -> Map {
        let service = "limiter".parse().expect("a name");
        first(service, Strategy::Hash, node(0), &candidates(hosts), &PlanConfig::default()).expect("a map")
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000 * seconds)
    }

    /// What `author` plans next, with a load that differs by `seed`.
    fn next(map: &Map, author: u16, candidates: &[Candidate], seed: u64) -> Option<Map> {
        let of = |index: usize| {
            let slice = map.slice(index);
            let cost = 1.0 + ((seed >> (index % 60)) & 3) as f64;
            (slice.start, PartitionHeat { cost, median: slice.at((slice.positions() / 2) as u64) })
        };
        let heat = Heat { partitions: (0..map.partitions()).map(of).collect(), ..Heat::default() };
        let planned = plan(map, node(author), candidates, Some(&heat), &PlanConfig::default());
        planned.expect("somebody serves").map(|plan| plan.map)
    }

    proptest! {
        #[test]
        fn two_sides_of_a_split_come_to_one_map_in_whatever_order_they_hear(
            ours in proptest::collection::vec(any::<u64>(), 0..5),
            theirs in proptest::collection::vec(any::<u64>(), 0..5),
            order in proptest::collection::vec(any::<usize>(), 60),
        ) {
            let hosts = candidates(10);
            let first = start(10);
            let side = |author: u16, seeds: Vec<u64>| {
                let mut maps: Vec<Map> = Vec::new();
                for seed in seeds {
                    let last = maps.last().unwrap_or(&first);
                    // Each side holds the other's half to be lost.
                    let is_here = |index: usize| (index < 5) == (author < 5);
                    let mut seen = hosts.clone();
                    seen.iter_mut().enumerate().for_each(|(index, host)| host.is_live = is_here(index));
                    maps.extend(next(last, author, &seen, seed));
                }
                maps
            };
            let (ours, theirs) = (side(0, ours), side(7, theirs));
            let mut readers = Vec::new();
            for (maps, is_first_half) in [(&ours, true), (&theirs, false)] {
                let mut reader = Follower::new(at(0), first.clone());
                for (second, map) in (10..).step_by(60).zip(maps) {
                    let is_down = |_, lost: NodeId| (lost.as_u64() <= 5) != is_first_half;
                    prop_assert_eq!(reader.offer(at(second), map.clone(), is_down), Claim::Taken);
                }
                readers.push(reader);
            }
            // Healed: nobody is Down any more, and everybody remembers that the other half was.
            let all: Vec<Map> = ours.iter().chain(&theirs).cloned().collect();
            for (reader, is_first_half) in readers.iter_mut().zip([true, false]) {
                let was_down = |author: NodeId, _| (author.as_u64() <= 5) != is_first_half;
                for draw in order.iter().filter(|_| !all.is_empty()) {
                    let mut wanted = vec![all[draw % all.len()].clone()];
                    while let Some(map) = wanted.pop() {
                        if let Claim::Wants(digest) = reader.offer(at(1_000), map.clone(), was_down) {
                            let before = all.iter().find(|map| map.digest() == digest);
                            wanted.extend([map, before.expect("somebody has it").clone()]);
                        }
                    }
                }
            }
            let highest = all.iter().map(Token::of).max();
            if let Some(highest) = highest {
                for reader in &readers {
                    prop_assert_eq!(Token::of(reader.map()), highest);
                }
            }
        }

        #[test]
        fn a_distant_map_is_followed_if_it_moves_little_or_its_author_was_cut_off(
            seeds in proptest::collection::vec(any::<u64>(), 2..8),
            was_cut_off in any::<bool>(),
        ) {
            let (first, hosts) = (start(10), candidates(10));
            let mut maps: Vec<Map> = vec![first.clone()];
            for seed in seeds {
                let after = next(maps.last().expect("one"), 3, &hosts, seed);
                maps.extend(after);
            }
            let (last, old) = (maps.last().expect("one").clone(), at(2_000));
            let mut reader = Follower::new(at(0), first.clone());
            let is_lost = |author: NodeId, _| was_cut_off && author == node(3);
            let share = moved(&first, &last, |_| was_cut_off);
            let claim = reader.offer_distant(old, last.clone(), is_lost);
            let is_followed = reader.map() == &last;
            prop_assert_eq!(is_followed, share <= CHURN_ROUND_MAX, "{:?}", claim);
            let far = Map::new(Parts { generation: 1 << 63, ..last.into_parts() }).expect("a map");
            let claim = reader.offer_distant(old, far, |_, _| true);
            let is_refused = matches!(claim, Claim::Refused(PeerClaimError::Generation { .. }));
            prop_assert!(is_refused);
        }

        #[test]
        fn no_resource_obeys_a_lower_token_after_a_higher(tokens in proptest::collection::vec((0_u64..5, 0_u16..3), 1..30)) {
            let (mut fence, mut highest) = (Fence::default(), None);
            for (generation, author) in tokens {
                let token = Token { generation, author: node(author) };
                prop_assert_eq!(fence.admit(token).is_ok(), highest.is_none_or(|highest| token >= highest));
                highest = highest.max(Some(token));
            }
        }
    }

    #[test]
    fn a_rogue_author_is_not_followed() {
        let map = start(10);
        let check = |change: &dyn Fn(&mut Parts), want: &str| {
            let mut parts = map.parts().clone();
            (parts.generation, parts.previous, parts.author) = (2, map.digest(), node(3));
            change(&mut parts);
            let claim =
                Follower::new(at(0), map.clone()).offer(at(1), Map::new(parts).expect("a map"), |_, _| false);
            let Claim::Refused(why) = claim else { panic!("{want}: {claim:?}") };
            assert!(why.to_string().starts_with(want), "{why}");
        };
        check(&|parts| parts.generation = 1 << 63, "it calls itself generation 9223372036854775808");
        check(&|parts| parts.generation = 1, "it calls itself generation 1, and the one before it is 1");
        check(&|parts| parts.author = node(77), "its author 000000000000004e is not in the roster");
        check(&|parts| parts.service = "other".parse().expect("a name"), "it is a map of another service");
        let all = map.parts().seats.len();
        let owner = crate::map::Seat(3);
        check(&|parts| parts.seats[..all / 2].fill(Seats::of(owner)), "it moves 4");
        check(
            &|parts| {
                let key = |at: u64| crate::map::Dedicated { at: Position(at), owners: vec![owner] };
                parts.dedicated = (0..65).map(key).collect();
            },
            "it changes 65 dedicated keys",
        );
    }

    #[test]
    fn a_rogue_author_does_not_get_far_step_by_step_either() {
        let map = start(10);
        let mut reader = Follower::new(at(0), map.clone());
        let (mut last, mut taken) = (map, 0);
        for round in 0..20_usize {
            let mut parts = last.parts().clone();
            (parts.generation, parts.previous, parts.author) =
                (last.parts().generation + 1, last.digest(), node(3));
            let begin = round * 18 % 180;
            parts.seats[begin..begin + 18].fill(Seats::of(crate::map::Seat((round % 9 + 1) as u16)));
            last = Map::new(parts).expect("a map");
            taken += usize::from(reader.offer(at(round as u64), last.clone(), |_, _| false) == Claim::Taken);
        }
        assert!((5..=7).contains(&taken), "{taken} rounds within a minute");
    }

    #[test]
    fn what_the_down_had_may_move_beside_the_budget_and_the_owner_before_is_named_for_a_while() {
        let map = start(4);
        let mut hosts = candidates(4);
        hosts[1].is_live = false;
        let covered = plan(&map, node(0), &hosts, None, &PlanConfig::default()).expect("somebody serves");
        let covered = covered.expect("one is lost").map;
        let mut reader = Follower::new(at(0), map.clone());
        let refused = reader.offer(at(1), covered.clone(), |_, _| false);
        assert!(matches!(refused, Claim::Refused(PeerClaimError::Churn { .. })), "{refused:?}");
        assert_eq!(reader.offer(at(2), covered.clone(), |_, lost| lost == node(1)), Claim::Taken);
        assert_eq!(reader.offer(at(2), covered, |_, _| false), Claim::Known);
        let index = map.parts().seats.iter().position(|seats| seats.owner().0 == 1).expect("it had some");
        let lost = map.slice(index).start;
        assert_eq!(reader.owner_before(at(11), lost), Some(node(1)));
        assert_eq!(reader.owner_before(at(12), lost), None);
        let kept = map.parts().seats.iter().position(|seats| seats.owner().0 == 0).expect("it had some");
        assert_eq!(reader.owner_before(at(3), map.slice(kept).start), None);
    }
}
