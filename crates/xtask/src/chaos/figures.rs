//! What is measured of a run: the same figures of real agents as of simulated ones. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ringmesh_sim::scenario::{Fault, Scenario};

use super::history::{History, Seen, Window};
use super::play::{Cut, Death, Played};

/// Seconds from something that was done to something that agents noted. Infinite if they never did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// From a crash until any agent first suspects the dead one. Like the next two, the mean over all crashes of a run.
    FirstSuspect,
    /// From a crash until the first agent holds it Down.
    FirstDown,
    /// From a crash until the median agent holds it Down.
    MedianDown,
    /// From a crash until the last agent holds it Down.
    LastDown,
    /// From a cut until every agent counts exactly its own side.
    Alone,
    /// From a heal until every agent counts everybody who runs.
    Agreed,
}

impl Figure {
    /// What is measured, for people.
    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::FirstSuspect => "crash to first Suspect",
            Self::FirstDown => "crash to first Down",
            Self::MedianDown => "crash to median Down",
            Self::LastDown => "crash to last Down",
            Self::Alone => "cut to both sides alone",
            Self::Agreed => "heal to all agreed",
        }
    }

    /// What it is called for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FirstSuspect => "first-suspect",
            Self::FirstDown => "first-down",
            Self::MedianDown => "median-down",
            Self::LastDown => "last-down",
            Self::Alone => "alone-after-cut",
            Self::Agreed => "agreed-after-heal",
        }
    }

    /// What the simulator calls it among its metrics.
    pub(crate) fn metric(self) -> &'static str {
        match self {
            Self::FirstSuspect => "first_accusation_mean_s",
            Self::FirstDown => "first_down_mean_s",
            Self::MedianDown => "detection_p50_s",
            Self::LastDown => "last_down_mean_s",
            Self::Alone => "alone_after_cut_mean_s",
            Self::Agreed => "agreed_after_heal_mean_s",
        }
    }
}

/// Values of each figure, one for each run.
pub(crate) type Samples = BTreeMap<Figure, Vec<f64>>;

/// What there is to measure of a scenario.
pub(crate) fn figures_of(scenario: &Scenario) -> Vec<Figure> {
    let has = |is_it: fn(&Fault) -> bool| scenario.timeline.iter().any(|step| is_it(&step.fault));
    let mut figures = Vec::new();
    if has(|fault| matches!(fault, Fault::Crash { .. })) {
        figures.extend([Figure::FirstSuspect, Figure::FirstDown, Figure::MedianDown, Figure::LastDown]);
    }
    if has(|fault| matches!(fault, Fault::Split { .. })) {
        figures.push(Figure::Alone);
        if has(|fault| matches!(fault, Fault::Heal | Fault::Split { length: Some(_), .. })) {
            figures.push(Figure::Agreed);
        }
    }
    figures
}

/// One figure of a run with real agents.
pub(crate) fn measure(figure: Figure, played: &Played) -> f64 {
    let Played { deaths, cuts, observers, history } = played;
    let firsts = |seen| mean(deaths.iter().map(|death| first(history, death, observers, seen)));
    match figure {
        Figure::FirstSuspect => firsts(Seen::Suspect),
        Figure::FirstDown => firsts(Seen::Gone),
        Figure::MedianDown => {
            median(&deaths.iter().flat_map(|death| downs(history, death, observers)).collect::<Vec<_>>())
        }
        Figure::LastDown => mean(deaths.iter().map(|death| last_down(history, death, observers))),
        Figure::Alone => mean(cuts.iter().map(|cut| alone(history, cut, observers))),
        Figure::Agreed => mean(cuts.iter().filter_map(|cut| agreed(history, cut.healed?, observers))),
    }
}

fn first(history: &History, death: &Death, observers: &BTreeSet<usize>, seen: Seen) -> f64 {
    seconds(death.window, history.first(death.window, observers, death.host, seen))
}

/// When each observer first held it Down.
fn downs(history: &History, death: &Death, observers: &BTreeSet<usize>) -> Vec<f64> {
    observers.iter().map(|observer| first(history, death, &BTreeSet::from([*observer]), Seen::Gone)).collect()
}

