//! The recorder: the last events of this agent, in memory, numbered, with their causes.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use ringmesh_types::event::{Event, EventKind, Severity};
use ringmesh_types::limits::EVENTS_KEPT;
use ringmesh_types::time::WallTime;

use crate::clock::wall_now;

/// Keeps the last 1,024 events.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    events: VecDeque<Event>,
    sequence: u64,
    /// What was refused last: a peer that tries again and again is told of once a minute.
    refused: VecDeque<(String, WallTime)>,
}

/// Of the events that are kept, so many tell of peers that were refused or not reached: strangers choose how many there are.
const REFUSALS_KEPT: usize = 128;
const REFUSALS_REMEMBERED: usize = 64;
const REFUSAL_EVERY_MS: u64 = 60_000;

impl Recorder {
    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Numbers an event, keeps it and logs it.
    pub fn record(&self, event: Event) {
        let Event { kind, subject, from, to, cause, severity, .. } = &event;
        match severity {
            Severity::Info => tracing::info!(?kind, subject, from, to, cause, "event"),
            Severity::Warning => tracing::warn!(?kind, subject, from, to, cause, "event"),
        }
        let mut recorded = self.recorded();
        recorded.sequence += 1;
        let sequence = recorded.sequence;
        let is_refusal = |event: &Event| event.kind == EventKind::Refused;
        let refusals = || recorded.events.iter().filter(|kept| is_refusal(kept)).count();
        let first = if is_refusal(&event) && refusals() >= REFUSALS_KEPT {
            recorded.events.iter().position(is_refusal)
        } else {
            (recorded.events.len() >= EVENTS_KEPT).then_some(0)
        };
        first.and_then(|index| recorded.events.remove(index));
        recorded.events.push_back(Event { sequence, ..event });
    }

    /// The last `limit` events after number `since`, oldest first.
    pub fn since(&self, since: u64, limit: usize) -> Vec<Event> {
        let recorded = self.recorded();
        let after = recorded.events.iter().filter(|event| event.sequence > since);
        let skip = after.clone().count().saturating_sub(limit);
        after.skip(skip).cloned().collect()
    }

    /// A peer that came was not taken in. From which of its ports it came makes no difference.
    pub(crate) fn refused(&self, addr: SocketAddr, why: &str) {
        self.tell(addr.ip().to_string(), addr, "refused", why);
    }

    /// A peer that was dialled did not take us in, or did not answer.
    pub(crate) fn dial_failed(&self, addr: SocketAddr, why: &str) {
        if why.starts_with("no answer") {
            tracing::debug!(%addr, why, "dial failed");
        } else {
            self.tell(addr.to_string(), addr, "not reached", why);
        }
    }

    fn tell(&self, whom: String, addr: SocketAddr, to: &str, cause: &str) {
        let now = wall_now();
        let key = format!("{whom} {to} {cause}");
        {
            let refused = &mut self.recorded().refused;
            refused.retain(|(_, at)| now.as_unix_millis() < at.as_unix_millis() + REFUSAL_EVERY_MS);
            if refused.iter().any(|(known, _)| *known == key) {
                return;
            }
            if refused.len() >= REFUSALS_REMEMBERED {
                refused.pop_front();
            }
            refused.push_back((key, now));
        }
        self.record(Event {
            sequence: 0,
            time: now,
            kind: EventKind::Refused,
            severity: Severity::Warning,
            subject: format!("peer at {addr}"),
            from: String::new(),
            to: to.to_owned(),
            cause: cause.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7300))
    }

    #[test]
    fn a_refusal_that_repeats_is_recorded_once() {
        let recorder = Recorder::default();
        for _ in 0..10 {
            recorder.refused(addr(), "another cluster");
        }
        recorder.refused(addr(), "expired");
        assert_eq!(recorder.since(0, 100).len(), 2);
    }

    fn joined(recorder: &Recorder, number: usize) {
        recorder.record(Event {
            sequence: 0,
            time: wall_now(),
            kind: EventKind::Member,
            severity: Severity::Info,
            subject: number.to_string(),
            from: String::new(),
            to: "Alive".to_owned(),
            cause: "it joined".to_owned(),
        });
    }

    #[test]
    fn the_recorder_is_bounded_and_numbers_on() {
        let recorder = Recorder::default();
        (0..EVENTS_KEPT + 10).for_each(|number| joined(&recorder, number));
        let events = recorder.since(0, usize::MAX);
        assert_eq!(events.len(), EVENTS_KEPT);
        assert_eq!(events.last().map(|event| event.sequence), Some(EVENTS_KEPT as u64 + 10));
        assert_eq!(recorder.since(0, 3).len(), 3);
    }

    #[test]
    fn strangers_cannot_push_the_history_of_members_out() {
        let recorder = Recorder::default();
        joined(&recorder, 0);
        for port in 1..=u16::try_from(EVENTS_KEPT).expect("fits") {
            recorder.refused(SocketAddr::from(([127, 0, 0, 1], port)), "the handshake took too long");
        }
        assert_eq!(recorder.since(0, usize::MAX).len(), 2, "one host's ports are one host");
        for host in 0..u32::try_from(EVENTS_KEPT).expect("fits") {
            recorder.refused(SocketAddr::from((core::net::Ipv4Addr::from_bits(host), 1)), "it took too long");
        }
        let events = recorder.since(0, usize::MAX);
        assert_eq!((events.len(), events[0].subject.as_str()), (1 + REFUSALS_KEPT, "0"));
    }
}
