//! The token bucket of one account, or one share of it. Pure: time comes in as an argument.

use std::time::Duration;

use ringmesh_types::time::Instant;

/// What every account may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    /// Tokens a second, above 0.
    pub rate: f64,
    /// Tokens at most, above 0.
    pub burst: f64,
}

/// A bucket that is one of `parts` equal shares of an account's quota.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    level: f64,
    /// When it had this level.
    at: Instant,
    parts: u16,
    is_filling: bool,
}

/// There are not enough tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// When there will be, if nobody takes any.
    pub retry: Duration,
}

impl Quota {
    /// The most that a share holds.
    pub fn burst_of(&self, parts: u16) -> f64 {
        self.burst / f64::from(parts.max(1))
    }

    fn rate_of(&self, parts: u16) -> f64 {
        self.rate / f64::from(parts.max(1))
    }
}

impl Bucket {
    /// A share that begins to fill at `now`, from `level`, which is cut to what it may hold.
    pub fn new(now: Instant, quota: &Quota, parts: u16, level: f64) -> Self {
        let parts = parts.max(1);
        Self { level: level.clamp(0.0, quota.burst_of(parts)), at: now, parts, is_filling: true }
    }

    /// A share that began to fill at `since`, when it was empty.
    pub fn since(since: Instant, quota: &Quota, parts: u16) -> Self {
        Self::new(since, quota, parts, 0.0)
    }

    /// A share that is empty, and does not fill before [`Bucket::fill`].
    pub fn waiting(now: Instant, parts: u16) -> Self {
        Self { level: 0.0, at: now, parts: parts.max(1), is_filling: false }
    }

    /// How many shares its quota has been cut into.
    pub const fn parts(&self) -> u16 {
        self.parts
    }

    /// Tokens in it.
    pub fn level(&self, now: Instant, quota: &Quota) -> f64 {
        let more =
            if self.is_filling { quota.rate_of(self.parts) * now.since(self.at).as_secs_f64() } else { 0.0 };
        (self.level + more).min(quota.burst_of(self.parts))
    }

    /// Whether it holds all that it may.
    pub fn is_full(&self, now: Instant, quota: &Quota) -> bool {
        self.level(now, quota) >= quota.burst_of(self.parts)
    }

    fn settle(&mut self, now: Instant, quota: &Quota) {
        (self.level, self.at) = (self.level(now, quota), self.at.max(now));
    }

    /// Takes tokens; says how many are left.
    ///
    /// # Errors
    /// If there are not enough; nothing changes then.
    pub fn take(&mut self, now: Instant, quota: &Quota, cost: f64) -> Result<f64, Short> {
        self.settle(now, quota);
        if self.level < cost {
            let missing = (cost - self.level).min(quota.burst_of(self.parts));
            return Err(Short { retry: Duration::from_secs_f64(missing / quota.rate_of(self.parts)) });
        }
        self.level -= cost;
        Ok(self.level)
    }

    /// There are at least so many shares now: it holds, and fills by, no more than one of them.
    pub fn cut(&mut self, now: Instant, quota: &Quota, parts: u16) {
        self.settle(now, quota);
        self.parts = self.parts.max(parts);
        self.level = self.level.min(quota.burst_of(self.parts));
    }

    /// All others have cut theirs to one of so many shares: it fills, up to as much as one of them.
    pub fn fill(&mut self, now: Instant, quota: &Quota, parts: u16) {
        self.settle(now, quota);
        (self.parts, self.is_filling) = (parts.max(1), true);
        self.level = self.level.min(quota.burst_of(self.parts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { rate: 10.0, burst: 20.0 };

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn it_fills_at_its_rate_up_to_its_burst() {
        let mut bucket = Bucket::new(at(0), &QUOTA, 1, 99.0);
        assert_eq!(bucket.take(at(0), &QUOTA, 20.0), Ok(0.0));
        assert_eq!(bucket.take(at(0), &QUOTA, 1.0), Err(Short { retry: Duration::from_millis(100) }));
        assert_eq!(bucket.take(at(500), &QUOTA, 1.0), Ok(4.0));
        assert_eq!(bucket.level(at(60_000), &QUOTA), 20.0);
        assert!(bucket.is_full(at(60_000), &QUOTA));
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::since(at(1_000), &QUOTA, 1);
        assert_eq!(bucket.take(at(1_500), &QUOTA, 5.0), Ok(0.0));
        assert!(bucket.take(at(500), &QUOTA, 1.0).is_err());
        assert_eq!(bucket.level(at(1_600), &QUOTA), 1.0);
    }

    #[test]
    fn a_share_holds_and_fills_by_its_part() {
        let mut bucket = Bucket::new(at(0), &QUOTA, 1, 20.0);
        bucket.cut(at(0), &QUOTA, 4);
        assert_eq!(bucket.take(at(0), &QUOTA, 5.0), Ok(0.0));
        assert_eq!(bucket.level(at(1_000), &QUOTA), 2.5);
        bucket.cut(at(1_000), &QUOTA, 2);
        assert_eq!(bucket.parts(), 4, "only who is confirmed gets a larger share");
        bucket.fill(at(1_000), &QUOTA, 2);
        assert_eq!(bucket.level(at(2_000), &QUOTA), 7.5);
    }

    #[test]
    fn a_share_that_waits_stays_empty() {
        let mut bucket = Bucket::waiting(at(0), 2);
        assert_eq!(bucket.level(at(5_000), &QUOTA), 0.0);
        bucket.fill(at(5_000), &QUOTA, 2);
        assert_eq!(bucket.level(at(6_000), &QUOTA), 5.0);
    }
}
