//! What was recorded, and the page made of it.

use core::fmt::{self, Write as _};
use core::str::FromStr;
use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

use crate::cell::{Cell, Counts, Plan};

/// One cell of one system, all seeds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    system: String,
    nodes: usize,
    slow: usize,
    hold_ms: u128,
    free_ms: u128,
    seeds: u64,
    false_positives: u64,
    by_healthy: u64,
    /// When the first and the last healthy member knew of the crash, in ms, by seed; none if one never did.
    first: Vec<Option<u128>>,
    last: Vec<Option<u128>>,
    messages: u64,
    bytes: u64,
}

impl Line {
    pub(crate) fn of(system: &str, plan: &Plan, cell: Cell, runs: &[Counts]) -> Self {
        let healthy = plan.nodes - 1 - cell.slow;
        let crashes = || runs.iter().map(|run| run.crash.as_ref());
        Self {
            system: system.to_owned(),
            nodes: plan.nodes,
            slow: cell.slow,
            hold_ms: cell.hold.as_millis(),
            free_ms: cell.free.as_millis(),
            seeds: plan.seeds,
            false_positives: runs.iter().map(|run| run.false_positives).sum(),
            by_healthy: runs.iter().map(|run| run.false_positives_by_healthy).sum(),
            first: crashes().map(|crash| Some(crash?.first()?.as_millis())).collect(),
            last: crashes().map(|crash| Some(crash?.last(healthy)?.as_millis())).collect(),
            messages: runs.iter().map(|run| run.messages).sum(),
            bytes: runs.iter().map(|run| run.bytes).sum(),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |times: &[Option<u128>]| {
            let all = times.iter().map(|time| time.map_or_else(|| "-".to_owned(), |time| time.to_string()));
            all.collect::<Vec<_>>().join(",")
        };
        writeln!(
            f,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            self.system,
            self.nodes,
            self.slow,
            self.hold_ms,
            self.free_ms,
            self.seeds,
            self.false_positives,
            self.by_healthy,
            list(&self.first),
            list(&self.last),
            self.messages,
            self.bytes
        )
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split('\t').collect();
        let [system, nodes, slow, hold, free, seeds, positives, by_healthy, first, last, messages, bytes] =
            fields[..]
        else {
            return Err(format!("{text:?} has not twelve fields"));
        };
        let list = |text: &str| -> Result<Vec<Option<u128>>, String> {
            text.split(',').map(|time| if time == "-" { Ok(None) } else { number(time).map(Some) }).collect()
        };
        Ok(Self {
            system: system.to_owned(),
            nodes: number(nodes)?,
            slow: number(slow)?,
            hold_ms: number(hold)?,
            free_ms: number(free)?,
            seeds: number(seeds)?,
            false_positives: number(positives)?,
            by_healthy: number(by_healthy)?,
            first: list(first)?,
            last: list(last)?,
            messages: number(messages)?,
            bytes: number(bytes)?,
        })
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// Makes `lifeguard.md` and a chart for each size of mesh in `folder`, of what is in `record`.
pub(crate) fn write(record: &Path, folder: &Path) -> io::Result<()> {
    let text = fs::read_to_string(record)?;
    let lines: Result<Vec<Line>, String> = text.lines().map(str::parse).collect();
    let lines = merged(lines.map_err(io::Error::other)?);
    let sizes: BTreeSet<usize> = lines.iter().map(|line| line.nodes).collect();
    let mut page = HEAD.to_owned();
    for nodes in sizes {
        let of_size: Vec<&Line> = lines.iter().filter(|line| line.nodes == nodes).collect();
        let systems = systems(&of_size);
        let chart = format!("lifeguard-{nodes}.svg");
        fs::write(folder.join(&chart), draw(&systems))?;
        let _ = write!(page, "\n## {nodes} members\n\n![False positives of each system]({chart})\n\n");
        page += &table(&systems);
        page += &cells(&systems);
    }
    fs::write(folder.join("lifeguard.md"), page)
}

/// Lines of one cell and system that were recorded apart, with other seeds, are one.
fn merged(lines: Vec<Line>) -> Vec<Line> {
    let mut merged: Vec<Line> = Vec::new();
    for line in lines {
        let cell = |line: &Line| (line.nodes, line.slow, line.hold_ms, line.free_ms);
        let same = |other: &&mut Line| other.system == line.system && cell(other) == cell(&line);
        match merged.iter_mut().find(same) {
            Some(sum) => {
                sum.seeds += line.seeds;
                sum.false_positives += line.false_positives;
                sum.by_healthy += line.by_healthy;
                sum.first.extend(line.first);
                sum.last.extend(line.last);
                sum.messages += line.messages;
                sum.bytes += line.bytes;
            }
            None => merged.push(line),
        }
    }
    merged
}

const HEAD: &str = "# Lifeguard's interval experiment

C members are slow at once: what they send and receive is held for D, passes for I, and so on, for 120 s; one other member
crashes (Dadgar, Phillips, Currey: Lifeguard, DSN 2018, section V). Every system runs on virtual time over the same links
(1 ms), with a probe a second. `foca` is plain SWIM as that library does it; in *hearers arm* every member that hears of a
suspicion times it, as in memberlist, and not the prober alone. *Votes only* is Ringmesh with none of Lifeguard's parts,
each row with a + has one of them, the last all: that is what is shipped.

A false positive: an observer declares a member Down that is neither slow nor crashed; *by healthy*: the observer is not slow
either. *Blind*: runs at whose end a healthy member did not know of the crash. Counts are absolute; rows with fewer seeds have
fewer runs, which *a run* takes into account.

`cargo run --release -p ringmesh-sim --example lifeguard -- --record docs/results/lifeguard.tsv --page docs/results`
(`--only NAME`, `--seeds N` and `--nodes N` choose rows, and with a name that fits none only the page is made; 128 members
have 48 cells, more than 500 have six).
";

/// The lines of one system.
struct System<'a> {
    name: &'a str,
    lines: Vec<&'a Line>,
}

impl System<'_> {
    fn sum(&self, of: impl Fn(&Line) -> u64) -> u64 {
        self.lines.iter().map(|line| of(line)).sum()
    }

    fn runs(&self) -> u64 {
        self.sum(|line| line.seeds)
    }

    fn per_run(&self) -> f64 {
        self.sum(|line| line.false_positives) as f64 / self.runs() as f64
    }

    /// Median and 99th percentile in seconds, of those that are known.
    fn times(&self, of: impl Fn(&Line) -> &[Option<u128>]) -> String {
        let mut all: Vec<f64> =
            self.lines.iter().flat_map(|line| of(line)).flatten().map(|ms| *ms as f64 / 1_000.0).collect();
        all.sort_by(f64::total_cmp);
        let at = |share| ringmesh_sim::outcome::quantile(&all, share).unwrap_or(f64::NAN);
        format!("{:.2} / {:.2}", at(0.5), at(0.99))
    }

    fn blind(&self) -> usize {
        self.lines.iter().flat_map(|line| &line.last).filter(|time| time.is_none()).count()
    }

    fn per_node_second(&self, sum: u64) -> f64 {
        let nodes = self.lines.first().map_or(0, |line| line.nodes);
        sum as f64 / (self.runs() as f64 * nodes as f64 * Plan::LENGTH.as_secs_f64())
    }
}

/// In the order of the record.
fn systems<'a>(lines: &[&'a Line]) -> Vec<System<'a>> {
    let mut systems: Vec<System<'a>> = Vec::new();
    for line in lines {
        match systems.iter_mut().find(|system| system.name == line.system) {
            Some(system) => system.lines.push(line),
            None => systems.push(System { name: &line.system, lines: vec![line] }),
        }
    }
    systems
}

