//! What agents noted about each other, and when which of it was first true. Pure.
//!
//! All agents stand on one machine and note by one clock, so that moments of different agents, and of what was done to
//! them, can be compared.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// How a member was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Among the serving members, and not accused.
    Serving,
    /// Accused, and still among them.
    Suspect,
    /// Not any more.
    Gone,
}

impl Seen {
    /// What a member's state means, or nothing if it only says how good a member is.
    fn read(state: &str) -> Result<Option<Self>> {
        match state {
            "Alive" | "Holding" => Ok(Some(Self::Serving)),
            "Suspect" => Ok(Some(Self::Suspect)),
            "Down" | "Left" | "Forgotten" => Ok(Some(Self::Gone)),
            "flapping" | "unreliable" | "calm" => Ok(None),
            _ => bail!("{state:?} is no state of a member"),
        }
    }
}

/// From one moment on, one agent saw another in some way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// When, in unix milliseconds.
    pub(crate) at_ms: u64,
    /// Who saw it.
    pub(crate) observer: usize,
    /// Whom.
    pub(crate) subject: usize,
    /// How.
    pub(crate) seen: Seen,
}

/// What one agent noted since it was last asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// The number of its last event.
    pub(crate) last: u64,
    /// Those of its events that are about members.
    pub(crate) changes: Vec<Change>,
}

/// Reads the events of an agent after the one with number `since`.
pub(crate) fn read(observer: usize, since: u64, answer: &Value) -> Result<Page> {
    let mut page = Page { last: since, changes: Vec::new() };
    for event in answer.as_array().context("events are a list")? {
        let number = event["sequence"].as_u64().context("an event has a sequence")?;
        if number != page.last + 1 {
            bail!("its events between numbers {} and {number} are lost: it keeps no more", page.last);
        }
        page.last = number;
        if event["kind"] == "member" {
            page.changes.extend(change(observer, event).with_context(|| format!("event {number}"))?);
        }
    }
    Ok(page)
}

fn change(observer: usize, event: &Value) -> Result<Option<Change>> {
    let subject = event["subject"].as_str().and_then(|name| name.strip_prefix("node-")?.parse().ok());
    let subject = subject.context("its subject is a host")?;
    let at_ms = event["time"].as_u64().context("it has a time")?;
    let seen = Seen::read(event["to"].as_str().context("it says to what")?)?;
    Ok(seen.map(|seen| Change { at_ms, observer, subject, seen }))
}

/// A time that begins at one moment and ends before another, in unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first moment.
    pub(crate) from_ms: u64,
    /// The first moment after it.
    pub(crate) until_ms: u64,
}

impl Window {
    fn contains(self, at_ms: u64) -> bool {
        (self.from_ms..self.until_ms).contains(&at_ms)
    }
}

/// Everything that agents noted, in order.
#[derive(Debug, Default)]
pub(crate) struct History(Vec<Change>);

impl History {
    /// Puts changes in order; those of one agent are so already.
    pub(crate) fn new(mut changes: Vec<Change>) -> Self {
        changes.sort_by_key(|change| change.at_ms);
        Self(changes)
    }

    /// How often any of these noted that another of them was gone.
    pub(crate) fn removals(&self, among: &BTreeSet<usize>) -> usize {
        let is_it = |change: &&Change| {
            change.seen == Seen::Gone && among.contains(&change.observer) && among.contains(&change.subject)
        };
        self.0.iter().filter(is_it).count()
    }

    /// When any of `observers` first noted that it saw `subject` so.
    pub(crate) fn first(
        &self,
        window: Window,
        observers: &BTreeSet<usize>,
        subject: usize,
        seen: Seen,
    ) -> Option<u64> {
        let is_it = |change: &&Change| {
            window.contains(change.at_ms)
                && observers.contains(&change.observer)
                && (change.subject, change.seen) == (subject, seen)
        };
        self.0.iter().find(is_it).map(|change| change.at_ms)
    }

