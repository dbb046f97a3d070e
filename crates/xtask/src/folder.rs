//! Folders of a run that are removed with it, or by the next run if it was killed.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::namespace::is_left_over;

/// What the names of all folders begin with; the id of the process that made them follows.
const PREFIX: &str = "ringmesh-xtask-";

/// A folder below the system's temporary one that only we may read; removed with this.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes an empty one. `what` tells it from others of this process.
    pub(crate) fn new(what: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("{PREFIX}{}-{what}", std::process::id()));
        make_private(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("xtask: {}: {error}", self.0.display());
        }
    }
}

/// Makes a folder that only we may read.
pub(crate) fn make_private(path: &Path) -> Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path).with_context(|| path.display().to_string())
}

/// Removes the folders of runs that were killed.
pub(crate) fn sweep() -> Result<()> {
    for entry in fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        if is_left_over(&entry.file_name().to_string_lossy(), PREFIX) {
            fs::remove_dir_all(entry.path()).with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}
