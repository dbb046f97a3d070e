//! Ctrl-C: what was made is removed before the program ends.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigSet, Signal};

/// Whether somebody asked this program to end.
pub(crate) struct Stop(Arc<(Mutex<bool>, Condvar)>);

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
                *is_wished.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                is_wished.1.notify_all();
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
        Ok(stop)
    }

    /// An error once somebody asked.
    pub(crate) fn check(&self) -> Result<()> {
        if *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) {
            bail!("stopped; everything that was made is removed");
        }
        Ok(())
    }

    /// Waits until `at`, or less long if somebody asks to end.
    pub(crate) fn wait_until(&self, at: Instant) -> Result<()> {
        let (is_wished, changed) = &*self.0;
        let left = at.saturating_duration_since(Instant::now());
        let guard = is_wished.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_timeout_while(guard, left, |is_wished| !*is_wished));
        self.check()
    }
}
