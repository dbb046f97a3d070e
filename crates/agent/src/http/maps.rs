//! Maps of keys: who owns what, why, and what operators and programs have to say about it.
//!
//! A key is any bytes, percent-encoded in a query, where a plus sign is a plus sign: telephone numbers begin with one.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use ringmesh_node::io::{Command, Said};
use ringmesh_node::maps::{AuthorView, Generation, MapOrder, MapView};
use ringmesh_partition::heat::Report;
use ringmesh_partition::map::{Found, Map, Place, Seat};
use ringmesh_partition::position::Position;
use ringmesh_types::ids::NodeId;
use ringmesh_types::map_spec::{MapSpec, Pin};
use ringmesh_types::name::{NodeName, ServiceName};
use ringmesh_types::service::HealthState;
use ringmesh_types::snapshot::{InstanceView, MemberView, Snapshot};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::error::ApiError;
use super::write::{Body, Done, PathText, call, path, read};
use crate::clock::wall_now;

type Answer = Result<Json<Value>, ApiError>;

/// Keys in one request at most.
const KEYS_MAX: usize = 1_000;
/// Bytes of what a program calls itself at most.
const REPORTER_BYTES_MAX: usize = 128;

/// The members by id, as one snapshot has them.
#[derive(Debug)]
pub(crate) struct Directory {
    snapshot: Arc<Snapshot>,
    by_id: BTreeMap<NodeId, Arc<MemberView>>,
}

impl Directory {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        let by_id = snapshot.members.values().map(|member| (member.identity.id, member.clone())).collect();
        Self { snapshot, by_id }
    }

    /// The latest one.
    pub(super) fn of(api: &Api) -> Arc<Self> {
        let (known, latest) = (api.directory.load_full(), api.published.snapshot.load_full());
        if Arc::ptr_eq(&known.snapshot, &latest) {
            return known;
        }
        let directory = Arc::new(Self::new(latest));
        api.directory.store(directory.clone());
        directory
    }

    /// What runs on a member for a service.
    fn instances(&self, service: &ServiceName, member: &MemberView) -> &[InstanceView] {
        let Some(view) = self.snapshot.services.get(service) else { return &[] };
        let begin = view.instances.partition_point(|one| one.member.name < member.name);
        let end = view.instances.partition_point(|one| one.member.name <= member.name);
        &view.instances[begin..end]
    }

    /// Whether a member is there and something that it runs for the service is not failing.
    pub(super) fn is_live(&self, service: &ServiceName, id: NodeId) -> bool {
        let fails = |one: &InstanceView| {
            !one.health.is_empty() && one.health.iter().all(|health| health.state == HealthState::Failing)
        };
        self.by_id.get(&id).is_some_and(|member| {
            let instances = self.instances(service, member);
            member.state.is_serving() && !instances.is_empty() && !instances.iter().all(fails)
        })
    }

    fn name(&self, id: NodeId) -> String {
        self.by_id.get(&id).map_or_else(|| id.to_string(), |member| member.name.to_string())
    }

    /// A host as programs need it.
    pub(super) fn host_json(&self, service: &ServiceName, id: NodeId) -> Value {
        let member = self.by_id.get(&id);
        let endpoints: Vec<String> = member
            .map(|member| self.instances(service, member))
            .into_iter()
            .flatten()
            .flat_map(|one| &one.instance.endpoints)
            .map(|endpoint| endpoint.socket_addr().to_string())
            .collect();
        json!({
            "id": id.to_string(),
            "name": self.name(id),
            "zone": member.map(|member| &member.zone),
            "is_live": self.is_live(service, id),
            "endpoints": endpoints,
        })
    }
}

pub(super) fn service_of(name: PathText) -> Result<ServiceName, ApiError> {
    path(name)?.parse().map_err(|error| ApiError::invalid(format!("map: {error}")))
}

pub(super) fn view_of(api: &Api, service: &ServiceName) -> Result<Arc<MapView>, ApiError> {
    api.published.maps.load().by_service.get(service).cloned().ok_or_else(|| {
        ApiError::not_found(format!(
            "{service} has no map: declare one in the configuration file, with ringmesh map declare or with PUT \
             /api/v1/maps/{service}"
        ))
    })
}

fn map_of(view: &MapView) -> Result<&Arc<Map>, ApiError> {
    view.map.as_ref().ok_or_else(|| {
        let detail = format!(
            "the map of {0} has no generation yet: it begins a few seconds after a host that runs {0} is there",
            view.service
        );
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no map yet", detail)
    })
}

pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Value> {
    let directory = Directory::of(&api);
    let maps = api.published.maps.load();
    Json(maps.by_service.values().map(|view| summary_json(view, &directory)).collect())
}

