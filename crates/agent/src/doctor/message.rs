//! What an examination says: one [`Question`] and its [`Reply`] on a bidirectional stream of a connection of its own.
//!
//! Enum and field order are the schema, as in `ringmesh_gossip::message`: new variants go to the end.

use ringmesh_types::ids::{Epoch, MeshAddr};
use serde::{Deserialize, Serialize};

/// Characters of a peer's words that are kept.
const WORDS_CHARS_MAX: usize = 300;

/// Asked by whoever examines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Question {
    /// Are you there, and what does your clock say?
    Here,
    /// Can you reach me, at the address that you know of me?
    CallBack,
}

/// Answers a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// To `Here`.
    Here {
        /// The answerer's clock, in unix milliseconds.
        wall_ms: u64,
        /// Which start of the answerer this is.
        epoch: Epoch,
    },
    /// To `CallBack`.
    CalledBack(CallBack),
}

/// What came of calling the asker back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CallBack {
    /// It was reached, from a port that it had never heard from.
    Reached {
        /// Where.
        at: MeshAddr,
    },
    /// It was reached from the answerer's mesh port, but not from another one: something on the path lets answers
    /// through and no first packets, or looks at the port that packets come from.
    Guarded {
        /// Where.
        at: MeshAddr,
    },
    /// It was not reached.
    Blocked {
        /// Where.
        at: MeshAddr,
        /// What the call met.
        trouble: Trouble,
    },
    /// The answerer knows no member with the asker's certificate.
    Unknown,
    /// The answerer calls others back, or called this asker within the last second.
    Busy,
}

impl CallBack {
    /// With no more of the peer's words than may be shown.
    pub(super) fn shown(self) -> Self {
        match self {
            Self::Blocked { at, trouble: Trouble { kind, by, words } } => {
                Self::Blocked { at, trouble: Trouble::new(kind, by, &words) }
            }
            Self::Reached { .. } | Self::Guarded { .. } | Self::Unknown | Self::Busy => self,
        }
    }
}

/// One end of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum End {
    /// Who dialled.
    Dialler,
    /// Who was dialled.
    Dialled,
}

/// Why a dial failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trouble {
    /// What kind of thing it is.
    pub(super) kind: TroubleKind,
    /// Which end gave up.
    pub(super) by: End,
    /// The words of whoever gave up.
    pub(super) words: String,
}

impl Trouble {
    /// Keeps what may be shown of `words`: a peer may have chosen them.
    pub(super) fn new(kind: TroubleKind, by: End, words: &str) -> Self {
        let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        Self { kind, by, words: words.chars().take(WORDS_CHARS_MAX).map(visible).collect() }
    }
}

/// The kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TroubleKind {
    /// Nothing comes back over UDP.
    Silent,
    /// The host says that nobody listens on that port.
    Closed,
    /// The network says that there is no way.
    NoRoute,
    /// A certificate is no longer valid.
    Expired,
    /// A certificate is not valid yet.
    NotYetValid,
    /// A certificate is of another authority.
    OtherAuthority,
    /// A certificate was revoked.
    Revoked,
    /// A certificate is wrong in another way.
    Certificate,
    /// The two are of different clusters.
    Cluster,
    /// The other end is no agent, or of a version without examinations.
    Protocol,
    /// Too much is under way there.
    Busy,
    /// Another node of the cluster answers.
    OtherNode,
    /// The connection broke, or what came on it made no sense.
    Lost,
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use proptest::prelude::*;
    use ringmesh_types::wire::{self, Channel, FORMAT};

    use super::*;

    fn golden<T>(value: &T, want: &[u8])
    where
        T: Serialize + serde::de::DeserializeOwned + PartialEq + core::fmt::Debug,
    {
        let bytes = wire::encode(Channel::Stream, value).expect("fits");
        assert_eq!(bytes, want);
        assert_eq!(&wire::decode::<T>(Channel::Stream, &bytes).expect("decodes"), value);
    }

    #[test]
    fn examinations_are_golden() {
        let at = MeshAddr::from(SocketAddr::from(([127, 0, 0, 1], 80)));
        let trouble = |kind| Trouble { kind, by: End::Dialled, words: "no".to_owned() };
        golden(&Question::Here, &[FORMAT, 0]);
        golden(&Question::CallBack, &[FORMAT, 1]);
        golden(&Reply::Here { wall_ms: 7, epoch: Epoch(8) }, &[FORMAT, 0, 7, 8]);
        golden(&Reply::CalledBack(CallBack::Reached { at }), &[FORMAT, 1, 0, 0, 127, 0, 0, 1, 80]);
        golden(&Reply::CalledBack(CallBack::Guarded { at }), &[FORMAT, 1, 1, 0, 127, 0, 0, 1, 80]);
        golden(&Reply::CalledBack(CallBack::Unknown), &[FORMAT, 1, 3]);
        golden(&Reply::CalledBack(CallBack::Busy), &[FORMAT, 1, 4]);
        let kinds = [
            TroubleKind::Silent,
            TroubleKind::Closed,
            TroubleKind::NoRoute,
            TroubleKind::Expired,
            TroubleKind::NotYetValid,
            TroubleKind::OtherAuthority,
            TroubleKind::Revoked,
            TroubleKind::Certificate,
            TroubleKind::Cluster,
            TroubleKind::Protocol,
            TroubleKind::Busy,
            TroubleKind::OtherNode,
            TroubleKind::Lost,
        ];
        for (number, kind) in (0_u8..).zip(kinds) {
            let blocked = CallBack::Blocked { at, trouble: trouble(kind) };
            let want = [FORMAT, 1, 2, 0, 127, 0, 0, 1, 80, number, 1, 2, b'n', b'o'];
            golden(&Reply::CalledBack(blocked), &want);
        }
    }

    #[test]
    fn words_of_a_peer_are_short_and_steer_no_terminal() {
        let at = MeshAddr::from(SocketAddr::from(([127, 0, 0, 1], 80)));
        let words = format!("\u{1b}[2J{}", "x".repeat(999));
        let said =
            CallBack::Blocked { at, trouble: Trouble { kind: TroubleKind::Lost, by: End::Dialled, words } };
        let CallBack::Blocked { trouble, .. } = said.shown() else { panic!("is another") };
        assert_eq!(trouble.words.chars().count(), WORDS_CHARS_MAX);
        assert!(trouble.words.starts_with("\u{fffd}[2J"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn random_examinations_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let framed = [&[FORMAT], bytes.as_slice()].concat();
            let _ = wire::decode::<Question>(Channel::Stream, &framed);
            let _ = wire::decode::<Reply>(Channel::Stream, &framed);
        }
    }
}
