//! Half-open intervals of the circle of positions, which may wrap around its end.

use crate::position::Position;

/// The positions from `start` up to, and without, `end`. If both are the same it is the whole circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The first position.
    pub start: Position,
    /// The first one behind it.
    pub end: Position,
}

impl Slice {
    /// Everything.
    pub const CIRCLE: Self = Self { start: Position(0), end: Position(0) };

    /// Whether `at` lies in it.
    pub const fn contains(&self, at: Position) -> bool {
        let (length, offset) = (self.end.0.wrapping_sub(self.start.0), at.0.wrapping_sub(self.start.0));
        length == 0 || offset < length
    }

    /// How many positions it has: 1 to 2^64.
    pub fn positions(&self) -> u128 {
        match self.end.0.wrapping_sub(self.start.0) {
            0 => 1 << 64,
            length => u128::from(length),
        }
    }

    /// Its share of the circle, above 0 and at most 1.
    pub fn share(&self) -> f64 {
        self.positions() as f64 / 2_f64.powi(64)
    }

    /// The position that is so many positions behind the start.
    pub const fn at(&self, offset: u64) -> Position {
        Position(self.start.0.wrapping_add(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_circle_contains_everything_and_the_ends_count_once() {
        assert!(Slice::CIRCLE.contains(Position(u64::MAX)));
        assert_eq!((Slice::CIRCLE.positions(), Slice::CIRCLE.share()), (1 << 64, 1.0));
        let last = Slice { start: Position(u64::MAX), end: Position(2) };
        let inside = [u64::MAX, 0, 1, 2, u64::MAX - 1].map(|at| last.contains(Position(at)));
        assert_eq!((inside, last.positions()), ([true, true, true, false, false], 3));
        assert_eq!(last.at(2), Position(1));
    }

    proptest! {
        #[test]
        fn two_slices_with_swapped_ends_share_the_circle(start: u64, end: u64, at: u64) {
            prop_assume!(start != end);
            let one = Slice { start: Position(start), end: Position(end) };
            let other = Slice { start: one.end, end: one.start };
            prop_assert_ne!(one.contains(Position(at)), other.contains(Position(at)));
            prop_assert_eq!(one.positions() + other.positions(), 1 << 64);
        }
    }
}
