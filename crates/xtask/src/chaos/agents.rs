//! Real agents, each in a namespace of its own.
//!
//! They run with `--dev`, which makes a certificate authority in an agent's data folder unless there is one. The first
//! agent makes it, all others start with a copy of it, and so they trust each other across addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringmesh_sim::scenario::Topology;
use serde_json::Value;

use super::history::{self, Change};
use super::net::{Loss, Network, addr};
use crate::folder::{Folder, make_private};
use crate::stop::Stop;

const MESH_PORT: u16 = 7_300;
/// The authority that `--dev` makes.
const AUTHORITY: [&str; 2] = ["dev-ca.pem", "dev-ca.key"];
/// The period of probes: starts are spread over it, so that agents probe at different moments, as those of hosts do.
const PERIOD: Duration = Duration::from_secs(1);
const ASK_EVERY: Duration = Duration::from_millis(250);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
const AGREE_WITHIN: Duration = Duration::from_secs(60);
/// As many events as an agent keeps.
const EVENTS_KEPT: &str = "1024";

/// What a host is called.
pub(crate) fn name(host: usize) -> String {
    format!("node-{host}")
}

/// The wall clock, in unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An agent that runs; killed with this. It holds our end of its standard input, and ends when that is gone.
struct Running {
    process: Child,
    is_paused: bool,
    /// The number of the last event that was read.
    last_event: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; whoever asked it last has said so.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// All agents of a run, and what they stand in. Fields are dropped in this order.
pub(crate) struct Agents {
    running: BTreeMap<usize, Running>,
    network: Network,
    folder: Folder,
    program: PathBuf,
}

impl Agents {
    /// Makes hosts and starts agents on `running`. Returns when these agree on who is there.
    pub(crate) fn start(
        program: &Path,
        topology: &Topology,
        running: &BTreeSet<usize>,
        stop: &Stop,
    ) -> Result<Self> {
        let program = program.canonicalize().with_context(|| program.display().to_string())?;
        let folder = Folder::new("chaos")?;
        let network = Network::new(topology.nodes)?;
        let mut agents = Self { running: BTreeMap::new(), network, folder, program };
        agents.configure(topology)?;
        agents.start_first(topology.nodes, running, stop)?;
        let pause = PERIOD / u32::try_from(running.len()).unwrap_or(u32::MAX).max(1);
        for host in running.iter().skip(1) {
            stop.wait_until(Instant::now() + pause)?;
            agents.start_one(*host)?;
        }
        agents.wait_for_agreement(stop)?;
        Ok(agents)
    }

    fn folder_of(&self, host: usize) -> PathBuf {
        self.folder.path().join(name(host))
    }

    fn log_of(&self, host: usize) -> PathBuf {
        self.folder.path().join(format!("{}.log", name(host)))
    }

    fn config_of(&self, host: usize) -> PathBuf {
        self.folder.path().join(format!("{}.toml", name(host)))
    }

    fn configure(&self, topology: &Topology) -> Result<()> {
        let seeds: Vec<String> =
            (0..topology.seeds).map(|host| format!("\"{}:{MESH_PORT}\"", addr(host))).collect();
        let seeds = seeds.join(", ");
        for host in 0..topology.nodes {
            let zone = &topology.zones[host % topology.zones.len()];
            let (name, addr, folder) = (name(host), addr(host), self.folder_of(host));
            let text = format!(
                "[node]\nname = \"{name}\"\nzone = \"{zone}\"\ncluster = \"chaos\"\ndata_dir = \"{}\"\n\
                 [mesh]\nlisten = \"{addr}:{MESH_PORT}\"\nseeds = [{seeds}]\n[dns]\nlisten = []\n",
                folder.display()
            );
            make_private(&folder)?;
            fs::write(self.config_of(host), text)?;
        }
        Ok(())
    }

    /// Starts one agent, and gives all hosts the authority that it made.
    fn start_first(&mut self, hosts: usize, running: &BTreeSet<usize>, stop: &Stop) -> Result<()> {
        let first = *running.first().context("topology.running: nobody runs")?;
        self.start_one(first)?;
        let begun = Instant::now();
        while self.ask(first, &["members"]).is_err() {
            self.check(first)?;
            if begun.elapsed() > ANSWERS_WITHIN {
                bail!("{} does not answer; {}", name(first), self.last_word(first));
            }
            stop.wait_until(Instant::now() + ASK_EVERY)?;
        }
        for host in (0..hosts).filter(|host| *host != first) {
            for file in AUTHORITY {
                fs::copy(self.folder_of(first).join(file), self.folder_of(host).join(file)).context(file)?;
            }
        }
        Ok(())
    }

