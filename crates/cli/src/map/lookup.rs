//! `ringmesh map lookup`: who owns a key, or many of them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufReader, IsTerminal as _, stdin, stdout};
use std::os::unix::ffi::OsStrExt as _;

use clap::Args;
use ringmesh_partition::position::Position;
use serde_json::{Value, json};

use super::Which;
use super::keys::{self, Line};
use super::words::{self, print_facts};
use crate::api::{ask, items, text};
use crate::table::{Table, may_colour, print_line};
use crate::{Failure, Outcome};

/// Keys in one request at most.
const KEYS_MAX: usize = 1_000;
/// Bytes of one request's keys as JSON at most: the agent takes 64 KiB.
const BYTES_MAX: usize = 60 << 10;
/// Bytes that are read of standard input at once.
const READ_BYTES: usize = 64 << 10;

/// What to look up.
#[derive(Debug, Args)]
pub(crate) struct LookupArgs {
    #[command(flatten)]
    which: Which,
    /// A key of 1 to 1024 bytes; may be repeated. - reads keys from standard input, one a line.
    #[arg(value_name = "KEY", required_unless_present = "hash")]
    keys: Vec<OsString>,
    /// A position instead of a key.
    #[arg(long, value_name = "HEX", conflicts_with = "keys")]
    hash: Option<Position>,
}

pub(super) async fn run(args: LookupArgs) -> Outcome {
    let LookupArgs { which, keys, hash } = args;
    match (hash, keys.as_slice()) {
        (Some(at), _) => one(&which, &format!("hash={at}")).await,
        (None, [key]) if key != "-" => one(&which, &format!("key={}", keys::encoded(key.as_bytes()))).await,
        (None, keys) => many(&which, keys).await,
    }
}

async fn one(which: &Which, query: &str) -> Outcome {
    let found = ask(&which.ask, "GET", &which.path(&format!("/lookup?{query}")), None).await?;
    if which.ask.json {
        print_line(&found.to_string());
    } else {
        print_facts(&facts(&found));
    }
    Ok(())
}

fn facts(found: &Value) -> Vec<(&'static str, String)> {
    let at = text(found, "at");
    let mut facts = match found["key"].as_str() {
        Some(key) => vec![("key", key.to_owned()), ("position", at)],
        None => vec![("position", at)],
    };
    facts.push(("owner", host(&found["owner"])));
    facts.extend(notes(found).into_iter().map(|note| ("", note)));
    let standbys: Vec<String> = items(&found["standbys"]).iter().map(host).collect();
    facts.push(("standbys", if standbys.is_empty() { "none".to_owned() } else { standbys.join(", ") }));
    let place = match found["start"].as_str() {
        Some(start) => format!("the partition that starts at {start}"),
        None => "a partition of its own".to_owned(),
    };
    let shared = if found["is_shared"] == true { ", shared by its owner and the standbys" } else { "" };
    facts.push(("place", place + shared));
    facts.push(("token", words::token(&found["token"])));
    facts
}

/// What else there is to say about the owner.
fn notes(found: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(named) = found["instead_of"].as_str() {
        notes.push(format!("instead of {named}, which is out"));
    }
    if found["owner"]["is_live"] == false {
        notes.push(format!("nobody is there who serves it: {} is out, too", text(&found["owner"], "name")));
    }
    let before = &found["before"];
    if before.is_object() {
        let then = match before["is_live"] == false {
            true => "is out: it hands nothing over",
            false => "may still hand it over",
        };
        notes.push(format!("{} owned it before and {then}", text(before, "name")));
    }
    notes
}

/// A host with its zone and where it listens.
fn host(host: &Value) -> String {
    let zone = host["zone"].as_str().map_or_else(String::new, |zone| format!(" in {zone}"));
    let down = if host["is_live"] == false { ", down" } else { "" };
    let endpoints = endpoints(host);
    format!("{}{zone}{down}{}{endpoints}", text(host, "name"), if endpoints.is_empty() { "" } else { ": " })
}

fn endpoints(host: &Value) -> String {
    text(host, "endpoints").replace(',', " ")
}

/// Asks for many keys, as many at once as may be.
struct Asker<'a> {
    which: &'a Which,
    keys: VecDeque<String>,
    /// How long they are as JSON.
    bytes: usize,
    /// Columns of what was shown so far.
    widths: Vec<usize>,
    asked: usize,
    failed: usize,
}

async fn many(which: &Which, keys: &[OsString]) -> Outcome {
    let mut asker = Asker { which, keys: VecDeque::new(), bytes: 0, widths: Vec::new(), asked: 0, failed: 0 };
    for key in keys {
        if key == "-" {
            asker.read().await?;
        } else {
            asker.add(key.as_bytes()).await?;
        }
    }
    if asker.asked == 0 || !asker.keys.is_empty() {
        asker.request().await?;
    }
    match asker.failed {
        0 => Ok(()),
        failed => Err(Failure::refused(format!("{failed} of {} keys have no owner", asker.asked))),
    }
}

