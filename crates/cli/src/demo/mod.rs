//! `ringmesh demo`: six real agents in three zones on this machine, with services that answer their health checks.

mod children;
mod plan;
mod status;

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, IsTerminal as _, Write as _, stdout};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use ringmesh_agent::responder::{self, Responder};
use ringmesh_limiter::bucket::Quota;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::signals::{WithParent, stop_requested};
use crate::{Failure, Outcome, parse_duration};
use children::Children;
use plan::Plan;

/// How to run the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Added to every port, so that several demos can run side by side.
    #[arg(long, default_value_t = 0, value_name = "N")]
    base_offset: u16,
    /// Stop after this time.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    exit_after: Option<Duration>,
    /// Print one JSON object a line instead of text.
    #[arg(long)]
    json: bool,
}

/// The agents must agree within this time, or something is wrong.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// So many names are tried for the folder.
const FOLDERS_MAX: u32 = 100;
const ASK_EVERY: Duration = Duration::from_millis(50);
const SHOW_EVERY: Duration = Duration::from_millis(1_000);

pub(crate) async fn run(args: DemoArgs) -> Outcome {
    let mut stop =
        stop_requested(WithParent::GoOn).map_err(|error| Failure::refused(format!("signals: {error}")))?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::refused(format!("this program cannot find itself: {error}")))?;
    let folder = Folder::new()?;
    let plan = Plan::make(args.base_offset, &folder.0).map_err(Failure::usage)?;
    let mut children = Children::start(&program, &plan, &folder.0)?;
    let begun = Instant::now();
    let outcome = tokio::select! {
        ready = become_ready(&plan, &mut children) => match ready {
            Ok(()) => {
                announce(&args, &plan, &children, begun.elapsed());
                go_on(&args, &plan, &mut stop).await;
                Ok(())
            }
            Err(why) => Err(Failure::refused(why)),
        },
        _ = stop.changed() => Ok(()),
    };
    children.stop().await;
    if args.json {
        print_line(&json!({ "event": "stopped" }));
    }
    outcome
}

/// A folder of our own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    /// A new one. A demo that was killed has left its own, and process ids come again: that name is passed over.
    fn new() -> Result<Self, Failure> {
        let parent = std::env::temp_dir();
        for number in 0..FOLDERS_MAX {
            let path = parent.join(format!("ringmesh-demo-{}-{number}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Failure::refused(format!("{}: {error}", path.display()))),
            }
        }
        let why = format!(
            "{}: {FOLDERS_MAX} demos that were killed have left their folders, ringmesh-demo-*: remove them",
            parent.display()
        );
        Err(Failure::refused(why))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until all six agree and answer, or a child ends first.
async fn become_ready(plan: &Plan, children: &mut Children) -> Result<(), String> {
    let begun = Instant::now();
    let mut interval = tokio::time::interval(ASK_EVERY);
    loop {
        interval.tick().await;
        children.check()?;
        match status::pending(plan).await {
            None => return Ok(()),
            Some(why) if begun.elapsed() > READY_WITHIN => {
                return Err(format!("the demo was not ready after {} s: {why}", READY_WITHIN.as_secs()));
            }
            Some(_) => {}
        }
    }
}

fn print_line(value: &Value) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{value}");
    let _ = out.flush();
}

fn announce(args: &DemoArgs, plan: &Plan, children: &Children, took: Duration) {
    let first = &plan.agents[0];
    if args.json {
        print_line(&ready_json(plan, children, took));
        return;
    }
    println!("demo ready: dns {} http {}", first.dns, first.http);
    println!();
    println!(
        "six agents agreed {:.1} s after the last was started. Try, in another terminal:",
        took.as_secs_f64()
    );
    let (dns, port) = (first.dns.ip(), first.dns.port());
    let domain = plan::DOMAIN;
    let hint = |command: String, what: &str| println!("  {command:<62}  {what}");
    hint(format!("dig @{dns} -p {port} _sip._udp.{domain} SRV"), "where to send SIP");
    hint(format!("dig @{dns} -p {port} {domain} NAPTR"), "which transports there are");
    hint(format!("curl http://{}/api/v1/services/sip", first.http), "the same with states");
    hint(format!("ringmesh explain _sip._udp --http {}", first.http), "why the answer is what it is");
    hint(format!("ringmesh map show limiter --http {}", first.http), "which limiter owns which accounts");
    if let Some(limiter) = plan.instances.iter().find(|instance| instance.kind == Kind::Limiter) {
        let take = format!("curl -d '{{\"account\":\"acme\",\"cost\":1}}' http://{}/take", limiter.address);
        hint(take, "take a token, from whichever limiter owns acme");
        if let Some(pid) = children.pid_of(&limiter.id) {
            hint(format!("kill {pid}"), "end a limiter: the other one takes over what it owns");
        }
    }
    if let Some(pid) = children.pid_of("sip-ams-1") {
        hint(format!("kill {pid}"), "end a SIP service: it leaves every answer");
    }
    if let Some(pid) = children.pid_of("lon-2") {
        hint(format!("kill -9 {pid}"), "end an agent: the others notice");
    }
    println!("Ctrl-C ends everything.");
    println!();
    let _ = stdout().flush();
}

fn ready_json(plan: &Plan, children: &Children, took: Duration) -> Value {
    let agents: Vec<Value> = plan
        .agents
        .iter()
        .map(|agent| {
            json!({
                "node": agent.name,
                "zone": agent.zone,
                "pid": children.pid_of(agent.name),
                "argv": children.argv_of(agent),
                "dns": agent.dns,
                "http": agent.http,
                "mesh": agent.mesh,
            })
        })
        .collect();
    let instances: Vec<Value> = plan
        .instances
        .iter()
        .map(|instance| {
            json!({
                "id": instance.id,
                "service": instance.service,
                "node": instance.node,
                "pid": children.pid_of(&instance.id),
                "address": instance.address,
            })
        })
        .collect();
    json!({
        "event": "ready",
        "domain": plan::DOMAIN,
        "agreed_s": took.as_secs_f64(),
        "agents": agents,
        "instances": instances,
    })
}

/// Shows members and services on terminals, until it is time to stop.
async fn go_on(args: &DemoArgs, plan: &Plan, stop: &mut watch::Receiver<bool>) {
    let show = async {
        if args.json || !stdout().is_terminal() {
            core::future::pending::<()>().await;
        }
        let mut interval = tokio::time::interval(SHOW_EVERY);
        let mut height = 0;
        loop {
            interval.tick().await;
            let lines = status::lines(plan).await;
            if height > 0 {
                print!("\u{1b}[{height}A\u{1b}[J");
            }
            height = lines.len();
            // Without wrapping a line is a line, however narrow the terminal.
            println!("\u{1b}[?7l{}\u{1b}[?7h", lines.join("\n"));
        }
    };
    let deadline = async {
        match args.exit_after {
            Some(after) => tokio::time::sleep(after).await,
            None => core::future::pending().await,
        }
    };
    tokio::select! {
        () = show => {}
        () = deadline => {}
        _ = stop.changed() => {}
    }
}

/// What a responder answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// SIP OPTIONS over UDP and TCP.
    Sip,
    /// rtpengine's NG ping.
    Rtpengine,
    /// Requests for tokens: the rate limiter of the examples.
    Limiter,
}

