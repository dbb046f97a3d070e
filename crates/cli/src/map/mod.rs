//! `ringmesh map`: who owns which keys of a service, how much load they have, and what is done about it.

mod declare;
mod heat;
mod history;
mod keys;
mod list;
mod lookup;
mod names;
mod orders;
mod picture;
mod plan;
mod ring;
mod show;
mod start;
mod words;

use clap::{Args, Subcommand};
use ringmesh_agent::client::encode;
use ringmesh_types::name::ServiceName;

use crate::{Ask, Outcome};

/// Which map, and whom to ask.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The service whose keys the map spreads.
    map: ServiceName,
    #[command(flatten)]
    ask: Ask,
}

impl Which {
    /// Where the API has the map, or what lies below it.
    fn path(&self, below: &str) -> String {
        format!("/api/v1/maps/{}{below}", encode(self.map.as_str()))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum MapCommand {
    /// List the maps.
    List {
        #[command(flatten)]
        ask: Ask,
    },
    /// Show a map as a ring, its hosts and its dedicated keys.
    Show {
        #[command(flatten)]
        which: Which,
        /// List every partition too: start, share, owner, standbys and load.
        #[arg(long)]
        partitions: bool,
    },
    /// Say who owns a key.
    Lookup(lookup::LookupArgs),
    /// Show the load of hosts and keys, and who reports nonsense.
    Heat {
        #[command(flatten)]
        which: Which,
    },
    /// Show what would be done next, and why.
    Plan {
        #[command(flatten)]
        which: Which,
    },
    /// Carry out what waits for approval.
    Apply {
        #[command(flatten)]
        which: Which,
        /// Only if it is still this plan, as map plan calls it.
        #[arg(long, value_name = "ID")]
        plan: Option<String>,
    },
    /// Cut a partition in two.
    Split(orders::SplitArgs),
    /// Make a partition part of the one before it.
    Merge(orders::MergeArgs),
    /// Give a key a partition of its own.
    Dedicate(orders::DedicateArgs),
    /// Show the generations of a map, the last first, and why they were made.
    History {
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, default_value_t = 10, value_name = "N")]
        limit: usize,
    },
    /// Say what a map should be like. What is not named stays as it is.
    Declare(declare::DeclareArgs),
    /// Take back what operators said about a map: what configuration files say counts again.
    Withdraw {
        #[command(flatten)]
        which: Which,
    },
}

pub(crate) async fn run(command: MapCommand) -> Outcome {
    match command {
        MapCommand::List { ask } => list::run(&ask).await,
        MapCommand::Show { which, partitions } => show::run(&which, show::Detail::of(partitions)).await,
        MapCommand::Lookup(args) => lookup::run(args).await,
        MapCommand::Heat { which } => heat::run(&which).await,
        MapCommand::Plan { which } => plan::run(&which).await,
        MapCommand::Apply { which, plan } => plan::apply(&which, plan).await,
        MapCommand::Split(args) => orders::split(args).await,
        MapCommand::Merge(args) => orders::merge(args).await,
        MapCommand::Dedicate(args) => orders::dedicate(args).await,
        MapCommand::History { which, limit } => history::run(&which, limit).await,
        MapCommand::Declare(args) => declare::run(args).await,
        MapCommand::Withdraw { which } => declare::withdraw(&which).await,
    }
}
