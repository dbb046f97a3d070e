//! One map with the hosts that it names, as they are: what look-ups are answered from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ringmesh_partition::follow::Token;
use ringmesh_partition::map::{self, Found, Map, Seat};
use ringmesh_partition::position::{KeyError, Position};
use ringmesh_types::ids::NodeId;
use ringmesh_types::time::Instant;

/// A member that may own partitions, as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Which member.
    pub id: NodeId,
    /// Its name; the id in digits if the agent does not know it.
    pub name: String,
    /// Where it is; empty if the agent does not know it.
    pub zone: String,
    /// Whether it serves.
    pub is_live: bool,
    /// Where its instance of the service listens.
    pub endpoints: Vec<SocketAddr>,
}

impl Host {
    fn unknown(id: NodeId) -> Self {
        Self { id, name: id.to_string(), zone: String::new(), is_live: false, endpoints: Vec::new() }
    }
}

/// Who serves a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Where the key lies.
    pub at: Position,
    /// Whom to ask: the first that is live of the owner and its standbys, else the last resort of the map.
    pub owner: Arc<Host>,
    /// Whom to ask after it, in order: those that the map names, without the owner.
    pub standbys: Vec<Arc<Host>>,
    /// Who owned it before, as long as its state can be fetched from there.
    pub before: Option<Arc<Host>>,
    /// What a grant of the owner is fenced with.
    pub token: Token,
    /// What the key belongs to.
    pub place: Place,
}

/// What a key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A partition.
    Partition {
        /// Where it starts, which names it.
        start: Position,
    },
    /// A partition of its own.
    Dedicated {
        /// Who shares it. Any of them may be asked.
        owners: Vec<Arc<Host>>,
        /// Which of them is the member on this machine, if it is one.
        mine: Option<usize>,
    },
}

/// Why nobody can be named for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// It is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The agent has told no map yet.
    #[error(
        "there is no map yet: wait until it is ready, and see whether the agent runs and has one of this service"
    )]
    NoMap,
    /// Nobody in the roster serves.
    #[error("no member of generation {0} is live: start one, or see what the agent holds against them")]
    NobodyLive(u64),
}

/// A map and its hosts at one moment.
#[derive(Debug)]
pub struct View {
    sequence: u64,
    map: Arc<Map>,
    me: NodeId,
    before: Option<(Arc<Map>, Instant)>,
    hosts: BTreeMap<NodeId, Arc<Host>>,
    /// Whether the member at each seat is live.
    live: Vec<bool>,
}

impl View {
    pub(crate) fn new(
        sequence: u64,
        map: Arc<Map>,
        me: NodeId,
        before: Option<(Arc<Map>, Instant)>,
        told: Vec<Host>,
    ) -> Self {
        let mut hosts: BTreeMap<_, _> = told.into_iter().map(|host| (host.id, Arc::new(host))).collect();
        for host in &map.parts().roster {
            hosts.entry(host.node).or_insert_with(|| Arc::new(Host::unknown(host.node)));
        }
        let live = map.parts().roster.iter().map(|host| hosts[&host.node].is_live).collect();
        Self { sequence, map, me, before, hosts, live }
    }

    /// The same map with other states of its hosts.
    pub(crate) fn with_hosts(&self, told: Vec<Host>) -> Self {
        Self::new(self.sequence + 1, Arc::clone(&self.map), self.me, self.before.clone(), told)
    }

    /// How many views there were before this one. Who sees a number left out has missed one.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The map.
    pub fn map(&self) -> &Map {
        &self.map
    }

    pub(crate) fn shared_map(&self) -> Arc<Map> {
        Arc::clone(&self.map)
    }

    /// What a grant is fenced with.
    pub fn token(&self) -> Token {
        Token::of(&self.map)
    }

    /// The member whose agent is watched.
    pub const fn me(&self) -> NodeId {
        self.me
    }

    /// The map before, and until when its owners are named: by the clock of [`Maps::now`](crate::Maps::now).
    pub fn before(&self) -> Option<(&Map, Instant)> {
        self.before.as_ref().map(|(map, until)| (&**map, *until))
    }

    /// A member; of one that is neither told by the agent nor in the roster nothing is known.
    pub fn host(&self, id: NodeId) -> Option<&Arc<Host>> {
        self.hosts.get(&id)
    }

    /// Whether a member serves.
    pub fn is_live(&self, id: NodeId) -> bool {
        self.hosts.get(&id).is_some_and(|host| host.is_live)
    }

