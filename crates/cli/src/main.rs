//! `ringmesh`: one binary for the agent, the demo and everything that an operator types.
//!
//! Exit codes: 0 done, 1 refused, not found or (doctor) not well, 2 wrong usage or configuration, 3 the agent does not answer.

mod agent;
mod api;
mod bench_zone;
mod demo;
mod doctor;
mod follow;
mod lookup;
mod map;
mod partition;
mod progress;
mod signals;
mod sim;
mod table;

use core::net::SocketAddr;
use core::time::Duration;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ringmesh_agent::inherited::{ConfigInheritedError, Inherited};
use ringmesh_types::duration;

/// Something went wrong, and which exit code says so.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    says: String,
}

/// The result of a command.
pub(crate) type Outcome = Result<(), Failure>;

impl Failure {
    /// Refused, or not found.
    pub(crate) fn refused(says: impl Into<String>) -> Self {
        Self { code: 1, says: says.into() }
    }

    /// Wrong usage or configuration.
    pub(crate) fn usage(says: impl Into<String>) -> Self {
        Self { code: 2, says: says.into() }
    }

    /// Whether the agent does not answer.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.code == 3
    }

    /// The agent does not answer.
    pub(crate) fn unreachable(says: impl Into<String>) -> Self {
        Self { code: 3, says: says.into() }
    }
}

/// Service discovery and health for VoIP platforms.
#[derive(Debug, Parser)]
#[command(name = "ringmesh", version, disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the agent is, and how its answer is shown.
#[derive(Debug, Clone, Args)]
pub(crate) struct Ask {
    /// The agent's HTTP address.
    #[arg(long, env = "RINGMESH_HTTP", default_value = "127.0.0.1:8500", value_name = "ADDR")]
    pub(crate) http: SocketAddr,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of this machine.
    Agent(agent::AgentArgs),
    /// Run six agents with services on this machine, to try things out.
    Demo(demo::DemoArgs),
    /// List the members of the mesh and their states.
    Members {
        /// Go on with a line for each change of who is in answers.
        #[arg(long)]
        follow: bool,
        #[command(flatten)]
        ask: Ask,
    },
    /// List the services, or the instances of one.
    Services {
        /// The service whose instances to list.
        name: Option<String>,
        /// Only instances in this state: passing, greylisted, unknown or failing.
        #[arg(long, requires = "name")]
        health: Option<String>,
        /// Only instances in this zone.
        #[arg(long, requires = "name")]
        zone: Option<String>,
        /// Only instances with this tag.
        #[arg(long, requires = "name")]
        tag: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Ask the agent's DNS, as a SIP proxy would.
    Lookup(lookup::LookupArgs),
    /// Say why an answer is what it is: every candidate, in or out.
    Explain {
        /// A domain name, or the part before the domain: sip, _sip._udp, media.
        name: String,
        /// The record type; default SRV for services, TXT for _status, PTR for reverse names, SOA for the domain itself,
        /// else A or AAAA.
        #[arg(value_name = "TYPE")]
        qtype: Option<String>,
        /// The stack that asks, as in dns.profile; default the agent's.
        #[arg(long, value_name = "PROFILE")]
        profile: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Register an instance on this node.
    Register(api::RegisterArgs),
    /// Remove an instance from this node.
    Deregister {
        /// The instance's id.
        id: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// Stop naming an instance, or everything on this node, in new answers.
    Drain {
        /// The instance's id; without it the whole node.
        instance: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Name it again.
    Undrain {
        /// The instance's id; without it the whole node.
        instance: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Announce a restart of this agent: the mesh keeps serving what it vouched for.
    Hold {
        /// For how long; default mesh.hold.
        #[arg(long = "for", value_name = "DURATION")]
        length: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Withdraw everything on this node from the mesh and stop its agent.
    Leave {
        #[command(flatten)]
        ask: Ask,
    },
    /// Drop a member that is Down or Left for good.
    Forget {
        /// The member's name.
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        node: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show what happened, and why.
    Events {
        /// Only events after this number.
        #[arg(long, default_value_t = 0)]
        since: u64,
        /// At most so many, the latest.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        ask: Ask,
    },
    /// Test every direction to each seed and peer, and name what is blocked.
    Doctor(doctor::DoctorArgs),
    /// Work with configuration files.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Play the mesh on virtual time: scenarios, random worlds, a benchmark.
    Sim {
        #[command(subcommand)]
        command: sim::SimCommand,
    },
    /// Partition maps: who owns which keys of a service, and why.
    Map {
        #[command(subcommand)]
        command: map::MapCommand,
    },
    /// Partition maps: which field of some records would do as a key.
    Partition {
        #[command(subcommand)]
        command: partition::PartitionCommand,
    },
    /// Serve an agent's DNS alone over a generated catalogue, for load generators.
    #[command(name = "bench-zone")]
    BenchZone(bench_zone::BenchZoneArgs),
    /// Print the version.
    Version,
    /// Answer health checks as a service of the demo would.
    #[command(hide = true)]
    Responder(demo::ResponderArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check files and report every mistake with file and line.
    Check {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let inherited = Inherited::from_environment();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return say(&Failure::refused(format!("the operating system gives no threads: {error}")));
        }
    };
    let outcome = runtime.block_on(run(cli.command, inherited));
    runtime.shutdown_timeout(Duration::from_millis(200));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => say(&failure),
    }
}

fn say(failure: &Failure) -> ExitCode {
    eprintln!("ringmesh: {}", failure.says);
    ExitCode::from(failure.code)
}

async fn run(command: Command, inherited: Result<Inherited, ConfigInheritedError>) -> Outcome {
    match command {
        Command::Agent(args) => agent::run(args, inherited).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Members { ask, follow: false } => api::members(&ask).await,
        Command::Members { ask, follow: true } => follow::members(&ask).await,
        Command::Services { name: None, ask, .. } => api::services(&ask).await,
        Command::Services { name: Some(name), health, zone, tag, ask } => {
            let filters = [("health", health), ("zone", zone), ("tag", tag)];
            api::service(&ask, &name, &filters).await
        }
        Command::Lookup(args) => lookup::run(args).await,
        Command::Explain { name, qtype, profile, ask } => {
            api::explain(&ask, &name, qtype.as_deref(), profile.as_deref()).await
        }
        Command::Register(args) => api::register(args).await,
        Command::Deregister { id, ask } => api::deregister(&ask, &id).await,
        Command::Drain { instance, ask } => api::drain(&ask, "drain", instance).await,
        Command::Undrain { instance, ask } => api::drain(&ask, "undrain", instance).await,
        Command::Hold { length, ask } => api::hold(&ask, length).await,
        Command::Leave { ask } => api::post(&ask, "/api/v1/leave", None).await,
        Command::Forget { node, ask } => api::forget(&ask, &node).await,
        Command::Events { since, limit, ask } => api::events(&ask, since, limit).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Config { command: ConfigCommand::Check { files } } => agent::check(&files),
        Command::Sim { command } => sim::run(command),
        Command::Map { command } => map::run(command).await,
        Command::Partition { command } => partition::run(command),
        Command::BenchZone(args) => bench_zone::run(args).await,
        Command::Version => {
            println!("ringmesh {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Responder(args) => demo::respond(args).await,
    }
}

/// Reads a duration argument.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text)
}
