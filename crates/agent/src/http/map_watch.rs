//! Server-sent events for programs that keep a map: the map itself whenever it changes, and who of its hosts is there.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Frame;
use ringmesh_node::maps::MapView;
use ringmesh_partition::map::Map;
use ringmesh_types::name::ServiceName;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
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
    let body = Watched { events: body, _place: permit };
    tokio::spawn(async move { tell(&api, &service, events).await });
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((head, Body::new(body)).into_response())
}

/// What a watcher is told. Its place is free as soon as its connection is gone.
struct Watched {
    events: Channel<Bytes, std::convert::Infallible>,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.events).poll_frame(context)
    }
}

/// Tells one watcher, until it is gone, the map is, or the agent stops.
async fn tell(api: &Api, service: &ServiceName, mut events: Events) {
    let mut shown = api.shown.clone();
    let (mut told, mut hosts) = (None, None);
    loop {
        let event = {
            let directory = Directory::of(api);
            let Ok(view) = view_of(&directory, service) else { return };
            let hosts_now = directory.hosts(service);
            let is_same = hosts_now.map(Arc::as_ptr) == hosts.as_ref().map(Arc::as_ptr);
            hosts = hosts_now.cloned();
            if view.map.is_some() && told != Some(view.digest) {
                told = Some(view.digest);
                Some(event("map", &map_json(view, &directory)))
            } else if !is_same && told.is_some() {
                Some(event("hosts", &HostsJson { hosts: hosts_json(view, &directory) }))
            } else {
                None
            }
        };
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

fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("texts and numbers are JSON");
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

#[derive(Debug, Serialize)]
struct HostsJson<'a> {
    hosts: Vec<Option<&'a RawValue>>,
}

/// A map as those who keep it need it.
#[derive(Debug, Serialize)]
struct MapJson<'a> {
    generation: Option<u64>,
    author: Option<String>,
    map: Option<String>,
    before: Option<String>,
    hand_over_ms: u64,
    me: String,
    hosts: Vec<Option<&'a RawValue>>,
}

fn hosts_json<'a>(view: &MapView, directory: &'a Directory) -> Vec<Option<&'a RawValue>> {
    let roster = view.map.iter().flat_map(|map| &map.parts().roster);
    roster.map(|host| directory.host_json(&view.service, host.node)).collect()
}

fn map_json<'a>(view: &MapView, directory: &'a Directory) -> MapJson<'a> {
    let bytes = |map: &Arc<Map>| STANDARD.encode(map.to_bytes());
    let parts = view.map.as_ref().map(|map| map.parts());
    let left = view
        .before
        .as_ref()
        .map(|(_, until)| until.as_unix_millis().saturating_sub(wall_now().as_unix_millis()));
    MapJson {
        generation: parts.map(|parts| parts.generation),
        author: parts.map(|parts| parts.author.to_string()),
        map: view.map.as_ref().map(bytes),
        before: view.before.as_ref().filter(|_| left > Some(0)).map(|(before, _)| bytes(before)),
        hand_over_ms: left.unwrap_or_default(),
        me: directory.me().to_string(),
        hosts: hosts_json(view, directory),
    }
}
