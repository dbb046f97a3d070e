//! When to stop: SIGTERM, SIGINT, or, for children of the demo, the end of whoever started us.

use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A channel that says when to stop.
pub(crate) fn stop_requested(with_parent: WithParent) -> std::io::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = parent_ends(with_parent) => {}
        }
        let _ = sender.send(true);
        sender.closed().await;
    });
    Ok(receiver)
}

/// Whether to stop when standard input ends, which a parent holds open for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithParent {
    /// Yes.
    Stop,
    /// No.
    GoOn,
}

async fn parent_ends(with_parent: WithParent) {
    if with_parent == WithParent::GoOn {
        return core::future::pending().await;
    }
    let mut input = tokio::io::stdin();
    let mut buffer = [0; 64];
    while input.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}
