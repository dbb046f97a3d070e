//! The map that a plan is working on, with the load of everything in it; cover, merge and move.

use std::collections::{BTreeMap, BTreeSet};

use ringmesh_types::ids::NodeId;

use crate::heat::Heat;
use crate::map::{DEDICATED_MAX, Dedicated, Host, Map, PARTITIONS_MAX, Parts, ROSTER_MAX, Seat, Seats};
use crate::place::{Candidate, Heirs, Wishes};
use crate::plan::{OrderError, Plan, PlanConfig, PlanError, Share, Step, What, Why};
use crate::position::Position;
use crate::slice::Slice;

/// Of what is measured so much is taken to lie evenly over the space, so that what nobody asks for yet is shared as well.
const EVEN_SHARE: f64 = 0.02;
/// Steps of one kind in a round at most.
const STEPS_MAX: usize = 4_096;
/// Partitions are merged when there are so many times as many as there should be, until there are no more than so many.
const MERGED: (f64, f64) = (1.5, 1.25);
/// Pinned keys that get a partition of their own in one round at most: readers allow a few more.
const PINNED_ROUND_MAX: usize = 32;
/// Partitions that get another standby in one round at most, for each costs some bytes of the difference.
const HEIRS_ROUND_MAX: usize = 512;
const BY_OPERATOR: &str = "an operator said so";
/// Two partitions are cold if both together have no more than this share of the mean.
const COLD: f64 = 0.5;

/// A partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    pub(super) seats: Seats,
    pub(super) cost: f64,
    pub(super) median: Position,
}

/// A key of its own.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) owners: Vec<Seat>,
    pub(super) cost: f64,
}

