//! `ringmesh agent` and `ringmesh config check`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use ringmesh_agent::config::{Config, LogFormat, LogLevel};
use ringmesh_agent::inherited::{ConfigInheritedError, Inherited};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::signals::{WithParent, stop_requested};
use crate::{Failure, Outcome};

/// Lines of the log that wait to be written; further ones are lost.
const LINES_MAX: usize = 4_096;

/// How to run an agent.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("how").args(["config", "dev"]).required(true).multiple(true)))]
pub(crate) struct AgentArgs {
    /// The configuration file; may be left out with --dev.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Make certificates on the spot, so that an agent runs without any; not for production.
    #[arg(long)]
    dev: bool,
    /// The node's name, overriding the file.
    #[arg(long)]
    name: Option<String>,
    /// The folder for what must not be forgotten, overriding the file.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Stop when standard input ends.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

/// `inherited` is what the service manager gave us.
pub(crate) async fn run(args: AgentArgs, inherited: Result<Inherited, ConfigInheritedError>) -> Outcome {
    let inherited = inherited.map_err(|error| Failure::refused(error.to_string()))?;
    let mut environment = environment();
    if let Some(name) = &args.name {
        environment.insert("RINGMESH_NODE_NAME".to_owned(), name.clone());
    }
    if let Some(folder) = &args.data_dir {
        environment.insert("RINGMESH_NODE_DATA_DIR".to_owned(), folder.display().to_string());
    }
    let config = match &args.config {
        Some(path) => read(path, &environment)?,
        None => dev_config(&environment)?,
    };
    if config.tls.is_none() && !args.dev {
        return Err(Failure::usage(
            "tls: no certificate is configured: set tls.certificate, tls.key and tls.ca, or run with --dev",
        ));
    }
    let (_logging, lines) = log(config.log.level, config.log.format);
    let lines_lost = move || lines.dropped_lines() as u64;
    let with_parent = if args.exit_with_parent { WithParent::Stop } else { WithParent::GoOn };
    let stop = stop_requested(with_parent).map_err(|error| Failure::refused(format!("signals: {error}")))?;
    let reloads = reloads(args.config.clone(), environment)
        .map_err(|error| Failure::refused(format!("signals: {error}")))?;
    ringmesh_agent::agent::run(config, inherited, stop, reloads, lines_lost)
        .await
        .map_err(|error| Failure::refused(error.to_string()))
}

/// Reads the configuration again at each SIGHUP. One that is not valid changes nothing.
fn reloads(
    path: Option<PathBuf>,
    environment: BTreeMap<String, String>,
) -> std::io::Result<mpsc::Receiver<Config>> {
    let (sender, receiver) = mpsc::channel(1);
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let Some(path) = &path else {
                tracing::warn!("there is no configuration file to read again");
                continue;
            };
            match read(path, &environment) {
                Ok(config) => {
                    let _ = sender.send(config).await;
                }
                Err(failure) => tracing::warn!(why = failure.says, "the configuration is not taken over"),
            }
        }
    });
    Ok(receiver)
}

pub(crate) fn environment() -> BTreeMap<String, String> {
    std::env::vars().filter(|(name, _)| name.starts_with("RINGMESH_")).collect()
}

pub(crate) fn read(path: &Path, environment: &BTreeMap<String, String>) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("{}: cannot be read: {error}", path.display())))?;
    Config::parse(&path.display().to_string(), &text, environment)
        .map_err(|errors| Failure::usage(format!("the configuration is not valid:\n{errors}")))
}

/// What an agent does that was told nothing: everything on loopback, data below the home folder.
fn dev_config(environment: &BTreeMap<String, String>) -> Result<Config, Failure> {
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let name = if name.is_empty() { "dev" } else { name.trim_matches('-') };
    let home = std::env::var("HOME").unwrap_or_else(|_| "/tmp".to_owned());
    let folder = format!("{home}/.local/state/ringmesh/{name}");
    let text =
        format!("[node]\nname = \"{name}\"\ndata_dir = \"{folder}\"\n[mesh]\nlisten = \"127.0.0.1:7300\"\n");
    Config::parse("the defaults of --dev", &text, environment)
        .map_err(|errors| Failure::usage(format!("the configuration is not valid:\n{errors}")))
}

/// Logs by a thread of its own: whoever reads slowly, or not at all, misses lines and stops nothing. They are written as long
/// as the guard lives; the counter says how many were missed.
fn log(level: LogLevel, format: LogFormat) -> (WorkerGuard, ErrorCounter) {
    // What strangers send is for the counters: hickory-proto warns of each malformed option.
    let filter = EnvFilter::new(format!("{},hickory_proto=error,quinn=warn", level.as_str()));
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let lines = writer.error_counter();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().init(),
    }
    (guard, lines)
}

fn preflight(config: &Config) -> Result<Vec<String>, Vec<String>> {
    let mut doubts = ringmesh_agent::agent::preflight(config)?;
    if config.tls.is_none() {
        doubts.insert(0, "without [tls]: it runs with --dev only".to_owned());
    }
    Ok(doubts)
}

pub(crate) fn check(files: &[PathBuf]) -> Outcome {
    let environment = environment();
    let mut failures = Vec::new();
    for file in files {
        match read(file, &environment) {
            Ok(config) => match preflight(&config) {
                Ok(doubts) if doubts.is_empty() => println!("{}: valid", file.display()),
                Ok(doubts) => println!("{}: valid, but {}", file.display(), doubts.join("; ")),
                Err(problems) => {
                    failures.extend(problems.iter().map(|problem| format!("{}: {problem}", file.display())));
                }
            },
            Err(failure) => failures.push(failure.says),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::usage(failures.join("\n"))) }
}