fn table(systems: &[System<'_>]) -> String {
    let plain = systems.first().map_or(f64::NAN, System::per_run);
    let mut table = "| | runs | false positives | by healthy | a run | fewer than foca | crash known to the first, median / p99 s | to the last | blind | messages a member and s | bytes |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n".to_owned();
    for system in systems {
        let false_positives = system.sum(|line| line.false_positives);
        let fewer = match false_positives {
            0 => "none at all".to_owned(),
            _ => format!("{:.0} ×", plain / system.per_run()),
        };
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {:.2} | {fewer} | {} | {} | {} | {:.1} | {:.0} |",
            system.name,
            system.runs(),
            false_positives,
            system.sum(|line| line.by_healthy),
            system.per_run(),
            system.times(|line| &line.first),
            system.times(|line| &line.last),
            system.blind(),
            system.per_node_second(system.sum(|line| line.messages)),
            system.per_node_second(system.sum(|line| line.bytes)),
        );
    }
    table
}

/// False positives a run of the first and the last system, cell by cell.
fn cells(systems: &[System<'_>]) -> String {
    let ([plain, ..], [.., ours]) = (systems, systems) else {
        return String::new();
    };
    let mut table = format!(
        "\nFalse positives a run, cell by cell:\n\n| C | D | I | {} | {} |\n|--:|--:|--:|--:|--:|\n",
        plain.name, ours.name
    );
    let per_run = |line: &Line| line.false_positives as f64 / line.seeds as f64;
    for line in &plain.lines {
        let cell = |line: &Line| (line.slow, line.hold_ms, line.free_ms);
        let same = ours.lines.iter().find(|other| cell(other) == cell(line));
        let count = same.map_or_else(|| "-".to_owned(), |same| format!("{:.1}", per_run(same)));
        let _ = writeln!(
            table,
            "| {} | {} ms | {} ms | {:.1} | {count} |",
            line.slow,
            line.hold_ms,
            line.free_ms,
            per_run(line)
        );
    }
    table
}

const ROW: usize = 34;
const LEFT: f64 = 190.0;
const WIDE: f64 = 560.0;

/// A bar for each system on a scale of powers of ten, from a thousandth of a false positive a run on.
fn draw(systems: &[System<'_>]) -> String {
    let most = systems.iter().map(System::per_run).fold(1.0, f64::max).log10().ceil();
    let place = |value: f64| LEFT + WIDE * ((value.max(0.001).log10() + 3.0) / (most + 3.0));
    let height = systems.len() * ROW + 60;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 830 {height}\" font-family=\"sans-serif\" font-size=\"13\">\n<title>False positives a run</title>\n<rect width=\"830\" height=\"{height}\" fill=\"#fff\"/>\n<text x=\"8\" y=\"20\" font-weight=\"bold\">False positives a run (each step is ten times as many)</text>\n"
    );
    let mut power = -3.0;
    while power <= most {
        let (x, bottom) = (place(10_f64.powf(power)), height - 22);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} 32V{bottom}\" stroke=\"#ddd\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{}</text>",
            height - 8,
            10_f64.powf(power)
        );
        power += 1.0;
    }
    for (index, system) in systems.iter().enumerate() {
        let (y, end) = (36 + index * ROW, place(system.per_run()));
        let colour = if system.name.starts_with("foca") { "#a33" } else { "#276" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"{LEFT:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"20\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{}\">{:.2}</text>",
            LEFT - 8.0,
            y + 15,
            system.name,
            end - LEFT,
            end + 6.0,
            y + 15,
            system.per_run()
        );
    }
    svg + "</svg>\n"
}
