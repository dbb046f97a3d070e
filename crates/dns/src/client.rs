//! Who asks, as far as it changes what is answered: whether it is trusted, and what its cookie proves. Not decided here:
//! who may ask at all, and how often ([`rate`](crate::rate)).

use core::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use ringmesh_types::time::WallTime;

use crate::cookie::{Cookie, Judged, PeerCookieLengthError, Secrets, Standing};
use crate::profile::Profile;

/// A response over UDP to an address that may be forged is at most so many times as long as its request, so that it is
/// no use to whoever forged it.
const AMPLIFICATION_MAX: usize = 3;

/// Who asks, and when.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Where the request came from.
    pub address: IpAddr,
    /// Whether nobody can forge this address: it is on this host or in a network that keeps strangers' packets out.
    pub is_trusted: bool,
    /// The time that cookies are made and judged by.
    pub now: WallTime,
    /// What its stack is like.
    pub profile: Profile,
    /// What cookies are made with; without, they are an option like any unknown one.
    pub secrets: Option<&'a Secrets>,
}

impl Client<'static> {
    /// This agent itself.
    pub const LOCAL: Self = Self {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_trusted: true,
        now: WallTime::from_unix_millis(0),
        profile: Profile::Full,
        secrets: None,
    };
}

impl Client<'_> {
    /// What the COOKIE option of a request, if it has one, proves.
    pub(crate) fn judge(&self, cookie: Option<&[u8]>) -> Result<Option<Judged>, PeerCookieLengthError> {
        let (Some(cookie), Some(secrets)) = (cookie, self.secrets) else {
            return Ok(None);
        };
        Ok(Some(secrets.judge(Cookie::read(cookie)?, self.address, self.now)))
    }

    /// The same for a request that was read.
    pub(crate) fn judge_message(&self, request: &Message) -> Result<Option<Judged>, PeerCookieLengthError> {
        // RFC 6891, 6.1.3: what options are in another version is not known.
        let edns = request.edns.as_ref().filter(|edns| edns.version() == 0);
        // RFC 7873, 5.2: of several the first counts.
        match edns.and_then(|edns| edns.option(EdnsCode::Cookie)) {
            Some(EdnsOption::Unknown(_, cookie)) => self.judge(Some(cookie)),
            Some(EdnsOption::Subnet(_) | EdnsOption::NSID(_) | _) | None => Ok(None),
        }
    }

    /// How long a response over UDP to a request of so many bytes may be, as far as this matters here.
    pub(crate) fn bytes_max(&self, request_bytes: usize, cookie: Option<&Judged>) -> usize {
        let is_proven = cookie.is_some_and(|cookie| cookie.standing == Standing::Proven);
        if self.is_trusted || is_proven { usize::MAX } else { AMPLIFICATION_MAX * request_bytes }
    }
}
