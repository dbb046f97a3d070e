//! Runs every test, and brings the programs they talk to.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::run as call;

/// What to do about programs that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Name what is skipped.
    Skip,
    /// Fail.
    Fail,
}

/// Programs that tests talk to, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 10] = [
    ("dig", "dnsutils"),
    ("kdig", "knot-dnsutils"),
    ("kamailio", "kamailio"),
    ("sipp", "sip-tester"),
    ("rtpengine", "rtpengine-daemon"),
    ("unbound", "unbound"),
    ("dnsmasq", "dnsmasq-base"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("strace", "strace"),
];

pub(crate) fn run(missing: Missing) -> Result<()> {
    install(&PROGRAMS)?;
    let absent: Vec<&str> =
        PROGRAMS.iter().map(|(program, _)| *program).filter(|program| !is_there(program)).collect();
    if !absent.is_empty() {
        let names = absent.join(", ");
        if missing == Missing::Fail {
            bail!(
                "not on this machine: {names}. As root on Debian they are installed, elsewhere install them first"
            );
        }
        println!("not on this machine, so their tests are skipped: {names}");
    }
    let required = [("RINGMESH_REQUIRE_ALL", if missing == Missing::Fail { "1" } else { "" })];
    call("cargo", &["test", "--workspace", "--exclude", "ringmesh-cli"], &required)?;
    // These start real agents by the dozen: one test at a time has the machine to itself.
    call("cargo", &["test", "--package", "ringmesh-cli", "--", "--test-threads=1"], &required)?;
    if absent.is_empty() {
        println!("every test ran, nothing was skipped");
    } else {
        println!("passed; skipped for want of {}", absent.join(", "));
    }
    Ok(())
}

/// Whether a program is on this machine.
pub(crate) fn is_there(program: &str) -> bool {
    let paths = std::env::var("PATH").unwrap_or_default();
    let folders = paths.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.into_iter().any(|folder| Path::new(folder).join(program).exists())
}

/// As root on Debian, installs those of the programs that are missing from their packages; elsewhere does nothing.
pub(crate) fn install(programs: &[(&str, &str)]) -> Result<()> {
    let packages: Vec<&str> =
        programs.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0\n"));
    if packages.is_empty() || !is_root || !Path::new("/etc/debian_version").exists() {
        return Ok(());
    }
    eprintln!("installing {}", packages.join(" "));
    let policy = keep_services_stopped()?;
    let installed = apt_get(&["update", "-qq"]).and_then(|()| {
        let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
        arguments.extend(&packages);
        apt_get(&arguments)
    });
    drop(policy);
    installed
}

/// Runs apt-get, which asks nothing. What it prints is progress, not a result.
fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(std::io::stderr())
        .status()
        .context("apt-get cannot be run")?;
    if !status.success() {
        bail!("apt-get {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// While this lives, packages that bring a service do not start it.
struct Policy(Option<&'static str>);

impl Drop for Policy {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn keep_services_stopped() -> Result<Policy> {
    const PATH: &str = "/usr/sbin/policy-rc.d";
    if Path::new(PATH).exists() {
        return Ok(Policy(None));
    }
    std::fs::write(PATH, "#!/bin/sh\nexit 101\n")?;
    let made = Policy(Some(PATH));
    Command::new("chmod").args(["755", PATH]).stdout(Stdio::null()).status()?;
    Ok(made)
}
