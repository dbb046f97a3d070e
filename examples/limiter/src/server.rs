//! The daemon over HTTP.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ringmesh_client::{View, register};
use ringmesh_partition::follow::Token;
use ringmesh_partition::position::KEY_BYTES_MAX;
use ringmesh_types::name::ServiceName;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::{Instant as Deadline, sleep};

use crate::bucket::Quota;
use crate::daemon::{Daemon, HandOverBody, Wanted, bad, unavailable};
use crate::grants::GrantLog;
use crate::ledger::Claim;

/// Bytes of a request at most.
pub const BODY_BYTES_MAX: usize = 4 << 10;
/// Bytes of a hand-over at most: an account of 1,024 bytes, however it is escaped.
const HAND_OVER_BYTES_MAX: usize = 8 << 10;
/// Requests under way at most; more are refused.
pub const REQUESTS_MAX: usize = 1_024;
/// Connections at most; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 4_096;
/// How long a connection may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long another daemon may take to answer.
pub const PEER_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a request waits for a map that another one goes by already, or for a bucket.
pub const CATCH_UP: Duration = Duration::from_millis(500);
/// How long to rest after the listener failed, lest a lasting failure spins.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// How long to rest before the agent is asked again to take the registration.
const REGISTER_PAUSE: Duration = Duration::from_secs(2);

/// The generation that who forwards goes by.
pub const GENERATION_HEADER: &str = "x-ringmesh-generation";
/// How often a request was forwarded.
pub const HOPS_HEADER: &str = "x-ringmesh-hops";
/// Who decided: the daemon that was asked (`owner`), or another one (`forwarded`).
pub const ROLE_HEADER: &str = "x-ringmesh-role";

