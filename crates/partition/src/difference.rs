//! What changes from one generation to the next, which is little: agents exchange this instead of the whole map.

use std::collections::BTreeMap;

use crate::map::{Dedicated, Host, Map, PARTITIONS_MAX, Parts, ROSTER_MAX, Seats};
use crate::position::Position;
use crate::wire::{PeerBytesError, Reader, Writer};

/// The first byte of a difference.
pub const DIFFERENCE_FORMAT: u8 = 2;

/// What makes a map out of the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What the new map says of itself; it names the digest of the one before.
    head: Parts,
    /// How many the roster has then.
    roster: usize,
    /// Who is new at which place of the roster.
    hosts: Vec<(usize, Host)>,
    /// Where no partition starts any more.
    gone: Vec<Position>,
    /// Partitions that are new, or served by others.
    set: Vec<(Position, Seats)>,
    /// All dedicated keys, if any of them changed.
    dedicated: Option<Vec<Dedicated>>,
}

impl Difference {
    /// What makes `after` out of `before`; nothing if that is not the generation before.
    pub fn between(before: &Map, after: &Map) -> Option<Self> {
        let (old, new) = (before.parts(), after.parts());
        if new.previous != before.digest() || old.strategy != new.strategy || old.service != new.service {
            return None;
        }
        let table = |parts: &Parts| -> BTreeMap<Position, Seats> {
            parts.starts.iter().copied().zip(parts.seats.iter().copied()).collect()
        };
        let (was, is) = (table(old), table(new));
        let hosts =
            new.roster.iter().enumerate().filter(|(index, host)| old.roster.get(*index) != Some(host));
        Some(Self {
            head: Parts { roster: vec![], starts: vec![], seats: vec![], dedicated: vec![], ..new.clone() },
            roster: new.roster.len(),
            hosts: hosts.map(|(index, host)| (index, *host)).collect(),
            gone: was.keys().filter(|start| !is.contains_key(start)).copied().collect(),
            set: is.into_iter().filter(|(start, seats)| was.get(start) != Some(seats)).collect(),
            dedicated: (old.dedicated != new.dedicated).then(|| new.dedicated.clone()),
        })
    }

    /// What the map that it makes says of itself, without what it is made of.
    pub const fn head(&self) -> &Parts {
        &self.head
    }

    /// How many partitions it changes.
    pub fn partitions(&self) -> usize {
        self.gone.len() + self.set.len()
    }

    /// The map that comes after `before`.
    ///
    /// # Errors
    /// If it is a difference to another map, or what comes of it is no map.
    pub fn apply(&self, before: &Map) -> Result<Map, PeerBytesError> {
        let old = before.parts();
        let is_next = (self.head.strategy, &self.head.service) == (old.strategy, &old.service)
            && self.head.previous == before.digest();
        if !is_next {
            return Err(PeerBytesError::Base);
        }
        let mut hosts: BTreeMap<usize, Host> =
            old.roster.iter().copied().enumerate().take(self.roster).collect();
        hosts.extend(self.hosts.iter().copied().filter(|(index, _)| *index < self.roster));
        if hosts.len() != self.roster {
            return Err(PeerBytesError::Value { field: "roster", value: self.roster as u64 });
        }
        let (starts, seats) = self.merge(old);
        let dedicated = self.dedicated.clone().unwrap_or_else(|| old.dedicated.clone());
        let roster = hosts.into_values().collect();
        Ok(Map::new(Parts { roster, starts, seats, dedicated, ..self.head.clone() })?)
    }

