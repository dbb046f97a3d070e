//! The file of a report: whether it can be written shows before hours of runs begin, and it is there as a whole or not
//! at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::Failure;

/// So many bytes are taken on the disk at once, which shows whether it is full.
const RESERVED_BYTES: usize = 256 << 10;

/// A report that will be written.
pub(super) struct ReportFile {
    path: PathBuf,
    file: File,
    /// What becomes the report at the end; nothing if `path` is a pipe or a device, which is written to as it is.
    part: Option<PathBuf>,
}

impl ReportFile {
    /// Makes sure that a report can be written to `path`, and changes nothing there yet.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        if path.extension().is_some_and(|extension| extension == "toml") {
            let says =
                format!("--report {}: that is the name of a scenario; a report is HTML", path.display());
            return Err(Failure::usage(says));
        }
        // A link stays a link: what it leads to is replaced.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Self::open(&target).map_err(|error| cannot_write(path, &error))
    }

    fn open(path: &Path) -> io::Result<Self> {
        let name = path.file_name().filter(|_| !path.is_dir()).ok_or(ErrorKind::IsADirectory)?;
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = OpenOptions::new().write(true).open(path)?;
            return Ok(Self { path: path.to_owned(), file, part: None });
        }
        let part = path.with_file_name(format!(".{}.part", name.to_string_lossy()));
        // A run that was interrupted may have left one.
        let _ = fs::remove_file(&part);
        let file = OpenOptions::new().write(true).create_new(true).open(&part)?;
        let mut report = Self { path: path.to_owned(), file, part: Some(part) };
        report.file.write_all(" ".repeat(RESERVED_BYTES).as_bytes())?;
        report.file.sync_all()?;
        Ok(report)
    }

    /// Writes the report.
    pub(super) fn write(mut self, page: &str) -> Result<(), Failure> {
        self.put(page.as_bytes()).map_err(|error| cannot_write(&self.path, &error))
    }

    fn put(&mut self, page: &[u8]) -> io::Result<()> {
        if let Some(part) = &self.part {
            self.file.rewind()?;
            self.file.write_all(page)?;
            self.file.set_len(page.len() as u64)?;
            self.file.sync_all()?;
            fs::rename(part, &self.path)?;
            self.part = None;
            return Ok(());
        }
        self.file.write_all(page)
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            let _ = fs::remove_file(part);
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let cures = [
        (ErrorKind::StorageFull, "free some space, or give --report a path on another disk"),
        (ErrorKind::QuotaExceeded, "free some space, or give --report a path on another disk"),
        (ErrorKind::NotFound, "make its folder first, or give --report a path in a folder that exists"),
        (ErrorKind::PermissionDenied, "give --report a path in a folder where you may write"),
        (ErrorKind::IsADirectory, "give --report the name of a file in it"),
    ];
    let cure = cures.iter().find(|(kind, _)| *kind == error.kind());
    let cure = cure.map_or("give --report another path", |(_, cure)| *cure);
    Failure::usage(format!("{}: the report cannot be written: {error}: {cure}", path.display()))
}
