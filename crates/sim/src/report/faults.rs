//! What was done to the hosts, by time: as shades behind other charts, as labels above them, and as a list
//! with bars.
//!
//! Marks that say the same share a number and a line of the list.

use core::cmp::Ordering;

use super::axis::Axis;
use super::chart::{figure, moments, nothing, percent};
use super::number::{counted, escape, seconds, shorten};
use crate::outcome::FaultMark;

/// Most marks that are drawn in one chart.
const MARKS_MAX: usize = 300;
/// Most lines of the list.
const KINDS_MAX: usize = 60;
/// Rows of labels above a chart, at most.
const LANES_MAX: usize = 3;
/// Pixels from one row of labels to the next.
const LANE_PX: usize = 16;
/// Pixels of a letter, rather too many than too few.
const LETTER_PX: f64 = 7.0;
/// A plot has at least so many pixels in a wide window, and in the narrowest.
const WIDE_PX: f64 = 600.0;
const NARROW_PX: f64 = 230.0;

const TITLE: &str = "What was done";

/// What was done, sorted out for drawing.
pub(super) struct Faults<'a> {
    kinds: Vec<Kind<'a>>,
    /// How many marks are not drawn because there are too many.
    hidden: usize,
}

/// Marks that say the same.
struct Kind<'a> {
    what: &'a str,
    marks: Vec<Mark>,
}

/// From when to when; equal if it was a moment.
#[derive(Clone, Copy)]
struct Mark {
    from_s: f64,
    until_s: f64,
}

/// A label in a row above a chart; rows count upwards.
struct Label {
    lane: usize,
    place: f64,
    is_left: bool,
    text: String,
    /// From where to where the text stands.
    room: (f64, f64),
}

impl<'a> Faults<'a> {
    pub(super) fn new(marks: &'a [FaultMark]) -> Self {
        let finite: Vec<&FaultMark> = marks.iter().filter(|mark| mark.from_s.is_finite()).collect();
        let mut kinds: Vec<Kind<'a>> = Vec::new();
        let mut hidden = finite.len().saturating_sub(MARKS_MAX);
        for mark in finite.into_iter().take(MARKS_MAX) {
            let lasted = mark.until_s.filter(|until| until.is_finite() && *until > mark.from_s);
            let drawn = Mark { from_s: mark.from_s, until_s: lasted.unwrap_or(mark.from_s) };
            match kinds.iter().position(|kind| kind.what == mark.what) {
                Some(known) => kinds[known].marks.push(drawn),
                None if kinds.len() < KINDS_MAX => kinds.push(Kind { what: &mark.what, marks: vec![drawn] }),
                None => hidden += 1,
            }
        }
        Self { kinds, hidden }
    }

