//! Which scenario files a command means, and what is in them.

use std::path::{Path, PathBuf};

use ringmesh_sim::scenario::{self, Mistake, Scenario};

use crate::Failure;

/// Where scenarios are looked for by name.
pub(super) const FOLDER: &str = "simulations";

/// More suggestions than this help nobody.
const SUGGESTIONS_MAX: usize = 5;

/// A scenario and where it was read from.
pub(super) struct ScenarioFile {
    pub(super) path: PathBuf,
    pub(super) scenario: Scenario,
}

/// Finds and reads what was named; every mistake in any of the files is reported.
pub(super) fn read_all(given: &[PathBuf]) -> Result<Vec<ScenarioFile>, Failure> {
    let mut paths = Vec::new();
    for given in given {
        for path in find(given)? {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    let mut files = Vec::new();
    let mut mistakes = Vec::new();
    for path in paths {
        match read(&path) {
            Ok(scenario) => files.push(ScenarioFile { path, scenario }),
            Err(says) => mistakes.push(says),
        }
    }
    if mistakes.is_empty() {
        return Ok(files);
    }
    Err(Failure::usage(format!("nothing is played, because of mistakes:\n{}", mistakes.join("\n"))))
}

/// The scenario files of a folder, by name; at least one.
pub(super) fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| Failure::usage(format!("{}: cannot be read: {error}", folder.display())))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths.filter(|path| is_toml(path) && path.is_file()).collect();
    if paths.is_empty() {
        return Err(Failure::usage(format!("{}: there is no scenario (*.toml) in it", folder.display())));
    }
    paths.sort_by(|one, other| one.file_stem().cmp(&other.file_stem()));
    Ok(paths)
}

/// Reads one file; what is wrong with it names the file.
pub(super) fn read(path: &Path) -> Result<Scenario, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    scenario::parse(&name_of(path), &text).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.as_slice().iter().map(|mistake| located(path, mistake)).collect();
        lines.join("\n")
    })
}

/// `folder/file.toml:line: field: what`, so that editors find it.
fn located(path: &Path, mistake: &Mistake) -> String {
    let Mistake { line, field, why, .. } = mistake;
    let separator = if field.is_empty() { "" } else { ": " };
    format!("{}:{line}: {field}{separator}{why}", path.display())
}

/// A file's name without its ending.
pub(super) fn name_of(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "toml")
}

/// A file, all files of a folder, or a scenario in the usual folder by its name.
fn find(given: &Path) -> Result<Vec<PathBuf>, Failure> {
    if given.is_dir() {
        return in_folder(given);
    }
    let found = if given.exists() { Some(given.to_owned()) } else { by_name(given) };
    let found = found.ok_or_else(|| missing(given))?;
    if is_toml(&found) {
        return Ok(vec![found]);
    }
    let says = format!("{}: is no scenario: a scenario is a TOML file, named *.toml", found.display());
    Err(Failure::usage(says))
}

/// `vm-dies` and `vm-dies.toml` name the same file in the usual folder.
fn by_name(given: &Path) -> Option<PathBuf> {
    let is_bare = given.components().count() == 1;
    let name = given.to_str().filter(|_| is_bare)?;
    let file = if is_toml(given) { name.to_owned() } else { format!("{name}.toml") };
    Some(Path::new(FOLDER).join(file)).filter(|path| path.is_file())
}

/// There is no such file, but perhaps some of almost that name.
fn missing(given: &Path) -> Failure {
    let folder = given.parent().filter(|parent| parent.is_dir()).unwrap_or(Path::new(FOLDER));
    let names = in_folder(folder).unwrap_or_default().iter().map(|path| name_of(path)).collect();
    let near = near(&name_of(given), names);
    let with_ending = given.with_extension("toml");
    let hint = if with_ending.is_file() {
        format!("do you mean {}?", with_ending.display())
    } else if !folder.is_dir() {
        format!("names are looked for in a folder {FOLDER}, which is not here: give the path of a file")
    } else if near.is_empty() {
        format!("`ringmesh sim list {}` shows what there is", folder.display())
    } else {
        format!("near in name, in {}: {}", folder.display(), near.join(", "))
    };
    Failure::usage(format!("{}: there is no such scenario; {hint}", given.display()))
}

/// Those of `names` that somebody may have meant, the nearest first.
fn near(wanted: &str, names: Vec<String>) -> Vec<String> {
    let edits_max = (wanted.chars().count() / 3).max(2);
    let is_part = |name: &str| wanted.len() > 2 && (name.contains(wanted) || wanted.contains(name));
    let mut near: Vec<(usize, String)> =
        names.into_iter().map(|name| (strsim::levenshtein(wanted, &name), name)).collect();
    near.retain(|(edits, name)| *edits <= edits_max || is_part(name));
    near.sort();
    near.into_iter().take(SUGGESTIONS_MAX).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_have_been_meant_come_nearest_first() {
        let names = || ["two-zones-split", "vm-dies", "vm-hangs"].map(str::to_owned).to_vec();
        assert_eq!(near("vm-dyes", names()), ["vm-dies"]);
        assert_eq!(near("split", names()), ["two-zones-split"]);
        assert!(near("rolling-update", names()).is_empty());
    }
}