    /// When all of `observers` at once first count exactly those of `subjects` among the serving members, besides
    /// themselves, of whom `is_wanted(observer, subject)` says so. Everybody counts until somebody notes otherwise.
    pub(crate) fn reached(
        &self,
        window: Window,
        observers: &BTreeSet<usize>,
        subjects: &BTreeSet<usize>,
        is_wanted: impl Fn(usize, usize) -> bool,
    ) -> Option<u64> {
        let mut wrong: BTreeSet<(usize, usize)> = observers
            .iter()
            .flat_map(|observer| subjects.iter().map(|subject| (*observer, *subject)))
            .filter(|(observer, subject)| observer != subject && !is_wanted(*observer, *subject))
            .collect();
        let mut since_ms = window.from_ms;
        for change in self.0.iter().filter(|change| change.at_ms < window.until_ms) {
            if change.at_ms > since_ms && wrong.is_empty() {
                return Some(since_ms);
            }
            let pair = (change.observer, change.subject);
            let is_watched = observers.contains(&pair.0) && subjects.contains(&pair.1) && pair.0 != pair.1;
            if !is_watched {
                continue;
            }
            since_ms = since_ms.max(change.at_ms);
            if (change.seen != Seen::Gone) == is_wanted(pair.0, pair.1) {
                wrong.remove(&pair);
            } else {
                wrong.insert(pair);
            }
        }
        wrong.is_empty().then_some(since_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(sequence: u64, kind: &str, subject: &str, to: &str) -> Value {
        json!({
            "sequence": sequence, "time": 1_000 + sequence, "kind": kind, "severity": "info",
            "subject": subject, "from": "Alive", "to": to, "cause": "",
        })
    }

    fn change(at_ms: u64, observer: usize, subject: usize, seen: Seen) -> Change {
        Change { at_ms, observer, subject, seen }
    }

    fn hosts(hosts: &[usize]) -> BTreeSet<usize> {
        hosts.iter().copied().collect()
    }

    const WINDOW: Window = Window { from_ms: 100, until_ms: 200 };

    #[test]
    fn events_about_members_are_read_and_others_counted() {
        let answer = json!([
            event(3, "member", "node-7", "Suspect"),
            event(4, "refused", "peer at 10.77.0.9:7300", "refused"),
            event(5, "member", "node-7", "Down"),
            event(6, "member", "node-7", "unreliable"),
        ]);
        let page = read(1, 2, &answer).expect("is read");
        let want = vec![change(1_003, 1, 7, Seen::Suspect), change(1_005, 1, 7, Seen::Gone)];
        assert_eq!(page, Page { last: 6, changes: want });
        assert_eq!(read(1, 6, &json!([])).expect("is read"), Page { last: 6, changes: Vec::new() });
    }

    #[test]
    fn lost_events_and_unknown_states_are_errors() {
        let check = |answer: Value, want: &str| {
            let why = format!("{:#}", read(1, 0, &answer).expect_err("is refused"));
            assert!(why.contains(want), "{why}");
        };
        check(json!([event(3, "member", "node-7", "Down")]), "between numbers 0 and 3 are lost");
        check(json!([event(1, "member", "node-7", "Asleep")]), "\"Asleep\" is no state");
        check(json!([event(1, "member", "somebody", "Down")]), "its subject is a host");
        check(json!({}), "events are a list");
    }

    #[test]
    fn the_first_note_in_the_window_counts() {
        let history = History::new(vec![
            change(150, 2, 7, Seen::Suspect),
            change(90, 1, 7, Seen::Suspect),
            change(120, 3, 7, Seen::Suspect),
            change(110, 1, 6, Seen::Suspect),
            change(210, 1, 7, Seen::Gone),
        ]);
        assert_eq!(history.removals(&hosts(&[1, 2, 3])), 0, "who is gone is none of them");
        assert_eq!(history.removals(&hosts(&[1, 7])), 1);
        let first = |observers: &[usize], seen| history.first(WINDOW, &hosts(observers), 7, seen);
        assert_eq!(first(&[1, 2, 3], Seen::Suspect), Some(120));
        assert_eq!(first(&[1, 2], Seen::Suspect), Some(150));
        assert_eq!(first(&[1, 2, 3], Seen::Gone), None, "it was after the window");
    }

    #[test]
    fn a_split_is_reached_when_the_last_of_all_sees_it() {
        let split = |observer: usize, subject: usize| (observer < 2) == (subject < 2);
        let everybody = hosts(&[0, 1, 2]);
        let mut changes = vec![
            change(110, 0, 2, Seen::Gone),
            change(115, 1, 2, Seen::Suspect),
            change(120, 1, 2, Seen::Gone),
            change(130, 2, 0, Seen::Gone),
        ];
        let reached = |changes: &[Change]| {
            History::new(changes.to_vec()).reached(WINDOW, &everybody, &everybody, split)
        };
        assert_eq!(reached(&changes), None);
        changes.push(change(140, 2, 1, Seen::Gone));
        assert_eq!(reached(&changes), Some(140));
        changes.push(change(150, 2, 1, Seen::Serving));
        assert_eq!(reached(&changes), Some(140), "that it is over later does not matter");
    }

    #[test]
    fn agreement_may_be_there_before_the_window_and_may_end_before_it() {
        let everybody = hosts(&[0, 1]);
        let reached =
            |changes: Vec<Change>| History::new(changes).reached(WINDOW, &everybody, &everybody, |_, _| true);
        assert_eq!(reached(Vec::new()), Some(100));
        assert_eq!(reached(vec![change(50, 0, 1, Seen::Gone), change(60, 0, 1, Seen::Serving)]), Some(100));
        assert_eq!(reached(vec![change(50, 0, 1, Seen::Gone), change(160, 0, 1, Seen::Serving)]), Some(160));
        assert_eq!(reached(vec![change(50, 0, 1, Seen::Gone), change(260, 0, 1, Seen::Serving)]), None);
    }
}
