//! What whoever follows the members is told: the last changes of who is in answers, numbered, and a bell for those who wait.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use ringmesh_node::watch::PresenceChange;
use ringmesh_types::time::WallTime;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore};

/// So many are kept: whoever was away for longer reads the members anew.
const KEPT: usize = 256;
/// So many may wait at once.
pub(crate) const WAITING_MAX: usize = 64;

/// Changes of members that happened together.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Told {
    /// Counts these, from the milliseconds of the agent's start on: no number of an earlier life comes again, and a gap says
    /// that something was missed.
    pub(crate) sequence: u64,
    /// When, by this agent's clock.
    pub(crate) time: WallTime,
    /// Who stands elsewhere now.
    pub(crate) changes: Vec<PresenceChange>,
}

/// Keeps what was told last.
#[derive(Debug)]
pub(crate) struct Followers {
    told: Mutex<(u64, VecDeque<Told>)>,
    bell: Notify,
    waiting: Semaphore,
}

/// As many wait as may.
#[derive(Debug)]
pub(crate) struct TooManyWait;

impl Followers {
    /// Nobody was told anything by an agent that started at this time.
    pub(crate) fn new(started: WallTime) -> Self {
        let told = Mutex::new((started.as_unix_millis(), VecDeque::new()));
        Self { told, bell: Notify::new(), waiting: Semaphore::new(WAITING_MAX) }
    }

    fn told(&self) -> MutexGuard<'_, (u64, VecDeque<Told>)> {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn tell(&self, time: WallTime, changes: Vec<PresenceChange>) {
        let mut told = self.told();
        told.0 += 1;
        let sequence = told.0;
        if told.1.len() >= KEPT {
            told.1.pop_front();
        }
        told.1.push_back(Told { sequence, time, changes });
        drop(told);
        self.bell.notify_waiters();
    }

    /// What was told after number `since`, oldest first; waits up to `wait` for it if there is nothing.
    ///
    /// # Errors
    /// If it would have to wait, and too many do.
    pub(crate) async fn since(&self, since: u64, wait: Duration) -> Result<Vec<Told>, TooManyWait> {
        let news = || -> Vec<Told> {
            let told = self.told();
            // Who has seen more than was told followed a life whose clock was ahead.
            let since = if since > told.0 { 0 } else { since };
            told.1.iter().filter(|told| told.sequence > since).cloned().collect()
        };
        let there = news();
        if !there.is_empty() || wait.is_zero() {
            return Ok(there);
        }
        let _permit = self.waiting.try_acquire().map_err(|_| TooManyWait)?;
        let come = async {
            loop {
                let rung = self.bell.notified();
                let news = news();
                if !news.is_empty() {
                    return news;
                }
                rung.await;
            }
        };
        Ok(tokio::time::timeout(wait, come).await.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmesh_node::watch::Presence;

    fn change(member: &str) -> PresenceChange {
        let member = member.parse().expect("a name");
        PresenceChange { member, from: Presence::In, to: Presence::Out, cause: "test".to_owned() }
    }

    const STARTED: u64 = 1_000;

    fn followers() -> Followers {
        Followers::new(WallTime::from_unix_millis(STARTED))
    }

    async fn since(followers: &Followers, since: u64, wait: Duration) -> Vec<Told> {
        followers.since(since, wait).await.expect("few wait")
    }

    #[tokio::test]
    async fn who_waits_is_woken_and_who_was_away_gets_what_was_missed() {
        let followers = followers();
        let (came, ()) = tokio::join!(since(&followers, 0, Duration::from_secs(60)), async {
            followers.tell(WallTime::default(), vec![change("a"), change("b")]);
        });
        assert_eq!(came.len(), 1);
        assert_eq!(came[0].changes.len(), 2);
        followers.tell(WallTime::default(), vec![change("c")]);
        let missed = since(&followers, STARTED + 1, Duration::ZERO).await;
        assert_eq!(missed.iter().map(|told| told.sequence).collect::<Vec<_>>(), [STARTED + 2]);
        assert!(since(&followers, STARTED + 2, Duration::ZERO).await.is_empty());
        assert_eq!(
            since(&followers, STARTED - 5, Duration::ZERO).await.len(),
            2,
            "an earlier life was followed"
        );
        assert_eq!(since(&followers, STARTED + 50, Duration::ZERO).await.len(), 2, "its clock was ahead");
    }

    #[tokio::test]
    async fn what_is_kept_and_who_waits_is_bounded() {
        let followers = followers();
        (0..=KEPT).for_each(|_| followers.tell(WallTime::default(), vec![change("a")]));
        let kept = since(&followers, 0, Duration::ZERO).await;
        assert_eq!((kept.len(), kept[0].sequence), (KEPT, STARTED + 2));
        let newest = kept[KEPT - 1].sequence;
        let _permits = followers.waiting.try_acquire_many(WAITING_MAX as u32).expect("nobody waits");
        assert!(followers.since(newest, Duration::from_secs(60)).await.is_err());
        assert_eq!(since(&followers, newest - 1, Duration::from_secs(60)).await.len(), 1, "no need to wait");
    }
}
