//! A network of its own for every run: a namespace for each host, veth pairs, and one bridge in a namespace for the hub.
//! Nothing of it touches the machine's own network.
//!
//! Packets get lost on the bridge, not where they are sent or received: a packet that a host's own firewall drops on
//! its way out is an error to the sender, one that a network loses is not. All losses are one set of rules, replaced as
//! a whole in one step.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What the names of all namespaces begin with; the id of the process that made them follows.
const PREFIX: &str = "rmc";
/// What the kernel calls this program.
const PROGRAM: &str = "ringmesh-xtask";
/// Hosts in one network at most: their addresses differ in the last byte.
pub(crate) const HOSTS_MAX: usize = 100;
/// A share is written as so many out of this many.
const PARTS: f64 = 10_000.0;

/// The address of a host.
pub(crate) fn addr(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

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
        bail!("chaos makes network namespaces: run it as root");
    }
    for (words, package) in [(["ip", "-V"], "iproute2"), (["nft", "--version"], "nftables")] {
        run(&words).with_context(|| format!("{} is needed: install {package}", words[0]))?;
    }
    Ok(())
}

/// Some of the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Side {
    /// All of them.
    Anybody,
    /// These.
    These(BTreeSet<usize>),
    /// All but these.
    Others(BTreeSet<usize>),
}

/// What gets lost on the way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loss {
    /// Who sends it.
    pub(crate) from: Side,
    /// For whom it is.
    pub(crate) to: Side,
    /// Which share of it gets lost, 0 to 1.
    pub(crate) share: f64,
}

impl Loss {
    /// The rule that makes it so; nothing if nothing can get lost by it.
    fn rule(&self) -> Option<String> {
        let from = matching("saddr", &self.from)?;
        let to = matching("daddr", &self.to)?;
        let parts = (self.share * PARTS).round();
        let share =
            if parts >= PARTS { String::new() } else { format!("numgen random mod {PARTS} < {parts} ") };
        (parts > 0.0).then(|| format!("meta protocol ip {from}{to}{share}drop\n"))
    }
}

/// What of a rule picks the packets of a side; nothing if no packet can be of it.
fn matching(field: &str, side: &Side) -> Option<String> {
    let (operator, hosts) = match side {
        Side::Anybody => return Some(String::new()),
        Side::These(hosts) if hosts.is_empty() => return None,
        Side::Others(hosts) if hosts.is_empty() => return Some(String::new()),
        Side::These(hosts) => ("", hosts),
        Side::Others(hosts) => ("!= ", hosts),
    };
    let addresses: Vec<String> = hosts.iter().map(|host| addr(*host)).collect();
    Some(format!("ip {field} {operator}{{ {} }} ", addresses.join(", ")))
}

/// The whole set of rules for nft; what was there before is gone in the same step.
fn rules(losses: &[Loss]) -> String {
    let rules: String = losses.iter().filter_map(Loss::rule).collect();
    format!(
        "table bridge chaos {{\n}}\ndelete table bridge chaos\ntable bridge chaos {{\nchain forward {{\n\
         type filter hook forward priority 0; policy accept;\n{rules}}}\n}}\n"
    )
}

/// A network namespace, removed with this.
struct Namespace(String);

