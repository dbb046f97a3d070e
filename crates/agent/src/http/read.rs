//! Answers from the current snapshot.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use ringmesh_dns::explain::{self, Explanation};
use ringmesh_dns::profile::Profile;
use ringmesh_gossip::registry;
use ringmesh_types::name::{ServiceName, ZoneName};
use ringmesh_types::service::HealthState;
use ringmesh_types::snapshot::{InstanceView, MemberState, MemberView, ServiceView};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::error::ApiError;
use crate::clock::wall_now;
use crate::doctor::{Examination, Scope};
use crate::followers::{TooManyWait, WAITING_MAX};

type Answer = Result<Json<Value>, ApiError>;

pub(super) async fn agent(State(api): State<Arc<Api>>) -> Json<Value> {
    let snapshot = api.published.snapshot.load();
    let local = &snapshot.local;
    Json(json!({
        "cluster": snapshot.cluster,
        "node": local.name,
        "id": local.identity.id.to_string(),
        "epoch": local.identity.epoch,
        "zone": local.zone,
        "region": local.region,
        "version": local.agent_version,
        "addresses": local.addresses,
        "mesh": local.identity.addr.to_string(),
        "dns": api.dns_listen,
        "domain": api.domain,
        "members": snapshot.members.len(),
        "serving": snapshot.serving_members(),
        "isolated_since": snapshot.isolated_since.map(ringmesh_types::time::WallTime::as_unix_millis),
        "services": snapshot.services.len(),
        "documents": api.published.documents.load(Ordering::Relaxed),
        "digest": format!("{:016x}", api.published.root.load(Ordering::Relaxed)),
        "links": api.mesh.open_links(),
        "uptime_s": api.started.elapsed().as_secs(),
        "pid": std::process::id(),
    }))
}

pub(super) async fn members(State(api): State<Arc<Api>>) -> Json<Value> {
    let snapshot = api.published.snapshot.load();
    Json(snapshot.members.values().map(|member| member_json(member, agreed_ms(&api, member))).collect())
}

/// When another member last agreed with what is known of this one, in unix milliseconds; what this agent says of itself is
/// always current.
pub(super) fn agreed_ms(api: &Api, member: &MemberView) -> u64 {
    if member.is_self {
        return wall_now().as_unix_millis();
    }
    let agreed = &api.published.agreed_ms[registry::bucket(member.identity.id)];
    agreed.load(Ordering::Relaxed).max(member.since.as_unix_millis())
}

fn member_json(member: &MemberView, agreed_ms: u64) -> Value {
    let accusers = match member.state {
        MemberState::Suspect { accusers } => accusers,
        MemberState::Alive | MemberState::Holding | MemberState::Down | MemberState::Left => 0,
    };
    json!({
        "node": member.name,
        "id": member.identity.id.to_string(),
        "state": member.state.as_str(),
        "demoted": member.demoted,
        "accusers": accusers,
        "zone": member.zone,
        "region": member.region,
        "mesh": member.identity.addr.to_string(),
        "addresses": member.addresses,
        "epoch": member.identity.epoch,
        "revival": member.identity.revival,
        "incarnation": member.incarnation,
        "version": member.agent_version,
        "since": member.since.as_unix_millis(),
        "cause": &*member.cause,
        "agreed": agreed_ms,
        "clash": member.clash,
        "is_self": member.is_self,
    })
}

pub(super) async fn services(State(api): State<Arc<Api>>) -> Json<Value> {
    let snapshot = api.published.snapshot.load();
    Json(snapshot.services.values().map(|service| summary_json(service)).collect())
}

fn summary_json(service: &ServiceView) -> Value {
    let count =
        |state: HealthState| service.instances.iter().filter(|instance| worst(instance) == state).count();
    let tags: std::collections::BTreeSet<&String> =
        service.instances.iter().flat_map(|instance| &instance.instance.tags).collect();
    json!({
        "service": service.name,
        "instances": service.instances.len(),
        "passing": count(HealthState::Passing),
        "greylisted": count(HealthState::Greylisted),
        "unknown": count(HealthState::Unknown),
        "failing": count(HealthState::Failing),
        "draining": service.instances.iter().filter(|instance| instance.is_draining).count(),
        "tags": tags,
    })
}

/// An instance is as bad as its worst endpoint; on a node that serves nothing it fails.
fn worst(instance: &InstanceView) -> HealthState {
    if !instance.member.state.is_serving() {
        return HealthState::Failing;
    }
    instance.health.iter().map(|health| health.state).max().unwrap_or_default()
}

/// Which instances of a service to show.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filters {
    health: Option<String>,
    zone: Option<String>,
    tag: Option<String>,
}

