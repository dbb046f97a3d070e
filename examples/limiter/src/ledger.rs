//! Who may take how much: the buckets of this daemon, and how they come and go as keys move. Pure: time comes in as an argument.
//!
//! The sum of the levels of all shares of an account never exceeds its burst, and they fill together by its rate at most. So whatever
//! moves, what is granted in a time is at most burst + rate × time. For that:
//!
//! - Who becomes the only holder asks the one before, who gives its bucket away and is fenced. If that one cannot be reached, or there
//!   is none, the bucket has begun to fill, empty, when this daemon became a holder. Only where it is the very first holder it is full.
//! - Who gets a new share begins empty, and fills once everybody who was a holder before has cut its own share. Whose share grows
//!   keeps the smaller one until then.
//! - A bucket of an earlier tenure does not count.
//!
//! Invariant: nothing is granted under a token lower than one that an account was given away under.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ringmesh_partition::follow::{HAND_OVER, Token};
use ringmesh_partition::position::Position;
use ringmesh_types::ids::NodeId;
use ringmesh_types::time::Instant;
use serde::{Deserialize, Serialize};

use crate::bucket::{Bucket, Quota, Short};
use crate::fences::Fences;
use crate::history::{History, Run, Sees};

/// Accounts at most. A full one that was not used for longest makes room; if there is none among the 64 oldest, a new one
/// is refused. A full bucket is forgotten without harm: what takes its place never holds more.
pub const ACCOUNTS_MAX: usize = 1_000_000;
/// Of the oldest accounts so many are looked at.
const ROOM_TRIES: usize = 64;
/// Time after which a share that is not confirmed asks again.
pub const ASK_AGAIN: Duration = Duration::from_millis(250);
/// Time after which a bucket that did not come is asked for by another request.
const MOVE_LOST: Duration = Duration::from_secs(1);

/// What comes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Take {
    /// It is granted.
    Granted {
        /// Tokens left.
        left: f64,
    },
    /// It is refused: there are not enough tokens.
    Refused(Short),
    /// This daemon is no holder.
    NotMine,
    /// A holder by a newer map has the account.
    Fenced,
    /// Others have to be asked first; then the request is tried again.
    Ask(Ask),
    /// They are being asked.
    Wait,
    /// There is no room for another account.
    Full,
}

/// What to ask others.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Goes with the answers.
    pub number: u64,
    /// The map that makes this daemon a holder.
    pub token: Token,
    /// What is asked for.
    pub kind: Kind,
    /// Into how many shares the quota is cut now.
    pub shares: u16,
    /// Who is asked, and whether it keeps a share.
    pub holders: Vec<(NodeId, bool)>,
}

/// What a daemon asks another one for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The whole bucket.
    Move,
    /// To make room for a share that is new.
    Share,
    /// To make room for a share that grows.
    Raise,
}

/// A daemon asks for its part of an account.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The map that it goes by.
    pub token: Token,
    /// Who asks.
    pub from: NodeId,
    /// What for.
    pub kind: Kind,
    /// Into how many shares the quota is cut now.
    pub shares: u16,
    /// Whether who is asked keeps one of them.
    pub is_kept: bool,
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    /// It gave away what it had, or cut its share.
    Level(f64),
    /// It did so, and does not know how much there was.
    Unknown,
    /// It goes by a newer map, in which this daemon is no holder.
    Outdated,
    /// It did not answer, or waits itself.
    Unreached,
}

/// Why nothing is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerClaimError {
    /// Who asks goes by an older map.
    #[error("generation {} of {} does not count any more: follow the map", .0.generation, .0.author)]
    Outdated(Token),
    /// Others have not confirmed to this daemon yet.
    #[error("this daemon waits for other holders of the account itself: ask again")]
    Waiting,
    /// There is no room to note it.
    #[error("there is no room for another account: ask again")]
    Full,
}

#[derive(Debug)]
struct Account {
    bucket: Bucket,
    /// The view in which this daemon was last known to be a holder.
    seen: u64,
    /// When it was last used, among all uses.
    used: u64,
    pending: Option<Pending>,
}

