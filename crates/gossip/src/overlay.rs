//! Over which links news spreads: 5 to 8 stable ones per node, the same at both ends without any talk about it.
//!
//! Every node knows every member, so what HyParView (DSN 2007) finds by shuffling can be computed: three rings order all
//! members by a hash each, and a node's links go to its neighbours before and after it in each. Such a graph is an expander
//! with a diameter that grows with the logarithm of the mesh (as Rapid's monitors, ATC 2018, section 4.1). Whoever dies or
//! leaves is replaced at once by the next in the ring: all other members are the passive view. Where there are other
//! zones, at least two links lead there.

use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ZoneName;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Links that a node has at least, if there are as many others.
pub const LINKS_MIN: usize = 5;
/// Links that a node has at most.
pub const LINKS_MAX: usize = 8;
/// Links that lead to other zones at least, if there are any.
const LEAVING_MIN: usize = 2;
/// Rings.
const RINGS: usize = 3;
/// Neighbours that are remembered in each direction of each ring: the second one where rings agree too much.
const NEIGHBOURS: usize = 2;

/// The nearest members in one direction of one ring, the nearest first.
#[derive(Debug, Clone, Copy, Default)]
struct Side([Option<(u64, NodeId)>; NEIGHBOURS]);

impl Side {
    fn offer(&mut self, distance: u64, id: NodeId) {
        let mut offered = Some((distance, id));
        for place in &mut self.0 {
            if offered < *place || place.is_none() {
                core::mem::swap(place, &mut offered);
            }
        }
    }

    /// Whether somebody at this distance would be among the nearest.
    fn has_room_at(&self, distance: u64) -> bool {
        self.0.iter().any(|place| place.is_none_or(|(held, _)| distance < held))
    }
}

/// The links of one node.
#[derive(Debug)]
pub struct Overlay {
    me: NodeId,
    zone: ZoneName,
    sides: [[Side; 2]; RINGS],
    links: Vec<NodeId>,
    leaving: usize,
    is_stale: bool,
    is_broken: bool,
}

impl Overlay {
    /// A node without links.
    pub fn new(me: NodeId, zone: ZoneName) -> Self {
        Self {
            me,
            zone,
            sides: Default::default(),
            links: Vec::new(),
            leaving: 0,
            is_stale: true,
            is_broken: false,
        }
    }

    /// The links as they were last computed.
    pub fn links(&self) -> &[NodeId] {
        &self.links
    }

    /// A member serves from now on.
    pub fn came(&mut self, id: NodeId, zone: &ZoneName) {
        let is_near = (0..RINGS).any(|ring| {
            let [after, before] = self.distances(ring, id);
            self.sides[ring][0].has_room_at(after) || self.sides[ring][1].has_room_at(before)
        });
        let is_wanted_elsewhere = self.leaving < LEAVING_MIN && *zone != self.zone;
        self.is_stale |= is_near || is_wanted_elsewhere;
    }

    /// A member does not serve any more.
    pub fn went(&mut self, id: NodeId) {
        let is_near = self
            .sides
            .as_flattened()
            .iter()
            .any(|side| side.0.iter().flatten().any(|(_, neighbour)| *neighbour == id));
        self.is_broken |= self.links.contains(&id);
        self.is_stale |= is_near || self.is_broken;
    }

    fn distances(&self, ring: usize, id: NodeId) -> [u64; 2] {
        let place = |id: NodeId| xxh3_64_with_seed(id.as_bytes(), ring as u64);
        let after = place(id).wrapping_sub(place(self.me));
        [after, after.wrapping_neg()]
    }

    /// Whether the links are well enough to wait for more members to come before they are computed anew.
    pub fn may_wait(&self) -> bool {
        !self.is_broken && self.links.len() >= LINKS_MIN
    }

