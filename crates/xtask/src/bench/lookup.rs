//! What a look-up over HTTP takes, beside a bare axum handler that says the same bytes: one agent with a map, one such server,
//! and one connection that asks them in turn.
//! `cargo run --release -p ringmesh-xtask -- bench lookup`

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::http::header;
use axum::routing::get;

use crate::folder::{Folder, make_private};
use crate::stop::Stop;

/// A turn asks each so often, by so many before the other is asked, that what else the machine does falls on both alike.
const REQUESTS: usize = 4_000;
const BLOCK: usize = 50;
const TURNS: usize = 15;
const KEYS: usize = 512;
const UP_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const PATH: &str = "/api/v1/maps/limiter/lookup";

/// Prints the figures.
///
/// # Errors
/// If `options` has any, or a server does not answer.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    if let [option, ..] = options {
        bail!("{option}: bench lookup has no options");
    }
    if cfg!(debug_assertions) {
        bail!("measure a release: cargo run --release -p ringmesh-xtask -- bench lookup");
    }
    let program = crate::build_release()?;
    let stop = Stop::arm()?;
    let folder = Folder::new("lookup")?;
    let (http, bare) = (free()?, free()?);
    let _agent = Server(start_agent(&program, folder.path(), http)?);
    let body = answer_of(http, &stop)?;
    let this = std::env::current_exe().context("this program cannot find itself")?;
    let mut server = Command::new(this);
    let server = server.args(["bench", "lookup-bare", &bare.port().to_string(), &body]);
    let _bare = Server(server.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("the bare server")?);
    answer_of(bare, &stop)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        stop.check()?;
        let [bare, agent] = turn([bare, http])?;
        theirs.push(bare);
        ours.push(agent);
    }
    println!(
        "one connection, {} bytes of JSON, {TURNS} turns of {REQUESTS} requests each; us (min, median, max)",
        body.len()
    );
    println!("        bare axum                agent                    agent / bare, turn by turn");
    for (name, of) in [("p50", 0), ("p99", 1)] {
        let of = |turns: &[[f64; 2]]| turns.iter().map(|turn| turn[of]).collect::<Vec<f64>>();
        let (bare, agent) = (of(&theirs), of(&ours));
        let ratios = agent.iter().zip(&bare).map(|(ours, theirs)| ours / theirs).collect();
        println!("  {name}   {}   {}   {}", spread(bare, 1), spread(agent, 1), spread(ratios, 2));
    }
    Ok(())
}

/// Says `body` to everybody who asks, until it is killed.
///
/// # Errors
/// If the port is not free.
pub(crate) fn serve(arguments: &[&str]) -> Result<()> {
    let [port, body] = arguments else { bail!("bench lookup-bare PORT BODY") };
    let (port, body): (u16, String) = (port.parse()?, (*body).to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let said = move || async move { ([(header::CONTENT_TYPE, "application/json")], body) };
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        axum::serve(listener, axum::Router::new().route(PATH, get(said))).await.context("it serves")
    })
}

/// A process that is killed with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// An agent alone, with one host in its map.
fn start_agent(program: &Path, folder: &Path, http: SocketAddr) -> Result<Child> {
    let (data, mesh, dns) = (folder.join("data"), free()?, free()?);
    make_private(&data)?;
    let config = folder.join("agent.toml");
    let text = format!(
        "[node]\nname = \"a\"\ndata_dir = {data:?}\n[mesh]\nlisten = \"{mesh}\"\n[dns]\nlisten = [\"{dns}\"]\n\
         [http]\nlisten = \"{http}\"\n[[map]]\nservice = \"limiter\"\n[[service]]\nid = \"limiter\"\nservice = \"limiter\"\n\
         [[service.endpoint]]\ntransport = \"tcp\"\naddress = \"127.0.0.1\"\nport = 7501\n"
    );
    fs::write(&config, text)?;
    let mut agent = Command::new(program);
    agent.args(["agent", "--dev", "--exit-with-parent", "--config"]).arg(config).env_clear();
    agent.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("the agent")
}

/// What a server says of a key, once it does.
fn answer_of(addr: SocketAddr, stop: &Stop) -> Result<String> {
    let until = Instant::now() + UP_WITHIN;
    loop {
        let asked = Asker::new(addr).and_then(|mut asker| asker.ask(0));
        match asked {
            Ok(body) if body.starts_with('{') && !body.contains("\"error\"") => return Ok(body),
            Ok(body) if Instant::now() > until => bail!("{addr} says {body}"),
            Err(error) if Instant::now() > until => return Err(error),
            Ok(_) | Err(_) => stop.wait_until(Instant::now() + LOOK_EVERY)?,
        }
    }
}

/// The latencies of one turn in microseconds, p50 and p99 of each server.
fn turn(servers: [SocketAddr; 2]) -> Result<[[f64; 2]; 2]> {
    let mut askers = [Asker::new(servers[0])?, Asker::new(servers[1])?];
    let mut took = [Vec::with_capacity(REQUESTS), Vec::with_capacity(REQUESTS)];
    for block in 0..REQUESTS / BLOCK {
        for (asker, took) in askers.iter_mut().zip(&mut took) {
            for number in block * BLOCK..(block + 1) * BLOCK {
                let begun = Instant::now();
                asker.ask(number)?;
                took.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    Ok(took.map(|mut took| {
        took.sort_by(f64::total_cmp);
        [took[REQUESTS / 2], took[REQUESTS * 99 / 100]]
    }))
}

/// One connection that stays open.
struct Asker {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Asker {
    fn new(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).with_context(|| addr.to_string())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The body of what is said of a key.
    fn ask(&mut self, number: usize) -> Result<String> {
        let key = number % KEYS;
        self.stream
            .write_all(format!("GET {PATH}?key=account-{key} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())?;
        self.buffer.clear();
        let mut part = [0; 8_192];
        loop {
            let read = self.stream.read(&mut part)?;
            if read == 0 {
                bail!("the connection was closed");
            }
            self.buffer.extend_from_slice(&part[..read]);
            if let Some(body) = whole(&self.buffer) {
                return Ok(String::from_utf8_lossy(body).into_owned());
            }
        }
    }
}

/// The body, once all of it has come.
fn whole(response: &[u8]) -> Option<&[u8]> {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = core::str::from_utf8(&response[..end]).ok()?.to_ascii_lowercase();
    let length: usize = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    response.get(end..end + length)
}

fn spread(mut all: Vec<f64>, digits: usize) -> String {
    all.sort_by(f64::total_cmp);
    let of = |index: usize| format!("{:.digits$}", all[index]);
    format!("{:>6} {:>6} {:>7}", of(0), of(all.len() / 2), of(all.len() - 1))
}
