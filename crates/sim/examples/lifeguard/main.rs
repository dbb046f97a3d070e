//! Lifeguard's interval experiment (Dadgar, Phillips, Currey, DSN 2018, section V): members that are slow for D, free for I,
//! C of them at once. Counts healthy members that are declared Down, and how fast a true crash is known, for plain SWIM
//! and for Ringmesh with each of its parts. Prints a line for each system, and one to stderr for each run:
//! `cargo run --release -p ringmesh-sim --example lifeguard -- [--nodes N] [--seeds N] [--from SEED] [--only NAME] [--quick]`, and with
//! `--record FILE` adds one for each cell to a file of tab-separated values, of which `--page FOLDER` makes a page and a chart.

mod cell;
mod ours;
mod page;
mod plain;

use core::time::Duration;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cell::{Cell, Counts, Plan};
use ringmesh_gossip::parts::Parts;
use ringmesh_sim::world::WorldConfig;

fn main() -> Result<(), String> {
    let wishes = Wishes::read(std::env::args().skip(1))?;
    let plan = Plan { nodes: wishes.nodes, seeds: wishes.seeds };
    let cells = wishes.cells();
    let systems: Vec<System> = systems()
        .into_iter()
        .filter(|system| wishes.only.as_deref().is_none_or(|only| system.name.contains(only)))
        .collect();
    for system in &systems {
        let jobs: Vec<(Cell, u64)> =
            cells.iter().flat_map(|cell| (0..plan.seeds).map(|seed| (*cell, wishes.from + seed))).collect();
        let runs = side_by_side(&jobs, |(cell, seed)| {
            let counts = system.play(&plan, *cell, *seed);
            let false_positives = counts.false_positives;
            eprintln!(
                "{}, {} members, {cell}, seed {seed}: {false_positives} false positives",
                system.name, plan.nodes
            );
            counts
        });
        let row = Row::of(&plan, &jobs, &runs);
        println!("{:24} {row}", system.name);
        if let Some(file) = &wishes.record {
            let seeds = usize::try_from(plan.seeds).expect("few");
            let mut lines = String::new();
            for (cell, runs) in cells.iter().zip(runs.chunks(seeds)) {
                lines += &page::Line::of(system.name, &plan, *cell, runs).to_string();
            }
            append(file, &lines).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    if let (Some(file), Some(folder)) = (&wishes.record, &wishes.page) {
        page::write(file, folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    Ok(())
}

fn append(file: &PathBuf, lines: &str) -> std::io::Result<()> {
    std::fs::OpenOptions::new().create(true).append(true).open(file)?.write_all(lines.as_bytes())
}

struct System {
    name: &'static str,
    how: How,
}

enum How {
    Plain(plain::Armed),
    Ours(Box<WorldConfig>),
}

fn systems() -> Vec<System> {
    let ours = |parts| How::Ours(Box::new(WorldConfig { parts, ..WorldConfig::default() }));
    let none = Parts::NONE;
    vec![
        System { name: "foca", how: How::Plain(plain::Armed::ByProber) },
        System { name: "foca, hearers arm", how: How::Plain(plain::Armed::ByHearers) },
        System { name: "Ringmesh, votes only", how: ours(none) },
        System { name: "+ local health", how: ours(Parts { local_health: true, ..none }) },
        System { name: "+ measured waits", how: ours(Parts { measured_waits: true, ..none }) },
        System { name: "+ shrinking suspicion", how: ours(Parts { shrinking_suspicion: true, ..none }) },
        System { name: "+ buddy", how: ours(Parts { buddy: true, ..none }) },
        System { name: "+ witnesses", how: ours(Parts { witnesses: true, ..none }) },
        System { name: "+ self-doubt", how: ours(Parts { self_doubt: true, ..none }) },
        System { name: "Ringmesh, all parts", how: ours(Parts::ALL) },
    ]
}

impl System {
    fn play(&self, plan: &Plan, cell: Cell, seed: u64) -> Counts {
        match &self.how {
            How::Plain(armed) => plain::play(plan, cell, seed, *armed),
            How::Ours(config) => ours::play(plan, cell, seed, config),
        }
    }
}

struct Row {
    false_positives: u64,
    by_healthy: u64,
    first: [f64; 2],
    last: [f64; 2],
    unknown: usize,
    messages: f64,
    bytes: f64,
}

impl Row {
    fn of(plan: &Plan, jobs: &[(Cell, u64)], runs: &[Counts]) -> Self {
        let seconds = plan.length().as_secs_f64() * plan.nodes as f64 * runs.len() as f64;
        let firsts: Vec<f64> =
            runs.iter().filter_map(|run| Some(run.crash.as_ref()?.first()?.as_secs_f64())).collect();
        let lasts: Vec<f64> = runs
            .iter()
            .zip(jobs)
            .filter_map(|(run, (cell, _))| {
                let healthy = plan.nodes - 1 - cell.slow;
                Some(run.crash.as_ref()?.last(healthy)?.as_secs_f64())
            })
            .collect();
        let unknown = runs.len() - lasts.len();
        Self {
            false_positives: runs.iter().map(|run| run.false_positives).sum(),
            by_healthy: runs.iter().map(|run| run.false_positives_by_healthy).sum(),
            first: quantiles(firsts),
            last: quantiles(lasts),
            unknown,
            messages: runs.iter().map(|run| run.messages as f64).sum::<f64>() / seconds,
            bytes: runs.iter().map(|run| run.bytes as f64).sum::<f64>() / seconds,
        }
    }
}

impl core::fmt::Display for Row {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "FP {:7} FP- {:6} first {:5.2} {:5.2} last {:5.2} {:5.2} unknown {} messages {:.2} bytes {:.0}",
            self.false_positives,
            self.by_healthy,
            self.first[0],
            self.first[1],
            self.last[0],
            self.last[1],
            self.unknown,
            self.messages,
            self.bytes
        )
    }
}

/// Median and 99th percentile.
fn quantiles(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [0.5, 0.99].map(|share| ringmesh_sim::outcome::quantile(&values, share).unwrap_or(f64::NAN))
}

struct Wishes {
    nodes: usize,
    seeds: u64,
    from: u64,
    only: Option<String>,
    is_quick: bool,
    record: Option<PathBuf>,
    page: Option<PathBuf>,
}

impl Wishes {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut wishes =
            Self { nodes: 128, seeds: 8, from: 1, only: None, is_quick: false, record: None, page: None };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
            match argument.as_str() {
                "--nodes" => wishes.nodes = value()?.parse().map_err(|_| "--nodes wants a number")?,
                "--seeds" => wishes.seeds = value()?.parse().map_err(|_| "--seeds wants a number")?,
                "--from" => wishes.from = value()?.parse().map_err(|_| "--from wants a number")?,
                "--only" => wishes.only = Some(value()?),
                "--quick" => wishes.is_quick = true,
                "--record" => wishes.record = Some(value()?.into()),
                "--page" => wishes.page = Some(value()?.into()),
                other => {
                    return Err(format!(
                        "{other} is no option: there are --nodes, --seeds, --from, --only, --quick, --record, --page"
                    ));
                }
            }
        }
        Ok(wishes)
    }

    /// 48 cells for a small mesh, 6 for a large one.
    fn cells(&self) -> Vec<Cell> {
        let (slow, hold, free): (&[usize], &[u64], &[u64]) = if self.is_quick || self.nodes > 500 {
            (&[4, 16, 32], &[2_000, 8_000], &[1_000])
        } else {
            (&[1, 4, 16, 32], &[500, 2_000, 8_000, 32_000], &[16, 1_000, 16_000])
        };
        let millis = |value: &u64| Duration::from_millis(*value);
        let cells = slow.iter().flat_map(|slow| {
            hold.iter().flat_map(move |hold| {
                free.iter().map(move |free| Cell { slow: *slow, hold: millis(hold), free: millis(free) })
            })
        });
        cells.collect()
    }
}

/// Does all jobs on all cores, the last ones first: they take longest.
fn side_by_side<T: Sync, R: Send>(jobs: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(index) = jobs.len().checked_sub(1 + next.fetch_add(1, Ordering::Relaxed)) else {
                        return;
                    };
                    let result = work(&jobs[index]);
                    done.lock().expect("nobody panics while it is held").push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panics while it is held");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
