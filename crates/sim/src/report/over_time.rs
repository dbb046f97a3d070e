//! Charts over time of one run. All of them share the axis across, so that they can be read one under another.

use super::axis::Axis;
use super::chart::{Plot, figure, key, nothing, path};
use super::faults::Faults;
use super::number::{seconds, with_unit};
use super::series::{area, below_stairs, line, stairs, steps, thin, values};
use crate::outcome::{Band, Outcome, Record, TrafficPoint, quantile};
use crate::scenario::Scenario;

const MEMBERS: &str = "Members seen";
const WRONG: &str = "Look-ups answered wrongly";

/// All charts over time of a run.
pub(super) fn over_time(scenario: &Scenario, outcome: &Outcome) -> String {
    let Record { members_seen, wrong_share, traffic, faults, .. } = &outcome.record;
    let planned_s = scenario.duration.as_secs_f64();
    let is_played = outcome.virtual_s.is_finite() && outcome.virtual_s > 0.0;
    let time = Axis::time(if is_played { outcome.virtual_s } else { planned_s });
    let faults = Faults::new(faults);
    let shades = faults.shades(&time);
    let sent = |value: fn(&TrafficPoint) -> f64| thin(traffic.iter().map(|point| (point.at_s, value(point))));
    [
        members(members_seen, &time, &faults),
        wrong(&thin(wrong_share.iter().copied()), &time, &shades),
        rate("Bytes sent per host", "B/s", &sent(|point| point.bytes_per_s), &time, &shades),
        rate("Messages sent per host", "/s", &sent(|point| point.messages_per_s), &time, &shades),
        faults.list(&time),
    ]
    .concat()
}

/// What the observers count and what is true, with the faults by name above.
fn members(bands: &[Band], time: &Axis, faults: &Faults<'_>) -> String {
    let over = |value: fn(&Band) -> f64| thin(bands.iter().map(|band| (band.at_s, value(band))));
    let (low, high) = (over(|band| band.min), over(|band| band.max));
    let (median, truth) = (over(|band| band.median), over(|band| band.truth));
    let all = values(&[low.as_slice(), &high, &median, &truth].concat());
    let (Some(least), Some(most)) = (all.first(), all.last()) else {
        return nothing(MEMBERS, "Nothing was measured: no observer was asked whom it counts.");
    };
    let counts = Axis::around(*least, *most);
    let (labels, above) = faults.labels(time);
    let says = format!(
        "Members seen over time: from {} to {}; at the end {} by the median observer, {} in truth",
        with_unit(*least, ""),
        with_unit(*most, ""),
        last(&median),
        last(&truth)
    );
    let lines = [
        path("band", &area(&high, &low, time, &counts)),
        path("line", &line(&median, time, &counts)),
        path("truth", &steps(&truth, time, &counts)),
    ]
    .concat();
    let plot = Plot { x: time, y: &counts, height: 220, above, says: &says };
    figure(MEMBERS, &members_note(&counts), &plot.draw(&faults.shades(time), &lines, &labels))
}

/// What the lines are, and where the axis begins if that could mislead.
fn members_note(counts: &Axis) -> String {
    let low = counts.low();
    let begin =
        if low > 0.0 { format!(" The axis begins at {}.", with_unit(low, "")) } else { String::new() };
    format!(
        "{} {} {}{begin}",
        key("line", "the median observer,"),
        key("band", "all observers, from the least to the most,"),
        key("truth", "the truth."),
    )
}

fn last(points: &[(f64, f64)]) -> String {
    points.last().map_or_else(|| "unknown".to_owned(), |(_, value)| with_unit(*value, ""))
}

fn wrong(points: &[(f64, f64)], time: &Axis, shades: &str) -> String {
    // Of equal ones the last counts: seen from the end, that is the first.
    let Some(peak) = points.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1)) else {
        return nothing(WRONG, "Nothing was measured: nobody looked anything up.");
    };
    if peak.1 <= 0.0 {
        return nothing(WRONG, "None at any time.");
    }
    let note = format!("At most {}, at {}.", with_unit(peak.1, "share"), seconds(peak.0));
    let shares = Axis::from_zero(peak.1, "share");
    let says = format!("Share of look-ups answered wrongly over time. {note}");
    let plot = Plot { x: time, y: &shares, height: 140, above: 0, says: &says };
    figure(WRONG, &note, &plot.draw(shades, &filled(points, time, &shares), ""))
}

/// What a host sends in the mean.
fn rate(title: &str, unit: &'static str, points: &[(f64, f64)], time: &Axis, shades: &str) -> String {
    let sorted = values(points);
    let (Some(median), Some(most)) = (quantile(&sorted, 0.5), sorted.last()) else {
        return nothing(title, "Nothing was measured.");
    };
    let axis = Axis::from_zero(*most, unit);
    let per = if unit == "/s" { "per second".to_owned() } else { axis.unit.clone() };
    let note = format!(
        "Mean over hosts; over time the median is {}, the most {}.",
        with_unit(median, unit),
        with_unit(*most, unit)
    );
    let says = format!("{title} over time. {note}");
    let plot = Plot { x: time, y: &axis, height: 120, above: 0, says: &says };
    let lines =
        path("band", &below_stairs(points, time, &axis)) + &path("line", &stairs(points, time, &axis));
    figure(&format!("{title}, {per}"), &note, &plot.draw(shades, &lines, ""))
}

/// A line with what lies below it.
fn filled(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let ends: Vec<(f64, f64)> =
        points.first().into_iter().chain(points.last()).map(|(at, _)| (*at, 0.0)).collect();
    path("band", &area(points, &ends, x, y)) + &path("line", &line(points, x, y))
}
