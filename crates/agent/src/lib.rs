//! Drives the node on a real machine: sockets, disks, clocks and processes, and nothing that decides.

mod accepting;
pub mod agent;
pub mod bench_zone;
pub mod client;
pub mod clock;
pub mod config;
pub mod disk;
pub mod dns_guard;
pub mod dns_server;
mod dns_tcp;
mod dns_udp;
mod dns_zone;
pub mod doctor;
pub mod driver;
pub mod events;
mod followers;
pub mod gate;
pub mod http;
pub mod inherited;
pub mod mesh;
mod naming;
pub mod notify;
pub mod pki;
pub mod probes;
pub mod quic;
pub mod responder;
pub mod seal;
