//! A token bucket on injected time: how much of something may happen.

use core::time::Duration;

use ringmesh_types::time::Instant;

/// Holds up to `burst` tokens and gains one every `every`.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    burst: u32,
    every: Duration,
    tokens: u32,
    filled: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, tokens: burst, filled: Instant::START }
    }

    /// Takes a token, if there is one at `now`.
    pub fn take(&mut self, now: Instant) -> bool {
        let every = self.every.as_nanos().max(1);
        let gained = now.since(self.filled).as_nanos() / every;
        if gained >= u128::from(self.burst - self.tokens) {
            self.tokens = self.burst;
            self.filled = now;
        } else if let Ok(gained) = u32::try_from(gained) {
            self.tokens += gained;
            self.filled = self.filled.after(self.every.saturating_mul(gained));
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }

    /// When the next token will be there, at the latest.
    pub fn refills_at(&self, now: Instant) -> Instant {
        if self.tokens > 0 { now } else { self.filled.after(self.every) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(2, Duration::from_millis(100));
        let at = Instant::from_millis;
        assert!(bucket.take(at(1_000)));
        assert!(bucket.take(at(1_000)));
        assert!(!bucket.take(at(1_050)));
        assert_eq!(bucket.refills_at(at(1_050)), at(1_100));
        assert!(bucket.take(at(1_100)));
        assert!(!bucket.take(at(1_199)));
        assert!(bucket.take(at(1_200)));
    }
}