fn summary_json(view: &MapView, directory: &Directory) -> Value {
    let parts = view.map.as_ref().map(|map| map.parts());
    json!({
        "map": view.service,
        "strategy": view.spec.strategy,
        "mode": view.spec.mode,
        "generation": parts.map(|parts| parts.generation),
        "author": view.author.map(|author| directory.name(author)),
        "am_author": view.am_author,
        "made_by": parts.map(|parts| directory.name(parts.author)),
        "hosts": parts.map_or(0, |parts| parts.roster.iter().filter(|host| host.capacity > 0).count()),
        "partitions": parts.map_or(0, |parts| parts.starts.len()),
        "dedicated": parts.map_or(0, |parts| parts.dedicated.len()),
        "taken": view.map.as_ref().map(|_| view.taken.as_unix_millis()),
        "declared_by": directory.name(view.declared_by),
        "declared": view.told.map(ringmesh_types::time::WallTime::as_unix_millis),
    })
}

/// A digest in hexadecimal digits.
fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn show(State(api): State<Arc<Api>>, name: PathText) -> Answer {
    let service = service_of(name)?;
    let view = view_of(&api, &service)?;
    let directory = Directory::of(&api);
    let mut whole = summary_json(&view, &directory);
    whole["spec"] = json!(view.spec);
    let Some(map) = &view.map else { return Ok(Json(whole)) };
    let parts = map.parts();
    let mut owned = vec![(0_usize, 0.0_f64); parts.roster.len()];
    for (index, seats) in parts.seats.iter().enumerate() {
        let of = &mut owned[seats.owner().index()];
        *of = (of.0 + 1, of.1 + map.slice(index).share());
    }
    let hosts = parts.roster.iter().zip(&owned).map(|(host, (partitions, share))| {
        let mut json = directory.host_json(&service, host.node);
        json["capacity"] = json!(host.capacity);
        json["partitions"] = json!(partitions);
        json["share"] = json!(share);
        json
    });
    let wall = wall_now();
    let places = |seats: &[Seat]| seats.iter().map(|seat| seat.0).collect::<Vec<u16>>();
    let partitions = (0..map.partitions()).map(|index| {
        let (slice, seats) = (map.slice(index), &parts.seats[index]);
        json!({
            "start": slice.start,
            "end": slice.end,
            "share": slice.share(),
            "owner": seats.owner().0,
            "standbys": places(seats.standbys()),
            "before": view.owner_before(wall, slice.start).map(|node| directory.name(node)),
        })
    });
    let dedicated = parts.dedicated.iter().map(|one| {
        let key = view
            .spec
            .pins
            .iter()
            .find(|pin| parts.strategy.position(pin.key.as_bytes()).is_ok_and(|at| at == one.at));
        json!({ "at": one.at, "key": key.map(|pin| &pin.key), "owners": places(&one.owners) })
    });
    whole["digest"] = json!(hex(&view.digest));
    whole["previous"] = json!(hex(&parts.previous));
    whole["token"] = token_json(map);
    whole["hosts"] = hosts.collect();
    whole["partitions"] = partitions.collect();
    whole["dedicated"] = dedicated.collect();
    Ok(Json(whole))
}

fn token_json(map: &Map) -> Value {
    json!({ "generation": map.parts().generation, "author": map.parts().author.to_string() })
}

/// What to look up.
enum Wanted {
    Key(Vec<u8>),
    At(Position),
}

/// Reads `key=` or `hash=`.
fn wanted(query: Option<&str>) -> Result<Wanted, ApiError> {
    let bad = |why: String| {
        ApiError::invalid(format!("{why}: write key=KEY, percent-encoded, or hash=16 hexadecimal digits"))
    };
    let mut found = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let bytes = percent_decoded(value)
            .ok_or_else(|| bad(format!("{name}: % is not followed by two hexadecimal digits")))?;
        let one = match name {
            "key" => Wanted::Key(bytes),
            "hash" => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Wanted::At(text.parse().map_err(|error| bad(format!("hash: {error}")))?)
            }
            other => return Err(bad(format!("{other:?} is not known here"))),
        };
        if found.replace(one).is_some() {
            return Err(bad("there is more than one key".to_owned()));
        }
    }
    found.ok_or_else(|| bad("key: is missing".to_owned()))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| core::str::from_utf8(digits).ok())?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    Some(bytes)
}

