//! The agents of one cluster, and what they say. Each log is a pipe with a thread that notes when a line came.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, PipeReader};
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::counters;
use super::systems::{Said, System, addr, name};
use crate::stop::Stop;

/// What is waited for is looked at this often, unless an agent says something before.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Whether somebody asked to end is looked at this often.
const HEED_EVERY: Duration = Duration::from_millis(100);
/// How long starts may take.
const UP_WITHIN: Duration = Duration::from_secs(120);

/// Something that an agent said.
#[derive(Debug)]
struct Heard {
    /// When.
    at: Instant,
    /// Which agent.
    observer: usize,
    /// What.
    said: Said,
    /// Which life of that agent it was, the first being 1.
    life: u32,
    /// How it was said.
    line: String,
}

/// An agent that runs; killed with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; the end of its log says so.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One agent, dead or alive.
#[derive(Default)]
struct Agent {
    running: Option<Running>,
    /// How often it was started, and when last.
    life: u32,
    started: Option<Instant>,
    /// Of whom it said in this life that they are there, and not that they are dead.
    joined: BTreeSet<usize>,
}

/// All agents of a system that know each other.
pub(crate) struct Cluster<'a> {
    system: &'a dyn System,
    stop: &'a Stop,
    agents: Vec<Agent>,
    outbox: Sender<Heard>,
    inbox: Receiver<Heard>,
    heard: Vec<Heard>,
    falsely_removed: BTreeSet<usize>,
}

impl<'a> Cluster<'a> {
    /// Starts all agents, one after the other without a pause. Also says how many seconds after the start of the last
    /// one everybody knew everybody.
    pub(crate) fn start(system: &'a dyn System, nodes: usize, stop: &'a Stop) -> Result<(Self, f64)> {
        let (outbox, inbox) = channel();
        let agents = (0..nodes).map(|_| Agent::default()).collect();
        let (heard, falsely_removed) = (Vec::new(), BTreeSet::new());
        let mut cluster = Self { system, stop, agents, outbox, inbox, heard, falsely_removed };
        cluster.start_one(0)?;
        cluster.wait_for_members(0, 1, Instant::now() + UP_WITHIN)?;
        system.seed_is_up()?;
        for agent in 1..nodes {
            cluster.start_one(agent)?;
        }
        let begun = Instant::now();
        cluster.wait_for_everybody()?;
        Ok((cluster, begun.elapsed().as_secs_f64()))
    }

