//! What the project does to itself: tests, purity, and what proves the simulator: golden transcripts, bounds, planted bugs
//! and real agents beside it.

mod bounds;
mod chaos;
mod golden;
mod planted;
mod purity;
mod tests;

use std::process::Command;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "usage: cargo xtask test [--require-all] | purity | golden | bounds | planted | chaos

  test           run every test; as root on Debian, install the programs they talk to first
  --require-all  fail, instead of naming what was skipped, if a program is missing
  purity         show that the core names no runtime, socket, file, clock or entropy
  golden [--update | --release]   play every scenario with seed 1 and compare with simulations/golden
  bounds [--seeds 32] [--check]   write what was measured beside what is allowed into simulations/README.md
  planted [NAME…] [--json]        plant bugs in a copy of the sources and fail if the simulator misses one
  chaos [--nodes 20] [--runs 3] [--json] [FILE…]   play scenarios with real agents, beside the simulator (root)";

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
