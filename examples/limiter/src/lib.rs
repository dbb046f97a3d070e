//! A rate limiter whose token buckets move with the partitions of a Ringmesh map, so that an account gets its quota once, on
//! whatever daemon its owner is: `README.md` says what it guarantees and what not.
//!
//! [`ledger`] decides, without a clock, sockets or tasks; [`server`] asks and answers over HTTP; [`load`] makes requests and
//! [`check`] holds the daemons' grant logs to the rule.

pub mod bucket;
pub mod check;
mod daemon;
mod fences;
pub mod grants;
pub mod history;
pub mod ledger;
pub mod load;
pub mod peers;
mod seen;
pub mod server;

pub use server::{Config, ConfigError, Limiter, run};
