//! Processes that are pinned to a core, end with what started them, and are asked what CPU time they used.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::bench::counters::cpu_s;
use crate::stop::Stop;

/// How long a server may take until it answers.
const UP_WITHIN: Duration = Duration::from_secs(10);
/// How long one answer is waited for meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const RESPONSE_BYTES_MAX: usize = 4_096;
/// Bytes of a log that are shown.
const LOG_SHOWN: usize = 2_000;

/// A process and what it started; killed with this.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program on one core. It ends with the thread that calls this, even if that is killed. It may write to
    /// `output` and to a file `log`.
    pub(crate) fn start(words: &[String], core: usize, output: Stdio, log: &Path) -> Result<Self> {
        let name = words.first().context("a command has a name")?.clone();
        let errors = File::create(log).with_context(|| log.display().to_string())?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "--cpu-list", &core.to_string()])
            .args(words)
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// Waits until it has ended by itself. Gives what it printed.
    pub(crate) fn output(mut self, stop: &Stop) -> Result<String> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            stop.wait_until(Instant::now() + LOOK_EVERY)?;
        };
        let mut text = String::new();
        if let Some(mut output) = self.child.stdout.take() {
            output.read_to_string(&mut text)?;
        }
        if !status.success() {
            bail!("{} ended with {status}; its log ends with: {}", self.name, self.log_tail());
        }
        Ok(text)
    }

    /// Waits until it answers a request on a port of 127.0.0.1, and gives the answer.
    pub(crate) fn wait_for_answer(&mut self, port: u16, request: &[u8], stop: &Stop) -> Result<Vec<u8>> {
        let until = Instant::now() + UP_WITHIN;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}; its log ends with: {}", self.name, self.log_tail());
            }
            // RCODE 0: NSD refuses until it has read the zone.
            if let Some(answer) = ask(port, request).filter(|answer| answer[3] & 0x0f == 0) {
                return Ok(answer);
            }
            stop.wait_until(Instant::now() + LOOK_EVERY)?;
        }
        let within_s = UP_WITHIN.as_secs();
        bail!("{} did not answer within {within_s} s; its log ends with: {}", self.name, self.log_tail());
    }

    fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_SHOWN)..]).trim().to_owned()
    }

    /// CPU seconds that it and its children have used.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let mut parents = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may have ended meanwhile.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if let Some(parent) = read_parent(&stat) {
                parents.insert(pid, parent);
            }
        }
        tree(self.child.id(), &parents).into_iter().map(cpu_s).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        if matches!(self.child.try_wait(), Ok(None))
            && let Ok(group) = i32::try_from(self.child.id())
        {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// A port of 127.0.0.1 that is free over UDP and TCP.
pub(crate) fn free_port() -> Result<u16> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("there is no free port on 127.0.0.1");
}

/// Asks once; nothing if no answer comes.
pub(crate) fn ask(port: u16, request: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    socket.connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    socket.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
    socket.send(request).ok()?;
    let mut room = [0; RESPONSE_BYTES_MAX];
    let length = socket.recv(&mut room).ok()?;
    (length >= request.len()).then(|| room[..length].to_vec())
}

/// Field 4 of a process's page; the second, a name in brackets, may hold anything.
fn read_parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A process and all that descend from it, if each has the parent that is named.
fn tree(root: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_holds_all_descendants_and_nobody_else() {
        let parents = BTreeMap::from([(1, 0), (5, 1), (6, 5), (7, 6), (8, 5), (9, 1)]);
        assert_eq!(tree(5, &parents), [5, 6, 8, 7]);
        assert_eq!(tree(9, &parents), [9]);
    }

    #[test]
    fn the_parent_is_read_behind_the_name() {
        assert_eq!(read_parent("17 (a) b c) S 1 17 17 0"), Some(1));
        assert_eq!(read_parent(""), None);
    }
}
