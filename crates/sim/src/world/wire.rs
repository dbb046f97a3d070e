//! What crosses links: outputs of machines become messages, messages become inputs. Everything is encoded and decoded
//! with the real codec and passes the real gate for seals.

use core::time::Duration;
use std::sync::Arc;

use rand::RngExt;
use ringmesh_gossip::message::{Push, Request, Response};
use ringmesh_health::monitor::{Outcome, ProbeId};
use ringmesh_health::spec::CheckSpec;
use ringmesh_node::io::{Input, Output, Persist, Source, Target, Ticket};
use ringmesh_types::document::Document;
use ringmesh_types::limits;
use ringmesh_types::sealed::{Statement, VerifiedStatement};
use ringmesh_types::service;
use ringmesh_types::wire::{self, Channel};

use super::host::{Asker, Endpoint};
use super::{REQUEST_TIMEOUT, What, World};

/// The probe time-out of a QUIC connection that has measured nothing yet (RFC 9002, 6.2.2); it doubles.
const RESEND_AFTER: Duration = Duration::from_secs(1);
/// A dial gives up after 1.5 s: what it sends is sent twice.
const REDIALS_MAX: u32 = 1;
/// A connection over which nothing comes for 10 s is dead: its last try comes after 1 + 2 + 4 s.
const RESENDS_MAX: u32 = 3;

#[derive(Debug)]
pub(super) enum Message {
    Datagram(Vec<u8>),
    Push(Arc<[u8]>),
    Request(u32, Ticket, Arc<[u8]>),
    Response(Ticket, Arc<[u8]>),
}

impl Message {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Datagram(bytes) => bytes,
            Self::Push(bytes) | Self::Request(_, _, bytes) | Self::Response(_, bytes) => bytes,
        }
    }
}

impl World {
    /// Hands a host a message from another that no honest node would send.
    pub fn forge_push(&mut self, from: usize, to: usize, push: &Push) {
        if let Ok(bytes) = wire::encode(Channel::Stream, push) {
            self.send_stream(from, to, Message::Push(bytes.into()));
        }
    }

    /// Hands a host bytes on a stream that are no message of this version.
    pub fn forge_stream(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        self.send_stream(from, to, Message::Push(bytes.into()));
    }

    /// Hands a host a datagram from another that no honest node would send.
    pub fn forge_datagram(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        self.schedule(to, Duration::ZERO, What::Arrives { from, message: Message::Datagram(bytes) });
    }

    pub(super) fn arrive(&mut self, host: usize, from: usize, message: Message) {
        let (peer, addr) = (self.hosts[from].id, self.hosts[from].addr);
        match message {
            Message::Datagram(bytes) => self.input(host, Input::Datagram { from: peer, addr, bytes }),
            Message::Push(bytes) => match wire::decode(Channel::Stream, &bytes) {
                Ok(Push::Statements(statements)) => self.admit(host, Source::Pushed(peer), statements),
                Ok(Push::Announce(documents)) => self.input(host, Input::Announced { from: peer, documents }),
                Ok(Push::Spread { hops, statements }) => {
                    self.admit(host, Source::Spread { from: peer, hops }, statements);
                }
                Ok(Push::Tree(message)) => self.input(host, Input::Tree { from: peer, message }),
                Err(_) => {}
            },
            Message::Request(life, theirs, bytes) => {
                let Ok(mut request) = wire::decode::<Request>(Channel::Stream, &bytes) else {
                    return;
                };
                if let Request::Hello { documents, .. } = &mut request {
                    let documents = core::mem::take(documents);
                    self.admit(host, Source::Pushed(peer), as_statements(documents));
                }
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                if let Some(running) = &mut self.hosts[host].running {
                    running.asked_by.insert(ticket, Asker { host: from, life, ticket: theirs });
                }
                self.input(host, Input::Request { from: peer, addr, ticket, request });
            }
            Message::Response(ticket, bytes) => {
                let Ok(mut response) = wire::decode::<Response>(Channel::Stream, &bytes) else {
                    return;
                };
                let documents = response.take_documents();
                self.input(host, Input::Response { ticket, result: Ok((peer, response)) });
                self.admit(host, Source::Answered(peer), as_statements(documents));
            }
        }
    }

