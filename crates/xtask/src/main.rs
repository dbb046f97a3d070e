//! What the project does to itself: `cargo xtask test [--require-all]`, `cargo xtask purity`.

mod purity;
mod tests;

use std::process::Command;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "usage: cargo xtask test [--require-all] | purity

  test           run every test; as root on Debian, install the programs they talk to first
  --require-all  fail, instead of naming what was skipped, if a program is missing
  purity         show that the core names no runtime, socket, file, clock or entropy";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["test"] => tests::run(tests::Missing::Skip),
        ["test", "--require-all"] => tests::run(tests::Missing::Fail),
        ["purity"] => purity::check(),
        _ => bail!("{USAGE}"),
    }
}

/// Runs a program to its end.
fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .envs(variables.iter().copied())
        .status()
        .with_context(|| format!("{program} cannot be run"))?;
    if !status.success() {
        bail!("{program} {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}
