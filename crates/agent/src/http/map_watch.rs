//! Server-sent events for programs that keep a map: the map itself whenever it changes, and who of its hosts is there.

use core::time::Duration;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::channel::{Channel, Sender};
use ringmesh_node::maps::MapView;
use ringmesh_partition::map::Map;
use ringmesh_types::name::ServiceName;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::Api;
use super::error::ApiError;
use super::maps::{Directory, service_of, view_of};
use super::write::PathText;
use crate::clock::wall_now;

/// So many may watch at once.
pub(crate) const WATCHERS_MAX: usize = 256;
/// A watcher hears something at least this often.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

type Events = Sender<Bytes, std::convert::Infallible>;

pub(super) async fn watch(State(api): State<Arc<Api>>, name: PathText) -> Result<Response, ApiError> {
    let service = service_of(name)?;
    view_of(&Directory::of(&api), &service)?;
    let permit = api.watchers.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{WATCHERS_MAX} watch already: let one program on this host watch for all");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
    })?;
    let (events, body) = Channel::<Bytes, std::convert::Infallible>::new(4);
    tokio::spawn(async move {
        tell(&api, &service, events).await;
        drop(permit);
    });
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((head, Body::new(body)).into_response())
}

/// Tells one watcher, until it is gone, the map is, or the agent stops.
async fn tell(api: &Api, service: &ServiceName, mut events: Events) {
    let mut shown = api.shown.clone();
    let (mut told, mut hosts) = (None, Value::Null);
    loop {
        let directory = Directory::of(api);
        let Ok(view) = view_of(&directory, service) else { return };
        let hosts_now = hosts_json(view, &directory);
        let event = if view.map.is_some() && told != Some(view.digest) {
            told = Some(view.digest);
            Some(event("map", &map_json(view, hosts_now.clone(), api)))
        } else if hosts_now != hosts && told.is_some() {
            Some(event("hosts", &json!({ "hosts": hosts_now })))
        } else {
            None
        };
        hosts = hosts_now;
        if let Some(event) = event
            && events.send_data(event).await.is_err()
        {
            return;
        }
        let alive_at = Instant::now() + ALIVE_EVERY;
        match timeout_at(alive_at, shown.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                if events.send_data(Bytes::from_static(b": still here\n\n")).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn event(name: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

fn hosts_json(view: &MapView, directory: &Directory) -> Value {
    let roster = view.map.iter().flat_map(|map| &map.parts().roster);
    roster.map(|host| json!(directory.host_json(&view.service, host.node))).collect()
}

fn map_json(view: &MapView, hosts: Value, api: &Api) -> Value {
    let bytes = |map: &Arc<Map>| STANDARD.encode(map.to_bytes());
    let parts = view.map.as_ref().map(|map| map.parts());
    let left = view
        .before
        .as_ref()
        .map(|(_, until)| until.as_unix_millis().saturating_sub(wall_now().as_unix_millis()));
    json!({
        "generation": parts.map(|parts| parts.generation),
        "author": parts.map(|parts| parts.author.to_string()),
        "map": view.map.as_ref().map(bytes),
        "before": view.before.as_ref().filter(|_| left > Some(0)).map(|(before, _)| bytes(before)),
        "hand_over_ms": left.unwrap_or_default(),
        "me": api.published.snapshot.load().local.identity.id.to_string(),
        "hosts": hosts,
    })
}
