//! `cargo xtask bench dns`: our DNS beside other authoritative servers, and beside a server that does no DNS. They take
//! turns on core 0 with one thread each, and are asked from core 1 over loopback.
//!
//! * [`zone`], [`questions`]: what is served and what is asked;
//! * [`servers`]: who is measured; [`echo`] is the one that does no DNS;
//! * [`load`]: who asks, with [`latencies`];
//! * [`process`], [`windows`]: both for a while, and what it costs meanwhile;
//! * [`figures`]: what is measured, for people and programs.

pub(crate) mod echo;
mod figures;
mod latencies;
pub(crate) mod load;
mod process;
mod questions;
mod servers;
mod windows;
mod zone;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hickory_proto::rr::RecordType;

use crate::folder::{self, Folder};
use crate::stop::Stop;
use crate::tests::{install, is_there};
use figures::{Figure, Samples};
use process::ask;
use questions::Mix;
use servers::{Server, Site};
use windows::{Running, Window};

const USAGE: &str = "usage: cargo xtask bench dns [OPTION…]

  --runs 3       rounds, in each of which every server has its turn
  --seconds 3    length of what is measured of each, twice: saturated, and at 10,000 questions a second
  --mix srv      srv: SRV only; mix: SRV 70, A 15, AAAA 5 and NXDOMAIN 10 %
  --all          measure hickory-dns too, if it is on the PATH
  --binary PATH  the ringmesh to measure, instead of building one for release
  --json         an object for each server, a line each";
/// Programs that are needed, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 4] =
    [("knotd", "knot"), ("nsd", "nsd"), ("setpriv", "util-linux"), ("taskset", "util-linux")];
const HICKORY: &str = "hickory-dns";
/// Cores: one for the server, one for the load.
const CORES_MIN: usize = 2;
/// Questions a second, at open loop.
const RATE: u32 = 10_000;
/// Seconds that our answers are looked at, to know how long they are.
const LOOK_S: f64 = 0.3;

/// What somebody wants to be measured.
#[derive(Debug, PartialEq, Eq)]
struct Wishes {
    runs: u32,
    seconds: u32,
    mix: Mix,
    is_all: bool,
    binary: Option<PathBuf>,
    is_json: bool,
}

impl Wishes {
    fn read(arguments: &[&str]) -> Result<Self> {
        let mut wishes =
            Self { runs: 3, seconds: 3, mix: Mix::Srv, is_all: false, binary: None, is_json: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} wants a value\n{USAGE}"));
            let number = |text: &str| {
                let number = text.parse::<u32>().ok().filter(|number| *number > 0);
                number.with_context(|| format!("{argument} {text}: write a number above 0"))
            };
            match *argument {
                "--runs" => wishes.runs = number(value()?)?,
                "--seconds" => wishes.seconds = number(value()?)?,
                "--mix" => {
                    let text = value()?;
                    wishes.mix =
                        Mix::read(text).with_context(|| format!("--mix {text}: write srv or mix"))?;
                }
                "--all" => wishes.is_all = true,
                "--binary" => wishes.binary = Some(value()?.into()),
                "--json" => wishes.is_json = true,
                other => bail!("{other} is no option\n{USAGE}"),
            }
        }
        Ok(wishes)
    }

    /// Who is measured, in order. What is left out is said.
    fn servers(&self) -> Vec<Server> {
        let mut servers = vec![Server::Ringmesh, Server::Knot, Server::Nsd];
        match (self.is_all, is_there(HICKORY)) {
            (true, true) => servers.push(Server::Hickory),
            (true, false) => eprintln!("bench: {HICKORY} is not on the PATH, so it is left out"),
            (false, _) => {}
        }
        servers
    }
}

/// Measures what `options` name.
///
/// # Errors
/// If something is missing on this machine, or a server does not answer.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let wishes = Wishes::read(options)?;
    check_machine()?;
    let program = wishes.binary.clone().map_or_else(crate::build_release, Ok)?;
    let program = program
        .canonicalize()
        .with_context(|| format!("{} cannot be measured: give --binary a program", program.display()))?;
    let stop = Stop::arm()?;
    folder::sweep()?;
    let folder = Folder::new("bench-dns")?;
    let site = Site::new(folder.path(), program)?;
    let mut bench = Bench::prepare(&wishes, &site, &stop)?;
    let servers = wishes.servers();
    for run in 1..=wishes.runs {
        eprintln!("bench: round {run} of {}", wishes.runs);
        servers.iter().try_for_each(|server| bench.turn(*server))?;
        bench.open_loop(Server::Echo)?;
    }
    show(&wishes, &[&[Server::Echo], servers.as_slice()].concat(), &bench.samples);
    Ok(())
}

/// Installs what is missing, and says what still is.
fn check_machine() -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    if cores < CORES_MIN {
        bail!("a server and who asks it take a core each, and this machine has {cores}");
    }
    install(&PROGRAMS)
        .context("what is missing cannot be installed: install the packages knot and nsd first")?;
    for (program, package) in PROGRAMS {
        if !is_there(program) {
            bail!("{program} is not on this machine: install {package}, or put the program into PATH");
        }
    }
    Ok(())
}