    /// Computes the links anew if somebody came or went that matters. Says whether it did. `others` are the serving
    /// members but this node.
    pub fn refresh<'a>(&mut self, others: impl Iterator<Item = (NodeId, &'a ZoneName)> + Clone) -> bool {
        if !self.is_stale {
            return false;
        }
        (self.is_stale, self.is_broken) = (false, false);
        self.sides = Default::default();
        for (id, _) in others.clone() {
            for ring in 0..RINGS {
                let [after, before] = self.distances(ring, id);
                self.sides[ring][0].offer(after, id);
                self.sides[ring][1].offer(before, id);
            }
        }
        let mut links: Vec<NodeId> = Vec::with_capacity(LINKS_MAX);
        for place in 0..NEIGHBOURS {
            let enough = if place == 0 { LINKS_MAX } else { LINKS_MIN };
            for side in self.sides.as_flattened() {
                if let Some((_, id)) = side.0[place]
                    && links.len() < enough
                    && !links.contains(&id)
                {
                    links.push(id);
                }
            }
        }
        let is_elsewhere = |zone: &ZoneName| *zone != self.zone;
        self.leaving = others.clone().filter(|(id, zone)| links.contains(id) && is_elsewhere(zone)).count();
        while self.leaving < LEAVING_MIN && links.len() < LINKS_MAX {
            let free = others.clone().filter(|(id, zone)| is_elsewhere(zone) && !links.contains(id));
            let Some((id, _)) = free.min_by_key(|(id, _)| self.distances(0, *id)[0]) else {
                break;
            };
            links.push(id);
            self.leaving += 1;
        }
        links.sort_unstable();
        self.links = links;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    fn id(number: u64) -> NodeId {
        NodeId::from_bytes(number.to_be_bytes())
    }

    fn zone(number: u64, zones: u64) -> ZoneName {
        format!("zone-{}", number % zones).parse().expect("a name")
    }

    fn mesh(size: u64, zones: u64) -> BTreeMap<NodeId, Vec<NodeId>> {
        let members: Vec<(NodeId, ZoneName)> =
            (0..size).map(|number| (id(number), zone(number, zones))).collect();
        let links = |(me, zone): &(NodeId, ZoneName)| {
            let mut overlay = Overlay::new(*me, zone.clone());
            let others = members.iter().filter(|(other, _)| other != me).map(|(id, zone)| (*id, zone));
            assert!(overlay.refresh(others));
            (*me, overlay.links().to_vec())
        };
        members.iter().map(links).collect()
    }

    /// Hops from the first member to the farthest; nothing if somebody is not reached.
    fn hops(mesh: &BTreeMap<NodeId, Vec<NodeId>>, without: &BTreeSet<NodeId>) -> Option<usize> {
        let first = *mesh.keys().find(|id| !without.contains(id))?;
        let mut reached = BTreeMap::from([(first, 0)]);
        let mut queue = VecDeque::from([first]);
        while let Some(at) = queue.pop_front() {
            for next in mesh[&at].iter().filter(|next| !without.contains(next)) {
                if !reached.contains_key(next) {
                    reached.insert(*next, reached[&at] + 1);
                    queue.push_back(*next);
                }
            }
        }
        (reached.len() == mesh.len() - without.len()).then(|| reached.values().copied().max().unwrap_or(0))
    }

    #[test]
    fn everybody_is_a_few_hops_away_over_few_links() {
        for (size, most) in [(2, 1), (3, 1), (6, 1), (20, 3), (100, 5), (1_000, 7)] {
            let mesh = mesh(size, 3);
            assert!(hops(&mesh, &BTreeSet::new()).is_some_and(|hops| hops <= most), "{size}");
            for links in mesh.values() {
                let wanted = LINKS_MIN.min(mesh.len() - 1);
                assert!((wanted..=LINKS_MAX).contains(&links.len()), "{size}: {}", links.len());
            }
        }
    }

    #[test]
    fn links_are_the_same_at_both_ends_and_some_leave_the_zone() {
        let mesh = mesh(300, 3);
        let one_way =
            mesh.iter().flat_map(|(me, links)| links.iter().filter(|link| !mesh[link].contains(me)));
        assert!(one_way.count() < 60, "but for those added to leave the zone");
        for (me, links) in &mesh {
            let leaving = links.iter().filter(|link| zone(link.as_u64(), 3) != zone(me.as_u64(), 3));
            assert!(leaving.count() >= LEAVING_MIN);
        }
    }

    #[test]
    fn a_tenth_that_dies_at_once_parts_nobody() {
        let mesh = mesh(1_000, 2);
        let dead: BTreeSet<NodeId> = mesh.keys().copied().step_by(10).collect();
        assert!(hops(&mesh, &dead).is_some());
    }

    #[test]
    fn only_who_is_near_changes_the_links() {
        let members: Vec<(NodeId, ZoneName)> = (0..200).map(|number| (id(number), zone(number, 1))).collect();
        let mut overlay = Overlay::new(members[0].0, members[0].1.clone());
        let mut refreshed = 0;
        for known in 2..=members.len() {
            let (came, zone) = &members[known - 1];
            overlay.came(*came, zone);
            let others = members[1..known].iter().map(|(id, zone)| (*id, zone));
            refreshed += usize::from(overlay.refresh(others.clone()));
            let mut anew = Overlay::new(members[0].0, zone.clone());
            anew.refresh(others);
            assert_eq!(overlay.links(), anew.links(), "{known}");
        }
        assert!(refreshed < 80, "{refreshed}");
        let gone = overlay.links()[0];
        overlay.went(gone);
        let others = members[1..].iter().filter(|(id, _)| *id != gone).map(|(id, zone)| (*id, zone));
        assert!(overlay.refresh(others));
        assert!(!overlay.links().contains(&gone));
    }
}
