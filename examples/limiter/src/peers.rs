//! Requests to other daemons over connections that are kept for the next one.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connections to one address that wait for a request, at most.
const IDLE_MAX: usize = 64;
/// Addresses with such connections, at most.
const ADDRESSES_MAX: usize = 4_096;
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 8 << 10;

type Sender = SendRequest<Full<Bytes>>;

/// What somebody answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// What it says about the answer.
    pub headers: HeaderMap,
    /// The answer.
    pub body: Bytes,
}

/// Connections to others.
#[derive(Debug, Default)]
pub struct Peers {
    idle: Mutex<HashMap<SocketAddr, Vec<Sender>>>,
}

impl Peers {
    /// Posts JSON to `path` at `to`, with some headers.
    ///
    /// # Errors
    /// If no answer comes within `limit`; the request may have been carried out all the same.
    pub async fn post(
        &self,
        to: SocketAddr,
        path: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
        limit: Duration,
    ) -> io::Result<Reply> {
        let mut request = Request::builder()
            .method("POST")
            .uri(path)
            .header("host", to.to_string())
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        let late = |_| {
            let why = format!("{to} did not answer within {} ms", limit.as_millis());
            io::Error::new(io::ErrorKind::TimedOut, why)
        };
        timeout(limit, self.exchange(to, request)).await.map_err(late)?
    }

    async fn exchange(&self, to: SocketAddr, request: Request<Full<Bytes>>) -> io::Result<Reply> {
        let mut sender = self.sender(to).await?;
        let response = match sender.send_request(request.clone()).await {
            Ok(response) => response,
            // The other side closed the connection before the request was sent.
            Err(error) if error.is_canceled() => {
                sender = connect(to).await?;
                sender.send_request(request).await.map_err(io::Error::other)?
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(io::Error::other)?.to_bytes();
        self.keep(to, sender);
        Ok(Reply { status, headers, body })
    }

    async fn sender(&self, to: SocketAddr) -> io::Result<Sender> {
        loop {
            let Some(mut sender) = self.lock().get_mut(&to).and_then(Vec::pop) else {
                return connect(to).await;
            };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
    }

    fn keep(&self, to: SocketAddr, sender: Sender) {
        let mut idle = self.lock();
        if sender.is_closed() || (idle.len() >= ADDRESSES_MAX && !idle.contains_key(&to)) {
            return;
        }
        let of = idle.entry(to).or_default();
        if of.len() < IDLE_MAX {
            of.push(sender);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Vec<Sender>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(to: SocketAddr) -> io::Result<Sender> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // It ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}