/// Others have to confirm first.
#[derive(Debug)]
struct Pending {
    number: u64,
    kind: Kind,
    shares: u16,
    since: Instant,
    /// Whether this daemon may have granted before, so that it does not take more than fills since then.
    is_cut: bool,
    unconfirmed: Vec<NodeId>,
    next: Instant,
}

/// The buckets of one daemon.
#[derive(Debug)]
pub struct Ledger<V> {
    quota: Quota,
    history: History<V>,
    accounts: HashMap<Arc<str>, Account>,
    by_use: BTreeMap<u64, Arc<str>>,
    count: u64,
    accounts_max: usize,
    fences: Fences,
}

impl<V: Sees> Ledger<V> {
    /// No account is known.
    pub fn new(quota: Quota, history: History<V>) -> Self {
        Self {
            quota,
            history,
            accounts: HashMap::new(),
            by_use: BTreeMap::new(),
            count: 0,
            accounts_max: ACCOUNTS_MAX,
            fences: Fences::default(),
        }
    }

    /// The newest view.
    pub fn present(&self) -> Option<&V> {
        self.history.present()
    }

    /// Another view counts, see [`History::add`].
    pub fn follow(&mut self, now: Instant, view: V, is_missing: bool) {
        self.history.add(now, view, is_missing);
    }

    /// How many accounts are known.
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// A request for so many tokens of an account that lies at `at`. `is_dead` says who is held to be down.
    pub fn take(
        &mut self,
        now: Instant,
        (account, at): (&str, Position),
        cost: f64,
        is_dead: impl Fn(NodeId) -> bool,
    ) -> Take {
        let Some((token, holders)) = self.holders(at) else { return Take::NotMine };
        if !holders.contains(&self.history.me()) {
            return Take::NotMine;
        }
        if !self.fences.allows(account, token) {
            return Take::Fenced;
        }
        if !self.keep(now, account, at, holders.len() as u16) {
            return Take::Full;
        }
        self.forgive(now, account, is_dead);
        if let Some(waiting) = self.ask(now, account, token, &holders) {
            return waiting;
        }
        self.touch(account);
        let quota = self.quota;
        let Some(known) = self.accounts.get_mut(account) else { return Take::Full };
        match known.bucket.take(now, &quota, cost) {
            Ok(left) => Take::Granted { left },
            Err(short) => Take::Refused(short),
        }
    }

    /// What another daemon is to be asked for an account that waits, if it is time.
    pub fn poll_ask(&mut self, now: Instant, account: &str, at: Position) -> Option<Ask> {
        let (token, holders) = self.holders(at)?;
        match self.ask(now, account, token, &holders)? {
            Take::Ask(ask) => Some(ask),
            Take::Granted { .. }
            | Take::Refused(_)
            | Take::NotMine
            | Take::Fenced
            | Take::Wait
            | Take::Full => None,
        }
    }

    fn holders(&self, at: Position) -> Option<(Token, Vec<NodeId>)> {
        self.history.present().map(|view| (view.token(), view.holders(at)))
    }

    /// Makes sure that there is a bucket of the present tenure. Says whether there is.
    fn keep(&mut self, now: Instant, account: &str, at: Position, shares: u16) -> bool {
        let present = self.history.number();
        let seen = self.accounts.get(account).map(|known| known.seen);
        if seen == Some(present) {
            return true;
        }
        let Some(run) = self.history.run(at, seen.unwrap_or(0)) else { return false };
        match self.accounts.get_mut(account) {
            Some(known) if known.seen >= run.start => {
                self.count += 1;
                known.follow(now, &self.quota, &run, (present, shares, self.count));
                true
            }
            Some(_) | None => {
                self.forget(account);
                self.open(now, account, &run, shares)
            }
        }
    }

