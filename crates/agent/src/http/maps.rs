//! Maps of keys: who owns what, why, and what operators and programs have to say about it.
//!
//! A key is any bytes, percent-encoded in a query, where a plus sign is a plus sign: telephone numbers begin with one.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use ringmesh_node::io::{Command, Said};
use ringmesh_node::maps::{AuthorView, Generation, MapOrder, MapView, MapsView};
use ringmesh_partition::follow::Token;
use ringmesh_partition::heat::Report;
use ringmesh_partition::map::{Found, Map, Place, Seat};
use ringmesh_partition::position::Position;
use ringmesh_types::ids::NodeId;
use ringmesh_types::map_spec::{MapSpec, Pin};
use ringmesh_types::name::{NodeName, ServiceName};
use ringmesh_types::service::HealthState;
use ringmesh_types::snapshot::{InstanceView, MemberView, ServiceView, Snapshot};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
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

/// Who is there and what maps there are, at one moment, made ready for questions about keys.
#[derive(Debug)]
pub(crate) struct Directory {
    snapshot: Arc<Snapshot>,
    maps: Arc<MapsView>,
    by_id: BTreeMap<NodeId, Arc<MemberView>>,
    hosts: BTreeMap<ServiceName, Arc<Hosts>>,
}

/// The hosts of one map. Each is written when somebody first asks for it.
#[derive(Debug)]
pub(super) struct Hosts {
    map: Arc<Map>,
    service: Option<Arc<ServiceView>>,
    written: BTreeMap<NodeId, OnceLock<Written>>,
}

#[derive(Debug)]
struct Written {
    json: Box<RawValue>,
    is_live: bool,
}

impl Hosts {
    fn new(map: &Arc<Map>, service: Option<&Arc<ServiceView>>) -> Self {
        let roster = map.parts().roster.iter();
        let written = roster.map(|host| (host.node, OnceLock::new())).collect();
        Self { map: Arc::clone(map), service: service.cloned(), written }
    }

    /// Whether nothing that is written here has changed: a service's view is made anew whenever a member that runs it changes.
    fn are_of(&self, map: &Arc<Map>, service: Option<&Arc<ServiceView>>) -> bool {
        let is_same_service = match (&self.service, service) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        is_same_service && Arc::ptr_eq(&self.map, map)
    }
}

impl Directory {
    pub(crate) fn new(snapshot: Arc<Snapshot>, maps: Arc<MapsView>, before: Option<&Self>) -> Self {
        let by_id = snapshot.members.values().map(|member| (member.identity.id, member.clone())).collect();
        let mut hosts = BTreeMap::new();
        for (name, view) in &maps.by_service {
            let (Some(map), service) = (&view.map, snapshot.services.get(name)) else { continue };
            let known = before.and_then(|before| before.hosts.get(name));
            let known = known.filter(|known| known.are_of(map, service)).cloned();
            hosts.insert(name.clone(), known.unwrap_or_else(|| Arc::new(Hosts::new(map, service))));
        }
        Self { snapshot, maps, by_id, hosts }
    }

    /// The latest one.
    pub(super) fn of(api: &Api) -> Arc<Self> {
        let known = api.directory.load();
        let (maps, snapshot) = (api.published.maps.load(), api.published.snapshot.load());
        if Arc::ptr_eq(&known.snapshot, &snapshot) && Arc::ptr_eq(&known.maps, &maps) {
            return Arc::clone(&known);
        }
        let (maps, snapshot) = (Arc::clone(&maps), Arc::clone(&snapshot));
        let directory = Arc::new(Self::new(snapshot, maps, Some(&known)));
        api.directory.store(directory.clone());
        directory
    }

    /// The map of a service, if it is declared.
    pub(super) fn map(&self, service: &ServiceName) -> Option<&Arc<MapView>> {
        self.maps.by_service.get(service)
    }

    /// The hosts of a map: another value exactly if one of them may be another.
    pub(super) fn hosts(&self, service: &ServiceName) -> Option<&Arc<Hosts>> {
        self.hosts.get(service)
    }

