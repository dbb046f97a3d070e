//! One account jumps to 40 % of all requests: how uneven are twenty hosts before, then, and a minute later, under maps that are
//! planned and under what others do, on the same requests? Prints the table of `docs/results/partitions.md`:
//! `cargo run --release -p ringmesh-partition --example hot_account -- [--seeds N] [--hour]`
//! With `--hour` nothing jumps, and what a quiet hour moves is counted instead.

mod others;
mod planned;
mod requests;

use std::collections::VecDeque;

use planned::Planned;
use requests::{Requests, SECOND};

/// Hosts, all alike.
pub(crate) const HOSTS: u16 = 20;
/// Seconds of the run, and when the account jumps.
const SECONDS: u64 = 600;
const JUMPS_AT: u64 = 300;
const HOUR: u64 = 3_600;
/// Loads are looked at over so many seconds.
const WINDOW: usize = 10;
/// Even is what is no more than this over the mean, and stays so for half a minute.
const EVEN: f64 = 1.2;
const STAYS: u64 = 30;

/// Who serves which account.
pub(crate) trait Owners {
    /// What it is called.
    fn name(&self) -> &'static str;
    /// The host for a request of this account, and that it was served.
    fn serve(&mut self, second: u64, account: u32) -> u16;
    /// A second is over. Says which share of the accounts has another owner since.
    fn tick(&mut self, second: u64) -> f64;
    /// The share of all requests that the busiest host has of one account alone, as far as that is known.
    fn hosts_of(&self, account: u32) -> usize;
}

fn main() -> Result<(), String> {
    let (mut seeds, mut is_hour) = (8, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seeds" => {
                seeds =
                    arguments.next().and_then(|text| text.parse().ok()).ok_or("--seeds: write a number")?;
            }
            "--hour" => is_hour = true,
            other => return Err(format!("{other}: --seeds N and --hour are known")),
        }
    }
    if is_hour {
        quiet_hour(seeds);
    } else {
        jump(seeds);
    }
    Ok(())
}

fn quiet_hour(seeds: u64) {
    println!(
        "| seed | max / mean, median of the hour | 99 of 100 seconds | accounts moved in the hour | in one round at most |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for seed in 1..=seeds {
        let mut owners = Planned::new(seed);
        let run = play(&mut owners, seed, JUMPS_AT + HOUR, None);
        let mut ratios = run.ratios[JUMPS_AT as usize..].to_vec();
        ratios.sort_by(f64::total_cmp);
        let moved = &run.moved[JUMPS_AT as usize..];
        let most = moved.iter().copied().fold(0.0, f64::max);
        println!(
            "| {seed} | {:.3} | {:.3} | {:.1} % | {:.1} % |",
            ratios[ratios.len() / 2],
            ratios[ratios.len() * 99 / 100],
            100.0 * moved.iter().sum::<f64>(),
            100.0 * most
        );
    }
}

fn jump(seeds: u64) {
    println!(
        "| owners by | before | 10 s after the jump | 60 s after | even again after | accounts moved in a round | hosts of the account |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    type Make = fn(u64) -> Box<dyn Owners>;
    let all: [Make; 6] = [
        |_| Box::new(others::Ring::new()),
        |_| Box::new(others::Rendezvous::new()),
        |_| Box::new(others::Maglev::new()),
        |_| Box::new(others::Bounded::new()),
        |_| Box::new(others::Unplanned::new()),
        |seed| Box::new(Planned::new(seed)),
    ];
    for make in all {
        let mut runs = Vec::new();
        let (mut name, mut hosts) = ("", 0);
        for seed in 1..=seeds {
            let mut owners = make(seed);
            let account = Requests::jumper(seed);
            runs.push(play(&mut *owners, seed, SECONDS, Some(account)));
            (name, hosts) = (owners.name(), owners.hosts_of(account));
        }
        let at = |second: u64| median(runs.iter().map(|run| run.ratios[second as usize]));
        let even: Vec<f64> =
            runs.iter().map(|run| run.even_again().map_or(f64::INFINITY, |s| s as f64)).collect();
        let slowest = even.iter().copied().fold(0.0, f64::max);
        let said = if slowest.is_finite() {
            format!("{:.0} s (max {slowest:.0})", median(even.into_iter()))
        } else {
            "never".to_owned()
        };
        let most = runs.iter().flat_map(|run| &run.moved[JUMPS_AT as usize..]).copied().fold(0.0, f64::max);
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} | {said} | {:.1} % | {hosts} |",
            at(JUMPS_AT - 1),
            at(JUMPS_AT + 10),
            at(JUMPS_AT + 60),
            100.0 * most
        );
    }
}

/// What was seen, second by second.
struct Run {
    /// The busiest host beside the mean, over the last seconds.
    ratios: Vec<f64>,
    /// The share of accounts that moved.
    moved: Vec<f64>,
}

impl Run {
    /// Seconds after the jump from which on load is even for a while.
    fn even_again(&self) -> Option<u64> {
        let is_even = |second: u64| self.ratios[second as usize] <= EVEN;
        // What the jump does shows once a window is full of it.
        let from = JUMPS_AT + WINDOW as u64;
        (from..SECONDS - STAYS)
            .find(|second| (*second..second + STAYS).all(is_even))
            .map(|second| second - JUMPS_AT)
    }
}

fn play(owners: &mut dyn Owners, seed: u64, seconds: u64, jumper: Option<u32>) -> Run {
    let mut requests = Requests::new(seed);
    let mut window: VecDeque<[u64; HOSTS as usize]> = VecDeque::new();
    let mut run = Run { ratios: Vec::new(), moved: Vec::new() };
    for second in 0..seconds {
        let mut loads = [0; HOSTS as usize];
        let jumped = jumper.filter(|_| second >= JUMPS_AT);
        for _ in 0..SECOND {
            let account = requests.next(jumped);
            loads[usize::from(owners.serve(second, account))] += 1;
        }
        window.push_back(loads);
        if window.len() > WINDOW {
            window.pop_front();
        }
        let of = |host: usize| window.iter().map(|loads| loads[host]).sum::<u64>();
        let most = (0..usize::from(HOSTS)).map(of).max().expect("there are hosts");
        let mean = (window.len() as u64 * SECOND) as f64 / f64::from(HOSTS);
        run.ratios.push(most as f64 / mean);
        run.moved.push(owners.tick(second));
    }
    run
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
