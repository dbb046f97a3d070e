//! `ringmesh map history`: generations, and why they were made.

use serde_json::Value;

use super::Which;
use super::names::Names;
use super::words::{self, print_words};
use crate::Outcome;
use crate::api::{ask, items, text};
use crate::table::print_line;

pub(super) async fn run(which: &Which, limit: usize) -> Outcome {
    let mut all = ask(&which.ask, "GET", &which.path("/history"), None).await?;
    let is_empty = items(&all).is_empty();
    if let Some(all) = all.as_array_mut() {
        all.truncate(limit);
    }
    if which.ask.json {
        print_line(&all.to_string());
    } else if is_empty {
        print_words(&format!("the agent has followed no generation of {} since it started", which.map));
    } else {
        print(which, &items(&all).iter().flat_map(lines).collect::<Vec<_>>()).await;
    }
    Ok(())
}

/// Prints lines about steps, with the names of keys.
pub(super) async fn print(which: &Which, lines: &[String]) {
    let names = Names::for_lines(which, lines).await;
    lines.iter().for_each(|line| print_words(&names.put_into(line)));
}

/// One generation, with its steps.
pub(super) fn lines(one: &Value) -> Vec<String> {
    let ago = words::ago(one, "made").map_or_else(String::new, |ago| format!(", {ago} ago"));
    let instead = match one["is_instead"] == true {
        true => ", instead of another one: the mesh was split",
        false => "",
    };
    let mut lines =
        vec![format!("generation {} by {}{ago}{instead}", text(one, "generation"), text(one, "author"))];
    let steps = items(&one["steps"]);
    lines.extend(together(steps));
    let count = one["steps_count"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    match count.saturating_sub(steps.len()) {
        0 if steps.is_empty() && one["made"].is_null() => {
            lines.push("  its reasons are not known here".to_owned());
        }
        0 if steps.is_empty() && one["generation"] == 1 => lines.push("  the first map".to_owned()),
        0 if steps.is_empty() => lines.push("  others stand by, no owner changes".to_owned()),
        0 => {}
        more => lines.push(format!("  and {}", words::count(more, "more step", "more steps"))),
    }
    lines
}

/// Steps; partitions that go the same way for the same reason are in one line.
pub(super) fn together(steps: &[Value]) -> Vec<String> {
    let mut groups: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for step in steps.iter().filter_map(Value::as_str) {
        // `move START: FROM to TO: WHY`, and what cannot be said of several.
        let (what, rest) = step.split_once(": ").unwrap_or((step, ""));
        let (kind, start) =
            what.split_once(' ').filter(|(kind, _)| matches!(*kind, "move" | "cover")).unwrap_or((step, ""));
        match groups.iter_mut().find(|(other, way, _)| (*other, *way) == (kind, rest)) {
            Some((_, _, starts)) => starts.push(start),
            None => groups.push((kind, rest, vec![start])),
        }
    }
    let line = |(kind, rest, starts): &(&str, &str, Vec<&str>)| match starts.as_slice() {
        ["", ..] => format!("  {kind}"),
        [start] => format!("  {kind} {start}: {rest}"),
        several => format!("  {kind} {} partitions: {rest}", several.len()),
    };
    groups.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_generation_is_told_with_its_steps_and_how_many_are_left_out() {
        let told = |steps: &[&str], count: u64, instead: bool| {
            lines(&json!({
                "generation": 7, "author": "n-1", "made": null, "is_instead": instead, "steps": steps, "steps_count": count
            }))
        };
        assert_eq!(
            told(&["join n-2: it is new"], 1, false),
            ["generation 7 by n-1", "  join n-2: it is new"]
        );
        assert_eq!(told(&["a", "b"], 12, false)[3], "  and 10 more steps");
        let moves =
            ["move 00: a to b: hot", "split 00 at 01: hot", "move 02: a to b: hot", "move 03: a to c: hot"];
        assert_eq!(
            told(&moves, 4, false)[1..],
            ["  move 2 partitions: a to b: hot", "  split 00 at 01: hot", "  move 03: a to c: hot"]
        );
        assert!(told(&[], 0, true)[0].ends_with(", instead of another one: the mesh was split"));
        assert_eq!(told(&[], 0, false)[1], "  its reasons are not known here");
    }
}
