//! Sockets that a service manager holds: while the agent restarts, questions wait in them, and every one is answered.

mod support;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use support::mesh::{Config, authority, lasting};
use support::{Folder, Process, RINGMESH, signal, try_http, within};

/// Starts the agent as a service manager does: the sockets are its descriptors 3 and 4.
const LIKE_A_SERVICE_MANAGER: &str =
    "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" agent --config \"$1\" 3<&0 4<&1 </dev/null >&2";

struct Held {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Held {
    fn start(&self, folder: &Folder, config: &Config, path: &str) -> Process {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.file("agent.log"));
        let udp = OwnedFd::from(self.udp.try_clone().expect("a descriptor"));
        let tcp = OwnedFd::from(self.tcp.try_clone().expect("a descriptor"));
        let child = Command::new("sh")
            .args(["-c", LIKE_A_SERVICE_MANAGER, RINGMESH, path])
            .stdin(Stdio::from(udp))
            .stdout(Stdio::from(tcp))
            .stderr(log.expect("a log"))
            .spawn()
            .expect("sh is there");
        let process = Process(child);
        within(Duration::from_secs(5), "the agent is there", || {
            try_http(config.http_addr(), "GET", "/healthz", "").is_some()
        });
        process
    }
}

/// Asks for the agent's own address, by number.
fn question(number: u16) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in ["node-0", "n", "ringmesh", "internal"] {
        bytes.push(u8::try_from(label.len()).expect("short"));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

#[test]
fn no_question_is_lost_while_the_agent_restarts() {
    let folder = Folder::new("inherited");
    let config = Config { seeds: Vec::new(), ..Config::local(29_300, 0) };
    let ca = authority("test");
    let (cluster, name) = (config.cluster.parse().expect("a name"), config.name.parse().expect("a name"));
    let issued = ca.issue(&cluster, &name, lasting()).expect("issues");
    let path = config.write(&folder, ca.cert_pem(), &issued);
    let held = Held {
        udp: UdpSocket::bind(config.dns_addr()).expect("the port is free"),
        tcp: TcpListener::bind(config.dns_addr()).expect("the port is free"),
    };
    let asker = UdpSocket::bind("127.0.0.1:0").expect("a port");
    asker.connect(config.dns_addr()).expect("loopback is there");
    asker.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");

    let mut agent = held.start(&folder, &config, &path);
    let mut asked = 0..=u16::MAX;
    let mut ask = || -> BTreeSet<u16> {
        let numbers: BTreeSet<u16> = asked.by_ref().take(20).collect();
        numbers.iter().for_each(|number| assert!(asker.send(&question(*number)).is_ok(), "it is sent"));
        numbers
    };
    for end in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut open = ask();
        signal(agent.pid(), end);
        open.append(&mut ask());
        agent.wait();
        if end == Signal::SIGKILL {
            // What it had received went with it; resolvers ask that again.
            open.clear();
        }
        open.append(&mut ask());
        agent = held.start(&folder, &config, &path);
        open.append(&mut ask());
        let mut answer = [0; 512];
        while !open.is_empty() {
            let length = asker.recv(&mut answer).unwrap_or_else(|error| panic!("{end}: {error}: {open:?}"));
            assert!(length > question(0).len(), "it holds an address");
            open.remove(&u16::from_be_bytes([answer[0], answer[1]]));
        }
    }
    let addr: SocketAddr = config.dns_addr();
    let answer = support::dig(addr, &["+tcp", "node-0.n.ringmesh.internal", "A"]);
    assert_eq!(answer, ["127.0.0.1"], "TCP is served on the inherited listener, too");
}

#[test]
fn a_given_socket_that_is_in_the_way_or_is_none_is_named() {
    let folder = Folder::new("in-the-way");
    let config = Config { seeds: Vec::new(), ..Config::local(32_510, 0) };
    let ca = authority("test");
    let (cluster, name) = (config.cluster.parse().expect("a name"), config.name.parse().expect("a name"));
    let path = config.write(&folder, ca.cert_pem(), &ca.issue(&cluster, &name, lasting()).expect("issues"));
    let check = |first: Stdio, second: Stdio, want: &str| {
        let output = Command::new("sh")
            .args(["-c", LIKE_A_SERVICE_MANAGER, RINGMESH, &path])
            .stdin(first)
            .stdout(second)
            .stderr(Stdio::piped())
            .output()
            .expect("sh is there");
        let says = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && says.contains(want), "{want} should be in {says}");
    };
    let (everywhere, own) = (SocketAddr::from(([0; 4], config.dns)), config.dns_addr());
    let udp = |addr| Stdio::from(OwnedFd::from(UdpSocket::bind(addr).expect("the port is free")));
    let tcp = |addr| Stdio::from(OwnedFd::from(TcpListener::bind(addr).expect("the port is free")));
    let gave = "The service manager gave a socket that takes it";
    check(
        udp(everywhere),
        tcp(own),
        &format!(
            "dns.listen: {own} cannot be bound over udp: Address already in use (os error 98). {gave}, {everywhere} over udp: "
        ),
    );
    check(
        udp(own),
        tcp(everywhere),
        &format!(
            "dns.listen: {own} cannot be bound over tcp: Address already in use (os error 98). {gave}, {everywhere} over tcp: "
        ),
    );
    check(
        udp(own),
        Stdio::null(),
        "LISTEN_FDS: socket 2 of those that the service manager gave cannot be used: ",
    );
}