    /// Shades for what lasted, and a line where each thing began.
    pub(super) fn shades(&self, axis: &Axis) -> String {
        let of_kind = |kind: &Kind<'_>| {
            let title = escape(&shorten(kind.what, 80));
            kind.marks.iter().map(|mark| mark.shade(axis, &title)).collect::<String>()
        };
        self.kinds.iter().map(of_kind).collect()
    }

    /// Labels above a chart, and how many pixels they need: words where there is room, otherwise
    /// the first of them or a number.
    pub(super) fn labels(&self, axis: &Axis) -> (String, usize) {
        let wide = self.arrange(axis, WIDE_PX, |number, what| {
            let verb = what.split(' ').next().unwrap_or_default();
            vec![shorten(&format!("{number} {what}"), 32), format!("{number} {verb}"), number.to_string()]
        });
        let narrow = self.arrange(axis, NARROW_PX, |number, _| vec![number.to_string()]);
        let lanes = wide.iter().chain(&narrow).map(|label| label.lane + 1).max().unwrap_or(0);
        let drawn = |labels: &[Label]| labels.iter().map(Label::draw).collect::<String>();
        let both = format!(
            "<g class=\"label wide\">{}</g>\n<g class=\"label narrow\">{}</g>\n",
            drawn(&wide),
            drawn(&narrow)
        );
        (both, LANE_PX * lanes)
    }

    /// The list, with a bar for each mark on the axis that other charts have.
    pub(super) fn list(&self, axis: &Axis) -> String {
        if self.kinds.is_empty() {
            return nothing(TITLE, "Nothing was done to the hosts.");
        }
        let lines: String = self.kinds.iter().map(|kind| kind.line(axis)).collect();
        let hidden = match self.hidden {
            0 => String::new(),
            hidden => format!(" {} not shown: there are too many.", counted(hidden, "more mark")),
        };
        let says = format!("When {} happened", counted(self.kinds.len(), "thing"));
        let body = format!(
            "<div class=\"frame\"><div class=\"stage\">\n\
             <svg class=\"plot behind\" width=\"100%\" height=\"100%\" role=\"img\" aria-label=\"{says}\">\
             <title>{says}</title>\n{}</svg>\n<ol class=\"faults\">\n{lines}</ol>\n</div></div>\n",
            moments(axis)
        );
        figure(TITLE, &format!("Numbered as above the first chart.{hidden}"), &body)
    }

    /// Finds room for a label of each kind at its first mark: the first of `texts` that fits is taken, or none.
    /// The latest come first: then lines of earlier ones pass left of them on their way up.
    fn arrange(&self, axis: &Axis, width_px: f64, texts: fn(usize, &str) -> Vec<String>) -> Vec<Label> {
        let mut labels: Vec<Label> = Vec::new();
        for (index, kind) in self.kinds.iter().enumerate().rev() {
            let place = kind.marks.first().map_or(0.0, |mark| axis.place(mark.from_s));
            for text in texts(index + 1, kind.what) {
                let mut label = Label::new(place, text, width_px);
                let is_free = |lane: &usize| labels.iter().all(|other| !label.is_in_the_way(*lane, other));
                if let Some(lane) = (0..LANES_MAX).find(is_free) {
                    label.lane = lane;
                    labels.push(label);
                    break;
                }
            }
        }
        labels
    }
}

impl Kind<'_> {
    fn line(&self, axis: &Axis) -> String {
        let bars: String = self.marks.iter().map(|mark| mark.bar(axis)).collect();
        format!(
            "<li><span class=\"what\">{} <span class=\"soft\">{}</span></span>\
             <span class=\"track\">{bars}</span></li>\n",
            escape(&shorten(self.what, 300)),
            self.when()
        )
    }

    /// In words, when it was.
    fn when(&self) -> String {
        match self.marks.as_slice() {
            [] => String::new(),
            [mark] if mark.until_s > mark.from_s => {
                format!("from {} to {}", seconds(mark.from_s), seconds(mark.until_s))
            }
            [mark] => format!("at {}", seconds(mark.from_s)),
            [first, .., last] => {
                let count = self.marks.len();
                format!("{count} times from {} to {}", seconds(first.from_s), seconds(last.until_s))
            }
        }
    }
}

impl Mark {
    fn shade(self, axis: &Axis, title: &str) -> String {
        let (from, until) = (axis.place(self.from_s), axis.place(self.until_s));
        let x = percent(from);
        let width = percent(until - from);
        let begin = format!(
            "<line class=\"moment\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"100%\"><title>{title}</title></line>\n"
        );
        if until > from {
            let shade = format!("<rect class=\"shade\" x=\"{x}\" y=\"0\" width=\"{width}\" height=\"100%\">");
            format!("{shade}<title>{title}</title></rect>{begin}")
        } else {
            begin
        }
    }

    fn bar(self, axis: &Axis) -> String {
        let (from, until) = (axis.place(self.from_s), axis.place(self.until_s));
        format!(
            "<span class=\"bar\" style=\"left:{};width:{}\"></span>",
            percent(from),
            percent(until - from)
        )
    }
}

impl Label {
    /// In the lowest row, right of its mark if there is room.
    fn new(place: f64, text: String, width_px: f64) -> Self {
        let width = (LETTER_PX * text.chars().count() as f64 + 12.0) / width_px;
        let is_left = place + width > 1.0;
        let room = if is_left { (place - width, place) } else { (place, place + width) };
        Self { lane: 0, place, is_left, text, room }
    }

