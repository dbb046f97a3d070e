//! `ringmesh map split`, `merge` and `dedicate`: what operators want done at once.

use clap::Args;
use ringmesh_partition::position::Position;
use ringmesh_types::name::NodeName;
use serde_json::json;

use super::{Which, start};
use crate::Outcome;
use crate::api::{order, post};

/// What to cut.
#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    #[command(flatten)]
    which: Which,
    /// Where the partition starts: 16 hexadecimal digits, or as many of the first as only it begins with.
    start: String,
    /// Where to cut; default where half of its load is on either side.
    #[arg(long, value_name = "HEX")]
    at: Option<Position>,
}

/// What to make a part of the one before.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    #[command(flatten)]
    which: Which,
    /// Where the partition starts: 16 hexadecimal digits, or as many of the first as only it begins with.
    start: String,
}

/// Which key gets a partition of its own.
#[derive(Debug, Args)]
pub(crate) struct DedicateArgs {
    #[command(flatten)]
    which: Which,
    /// The key.
    key: String,
    /// The host that serves it while it is there; default the coolest.
    #[arg(long, value_name = "NODE", conflicts_with = "undo")]
    to: Option<NodeName>,
    /// Let it go back to the partition around it.
    #[arg(long)]
    undo: bool,
}

pub(super) async fn split(args: SplitArgs) -> Outcome {
    let start = start::find(&args.which, &args.start).await?;
    let body = json!({ "start": start, "at": args.at });
    post(&args.which.ask, &args.which.path("/split"), Some(&body)).await
}

pub(super) async fn merge(args: MergeArgs) -> Outcome {
    let start = start::find(&args.which, &args.start).await?;
    post(&args.which.ask, &args.which.path("/merge"), Some(&json!({ "start": start }))).await
}

pub(super) async fn dedicate(args: DedicateArgs) -> Outcome {
    let path = args.which.path("/dedicate");
    if args.undo {
        return order(&args.which.ask, "DELETE", &path, Some(&json!({ "key": args.key }))).await;
    }
    post(&args.which.ask, &path, Some(&json!({ "key": args.key, "node": args.to }))).await
}
