//! Which map to begin with, and whether others follow another one.
//!
//! Whoever begins asks three members which map they follow, and goes by what most of them say; a map that only one of them knows of
//! wins over none. Whoever is so far behind that what lies between cannot be had any more begins anew, if two of three agree.

use core::time::Duration;

use rand::{Rng, RngExt as _};
use ringmesh_gossip::message::MapAsk;
use ringmesh_partition::follow::{Claim, Follower, Token};
use ringmesh_partition::map::Map;
use ringmesh_types::event::Severity;
use ringmesh_types::name::ServiceName;
use ringmesh_types::time::Instant;

use super::asking::MapAsked;
use crate::machine::Node;

/// How many members are asked which map they follow.
const VOTERS: usize = 3;
/// Between two such questions, and after a layout was refused before it is looked at again, first and at most.
pub(super) const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// An answer that has not come by now does not come.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// Between two comparisons with a random member.
const COMPARED_MS: core::ops::Range<u64> = 15_000..45_000;
/// When somebody is back a part of the mesh may be, with another map: so often that is done so soon.
const COMPARED_SOON: (u8, core::ops::Range<u64>) = (4, 500..2_500);

/// The search for a map to begin with.
#[derive(Debug, Default)]
pub(super) struct Seek {
    round: u32,
    asked: usize,
    answers: Vec<Option<Map>>,
    begun: Option<Instant>,
    next: Instant,
    wait: Duration,
    is_wanted: bool,
    found_nothing: bool,
    /// Whether anybody was asked yet: nobody plans before.
    is_done: bool,
    /// When a member is asked next whether it follows the same.
    compare: Instant,
    /// How often that is done soon.
    compares_soon: u8,
    /// What most members follow although this node is the author of a higher one.
    pub(super) left: Option<[u8; 32]>,
}

impl Seek {
    /// Whether nobody who was asked knows of a map.
    pub(super) fn found_nothing(&self) -> bool {
        self.found_nothing
    }

    /// Whether others were asked what they follow since this node started, or stood still.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Members are asked soon whether they follow the same, for somebody is back.
    pub(super) fn compare_soon(&mut self, now: Instant, rng: &mut impl Rng) {
        self.compares_soon = COMPARED_SOON.0;
        self.compare_by(now.after(Duration::from_millis(rng.random_range(COMPARED_SOON.1))));
    }

    /// A member is asked whether it follows the same at that moment, if not before.
    pub(super) fn compare_by(&mut self, at: Instant) {
        self.compare = self.compare.min(at);
    }

    /// They have to be asked again.
    pub(super) fn doubt(&mut self, now: Instant) {
        (self.is_done, self.begun, self.next) = (false, None, now);
    }
}

/// The map that most name, and how many do: of those that are named equally often the lowest, for whoever lies wants to be high.
fn most_named(answers: &[Option<Map>]) -> Option<(&Map, usize)> {
    let named = answers.iter().flatten();
    let count = |map: &Map| answers.iter().flatten().filter(|other| *other == map).count();
    named
        .map(|map| (map, count(map)))
        .max_by(|one, other| one.1.cmp(&other.1).then(Token::of(other.0).cmp(&Token::of(one.0))))
}

impl Node {
    pub(super) fn begin_anew(&mut self, service: &ServiceName) {
        if let Some(known) = self.maps.known.get_mut(service) {
            known.seek.is_wanted = true;
        }
    }

    /// Looks for a map to begin with, if there is none or what is followed leads nowhere.
    pub(super) fn seek(&mut self, now: Instant, service: &ServiceName) {
        let Some(known) = self.maps.known.get_mut(service) else { return };
        if known.chain.as_ref().is_some_and(|chain| now.since(chain.asked) >= ANSWERED_WITHIN) {
            self.fetch_on(now, service);
            return;
        }
        let is_wanted = known.follower.is_none() || known.seek.is_wanted || !known.seek.is_done;
        if let Some(begun) = known.seek.begun {
            if now.since(begun) >= ANSWERED_WITHIN {
                self.end_seek(now, service);
            }
            return;
        }
        if !is_wanted && known.chain.is_none() && now >= known.seek.compare {
            let wait = if known.seek.compares_soon > 0 { COMPARED_SOON.1 } else { COMPARED_MS };
            known.seek.compares_soon = known.seek.compares_soon.saturating_sub(1);
            known.seek.compare = now.after(Duration::from_millis(self.rng.random_range(wait)));
            if let Some(target) = self.members.some(&mut self.rng, 1, &[]).first() {
                self.ask_map(*target, service, MapAsked::Digest, MapAsk::Digest);
            }
            return;
        }
        if !is_wanted || now < known.seek.next {
            return;
        }
        let targets = self.members.some(&mut self.rng, VOTERS, &[]);
        let Some(known) = self.maps.known.get_mut(service) else { return };
        known.seek.round += 1;
        known.seek.begun = Some(now);
        known.seek.answers.clear();
        let round = known.seek.round;
        let asked = targets
            .into_iter()
            .filter(|target| self.ask_map(*target, service, MapAsked::Followed(round), MapAsk::Followed))
            .count();
        if let Some(known) = self.maps.known.get_mut(service) {
            known.seek.asked = asked;
        }
        if asked == 0 {
            self.end_seek(now, service);
        }
    }