    /// Whether, in this row, it would overlap another or one's line would cross the other's text.
    fn is_in_the_way(&self, lane: usize, other: &Self) -> bool {
        let is_crossed = |text: &Self, line: &Self| text.room.0 < line.place && line.place < text.room.1;
        match lane.cmp(&other.lane) {
            Ordering::Equal => self.room.0 < other.room.1 && other.room.0 < self.room.1,
            Ordering::Less => is_crossed(self, other),
            Ordering::Greater => is_crossed(other, self),
        }
    }

    fn draw(&self) -> String {
        let x = percent(self.place);
        let (anchor, aside) = if self.is_left { ("end", -4) } else { ("start", 4) };
        let up = LANE_PX * self.lane;
        format!(
            "<line class=\"moment\" x1=\"{x}\" x2=\"{x}\" y1=\"-{}\" y2=\"0\"/>\
             <text x=\"{x}\" y=\"-{}\" dx=\"{aside}\" text-anchor=\"{anchor}\">{}</text>",
            up + 14,
            up + 5,
            escape(&self.text)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(from_s: f64, until_s: Option<f64>, what: &str) -> FaultMark {
        FaultMark { from_s, until_s, what: what.to_owned() }
    }

    #[test]
    fn marks_that_say_the_same_share_a_line() {
        let marks = [mark(1.0, None, "crash"), mark(2.0, Some(4.0), "split"), mark(5.0, None, "crash")];
        let list = Faults::new(&marks).list(&Axis::time(10.0));
        assert_eq!(list.matches("<li>").count(), 2);
        assert_eq!(list.matches("class=\"bar\"").count(), 3);
        assert!(list.contains("2 times from 1\u{a0}s to 5\u{a0}s"), "{list}");
        assert!(list.contains("left:20.00%;width:20.00%"), "{list}");
    }

    #[test]
    fn labels_that_would_overlap_stand_in_rows() {
        let marks =
            [mark(1.0, None, "a"), mark(1.01, None, "b"), mark(1.02, None, "c"), mark(1.03, None, "d")];
        let faults = Faults::new(&marks);
        let labels = faults.arrange(&Axis::time(10.0), WIDE_PX, |number, _| vec![number.to_string()]);
        assert_eq!(
            labels.iter().map(|label| label.lane).collect::<Vec<_>>(),
            [0, 1, 2],
            "the first finds no room"
        );
    }

    #[test]
    fn no_line_crosses_a_label() {
        let marks = [mark(2.5, None, "clock node-5"), mark(3.0, Some(3.2), "restart node-5")];
        let faults = Faults::new(&marks);
        let labels = faults.arrange(&Axis::time(10.0), WIDE_PX, |_, what| vec![what.to_owned()]);
        let lanes: Vec<(&str, usize)> =
            labels.iter().map(|label| (label.text.as_str(), label.lane)).collect();
        assert_eq!(lanes, [("restart node-5", 0), ("clock node-5", 1)]);
    }

    #[test]
    fn a_label_at_the_end_stands_left_of_its_mark() {
        let marks = [mark(9.9, None, "a late crash of many hosts")];
        let (labels, _) = Faults::new(&marks).labels(&Axis::time(10.0));
        assert!(labels.contains("text-anchor=\"end\""), "{labels}");
    }

    #[test]
    fn too_many_marks_are_counted_and_not_drawn() {
        let marks: Vec<FaultMark> = (0..1_000).map(|n| mark(f64::from(n), None, "flap")).collect();
        let list = Faults::new(&marks).list(&Axis::time(1_000.0));
        assert_eq!(list.matches("class=\"bar\"").count(), MARKS_MAX);
        assert!(list.contains("700\u{a0}more marks not shown"), "{list}");
    }

    #[test]
    fn a_mark_without_a_time_is_left_out() {
        let faults = Faults::new(&[]);
        assert!(faults.list(&Axis::time(1.0)).contains("Nothing was done"));
        let marks = [mark(f64::NAN, None, "lost"), mark(1.0, Some(f64::INFINITY), "kept")];
        let shades = Faults::new(&marks).shades(&Axis::time(10.0));
        assert!(!shades.contains("lost") && shades.contains("kept") && !shades.contains("<rect"), "{shades}");
    }
}
