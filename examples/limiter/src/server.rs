//! The daemon: HTTP in front of the [`Ledger`], and the questions that it has for other daemons.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ringmesh_client::{Host, Maps, View, register};
use ringmesh_partition::follow::Token;
use ringmesh_partition::map::{Map, Place};
use ringmesh_partition::position::{KEY_BYTES_MAX, Position};
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant as Deadline, sleep, timeout_at};

use crate::bucket::Quota;
use crate::grants::{Grant, GrantLog, Role};
use crate::history::{History, Sees};
use crate::ledger::{Answer, Ask, Claim, Kind, Ledger, PeerClaimError, Take};
use crate::peers::{Peers, Reply};

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

#[derive(Debug)]
struct Daemon {
    agent: SocketAddr,
    service: ServiceName,
    quota: Quota,
    maps: Maps,
    /// Wall time when the clock of `maps` began.
    begun: Duration,
    has_run_before: bool,
    desk: Mutex<Desk>,
    /// The map that the ledger goes by.
    token: watch::Sender<Option<Token>>,
    /// How many questions to others are over.
    asked: watch::Sender<u64>,
    peers: Peers,
    permits: Semaphore,
    turn: AtomicUsize,
}

/// What decides, and what notes it.
#[derive(Debug)]
struct Desk {
    ledger: Option<Ledger<Seen>>,
    log: Option<GrantLog>,
}

/// A view, as the history of holders has it.
#[derive(Debug)]
struct Seen(Arc<View>);

impl Seen {
    fn of(&self, map: &Map, at: Position) -> Vec<NodeId> {
        let Some(found) = map.lookup_at(at) else { return Vec::new() };
        let nodes: Vec<NodeId> = found.seats.iter().map(|seat| map.host(*seat).node).collect();
        if found.place == Place::Dedicated && nodes.len() > 1 {
            return nodes;
        }
        let live = nodes.iter().find(|node| self.0.is_live(**node));
        live.or(nodes.first()).copied().into_iter().collect()
    }

    /// Whether the same members are live in both, of the same map.
    fn is_like(&self, other: &Self) -> bool {
        let roster = || self.0.map().parts().roster.iter();
        self.token() == other.token()
            && self.0.me() == other.0.me()
            && roster().all(|host| self.0.is_live(host.node) == other.0.is_live(host.node))
    }
}

impl Sees for Seen {
    fn token(&self) -> Token {
        self.0.token()
    }

    fn holders(&self, at: Position) -> Vec<NodeId> {
        let is_shared = self
            .0
            .map()
            .lookup_at(at)
            .is_some_and(|found| found.place == Place::Dedicated && found.seats.len() > 1);
        if is_shared { self.of(self.0.map(), at) } else { self.0.owner_at(at).into_iter().collect() }
    }

    fn holders_before(&self, at: Position) -> Vec<NodeId> {
        self.0.before().map(|(map, _)| self.of(map, at)).unwrap_or_default()
    }

    fn token_before(&self) -> Option<Token> {
        self.0.before().map(|(map, _)| Token::of(map))
    }
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

/// A question to another daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HandOverBody {
    account: String,
    generation: u64,
    author: String,
    from: String,
    kind: Kind,
    shares: u16,
    keeps: bool,
}

/// What a request is about, and when it came.
#[derive(Debug)]
struct Wanted {
    account: String,
    cost: f64,
    deadline: Deadline,
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
        let maps = Maps::watch(agent, service.clone(), &format!("limiter-{addr}"));
        let views = maps.views();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let daemon = Daemon {
            agent,
            service,
            quota,
            begun: wall.saturating_sub(Duration::from_nanos(maps.now().as_nanos())),
            maps,
            has_run_before,
            desk: Mutex::new(Desk { ledger: None, log }),
            token: watch::channel(None).0,
            asked: watch::channel(0).0,
            peers: Peers::default(),
            permits: Semaphore::new(REQUESTS_MAX),
            turn: AtomicUsize::new(0),
        };
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
    let desk = daemon.desk();
    let ledger = desk.ledger.as_ref();
    let generation = ledger.and_then(|ledger| ledger.present()).map(|seen| seen.token().generation);
    Json(json!({ "status": "ok", "generation": generation, "accounts": ledger.map_or(0, Ledger::accounts) }))
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

fn bad(detail: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": "bad request", "detail": detail }))).into_response()
}

fn unavailable(detail: &str) -> Response {
    let body = Json(json!({ "error": "unavailable", "detail": detail }));
    (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], body).into_response()
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

impl Daemon {
    /// What it holds stays whole if somebody panics with it: every step of the ledger is one.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wall_ms(&self) -> f64 {
        (self.begun.as_nanos() as f64 + self.maps.now().as_nanos() as f64) / 1e6
    }

