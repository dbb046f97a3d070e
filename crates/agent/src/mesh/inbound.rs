//! What comes in: handshakes of others, and the datagrams and streams of every link.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream, TransportErrorCode};
use ringmesh_gossip::message::{Push, Request};
use ringmesh_node::io::{Class, Input, Source};
use ringmesh_types::ids::NodeId;
use ringmesh_types::limits::FRAME_BYTES_MAX;
use ringmesh_types::wire::{self, Channel};
use tokio::sync::mpsc;

use super::links::QueuedPush;
use super::{DIAL_TIMEOUT, Mesh, REQUEST_TIMEOUT};
use crate::gate::Batch;
use crate::pki::PeerIdentity;
use crate::quic;

/// A stream whose sender takes longer is given up.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// A link that gives way to another stays this long for what is under way on it.
const REPLACED_AFTER: Duration = Duration::from_secs(2);
/// A push is acknowledged within this time, or counts as lost.
const PUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Which end of a link we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// We dialled.
    Dialler,
    /// The peer did.
    Acceptor,
}

/// Takes handshakes until the endpoint is closed.
pub(super) async fn accept(mesh: Arc<Mesh>) {
    while let Some(incoming) = mesh.endpoint.accept().await {
        match mesh.handshakes.clone().try_acquire_owned() {
            Ok(permit) => {
                let mesh = mesh.clone();
                tokio::spawn(async move {
                    shake_hands(&mesh, incoming).await;
                    drop(permit);
                });
            }
            Err(_) => {
                mesh.stats.refused.fetch_add(1, Ordering::Relaxed);
                incoming.refuse();
            }
        }
    }
}

async fn shake_hands(mesh: &Arc<Mesh>, incoming: Incoming) {
    let addr = incoming.remote_address();
    let outcome = match incoming.accept() {
        Ok(connecting) => match tokio::time::timeout(DIAL_TIMEOUT * 2, connecting).await {
            Ok(Ok(connection)) if quic::is_examination(&connection) => be_examined(mesh, connection),
            Ok(Ok(connection)) => admit(mesh, connection, Role::Acceptor).map(|_| {
                mesh.stats.accepted.fetch_add(1, Ordering::Relaxed);
            }),
            Ok(Err(error)) if is_nobodys_fault(&error) => return turn_away(mesh, addr, &error),
            Ok(Err(error)) => Err(explain(&error)),
            Err(_) => Err("the handshake took too long".to_owned()),
        },
        Err(error) if is_nobodys_fault(&error) => return turn_away(mesh, addr, &error),
        Err(error) => Err(explain(&error)),
    };
    if let Err(why) = outcome {
        mesh.stats.refused.fetch_add(1, Ordering::Relaxed);
        mesh.recorder.refused(addr, &why);
    }
}

/// Counts a handshake that came to nothing, though nobody refused anybody.
fn turn_away(mesh: &Mesh, addr: SocketAddr, why: &ConnectionError) {
    mesh.stats.refused.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(%addr, %why, "no handshake");
}

/// Whether a dialler did not want to wait any longer, or what came is no first packet: garbage, or late for a handshake that is
/// over. Who finds fault with us says so in TLS, or when it has the link; only if that gets lost does it look like the former.
fn is_nobodys_fault(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ConnectionClosed(close) => close.error_code == TransportErrorCode::APPLICATION_ERROR,
        ConnectionError::TransportError(error) => error.code == TransportErrorCode::PROTOCOL_VIOLATION,
        ConnectionError::VersionMismatch
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => false,
    }
}

/// An error of a handshake or a link, with the peer's own words if it gave any.
pub(super) fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            format!("the peer closed the link: {}", String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::ConnectionClosed(close) => match String::from_utf8_lossy(&close.reason) {
            reason if reason.is_empty() => format!("the peer refused: {}", close.error_code),
            reason => format!("the peer refused: {reason} ({})", close.error_code),
        },
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => error.to_string(),
    }
}

/// Hands a connection that is no link to whoever answers examinations ([`crate::doctor`]).
fn be_examined(mesh: &Mesh, connection: Connection) -> Result<(), String> {
    let peer = identify(mesh, &connection)?;
    match mesh.doors.examinations.try_send((peer, connection)) {
        Ok(()) => {
            mesh.stats.examined.fetch_add(1, Ordering::Relaxed);
        }
        Err(
            mpsc::error::TrySendError::Full((_, connection))
            | mpsc::error::TrySendError::Closed((_, connection)),
        ) => {
            mesh.stats.examinations_refused.fetch_add(1, Ordering::Relaxed);
            connection.close(quic::CLOSE_BUSY, b"too many examinations are under way");
        }
    }
    Ok(())
}

