//! Agents of the tests' own, with a CA of the tests' own, so that certificates can be wrong on purpose.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use ringmesh_agent::pki::{Authority, Issued, Validity};

use super::{Folder, Process, RINGMESH};

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

pub(crate) fn lasting() -> Validity {
    Validity { not_before_unix_s: now() - 3_600, not_after_unix_s: now() + 86_400 }
}

/// An agent that is configured but may not run.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) zone: String,
    pub(crate) cluster: String,
    pub(crate) ip: String,
    pub(crate) mesh: u16,
    pub(crate) http: u16,
    pub(crate) dns: u16,
    pub(crate) seeds: Vec<String>,
    pub(crate) extra: String,
}

impl Config {
    /// The `index`th agent of a mesh on 127.0.0.1 whose ports begin at `base`; the first one is the seed.
    pub(crate) fn local(base: u16, index: u16) -> Self {
        Self {
            name: format!("node-{index}"),
            zone: "z".to_owned(),
            cluster: "test".to_owned(),
            ip: "127.0.0.1".to_owned(),
            mesh: base + index,
            http: base + 100 + index,
            dns: base + 200 + index,
            seeds: vec![format!("127.0.0.1:{base}")],
            extra: String::new(),
        }
    }

    pub(crate) fn mesh_addr(&self) -> SocketAddr {
        format!("{}:{}", self.ip, self.mesh).parse().expect("an address")
    }

    pub(crate) fn http_addr(&self) -> SocketAddr {
        format!("127.0.0.1:{}", self.http).parse().expect("an address")
    }

    pub(crate) fn dns_addr(&self) -> SocketAddr {
        format!("127.0.0.1:{}", self.dns).parse().expect("an address")
    }

    /// Writes configuration and certificates into `folder`; returns the path of the configuration.
    pub(crate) fn write(&self, folder: &Folder, ca_pem: &str, issued: &Issued) -> String {
        let name = &self.name;
        let certificate = folder.write(&format!("{name}.pem"), &issued.cert_pem);
        let key = folder.write(&format!("{name}.key"), &issued.key_pem);
        let ca = folder.write(&format!("{name}.ca"), ca_pem);
        let mut text = format!(
            "[node]\nname = \"{name}\"\nzone = \"{}\"\ncluster = \"{}\"\ndata_dir = \"{}\"\n",
            self.zone,
            self.cluster,
            folder.file(&format!("{name}.data"))
        );
        let seeds: Vec<String> = self.seeds.iter().map(|seed| format!("{seed:?}")).collect();
        let _ = write!(
            text,
            "[mesh]\nlisten = \"{}\"\nseeds = [{}]\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\nca = {ca:?}\n\
             [http]\nlisten = \"127.0.0.1:{}\"\n",
            self.mesh_addr(),
            seeds.join(", "),
            self.http
        );
        let _ = writeln!(text, "[dns]\nlisten = [\"127.0.0.1:{}\"]", self.dns);
        text.push_str(&self.extra);
        folder.write(&format!("{name}.toml"), &text)
    }

    /// Writes everything with a certificate of `authority`, and starts the agent.
    pub(crate) fn start(&self, folder: &Folder, authority: &Authority) -> Process {
        let (cluster, name) = (self.cluster.parse().expect("a name"), self.name.parse().expect("a name"));
        let issued = authority.issue(&cluster, &name, lasting()).expect("issues");
        let path = self.write(folder, authority.cert_pem(), &issued);
        start(folder, &self.name, &path, &[])
    }
}

/// Starts an agent from a configuration that is there already, its words in `<name>.log`.
pub(crate) fn start(folder: &Folder, name: &str, path: &str, before: &[&str]) -> Process {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.0.join(format!("{name}.log")))
        .expect("a log");
    let words = [before, &[RINGMESH, "agent", "--config", path]].concat();
    Process::start(Command::new(words[0]).args(&words[1..]).stderr(log).stdout(Stdio::null()))
}

pub(crate) fn authority(cluster: &str) -> Authority {
    Authority::generate(&cluster.parse().expect("a name"), now()).expect("generates")
}

/// A section of the configuration: one instance with one UDP endpoint, whose death is seen within 1.4 s.
pub(crate) fn service(
    id: &str,
    service: &str,
    protocol: &str,
    address: &str,
    port: u16,
    check: &str,
) -> String {
    format!(
        "\n[[service]]\nid = \"{id}\"\nservice = \"{service}\"\n[[service.endpoint]]\nprotocol = \"{protocol}\"\n\
         transport = \"udp\"\naddress = \"{address}\"\nport = {port}\n[[service.endpoint.check]]\ntype = \"{check}\"\n\
         interval = \"500ms\"\ntimeout = \"300ms\"\nrise = 1\nfall = 2\n"
    )
}
