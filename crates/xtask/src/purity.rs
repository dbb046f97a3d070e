//! Shows that the core is pure: no crate of it depends, however far, on a runtime or a socket library, and none of its
//! sources names a clock, a thread, a file, a socket, the environment or entropy.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const CORE: [&str; 6] = ["types", "gossip", "health", "partition", "dns", "node"];
/// Crates that may not be anywhere below the core.
const BANNED_CRATES: [&str; 6] = ["tokio", "quinn", "mio", "socket2", "getrandom", "nix"];
/// What a core source may not name, outside its tests.
const BANNED_TEXT: [&str; 12] = [
    "std::time::Instant",
    "std::time::SystemTime",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "rand::rng()",
    "rand::random",
];

pub(crate) fn check() -> Result<()> {
    for name in CORE {
        check_tree(name)?;
        check_sources(&Path::new("crates").join(name).join("src"))?;
        println!("{name}: pure");
    }
    Ok(())
}

/// hickory-proto may draw message ids from the system; the core never asks it to.
fn is_excused(core: &str, dependency: &str) -> bool {
    core == "dns" && dependency == "getrandom"
}

fn check_tree(name: &str) -> Result<()> {
    let package = format!("ringmesh-{name}");
    let output = Command::new("cargo")
        .args(["tree", "--package", &package, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .output()
        .context("cargo tree cannot be run")?;
    if !output.status.success() {
        bail!("cargo tree of {package}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let tree = String::from_utf8_lossy(&output.stdout);
    for dependency in tree.lines().filter_map(|line| line.split_whitespace().next()) {
        if BANNED_CRATES.contains(&dependency) && !is_excused(name, dependency) {
            bail!(
                "{package} depends on {dependency}: the core is pure, time, randomness and I/O come in as data"
            );
        }
    }
    Ok(())
}

fn check_sources(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            check_sources(&path)?;
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            if let Some(banned) = BANNED_TEXT.iter().find(|banned| line.contains(**banned)) {
                bail!("{}:{}: names {banned}, which the core may not", path.display(), number + 1);
            }
        }
    }
    Ok(())
}
