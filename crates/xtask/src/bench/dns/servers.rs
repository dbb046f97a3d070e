//! Who is measured, how each is started, and the files it reads. Each has one thread or process that answers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::zone::DOMAIN;
use crate::folder::make_private;
use crate::namespace;

const ZONE_FILE: &str = "voip.zone";

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    /// No DNS at all: what is below is the kernel's.
    Echo,
    /// Ours.
    Ringmesh,
    /// Knot DNS.
    Knot,
    /// NSD.
    Nsd,
    /// Hickory DNS.
    Hickory,
}

impl Server {
    /// What it is called, for people and programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Ringmesh => "ringmesh",
            Self::Knot => "knot",
            Self::Nsd => "nsd",
            Self::Hickory => "hickory",
        }
    }

    /// Whether it answers questions.
    pub(crate) fn is_dns(self) -> bool {
        self != Self::Echo
    }

    /// Whether it reads the zone file.
    pub(crate) fn reads_file(self) -> bool {
        !matches!(self, Self::Echo | Self::Ringmesh)
    }
}

/// What it takes to start servers.
pub(crate) struct Site {
    /// Everything that servers read and write.
    pub(crate) folder: PathBuf,
    /// The ringmesh that is measured.
    pub(crate) ringmesh: PathBuf,
    /// This program.
    pub(crate) xtask: PathBuf,
}

impl Site {
    /// Writes the zone file.
    pub(crate) fn new(folder: &Path, ringmesh: PathBuf) -> Result<Self> {
        fs::write(folder.join(ZONE_FILE), super::zone::file())?;
        Ok(Self { folder: folder.to_owned(), ringmesh, xtask: std::env::current_exe()? })
    }

    /// The words that start a server on a port of 127.0.0.1; writes what it reads. An echo answers with so many bytes.
    pub(crate) fn command(&self, server: Server, port: u16, echo_bytes: usize) -> Result<Vec<String>> {
        let own = self.folder.join(server.name());
        if !own.exists() {
            make_private(&own)?;
        }
        let config = own.join("config");
        if let Some(text) = config_of(server, port, &self.folder, &own)? {
            fs::write(&config, text).with_context(|| config.display().to_string())?;
        }
        let config = config.display().to_string();
        let words: Vec<String> = match server {
            Server::Echo => vec![
                self.xtask.display().to_string(),
                "bench".to_owned(),
                "dns-echo".to_owned(),
                port.to_string(),
                echo_bytes.to_string(),
            ],
            Server::Ringmesh => vec![
                self.ringmesh.display().to_string(),
                "bench-zone".to_owned(),
                format!("--dns=127.0.0.1:{port}"),
                "--threads=1".to_owned(),
            ],
            Server::Knot => ["knotd", "-c", &config].map(str::to_owned).into(),
            Server::Nsd => ["nsd", "-d", "-c", &config].map(str::to_owned).into(),
            Server::Hickory => {
                ["hickory-dns", "-q", "--workers", "1", "-c", &config].map(str::to_owned).into()
            }
        };
        Ok(words)
    }
}

/// The configuration of a server that reads one. `folder` has the zone file, `own` is for what the server writes.
fn config_of(server: Server, port: u16, folder: &Path, own: &Path) -> Result<Option<String>> {
    let (folder, own) = (folder.display(), own.display());
    Ok(Some(match server {
        Server::Echo | Server::Ringmesh => return Ok(None),
        Server::Knot => format!(
            "server:\n  rundir: \"{own}\"\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  \
             background-workers: 1\ndatabase:\n  storage: \"{own}\"\nlog:\n  - target: stderr\n    any: error\n\
             zone:\n  - domain: {DOMAIN}\n    storage: \"{folder}\"\n    file: {ZONE_FILE}\n    zonefile-sync: -1\n    \
             journal-content: none\n"
        ),
        Server::Nsd => format!(
            "server:\n  server-count: 1\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  \
             zonesdir: \"{folder}\"\n  database: \"\"\n  pidfile: \"\"\n  xfrdfile: \"{own}/xfrd\"\n  \
             zonelistfile: \"{own}/zones\"\n  reuseport: no\n  rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n  \
             verbosity: 0\nremote-control:\n  control-enable: no\nzone:\n  name: {DOMAIN}\n  zonefile: {ZONE_FILE}\n"
        ),
        Server::Hickory => {
            let (user, group) = (namespace::run(&["id", "-un"])?, namespace::run(&["id", "-gn"])?);
            format!(
                "listen_addrs_ipv4 = [\"127.0.0.1\"]\nlisten_port = {port}\ndirectory = \"{folder}\"\n\
                 user = \"{}\"\ngroup = \"{}\"\n[[zones]]\nzone = \"{DOMAIN}\"\nzone_type = \"Primary\"\n\
                 file = \"{ZONE_FILE}\"\n",
                user.trim(),
                group.trim()
            )
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_configuration_names_port_zone_and_folder() {
        for server in [Server::Knot, Server::Nsd] {
            let config = config_of(server, 5_401, Path::new("/d"), Path::new("/d/own")).expect("is written");
            let config = config.expect("there is one");
            for part in ["127.0.0.1@5401", "voip.mesh.test", "\"/d\"", "\"/d/own", "voip.zone"] {
                assert!(config.contains(part), "{server:?}: {part}: {config}");
            }
        }
        for server in [Server::Echo, Server::Ringmesh] {
            assert_eq!(config_of(server, 1, Path::new("/d"), Path::new("/o")).expect("needs none"), None);
        }
    }
}
