//! `ringmesh partition`: work with partition maps that needs no agent.

mod analyze;
mod records;

use clap::Subcommand;

use crate::Outcome;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum PartitionCommand {
    /// Read records and say which of their fields would do as a key, and how even the load of hosts would be.
    Analyze(analyze::AnalyzeArgs),
}

pub(crate) fn run(command: PartitionCommand) -> Outcome {
    match command {
        PartitionCommand::Analyze(args) => analyze::run(&args),
    }
}
