//! foca's packets in our wire format, and what is taken out of them.
//!
//! Only the header of a packet is ours to believe: it speaks of its own sender, whose certificate we checked. Updates
//! about others carry no accuser, so anybody could kill anybody with them; member changes travel as signed documents and
//! accusations instead. Both directions therefore cut a packet down to its header.

use core::fmt;

use bytes::{Buf, BufMut};
pub use foca::Message;
use foca::{Codec, Header, Member, State};
use ringmesh_types::ids::{Epoch, Identity, MeshAddr, NodeId};
use ringmesh_types::limits::FOCA_PACKET_BYTES_MAX;
use ringmesh_types::wire::{self, Channel, WireError};

/// A member as foca knows it: its address is the node id, later starts and revivals win.
///
/// foca keeps one of these for every member, so it is bytes only: no padding, and no mesh address, which the member's
/// `node` document says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(from = "(NodeId, Epoch, u32)", into = "(NodeId, Epoch, u32)")]
pub struct Peer {
    id: NodeId,
    epoch: [u8; 8],
    revival: [u8; 4],
}

impl Peer {
    /// The life of a member.
    pub const fn new(id: NodeId, epoch: Epoch, revival: u32) -> Self {
        Self { id, epoch: epoch.0.to_be_bytes(), revival: revival.to_be_bytes() }
    }

    /// Whose life.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Which start.
    pub const fn epoch(&self) -> Epoch {
        Epoch(u64::from_be_bytes(self.epoch))
    }

    /// Which revival within that start.
    pub const fn revival(&self) -> u32 {
        u32::from_be_bytes(self.revival)
    }

    /// The same at a mesh address.
    pub const fn at(&self, addr: MeshAddr) -> Identity {
        Identity { id: self.id, epoch: self.epoch(), revival: self.revival(), addr }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} {}.{})", self.id, self.epoch(), self.revival())
    }
}

impl From<Identity> for Peer {
    fn from(identity: Identity) -> Self {
        Self::new(identity.id, identity.epoch, identity.revival)
    }
}

impl From<(NodeId, Epoch, u32)> for Peer {
    fn from((id, epoch, revival): (NodeId, Epoch, u32)) -> Self {
        Self::new(id, epoch, revival)
    }
}

impl From<Peer> for (NodeId, Epoch, u32) {
    fn from(peer: Peer) -> Self {
        (peer.id, peer.epoch(), peer.revival())
    }
}

impl foca::Identity for Peer {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self::new(self.id, self.epoch(), self.revival().checked_add(1)?))
    }

    fn addr(&self) -> NodeId {
        self.id
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.epoch, self.revival) > (adversary.epoch, adversary.revival)
    }
}

/// Encodes foca's headers and members with the project's codec.
#[derive(Debug, Clone, Copy, Default)]
pub struct PacketCodec;

impl PacketCodec {
    fn put<T: serde::Serialize>(value: &T, mut buf: impl BufMut) -> Result<(), WireError> {
        let mut bytes = Vec::with_capacity(96);
        wire::encode_into(&mut bytes, value)?;
        if bytes.len() > buf.remaining_mut() {
            return Err(WireError::TooLarge(bytes.len(), buf.remaining_mut()));
        }
        buf.put_slice(&bytes);
        Ok(())
    }

    fn take<T: serde::de::DeserializeOwned>(mut buf: impl Buf) -> Result<T, WireError> {
        let (value, used) = wire::decode_prefix(Channel::Datagram, buf.chunk())?;
        buf.advance(used);
        Ok(value)
    }
}

impl Codec<Peer> for PacketCodec {
    type Error = WireError;