/// The map in the making.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) config: &'a PlanConfig,
    pub(super) map: &'a Map,
    /// By seat.
    pub(super) members: Vec<Candidate>,
    pub(super) cells: BTreeMap<Position, Cell>,
    pub(super) keys: BTreeMap<Position, Key>,
    pub(super) hot: &'a [(Position, f64)],
    /// By seat.
    pub(super) loads: Vec<f64>,
    /// The partitions that it owns, by seat.
    pub(super) owned: Vec<BTreeSet<Position>>,
    heirs: Heirs,
    churn: f64,
    steps: Vec<Step>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        map: &'a Map,
        candidates: &[Candidate],
        heat: Option<&'a Heat>,
        config: &'a PlanConfig,
    ) -> Result<Self, PlanError> {
        let nobody = || PlanError::Nobody;
        candidates.iter().find(|one| one.may_serve()).ok_or_else(nobody)?;
        let (members, steps) = adopt(map, candidates)?;
        let costs = heat.map(|heat| &heat.partitions);
        let total: f64 = costs.into_iter().flat_map(BTreeMap::values).map(|heat| heat.cost).sum();
        let even = EVEN_SHARE * if total > 0.0 { total } else { 1.0 };
        let cell = |index: usize| {
            let slice = map.slice(index);
            let heat = costs.and_then(|costs| costs.get(&slice.start));
            let middle = slice.at((slice.positions() / 2) as u64);
            let cost = heat.map_or(0.0, |heat| heat.cost) + even * slice.share();
            let median = heat.map_or(middle, |heat| heat.median);
            (slice.start, Cell { seats: map.parts().seats[index], cost, median })
        };
        let key = |dedicated: &Dedicated| {
            let cost = heat.and_then(|heat| heat.dedicated.get(&dedicated.at)).copied().unwrap_or_default();
            (dedicated.at, Key { owners: dedicated.owners.clone(), cost })
        };
        let mut draft = Self {
            config,
            map,
            loads: vec![0.0; members.len()],
            owned: vec![BTreeSet::new(); members.len()],
            members,
            cells: (0..map.partitions()).map(cell).collect(),
            keys: map.parts().dedicated.iter().map(key).collect(),
            hot: heat.map_or(&[], |heat| &heat.hot),
            heirs: Heirs::default(),
            churn: 0.0,
            steps,
        };
        for (start, cell) in &draft.cells {
            draft.loads[cell.seats.owner().index()] += cell.cost;
            draft.owned[cell.seats.owner().index()].insert(*start);
            draft.heirs.note(&cell.seats);
        }
        for key in draft.keys.values() {
            key.owners
                .iter()
                .for_each(|seat| draft.loads[seat.index()] += key.cost / key.owners.len() as f64);
        }
        Ok(draft)
    }

    pub(super) fn may_serve(&self, seat: Seat) -> bool {
        self.members[seat.index()].may_serve()
    }

    pub(super) fn serving(&self) -> impl Iterator<Item = Seat> {
        (0..self.members.len()).map(|place| Seat(place as u16)).filter(|seat| self.may_serve(*seat))
    }

    pub(super) fn node(&self, seat: Seat) -> NodeId {
        self.members[seat.index()].node
    }

    /// The load of a member of capacity 1 if all were even.
    fn unit(&self) -> f64 {
        let capacity: f64 = self.serving().map(|seat| f64::from(self.members[seat.index()].capacity)).sum();
        self.loads.iter().sum::<f64>() / capacity
    }

    /// What members have on average.
    pub(super) fn mean(&self) -> f64 {
        self.loads.iter().sum::<f64>() / self.serving().count() as f64
    }

    /// How many partitions there should be.
    pub(super) fn wanted(&self) -> usize {
        (self.serving().count() * self.config.partitions_per_host.max(1)).min(PARTITIONS_MAX)
    }

    /// What a partition has on average, if there are as many as there should be.
    pub(super) fn mean_cell(&self) -> f64 {
        self.cells.values().map(|cell| cell.cost).sum::<f64>() / self.wanted() as f64
    }

    /// How many times its fair share a member has.
    pub(super) fn ratio(&self, seat: Seat, unit: f64) -> f64 {
        let fair = f64::from(self.members[seat.index()].capacity) * unit;
        if fair > 0.0 { self.loads[seat.index()] / fair } else { f64::INFINITY }
    }

    /// The member that has least of its fair share, but for `without`.
    pub(super) fn coolest(&self, without: &[Seat]) -> Option<Seat> {
        let unit = self.unit();
        let others = self.serving().filter(|seat| !without.contains(seat));
        others.min_by(|one, other| {
            let ratios = self.ratio(*one, unit).total_cmp(&self.ratio(*other, unit));
            ratios.then_with(|| self.node(*one).cmp(&self.node(*other)))
        })
    }

    pub(super) fn slice(&self, start: Position) -> Slice {
        let behind = self.cells.range(start..).nth(1).or_else(|| self.cells.first_key_value());
        Slice { start, end: behind.map_or(start, |(end, _)| *end) }
    }

    pub(super) fn step(&mut self, what: What, churn: f64, why: impl Into<Why>) {
        self.steps.push(Step { what, churn, why: why.into() });
    }

    /// Whether the owner of so much of the space may still change in this round.
    fn may_move(&self, share: f64) -> bool {
        self.churn + share <= self.config.churn_max
    }

    /// Gives a partition to `to`.
    fn give(&mut self, start: Position, to: Seat) {
        let wanted = self.config.standbys;
        let wishes = Wishes::of(&self.members, start);
        let seats = self.heirs.with_standbys(to, &wishes, &self.members, wanted);
        let cell = self.cells.get_mut(&start).expect("is a partition");
        self.loads[cell.seats.owner().index()] -= cell.cost;
        self.loads[to.index()] += cell.cost;
        self.owned[cell.seats.owner().index()].remove(&start);
        self.owned[to.index()].insert(start);
        cell.seats = seats;
    }

    /// Whoever is lost owns nothing and stands by for nothing. The first standby that is there takes over, as it has done for
    /// every reader already.
    pub(super) fn cover(&mut self) {
        let wanted = self.config.standbys.min(self.serving().count() - 1);
        for (start, cell) in self.cells.clone() {
            let owner = cell.seats.owner();
            let standbys = cell.seats.standbys();
            let heir = standbys.iter().copied().find(|seat| self.may_serve(*seat));
            if !self.members[owner.index()].is_live {
                let to = heir.or_else(|| self.coolest(&[])).expect("somebody serves");
                let (from, to_node) = (self.node(owner), self.node(to));
                self.give(start, to);
                let share = self.slice(start).share();
                self.step(What::Cover { start, from, to: to_node }, share, Why::Lost(from));
            } else if standbys.len() < wanted || !standbys.iter().all(|seat| self.may_serve(*seat)) {
                self.give(start, owner);
            }
        }
        for (at, mut key) in self.keys.clone() {
            let before = key.owners.len();
            key.owners.retain(|seat| self.may_serve(*seat));
            if key.owners.len() < before {
                if key.owners.is_empty() {
                    key.owners.extend(self.coolest(&[]));
                }
                let owners = key.owners.len();
                self.set_owners(at, key.owners);
                self.step(What::Spread { at, owners }, 0.0, "an owner is lost");
            }
        }
    }

    /// A dedicated key is shared by these.
    pub(super) fn set_owners(&mut self, at: Position, owners: Vec<Seat>) {
        let key = self.keys.get_mut(&at).expect("is dedicated");
        let old = core::mem::replace(&mut key.owners, owners);
        let share = |owners: &[Seat]| key.cost / owners.len() as f64;
        old.iter().for_each(|seat| self.loads[seat.index()] -= share(&old));
        key.owners.iter().for_each(|seat| self.loads[seat.index()] += share(&key.owners));
    }

    /// Merges neighbours that cost little, if there are too many partitions: those of one member first, for nothing moves then.
    pub(super) fn merge_cold(&mut self) {
        let most = |factor: f64| (factor * self.wanted() as f64) as usize;
        let (begin, end) = (most(MERGED.0), most(MERGED.1));
        if self.cells.len() <= begin {
            return;
        }
        let cold = COLD * self.mean_cell();
        let mut pairs: Vec<(bool, f64, Position)> = Vec::new();
        for (start, cell) in &self.cells {
            let before = self.before(*start);
            let other = &self.cells[&before];
            let cost = cell.cost + other.cost;
            if before != *start && cost <= cold {
                pairs.push((cell.seats.owner() != other.seats.owner(), cost, *start));
            }
        }
        pairs.sort_by(|one, other| {
            one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)).then(one.2.cmp(&other.2))
        });
        let mut merged = BTreeSet::new();
        for (is_foreign, cost, start) in pairs {
            let into = self.before(start);
            let share = self.slice(start).share();
            let is_touched = merged.contains(&start) || merged.contains(&into);
            if self.cells.len() <= end || is_touched || (is_foreign && !self.may_move(share)) {
                continue;
            }
            let to = self.cells[&into].seats.owner();
            if is_foreign {
                self.give(start, to);
                self.churn += share;
            }
            let gone = self.cells.remove(&start).expect("is a partition");
            self.owned[to.index()].remove(&start);
            let kept = self.cells.get_mut(&into).expect("is a partition");
            kept.cost += gone.cost;
            merged.insert(into);
            let why =
                format!("both cost {:.0} % of the mean, and there are too many", 100.0 * COLD * cost / cold);
            self.step(What::Merge { start, into }, if is_foreign { share } else { 0.0 }, why);
        }
    }

    /// The partition before the one that starts at `start`; itself if it is the only one.
    fn before(&self, start: Position) -> Position {
        let before = self.cells.range(..start).next_back().or_else(|| self.cells.last_key_value());
        before.map_or(start, |(start, _)| *start)
    }

    /// Moves partitions from those that have too much to those that have least, as long as the budget lasts.
    pub(super) fn move_load(&mut self) {
        let unit = self.unit();
        let is_drained = |draft: &Self, seat: Seat| !draft.may_serve(seat);
        let hottest = |draft: &Self, stuck: &BTreeSet<Seat>| {
            let owners = (0..draft.members.len()).filter(|place| !draft.owned[*place].is_empty());
            let hot = owners.map(|place| Seat(place as u16)).filter(|seat| !stuck.contains(seat));
            hot.max_by(|one, other| {
                draft.ratio(*one, unit).total_cmp(&draft.ratio(*other, unit)).then(other.cmp(one))
            })
        };
        let Some(first) = hottest(self, &BTreeSet::new()) else { return };
        if self.ratio(first, unit) <= self.config.uneven {
            return;
        }
        let mut stuck = BTreeSet::new();
        for _ in 0..STEPS_MAX {
            let Some(from) = hottest(self, &stuck) else { return };
            let (ratio, Some(to)) = (self.ratio(from, unit), self.coolest(&[from])) else { return };
            if ratio <= self.config.even {
                return;
            }
            let Some(start) = self.best_to_move(from, to, unit) else {
                stuck.insert(from);
                continue;
            };
            let share = self.slice(start).share();
            let (from_node, to_node) = (self.node(from), self.node(to));
            let why = if is_drained(self, from) {
                Why::Drained(from_node)
            } else {
                Why::Uneven { from: from_node, high: ratio, to: to_node, low: self.ratio(to, unit) }
            };
            self.give(start, to);
            self.churn += share;
            self.step(What::Move { start, from: from_node, to: to_node }, share, why);
        }
    }

    /// Which partition of `from` should go to `to`: of those that fit into the gap the one that carries most for the space
    /// it takes, or the smallest that makes the higher of both lower.
    fn best_to_move(&self, from: Seat, to: Seat, unit: f64) -> Option<Position> {
        let is_drained = !self.may_serve(from);
        let fair = |seat: Seat| f64::from(self.members[seat.index()].capacity) * unit;
        let over = self.loads[from.index()] - fair(from);
        let room = fair(to) - self.loads[to.index()];
        let mine = self.owned[from.index()].iter();
        let may_go = mine.map(|start| (*start, self.cells[start].cost, self.slice(*start).share()));
        let may_go: Vec<_> = may_go.filter(|(_, _, share)| self.may_move(*share)).collect();
        let per_share = |(_, cost, share): &(Position, f64, f64)| cost / share;
        let fits = may_go.iter().filter(|(_, cost, _)| is_drained || *cost <= over.min(room));
        let best =
            fits.max_by(|one, other| per_share(one).total_cmp(&per_share(other)).then(other.0.cmp(&one.0)));
        let smallest =
            || may_go.iter().min_by(|one, other| one.1.total_cmp(&other.1).then(one.0.cmp(&other.0)));
        let helps = |(_, cost, _): &&(Position, f64, f64)| {
            (self.loads[to.index()] + cost) / fair(to) < 0.98 * self.ratio(from, unit)
        };
        best.or_else(|| smallest().filter(helps)).map(|(start, _, _)| *start)
    }

    /// Keys that an operator gave a partition of their own have one, and are served by whom they are given to while it is there.
    pub(super) fn pin(&mut self) {
        let mut room = PINNED_ROUND_MAX;
        for (at, node) in &self.config.pins {
            let seat = node.and_then(|node| {
                let place = self.members.iter().position(|member| member.node == node)?;
                Some(Seat(place as u16)).filter(|seat| self.may_serve(*seat))
            });
            let known = self.keys.get(at).map(|key| key.owners.clone());
            let wanted = seat.map(|seat| vec![seat]).or_else(|| known.clone());
            let Some(owners) = wanted.or_else(|| Some(vec![self.coolest(&[])?])) else { return };
            let to = self.node(owners[0]);
            match known {
                Some(known) if known == owners => continue,
                Some(_) => self.set_owners(*at, owners),
                None if room == 0 || self.keys.len() >= DEDICATED_MAX => continue,
                None => {
                    room -= 1;
                    // Nobody has measured it yet: it is taken to cost as much as a partition.
                    let cost = self.mean_cell();
                    self.loads[owners[0].index()] += cost;
                    self.keys.insert(*at, Key { owners, cost });
                }
            }
            self.step(What::Dedicate { at: *at, to }, 0.0, "an operator pinned it");
        }
    }

    /// Cuts a partition in two because an operator wants it.
    pub(super) fn split_as_told(&mut self, start: Position, at: Option<Position>) -> Result<(), OrderError> {
        let cell = *self.cells.get(&start).ok_or(OrderError::NoPartition(start))?;
        let slice = self.slice(start);
        let at = at.unwrap_or_else(|| self.map.parts().strategy.start_at(cell.median));
        let is_cut = self.map.parts().strategy.start_at(at) == at && at != start && slice.contains(at);
        if !is_cut {
            return Err(OrderError::NoCut { start, at });
        }
        if self.cells.len() >= PARTITIONS_MAX {
            return Err(OrderError::Count);
        }
        self.cells.insert(at, cell);
        self.step(What::Split { start, at }, 0.0, BY_OPERATOR);
        Ok(())
    }

    /// Makes a partition part of the one before it because an operator wants it.
    pub(super) fn merge_as_told(&mut self, start: Position) -> Result<(), OrderError> {
        let cell = *self.cells.get(&start).ok_or(OrderError::NoPartition(start))?;
        let into = self.before(start);
        if into == start {
            return Err(OrderError::Count);
        }
        let is_foreign = self.cells[&into].seats.owner() != cell.seats.owner();
        let share = if is_foreign { self.slice(start).share() } else { 0.0 };
        if !self.may_move(share) {
            let left = Share((self.config.churn_max - self.churn).max(0.0));
            return Err(OrderError::Churn { share: Share(share), left });
        }
        self.cells.remove(&start);
        self.step(What::Merge { start, into }, share, BY_OPERATOR);
        Ok(())
    }

    /// If an owner dies, none of the others should get much of it: where one stands by for twice its share of what an owner has,
    /// some of that gets another standby. Nothing changes its owner.
    pub(super) fn even_heirs(&mut self) {
        let others = self.serving().count().saturating_sub(1);
        if self.config.standbys == 0 || others == 0 {
            return;
        }
        self.heirs = Heirs::default();
        self.cells.values().for_each(|cell| self.heirs.note(&cell.seats));
        let mut left = HEIRS_ROUND_MAX;
        for (start, cell) in self.cells.clone() {
            let (owner, Some(heir)) = (cell.seats.owner(), cell.seats.standbys().first().copied()) else {
                continue;
            };
            let zone = |seat: Seat| &self.members[seat.index()].zone;
            let away = self.serving().filter(|seat| *seat != owner && zone(*seat) != zone(owner)).count();
            let sharers = if away > 0 { away } else { others };
            let fair = self.owned[owner.index()].len() as f64 / sharers as f64;
            if left == 0 || (self.heirs.of(owner, heir) as f64) <= (2.0 * fair).max(2.0) {
                continue;
            }
            left -= 1;
            self.heirs.forget(owner, heir);
            let wishes = Wishes::of(&self.members, start);
            let seats = self.heirs.with_standbys(owner, &wishes, &self.members, self.config.standbys);
            self.cells.get_mut(&start).expect("is a partition").seats = seats;
        }
    }

    /// The generation after the map, if anything changed.
    pub(super) fn next(self, author: NodeId) -> Option<Plan> {
        let map = self.map;
        let (parts, steps) = self.finish();
        let old = map.parts();
        let is_same = (&parts.roster, &parts.starts, &parts.seats, &parts.dedicated)
            == (&old.roster, &old.starts, &old.seats, &old.dedicated);
        if is_same {
            return None;
        }
        let next = Parts {
            service: old.service.clone(),
            generation: old.generation.checked_add(1)?,
            author,
            previous: map.digest(),
            strategy: old.strategy,
            ..parts
        };
        Some(Plan { map: Map::new(next).expect("steps keep a map a map"), steps })
    }

    /// What the map is made of now; of what it says of itself only what stays.
    fn finish(self) -> (Parts, Vec<Step>) {
        let old = self.map.parts();
        let mut roster: Vec<Host> = self.members.iter().map(Candidate::host).collect();
        let in_use = self
            .cells
            .values()
            .flat_map(|cell| cell.seats.all())
            .chain(self.keys.values().flat_map(|key| &key.owners));
        let last = in_use.map(|seat| seat.index()).max().unwrap_or_default();
        while roster.len() > last + 1 && !self.members[roster.len() - 1].is_live {
            roster.pop();
        }
        let (starts, seats) = self.cells.into_iter().map(|(start, cell)| (start, cell.seats)).unzip();
        let dedicated = self.keys.into_iter().map(|(at, key)| Dedicated { at, owners: key.owners }).collect();
        (Parts { roster, starts, seats, dedicated, ..old.clone() }, self.steps)
    }
}

