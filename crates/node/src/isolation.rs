//! Whether this node hears nobody at all of those that it knows, so that what it knows of them grows old.

use ringmesh_types::event::{EventKind, Severity};
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::time::Instant;

use crate::machine::{Node, Timer};

/// Whoever hears nobody for so many probe periods is isolated: it probes somebody in each, and each answers.
const PROBES: u32 = 10;

/// Since when, if so.
#[derive(Debug)]
pub(crate) struct Isolation {
    since: Option<Instant>,
    /// Silence counts from here: nobody can be heard before a start or during a pause.
    counted_from: Instant,
}

impl Isolation {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: None, counted_from: now }
    }

    /// Since when nobody was heard, if it is long enough to matter.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// What was before does not count.
    pub(crate) fn count_from(&mut self, now: Instant) {
        self.counted_from = now;
    }
}

impl Node {
    pub(crate) fn arm_isolation(&mut self, now: Instant) {
        self.timers.arm(now.after(self.config.probe.period * PROBES), Timer::Isolation);
    }

    pub(crate) fn on_isolation_due(&mut self, now: Instant) {
        let limit = self.config.probe.period * PROBES;
        let heard = self.accusations.heard_anybody().unwrap_or(Instant::START);
        let silent_from = heard.max(self.isolation.counted_from);
        let is_silent = now.since(silent_from) >= limit;
        self.timers.arm(if is_silent { now } else { silent_from }.after(limit), Timer::Isolation);
        let me = self.id();
        let is_missed = |(id, state): (_, MemberState)| id != me && state != MemberState::Left;
        let is_isolated = is_silent && self.members.iter().map(|one| (one.id(), one.state())).any(is_missed);
        match (self.isolation.since, is_isolated) {
            (None, true) => {
                self.isolation.since = Some(silent_from);
                let cause =
                    format!("nobody was heard for {} s: answers are stale", now.since(silent_from).as_secs());
                self.say_isolation(now, Severity::Warning, ["connected", "isolated"], &cause);
            }
            (Some(_), false) => self.end_isolation(now, "there is nobody any more who could be heard"),
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Ends it as soon as anybody is heard.
    pub(crate) fn settle_isolation(&mut self, now: Instant) {
        let heard = self.accusations.heard_anybody();
        if self.isolation.since.is_some_and(|since| heard > Some(since)) {
            self.end_isolation(now, "somebody was heard again");
        }
    }

    fn end_isolation(&mut self, now: Instant, cause: &str) {
        self.isolation.since = None;
        self.say_isolation(now, Severity::Info, ["isolated", "connected"], cause);
    }

    fn say_isolation(&mut self, now: Instant, severity: Severity, [from, to]: [&str; 2], cause: &str) {
        let name = self.config.name.clone();
        self.event(now, EventKind::Agent, severity, name, from, to, cause);
        self.view.member_changed(self.id());
    }
}
