//! Requests of accounts, whose shares follow Zipf's law with exponent 1.1.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Requests in a second.
pub(crate) const SECOND: u64 = 10_000;
/// Accounts.
pub(crate) const ACCOUNTS: u32 = 100_000;
const EXPONENT: f64 = 1.1;
/// What the jumping account has of all requests.
const JUMP: f64 = 0.4;

/// A stream of requests.
pub(crate) struct Requests {
    rng: ChaCha8Rng,
    /// How likely one of the first so many accounts is.
    sums: Vec<f64>,
}

impl Requests {
    pub(crate) fn new(seed: u64) -> Self {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = (1..=ACCOUNTS)
            .map(|rank| {
                sum += f64::from(rank).powf(-EXPONENT);
                sum
            })
            .collect();
        sums.iter_mut().for_each(|part| *part /= sum);
        Self { rng: ChaCha8Rng::seed_from_u64(seed), sums }
    }

    /// The account that jumps: any but the first thousand.
    pub(crate) fn jumper(seed: u64) -> u32 {
        ChaCha8Rng::seed_from_u64(seed ^ 0x6a75_6d70).random_range(1_000..ACCOUNTS)
    }

    /// The next request's account.
    pub(crate) fn next(&mut self, jumped: Option<u32>) -> u32 {
        let at: f64 = self.rng.random();
        match jumped {
            Some(account) if self.rng.random::<f64>() < JUMP => account,
            _ => self.sums.partition_point(|sum| *sum < at) as u32,
        }
    }
}

/// The key of an account.
pub(crate) fn key(account: u32) -> Vec<u8> {
    format!("account-{account:06}").into_bytes()
}
