//! Ctrl-C: what was made is removed before the program ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigSet, Signal};

/// How long a wait goes on before it looks whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether somebody asked this program to end.
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on SIGINT, SIGTERM and SIGHUP are wishes. They stay blocked for every child too, so that nothing
    /// interrupts the commands that clean up.
    pub(crate) fn arm() -> Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block().context("signals cannot be blocked")?;
        let stop = Self(Arc::default());
        let is_wished = stop.0.clone();
        let wait = move || {
            if signals.wait().is_ok() {
                is_wished.store(true, Ordering::Relaxed);
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
        Ok(stop)
    }

    /// An error once somebody asked.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("stopped; everything that was made is removed");
        }
        Ok(())
    }

    /// Waits until `at`, or less long if somebody asks to end.
    pub(crate) fn wait_until(&self, at: Instant) -> Result<()> {
        loop {
            self.check()?;
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }
}
