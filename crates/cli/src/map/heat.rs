//! `ringmesh map heat`: which hosts and keys have how much load, as the author of the map knows it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Which;
use super::names::Names;
use super::words::{self, print_facts, print_words};
use crate::Outcome;
use crate::api::{ask, items, text};
use crate::progress::bar;
use crate::table::{Table, print_line};

/// Keys that are shown at most.
const KEYS: usize = 10;
/// Letters of a key in the table.
const KEY_LETTERS: usize = 24;

pub(super) async fn run(which: &Which) -> Outcome {
    let heat = ask(&which.ask, "GET", &which.path("/heat"), None).await?;
    if which.ask.json {
        print_line(&heat.to_string());
        return Ok(());
    }
    let mut facts = vec![
        ("map", format!("{}, generation {}", text(&heat, "map"), text(&heat, "generation"))),
        ("author", author(&heat)),
    ];
    let is_even = heat["is_even"] == true;
    if is_even && items(&heat["hosts"]).iter().any(|host| cost(host) > 0.0) {
        let little = "less than 10/s in all says nothing: every part of the space is taken to cost the same";
        facts.push(("load", little.to_owned()));
    } else if is_even {
        facts.push((
            "load",
            "nobody reports any: every part of the space is taken to cost the same".to_owned(),
        ));
        let path = which.path("/heat");
        facts.push((
            "",
            format!("programs that serve keys report it with POST {path} to the agent beside them"),
        ));
    } else {
        let distinct = heat["distinct"].as_f64().filter(|distinct| *distinct >= 1.0);
        let keys =
            distinct.map_or_else(String::new, |distinct| format!(", about {distinct:.0} different keys"));
        facts.push(("load", words::load(total(&heat)) + &keys));
    }
    print_facts(&facts);
    if !items(&heat["hosts"]).is_empty() {
        print_line("");
        hosts_table(&heat).print();
    }
    let map = ask(&which.ask, "GET", &which.path(""), None).await?;
    let keys = keys_table(&heat, &map);
    if let Some(keys) = keys {
        print_line("");
        keys.print();
    }
    for one in items(&heat["absurd"]) {
        let load = words::load(cost(one));
        print_words(&format!("not believed: {} reports {load}, which cannot be", text(one, "host")));
    }
    Ok(())
}

/// Who the author is, and for how long.
pub(super) fn author(seen: &Value) -> String {
    let since = words::length(seen["since_ms"].as_u64().unwrap_or(0));
    format!("{}, for {since}", text(seen, "author"))
}

fn cost(one: &Value) -> f64 {
    one["cost"].as_f64().unwrap_or(0.0)
}

/// What partitions and dedicated keys cost, by the digits of their starts and positions.
pub(super) fn costs(heat: &Value) -> BTreeMap<String, f64> {
    let of = |all: &str, field: &str| -> Vec<(String, f64)> {
        items(&heat[all]).iter().map(|one| (text(one, field), cost(one))).collect()
    };
    of("partitions", "start").into_iter().chain(of("dedicated", "at")).collect()
}

/// What everything costs.
fn total(heat: &Value) -> f64 {
    ["partitions", "dedicated"].iter().flat_map(|all| items(&heat[all])).map(cost).sum()
}

fn hosts_table(heat: &Value) -> Table {
    let mut hosts: Vec<&Value> = items(&heat["hosts"]).iter().collect();
    hosts.sort_by(|one, other| cost(other).total_cmp(&cost(one)));
    let all: f64 = hosts.iter().map(|host| cost(host)).sum();
    let mut table = Table::new(&["HOST", "REPORTS", "SHARE", ""]);
    for host in hosts {
        let share = if all > 0.0 { cost(host) / all } else { 0.0 };
        table.row(vec![text(host, "host"), words::load(cost(host)), words::share(share), bar(share)]);
    }
    table
}

/// A key as a cell: long ones end in dots.
fn shortened(key: &str) -> String {
    match key.char_indices().nth(KEY_LETTERS) {
        Some((end, _)) => format!("{}…", &key[..end]),
        None => key.to_owned(),
    }
}

/// The keys that cost most, whether they are dedicated or not; nothing if none is known.
fn keys_table(heat: &Value, map: &Value) -> Option<Table> {
    let names = Names::of(map, heat);
    let kinds = [("dedicated", "a partition of its own"), ("hot", "with others")];
    let mut keys: Vec<(&Value, &str)> =
        kinds.iter().flat_map(|(all, place)| items(&heat[all]).iter().map(|one| (one, *place))).collect();
    keys.sort_by(|(one, _), (other, _)| cost(other).total_cmp(&cost(one)));
    let all = total(heat);
    let mut table = Table::new(&["HOTTEST KEYS", "POSITION", "LOAD", "SHARE", "PLACE"]);
    for (one, place) in keys.iter().take(KEYS) {
        let at = text(one, "at");
        let name = shortened(names.get(&at).unwrap_or("-"));
        let share = if all > 0.0 { cost(one) / all } else { 0.0 };
        table.row(vec![name, at, words::load(cost(one)), words::share(share), (*place).to_owned()]);
    }
    (!keys.is_empty()).then_some(table)
}
