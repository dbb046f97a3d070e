//! Encodes what the usual DNS questions are answered from ([`hot`]), in a thread of its own: while many members join, nearly
//! every service changes all the time, and the node's task must answer pings meanwhile.

use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use arc_swap::ArcSwap;
use ringmesh_dns::hot;
use ringmesh_types::snapshot::Snapshot;
use tokio::sync::watch;

/// While changes pour in, encoding takes one part in so many of the time.
const SHARE: u32 = 3;
/// No change waits longer than this because others came before it.
const REST_MAX: Duration = Duration::from_millis(50);

/// Says that there is a new snapshot. The thread ends with the last of these.
#[derive(Debug, Clone)]
pub(crate) struct Bell(SyncSender<()>);

impl Bell {
    /// There is a new snapshot; never waits.
    pub(crate) fn ring(&self) {
        // If it is full, the thread has yet to look, and will see this one, too.
        let _ = self.0.try_send(());
    }
}

/// Follows which snapshot answers are given from.
#[derive(Debug, Clone)]
pub(crate) struct Shown(watch::Receiver<u32>);

impl Shown {
    /// Waits until answers are given from another snapshot than the last one that was waited for; ends with the agent.
    pub(crate) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.0.changed().await
    }

    /// Waits until answers are given from the snapshot with this serial, or a later one; not if the agent stops meanwhile.
    pub(crate) async fn wait_for(&mut self, serial: u32) {
        // Serials wrap (RFC 1982): what is less than half of them ahead is later.
        let _ = self.0.wait_for(|shown| shown.wrapping_sub(serial) < 1 << 31).await;
    }
}

/// Encodes the latest snapshot whenever the bell rings.
///
/// # Errors
/// If the system gives no thread.
pub(crate) fn start(
    snapshot: Arc<ArcSwap<Snapshot>>,
    zone: Arc<ArcSwap<hot::Zone>>,
) -> io::Result<(Bell, Shown)> {
    let (bell, rung) = sync_channel(1);
    let (shown, watched) = watch::channel(snapshot.load().serial);
    let work = move || {
        while rung.recv().is_ok() {
            let begun = Instant::now();
            let latest = snapshot.load_full();
            zone.store(Arc::new(zone.load().follow(&latest)));
            shown.send_replace(latest.serial);
            let rest = begun.elapsed() * (SHARE - 1);
            std::thread::sleep(rest.min(REST_MAX));
        }
    };
    std::thread::Builder::new().name("dns-zone".to_owned()).spawn(work)?;
    Ok((Bell(bell), Shown(watched)))
}
