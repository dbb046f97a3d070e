//! What one cluster goes through. Both systems get the same course, with the same victims.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::cluster::Cluster;
use super::counters::{Traffic, cpu_s, cut, rss_mib};
use super::figures::{Figure, Samples, show};
use super::systems::{Said, System, change_name, name};
use crate::stop::Stop;

/// From the start until nothing of it is under way any more: in a random order each agent has probed every other by then,
/// and what two agents spend when they first meet is spent.
const SETTLE: Duration = Duration::from_secs(15);
const SETTLE_EACH: Duration = Duration::from_millis(1_200);
/// From a restart that everybody knows of until the next kill.
const HEAL: Duration = Duration::from_secs(5);
/// Before a change.
const REST: Duration = Duration::from_secs(2);
/// A change that has not come to everybody by then does not count.
const CHANGED_WITHIN: Duration = Duration::from_secs(8);
/// A death that is not known to everybody by then does not count.
const FAILED_WITHIN: Duration = Duration::from_secs(90);

/// What is done to a cluster.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Course {
    /// So many agents.
    pub(crate) nodes: usize,
    /// So many are killed or cut off in turn, one after the other, and started again.
    pub(crate) kills: u32,
    /// So many changes are spread, one after the other.
    pub(crate) changes: u32,
    /// So long nothing happens, in seconds.
    pub(crate) steady_s: u32,
}

/// A round under way.
struct Round<'a> {
    system: &'a dyn System,
    course: &'a Course,
    cluster: Cluster<'a>,
    rng: ChaCha8Rng,
    samples: Samples,
}

/// Plays a round in the network namespace that this thread stands in. Who is hit is drawn from `seed`.
pub(crate) fn play(system: &dyn System, course: &Course, seed: u64, stop: &Stop) -> Result<Samples> {
    Traffic::count()?;
    let (cluster, start_s) = Cluster::start(system, course.nodes, stop)?;
    let rng = ChaCha8Rng::seed_from_u64(seed);
    let mut round = Round { system, course, cluster, rng, samples: Samples::new() };
    round.note(Figure::StartAll, start_s);
    round.cluster.pause(SETTLE + SETTLE_EACH * u32::try_from(course.nodes)?)?;
    round.measure_costs()?;
    (0..course.changes).try_for_each(|number| round.change(number))?;
    (0..course.kills).try_for_each(|number| round.kill(number))?;
    round.note(Figure::FalseRemovals, round.cluster.falsely_removed() as f64);
    for (figure, values) in &round.samples {
        eprintln!("bench:   {}: {}", figure.says(), show(values));
    }
    Ok(round.samples)
}

impl Round<'_> {
    fn note(&mut self, figure: Figure, value: f64) {
        self.samples.entry(figure).or_default().push(value);
    }

    /// One of the agents from number `first` on.
    fn draw(&mut self, first: usize) -> usize {
        let agents = self.course.nodes - first;
        first + usize::try_from(self.rng.next_u32()).unwrap_or_default() % agents
    }

    /// Nothing happens.
    fn measure_costs(&mut self) -> Result<()> {
        let pids = self.cluster.pids();
        let cpu = || pids.iter().map(|pid| cpu_s(*pid)).collect::<Result<Vec<f64>>>();
        // Asked before and after all else, for asking costs something.
        let given_before = self.given_to_quic()?;
        let (begun, cpu_before, sent_before) = (Instant::now(), cpu()?, Traffic::read()?);
        self.cluster.pause(Duration::from_secs(self.course.steady_s.into()))?;
        let (cpu_after, sent, length_s) = (cpu()?, Traffic::read()?, begun.elapsed().as_secs_f64());
        let given = self.given_to_quic()?;
        for (before, after) in cpu_before.iter().zip(cpu_after) {
            self.note(Figure::Cpu, (after - before) / length_s * 100.0);
        }
        for pid in &pids {
            self.note(Figure::Rss, rss_mib(*pid)?);
        }
        let agent_seconds = length_s * pids.len() as f64;
        self.note(Figure::Bytes, (sent.bytes - sent_before.bytes) / agent_seconds);
        self.note(Figure::UdpBytes, (sent.udp_bytes - sent_before.udp_bytes) / agent_seconds);
        if let (Some(given_before), Some(given)) = (given_before, given) {
            let payload = sent.udp_payload - sent_before.udp_payload;
            self.note(Figure::QuicBytes, (payload - (given - given_before)) / agent_seconds);
        }
        self.note(Figure::Packets, (sent.packets - sent_before.packets) / agent_seconds);
        Ok(())
    }

    /// Of all agents together.
    fn given_to_quic(&self) -> Result<Option<f64>> {
        (0..self.course.nodes).map(|agent| self.system.given_to_quic(agent)).sum()
    }

    fn change(&mut self, number: u32) -> Result<()> {
        let agent = self.draw(0);
        self.system.prepare_change(agent, number)?;
        self.cluster.pause(REST)?;
        let at = self.system.change(agent, number)?;
        let wanted = Said::Changed(change_name(number));
        let changed = self.cluster.wait_for_said(&wanted, at, CHANGED_WITHIN)?;
        if changed.len() == self.cluster.running() {
            self.note_since(Figure::ChangeAll, at, changed.last());
        } else {
            eprintln!("bench:   {} came to {} agents only", change_name(number), changed.len());
        }
        Ok(())
    }

    /// Kills anybody but the seed, every second time by cutting it off, and waits until all is well again.
    fn kill(&mut self, number: u32) -> Result<()> {
        let victim = self.draw(1);
        let (at, cut_off) = if number.is_multiple_of(2) {
            (self.cluster.kill(victim), None)
        } else {
            let (at, cut_off) = self.cluster.cut_off(victim)?;
            (at, Some(cut_off))
        };
        let wanted = Said::Failed(victim);
        let failed = self.cluster.wait_for_said(&wanted, at, FAILED_WITHIN)?;
        self.note_since(Figure::KillFirst, at, failed.first());
        if failed.len() == self.cluster.running() {
            self.note_since(Figure::KillAll, at, failed.last());
        } else {
            eprintln!("bench:   the death of {} was noticed by {} agents only", name(victim), failed.len());
        }
        drop(cut_off);
        cut(None)?;
        self.cluster.start_one(victim)?;
        self.cluster.wait_for_everybody()?;
        self.cluster.pause(HEAL)
    }

    fn note_since(&mut self, figure: Figure, begun: Instant, ended: Option<&Instant>) {
        if let Some(ended) = ended {
            self.note(figure, ended.duration_since(begun).as_secs_f64());
        }
    }
}
