//! `ringmesh map show`: a map as a ring, its hosts and its dedicated keys.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stdout};

use ringmesh_agent::client;
use ringmesh_partition::position::Position;
use ringmesh_partition::slice::Slice;
use serde_json::Value;

use super::ring::{self, Column, Piece, Signs};
use super::words::{self, print_facts, print_words};
use super::{Which, heat};
use crate::Outcome;
use crate::api::{ask, items, moment, text};
use crate::table::{Table, may_colour, print_line, terminal_width};

/// Columns of the bar where there is no terminal, and at most and at least.
const WIDTH: usize = 80;
const WIDTHS: core::ops::RangeInclusive<usize> = 20..=400;

/// Terminals with fewer columns have no room for several endpoints in one line.
const WIDE: usize = 120;

/// A map whose author does not answer so soon is shown without its load.
const HEAT_WITHIN: Duration = Duration::from_secs(3);

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Hosts,
    Partitions,
}

impl Detail {
    pub(super) fn of(has_partitions: bool) -> Self {
        if has_partitions { Self::Partitions } else { Self::Hosts }
    }
}

pub(super) async fn run(which: &Which, detail: Detail) -> Outcome {
    let map = ask(&which.ask, "GET", &which.path(""), None).await?;
    if which.ask.json {
        print_line(&map.to_string());
        return Ok(());
    }
    print_facts(&head(&map));
    if map["generation"].is_null() {
        let what = &which.map;
        print_words(&format!("it begins a few seconds after a host that runs {what} is there"));
        return Ok(());
    }
    Shown::new(&map, heat(which).await.as_ref()).print(detail);
    Ok(())
}

/// The load, if the author of the map says it soon.
async fn heat(which: &Which) -> Option<Value> {
    let answer = client::ask_patiently(which.ask.http, &which.path("/heat"), HEAT_WITHIN).await.ok()?;
    (answer.status == 200).then_some(answer.body)
}

fn head(map: &Value) -> Vec<(&'static str, String)> {
    let spec = &map["spec"];
    let by = match map["declared"].is_null() {
        true => format!("the configuration of {}", text(map, "declared_by")),
        false => {
            format!("an operator at {}, {}", text(map, "declared_by"), moment(map, "declared"))
        }
    };
    let pins = items(&spec["pins"]).len();
    let pinned =
        if pins == 0 { String::new() } else { format!(", {} pinned", words::count(pins, "key", "keys")) };
    let spread = format!(
        "{}, mode {}, {} a host, {}{pinned}",
        text(map, "strategy"),
        text(map, "mode"),
        words::count(number(&spec["partitions_per_host"]), "partition", "partitions"),
        words::count(number(&spec["standbys"]), "standby", "standbys")
    );
    let mut head = vec![("map", text(map, "map")), ("declared", spread), ("by", by)];
    if map["generation"].is_null() {
        head.push(("generation", "none yet".to_owned()));
        return head;
    }
    let since = words::ago(map, "taken").map_or_else(String::new, |ago| format!(", followed for {ago}"));
    head.push(("generation", format!("{} by {}{since}", text(map, "generation"), text(map, "made_by"))));
    let author = match map["author"].as_str() {
        Some(author) if map["am_author"] == true => format!("{author}, the agent that was asked"),
        Some(author) => author.to_owned(),
        None => "nobody: the next generation waits for a host of the map".to_owned(),
    };
    head.push(("author", author));
    head.push(("token", words::token(&map["token"])));
    head
}

fn number(value: &Value) -> usize {
    value.as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}

/// A map and its load, taken apart.
struct Shown<'a> {
    map: &'a Value,
    hosts: &'a [Value],
    /// The hosts' numbers in the order of their names.
    by_name: Vec<usize>,
    /// What partitions and dedicated keys cost, by their digits; nothing if nobody knows.
    costs: Option<BTreeMap<String, f64>>,
    columns: Vec<Column>,
    signs: Signs,
    is_coloured: bool,
    is_narrow: bool,
}

impl<'a> Shown<'a> {
    fn new(map: &'a Value, heat: Option<&Value>) -> Self {
        let hosts = items(&map["hosts"]);
        let mut by_name: Vec<usize> = (0..hosts.len()).collect();
        by_name.sort_by_key(|index| text(&hosts[*index], "name"));
        let costs = heat.filter(|heat| heat["is_even"] == false).map(heat::costs);
        let cost = |start: &str| costs.as_ref().and_then(|costs| costs.get(start)).copied();
        let piece = |one: &Value| {
            let at = |field: &str| one[field].as_str()?.parse::<Position>().ok();
            let slice = Slice { start: at("start")?, end: at("end")? };
            let cost = cost(one["start"].as_str()?).unwrap_or(0.0);
            Some(Piece { slice, owner: number(&one["owner"]), cost })
        };
        let pieces: Vec<Piece> = items(&map["partitions"]).iter().filter_map(piece).collect();
        let terminal = terminal_width();
        let width = terminal.unwrap_or(WIDTH).clamp(*WIDTHS.start(), *WIDTHS.end());
        let columns = ring::columns(&pieces, width);
        let signs = Signs::new(&by_name, &columns);
        Self {
            map,
            hosts,
            by_name,
            costs,
            columns,
            signs,
            is_coloured: may_colour(stdout().is_terminal()),
            is_narrow: terminal.is_some_and(|columns| columns < WIDE),
        }
    }

