//! Axes: where a figure stands between two ends, and which figures are written beside them.
//!
//! Invariant: a place is always finite and between 0 and 1, whatever is asked for.

use super::number::Scale;
use crate::outcome::quantile;

/// Steps from tick to tick, at most.
const STEPS_MAX: f64 = 5.0;
/// Steps of times in a narrow chart, at most.
const NARROW_STEPS_MAX: f64 = 4.0;
/// A span of time has room for one step more.
const TIME_STEPS_MAX: f64 = 6.0;
/// Ticks of a logarithmic axis, at most.
const LOG_TICKS_MAX: usize = 6;
/// From this ratio on of the most to the fairly short, times are drawn by their logarithms.
const LOG_RATIO: f64 = 20.0;

/// One direction of a plot.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    spacing: Spacing,
    /// The unit of the short labels.
    pub(super) unit: String,
    pub(super) ticks: Vec<Tick>,
}

/// A place with a label.
#[derive(Debug, Clone)]
pub(super) struct Tick {
    /// Share of the axis, 0 to 1.
    pub(super) place: f64,
    /// The figure alone.
    pub(super) short: String,
    /// The figure with its unit.
    pub(super) full: String,
}

#[derive(Debug, Clone, Copy)]
enum Spacing {
    Linear,
    Logarithmic,
}

impl Axis {
    /// From the begin of a run to its end, exactly.
    pub(super) fn time(span_s: f64) -> Self {
        let span = if span_s.is_finite() && span_s > 0.0 { span_s } else { 1.0 };
        let scale = Scale::fitting(span, "s");
        Self::linear(0.0, span, scale.size * ceiling(span / scale.size / TIME_STEPS_MAX), scale)
    }

    /// From zero to a round figure that is not below `most`. Figures without a unit are counts: no tick stands
    /// between two of them.
    pub(super) fn from_zero(most: f64, unit: &'static str) -> Self {
        Self::from_zero_by(STEPS_MAX, most, unit)
    }

    fn from_zero_by(steps_max: f64, most: f64, unit: &'static str) -> Self {
        let nothing = if unit == "share" { 0.01 } else { 1.0 };
        let most = if most.is_finite() && most > 0.0 { most } else { nothing };
        let scale = Scale::fitting(most, unit);
        let step = scale.size * ceiling(most / scale.size / steps_max);
        let step = if unit.is_empty() { step.max(1.0) } else { step };
        Self::linear(0.0, step * (most / step - 1e-9).ceil(), step, scale)
    }

    /// Around counts; not from zero if that would press them together at the top.
    pub(super) fn around(least: f64, most: f64) -> Self {
        if least < most / 2.0 {
            return Self::from_zero(most, "");
        }
        let step = ceiling((most - least).max(2.0) / STEPS_MAX).max(1.0);
        let low = (step * (least / step - 0.25).floor()).max(0.0);
        let high = step * (most / step + 0.25).ceil();
        Self::linear(low, high, step, Scale::fitting(most, ""))
    }

    /// Over sorted times: by their logarithms if they spread far, otherwise from zero.
    pub(super) fn over_times(sorted: &[f64]) -> Self {
        let most = sorted.last().copied().unwrap_or(0.0);
        let positive = &sorted[sorted.partition_point(|value| *value <= 0.0)..];
        match quantile(positive, 0.05) {
            // A few very short times must not push all others to the right.
            Some(short) if most / short >= LOG_RATIO => {
                Self::logarithmic(positive[0].max(short / 10.0), most)
            }
            Some(_) | None => Self::from_zero_by(NARROW_STEPS_MAX, most, "s"),
        }
    }