    /// Starts the agent of a host, with what its folder holds.
    pub(crate) fn start_one(&mut self, host: usize) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_of(host))?;
        let process = self
            .command(host)
            .args(["agent", "--dev", "--exit-with-parent", "--config"])
            .arg(self.config_of(host))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started", name(host)))?;
        self.running.insert(host, Running { process, is_paused: false, last_event: 0 });
        Ok(())
    }

    /// `ringmesh` inside a host. `ip netns exec` becomes the program, so that the child is the agent itself. What the
    /// environment says to agents is not for these.
    fn command(&self, host: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.network.namespace(host)]).arg(&self.program);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("RINGMESH_") {
                command.env_remove(variable);
            }
        }
        command
    }

    /// What the command line says of the agent of a host, as JSON.
    fn ask(&self, host: usize, words: &[&str]) -> Result<Value> {
        let output = self.command(host).args(words).arg("--json").stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("{}: {}", name(host), String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("what {} says", name(host)))
    }

    fn wait_for_agreement(&mut self, stop: &Stop) -> Result<()> {
        let begun = Instant::now();
        let hosts: Vec<usize> = self.running.keys().copied().collect();
        for host in &hosts {
            while !self.sees_all(*host) {
                self.check(*host)?;
                if begun.elapsed() > AGREE_WITHIN {
                    bail!("{} does not see everybody; {}", name(*host), self.last_word(*host));
                }
                stop.wait_until(Instant::now() + ASK_EVERY)?;
            }
        }
        Ok(())
    }

    /// Whether an agent counts everybody who runs, and nobody else, as alive.
    fn sees_all(&self, host: usize) -> bool {
        self.ask(host, &["members"]).is_ok_and(|answer| {
            let members = answer.as_array().map_or(&[][..], Vec::as_slice);
            let alive = members.iter().filter(|member| member["state"] == "Alive").count();
            alive == self.running.len() && alive == members.len()
        })
    }

    /// An error if an agent ended by itself.
    fn check(&mut self, host: usize) -> Result<()> {
        let ended = self.running.get_mut(&host).and_then(|agent| agent.process.try_wait().ok().flatten());
        match ended {
            Some(status) => bail!("{} ended with {status}; {}", name(host), self.last_word(host)),
            None => Ok(()),
        }
    }

    /// What an agent logged last.
    fn last_word(&self, host: usize) -> String {
        let log = fs::read_to_string(self.log_of(host)).unwrap_or_default();
        match log.lines().last() {
            Some(line) => format!("its log ends with: {line}"),
            None => "its log is empty".to_owned(),
        }
    }

    /// Whether the agent of a host runs.
    pub(crate) fn is_running(&self, host: usize) -> bool {
        self.running.contains_key(&host)
    }

    /// Who runs.
    pub(crate) fn running(&self) -> BTreeSet<usize> {
        self.running.keys().copied().collect()
    }

    /// Kills the agent of a host (SIGKILL).
    pub(crate) fn kill(&mut self, host: usize) {
        self.running.remove(&host);
    }

    /// Freezes the agent of a host (SIGSTOP), or lets it go on (SIGCONT).
    pub(crate) fn set_paused(&mut self, host: usize, is_paused: bool) -> Result<()> {
        let Some(agent) = self.running.get_mut(&host) else {
            return Ok(());
        };
        let signal = if is_paused { Signal::SIGSTOP } else { Signal::SIGCONT };
        let pid = i32::try_from(agent.process.id()).context("a process id is small")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {}", name(host)))?;
        agent.is_paused = is_paused;
        Ok(())
    }

    /// From now on exactly this gets lost between hosts.
    pub(crate) fn lose(&self, losses: &[Loss]) -> Result<()> {
        self.network.lose(losses)
    }

    /// What all agents that run, and are not frozen, noted since they were last asked.
    pub(crate) fn read_events(&mut self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let hosts: Vec<usize> = self.running.keys().copied().collect();
        for host in hosts {
            self.check(host)?;
            changes.extend(self.read_events_of(host)?);
        }
        Ok(changes)
    }

    fn read_events_of(&mut self, host: usize) -> Result<Vec<Change>> {
        let Some(agent) = self.running.get(&host).filter(|agent| !agent.is_paused) else {
            return Ok(Vec::new());
        };
        let since = agent.last_event;
        let answer = self.ask(host, &["events", "--since", &since.to_string(), "--limit", EVENTS_KEPT])?;
        let page = history::read(host, since, &answer).with_context(|| name(host))?;
        if let Some(agent) = self.running.get_mut(&host) {
            agent.last_event = page.last;
        }
        Ok(page.changes)
    }
}