    fn print(&self, detail: Detail) {
        print_line("");
        print_line(&ring::bar(&self.columns, &self.signs, self.is_coloured));
        if self.costs.is_some() {
            print_line(&ring::loads(&self.columns));
        }
        print_line(&ring::scale(self.columns.len()));
        let handed = self.handed_over();
        if !handed.is_empty() {
            print_line("");
            handed.iter().for_each(|line| print_words(line));
        }
        print_line("");
        self.hosts_table().print();
        let dedicated = self.dedicated_table();
        if !items(&self.map["dedicated"]).is_empty() {
            print_line("");
            dedicated.print();
        }
        if detail == Detail::Partitions {
            print_line("");
            self.partitions_table().print();
        }
    }

    fn name(&self, index: usize) -> String {
        self.hosts.get(index).map_or_else(|| "?".to_owned(), |host| text(host, "name"))
    }

    /// Hosts by their numbers.
    fn names(&self, numbers: &Value) -> String {
        let names: Vec<String> = items(numbers).iter().map(|index| self.name(number(index))).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(", ") }
    }

    /// How many partitions are on their way, and between whom.
    fn handed_over(&self) -> Vec<String> {
        let mut ways: BTreeMap<(String, String), usize> = BTreeMap::new();
        for one in items(&self.map["partitions"]) {
            if let Some(before) = one["before"].as_str() {
                let way = (before.to_owned(), self.name(number(&one["owner"])));
                *ways.entry(way).or_default() += 1;
            }
        }
        let all = ways.values().sum();
        if all == 0 {
            return Vec::new();
        }
        let are = if all == 1 { "is" } else { "are" };
        let mut lines =
            vec![format!("{} {are} being handed over:", words::count(all, "partition", "partitions"))];
        lines.extend(ways.iter().map(|((from, to), count)| format!("  {count} from {from} to {to}")));
        lines
    }

    /// What each host has to bear: its partitions, and its part of dedicated keys.
    fn host_costs(&self) -> Option<Vec<f64>> {
        let costs = self.costs.as_ref()?;
        let cost = |one: &Value, field: &str| costs.get(one[field].as_str()?).copied();
        let mut of = vec![0.0; self.hosts.len()];
        let mut add = |index: usize, cost: f64| {
            if let Some(sum) = of.get_mut(index) {
                *sum += cost;
            }
        };
        for one in items(&self.map["partitions"]) {
            add(number(&one["owner"]), cost(one, "start").unwrap_or(0.0));
        }
        for one in items(&self.map["dedicated"]) {
            let owners = items(&one["owners"]);
            let part = cost(one, "at").unwrap_or(0.0) / owners.len().max(1) as f64;
            owners.iter().for_each(|owner| add(number(owner), part));
        }
        Some(of)
    }

    fn hosts_table(&self) -> Table {
        let costs = self.host_costs();
        let mut heading = vec!["", "HOST", "ZONE", "STATE", "CAPACITY", "PARTITIONS"];
        if costs.is_some() {
            heading.extend(["LOAD", "TO FAIR"]);
        }
        heading.push("ENDPOINTS");
        let mut table = Table::new(&heading);
        let capacity: f64 = self.hosts.iter().map(|host| number(&host["capacity"]) as f64).sum();
        let all: f64 = costs.iter().flatten().sum();
        for index in &self.by_name {
            let host = &self.hosts[*index];
            let is_live = if host["is_live"] == true { "live" } else { "down" };
            let mut row = vec![
                self.signs.letter(*index).to_string(),
                text(host, "name"),
                text(host, "zone"),
                is_live.to_owned(),
                text(host, "capacity"),
                format!(
                    "{}, {}",
                    text(host, "partitions"),
                    words::share(host["share"].as_f64().unwrap_or(0.0))
                ),
            ];
            if let Some(costs) = &costs {
                let fair = all * number(&host["capacity"]) as f64 / capacity.max(1.0);
                row.push(words::load(costs[*index]));
                row.push(if fair > 0.0 { format!("{:.2}", costs[*index] / fair) } else { "-".to_owned() });
            }
            row.push(self.endpoints(host));
            table.marked_row(self.signs.colour(*index), row);
        }
        table
    }

    /// Where a host listens; on a narrow terminal only the first of it, and how much more there is.
    fn endpoints(&self, host: &Value) -> String {
        let all: Vec<String> =
            items(&host["endpoints"]).iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect();
        match all.as_slice() {
            [first, more @ ..] if self.is_narrow && !more.is_empty() => {
                format!("{first} +{}", more.len())
            }
            all => all.join(" "),
        }
    }

    fn dedicated_table(&self) -> Table {
        let mut table = Table::new(&["DEDICATED", "POSITION", "LOAD", "OWNERS"]);
        for one in items(&self.map["dedicated"]) {
            let key = one["key"].as_str().map_or_else(|| "-".to_owned(), |key| format!("{key:?}"));
            let cost = self.cost(one, "at");
            table.row(vec![key, text(one, "at"), cost, self.names(&one["owners"])]);
        }
        table
    }

    fn partitions_table(&self) -> Table {
        let mut table = Table::new(&["", "START", "SPACE", "OWNER", "STANDBYS", "BEFORE", "LOAD"]);
        for one in items(&self.map["partitions"]) {
            let owner = number(&one["owner"]);
            let row = vec![
                self.signs.letter(owner).to_string(),
                text(one, "start"),
                format!("{:.2} %", 100.0 * one["share"].as_f64().unwrap_or(0.0)),
                self.name(owner),
                self.names(&one["standbys"]),
                one["before"].as_str().unwrap_or("-").to_owned(),
                self.cost(one, "start"),
            ];
            table.marked_row(self.signs.colour(owner), row);
        }
        table
    }

    fn cost(&self, one: &Value, field: &str) -> String {
        let cost = self.costs.as_ref().and_then(|costs| costs.get(one[field].as_str()?));
        cost.map_or_else(|| "-".to_owned(), |cost| words::load(*cost))
    }
}
