//! The demo's processes. Each holds our end of its standard input: when we are gone, however, it ends too.

use core::time::Duration;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::Kind;
use super::plan::{AgentPlan, Plan};
use crate::Failure;

/// A child that has not ended this long after it was asked to is killed.
const STOP_WITHIN: Duration = Duration::from_secs(3);

struct OurChild {
    name: String,
    process: Child,
    log: PathBuf,
}

/// All processes of the demo.
pub(super) struct Children {
    program: PathBuf,
    folder: PathBuf,
    running: Vec<OurChild>,
}

impl Children {
    /// Starts the responders, then the agents.
    pub(super) fn start(program: &Path, plan: &Plan, folder: &Path) -> Result<Self, Failure> {
        let mut children =
            Self { program: program.to_owned(), folder: folder.to_owned(), running: Vec::new() };
        for instance in &plan.instances {
            let kind = match instance.kind {
                Kind::Sip => "sip",
                Kind::Rtpengine => "rtpengine",
                Kind::Limiter => "limiter",
            };
            let (bind, agent) = (instance.address.to_string(), plan.http_of(instance).to_string());
            let log = folder.join(format!("{}.grants", instance.id)).display().to_string();
            let mut arguments = vec!["responder", "--kind", kind, "--bind", &bind, "--exit-with-parent"];
            if instance.kind == Kind::Limiter {
                arguments.extend(["--agent", &agent, "--grant-log", &log]);
            }
            children.spawn(&instance.id, &arguments)?;
        }
        for agent in &plan.agents {
            let config = children.config_of(agent);
            children.spawn(agent.name, &["agent", "--config", &config, "--exit-with-parent"])?;
        }
        Ok(children)
    }

    fn config_of(&self, agent: &AgentPlan) -> String {
        self.folder.join(format!("{}.toml", agent.name)).display().to_string()
    }

    /// What starts this agent again after it was killed.
    pub(super) fn argv_of(&self, agent: &AgentPlan) -> Vec<String> {
        vec![
            self.program.display().to_string(),
            "agent".to_owned(),
            "--config".to_owned(),
            self.config_of(agent),
        ]
    }

    fn spawn(&mut self, name: &str, arguments: &[&str]) -> Result<(), Failure> {
        let log = self.folder.join(format!("{name}.log"));
        let failed = |error: std::io::Error| Failure::refused(format!("{name} cannot be started: {error}"));
        let file = File::create(&log).map_err(failed)?;
        let process = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        self.running.push(OurChild { name: name.to_owned(), process, log });
        Ok(())
    }

    /// The process id of an agent or an instance.
    pub(super) fn pid_of(&self, name: &str) -> Option<u32> {
        self.running.iter().find(|child| child.name == name).and_then(|child| child.process.id())
    }

    /// Says which child has ended by itself, and what it said last.
    pub(super) fn check(&mut self) -> Result<(), String> {
        for child in &mut self.running {
            if let Ok(Some(status)) = child.process.try_wait() {
                let log = std::fs::read_to_string(&child.log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it said nothing").to_owned();
                return Err(format!("{} ended with {status}: {last}. Try another --base-offset", child.name));
            }
        }
        Ok(())
    }

    /// Asks every child to stop, and kills those that do not.
    pub(super) async fn stop(&mut self) {
        for child in &mut self.running {
            drop(child.process.stdin.take());
            if let Some(pid) = child.process.id().and_then(|pid| i32::try_from(pid).ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        let all_ended = async {
            for child in &mut self.running {
                let _ = child.process.wait().await;
            }
        };
        if tokio::time::timeout(STOP_WITHIN, all_ended).await.is_err() {
            for child in &mut self.running {
                let _ = child.process.kill().await;
            }
        }
    }
}
