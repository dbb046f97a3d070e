//! Our agents, configured no further than it takes to run many on one machine: names, addresses and folders.
//!
//! They run with `--dev`: the seed makes an authority, all others start with a copy of it. A change is an instance that
//! turns from Unknown to Passing because it beats. Every agent logs that as soon as it has it; its answers show it with
//! the next snapshot, some milliseconds later at most.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::systems::{Said, System, addr, agent, change_name, name};
use crate::folder::{Folder, make_private};

/// What it is called.
pub(crate) const NAME: &str = "ringmesh";
const MESH_PORT: u16 = 7_300;
const DNS_PORT: u16 = 8_600;
const HTTP_PORT: u16 = 8_500;
const HTTP_WITHIN: Duration = Duration::from_secs(5);
/// The authority that `--dev` makes.
const AUTHORITY: [&str; 2] = ["dev-ca.pem", "dev-ca.key"];

/// Agents of ours, and their files.
pub(crate) struct Ringmesh {
    program: PathBuf,
    folder: Folder,
    nodes: usize,
}

impl Ringmesh {
    /// Writes the files of all agents.
    pub(crate) fn new(program: &Path, nodes: usize) -> Result<Self> {
        let ours = Self { program: program.to_owned(), folder: Folder::new("bench")?, nodes };
        for agent in 0..nodes {
            make_private(&ours.folder_of(agent))?;
            fs::write(ours.config_of(agent), config(agent, &ours.folder_of(agent)))?;
        }
        Ok(ours)
    }

    fn folder_of(&self, agent: usize) -> PathBuf {
        self.folder.path().join(name(agent))
    }

    fn config_of(&self, agent: usize) -> PathBuf {
        self.folder.path().join(format!("{}.toml", name(agent)))
    }
}

fn config(agent: usize, folder: &Path) -> String {
    let (name, addr) = (name(agent), addr(agent));
    let seeds =
        if agent == 0 { String::new() } else { format!("\"{}:{MESH_PORT}\"", super::systems::addr(0)) };
    format!(
        "[node]\nname = \"{name}\"\ncluster = \"bench\"\ndata_dir = \"{}\"\n\
         [mesh]\nlisten = \"{addr}:{MESH_PORT}\"\nseeds = [{seeds}]\n\
         [dns]\nlisten = [\"{addr}:{DNS_PORT}\"]\n[http]\nlisten = \"{addr}:{HTTP_PORT}\"\n",
        folder.display()
    )
}

impl System for Ringmesh {
    fn name(&self) -> &'static str {
        NAME
    }

    /// What the environment says to agents is not for these.
    fn command(&self, agent: usize) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["agent", "--dev", "--exit-with-parent", "--config"])
            .arg(self.config_of(agent))
            .env_clear()
            .stdin(Stdio::piped());
        command
    }

    fn reader(&self) -> fn(&str) -> Option<Said> {
        read
    }

    fn seed_is_up(&self) -> Result<()> {
        for (agent, file) in (1..self.nodes).flat_map(|agent| AUTHORITY.map(|file| (agent, file))) {
            fs::copy(self.folder_of(0).join(file), self.folder_of(agent).join(file)).context(file)?;
        }
        Ok(())
    }

    /// Who joins learns of all others at once, which is no event: it is asked instead. That takes an agent about a
    /// tenth of a millisecond.
    fn members(&self, agent: usize, _joined: usize) -> usize {
        let health = ask(agent, "GET", "/healthz", None);
        let serving = health.ok().and_then(|health| health["serving"].as_u64());
        serving.and_then(|serving| usize::try_from(serving).ok()).unwrap_or_default()
    }

    fn given_to_quic(&self, agent: usize) -> Result<Option<f64>> {
        let page = fetch(agent, "GET", "/metrics", None)?;
        let line = page.lines().find_map(|line| line.strip_prefix("ringmesh_mesh_payload_bytes_total "));
        Ok(Some(line.context("the agent does not count what it gives to QUIC")?.parse()?))
    }

    fn prepare_change(&self, agent: usize, number: u32) -> Result<()> {
        let check = json!({ "type": "ttl", "ttl": "24h", "rise": 1 });
        let endpoint = json!({ "transport": "udp", "address": addr(agent), "port": 5060, "checks": [check] });
        let instance = json!({ "id": change_name(number), "service": "bench", "endpoints": [endpoint] });
        ask(agent, "POST", "/api/v1/register", Some(&instance)).map(drop)
    }

    fn change(&self, agent: usize, number: u32) -> Result<Instant> {
        let path = format!("/api/v1/instances/{}/beat", change_name(number));
        let at = Instant::now();
        ask(agent, "POST", &path, None)?;
        Ok(at)
    }
}

/// What the API of an agent answers, read.
fn ask(agent: usize, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let body = fetch(agent, method, path, body)?;
    serde_json::from_str(&body).with_context(|| format!("what {}{path} answers", addr(agent)))
}

/// What the API of an agent answers.
fn fetch(agent: usize, method: &str, path: &str, body: Option<&Value>) -> Result<String> {
    let addr = format!("{}:{HTTP_PORT}", addr(agent));
    let mut stream = TcpStream::connect(&addr).with_context(|| addr.clone())?;
    stream.set_read_timeout(Some(HTTP_WITHIN))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n");
    stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("{addr}{path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{addr}{path}: no answer"))?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("{addr}{path}: {body}");
    }
    Ok(body.to_owned())
}

/// Reads a line of a log.
fn read(line: &str) -> Option<Said> {
    let (_, event) = line.split_once(" event kind=")?;
    let value = |field: &str| Some(event.split_once(&format!(" {field}=\""))?.1.split_once('"')?.0);
    let (subject, to) = (value("subject")?, value("to")?);
    match (event.split_once(' ')?.0, to) {
        ("Member", "Alive") => agent(subject).map(Said::Joined),
        ("Member", "Down") => agent(subject).map(Said::Failed),
        ("Health", "passing") => {
            let (_, endpoint) = subject.split_once('/')?;
            Some(Said::Changed(endpoint.split_once('[')?.0.to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_are_read() {
        let check = |event: &str, want: Option<Said>| {
            let line = format!("2026-01-02T03:04:05.012345Z  INFO ringmesh_agent::events: event {event}");
            assert_eq!(read(&line), want, "{event}");
        };
        let member =
            |to: &str| format!("kind=Member subject=\"n7\" from=\"Suspect\" to=\"{to}\" cause=\"to=\"");
        check(&member("Down"), Some(Said::Failed(7)));
        check(&member("Alive"), Some(Said::Joined(7)));
        check(&member("Holding"), None);
        let health = |to: &str| {
            format!("kind=Health subject=\"n3/change-4[0]\" from=\"unknown\" to=\"{to}\" cause=\"checks\"")
        };
        check(&health("passing"), Some(Said::Changed("change-4".to_owned())));
        check(&health("failing"), None);
        check("kind=Service subject=\"n1\" from=\"\" to=\"changed\" cause=\"it is registered\"", None);
        assert_eq!(read("2026-01-02T03:04:05Z  INFO ringmesh_agent::agent: agent started node=n1"), None);
    }

    #[test]
    fn only_the_seed_has_no_seed() {
        assert!(config(0, Path::new("/d")).contains("seeds = []"));
        assert!(config(9, Path::new("/d")).contains("seeds = [\"127.0.1.1:7300\"]"));
    }
}
