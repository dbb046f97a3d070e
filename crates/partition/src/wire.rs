//! How maps are written, for readers in any language: `docs/partition-map.md` says it byte by byte.
//!
//! Numbers are LEB128 without needless bytes, so that a map has one form and one digest. Starts are written as what they lie
//! behind the one before, without the bits that are zero.

use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use sha2::{Digest as _, Sha256};

use crate::map::{
    DEDICATED_MAX, Dedicated, Host, Map, PARTITIONS_MAX, Parts, PeerMapError, ROSTER_MAX, SPREAD_MAX, Seat,
    Seats,
};
use crate::position::{Position, Strategy};

/// The first byte of a map.
pub const MAP_FORMAT: u8 = 1;
/// How many bits behind the owner say how many standbys follow.
const STANDBY_BITS: u32 = 2;

/// Why bytes are no map, or no difference of maps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerBytesError {
    /// They end too early.
    #[error("ends within {0}")]
    End(&'static str),
    /// There is more behind the end.
    #[error("has {0} bytes behind its end")]
    Behind(usize),
    /// Another format than is known here.
    #[error("format: {0} is not known, 1 is")]
    Format(u8),
    /// A value that is not allowed.
    #[error("{field}: {value} is not allowed")]
    Value {
        /// Of what.
        field: &'static str,
        /// The value.
        value: u64,
    },
    /// A number with needless bytes, or over 64 bits.
    #[error("{0}: is a number with needless bytes, or over 64 bits")]
    Number(&'static str),
    /// A service name that is none.
    #[error("service: is no name")]
    Service,
    /// All could be read, and it is no map.
    #[error(transparent)]
    Map(#[from] PeerMapError),
    /// A difference to another map than the one it is applied to.
    #[error("is a difference to another map")]
    Base,
}

impl Map {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = self.parts();
        let mut out = Writer(vec![MAP_FORMAT]);
        out.head(parts);
        out.number(parts.roster.len() as u64);
        parts.roster.iter().for_each(|host| out.host(host));
        out.number(parts.starts.len() as u64);
        out.starts(parts.strategy, parts.starts.iter().copied());
        parts.seats.iter().for_each(|seats| out.seats(seats));
        out.all_dedicated(&parts.dedicated);
        out.0
    }

    /// Reads a map.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerBytesError> {
        let mut reader = Reader(bytes);
        reader.format(MAP_FORMAT)?;
        let head = reader.head()?;
        let roster = reader.list("roster", ROSTER_MAX, Reader::host)?;
        let count = reader.count("starts", PARTITIONS_MAX)?;
        let starts = reader.starts(head.strategy, count)?;
        let seats = (0..count).map(|_| reader.seats()).collect::<Result<Vec<_>, _>>()?;
        let dedicated = reader.all_dedicated()?;
        reader.end()?;
        Ok(Self::new(Parts { roster, starts, seats, dedicated, ..head })?)
    }

    /// SHA-256 over its bytes: what the next generation names as the one before.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }
}

/// Writes.
#[derive(Debug)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// What comes first in maps and differences.
    pub(crate) fn head(&mut self, parts: &Parts) {
        self.0.push(match parts.strategy {
            Strategy::Hash => 0,
            Strategy::Name => 1,
        });
        self.number(parts.service.as_str().len() as u64);
        self.0.extend_from_slice(parts.service.as_str().as_bytes());
        self.number(parts.generation);
        self.0.extend_from_slice(parts.author.as_bytes());
        self.0.extend_from_slice(&parts.previous);
    }

    pub(crate) fn host(&mut self, host: &Host) {
        self.0.extend_from_slice(host.node.as_bytes());
        self.number(host.capacity.into());
    }

    pub(crate) fn starts(&mut self, strategy: Strategy, starts: impl Iterator<Item = Position>) {
        let mut before = 0;
        for start in starts {
            let start = start.0 >> strategy.zero_bits();
            self.number(start - before);
            before = start;
        }
    }

    pub(crate) fn seats(&mut self, seats: &Seats) {
        let standbys = seats.standbys();
        self.number(u64::from(seats.owner().0) << STANDBY_BITS | standbys.len() as u64);
        standbys.iter().for_each(|seat| self.number(seat.0.into()));
    }

    pub(crate) fn all_dedicated(&mut self, all: &[Dedicated]) {
        self.number(all.len() as u64);
        for dedicated in all {
            self.0.extend_from_slice(&dedicated.at.0.to_be_bytes());
            self.number(dedicated.owners.len() as u64);
            dedicated.owners.iter().for_each(|seat| self.number(seat.0.into()));
        }
    }
}