/// What a daemon is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The HTTP address of the agent on this machine.
    pub agent: SocketAddr,
    /// The service whose map says who owns an account.
    pub service: ServiceName,
    /// What every account may have.
    pub quota: Quota,
    /// Where decisions are written; a log that has lines says that this daemon has run before.
    pub grant_log: Option<PathBuf>,
    /// Under which id the daemon registers itself with the agent; it does not if there is none.
    pub register: Option<String>,
}

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A number that is not allowed.
    #[error("{field}: {value} is not allowed: a finite number above 0")]
    Quota {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// The address is not free.
    #[error("cannot listen on {listen}: {cause}")]
    Listen {
        /// Which address.
        listen: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
    /// The log cannot be written.
    #[error("grant log: {0}")]
    GrantLog(io::Error),
}

/// A daemon that listens, but does not serve yet.
#[derive(Debug)]
pub struct Limiter {
    listener: TcpListener,
    addr: SocketAddr,
    daemon: Arc<Daemon>,
    views: broadcast::Receiver<Arc<View>>,
    register: Option<String>,
}

/// Serves until the future is dropped.
///
/// # Errors
/// If the daemon cannot start; it does not end by itself.
pub async fn run(config: Config) -> Result<(), ConfigError> {
    Limiter::bind(config).await?.serve().await;
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TakeBody {
    account: String,
    #[serde(default = "one")]
    cost: f64,
}

fn one() -> f64 {
    1.0
}

impl Limiter {
    /// Listens and begins to watch the agent.
    ///
    /// # Errors
    /// If a number is not allowed, the address is not free, or the log cannot be written.
    pub async fn bind(config: Config) -> Result<Self, ConfigError> {
        let Config { listen, agent, service, quota, grant_log, register } = config;
        for (field, value) in [("rate", quota.rate), ("burst", quota.burst)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(ConfigError::Quota { field, value });
            }
        }
        let opened =
            grant_log.map(|path| GrantLog::open(&path)).transpose().map_err(ConfigError::GrantLog)?;
        let (log, has_run_before) = opened.map_or((None, false), |(log, was)| (Some(log), was));
        let not_free = |cause| ConfigError::Listen { listen, cause };
        let listener = TcpListener::bind(listen).await.map_err(not_free)?;
        let addr = listener.local_addr().map_err(not_free)?;
        let (daemon, views) =
            Daemon::new(&format!("limiter-{addr}"), (agent, service), quota, (log, has_run_before));
        Ok(Self { listener, addr, daemon: Arc::new(daemon), views, register })
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until the future is dropped.
    pub async fn serve(self) {
        let Self { listener, addr, daemon, views, register } = self;
        let router = router(Arc::clone(&daemon));
        let registering = async {
            if let Some(id) = register {
                keep_registered(&daemon, &id, addr).await;
            }
        };
        tokio::join!(accept(&listener, router), daemon.follow(views), registering);
    }
}

fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/take", post(on_take).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)))
        .route("/hand-over", post(on_hand_over).layer(DefaultBodyLimit::max(HAND_OVER_BYTES_MAX)))
        .route("/healthz", get(on_health))
        .with_state(daemon)
}

async fn accept(listener: &TcpListener, router: Router) {
    // Dropping the set ends its connections, so none outlives the daemon.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, router.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    sleep(ERROR_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection is already gone");
    }
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Registers the daemon, and tries again until the agent takes it.
async fn keep_registered(daemon: &Daemon, id: &str, addr: SocketAddr) {
    let checks = json!([{ "type": "http", "path": "/healthz", "interval": "2s" }]);
    let endpoint = json!({ "protocol": "http", "transport": "tcp", "address": addr.ip(), "port": addr.port(), "checks": checks });
    let registration = json!({ "id": id, "service": daemon.service.as_str(), "endpoints": [endpoint] });
    while let Err(error) = register(daemon.agent, &registration).await {
        tracing::warn!(%error, "the daemon is not registered, it tries again");
        sleep(REGISTER_PAUSE).await;
    }
    tracing::info!(id, "the daemon is registered");
}

async fn on_health(State(daemon): State<Arc<Daemon>>) -> Json<Value> {
    Json(daemon.health())
}

async fn on_take(State(daemon): State<Arc<Daemon>>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(_permit) = daemon.permits.try_acquire() else {
        return unavailable("too many requests are under way");
    };
    let body: TakeBody = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(error) => return bad(&error.to_string()),
    };
    let TakeBody { account, cost } = body;
    if let Err(detail) = check(&account, cost, &daemon.quota) {
        return bad(&detail);
    }
    let number = |name| headers.get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let wanted = Wanted { account, cost, deadline: Deadline::now() + CATCH_UP };
    daemon.catch_up(number(GENERATION_HEADER).unwrap_or(0), wanted.deadline).await;
    let is_forwarded = number(HOPS_HEADER).is_some_and(|hops| hops > 0);
    daemon.take(&wanted, is_forwarded).await
}

fn check(account: &str, cost: f64, quota: &Quota) -> Result<(), String> {
    if !(1..=KEY_BYTES_MAX).contains(&account.len()) {
        return Err(format!("account: has {} bytes: 1 to {KEY_BYTES_MAX} are allowed", account.len()));
    }
    if !(cost > 0.0 && cost <= quota.burst) {
        return Err(format!(
            "cost: {cost} is not allowed: above 0, and at most the burst of {}",
            quota.burst
        ));
    }
    Ok(())
}

async fn on_hand_over(State(daemon): State<Arc<Daemon>>, body: Bytes) -> Response {
    let body: HandOverBody = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(error) => return bad(&error.to_string()),
    };
    let (author, from) = match (body.author.parse(), body.from.parse()) {
        (Ok(author), Ok(from)) => (author, from),
        (Err(error), _) => return bad(&format!("author: {error}")),
        (_, Err(error)) => return bad(&format!("from: {error}")),
    };
    if body.shares == 0 {
        return bad("shares: must be above 0");
    }
    let token = Token { generation: body.generation, author };
    let claim = Claim { token, from, kind: body.kind, shares: body.shares, is_kept: body.keeps };
    daemon.hand_over(&body.account, &claim)
}