/// Who is at the other end; the connection is closed if that is nobody of this cluster.
fn identify(mesh: &Mesh, connection: &Connection) -> Result<PeerIdentity, String> {
    let refuse = |code, why: String| {
        connection.close(code, why.as_bytes());
        Err(why)
    };
    match quic::peer_of(connection) {
        Ok(peer) if peer.cluster == mesh.cluster => Ok(peer),
        Ok(peer) => {
            let why = format!(
                "node {} of cluster {} is not taken into cluster {}: clusters never merge",
                peer.name, peer.cluster, mesh.cluster
            );
            refuse(quic::CLOSE_CLUSTER, why)
        }
        Err(error) => refuse(quic::CLOSE_NAME, error.to_string()),
    }
}

/// Checks who is at the other end and takes the link in.
pub(super) fn admit(
    mesh: &Arc<Mesh>,
    connection: Connection,
    role: Role,
) -> Result<(NodeId, Connection), String> {
    let peer = identify(mesh, &connection)?;
    if peer.id == mesh.me {
        let _ = mesh.doors.bulk.try_send(Input::TwinSeen(connection.remote_address()));
        let why = format!(
            "there is a second agent named {} in cluster {}: rename one of them",
            peer.name, peer.cluster
        );
        connection.close(quic::CLOSE_NAME, why.as_bytes());
        return Err(why);
    }
    let is_preferred = (mesh.me < peer.id) == (role == Role::Dialler);
    let added = mesh.links().add(peer.id, &connection, is_preferred);
    tokio::spawn(serve(mesh.clone(), connection.clone(), peer.id));
    match added {
        Some(added) => {
            mesh.unsent.send_modify(|unsent| *unsent += added.queued);
            mesh.stats.count_payload(added.datagram_bytes);
            tokio::spawn(write(mesh.clone(), connection.clone(), added.pushes));
            if let Some(replaced) = added.replaced {
                close_later(replaced);
            }
        }
        None => close_later(connection.clone()),
    }
    Ok((peer.id, connection))
}

fn close_later(connection: Connection) {
    tokio::spawn(async move {
        tokio::time::sleep(REPLACED_AFTER).await;
        connection.close(quic::CLOSE_DUPLICATE, b"there is another link between us");
    });
}

/// Reads a link until it is closed.
async fn serve(mesh: Arc<Mesh>, connection: Connection, peer: NodeId) {
    let why = tokio::select! {
        why = read_datagrams(&mesh, &connection, peer) => why,
        why = read_pushes(&mesh, &connection, peer) => why,
        why = read_requests(&mesh, &connection, peer) => why,
    };
    tracing::debug!(%peer, %why, "link closed");
    if is_refusal(&why) {
        mesh.recorder.dial_failed(connection.remote_address(), &explain(&why));
    }
    mesh.links().remove_closed(peer, &connection);
}

/// Whether the peer closed the link because of who we are. It can do so after we took the handshake for finished, since
/// in TLS 1.3 the acceptor checks last.
fn is_refusal(why: &ConnectionError) -> bool {
    match why {
        ConnectionError::ConnectionClosed(_) => true,
        ConnectionError::ApplicationClosed(close) => {
            [quic::CLOSE_CLUSTER, quic::CLOSE_NAME].contains(&close.error_code)
        }
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => false,
    }
}

