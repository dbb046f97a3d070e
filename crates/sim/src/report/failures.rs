//! What did not come as expected: once for each expectation, with the seeds and what each of them saw.

use std::collections::BTreeMap;

use super::number::{counted, escape};
use crate::outcome::{Failure, Outcome};
use crate::scenario::Scenario;

/// Most expectations that are told one by one.
const EXPECTATIONS_MAX: usize = 50;
/// Most different things that are told of one expectation.
const CASES_MAX: usize = 5;
/// Most seeds that are named at one of them.
const SEEDS_MAX: usize = 8;

/// What went wrong with one expectation, and with which seeds.
type Cases<'a> = BTreeMap<&'a str, Vec<u64>>;

/// Everything that did not come as expected, and how to see it again; nothing if all did.
pub(super) fn failures(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    let Some(first) = outcomes.iter().find(|outcome| !outcome.is_passed()) else {
        return String::new();
    };
    let mut expectations: BTreeMap<(Option<usize>, &str), Cases<'_>> = BTreeMap::new();
    for (outcome, failure) in every(outcomes) {
        let (what, says) = parted(outcome, failure);
        let seeds = expectations.entry((failure.line, what)).or_default().entry(says).or_default();
        seeds.push(outcome.seed);
    }
    let told: String = expectations
        .iter()
        .take(EXPECTATIONS_MAX)
        .map(|((line, what), cases)| expectation(*line, what, cases, outcomes.len()))
        .collect();
    let more = match expectations.len().saturating_sub(EXPECTATIONS_MAX) {
        0 => String::new(),
        more => format!("<p>And {}.</p>\n", counted(more, "more failure")),
    };
    format!(
        "<h3>Failures</h3>\n<ul class=\"failures\">\n{told}</ul>\n{more}\
         <p class=\"remark\">To see one again, step by step: \
         <code>ringmesh sim run {}.toml --seed {} --transcript</code></p>\n",
        escape(&scenario.name),
        first.seed
    )
}

/// The first thing that went wrong, in short.
pub(super) fn first(outcomes: &[Outcome]) -> Option<&str> {
    every(outcomes).next().map(|(_, failure)| failure.says.as_str())
}

fn every(outcomes: &[Outcome]) -> impl Iterator<Item = (&Outcome, &Failure)> {
    outcomes.iter().flat_map(|outcome| outcome.failures.iter().map(move |failure| (outcome, failure)))
}

/// The expectation's words, if the failure begins with them, and the rest.
fn parted<'a>(outcome: &'a Outcome, failure: &'a Failure) -> (&'a str, &'a str) {
    let rest = |what: &'a str| Some((what, failure.says.strip_prefix(what)?.strip_prefix(": ")?));
    let found = outcome.bounds.iter().find_map(|bound| rest(bound.what.as_str()));
    found.unwrap_or(("", failure.says.as_str()))
}

fn expectation(line: Option<usize>, what: &str, cases: &Cases<'_>, played: usize) -> String {
    let place = line.map_or_else(|| "always expected".to_owned(), |line| format!("line {line}"));
    let what = if what.is_empty() { String::new() } else { format!("<strong>{}</strong> ", escape(what)) };
    let told: String = cases.iter().take(CASES_MAX).map(|(says, seeds)| case(says, seeds, played)).collect();
    let more = match cases.len().saturating_sub(CASES_MAX) {
        0 => String::new(),
        more => format!("<p class=\"soft\">And {more} more.</p>"),
    };
    format!("<li><span class=\"where\">{place}</span> {what}{told}{more}</li>\n")
}

/// What happened, and with which seeds if there were several.
fn case(says: &str, seeds: &[u64], played: usize) -> String {
    let named: Vec<String> = seeds.iter().take(SEEDS_MAX).map(u64::to_string).collect();
    let more = match seeds.len().saturating_sub(SEEDS_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let word = if seeds.len() == 1 { "seed" } else { "seeds" };
    let named = match played {
        1 => String::new(),
        _ => format!(" <span class=\"soft\">({word} {}{more})</span>", named.join(", ")),
    };
    format!("<p>{}{named}</p>", escape(says))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Bound;
    use crate::scenario::parse;

    #[test]
    fn the_same_failure_is_told_once_with_its_seeds() {
        let list = failures(&scenario(), &[failed(3, "node-1 <is> served"), failed(9, "node-1 <is> served")]);
        assert_eq!(list.matches("<li>").count(), 1);
        assert!(
            list.contains("line 12") && list.contains("&lt;is&gt;") && list.contains("seeds 3, 9"),
            "{list}"
        );
        assert!(list.contains("crash.toml --seed 3 "), "{list}");
        assert_eq!(failures(&scenario(), &[Outcome::default()]), "");
    }

    #[test]
    fn failures_of_one_expectation_stand_together() {
        let outcomes: Vec<Outcome> = (0..20)
            .map(|seed| failed(seed, &format!("every death is known: node-{seed} never knew")))
            .collect();
        let list = failures(&scenario(), &outcomes);
        assert_eq!(list.matches("<li>").count(), 1);
        assert_eq!(list.matches("every death is known").count(), 1);
        assert_eq!(list.matches("never knew").count(), CASES_MAX);
        assert!(list.contains("And 15 more."), "{list}");
    }

    fn failed(seed: u64, says: &str) -> Outcome {
        let failure = Failure { line: Some(12), says: says.to_owned() };
        let bound =
            Bound { what: "every death is known".to_owned(), measured: None, allowed: 5.0, unit: "s" };
        Outcome { seed, failures: vec![failure], bounds: vec![bound], ..Outcome::default() }
    }

    fn scenario() -> Scenario {
        let text =
            "title = \"A crash\"\nabout = \"A host dies.\"\nduration = \"60s\"\n[topology]\nnodes = 50\n";
        parse("crash", text).expect("the scenario is complete")
    }
}
