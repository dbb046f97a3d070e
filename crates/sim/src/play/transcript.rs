//! The run in lines: what was done, and what the mesh made of it. What many observers say at about the same time is one
//! line, so that a transcript can be read, and compared with the one that was read before.

use std::collections::BTreeMap;

use ringmesh_types::event::{Event, EventKind};

use crate::outcome::FaultMark;

/// Observers that say the same belong together if the last one said so at most this many seconds ago.
const TOGETHER_S: f64 = 5.0;
/// More lines than this are left out, and counted.
const LINES_MAX: usize = 400;

#[derive(Debug, Clone)]
struct Group {
    first_s: f64,
    last_s: f64,
    first_observer: usize,
    observers: usize,
    says: String,
}

/// What was said so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transcript {
    groups: Vec<Group>,
    open: BTreeMap<(String, String), usize>,
}

impl Transcript {
    pub(crate) fn on_event(&mut self, at_s: f64, observer: usize, event: &Event) {
        let key = (event.subject.clone(), event.to.clone());
        if let Some(group) = self.open.get(&key).map(|index| &mut self.groups[*index])
            && at_s - group.last_s <= TOGETHER_S
        {
            group.last_s = at_s;
            group.observers += 1;
            return;
        }
        let says = match event.kind {
            EventKind::Member | EventKind::Health | EventKind::Map => {
                format!("{} {} → {}: {}", event.subject, event.from, event.to, event.cause)
            }
            EventKind::Service
            | EventKind::NameClash
            | EventKind::Equivocation
            | EventKind::Refused
            | EventKind::Disk
            | EventKind::Agent => format!("{} {}: {}", event.subject, event.to, event.cause),
        };
        self.open.insert(key, self.groups.len());
        let group = Group { first_s: at_s, last_s: at_s, first_observer: observer, observers: 1, says };
        self.groups.push(group);
    }

    /// The lines, in the order of time.
    pub(crate) fn lines(&self, marks: &[FaultMark]) -> Vec<String> {
        let done = marks.iter().map(|mark| (mark.from_s, 0, format!("* {}", mark.what)));
        let said = self.groups.iter().map(|group| (group.first_s, 1, group.to_string()));
        let mut lines: Vec<(f64, u8, String)> = done.chain(said).collect();
        lines.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let left_out = lines.len().saturating_sub(LINES_MAX);
        lines.truncate(LINES_MAX);
        let mut lines: Vec<String> =
            lines.into_iter().map(|(at_s, _, says)| format!("{at_s:10.4} {says}")).collect();
        if left_out > 0 {
            lines.push(format!("           and {left_out} lines more"));
        }
        lines
    }
}

impl core::fmt::Display for Group {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "node-{}: {}", self.first_observer, self.says)?;
        if self.observers > 1 {
            write!(f, " ({} within {:.4} s)", self.observers, self.last_s - self.first_s)?;
        }
        Ok(())
    }
}
