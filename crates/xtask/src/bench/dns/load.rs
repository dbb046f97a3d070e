//! The load generator: asks the questions of a file again and again, over a few sockets in batches, cheaply enough that
//! it waits for the server and not the server for it. It prints one line of JSON.
//!
//! A latency goes from the system call that sends to the one that receives, so it includes waiting in either queue.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, setsockopt, sockopt};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use serde_json::{Value, json};

use super::latencies::Latencies;
use super::questions::requests;

const SOCKETS: usize = 8;
/// Questions that a socket waits for at most, at closed loop; and those in one system call.
const WINDOW: usize = 16;
/// Fewer are not sent at closed loop while others are waited for.
const BATCH_MIN: usize = WINDOW / 4;
const REQUEST_BYTES_MAX: usize = 512;
const RESPONSE_BYTES_MAX: usize = 4_096;
const BUFFER_BYTES: usize = 4 << 20;
/// A socket that has heard nothing for so long counts what it waits for as lost.
const LOST_AFTER_NS: u64 = 300_000_000;
/// How long answers are waited for at the end.
const DRAIN_NS: u64 = 500_000_000;
const WAIT_MS: u8 = 1;
const NANOS: f64 = 1e9;

/// When questions are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pace {
    /// As soon as earlier ones are answered.
    Closed,
    /// So many a second, whatever comes back.
    Open(f64),
}

/// What is to be done.
#[derive(Debug, PartialEq)]
struct Task {
    port: u16,
    file: String,
    seconds: f64,
    pace: Pace,
}

impl Task {
    fn read(arguments: &[&str]) -> Result<Self> {
        let number = |text: &str| {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
            number.with_context(|| format!("{text}: write a number above 0"))
        };
        let [port, file, seconds, rate @ ..] = arguments else {
            bail!("bench dns-load PORT FILE SECONDS [RATE]");
        };
        let pace = match rate {
            [] => Pace::Closed,
            [rate] => Pace::Open(number(rate)?),
            [_, more, ..] => bail!("{more}: nothing is expected after the rate"),
        };
        let port = port.parse().with_context(|| format!("{port} is no port"))?;
        Ok(Self { port, file: (*file).to_owned(), seconds: number(seconds)?, pace })
    }
}

/// Asks a server on 127.0.0.1.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let task = Task::read(arguments)?;
    let file = fs::read_to_string(&task.file).with_context(|| task.file.clone())?;
    let requests = requests(&file)?;
    if requests.iter().any(|request| request.len() > REQUEST_BYTES_MAX) {
        bail!("a question is longer than {REQUEST_BYTES_MAX} bytes");
    }
    let sockets = (0..SOCKETS).map(|_| Lane::open(task.port)).collect::<Result<Vec<Lane>>>()?;
    let mut load = Load {
        task,
        lanes: sockets,
        asker: Asker::new(requests),
        heard: Heard::new(),
        begun: Instant::now(),
    };
    println!("{}", load.play()?);
    Ok(())
}

/// A socket, and what it waits for.
struct Lane {
    socket: UdpSocket,
    /// When the question with each id was sent; 0 if none is waited for.
    sent_ns: Vec<u64>,
    next_id: u16,
    waiting: usize,
    /// When an answer came last.
    heard_ns: u64,
}

impl Lane {
    fn open(port: u16) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES)?;
        setsockopt(&socket, sockopt::SndBuf, &BUFFER_BYTES)?;
        let sent_ns = vec![0; usize::from(u16::MAX) + 1];
        Ok(Self { socket, sent_ns, next_id: 0, waiting: 0, heard_ns: 0 })
    }

    /// No longer waits for anything.
    fn give_up(&mut self) {
        self.sent_ns.fill(0);
        self.waiting = 0;
    }
}

/// What is asked next.
struct Asker {
    requests: Vec<Vec<u8>>,
    next: usize,
    room: Vec<[u8; REQUEST_BYTES_MAX]>,
    lengths: [usize; WINDOW],
    sent: u64,
}

