//! What did not come as expected: once for each expectation, with the seeds and what each of them saw.

use std::collections::BTreeSet;

use super::number::{counted, escape};
use crate::outcome::{Failure, Outcome};
use crate::scenario::Scenario;

/// Most expectations that are told one by one.
const EXPECTATIONS_MAX: usize = 50;
/// Most different things that are told of one expectation.
const CASES_MAX: usize = 3;
/// Most seeds that are named at one of them.
const SEEDS_MAX: usize = 8;

/// One expectation with what was seen instead, in the order of the seeds.
struct Missed<'a> {
    line: Option<usize>,
    what: &'a str,
    cases: Vec<(&'a str, Vec<u64>)>,
}

/// Everything that did not come as expected, and how to see it again; nothing if all did.
pub(super) fn failures(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    let Some(first) = outcomes.iter().find(|outcome| !outcome.is_passed()) else {
        return String::new();
    };
    let all = missed(outcomes);
    let told: String = all.iter().take(EXPECTATIONS_MAX).map(|missed| missed.draw(outcomes.len())).collect();
    let more = match all.len().saturating_sub(EXPECTATIONS_MAX) {
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

/// All expectations that were not met, in the order of the file.
fn missed(outcomes: &[Outcome]) -> Vec<Missed<'_>> {
    let mut all: Vec<Missed<'_>> = Vec::new();
    for (outcome, failure) in every(outcomes) {
        let (what, says) = parted(outcome, failure);
        let known = all.iter().position(|missed| (missed.line, missed.what) == (failure.line, what));
        let at = known.unwrap_or_else(|| {
            all.push(Missed { line: failure.line, what, cases: Vec::new() });
            all.len() - 1
        });
        let cases = &mut all[at].cases;
        match cases.iter().position(|(known, _)| *known == says) {
            Some(known) => cases[known].1.push(outcome.seed),
            None => cases.push((says, vec![outcome.seed])),
        }
    }
    all.sort_by_key(|missed| missed.line);
    all
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

impl Missed<'_> {
    fn draw(&self, played: usize) -> String {
        let place = self.line.map_or_else(|| "always expected".to_owned(), |line| format!("line {line}"));
        let what = match self.what {
            "" => String::new(),
            what => format!("<strong>{}</strong> ", escape(what)),
        };
        let told: String =
            self.cases.iter().take(CASES_MAX).map(|(says, seeds)| case(says, seeds, played)).collect();
        format!("<li><span class=\"where\">{place}</span> {what}{told}{}</li>\n", self.more())
    }

    /// The seeds of what is not told.
    fn more(&self) -> String {
        let rest = self.cases.iter().skip(CASES_MAX).flat_map(|(_, seeds)| seeds.iter().copied());
        match rest.collect::<BTreeSet<u64>>() {
            seeds if seeds.is_empty() => String::new(),
            seeds => {
                let named = named(&seeds.into_iter().collect::<Vec<_>>());
                format!("<p class=\"soft\">Something like it with {named}.</p>")
            }
        }
    }
}

/// What happened, and with which seeds if several were played.
fn case(says: &str, seeds: &[u64], played: usize) -> String {
    let with = match played {
        1 => String::new(),
        _ => format!(" <span class=\"soft\">({})</span>", named(seeds)),
    };
    format!("<p>{}{with}</p>", escape(says))
}

/// `seed 3`, `seeds 3, 9 and 12 more`.
fn named(seeds: &[u64]) -> String {
    let names: Vec<String> = seeds.iter().take(SEEDS_MAX).map(u64::to_string).collect();
    let more = match seeds.len().saturating_sub(SEEDS_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let word = if seeds.len() == 1 { "seed" } else { "seeds" };
    format!("{word} {}{more}", names.join(", "))
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
        assert!(list.contains("with seeds 3, 4, 5, 6, 7, 8, 9, 10 and 9 more."), "{list}");
    }

    fn failed(seed: u64, says: &str) -> Outcome {
        let failure = Failure { line: Some(12), says: says.to_owned() };
        let bound = Bound {
            what: "every death is known".to_owned(),
            measured: None,
            allowed: 5.0,
            unit: "s",
            is_held: false,
        };
        Outcome { seed, failures: vec![failure], bounds: vec![bound], ..Outcome::default() }
    }

    fn scenario() -> Scenario {
        let text =
            "title = \"A crash\"\nabout = \"A host dies.\"\nduration = \"60s\"\n[topology]\nnodes = 50\n";
        parse("crash", text).expect("the scenario is complete")
    }
}
