//! Every bound of the mesh, in one place. Reaching one is a counted, named outcome, never silence.

use core::time::Duration;

/// Bytes of one foca packet at most: with our envelope it fits a QUIC datagram at the minimum MTU (1,162 bytes).
pub const FOCA_PACKET_BYTES_MAX: usize = 1_120;
/// Bytes of one datagram at most, envelope included.
pub const DATAGRAM_BYTES_MAX: usize = 1_160;
/// Bytes of one stream frame at most.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// Bytes of a document body at most, for topics without a tighter bound.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a `node`, `health` or `trust` body at most.
pub const SMALL_BODY_BYTES_MAX: usize = 32 << 10;
/// Bytes of a `services` body at most.
pub const SERVICES_BODY_BYTES_MAX: usize = 256 << 10;
/// Documents with more body bytes are announced and pulled, not pushed.
pub const PUSH_BODY_BYTES_MAX: usize = 8 << 10;
/// Bytes of a topic name at most.
pub const TOPIC_BYTES_MAX: usize = 72;
/// Fields of a body at most.
pub const BODY_FIELDS_MAX: usize = 64;

/// Members a node keeps at most, in any state.
pub const MEMBERS_MAX: usize = 20_000;
/// Documents of one owner at most.
pub const TOPICS_PER_OWNER_MAX: usize = 64;
/// Documents in one batch handed to the node at most.
pub const BATCH_STATEMENTS_MAX: usize = 64;
/// Body bytes in one page of a join or repair answer, about.
pub const PAGE_BYTES: usize = 128 << 10;
/// Statements that wait for their owner's `trust` document at most, over all owners.
pub const PARKED_STATEMENTS_MAX: usize = 4_096;
/// Bytes of statements that wait so at most.
pub const PARKED_BYTES_MAX: usize = 8 << 20;
/// Body bytes of all documents of one owner at most: with a page's worth they fit one frame.
pub const OWNER_BYTES_MAX: usize = 2 << 20;
/// Document names in one question at most.
pub const SUMMARIES_MAX: usize = 10_000;
/// How long a statement waits for its owner's `trust` document.
pub const PARKED_FOR: Duration = Duration::from_secs(5);
/// How far ahead of the receiver's clock an epoch may be.
pub const EPOCH_AHEAD_MAX: Duration = Duration::from_secs(86_400);

/// Instances on one node at most.
pub const INSTANCES_PER_NODE_MAX: usize = 512;
/// Endpoints of one instance at most.
pub const ENDPOINTS_PER_INSTANCE_MAX: usize = 8;
/// Checks of one endpoint at most.
pub const CHECKS_PER_ENDPOINT_MAX: usize = 4;
/// Tags of one instance at most.
pub const TAGS_PER_INSTANCE_MAX: usize = 16;
/// Addresses a node lists at most.
pub const NODE_ADDRESSES_MAX: usize = 16;

/// Bytes of a DNS label, and so of a service, node or zone name, at most (RFC 1035, 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;
/// Bytes of an instance id at most.
pub const INSTANCE_ID_BYTES_MAX: usize = 128;
/// Bytes of a tag at most.
pub const TAG_BYTES_MAX: usize = 64;

/// Events kept for `events` and `explain` at most.
pub const EVENTS_KEPT: usize = 1_024;
/// Bytes of an HTTP request body at most.
pub const HTTP_BODY_BYTES_MAX: usize = 64 << 10;
