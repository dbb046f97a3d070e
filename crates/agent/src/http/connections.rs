//! Whose connections are served, how many at once, and for how long one may keep others waiting.
//!
//! Invariant: whoever may not ask does not take the place of somebody who may. Invariant: no source but this VM itself takes
//! all places. Invariant: whoever does not read is let go.

use core::net::{IpAddr, SocketAddr};
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Connections of one source at most, be it allowed or not: an address, but for loopback.
const PER_SOURCE: usize = 64;
/// Connections at most of all that are not allowed together: they are told so and let go.
const STRANGERS: usize = 16;
/// A client that takes nothing of its answer for so long is let go.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// The places for connections.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    sources: Arc<Sources>,
}

/// How many connections each source has.
#[derive(Debug, Default)]
struct Sources(Mutex<BTreeMap<IpAddr, usize>>);

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    source: Option<(IpAddr, Arc<Sources>)>,
}

impl Places {
    /// So many of them; more connections wait in the kernel's queue.
    pub(super) fn new(count: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(count)),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            sources: Arc::default(),
        }
    }

    /// The next connection; nothing if its source has too many already.
    ///
    /// # Errors
    /// If the system accepts none.
    pub(super) async fn accept(
        &self,
        listener: &TcpListener,
        is_allowed: impl Fn(IpAddr) -> bool,
    ) -> io::Result<Option<(TcpStream, SocketAddr, Place)>> {
        let permit = self.all.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, from) = listener.accept().await?;
        let ip = from.ip().to_canonical();
        let permit =
            if is_allowed(ip) { Some(permit) } else { self.strangers.clone().try_acquire_owned().ok() };
        let place = permit.and_then(|permit| self.place(permit, ip));
        Ok(place.map(|place| (stream, from, place)))
    }

    fn place(&self, permit: OwnedSemaphorePermit, ip: IpAddr) -> Option<Place> {
        if ip.is_loopback() {
            return Some(Place { _permit: permit, source: None });
        }
        let mut sources = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(ip).or_default();
        if *count >= PER_SOURCE {
            return None;
        }
        *count += 1;
        Some(Place { _permit: permit, source: Some((ip, self.sources.clone())) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((ip, sources)) = self.source.take() else { return };
        let mut sources = sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&ip);
            }
        }
    }
}

/// A stream whose writes fail when the other side takes nothing for [`WRITE_WITHIN`].
#[derive(Debug)]
pub(super) struct Impatient {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, stalled: None }
    }

    fn limit<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_WITHIN)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limit(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.limit(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(2 * WRITE_WITHIN.as_secs());

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let addr = listener.local_addr().expect("is bound");
        (listener, addr)
    }

    #[tokio::test]
    async fn strangers_have_a_few_places_of_their_own() {
        let (listener, addr) = listener().await;
        let places = Places::new(1);
        let (mut clients, mut taken) = (Vec::new(), Vec::new());
        for _ in 0..STRANGERS + 3 {
            clients.push(TcpStream::connect(addr).await.expect("is accepted"));
            let accepted = places.accept(&listener, |_| false).await.expect("is accepted");
            taken.extend(accepted.map(|(_, _, place)| place));
        }
        assert_eq!(taken.len(), STRANGERS);
        clients.push(TcpStream::connect(addr).await.expect("is accepted"));
        assert!(places.accept(&listener, |_| true).await.expect("is accepted").is_some());
    }

    #[test]
    fn a_source_has_so_many_places_and_loopback_any() {
        let places = Places::new(1_000);
        let take = |ip: &str| {
            let permit = places.all.clone().try_acquire_owned().expect("there are enough");
            places.place(permit, ip.parse().expect("an address"))
        };
        let mut taken: Vec<Place> = (0..PER_SOURCE + 5).filter_map(|_| take("192.0.2.1")).collect();
        assert_eq!(taken.len(), PER_SOURCE);
        assert!(take("192.0.2.2").is_some() && (0..2 * PER_SOURCE).all(|_| take("127.0.0.1").is_some()));
        taken.pop();
        assert!(take("192.0.2.1").is_some());
        drop(taken);
        assert!(places.sources.0.lock().expect("nobody fails").is_empty());
    }

    #[tokio::test]
    async fn who_does_not_read_is_let_go() {
        let (listener, addr) = listener().await;
        let silent = TcpStream::connect(addr).await.expect("is accepted");
        let (stream, _) = listener.accept().await.expect("is accepted");
        let mut stream = Impatient::new(stream);
        let endless = async { while stream.write_all(&[0; 1 << 16]).await.is_ok() {} };
        timeout(SOON, endless).await.expect("it fails in time");
        drop(silent);
    }
}
