//! What the project does to itself: tests, purity, and what proves the simulator: golden transcripts, bounds, planted bugs
//! and real agents beside it. And it measures the mesh and its DNS beside others.

mod bench;
mod bounds;
mod chaos;
mod folder;
mod golden;
mod namespace;
mod planted;
mod purity;
mod stop;
mod tests;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "usage: cargo xtask test [--require-all] | purity | golden | bounds | planted | chaos | bench

  test           run every test; as root on Debian, install the programs they talk to first
  --require-all  fail, instead of naming what was skipped, if a program is missing
  purity         show that the core names no runtime, socket, file, clock or entropy
  golden [--update | --release]   play every scenario with seed 1 and compare with simulations/golden
  bounds [--seeds 32] [--check]   write what was measured beside what is allowed into simulations/README.md
  planted [NAME…] [--json]        plant bugs in a copy of the sources and fail if the simulator misses one
  chaos [--nodes 20] [--runs 3] [--json] [FILE…]   play scenarios with real agents, beside the simulator (root)
  bench gossip [--nodes 50] [--rounds 3] [--json] [...]   measure real agents and those of Serf in turn (root)
  bench dns [--runs 3] [--seconds 3] [--mix srv] [--json] [...]   measure our DNS and other servers in turn";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["test"] => tests::run(tests::Missing::Skip),
        ["test", "--require-all"] => tests::run(tests::Missing::Fail),
        ["purity"] => purity::check(),
        ["golden", rest @ ..] => golden::run(rest),
        ["bounds", rest @ ..] => bounds::run(rest),
        ["planted", rest @ ..] => planted::run(rest),
        ["chaos", rest @ ..] => chaos::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        _ => bail!("{USAGE}"),
    }
}

/// A program that does not see what cargo told this one about itself: build scripts would take it for theirs, and what
/// was built would be built again.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&variable);
        }
    }
    command
}

/// Runs a program to its end.
fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let status = self::program(program)
        .args(arguments)
        .envs(variables.iter().copied())
        .status()
        .with_context(|| format!("{program} cannot be run"))?;
    if !status.success() {
        bail!("{program} {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// Builds the program as quickly as it gets fast; says where it is.
fn build_release() -> Result<PathBuf> {
    build("release")
}

/// Builds the program as it is installed on hosts; says where it is.
fn build_dist() -> Result<PathBuf> {
    build("dist")
}

fn build(profile: &str) -> Result<PathBuf> {
    run("cargo", &["build", "--profile", profile, "--package", "ringmesh-cli"], &[])?;
    let folder = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(Path::new(&folder).join(profile).join("ringmesh"))
}
