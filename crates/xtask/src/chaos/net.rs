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

use crate::namespace::{Namespace, run};

/// Hosts in one network at most: their addresses differ in the last byte.
pub(crate) const HOSTS_MAX: usize = 100;
/// A share is written as so many out of this many.
const PARTS: f64 = 10_000.0;

/// The address of a host.
pub(crate) fn addr(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
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

/// Hosts that reach each other over one bridge; removed with this.
pub(crate) struct Network {
    hosts: Vec<Namespace>,
    hub: Namespace,
}

impl Network {
    /// Makes a network of so many hosts.
    pub(crate) fn new(hosts: usize) -> Result<Self> {
        let mut network = Self { hosts: Vec::new(), hub: Namespace::new("hub")? };
        let hub = network.hub.name().to_owned();
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
        self.hosts[host].name()
    }

    /// From now on exactly this gets lost.
    pub(crate) fn lose(&self, losses: &[Loss]) -> Result<()> {
        let mut nft = Command::new("ip")
            .args(["netns", "exec", self.hub.name(), "nft", "-f", "-"])
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
}
