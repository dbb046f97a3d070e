//! Who looks at an accused member for itself: few, the same few in everybody's eyes, and not all in one zone.

use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ZoneName;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// So many members look for themselves when somebody is accused first.
pub(crate) const WITNESSES: usize = 3;

/// Whether `me`, which is in the zone `here`, is one of them: the first by rendezvous hashing of subject and member, and if
/// none of these is in another zone than the subject (`home`), the first that is instead of the last. `may_look` are all
/// that could, `me` among them; most are not looked at.
pub(crate) fn is_witness<'a>(
    (me, here): (NodeId, &ZoneName),
    (subject, home): (NodeId, &ZoneName),
    may_look: impl Iterator<Item = (NodeId, &'a ZoneName)>,
) -> bool {
    let rank = |id: NodeId| xxh3_64_with_seed(id.as_bytes(), subject.as_u64());
    let ours = rank(me);
    let are_we_elsewhere = here != home;
    let (mut before, mut is_any_elsewhere, mut is_elsewhere_before) = (0, are_we_elsewhere, false);
    for (id, zone) in may_look {
        let is_elsewhere = zone != home;
        is_any_elsewhere |= is_elsewhere;
        if rank(id) < ours {
            before += 1;
            is_elsewhere_before |= is_elsewhere;
            if before >= WITNESSES && (is_elsewhere_before || !are_we_elsewhere) {
                return false;
            }
        }
    }
    before < WITNESSES - 1 || are_we_elsewhere || is_elsewhere_before || !is_any_elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> ZoneName {
        name.parse().expect("a name")
    }

    /// The witnesses of each of 50 subjects among `at_home` members of its zone and `elsewhere` others.
    fn check(at_home: u64, elsewhere: u64) {
        let (home, other) = (zone("fra"), zone("iad"));
        let id = |number: u64| NodeId::from_bytes(number.to_be_bytes());
        let all: Vec<(NodeId, &ZoneName)> = (0..at_home + elsewhere)
            .map(|number| (id(number), if number < at_home { &home } else { &other }))
            .collect();
        for subject in (1_000..1_050).map(id) {
            let chosen = all.iter().filter(|me| is_witness(**me, (subject, &home), all.iter().copied()));
            let chosen: Vec<_> = chosen.collect();
            assert_eq!(chosen.len(), WITNESSES.min(all.len()), "{at_home} + {elsewhere}");
            assert!(elsewhere == 0 || chosen.iter().any(|(_, zone)| **zone == other));
        }
    }

    #[test]
    fn three_look_one_of_them_from_another_zone_or_all_if_there_are_fewer() {
        for (at_home, elsewhere) in [(1, 0), (2, 0), (0, 2), (2, 1), (20, 0), (20, 1), (20, 20), (0, 20)] {
            check(at_home, elsewhere);
        }
    }
}
