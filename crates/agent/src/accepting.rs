//! What a listener does when the system accepts no connection: wait, longer each time, and say so now and then.

use core::time::Duration;
use std::io;

use nix::errno::Errno;
use tokio::time::Instant;

/// How long to wait after the first failure, and after many in a row.
const WAIT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// While it fails, that is said once in this time.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The failures of one listener.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    wait: Duration,
    said: Option<Instant>,
    unsaid: u32,
}

impl Failures {
    /// A connection was accepted.
    pub(crate) fn end(&mut self) {
        self.wait = Duration::ZERO;
    }

    /// None was; `listener` names the listener to people. Says when to try again.
    pub(crate) fn add(&mut self, now: Instant, listener: &str, error: &io::Error) -> Instant {
        if self.said.is_none_or(|at| now.duration_since(at) >= SAID_EVERY) {
            let cure = if is_exhaustion(error) {
                "give the agent more open files (LimitNOFILE= of its unit, ulimit -n) or more memory"
            } else {
                "the next one may be"
            };
            tracing::warn!(listener, %error, unsaid = self.unsaid, cure, "a connection was not accepted");
            (self.said, self.unsaid) = (Some(now), 0);
        } else {
            self.unsaid = self.unsaid.saturating_add(1);
        }
        self.wait = (self.wait * 2).clamp(WAIT.0, WAIT.1);
        now + self.wait
    }
}

/// Whether there are no descriptors or no memory left, which an idle connection could give back.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_and_the_first_failure_of_a_minute_is_said() {
        let (mut failures, error) = (Failures::default(), io::Error::from_raw_os_error(24));
        let now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..9 {
            waits.push(failures.add(now, "a listener", &error).duration_since(now).as_millis());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        assert_eq!(failures.unsaid, 8);
        failures.end();
        let later = now + SAID_EVERY;
        assert_eq!(failures.add(later, "a listener", &error), later + WAIT.0);
        assert_eq!(failures.unsaid, 0);
    }

    #[test]
    fn short_descriptors_and_memory_are_told_from_the_rest() {
        assert!(is_exhaustion(&io::Error::from_raw_os_error(24)));
        assert!(!is_exhaustion(&io::Error::from(io::ErrorKind::ConnectionAborted)));
    }
}