/// Who is in the roster now, by seat: seats stay, for maps name members by them. Who is gone keeps its seat, with no capacity,
/// until somebody new takes it.
fn adopt(map: &Map, candidates: &[Candidate]) -> Result<(Vec<Candidate>, Vec<Step>), PlanError> {
    let by_node: BTreeMap<NodeId, &Candidate> = candidates.iter().map(|one| (one.node, one)).collect();
    let mut steps = Vec::new();
    let note = |steps: &mut Vec<Step>, what, why: &str| {
        steps.push(Step { what, churn: 0.0, why: why.into() });
    };
    let mut members: Vec<Candidate> = Vec::new();
    for host in &map.parts().roster {
        let Some(one) = by_node.get(&host.node) else {
            if host.capacity > 0 {
                note(&mut steps, What::Leave(host.node), "it is not a member any more");
            }
            // Its zone makes no difference: it is given nothing.
            let zone = candidates[0].zone.clone();
            members.push(Candidate { node: host.node, zone, capacity: 0, is_live: false });
            continue;
        };
        if one.capacity != host.capacity {
            let weigh = What::Weigh { node: one.node, capacity: one.capacity };
            note(&mut steps, weigh, "so much weight runs there now");
        }
        members.push((*one).clone());
    }
    let parts = map.parts();
    let in_use: BTreeSet<Seat> = parts
        .seats
        .iter()
        .flat_map(|seats| seats.all())
        .chain(parts.dedicated.iter().flat_map(|dedicated| &dedicated.owners))
        .copied()
        .collect();
    let is_free =
        |place: usize| !in_use.contains(&Seat(place as u16)) && !by_node.contains_key(&members[place].node);
    let mut free: Vec<usize> = (0..members.len()).filter(|place| is_free(*place)).rev().collect();
    let known: BTreeSet<NodeId> = parts.roster.iter().map(|host| host.node).collect();
    for one in by_node.values().filter(|one| !known.contains(&one.node)) {
        note(&mut steps, What::Join(one.node), "it is a member now");
        match free.pop() {
            Some(place) => members[place] = (*one).clone(),
            None => members.push((*one).clone()),
        }
    }
    if members.len() > ROSTER_MAX { Err(PlanError::TooMany(members.len())) } else { Ok((members, steps)) }
}