    pub(super) fn admit(&mut self, host: usize, source: Source, statements: Vec<Statement>) {
        let (now, wall) = (self.now, self.wall(host));
        let Some(running) = &mut self.hosts[host].running else {
            return;
        };
        let mut admission = running.gate.admit(now, wall, statements);
        for statement in &mut admission.admitted {
            if let VerifiedStatement::Document(document) = statement {
                *document = self.library.share(document.clone());
            }
        }
        while !admission.admitted.is_empty() {
            let rest =
                admission.admitted.split_off(admission.admitted.len().min(limits::BATCH_STATEMENTS_MAX));
            let statements = core::mem::replace(&mut admission.admitted, rest);
            self.input(host, Input::Statements { source, statements });
        }
        if let (Some(from), false) = (source.peer(), admission.wanted.is_empty()) {
            let speakers = admission.wanted.into_iter().collect();
            self.input(host, Input::TrustWanted { from, speakers });
        }
    }

    pub(super) fn act(&mut self, host: usize, output: Output) {
        match output {
            Output::Datagram { to, bytes } => self.send_datagram(host, to, bytes),
            Output::Push { to, push, .. } => {
                let Ok(bytes) = wire::encode(Channel::Stream, &*push) else {
                    return;
                };
                let bytes: Arc<[u8]> = bytes.into();
                for target in to {
                    if let Some(peer) = self.host_at(target.addr) {
                        self.send_stream(host, peer, Message::Push(bytes.clone()));
                    }
                }
            }
            Output::Request { to, ticket, request } => self.send_request(host, to, ticket, &request),
            Output::Reply { ticket, response } => self.send_reply(host, ticket, &response),
            Output::Probe { id, endpoint, spec } => self.probe(host, id, &endpoint, &spec),
            Output::Persist { ticket, what } => self.persist(host, ticket, what),
            Output::Answer { result, .. } => self.hosts[host].answers.push(result),
            Output::Event(event) => self.events.push((self.now, host, event)),
            Output::Presence(changes) => self.presences.push((self.now, host, changes)),
            Output::ViewChanged => self.mark_changed(host),
            Output::Rejected { from, reason } => self.refusals.push((self.now, host, from, reason)),
            Output::Stop => self.crash(host),
            Output::Disconnect(_) => {}
        }
    }

    fn probe(&mut self, host: usize, id: ProbeId, endpoint: &service::Endpoint, spec: &CheckSpec) {
        let (after, outcome) = match self.endpoint(host, endpoint.socket_addr()) {
            Endpoint::Answers(latency) if latency < spec.timeout => (latency, Outcome::Good { latency }),
            Endpoint::Answers(_) | Endpoint::Silent => {
                (spec.timeout, Outcome::Bad { detail: "no answer".to_owned() })
            }
        };
        self.schedule(host, after, What::Probed(id, outcome));
    }

    fn send_datagram(&mut self, from: usize, target: Target, bytes: Vec<u8>) {
        let sent = &mut self.hosts[from].sent;
        sent.datagrams += 1;
        sent.bytes += bytes.len() as u64;
        let Some(to) = self.host_at(target.addr) else {
            return;
        };
        if !self.is_running(to) && self.first_sent[to].is_none() {
            self.first_sent[to] = Some(self.now);
        }
        let passage = self.links.datagram(&mut self.rng, self.now, (from, to), bytes.len());
        self.hosts[from].sent.bytes += passage.extra_bytes;
        let held = self.hosts[from].held(self.now);
        if let Some(delay) = passage.again {
            let message = Message::Datagram(bytes.clone());
            self.schedule(to, held + delay, What::Arrives { from, message });
        }
        if let Some(delay) = passage.arrives {
            self.schedule(to, held + delay, What::Arrives { from, message: Message::Datagram(bytes) });
        }
    }

