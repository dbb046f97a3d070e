//! `[[map]]`: how the keys of a service are spread over its hosts.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ringmesh_node::maps::MAPS_MAX;
use ringmesh_partition::definition::Definition;
use ringmesh_types::ids::NodeId;
use ringmesh_types::map_spec::{MapSpec, PINS_MAX, Pin};
use ringmesh_types::name::{NodeName, ServiceName};

use super::reader::{Reader, Table};
use super::values;

const MAP_KEYS: [&str; 6] = ["service", "strategy", "mode", "partitions_per_host", "standbys", "pin"];
const PIN_KEYS: [&str; 2] = ["key", "node"];

/// Reads all declared maps, without those that are wrong.
pub(super) fn read<'a>(reader: &mut Reader<'a>, root: &Table<'a>) -> BTreeMap<ServiceName, MapSpec> {
    let mut maps = BTreeMap::new();
    for table in reader.tables(root, "map", MAPS_MAX) {
        let Some((service, spec)) = read_map(reader, &table) else {
            continue;
        };
        match maps.entry(service) {
            Entry::Vacant(free) => {
                free.insert(spec);
            }
            Entry::Occupied(taken) => {
                let why = format!("the map of {} is declared already", taken.key());
                reader.reject_key(&table, "service", why);
            }
        }
    }
    maps
}

fn read_map<'a>(reader: &mut Reader<'a>, table: &Table<'a>) -> Option<(ServiceName, MapSpec)> {
    reader.check_keys(table, &MAP_KEYS);
    let usual = MapSpec::default();
    let service: Option<ServiceName> = reader.required(table, "service", values::name);
    let strategy = reader.optional(table, "strategy", values::any).unwrap_or(usual.strategy);
    let mode = reader.optional(table, "mode", values::any).unwrap_or(usual.mode);
    let partitions_per_host =
        reader.number(table, "partitions_per_host", &(1..=1_000)).unwrap_or(usual.partitions_per_host);
    let standbys = reader.number(table, "standbys", &(0..=3)).unwrap_or(usual.standbys);
    let mut pins = Vec::new();
    for pin in reader.tables(table, "pin", PINS_MAX) {
        reader.check_keys(&pin, &PIN_KEYS);
        let key: Option<String> = reader.required(&pin, "key", values::any);
        let node: Option<NodeName> = reader.optional(&pin, "node", values::name);
        pins.extend(key.map(|key| Pin { key, node }));
    }
    let spec = MapSpec { strategy, mode, partitions_per_host, standbys, pins };
    // Who a host is makes no difference to whether it may stand here.
    match Definition::read(&spec, |_| NodeId::from_bytes([0; 8])) {
        Ok(_) => service.map(|service| (service, spec)),
        Err(problems) => {
            for problem in problems {
                let (field, why) = problem.split_once(": ").unwrap_or(("service", &problem));
                let key = field.split(['[', '.']).next().unwrap_or(field);
                reader.reject_key(table, if key == "pins" { "pin" } else { key }, why);
            }
            None
        }
    }
}
