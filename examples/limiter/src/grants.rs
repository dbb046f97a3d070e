//! The grant log: a line of JSON for every decision, so that what was granted can be checked afterwards.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Lines that wait for the disk at most; what comes beyond is lost, which the log says.
const WAITING_MAX: usize = 65_536;

/// In which part a daemon had to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It decided.
    Owner,
    /// It asked the owner, who decided.
    Forwarded,
    /// Nobody decided.
    Refused,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// When, in milliseconds since 1970.
    pub time_ms: f64,
    /// Whose tokens.
    pub account: String,
    /// How many.
    pub cost: f64,
    /// Whether it got them.
    pub granted: bool,
    /// The map that the daemon went by.
    pub generation: u64,
    /// What the daemon had to do with it.
    pub role: Role,
    /// Which daemon wrote this.
    pub by: String,
    /// Among how many the account was shared.
    pub shares: u16,
    /// How many lines before this one were lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where lines go. Nobody waits for the disk.
#[derive(Debug)]
pub struct GrantLog {
    lines: mpsc::Sender<Grant>,
    lost: u64,
}

impl GrantLog {
    /// Appends to the log at `path`; says also whether there was anything in it.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<(Self, bool)> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(named)?;
        let was_written = file.metadata().map_err(named)?.len() > 0;
        let (lines, waiting) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new().name("grants".to_owned()).spawn(move || write(file, waiting))?;
        Ok((Self { lines, lost: 0 }, was_written))
    }

    /// A decision.
    pub fn add(&mut self, mut grant: Grant) {
        grant.lost = self.lost;
        self.lost = if self.lines.try_send(grant).is_ok() { 0 } else { self.lost + 1 };
    }
}

/// Writes what comes until nobody sends any more, and what is there at once when nothing waits.
fn write(file: File, mut waiting: mpsc::Receiver<Grant>) {
    let mut file = BufWriter::new(file);
    while let Some(grant) = waiting.blocking_recv() {
        let line = serde_json::to_string(&grant).map_err(io::Error::other);
        let mut written = line.and_then(|line| writeln!(file, "{line}"));
        if waiting.is_empty() {
            written = written.and_then(|()| file.flush());
        }
        if let Err(error) = written {
            tracing::error!(%error, "the grant log cannot be written, and ends");
            return;
        }
    }
}
