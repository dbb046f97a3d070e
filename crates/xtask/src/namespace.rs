//! Network namespaces that are removed with what made them, or by the next run if that was killed.

use std::fs::{self, File};
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What the names of all namespaces begin with; the id of the process that made them follows.
const PREFIX: &str = "rmc";
/// What the kernel calls this program.
const PROGRAM: &str = "ringmesh-xtask";

/// Runs a command to its end; gives what it printed.
pub(crate) fn run(words: &[&str]) -> Result<String> {
    let (program, arguments) = words.split_first().context("a command has a name")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    if !output.status.success() {
        bail!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Says what is missing to make namespaces.
pub(crate) fn check_machine() -> Result<()> {
    let is_root = run(&["id", "-u"]).is_ok_and(|id| id.trim() == "0");
    if !is_root {
        bail!("this makes network namespaces, which only root may: run it as root");
    }
    for (words, package) in [(["ip", "-V"], "iproute2"), (["nft", "--version"], "nftables")] {
        run(&words).with_context(|| format!("{} is needed: install {package}", words[0]))?;
    }
    Ok(())
}

/// A network namespace, removed with this.
pub(crate) struct Namespace(String);

impl Namespace {
    /// Makes one with nothing in it but loopback.
    pub(crate) fn new(what: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{what}", std::process::id());
        run(&["ip", "netns", "add", &name])?;
        let namespace = Self(name);
        run(&["ip", "-n", &namespace.0, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// What `ip netns` calls it.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Does `work` on a thread that stands in the namespace: what it starts and opens is in there too.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.0);
        let file = File::open(&path).context(path)?;
        let enter = || {
            setns(&file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("{} cannot be entered", self.0))?;
            work()
        };
        thread::scope(|scope| scope.spawn(enter).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run(&["ip", "netns", "del", &self.0]) {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// Which process made a namespace or folder whose name begins with `prefix`.
fn maker(name: &str, prefix: &str) -> Option<u32> {
    let rest = name.strip_prefix(prefix)?;
    let digits = rest.split_once('-').map_or(rest, |(digits, _)| digits);
    digits.parse().ok()
}

/// Whether a name says that it is of a run whose process is gone. To be asked before this process makes anything: what
/// has its id now was made by another.
pub(crate) fn is_left_over(name: &str, prefix: &str) -> bool {
    maker(name, prefix).is_some_and(|pid| {
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        pid == std::process::id() || program.trim() != PROGRAM
    })
}

/// Ends and removes what a run left behind that was killed.
pub(crate) fn sweep() -> Result<()> {
    let list = run(&["ip", "netns", "list"])?;
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| is_left_over(name, PREFIX)) {
        eprintln!("xtask: removing {name}, which an earlier run left behind");
        for pid in run(&["ip", "netns", "pids", name])?.lines().filter_map(|line| line.trim().parse().ok()) {
            // It may have ended by itself meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        run(&["ip", "netns", "del", name])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_made_it() {
        assert_eq!(maker("rmc17-hub", PREFIX), Some(17));
        assert_eq!(maker("ringmesh-xtask-17", "ringmesh-xtask-"), Some(17));
        for other in ["rmt17-hub", "rmc-hub", "rmcx-n1", ""] {
            assert_eq!(maker(other, PREFIX), None, "{other}");
        }
    }
}