    /// A bucket for an account that is not known. Says whether there is room.
    fn open(&mut self, now: Instant, account: &str, run: &Run, shares: u16) -> bool {
        if !self.make_room(now) {
            return false;
        }
        let run = self.fences.applied(account, run.clone());
        let quota = &self.quota;
        let is_move = shares == 1 && run.before.len() == 1;
        let is_recent = now.since(run.since) < HAND_OVER;
        let filled = Bucket::since(run.since, quota, run.parts);
        let (bucket, kind) = if run.is_first {
            (Bucket::new(now, quota, run.parts, quota.burst), Kind::Raise)
        } else if run.before.is_empty() || (is_move && !is_recent) {
            (filled, Kind::Raise)
        } else if is_move && run.parts == 1 {
            (Bucket::waiting(now, 1), Kind::Move)
        } else {
            (Bucket::waiting(now, run.parts), Kind::Share)
        };
        let mut unconfirmed = if kind == Kind::Raise { Vec::new() } else { run.before };
        if run.parts > shares {
            unconfirmed.extend(run.others);
        }
        unconfirmed.sort_unstable();
        unconfirmed.dedup();
        self.count += 1;
        let pending = Pending {
            number: self.count,
            kind,
            shares,
            since: run.since,
            is_cut: run.is_cut,
            unconfirmed,
            next: now,
        };
        let pending = (!pending.unconfirmed.is_empty()).then_some(pending);
        let name: Arc<str> = account.into();
        let known = Account { bucket, seen: self.history.number(), used: self.count, pending };
        self.by_use.insert(self.count, Arc::clone(&name));
        self.accounts.insert(name, known);
        true
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.accounts.len() < self.accounts_max {
            return true;
        }
        let is_full = |name: &&Arc<str>| {
            let known = self.accounts.get(*name);
            known.is_none_or(|known| known.pending.is_none() && known.bucket.is_full(now, &self.quota))
        };
        let Some(name) = self.by_use.values().take(ROOM_TRIES).find(is_full).cloned() else { return false };
        self.forget(&name);
        true
    }

    fn forget(&mut self, account: &str) -> Option<Account> {
        let known = self.accounts.remove(account)?;
        self.by_use.remove(&known.used);
        Some(known)
    }

    fn touch(&mut self, account: &str) {
        let Some(known) = self.accounts.get_mut(account) else { return };
        let Some(name) = self.by_use.remove(&known.used) else { return };
        self.count += 1;
        known.used = self.count;
        self.by_use.insert(self.count, name);
    }

    /// Who is down, and has been since the time for hand-overs, confirms nothing any more, and grants nothing.
    fn forgive(&mut self, now: Instant, account: &str, is_dead: impl Fn(NodeId) -> bool) {
        let quota = self.quota;
        let Some(known) = self.accounts.get_mut(account) else { return };
        let Some(pending) = known.pending.as_mut().filter(|pending| pending.kind != Kind::Move) else {
            return;
        };
        if now.since(pending.since) >= HAND_OVER {
            pending.unconfirmed.retain(|holder| !is_dead(*holder));
            known.settle(now, &quota);
        }
    }

    /// What has to come before a request is decided, if anything.
    fn ask(&mut self, now: Instant, account: &str, token: Token, holders: &[NodeId]) -> Option<Take> {
        let pending = self.accounts.get_mut(account)?.pending.as_mut()?;
        if now < pending.next {
            return (pending.kind == Kind::Move).then_some(Take::Wait);
        }
        pending.next = now.after(if pending.kind == Kind::Move { MOVE_LOST } else { ASK_AGAIN });
        Some(Take::Ask(Ask {
            number: pending.number,
            token,
            kind: pending.kind,
            shares: pending.shares,
            holders: pending.unconfirmed.iter().map(|one| (*one, holders.contains(one))).collect(),
        }))
    }

    /// What `holder` answered, or that it did not. What was asked about another view or tenure does not count.
    pub fn on_answer(&mut self, now: Instant, account: &str, number: u64, holder: NodeId, answer: Answer) {
        let quota = self.quota;
        let Some(known) = self.accounts.get_mut(account) else { return };
        let Some(pending) = known.pending.as_mut().filter(|pending| pending.number == number) else { return };
        if pending.kind != Kind::Move {
            if matches!(answer, Answer::Level(_) | Answer::Unknown) {
                pending.unconfirmed.retain(|one| *one != holder);
                known.settle(now, &quota);
            }
            return;
        }
        let filled = Bucket::since(pending.since, &quota, 1);
        known.bucket = match answer {
            Answer::Level(level) if pending.is_cut => {
                Bucket::new(now, &quota, 1, level.min(filled.level(now, &quota)))
            }
            Answer::Level(level) => Bucket::new(now, &quota, 1, level),
            Answer::Unknown => Bucket::since(now, &quota, 1),
            Answer::Unreached => filled,
            // It waits for the map that takes the account away from here, or asks again.
            Answer::Outdated => return,
        };
        known.pending = None;
    }