async fn read_datagrams(mesh: &Mesh, connection: &Connection, peer: NodeId) -> ConnectionError {
    loop {
        match connection.read_datagram().await {
            Ok(bytes) => {
                let addr = connection.remote_address();
                let input = Input::Datagram { from: peer, addr, bytes: bytes.to_vec() };
                if mesh.doors.urgent.try_send(input).is_err() {
                    mesh.stats.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => return error,
        }
    }
}

async fn read_pushes(mesh: &Arc<Mesh>, connection: &Connection, peer: NodeId) -> ConnectionError {
    loop {
        match connection.accept_uni().await {
            Ok(stream) => {
                tokio::spawn(read_push(mesh.clone(), stream, peer));
            }
            Err(error) => return error,
        }
    }
}

async fn read_push(mesh: Arc<Mesh>, mut stream: RecvStream, peer: NodeId) {
    let read = tokio::time::timeout(STREAM_TIMEOUT, stream.read_to_end(FRAME_BYTES_MAX)).await;
    let Ok(Ok(bytes)) = read else {
        return;
    };
    match wire::decode(Channel::Stream, &bytes) {
        Ok(Push::Statements(statements)) => {
            let _ = mesh.doors.gate.send(Batch { source: Source::Pushed(peer), statements }).await;
        }
        Ok(Push::Spread { hops, statements }) => {
            let source = Source::Spread { from: peer, hops };
            let _ = mesh.doors.gate.send(Batch { source, statements }).await;
        }
        Ok(Push::Tree(message)) => {
            let _ = mesh.doors.bulk.send(Input::Tree { from: peer, message }).await;
        }
        Ok(Push::Announce(documents)) => {
            let _ = mesh.doors.bulk.send(Input::Announced { from: peer, documents }).await;
        }
        Err(error) => {
            mesh.stats.undecodable.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%peer, %error, "push does not decode");
        }
    }
}

async fn read_requests(mesh: &Arc<Mesh>, connection: &Connection, peer: NodeId) -> ConnectionError {
    loop {
        match connection.accept_bi().await {
            Ok((send, receive)) => {
                let addr = connection.remote_address();
                let mesh = mesh.clone();
                tokio::spawn(async move {
                    let answered = answer(&mesh, send, receive, peer, addr);
                    let _ = tokio::time::timeout(STREAM_TIMEOUT, answered).await;
                });
            }
            Err(error) => return error,
        }
    }
}

async fn answer(
    mesh: &Arc<Mesh>,
    mut send: SendStream,
    mut receive: RecvStream,
    peer: NodeId,
    addr: SocketAddr,
) {
    let Ok(bytes) = receive.read_to_end(FRAME_BYTES_MAX).await else {
        return;
    };
    let mut request: Request = match wire::decode(Channel::Stream, &bytes) {
        Ok(request) => request,
        Err(error) => {
            mesh.stats.undecodable.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%peer, %error, "request does not decode");
            return;
        }
    };
    if let Request::Hello { documents, .. } = &mut request {
        let documents = core::mem::take(documents);
        mesh.check(Source::Pushed(peer), documents).await;
    }
    let (ticket, reply) = mesh.expect_reply();
    if mesh.doors.urgent.send(Input::Request { from: peer, addr, ticket, request }).await.is_err() {
        return;
    }
    let Ok(Ok(response)) = tokio::time::timeout(REQUEST_TIMEOUT, reply).await else {
        return;
    };
    if let Ok(bytes) = wire::encode(Channel::Stream, &response) {
        if send.write_all(&bytes).await.is_ok() {
            mesh.stats.count_payload(bytes.len());
        }
        let _ = send.finish();
        let _ = send.stopped().await;
    }
}

/// Writes the pushes of one link, each on a stream of its own, the more urgent before the others.
async fn write(mesh: Arc<Mesh>, connection: Connection, mut pushes: mpsc::Receiver<QueuedPush>) {
    while let Some((class, bytes)) = pushes.recv().await {
        let stream = match tokio::time::timeout(STREAM_TIMEOUT, connection.open_uni()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) | Err(_) => {
                mesh.stats.dropped.fetch_add(1, Ordering::Relaxed);
                mesh.unsent.send_modify(|unsent| *unsent = unsent.saturating_sub(1));
                continue;
            }
        };
        let mesh = mesh.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PUSH_TIMEOUT, write_one(&mesh, stream, class, bytes)).await;
            mesh.unsent.send_modify(|unsent| *unsent = unsent.saturating_sub(1));
        });
    }
}

async fn write_one(mesh: &Mesh, mut stream: SendStream, class: Class, bytes: bytes::Bytes) {
    let _ = stream.set_priority(match class {
        Class::Standing => 3,
        Class::Accusation => 2,
        Class::Health => 1,
        Class::Bulk => 0,
    });
    if stream.write_all(&bytes).await.is_ok() && stream.finish().is_ok() {
        mesh.stats.count_payload(bytes.len());
        let _ = stream.stopped().await;
    }
}
