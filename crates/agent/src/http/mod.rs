//! The HTTP API under `/api/v1`, `/healthz` and `/metrics`: reads are answered from the current snapshot, writes go to
//! the node's task and are answered when they count.
//!
//! Reads are for whom `http.allow` allows; writes come from this VM only, and never from a web page.

mod connections;
mod error;
mod map_watch;
mod maps;
mod metrics;
mod read;
mod write;

use core::convert::Infallible;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::AtomicU64;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ringmesh_dns::zone::ZoneConfig;
use ringmesh_types::limits::HTTP_BODY_BYTES_MAX;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::accepting::Failures;
use crate::dns_server::DnsHandler;
use crate::dns_zone::Shown;
use crate::doctor::Doctor;
use crate::driver::{Handle, Published};
use crate::events::Recorder;
use crate::followers::Followers;
use crate::gate::GateStats;
use crate::mesh::Mesh;
use connections::{Impatient, Places};
use error::ApiError;
pub(crate) use map_watch::WATCHERS_MAX;
pub(crate) use maps::Directory;

/// What the handlers work on.
pub(crate) struct Api {
    pub(crate) handle: Handle,
    pub(crate) shown: Shown,
    pub(crate) watchers: Arc<Semaphore>,
    pub(crate) directory: ArcSwap<Directory>,
    pub(crate) published: Arc<Published>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) followers: Arc<Followers>,
    pub(crate) zone: Arc<ZoneConfig>,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) gate: Arc<GateStats>,
    pub(crate) doctor: Doctor,
    pub(crate) dns: DnsHandler,
    pub(crate) dns_listen: Vec<SocketAddr>,
    pub(crate) domain: String,
    pub(crate) started: std::time::Instant,
    pub(crate) is_allowed: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    pub(crate) requests: AtomicU64,
    pub(crate) lines_lost: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Binds the API's address.
///
/// # Errors
/// Names the address, the cause and the setting.
pub(crate) async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        let advice = "Is another program listening there? Change http.listen";
        io::Error::new(error.kind(), format!("http.listen: {listen} cannot be bound: {error}. {advice}"))
    })
}

/// Bytes of a request's head at most.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// A client that takes longer to send its request's head is let go.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// And one that takes longer to send the body.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// Serves so many connections at once, until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
    connections_max: usize,
    shutdown: CancellationToken,
) {
    let (is_allowed, router) = (api.is_allowed.clone(), router(api.clone()));
    let places = Places::new(connections_max);
    let (mut connections, mut failures) = (JoinSet::new(), Failures::default());
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = places.accept(&listener, &*is_allowed) => accepted,
        };
        match accepted {
            Ok(None) => failures.end(),
            Ok(Some((stream, from, place))) => {
                failures.end();
                let (api, router) = (api.clone(), router.clone());
                let service = service_fn(move |request| guard(api.clone(), router.clone(), from, request));
                connections.spawn(async move {
                    let _ = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_WITHIN)
                        .max_buf_size(HEAD_BYTES_MAX)
                        .serve_connection(TokioIo::new(Impatient::new(stream)), service)
                        .await;
                    drop(place);
                });
            }
            Err(error) => {
                tokio::time::sleep_until(failures.add(Instant::now(), "http", &error)).await;
            }
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_millis(200), ended).await;
}

fn router(api: Arc<Api>) -> Router {
    // Paths are written whole: a nested router would cut each request's anew.
    let v1 = |path: &str| format!("/api/v1{path}");
    Router::new()
        .route(&v1("/agent"), get(read::agent))
        .route(&v1("/members"), get(read::members))
        .route(&v1("/services"), get(read::services).post(write::register))
        .route(&v1("/services/{name}"), get(read::service))
        .route(&v1("/instances/{id}"), delete(write::deregister))
        .route(&v1("/instances/{id}/beat"), post(write::beat))
        .route(&v1("/register"), post(write::register))
        .route(&v1("/deregister/{id}"), post(write::deregister))
        .route(&v1("/drain"), post(write::drain))
        .route(&v1("/undrain"), post(write::undrain))
        .route(&v1("/hold"), post(write::hold))
        .route(&v1("/leave"), post(write::leave))
        .route(&v1("/forget/{name}"), post(write::forget))
        .route(&v1("/maps"), get(maps::list))
        .route(&v1("/maps/{map}"), get(maps::show).put(maps::declare).delete(maps::withdraw))
        .route(&v1("/maps/{map}/lookup"), get(maps::lookup).post(maps::lookup_many))
        .route(&v1("/maps/{map}/heat"), get(maps::heat).post(maps::report))
        .route(&v1("/maps/{map}/plan"), get(maps::plan))
        .route(&v1("/maps/{map}/history"), get(maps::history))
        .route(&v1("/maps/{map}/watch"), get(map_watch::watch))
        .route(&v1("/maps/{map}/apply"), post(maps::apply))
        .route(&v1("/maps/{map}/split"), post(maps::split))
        .route(&v1("/maps/{map}/merge"), post(maps::merge))
        .route(&v1("/maps/{map}/dedicate"), post(maps::dedicate).delete(maps::undedicate))
        .route(&v1("/explain"), get(read::explain))
        .route(&v1("/doctor"), get(read::doctor))
        .route(&v1("/events"), get(read::events))
        .route(&v1("/presence"), get(read::presence))
        .route("/healthz", get(read::healthz))
        .route("/metrics", get(metrics::metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(api)
}

async fn no_such_path(request: Request) -> ApiError {
    let detail = format!(
        "{} is no path of this API: see /api/v1/agent, /members, /services, /maps",
        request.uri().path()
    );
    ApiError::new(StatusCode::NOT_FOUND, "not found", detail)
}

async fn no_such_method(request: Request) -> ApiError {
    let detail = format!("{} does not take {}", request.uri().path(), request.method());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", detail)
}

/// Lets in whom the configuration allows, and writes only from this VM and not from a web page.
async fn guard(
    api: Arc<Api>,
    mut router: Router,
    from: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    api.requests.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    let request = request.map(Body::new);
    match admitted(&api, from.ip().to_canonical(), request).await {
        Ok(request) => router.call(request).await,
        Err(error) => Ok(error.into_response()),
    }
}

/// The request with its body, if this client may make it.
async fn admitted(api: &Api, from: IpAddr, request: Request) -> Result<Request, ApiError> {
    let forbidden = |detail: String| ApiError::new(StatusCode::FORBIDDEN, "forbidden", detail);
    if !(api.is_allowed)(from) {
        return Err(forbidden(format!("{from} is not in http.allow")));
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read && !from.is_loopback() {
        return Err(forbidden(format!("writes are taken from this host only, not from {from}")));
    }
    if !is_read && request.headers().contains_key(header::ORIGIN) {
        return Err(forbidden("writes are not taken from web pages".to_owned()));
    }
    if request.body().is_end_stream() { Ok(request) } else { read_body(request).await }
}

/// Takes the whole body in before anybody works on it, so that no client can keep a handler waiting.
async fn read_body(request: Request) -> Result<Request, ApiError> {
    let too_large = || {
        let detail = format!("a body may have {HTTP_BODY_BYTES_MAX} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "the body cannot be read", detail)
    };
    let announced = request.body().size_hint().lower();
    if announced > HTTP_BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let (head, body) = request.into_parts();
    match tokio::time::timeout(BODY_WITHIN, axum::body::to_bytes(body, HTTP_BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(head, Body::from(bytes))),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::invalid(format!("the body cannot be read: {error}"))),
        Err(_) => {
            let detail = format!("the body did not come within {} s", BODY_WITHIN.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body cannot be read", detail))
        }
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    core::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
