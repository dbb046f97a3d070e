//! What was allowed and what came: every bound over all seeds, and how much of it was used.
//!
//! Invariant: a share is never negative; what cannot be a share is infinite.

use super::number::{counted, escape, with_unit};
use super::series::sorted;
use super::tables::{cell, table};
use crate::outcome::{Bound, FaultMark, Outcome, quantile};
use crate::scenario::{Expectation, Scenario, That};

/// Letters of the longest unit that is written beside every figure; a longer one is written once.
const UNIT_LETTERS_MAX: usize = 4;
/// From this share on the figure says nothing more.
const SHARE_MAX: f64 = 10.0;

const REMARK: &str =
    "<p class=\"remark\">What is used of a point in time counts from the last fault before it.</p>\n";

/// One bound with all seeds.
struct Row<'a> {
    bound: &'a Bound,
    /// Whether it is a moment of the run, and not a length or an amount.
    is_moment: bool,
    /// What was measured, from the least to the most.
    measured: Vec<f64>,
    /// The largest share that a seed used.
    used: Option<f64>,
    /// How many seeds did not keep it.
    broken: usize,
    /// How many seeds came so far that it was looked at.
    looked_at: usize,
    seeds: usize,
}

/// The table of all bounds.
pub(super) fn bounds(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    let rows = rows(scenario, outcomes);
    if rows.is_empty() {
        return "<h3>Bounds</h3>\n<p class=\"nothing\">Nothing that is expected here has a figure.</p>\n"
            .to_owned();
    }
    let heads: &[&str] = if outcomes.len() > 1 {
        &["Allowed", "Median", "p99", "Max", "Used by the worst seed"]
    } else {
        &["Allowed", "Measured", "Used"]
    };
    let drawn: String = rows.iter().map(Row::draw).collect();
    let remark = if rows.iter().any(|row| row.is_moment && row.used.is_some()) { REMARK } else { "" };
    format!("<h3>Bounds</h3>\n{}{remark}", table("bounds", "Expectation", heads, &drawn))
}

/// The largest share that any seed used of any bound, if there is one with a figure.
pub(super) fn tightest(scenario: &Scenario, outcomes: &[Outcome]) -> Option<f64> {
    rows(scenario, outcomes).iter().filter_map(|row| row.used).max_by(f64::total_cmp)
}

/// A bar and a figure for a share that was used.
pub(super) fn used(share: f64, is_broken: bool) -> String {
    let class = if is_broken { "fill over" } else { "fill" };
    let width = if is_broken { 100.0 } else { 100.0 * share.min(1.0) };
    // Of what goes beyond the bound the whole bar is red, with a mark where the bound was.
    let bound = if is_broken && share > 1.0 && share < SHARE_MAX {
        format!("<span class=\"bound\" style=\"left:{:.1}%\"></span>", 100.0 / share)
    } else {
        String::new()
    };
    format!(
        "<span class=\"track\"><span class=\"{class}\" style=\"width:{width:.1}%\"></span>{bound}</span> \
         <span class=\"share\">{}</span>",
        escape(&in_per_cent(share, is_broken))
    )
}

/// Whole per cents, rounded away from the bound: what is within it is never 101%, what is beyond never 100%.
fn in_per_cent(share: f64, is_broken: bool) -> String {
    match share {
        _ if is_broken && !(1.0..SHARE_MAX).contains(&share) => "✗ failed".to_owned(),
        _ if share > 1.0 => format!("{:.0}%", (100.0 * share).ceil()),
        _ if share > 0.0 && share < 0.01 => "<1%".to_owned(),
        _ => format!("{:.0}%", (100.0 * share).floor()),
    }
}

fn rows<'a>(scenario: &Scenario, outcomes: &'a [Outcome]) -> Vec<Row<'a>> {
    // A run that did not come to its end has no bounds.
    let model = outcomes.iter().map(|outcome| outcome.bounds.as_slice()).max_by_key(|bounds| bounds.len());
    let expected = expected(scenario);
    let row = |(index, bound): (usize, &'a Bound)| {
        let expectation = expected.get(index).copied();
        let is_moment = expectation.is_some_and(|expectation| is_moment(&expectation.that));
        let both = || outcomes.iter().filter_map(|outcome| Some((outcome, outcome.bounds.get(index)?)));
        Row {
            bound,
            is_moment,
            measured: sorted(both().filter_map(|(_, bound)| bound.measured)),
            used: both()
                .filter_map(|(outcome, bound)| share(bound, is_moment, &outcome.record.faults))
                .max_by(f64::total_cmp),
            broken: both().filter(|(_, bound)| !bound.is_held).count(),
            looked_at: both().count(),
            seeds: outcomes.len(),
        }
    };
    model.unwrap_or_default().iter().enumerate().map(row).collect()
}

