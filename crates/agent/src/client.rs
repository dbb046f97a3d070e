//! A small HTTP client for the agent's own API: what the command line talks through.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer of the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body; text that is not JSON is a string.
    pub body: Value,
}

/// Asks the API at `addr`. `path` is percent-encoded already.
///
/// # Errors
/// If nobody answers there, or not in HTTP, within 10 s.
pub async fn ask(addr: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    within(TIMEOUT, exchange(addr, method, path, body)).await.map_err(|error| {
        // The request may wait in the agent's queue, and counts whoever waits for the answer.
        if error.kind() == io::ErrorKind::TimedOut && method != "GET" {
            io::Error::new(error.kind(), format!("{error}; what was asked for may still be done"))
        } else {
            error
        }
    })
}

/// Asks for what takes the agent up to `limit`; `path` is percent-encoded already.
///
/// # Errors
/// If nobody answers at `addr`, or not in HTTP, within `limit`.
pub async fn ask_patiently(addr: SocketAddr, path: &str, limit: Duration) -> io::Result<Answer> {
    within(limit, exchange(addr, "GET", path, None)).await
}

async fn within(limit: Duration, answer: impl Future<Output = io::Result<Answer>>) -> io::Result<Answer> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", limit.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    })
}

async fn exchange(addr: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", addr.to_string())
        .header("content-type", "application/json")
        .body(Full::new(body.map_or_else(Bytes::new, |body| body.to_string().into())))
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status().as_u16();
    let bytes =
        Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(io::Error::other)?;
    connection.abort();
    let bytes = bytes.to_bytes();
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Ok(Answer { status, body })
}

/// Percent-encodes what is not unreserved (RFC 3986, 2.3).
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
