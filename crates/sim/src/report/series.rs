//! Series of measurements: what is drawn of them, and the lines they give.
//!
//! A point is a moment in seconds and what was measured then. A line's coordinates are thousandths of the plot,
//! whatever its size on the screen. Everything that is not finite is dropped here, before it is drawn or counted.

use super::axis::Axis;

/// Most points that one line is drawn from.
const POINTS_MAX: usize = 600;

/// The finite ones of `points`, in their order; of too many, the least and the most of each stretch.
pub(super) fn thin(points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> =
        points.into_iter().filter(|(at, value)| at.is_finite() && value.is_finite()).collect();
    if finite.len() <= POINTS_MAX {
        return finite;
    }
    finite.chunks(finite.len().div_ceil(POINTS_MAX / 2)).flat_map(extremes).collect()
}

/// The least and the most of a stretch, in the order they came; of equal ones the first and the last.
fn extremes(stretch: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let values = || stretch.iter().enumerate();
    let least = values().min_by(|(_, a), (_, b)| a.1.total_cmp(&b.1)).map_or(0, |(index, _)| index);
    let most = values().max_by(|(_, a), (_, b)| a.1.total_cmp(&b.1)).map_or(0, |(index, _)| index);
    let (first, last) = (least.min(most), least.max(most));
    if first == last { vec![stretch[first]] } else { vec![stretch[first], stretch[last]] }
}

/// The finite ones of `values`, from the least to the most.
pub(super) fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    finite
}

/// The values of points, from the least to the most.
pub(super) fn values(points: &[(f64, f64)]) -> Vec<f64> {
    sorted(points.iter().map(|(_, value)| *value))
}

/// A line from point to point.
pub(super) fn line(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let spots = points.iter().enumerate().map(|(index, point)| {
        let pen = if index == 0 { 'M' } else { 'L' };
        format!("{pen}{},{}", across(point.0, x), down(point.1, y))
    });
    // The stroke of no length shows a lone point as a dot.
    format!("{}h0", spots.collect::<String>())
}

/// A line that keeps each value until the next.
pub(super) fn steps(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let spots = points.iter().enumerate().map(|(index, point)| {
        let (right, low) = (across(point.0, x), down(point.1, y));
        if index == 0 { format!("M{right},{low}") } else { format!("H{right}V{low}") }
    });
    format!("{}h0", spots.collect::<String>())
}

/// A line that has each value from the point before on: what was measured in between.
pub(super) fn stairs(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let spots = points.iter().enumerate().map(|(index, point)| {
        let (right, low) = (across(point.0, x), down(point.1, y));
        if index == 0 { format!("M0.0,{low}H{right}") } else { format!("V{low}H{right}") }
    });
    format!("{}h0", spots.collect::<String>())
}

/// What lies below such a line.
pub(super) fn below_stairs(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    format!("{}V{}H0.0Z", stairs(points, x, y), down(0.0, y))
}

/// What lies between two lines.
pub(super) fn area(upper: &[(f64, f64)], lower: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let around: Vec<(f64, f64)> = upper.iter().chain(lower.iter().rev()).copied().collect();
    format!("{}Z", line(&around, x, y))
}

/// What share of sorted values does not exceed each of them, up to the right edge of the plot.
pub(super) fn climb(sorted: &[f64], x: &Axis, y: &Axis) -> String {
    let count = sorted.len();
    let drawn = count.min(POINTS_MAX);
    let ranks = (1..=drawn).map(|step| step * count / drawn);
    let rises = ranks.map(|rank| {
        let share = rank as f64 / count as f64;
        format!("H{}V{}", across(sorted[rank - 1], x), down(share, y))
    });
    let start = sorted.first().map_or(0.0, |first| x.place(*first));
    format!("M{:.1},{}{}H1000.0", 1000.0 * start, down(0.0, y), rises.collect::<String>())
}

fn across(value: f64, axis: &Axis) -> String {
    format!("{:.1}", 1000.0 * axis.place(value))
}

fn down(value: f64, axis: &Axis) -> String {
    format!("{:.1}", 1000.0 * (1.0 - axis.place(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::quantile;

    #[test]
    fn a_long_series_keeps_its_peaks_and_its_ends() {
        let peak = |n: u32| if n == 5_432 { 9.0 } else { 1.0 };
        let thinned = thin((0..10_000).map(|n| (f64::from(n), peak(n))));
        assert!(thinned.len() <= POINTS_MAX, "{}", thinned.len());
        assert!(thinned.contains(&(5_432.0, 9.0)));
        assert_eq!(thinned.first(), Some(&(0.0, 1.0)));
        assert_eq!(thinned.last(), Some(&(9_999.0, 1.0)));
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn what_is_not_finite_is_dropped() {
        assert_eq!(thin([(0.0, f64::NAN), (f64::INFINITY, 1.0), (2.0, 3.0)]), [(2.0, 3.0)]);
        assert_eq!(sorted([2.0, f64::NAN, 1.0, f64::NEG_INFINITY]), [1.0, 2.0]);
    }

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let check =
            |share: f64, expect: f64| assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], share), Some(expect));
        check(0.0, 1.0);
        check(0.5, 2.0);
        check(0.99, 4.0);
        check(1.0, 4.0);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn lines_are_drawn_in_thousandths_of_the_plot() {
        let (x, y) = (Axis::time(10.0), Axis::from_zero(1.0, "share"));
        let points = [(0.0, 0.0), (5.0, 1.0)];
        assert_eq!(line(&points, &x, &y), "M0.0,1000.0L500.0,0.0h0");
        assert_eq!(steps(&points, &x, &y), "M0.0,1000.0H500.0V0.0h0");
        assert_eq!(stairs(&points, &x, &y), "M0.0,1000.0H0.0V0.0H500.0h0");
        assert_eq!(below_stairs(&points, &x, &y), "M0.0,1000.0H0.0V0.0H500.0h0V1000.0H0.0Z");
        assert_eq!(climb(&[2.0, 5.0], &x, &y), "M200.0,1000.0H200.0V500.0H500.0V0.0H1000.0");
        assert_eq!(line(&[], &x, &y), "h0");
    }
}