    /// Who is to be asked for what lies at a position, if anybody is live.
    pub fn owner_at(&self, at: Position) -> Option<NodeId> {
        let found = self.map.lookup_at(at)?;
        let is_live = |seat: &&Seat| self.live[seat.index()];
        match found.seats.iter().find(is_live) {
            Some(seat) => Some(self.map.host(*seat).node),
            None => self.map.last_resort(at, |node| self.is_live(node)),
        }
    }

    /// Who was to be asked before for what lies at a position, if it is another one than now.
    fn before_at(&self, now: Instant, at: Position) -> Option<NodeId> {
        let (map, _) = self.before.as_ref().filter(|(_, until)| now < *until)?;
        let owner = |map: &Map| map.lookup_at(at).map(|found| map.host(found.seats[0]).node);
        owner(map).filter(|before| owner(&self.map) != Some(*before))
    }

    fn named(&self, id: NodeId) -> Arc<Host> {
        self.hosts.get(&id).map_or_else(|| Arc::new(Host::unknown(id)), Arc::clone)
    }

    /// Who serves `key`, and all that is known of it.
    ///
    /// # Errors
    /// If it is no key, or nobody is live.
    pub fn lookup(&self, now: Instant, key: &[u8]) -> Result<Lookup, LookupError> {
        let at = self.map.parts().strategy.position(key)?;
        let nobody = LookupError::NobodyLive(self.token().generation);
        let owner = self.owner_at(at).ok_or(nobody)?;
        let found = self.map.lookup_at(at).ok_or(nobody)?;
        let nodes = || found.seats.iter().map(|seat| self.map.host(*seat).node);
        Ok(Lookup {
            at,
            owner: self.named(owner),
            standbys: nodes().filter(|node| *node != owner).map(|node| self.named(node)).collect(),
            before: self.before_at(now, at).map(|before| self.named(before)),
            token: self.token(),
            place: self.place(&found),
        })
    }

    fn place(&self, found: &Found<'_>) -> Place {
        match found.place {
            map::Place::Partition(index) => Place::Partition { start: self.map.slice(index).start },
            map::Place::Dedicated => {
                let nodes = || found.seats.iter().map(|seat| self.map.host(*seat).node);
                Place::Dedicated {
                    owners: nodes().map(|node| self.named(node)).collect(),
                    mine: nodes().position(|node| node == self.me),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::tests::{dedicate, host, map, node};

    #[test]
    fn the_first_live_one_is_asked_and_the_last_resort_if_none_is() {
        let map = Arc::new(map(4));
        let at = Position(0);
        let seats = map.lookup_at(at).expect("has partitions").seats;
        let (owner, standby) = (map.host(seats[0]).node, map.host(seats[1]).node);
        let view = |live: &dyn Fn(NodeId) -> bool| {
            let hosts = (0..4).map(|number| host(number, live(node(number)))).collect();
            View::new(0, Arc::clone(&map), node(0), None, hosts)
        };
        assert_eq!(view(&|_| true).owner_at(at), Some(owner));
        assert_eq!(view(&|id| id != owner).owner_at(at), Some(standby));
        let resort = view(&|id| id != owner && id != standby).owner_at(at).expect("two are live");
        assert!(![owner, standby].contains(&resort));
        assert_eq!(view(&|_| false).owner_at(at), None);
    }

    #[test]
    fn a_member_that_the_agent_does_not_name_is_not_live() {
        let view = View::new(0, Arc::new(map(2)), node(0), None, vec![host(0, true)]);
        let other = view.host(node(1)).expect("is in the roster");
        assert!(!other.is_live && other.endpoints.is_empty());
        for at in 0..64 {
            assert_eq!(view.owner_at(Position(at << 58)), Some(node(0)));
        }
    }

    #[test]
    fn a_shared_key_names_all_its_owners_and_which_share_is_mine() {
        let map = Arc::new(dedicate(&map(4), b"acme", &[3, 1]));
        let hosts = || (0..4).map(|number| host(number, true)).collect();
        let view = View::new(0, Arc::clone(&map), node(1), None, hosts());
        let lookup = view.lookup(Instant::START, b"acme").expect("somebody is live");
        let Place::Dedicated { owners, mine } = lookup.place else { panic!("{lookup:?}") };
        assert_eq!(owners.iter().map(|host| host.id).collect::<Vec<_>>(), [node(3), node(1)]);
        assert_eq!(mine, Some(1));
        let other = View::new(0, map, node(0), None, hosts());
        let lookup = other.lookup(Instant::START, b"acme").expect("somebody is live");
        assert!(matches!(lookup.place, Place::Dedicated { mine: None, .. }));
    }
}
