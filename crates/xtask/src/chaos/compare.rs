//! Simulated and real figures side by side.

use core::fmt;
use core::ops::RangeInclusive;

use serde_json::{Value, json};

use super::figures::{Figure, Samples, median};

/// A real median may be so many times the simulated one.
pub(crate) const CLOSE: RangeInclusive<f64> = 0.7..=1.3;

/// The values of one figure in all runs, in seconds. Infinite where it never came to that.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    p50: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        Self {
            p50: median(values),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(0.0, f64::max),
        }
    }

    fn json(self) -> Value {
        json!({ "p50": rounded(self.p50), "min": rounded(self.min), "max": rounded(self.max) })
    }
}

/// To the millisecond, which is as exact as the clocks are; nothing if it never came.
fn rounded(seconds: f64) -> Option<f64> {
    seconds.is_finite().then(|| (seconds * 1_000.0).round() / 1_000.0)
}

fn written(seconds: f64) -> String {
    if seconds.is_finite() { format!("{seconds:.2}") } else { "never".to_owned() }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5} ({} to {})", written(self.p50), written(self.min), written(self.max))
    }
}

/// One figure of one scenario.
#[derive(Debug)]
pub(crate) struct Comparison {
    scenario: String,
    figure: Figure,
    simulated: Spread,
    real: Spread,
}

impl Comparison {
    /// All figures of a scenario that were measured both ways.
    pub(crate) fn all(scenario: &str, simulated: &Samples, real: &Samples) -> Vec<Self> {
        let compared = |(figure, values): (&Figure, &Vec<f64>)| {
            Some(Self {
                scenario: scenario.to_owned(),
                figure: *figure,
                simulated: Spread::of(values),
                real: Spread::of(real.get(figure)?),
            })
        };
        simulated.iter().filter_map(compared).collect()
    }

    /// How many times the simulated median the real one is; nothing if one of them never came.
    fn ratio(&self) -> Option<f64> {
        Some(self.real.p50 / self.simulated.p50).filter(|ratio| ratio.is_finite())
    }

    /// Whether the simulator told the truth.
    pub(crate) fn is_close(&self) -> bool {
        self.ratio().is_some_and(|ratio| CLOSE.contains(&ratio))
    }

    /// The comparison for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "figure": self.figure.name(),
            "simulated_s": self.simulated.json(),
            "real_s": self.real.json(),
            "ratio": self.ratio().and_then(rounded),
        })
    }
}

/// Comparisons for people, a line each.
pub(crate) fn lines(comparisons: &[Comparison]) -> Vec<String> {
    let heading =
        ["SCENARIO", "SECONDS FROM", "SIMULATED p50 (min to max)", "REAL p50 (min to max)", "RATIO"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(comparisons.iter().map(|compared| {
        let ratio = compared.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let mark = if compared.is_close() { "" } else { " !" };
        [
            compared.scenario.clone(),
            compared.figure.says().to_owned(),
            compared.simulated.to_string(),
            compared.real.to_string(),
            format!("{ratio}{mark}"),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(simulated: &[f64], real: &[f64]) -> Comparison {
        let samples = |values: &[f64]| Samples::from([(Figure::LastDown, values.to_vec())]);
        Comparison::all("vm-dies", &samples(simulated), &samples(real)).remove(0)
    }

    #[test]
    fn medians_are_close_within_the_bounds_only() {
        let check = |real: f64, want: bool| assert_eq!(compared(&[2.0], &[real]).is_close(), want, "{real}");
        for (real, want) in [(1.3, false), (1.4, true), (2.0, true), (2.6, true), (2.7, false)] {
            check(real, want);
        }
        check(f64::INFINITY, false);
        assert!(!compared(&[f64::INFINITY], &[f64::INFINITY]).is_close());
        assert!(!compared(&[0.0], &[0.0]).is_close());
    }

    #[test]
    fn a_comparison_is_an_object_with_all_figures() {
        let want = json!({
            "scenario": "vm-dies",
            "figure": "last-down",
            "simulated_s": { "p50": 2.5, "min": 1.0, "max": 4.0 },
            "real_s": { "p50": 3.0, "min": 2.0, "max": null },
            "ratio": 1.2,
        });
        assert_eq!(compared(&[4.0, 1.0, 2.0, 3.0], &[2.0, f64::INFINITY, 3.0]).json(), want);
    }

    #[test]
    fn a_table_has_a_line_for_each_figure() {
        let lines = lines(&[compared(&[2.0], &[f64::INFINITY]), compared(&[2.0], &[2.0])]);
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("never (never to never)") && lines[1].ends_with("- !"), "{}", lines[1]);
        assert!(lines[2].ends_with("1.00"), "{}", lines[2]);
    }
}
