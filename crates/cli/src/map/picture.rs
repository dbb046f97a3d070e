//! A map and its load as people see it: the ring, the hosts, the dedicated keys and the partitions.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stdout};

use ringmesh_partition::position::Position;
use ringmesh_partition::slice::Slice;
use serde_json::Value;

use super::heat;
use super::ring::{self, Column, Piece, Signs};
use super::show::Detail;
use super::words::{self, print_words};
use crate::api::{items, text};
use crate::table::{Table, may_colour, print_line, terminal_width};

/// Columns of the bar where there is no terminal, and at most and at least.
const WIDTH: usize = 80;
const WIDTHS: core::ops::RangeInclusive<usize> = 20..=400;

/// Terminals with fewer columns have no room for several endpoints in one line.
const WIDE: usize = 120;

/// What a host said of its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Report {
    Believed,
    Absurd,
}

/// A map and its load, taken apart.
pub(super) struct Picture<'a> {
    map: &'a Value,
    hosts: &'a [Value],
    /// The hosts' numbers in the order of their names.
    by_name: Vec<usize>,
    /// What partitions and dedicated keys cost, by their digits; nothing if nobody knows.
    costs: Option<BTreeMap<String, f64>>,
    /// Whose word on their load counts, by name, and whose does not.
    reporters: BTreeMap<String, Report>,
    columns: Vec<Column>,
    signs: Signs,
    is_coloured: bool,
    is_narrow: bool,
}

impl<'a> Picture<'a> {
    pub(super) fn new(map: &'a Value, heat: Option<&Value>) -> Self {
        let hosts = items(&map["hosts"]);
        let mut by_name: Vec<usize> = (0..hosts.len()).collect();
        by_name.sort_by_key(|index| text(&hosts[*index], "name"));
        let costs = heat.filter(|heat| heat["is_even"] == false).map(heat::costs);
        let of = |all: &str, report: Report| -> Vec<(String, Report)> {
            let hosts = heat.map_or(&[][..], |heat| items(&heat[all]));
            hosts.iter().map(|one| (text(one, "host"), report)).collect()
        };
        let reporters = [of("hosts", Report::Believed), of("absurd", Report::Absurd)].concat();
        let cost = |start: &str| costs.as_ref().and_then(|costs| costs.get(start)).copied();
        let piece = |one: &Value| {
            let at = |field: &str| one[field].as_str()?.parse::<Position>().ok();
            let slice = Slice { start: at("start")?, end: at("end")? };
            let cost = cost(one["start"].as_str()?).unwrap_or(0.0);
            Some(Piece { slice, owner: words::number(&one["owner"]), cost })
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
            reporters: reporters.into_iter().collect(),
            columns,
            signs,
            is_coloured: may_colour(stdout().is_terminal()),
            is_narrow: terminal.is_some_and(|columns| columns < WIDE),
        }
    }

