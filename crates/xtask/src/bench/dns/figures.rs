//! What is measured: figures, and how they are shown. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::servers::Server;
use crate::bench::figures::{Spread, show};

/// One thing that is measured, of each server, once a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Answers a second, at closed loop.
    Qps,
    /// Microseconds of CPU time for each of them.
    Cpu,
    /// How many times that is what the echo took that ran right before.
    Ratio,
    /// Microseconds that half of the answers take at most, at open loop.
    P50,
    /// Microseconds that 99 % of the answers take at most, at open loop.
    P99,
    /// Questions without an answer, in both loops.
    Lost,
}

impl Figure {
    const ALL: [Self; 6] = [Self::Qps, Self::Cpu, Self::Ratio, Self::P50, Self::P99, Self::Lost];

    /// What it is called for programs.
    fn name(self) -> &'static str {
        match self {
            Self::Qps => "qps",
            Self::Cpu => "cpu_us",
            Self::Ratio => "cpu_ratio",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::Lost => "lost",
        }
    }

    /// What it is, for people.
    fn says(self) -> &'static str {
        match self {
            Self::Qps => "saturated: answers/s",
            Self::Cpu => "saturated: CPU per answer, us",
            Self::Ratio => "the same, echo = 1",
            Self::P50 => "at 10,000/s: latency p50, us",
            Self::P99 => "at 10,000/s: latency p99, us",
            Self::Lost => "questions lost",
        }
    }
}

/// Values of each figure of each server.
#[derive(Default)]
pub(crate) struct Samples(BTreeMap<(Server, Figure), Vec<f64>>);

impl Samples {
    /// Adds a value.
    pub(crate) fn note(&mut self, server: Server, figure: Figure, value: f64) {
        self.0.entry((server, figure)).or_default().push(value);
    }

    fn of(&self, server: Server, figure: Figure) -> &[f64] {
        self.0.get(&(server, figure)).map_or(&[], Vec::as_slice)
    }
}

/// A server for programs: the median of each figure, and beside it the least and the most. What was never measured is
/// null.
pub(crate) fn json(server: Server, mix: &str, samples: &Samples) -> Value {
    let rounded = |value: f64| (value * 10_000.0).round() / 10_000.0;
    let mut object = Map::new();
    object.insert("server".to_owned(), json!(server.name()));
    object.insert("mix".to_owned(), json!(mix));
    for figure in Figure::ALL {
        let spread = Spread::of(samples.of(server, figure));
        let mut insert = |end: &str, value: Option<f64>| {
            object.insert(format!("{}{end}", figure.name()), value.map(rounded).into());
        };
        insert("", spread.map(|spread| spread.med));
        insert("_min", spread.map(|spread| spread.min));
        insert("_max", spread.map(|spread| spread.max));
    }
    Value::Object(object)
}

/// All servers for people, a line for each figure.
pub(crate) fn lines(servers: &[Server], samples: &Samples) -> Vec<String> {
    let line = |first: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:<27}")).collect();
        format!("{first:<30}{cells}").trim_end().to_owned()
    };
    let names = servers.iter().map(|server| server.name().to_uppercase()).collect();
    let mut lines = vec![line("MIN / MEDIAN / MAX", names)];
    lines.extend(Figure::ALL.map(|figure| {
        let cells = servers.iter().map(|server| show(samples.of(*server, figure))).collect();
        line(figure.says(), cells)
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_in_the_object_with_its_least_and_most() {
        let mut samples = Samples::default();
        [3.0, 1.0, 2.0].into_iter().for_each(|value| samples.note(Server::Knot, Figure::Ratio, value));
        samples.note(Server::Nsd, Figure::Ratio, 9.0);
        let object = json(Server::Knot, "srv", &samples);
        assert_eq!((&object["server"], &object["mix"]), (&json!("knot"), &json!("srv")));
        let ratio = ["cpu_ratio", "cpu_ratio_min", "cpu_ratio_max"].map(|name| object[name].as_f64());
        assert_eq!(ratio, [Some(2.0), Some(1.0), Some(3.0)]);
        for figure in Figure::ALL {
            assert!(object.get(format!("{}_max", figure.name())).is_some(), "{figure:?}");
        }
        assert_eq!(object["qps"], Value::Null);
    }

    #[test]
    fn the_table_has_a_column_for_each_server() {
        let mut samples = Samples::default();
        samples.note(Server::Ringmesh, Figure::Cpu, 1.5);
        let lines = lines(&[Server::Echo, Server::Ringmesh], &samples);
        assert_eq!(lines.len(), Figure::ALL.len() + 1);
        assert!(lines[0].ends_with("RINGMESH"), "{lines:?}");
        assert!(lines.iter().any(|line| line.ends_with("1.500 / 1.500 / 1.500")), "{lines:?}");
    }
}