pub(super) async fn lookup(State(api): State<Arc<Api>>, name: PathText, RawQuery(query): RawQuery) -> Answer {
    let service = service_of(name)?;
    let view = view_of(&api, &service)?;
    let map = map_of(&view)?;
    let (key, at) = match wanted(query.as_deref())? {
        Wanted::Key(key) => {
            let at = map.parts().strategy.position(&key);
            let at = at.map_err(|error| ApiError::invalid(format!("key: {error}")))?;
            (Some(String::from_utf8_lossy(&key).into_owned()), at)
        }
        Wanted::At(at) => (None, at),
    };
    found_json(&api, &view, map, key.as_deref(), at).map(Json)
}

fn found_json(
    api: &Api,
    view: &MapView,
    map: &Map,
    key: Option<&str>,
    at: Position,
) -> Result<Value, ApiError> {
    let directory = Directory::of(api);
    let service = &view.service;
    let found = map.lookup_at(at).ok_or_else(|| nobody(service))?;
    let serving = serving(map, &found, |id| directory.is_live(service, id));
    let (owner, standbys) = serving.split_first().ok_or_else(|| nobody(service))?;
    let named = map.host(found.seats[0]).node;
    let before = view.owner_before(wall_now(), at).filter(|before| before != owner);
    let host = |id: &NodeId| directory.host_json(service, *id);
    let (place, start) = match found.place {
        Place::Partition(index) => ("partition", Some(map.slice(index).start)),
        Place::Dedicated => ("dedicated", None),
    };
    Ok(json!({
        "map": service,
        "key": key,
        "at": at,
        "token": token_json(map),
        "place": place,
        "start": start,
        "is_shared": found.place == Place::Dedicated && found.seats.len() > 1,
        "owner": host(owner),
        "standbys": standbys.iter().map(host).collect::<Vec<_>>(),
        "before": before.as_ref().map(host),
        "instead_of": (named != *owner).then(|| directory.name(named)),
    }))
}

fn nobody(service: &ServiceName) -> ApiError {
    let detail = format!("nobody serves {service} now");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "nobody is there", detail)
}

/// Who serves what was found: those that are live first, in order, then the others; somebody else if none of them is live.
fn serving(map: &Map, found: &Found<'_>, is_live: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
    let named = found.seats.iter().map(|seat| map.host(*seat).node);
    let (live, others): (Vec<NodeId>, Vec<NodeId>) = named.partition(|node| is_live(*node));
    let instead = if live.is_empty() { map.last_resort(found.at, &is_live) } else { None };
    live.into_iter().chain(instead).chain(others).collect()
}

/// Many keys at once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeys {
    keys: Vec<String>,
}

pub(super) async fn lookup_many(State(api): State<Arc<Api>>, name: PathText, body: Body) -> Answer {
    let service = service_of(name)?;
    let RawKeys { keys } = read(body)?;
    if keys.len() > KEYS_MAX {
        return Err(ApiError::invalid(format!("keys: {} are too many, {KEYS_MAX} at most", keys.len())));
    }
    let view = view_of(&api, &service)?;
    let map = map_of(&view)?;
    let one = |key: &String| {
        let at = map.parts().strategy.position(key.as_bytes());
        match at {
            Ok(at) => found_json(&api, &view, map, Some(key), at),
            Err(error) => Ok(json!({ "key": key, "error": error.to_string() })),
        }
    };
    Ok(Json(json!({ "found": keys.iter().map(one).collect::<Result<Vec<_>, _>>()? })))
}

/// What a program measured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHeat {
    reporter: String,
    report: Report,
}

pub(super) async fn report(State(api): State<Arc<Api>>, name: PathText, body: Body) -> Done {
    let service = service_of(name)?;
    let RawHeat { reporter, report } = read(body)?;
    if reporter.is_empty() || reporter.len() > REPORTER_BYTES_MAX {
        let why = format!("reporter: has {} bytes, 1 to {REPORTER_BYTES_MAX} are allowed", reporter.len());
        return Err(ApiError::invalid(why));
    }
    call(&api, Command::ReportHeat { service, reporter, report: Box::new(report) }).await
}

async fn author(api: &Api, service: ServiceName) -> Result<AuthorView, ApiError> {
    match api.handle.call(Command::MapAuthor(service)).await? {
        Said::Author(view) => Ok(*view),
        Said::Words(words) => Err(ApiError::new(StatusCode::BAD_GATEWAY, "no view", words)),
    }
}