fn last_down(history: &History, death: &Death, observers: &BTreeSet<usize>) -> f64 {
    downs(history, death, observers).into_iter().fold(0.0, f64::max)
}

fn alone(history: &History, cut: &Cut, observers: &BTreeSet<usize>) -> f64 {
    let is_same =
        |observer: usize, subject: usize| cut.side.contains(&observer) == cut.side.contains(&subject);
    seconds(cut.window, history.reached(cut.window, observers, observers, is_same))
}

fn agreed(history: &History, healed: Window, observers: &BTreeSet<usize>) -> Option<f64> {
    Some(seconds(healed, history.reached(healed, observers, observers, |_, _| true)))
}

/// How long after the begin of a window something was.
fn seconds(window: Window, at_ms: Option<u64>) -> f64 {
    at_ms.map_or(f64::INFINITY, |at_ms| at_ms.saturating_sub(window.from_ms) as f64 / 1_000.0)
}

/// The mean; infinite if there is nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    if count > 0.0 { sum / count } else { f64::INFINITY }
}

/// The value in the middle, or the mean of the two there; infinite if there is nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = |index: usize| sorted.get(index).copied().unwrap_or(f64::INFINITY);
    match sorted.len() {
        0 => f64::INFINITY,
        count if count.is_multiple_of(2) => f64::midpoint(middle(count / 2 - 1), middle(count / 2)),
        count => middle(count / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Change;
    use super::*;

    fn change(at_ms: u64, observer: usize, subject: usize, seen: Seen) -> Change {
        Change { at_ms, observer, subject, seen }
    }

    fn played(deaths: Vec<Death>, cuts: Vec<Cut>, observers: &[usize], changes: Vec<Change>) -> Played {
        Played {
            deaths,
            cuts,
            observers: observers.iter().copied().collect(),
            history: History::new(changes),
        }
    }

    fn window(from_ms: u64, until_ms: u64) -> Window {
        Window { from_ms, until_ms }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[1.0, f64::INFINITY, f64::INFINITY]), f64::INFINITY);
        assert_eq!(median(&[]), f64::INFINITY);
    }

    #[test]
    fn a_death_is_measured_from_the_crash_at_every_observer() {
        let death = Death { host: 3, window: window(10_000, u64::MAX) };
        let mut changes = vec![
            change(9_000, 0, 3, Seen::Suspect),
            change(9_500, 0, 3, Seen::Serving),
            change(11_500, 1, 3, Seen::Suspect),
            change(13_000, 1, 3, Seen::Gone),
            change(13_250, 2, 3, Seen::Gone),
        ];
        let check = |changes: &[Change], want: [f64; 4]| {
            let played = played(vec![death], Vec::new(), &[0, 1, 2], changes.to_vec());
            let figures = [Figure::FirstSuspect, Figure::FirstDown, Figure::MedianDown, Figure::LastDown];
            assert_eq!(figures.map(|figure| measure(figure, &played)), want);
        };
        check(&changes, [1.5, 3.0, 3.25, f64::INFINITY]);
        changes.push(change(14_000, 0, 3, Seen::Gone));
        check(&changes, [1.5, 3.0, 3.25, 4.0]);
    }

    #[test]
    fn a_split_is_measured_from_the_cut_and_from_the_heal() {
        let cut = Cut {
            side: BTreeSet::from([2]),
            window: window(10_000, 30_000),
            healed: Some(window(30_000, u64::MAX)),
            step: 0,
        };
        let mut changes = Vec::new();
        for (at_ms, seen) in [(14_000, Seen::Gone), (30_750, Seen::Serving)] {
            for (observer, subject) in [(0, 2), (1, 2), (2, 0)] {
                changes.push(change(at_ms, observer, subject, seen));
            }
            changes.push(change(at_ms + 500, 2, 1, seen));
        }
        let played = played(Vec::new(), vec![cut], &[0, 1, 2], changes);
        assert_eq!([Figure::Alone, Figure::Agreed].map(|figure| measure(figure, &played)), [4.5, 1.25]);
        assert_eq!(measure(Figure::LastDown, &played), f64::INFINITY, "nobody died");
    }
}