    /// Keeps the ledger at the newest view, for ever.
    async fn follow(&self, mut views: broadcast::Receiver<Arc<View>>) {
        let mut last = self
            .maps
            .view()
            .inspect(|view| self.on_view(Arc::clone(view), false))
            .map(|view| view.sequence());
        loop {
            match views.recv().await {
                Ok(view) if last.is_none_or(|last| view.sequence() > last) => {
                    let is_missing = last.is_some_and(|last| view.sequence() > last + 1);
                    last = Some(view.sequence());
                    self.on_view(view, is_missing);
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                // The sender lives as long as `self`.
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn on_view(&self, view: Arc<View>, is_missing: bool) {
        let (seen, token) = (Seen(view), self.token.borrow().to_owned());
        let new = seen.token();
        let mut desk = self.desk();
        let present = desk.ledger.as_ref().and_then(Ledger::present);
        if !is_missing && present.is_some_and(|present| present.is_like(&seen)) {
            return;
        }
        let is_another = present.is_some_and(|present| present.0.me() != seen.0.me());
        if desk.ledger.is_none() || is_another {
            let history = History::new(seen.0.me(), self.has_run_before || is_another);
            desk.ledger = Some(Ledger::new(self.quota, history));
        }
        let now = self.maps.now();
        if let Some(ledger) = desk.ledger.as_mut() {
            ledger.follow(now, seen, is_missing);
        }
        drop(desk);
        if token != Some(new) {
            tracing::info!(generation = new.generation, author = %new.author, "another map counts");
        }
        self.token.send_replace(Some(new));
    }

    /// Waits for a map of at least this generation, if it comes in time.
    async fn catch_up(&self, generation: u64, deadline: Deadline) {
        let mut token = self.token.subscribe();
        let is_there = |token: &Option<Token>| token.map_or(0, |token| token.generation) >= generation;
        // Late or not, what is known then decides.
        let _ = timeout_at(deadline, token.wait_for(is_there)).await;
    }

    async fn take(self: &Arc<Self>, wanted: &Wanted, is_forwarded: bool) -> Response {
        loop {
            let (mut token, mut asked) = (self.token.subscribe(), self.asked.subscribe());
            let (taken, at, seen) = match self.decide(wanted) {
                Ok(decided) => decided,
                Err(refusal) => return *refusal,
            };
            match taken {
                Take::Granted { left } => return decided(&seen, json!({ "granted": true, "left": left })),
                Take::Refused(short) => {
                    let retry_ms = short.retry.as_millis().max(1) as u64;
                    return decided(&seen, json!({ "granted": false, "retry_ms": retry_ms }));
                }
                Take::NotMine if is_forwarded => {
                    return unavailable("this daemon does not own the account: ask again");
                }
                Take::NotMine => return self.forward(wanted, at, &seen).await,
                Take::Full => return self.refuse(wanted, &seen, "there is no room for another account"),
                Take::Ask(ask) => {
                    let (daemon, account) = (Arc::clone(self), wanted.account.clone());
                    // It goes on if whoever made the request goes away.
                    let asking = tokio::spawn(async move { daemon.ask(&account, ask).await });
                    if timeout_at(wanted.deadline, asking).await.is_err() {
                        return self.refuse(wanted, &seen, "the owner before has not answered yet");
                    }
                }
                Take::Wait => {
                    let changed = async {
                        tokio::select! { _ = asked.changed() => {}, _ = token.changed() => {} }
                    };
                    if timeout_at(wanted.deadline, changed).await.is_err() {
                        return self.refuse(wanted, &seen, "the owner before has not answered yet");
                    }
                }
                Take::Fenced => {
                    if timeout_at(wanted.deadline, token.changed()).await.is_err() {
                        return self.refuse(wanted, &seen, "another daemon owns the account by a newer map");
                    }
                }
            }
        }
    }

    /// Asks the ledger, and notes what it decides.
    fn decide(&self, wanted: &Wanted) -> Result<(Take, Position, Arc<View>), Box<Response>> {
        let mut desk = self.desk();
        let Desk { ledger, log } = &mut *desk;
        let present = ledger.as_mut().and_then(|ledger| {
            let seen = Arc::clone(&ledger.present()?.0);
            Some((ledger, seen))
        });
        let Some((ledger, seen)) = present else {
            let why = "there is no map yet: does the agent run, and have one of this service?";
            return Err(Box::new(unavailable(why)));
        };
        let key = wanted.account.as_bytes();
        let at =
            seen.map().parts().strategy.position(key).map_err(|error| Box::new(bad(&error.to_string())))?;
        let is_dead = |holder| !seen.is_live(holder);
        let taken = ledger.take(self.maps.now(), (&wanted.account, at), wanted.cost, is_dead);
        let is_granted = matches!(taken, Take::Granted { .. });
        if is_granted || matches!(taken, Take::Refused(_)) {
            self.note(log.as_mut(), wanted, &seen, (is_granted, Role::Owner));
            drop(desk);
            self.maps.count(key, wanted.cost);
        }
        Ok((taken, at, seen))
    }

    fn note(&self, log: Option<&mut GrantLog>, wanted: &Wanted, seen: &View, (granted, role): (bool, Role)) {
        let Some(log) = log else { return };
        let shares = shares_of(seen, &wanted.account);
        log.add(Grant {
            time_ms: self.wall_ms(),
            account: wanted.account.clone(),
            cost: wanted.cost,
            granted,
            generation: seen.token().generation,
            role,
            by: name_of(seen),
            shares,
            lost: 0,
        });
    }

    fn refuse(&self, wanted: &Wanted, seen: &View, detail: &str) -> Response {
        self.note(self.desk().log.as_mut(), wanted, seen, (false, Role::Refused));
        unavailable(detail)
    }

    /// Asks a holder to decide.
    async fn forward(&self, wanted: &Wanted, at: Position, seen: &Arc<View>) -> Response {
        let holders = Seen(Arc::clone(seen)).holders(at);
        let live: Vec<&Arc<Host>> =
            holders.iter().filter_map(|holder| seen.host(*holder)).filter(|host| host.is_live).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let endpoint = live.get(turn % live.len().max(1)).and_then(|host| host.endpoints.first());
        let Some(endpoint) = endpoint else {
            return self.refuse(wanted, seen, "no live member owns the account");
        };
        let body = json!({ "account": wanted.account, "cost": wanted.cost }).to_string();
        let headers =
            [(GENERATION_HEADER, seen.token().generation.to_string()), (HOPS_HEADER, "1".to_owned())];
        match self.peers.post(*endpoint, "/take", &headers, body.into(), PEER_TIMEOUT).await {
            Ok(Reply { status: 200, body, .. }) => {
                let said: Value = serde_json::from_slice(&body).unwrap_or_default();
                let is_granted = said["granted"] == true;
                self.note(self.desk().log.as_mut(), wanted, seen, (is_granted, Role::Forwarded));
                (StatusCode::OK, [(ROLE_HEADER, "forwarded")], Json(said)).into_response()
            }
            Ok(reply) => {
                let said: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                let detail = said["detail"].as_str().unwrap_or("without a reason").to_owned();
                self.refuse(wanted, seen, &format!("the owner at {endpoint} refuses: {detail}"))
            }
            Err(error) => self.refuse(wanted, seen, &format!("the owner is not reached: {error}")),
        }
    }

    /// Asks all at once, and brings the ledger what they answer.
    async fn ask(self: &Arc<Self>, account: &str, ask: Ask) {
        let mut answers = JoinSet::new();
        for (holder, keeps) in ask.holders.iter().copied() {
            let (daemon, account) = (Arc::clone(self), account.to_owned());
            let ask = ask.clone();
            answers.spawn(async move { (holder, daemon.ask_one(account, &ask, holder, keeps).await) });
        }
        while let Some(answered) = answers.join_next().await {
            let Ok((holder, answer)) = answered else { continue };
            if let Some(ledger) = self.desk().ledger.as_mut() {
                ledger.on_answer(self.maps.now(), account, ask.number, holder, answer);
            }
        }
        self.asked.send_modify(|count| *count += 1);
    }

    async fn ask_one(&self, account: String, ask: &Ask, holder: NodeId, keeps: bool) -> Answer {
        let Some(view) = self.maps.view() else { return Answer::Unreached };
        let Some(endpoint) = view.host(holder).and_then(|host| host.endpoints.first().copied()) else {
            return Answer::Unreached;
        };
        let body = HandOverBody {
            account,
            generation: ask.token.generation,
            author: ask.token.author.to_string(),
            from: view.me().to_string(),
            kind: ask.kind,
            shares: ask.shares,
            keeps,
        };
        let Ok(body) = serde_json::to_string(&body) else { return Answer::Unreached };
        match self.peers.post(endpoint, "/hand-over", &[], body.into(), PEER_TIMEOUT).await {
            Ok(Reply { status: 200, body, .. }) => {
                let said: Value = serde_json::from_slice(&body).unwrap_or_default();
                said["level"].as_f64().map_or(Answer::Unknown, Answer::Level)
            }
            Ok(Reply { status: 409, .. }) => Answer::Outdated,
            Ok(reply) => {
                tracing::debug!(%endpoint, status = reply.status, "nothing is handed over");
                Answer::Unreached
            }
            Err(error) => {
                tracing::debug!(%endpoint, %error, "nothing is handed over");
                Answer::Unreached
            }
        }
    }

    fn hand_over(self: &Arc<Self>, account: &str, claim: &Claim) -> Response {
        let mut desk = self.desk();
        let Some(ledger) = desk.ledger.as_mut() else {
            return unavailable("there is no map yet");
        };
        let Some(seen) = ledger.present().map(|seen| Arc::clone(&seen.0)) else {
            return unavailable("there is no map yet");
        };
        let at = match seen.map().parts().strategy.position(account.as_bytes()) {
            Ok(at) => at,
            Err(error) => return bad(&format!("account: {error}")),
        };
        let now = self.maps.now();
        match ledger.hand_over(now, (account, at), claim) {
            Ok(level) => Json(json!({ "level": level, "at_ms": self.wall_ms() })).into_response(),
            Err(error @ PeerClaimError::Outdated(_)) => {
                let body = json!({ "error": "outdated", "detail": error.to_string() });
                (StatusCode::CONFLICT, Json(body)).into_response()
            }
            Err(error @ (PeerClaimError::Waiting | PeerClaimError::Full)) => {
                if let Some(ask) = ledger.poll_ask(now, account, at) {
                    let (daemon, account) = (Arc::clone(self), account.to_owned());
                    tokio::spawn(async move { daemon.ask(&account, ask).await });
                }
                unavailable(&error.to_string())
            }
        }
    }
}

fn name_of(view: &View) -> String {
    view.host(view.me()).map_or_else(|| view.me().to_string(), |host| host.name.clone())
}

fn shares_of(view: &View, account: &str) -> u16 {
    let found = view.map().lookup(account.as_bytes()).ok().flatten();
    found.filter(|found| found.place == Place::Dedicated).map_or(1, |found| found.seats.len() as u16)
}

/// An answer of this daemon.
fn decided(view: &View, mut body: Value) -> Response {
    body["by"] = json!(name_of(view));
    body["generation"] = json!(view.token().generation);
    (StatusCode::OK, [(ROLE_HEADER, "owner")], Json(body)).into_response()
}
