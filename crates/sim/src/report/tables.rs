//! What came of it in figures: failures, bounds and metrics over all seeds.

use std::collections::{BTreeMap, BTreeSet};

use super::number::{counted, escape, unit_of, with_unit};
use super::series::{quantile, sorted};
use crate::outcome::{Bound, Outcome};

/// Most failures that are told one by one.
const FAILURES_MAX: usize = 50;
/// Most seeds that are named at one failure.
const SEEDS_MAX: usize = 8;

/// What did not come as expected, with the seeds in which it did not; nothing if all did.
pub(super) fn failures(outcomes: &[Outcome]) -> String {
    let mut seeds: BTreeMap<(Option<usize>, &str), Vec<u64>> = BTreeMap::new();
    for outcome in outcomes {
        for failure in &outcome.failures {
            seeds.entry((failure.line, failure.says.as_str())).or_default().push(outcome.seed);
        }
    }
    if seeds.is_empty() {
        return String::new();
    }
    let told: String =
        seeds.iter().take(FAILURES_MAX).map(|((line, says), seeds)| failure(*line, says, seeds)).collect();
    let more = match seeds.len().saturating_sub(FAILURES_MAX) {
        0 => String::new(),
        more => format!("<p>And {}.</p>\n", counted(more, "more failure")),
    };
    format!("<h3>Failures</h3>\n<ul class=\"failures\">\n{told}</ul>\n{more}")
}

fn failure(line: Option<usize>, says: &str, seeds: &[u64]) -> String {
    let expected = line.map_or_else(|| "always expected".to_owned(), |line| format!("line {line}"));
    let named: Vec<String> = seeds.iter().take(SEEDS_MAX).map(u64::to_string).collect();
    let more = match seeds.len().saturating_sub(SEEDS_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let word = if seeds.len() == 1 { "seed" } else { "seeds" };
    format!(
        "<li><span class=\"where\">{expected}</span> {} <span class=\"soft\">({word} {}{more})</span></li>\n",
        escape(says),
        named.join(", ")
    )
}

/// What was allowed and what was measured, over all seeds.
pub(super) fn bounds(outcomes: &[Outcome]) -> String {
    let Some(model) =
        outcomes.iter().map(|outcome| outcome.bounds.as_slice()).max_by_key(|bounds| bounds.len())
    else {
        return String::new();
    };
    if model.is_empty() {
        return "<h3>Bounds</h3>\n<p class=\"nothing\">Nothing that is expected here has a figure.</p>\n"
            .to_owned();
    }
    let row = |(index, bound): (usize, &Bound)| {
        let measured = sorted(outcomes.iter().filter_map(|outcome| outcome.bounds.get(index)?.measured));
        bound_row(bound, &measured, outcomes.len())
    };
    let rows: String = model.iter().enumerate().map(row).collect();
    let heads = ["Allowed", "Median", "p99", "Max", "Used by the worst seed"];
    format!("<h3>Bounds</h3>\n{}", table("bounds", "Expectation", &heads, &rows))
}

fn bound_row(bound: &Bound, measured: &[f64], seeds: usize) -> String {
    let figure =
        |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| with_unit(value, bound.unit));
    let missing = match seeds - measured.len() {
        0 => String::new(),
        missing => format!(" <span class=\"soft\">(no figure from {})</span>", counted(missing, "seed")),
    };
    let most = measured.last().copied();
    let cells = [
        cell("Allowed", &figure(Some(bound.allowed))),
        cell("Median", &figure(quantile(measured, 0.5))),
        cell("p99", &figure(quantile(measured, 0.99))),
        cell("Max", &figure(most)),
        most.map_or_else(|| cell("Used", "–"), |most| used(most, bound.allowed)),
    ];
    format!("<tr><th scope=\"row\">{}{missing}</th>{}</tr>\n", escape(&bound.what), cells.concat())
}

/// How much of a bound was used, as a bar and in per cent.
fn used(most: f64, allowed: f64) -> String {
    let share = if most <= 0.0 { 0.0 } else { most / allowed };
    let is_within = most <= allowed;
    let class = if is_within { "fill" } else { "fill over" };
    let width = if share.is_finite() && share >= 0.0 { 100.0 * share.min(1.0) } else { 100.0 };
    // Of a bound of nothing there is no share, and far beyond one it says nothing.
    let is_share = is_within || (share.is_finite() && share < 100.0 && allowed > 0.0);
    let text = if is_share { with_unit(share, "share") } else { "exceeded".to_owned() };
    format!(
        "<td class=\"used\" data-label=\"Used\"><span class=\"track\">\
         <span class=\"{class}\" style=\"width:{width:.1}%\"></span></span> {text}</td>"
    )
}