/// What each bound belongs to, in the order of the bounds.
fn expected(scenario: &Scenario) -> Vec<&Expectation> {
    let times = |expectation: &Expectation| {
        if let That::Traffic { bytes_per_s, messages_per_s } = &expectation.that {
            usize::from(bytes_per_s.is_some()) + usize::from(messages_per_s.is_some())
        } else {
            1
        }
    };
    scenario
        .expect
        .iter()
        .flat_map(|expectation| core::iter::repeat_n(expectation, times(expectation)))
        .collect()
}

/// How much of a bound one seed used.
fn share(bound: &Bound, is_moment: bool, done: &[FaultMark]) -> Option<f64> {
    let measured = bound.measured.filter(|measured| measured.is_finite())?;
    let begin = if is_moment { last_done(done, bound.allowed) } else { 0.0 };
    let spent = (measured - begin).max(0.0);
    let room = (bound.allowed - begin).max(0.0);
    Some(if spent > 0.0 { spent / room } else { 0.0 })
}

/// Whether it is expected at a moment of the run, or from one on.
fn is_moment(that: &That) -> bool {
    matches!(
        that,
        That::Converged { .. }
            | That::Delivered { .. }
            | That::NotServed { .. }
            | That::Served { .. }
            | That::Seen { .. }
            | That::NeverEmpty { .. }
            | That::NoGhost { .. }
    )
}

/// When something began or ended for the last time before `moment`; the begin of the run if nothing did.
fn last_done(done: &[FaultMark], moment: f64) -> f64 {
    let times = done.iter().flat_map(|mark| [Some(mark.from_s), mark.until_s]).flatten();
    times.filter(|at| *at < moment).fold(0.0, f64::max)
}