    pub(super) fn on_followed(
        &mut self,
        now: Instant,
        service: &ServiceName,
        round: u32,
        bytes: Option<Vec<u8>>,
    ) {
        let Some(known) = self.maps.known.get_mut(service) else { return };
        if known.seek.round != round || known.seek.begun.is_none() {
            return;
        }
        let strategy = known.definition.strategy;
        let map = bytes.and_then(|bytes| Map::from_bytes(&bytes).ok());
        let map = map.filter(|map| map.parts().service == *service && map.parts().strategy == strategy);
        known.seek.answers.push(map);
        if known.seek.answers.len() >= known.seek.asked {
            self.end_seek(now, service);
        }
    }

    fn end_seek(&mut self, now: Instant, service: &ServiceName) {
        let Some(known) = self.maps.known.get_mut(service) else { return };
        let seek = &mut known.seek;
        seek.begun = None;
        seek.wait = if seek.is_wanted { (seek.wait * 2).clamp(AGAIN.0, AGAIN.1) } else { AGAIN.0 };
        seek.next = now.after(seek.wait);
        seek.is_done = true;
        seek.is_wanted = false;
        let answers = core::mem::take(&mut seek.answers);
        let Some((map, votes)) = most_named(&answers) else {
            seek.found_nothing = true;
            return;
        };
        seek.found_nothing = false;
        let Some(follower) = &known.follower else {
            self.offer(now, service, map.clone(), None);
            return self.offer_now(now, service);
        };
        let is_news =
            |map: &Map| follower.find(&map.digest()).is_none() && Token::of(map) >= Token::of(follower.map());
        if votes >= 2 && is_news(map) {
            return self.adopt(now, service, map.clone());
        }
        let is_below =
            |map: &Map| follower.find(&map.digest()).is_some() && Token::of(map) < Token::of(follower.map());
        if votes >= 2 && is_below(map) {
            let digest = map.digest();
            if let Some(known) = self.maps.known.get_mut(service) {
                known.seek.left = Some(digest);
            }
            return;
        }
        // Few see it so: each is judged by itself.
        let others: Vec<Map> = answers.iter().flatten().filter(|map| is_news(map)).cloned().collect();
        for map in others {
            let is_fetching = self.maps.known.get(service).is_some_and(|known| known.chain.is_some());
            if let Some(Claim::Wants(missing)) = self.offer(now, service, map.clone(), None)
                && !is_fetching
            {
                self.fetch(now, service, vec![map], missing, None);
            }
        }
    }

    /// Most members that were asked follow this map: it is followed, by way of those before it if they can be had.
    pub(super) fn adopt(&mut self, now: Instant, service: &ServiceName, map: Map) {
        let token = Token::of(&map);
        match self.offer(now, service, map.clone(), None) {
            Some(Claim::Wants(_) | Claim::Refused(_)) => {
                let told = self.generation_told(service, token);
                let Some(known) = self.maps.known.get_mut(service) else { return };
                known.follower = Some(Follower::new(now, map));
                Self::remember_generation(known, told);
                let cause = "what lies between could not be had: most members follow this one".to_owned();
                self.on_taken(now, Severity::Warning, service, token, cause);
            }
            Some(Claim::Taken | Claim::TakenInstead { .. } | Claim::Known) | None => {}
        }
        self.offer_now(now, service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmesh_partition::map::Parts;
    use ringmesh_partition::place::Candidate;
    use ringmesh_partition::plan::{PlanConfig, first};
    use ringmesh_partition::position::Strategy;
    use ringmesh_types::ids::NodeId;

    fn map(author: u8, generation: u64) -> Map {
        let node = NodeId::from_bytes([author; 8]);
        let candidate = Candidate { node, zone: "a".parse().expect("a name"), capacity: 100, is_live: true };
        let service = "limiter".parse().expect("a name");
        let map = first(service, Strategy::Hash, node, &[candidate], &PlanConfig::default()).expect("a map");
        Map::new(Parts { generation, ..map.into_parts() }).expect("a map")
    }

    #[test]
    fn most_decide_and_of_equals_the_lowest() {
        let (honest, rogue) = (map(1, 7), map(2, 1 << 63));
        let answers = |maps: &[&Map]| maps.iter().map(|map| Some(Map::clone(map))).collect::<Vec<_>>();
        assert_eq!(most_named(&answers(&[&rogue, &honest, &honest])), Some((&honest, 2)));
        assert_eq!(most_named(&answers(&[&rogue, &honest])), Some((&honest, 1)));
        assert_eq!(most_named(&[None, Some(honest.clone()), None]), Some((&honest, 1)));
        assert_eq!(most_named(&[None, None]), None);
    }
}
