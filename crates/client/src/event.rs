//! What the agent tells of a map, as JSON.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringmesh_partition::map::Map;
use ringmesh_partition::wire::PeerBytesError;
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use serde::Deserialize;

use crate::stream::Event;
use crate::view::Host;

/// What an event says.
#[derive(Debug)]
pub(crate) enum Told {
    /// Another map counts.
    Map(Box<NewMap>),
    /// Somebody's state or endpoints changed.
    Hosts(Vec<Host>),
    /// Something that later agents tell.
    Other,
}

/// A map, and what belongs to it.
#[derive(Debug)]
pub(crate) struct NewMap {
    pub(crate) map: Map,
    /// The map before, and for how long its owners are named.
    pub(crate) before: Option<(Map, Duration)>,
    pub(crate) me: NodeId,
    pub(crate) hosts: Vec<Host>,
}

/// Why an event is not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerEventError {
    #[error("the agent's event {name:?} is not as it should be: {cause}")]
    Json { name: String, cause: serde_json::Error },
    #[error("{field}: is not written in base64: {cause}")]
    Base64 { field: &'static str, cause: base64::DecodeError },
    #[error("{field}: is no map: {cause}")]
    Map { field: &'static str, cause: PeerBytesError },
    #[error("the map is one of {0}, another service was asked for")]
    Service(ServiceName),
    #[error("the map is generation {held}, the event says {told}")]
    Generation { told: u64, held: u64 },
    #[error("{field}: {cause}")]
    Node { field: &'static str, cause: ringmesh_types::ids::ParseNodeIdError },
}

#[derive(Deserialize)]
struct RawMap {
    generation: u64,
    map: String,
    before: Option<String>,
    #[serde(default)]
    hand_over_ms: u64,
    me: String,
    hosts: Vec<RawHost>,
}

#[derive(Deserialize)]
struct RawHosts {
    hosts: Vec<RawHost>,
}

#[derive(Deserialize)]
struct RawHost {
    id: String,
    name: String,
    #[serde(default)]
    zone: String,
    is_live: bool,
    #[serde(default)]
    endpoints: Vec<SocketAddr>,
}

/// Reads an event of the watch of `service`.
pub(crate) fn read(event: &Event, service: &ServiceName) -> Result<Told, PeerEventError> {
    match event.name.as_str() {
        "map" => Ok(Told::Map(Box::new(read_map(json(event)?, service)?))),
        "hosts" => Ok(Told::Hosts(read_hosts(json::<RawHosts>(event)?.hosts)?)),
        _ => Ok(Told::Other),
    }
}

fn json<'a, T: Deserialize<'a>>(event: &'a Event) -> Result<T, PeerEventError> {
    let not_so = |cause| PeerEventError::Json { name: event.name.clone(), cause };
    serde_json::from_str(&event.data).map_err(not_so)
}

fn read_map(raw: RawMap, service: &ServiceName) -> Result<NewMap, PeerEventError> {
    let map = map_of("map", &raw.map)?;
    let parts = map.parts();
    if parts.service != *service {
        return Err(PeerEventError::Service(parts.service.clone()));
    }
    if parts.generation != raw.generation {
        return Err(PeerEventError::Generation { told: raw.generation, held: parts.generation });
    }
    let before = raw.before.map(|before| map_of("before", &before)).transpose()?;
    let left = Duration::from_millis(raw.hand_over_ms);
    Ok(NewMap {
        before: before.map(|before| (before, left)),
        me: node_of("me", &raw.me)?,
        hosts: read_hosts(raw.hosts)?,
        map,
    })
}

fn map_of(field: &'static str, text: &str) -> Result<Map, PeerEventError> {
    let bytes = STANDARD.decode(text).map_err(|cause| PeerEventError::Base64 { field, cause })?;
    Map::from_bytes(&bytes).map_err(|cause| PeerEventError::Map { field, cause })
}

fn node_of(field: &'static str, text: &str) -> Result<NodeId, PeerEventError> {
    text.parse().map_err(|cause| PeerEventError::Node { field, cause })
}

fn read_hosts(raw: Vec<RawHost>) -> Result<Vec<Host>, PeerEventError> {
    let host = |raw: RawHost| {
        let RawHost { id, name, zone, is_live, endpoints } = raw;
        Ok(Host { id: node_of("hosts.id", &id)?, name, zone, is_live, endpoints })
    };
    raw.into_iter().map(host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::tests::map;

    #[test]
    fn what_is_wrong_with_an_event_is_said() {
        let check = |data: &str, want: &str| {
            let event = Event { name: "map".to_owned(), data: data.to_owned() };
            let error = read(&event, &"limiter".parse().expect("a name")).expect_err(want);
            assert!(error.to_string().contains(want), "{error}");
        };
        let bytes = STANDARD.encode(map(2).to_bytes());
        let event = |generation: u64, map: &str, me: &str| {
            format!(
                r#"{{"generation":{generation},"author":"0000000000000001","map":"{map}","before":null,"hand_over_ms":0,"me":"{me}","hosts":[]}}"#
            )
        };
        check("{}", "the agent's event \"map\" is not as it should be: missing field `generation`");
        check(&event(1, "!", "0000000000000001"), "map: is not written in base64");
        check(&event(1, "AAAA", "0000000000000001"), "map: is no map");
        check(&event(2, &bytes, "0000000000000001"), "the map is generation 1, the event says 2");
        check(&event(1, &bytes, "me"), "me: a node id is 16 hexadecimal digits");
        let event = Event { name: "map".to_owned(), data: event(1, &bytes, "0000000000000001") };
        let other = read(&event, &"other".parse().expect("a name")).expect_err("is another service");
        assert!(matches!(other, PeerEventError::Service(_)), "{other}");
    }

    #[test]
    fn what_later_agents_tell_is_passed_over() {
        let event = Event { name: "weather".to_owned(), data: "fine".to_owned() };
        let told = read(&event, &"limiter".parse().expect("a name")).expect("is no error");
        assert!(matches!(told, Told::Other));
    }
}
