//! What the times, hosts, zones, services and labels of a scenario are checked against.

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_types::duration;
use toml::de::DeValue;

use super::nodes;
use super::values;
use super::who::{Term, Who};

/// A point between two steps, for the question which labels are set there: the time, and how many steps of the file
/// come first among those at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) Duration, pub(super) usize);

impl Moment {
    /// Before all steps.
    pub(super) const BEGIN: Self = Self(Duration::ZERO, 0);
    /// After all steps.
    pub(super) const END: Self = Self(Duration::MAX, usize::MAX);

    /// After the steps of this time.
    pub(super) const fn after(time: Duration) -> Self {
        Self(time, usize::MAX)
    }
}

/// Where a label is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// When.
    pub(super) moment: Moment,
    /// In which line.
    pub(super) line: usize,
}

/// What there is. What could not be read is `None`, and nothing is checked against it.
#[derive(Debug)]
pub(super) struct Stage {
    /// Hosts.
    pub(super) nodes: Option<usize>,
    /// Zones.
    pub(super) zones: Option<Vec<String>>,
    /// Services.
    pub(super) services: Option<Vec<String>>,
    /// When it ends.
    pub(super) duration: Option<Duration>,
    /// Labels, and where each is set first.
    pub(super) labels: BTreeMap<String, Mark>,
}

impl Stage {
    /// Some hosts, as they can be named at `moment`.
    pub(super) fn who(&self, value: &DeValue<'_>, moment: Moment) -> Result<Who, String> {
        let who = Who::parse(&values::text(value)?)?;
        let mistakes = who.terms().filter_map(|(_, term)| self.check_term(term, moment).err());
        let mistakes: Vec<String> = mistakes.collect();
        if mistakes.is_empty() { Ok(who) } else { Err(mistakes.join("; ")) }
    }

    /// Some hosts that something is expected of, as they can be named at `moment`: never random ones, which would be
    /// others than those that a step drew.
    pub(super) fn settled(&self, value: &DeValue<'_>, moment: Moment) -> Result<Who, String> {
        let who = self.who(value, moment)?;
        if !who.is_random() {
            return Ok(who);
        }
        Err(format!(
            "\"{who}\" would draw hosts of its own: label those of a step (as = \"some\") and write \"@some\""
        ))
    }

    /// One host, as it can be named at `moment`.
    pub(super) fn one(&self, value: &DeValue<'_>, moment: Moment) -> Result<Who, String> {
        let who = self.who(value, moment)?;
        if who.is_one() {
            return Ok(who);
        }
        Err(format!("\"{who}\" is not one host: write such as \"node-3\", \"random 1\" or a label"))
    }

    /// A service.
    pub(super) fn service(&self, value: &DeValue<'_>) -> Result<String, String> {
        let service = values::text(value)?.to_ascii_lowercase();
        match &self.services {
            Some(services) if !services.contains(&service) => {
                Err(format!("service {service:?} does not exist: {}", there_are(services)))
            }
            _ => Ok(service),
        }
    }

    /// A zone.
    pub(super) fn zone(&self, value: &DeValue<'_>) -> Result<String, String> {
        let zone = values::text(value)?.to_ascii_lowercase();
        self.check_zone(&zone).map(|()| zone)
    }

    /// A time at which something can happen.
    pub(super) fn time_of_step(&self, value: &DeValue<'_>) -> Result<Duration, String> {
        let time = values::time(value)?;
        match self.duration {
            Some(end) if time >= end => {
                Err(format!("is not before the end of the scenario at {}", duration::format(end)))
            }
            _ => Ok(time),
        }
    }

    /// A time at which something can be expected.
    pub(super) fn time_until_end(&self, value: &DeValue<'_>) -> Result<Duration, String> {
        let time = values::time(value)?;
        match self.duration {
            Some(end) if time > end => {
                Err(format!("is after the end of the scenario at {}", duration::format(end)))
            }
            _ => Ok(time),
        }
    }

    fn check_term(&self, term: &Term, moment: Moment) -> Result<(), String> {
        match term {
            Term::Zone(zone) => self.check_zone(zone),
            Term::Label(label) => self.check_label(label, moment),
            Term::Node(_) | Term::Range(..) | Term::Random(_) => {
                self.nodes.map_or(Ok(()), |nodes| nodes::check_term(term, nodes))
            }
            Term::All | Term::Seeds | Term::Share(_) => Ok(()),
        }
    }

    fn check_zone(&self, zone: &str) -> Result<(), String> {
        match &self.zones {
            Some(zones) if !zones.iter().any(|known| known == zone) => {
                Err(format!("zone {zone:?} does not exist: {}", there_are(zones)))
            }
            _ => Ok(()),
        }
    }

    fn check_label(&self, label: &str, moment: Moment) -> Result<(), String> {
        match self.labels.get(label) {
            Some(mark) if mark.moment < moment => Ok(()),
            _ if moment == Moment::BEGIN => {
                Err(format!("@{label} is not yet set here: at the begin no label is"))
            }
            Some(mark) => {
                let at = duration::format(mark.moment.0);
                Err(format!("@{label} is not yet set here, only by the step at {at} in line {}", mark.line))
            }
            None if self.labels.is_empty() => {
                Err(format!("@{label} does not exist: write as = \"{label}\" into a step before"))
            }
            None => Err(format!("@{label} does not exist: {}", there_are(self.labels.keys()))),
        }
    }
}

fn there_are<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    if names.is_empty() { "there is none".to_owned() } else { format!("there are {}", names.join(", ")) }
}