    pub(super) fn print(&self, detail: Detail) {
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
        let names: Vec<String> = items(numbers).iter().map(|index| self.name(words::number(index))).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(", ") }
    }

    /// How many partitions are on their way, and between whom.
    fn handed_over(&self) -> Vec<String> {
        let mut ways: BTreeMap<(String, String), usize> = BTreeMap::new();
        for one in items(&self.map["partitions"]) {
            if let Some(before) = one["before"].as_str() {
                let way = (before.to_owned(), self.name(words::number(&one["owner"])));
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
        let is_down =
            |name: &str| self.hosts.iter().any(|host| host["name"] == name && host["is_live"] == false);
        lines.extend(ways.iter().map(|((from, to), count)| {
            let down = if is_down(from) { ", which is out," } else { "" };
            format!("  {count} from {from}{down} to {to}")
        }));
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
            add(words::number(&one["owner"]), cost(one, "start").unwrap_or(0.0));
        }
        for one in items(&self.map["dedicated"]) {
            let owners = items(&one["owners"]);
            let part = cost(one, "at").unwrap_or(0.0) / owners.len().max(1) as f64;
            owners.iter().for_each(|owner| add(words::number(owner), part));
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
        let capacity: f64 = self.hosts.iter().map(capacity_now).sum();
        let all: f64 = costs.iter().flatten().sum();
        for index in &self.by_name {
            let host = &self.hosts[*index];
            let is_live = if host["is_live"] == true { "live" } else { "out" };
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
                let fair = all * capacity_now(host) / capacity.max(1.0);
                row.extend(self.load(host, costs[*index], fair));
            }
            row.push(self.endpoints(host));
            table.marked_row(self.signs.colour(*index), row);
        }
        table
    }

    /// What a host has to bear, and how that is to its fair share; or why it is not known.
    fn load(&self, host: &Value, cost: f64, fair: f64) -> [String; 2] {
        let unknown = match self.reporters.get(&text(host, "name")) {
            Some(Report::Absurd) => Some("not believed"),
            None if cost <= 0.0 && words::number(&host["partitions"]) > 0 => Some("no report"),
            None | Some(Report::Believed) => None,
        };
        match unknown {
            Some(why) => [why.to_owned(), "-".to_owned()],
            None if fair > 0.0 => [words::load(cost), format!("{:.2}", cost / fair)],
            None => [words::load(cost), "-".to_owned()],
        }
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
            let owner = words::number(&one["owner"]);
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

/// What a host can take now: nothing if it is down.
fn capacity_now(host: &Value) -> f64 {
    if host["is_live"] == true { words::number(&host["capacity"]) as f64 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map() -> Value {
        let host = |name: &str, partitions: u8, capacity: u8| {
            json!({
                "name": name, "zone": "z", "is_live": name != "n-2", "capacity": capacity, "share": 0.25,
                "partitions": partitions, "endpoints": ["127.0.0.1:1", "127.0.0.1:2"]
            })
        };
        let partition = |start: &str, end: &str, owner: u8, before: Option<&str>| {
            let (start, end) = (format!("{start:0<16}"), format!("{end:0<16}"));
            json!({ "start": start, "end": end, "share": 0.25, "owner": owner, "standbys": [], "before": before })
        };
        json!({
            "hosts": [host("n-2", 1, 10), host("n-1", 2, 20), host("n-3", 1, 10), host("n-4", 0, 0)],
            "partitions": [
                partition("0", "4", 0, None), partition("4", "8", 1, Some("n-2")), partition("8", "c", 2, None),
                partition("c", "0", 1, Some("n-2")),
            ],
            "dedicated": [{ "at": "00000000000000ff", "key": "acme", "owners": [1, 0] }],
        })
    }

    fn heat() -> Value {
        json!({
            "is_even": false,
            "partitions": [{ "start": "4000000000000000", "cost": 60.0 }, { "start": "c000000000000000", "cost": 30.0 }],
            "dedicated": [{ "at": "00000000000000ff", "cost": 20.0 }],
            "hosts": [{ "host": "n-1", "cost": 110.0 }],
            "absurd": [{ "host": "n-2", "cost": 1e9 }],
        })
    }

    #[test]
    fn hosts_are_shown_by_name_with_their_load_or_why_it_is_not_known() {
        let (map, heat) = (map(), heat());
        let lines = Picture::new(&map, Some(&heat)).hosts_table().lines(false);
        let cells = |line: &String| {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("|")
        };
        let want = [
            "HOST|ZONE|STATE|CAPACITY|PARTITIONS|LOAD|TO FAIR|ENDPOINTS",
            "A|n-1|z|live|20|2, 25.0 %|100/s|1.36|127.0.0.1:1 127.0.0.1:2",
            "B|n-2|z|out|10|1, 25.0 %|not believed|-|127.0.0.1:1 127.0.0.1:2",
            "C|n-3|z|live|10|1, 25.0 %|no report|-|127.0.0.1:1 127.0.0.1:2",
            "D|n-4|z|live|0|0, 25.0 %|0.0/s|-|127.0.0.1:1 127.0.0.1:2",
        ];
        assert_eq!(lines.iter().map(cells).collect::<Vec<_>>(), want);
    }

    #[test]
    fn without_a_report_there_is_no_load() {
        let map = map();
        for heat in [None, Some(json!({ "is_even": true, "partitions": [], "dedicated": [] }))] {
            let lines = Picture::new(&map, heat.as_ref()).hosts_table().lines(false);
            assert!(!lines[0].contains("LOAD"), "{lines:?}");
        }
    }

    #[test]
    fn what_is_handed_over_is_counted_by_whom_and_to_whom() {
        let mut map = map();
        let told = |map: &Value| Picture::new(map, None).handed_over();
        assert_eq!(told(&map), ["2 partitions are being handed over:", "  2 from n-2, which is out, to n-1"]);
        map["partitions"][1]["before"] = Value::Null;
        assert_eq!(told(&map)[0], "one partition is being handed over:");
        map["partitions"][3]["before"] = Value::Null;
        assert!(told(&map).is_empty());
    }
}
