//! The map: an explicit, numbered table of who owns which slice of the space. Two readers of one generation answer alike.
//!
//! Invariant: every position has exactly one owner. Invariant: the members of an assignment are distinct. A partition's
//! identity is where it starts, so a split leaves the lower half where it is. Format: [`wire`](crate::wire).

use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;

use crate::place::score;
use crate::position::{KeyError, Position, Strategy};
use crate::slice::Slice;

/// Members of a roster at most.
pub const ROSTER_MAX: usize = 4_096;
/// Partitions of a map at most.
pub const PARTITIONS_MAX: usize = 65_536;
/// Standbys of a partition at most.
pub const STANDBYS_MAX: usize = 3;
/// Keys with a partition of their own at most.
pub const DEDICATED_MAX: usize = 1_024;
/// Members that share a dedicated key at most.
pub const SPREAD_MAX: usize = 16;

/// A member that may own partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Which member.
    pub node: NodeId,
    /// What it can take, beside the others'. 0: it should own nothing.
    pub capacity: u16,
}

/// A member, as its place in the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat(pub u16);

impl Seat {
    /// The place as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who serves a partition: its owner, then who takes over if that one is down, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seats {
    seats: [Seat; 1 + STANDBYS_MAX],
    count: u8,
}

impl Seats {
    /// An owner without standbys.
    pub const fn of(owner: Seat) -> Self {
        Self { seats: [owner; 1 + STANDBYS_MAX], count: 1 }
    }

    /// The owner, then the standbys; nothing if there is no owner, too many standbys, or one of them twice.
    pub fn new(seats: &[Seat]) -> Option<Self> {
        let mut all = Self::of(*seats.first()?);
        seats[1..].iter().all(|seat| all.add(*seat)).then_some(all)
    }

    /// Adds a standby. Says whether there was room for it, and it is not in already.
    pub fn add(&mut self, standby: Seat) -> bool {
        let has_room = usize::from(self.count) < self.seats.len() && !self.all().contains(&standby);
        if has_room {
            self.seats[usize::from(self.count)] = standby;
            self.count += 1;
        }
        has_room
    }

    /// The owner.
    pub const fn owner(&self) -> Seat {
        self.seats[0]
    }

    /// The standbys, the first to take over first.
    pub fn standbys(&self) -> &[Seat] {
        &self.all()[1..]
    }

    /// The owner, then the standbys.
    pub fn all(&self) -> &[Seat] {
        &self.seats[..usize::from(self.count)]
    }
}

/// A key that has a partition of its own, wherever it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedicated {
    /// Where the key lies. A key of the same position goes with it.
    pub at: Position,
    /// Who shares it, 1 to [`SPREAD_MAX`]; each the standby of the one before.
    pub owners: Vec<Seat>,
}

/// What a map is made of, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The service whose keys it spreads.
    pub service: ServiceName,
    /// Which version: 1 for the first.
    pub generation: u64,
    /// The member that made it.
    pub author: NodeId,
    /// The [`Map::digest`] of the generation before; zeros for the first.
    pub previous: [u8; 32],
    /// How keys are laid out.
    pub strategy: Strategy,
    /// Who may own partitions.
    pub roster: Vec<Host>,
    /// Where each partition starts, rising.
    pub starts: Vec<Position>,
    /// Who serves each of them.
    pub seats: Vec<Seats>,
    /// Keys with partitions of their own, by position.
    pub dedicated: Vec<Dedicated>,
}

/// Why parts make no map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerMapError {
    /// Something is missing, or there is too much of it.
    #[error("{field}: has {count}, {allowed} are allowed")]
    Count {
        /// Of what.
        field: &'static str,
        /// How much there is.
        count: usize,
        /// How much may be.
        allowed: &'static str,
    },
    /// Something is not in order, or twice.
    #[error("{field}[{index}]: does not come after the one before")]
    Order {
        /// Of what.
        field: &'static str,
        /// Which one.
        index: usize,
    },
    /// A start lies where none may.
    #[error("starts[{0}]: has bits set that are zero with this strategy")]
    Start(usize),
    /// A seat that the roster does not have, or that is given twice.
    #[error("{field}[{index}]: names a member that is not in the roster, or one twice")]
    Seat {
        /// Of what.
        field: &'static str,
        /// Which one.
        index: usize,
    },
    /// A member that is in the roster twice.
    #[error("roster: {0} is in it twice")]
    Twice(NodeId),
}

