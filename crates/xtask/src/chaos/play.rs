//! Plays a scenario once with real agents, and says what was done when, and what the agents noted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use ringmesh_sim::scenario::{Direction, Fault, Scenario, Scene, Step, Who};

use super::agents::{Agents, name, now_ms};
use super::history::{Change, History, Window};
use super::net::{Loss, Side};
use crate::stop::Stop;

/// How often events are read on the way. Agents keep the last 1,024: at 25 % loss those are a minute and a half.
const READ_EVERY: Duration = Duration::from_secs(15);

/// A host whose agent was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Death {
    /// Which.
    pub(crate) host: usize,
    /// From then until it was started again, or the scenario ended.
    pub(crate) window: Window,
}

/// Hosts that were cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// One side of it.
    pub(crate) side: BTreeSet<usize>,
    /// From the cut until it healed, or the scenario ended.
    pub(crate) window: Window,
    /// From the heal to the end; nothing if it never healed.
    pub(crate) healed: Option<Window>,
    /// The step that made it.
    pub(crate) step: usize,
}

/// What was done, and what came of it.
#[derive(Debug)]
pub(crate) struct Played {
    /// Who died.
    pub(crate) deaths: Vec<Death>,
    /// Who was cut off.
    pub(crate) cuts: Vec<Cut>,
    /// Whose agents ran from begin to end, unharmed.
    pub(crate) observers: BTreeSet<usize>,
    /// What agents noted.
    pub(crate) history: History,
}

/// What is to be done at some moment.
#[derive(Debug)]
enum Due {
    /// The step with this index.
    Step(usize),
    /// What the step with this index did to the network ends.
    Mend(usize),
    /// These go on.
    Thaw(BTreeSet<usize>),
}

/// A scenario under way.
struct Play<'a> {
    scenario: &'a Scenario,
    agents: Agents,
    rng: ChaCha8Rng,
    labels: BTreeMap<String, Vec<usize>>,
    /// By the time since the begin; what is due at the same time is done in order.
    due: BTreeMap<(Duration, usize), Due>,
    /// How many were put there.
    dues: usize,
    /// Which share gets lost everywhere, by the step that said so; the last counts.
    links: BTreeMap<usize, f64>,
    /// What gets lost besides, by the step that said so.
    losses: BTreeMap<usize, Vec<Loss>>,
    deaths: Vec<Death>,
    cuts: Vec<Cut>,
    harmed: BTreeSet<usize>,
    changes: Vec<Change>,
}

/// Plays `scenario`. What is random in it is drawn from `seed`.
pub(crate) fn play(scenario: &Scenario, program: &Path, seed: u64, stop: &Stop) -> Result<Played> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let labels = BTreeMap::new();
    let running = resolve(scenario, &scenario.topology.running, &|_| true, &labels, &mut rng);
    let agents = Agents::start(program, &scenario.topology, &running.into_iter().collect(), stop)?;
    let steps = scenario.timeline.iter().enumerate();
    let mut play = Play {
        scenario,
        agents,
        rng,
        labels,
        due: steps.map(|(index, step)| ((step.at, index), Due::Step(index))).collect(),
        dues: scenario.timeline.len(),
        links: BTreeMap::new(),
        losses: BTreeMap::new(),
        deaths: Vec::new(),
        cuts: Vec::new(),
        harmed: BTreeSet::new(),
        changes: Vec::new(),
    };
    play.run(stop)?;
    Ok(play.conclude())
}

/// The hosts that `who` means now.
fn resolve(
    scenario: &Scenario,
    who: &Who,
    running: &dyn Fn(usize) -> bool,
    labels: &BTreeMap<String, Vec<usize>>,
    rng: &mut ChaCha8Rng,
) -> Vec<usize> {
    let topology = &scenario.topology;
    let scene =
        Scene { nodes: topology.nodes, zones: &topology.zones, seeds: topology.seeds, running, labels };
    who.resolve(&scene, rng)
}

