//! Network namespaces of the tests' own, with what runs inside them.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::process::{Command, Stdio};

use ringmesh_agent::pki::Authority;
use serde_json::Value;

use super::mesh::{Config, lasting};
use super::{Folder, Process, RINGMESH, has, is_all_required, is_root};

/// Whether namespaces can be made here.
pub(crate) fn can_make_namespaces() -> bool {
    let can = has("ip") && has("nft") && is_root();
    assert!(can || !is_all_required(), "network namespaces need root, ip and nft");
    if !can {
        println!("skipped: network namespaces need root, ip and nft");
    }
    can
}

#[track_caller]
pub(crate) fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().expect("runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words:?}: {out}{err}");
    out.into_owned()
}

/// A network namespace of the test's own.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("rmt{}-{name}", std::process::id());
        run(&["ip", "netns", "add", &name]);
        run(&["ip", "-n", &name, "link", "set", "lo", "up"]);
        Self(name)
    }

    /// Gives the programs inside a resolver of their own: `ip netns exec` mounts it over `/etc/resolv.conf`.
    pub(crate) fn resolve_at(&self, addr: &str) {
        let folder = format!("/etc/netns/{}", self.0);
        std::fs::create_dir_all(&folder).expect("a folder for the resolver");
        let text = format!("nameserver {addr}\noptions timeout:1 attempts:2\n");
        std::fs::write(format!("{folder}/resolv.conf"), text).expect("writes");
    }

    /// `words` as a command inside.
    pub(crate) fn inside<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [&["ip", "netns", "exec", &self.0], words].concat()
    }

    pub(crate) fn run(&self, words: &[&str]) -> String {
        run(&self.inside(words))
    }

    pub(crate) fn start(&self, folder: &Folder, log: &str, words: &[&str]) -> Process {
        let log = std::fs::File::create(folder.0.join(log)).expect("a log");
        let words = self.inside(words);
        let copy = log.try_clone().expect("a log");
        Process::start(Command::new(words[0]).args(&words[1..]).stdout(copy).stderr(log))
    }

    pub(crate) fn agent(&self, folder: &Folder, config: &Config, ca: &Authority) -> Process {
        let (cluster, name) = (config.cluster.parse().expect("a name"), config.name.parse().expect("a name"));
        let issued = ca.issue(&cluster, &name, lasting()).expect("issues");
        let path = config.write(folder, ca.cert_pem(), &issued);
        super::mesh::start(folder, &config.name, &path, &["ip", "netns", "exec", &self.0])
    }

    /// What the command line says of an agent inside, as JSON; nothing if it does not answer.
    pub(crate) fn ask(&self, config: &Config, words: &[&str]) -> Option<Value> {
        let http = config.http_addr().to_string();
        let words = [&[RINGMESH], words, &["--json", "--http", &http]].concat();
        let words = self.inside(&words);
        let output = Command::new(words[0]).args(&words[1..]).stderr(Stdio::null()).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    pub(crate) fn alive(&self, config: &Config) -> usize {
        let members = self.ask(config, &["members"]);
        let members = members.as_ref().and_then(Value::as_array);
        members.map_or(0, |members| members.iter().filter(|member| member["state"] == "Alive").count())
    }

    /// States of the instances of a service, by id.
    pub(crate) fn states(&self, config: &Config, service: &str) -> Vec<(String, String)> {
        let answer = self.ask(config, &["services", service]).unwrap_or_default();
        let instances = answer["instances"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        instances.iter().map(|instance| (text(&instance["id"]), text(&instance["state"]))).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
        let _ = std::fs::remove_dir_all(format!("/etc/netns/{}", self.0));
    }
}
