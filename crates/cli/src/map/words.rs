//! Numbers, times and facts as people read them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::api::text;
use crate::table::{print_line, visible};

/// A part of a whole, in percent.
pub(super) fn share(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Cost units a second.
pub(super) fn load(cost: f64) -> String {
    if cost < 99.95 { format!("{cost:.1}/s") } else { format!("{cost:.0}/s") }
}

/// So many of something.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("one {one}"),
        _ => format!("{number} {many}"),
    }
}

/// A count that an answer names; 0 if it names none.
pub(super) fn number(value: &Value) -> usize {
    value.as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}

/// How long something took, in one unit.
pub(super) fn length(millis: u64) -> String {
    match millis / 1_000 {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// How long ago a moment was that an answer names; nothing if it names none.
pub(super) fn ago(value: &Value, field: &str) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let at = value[field].as_u64().filter(|at| *at > 0)?;
    Some(length(u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(at)))
}

/// A fencing token: whoever shows a lower one than was seen is refused.
pub(super) fn token(value: &Value) -> String {
    format!("{}-{}", text(value, "generation"), text(value, "author"))
}

/// Prints facts below each other, what they are about on the left. A fact without a name goes on with the one above.
pub(super) fn print_facts(facts: &[(&str, String)]) {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, fact) in facts {
        print_words(&format!("{name:width$}  {fact}"));
    }
}

/// Prints a line in which what a peer says cannot steer the terminal.
pub(super) fn print_words(line: &str) {
    print_line(&line.chars().map(visible).collect::<String>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_in_the_unit_that_fits() {
        let check = |seconds: u64, want: &str| assert_eq!(length(1_000 * seconds), want);
        check(0, "0 s");
        check(119, "119 s");
        check(120, "2 min");
        check(7_199, "119 min");
        check(7_200, "2 h");
        check(3 * 86_400, "3 days");
    }
}
