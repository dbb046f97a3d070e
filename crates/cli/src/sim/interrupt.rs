//! Ctrl-C and SIGTERM. After the first one no run begins, those under way end, what has ended is told, and nothing is left
//! behind. The second one ends the program at once.

use core::sync::atomic::{AtomicBool, Ordering};
use std::io::{IsTerminal as _, stderr};
use std::sync::mpsc;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a shell says of a program that Ctrl-C ended.
pub(super) const EXIT_CODE: u8 = 130;

static IS_ASKED: AtomicBool = AtomicBool::new(false);

/// Whether to stop.
pub(super) fn is_asked() -> bool {
    IS_ASKED.load(Ordering::Relaxed)
}

/// Listens from when this returns. Without a thread or a runtime for it a signal does what it always did.
pub(super) fn listen() {
    let (is_listening, begins) = mpsc::channel::<()>();
    let listener = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
            return;
        };
        runtime.block_on(async {
            let kinds = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut interrupt), Ok(mut terminate)) = kinds else {
                return;
            };
            drop(is_listening);
            next(&mut interrupt, &mut terminate).await;
            IS_ASKED.store(true, Ordering::Relaxed);
            if stderr().is_terminal() {
                eprintln!("\rstopping after the runs that are under way; Ctrl-C again stops at once");
            }
            next(&mut interrupt, &mut terminate).await;
            std::process::exit(i32::from(EXIT_CODE));
        });
    };
    let _ = thread::Builder::new().name("interrupt".to_owned()).spawn(listener);
    // Nothing is ever sent: the other end goes when the signals are caught, or never will be.
    let _ = begins.recv();
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
