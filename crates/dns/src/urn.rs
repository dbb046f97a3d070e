//! Drawing by weight without putting back (RFC 2782, "Weight"): the chance to come next is a share of the weight that is
//! left, or, if only the first is drawn so, the same for all that are left. The bounds differ by one from the RFC's wording, which favours whoever comes first; a weight of 0 comes only when
//! nothing else is left.

/// Drawn at one time at most.
pub(crate) const DRAWN_MAX: usize = 64;
/// So many are looked through one by one; of more, each draw takes the same time (Walker's alias method).
const LOOKED_THROUGH: usize = 16;
/// Draws that hit who is drawn already before the rest are looked through.
const TRIES: usize = 8;

/// How those after the first are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By weight, as the first.
    ByWeight,
    /// Evenly: whoever draws one of what was drawn, by weight, gets everybody as often as its weight says (Midzuno).
    FirstByWeight,
}

/// Weights to draw from.
#[derive(Debug)]
pub(crate) struct Urn {
    weights: Vec<u16>,
    sum: u64,
    slots: Vec<Slot>,
}

/// A slot is hit as often as any other; below `own` of the sum of all weights it stands for itself.
#[derive(Debug, Clone, Copy)]
struct Slot {
    own: u64,
    other: usize,
}

impl Urn {
    pub(crate) fn new(weights: Vec<u16>) -> Self {
        let sum = weights.iter().map(|weight| u64::from(*weight)).sum();
        let is_large = weights.len() > LOOKED_THROUGH && sum > 0;
        let slots = if is_large { slots(&weights, sum) } else { Vec::new() };
        Self { weights, sum, slots }
    }

    /// Draws at most `max`, and at most [`DRAWN_MAX`]: their places among the weights, one after the other.
    pub(crate) fn draw(&self, random: &mut SplitMix, max: usize, order: Order, mut take: impl FnMut(usize)) {
        let max = max.min(self.weights.len()).min(DRAWN_MAX);
        if self.weights.len() <= LOOKED_THROUGH {
            self.draw_from_few(random, max, order, take);
            return;
        }
        let (mut drawn, mut sum) = ([0; DRAWN_MAX], self.sum);
        for count in 0..max {
            let before = &drawn[..count];
            let next = match order {
                Order::FirstByWeight if count > 0 => self.draw_evenly(random, before),
                Order::ByWeight | Order::FirstByWeight => {
                    self.try_slots(random, before).unwrap_or_else(|| self.look(random, before, sum))
                }
            };
            drawn[count] = next;
            sum -= u64::from(self.weights[next]);
            take(next);
        }
    }

    fn draw_from_few(&self, random: &mut SplitMix, max: usize, order: Order, mut take: impl FnMut(usize)) {
        let mut left: [usize; LOOKED_THROUGH] = core::array::from_fn(|index| index);
        let (mut count, mut sum) = (self.weights.len(), self.sum);
        for number in 0..max {
            let place = if number > 0 && order == Order::FirstByWeight {
                random.below_count(count)
            } else {
                let mut point = random.below(sum);
                let hit = left[..count].iter().position(|index| {
                    let weight = u64::from(self.weights[*index]);
                    let is_hit = point < weight;
                    point = point.saturating_sub(weight);
                    is_hit
                });
                hit.unwrap_or_default()
            };
            let next = left[place];
            count -= 1;
            left[place] = left[count];
            sum -= u64::from(self.weights[next]);
            take(next);
        }
    }

    /// Somebody new by chance, if a few tries find one.
    fn try_slots(&self, random: &mut SplitMix, drawn: &[usize]) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        (0..TRIES).find_map(|_| {
            let slot = random.below_count(self.slots.len());
            let Slot { own, other } = self.slots[slot];
            let next = if random.below(self.sum) < own { slot } else { other };
            (!drawn.contains(&next)).then_some(next)
        })
    }

    /// Somebody new, whatever its weight.
    fn draw_evenly(&self, random: &mut SplitMix, drawn: &[usize]) -> usize {
        let tried = (0..TRIES).find_map(|_| {
            let next = random.below_count(self.weights.len());
            (!drawn.contains(&next)).then_some(next)
        });
        tried.unwrap_or_else(|| {
            let place = random.below_count(self.weights.len() - drawn.len());
            (0..self.weights.len()).filter(|index| !drawn.contains(index)).nth(place).unwrap_or_default()
        })
    }

    /// Somebody new, looking through all that are left, whose weights have this sum.
    fn look(&self, random: &mut SplitMix, drawn: &[usize], sum: u64) -> usize {
        let mut point = random.below(sum);
        let mut left = (0..self.weights.len()).filter(|index| !drawn.contains(index));
        let hit = left.clone().find(|index| {
            let weight = u64::from(self.weights[*index]);
            let is_hit = point < weight;
            point = point.saturating_sub(weight);
            is_hit
        });
        hit.or_else(|| left.next()).unwrap_or_default()
    }
}