    /// How far from the low end a figure stands, 0 to 1; the ends stand for what lies beyond.
    pub(super) fn place(&self, value: f64) -> f64 {
        let share = match self.spacing {
            Spacing::Linear => (value - self.low) / (self.high - self.low),
            Spacing::Logarithmic => (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln()),
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The figure at the low end.
    pub(super) fn low(&self) -> f64 {
        self.low
    }

    fn linear(low: f64, high: f64, step: f64, scale: Scale) -> Self {
        let first = (low / step - 1e-6).ceil();
        let figures = (0..=12).map(|index| step * (first + f64::from(index)));
        let shown = figures.take_while(|value| *value <= high + step * 1e-6);
        let axis = Self { low, high, spacing: Spacing::Linear, unit: scale.name(), ticks: Vec::new() };
        axis.with_ticks(shown.map(|value| (value, scale)).collect())
    }

    fn logarithmic(least: f64, most: f64) -> Self {
        let (low, high) = (floor(least), ceiling(most));
        let axis = Self { low, high, spacing: Spacing::Logarithmic, unit: String::new(), ticks: Vec::new() };
        // Powers of ten are no round figures of minutes: seconds are the largest unit here.
        let scaled = |value: f64| (value, Scale::fitting(value.min(1.0), "s"));
        axis.with_ticks(round_figures(low, high).into_iter().map(scaled).collect())
    }

    fn with_ticks(mut self, figures: Vec<(f64, Scale)>) -> Self {
        self.ticks = figures
            .into_iter()
            .map(|(value, scale)| Tick {
                place: self.place(value),
                short: scale.short(value),
                full: scale.full(value),
            })
            .collect();
        self
    }
}

/// 1, 2 or 5 times a power of ten: the least that is not below `value`.
fn ceiling(value: f64) -> f64 {
    let decade = decade_of(value);
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * decade)
        .find(|round| *round >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * decade)
}

/// 1, 2 or 5 times a power of ten: the most that is not above `value`.
fn floor(value: f64) -> f64 {
    let decade = decade_of(value);
    [5.0, 2.0]
        .into_iter()
        .map(|factor| factor * decade)
        .find(|round| *round <= value * (1.0 + 1e-9))
        .unwrap_or(decade)
}

fn decade_of(value: f64) -> f64 {
    10f64.powf(value.log10().floor())
}

/// Round figures from `low` to `high`: 1, 2 and 5 of each power of ten, or as many powers as there is room for.
fn round_figures(low: f64, high: f64) -> Vec<f64> {
    let all = figures_by(&[1.0, 2.0, 5.0], low, high);
    if all.len() <= LOG_TICKS_MAX {
        return all;
    }
    let powers = figures_by(&[1.0], low, high);
    let every = powers.len().div_ceil(LOG_TICKS_MAX).max(1);
    powers.into_iter().step_by(every).collect()
}

fn figures_by(factors: &[f64], low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    decades
        .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
        .filter(|figure| (low * 0.999..=high * 1.001).contains(figure))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|tick| tick.full.replace('\u{a0}', " ")).collect()
    }

    #[test]
    fn ticks_are_round_figures() {
        let check = |axis: &Axis, expect: &[&str]| assert_eq!(labels(axis), expect);
        check(&Axis::time(60.0), &["0 s", "10 s", "20 s", "30 s", "40 s", "50 s", "60 s"]);
        check(&Axis::time(75.0), &["0 s", "20 s", "40 s", "60 s"]);
        check(&Axis::time(900.0), &["0 min", "5 min", "10 min", "15 min"]);
        check(&Axis::from_zero(3.0, ""), &["0", "1", "2", "3"]);
        check(&Axis::from_zero(0.023, "share"), &["0%", "0.5%", "1%", "1.5%", "2%", "2.5%"]);
        check(
            &Axis::from_zero(4_300.0, "B/s"),
            &["0 kB/s", "1 kB/s", "2 kB/s", "3 kB/s", "4 kB/s", "5 kB/s"],
        );
        check(&Axis::around(49.0, 50.0), &["48", "49", "50", "51"]);
        check(&Axis::around(0.0, 50.0), &["0", "10", "20", "30", "40", "50"]);
    }

    #[test]
    fn far_spread_times_are_drawn_by_their_logarithms() {
        let wide = Axis::over_times(&[0.0, 0.1, 0.2, 3.0, 9.0]);
        assert_eq!(labels(&wide), ["100 ms", "1 s", "10 s"]);
        assert!((wide.place(1.0) - 0.5).abs() < 1e-9);
        let narrow = Axis::over_times(&[1.0, 2.0, 3.0]);
        assert_eq!(labels(&narrow), ["0 s", "1 s", "2 s", "3 s"]);
    }

    #[test]
    fn every_place_is_on_the_axis() {
        let axes = [
            Axis::time(f64::NAN),
            Axis::time(-1.0),
            Axis::from_zero(f64::INFINITY, "B/s"),
            Axis::from_zero(0.0, ""),
            Axis::around(0.0, 0.0),
            Axis::around(7.0, 7.0),
            Axis::over_times(&[]),
            Axis::over_times(&[1e-9, 1.0, 1e9]),
        ];
        for axis in axes {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 0.5, 1e30] {
                assert!((0.0..=1.0).contains(&axis.place(value)), "{axis:?} {value}");
            }
            assert!(!axis.ticks.is_empty() && axis.ticks.len() <= 13, "{axis:?}");
        }
    }
}
