//! `ringmesh sim list`: what there is to play.

use std::path::{Path, PathBuf};

use clap::Args;
use ringmesh_sim::scenario::Scenario;
use ringmesh_types::duration;
use serde_json::{Value, json};

use super::{count, files, is_coloured};
use crate::progress::Form;
use crate::table::{Table, print_line};
use crate::{Failure, Outcome};

/// Which scenarios to list.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The folder they are in.
    #[arg(value_name = "DIR", default_value = files::FOLDER)]
    folder: PathBuf,
    /// Print one JSON object for each, a line each.
    #[arg(long)]
    json: bool,
}

/// A file that was read, with or without success.
struct Listed {
    path: PathBuf,
    read: Result<Scenario, String>,
}

pub(crate) fn run(args: &ListArgs) -> Outcome {
    let paths = files::in_folder(&args.folder)?;
    let listed: Vec<Listed> =
        paths.into_iter().map(|path| Listed { read: files::read(&path), path }).collect();
    match Form::of(args.json) {
        Form::Json => listed.iter().for_each(|listed| print_line(&as_json(listed).to_string())),
        Form::Text => print_table(&listed),
    }
    let broken: Vec<&str> =
        listed.iter().filter_map(|listed| listed.read.as_ref().err()).map(String::as_str).collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!("{} cannot be played:\n{}", count(broken.len(), "file"), broken.join("\n"))))
}

fn print_table(listed: &[Listed]) {
    let mut table = Table::new(&["NAME", "NODES", "DURATION", "SEEDS", "TITLE"]);
    for Listed { path, read } in listed {
        table.row(match read {
            Ok(scenario) => vec![
                scenario.name.clone(),
                scenario.topology.nodes.to_string(),
                duration::format(scenario.duration),
                scenario.seeds.to_string(),
                scenario.title.clone(),
            ],
            Err(_) => {
                let dash = || "-".to_owned();
                vec![files::name_of(path), dash(), dash(), dash(), "(cannot be played)".to_owned()]
            }
        });
    }
    table.lines(is_coloured()).iter().for_each(|line| print_line(line));
}

fn as_json(listed: &Listed) -> Value {
    let file = shown(&listed.path);
    match &listed.read {
        Ok(scenario) => json!({
            "name": scenario.name,
            "file": file,
            "title": scenario.title,
            "nodes": scenario.topology.nodes,
            "duration_s": scenario.duration.as_secs_f64(),
            "seeds": scenario.seeds,
        }),
        Err(says) => json!({
            "name": files::name_of(&listed.path),
            "file": file,
            "mistakes": says.lines().collect::<Vec<_>>(),
        }),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