/// Reads, and takes nothing on trust.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    fn bytes<const COUNT: usize>(&mut self, field: &'static str) -> Result<[u8; COUNT], PeerBytesError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(PeerBytesError::End(field))?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn format(&mut self, known: u8) -> Result<(), PeerBytesError> {
        let [format] = self.bytes("format")?;
        if format == known { Ok(()) } else { Err(PeerBytesError::Format(format)) }
    }

    pub(crate) fn number(&mut self, field: &'static str) -> Result<u64, PeerBytesError> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let [byte] = self.bytes(field)?;
            let bits = u64::from(byte & 0x7f);
            let is_needless = byte == 0 && shift > 0;
            if shift > 63 || (shift == 63 && bits > 1) || is_needless {
                return Err(PeerBytesError::Number(field));
            }
            number |= bits << shift;
            shift += 7;
            if byte < 0x80 {
                return Ok(number);
            }
        }
    }

    /// How many follow; each takes a byte at least, so no more than there are.
    pub(crate) fn count(&mut self, field: &'static str, max: usize) -> Result<usize, PeerBytesError> {
        let value = self.number(field)?;
        let count = usize::try_from(value).unwrap_or(usize::MAX);
        if count > max {
            return Err(PeerBytesError::Value { field, value });
        }
        if count > self.0.len() {
            return Err(PeerBytesError::End(field));
        }
        Ok(count)
    }

    fn small(&mut self, field: &'static str) -> Result<u16, PeerBytesError> {
        let value = self.number(field)?;
        u16::try_from(value).map_err(|_| PeerBytesError::Value { field, value })
    }

    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        max: usize,
        read: impl Fn(&mut Self) -> Result<T, PeerBytesError>,
    ) -> Result<Vec<T>, PeerBytesError> {
        let count = self.count(field, max)?;
        (0..count).map(|_| read(self)).collect()
    }

    /// What comes first, without anybody in it.
    pub(crate) fn head(&mut self) -> Result<Parts, PeerBytesError> {
        let strategy = match self.bytes("strategy")? {
            [0] => Strategy::Hash,
            [1] => Strategy::Name,
            [other] => return Err(PeerBytesError::Value { field: "strategy", value: other.into() }),
        };
        let length = self.count("service", usize::from(u8::MAX))?;
        let (name, rest) = self.0.split_at(length);
        self.0 = rest;
        let name = core::str::from_utf8(name).map_err(|_| PeerBytesError::Service)?;
        let service: ServiceName = name.parse().map_err(|_| PeerBytesError::Service)?;
        // One with capitals would be another form of the same name.
        if service.as_str() != name {
            return Err(PeerBytesError::Service);
        }
        Ok(Parts {
            service,
            generation: self.number("generation")?,
            author: NodeId::from_bytes(self.bytes("author")?),
            previous: self.bytes("previous")?,
            strategy,
            roster: Vec::new(),
            starts: Vec::new(),
            seats: Vec::new(),
            dedicated: Vec::new(),
        })
    }

    pub(crate) fn host(&mut self) -> Result<Host, PeerBytesError> {
        Ok(Host { node: NodeId::from_bytes(self.bytes("roster")?), capacity: self.small("roster")? })
    }

    pub(crate) fn starts(
        &mut self,
        strategy: Strategy,
        count: usize,
    ) -> Result<Vec<Position>, PeerBytesError> {
        let (mut before, most) = (0_u64, u64::MAX >> strategy.zero_bits());
        let mut starts = Vec::with_capacity(count);
        for _ in 0..count {
            let value = self.number("starts")?;
            let start = before.checked_add(value).filter(|start| *start <= most);
            before = start.ok_or(PeerBytesError::Value { field: "starts", value })?;
            starts.push(Position(before << strategy.zero_bits()));
        }
        Ok(starts)
    }

    pub(crate) fn seats(&mut self) -> Result<Seats, PeerBytesError> {
        let value = self.number("seats")?;
        let owner = u16::try_from(value >> STANDBY_BITS);
        let mut seats = Seats::of(Seat(owner.map_err(|_| PeerBytesError::Value { field: "seats", value })?));
        for _ in 0..value & ((1 << STANDBY_BITS) - 1) {
            let standby = self.small("seats")?;
            if !seats.add(Seat(standby)) {
                return Err(PeerBytesError::Value { field: "seats", value: standby.into() });
            }
        }
        Ok(seats)
    }

    pub(crate) fn all_dedicated(&mut self) -> Result<Vec<Dedicated>, PeerBytesError> {
        self.list("dedicated", DEDICATED_MAX, |reader| {
            Ok(Dedicated {
                at: Position(u64::from_be_bytes(reader.bytes("dedicated")?)),
                owners: reader.list("dedicated", SPREAD_MAX, |reader| reader.small("dedicated").map(Seat))?,
            })
        })
    }

    pub(crate) fn end(self) -> Result<(), PeerBytesError> {
        if self.0.is_empty() { Ok(()) } else { Err(PeerBytesError::Behind(self.0.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::tests::any_map;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn a_map_is_read_as_it_was_written(map in any_map()) {
            let bytes = map.to_bytes();
            prop_assert_eq!(Map::from_bytes(&bytes), Ok(map));
        }

        #[test]
        fn bytes_that_are_a_map_are_its_only_form(
            map in any_map(),
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
            cut in any::<usize>(),
        ) {
            let mut bytes = map.to_bytes();
            let length = bytes.len();
            for (at, byte) in changes {
                bytes[at % length] = byte;
            }
            bytes.truncate(length - cut % 3);
            if let Ok(map) = Map::from_bytes(&bytes) {
                prop_assert_eq!(map.to_bytes(), bytes);
            }
        }

        #[test]
        fn noise_is_no_map_and_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Map::from_bytes(&[&[MAP_FORMAT, 0], bytes.as_slice()].concat());
        }
    }

    #[test]
    fn a_count_that_lies_takes_no_memory() {
        let mut out = Writer(vec![MAP_FORMAT, 0, 1, b's', 1]);
        out.0.extend_from_slice(&[0; 40]);
        out.number(ROSTER_MAX as u64);
        assert_eq!(Map::from_bytes(&out.0), Err(PeerBytesError::End("roster")));
    }

    #[test]
    fn a_service_has_one_form() {
        let mut out = Writer(vec![MAP_FORMAT, 0, 1, b'S', 1]);
        out.0.extend_from_slice(&[0; 44]);
        assert_eq!(Map::from_bytes(&out.0), Err(PeerBytesError::Service));
        out.0[3] = b's';
        assert!(Map::from_bytes(&out.0[..out.0.len() - 1]).is_ok());
    }

    #[test]
    fn numbers_have_one_form() {
        let check = |bytes: &[u8], want| assert_eq!(Reader(bytes).number("x"), want, "{bytes:?}");
        check(&[0], Ok(0));
        check(&[0x7f], Ok(127));
        check(&[0x80, 1], Ok(128));
        check(&[0x80, 0], Err(PeerBytesError::Number("x")));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Ok(u64::MAX));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], Err(PeerBytesError::Number("x")));
        check(&[0x80], Err(PeerBytesError::End("x")));
    }
}
