//! What came of a run: the verdict, the figures, and what a report draws.

use std::collections::BTreeMap;

/// The least of `sorted` values that `share` of them, 0 to 1, do not exceed (nearest rank).
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// One run of one scenario with one seed.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// What was drawn from.
    pub seed: u64,
    /// A hash over everything that was delivered, in order: equal for equal runs.
    pub trace_hash: u64,
    /// Virtual seconds that passed.
    pub virtual_s: f64,
    /// What was expected and did not come; empty if the run passed.
    pub failures: Vec<Failure>,
    /// What was measured against a bound, in the order of the file.
    pub bounds: Vec<Bound>,
    /// Figures by name; the unit is the name's last part.
    pub metrics: BTreeMap<&'static str, f64>,
    /// What a report draws.
    pub record: Record,
    /// What happened, a line for each thing that an operator would have noticed.
    pub transcript: Vec<String>,
}

impl Outcome {
    /// Whether everything came as expected.
    pub fn is_passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Something that was expected and did not come, or that may never happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The line of the scenario that expected it; nothing for what is always expected.
    pub line: Option<usize>,
    /// What was expected, what came, where and when.
    pub says: String,
}

/// What an expectation allowed and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The expectation, in words.
    pub what: String,
    /// What was measured, if it came at all.
    pub measured: Option<f64>,
    /// The most that is allowed.
    pub allowed: f64,
    /// `s`, `share`, `B/s` and so on; empty for counts.
    pub unit: &'static str,
    /// Whether it came as expected.
    pub is_held: bool,
}

/// What a report draws. Times are virtual seconds from the begin.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// How many serving members the observers count, over time.
    pub members_seen: Vec<Band>,
    /// Share of look-ups that would have been answered wrongly, over time.
    pub wrong_share: Vec<(f64, f64)>,
    /// Seconds from a death to each observer's knowing it.
    pub detection_s: Vec<f64>,
    /// Seconds from a death to the first accusation.
    pub first_accusation_s: Vec<f64>,
    /// Seconds from a change of an endpoint's health to each observer's knowing it.
    pub dissemination_s: Vec<f64>,
    /// What a host sent in the mean, over time.
    pub traffic: Vec<TrafficPoint>,
    /// What was done to the hosts.
    pub faults: Vec<FaultMark>,
}

/// What all observers say at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Band {
    /// When.
    pub at_s: f64,
    /// The least that any observer says.
    pub min: f64,
    /// The median observer.
    pub median: f64,
    /// The most that any observer says.
    pub max: f64,
    /// What is true.
    pub truth: f64,
}

/// What a host sent in the mean since the point before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrafficPoint {
    /// When.
    pub at_s: f64,
    /// Bytes per second.
    pub bytes_per_s: f64,
    /// Datagrams and stream messages per second.
    pub messages_per_s: f64,
}

/// Something that was done to hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultMark {
    /// From when.
    pub from_s: f64,
    /// Until when, if it lasted.
    pub until_s: Option<f64>,
    /// What, to whom.
    pub what: String,
}