pub(super) async fn heat(State(api): State<Arc<Api>>, name: PathText) -> Answer {
    let service = service_of(name)?;
    let seen = author(&api, service.clone()).await?;
    let directory = Directory::of(&api);
    let by_member = |all: &[(NodeId, f64)]| -> Vec<Value> {
        all.iter().map(|(id, cost)| json!({ "host": directory.name(*id), "cost": cost })).collect()
    };
    let by_key = |name: &str, all: &[(Position, f64)]| -> Vec<Value> {
        all.iter().map(|(at, cost)| json!({ name: at, "cost": cost })).collect()
    };
    Ok(Json(json!({
        "map": service,
        "author": directory.name(seen.author),
        "generation": seen.generation,
        "since_ms": seen.since_ms,
        "is_even": seen.is_even,
        "distinct": seen.distinct,
        "hosts": by_member(&seen.members),
        "absurd": by_member(&seen.absurd),
        "partitions": by_key("start", &seen.partitions),
        "dedicated": by_key("at", &seen.dedicated),
        "hot": by_key("at", &seen.hot),
    })))
}

pub(super) async fn plan(State(api): State<Arc<Api>>, name: PathText) -> Answer {
    let service = service_of(name)?;
    let mode = view_of(&api, &service)?.spec.mode.clone();
    let seen = author(&api, service.clone()).await?;
    let proposal = seen
        .proposal
        .map(|one| json!({ "generation": one.generation, "churn": one.churn, "steps": one.steps }));
    Ok(Json(json!({
        "map": service,
        "mode": mode,
        "author": Directory::of(&api).name(seen.author),
        "generation": seen.generation,
        "since_ms": seen.since_ms,
        "proposal": proposal,
    })))
}

pub(super) async fn history(State(api): State<Arc<Api>>, name: PathText) -> Answer {
    let view = view_of(&api, &service_of(name)?)?;
    let directory = Directory::of(&api);
    let told = |one: &Arc<Generation>| {
        json!({
            "generation": one.generation,
            "author": directory.name(one.author),
            "made": one.made.map(ringmesh_types::time::WallTime::as_unix_millis),
            "is_instead": one.is_instead,
            "steps": one.steps,
            "steps_count": one.steps_count,
        })
    };
    Ok(Json(view.history.iter().map(told).collect()))
}

pub(super) async fn declare(State(api): State<Arc<Api>>, name: PathText, body: Body) -> Done {
    let spec: MapSpec = read(body)?;
    call(&api, Command::DeclareMap(service_of(name)?, spec)).await
}

pub(super) async fn withdraw(State(api): State<Arc<Api>>, name: PathText) -> Done {
    call(&api, Command::WithdrawMap(service_of(name)?)).await
}

pub(super) async fn apply(State(api): State<Arc<Api>>, name: PathText) -> Done {
    call(&api, Command::OrderMap(service_of(name)?, MapOrder::Apply)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSplit {
    start: Position,
    #[serde(default)]
    at: Option<Position>,
}

pub(super) async fn split(State(api): State<Arc<Api>>, name: PathText, body: Body) -> Done {
    let RawSplit { start, at } = read(body)?;
    call(&api, Command::OrderMap(service_of(name)?, MapOrder::Split { start, at })).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMerge {
    start: Position,
}

pub(super) async fn merge(State(api): State<Arc<Api>>, name: PathText, body: Body) -> Done {
    let RawMerge { start } = read(body)?;
    call(&api, Command::OrderMap(service_of(name)?, MapOrder::Merge { start })).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPin {
    key: String,
    #[serde(default)]
    node: Option<NodeName>,
}

pub(super) async fn dedicate(State(api): State<Arc<Api>>, name: PathText, body: Body) -> Done {
    let RawPin { key, node } = read(body)?;
    call(&api, Command::Pin(service_of(name)?, Pin { key, node })).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    key: String,
}

pub(super) async fn undedicate(State(api): State<Arc<Api>>, name: PathText, body: Body) -> Done {
    let RawKey { key } = read(body)?;
    call(&api, Command::Unpin(service_of(name)?, key)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(query: &str) -> Result<Vec<u8>, ApiError> {
        match wanted(Some(query))? {
            Wanted::Key(key) => Ok(key),
            Wanted::At(at) => Ok(at.0.to_be_bytes().to_vec()),
        }
    }

    #[test]
    fn a_plus_is_a_plus_and_any_byte_can_be_asked_for() {
        assert_eq!(key("key=+4930@a.b.C").expect("a key"), b"+4930@a.b.C");
        assert_eq!(key("key=%2b49%20%FF").expect("a key"), b"+49 \xff");
        assert_eq!(key("hash=00000000000000ff").expect("a position"), 255_u64.to_be_bytes());
    }

    #[test]
    fn what_cannot_be_asked_for_is_named() {
        for bad in ["", "kay=a", "key=%2", "key=%zz", "key=a&key=b", "hash=12", "hash=00000000000000fg"] {
            assert!(key(bad).is_err(), "{bad}");
        }
    }
}
