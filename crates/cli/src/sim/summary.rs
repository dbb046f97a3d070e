//! What came of all runs of one scenario, for people.

use core::time::Duration;
use std::path::Path;

use ringmesh_sim::outcome::{Failure, Outcome as Played, quantile};

use super::files::ScenarioFile;
use super::{count, speed, verdict};
use crate::table::Table;

/// More failed seeds than this are counted and not shown.
const SEEDS_MAX: usize = 5;
/// More failures of one seed than this are counted and not shown.
const FAILURES_MAX: usize = 10;

/// How summaries look.
pub(super) struct Look {
    /// Names are padded to so many letters.
    pub(super) name_width: usize,
    pub(super) is_coloured: bool,
    /// What a command needs besides the file and the seed, to play the same again.
    pub(super) replay_with: String,
}

/// The runs of one scenario, put together.
#[derive(Default)]
pub(super) struct Summary {
    runs: usize,
    virtual_s: f64,
    wall: Duration,
    figures: Vec<Figures>,
    failed: Vec<Failed>,
}

/// What was measured against one bound, for every seed.
struct Figures {
    what: String,
    /// How many bounds of the same words come before it in the file.
    nth: usize,
    allowed: f64,
    unit: &'static str,
    /// Without the seeds in which there was nothing to measure.
    measured: Vec<f64>,
    /// In how many seeds it did not come.
    failed: usize,
}

struct Failed {
    seed: u64,
    failures: Vec<Failure>,
}

impl Summary {
    /// Takes one more run in.
    pub(super) fn add(&mut self, played: &Played, wall: Duration) {
        self.runs += 1;
        self.virtual_s += played.virtual_s;
        self.wall += wall;
        for (index, bound) in played.bounds.iter().enumerate() {
            let nth = played.bounds[..index].iter().filter(|other| other.what == bound.what).count();
            let known = self.figures.iter_mut().find(|known| known.what == bound.what && known.nth == nth);
            match known {
                Some(known) => {
                    known.measured.extend(bound.measured);
                    known.failed += usize::from(!bound.is_held);
                }
                None => self.figures.push(Figures {
                    what: bound.what.clone(),
                    nth,
                    allowed: bound.allowed,
                    unit: bound.unit,
                    measured: bound.measured.into_iter().collect(),
                    failed: usize::from(!bound.is_held),
                }),
            }
        }
        if !played.is_passed() {
            self.failed.push(Failed { seed: played.seed, failures: played.failures.clone() });
        }
    }

    /// Everything as lines: the verdict, the figures, the failures and how to see them again.
    pub(super) fn lines(&self, file: &ScenarioFile, look: &Look) -> Vec<String> {
        let mut lines = vec![self.heading(file, look)];
        if file.scenario.expect.is_empty() {
            lines.push(
                "    nothing is expected, so that nothing can fail: write [[expect]] tables".to_owned(),
            );
        }
        if !self.figures.is_empty() {
            let table = self.table().lines(look.is_coloured);
            lines.extend(table.iter().map(|line| format!("    {line}")));
        }
        for failed in self.failed.iter().take(SEEDS_MAX) {
            lines.extend(failed.lines(&file.path, look));
        }
        if let Some(rest) = self.failed.get(SEEDS_MAX..).filter(|rest| !rest.is_empty()) {
            let seeds: Vec<String> = rest.iter().map(|failed| failed.seed.to_string()).collect();
            lines.push(format!("    failed with {} more: {}", count(rest.len(), "seed"), seeds.join(", ")));
        }
        lines
    }

    fn heading(&self, file: &ScenarioFile, look: &Look) -> String {
        let verdict = verdict(self.failed.is_empty(), look.is_coloured);
        let seeds = match self.failed.len() {
            0 => count(self.runs, "seed"),
            failed => format!("{failed} of {}", count(self.runs, "seed")),
        };
        let speed = speed(self.virtual_s, self.wall.as_secs_f64());
        let (name, width, title) = (&file.scenario.name, look.name_width, &file.scenario.title);
        format!("{verdict}  {name:<width$}  {seeds}, {speed}: {title}")
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["EXPECTED", "ALLOWED", "P50", "P99", "MAX", ""]);
        for figures in &self.figures {
            let mut sorted = figures.measured.clone();
            sorted.sort_by(f64::total_cmp);
            let at = |share: f64| {
                let value = quantile(&sorted, share);
                value.map_or_else(|| "-".to_owned(), |value| with_unit(value, figures.unit))
            };
            table.row(vec![
                figures.what.clone(),
                with_unit(figures.allowed, figures.unit),
                at(0.5),
                at(0.99),
                at(1.0),
                if figures.failed == 0 { String::new() } else { "FAILED".to_owned() },
            ]);
        }
        table
    }
}

impl Failed {
    fn lines(&self, path: &Path, look: &Look) -> Vec<String> {
        let shown = self.failures.iter().take(FAILURES_MAX);
        let mut lines: Vec<String> = shown.map(|failure| format!("    {}", located(path, failure))).collect();
        if self.failures.len() > FAILURES_MAX {
            lines.push(format!("    and {} more", self.failures.len() - FAILURES_MAX));
        }
        let (path, replay_with) = (path.display(), &look.replay_with);
        lines.push(format!("    again: ringmesh sim run {path} --seed {}{replay_with}", self.seed));
        lines
    }
}

/// `file:line: what`.
fn located(path: &Path, failure: &Failure) -> String {
    let path = path.display();
    match failure.line {
        Some(line) => format!("{path}:{line}: {}", failure.says),
        None => format!("{path}: {}", failure.says),
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "" => rounded(value),
        "share" => format!("{} %", rounded(value * 100.0)),
        unit => format!("{} {unit}", rounded(value)),
    }
}

/// As many digits as anybody wants to compare.
fn rounded(value: f64) -> String {
    if value.abs() >= 100.0 {
        return format!("{value:.0}");
    }
    format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let sorted: Vec<f64> = (1..=32).map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| quantile(&sorted, share)), [16.0, 32.0, 32.0].map(Some));
        assert_eq!(quantile(&[7.0], 0.5), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn figures_carry_their_unit() {
        let check = |value: f64, unit: &str, expect: &str| assert_eq!(with_unit(value, unit), expect);
        check(6.0, "s", "6 s");
        check(2.10449, "s", "2.104 s");
        check(0.0125, "share", "1.25 %");
        check(0.0, "", "0");
        check(12_345.6, "B/s", "12346 B/s");
    }
}
