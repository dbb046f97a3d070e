//! What answers are made like for the stack that asks: some read no weights, some no long answers.
//!
//! Answers that are drawn by weight go to two kinds of askers. One tries the first record of the best priority, whatever its
//! weight; it is right if everybody comes first as often as the weights say. The other draws once more, by the weights
//! of the records it got; it is right if the first is drawn by weight and the others evenly (Midzuno's sampling: an answer
//! comes as often as the sum of its weights is of all, so that what is drawn from it comes as often as its own weight is of
//! all). Both hold at once, but for stacks that sort by weight and then take the first: they get equal weights.

use core::fmt;

use crate::fit::{UDP_BYTES_MAX, UDP_BYTES_MIN};
use crate::urn::Order;

/// The weight that everybody has in answers for stacks that sort by weight.
const EQUAL_WEIGHT: u16 = 1;

/// A SIP stack, as far as its resolver matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Profile {
    /// Any stack that does as RFC 2782 says.
    #[default]
    Full,
    /// Kamailio unless it balances: sorts by priority and falling weight, and takes the first.
    Kamailio,
    /// Kamailio that balances, with `use_dns_cache`, `use_dns_failover` and `dns_srv_lb` on: draws by weight.
    KamailioLb,
    /// OpenSIPS: draws by weight.
    Opensips,
    /// PJSIP: has 512 bytes of room and throws truncated responses away; reads eight records, draws by weight.
    Pjsip,
    /// Sofia-SIP, FreeSWITCH's: has 512 bytes of room and does not come again by TCP; draws by weight.
    Sofia,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::Kamailio, Self::KamailioLb, Self::Opensips, Self::Pjsip, Self::Sofia];

    /// How it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Kamailio => "kamailio",
            Self::KamailioLb => "kamailio-lb",
            Self::Opensips => "opensips",
            Self::Pjsip => "pjsip",
            Self::Sofia => "sofia",
        }
    }

    /// Reads what [`Profile::as_str`] writes.
    ///
    /// # Errors
    /// Says which there are.
    pub fn read(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            format!("{text:?} is not allowed: one of {all}")
        })
    }

    /// What is done for it with the targets of SRV answers, in words.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Kamailio => "the first is drawn by weight, and all are sent with the same weight",
            Self::Full | Self::KamailioLb | Self::Opensips => "some are drawn, and sent with their weights",
            Self::Pjsip | Self::Sofia => "some are drawn, and sent with their weights, in 512 bytes at most",
        }
    }

    /// The weight in every SRV record that it gets, unless each has its target's own.
    pub(crate) const fn equal_weight(self) -> Option<u16> {
        match self {
            Self::Kamailio => Some(EQUAL_WEIGHT),
            Self::Full | Self::KamailioLb | Self::Opensips | Self::Pjsip | Self::Sofia => None,
        }
    }

    /// In which order targets are drawn for it.
    pub(crate) const fn order(self) -> Order {
        if self.equal_weight().is_some() { Order::ByWeight } else { Order::FirstByWeight }
    }

    /// How many bytes a response over UDP may take, whatever was announced.
    pub(crate) const fn udp_bytes_max(self) -> u16 {
        match self {
            Self::Full | Self::Kamailio | Self::KamailioLb | Self::Opensips => UDP_BYTES_MAX,
            Self::Pjsip | Self::Sofia => UDP_BYTES_MIN,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
