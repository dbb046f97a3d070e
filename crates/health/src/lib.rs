//! How healthy the services on this VM are: what is checked, how replies are read, and when a state changes.
//!
//! Pure: drivers send what [`monitor::Monitor`] asks for and bring back outcomes; the messages of SIP and rtpengine are
//! written and read here, sent and received elsewhere.

pub mod monitor;
pub mod ng;
pub mod sip;
pub mod spec;
