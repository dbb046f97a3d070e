//! Windows: a server on one core, the load generator on another, for a while.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use hickory_proto::rr::RecordType;
use serde_json::Value;

use super::process::{Process, free_port};
use super::questions::{request, targets};
use super::servers::{Server, Site};
use super::zone;
use crate::stop::Stop;

const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;
/// Before what is measured, in seconds.
const WARM_UP_S: f64 = 0.5;

/// A server that runs.
pub(crate) struct Running<'a> {
    site: &'a Site,
    stop: &'a Stop,
    server: Server,
    process: Process,
    /// Where it listens.
    pub(crate) port: u16,
}

/// What a window showed.
pub(crate) struct Window {
    /// Questions without an answer.
    pub(crate) lost: f64,
    /// Answers a second.
    pub(crate) qps: f64,
    /// Bytes of an answer on average.
    pub(crate) bytes_mean: f64,
    /// Microseconds of CPU time for an answer.
    pub(crate) cpu_us: f64,
    /// The share of its core that the server used.
    pub(crate) busy: f64,
    /// Microseconds that half of the answers took at most.
    pub(crate) p50_us: f64,
    /// Microseconds that 99 % of the answers took at most.
    pub(crate) p99_us: f64,
}

impl<'a> Running<'a> {
    /// Starts a server and waits until it answers rightly. An echo answers with so many bytes.
    pub(crate) fn start(server: Server, site: &'a Site, echo_bytes: usize, stop: &'a Stop) -> Result<Self> {
        let port = free_port()?;
        let words = site.command(server, port, echo_bytes)?;
        let log = site.folder.join(format!("{}.log", server.name()));
        let mut process = Process::start(&words, SERVER_CORE, Stdio::null(), &log)?;
        let request = request(&zone::srv_name("svc001"), RecordType::SRV)?;
        let answer = process.wait_for_answer(port, &request, stop)?;
        if server.is_dns() && targets(&answer)?.len() != zone::TARGETS.len() {
            bail!("{} does not name {} targets of svc001", server.name(), zone::TARGETS.len());
        }
        Ok(Self { site, stop, server, process, port })
    }

    /// Asks the questions of a file for so long, at closed loop or at a rate.
    pub(crate) fn window(&self, file: &Path, seconds: f64, rate: Option<u32>) -> Result<Window> {
        self.load(file, WARM_UP_S.min(seconds), rate)?;
        let before_s = self.process.cpu_s()?;
        let said = self.load(file, seconds, rate)?;
        let cpu_s = self.process.cpu_s()? - before_s;
        let number = |name: &str| said[name].as_f64().with_context(|| format!("the load says no {name}"));
        let received = number("received")?;
        if received == 0.0 {
            bail!("{} answered nothing", self.server.name());
        }
        Ok(Window {
            lost: number("lost")?,
            qps: number("qps")?,
            bytes_mean: number("bytes_mean")?,
            cpu_us: cpu_s * 1e6 / received,
            busy: cpu_s / number("seconds")?,
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
        })
    }

    fn load(&self, file: &Path, seconds: f64, rate: Option<u32>) -> Result<Value> {
        let mut words = vec![
            self.site.xtask.display().to_string(),
            "bench".to_owned(),
            "dns-load".to_owned(),
            self.port.to_string(),
            file.display().to_string(),
            seconds.to_string(),
        ];
        words.extend(rate.map(|rate| rate.to_string()));
        let log = self.site.folder.join("load.log");
        let load = Process::start(&words, LOAD_CORE, Stdio::piped(), &log)?;
        let said: Value = serde_json::from_str(&load.output(self.stop)?).context("the load says no JSON")?;
        check_rcodes(&said).with_context(|| self.server.name())?;
        Ok(said)
    }
}

/// Only NOERROR and NXDOMAIN are answers.
fn check_rcodes(said: &Value) -> Result<()> {
    let rcodes = said["rcodes"].as_object().context("the load says no rcodes")?;
    match rcodes.iter().find(|(rcode, _)| !["0", "3"].contains(&rcode.as_str())) {
        Some((rcode, count)) => bail!("{count} answers had RCODE {rcode}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_are_no_answers() {
        assert!(check_rcodes(&json!({ "rcodes": { "0": 5, "3": 1 } })).is_ok());
        let error = check_rcodes(&json!({ "rcodes": { "0": 5, "5": 2 } })).expect_err("is refused");
        assert_eq!(error.to_string(), "2 answers had RCODE 5");
        assert!(check_rcodes(&json!({})).is_err());
    }
}
