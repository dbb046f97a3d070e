//! One line that says how far things are, on standard error and only if that is a terminal.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::table::is_smart_terminal;

const DRAW_EVERY: Duration = Duration::from_millis(100);
const BAR_WIDTH: usize = 24;

/// For whom the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// People.
    Text,
    /// Programs.
    Json,
}

impl Form {
    pub(crate) fn of(is_json: bool) -> Self {
        if is_json { Self::Json } else { Self::Text }
    }
}

/// The line, drawn again and again by a thread until this is dropped; then it is wiped away.
pub(crate) struct Progress {
    screen: Arc<Screen>,
    drawer: Option<JoinHandle<()>>,
}

struct Screen {
    is_over: AtomicBool,
    /// Whether the line stands on the terminal; locked by whoever writes there.
    is_drawn: Mutex<bool>,
}

impl Progress {
    /// Shows what `line` says, if there is a terminal and the output is for people.
    pub(crate) fn start(form: Form, line: impl Fn() -> Option<String> + Send + 'static) -> Self {
        let screen = Arc::new(Screen { is_over: AtomicBool::new(false), is_drawn: Mutex::new(false) });
        if form == Form::Json || !is_smart_terminal(stderr().is_terminal()) {
            return Self { screen, drawer: None };
        }
        let drawn = Arc::clone(&screen);
        let draw = move || {
            while !drawn.is_over.load(Ordering::Relaxed) {
                if let Some(line) = line() {
                    drawn.draw(&line);
                }
                thread::park_timeout(DRAW_EVERY);
            }
        };
        // Without a thread for it there is no line, and everything else goes on.
        let drawer = thread::Builder::new().name("progress".to_owned()).spawn(draw).ok();
        Self { screen, drawer }
    }

    /// Lets `print` write to the terminal while the line is not there.
    pub(crate) fn step_aside(&self, print: impl FnOnce()) {
        let mut is_drawn = self.screen.lock();
        wipe(&mut is_drawn);
        print();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.screen.is_over.store(true, Ordering::Relaxed);
        if let Some(drawer) = self.drawer.take() {
            drawer.thread().unpark();
            let _ = drawer.join();
        }
        wipe(&mut self.screen.lock());
    }
}

impl Screen {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, line: &str) {
        let mut is_drawn = self.lock();
        // Without wrapping a line is a line, however narrow the terminal.
        let text = format!("\r\u{1b}[K\u{1b}[?7l{line}\u{1b}[?7h");
        let _ = stderr().write_all(text.as_bytes());
        *is_drawn = true;
    }
}

fn wipe(is_drawn: &mut bool) {
    if *is_drawn {
        let _ = stderr().write_all(b"\r\x1b[K");
        *is_drawn = false;
    }
}

/// `[######------]`
pub(crate) fn bar(share: f64) -> String {
    let filled = (share.clamp(0.0, 1.0) * BAR_WIDTH as f64) as usize;
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR_WIDTH - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_equally_wide_whatever_it_shows() {
        for share in [0.0, 0.3, 0.999, 1.0, 1.5, -1.0, f64::NAN] {
            assert_eq!(bar(share).len(), BAR_WIDTH + 2, "{share}");
        }
        assert!(bar(1.0).contains(&"#".repeat(BAR_WIDTH)));
    }
}