    /// This agent's own id.
    pub(super) fn me(&self) -> NodeId {
        self.snapshot.local.identity.id
    }

    /// What runs on a member for a service.
    fn instances(&self, service: &ServiceName, member: &MemberView) -> &[InstanceView] {
        let Some(view) = self.snapshot.services.get(service) else { return &[] };
        let begin = view.instances.partition_point(|one| one.member.name < member.name);
        let end = view.instances.partition_point(|one| one.member.name <= member.name);
        &view.instances[begin..end]
    }

    fn write(&self, service: &ServiceName, id: NodeId) -> Written {
        let fails = |one: &InstanceView| {
            !one.health.is_empty() && one.health.iter().all(|health| health.state == HealthState::Failing)
        };
        let member = self.by_id.get(&id);
        let instances = member.map(|member| self.instances(service, member)).unwrap_or_default();
        let is_live = member.is_some_and(|member| member.state.is_serving())
            && !instances.is_empty()
            && !instances.iter().all(fails);
        let endpoints = instances.iter().flat_map(|one| &one.instance.endpoints);
        let endpoints: Vec<String> = endpoints.map(|endpoint| endpoint.socket_addr().to_string()).collect();
        let host = HostJson {
            id: id.to_string(),
            name: self.name(id),
            zone: member.map(|member| member.zone.as_str()),
            is_live,
            endpoints,
        };
        Written { json: to_raw_value(&host).expect("texts are JSON"), is_live }
    }

    /// A member of a map's roster as it is written.
    fn written(&self, service: &ServiceName, id: NodeId) -> Option<&Written> {
        let cell = self.hosts.get(service)?.written.get(&id)?;
        Some(cell.get_or_init(|| self.write(service, id)))
    }

    /// Whether a member is there and something that it runs for the service is not failing.
    pub(super) fn is_live(&self, service: &ServiceName, id: NodeId) -> bool {
        self.written(service, id).is_some_and(|host| host.is_live)
    }

    fn name(&self, id: NodeId) -> String {
        self.by_id.get(&id).map_or_else(|| id.to_string(), |member| member.name.to_string())
    }

    /// A host as programs need it.
    pub(super) fn host_json(&self, service: &ServiceName, id: NodeId) -> Option<&RawValue> {
        self.written(service, id).map(|host| &*host.json)
    }
}

#[derive(Debug, Serialize)]
struct HostJson<'a> {
    id: String,
    name: String,
    zone: Option<&'a str>,
    is_live: bool,
    endpoints: Vec<String>,
}

pub(super) fn service_of(name: PathText) -> Result<ServiceName, ApiError> {
    path(name)?.parse().map_err(|error| ApiError::invalid(format!("map: {error}")))
}

