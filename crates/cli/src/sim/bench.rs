//! `ringmesh sim bench`: how fast a large mesh is simulated, and what it costs.

use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use clap::{Args, value_parser};
use ringmesh_sim::bench::{BenchOutcome, BenchPlan, bench};
use serde_json::json;

use crate::progress::{Form, Progress, bar};
use crate::table::print_line;
use crate::{Failure, Outcome, parse_duration};

/// Service instances on each node, unless the command line says otherwise.
const INSTANCES: u32 = 5;
/// Of more nodes than this each has one document only, unless the command line says otherwise: what each node keeps of
/// each other is what the largest runs are limited by.
const ALL_ALONE_FROM: u32 = 2_000;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=20_000))]
    nodes: u32,
    /// What everything random is drawn from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How much virtual time.
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = parse_length)]
    length: Duration,
    /// How many service instances each node has [default: 5; none with more than 2000 nodes].
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..=64))]
    instances: Option<u32>,
    /// How many endpoints change their health in a second, in the whole mesh.
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_rate)]
    changes: f64,
    /// Which share of packets gets lost.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = parse_share)]
    loss: f64,
    /// How many nodes die, one after another; at most half of them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    deaths: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &BenchArgs) -> Outcome {
    if args.deaths > args.nodes / 2 {
        let says =
            format!("--deaths {}: of {} nodes at most {} may die", args.deaths, args.nodes, args.nodes / 2);
        return Err(Failure::usage(says));
    }
    let phase = Arc::new(Mutex::new(("", 0.0)));
    let drawn = Arc::clone(&phase);
    let progress = Progress::start(Form::of(args.json), move || {
        let (name, share) = *drawn.lock().unwrap_or_else(PoisonError::into_inner);
        Some(format!("bench  {} {name}", bar(share)))
    });
    let begun = Instant::now();
    let plan = BenchPlan {
        seed: args.seed,
        nodes: args.nodes as usize,
        length: args.length,
        instances: args.instances.unwrap_or(if args.nodes > ALL_ALONE_FROM { 0 } else { INSTANCES }) as usize,
        changes_per_second: args.changes,
        loss: args.loss,
        deaths: args.deaths as usize,
    };
    let outcome = bench(&plan, &|| begun.elapsed().as_secs_f64(), &mut |name, share| {
        *phase.lock().unwrap_or_else(PoisonError::into_inner) = (name, share);
    });
    drop(progress);
    print(args, &outcome);
    Ok(())
}

fn print(args: &BenchArgs, outcome: &BenchOutcome) {
    let BenchOutcome { nodes, virtual_s, wall_s, setup_s, speed, rss_mib, messages, pair_bytes, .. } =
        outcome;
    let each = outcome.messages_per_node_per_s;
    if args.json {
        let object = json!({
            "nodes": nodes,
            "virtual_s": virtual_s,
            "wall_s": wall_s,
            "setup_s": setup_s,
            "speed": speed,
            "rss_mib": rss_mib,
            "messages": messages,
            "pair_bytes": pair_bytes,
            "messages_per_node_per_s": each,
            "deaths_noticed": outcome.detection.map(|detection| detection.deaths),
            "first_probe_mean_s": outcome.detection.map(|detection| detection.first_probe_mean_s),
            "first_accusation_mean_s": outcome.detection.map(|detection| detection.first_accusation_mean_s),
        });
        print_line(&object.to_string());
        return;
    }
    let line = |label: &str, value: String| print_line(&format!("{label:<16}{value}"));
    line("nodes", nodes.to_string());
    line("virtual time", format!("{virtual_s:.1} s"));
    line("wall time", format!("{wall_s:.1} s, after {setup_s:.1} s of setting up"));
    line("speed", format!("×{speed:.2}"));
    line("memory", format!("{rss_mib:.0} MiB, {pair_bytes:.0} bytes for each pair of nodes"));
    if let Some(detection) = outcome.detection {
        let (probe, accusation) = (detection.first_probe_mean_s, detection.first_accusation_mean_s);
        let says =
            format!("first probe after {probe:.2} s, first accusation after {accusation:.2} s, in the mean");
        line("deaths", format!("{} of {} noticed: {says}", detection.deaths, args.deaths));
    }
    line("messages", format!("{messages}, {each:.2} from each node in a second"));
}

fn parse_length(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text)?;
    if length.is_zero() { Err("nothing can be measured in no time".to_owned()) } else { Ok(length) }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 0.0);
    rate.ok_or_else(|| format!("{text:?} is no rate: write a number that is not negative, such as 2.5"))
}

/// `1%` or `0.01`.
fn parse_share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse().ok().map(|percent: f64| percent / 100.0),
        None => text.parse().ok(),
    };
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share: write 0% to 100%, or 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percents_or_fractions_of_one() {
        for (text, expect) in [("1%", 0.01), ("0.25", 0.25), ("100 %", 1.0), ("0", 0.0)] {
            assert_eq!(parse_share(text), Ok(expect), "{text}");
        }
        for text in ["", "%", "101%", "2", "-1%", "NaN", "a"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_finite_and_not_negative() {
        assert_eq!(parse_rate("2.5"), Ok(2.5));
        for text in ["", "-1", "inf", "NaN", "1/s"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
