//! What is measured: figures, how they are summed up, and how they are shown. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// One thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Seconds from the start of the last agent until every agent counts all as alive; one a round.
    StartAll,
    /// Seconds from a SIGKILL until the first survivor says that the agent is dead; one a kill.
    KillFirst,
    /// The same until the last survivor says so.
    KillAll,
    /// Seconds from asking one agent for a change until every agent has it in its log; one a change.
    ChangeAll,
    /// Percent of one core, of an agent; one an agent and round. As the following, while nothing happens.
    Cpu,
    /// MiB of memory that an agent holds; one an agent and round.
    Rss,
    /// Bytes a second that an agent sends over IP, on average; one a round.
    Bytes,
    /// What of that is UDP.
    UdpBytes,
    /// What of that is QUIC: headers, acknowledgements, handshakes and encryption, without IP and UDP and without messages.
    QuicBytes,
    /// Packets a second.
    Packets,
    /// Agents that somebody said were dead while they ran; one a round.
    FalseRemovals,
}

impl Figure {
    const ALL: [Self; 11] = [
        Self::StartAll,
        Self::KillFirst,
        Self::KillAll,
        Self::ChangeAll,
        Self::Cpu,
        Self::Rss,
        Self::Bytes,
        Self::UdpBytes,
        Self::QuicBytes,
        Self::Packets,
        Self::FalseRemovals,
    ];

    /// What it is called for programs.
    fn name(self) -> &'static str {
        match self {
            Self::StartAll => "start_all_s",
            Self::KillFirst => "kill_first_s",
            Self::KillAll => "kill_all_s",
            Self::ChangeAll => "change_all_s",
            Self::Cpu => "cpu_pct",
            Self::Rss => "rss_mib",
            Self::Bytes => "bytes_s",
            Self::UdpBytes => "udp_bytes_s",
            Self::QuicBytes => "quic_bytes_s",
            Self::Packets => "packets_s",
            Self::FalseRemovals => "false_removals",
        }
    }

    /// What it is, for people.
    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::StartAll => "last start to all know all, s",
            Self::KillFirst => "kill to first survivor knows, s",
            Self::KillAll => "kill to all survivors know, s",
            Self::ChangeAll => "change to all have it, s",
            Self::Cpu => "idle: CPU per agent, % of a core",
            Self::Rss => "idle: memory per agent, MiB",
            Self::Bytes => "idle: sent per agent, bytes/s",
            Self::UdpBytes => "idle: of it UDP, bytes/s",
            Self::QuicBytes => "idle: of that QUIC, bytes/s",
            Self::Packets => "idle: sent per agent, packets/s",
            Self::FalseRemovals => "agents falsely removed",
        }
    }
}

/// Values of each figure.
pub(crate) type Samples = BTreeMap<Figure, Vec<f64>>;

/// What values come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) med: f64,
    pub(crate) max: f64,
    /// How many there are.
    pub(crate) n: usize,
}

impl Spread {
    /// Nothing if there are no values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max, n) = (*sorted.first()?, *sorted.last()?, sorted.len());
        Some(Self { min, med: f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]), max, n })
    }
}

/// Values for people: the least, the median and the most.
pub(crate) fn show(values: &[f64]) -> String {
    Spread::of(values)
        .map_or_else(|| "-".to_owned(), |spread| [spread.min, spread.med, spread.max].map(short).join(" / "))
}

/// As many digits as tell something.
fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{value:.3}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// All figures of a system, for programs. One that was never measured is null.
pub(crate) fn json(system: &str, nodes: usize, samples: &Samples) -> Value {
    let rounded = |value: f64| (value * 10_000.0).round() / 10_000.0;
    let mut object = Map::new();
    object.insert("system".to_owned(), json!(system));
    object.insert("nodes".to_owned(), json!(nodes));
    for figure in Figure::ALL {
        let spread = samples.get(&figure).and_then(|values| Spread::of(values)).map(|spread| {
            let (min, med, max) = (rounded(spread.min), rounded(spread.med), rounded(spread.max));
            json!({ "min": min, "med": med, "max": max, "n": spread.n })
        });
        object.insert(figure.name().to_owned(), spread.into());
    }
    Value::Object(object)
}

/// Both systems for people, a line for each figure.
pub(crate) fn lines(theirs: &Samples, ours: &Samples) -> Vec<String> {
    let line = |figure: &str, theirs: &str, ours: &str, ratio: &str| {
        format!("{figure:<34} {theirs:<24} {ours:<24} {ratio}").trim_end().to_owned()
    };
    let mut lines = vec![line("MIN / MEDIAN / MAX", "SERF", "RINGMESH", "RINGMESH / SERF")];
    lines.extend(Figure::ALL.map(|figure| {
        let values = |samples: &Samples| samples.get(&figure).cloned().unwrap_or_default();
        let (theirs, ours) = (values(theirs), values(ours));
        let ratio = ratio(&theirs, &ours).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        line(figure.says(), &show(&theirs), &show(&ours), &ratio)
    }));
    lines
}

/// How many times their median ours is; nothing if there is none, or theirs is 0.
fn ratio(theirs: &[f64], ours: &[f64]) -> Option<f64> {
    Some(Spread::of(ours)?.med / Spread::of(theirs)?.med).filter(|ratio| ratio.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_names_least_middle_and_most() {
        let check = |values: &[f64], want: Option<(f64, f64, f64)>| {
            let spread = Spread::of(values);
            assert_eq!(spread.map(|spread| (spread.min, spread.med, spread.max)), want, "{values:?}");
            assert_eq!(spread.map_or(0, |spread| spread.n), values.len());
        };
        check(&[], None);
        check(&[2.0], Some((2.0, 2.0, 2.0)));
        check(&[5.0, 1.0, 3.0], Some((1.0, 3.0, 5.0)));
        check(&[4.0, 1.0, 3.0, 2.0], Some((1.0, 2.5, 4.0)));
    }

    #[test]
    fn every_figure_is_in_the_object() {
        let samples = Samples::from([(Figure::KillAll, vec![9.123_45, 8.0])]);
        let object = json("serf", 5, &samples);
        assert_eq!(object["system"], "serf");
        assert_eq!(object["nodes"], 5);
        assert_eq!(object["kill_all_s"], json!({ "min": 8.0, "med": 8.5617, "max": 9.1235, "n": 2 }));
        assert_eq!(object["false_removals"], Value::Null);
        for figure in Figure::ALL {
            assert!(object.get(figure.name()).is_some(), "{figure:?}");
        }
    }

    #[test]
    fn the_table_shows_how_many_times_theirs_ours_is() {
        let samples = |value: f64| Samples::from([(Figure::KillAll, vec![value])]);
        let lines = lines(&samples(8.0), &samples(4.0));
        assert_eq!(lines.len(), Figure::ALL.len() + 1);
        let line = lines.iter().find(|line| line.starts_with("kill to all")).expect("is shown");
        assert!(line.contains("8.000 / 8.000 / 8.000") && line.ends_with(" 0.50"), "{line}");
        assert!(lines.last().is_some_and(|line| line.ends_with('-')), "{lines:?}");
    }

    #[test]
    fn nothing_is_compared_with_nothing() {
        assert_eq!(ratio(&[0.0], &[0.0]), None);
        assert_eq!(ratio(&[], &[1.0]), None);
        assert_eq!(ratio(&[2.0], &[1.0]), Some(0.5));
    }
}
