//! DNS over UDP: threads that receive, answer and send in batches (recvmmsg(2), sendmmsg(2)), one a core, each with a
//! socket of its own (`SO_REUSEPORT`: the kernel shares the askers out). They answer the usual questions themselves, with
//! nothing taken from the heap and no lock held; the others wait, if there is room, for one thread more. So a flood of
//! odd questions costs one core at most, and keeps no usual one waiting.
//!
//! Who is not trusted is counted first, by each thread for itself: the kernel spreads the ports of an asker over the threads,
//! so one that asks from many may get as many times the limit as there are threads.
//!
//! A response leaves from the address that was asked. On a wildcard address the kernel is asked which one that was, message
//! by message; a listener on an address of its own does without.

use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use ringmesh_dns::admission::{self, Admission};
use ringmesh_dns::answer::Via;
use ringmesh_dns::client::Client;
use ringmesh_dns::cookie::{Secrets, Standing};
use ringmesh_dns::hot;
use ringmesh_dns::rate::Limiter;
use ringmesh_dns::urn::mix;
use ringmesh_types::time::{Instant, WallTime};
use rustix::net::addr::SocketAddrArg as _;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny};
use socket2::{SockAddr, Socket, Type};
use tracing::{debug, info};

use crate::dns_server::DnsHandler;
use crate::listen::Listen;

/// Messages in one system call at most.
const BATCH: usize = 64;
/// After a turn with no more than this only so many are asked for: most of the time there is one.
const BATCH_SMALL: usize = 4;
/// Bytes of a request at most; questions are far shorter, and the rest of a longer one is cut off.
const REQUEST_BYTES_MAX: usize = 4_096;
/// Unusual questions that wait at most.
const WAITING_MAX: usize = 1_024;
/// What a socket may hold while its thread is kept from running: some 20,000 questions.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// How long to wait after the system refused to receive.
const RECEIVE_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// How often a thread on an inherited socket looks whether it is to end.
const INHERITED_LOOK_EVERY: Duration = Duration::from_millis(250);
/// Threads for one address at most.
const WORKERS_MAX: usize = 16;

/// As many threads as there are cores for this process, within reason.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(WORKERS_MAX))
}

/// Sockets on one address, one for each thread.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// The address, with the port that the system chose if it was asked to.
    pub(crate) addr: SocketAddr,
    sockets: Vec<Socket>,
    /// Whether they are all one that outlives this process.
    is_inherited: bool,
}

/// Opens `count` sockets on `listen`, or shares the inherited one among as many threads.
///
/// # Errors
/// What the system says. An address that somebody else listens on is taken, even though sockets of one user may share it.
pub(crate) fn bind(listen: Listen, count: usize, inherited: Option<UdpSocket>) -> io::Result<Sockets> {
    let is_inherited = inherited.is_some();
    let (addr, sockets) = match inherited {
        Some(socket) => {
            let socket = Socket::from(socket);
            socket.set_nonblocking(false)?;
            prepare(&socket, listen.addr)?;
            socket.set_read_timeout(Some(INHERITED_LOOK_EVERY))?;
            (listen.addr, (0..count).map(|_| socket.try_clone()).collect::<io::Result<Vec<Socket>>>()?)
        }
        None => {
            let alone = listen.open(Type::DGRAM)?;
            alone.bind(&SockAddr::from(listen.addr))?;
            let addr = UdpSocket::from(alone).local_addr()?;
            let open = |_| open(Listen { addr, ..listen });
            (addr, (0..count).map(open).collect::<io::Result<Vec<Socket>>>()?)
        }
    };
    if let Some(granted) = sockets.first().map(Socket::recv_buffer_size).transpose()?
        && granted < RECEIVE_BUFFER_BYTES
    {
        info!(
            %addr,
            granted,
            wanted = RECEIVE_BUFFER_BYTES,
            "the system grants a smaller DNS receive buffer: raise net.core.rmem_max to ride out longer stalls"
        );
    }
    Ok(Sockets { addr, sockets, is_inherited })
}

fn open(listen: Listen) -> io::Result<Socket> {
    let socket = listen.open(Type::DGRAM)?;
    socket.set_reuse_port(true)?;
    prepare(&socket, listen.addr)?;
    socket.bind(&SockAddr::from(listen.addr))?;
    Ok(socket)
}

