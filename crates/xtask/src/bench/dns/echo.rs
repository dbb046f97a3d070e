//! What answering costs at least: a server that does no DNS. It sends every datagram back with QR and AA set, cut or
//! filled up to a constant length, in batches like the agent's own threads (recvmmsg(2), sendmmsg(2)).

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, setsockopt, sockopt};
use rustix::net::addr::SocketAddrArg as _;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};

/// Messages in one system call at most.
const BATCH: usize = 64;
/// After a turn with fewer than one of these only so many are asked for: a call for fewer takes less to prepare.
const BATCH_SMALL: usize = 4;
const BATCH_MIDDLE: usize = 16;
/// Bytes of a message at most.
const BYTES_MAX: usize = 2_048;
/// Bytes of a header: without one it is no question.
const HEADER_BYTES: usize = 12;
/// QR and AA, in the third byte.
const IS_ANSWER: u8 = 0x84;
const BUFFER_BYTES: usize = 4 << 20;

/// Answers on a port of 127.0.0.1 with so many bytes, until it is killed.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let [port, length] = arguments else { bail!("bench dns-echo PORT BYTES") };
    let length: usize = length
        .parse()
        .ok()
        .filter(|length| (HEADER_BYTES..=BYTES_MAX).contains(length))
        .with_context(|| format!("{length}: {HEADER_BYTES} to {BYTES_MAX} bytes are possible"))?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES)?;
    setsockopt(&socket, sockopt::SndBuf, &BUFFER_BYTES)?;
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut echo = Echo { socket, length, messages: vec![[0; BYTES_MAX]; BATCH], askers: Vec::new() };
    loop {
        match echo.askers.len() {
            0..BATCH_SMALL => echo.receive::<BATCH_SMALL>(&mut headers)?,
            BATCH_SMALL..BATCH_MIDDLE => echo.receive::<BATCH_MIDDLE>(&mut headers)?,
            _ => echo.receive::<BATCH>(&mut headers)?,
        }
        match echo.askers.len() {
            ..=BATCH_SMALL => echo.send::<BATCH_SMALL>()?,
            count if count <= BATCH_MIDDLE => echo.send::<BATCH_MIDDLE>()?,
            _ => echo.send::<BATCH>()?,
        }
    }
}

struct Echo {
    socket: UdpSocket,
    /// Bytes of every answer.
    length: usize,
    messages: Vec<[u8; BYTES_MAX]>,
    /// Who sent the messages, in order.
    askers: Vec<SocketAddrAny>,
}

impl Echo {
    /// Waits for a message, takes what else is there, and makes answers of them.
    fn receive<const COUNT: usize>(&mut self, headers: &mut MultiHeaders<SockaddrIn>) -> Result<()> {
        self.askers.clear();
        let mut rooms = self.messages.iter_mut();
        let mut slices: [_; COUNT] = core::array::from_fn(|_| {
            let room: &mut [u8] = rooms.next().map_or(&mut [], |room| room);
            [IoSliceMut::new(room)]
        });
        let fd = self.socket.as_raw_fd();
        let received = match recvmmsg(fd, headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
            Ok(received) => received,
            Err(Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(errno).context("nothing can be received"),
        };
        let asker = |addr: Option<SockaddrIn>| addr.map(|addr| SocketAddrV4::from(addr).as_any());
        self.askers.extend(received.filter_map(|message| asker(message.address)));
        for message in &mut self.messages[..self.askers.len()] {
            message[2] |= IS_ANSWER;
        }
        Ok(())
    }

    /// Sends the answers.
    fn send<const COUNT: usize>(&self) -> Result<()> {
        let slices: [_; COUNT] = core::array::from_fn(|at| [IoSlice::new(&self.messages[at][..self.length])]);
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; COUNT] =
            core::array::from_fn(|_| Default::default());
        let mut controls = controls.iter_mut();
        let mut answers: [_; COUNT] = core::array::from_fn(|at| {
            let control = controls.next().expect("there are as many");
            match self.askers.get(at) {
                Some(asker) => MMsgHdr::new_with_addr(asker, &slices[at], control),
                None => MMsgHdr::new(&slices[at], control),
            }
        });
        let mut waiting = &mut answers[..self.askers.len()];
        while !waiting.is_empty() {
            match sendmmsg(self.socket.as_fd(), waiting, SendFlags::empty()) {
                Ok(sent) => waiting = &mut waiting[sent.max(1)..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("nothing can be sent"),
            }
        }
        Ok(())
    }
}