    fn merge(&self, old: &Parts) -> (Vec<Position>, Vec<Seats>) {
        let mut merged = Vec::with_capacity(old.starts.len() + self.set.len());
        let (mut gone, mut set) = (self.gone.iter().peekable(), self.set.iter().peekable());
        for (start, seats) in old.starts.iter().zip(&old.seats) {
            while let Some(new) = set.next_if(|(at, _)| at < start) {
                merged.push(*new);
            }
            while gone.next_if(|at| *at < start).is_some() {}
            let changed = set.next_if(|(at, _)| at == start);
            if gone.next_if_eq(&start).is_none() {
                merged.push((*start, changed.map_or(*seats, |(_, seats)| *seats)));
            }
        }
        merged.extend(set);
        merged.into_iter().unzip()
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(vec![DIFFERENCE_FORMAT]);
        out.head(&self.head);
        out.number(self.roster as u64);
        out.number(self.hosts.len() as u64);
        for (index, host) in &self.hosts {
            out.number(*index as u64);
            out.host(host);
        }
        out.number(self.gone.len() as u64);
        out.starts(self.head.strategy, self.gone.iter().copied());
        out.number(self.set.len() as u64);
        out.starts(self.head.strategy, self.set.iter().map(|(start, _)| *start));
        self.set.iter().for_each(|(_, seats)| out.seats(seats));
        out.number(u64::from(self.dedicated.is_some()));
        if let Some(dedicated) = &self.dedicated {
            out.all_dedicated(dedicated);
        }
        out.0
    }

    /// Reads a difference. Whether it fits a map is known when it is applied.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerBytesError> {
        let mut reader = Reader(bytes);
        reader.format(DIFFERENCE_FORMAT)?;
        let head = reader.head()?;
        let roster = reader.number("roster")?;
        let is_possible = |roster: &usize| *roster <= ROSTER_MAX;
        let roster = usize::try_from(roster)
            .ok()
            .filter(is_possible)
            .ok_or(PeerBytesError::Value { field: "roster", value: roster })?;
        let hosts = reader.list("hosts", ROSTER_MAX, |reader| {
            let index = reader.number("hosts")?;
            Ok((usize::try_from(index).unwrap_or(usize::MAX), reader.host()?))
        })?;
        let count = reader.count("gone", PARTITIONS_MAX)?;
        let gone = reader.starts(head.strategy, count)?;
        let count = reader.count("set", PARTITIONS_MAX)?;
        let starts = reader.starts(head.strategy, count)?;
        let seats = (0..count).map(|_| reader.seats()).collect::<Result<Vec<_>, _>>()?;
        let dedicated = match reader.number("dedicated")? {
            0 => None,
            1 => Some(reader.all_dedicated()?),
            value => return Err(PeerBytesError::Value { field: "dedicated", value }),
        };
        reader.end()?;
        Ok(Self { head, roster, hosts, gone, set: starts.into_iter().zip(seats).collect(), dedicated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::tests::any_map;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    /// `after`, as if it came right after `before`.
    fn next(before: &Map, after: Map) -> Map {
        let previous = before.digest();
        let strategy = before.parts().strategy;
        Map::new(Parts { previous, strategy, ..after.into_parts() }).expect("is a map")
    }

    proptest! {
        #[test]
        fn a_difference_makes_the_next_map_of_the_one_before(before in any_map(), after in any_map()) {
            let after = next(&before, after);
            let difference = Difference::between(&before, &after).expect("comes next");
            prop_assert_eq!(difference.apply(&before), Ok(after));
            let read = Difference::from_bytes(&difference.to_bytes());
            prop_assert_eq!(read, Ok(difference));
        }

        #[test]
        fn a_mangled_difference_makes_a_map_or_an_error(
            before in any_map(),
            after in any_map(),
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..5),
        ) {
            let after = next(&before, after);
            let mut bytes = Difference::between(&before, &after).expect("comes next").to_bytes();
            let length = bytes.len();
            for (at, byte) in changes {
                bytes[at % length] = byte;
            }
            if let Ok(map) = Difference::from_bytes(&bytes).and_then(|difference| difference.apply(&before)) {
                prop_assert!(Map::from_bytes(&map.to_bytes()).is_ok());
            }
        }

        #[test]
        fn it_is_applied_to_nothing_else(one in any_map(), other in any_map(), after in any_map()) {
            let after = next(&one, after);
            let difference = Difference::between(&one, &after).expect("comes next");
            prop_assert!(one == other || difference.apply(&other) == Err(PeerBytesError::Base));
            prop_assert!(one == after || Difference::between(&after, &one).is_none());
        }
    }
}
