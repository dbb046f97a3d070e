//! Wishes for the node's task. Every body is checked whole before anything happens, and a success is said when it counts.

use core::time::Duration;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use ringmesh_node::io::{Command, DrainTarget, OnConflict, Said};
use ringmesh_node::registration::RawRegistration;
use ringmesh_types::duration;
use ringmesh_types::name::{InstanceId, NodeName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Api;
use super::error::ApiError;

pub(super) type Done = Result<(StatusCode, Json<Value>), ApiError>;
pub(super) type Body = Result<Bytes, BytesRejection>;
pub(super) type PathText = Result<Path<String>, PathRejection>;

pub(super) fn path(text: PathText) -> Result<String, ApiError> {
    text.map(|Path(text)| text).map_err(|rejection| ApiError::invalid(rejection.body_text()))
}

/// Reads a JSON body; an absent one is an empty object.
pub(super) fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = body?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    parse(text).map_err(ApiError::invalid)
}

/// Reads a JSON object.
///
/// # Errors
/// Names the field that is wrong, and why.
fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err("the body: must be a JSON object".to_owned());
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "the body".to_owned() } else { path };
        format!("{field}: {}", error.inner())
    })?;
    json.end().map_err(|error| format!("the body: {error}"))?;
    Ok(value)
}

pub(super) async fn call(api: &Api, command: Command) -> Done {
    match api.handle.call(command).await? {
        Said::Words(says) => Ok((StatusCode::OK, Json(json!({ "ok": says })))),
        Said::Author(view) => Ok((StatusCode::OK, Json(json!(view)))),
    }
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
    let Query(options) =
        options.map_err(|rejection| ApiError::query(&rejection, "replace=true, or nothing"))?;
    let registration: RawRegistration = read(body)?;
    let on_conflict = if options.replace { OnConflict::Replace } else { OnConflict::Refuse };
    call(&api, Command::Register { registration, on_conflict }).await
}

fn instance(id: &str) -> Result<InstanceId, ApiError> {
    id.parse().map_err(|error| ApiError::invalid(format!("id: {error}")))
}

pub(super) async fn deregister(State(api): State<Arc<Api>>, id: PathText) -> Done {
    call(&api, Command::Deregister(instance(&path(id)?)?)).await
}

pub(super) async fn beat(State(api): State<Arc<Api>>, id: PathText) -> Done {
    call(&api, Command::Beat(instance(&path(id)?)?)).await
}

/// What to drain: one instance, or the whole node.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDrain {
    #[serde(default, deserialize_with = "text_if_there")]
    instance: Option<String>,
}

/// A script whose variable is empty may write null: that is no wish to drain everything.
fn text_if_there<'de, D: serde::Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    String::deserialize(field).map(Some)
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

pub(super) async fn forget(State(api): State<Arc<Api>>, name: PathText) -> Done {
    let name: NodeName = path(name)?.parse().map_err(|error| ApiError::invalid(format!("name: {error}")))?;
    call(&api, Command::Forget(name)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringmesh_node::registration::Origin;

    const WHOLE: &str = r#"{"id":"sip-1","service":"sip","weight":7,"tags":["a"],"endpoints":[{"protocol":"sip",
        "transport":"udp","address":"127.0.0.1","port":5060,"checks":[{"type":"sip","interval":"5s","rise":1}]}]}"#;

    fn problem(text: &str) -> String {
        parse::<RawRegistration>(text.as_bytes()).map(|_| ()).expect_err("is refused")
    }

    #[test]
    fn a_wrong_type_is_named_with_its_field() {
        assert!(problem(&WHOLE.replace("5060", "-1")).starts_with("endpoints[0].port: "));
        assert!(problem(&WHOLE.replace("\"a\"", "1")).starts_with("tags[0]: "));
        assert!(problem(&WHOLE.replace("\"5s\"", "5")).starts_with("endpoints[0].checks[0].interval: "));
        assert!(problem(&WHOLE.replace("weight", "wait")).contains("unknown field `wait`"));
        assert!(problem("[]").starts_with("the body: must be a JSON object"));
        assert!(problem("{} {}").starts_with("the body: "));
    }

    /// Whatever a body is, it is refused with words or becomes a registration; it never panics.
    fn take_in(bytes: &[u8]) {
        if let Ok(registration) = parse::<RawRegistration>(bytes) {
            let _ = registration.validate(Origin::Http, &|_| true);
        }
        let _ = parse::<RawDrain>(bytes);
        let _ = parse::<RawHold>(bytes);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn random_bodies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            take_in(&bytes);
        }

        #[test]
        fn mutated_bodies_never_panic(at in 0_usize..260, byte in any::<u8>(), cut in 1_usize..300) {
            let mut bytes = WHOLE.as_bytes().to_vec();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut);
            take_in(&bytes);
        }
    }
}