/// Sets what every socket on `addr` needs.
fn prepare(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    if addr.ip().is_unspecified() {
        match addr {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    Ok(())
}

/// The threads that serve one address.
#[derive(Debug)]
pub(crate) struct Workers {
    sockets: Vec<Arc<Socket>>,
    threads: Vec<JoinHandle<()>>,
    is_stopping: Arc<AtomicBool>,
    is_inherited: bool,
}

/// A question that is not usual.
struct Unusual {
    socket: Arc<Socket>,
    bytes: Vec<u8>,
    from: SocketAddr,
    asked: Option<Asked>,
}

/// Which of our addresses was asked.
#[derive(Clone, Copy)]
enum Asked {
    V4(nix::libc::in_pktinfo),
    V6(nix::libc::in6_pktinfo),
}

impl Workers {
    /// Answers on `sockets` until [`Workers::stop`].
    ///
    /// # Errors
    /// If the system gives no threads.
    pub(crate) fn start(sockets: Sockets, handler: &DnsHandler) -> io::Result<Self> {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (is_wildcard, is_inherited) = (sockets.addr.ip().is_unspecified(), sockets.is_inherited);
        let (door, waiting) = sync_channel(WAITING_MAX);
        let sockets: Vec<Arc<Socket>> = sockets.sockets.into_iter().map(Arc::new).collect();
        let mut threads = Vec::new();
        for socket in &sockets {
            let worker = Worker {
                socket: Arc::clone(socket),
                handler: handler.clone(),
                others: door.clone(),
                is_stopping: Arc::clone(&is_stopping),
                draws: Cell::new(rand::random()),
                limiter: RefCell::new(handler.guard().limiter()),
            };
            let work = move || if is_wildcard { worker.run_singly() } else { worker.run_in_batches() };
            threads.push(std::thread::Builder::new().name("dns".to_owned()).spawn(work)?);
        }
        let handler = handler.clone();
        let answer = move || answer_unusual(&handler, &waiting);
        threads.push(std::thread::Builder::new().name("dns-unusual".to_owned()).spawn(answer)?);
        Ok(Self { sockets, threads, is_stopping, is_inherited })
    }

    /// Ends the threads; what has been received is answered. What waits in an inherited socket is for the next agent, so that
    /// one is not shut down: its threads look now and then.
    pub(crate) fn stop(self) {
        self.is_stopping.store(true, Ordering::Release);
        let own = if self.is_inherited { &[] } else { self.sockets.as_slice() };
        for socket in own {
            // On a socket without a peer this is an error, and wakes whoever waits for it all the same.
            let _ = socket.shutdown(Shutdown::Both);
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn answer_unusual(handler: &DnsHandler, waiting: &Receiver<Unusual>) {
    while let Ok(Unusual { socket, bytes, from, asked }) = waiting.recv() {
        let Some(response) = handler.answer_message(&bytes, from.ip(), Via::Udp) else {
            continue;
        };
        let sent = match asked {
            Some(asked) => send_from(&socket, asked, &response, from).map_err(io::Error::from),
            None => socket.send_to(&response, &SockAddr::from(from)).map(drop),
        };
        if let Err(error) = sent {
            handler.on_unsent(&error);
        }
    }
}

fn send_from(socket: &Socket, asked: Asked, response: &[u8], to: SocketAddr) -> nix::Result<()> {
    let control = match &asked {
        Asked::V4(info) => ControlMessage::Ipv4PacketInfo(info),
        Asked::V6(info) => ControlMessage::Ipv6PacketInfo(info),
    };
    let to = SockaddrStorage::from(to);
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(response)], &[control], MsgFlags::empty(), Some(&to)).map(drop)
}

/// One thread's room for what comes and what goes.
struct Buffers {
    requests: Vec<[u8; REQUEST_BYTES_MAX]>,
    /// How long each request is, and who asks.
    received: Vec<(usize, SocketAddr)>,
    responses: Vec<[u8; hot::RESPONSE_BYTES_MAX]>,
    /// How long each response is, and who gets it.
    answered: Vec<(usize, SocketAddrAny)>,
}

impl Buffers {
    fn new() -> Self {
        Self {
            requests: vec![[0; REQUEST_BYTES_MAX]; BATCH],
            received: Vec::with_capacity(BATCH),
            responses: vec![[0; hot::RESPONSE_BYTES_MAX]; BATCH],
            answered: Vec::with_capacity(BATCH),
        }
    }
}

/// What is counted in one turn.
#[derive(Default)]
struct Counts {
    hot: u64,
    nxdomain: u64,
    truncated: u64,
    dropped: u64,
    unanswered: u64,
    rate_limited: u64,
    slipped: u64,
    cookies_bad: u64,
}

impl Counts {
    fn add_to(&self, handler: &DnsHandler) {
        let stats = handler.stats();
        let counters = [
            (self.hot + self.unanswered + self.rate_limited + self.slipped, &stats.queries),
            (self.hot, &stats.hot),
            (self.nxdomain, &stats.nxdomain),
            (self.truncated, &stats.truncated),
            (self.dropped, &stats.dropped),
            (self.unanswered, &stats.unanswered),
            (self.rate_limited, &stats.rate_limited),
            (self.slipped, &stats.slipped),
            (self.cookies_bad, &stats.cookies_bad),
        ];
        for (count, counter) in counters {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}

/// What holds for all requests of one turn.
struct Turn<'a> {
    zone: &'a hot::Zone,
    secrets: &'a Secrets,
    /// Read once: of one turn all requests come at the same time.
    now: Instant,
    wall: WallTime,
}

/// One thread and its socket.
struct Worker {
    socket: Arc<Socket>,
    handler: DnsHandler,
    others: SyncSender<Unusual>,
    is_stopping: Arc<AtomicBool>,
    draws: Cell<u64>,
    limiter: RefCell<Option<Limiter>>,
}

impl Worker {
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    fn run_in_batches(self) {
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let mut buffers = Buffers::new();
        while !self.is_stopping() {
            let is_busy = buffers.received.len() >= BATCH_SMALL;
            let received = if is_busy {
                self.receive::<BATCH>(&mut headers, &mut buffers)
            } else {
                self.receive::<BATCH_SMALL>(&mut headers, &mut buffers)
            };
            if let Err(errno) = received {
                self.on_receive_failed(errno);
                continue;
            }
            let mut counts = Counts::default();
            self.answer(&mut buffers, &mut counts);
            // Before it is sent: whoever has a response finds it counted.
            counts.add_to(&self.handler);
            match buffers.answered.len() {
                0 => {}
                1..=BATCH_SMALL => self.send::<BATCH_SMALL>(&buffers),
                _ => self.send::<BATCH>(&buffers),
            }
        }
    }

    fn on_receive_failed(&self, errno: Errno) {
        if ![Errno::EINTR, Errno::EAGAIN].contains(&errno) && !self.is_stopping() {
            debug!(%errno, "dns request not received");
            std::thread::sleep(RECEIVE_AGAIN_AFTER);
        }
    }

    /// Waits for a request, and takes what else is there.
    fn receive<const COUNT: usize>(
        &self,
        headers: &mut MultiHeaders<SockaddrStorage>,
        buffers: &mut Buffers,
    ) -> nix::Result<()> {
        buffers.received.clear();
        let mut rooms = buffers.requests.iter_mut();
        let mut slices: [_; COUNT] = core::array::from_fn(|_| {
            let room: &mut [u8] = rooms.next().map_or(&mut [], |room| room);
            [IoSliceMut::new(room)]
        });
        let fd = self.socket.as_raw_fd();
        let messages = recvmmsg(fd, headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None)?;
        let nobody = SocketAddr::from(([0; 4], 0));
        buffers.received.extend(messages.map(|message| {
            let from = message.address.as_ref().and_then(socket_addr);
            (message.bytes, from.unwrap_or(nobody))
        }));
        Ok(())
    }

    /// Answers what was received, or hands it on.
    fn answer(&self, buffers: &mut Buffers, counts: &mut Counts) {
        buffers.answered.clear();
        let (zone, secrets) = (self.handler.zone(), self.handler.guard().secrets());
        let (now, wall) = self.handler.guard().now();
        let turn = Turn { zone: &zone, secrets: &secrets, now, wall };
        for (index, (length, from)) in buffers.received.iter().copied().enumerate() {
            let request = &buffers.requests[index][..length];
            let response = &mut buffers.responses[buffers.answered.len()];
            if let Some(answered) = self.answer_one(&turn, request, from, None, response, counts) {
                buffers.answered.push((answered, from.as_any()));
            }
        }
    }

    /// The length of the response, if it is to be sent from here.
    fn answer_one(
        &self,
        turn: &Turn<'_>,
        request: &[u8],
        from: SocketAddr,
        asked: Option<Asked>,
        response: &mut [u8],
        counts: &mut Counts,
    ) -> Option<usize> {
        if from.port() == 0 {
            // Nobody listens on port 0: the source is forged, and a response would fail.
            counts.unanswered += 1;
            return None;
        }
        self.draws.set(self.draws.get().wrapping_add(1));
        let client = self.handler.client(from.ip(), turn.wall, turn.secrets);
        if !client.is_trusted {
            match self.admit(turn, &client, request, response, counts) {
                Admission::Answer => {}
                Admission::Instead(length) => return Some(length),
                Admission::Drop => return None,
            }
        }
        let is_allowed = self.handler.is_allowed(from.ip());
        let draw = mix(self.draws.get());
        if is_allowed && let Some(answered) = turn.zone.answer(&client, request, response, draw) {
            counts.hot += 1;
            counts.nxdomain += u64::from(answered.is_nxdomain);
            counts.truncated += u64::from(answered.is_truncated);
            return Some(answered.length);
        }
        let unusual = Unusual { socket: Arc::clone(&self.socket), bytes: request.to_vec(), from, asked };
        counts.dropped += u64::from(self.others.try_send(unusual).is_err());
        None
    }

    /// Whether somebody who is not trusted is answered.
    fn admit(
        &self,
        turn: &Turn<'_>,
        client: &Client<'_>,
        request: &[u8],
        response: &mut [u8],
        counts: &mut Counts,
    ) -> Admission {
        let mut limiter = self.limiter.borrow_mut();
        let admitted = admission::admit(limiter.as_mut(), client, request, response, turn.now);
        counts.cookies_bad += u64::from(admitted.cookie == Some(Standing::Bad));
        match admitted.verdict {
            Admission::Answer => {}
            Admission::Instead(_) => counts.slipped += 1,
            Admission::Drop => counts.rate_limited += 1,
        }
        admitted.verdict
    }

    /// Sends the responses.
    fn send<const COUNT: usize>(&self, buffers: &Buffers) {
        let answered = &buffers.answered;
        let slices: [_; COUNT] = core::array::from_fn(|index| {
            let length = answered.get(index).map_or(0, |(length, _)| *length);
            [IoSlice::new(&buffers.responses[index][..length])]
        });
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; COUNT] =
            core::array::from_fn(|_| Default::default());
        let mut controls = controls.iter_mut();
        let mut messages: [_; COUNT] = core::array::from_fn(|index| {
            let control = controls.next().expect("there are as many");
            match answered.get(index) {
                Some((_, to)) => MMsgHdr::new_with_addr(to, &slices[index], control),
                None => MMsgHdr::new(&slices[index], control),
            }
        });
        let mut waiting = &mut messages[..answered.len()];
        while !waiting.is_empty() {
            let gone = match rustix::net::sendmmsg(self.socket.as_fd(), waiting, SendFlags::empty()) {
                Ok(sent) => sent.max(1),
                Err(rustix::io::Errno::INTR) => 0,
                Err(error) => {
                    self.handler.on_unsent(&error);
                    1
                }
            };
            waiting = &mut waiting[gone..];
        }
    }

    fn run_singly(self) {
        let mut request = [0; REQUEST_BYTES_MAX];
        let mut response = [0; hot::RESPONSE_BYTES_MAX];
        let mut control = nix::cmsg_space!(nix::libc::in_pktinfo, nix::libc::in6_pktinfo);
        while !self.is_stopping() {
            let received = {
                let mut slices = [IoSliceMut::new(&mut request)];
                let fd = self.socket.as_raw_fd();
                recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), MsgFlags::empty()).and_then(
                    |message| {
                        let asked = message.cmsgs()?.find_map(asked);
                        Ok((message.bytes, message.address.as_ref().and_then(socket_addr), asked))
                    },
                )
            };
            let (length, from, asked) = match received {
                Ok((length, Some(from), Some(asked))) => (length, from, asked),
                Ok(_) => continue,
                Err(errno) => {
                    self.on_receive_failed(errno);
                    continue;
                }
            };
            let mut counts = Counts::default();
            let (zone, secrets) = (self.handler.zone(), self.handler.guard().secrets());
            let (now, wall) = self.handler.guard().now();
            let turn = Turn { zone: &zone, secrets: &secrets, now, wall };
            let answered =
                self.answer_one(&turn, &request[..length], from, Some(asked), &mut response, &mut counts);
            counts.add_to(&self.handler);
            if let Some(length) = answered
                && let Err(error) = send_from(&self.socket, asked, &response[..length], from)
            {
                self.handler.on_unsent(&error);
            }
        }
    }
}

/// Which of our addresses a message came to; it need not leave through the interface that it came through.
fn asked(control: ControlMessageOwned) -> Option<Asked> {
    if let ControlMessageOwned::Ipv4PacketInfo(mut info) = control {
        info.ipi_ifindex = 0;
        return Some(Asked::V4(info));
    }
    if let ControlMessageOwned::Ipv6PacketInfo(mut info) = control {
        info.ipi6_ifindex = 0;
        return Some(Asked::V6(info));
    }
    None
}

fn socket_addr(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|addr| SocketAddr::V4((*addr).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|addr| SocketAddr::V6((*addr).into())))
}
