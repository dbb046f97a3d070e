//! The records of a service that has a map, by the member that has them, and the draw among those of a key's owners.

use ringmesh_types::ids::NodeId;
use ringmesh_types::owners::KeyOwners;

use super::encoded::{Choice, Class, FIXED_BYTES, PORT_AT};
use crate::owners::{Condition, Ranking};
use crate::urn::{DRAWN_MAX, Order, SplitMix};

/// Records of one kind, in a class for each member that is there.
#[derive(Debug, Default)]
pub(super) struct ByMember {
    /// In the order of their ids; each has the class at the same place.
    pub(super) members: Vec<(NodeId, Condition)>,
    pub(super) choice: Choice,
}

impl ByMember {
    fn place(&self, node: NodeId) -> Option<usize> {
        self.members.binary_search_by_key(&node, |(member, _)| *member).ok()
    }

    fn condition(&self, node: NodeId) -> Option<Condition> {
        self.place(node).map(|place| self.members[place].1)
    }

    fn class(&self, node: NodeId) -> Option<&Class> {
        self.place(node).map(|place| &self.choice.classes[place])
    }

    /// Bytes on the heap, about.
    pub(super) fn heap_bytes(&self) -> usize {
        let member = size_of::<(NodeId, Condition)>() + size_of::<Class>();
        self.choice.heap_bytes() + self.members.len() * member
    }
}

/// What a question for a key is answered from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owners<'a> {
    pub(super) map: &'a dyn KeyOwners,
    pub(super) at: u64,
    pub(super) records: &'a ByMember,
}

/// Records that were drawn.
pub(super) struct Drawn {
    places: [usize; DRAWN_MAX],
    priorities: [u16; DRAWN_MAX],
    count: usize,
    /// The weight of all of them, unless each has its own.
    pub(super) equal_weight: Option<u16>,
}

impl Drawn {
    /// Where they are.
    pub(super) fn places(&self) -> &[usize] {
        &self.places[..self.count]
    }

    /// Their priorities.
    pub(super) fn priorities(&self) -> &[u16] {
        &self.priorities[..self.count]
    }
}

impl Owners<'_> {
    /// At most `max` targets, the first owner's first; of each owner's some in a random `order`.
    pub(super) fn targets(&self, max: usize, order: Order, draw: u64) -> Drawn {
        let mut random = SplitMix(draw);
        let ranking = self.ranking(&mut random);
        self.draw(&ranking, ranking.by_priority(), (max, PORT_AT), order, &mut random)
    }

    /// At most `max` addresses of those that are asked first.
    pub(super) fn hosts(&self, max: usize, draw: u64) -> Drawn {
        let mut random = SplitMix(draw);
        let ranking = self.ranking(&mut random);
        let first = ranking.first().iter().map(|node| (*node, 0));
        self.draw(&ranking, first, (max, FIXED_BYTES), Order::ByWeight, &mut random)
    }

    fn ranking(&self, random: &mut SplitMix) -> Ranking {
        Ranking::of(self.map, self.at, random, &|node| self.records.condition(node))
    }

    /// Draws at most `max` records; those that are the same from `data_at` on only once.
    fn draw(
        &self,
        ranking: &Ranking,
        named: impl Iterator<Item = (NodeId, u16)>,
        (max, data_at): (usize, usize),
        order: Order,
        random: &mut SplitMix,
    ) -> Drawn {
        let choice = &self.records.choice;
        let (mut places, mut priorities, mut count) = ([0; DRAWN_MAX], [0; DRAWN_MAX], 0);
        for (node, priority) in named {
            let Some(class) = self.records.class(node) else {
                continue;
            };
            class.urn.draw(random, max.min(DRAWN_MAX) - count, order, |next| {
                let place = class.first + next;
                let data = |place: usize| &choice.record(place)[data_at..];
                if !places[..count].iter().any(|before| data(*before) == data(place)) {
                    (places[count], priorities[count]) = (place, priority);
                    count += 1;
                }
            });
        }
        Drawn { places, priorities, count, equal_weight: ranking.equal_weight() }
    }
}
