//! What the tests with real processes share: a demo, questions to it, and waiting for what must come.
#![allow(dead_code, reason = "each test file uses a part of this")]

pub(crate) mod mesh;
pub(crate) mod namespace;
pub(crate) mod unbound;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const RINGMESH: &str = env!("CARGO_BIN_EXE_ringmesh");
pub(crate) const DOMAIN: &str = "ringmesh.internal";

/// Whether `program` is here; if tests must not be skipped, it must be.
pub(crate) fn has(program: &str) -> bool {
    let paths = std::env::var("PATH").unwrap_or_default();
    let is_there = paths
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|folder| PathBuf::from(folder).join(program).exists());
    assert!(is_there || !is_all_required(), "{program} is not on this machine, and nothing may be skipped");
    if !is_there {
        println!("skipped: {program} is not on this machine");
    }
    is_there
}

pub(crate) fn is_all_required() -> bool {
    std::env::var("RINGMESH_REQUIRE_ALL").is_ok_and(|value| value == "1")
}

pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0\n"))
}

/// A folder of the test's own, removed at its end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringmesh-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).expect("a file can be written");
        self.file(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The path of a file of `deploy/dns`.
pub(crate) fn fragment(name: &str) -> String {
    format!("{}/../../deploy/dns/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A process that ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("the process can be started"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.0.wait().expect("the process ends")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    nix::sys::signal::kill(pid, signal).expect("the process is there");
}

/// Whether a process has ended, reaped or not.
pub(crate) fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_zombie = stat.contains(") Z ");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    is_zombie || nix::sys::signal::kill(pid, None).is_err()
}

/// Waits until `is_reached`, asked every 10 ms; says how long that took.
#[track_caller]
pub(crate) fn within(limit: Duration, what: &str, mut is_reached: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_reached() {
        assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    begun.elapsed()
}

/// An HTTP answer: status and JSON.
pub(crate) fn http(addr: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    try_http(addr, method, path, body).expect("the agent answers")
}

pub(crate) fn try_http(addr: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let _ = stream.write_all(body.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    Some((status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()))))
}

/// What `dig +short` finds; nothing if there is no answer.
pub(crate) fn dig(addr: SocketAddr, arguments: &[&str]) -> Vec<String> {
    let lines = dig_full(addr, &[arguments, &["+short"]].concat());
    let mut lines: Vec<String> =
        lines.lines().map(str::to_owned).filter(|line| !line.is_empty() && !line.starts_with(';')).collect();
    lines.sort();
    lines
}

/// Everything that `dig` says.
pub(crate) fn dig_full(addr: SocketAddr, arguments: &[&str]) -> String {
    let (at, port) = (format!("@{}", addr.ip()), addr.port().to_string());
    let output = Command::new("dig")
        .args([at.as_str(), "-p", &port, "+tries=1", "+time=2"])
        .args(arguments)
        .output()
        .expect("dig runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A demo that is ready.
pub(crate) struct Demo {
    pub(crate) process: Process,
    pub(crate) ready: Value,
    /// Agents that were started again.
    pub(crate) restarted: Vec<Process>,
}

/// One agent of a demo.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) node: String,
    pub(crate) pid: u32,
    pub(crate) argv: Vec<String>,
    pub(crate) dns: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) mesh: SocketAddr,
}

impl Demo {
    /// Starts a demo whose ports are `offset` above the usual ones.
    pub(crate) fn start(offset: u16) -> Self {
        let mut process = Process(
            Command::new(RINGMESH)
                .args(["demo", "--json", "--base-offset", &offset.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the demo starts"),
        );
        let output = process.0.stdout.take().expect("is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("the demo says something");
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line:?}"));
        assert_eq!(ready["event"], "ready", "{line}");
        Self { process, ready, restarted: Vec::new() }
    }

    pub(crate) fn agents(&self) -> Vec<Agent> {
        let addr = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).expect("an address");
        let agents = self.ready["agents"].as_array().expect("agents");
        agents
            .iter()
            .map(|agent| Agent {
                node: agent["node"].as_str().expect("a name").to_owned(),
                pid: u32::try_from(agent["pid"].as_u64().expect("a pid")).expect("a pid"),
                argv: agent["argv"]
                    .as_array()
                    .expect("arguments")
                    .iter()
                    .map(|part| part.as_str().expect("text").to_owned())
                    .collect(),
                dns: addr(&agent["dns"]),
                http: addr(&agent["http"]),
                mesh: addr(&agent["mesh"]),
            })
            .collect()
    }

    pub(crate) fn pid_of_instance(&self, id: &str) -> u32 {
        let instances = self.ready["instances"].as_array().expect("instances");
        let instance = instances.iter().find(|instance| instance["id"] == id).expect("is in the demo");
        u32::try_from(instance["pid"].as_u64().expect("a pid")).expect("a pid")
    }

    /// Starts an agent again that was ended.
    pub(crate) fn restart(&mut self, agent: &Agent) -> u32 {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(agent.argv[3].replace(".toml", ".again.log"))
            .expect("a log");
        let process = Process::start(
            Command::new(&agent.argv[0]).args(&agent.argv[1..]).stderr(log).stdout(Stdio::null()),
        );
        let pid = process.pid();
        self.restarted.push(process);
        pid
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.process.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.process.pid(), nix::sys::signal::Signal::SIGTERM);
            let _ = self.process.0.wait();
        }
    }
}

/// The state in which `observer` sees `node`.
pub(crate) fn state_of(observer: SocketAddr, node: &str) -> String {
    let Some((_, members)) = try_http(observer, "GET", "/api/v1/members", "") else {
        return String::new();
    };
    let members = members.as_array().cloned().unwrap_or_default();
    let member = members.iter().find(|member| member["node"] == node);
    member.and_then(|member| member["state"].as_str()).unwrap_or_default().to_owned()
}

/// How many members `observer` sees alive.
pub(crate) fn alive_at(observer: SocketAddr) -> usize {
    let Some((_, members)) = try_http(observer, "GET", "/api/v1/members", "") else {
        return 0;
    };
    members.as_array().map_or(0, |members| members.iter().filter(|member| member["state"] == "Alive").count())
}
