//! The limiter as a daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use ringmesh_limiter::bucket::Quota;
use ringmesh_limiter::{Config, Limiter};
use ringmesh_types::name::ServiceName;

/// A rate limiter whose buckets move with the partitions of a Ringmesh map.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen for HTTP.
    #[arg(long, default_value = "127.0.0.1:7501")]
    listen: SocketAddr,
    /// The HTTP address of the agent on this machine.
    #[arg(long, default_value = "127.0.0.1:8500")]
    agent: SocketAddr,
    /// The service whose map says who owns an account.
    #[arg(long, default_value = "limiter")]
    service: ServiceName,
    /// Tokens a second that every account gets.
    #[arg(long)]
    rate: f64,
    /// Tokens that an account can save up.
    #[arg(long)]
    burst: f64,
    /// Write every decision to this file, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    grant_log: Option<PathBuf>,
    /// Register with the agent under this id.
    #[arg(long, value_name = "ID")]
    register: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let is_coloured = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_coloured)
        .init();
    let Args { listen, agent, service, rate, burst, grant_log, register } = Args::parse();
    let quota = Quota { rate, burst };
    let limiter = Limiter::bind(Config { listen, agent, service, quota, grant_log, register }).await?;
    tracing::info!(listen = %limiter.addr(), %agent, "the limiter serves");
    tokio::select! {
        () = limiter.serve() => {}
        ended = tokio::signal::ctrl_c() => ended?,
    }
    Ok(())
}