impl Row<'_> {
    fn draw(&self) -> String {
        let class = if self.broken > 0 { " class=\"broken\"" } else { "" };
        let words = format!("{}{}{}", escape(&self.bound.what), self.unit_in_words(), self.remark());
        let allowed = cell("Allowed", &self.figure(self.bound.allowed));
        let verdict = self.verdict();
        format!(
            "<tr{class}><th scope=\"row\">{words}</th>{allowed}{}\
             <td class=\"used\" data-label=\"Used\">{verdict}</td></tr>\n",
            self.figures()
        )
    }

    /// What was measured: one figure of one seed, three of many.
    fn figures(&self) -> String {
        let columns: &[(&str, f64)] = if self.seeds > 1 {
            &[("Median", 0.5), ("p99", 0.99), ("Max", 1.0)]
        } else {
            &[("Measured", 1.0)]
        };
        let figure = |(label, share): &(&str, f64)| match quantile(&self.measured, *share) {
            Some(value) => cell(label, &self.figure(value)),
            None => "<td class=\"none\">–</td>".to_owned(),
        };
        columns.iter().map(figure).collect()
    }

    fn verdict(&self) -> String {
        match self.used {
            Some(share) => used(share, self.broken > 0),
            None if self.broken > 0 => "<span class=\"verdict failed\">✗ failed</span>".to_owned(),
            None if self.looked_at < self.seeds => "–".to_owned(),
            None => "<span class=\"verdict passed\">✓ held</span>".to_owned(),
        }
    }

    /// What the figures do not say.
    fn remark(&self) -> String {
        let missing = self.seeds - self.measured.len();
        if self.broken > 0 && self.seeds > 1 {
            let seeds = counted(self.seeds, "seed");
            return format!(" <span class=\"broken\">✗ failed with {} of {seeds}</span>", self.broken);
        }
        if missing == 0 || self.measured.is_empty() {
            return String::new();
        }
        format!(" <span class=\"soft\">(no figure from {})</span>", counted(missing, "seed"))
    }

    fn unit_in_words(&self) -> String {
        if self.is_unit_long() { format!(", {}", escape(self.bound.unit)) } else { String::new() }
    }

    fn is_unit_long(&self) -> bool {
        self.bound.unit != "share" && self.bound.unit.chars().count() > UNIT_LETTERS_MAX
    }

    fn figure(&self, value: f64) -> String {
        with_unit(value, if self.is_unit_long() { "" } else { self.bound.unit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    #[test]
    fn bounds_are_summed_up_over_seeds() {
        let outcomes =
            [with_bound(1, Some(2.0), 10.0), with_bound(2, Some(5.0), 10.0), with_bound(3, None, 10.0)];
        let table = bounds(&scenario(""), &outcomes);
        assert!(table.contains("data-label=\"Median\">2\u{a0}s<"), "{table}");
        assert!(table.contains("data-label=\"Max\">5\u{a0}s<"), "{table}");
        assert!(table.contains("width:50.0%"), "{table}");
        assert!(table.contains("no figure from 1\u{a0}seed"), "{table}");
    }

    #[test]
    fn one_seed_has_one_figure() {
        let table = bounds(&scenario(""), &[with_bound(1, Some(2.0), 10.0)]);
        assert!(table.contains("data-label=\"Measured\">2\u{a0}s<"), "{table}");
        assert!(!table.contains("Median"), "{table}");
    }

    #[test]
    fn a_moment_counts_from_what_was_done_before_it() {
        let scenario = scenario("[[expect]]\nthat = \"converged\"\nby = \"50s\"\n");
        let mark = |from_s, until_s| FaultMark { from_s, until_s, what: "split".to_owned() };
        let mut outcome = with_bound(1, Some(44.0), 50.0);
        outcome.record.faults = vec![mark(10.0, Some(40.0)), mark(20.0, None), mark(55.0, None)];
        assert!(bounds(&scenario, &[outcome]).contains("width:40.0%"));
        assert_eq!(tightest(&scenario, &[with_bound(1, Some(25.0), 50.0)]), Some(0.5));
    }

    #[test]
    fn what_goes_beyond_a_bound_is_marked() {
        let check =
            |share: f64, is_broken: bool, expect: &str| assert_eq!(in_per_cent(share, is_broken), expect);
        check(0.0, false, "0%");
        check(0.002, false, "<1%");
        check(0.999, false, "99%");
        check(1.0, false, "100%");
        check(1.001, true, "101%");
        check(0.4, true, "✗ failed");
        check(f64::INFINITY, true, "✗ failed");
        assert!(used(1.25, true).contains("fill over\" style=\"width:100.0%\""));
        assert!(used(1.25, true).contains("bound\" style=\"left:80.0%\""));
        assert!(!used(f64::INFINITY, true).contains("class=\"bound\""));
    }

    #[test]
    fn what_has_no_figure_is_held_or_failed() {
        let text = "[[expect]]\nthat = \"no-ghost\"\nfrom = \"5s\"\n";
        let scenario = scenario(text);
        let kept = with_bound(1, None, 5.0);
        let mut broken = kept.clone();
        broken.bounds[0].is_held = false;
        let outcomes = [kept, broken];
        assert!(bounds(&scenario, &outcomes[..1]).contains("✓ held"));
        assert!(bounds(&scenario, &outcomes[1..]).contains("✗ failed"));
        let both = bounds(&scenario, &outcomes);
        assert!(both.contains("✗ failed with 1 of 2\u{a0}seeds"), "{both}");
    }

    #[test]
    fn a_long_unit_is_written_once() {
        let mut outcome = with_bound(1, Some(4.0), 8.0);
        outcome.bounds[0].unit = "messages/s";
        let table = bounds(&scenario(""), &[outcome]);
        assert!(table.contains("known, messages/s<") && table.contains(">8<"), "{table}");
    }

    fn with_bound(seed: u64, measured: Option<f64>, allowed: f64) -> Outcome {
        let is_held = measured.is_none_or(|measured| measured <= allowed);
        let bound = Bound { what: "every death is known".to_owned(), measured, allowed, unit: "s", is_held };
        Outcome { seed, bounds: vec![bound], ..Outcome::default() }
    }

    fn scenario(expect: &str) -> Scenario {
        let text =
            "title = \"A crash\"\nabout = \"A host dies.\"\nduration = \"60s\"\n[topology]\nnodes = 50\n";
        parse("crash", &format!("{text}{expect}")).expect("the scenario is complete")
    }
}
