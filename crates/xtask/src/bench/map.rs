//! What a partition map costs: a look-up, the whole map, and one round's difference. `cargo run --release -p ringmesh-xtask -- bench map`

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ringmesh_partition::difference::Difference;
use ringmesh_partition::heat::{Heat, PartitionHeat};
use ringmesh_partition::map::Map;
use ringmesh_partition::place::Candidate;
use ringmesh_partition::plan::{self, PlanConfig};
use ringmesh_partition::position::Strategy;
use ringmesh_types::ids::NodeId;

/// Repetitions, of which the median counts.
const RUNS: usize = 31;
const KEYS: usize = 4_096;

/// Prints the figures, for 500 hosts and for 1,000.
///
/// # Errors
/// If `options` has any, or in a build for tests, whose figures mean nothing.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    if let [option, ..] = options {
        bail!("{option}: bench map has no options");
    }
    if cfg!(debug_assertions) {
        bail!("measure a release: cargo run --release -p ringmesh-xtask -- bench map");
    }
    println!("hosts  partitions  look-up ns (min, median, max)  whole bytes  round bytes  apply ms  plan ms");
    for hosts in [500, 1_000] {
        measure(hosts)?;
    }
    Ok(())
}

fn measure(hosts: u16) -> Result<()> {
    let mut candidates = (0..hosts).map(candidate).collect::<Result<Vec<_>>>()?;
    let (author, config) = (candidates[0].node, PlanConfig::default());
    let map = plan::first("limiter".parse()?, Strategy::Hash, author, &candidates, &config)?;
    let keys: Vec<String> = (0..KEYS).map(|key| format!("account-{key:06}")).collect();
    let look_up = || {
        for key in &keys {
            let _ = black_box(map.lookup(black_box(key.as_bytes())));
        }
    };
    let per_key = |took: Duration| took.as_nanos() as f64 / KEYS as f64;
    let mut took: Vec<f64> = (0..RUNS).map(|_| per_key(timed(look_up))).collect();
    took.sort_by(f64::total_cmp);

    candidates.iter_mut().step_by(2).for_each(|one| one.capacity = 150);
    let heat = even(&map);
    let (mut planned, mut plan_took) = (None, Vec::new());
    for _ in 0..3 {
        plan_took.push(timed(|| planned = Some(plan::plan(&map, author, &candidates, Some(&heat), &config))));
    }
    let after = planned.context("it ran")??.context("capacities changed")?.map;
    let difference = Difference::between(&map, &after).context("comes next")?;
    let mut applied: Vec<Duration> =
        (0..RUNS).map(|_| timed(|| drop(black_box(difference.apply(&map))))).collect();
    applied.sort();
    plan_took.sort();
    let millis = |took: Duration| took.as_secs_f64() * 1e3;
    println!(
        "{hosts:5}  {:10}  {:8.1} {:8.1} {:8.1}  {:20}  {:11}  {:8.2}  {:7.1}",
        map.partitions(),
        took[0],
        took[RUNS / 2],
        took[RUNS - 1],
        map.to_bytes().len(),
        difference.to_bytes().len(),
        millis(applied[RUNS / 2]),
        millis(plan_took[1]),
    );
    Ok(())
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn candidate(host: u16) -> Result<Candidate> {
    Ok(Candidate {
        node: NodeId::from_bytes((u64::from(host) + 1).to_be_bytes()),
        zone: ["a", "b", "c"][usize::from(host) % 3].parse()?,
        capacity: 100,
        is_live: true,
    })
}

/// As much load on each partition as on any other.
fn even(map: &Map) -> Heat {
    let of = |index: usize| {
        let slice = map.slice(index);
        (slice.start, PartitionHeat { cost: 100.0, median: slice.at((slice.positions() / 2) as u64) })
    };
    Heat { partitions: (0..map.partitions()).map(of).collect(), ..Heat::default() }
}