/// A map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map(Parts);

impl Map {
    /// Checks what a map is made of.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(parts: Parts) -> Result<Self, PeerMapError> {
        check_counts(&parts)?;
        let mut nodes: Vec<NodeId> = parts.roster.iter().map(|host| host.node).collect();
        nodes.sort_unstable();
        if let Some(twice) = nodes.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(PeerMapError::Twice(twice[0]));
        }
        check_order("starts", parts.starts.iter().copied())?;
        check_order("dedicated", parts.dedicated.iter().map(|dedicated| dedicated.at))?;
        let is_start = |at: &Position| parts.strategy.start_at(*at) == *at;
        if let Some(index) = parts.starts.iter().position(|at| !is_start(at)) {
            return Err(PeerMapError::Start(index));
        }
        let is_there = |seats: &[Seat]| seats.iter().all(|seat| seat.index() < parts.roster.len());
        if let Some(index) = parts.seats.iter().position(|seats| !is_there(seats.all())) {
            return Err(PeerMapError::Seat { field: "seats", index });
        }
        let is_good = |dedicated: &Dedicated| {
            let owners = &dedicated.owners;
            let is_once = owners.iter().enumerate().all(|(index, seat)| !owners[..index].contains(seat));
            (1..=SPREAD_MAX).contains(&owners.len()) && is_there(owners) && is_once
        };
        if let Some(index) = parts.dedicated.iter().position(|dedicated| !is_good(dedicated)) {
            return Err(PeerMapError::Seat { field: "dedicated", index });
        }
        Ok(Self(parts))
    }

    /// What it is made of.
    pub const fn parts(&self) -> &Parts {
        &self.0
    }

    /// What it is made of, to make another one.
    pub fn into_parts(self) -> Parts {
        self.0
    }

    /// How many partitions there are; 0 if there is nobody who could own one.
    pub fn partitions(&self) -> usize {
        self.0.starts.len()
    }

    /// What the partition with this index covers.
    ///
    /// # Panics
    /// If there is none.
    pub fn slice(&self, index: usize) -> Slice {
        let starts = &self.0.starts;
        Slice { start: starts[index], end: starts[(index + 1) % starts.len()] }
    }

    /// The index of the partition that covers `at`; nothing if there are none.
    pub fn partition_of(&self, at: Position) -> Option<usize> {
        let before = self.0.starts.partition_point(|start| *start <= at);
        before.checked_sub(1).or_else(|| self.0.starts.len().checked_sub(1))
    }

    /// Who serves `key`, the first who should be asked first.
    ///
    /// # Errors
    /// If it is no key.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Found<'_>>, KeyError> {
        Ok(self.lookup_at(self.0.strategy.position(key)?))
    }

    /// Who serves what lies at a position; nothing if there are no partitions.
    pub fn lookup_at(&self, at: Position) -> Option<Found<'_>> {
        if let Ok(index) = self.0.dedicated.binary_search_by_key(&at, |dedicated| dedicated.at) {
            return Some(Found { at, place: Place::Dedicated, seats: &self.0.dedicated[index].owners });
        }
        let index = self.partition_of(at)?;
        Some(Found { at, place: Place::Partition(index), seats: self.0.seats[index].all() })
    }

    /// Who serves what lies at a position if nobody whom the map names for it is there: of those that are live the one that wants
    /// it most, so that every reader that sees the same members names the same.
    pub fn last_resort(&self, at: Position, is_live: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let start = self.partition_of(at).map_or(at, |index| self.0.starts[index]);
        let live = self.0.roster.iter().filter(|host| host.capacity > 0 && is_live(host.node));
        let best = live.max_by(|one, other| {
            score(one, start).total_cmp(&score(other, start)).then(other.node.cmp(&one.node))
        });
        best.map(|host| host.node)
    }

    /// Whether a position has a partition of its own.
    pub fn is_dedicated(&self, at: Position) -> bool {
        self.lookup_at(at).is_some_and(|found| found.place == Place::Dedicated)
    }

    /// The member at a seat of an assignment of this map.
    pub fn host(&self, seat: Seat) -> &Host {
        &self.0.roster[seat.index()]
    }
}