impl Asker {
    fn new(requests: Vec<Vec<u8>>) -> Self {
        let room = vec![[0; REQUEST_BYTES_MAX]; WINDOW];
        Self { requests, next: 0, room, lengths: [0; WINDOW], sent: 0 }
    }

    /// Sends so many questions, fewer if the socket takes no more.
    fn send(&mut self, lane: &mut Lane, count: usize, now_ns: u64) -> Result<()> {
        for at in 0..count {
            let request = &self.requests[self.next];
            self.next = (self.next + 1) % self.requests.len();
            self.lengths[at] = request.len();
            self.room[at][..request.len()].copy_from_slice(request);
            let id = lane.next_id.wrapping_add(u16::try_from(at).unwrap_or_default());
            self.room[at][..2].copy_from_slice(&id.to_be_bytes());
        }
        let slices: [_; WINDOW] =
            core::array::from_fn(|at| [IoSlice::new(&self.room[at][..self.lengths[at]])]);
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; WINDOW] =
            core::array::from_fn(|_| Default::default());
        let mut controls = controls.iter_mut();
        let mut messages: [_; WINDOW] =
            core::array::from_fn(|at| MMsgHdr::new(&slices[at], controls.next().expect("there are as many")));
        let sent = match sendmmsg(lane.socket.as_fd(), &mut messages[..count], SendFlags::DONTWAIT) {
            Ok(sent) => sent,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::NOBUFS) => 0,
            Err(error) => return Err(error).context("nothing can be sent to the server"),
        };
        for _ in 0..sent {
            let slot = &mut lane.sent_ns[usize::from(lane.next_id)];
            lane.waiting += usize::from(*slot == 0);
            *slot = now_ns;
            lane.next_id = lane.next_id.wrapping_add(1);
        }
        self.sent += sent as u64;
        Ok(())
    }
}

/// What was answered.
struct Heard {
    headers: MultiHeaders<()>,
    room: Vec<[u8; RESPONSE_BYTES_MAX]>,
    received: u64,
    bytes: u64,
    rcodes: [u64; 16],
    latencies: Latencies,
}

impl Heard {
    fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(WINDOW, None),
            room: vec![[0; RESPONSE_BYTES_MAX]; WINDOW],
            received: 0,
            bytes: 0,
            rcodes: [0; 16],
            latencies: Latencies::new(),
        }
    }

    /// Takes the answers that are there. Says how many messages that were.
    fn receive(&mut self, lane: &mut Lane, begun: Instant) -> Result<usize> {
        let mut lengths = [0; WINDOW];
        let mut rooms = self.room.iter_mut();
        let mut slices: [_; WINDOW] = core::array::from_fn(|_| {
            let room: &mut [u8] = rooms.next().map_or(&mut [], |room| room);
            [IoSliceMut::new(room)]
        });
        let fd = lane.socket.as_raw_fd();
        let count = match recvmmsg(fd, &mut self.headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
            Ok(messages) => {
                messages.zip(&mut lengths).map(|(message, length)| *length = message.bytes).count()
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(0),
            Err(errno) => return Err(errno).context("the server does not listen any more"),
        };
        lane.heard_ns = since(begun);
        for (response, length) in self.room.iter().zip(lengths).take(count) {
            let sent_ns = &mut lane.sent_ns[usize::from(u16::from_be_bytes([response[0], response[1]]))];
            if *sent_ns == 0 {
                continue;
            }
            self.latencies.add(lane.heard_ns.saturating_sub(*sent_ns));
            *sent_ns = 0;
            lane.waiting -= 1;
            self.received += 1;
            self.bytes += length as u64;
            self.rcodes[usize::from(response[3] & 0x0f)] += 1;
        }
        Ok(count)
    }
}

/// A run under way.
struct Load {
    task: Task,
    lanes: Vec<Lane>,
    asker: Asker,
    heard: Heard,
    begun: Instant,
}

