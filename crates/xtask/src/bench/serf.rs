//! Serf with its profile for local networks, which is its default. A change is a user event of 64 bytes, not coalesced,
//! asked for over the RPC port (MessagePack, one header and one body a request).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::systems::{Said, System, addr, agent, change_name, name};

/// What it is called.
pub(crate) const NAME: &str = "serf";
const GOSSIP_PORT: u16 = 7_946;
const RPC_PORT: u16 = 7_373;
const RPC_WITHIN: Duration = Duration::from_secs(5);
/// As much as a change of health takes.
const PAYLOAD: [u8; 64] = [b'x'; 64];
/// How MessagePack writes `"Error": ""`: the request was taken.
const NO_ERROR: &[u8] = b"Error\xa0";

/// Agents of Serf.
pub(crate) struct Serf;

impl System for Serf {
    fn name(&self) -> &'static str {
        NAME
    }

    fn command(&self, agent: usize) -> Command {
        let addr = addr(agent);
        let mut command = Command::new("serf");
        command
            .args(["agent", "-profile=lan", "-log-level=info"])
            .arg(format!("-node={}", name(agent)))
            .arg(format!("-bind={addr}:{GOSSIP_PORT}"))
            .arg(format!("-rpc-addr={addr}:{RPC_PORT}"))
            .stdin(Stdio::null());
        if agent > 0 {
            command.arg(format!("-join={}:{GOSSIP_PORT}", super::systems::addr(0)));
        }
        command
    }

    fn reader(&self) -> fn(&str) -> Option<Said> {
        read
    }

    fn seed_is_up(&self) -> Result<()> {
        Ok(())
    }

    fn members(&self, _agent: usize, joined: usize) -> usize {
        joined
    }

    fn given_to_quic(&self, _agent: usize) -> Result<Option<f64>> {
        Ok(None)
    }

    fn prepare_change(&self, _agent: usize, _number: u32) -> Result<()> {
        Ok(())
    }

    fn change(&self, agent: usize, number: u32) -> Result<Instant> {
        let mut rpc = Rpc::open(&format!("{}:{RPC_PORT}", addr(agent)))?;
        let at = Instant::now();
        rpc.call("event", &event(&change_name(number)))?;
        Ok(at)
    }
}

/// Reads a line of its log.
fn read(line: &str) -> Option<Said> {
    let after = |mark: &str| line.split_once(mark)?.1.split_whitespace().next();
    if let Some(who) = after("serf: EventMemberJoin: ") {
        agent(who).map(Said::Joined)
    } else if let Some(who) = after("serf: EventMemberFailed: ") {
        agent(who).map(Said::Failed)
    } else {
        after("agent: Received event: user-event: ").map(|what| Said::Changed(what.to_owned()))
    }
}

/// A connection for requests.
struct Rpc {
    stream: TcpStream,
    sequence: u8,
}

impl Rpc {
    fn open(addr: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr).with_context(|| format!("RPC of serf at {addr}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(RPC_WITHIN))?;
        let mut rpc = Self { stream, sequence: 0 };
        rpc.call("handshake", &[map(1), text("Version"), number(1)].concat())?;
        Ok(rpc)
    }

    /// Returns when the request was taken.
    fn call(&mut self, command: &str, body: &[u8]) -> Result<()> {
        let header = [map(2), text("Command"), text(command), text("Seq"), number(self.sequence)].concat();
        self.sequence += 1;
        self.stream.write_all(&[&header, body].concat())?;
        let mut answer = [0; 1_024];
        let length = self.stream.read(&mut answer).with_context(|| format!("RPC {command} of serf"))?;
        let answer = &answer[..length];
        if !answer.windows(NO_ERROR.len()).any(|window| window == NO_ERROR) {
            bail!("RPC {command} of serf: {}", String::from_utf8_lossy(answer));
        }
        Ok(())
    }
}

fn event(name: &str) -> Vec<u8> {
    let payload = [&[0xda, 0, 64][..], &PAYLOAD].concat();
    let is_coalesced = vec![0xc2];
    [map(3), text("Name"), text(name), text("Payload"), payload, text("Coalesce"), is_coalesced].concat()
}

/// The beginning of a map of so many pairs, below 16.
fn map(pairs: u8) -> Vec<u8> {
    vec![0x80 | pairs]
}

/// A text below 32 bytes.
fn text(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 32).expect("texts here are short");
    [&[0xa0 | length], text.as_bytes()].concat()
}

/// A number below 128.
fn number(number: u8) -> Vec<u8> {
    vec![number]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_are_read() {
        let check = |line: &str, want: Option<Said>| assert_eq!(read(line), want, "{line}");
        let line = |rest: &str| format!("    2024/01/02 03:04:05 [INFO] {rest}");
        check(&line("serf: EventMemberJoin: n12 127.0.1.13"), Some(Said::Joined(12)));
        check(&line("serf: EventMemberFailed: n3 127.0.1.4"), Some(Said::Failed(3)));
        let changed = Said::Changed("change-7".to_owned());
        check(&line("agent: Received event: user-event: change-7"), Some(changed));
        check(&line("agent: Received event: member-join"), None);
        check(&line("serf: EventMemberJoin: host 127.0.1.13"), None);
        check("", None);
    }

    #[test]
    fn requests_are_written_as_messagepack() {
        assert_eq!(text("Seq"), b"\xa3Seq");
        let event = event("e");
        assert!(event.starts_with(b"\x83\xa4Name\xa1e\xa7Payload\xda\x00\x40xxx"), "{event:?}");
        assert!(event.ends_with(b"x\xa8Coalesce\xc2"), "{event:?}");
    }
}
