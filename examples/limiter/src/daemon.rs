//! What a daemon does with requests, and with what it is told of the map: it asks the [`Ledger`], and others where that says so.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use ringmesh_client::{Host, Maps, View};
use ringmesh_partition::follow::Token;
use ringmesh_partition::map::Place;
use ringmesh_partition::position::Position;
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant as Deadline, timeout_at};

use crate::bucket::Quota;
use crate::grants::{Grant, GrantLog, Role};
use crate::history::{History, Sees as _};
use crate::ledger::{Answer, Ask, Claim, Kind, Ledger, PeerClaimError, Take};
use crate::peers::{Peers, Reply};
use crate::seen::Seen;
use crate::server::{GENERATION_HEADER, HOPS_HEADER, PEER_TIMEOUT, REQUESTS_MAX, ROLE_HEADER};

/// A daemon whose agent has not been heard for so long grants nothing: the mesh waits as long for an agent that restarts in good
/// order, and then gives what the daemon owned to others.
const AWAY_MAX: Duration = Duration::from_secs(20);

/// One daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) agent: SocketAddr,
    pub(crate) service: ServiceName,
    pub(crate) quota: Quota,
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
    pub(crate) permits: Semaphore,
    turn: AtomicUsize,
}

/// What decides, and what notes it.
#[derive(Debug)]
struct Desk {
    ledger: Option<Ledger<Seen>>,
    log: Option<GrantLog>,
}

/// A question to another daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandOverBody {
    pub(crate) account: String,
    pub(crate) generation: u64,
    pub(crate) author: String,
    pub(crate) from: String,
    pub(crate) kind: Kind,
    pub(crate) shares: u16,
    pub(crate) keeps: bool,
}

/// What a request is about, and when it came.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) account: String,
    pub(crate) cost: f64,
    pub(crate) deadline: Deadline,
}

impl Daemon {
    /// One that begins to watch the agent, and the views that it is to follow.
    pub(crate) fn new(
        name: &str,
        (agent, service): (SocketAddr, ServiceName),
        quota: Quota,
        (log, has_run_before): (Option<GrantLog>, bool),
    ) -> (Self, broadcast::Receiver<Arc<View>>) {
        let maps = Maps::watch(agent, service.clone(), name);
        let views = maps.views();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let daemon = Self {
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
        (daemon, views)
    }

    /// How it is.
    pub(crate) fn health(&self) -> Value {
        let desk = self.desk();
        let ledger = desk.ledger.as_ref();
        let generation = ledger.and_then(Ledger::present).map(|seen| seen.token().generation);
        json!({ "status": "ok", "generation": generation, "accounts": ledger.map_or(0, Ledger::accounts) })
    }

    /// What it holds stays whole if somebody panics with it: every step of the ledger is one.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wall_ms(&self) -> f64 {
        (self.begun.as_nanos() as f64 + self.maps.now().as_nanos() as f64) / 1e6
    }

    /// Keeps the ledger at the newest view, for ever.
    pub(crate) async fn follow(&self, mut views: broadcast::Receiver<Arc<View>>) {
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
    pub(crate) async fn catch_up(&self, generation: u64, deadline: Deadline) {
        let mut token = self.token.subscribe();
        let is_there = |token: &Option<Token>| token.map_or(0, |token| token.generation) >= generation;
        // Late or not, what is known then decides.
        let _ = timeout_at(deadline, token.wait_for(is_there)).await;
    }

    /// Answers a request.
    pub(crate) async fn take(self: &Arc<Self>, wanted: &Wanted, is_forwarded: bool) -> Response {
        if self.maps.away_for() >= AWAY_MAX {
            return unavailable("the agent on this machine is away: others may own the account by now");
        }
        loop {
            let (mut token, mut asked) = (self.token.subscribe(), self.asked.subscribe());
            let (taken, at, seen) = match self.decide(wanted) {
                Ok(decided) => decided,
                Err(refusal) => return *refusal,
            };
            match taken {
                Take::Granted { left } => {
                    let left = (left * 1_000.0).floor() / 1_000.0;
                    return decided(&seen, json!({ "granted": true, "left": left }));
                }
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

    /// Answers another daemon.
    pub(crate) fn hand_over(self: &Arc<Self>, account: &str, claim: &Claim) -> Response {
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

/// What was asked makes no sense.
pub(crate) fn bad(detail: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": "bad request", "detail": detail }))).into_response()
}

/// Nobody decides just now.
pub(crate) fn unavailable(detail: &str) -> Response {
    let body = Json(json!({ "error": "unavailable", "detail": detail }));
    (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], body).into_response()
}
