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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::answer;
    use crate::conformance::ask::Ask;
    use crate::testing::{World, zone};
    use hickory_proto::op::Message;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use ringmesh_types::snapshot::Snapshot;

    static SNAPSHOT: LazyLock<Snapshot> =
        LazyLock::new(|| World::read("a passing udp tcp tls; b passing udp tcp; c passing udp").snapshot());
    static SECRETS: LazyLock<Secrets> = LazyLock::new(|| Secrets::new([1; 16]));

    fn stranger() -> Client<'static> {
        let now = WallTime::from_unix_millis(1_800_000_000_000);
        let address = IpAddr::from([192, 0, 2, 1]);
        Client { address, is_trusted: false, now, secrets: Some(&SECRETS), ..Client::LOCAL }
    }

    fn ask(client: &Client<'_>, text: &str) -> Message {
        let ask = Ask::read(text);
        let response = answer::respond(&zone(), &SNAPSHOT, client, &ask.bytes, ask.via, 1);
        Message::from_vec(&response.expect("a request is answered")).expect("a response can be read")
    }

    #[test]
    fn over_udp_a_stranger_gets_three_times_its_request_or_comes_by_tcp() {
        let stranger = stranger();
        let cut = ask(&stranger, "_sip._udp SRV +edns");
        assert!(cut.metadata.truncation);
        assert_eq!((cut.all_sections().count(), cut.edns.is_some()), (0, true));
        assert_eq!(ask(&stranger, "_sip._udp SRV +edns +tcp").answers.len(), 3);
        assert_eq!(ask(&Client { is_trusted: true, ..stranger }, "_sip._udp SRV +edns").answers.len(), 3);
        let small = ask(&stranger, "sip A +edns");
        assert_eq!((small.answers.len(), small.metadata.truncation), (3, false), "within three times");
    }

    /// Requests that get much, each in its own way.
    fn bases() -> Vec<Vec<u8>> {
        let questions = ["sip A", "sip NAPTR", "@ SOA", "_udp.sip ANY", ". A", "@ SOA +opcode=NOTIFY"];
        let options = [
            "",
            "+edns",
            "+cookie=0101010101010101",
            "+cookie=010101010101010101010101010101010101010101010101 +ednsopt=65001:000000000000000000",
        ];
        let texts =
            options.iter().flat_map(|option| questions.map(|question| format!("{question} {option}")));
        let alone = "bytes abcd 0100 0000 0000 0000 0001 00002904d000000000000c 000a0008 0101010101010101";
        texts.chain([alone.to_owned()]).map(|text| Ask::read(&text).bytes).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn whatever_a_stranger_sends_over_udp_it_gets_at_most_three_times_that(
            base: Index,
            changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        ) {
            static BASES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(bases);
            let mut bytes = base.get(&BASES).clone();
            for (at, byte) in changes {
                *at.get_mut(&mut bytes) = byte;
            }
            let stranger = stranger();
            let answered = answer::respond(&zone(), &SNAPSHOT, &stranger, &bytes, answer::Via::Udp, 1);
            for response in [answered, answer::refuse(&stranger, &bytes)].into_iter().flatten() {
                prop_assert!(response.len() <= 3 * bytes.len(), "{} for {}", response.len(), bytes.len());
            }
        }
    }
}