pub(super) fn view_of<'a>(
    directory: &'a Directory,
    service: &ServiceName,
) -> Result<&'a Arc<MapView>, ApiError> {
    directory.map(service).ok_or_else(|| {
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
    let directory = Directory::of(&api);
    let view = view_of(&directory, &service)?;
    let mut whole = summary_json(view, &directory);
    whole["spec"] = json!(view.spec);
    let Some(map) = &view.map else { return Ok(Json(whole)) };
    let parts = map.parts();
    let mut owned = vec![(0_usize, 0.0_f64); parts.roster.len()];
    for (index, seats) in parts.seats.iter().enumerate() {
        let of = &mut owned[seats.owner().index()];
        *of = (of.0 + 1, of.1 + map.slice(index).share());
    }
    let hosts = parts.roster.iter().zip(&owned).map(|(host, (partitions, share))| {
        let mut json = json!(directory.host_json(&service, host.node));
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
    whole["token"] = json!(TokenJson::of(map));
    whole["hosts"] = hosts.collect();
    whole["partitions"] = partitions.collect();
    whole["dedicated"] = dedicated.collect();
    Ok(Json(whole))
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

pub(super) async fn lookup(
    State(api): State<Arc<Api>>,
    name: PathText,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let service = service_of(name)?;
    let directory = Directory::of(&api);
    let view = view_of(&directory, &service)?;
    let map = map_of(view)?;
    let (key, at) = match wanted(query.as_deref())? {
        Wanted::Key(key) => {
            let at = map.parts().strategy.position(&key);
            let at = at.map_err(|error| ApiError::invalid(format!("key: {error}")))?;
            (Some(String::from_utf8_lossy(&key).into_owned()), at)
        }
        Wanted::At(at) => (None, at),
    };
    Ok(Json(found_json(&directory, view, map, key.as_deref(), at)?).into_response())
}

/// Who serves a key, as it is written.
#[derive(Debug, Serialize)]
struct FoundJson<'a> {
    map: &'a str,
    key: Option<&'a str>,
    at: Position,
    token: TokenJson,
    place: &'static str,
    start: Option<Position>,
    is_shared: bool,
    owner: Option<&'a RawValue>,
    standbys: Vec<Option<&'a RawValue>>,
    before: Option<&'a RawValue>,
    instead_of: Option<String>,
}

#[derive(Debug, Serialize)]
struct TokenJson {
    generation: u64,
    author: String,
}

impl TokenJson {
    fn of(map: &Map) -> Self {
        let Token { generation, author } = Token::of(map);
        Self { generation, author: author.to_string() }
    }
}

fn found_json<'a>(
    directory: &'a Directory,
    view: &'a MapView,
    map: &Map,
    key: Option<&'a str>,
    at: Position,
) -> Result<FoundJson<'a>, ApiError> {
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
    Ok(FoundJson {
        map: service.as_str(),
        key,
        at,
        token: TokenJson::of(map),
        place,
        start,
        is_shared: found.place == Place::Dedicated && found.seats.len() > 1,
        owner: host(owner),
        standbys: standbys.iter().map(host).collect(),
        before: before.as_ref().and_then(host),
        instead_of: (named != *owner).then(|| directory.name(named)),
    })
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
    let directory = Directory::of(&api);
    let view = view_of(&directory, &service)?;
    let map = map_of(view)?;
    let one = |key: &String| match map.parts().strategy.position(key.as_bytes()) {
        Ok(at) => Ok(json!(found_json(&directory, view, map, Some(key), at)?)),
        Err(error) => Ok(json!({ "key": key, "error": error.to_string() })),
    };
    Ok(Json(json!({ "found": keys.iter().map(one).collect::<Result<Vec<_>, ApiError>>()? })))
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
    let partitions: Vec<Value> =
        seen.partitions.iter().map(|(start, cost)| json!({ "start": start, "cost": cost })).collect();
    let names: BTreeMap<Position, &String> = seen.names.iter().map(|(at, name)| (*at, name)).collect();
    let named = |all: &[(Position, f64)]| -> Vec<Value> {
        all.iter().map(|(at, cost)| json!({ "at": at, "cost": cost, "key": names.get(at) })).collect()
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
        "partitions": partitions,
        "dedicated": named(&seen.dedicated),
        "hot": named(&seen.hot),
    })))
}

pub(super) async fn plan(State(api): State<Arc<Api>>, name: PathText) -> Answer {
    let service = service_of(name)?;
    let mode = view_of(&Directory::of(&api), &service)?.spec.mode.clone();
    let seen = author(&api, service.clone()).await?;
    let proposal = seen.proposal.map(
        |one| json!({ "id": one.id, "generation": one.generation, "churn": one.churn, "steps": one.steps }),
    );
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
    let directory = Directory::of(&api);
    let view = view_of(&directory, &service_of(name)?)?;
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

/// Which plan is meant; without a body whatever waits.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApply {
    #[serde(default)]
    plan: Option<String>,
}

pub(super) async fn apply(State(api): State<Arc<Api>>, name: PathText, body: Body) -> Done {
    let is_bare = body.as_ref().is_ok_and(|body| body.is_empty());
    let RawApply { plan } = if is_bare { RawApply::default() } else { read(body)? };
    call(&api, Command::OrderMap(service_of(name)?, MapOrder::Apply { plan })).await
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
