//! Wishes for the node's task. Every body is checked whole before anything happens, and a success is said when it counts.

use core::time::Duration;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use ringmesh_node::io::{Command, DrainTarget, OnConflict};
use ringmesh_node::registration::RawRegistration;
use ringmesh_types::duration;
use ringmesh_types::name::{InstanceId, NodeName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Api;
use super::error::ApiError;

type Done = Result<(StatusCode, Json<Value>), ApiError>;
type Body = Result<Bytes, BytesRejection>;

/// Reads a JSON body; an absent one is an empty object.
fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = body?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| ApiError::invalid(format!("the body: {error}")))
}

async fn call(api: &Api, command: Command) -> Done {
    let says = api.handle.call(command).await?;
    Ok((StatusCode::OK, Json(json!({ "ok": says }))))
}

/// What to do about another instance with the same id.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterOptions {
    #[serde(default)]
    replace: bool,
}

pub(super) async fn register(
    State(api): State<Arc<Api>>,
    options: Result<Query<RegisterOptions>, axum::extract::rejection::QueryRejection>,
    body: Body,
) -> Done {
    let Query(options) = options.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let registration: RawRegistration = read(body)?;
    let on_conflict = if options.replace { OnConflict::Replace } else { OnConflict::Refuse };
    call(&api, Command::Register { registration, on_conflict }).await
}

fn instance(id: &str) -> Result<InstanceId, ApiError> {
    id.parse().map_err(|error| ApiError::invalid(format!("id: {error}")))
}

pub(super) async fn deregister(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Done {
    call(&api, Command::Deregister(instance(&id)?)).await
}

pub(super) async fn beat(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Done {
    call(&api, Command::Beat(instance(&id)?)).await
}

/// What to drain: one instance, or the whole node.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDrain {
    instance: Option<String>,
}

fn drain_target(body: Body) -> Result<DrainTarget, ApiError> {
    let raw: RawDrain = read(body)?;
    Ok(match raw.instance {
        Some(id) => DrainTarget::Instance(instance(&id)?),
        None => DrainTarget::Node,
    })
}

pub(super) async fn drain(State(api): State<Arc<Api>>, body: Body) -> Done {
    call(&api, Command::Drain(drain_target(body)?)).await
}

pub(super) async fn undrain(State(api): State<Arc<Api>>, body: Body) -> Done {
    call(&api, Command::Undrain(drain_target(body)?)).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHold {
    r#for: Option<String>,
}

pub(super) async fn hold(State(api): State<Arc<Api>>, body: Body) -> Done {
    let raw: RawHold = read(body)?;
    let length: Option<Duration> = raw
        .r#for
        .as_deref()
        .map(duration::parse)
        .transpose()
        .map_err(|why| ApiError::invalid(format!("for: {why}")))?;
    call(&api, Command::Hold(length)).await
}

pub(super) async fn leave(State(api): State<Arc<Api>>) -> Done {
    call(&api, Command::Leave).await
}

pub(super) async fn forget(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Done {
    let name: NodeName = name.parse().map_err(|error| ApiError::invalid(format!("name: {error}")))?;
    call(&api, Command::Forget(name)).await
}