impl Load {
    fn play(&mut self) -> Result<Value> {
        self.begun = Instant::now();
        let end_ns = (self.task.seconds * NANOS) as u64;
        let mut now_ns = 0;
        while now_ns < end_ns {
            self.turn(now_ns)?;
            now_ns = since(self.begun);
        }
        let asked_s = now_ns as f64 / NANOS;
        while self.lanes.iter().any(|lane| lane.waiting > 0) && since(self.begun) < now_ns + DRAIN_NS {
            self.receive()?;
        }
        Ok(self.report(asked_s))
    }

    fn turn(&mut self, now_ns: u64) -> Result<()> {
        let mut heard = 0;
        for lane in &mut self.lanes {
            let count = match self.task.pace {
                Pace::Closed => room(lane, now_ns),
                Pace::Open(rate) => due(rate, now_ns, self.asker.sent),
            };
            if count > 0 {
                self.asker.send(lane, count, since(self.begun))?;
            }
            heard += self.heard.receive(lane, self.begun)?;
        }
        if heard == 0 && self.task.pace == Pace::Closed {
            self.wait()?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let mut lanes = self.lanes.iter_mut();
        lanes.try_for_each(|lane| self.heard.receive(lane, self.begun).map(drop))
    }

    /// Waits for an answer.
    fn wait(&self) -> Result<()> {
        let mut fds: [PollFd<'_>; SOCKETS] =
            core::array::from_fn(|at| PollFd::new(self.lanes[at].socket.as_fd(), PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::from(WAIT_MS)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("poll"),
        }
    }

    fn report(&self, asked_s: f64) -> Value {
        let heard = &self.heard;
        let rcodes = heard.rcodes.iter().enumerate().filter(|(_, count)| **count > 0);
        let rcodes: serde_json::Map<_, _> =
            rcodes.map(|(rcode, count)| (rcode.to_string(), json!(count))).collect();
        json!({
            "sent": self.asker.sent,
            "received": heard.received,
            "lost": self.asker.sent - heard.received,
            "seconds": asked_s,
            "qps": heard.received as f64 / asked_s,
            "bytes_mean": heard.bytes as f64 / heard.received.max(1) as f64,
            "p50_us": heard.latencies.percentile_us(50),
            "p99_us": heard.latencies.percentile_us(99),
            "rcodes": rcodes,
        })
    }
}

/// Nanoseconds since the run began; never 0.
fn since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// How many questions a socket may send at closed loop.
fn room(lane: &mut Lane, now_ns: u64) -> usize {
    if lane.waiting > 0 && now_ns.saturating_sub(lane.heard_ns) > LOST_AFTER_NS {
        lane.give_up();
        lane.heard_ns = now_ns;
    }
    let room = WINDOW.saturating_sub(lane.waiting);
    if room < BATCH_MIN { 0 } else { room }
}

/// How many questions are due at open loop, when so many were sent.
fn due(rate: f64, now_ns: u64, sent: u64) -> usize {
    let due = (now_ns as f64 / NANOS * rate) as u64;
    usize::try_from(due.saturating_sub(sent)).unwrap_or(WINDOW).min(WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_read_and_what_is_none_is_refused() {
        let task = |pace| Task { port: 53, file: "q".to_owned(), seconds: 0.5, pace };
        assert_eq!(Task::read(&["53", "q", "0.5"]).expect("is read"), task(Pace::Closed));
        assert_eq!(Task::read(&["53", "q", "0.5", "10000"]).expect("is read"), task(Pace::Open(10_000.0)));
        for wrong in [&["53", "q"][..], &["x", "q", "1"], &["53", "q", "0"], &["53", "q", "1", "inf"]] {
            assert!(Task::read(wrong).is_err(), "{wrong:?}");
        }
        assert!(Task::read(&["53", "q", "1", "1", "2"]).is_err());
    }

    #[test]
    fn what_is_due_follows_the_clock_and_not_the_answers() {
        assert_eq!(due(10_000.0, 1_000_000, 0), 10);
        assert_eq!(due(10_000.0, 1_000_000, 9), 1);
        assert_eq!(due(10_000.0, 1_000_000, 11), 0);
        assert_eq!(due(10_000.0, 1_000_000_000, 0), WINDOW);
    }
}
