//! The frame of every chart: grid, labels, figure and caption.
//!
//! Text must stay readable on a narrow screen, so nothing but the lines is scaled: an outer SVG is as wide as
//! the page lets it be and places text, grid and marks by percentages; an inner one, stretched over the whole
//! plot, holds the lines in thousandths, with strokes that keep their width.

use super::axis::{Axis, Tick};
use super::number::escape;

/// What a chart is drawn in.
pub(super) struct Plot<'a> {
    pub(super) x: &'a Axis,
    pub(super) y: &'a Axis,
    /// Pixels from the top of the plot to its bottom.
    pub(super) height: usize,
    /// Pixels kept free above it for labels.
    pub(super) above: usize,
    /// What somebody is told who does not see it; not escaped yet.
    pub(super) says: &'a str,
}

impl Plot<'_> {
    /// The chart as SVG: `behind` and `front` are drawn in percentages, `lines` in thousandths.
    pub(super) fn draw(&self, behind: &str, lines: &str, front: &str) -> String {
        let says = escape(self.says);
        let grid = levels(self.y) + &moments(self.x);
        format!(
            "<div class=\"frame\" style=\"padding-top:{}px\">\n\
             <svg class=\"plot\" width=\"100%\" height=\"{}\" role=\"img\" aria-label=\"{says}\">\
             <title>{says}</title>\n\
             {grid}\n{behind}\
             <svg width=\"100%\" height=\"100%\" viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" \
             aria-hidden=\"true\">{lines}</svg>\n\
             {front}</svg>\n</div>\n",
            self.above + 8,
            self.height,
        )
    }
}

/// A chart with what stands above it. `note` is HTML.
pub(super) fn figure(title: &str, note: &str, body: &str) -> String {
    let title = escape(title);
    format!("<figure>\n<figcaption><h4>{title}</h4>\n<p>{note}</p></figcaption>\n{body}</figure>\n")
}

/// In place of a chart of nothing.
pub(super) fn nothing(title: &str, why: &str) -> String {
    let title = escape(title);
    let why = escape(why);
    format!(
        "<figure>\n<figcaption><h4>{title}</h4></figcaption>\n<p class=\"nothing\">{why}</p>\n</figure>\n"
    )
}

/// A line of a class that the style sheet knows.
pub(super) fn path(class: &str, data: &str) -> String {
    format!("<path class=\"{class}\" vector-effect=\"non-scaling-stroke\" d=\"{data}\"/>")
}

/// A word of a note, with the look of what it stands for before it.
pub(super) fn key(class: &str, word: &str) -> String {
    format!("<span class=\"key\"><span class=\"swatch {class}\"></span>{}</span>", escape(word))
}

/// A place on an axis as SVG and CSS write it.
pub(super) fn percent(place: f64) -> String {
    format!("{:.2}%", 100.0 * place)
}

/// The ticks of the axis across, with their labels below the plot.
pub(super) fn moments(axis: &Axis) -> String {
    let drawn = |tick: &Tick| {
        let x = percent(tick.place);
        format!(
            "<line class=\"grid\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"100%\"/>\
             <text x=\"{x}\" y=\"100%\" dy=\"18\" text-anchor=\"middle\">{}</text>",
            escape(&tick.full)
        )
    };
    axis.ticks.iter().map(drawn).collect()
}

/// The ticks of the axis upwards, with their labels left of the plot.
fn levels(axis: &Axis) -> String {
    let drawn = |tick: &Tick| {
        let y = percent(1.0 - tick.place);
        format!(
            "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{y}\" y2=\"{y}\"/>\
             <text x=\"-8\" y=\"{y}\" dy=\".34em\" text-anchor=\"end\">{}</text>",
            escape(&tick.short)
        )
    };
    axis.ticks.iter().map(drawn).collect()
}