/// Every metric over all seeds.
pub(super) fn metrics(outcomes: &[Outcome]) -> String {
    let names: BTreeSet<&'static str> =
        outcomes.iter().flat_map(|outcome| outcome.metrics.keys().copied()).collect();
    if names.is_empty() {
        return "<h3>Metrics</h3>\n<p class=\"nothing\">Nothing was measured.</p>\n".to_owned();
    }
    let rows: String = names.into_iter().map(|name| metric_row(name, outcomes)).collect();
    format!("<h3>Metrics</h3>\n{}", table("metrics", "Metric", &["Median", "Min", "Max"], &rows))
}

fn metric_row(name: &str, outcomes: &[Outcome]) -> String {
    let measured = sorted(outcomes.iter().filter_map(|outcome| outcome.metrics.get(name).copied()));
    let unit = unit_of(name);
    let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| with_unit(value, unit));
    let cells = [
        cell("Median", &figure(quantile(&measured, 0.5))),
        cell("Min", &figure(measured.first().copied())),
        cell("Max", &figure(measured.last().copied())),
    ];
    // A long name may break where its words do.
    let name = escape(name).replace('_', "_<wbr>");
    format!("<tr><th scope=\"row\"><code>{name}</code></th>{}</tr>\n", cells.concat())
}

/// A cell that says on a narrow screen what it is, where the head of the table is not shown.
fn cell(label: &str, text: &str) -> String {
    format!("<td data-label=\"{}\">{}</td>", escape(label), escape(text))
}

fn table(class: &str, first: &str, heads: &[&str], rows: &str) -> String {
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{}</th>", escape(head))).collect();
    format!(
        "<table class=\"{class}\">\n<thead><tr><th scope=\"col\">{}</th>{heads}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n",
        escape(first)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Failure;

    fn with_bound(seed: u64, measured: Option<f64>, allowed: f64) -> Outcome {
        let bound = Bound { what: "every death is known".to_owned(), measured, allowed, unit: "s" };
        Outcome { seed, bounds: vec![bound], ..Outcome::default() }
    }

    #[test]
    fn bounds_are_summed_up_over_seeds() {
        let outcomes =
            [with_bound(1, Some(2.0), 10.0), with_bound(2, Some(5.0), 10.0), with_bound(3, None, 10.0)];
        let table = bounds(&outcomes);
        assert!(table.contains("data-label=\"Median\">2\u{a0}s<"), "{table}");
        assert!(table.contains("data-label=\"Max\">5\u{a0}s<"), "{table}");
        assert!(table.contains("width:50.0%"), "{table}");
        assert!(table.contains("no figure from 1\u{a0}seed"), "{table}");
    }

    #[test]
    fn what_goes_beyond_a_bound_is_marked() {
        assert!(used(13.0, 10.0).contains("fill over\" style=\"width:100.0%\"></span></span> 130%"));
        assert!(used(1.0, 0.0).contains("exceeded"));
        assert!(used(0.0, 0.0).contains("class=\"fill\" style=\"width:0.0%\"></span></span> 0%"));
    }

    #[test]
    fn the_same_failure_is_told_once_with_its_seeds() {
        let failed = |seed| {
            let failure = Failure { line: Some(12), says: "node-1 <is> served".to_owned() };
            Outcome { seed, failures: vec![failure], ..Outcome::default() }
        };
        let list = failures(&[failed(3), failed(9)]);
        assert_eq!(list.matches("<li>").count(), 1);
        assert!(
            list.contains("line 12") && list.contains("&lt;is&gt;") && list.contains("seeds 3, 9"),
            "{list}"
        );
        assert_eq!(failures(&[Outcome::default()]), "");
    }

    #[test]
    fn metrics_are_summed_up_over_seeds() {
        let with =
            |value| Outcome { metrics: BTreeMap::from([("wrong_share", value)]), ..Outcome::default() };
        let table = metrics(&[with(0.01), with(f64::NAN), with(0.03)]);
        assert!(table.contains("wrong_<wbr>share"), "{table}");
        assert!(table.contains("data-label=\"Max\">3%<"), "{table}");
        assert!(!table.contains("NaN"), "{table}");
    }
}
