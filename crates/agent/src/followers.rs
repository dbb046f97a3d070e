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
const WAITING_MAX: usize = 64;
/// Further ones are answered with what there is, after this time, lest they ask again and again.
const TOO_MANY_WAIT: Duration = Duration::from_secs(1);

/// Changes of members that happened together.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Told {
    /// Counts these since the agent's start, from 1.
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

impl Default for Followers {
    fn default() -> Self {
        Self { told: Mutex::default(), bell: Notify::new(), waiting: Semaphore::new(WAITING_MAX) }
    }
}

impl Followers {
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
    pub(crate) async fn since(&self, since: u64, wait: Duration) -> Vec<Told> {
        let news = || -> Vec<Told> {
            let told = self.told();
            // Who has seen more than was told has followed an earlier life of this agent.
            let since = if since > told.0 { 0 } else { since };
            told.1.iter().filter(|told| told.sequence > since).cloned().collect()
        };
        let Ok(_permit) = self.waiting.try_acquire() else {
            tokio::time::sleep(wait.min(TOO_MANY_WAIT)).await;
            return news();
        };
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
        tokio::time::timeout(wait, come).await.unwrap_or_default()
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

    #[tokio::test]
    async fn who_waits_is_woken_and_who_was_away_gets_what_was_missed() {
        let followers = Followers::default();
        let (came, ()) = tokio::join!(followers.since(0, Duration::from_secs(60)), async {
            followers.tell(WallTime::default(), vec![change("a"), change("b")]);
        });
        assert_eq!(came.len(), 1);
        assert_eq!(came[0].changes.len(), 2);
        followers.tell(WallTime::default(), vec![change("c")]);
        let missed = followers.since(1, Duration::ZERO).await;
        assert_eq!(missed.iter().map(|told| told.sequence).collect::<Vec<_>>(), [2]);
        assert!(followers.since(2, Duration::ZERO).await.is_empty());
        let anew = followers.since(50, Duration::ZERO).await;
        assert_eq!(anew.len(), 2, "its counting began anew");
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let followers = Followers::default();
        (0..=KEPT).for_each(|_| followers.tell(WallTime::default(), vec![change("a")]));
        let kept = followers.since(0, Duration::ZERO).await;
        assert_eq!((kept.len(), kept[0].sequence), (KEPT, 2));
    }
}
