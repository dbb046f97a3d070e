//! Aligned tables for people, with colour only on terminals.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _, stderr, stdout};

/// Prints a line. Whoever reads may stop reading: that is no error, and the end of us.
pub(crate) fn print_line(line: &str) {
    if let Err(error) = writeln!(stdout(), "{line}") {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        let _ = writeln!(stderr(), "ringmesh: standard output cannot be written: {error}");
        std::process::exit(1);
    }
}

/// Whether a terminal understands more than text.
pub(crate) fn is_smart_terminal(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether a stream may have colours: a terminal that can, and nobody asked for none (no-color.org).
pub(crate) fn may_colour(is_terminal: bool) -> bool {
    is_smart_terminal(is_terminal) && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How many columns the terminal has that is standard output; nothing if it is none.
pub(crate) fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// One very long cell does not widen all that follow.
const REMEMBERED_MAX: usize = 64;

/// Rows of equally many cells, the first one the heading.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Rows whose first cell has a colour of its own, by their number.
    marks: BTreeMap<usize, String>,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        let heading = heading.iter().map(|cell| (*cell).to_owned()).collect();
        Self { rows: vec![heading], marks: BTreeMap::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| cell.chars().map(visible).collect()).collect());
    }

    /// A row whose first cell has this colour, as a terminal is told.
    pub(crate) fn marked_row(&mut self, colour: String, cells: Vec<String>) {
        self.marks.insert(self.rows.len(), colour);
        self.row(cells);
    }

    /// The table as lines; states are coloured if `is_coloured`.
    pub(crate) fn lines(&self, is_coloured: bool) -> Vec<String> {
        self.lines_below(&mut Vec::new(), is_coloured)
    }

    /// The table as lines below others, whose columns have these widths at least, and then those of this one.
    pub(crate) fn lines_below(&self, widths: &mut Vec<usize>, is_coloured: bool) -> Vec<String> {
        let columns = self.rows.first().map_or(0, Vec::len);
        widths.resize(columns, 0);
        for (column, width) in widths.iter_mut().enumerate() {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            *width = cells.fold(*width, usize::max);
        }
        let mut lines = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths.iter()).enumerate() {
                let padding = " ".repeat(width - cell.chars().count() + 2);
                let mark = self.marks.get(&index).filter(|_| column == 0);
                let painted = match mark {
                    _ if !is_coloured => cell.clone(),
                    Some(colour) => format!("\u{1b}[{colour}m{cell}\u{1b}[0m"),
                    None => paint(cell, index == 0),
                };
                line.push_str(&painted);
                line.push_str(&padding);
            }
            lines.push(line.trim_end().to_owned());
        }
        widths.iter_mut().for_each(|width| *width = (*width).min(REMEMBERED_MAX));
        lines
    }

    pub(crate) fn print(&self) {
        for line in self.lines(may_colour(stdout().is_terminal())) {
            print_line(&line);
        }
    }
}

/// What a peer says must not steer the terminal.
pub(crate) fn visible(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

fn paint(cell: &str, is_heading: bool) -> String {
    let code = match cell {
        _ if is_heading => "1",
        "Alive" | "passing" | "yes" | "open" | "well" | "live" => "32",
        "Suspect" | "Holding" | "greylisted" | "unknown" | "draining" | "guarded" => "33",
        "Down" | "down" | "failing" | "no" | "FAILED" | "blocked" => "31",
        "Left" => "2",
        _ => return cell.to_owned(),
    };
    format!("\u{1b}[{code}m{cell}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NODE", "STATE"]);
        table.row(vec!["a-long-name".to_owned(), "Alive".to_owned()]);
        table.row(vec!["b".to_owned(), "x\u{1b}[2J".to_owned()]);
        assert_eq!(
            table.lines(false),
            ["NODE         STATE", "a-long-name  Alive", "b            x\u{fffd}[2J"]
        );
        let mut widths = vec![13, 1];
        assert_eq!(table.lines_below(&mut widths, false)[1], "a-long-name    Alive");
        assert_eq!(widths, [13, 5]);
    }
}
