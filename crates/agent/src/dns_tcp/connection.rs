//! One connection: takes messages off the stream, has them answered, and writes the responses, several in one write if
//! several requests came at once. While responses wait for a slow reader nothing more is read from it.
//!
//! Invariant: what is held is bounded: a message that is not complete and what came with it, and one write of responses.

use core::pin::pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;

use ringmesh_dns::answer::Via;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Caller, Limits};
use crate::dns_server::{DnsHandler, increment};

/// RFC 1035, 4.2.2: a message is preceded by its length.
const LENGTH_BYTES: usize = 2;
/// RFC 1035, 4.1.1: no message is shorter.
const HEADER_BYTES: usize = 12;
/// What is made room for at least before something is read.
const READ_BYTES: usize = 4 << 10;
/// Responses are written when there are so many bytes of them, or no request is left.
const WRITE_BYTES: usize = 16 << 10;
/// Messages on one connection that get no response, at most: a client has no reason to send responses.
const UNANSWERED_MAX: u32 = 8;
/// How long the peer is waited for after the last response was written to it.
const LINGER: Duration = Duration::from_secs(1);

/// Whoever takes nothing of its responses for so long may be displaced.
const STALLED_AFTER: Duration = Duration::from_millis(250);

/// Whether a connection is idle, which is: nobody waits for a response on it.
#[derive(Debug)]
pub(super) struct Idleness {
    /// [`Self::BUSY`], [`Self::ENDED`], or what `order` said when it fell idle.
    since: AtomicU64,
    /// How often a connection fell idle.
    order: Arc<AtomicU64>,
}

impl Idleness {
    const BUSY: u64 = 0;
    const ENDED: u64 = u64::MAX;

    /// That of a connection that has just been opened.
    pub(super) fn new(order: Arc<AtomicU64>) -> Self {
        let idleness = Self { since: AtomicU64::new(Self::BUSY), order };
        idleness.begin();
        idleness
    }