    fn encode_header(&mut self, header: &Header<Peer>, buf: impl BufMut) -> Result<(), WireError> {
        Self::put(header, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Peer>, WireError> {
        Self::take(buf)
    }

    fn encode_member(&mut self, member: &Member<Peer>, buf: impl BufMut) -> Result<(), WireError> {
        Self::put(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Peer>, WireError> {
        Self::take(buf)
    }
}

/// A received packet cut down to what may be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who says it has sent this; to be compared with the certificate.
    pub src: Identity,
    /// The sender's incarnation.
    pub incarnation: u16,
    /// Whom it is for.
    pub dst: Peer,
    /// What it says.
    pub message: Message<Peer>,
    /// Claims about third parties that were taken out: Suspect or Down.
    pub claims_removed: u32,
    /// The header and an empty update list, for foca.
    pub packet: Vec<u8>,
}

/// Why a packet was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Longer than a foca packet may be.
    #[error("the packet has {0} bytes, at most {FOCA_PACKET_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Not a packet.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Joins and rumours travel as documents here, so foca's own messages for them have no place.
    #[error("the message kind {0} is not used in this mesh")]
    Kind(&'static str),
}

/// Reads a packet that says it comes from the mesh address `at`, and cuts it down to its header.
///
/// # Errors
/// Says what is wrong with it; nothing is kept of a packet that does not decode whole.
pub fn hear(at: MeshAddr, packet: &[u8]) -> Result<Heard, PacketError> {
    if packet.len() > FOCA_PACKET_BYTES_MAX {
        return Err(PacketError::TooLarge(packet.len()));
    }
    let (header, used) = wire::decode_prefix::<Header<Peer>>(Channel::Datagram, packet)?;
    let has_updates = match header.message {
        Message::Ping(_)
        | Message::Ack(_)
        | Message::PingReq { .. }
        | Message::IndirectPing { .. }
        | Message::IndirectAck { .. }
        | Message::ForwardedAck { .. }
        | Message::Gossip => true,
        Message::TurnUndead => false,
        Message::Announce => return Err(PacketError::Kind("announce")),
        Message::Feed => return Err(PacketError::Kind("feed")),
        Message::Broadcast => return Err(PacketError::Kind("broadcast")),
    };
    let claims_removed = count_claims(&packet[used..], header.src.id())?;
    let mut kept = packet[..used].to_vec();
    if has_updates {
        kept.extend_from_slice(&[0, 0]);
    }
    Ok(Heard {
        src: header.src.at(at),
        incarnation: header.src_incarnation,
        dst: header.dst,
        message: header.message,
        claims_removed,
        packet: kept,
    })
}

/// How many updates in `rest` call somebody other than `src` Suspect or Down.
fn count_claims(mut rest: &[u8], src: NodeId) -> Result<u32, PacketError> {
    if rest.is_empty() {
        return Ok(0);
    }
    if rest.len() < 2 {
        return Err(WireError::Trailing(rest.len()).into());
    }
    let count = rest.get_u16();
    let mut claims = 0;
    for _ in 0..count {
        let (member, used) = wire::decode_prefix::<Member<Peer>>(Channel::Datagram, rest)?;
        rest.advance(used);
        let is_accusing = matches!(member.state(), State::Suspect | State::Down);
        claims += u32::from(is_accusing && member.id().id() != src);
    }
    if !rest.is_empty() {
        return Err(WireError::Trailing(rest.len()).into());
    }
    Ok(claims)
}

/// A packet that foca wants to send, cut down to its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// Our incarnation.
    pub incarnation: u16,
    /// What it says.
    pub message: Message<Peer>,
    /// The header and an empty update list.
    pub packet: Vec<u8>,
}

/// Cuts a packet that foca wants to send down to its header.
///
/// # Errors
/// Never for packets that foca made; said all the same so that nothing is sent that was not understood.
pub fn speak(packet: &[u8]) -> Result<Spoken, WireError> {
    let (header, used) = wire::decode_prefix::<Header<Peer>>(Channel::Stream, packet)?;
    let mut kept = packet[..used].to_vec();
    if packet.len() >= used + 2 {
        kept.extend_from_slice(&[0, 0]);
    }
    Ok(Spoken { incarnation: header.src_incarnation, message: header.message, packet: kept })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(byte: u8) -> Peer {
        Peer::new(NodeId::from_bytes([byte; 8]), Epoch(300), 1)
    }

    fn at(byte: u8) -> MeshAddr {
        MeshAddr::from(core::net::SocketAddr::from(([127, 0, 0, byte], 7300)))
    }

    fn packet(message: Message<Peer>, updates: &[Member<Peer>]) -> Vec<u8> {
        let header = Header { src: peer(1), src_incarnation: 2, dst: peer(3), message };
        let mut bytes = Vec::new();
        wire::encode_into(&mut bytes, &header).expect("fits");
        bytes.put_u16(u16::try_from(updates.len()).expect("few"));
        for update in updates {
            wire::encode_into(&mut bytes, update).expect("fits");
        }
        bytes
    }

    #[test]
    fn a_member_is_small_in_memory() {
        assert_eq!(size_of::<Member<Peer>>(), 24);
    }

    #[test]
    fn only_a_later_life_takes_the_place_of_another() {
        use foca::Identity;
        let life = |epoch, revival| Peer::new(NodeId::from_bytes([1; 8]), Epoch(epoch), revival);
        assert!(!life(2, 1).win_addr_conflict(&life(2, 1)));
        assert!(life(2, 2).win_addr_conflict(&life(2, 1)));
        assert!(life(256, 0).win_addr_conflict(&life(255, 9)));
        assert!(!life(255, 9).win_addr_conflict(&life(256, 0)));
    }

    #[test]
    fn a_ping_is_golden() {
        let id = |byte: u8| [vec![byte; 8], vec![251, 44, 1, 1]].concat();
        let want = [id(1), vec![2], id(3), vec![0, 9], vec![0, 0]].concat();
        assert_eq!(packet(Message::Ping(9), &[]), want);
    }

    #[test]
    fn claims_about_others_are_taken_out_and_counted() {
        let claims = [
            Member::new(peer(7), 0, State::Down),
            Member::new(peer(8), 5, State::Suspect),
            Member::new(peer(9), 5, State::Alive),
            Member::new(peer(1), 5, State::Down),
        ];
        let heard = hear(at(1), &packet(Message::Ping(9), &claims)).expect("a packet");
        assert_eq!(heard.claims_removed, 2);
        assert_eq!(heard.packet, packet(Message::Ping(9), &[]));
        assert_eq!((heard.src, heard.incarnation, heard.dst), (peer(1).at(at(1)), 2, peer(3)));
    }

    #[test]
    fn messages_for_joining_by_rumour_are_refused() {
        assert_eq!(hear(at(1), &packet(Message::Feed, &[])), Err(PacketError::Kind("feed")));
        assert!(matches!(hear(at(1), &[0; 1_121]), Err(PacketError::TooLarge(1_121))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn mutated_packets_never_panic(index in 0_usize..120, byte in any::<u8>(), cut in 0_usize..200) {
            let claims = [Member::new(peer(7), 0, State::Down)];
            let mut bytes = packet(Message::Ping(9), &claims);
            let length = bytes.len();
            bytes[index % length] = byte;
            bytes.truncate(cut.max(1));
            let _ = hear(at(1), &bytes);
        }
    }
}
