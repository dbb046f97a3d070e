//! The ring of a map as a bar: each column is a piece of the space of positions, and shows who owns most of it and how much load it
//! has. Knows nothing of hosts but their numbers.

use std::collections::BTreeMap;

use ringmesh_partition::position::Position;
use ringmesh_partition::slice::Slice;

/// Positions of the whole ring.
const CIRCLE: u128 = 1 << 64;
/// Who has no sign of its own.
const OTHERS: char = '*';
const SIGNS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Of the 256 colours of terminals those that black letters can be read on, neighbours as different as can be.
const COLOURS: [u8; 12] = [75, 215, 114, 176, 221, 80, 210, 147, 150, 223, 117, 203];
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns between two marks of the scale at least.
const MARK_EVERY_MIN: usize = 10;

/// A partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) slice: Slice,
    /// Its owner's number.
    pub(super) owner: usize,
    /// What it costs.
    pub(super) cost: f64,
}

/// One column of the bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Column {
    /// Who owns most of it; nobody in a ring without partitions.
    pub(super) owner: Option<usize>,
    /// What it costs, if the cost of each partition is spread evenly over it.
    pub(super) cost: f64,
}

/// Cuts the ring into `width` columns.
pub(super) fn columns(pieces: &[Piece], width: usize) -> Vec<Column> {
    let width = width.max(1);
    let begin = |column: usize| (column as u128 * CIRCLE).div_ceil(width as u128);
    let mut owned = vec![BTreeMap::<usize, u128>::new(); width];
    let mut costs = vec![0.0; width];
    for piece in pieces {
        let whole = piece.slice.positions();
        for (from, to) in spans(&piece.slice) {
            let first = (from * width as u128 / CIRCLE) as usize;
            for column in (first..width).take_while(|column| begin(*column) < to) {
                let inside = to.min(begin(column + 1)) - from.max(begin(column));
                *owned[column].entry(piece.owner).or_default() += inside;
                costs[column] += piece.cost * (inside as f64 / whole as f64);
            }
        }
    }
    let owner = |owned: &BTreeMap<usize, u128>| {
        let most = owned.values().max()?;
        owned.iter().find(|(_, inside)| *inside == most).map(|(owner, _)| *owner)
    };
    owned.iter().zip(costs).map(|(owned, cost)| Column { owner: owner(owned), cost }).collect()
}

/// A slice as one or two intervals that do not wrap.
fn spans(slice: &Slice) -> Vec<(u128, u128)> {
    let (from, to) = (u128::from(slice.start.0), u128::from(slice.start.0) + slice.positions());
    match to.checked_sub(CIRCLE) {
        None | Some(0) => vec![(from, to)],
        Some(over) => vec![(from, CIRCLE), (0, over)],
    }
}

/// How the owners are told apart, by their numbers.
#[derive(Debug)]
pub(super) struct Signs(BTreeMap<usize, usize>);

impl Signs {
    /// Signs for `owners` in this order; those of them that stand in no column have none if there are not enough for all.
    pub(super) fn new(owners: &[usize], columns: &[Column]) -> Self {
        let is_seen = |owner: &usize| columns.iter().any(|column| column.owner == Some(*owner));
        let signed = owners.iter().filter(|owner| owners.len() <= SIGNS.len() || is_seen(owner));
        Self(signed.take(SIGNS.len()).enumerate().map(|(place, owner)| (*owner, place)).collect())
    }

    /// The letter of an owner.
    pub(super) fn letter(&self, owner: usize) -> char {
        self.0.get(&owner).map_or(OTHERS, |place| char::from(SIGNS[*place]))
    }

    /// Its colour, as a terminal is told.
    pub(super) fn colour(&self, owner: usize) -> String {
        let colour = self.0.get(&owner).map_or(250, |place| COLOURS[place % COLOURS.len()]);
        format!("38;5;16;48;5;{colour}")
    }
}

/// The bar: a letter for each column, or a colour with a letter where another owner begins.
pub(super) fn bar(columns: &[Column], signs: &Signs, is_coloured: bool) -> String {
    let mut bar = String::new();
    for run in columns.chunk_by(|one, next| one.owner == next.owner) {
        let Some(owner) = run.first().and_then(|column| column.owner) else {
            bar.push_str(&" ".repeat(run.len()));
            continue;
        };
        let letter = signs.letter(owner).to_string();
        if is_coloured {
            let rest = " ".repeat(run.len() - 1);
            bar.push_str(&format!("\u{1b}[{}m{letter}{rest}\u{1b}[0m", signs.colour(owner)));
        } else {
            bar.push_str(&letter.repeat(run.len()));
        }
    }
    bar
}

/// The load of each column beside that of the one with most.
pub(super) fn loads(columns: &[Column]) -> String {
    let most = columns.iter().map(|column| column.cost).fold(0.0, f64::max);
    let level = |cost: f64| match cost > 0.0 {
        true => LEVELS[((cost / most * 8.0).ceil() as usize).clamp(1, 8) - 1],
        false => ' ',
    };
    columns.iter().map(|column| level(column.cost)).collect::<String>().trim_end().to_owned()
}