impl Play<'_> {
    fn run(&mut self, stop: &Stop) -> Result<()> {
        self.apply_losses()?;
        let begun = Instant::now();
        let mut read_at = begun + READ_EVERY;
        while let Some(((at, _), due)) = self.due.pop_first() {
            if at > self.scenario.duration {
                break;
            }
            self.wait_until(begun + at, &mut read_at, stop)?;
            self.act(due)?;
        }
        self.wait_until(begun + self.scenario.duration, &mut read_at, stop)?;
        self.read_events()
    }

    fn wait_until(&mut self, at: Instant, read_at: &mut Instant, stop: &Stop) -> Result<()> {
        while *read_at < at {
            stop.wait_until(*read_at)?;
            self.read_events()?;
            *read_at = Instant::now() + READ_EVERY;
        }
        stop.wait_until(at)
    }

    fn read_events(&mut self) -> Result<()> {
        self.changes.extend(self.agents.read_events()?);
        Ok(())
    }

    fn act(&mut self, due: Due) -> Result<()> {
        match due {
            Due::Step(index) => self.step(index),
            Due::Mend(step) => self.mend(step),
            Due::Thaw(hosts) => hosts.into_iter().try_for_each(|host| self.agents.set_paused(host, false)),
        }
    }

    fn step(&mut self, index: usize) -> Result<()> {
        let scenario = self.scenario;
        let step = &scenario.timeline[index];
        let hosts = self.perform(index, step)?;
        eprintln!("chaos:   {:>4.1} s: line {}{}", step.at.as_secs_f64(), step.line, named(&hosts));
        if let Some(label) = &step.label {
            self.labels.insert(label.clone(), hosts);
        }
        Ok(())
    }

    /// Does it, and says to whom. The plan was checked before: what cannot be played does not come here.
    fn perform(&mut self, index: usize, step: &Step) -> Result<Vec<usize>> {
        match &step.fault {
            Fault::Crash { who } => self.crash(step, who),
            Fault::Start { who } => self.start(step, who),
            Fault::Pause { who, length } => self.pause(step, who, *length),
            Fault::Split { who, length } => self.split(index, step, who, *length),
            Fault::OneWay { from, to, length } => {
                let (from, to) = (self.resolve(step, from)?, self.resolve(step, to)?);
                let loss = Loss { from: these(&from), to: these(&to), share: 1.0 };
                self.lose(index, vec![loss], *length)?;
                Ok(from)
            }
            Fault::Loss { who, share, direction, length } => {
                let hosts = self.resolve(step, who)?;
                self.lose(index, losses(&hosts, *share, *direction), *length)?;
                Ok(hosts)
            }
            Fault::Links { spec, length } => {
                self.links.extend(spec.loss.map(|share| (index, share)));
                self.lose(index, Vec::new(), *length)?;
                Ok(Vec::new())
            }
            Fault::Heal => {
                self.heal()?;
                Ok(Vec::new())
            }
            Fault::Restart { .. }
            | Fault::Roll { .. }
            | Fault::Stop { .. }
            | Fault::Leave { .. }
            | Fault::Wipe { .. }
            | Fault::Slow { .. }
            | Fault::Clock { .. }
            | Fault::DiskFull { .. }
            | Fault::Clash { .. }
            | Fault::Lie { .. }
            | Fault::ServiceDown { .. }
            | Fault::Flap { .. }
            | Fault::ServiceSlow { .. }
            | Fault::Churn { .. }
            | Fault::Drain { .. }
            | Fault::Register { .. }
            | Fault::Forget { .. }
            | Fault::Newer { .. } => bail!("line {}: chaos does not play this", step.line),
        }
    }

    /// The hosts that `who` means now; at least one.
    fn resolve(&mut self, step: &Step, who: &Who) -> Result<Vec<usize>> {
        let agents = &self.agents;
        let is_running = |host| agents.is_running(host);
        let hosts = resolve(self.scenario, who, &is_running, &self.labels, &mut self.rng);
        if hosts.is_empty() {
            bail!("{}.toml:{}: {who} is nobody", self.scenario.name, step.line);
        }
        Ok(hosts)
    }

    fn crash(&mut self, step: &Step, who: &Who) -> Result<Vec<usize>> {
        let mut hosts = self.resolve(step, who)?;
        hosts.retain(|host| self.agents.is_running(*host));
        for host in &hosts {
            let window = Window { from_ms: now_ms(), until_ms: u64::MAX };
            self.agents.kill(*host);
            self.deaths.push(Death { host: *host, window });
        }
        self.harmed.extend(&hosts);
        Ok(hosts)
    }

    fn start(&mut self, step: &Step, who: &Who) -> Result<Vec<usize>> {
        let mut hosts = self.resolve(step, who)?;
        hosts.retain(|host| !self.agents.is_running(*host));
        for host in &hosts {
            let is_over = |death: &&mut Death| death.host == *host && death.window.until_ms == u64::MAX;
            if let Some(death) = self.deaths.iter_mut().find(is_over) {
                death.window.until_ms = now_ms();
            }
            self.agents.start_one(*host)?;
        }
        self.harmed.extend(&hosts);
        Ok(hosts)
    }

    fn pause(&mut self, step: &Step, who: &Who, length: Duration) -> Result<Vec<usize>> {
        let hosts = self.resolve(step, who)?;
        for host in &hosts {
            self.agents.set_paused(*host, true)?;
        }
        self.harmed.extend(&hosts);
        self.later(step.at + length, Due::Thaw(hosts.iter().copied().collect()));
        Ok(hosts)
    }

    fn split(
        &mut self,
        index: usize,
        step: &Step,
        who: &Who,
        length: Option<Duration>,
    ) -> Result<Vec<usize>> {
        let hosts = self.resolve(step, who)?;
        let side: BTreeSet<usize> = hosts.iter().copied().collect();
        let (inside, outside) = (Side::These(side.clone()), Side::Others(side.clone()));
        let out = Loss { from: inside.clone(), to: outside.clone(), share: 1.0 };
        let back = Loss { from: outside, to: inside, share: 1.0 };
        let window = Window { from_ms: now_ms(), until_ms: u64::MAX };
        self.cuts.push(Cut { side, window, healed: None, step: index });
        self.lose(index, vec![out, back], length)?;
        Ok(hosts)
    }

    fn lose(&mut self, index: usize, losses: Vec<Loss>, length: Option<Duration>) -> Result<()> {
        self.losses.insert(index, losses);
        if let Some(length) = length {
            self.later(self.scenario.timeline[index].at + length, Due::Mend(index));
        }
        self.apply_losses()
    }

    fn later(&mut self, at: Duration, due: Due) {
        self.due.insert((at, self.dues), due);
        self.dues += 1;
    }

    fn mend(&mut self, step: usize) -> Result<()> {
        self.links.remove(&step);
        self.losses.remove(&step);
        self.end_cuts(|cut| cut.step == step);
        self.apply_losses()
    }

    fn heal(&mut self) -> Result<()> {
        self.links.clear();
        self.losses.clear();
        self.end_cuts(|_| true);
        self.apply_losses()
    }

    fn end_cuts(&mut self, is_over: impl Fn(&Cut) -> bool) {
        let from_ms = now_ms();
        for cut in self.cuts.iter_mut().filter(|cut| cut.healed.is_none() && is_over(cut)) {
            cut.window.until_ms = from_ms;
            cut.healed = Some(Window { from_ms, until_ms: u64::MAX });
        }
    }

    fn apply_losses(&self) -> Result<()> {
        let usual = self.scenario.links.default.loss;
        let share = self.links.values().next_back().copied().or(usual);
        let everywhere = share.map(|share| Loss { from: Side::Anybody, to: Side::Anybody, share });
        let losses: Vec<Loss> =
            everywhere.into_iter().chain(self.losses.values().flatten().cloned()).collect();
        self.agents.lose(&losses)
    }

    /// Ends all agents.
    fn conclude(self) -> Played {
        let observers = self.agents.running().difference(&self.harmed).copied().collect();
        Played { deaths: self.deaths, cuts: self.cuts, observers, history: History::new(self.changes) }
    }
}

fn these(hosts: &[usize]) -> Side {
    Side::These(hosts.iter().copied().collect())
}

fn losses(hosts: &[usize], share: f64, direction: Direction) -> Vec<Loss> {
    let out = Loss { from: these(hosts), to: Side::Anybody, share };
    let back = Loss { from: Side::Anybody, to: these(hosts), share };
    match direction {
        Direction::In => vec![back],
        Direction::Out => vec![out],
        Direction::Both => vec![out, back],
    }
}

/// Some hosts, after a comma; a few by name.
fn named(hosts: &[usize]) -> String {
    match hosts {
        [] => String::new(),
        [host] => format!(", {}", name(*host)),
        _ => format!(", {} hosts", hosts.len()),
    }
}