impl Asker<'_> {
    /// Adds what comes in; what is there is asked for before more is waited for.
    async fn read(&mut self) -> Outcome {
        let mut input = BufReader::with_capacity(READ_BYTES, stdin());
        loop {
            if !input.buffer().contains(&b'\n') {
                self.flush().await?;
            }
            let line = keys::next(&mut input)
                .map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?;
            match line {
                None => return Ok(()),
                Some(Line::Key(key)) => self.add(&key).await?,
                Some(Line::Wrong(begin, error)) => {
                    self.flush().await?;
                    let key = String::from_utf8_lossy(&begin);
                    self.show(&json!({ "found": [{ "key": key, "error": error.to_string() }] }));
                }
            }
        }
    }

    async fn add(&mut self, key: &[u8]) -> Outcome {
        let Ok(key) = str::from_utf8(key) else { return self.add_bytes(key).await };
        let bytes = Value::from(key).to_string().len() + 1;
        if self.keys.len() == KEYS_MAX || self.bytes + bytes > BYTES_MAX {
            self.flush().await?;
        }
        self.bytes += bytes;
        self.keys.push_back(key.to_owned());
        Ok(())
    }

    /// A key that is no text cannot stand in JSON: it is asked for alone.
    async fn add_bytes(&mut self, key: &[u8]) -> Outcome {
        self.flush().await?;
        let path = self.which.path(&format!("/lookup?key={}", keys::encoded(key)));
        let found = ask(&self.which.ask, "GET", &path, None).await?;
        self.show(&json!({ "found": [found] }));
        Ok(())
    }

    async fn flush(&mut self) -> Outcome {
        if self.keys.is_empty() { Ok(()) } else { self.request().await }
    }

    /// Asks for the keys that are there; without any it is known at least whether there is a map.
    async fn request(&mut self) -> Outcome {
        let body = json!({ "keys": self.keys });
        let answer = ask(&self.which.ask, "POST", &self.which.path("/lookup"), Some(&body)).await?;
        self.keys.clear();
        self.bytes = 0;
        self.show(&answer);
        Ok(())
    }

    fn show(&mut self, answer: &Value) {
        let found = items(&answer["found"]);
        self.asked += found.len();
        self.failed += found.iter().filter(|one| one["error"].is_string()).count();
        if self.which.ask.json {
            return print_line(&answer.to_string());
        }
        if found.is_empty() {
            return;
        }
        let mut table = Table::new(&["KEY", "OWNER", "ENDPOINTS", "STANDBYS", "TOKEN", "NOTE"]);
        found.iter().for_each(|one| table.row(row(one)));
        let skipped = usize::from(!self.widths.is_empty());
        let lines = table.lines_below(&mut self.widths, may_colour(stdout().is_terminal()));
        lines.iter().skip(skipped).for_each(|line| print_line(line));
    }
}

fn row(found: &Value) -> Vec<String> {
    if found["error"].is_string() {
        let none = || "-".to_owned();
        return vec![text(found, "key"), none(), none(), none(), none(), text(found, "error")];
    }
    let standbys: Vec<String> = items(&found["standbys"]).iter().map(|one| text(one, "name")).collect();
    vec![
        text(found, "key"),
        text(&found["owner"], "name"),
        endpoints(&found["owner"]),
        if standbys.is_empty() { "-".to_owned() } else { standbys.join(", ") },
        words::token(&found["token"]),
        notes(found).join("; "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(change: impl FnOnce(&mut Value)) -> Value {
        let host =
            |name: &str| json!({ "name": name, "zone": "z", "is_live": true, "endpoints": ["127.0.0.1:1"] });
        let mut found = json!({
            "key": "+49", "at": "00", "token": { "generation": 3, "author": "ab" }, "start": "00",
            "is_shared": false, "owner": host("n-1"), "standbys": [host("n-2")], "before": null, "instead_of": null
        });
        change(&mut found);
        found
    }

    #[test]
    fn what_is_unusual_about_an_owner_is_said() {
        let check = |change: fn(&mut Value), want: &str| assert_eq!(notes(&found(change)).join("; "), want);
        check(|_| (), "");
        check(|found| found["instead_of"] = json!("n-0"), "instead of n-0, which is out");
        check(
            |found| found["owner"]["is_live"] = json!(false),
            "nobody is there who serves it: n-1 is out, too",
        );
        check(
            |found| found["before"] = json!({ "name": "n-3", "is_live": true }),
            "n-3 owned it before and may still hand it over",
        );
        check(
            |found| found["before"] = json!({ "name": "n-3", "is_live": false }),
            "n-3 owned it before and is out: it hands nothing over",
        );
        assert_eq!(row(&found(|_| ())), ["+49", "n-1", "127.0.0.1:1", "n-2", "3-ab", ""]);
        assert_eq!(row(&json!({ "key": "", "error": "is empty" })), ["", "-", "-", "-", "-", "is empty"]);
    }
}
