//! A copy of the sources in which mutations are planted. The sources themselves are never touched.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::table::Mutation;

/// What a build and its simulations need.
const COPIED: [&str; 7] =
    ["Cargo.toml", "Cargo.lock", ".cargo", "crates", "config", "examples", "simulations"];
/// The copy, and where it is built.
#[derive(Debug)]
pub(super) struct Replica {
    sources: PathBuf,
    build: PathBuf,
}

impl Replica {
    /// Copies what has changed since the last copy, which also takes back a mutation that was left in it.
    pub(super) fn make(root: &Path) -> Result<Self> {
        let planted = root.join("target/planted");
        let replica = Self { sources: planted.join("src"), build: planted.join("build") };
        fs::create_dir_all(&replica.sources).with_context(|| replica.sources.display().to_string())?;
        for name in COPIED {
            let (from, to) = (root.join(name), replica.sources.join(name));
            if from.is_dir() {
                mirror(&from, &to)?;
            } else if from.exists() {
                refresh(&from, &to)?;
            }
        }
        Ok(replica)
    }

    /// Where the copy is.
    pub(super) fn sources(&self) -> &Path {
        &self.sources
    }

    /// The program that was built from it.
    pub(super) fn program(&self) -> PathBuf {
        self.build.join("debug/examples/verdicts")
    }

    /// Where the program's complaints go.
    pub(super) fn complaints(&self) -> PathBuf {
        self.build.join("complaints.txt")
    }

    /// Builds the copy as it is now.
    pub(super) fn build(&self) -> Result<()> {
        let output = crate::program("cargo")
            .args(["build", "--package", "ringmesh-sim", "--example", "verdicts"])
            .current_dir(&self.sources)
            .env("CARGO_TARGET_DIR", &self.build)
            // A mutation may leave something unused, which must stay a warning.
            .env_remove("RUSTFLAGS")
            .output()
            .context("cargo cannot be run")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Plants a mutation. Returns what its file said before.
    pub(super) fn plant(&self, mutation: &Mutation) -> Result<String> {
        let path = self.sources.join(mutation.file);
        let before = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        fs::write(&path, mutation.apply(&before)?).with_context(|| path.display().to_string())?;
        Ok(before)
    }

    /// Takes a mutation back.
    pub(super) fn revert(&self, mutation: &Mutation, before: &str) -> Result<()> {
        let path = self.sources.join(mutation.file);
        fs::write(&path, before).with_context(|| path.display().to_string())
    }
}

/// Makes a folder equal to another. What is equal already keeps its time, so that cargo does not build it again.
fn mirror(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    let mut kept = BTreeSet::new();
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let name = entry?.file_name();
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() && from.ends_with("target") {
            continue;
        }
        if from.is_dir() {
            mirror(&from, &to)?;
        } else {
            refresh(&from, &to)?;
        }
        kept.insert(name);
    }
    for entry in fs::read_dir(to).with_context(|| to.display().to_string())? {
        let entry = entry?;
        if !kept.contains(&entry.file_name()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn refresh(from: &Path, to: &Path) -> Result<()> {
    let text = fs::read(from).with_context(|| from.display().to_string())?;
    if !fs::read(to).is_ok_and(|known| known == text) {
        fs::copy(from, to).with_context(|| to.display().to_string())?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.with_context(|| path.display().to_string())
}