/// What is measured, so far.
struct Bench<'a> {
    site: &'a Site,
    stop: &'a Stop,
    seconds: f64,
    /// Questions for Ringmesh, which names hosts by their addresses, and for those that read the zone file.
    ours: PathBuf,
    theirs: PathBuf,
    echo_bytes: usize,
    samples: Samples,
}

impl<'a> Bench<'a> {
    /// Writes the questions; learns from Ringmesh what its hosts are called and how long its answers are.
    fn prepare(wishes: &Wishes, site: &'a Site, stop: &'a Stop) -> Result<Self> {
        let write = |name: &str, hosts: &[String]| -> Result<PathBuf> {
            let path = site.folder.join(name);
            fs::write(&path, wishes.mix.draw(hosts))?;
            Ok(path)
        };
        let hosts: Vec<String> = zone::services().map(|service| zone::host(&service, 1)).collect();
        let theirs = write("questions-file", &hosts)?;
        let ringmesh = Running::start(Server::Ringmesh, site, 0, stop)?;
        let ours = write("questions-ringmesh", &hosts_of(&ringmesh)?)?;
        let answers = ringmesh.window(&ours, LOOK_S, None)?;
        let echo_bytes = answers.bytes_mean.round() as usize;
        eprintln!("bench: our answers have {echo_bytes} bytes on average, and so have those of echo");
        let (seconds, samples) = (wishes.seconds.into(), Samples::default());
        Ok(Self { site, stop, seconds, ours, theirs, echo_bytes, samples })
    }

    /// Saturates the echo, then the server; then asks the server at a rate.
    fn turn(&mut self, server: Server) -> Result<()> {
        let echo = self.start(Server::Echo)?;
        let limit = self.saturate(&echo, Server::Echo)?;
        drop(echo);
        let running = self.start(server)?;
        let window = self.saturate(&running, server)?;
        self.samples.note(server, Figure::Ratio, window.cpu_us / limit.cpu_us);
        self.at_rate(&running, server)
    }

    /// Asks a server at a rate only.
    fn open_loop(&mut self, server: Server) -> Result<()> {
        let running = self.start(server)?;
        self.at_rate(&running, server)
    }

    fn start(&self, server: Server) -> Result<Running<'a>> {
        Running::start(server, self.site, self.echo_bytes, self.stop)
    }

    fn questions(&self, server: Server) -> &Path {
        if server.reads_file() { &self.theirs } else { &self.ours }
    }

    fn saturate(&mut self, running: &Running<'_>, server: Server) -> Result<Window> {
        let window = running.window(self.questions(server), self.seconds, None)?;
        eprintln!(
            "bench:   {:<8} {:>7.0} answers/s of {:.0} bytes, {:.3} us of CPU each, core {:.0} % busy",
            server.name(),
            window.qps,
            window.bytes_mean,
            window.cpu_us,
            window.busy * 100.0
        );
        self.samples.note(server, Figure::Qps, window.qps);
        self.samples.note(server, Figure::Cpu, window.cpu_us);
        self.samples.note(server, Figure::Lost, window.lost);
        Ok(window)
    }

    fn at_rate(&mut self, running: &Running<'_>, server: Server) -> Result<()> {
        let window = running.window(self.questions(server), self.seconds, Some(RATE))?;
        let (p50_us, p99_us) = (window.p50_us, window.p99_us);
        eprintln!(
            "bench:   {:<8} {:>7.0} answers/s: p50 {p50_us:.1} us, p99 {p99_us:.1} us",
            server.name(),
            window.qps
        );
        self.samples.note(server, Figure::P50, p50_us);
        self.samples.note(server, Figure::P99, p99_us);
        self.samples.note(server, Figure::Lost, window.lost);
        Ok(())
    }
}

/// The hosts that the answers of a server name as targets.
fn hosts_of(running: &Running<'_>) -> Result<Vec<String>> {
    let mut hosts = Vec::new();
    for service in zone::services() {
        let name = zone::srv_name(&service);
        let answer = ask(running.port, &questions::request(&name, RecordType::SRV)?);
        hosts.extend(questions::targets(&answer.with_context(|| format!("{name} is not answered"))?)?);
    }
    Ok(hosts)
}

fn show(wishes: &Wishes, servers: &[Server], samples: &Samples) {
    if wishes.is_json {
        servers.iter().for_each(|server| println!("{}", figures::json(*server, wishes.mix.name(), samples)));
    } else {
        figures::lines(servers, samples).iter().for_each(|line| println!("{line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_and_what_is_none_is_refused() {
        let wishes = Wishes::read(&["--runs", "5", "--mix", "mix", "--all", "--json"]).expect("is read");
        let want = Wishes { runs: 5, seconds: 3, mix: Mix::Mixed, is_all: true, binary: None, is_json: true };
        assert_eq!(wishes, want);
        for (wrong, says) in [
            (&["--runs"][..], "--runs wants a value"),
            (&["--seconds", "0"], "--seconds 0: write a number above 0"),
            (&["--mix", "a"], "--mix a: write srv or mix"),
            (&["fast"], "fast is no option"),
        ] {
            let error = Wishes::read(wrong).expect_err("is refused").to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
