//! How long it took: what share of the cases was over after which time, over all seeds.

use super::axis::Axis;
use super::chart::{Plot, figure, path, percent};
use super::number::{counted, escape, seconds};
use super::series::{climb, sorted};
use crate::outcome::{Outcome, Record, quantile};

/// From this place on the label of the late time stands left of its line.
const TURN: f64 = 0.66;
/// Up to this place there is no room for a label left of a line.
const ROOM: f64 = 0.36;
/// Pixels from one row of labels to the next.
const LANE_PX: usize = 16;

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
        chart("From a death to the first accusation", &first, &deaths),
        chart("From a death to each observer’s knowing", &known, &deaths),
        chart("From a change of health to each observer’s knowing", &spread, &Axis::over_times(&spread)),
    ]
    .concat();
    let side = if charts.is_empty() { charts } else { format!("<div class=\"side\">\n{charts}</div>\n") };
    side + &missing(&[
        (&first, "No death was followed by an accusation."),
        (&known, "No observer learned of a death."),
        (&spread, "No observer learned of a change of an endpoint’s health."),
    ])
}

/// What there is no chart of, in words.
fn missing(all: &[(&[f64], &str)]) -> String {
    let says: Vec<&str> = all.iter().filter(|(times, _)| times.is_empty()).map(|(_, says)| *says).collect();
    if says.is_empty() { String::new() } else { format!("<p class=\"nothing\">{}</p>\n", says.join(" ")) }
}

/// One chart; nothing if there are no times.
fn chart(title: &str, times: &[f64], axis: &Axis) -> String {
    let (Some(median), Some(late), Some(most)) = (quantile(times, 0.5), quantile(times, 0.99), times.last())
    else {
        return String::new();
    };
    let shares = Axis::from_zero(1.0, "share");
    let (cases, most) = (counted(times.len(), "case"), seconds(*most));
    let says = format!(
        "{title}, share of cases over time. {cases}: median {}, p99 {}, at most {most}.",
        seconds(median),
        seconds(late),
    );
    let plot = Plot { x: axis, y: &shares, height: 200, above: 2 * LANE_PX, says: &says };
    let body = plot.draw("", &path("line", &climb(times, axis, &shares)), &guides(median, late, axis));
    figure(title, &format!("{cases}, at most {most}."), &body)
}

/// A line through a place on the curve, with a label above the plot; rows count upwards.
struct Guide {
    name: &'static str,
    time: f64,
    share: f64,
    lane: usize,
    is_left: bool,
}

/// The median and the late time. No line crosses the other's label: that whose label points outwards has the
/// lower row.
fn guides(median: f64, late: f64, axis: &Axis) -> String {
    let is_turned = axis.place(late) > TURN;
    let is_median_left = is_turned && axis.place(median) > ROOM;
    let (low, high) = (0, 1);
    let (median_lane, late_lane) = if is_turned { (low, high) } else { (high, low) };
    let both = [
        Guide { name: "p50", time: median, share: 0.5, lane: median_lane, is_left: is_median_left },
        Guide { name: "p99", time: late, share: 0.99, lane: late_lane, is_left: is_turned },
    ];
    both.iter().map(|guide| guide.draw(axis)).collect()
}

impl Guide {
    fn draw(&self, axis: &Axis) -> String {
        let (x, y) = (percent(axis.place(self.time)), percent(1.0 - self.share));
        let (anchor, aside) = if self.is_left { ("end", -4) } else { ("start", 4) };
        let up = LANE_PX * self.lane;
        format!(
            "<line class=\"guide\" x1=\"{x}\" x2=\"{x}\" y1=\"-{}\" y2=\"100%\"/>\
             <circle class=\"dot\" cx=\"{x}\" cy=\"{y}\" r=\"3.5\"/>\
             <text class=\"figure\" x=\"{x}\" y=\"-{}\" dx=\"{aside}\" text-anchor=\"{anchor}\">{} {}</text>\n",
            up + 14,
            up + 5,
            self.name,
            escape(&seconds(self.time))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_where_there_is_room() {
        let axis = Axis::time(10.0);
        let check = |median: f64, late: f64, expect: [&str; 2]| {
            let drawn = guides(median, late, &axis);
            let anchors: Vec<&str> = drawn.split("text-anchor=\"").skip(1).map(|rest| &rest[..3]).collect();
            assert_eq!(anchors, expect, "{median} {late}");
        };
        check(1.0, 2.0, ["sta", "sta"]);
        check(1.0, 9.0, ["sta", "end"]);
        check(8.0, 9.0, ["end", "end"]);
    }
}
