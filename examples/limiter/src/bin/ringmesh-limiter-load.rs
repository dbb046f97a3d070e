//! Makes requests to limiters, and checks what they granted.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use ringmesh_limiter::bucket::Quota;
use ringmesh_limiter::check;
use ringmesh_limiter::load::{self, LoadConfig, Noisy, Summary};
use ringmesh_types::name::ServiceName;

/// Makes requests to limiters, each to the owner of its account.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    load: LoadArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks grant logs: nobody but an owner granted, and no account got more than burst + rate × time.
    CheckLogs(CheckArgs),
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// A daemon to ask if no owner is known, or in turn with --blind; may be repeated.
    #[arg(long = "daemon", value_name = "ADDRESS")]
    daemons: Vec<SocketAddr>,
    /// The agent that tells who owns an account.
    #[arg(long, default_value = "127.0.0.1:8500")]
    agent: SocketAddr,
    /// The service whose map that is.
    #[arg(long, default_value = "limiter")]
    service: ServiceName,
    /// Ask the daemons in turn, whoever owns an account.
    #[arg(long)]
    blind: bool,
    /// How many accounts there are.
    #[arg(long, default_value_t = 10_000)]
    accounts: usize,
    /// Requests a second.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// For how many seconds.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// The exponent of how uneven accounts are.
    #[arg(long, default_value_t = 1.1)]
    zipf: f64,
    /// Tokens that a request asks for.
    #[arg(long, default_value_t = 1.0)]
    cost: f64,
    /// One account that makes a share of all requests from some second on.
    #[arg(long, value_name = "ACCOUNT=SHARE@SECONDS")]
    noisy: Option<Noisy>,
    /// What is random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Grant logs of all daemons.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Tokens a second that every account gets.
    #[arg(long)]
    rate: f64,
    /// Tokens that an account can save up.
    #[arg(long)]
    burst: f64,
    /// The result as JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Cli { command, load } = Cli::parse();
    match command {
        Some(Command::CheckLogs(args)) => check_logs(&args),
        None => make_load(load).await,
    }
}

async fn make_load(args: LoadArgs) -> anyhow::Result<ExitCode> {
    let duration = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    let config = LoadConfig {
        daemons: args.daemons,
        agent: (!args.blind).then_some(args.agent),
        service: args.service,
        accounts: args.accounts,
        zipf: args.zipf,
        per_second: args.rate,
        duration,
        noisy: args.noisy,
        cost: args.cost,
        seed: args.seed,
    };
    let is_terminal = stderr().is_terminal();
    let summary = load::run(config, |summary| {
        if is_terminal {
            // A terminal that is gone does not end the load.
            let _ = write!(stderr(), "\r\x1b[K{}", line(summary));
        }
    })
    .await?;
    if is_terminal {
        writeln!(stderr())?;
    }
    let text = if args.json { serde_json::to_string(&summary)? } else { line(&summary) };
    writeln!(stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

fn line(summary: &Summary) -> String {
    let Summary { requests, granted, refused, forwarded, errors, p50_ms, p99_ms } = summary;
    format!(
        "{requests} requests: {granted} granted, {refused} refused, {forwarded} sent to a non-owner, {errors} errors, p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms"
    )
}

fn check_logs(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let grants = check::read(args.files.iter().map(|file| -> &Path { file }))?;
    let report = check::check(grants, &Quota { rate: args.rate, burst: args.burst });
    let mut out = stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(
            out,
            "{} lines ({} lost), {} accounts, {} grants, {} moves",
            report.lines, report.lost, report.accounts, report.granted, report.moves
        )?;
        writeln!(out, "grants by non-owners: {}", report.by_non_owners)?;
        writeln!(
            out,
            "grants beyond burst + rate × time: {}, at most {:.3} tokens",
            report.beyond_quota, report.beyond_most
        )?;
        let share = 100.0 * report.non_owner_share;
        writeln!(out, "within 10 s of a move: {} requests, {share:.2} % to a non-owner", report.after_moves)?;
        for example in &report.examples {
            writeln!(out, "  {example}")?;
        }
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
