//! Which partition is meant: 16 hexadecimal digits of where it starts, or the first of them that no other one begins with.

use ringmesh_partition::position::Position;

use super::Which;
use crate::api::{ask, items};
use crate::{Failure, Outcome};

/// Digits of a position.
const DIGITS: usize = 16;
/// Partitions that are named if several may be meant.
const NAMED_MAX: usize = 3;

/// The partition that `written` names in a map.
pub(super) async fn find(which: &Which, written: &str) -> Result<Position, Failure> {
    check(written)?;
    if let Ok(start) = written.parse() {
        return Ok(start);
    }
    let shown = ask(&which.ask, "GET", &which.path(""), None).await?;
    let starts = items(&shown["partitions"]).iter().filter_map(|one| one["start"].as_str()?.parse().ok());
    one_of(&starts.collect::<Vec<_>>(), written)
        .map_err(|why| Failure::refused(format!("{why} (the map is {})", which.map)))
}

fn check(written: &str) -> Outcome {
    let is_hex = written.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_hex && (1..=DIGITS).contains(&written.len()) {
        return Ok(());
    }
    let why = format!(
        "START: {written:?} names no partition: write the {DIGITS} hexadecimal digits of its start, or the first of them"
    );
    Err(Failure::usage(why))
}

/// The one of `starts` whose digits begin with `prefix`.
fn one_of(starts: &[Position], prefix: &str) -> Result<Position, String> {
    let prefix = prefix.to_ascii_lowercase();
    let found: Vec<Position> =
        starts.iter().filter(|start| start.to_string().starts_with(&prefix)).copied().collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] if starts.is_empty() => {
            Err("START: it has no partitions yet: it begins a few seconds after a host that runs it is there"
                .to_owned())
        }
        [] => Err(format!("START: no partition begins with {prefix}: map show --partitions names all")),
        several => {
            let named: Vec<String> = several.iter().take(NAMED_MAX).map(Position::to_string).collect();
            let more = if several.len() > NAMED_MAX { ", …" } else { "" };
            Err(format!(
                "START: {} partitions begin with {prefix}: {}{more}: write more digits",
                several.len(),
                named.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_only_one_partition_begins_with_name_it() {
        let starts = [0, 0x0a00 << 48, 0x1b2c << 48, 0x1b3c << 48, 0x1b4c << 48, 0x1b5c << 48].map(Position);
        let found = |prefix| one_of(&starts, prefix);
        assert_eq!(found("1b2"), Ok(starts[2]));
        assert_eq!(found("1B2C"), Ok(starts[2]), "capitals are digits, too");
        assert_eq!(found("0a"), Ok(starts[1]));
        assert_eq!(found("0000000000000000"), Ok(starts[0]));
        let why = found("1b").expect_err("there are four");
        assert!(
            why.contains("4 partitions begin with 1b: 1b2c000000000000, 1b3c") && why.contains(", …:"),
            "{why}"
        );
        let why = found("0").expect_err("there are two");
        assert!(why.contains("0000000000000000, 0a00000000000000: write more digits"), "{why}");
        assert!(one_of(&[], "0").expect_err("there is none").contains("no partitions yet"));
        assert!(found("f").expect_err("there is none").contains("no partition begins with f"));
    }

    #[test]
    fn what_is_no_start_is_refused_before_anybody_is_asked() {
        for bad in ["", "g", "0x12", "00000000000000001", "-1", "ä"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check("f").is_ok() && check("0123456789abcDEF").is_ok());
    }
}