    fn send_stream(&mut self, from: usize, to: usize, message: Message) {
        let bytes = message.bytes().len();
        let passage = self.links.stream(&mut self.rng, self.now, (from, to), bytes);
        let sent = &mut self.hosts[from].sent;
        sent.messages += 1;
        sent.bytes += bytes as u64 + passage.extra_bytes;
        self.travel(from, to, message, passage.arrives, 0);
    }

    /// QUIC sends again what is not acknowledged: over a connection that is there until it counts as dead, and while one
    /// is being made until the dial gives up.
    pub(super) fn send_again(&mut self, from: usize, to: usize, message: Message, tries: u32) {
        let bytes = message.bytes().len();
        let passage = self.links.stream(&mut self.rng, self.now, (from, to), bytes);
        self.hosts[from].sent.bytes += bytes as u64 + passage.extra_bytes;
        self.travel(from, to, message, passage.arrives, tries);
    }

    fn travel(&mut self, from: usize, to: usize, message: Message, arrives: Option<Duration>, tries: u32) {
        let held = self.hosts[from].held(self.now);
        if let Some(delay) = arrives {
            self.schedule(to, held + delay, What::Arrives { from, message });
            return;
        }
        let most = if self.links.is_connected(from, to) { RESENDS_MAX } else { REDIALS_MAX };
        if tries < most {
            let after = RESEND_AFTER * (1 << tries);
            self.schedule(from, after, What::Resends { to, message, tries: tries + 1 });
        }
    }

    fn send_request(&mut self, host: usize, target: Target, ticket: Ticket, request: &Request) {
        self.schedule(host, REQUEST_TIMEOUT, What::Fails(ticket));
        let is_asked = |to: &usize| target.id.is_none_or(|id| self.hosts[*to].id == id);
        let to = self.host_at(target.addr).filter(is_asked);
        if let (Some(to), Ok(bytes)) = (to, wire::encode(Channel::Stream, request)) {
            let life = self.hosts[host].life;
            self.send_stream(host, to, Message::Request(life, ticket, bytes.into()));
        }
    }

    fn send_reply(&mut self, host: usize, ticket: Ticket, response: &Response) {
        let asked_by = self.hosts[host].running.as_mut().and_then(|running| running.asked_by.remove(&ticket));
        let asked_by = asked_by.filter(|asker| self.hosts[asker.host].life == asker.life);
        if let (Some(asker), Ok(bytes)) = (asked_by, wire::encode(Channel::Stream, response)) {
            self.send_stream(host, asker.host, Message::Response(asker.ticket, bytes.into()));
        }
    }

    fn persist(&mut self, host: usize, ticket: Option<Ticket>, what: Persist) {
        let is_full = self.hosts[host].is_disk_full;
        let disk = &mut self.hosts[host].disk;
        if !is_full {
            match what {
                Persist::Epoch(epoch) => disk.epoch = epoch,
                Persist::Registrations(state) => disk.registrations = state,
                Persist::Health(health) => disk.health = health,
                Persist::View { .. } | Persist::Peers(_) if self.is_bare => {}
                Persist::View { documents, down } => (disk.view, disk.down) = (documents, down),
                Persist::Peers(peers) => disk.peers = peers,
                Persist::Maps(maps) => disk.maps = maps,
            }
        }
        if let Some(ticket) = ticket {
            let after = Duration::from_micros(self.rng.random_range(100..2_000));
            let result = if is_full { Err("no space left on device".to_owned()) } else { Ok(()) };
            self.schedule(host, after, What::Persisted(ticket, result));
        }
    }
}

pub(super) fn as_statements(documents: Vec<Document>) -> Vec<Statement> {
    documents.into_iter().map(Statement::Document).collect()
}
