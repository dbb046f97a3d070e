//! Maps that were missed: asked of members by their digests, from the newest back to one that is held.

use ringmesh_gossip::message::MapAsk;
use ringmesh_partition::follow::Claim;
use ringmesh_partition::map::Map;
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use ringmesh_types::time::Instant;

use super::asking::MapAsked;
use crate::machine::Node;
use crate::members::Member;

/// Maps that lie between what is followed and what is offered, at most.
const CHAIN_MAX: usize = 512;
/// How many members are asked for one map before it is given up.
const TRIES: u8 = 3;

/// Maps that are being fetched, from the newest back to one that is held.
#[derive(Debug)]
pub(super) struct Chain {
    stack: Vec<Map>,
    missing: [u8; 32],
    /// Who has it, if somebody is known to.
    at: Option<NodeId>,
    tries: u8,
    pub(super) asked: Instant,
}

impl Node {
    /// Fetches a map that is missing; `stack` has those after it.
    pub(super) fn fetch(
        &mut self,
        now: Instant,
        service: &ServiceName,
        stack: Vec<Map>,
        missing: [u8; 32],
        at: Option<NodeId>,
    ) {
        let chain = Chain { stack, missing, at, tries: 0, asked: now };
        if let Some(known) = self.maps.known.get_mut(service) {
            known.chain = Some(chain);
        }
        self.fetch_on(now, service);
    }

    /// Asks the next member for what is missing.
    pub(super) fn fetch_on(&mut self, now: Instant, service: &ServiceName) {
        let Some(chain) = self.maps.known.get_mut(service).and_then(|known| known.chain.as_mut()) else {
            return;
        };
        chain.tries += 1;
        chain.asked = now;
        let (missing, tries, at, is_long) =
            (chain.missing, chain.tries, chain.at, chain.stack.len() >= CHAIN_MAX);
        let first = at.filter(|_| tries == 1).and_then(|id| self.members.find(id));
        let first = first.filter(|member| member.is_serving()).map(Member::target);
        let target = first.or_else(|| self.members.some(&mut self.rng, 1, &[]).first().copied());
        let is_asked = !is_long
            && tries <= TRIES
            && target.is_some_and(|target| {
                self.ask_map(target, service, MapAsked::Find(missing), MapAsk::Find(missing))
            });
        if !is_asked {
            self.give_chain_up(now, service);
        }
    }

    /// What is missing cannot be had: the newest map that was is judged by itself, and others are asked what they follow.
    pub(super) fn give_chain_up(&mut self, now: Instant, service: &ServiceName) {
        self.begin_anew(service);
        let chain = self.maps.known.get_mut(service).and_then(|known| known.chain.take());
        if let Some(newest) = chain.and_then(|chain| chain.stack.into_iter().next()) {
            self.offer_distant(now, service, newest);
        }
    }

    /// A member was asked for a map, and this is what it has.
    pub(super) fn on_found(
        &mut self,
        now: Instant,
        service: &ServiceName,
        digest: [u8; 32],
        from: NodeId,
        bytes: Option<Vec<u8>>,
    ) {
        let chain = self.maps.known.get_mut(service).and_then(|known| known.chain.take());
        let Some(mut chain) = chain.filter(|chain| chain.missing == digest) else { return };
        let map = bytes.and_then(|bytes| Map::from_bytes(&bytes).ok()).filter(|map| map.digest() == digest);
        let Some(map) = map.filter(|map| map.parts().service == *service) else {
            if let Some(known) = self.maps.known.get_mut(service) {
                known.chain = Some(chain);
            }
            return self.fetch_on(now, service);
        };
        match self.offer(now, service, map.clone(), None) {
            Some(Claim::Wants(previous)) => {
                chain.stack.push(map);
                self.fetch(now, service, chain.stack, previous, Some(from));
            }
            Some(Claim::Taken | Claim::TakenInstead { .. } | Claim::Known) => {
                while let Some(map) = chain.stack.pop() {
                    let claim = self.offer(now, service, map, None);
                    if matches!(claim, Some(Claim::Refused(_)) | None) {
                        return self.begin_anew(service);
                    }
                }
                self.offer_now(now, service);
            }
            Some(Claim::Refused(_)) | None => self.begin_anew(service),
        }
    }
}
