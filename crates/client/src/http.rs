//! Requests to the agent, one connection each.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Response;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How long the agent may take to answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer at most that is read as a whole.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// An answer whose body is still to be read. Its connection ends with it.
pub(crate) struct Open {
    pub(crate) response: Response<Incoming>,
    _connection: Connection,
}

/// The task of a connection, which ends with whoever waits for the answer.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks the agent; `path` is percent-encoded already.
pub(crate) async fn open(agent: SocketAddr, method: &str, path: &str, body: Bytes) -> io::Result<Open> {
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", TIMEOUT.as_secs()));
    timeout(TIMEOUT, exchange(agent, method, path, body)).await.map_err(|_| late())?
}

async fn exchange(agent: SocketAddr, method: &str, path: &str, body: Bytes) -> io::Result<Open> {
    let stream = TcpStream::connect(agent).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", agent.to_string())
        .header("content-type", "application/json")
        .body(Full::new(body))
        .map_err(io::Error::other)?;
    let connection = Connection(tokio::spawn(connection).abort_handle());
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    Ok(Open { response, _connection: connection })
}

/// Asks the agent: the status, and the beginning of what it says.
pub(crate) async fn ask(
    agent: SocketAddr,
    method: &str,
    path: &str,
    body: Bytes,
) -> io::Result<(u16, Bytes)> {
    let mut open = open(agent, method, path, body).await?;
    let status = open.response.status().as_u16();
    let body = Limited::new(open.response.body_mut(), ANSWER_BYTES_MAX).collect();
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the answer did not end in time");
    let body = timeout(TIMEOUT, body).await.map_err(late)?.map_err(io::Error::other)?;
    Ok((status, body.to_bytes()))
}

/// Why the agent refuses, as it says itself.
pub(crate) fn reason(body: &[u8]) -> String {
    let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
    match (text("error"), text("detail")) {
        (error, detail) if error.is_empty() && detail.is_empty() => "without a reason".to_owned(),
        (error, detail) if detail.is_empty() => error,
        (error, detail) => format!("{error}: {detail}"),
    }
}

/// Percent-encodes what is not unreserved (RFC 3986, 2.3).
pub(crate) fn encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
