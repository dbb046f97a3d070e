//! What is said about a disk that does not take what is written: at once when it begins or the cause changes, once a minute
//! while it lasts, and once when everything that is tried is written again. Writes are tried every few seconds, and whoever
//! is woken by the first failure needs none of the others.
//!
//! Not decided here: what becomes of what was to be written. Whoever waits for it is told.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

/// How often the same is said at most, and how long a file counts as failing that is not tried again: some are written
/// only when somebody asks for it.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Something to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It does not work.
    Fails,
    /// All that did not work does.
    WorksAgain,
}

/// Which files could not be written.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    failing: BTreeMap<&'static str, (Instant, Cause)>,
    said: Option<(Instant, Cause)>,
    is_open: bool,
}

/// Why not, as far as it is another reason.
type Cause = (Option<i32>, io::ErrorKind);

impl Trouble {
    /// `file` could not be written.
    pub(crate) fn on_failed(&mut self, now: Instant, file: &'static str, error: &io::Error) -> Option<News> {
        let cause = (error.raw_os_error(), error.kind());
        let before = self.failing.insert(file, (now, cause));
        let is_other = before.is_none_or(|(_, before)| before != cause);
        let is_said = self.said.is_some_and(|(at, said)| {
            let is_known = said == cause || !is_other;
            is_known && is_recent(now, at)
        });
        if is_said {
            return None;
        }
        (self.said, self.is_open) = (Some((now, cause)), true);
        Some(News::Fails)
    }

    /// `file` was written.
    pub(crate) fn on_written(&mut self, now: Instant, file: &'static str) -> Option<News> {
        self.failing.remove(file);
        self.failing.retain(|_, (at, _)| is_recent(now, *at));
        let is_over = self.is_open && self.failing.is_empty();
        self.is_open &= !is_over;
        is_over.then_some(News::WorksAgain)
    }
}

fn is_recent(now: Instant, at: Instant) -> bool {
    now.saturating_duration_since(at) < AGAIN_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays events such as `0 health full`, `2 view written`: seconds, file, and what came of it; lists what is said when.
    fn check(events: &str, want: &str) {
        let (begun, mut trouble) = (Instant::now(), Trouble::default());
        let mut said = Vec::new();
        for event in events.split("; ") {
            let parts: Vec<&str> = event.split(' ').collect();
            let [seconds, file, outcome] = parts[..] else { panic!("{event}") };
            let now = begun + Duration::from_secs(seconds.parse().expect("seconds"));
            let file = ["health", "view"].into_iter().find(|known| *known == file).expect("a file");
            let news = match outcome {
                "full" => trouble.on_failed(now, file, &io::ErrorKind::StorageFull.into()),
                "denied" => trouble.on_failed(now, file, &io::ErrorKind::PermissionDenied.into()),
                _ => trouble.on_written(now, file),
            };
            said.extend(news.map(|news| format!("{seconds} {news:?}")));
        }
        assert_eq!(said.join("; "), want, "{events}");
    }

    #[test]
    fn the_first_failure_is_said_and_the_same_one_a_minute_later() {
        check("0 health full; 2 health full; 10 view full; 59 health full", "0 Fails");
        check("0 health full; 60 health full; 61 view full; 120 view full", "0 Fails; 60 Fails; 120 Fails");
    }

    #[test]
    fn another_cause_is_said_at_once() {
        check("0 health full; 2 health denied; 4 health denied; 5 view denied", "0 Fails; 2 Fails");
        check(
            "0 health full; 1 view denied; 2 health full; 3 view denied; 4 health full",
            "0 Fails; 1 Fails",
        );
    }

    #[test]
    fn the_end_is_said_once_when_all_is_written() {
        check("0 health written", "");
        check("0 health full; 1 view full; 2 health written; 3 health written", "0 Fails");
        check(
            "0 health full; 1 view full; 2 health written; 3 view written; 4 view written",
            "0 Fails; 3 WorksAgain",
        );
        check(
            "0 view full; 1 health written; 59 health written; 60 health written",
            "0 Fails; 60 WorksAgain",
        );
    }

    #[test]
    fn what_comes_and_goes_is_said_once_a_minute() {
        check(
            "0 view full; 1 view written; 2 view full; 3 view written; 70 view full; 71 view written",
            "0 Fails; 1 WorksAgain; 70 Fails; 71 WorksAgain",
        );
    }
}
