//! Prints the vectors of `docs/partition-map.md`, by which another reader of maps can be tested:
//! `cargo run -p ringmesh-partition --example vectors > docs/partition-map-vectors.json`

use ringmesh_partition::difference::Difference;
use ringmesh_partition::map::{Dedicated, Host, Map, Parts, Seat, Seats};
use ringmesh_partition::position::{Position, Strategy};
use ringmesh_types::ids::NodeId;
use serde_json::{Value, json};

const KEYS: [&str; 12] = [
    "a",
    "acme",
    "Acme",
    "acme+1@example.com",
    "+4930123456",
    "+49301234567",
    "sip:alice@example.org;user=phone",
    "0",
    "account-000001",
    "ü",
    "日本",
    "a key with spaces, dots... and 48 bytes of length",
];

fn main() {
    let maps = [map(Strategy::Hash), map(Strategy::Name)];
    let hash =
        |key: &&str| json!({ "key": key, "hash": at(Strategy::Hash, key), "name": at(Strategy::Name, key) });
    let vectors = json!({
        "positions": KEYS.iter().map(hash).collect::<Vec<_>>(),
        "bytes": [bytes(&[0x00]), bytes(&[0xff, 0xfe]), bytes(&[0x61; 1_024])],
        "maps": maps.iter().map(shown).collect::<Vec<_>>(),
        "difference": difference(&maps[0]),
    });
    println!("{}", serde_json::to_string_pretty(&vectors).expect("is JSON"));
}

fn at(strategy: Strategy, key: &str) -> String {
    strategy.position(key.as_bytes()).expect("a key").to_string()
}

fn bytes(key: &[u8]) -> Value {
    let at = |strategy: Strategy| strategy.position(key).expect("a key").to_string();
    json!({ "key_hex": hex(key), "hash": at(Strategy::Hash), "name": at(Strategy::Name) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 8])
}

fn map(strategy: Strategy) -> Map {
    let seats =
        |all: &[u16]| Seats::new(&all.iter().copied().map(Seat).collect::<Vec<_>>()).expect("are distinct");
    Map::new(Parts {
        service: "limiter".parse().expect("a name"),
        generation: 300,
        author: node(1),
        previous: [0xab; 32],
        strategy,
        roster: vec![
            Host { node: node(1), capacity: 100 },
            Host { node: node(2), capacity: 300 },
            Host { node: node(3), capacity: 0 },
        ],
        starts: [0x0800_0000, 0x3000_0000, 0x6100_0000, 0xa000_0000]
            .map(|start: u64| Position(start << 32))
            .into(),
        seats: vec![seats(&[0, 1]), seats(&[1, 0]), seats(&[1]), seats(&[0, 1, 2])],
        dedicated: vec![Dedicated {
            at: strategy.position(b"acme").expect("a key"),
            owners: vec![Seat(1), Seat(0)],
        }],
    })
    .expect("is a map")
}

fn shown(map: &Map) -> Value {
    let lookup = |key: &&str| {
        let found = map.lookup(key.as_bytes()).expect("a key").expect("somebody serves");
        let nodes: Vec<String> = found.seats.iter().map(|seat| map.host(*seat).node.to_string()).collect();
        json!({ "key": key, "nodes": nodes })
    };
    json!({
        "bytes_hex": hex(&map.to_bytes()),
        "digest_hex": hex(&map.digest()),
        "lookups": KEYS.iter().map(lookup).collect::<Vec<_>>(),
    })
}

/// The second partition is split, the third goes to another host, the fourth becomes part of it, the key is spread no more.
fn difference(before: &Map) -> Value {
    let mut parts = before.parts().clone();
    (parts.generation, parts.previous) = (301, before.digest());
    parts.starts =
        [0x0800_0000, 0x3000_0000, 0x4000_0000, 0x6100_0000].map(|start: u64| Position(start << 32)).into();
    parts.seats = vec![parts.seats[0], parts.seats[1], parts.seats[1], Seats::of(Seat(0))];
    parts.dedicated.clear();
    let after = Map::new(parts).expect("is a map");
    let difference = Difference::between(before, &after).expect("comes next");
    json!({ "bytes_hex": hex(&difference.to_bytes()), "after_hex": hex(&after.to_bytes()) })
}
