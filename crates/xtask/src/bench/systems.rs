//! What a system must offer to be measured. Both are asked for the same things, and what they have to say of members and
//! changes they say in their logs.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

/// What an agent is called.
pub(crate) fn name(agent: usize) -> String {
    format!("n{agent}")
}

/// The address of an agent, on loopback.
pub(crate) fn addr(agent: usize) -> String {
    format!("127.0.1.{}", agent + 1)
}

/// The agent that is called so; nothing if that is no name of one.
pub(crate) fn agent(name: &str) -> Option<usize> {
    name.strip_prefix('n')?.parse().ok()
}

/// What changes are called, all over the cluster.
pub(crate) fn change_name(number: u32) -> String {
    format!("change-{number}")
}

/// What a line of a log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// An agent is there.
    Joined(usize),
    /// An agent is dead.
    Failed(usize),
    /// The change with this name has come.
    Changed(String),
    /// There will be no more lines; this was the last.
    Ended(String),
}

/// A kind of agent.
pub(crate) trait System: Sync {
    /// What it is called, for people and programs.
    fn name(&self) -> &'static str;

    /// What starts an agent. Agent 0 is the seed of the others.
    fn command(&self, agent: usize) -> Command;

    /// What reads a line of a log; nothing comes of those that do not matter.
    fn reader(&self) -> fn(&str) -> Option<Said>;

    /// Called once the seed runs and the others do not yet.
    fn seed_is_up(&self) -> Result<()>;

    /// How many members an agent counts as alive, itself among them. `joined` is what its log says.
    fn members(&self, agent: usize, joined: usize) -> usize;

    /// Bytes of messages that an agent has given to QUIC so far; nothing if its system has none.
    fn given_to_quic(&self, agent: usize) -> Result<Option<f64>>;

    /// Does what must be there before a change can be made.
    fn prepare_change(&self, agent: usize, number: u32) -> Result<()>;

    /// Makes a change at an agent, which all agents will have in their logs. Says when it was asked for.
    fn change(&self, agent: usize, number: u32) -> Result<Instant>;
}