/// Vose's way to fill the slots, in whole numbers: what a slot lacks comes from somebody who has too much.
fn slots(weights: &[u16], sum: u64) -> Vec<Slot> {
    let count = weights.len() as u64;
    let mut slots: Vec<Slot> = weights
        .iter()
        .enumerate()
        .map(|(other, weight)| Slot { own: u64::from(*weight) * count, other })
        .collect();
    let (mut short, mut rich): (Vec<usize>, Vec<usize>) =
        (0..slots.len()).partition(|slot| slots[*slot].own < sum);
    while let (Some(poor), Some(giver)) = (short.pop(), rich.last().copied()) {
        slots[poor].other = giver;
        slots[giver].own -= sum - slots[poor].own;
        if slots[giver].own < sum {
            rich.pop();
            short.push(giver);
        }
    }
    slots
}

/// A number that looks random and is different for every `value`: turns a counter into draws.
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Vigna's splitmix64.
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    /// A place among `count`, or 0.
    pub(crate) fn below_count(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap_or_default()
    }

    /// A number below `bound`, or 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let scaled = u128::from(mix(self.0)) * u128::from(bound);
        u64::try_from(scaled >> 64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(urn: &Urn, seed: u64, max: usize) -> Vec<usize> {
        drawn_in(Order::ByWeight, urn, seed, max)
    }

    fn drawn_in(order: Order, urn: &Urn, seed: u64, max: usize) -> Vec<usize> {
        let mut drawn = Vec::new();
        urn.draw(&mut SplitMix(mix(seed)), max, order, |next| drawn.push(next));
        drawn
    }

    /// How far the share that each weight comes first with is from what it should be, at most.
    fn error(weights: &[u16], draws: u32) -> f64 {
        let urn = Urn::new(weights.to_vec());
        let mut counts = vec![0_u32; weights.len()];
        (0..draws).for_each(|seed| counts[drawn(&urn, seed.into(), 1)[0]] += 1);
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let shares = counts.iter().zip(weights);
        shares
            .map(|(count, weight)| (f64::from(*count) / f64::from(draws) - f64::from(*weight) / sum).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        assert!(error(&[50, 30, 20], 100_000) < 0.005);
        let many: Vec<u16> = (0..40).map(|index| if index % 10 == 0 { 1_000 } else { index }).collect();
        assert!(error(&many, 100_000) < 0.005);
    }

    #[test]
    fn the_second_is_drawn_from_what_is_left_also_beside_a_giant() {
        let mut weights = vec![1_u16; 40];
        weights[7] = u16::MAX;
        weights[8] = 20;
        let urn = Urn::new(weights);
        let second: Vec<usize> = (0..20_000).map(|seed| drawn(&urn, seed, 2)[1]).collect();
        let share = second.iter().filter(|next| **next == 8).count() as f64 / 20_000.0;
        assert!((share - 20.0 / 58.0).abs() < 0.015, "{share}");
    }

    #[test]
    fn a_weight_of_0_comes_when_nothing_else_is_left() {
        for count in [3, 30] {
            let mut weights = vec![0; count];
            weights[1] = 5;
            weights[2] = 1;
            let urn = Urn::new(weights);
            for seed in 0..100 {
                let drawn = drawn(&urn, seed, count);
                assert!(drawn[..2].contains(&1) && drawn[..2].contains(&2), "{drawn:?}");
                assert_eq!(drawn.len(), count);
            }
        }
        assert_eq!(drawn(&Urn::new(vec![0; 20]), 1, 3), [0, 1, 2]);
        assert_eq!(drawn(&Urn::new(Vec::new()), 1, 3), [] as [usize; 0]);
    }

    #[test]
    fn who_draws_by_weight_from_what_was_drawn_gets_everybody_by_weight() {
        for count in [12_u16, 40] {
            let weights: Vec<u16> =
                (1..=count).map(|number| if number == 3 { 400 } else { number }).collect();
            let (urn, mut shares) = (Urn::new(weights.clone()), vec![0.0; weights.len()]);
            let (draws, sum) = (200_000_u32, weights.iter().map(|weight| f64::from(*weight)).sum::<f64>());
            for seed in 0..draws {
                let some = drawn_in(Order::FirstByWeight, &urn, seed.into(), 8);
                let of_these: f64 = some.iter().map(|index| f64::from(weights[*index])).sum();
                for index in some {
                    shares[index] += f64::from(weights[index]) / of_these / f64::from(draws);
                }
            }
            for (share, weight) in shares.iter().zip(&weights) {
                let want = f64::from(*weight) / sum;
                assert!((share - want).abs() < 0.003, "{share} {want} of {count}");
            }
        }
    }

    proptest! {
        #[test]
        fn everybody_comes_once(weights in proptest::collection::vec(0_u16.., 0..60), max in 0_usize..70, seed: u64) {
            let urn = Urn::new(weights.clone());
            for order in [Order::ByWeight, Order::FirstByWeight] {
                let mut drawn = drawn_in(order, &urn, seed, max);
                prop_assert_eq!(drawn.len(), max.min(weights.len()).min(DRAWN_MAX));
                drawn.sort_unstable();
                drawn.dedup();
                prop_assert_eq!(drawn.len(), max.min(weights.len()).min(DRAWN_MAX));
            }
        }
    }
}
