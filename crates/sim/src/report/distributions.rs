//! How long it took: what share of the cases was over after which time, over all seeds.

use super::axis::Axis;
use super::chart::{Plot, figure, nothing, path, percent};
use super::number::{counted, escape, seconds};
use super::series::{climb, quantile, sorted};
use crate::outcome::{Outcome, Record};

/// From this place on a label stands left of its mark.
const TURN: f64 = 0.6;

/// All charts of how long it took.
pub(super) fn distributions(outcomes: &[Outcome]) -> String {
    let over = |times: fn(&Record) -> &[f64]| {
        sorted(outcomes.iter().flat_map(|outcome| times(&outcome.record).iter().copied()))
    };
    let first = over(|record| record.first_accusation_s.as_slice());
    let known = over(|record| record.detection_s.as_slice());
    let spread = over(|record| record.dissemination_s.as_slice());
    // The first two are compared with each other, so they share an axis.
    let deaths = Axis::over_times(&sorted([first.as_slice(), &known].concat()));
    let charts = [
        chart(
            "From a death to the first accusation",
            "no death was followed by an accusation",
            &first,
            &deaths,
        ),
        chart("From a death to each observer's knowing", "no observer learned of a death", &known, &deaths),
        chart(
            "From a change of health to each observer's knowing",
            "no observer learned of a change of an endpoint's health",
            &spread,
            &Axis::over_times(&spread),
        ),
    ];
    format!("<div class=\"side\">\n{}</div>\n", charts.concat())
}

fn chart(title: &str, nothing_else: &str, times: &[f64], axis: &Axis) -> String {
    let (Some(median), Some(late), Some(most)) = (quantile(times, 0.5), quantile(times, 0.99), times.last())
    else {
        return nothing(title, &format!("Nothing was measured: {nothing_else}."));
    };
    let shares = Axis::from_zero(1.0, "share");
    let note = format!(
        "{}: median {}, p99 {}, at most {}.",
        counted(times.len(), "case"),
        seconds(median),
        seconds(late),
        seconds(*most)
    );
    let guides = guide("p50", median, 0.5, 92, axis) + &guide("p99", late, 0.99, 76, axis);
    let says = format!("{title}, share of cases over time. {note}");
    let plot = Plot { x: axis, y: &shares, height: 200, above: 0, says: &says };
    figure(title, &note, &plot.draw("", &path("line", &climb(times, axis, &shares)), &guides))
}

/// A line from the curve to the axis with a label beside it. Right of the median there is always room under the
/// curve, so labels stand at the bottom, each at its own height.
fn guide(name: &str, time: f64, share: f64, height_percent: u32, axis: &Axis) -> String {
    let place = axis.place(time);
    let (x, y) = (percent(place), percent(1.0 - share));
    let (anchor, aside) = if place > TURN { ("end", -5) } else { ("start", 5) };
    format!(
        "<line class=\"guide\" x1=\"{x}\" x2=\"{x}\" y1=\"{y}\" y2=\"100%\"/>\
         <circle class=\"dot\" cx=\"{x}\" cy=\"{y}\" r=\"3.5\"/>\
         <text class=\"figure\" x=\"{x}\" y=\"{height_percent}%\" dx=\"{aside}\" text-anchor=\"{anchor}\">\
         {name} {}</text>\n",
        escape(&seconds(time))
    )
}
