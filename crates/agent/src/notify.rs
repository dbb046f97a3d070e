//! Tells systemd how the agent does: ready, stopping, and alive only while the node's loop turns.

use core::sync::atomic::Ordering;
use std::sync::Arc;

use crate::driver::Published;

/// Says that the agent is ready, and from then on feeds the watchdog for as long as the loop makes progress.
pub fn ready(published: &Arc<Published>) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let Some(within) = sd_notify::watchdog_enabled() else {
        return;
    };
    let published = published.clone();
    tokio::spawn(async move {
        let mut seen = published.turns.load(Ordering::Relaxed);
        let mut interval = tokio::time::interval(within / 2);
        loop {
            interval.tick().await;
            let turns = published.turns.load(Ordering::Relaxed);
            if turns != seen {
                seen = turns;
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
    });
}

/// Says that the agent is stopping.
pub fn stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}
