//! Events: every change that an operator or an asker could notice, with its cause.

use serde::Serialize;

use crate::time::WallTime;

/// How much an event matters to somebody who is paged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a line.
    Info,
    /// Somebody may want to look.
    Warning,
}

/// What kind of thing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A member's state.
    Member,
    /// An endpoint's health.
    Health,
    /// What runs on a node.
    Service,
    /// Two nodes with one name.
    NameClash,
    /// One owner said two things under one version.
    Equivocation,
    /// A peer was refused.
    Refused,
    /// Who owns which keys.
    Map,
    /// The disk did not do what it should.
    Disk,
    /// Something about this agent itself.
    Agent,
}

/// One change, with its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Counts the events of this agent since its start, from 1.
    pub sequence: u64,
    /// When, by this agent's clock.
    pub time: WallTime,
    /// What kind of thing changed.
    pub kind: EventKind,
    /// How much it matters.
    pub severity: Severity,
    /// The member, service or endpoint it is about.
    pub subject: String,
    /// What it was before.
    pub from: String,
    /// What it is now.
    pub to: String,
    /// Why.
    pub cause: String,
}
