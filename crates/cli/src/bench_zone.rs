//! `ringmesh bench-zone`: an agent's DNS alone over a generated catalogue, for load generators.

use core::net::SocketAddr;
use std::num::NonZeroUsize;

use clap::Args;
use ringmesh_agent::bench_zone::{self, BenchZone, DOMAIN, SERVICES_MAX, TARGETS_MAX};
use ringmesh_agent::dns_server::workers;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::signals::{WithParent, stop_requested};
use crate::table::print_line;
use crate::{Failure, Outcome};

/// What to serve.
#[derive(Debug, Args)]
pub(crate) struct BenchZoneArgs {
    /// Services, named svc001 and so on.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=SERVICES_MAX as i64))]
    services: u32,
    /// Targets of each service.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=TARGETS_MAX as i64))]
    targets: u32,
    /// Where to listen, over UDP and TCP.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8600")]
    dns: SocketAddr,
    /// Threads that answer over UDP; default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Changes of health a second, while it serves.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100_000))]
    changes: u32,
    /// Stop when standard input ends.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

pub(crate) async fn run(args: BenchZoneArgs) -> Outcome {
    let bench = BenchZone {
        services: args.services as usize,
        targets: args.targets as usize,
        listen: args.dns,
        threads: args.threads.map_or_else(workers, NonZeroUsize::get),
        changes: args.changes,
    };
    let with_parent = if args.exit_with_parent { WithParent::Stop } else { WithParent::GoOn };
    let mut stop =
        stop_requested(with_parent).map_err(|error| Failure::refused(format!("signals: {error}")))?;
    let shutdown = CancellationToken::new();
    let served =
        bench_zone::serve(&bench, shutdown.clone()).map_err(|error| Failure::refused(error.to_string()))?;
    let ready = json!({
        "event": "ready", "dns": served.addr, "domain": DOMAIN, "services": bench.services,
        "targets": bench.targets, "threads": bench.threads, "zone_bytes": served.zone_bytes,
        "change_us": served.change_takes.as_micros() as u64, "changes_s": bench.changes,
    });
    print_line(&ready.to_string());
    let _ = stop.changed().await;
    shutdown.cancel();
    served.ended.await.map_err(|error| Failure::refused(error.to_string()))
}