    /// Another daemon asks for its part of an account: what it gets, if that is known.
    ///
    /// # Errors
    /// If it goes by an older map, has to ask again, or there is no room; nothing is given away then.
    pub fn hand_over(
        &mut self,
        now: Instant,
        (account, at): (&str, Position),
        claim: &Claim,
    ) -> Result<Option<f64>, PeerClaimError> {
        self.check(account, at, claim)?;
        let seen = self.accounts.get(account).map_or(0, |known| known.seen);
        let run = self.history.run(at, seen);
        if run.as_ref().is_none_or(|run| seen < run.start) {
            self.forget(account);
        }
        if claim.is_kept
            && let Some(run) = &run
            && !self.accounts.contains_key(account)
            && !self.open(now, account, run, run.parts)
        {
            return Err(PeerClaimError::Full);
        }
        let known = self.accounts.get_mut(account);
        if claim.kind != Kind::Raise && known.as_ref().is_some_and(|known| known.pending.is_some()) {
            return Err(PeerClaimError::Waiting);
        }
        if claim.is_kept {
            known.into_iter().for_each(|known| known.bucket.cut(now, &self.quota, claim.shares));
            self.fences.raise(now, account, claim.token, None);
            return Ok(Some(0.0));
        }
        let level = match self.forget(account) {
            Some(known) => Some(known.bucket.level(now, &self.quota)),
            None => run.and_then(|run| self.unknown(now, account, &run)),
        };
        self.fences.raise(now, account, claim.token, Some(claim.from));
        Ok(level)
    }

    fn check(&self, account: &str, at: Position, claim: &Claim) -> Result<(), PeerClaimError> {
        if let Some(seen) = self.fences.higher(account, claim.token) {
            return Err(PeerClaimError::Outdated(seen));
        }
        match self.holders(at) {
            Some((token, holders)) if token > claim.token && !holders.contains(&claim.from) => {
                Err(PeerClaimError::Outdated(token))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What an account would have that was not asked for in a run; nothing if it was given away since.
    fn unknown(&self, now: Instant, account: &str, run: &Run) -> Option<f64> {
        if self.fences.applied(account, run.clone()) != *run {
            return None;
        }
        let bucket = if run.is_first {
            Bucket::new(now, &self.quota, run.parts, self.quota.burst)
        } else {
            Bucket::since(run.since, &self.quota, run.parts)
        };
        Some(bucket.level(now, &self.quota))
    }
}

impl Account {
    /// This daemon has been a holder all along, and is one of `shares` now.
    fn follow(&mut self, now: Instant, quota: &Quota, run: &Run, (present, shares, number): (u64, u16, u64)) {
        self.seen = present;
        self.bucket.cut(now, quota, run.parts_seen);
        let is_growing = shares < self.bucket.parts();
        if self.pending.is_none() && is_growing {
            self.pending = Some(Pending {
                number,
                kind: Kind::Raise,
                shares,
                since: now,
                is_cut: run.is_cut,
                unconfirmed: Vec::new(),
                next: now,
            });
        }
        let Some(pending) = self.pending.as_mut() else { return };
        if pending.kind == Kind::Move && shares == 1 {
            return;
        }
        if pending.kind == Kind::Move {
            pending.kind = Kind::Share;
        }
        pending.unconfirmed.extend(run.others.iter().copied());
        pending.unconfirmed.sort_unstable();
        pending.unconfirmed.dedup();
        (pending.number, pending.shares, pending.next) = (number, shares, now);
        self.settle(now, quota);
    }

    /// If all have confirmed, the share fills.
    fn settle(&mut self, now: Instant, quota: &Quota) {
        if let Some(pending) = self.pending.take_if(|pending| pending.unconfirmed.is_empty()) {
            self.bucket.fill(now, quota, pending.shares);
        }
    }
}

#[cfg(test)]
mod tests;
