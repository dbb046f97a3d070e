//! Telling the agent about a service on this machine.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;

use crate::http;

/// Why the agent did not take it.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It does not answer; what was asked for may still be done.
    #[error("the agent at {agent} does not answer: {cause}. Does it run?")]
    Unreachable {
        /// Where it was asked.
        agent: SocketAddr,
        /// What happened.
        cause: io::Error,
    },
    /// It refused; nothing changed.
    #[error("the agent at {agent} refuses with {status}: {reason}")]
    Refused {
        /// Where it was asked.
        agent: SocketAddr,
        /// The HTTP status.
        status: u16,
        /// What it says.
        reason: String,
    },
}

/// Registers an instance of a service. The body is as the agent's `POST /api/v1/services` takes it; the same again changes nothing.
///
/// # Errors
/// If the agent does not answer within 10 s, or refuses it.
pub async fn register(agent: SocketAddr, registration: &Value) -> Result<(), ServiceError> {
    post(agent, "/api/v1/services", registration.to_string().into()).await
}

/// Good news for the `ttl` checks of an instance.
///
/// # Errors
/// If the agent does not answer within 10 s, or knows no such instance.
pub async fn beat(agent: SocketAddr, id: &str) -> Result<(), ServiceError> {
    post(agent, &format!("/api/v1/instances/{}/beat", http::encode(id)), Bytes::new()).await
}

pub(crate) async fn post(agent: SocketAddr, path: &str, body: Bytes) -> Result<(), ServiceError> {
    let answer = http::ask(agent, "POST", path, body).await;
    let (status, said) = answer.map_err(|cause| ServiceError::Unreachable { agent, cause })?;
    if (200..300).contains(&status) {
        return Ok(());
    }
    Err(ServiceError::Refused { agent, status, reason: http::reason(&said) })
}
