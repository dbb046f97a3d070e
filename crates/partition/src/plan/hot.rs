//! What is done about partitions and keys that are too hot to be moved: split, dedicate, spread.

use crate::map::{DEDICATED_MAX, PARTITIONS_MAX, SPREAD_MAX, Seat};
use crate::plan::What;
use crate::plan::draft::{Cell, Draft, Key};
use crate::position::Position;

/// A partition is split when it has so many times the mean.
const HOT: f64 = 2.0;
/// No more partitions than so many times as many as there should be.
const SPLIT_UP_TO: f64 = 4.0;
/// A key dominates its partition with this share of it.
const DOMINANT: f64 = 0.5;
/// And is worth its own from this share of what members have on average; it goes back below the second.
const WORTH: (f64, f64) = (0.15, 0.04);
/// Nobody should have more of one key than this share of what members have on average.
const KEY_SHARE: f64 = 0.5;

impl Draft<'_> {
    /// Cuts partitions that have twice the mean at their median; both halves stay where they are until one is moved.
    pub(super) fn split_hot(&mut self) {
        let (mean, wanted) = (self.mean_cell(), self.wanted() as f64);
        let most = ((SPLIT_UP_TO * wanted) as usize).min(PARTITIONS_MAX);
        for (start, cell) in self.cells.clone() {
            let slice = self.slice(start);
            let at = self.map.parts().strategy.start_at(cell.median);
            let is_inside = at != start && slice.contains(at);
            let hottest = self.hot.iter().filter(|(key, _)| slice.contains(*key)).map(|(_, cost)| *cost);
            let is_one_key = hottest.fold(0.0, f64::max) >= DOMINANT * cell.cost;
            if cell.cost < HOT * mean || !is_inside || is_one_key || self.cells.len() >= most {
                continue;
            }
            let half = cell.cost / 2.0;
            let middle =
                |from: Position, to: Position| Position(from.0.wrapping_add(to.0.wrapping_sub(from.0) / 2));
            self.cells.insert(start, Cell { cost: half, median: middle(start, at), ..cell });
            self.cells.insert(at, Cell { cost: half, median: middle(at, slice.end), ..cell });
            self.owned[cell.seats.owner().index()].insert(at);
            let why = format!("it has {:.1} times the mean", cell.cost / mean);
            self.step(What::Split { start, at }, 0.0, why);
        }
    }

    /// Gives keys that dominate a partition one of their own, and takes it away from those that have cooled down.
    pub(super) fn dedicate(&mut self) {
        let mean = self.mean();
        let cold: Vec<(Position, f64)> = self
            .keys
            .iter()
            .filter(|(at, key)| key.cost < WORTH.1 * mean && !self.config.pins.contains_key(at))
            .map(|(at, key)| (*at, key.cost))
            .collect();
        for (at, cost) in cold {
            self.set_owners(at, vec![self.owner_around(at)]);
            self.keys.remove(&at);
            self.cell_around(at).cost += cost;
            self.step(What::Return { at }, 0.0, format!("it has {:.3} of a member's mean", cost / mean));
        }
        for (at, cost) in self.hot {
            let around = *self.cell_around(*at);
            let is_hot = *cost >= WORTH.0 * mean && *cost >= DOMINANT * around.cost;
            if !is_hot || self.keys.contains_key(at) || self.keys.len() >= DEDICATED_MAX {
                continue;
            }
            let cost = cost.min(around.cost);
            self.cell_around(*at).cost -= cost;
            self.loads[around.seats.owner().index()] -= cost;
            let to = self.coolest(&[]).expect("somebody serves");
            self.loads[to.index()] += cost;
            self.keys.insert(*at, Key { owners: vec![to], cost });
            let node = self.node(to);
            let why = format!(
                "it has {:.2} of a member's mean, and {:.0} % of its partition",
                cost / mean,
                100.0 * cost / around.cost
            );
            self.step(What::Dedicate { at: *at, to: node }, 0.0, why);
        }
    }

    /// Shares dedicated keys so that nobody has too much of one.
    pub(super) fn spread(&mut self) {
        let (mean, serving) = (self.mean(), self.serving().count());
        for (at, key) in self.keys.clone() {
            let wanted = (key.cost / (KEY_SHARE * mean)).ceil() as usize;
            let wanted = wanted.clamp(1, SPREAD_MAX.min(serving));
            let count = key.owners.len();
            let has_a_host = self.config.pins.get(&at).is_some_and(Option::is_some);
            if has_a_host || wanted <= count && 2 * wanted > count {
                continue;
            }
            let mut owners: Vec<Seat> = key.owners.iter().copied().take(wanted).collect();
            while owners.len() < wanted {
                let Some(cool) = self.coolest(&owners) else { break };
                owners.push(cool);
                self.set_owners(at, owners.clone());
            }
            self.set_owners(at, owners);
            let why = format!("it has {:.2} of a member's mean, and {count} shared it", key.cost / mean);
            self.step(What::Spread { at, owners: wanted }, 0.0, why);
        }
    }

    fn start_around(&self, at: Position) -> Position {
        let around = self.cells.range(..=at).next_back().or_else(|| self.cells.last_key_value());
        *around.expect("a map with members has partitions").0
    }

    fn cell_around(&mut self, at: Position) -> &mut Cell {
        let start = self.start_around(at);
        self.cells.get_mut(&start).expect("is a partition")
    }

    fn owner_around(&self, at: Position) -> Seat {
        self.cells[&self.start_around(at)].seats.owner()
    }
}