pub(super) async fn service(
    State(api): State<Arc<Api>>,
    name: Result<Path<String>, axum::extract::rejection::PathRejection>,
    filters: Result<Query<Filters>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Path(name) = name.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let Query(filters) = filters.map_err(|rejection| ApiError::query(&rejection, "health, zone or tag"))?;
    let field = |field: &str, why: &dyn std::fmt::Display| ApiError::invalid(format!("{field}: {why}"));
    let name: ServiceName = name.parse().map_err(|error| field("name", &error))?;
    let health: Option<HealthState> = filters
        .health
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|error: String| field("health", &error))?;
    let zone: Option<ZoneName> =
        filters.zone.as_deref().map(str::parse).transpose().map_err(|error| field("zone", &error))?;
    let snapshot = api.published.snapshot.load();
    let service = snapshot.services.get(&name).ok_or_else(|| {
        ApiError::not_found(format!("no service {name} is known: GET /api/v1/services lists them"))
    })?;
    let instances: Vec<Value> = service
        .instances
        .iter()
        .filter(|instance| health.is_none_or(|wanted| worst(instance) == wanted))
        .filter(|instance| zone.as_ref().is_none_or(|wanted| instance.member.zone == *wanted))
        .filter(|instance| filters.tag.as_ref().is_none_or(|wanted| instance.instance.tags.contains(wanted)))
        .map(instance_json)
        .collect();
    Ok(Json(json!({ "service": name, "instances": instances })))
}

fn instance_json(view: &InstanceView) -> Value {
    let endpoints: Vec<Value> = view
        .instance
        .endpoints
        .iter()
        .zip(&view.health)
        .map(|(endpoint, health)| {
            json!({
                "protocol": endpoint.protocol,
                "transport": endpoint.transport,
                "address": endpoint.address,
                "port": endpoint.port,
                "state": health.state,
                "since": health.since.as_unix_millis(),
            })
        })
        .collect();
    json!({
        "id": view.instance.id,
        "node": view.member.name,
        "zone": view.member.zone,
        "region": view.member.region,
        "member_state": view.member.state.as_str(),
        "state": worst(view),
        "is_draining": view.is_draining,
        "weight": view.instance.weight,
        "tags": view.instance.tags,
        "endpoints": endpoints,
    })
}

/// What can be said about what to explain.
const EXPLAINED: &str = "name=NAME and perhaps type=TYPE and profile=PROFILE";

/// What to explain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    name: String,
    #[serde(rename = "type")]
    qtype: Option<String>,
    profile: Option<String>,
}

pub(super) async fn explain(
    State(api): State<Arc<Api>>,
    question: Result<Query<Question>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Explanation>, ApiError> {
    let Query(question) = question.map_err(|rejection| ApiError::query(&rejection, EXPLAINED))?;
    let snapshot = api.published.snapshot.load();
    let profile = match &question.profile {
        Some(text) => Profile::read(text).map_err(|why| ApiError::invalid(format!("profile: {why}")))?,
        None => api.dns.default_profile(),
    };
    explain::explain(&api.zone, &snapshot, &question.name, question.qtype.as_deref(), profile)
        .map(Json)
        .map_err(ApiError::invalid)
}

/// Whom to examine.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whom {
    #[serde(default)]
    all: bool,
}

pub(super) async fn doctor(
    State(api): State<Arc<Api>>,
    whom: Result<Query<Whom>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Examination>, ApiError> {
    let Query(whom) = whom.map_err(|rejection| ApiError::query(&rejection, "all=true, or nothing"))?;
    let scope = if whom.all { Scope::All } else { Scope::Usual };
    api.doctor
        .examine(scope)
        .await
        .map(Json)
        .map_err(|error| ApiError::new(StatusCode::CONFLICT, "conflict", error.to_string()))
}

/// Which events to show.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    #[serde(default)]
    since: u64,
    limit: Option<usize>,
}

pub(super) async fn events(
    State(api): State<Arc<Api>>,
    since: Result<Query<Since>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Query(since) =
        since.map_err(|rejection| ApiError::query(&rejection, "since and limit as whole numbers"))?;
    let events = api.recorder.since(since.since, since.limit.unwrap_or(usize::MAX));
    Ok(Json(json!(events)))
}

/// From where on to follow the members, and how long to wait for news.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Follow {
    #[serde(default)]
    since: u64,
    #[serde(default)]
    wait_s: u64,
}

/// Nobody waits longer than this for news.
const FOLLOW_MAX: Duration = Duration::from_secs(60);

pub(super) async fn presence(
    State(api): State<Arc<Api>>,
    follow: Result<Query<Follow>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Query(follow) = follow
        .map_err(|rejection| ApiError::query(&rejection, "since as a whole number, wait_s from 0 to 60"))?;
    let wait = Duration::from_secs(follow.wait_s);
    if wait > FOLLOW_MAX {
        return Err(ApiError::invalid(format!("wait_s: {} is not allowed: 0 to 60", follow.wait_s)));
    }
    match api.followers.since(follow.since, wait).await {
        Ok(told) => Ok(Json(json!(told))),
        Err(TooManyWait) => {
            let detail = format!("{WAITING_MAX} wait for news already: ask again later, or without wait_s");
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail))
        }
    }
}

pub(super) async fn healthz(State(api): State<Arc<Api>>) -> (StatusCode, Json<Value>) {
    let snapshot = api.published.snapshot.load();
    let body = json!({
        "status": "ok",
        "node": snapshot.local.name,
        "serving": snapshot.serving_members(),
        "turns": api.published.turns.load(Ordering::Relaxed),
    });
    (StatusCode::OK, Json(body))
}