    /// Starts an agent that does not run.
    pub(crate) fn start_one(&mut self, agent: usize) -> Result<()> {
        let (reader, writer) = std::io::pipe()?;
        let child = self
            .system
            .command(agent)
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.system.name()))?;
        let life = self.agents[agent].life + 1;
        let (running, started) = (Some(Running(child)), Some(Instant::now()));
        self.agents[agent] = Agent { running, life, started, joined: BTreeSet::new() };
        let (read, outbox) = (self.system.reader(), self.outbox.clone());
        let hear = move || {
            follow(reader, read, &mut |at, said, line| {
                // Nobody hears it any more once the cluster is gone.
                let _ = outbox.send(Heard { at, observer: agent, said, life, line: line.to_owned() });
            });
        };
        thread::Builder::new().name(name(agent)).spawn(hear)?;
        Ok(())
    }

    /// Kills an agent (SIGKILL). Says when.
    pub(crate) fn kill(&mut self, agent: usize) -> Instant {
        let at = Instant::now();
        self.agents[agent].running = None;
        at
    }

    /// Cuts an agent off from all others: it runs on and counts as dead. Says when; it is killed with what is returned.
    pub(crate) fn cut_off(&mut self, agent: usize) -> Result<(Instant, impl Drop + use<>)> {
        counters::cut(Some(&addr(agent)))?;
        let at = Instant::now();
        let running = self.agents[agent].running.take().context("only who runs can be cut off")?;
        Ok((at, running))
    }

    /// Waits until every agent counts all as alive. They are looked at one after the other, each until it does: so
    /// only one at a time is asked, and who did once need not be asked again.
    pub(crate) fn wait_for_everybody(&mut self) -> Result<()> {
        let until = Instant::now() + UP_WITHIN;
        let nodes = self.agents.len();
        (0..nodes).try_for_each(|agent| self.wait_for_members(agent, nodes, until))
    }

    fn wait_for_members(&mut self, agent: usize, wanted: usize, until: Instant) -> Result<()> {
        let mut look_at = Instant::now();
        loop {
            self.hear_until(look_at)?;
            let members = self.system.members(agent, self.agents[agent].joined.len());
            if members >= wanted {
                return Ok(());
            }
            if look_at > until {
                bail!("{} counts {members} members of {wanted}: use fewer --nodes here", name(agent));
            }
            look_at = Instant::now() + LOOK_EVERY;
        }
    }

    /// Waits so long, and hears what is said meanwhile.
    pub(crate) fn pause(&mut self, length: Duration) -> Result<()> {
        self.hear_until(Instant::now() + length)
    }

    /// Waits until all agents that run have said `wanted` after `since`; at most so long. Says when they did, in order.
    pub(crate) fn wait_for_said(
        &mut self,
        wanted: &Said,
        since: Instant,
        within: Duration,
    ) -> Result<Vec<Instant>> {
        let until = since + within;
        loop {
            let said = self.when_said(wanted, since);
            if said.len() >= self.running() || Instant::now() > until {
                return Ok(said);
            }
            self.hear_until(Instant::now() + LOOK_EVERY)?;
        }
    }

    /// When each agent first said `wanted` after `since`, in order.
    fn when_said(&self, wanted: &Said, since: Instant) -> Vec<Instant> {
        let mut observers = BTreeSet::new();
        let is_first =
            |heard: &&Heard| heard.at >= since && heard.said == *wanted && observers.insert(heard.observer);
        let mut said: Vec<Instant> = self.heard.iter().filter(is_first).map(|heard| heard.at).collect();
        said.sort();
        said
    }

    /// How many agents run.
    pub(crate) fn running(&self) -> usize {
        self.agents.iter().filter(|agent| agent.running.is_some()).count()
    }

    /// The process ids of all agents that run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.agents.iter().filter_map(|agent| agent.running.as_ref()).map(|running| running.0.id()).collect()
    }

    /// How many agents were said to be dead, by anybody, while they ran.
    pub(crate) fn falsely_removed(&self) -> usize {
        self.falsely_removed.len()
    }

    fn hear_until(&mut self, until: Instant) -> Result<()> {
        loop {
            self.stop.check()?;
            let left = until.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(left.min(HEED_EVERY)) {
                Ok(heard) => self.take(heard)?,
                Err(_) if left.is_zero() => return Ok(()),
                Err(_) => {}
            }
        }
    }

    /// Notes what an agent said; what is from a life that is over is no news.
    fn take(&mut self, heard: Heard) -> Result<()> {
        let is_running = |agent: usize| self.agents.get(agent).is_some_and(|agent| agent.running.is_some());
        if !is_running(heard.observer) || heard.life != self.agents[heard.observer].life {
            return Ok(());
        }
        match &heard.said {
            Said::Joined(subject) => {
                self.agents[heard.observer].joined.insert(*subject);
            }
            Said::Failed(subject) => {
                if is_running(*subject) && self.falsely_removed.insert(*subject) {
                    let since = self.agents[*subject].started.map(|started| heard.at.duration_since(started));
                    let (observer, subject) = (name(heard.observer), name(*subject));
                    eprintln!(
                        "bench:   {observer} removes {subject}, which runs since {since:.1?}: {}",
                        heard.line
                    );
                }
                self.agents[heard.observer].joined.remove(subject);
            }
            Said::Changed(_) => {}
            Said::Ended(last) => bail!("{} ended; its log ends with: {last}", name(heard.observer)),
        }
        self.heard.push(heard);
        Ok(())
    }
}

/// Reads a log to its end.
fn follow(log: PipeReader, read: fn(&str) -> Option<Said>, tell: &mut dyn FnMut(Instant, Said, &str)) {
    let mut last = String::new();
    for line in BufReader::new(log).split(b'\n').map_while(Result::ok) {
        let at = Instant::now();
        last = String::from_utf8_lossy(&line).into_owned();
        if let Some(said) = read(&last) {
            tell(at, said, &last);
        }
    }
    tell(Instant::now(), Said::Ended(last.clone()), &last);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_log_is_followed_to_its_end() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe can be made");
        writer.write_all(b"3\nno number\n\xff4\nlast").expect("the pipe takes it");
        drop(writer);
        let mut said = Vec::new();
        follow(reader, |line| line.parse().ok().map(Said::Failed), &mut |_, what, _| said.push(what));
        assert_eq!(said, [Said::Failed(3), Said::Ended("last".to_owned())]);
    }
}