impl Namespace {
    fn new(what: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{what}", std::process::id());
        run(&["ip", "netns", "add", &name])?;
        let namespace = Self(name);
        run(&["ip", "-n", &namespace.0, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run(&["ip", "netns", "del", &self.0]) {
            eprintln!("chaos: {error:#}");
        }
    }
}

/// Hosts that reach each other over one bridge; removed with this.
pub(crate) struct Network {
    hosts: Vec<Namespace>,
    hub: Namespace,
}

impl Network {
    /// Makes a network of so many hosts.
    pub(crate) fn new(hosts: usize) -> Result<Self> {
        let mut network = Self { hosts: Vec::new(), hub: Namespace::new("hub")? };
        let hub = network.hub.0.clone();
        run(&["ip", "-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        run(&["ip", "-n", &hub, "link", "set", "bridge", "up"])?;
        for host in 0..hosts {
            let port = format!("n{host}");
            network.hosts.push(Namespace::new(&port)?);
            let inside = network.namespace(host);
            run(&[
                "ip", "-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                inside,
            ])?;
            run(&["ip", "-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
            run(&["ip", "-n", inside, "addr", "add", &format!("{}/24", addr(host)), "dev", "eth0"])?;
            run(&["ip", "-n", inside, "link", "set", "eth0", "up"])?;
        }
        Ok(network)
    }

    /// The name of a host's namespace.
    pub(crate) fn namespace(&self, host: usize) -> &str {
        &self.hosts[host].0
    }

    /// From now on exactly this gets lost.
    pub(crate) fn lose(&self, losses: &[Loss]) -> Result<()> {
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.hub.0, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("nft cannot be run")?;
        let mut input = nft.stdin.take().context("its input is a pipe")?;
        input.write_all(rules(losses).as_bytes())?;
        drop(input);
        let output = nft.wait_with_output()?;
        if !output.status.success() {
            bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
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
        eprintln!("chaos: removing {name}, which an earlier run left behind");
        for pid in run(&["ip", "netns", "pids", name])?.lines().filter_map(|line| line.trim().parse().ok()) {
            // It may have ended by itself meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        run(&["ip", "netns", "del", name])?;
    }
    Ok(())
}

/// Limits of the kernel's neighbour table, which all namespaces share. What they were comes back with the end of this.
pub(crate) struct Neighbours(Vec<(String, String)>);

impl Neighbours {
    /// Makes room for everybody to know everybody. The highest limit is raised first: it may not be below the others.
    pub(crate) fn make_room() -> Result<Self> {
        let mut before = Self(Vec::new());
        for (limit, wanted) in [("gc_thresh3", 65_536), ("gc_thresh2", 32_768), ("gc_thresh1", 8_192)] {
            let path = format!("/proc/sys/net/ipv4/neigh/default/{limit}");
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            if text.trim().parse::<u64>().is_ok_and(|is| is < wanted) {
                fs::write(&path, wanted.to_string()).with_context(|| path.clone())?;
                before.0.push((path, text));
            }
        }
        Ok(before)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for (path, text) in self.0.iter().rev() {
            if let Err(error) = fs::write(path, text) {
                eprintln!("chaos: {path}: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn these(hosts: &[usize]) -> BTreeSet<usize> {
        hosts.iter().copied().collect()
    }

    #[test]
    fn a_loss_becomes_a_rule() {
        let check = |from, to, share, want: Option<&str>| {
            let want = want.map(|rule| format!("meta protocol ip {rule}\n"));
            assert_eq!(Loss { from, to, share }.rule(), want);
        };
        check(Side::Anybody, Side::Anybody, 0.25, Some("numgen random mod 10000 < 2500 drop"));
        let cut = "ip saddr { 10.77.0.1, 10.77.0.3 } ip daddr != { 10.77.0.1, 10.77.0.3 } drop";
        check(Side::These(these(&[0, 2])), Side::Others(these(&[0, 2])), 1.0, Some(cut));
        check(Side::These(these(&[])), Side::Anybody, 1.0, None);
        check(Side::Anybody, Side::Anybody, 0.0, None);
        check(Side::Others(these(&[])), Side::Anybody, 1.0, Some("drop"));
    }

    #[test]
    fn a_name_says_who_made_it() {
        assert_eq!(maker("rmc17-hub", PREFIX), Some(17));
        assert_eq!(maker("ringmesh-chaos-17", "ringmesh-chaos-"), Some(17));
        for other in ["rmt17-hub", "rmc-hub", "rmcx-n1", ""] {
            assert_eq!(maker(other, PREFIX), None, "{other}");
        }
    }
}
