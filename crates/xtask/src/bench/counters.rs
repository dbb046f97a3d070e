//! What agents cost: CPU time and memory of their processes, and what they send in the network namespace that this
//! thread stands in; and who of them is cut off there.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::namespace::run;

/// Ticks of CPU time in a second, as the kernel tells them to programs.
const TICKS_A_SECOND: f64 = 100.0;
/// What IPv4 and UDP put before what is in a packet.
const UDP_HEADERS_BYTES: f64 = 28.0;
/// Counts what is sent, by protocol.
const RULES: &str = "add table inet bench
    add counter inet bench sent_udp
    add counter inet bench sent_tcp
    add chain inet bench sent { type filter hook output priority 0; }
    add rule inet bench sent meta l4proto udp counter name sent_udp
    add rule inet bench sent meta l4proto tcp counter name sent_tcp
    add chain inet bench cut { type filter hook input priority -1; }";

/// Drops everything that arrives from and at an address, so that no sender is told; or nothing any more.
pub(crate) fn cut(addr: Option<&str>) -> Result<()> {
    match addr {
        None => run(&["nft", "flush chain inet bench cut"]).map(drop),
        Some(addr) => ["saddr", "daddr"].into_iter().try_for_each(|way| {
            run(&["nft", &format!("add rule inet bench cut ip {way} {addr} drop")]).map(drop)
        }),
    }
}

/// CPU seconds that a process has used, in user mode and in the kernel.
pub(crate) fn cpu_s(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).context(path.clone())?;
    read_ticks(&text).map(|ticks| ticks / TICKS_A_SECOND).context(path)
}

/// Fields 14 and 15; the second, a name in brackets, may hold anything.
fn read_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    Some(ticks.next()?.ok()? + ticks.next()?.ok()?)
}

/// Memory that a process holds, in MiB, with what it shares.
pub(crate) fn rss_mib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).context(path.clone())?;
    read_rss(&text).map(|kib| kib / 1_024.0).context(path)
}

fn read_rss(smaps: &str) -> Option<f64> {
    let rss = smaps.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    rss.split_whitespace().next()?.parse().ok()
}

/// What was sent since counting began, with IP headers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Traffic {
    /// Bytes over UDP.
    pub(crate) udp_bytes: f64,
    /// What of that is not IP and UDP.
    pub(crate) udp_payload: f64,
    /// Bytes over UDP and TCP.
    pub(crate) bytes: f64,
    /// Packets of UDP and TCP.
    pub(crate) packets: f64,
}

impl Traffic {
    /// Begins to count.
    pub(crate) fn count() -> Result<()> {
        run(&["nft", RULES]).map(drop)
    }

    /// What was counted so far.
    pub(crate) fn read() -> Result<Self> {
        Self::parse(&run(&["nft", "-j", "list", "counters"])?).context("nft -j list counters")
    }

    fn parse(text: &str) -> Result<Self> {
        let answer: Value = serde_json::from_str(text)?;
        let mut traffic = Self::default();
        for counter in answer["nftables"].as_array().context("there is no list")? {
            let counter = &counter["counter"];
            if let (Some(bytes), Some(packets)) = (counter["bytes"].as_f64(), counter["packets"].as_f64()) {
                traffic.bytes += bytes;
                traffic.packets += packets;
                if counter["name"] == "sent_udp" {
                    traffic.udp_bytes += bytes;
                    traffic.udp_payload += bytes - packets * UDP_HEADERS_BYTES;
                }
            }
        }
        Ok(traffic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_pages_are_read() {
        let stat = "17 (a) b c) S 1 17 17 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 10";
        assert_eq!(read_ticks(stat), Some(300.0));
        assert_eq!(read_ticks("17 (a) S 1"), None);
        assert_eq!(read_rss("00400000-7ff [rollup]\nRss:      2048 kB\nPss:  1 kB\n"), Some(2_048.0));
        assert_eq!(read_rss(""), None);
    }

    #[test]
    fn counters_are_added_by_protocol() {
        let text = r#"{"nftables":[{"metainfo":{"version":"1.0.6"}},
            {"counter":{"family":"inet","name":"sent_udp","table":"bench","packets":3,"bytes":300}},
            {"counter":{"family":"inet","name":"sent_tcp","table":"bench","packets":1,"bytes":60}}]}"#;
        let want = Traffic { udp_bytes: 300.0, udp_payload: 216.0, bytes: 360.0, packets: 4.0 };
        assert_eq!(Traffic::parse(text).expect("is read"), want);
    }
}