/// How to run a responder.
#[derive(Debug, Args)]
pub(crate) struct ResponderArgs {
    /// What it answers to.
    #[arg(long)]
    kind: Kind,
    /// Where it listens.
    #[arg(long)]
    bind: SocketAddr,
    /// The agent that a limiter asks who owns an account.
    #[arg(long, required_if_eq("kind", "limiter"))]
    agent: Option<SocketAddr>,
    /// Where a limiter writes what it grants.
    #[arg(long)]
    grant_log: Option<PathBuf>,
    /// Stop when standard input ends.
    #[arg(long)]
    exit_with_parent: bool,
}

pub(crate) async fn respond(args: ResponderArgs) -> Outcome {
    let with_parent = if args.exit_with_parent { WithParent::Stop } else { WithParent::GoOn };
    let mut stop =
        stop_requested(with_parent).map_err(|error| Failure::refused(format!("signals: {error}")))?;
    let serving = async {
        let text = |error: &dyn core::fmt::Display| Failure::refused(error.to_string());
        match (args.kind, args.agent) {
            (Kind::Sip, _) => {
                responder::run(Responder::Sip { udp_tcp: args.bind }).await.map_err(|error| text(&error))
            }
            (Kind::Rtpengine, _) => {
                responder::run(Responder::Rtpengine { ng: args.bind }).await.map_err(|error| text(&error))
            }
            (Kind::Limiter, Some(agent)) => {
                let config = limiter(args.bind, agent, args.grant_log);
                ringmesh_limiter::run(config).await.map_err(|error| text(&error))
            }
            (Kind::Limiter, None) => Err(Failure::usage("--agent: is missing")),
        }
    };
    tokio::select! {
        ended = serving => ended,
        _ = stop.changed() => Ok(()),
    }
}

/// A limiter of the demo: a hundred tokens for each account, twenty more a second.
fn limiter(listen: SocketAddr, agent: SocketAddr, grant_log: Option<PathBuf>) -> ringmesh_limiter::Config {
    ringmesh_limiter::Config {
        listen,
        agent,
        service: "limiter".parse().expect("is a name"),
        quota: Quota { rate: 20.0, burst: 100.0 },
        grant_log,
        register: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_a_killed_demo_left_is_passed_over() {
        let made = || Folder::new().unwrap_or_else(|_| panic!("a folder is made"));
        let (left, ours) = (made(), made());
        assert!(left.0.is_dir() && ours.0.is_dir() && left.0 != ours.0);
        let gone = ours.0.clone();
        drop(ours);
        assert!(left.0.is_dir() && !gone.exists());
    }
}
