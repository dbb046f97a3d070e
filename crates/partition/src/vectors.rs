//! The published vectors hold for this reader, too.

use serde_json::Value;

use crate::difference::Difference;
use crate::map::Map;
use crate::position::Strategy;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../docs/partition-map-vectors.json")).expect("is JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("is text")
}

fn bytes(value: &Value) -> Vec<u8> {
    let digits = text(value);
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits"))
        .collect()
}

#[test]
fn published_positions_hold() {
    let vectors = vectors();
    let check = |key: &[u8], entry: &Value| {
        for (strategy, name) in [(Strategy::Hash, "hash"), (Strategy::Name, "name")] {
            assert_eq!(strategy.position(key).expect("a key").to_string(), text(&entry[name]), "{entry}");
        }
    };
    let texts = vectors["positions"].as_array().expect("is a list");
    texts.iter().for_each(|entry| check(text(&entry["key"]).as_bytes(), entry));
    let raw = vectors["bytes"].as_array().expect("is a list");
    raw.iter().for_each(|entry| check(&bytes(&entry["key_hex"]), entry));
    assert!(texts.len() >= 10 && raw.len() >= 3);
}

#[test]
fn published_maps_are_read_and_looked_up() {
    for entry in vectors()["maps"].as_array().expect("is a list") {
        let map = Map::from_bytes(&bytes(&entry["bytes_hex"])).expect("is a map");
        assert_eq!(map.digest().to_vec(), bytes(&entry["digest_hex"]));
        for lookup in entry["lookups"].as_array().expect("is a list") {
            let found = map.lookup(text(&lookup["key"]).as_bytes()).expect("a key").expect("somebody serves");
            let nodes: Vec<String> =
                found.seats.iter().map(|seat| map.host(*seat).node.to_string()).collect();
            assert_eq!(serde_json::json!(nodes), lookup["nodes"], "{lookup}");
        }
    }
}

#[test]
fn the_published_difference_makes_the_published_map() {
    let vectors = vectors();
    let before = Map::from_bytes(&bytes(&vectors["maps"][0]["bytes_hex"])).expect("is a map");
    let difference =
        Difference::from_bytes(&bytes(&vectors["difference"]["bytes_hex"])).expect("is a difference");
    let after = difference.apply(&before).expect("comes next");
    assert_eq!(after.to_bytes(), bytes(&vectors["difference"]["after_hex"]));
}
