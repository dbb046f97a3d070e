//! Tables, and the one of all metrics over all seeds.

use std::collections::BTreeSet;

use super::number::{escape, unit_of, with_unit};
use super::series::sorted;
use crate::outcome::{Outcome, quantile};

/// Every metric over all seeds.
pub(super) fn metrics(outcomes: &[Outcome]) -> String {
    let names: BTreeSet<&'static str> =
        outcomes.iter().flat_map(|outcome| outcome.metrics.keys().copied()).collect();
    if names.is_empty() {
        return "<h3>Metrics</h3>\n<p class=\"nothing\">Nothing was measured.</p>\n".to_owned();
    }
    let rows: String = names.into_iter().map(|name| metric_row(name, outcomes)).collect();
    let heads: &[&str] = if outcomes.len() > 1 { &["Min", "Median", "Max"] } else { &["Value"] };
    format!("<h3>Metrics</h3>\n{}", table("metrics", "Metric", heads, &rows))
}

fn metric_row(name: &str, outcomes: &[Outcome]) -> String {
    let measured = sorted(outcomes.iter().filter_map(|outcome| outcome.metrics.get(name).copied()));
    let unit = unit_of(name);
    let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| with_unit(value, unit));
    let cells = if outcomes.len() > 1 {
        let least = cell("Min", &figure(measured.first().copied()));
        let median = cell("Median", &figure(quantile(&measured, 0.5)));
        least + &median + &cell("Max", &figure(measured.last().copied()))
    } else {
        cell("Value", &figure(measured.first().copied()))
    };
    // A long name may break where its words do.
    let name = escape(name).replace('_', "_<wbr>");
    format!("<tr><th scope=\"row\"><code>{name}</code></th>{cells}</tr>\n")
}

/// A cell that says on a narrow screen what it is, where the head of the table is not shown.
pub(super) fn cell(label: &str, text: &str) -> String {
    format!("<td data-label=\"{}\">{}</td>", escape(label), escape(text))
}

/// A table whose first column names the rows; `rows` is HTML.
pub(super) fn table(class: &str, first: &str, heads: &[&str], rows: &str) -> String {
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{}</th>", escape(head))).collect();
    format!(
        "<table class=\"{class}\">\n<thead><tr><th scope=\"col\">{}</th>{heads}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n",
        escape(first)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

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