/// Who serves a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// Where the key lies.
    pub at: Position,
    /// In what.
    pub place: Place,
    /// The owner and its standbys, or those that share a dedicated key.
    pub seats: &'a [Seat],
}

/// Where a key belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To the partition with this index.
    Partition(usize),
    /// To a partition of its own.
    Dedicated,
}

fn check_counts(parts: &Parts) -> Result<(), PeerMapError> {
    let check = |field, count, is_allowed: bool, allowed| {
        if is_allowed { Ok(()) } else { Err(PeerMapError::Count { field, count, allowed }) }
    };
    let (roster, starts, seats) = (parts.roster.len(), parts.starts.len(), parts.seats.len());
    let dedicated = parts.dedicated.len();
    check("roster", roster, roster <= ROSTER_MAX, "0 to 4096")?;
    check("starts", starts, starts <= PARTITIONS_MAX, "0 to 65536")?;
    check(
        "starts",
        starts,
        (starts == 0) == (roster == 0),
        "none without a roster, and one at least with one",
    )?;
    check("seats", seats, seats == starts, "as many as starts")?;
    check("dedicated", dedicated, dedicated <= DEDICATED_MAX, "0 to 1024")
}

fn check_order(field: &'static str, all: impl Iterator<Item = Position>) -> Result<(), PeerMapError> {
    let mut before = None;
    for (index, at) in all.enumerate() {
        if before.is_some_and(|before| at <= before) {
            return Err(PeerMapError::Order { field, index });
        }
        before = Some(at);
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use proptest::strategy::Strategy as _;

    pub(crate) fn node(number: u16) -> NodeId {
        NodeId::from_bytes((u64::from(number) + 1).to_be_bytes())
    }

    /// Any map: of either strategy, with dedicated keys, and also with nobody in it.
    pub(crate) fn any_map() -> impl proptest::strategy::Strategy<Value = Map> {
        let seats = proptest::collection::vec(any::<u16>(), 1..=4);
        let partitions = proptest::collection::btree_map(any::<u32>(), seats.clone(), 1..40);
        let dedicated = proptest::collection::btree_map(any::<u64>(), seats, 0..5);
        (0_u16..20, partitions, dedicated, any::<bool>(), any::<u64>()).prop_map(
            |(hosts, partitions, dedicated, is_hash, generation)| {
                let distinct = |seats: Vec<u16>| {
                    let mut distinct: Vec<Seat> = Vec::new();
                    for seat in seats {
                        let seat = Seat(seat % hosts.max(1));
                        if !distinct.contains(&seat) {
                            distinct.push(seat);
                        }
                    }
                    distinct
                };
                let is_empty = hosts == 0;
                let partitions: Vec<(u32, Vec<u16>)> = partitions.into_iter().filter(|_| !is_empty).collect();
                let parts = Parts {
                    service: "limiter".parse().expect("a name"),
                    generation,
                    author: node(0),
                    previous: [7; 32],
                    strategy: if is_hash { Strategy::Hash } else { Strategy::Name },
                    roster: (0..hosts).map(|host| Host { node: node(host), capacity: host * 100 }).collect(),
                    starts: partitions.iter().map(|(start, _)| Position(u64::from(*start) << 32)).collect(),
                    seats: partitions
                        .into_iter()
                        .map(|(_, seats)| Seats::new(&distinct(seats)).expect("are distinct"))
                        .collect(),
                    dedicated: dedicated
                        .into_iter()
                        .filter(|_| !is_empty)
                        .map(|(at, owners)| Dedicated { at: Position(at), owners: distinct(owners) })
                        .collect(),
                };
                Map::new(parts).expect("is a map")
            },
        )
    }

    proptest! {
        #[test]
        fn every_position_has_exactly_one_owner(map in any_map(), positions in proptest::collection::vec(any::<u64>(), 20)) {
            let starts = map.parts().starts.iter().flat_map(|start| [start.0, start.0.wrapping_sub(1)]);
            for at in starts.chain(positions).map(Position) {
                let covering: Vec<usize> =
                    (0..map.partitions()).filter(|index| map.slice(*index).contains(at)).collect();
                prop_assert!(covering.len() <= 1);
                prop_assert_eq!(map.partition_of(at), covering.first().copied());
                if let Some(found) = map.lookup_at(at) {
                    let is_dedicated = map.parts().dedicated.iter().any(|dedicated| dedicated.at == at);
                    prop_assert_eq!(found.place == Place::Dedicated, is_dedicated);
                    prop_assert!(!found.seats.is_empty());
                }
            }
            let whole: u128 = (0..map.partitions()).map(|index| map.slice(index).positions()).sum();
            prop_assert!(whole == 0 || whole == 1 << 64);
        }
    }

    fn parts() -> Parts {
        Parts {
            service: "limiter".parse().expect("a name"),
            generation: 1,
            author: node(0),
            previous: [0; 32],
            strategy: Strategy::Hash,
            roster: (0..3).map(|host| Host { node: node(host), capacity: 100 }).collect(),
            starts: vec![Position(0), Position(1 << 63)],
            seats: vec![Seats::of(Seat(0)), Seats::of(Seat(2))],
            dedicated: vec![Dedicated { at: Position(5), owners: vec![Seat(1), Seat(2)] }],
        }
    }

    #[test]
    fn what_makes_no_map_is_refused_with_its_field() {
        let check = |change: &dyn Fn(&mut Parts), want: &str| {
            let mut parts = parts();
            change(&mut parts);
            let error = Map::new(parts).expect_err(want).to_string();
            assert!(error.starts_with(want), "{error}");
        };
        assert!(Map::new(parts()).is_ok());
        check(&|parts| parts.roster[2] = parts.roster[0], "roster: 0000000000000001 is in it twice");
        check(&|parts| parts.starts[1] = Position(0), "starts[1]: does not come after");
        check(&|parts| parts.starts[1] = Position(1), "starts[1]: has bits set");
        check(&|parts| parts.seats[1] = Seats::of(Seat(3)), "seats[1]: names a member");
        check(&|parts| parts.seats.truncate(1), "seats: has 1");
        check(&|parts| parts.roster.clear(), "starts: has 2, none without a roster");
        check(&|parts| parts.dedicated[0].owners.clear(), "dedicated[0]: names");
        check(&|parts| parts.dedicated[0].owners = vec![Seat(1), Seat(1)], "dedicated[0]: names");
        check(&|parts| parts.dedicated.push(parts.dedicated[0].clone()), "dedicated[1]: does not come");
        assert_eq!(Seats::new(&[]), None);
        assert_eq!(Seats::new(&[Seat(1), Seat(1)]), None);
        assert_eq!(Seats::new(&[0, 1, 2, 3, 4].map(Seat)), None);
    }

    #[test]
    fn a_map_of_nobody_names_nobody() {
        let map =
            Map::new(Parts { roster: vec![], starts: vec![], seats: vec![], dedicated: vec![], ..parts() })
                .expect("a map");
        assert_eq!(map.lookup(b"anybody"), Ok(None));
        assert_eq!(map.lookup(b""), Err(KeyError::Empty));
    }
}
