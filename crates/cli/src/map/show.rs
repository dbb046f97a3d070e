//! `ringmesh map show`: what a map is like, and its picture.

use core::time::Duration;

use ringmesh_agent::client;
use serde_json::Value;

use super::Which;
use super::picture::Picture;
use super::words::{self, print_facts, print_words};
use crate::Outcome;
use crate::api::{ask, items, moment, text};
use crate::table::print_line;

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
    let heat = heat(which).await;
    let mut map = map;
    if let (Some(heat), Some(keys)) = (&heat, map["dedicated"].as_array_mut()) {
        keys.iter_mut().for_each(|key| call_by_name(key, heat));
    }
    Picture::new(&map, heat.as_ref()).print(detail);
    Ok(())
}

/// A dedicated key that no operator pinned has a name if the author knows it.
fn call_by_name(key: &mut Value, heat: &Value) {
    let named = items(&heat["dedicated"]).iter().find(|one| one["at"] == key["at"]);
    if let Some(named) = named.filter(|_| key["key"].is_null()) {
        key["key"] = named["key"].clone();
    }
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
        words::count(words::number(&spec["partitions_per_host"]), "partition", "partitions"),
        words::count(words::number(&spec["standbys"]), "standby", "standbys")
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
