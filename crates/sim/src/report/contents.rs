//! What a page of several scenarios holds: what failed first, each with a link to all about it.

use super::bounds::{tightest, used};
use super::number::{counted, escape, shorten};
use super::{Verdict, failures};
use crate::outcome::Outcome;
use crate::scenario::Scenario;

/// Most letters of a failure that are told here.
const LETTERS_MAX: usize = 160;

const LEGEND: &str =
    "<p class=\"remark\">The bars show how much of its tightest bound the worst seed used.</p>\n";

/// A scenario with its outcomes.
type Played = (Scenario, Vec<Outcome>);

/// How many passed, and lists of those that failed, were not played and passed.
pub(super) fn contents(runs: &[Played]) -> String {
    let of = |is_meant: fn(Verdict) -> bool| {
        let numbered = (1..).zip(runs).filter(|(_, (_, outcomes))| is_meant(Verdict::of(outcomes)));
        numbered.collect::<Vec<(usize, &Played)>>()
    };
    let failed = of(|verdict| matches!(verdict, Verdict::Failed { .. }));
    let passed = of(|verdict| verdict == Verdict::Passed);
    let unplayed = of(|verdict| verdict == Verdict::NotPlayed);
    let scenarios = counted(runs.len(), "scenario");
    format!(
        "<nav id=\"scenarios\" aria-label=\"Scenarios\">\n<p class=\"sum\">{} of {scenarios} passed.</p>\n{}{}{}\
         </nav>\n",
        passed.len(),
        list("failed", "Failed", "", &failed),
        list("unplayed", "Not played", "", &unplayed),
        list("passed", "Passed", LEGEND, &passed)
    )
}

fn list(class: &str, title: &str, legend: &str, runs: &[(usize, &Played)]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let entries: String = runs.iter().map(|(number, run)| entry(*number, run)).collect();
    format!("<h2 class=\"group\">{title}</h2>\n{legend}<ul class=\"contents {class}\">\n{entries}</ul>\n")
}

fn entry(number: usize, (scenario, outcomes): &Played) -> String {
    let verdict = Verdict::of(outcomes);
    let aside = match verdict {
        Verdict::Passed => tightest(scenario, outcomes).map(|share| used(share, false)).unwrap_or_default(),
        Verdict::Failed { failed, played } => {
            let says = escape(&shorten(failures::first(outcomes).unwrap_or_default(), LETTERS_MAX));
            let share = match played {
                1 => String::new(),
                _ => format!(" <span class=\"soft\">({failed} of {})</span>", counted(played, "seed")),
            };
            format!("<span class=\"says\">{says}{share}</span>")
        }
        Verdict::NotPlayed => String::new(),
    };
    format!(
        "<li><span class=\"sign\" aria-hidden=\"true\">{}</span> \
         <a href=\"#scenario-{number}\">{}</a> {aside}</li>\n",
        verdict.sign(),
        escape(&scenario.title)
    )
}