    /// Since when the connection has been idle, as a place in the order in which all fell idle.
    pub(super) fn since(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Acquire)).filter(|since| ![Self::BUSY, Self::ENDED].contains(since))
    }

    /// Ends the connection, unless it has not been idle since `since`. True if it is the caller's now.
    pub(super) fn end_for_good(&self, since: u64) -> bool {
        self.since.compare_exchange(since, Self::ENDED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn begin(&self) {
        self.since.store(self.order.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// False if the connection has been ended.
    fn end(&self) -> bool {
        let busy = |since| (since != Self::ENDED).then_some(Self::BUSY);
        self.since.fetch_update(Ordering::AcqRel, Ordering::Acquire, busy).is_ok()
    }
}

/// Counts a connection as open while it lives.
struct Counted(DnsHandler);

impl Counted {
    fn new(handler: &DnsHandler) -> Self {
        increment(&handler.stats().connections);
        Self(handler.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.stats().connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a connection is closed from here.
enum End {
    /// Nothing came, or not all of a message.
    Silent,
    /// Responses were not taken.
    Stalled,
    /// The peer may not ask, or what it sends is no DNS.
    Unwelcome,
    /// The stream broke.
    Broken(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// What follows a write of responses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Answer,
    Receive,
    Close,
}

/// A connection and what came on it.
pub(super) struct Connection {
    /// Dropped before the stream: whoever finds the connection closed finds it counted.
    counted: Counted,
    stream: TcpStream,
    caller: Caller,
    limits: Limits,
    idleness: Arc<Idleness>,
    shutdown: CancellationToken,
    /// What came and is not answered: less than one message while it is idle.
    received: Vec<u8>,
    unanswered: u32,
    is_stopping: bool,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        caller: Caller,
        handler: &DnsHandler,
        limits: Limits,
        idleness: Arc<Idleness>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            counted: Counted::new(handler),
            stream,
            caller,
            limits,
            idleness,
            shutdown,
            received: Vec::new(),
            unanswered: 0,
            is_stopping: false,
        }
    }

    /// Answers until one side has had enough.
    pub(super) async fn run(mut self) {
        // A second write must not wait until the first one is acknowledged.
        if let Err(error) = self.stream.set_nodelay(true) {
            debug!(%error, "dns over tcp: responses may be late");
        }
        let Err(end) = self.converse().await else {
            return;
        };
        match end {
            End::Silent => increment(&self.handler().stats().connections_timed_out),
            End::Stalled => {
                increment(&self.handler().stats().connections_timed_out);
                // The kernel, too, forgets what was not taken.
                let _ = self.stream.set_zero_linger();
            }
            End::Unwelcome => self.linger().await,
            End::Broken(error) => debug!(%error, "dns over tcp: a connection broke"),
        }
    }

    fn handler(&self) -> &DnsHandler {
        &self.counted.0
    }

    /// Answers until the stream ends; what had come by then is answered.
    async fn converse(&mut self) -> Result<(), End> {
        let mut deadline = Instant::now() + self.limits.idle;
        loop {
            let is_begun = !self.received.is_empty();
            if self.receive(deadline).await? == 0 {
                return Ok(());
            }
            if first_message(&self.received).is_none() {
                if !is_begun {
                    deadline = Instant::now() + self.limits.message_within;
                }
                continue;
            }
            if !self.idleness.end() {
                return Ok(());
            }
            let answered = self.answer_received().await;
            self.idleness.begin();
            answered?;
            let is_begun = !self.received.is_empty();
            let within = if is_begun { self.limits.message_within } else { self.limits.idle };
            deadline = Instant::now() + within;
        }
    }

    /// How many bytes came; 0 at the end of the stream.
    async fn receive(&mut self, deadline: Instant) -> Result<usize, End> {
        self.received.reserve(READ_BYTES);
        loop {
            tokio::select! {
                read = self.stream.read_buf(&mut self.received) => return Ok(read?),
                () = sleep_until(deadline) => return Err(End::Silent),
                () = self.shutdown.cancelled(), if !self.is_stopping => {
                    self.is_stopping = true;
                    // From here on the stream ends behind what the kernel has received.
                    SockRef::from(&self.stream).shutdown(Shutdown::Read)?;
                }
            }
        }
    }

    /// Answers all messages that are complete.
    async fn answer_received(&mut self) -> Result<(), End> {
        loop {
            let (responses, then) = self.answer_some();
            self.write(&responses).await?;
            match then {
                // Other tasks get their turn.
                Then::Answer => tokio::task::yield_now().await,
                Then::Receive => return Ok(()),
                Then::Close => return Err(End::Unwelcome),
            }
        }
    }

    /// As many responses as make one write.
    fn answer_some(&mut self) -> (Vec<u8>, Then) {
        let is_allowed = self.caller.is_allowed;
        let (mut responses, mut taken) = (Vec::new(), 0);
        let mut then = if is_allowed { Then::Receive } else { Then::Close };
        while let Some(message) = first_message(&self.received[taken..]) {
            if responses.len() >= WRITE_BYTES {
                then = Then::Answer;
                break;
            }
            taken += LENGTH_BYTES + message.len();
            if let Some(response) = self.handler().answer_message(message, self.caller.ip, Via::Tcp) {
                let length = u16::try_from(response.len()).expect("no encoder makes more than 65,535 bytes");
                // RFC 7766, 8: length and message together.
                responses.extend_from_slice(&length.to_be_bytes());
                responses.extend_from_slice(&response);
                continue;
            }
            let is_cut = message.len() < HEADER_BYTES;
            self.unanswered += 1;
            if is_cut || self.unanswered >= UNANSWERED_MAX {
                then = Then::Close;
                break;
            }
        }
        self.received.drain(..taken);
        self.received.shrink_to(READ_BYTES);
        (responses, then)
    }

    /// Who takes nothing for a while keeps others out like one who asks nothing, and is idle as well meanwhile.
    async fn write(&mut self, responses: &[u8]) -> Result<(), End> {
        let mut written = pin!(self.stream.write_all(responses));
        let result = match timeout(STALLED_AFTER, &mut written).await {
            Ok(result) => Ok(result),
            Err(_) => {
                self.idleness.begin();
                let result = timeout(self.limits.write_within.saturating_sub(STALLED_AFTER), written).await;
                if !self.idleness.end() {
                    return Err(End::Stalled);
                }
                result
            }
        };
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.handler().on_unsent(&error);
                Err(End::Broken(error))
            }
            Err(elapsed) => {
                self.handler().on_unsent(&elapsed);
                Err(End::Stalled)
            }
        }
    }

    /// Closes once the peer has: a socket that is closed while something in it is unread takes back the responses that
    /// are still on their way.
    async fn linger(&mut self) {
        let discarded = async {
            let mut buffer = [0; READ_BYTES];
            self.stream.shutdown().await?;
            while self.stream.read(&mut buffer).await? > 0 {}
            io::Result::Ok(())
        };
        tokio::select! {
            _ = discarded => {}
            () = sleep(LINGER) => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

/// The message that `bytes` begin with, if it is complete.
fn first_message(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}