/// Where positions lie below the bar: their first digits.
pub(super) fn scale(width: usize) -> String {
    let marks = [16, 8, 4, 2].into_iter().find(|marks| width / marks >= MARK_EVERY_MIN).unwrap_or(1);
    let mut scale = String::new();
    for mark in 0..marks {
        let at = mark * width / marks;
        let position = Position((mark as u128 * CIRCLE / marks as u128) as u64).to_string();
        scale.push_str(&" ".repeat(at.saturating_sub(scale.chars().count())));
        scale.push_str(&format!("{}…", &position[..4]));
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Partitions that start at these sixteenths of the ring, with their owners and costs.
    fn pieces(all: &[(u64, usize, f64)]) -> Vec<Piece> {
        let start = |index: usize| Position(all[index % all.len()].0 << 60);
        let piece = |(index, (_, owner, cost)): (usize, &(u64, usize, f64))| {
            let slice = Slice { start: start(index), end: start(index + 1) };
            Piece { slice, owner: *owner, cost: *cost }
        };
        all.iter().enumerate().map(piece).collect()
    }

    fn drawn(all: &[(u64, usize, f64)], width: usize, is_coloured: bool) -> String {
        let columns = columns(&pieces(all), width);
        bar(&columns, &Signs::new(&[0, 1, 2], &columns), is_coloured)
    }

    #[test]
    fn each_column_is_a_piece_of_the_ring_and_its_owners() {
        let quarters = [(0, 0, 0.0), (4, 1, 0.0), (8, 0, 0.0), (12, 2, 0.0)];
        assert_eq!(drawn(&quarters, 20, false), "AAAAABBBBBAAAAACCCCC");
        let twenty = |letter: &str| letter.repeat(20);
        assert_eq!(drawn(&quarters, 80, false), ["A", "B", "A", "C"].map(twenty).concat());
        assert_eq!(drawn(&[(3, 1, 0.0)], 20, false), "B".repeat(20), "one partition is the whole ring");
        let wraps = [(4, 0, 0.0), (12, 1, 0.0)];
        assert_eq!(drawn(&wraps, 20, false), "BBBBBAAAAAAAAAABBBBB", "the last one goes on at the beginning");
        assert_eq!(
            drawn(&[(0, 0, 0.0), (1, 1, 0.0), (15, 0, 0.0)], 4, false),
            "BBBB",
            "who owns most counts"
        );
        assert_eq!(drawn(&[], 20, false), " ".repeat(20));
    }

    #[test]
    fn a_coloured_bar_names_each_run_once() {
        let bar = drawn(&[(0, 0, 0.0), (8, 1, 0.0)], 20, true);
        let run = |colour: u8, letter: &str| {
            format!("\u{1b}[38;5;16;48;5;{colour}m{letter}{}\u{1b}[0m", " ".repeat(9))
        };
        assert_eq!(bar, run(COLOURS[0], "A") + &run(COLOURS[1], "B"));
        assert!(!drawn(&[(0, 0, 0.0), (8, 1, 0.0)], 20, false).contains('\u{1b}'));
    }

    #[test]
    fn no_load_is_lost_whatever_the_width() {
        let uneven = [(1, 0, 3.0), (2, 1, 5.0), (9, 2, 0.0), (13, 0, 2.0)];
        for width in [1, 7, 20, 80, 237] {
            let columns = columns(&pieces(&uneven), width);
            let sum: f64 = columns.iter().map(|column| column.cost).sum();
            assert!((sum - 10.0).abs() < 1e-9 && columns.len() == width, "{width}: {sum}");
        }
    }

    #[test]
    fn loads_are_told_beside_the_greatest() {
        let shown = |all: &[(u64, usize, f64)]| loads(&columns(&pieces(all), 16));
        assert_eq!(shown(&[(0, 0, 8.0), (4, 0, 4.0), (8, 0, 0.0), (12, 0, 0.01)]), "████▄▄▄▄    ▁▁▁▁");
        assert_eq!(shown(&[(0, 0, 0.0)]), "");
    }

    #[test]
    fn the_scale_has_as_many_marks_as_have_room() {
        assert_eq!(scale(20), "0000…     8000…");
        assert_eq!(scale(15), "0000…");
        assert_eq!(scale(80).split_whitespace().count(), 8);
        assert!(scale(400).chars().count() <= 400);
    }

    #[test]
    fn with_more_owners_than_signs_those_that_are_seen_have_them() {
        let owners: Vec<usize> = (0..200).collect();
        let seen = columns(&pieces(&[(0, 150, 0.0), (8, 170, 0.0)]), 20);
        let signs = Signs::new(&owners, &seen);
        assert_eq!([150, 170, 3].map(|owner| signs.letter(owner)), ['A', 'B', OTHERS]);
    }
}
