//! DNS cookies: who shows one that was made here for its address can receive what is sent there, so its source is not
//! forged.
//!
//! Secrets and time come in as data. A secret is never shared, so only its own agent reads what it made.
//! Sources: RFC 7873 · 4, 5.2 · full, for servers; RFC 9018 · 4 · full.

use core::fmt;
use core::net::IpAddr;

use ringmesh_types::time::WallTime;
use siphasher::sip::SipHasher24;

/// Bytes of a secret (RFC 9018, 4.4: as many as SipHash takes).
pub const SECRET_BYTES: usize = 16;
/// Bytes of what a COOKIE option of ours holds: the asker's cookie, then ours.
pub(crate) const REPLY_BYTES: usize = CLIENT_BYTES + SERVER_BYTES;
/// RFC 7873, 9: the number of the COOKIE option.
pub(crate) const OPTION: u16 = 10;

const CLIENT_BYTES: usize = 8;
const SERVER_BYTES: usize = 16;
/// Version, reserved, time: what stands before the hash.
const STAMP_BYTES: usize = 8;
const VERSION: u8 = 1;
/// RFC 9018, 4.3: a cookie is good for an hour.
const AGE_SECONDS_MAX: u32 = 3_600;
/// RFC 9018, 4.3: one that is older than this is replaced.
const FRESH_SECONDS: u32 = 1_800;
/// RFC 9018, 4.3: one from further ahead is none of ours.
const AHEAD_SECONDS_MAX: u32 = 300;

/// What cookies are made with: a secret, and the one before it, which is still believed.
#[derive(Clone)]
pub struct Secrets {
    current: SipHasher24,
    previous: Option<SipHasher24>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

/// What a COOKIE option says (RFC 7873 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cookie<'a> {
    client: [u8; CLIENT_BYTES],
    /// Empty, or 8 to 32 bytes.
    server: &'a [u8],
}

/// RFC 7873, 5.2.2: a COOKIE option has 8, or 16 to 40 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerCookieLengthError;

impl<'a> Cookie<'a> {
    /// Reads what a COOKIE option holds.
    ///
    /// # Errors
    /// If it has a length that no cookie has.
    pub(crate) fn read(data: &'a [u8]) -> Result<Self, PeerCookieLengthError> {
        let (client, server) = data.split_first_chunk().ok_or(PeerCookieLengthError)?;
        match server.len() {
            0 | 8..=32 => Ok(Self { client: *client, server }),
            _ => Err(PeerCookieLengthError),
        }
    }
}

/// What a cookie proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet: the asker has none of ours.
    First,
    /// That the asker receives what is sent to its address.
    Proven,
    /// Nothing: ours is too old, or it is none of ours, or of somebody else.
    Bad,
}

/// A cookie as it is judged here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) standing: Standing,
    /// What the COOKIE option of the response holds.
    pub(crate) reply: [u8; REPLY_BYTES],
}

impl Secrets {
    /// One secret, and none before it.
    pub fn new(secret: [u8; SECRET_BYTES]) -> Self {
        Self { current: SipHasher24::new_with_key(&secret), previous: None }
    }

    /// A new secret; the one that was current is believed until the next renewal (RFC 9018, 5).
    #[must_use]
    pub fn renewed(&self, secret: [u8; SECRET_BYTES]) -> Self {
        Self { previous: Some(self.current), ..Self::new(secret) }
    }

    /// What the cookie of somebody at `from` proves, and what it gets back.
    pub(crate) fn judge(&self, cookie: Cookie<'_>, from: IpAddr, now: WallTime) -> Judged {
        // Seconds wrap; ages are compared as RFC 1982 does.
        let now = (now.as_unix_millis() / 1_000) as u32;
        let fresh = || reply(cookie.client, server(&self.current, cookie.client, from, now));
        if cookie.server.is_empty() {
            return Judged { standing: Standing::First, reply: fresh() };
        }
        let Ok(shown) = <[u8; SERVER_BYTES]>::try_from(cookie.server) else {
            return Judged { standing: Standing::Bad, reply: fresh() };
        };
        let [version, _, _, _, time @ ..] = *stamp_of(&shown);
        let age = now.wrapping_sub(u32::from_be_bytes(time));
        let is_timely = age <= AGE_SECONDS_MAX || age.wrapping_neg() <= AHEAD_SECONDS_MAX;
        let is_made_with =
            |secret: &SipHasher24| shown == sealed(secret, cookie.client, *stamp_of(&shown), from);
        if version != VERSION || !is_timely {
            return Judged { standing: Standing::Bad, reply: fresh() };
        }
        if is_made_with(&self.current) {
            let is_fresh = age <= FRESH_SECONDS || age > AGE_SECONDS_MAX;
            let reply = if is_fresh { reply(cookie.client, shown) } else { fresh() };
            return Judged { standing: Standing::Proven, reply };
        }
        let is_proven = self.previous.as_ref().is_some_and(is_made_with);
        let standing = if is_proven { Standing::Proven } else { Standing::Bad };
        Judged { standing, reply: fresh() }
    }
}

fn stamp_of(server: &[u8; SERVER_BYTES]) -> &[u8; STAMP_BYTES] {
    server.first_chunk().expect("the stamp is a part of it")
}

/// A server cookie of this second.
fn server(
    secret: &SipHasher24,
    client: [u8; CLIENT_BYTES],
    from: IpAddr,
    seconds: u32,
) -> [u8; SERVER_BYTES] {
    let [one, two, three, four] = seconds.to_be_bytes();
    sealed(secret, client, [VERSION, 0, 0, 0, one, two, three, four], from)
}

/// RFC 9018, 4.4: the stamp and the hash of client cookie, stamp and address. Reserved bytes are hashed as they are (4.2).
fn sealed(
    secret: &SipHasher24,
    client: [u8; CLIENT_BYTES],
    stamp: [u8; STAMP_BYTES],
    from: IpAddr,
) -> [u8; SERVER_BYTES] {
    let mut input = [0; CLIENT_BYTES + STAMP_BYTES + 16];
    input[..CLIENT_BYTES].copy_from_slice(&client);
    input[CLIENT_BYTES..][..STAMP_BYTES].copy_from_slice(&stamp);
    let address = &mut input[CLIENT_BYTES + STAMP_BYTES..];
    let length = match from.to_canonical() {
        IpAddr::V4(v4) => {
            address[..4].copy_from_slice(&v4.octets());
            4
        }
        IpAddr::V6(v6) => {
            address.copy_from_slice(&v6.octets());
            16
        }
    };
    let hash = secret.hash(&input[..CLIENT_BYTES + STAMP_BYTES + length]);
    let mut server = [0; SERVER_BYTES];
    server[..STAMP_BYTES].copy_from_slice(&stamp);
    server[STAMP_BYTES..].copy_from_slice(&hash.to_le_bytes());
    server
}

fn reply(client: [u8; CLIENT_BYTES], server: [u8; SERVER_BYTES]) -> [u8; REPLY_BYTES] {
    let mut reply = [0; REPLY_BYTES];
    reply[..CLIENT_BYTES].copy_from_slice(&client);
    reply[CLIENT_BYTES..].copy_from_slice(&server);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::name;
    use proptest::prelude::*;

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
    const CLIENT: &str = "2464c4abcf10c957";
    const FIRST: &str = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
    const FIRST_AT: u64 = 1_559_731_985;

    /// Judges the cookie in `shown` and compares what it proves and what comes back.
    fn check(secrets: &Secrets, shown: &str, (from, at): (&str, u64), standing: Standing, want: &str) {
        let shown = bytes(shown);
        let cookie = Cookie::read(&shown).expect("a length that cookies have");
        let judged = secrets.judge(cookie, name(from), WallTime::from_unix_millis(at * 1_000));
        assert_eq!(judged.standing, standing);
        assert_eq!(judged.reply.as_slice(), bytes(want));
    }

    #[test]
    fn rfc_9018_a_1_a_new_server_cookie_is_learnt() {
        check(&secrets(SECRET), CLIENT, ("198.51.100.100", FIRST_AT), Standing::First, FIRST);
    }

    #[test]
    fn rfc_9018_a_2_a_cookie_of_forty_minutes_is_renewed() {
        let renewed = "2464c4abcf10c957010000005cf7a871d4a564a1442aca77";
        check(&secrets(SECRET), FIRST, ("198.51.100.100", 1_559_734_385), Standing::Proven, renewed);
    }

    #[test]
    fn rfc_9018_a_3_reserved_bytes_are_hashed_as_they_are() {
        let shown = "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5";
        let made = 0x5cf7_8f71;
        check(&secrets(SECRET), shown, ("203.0.113.203", made), Standing::Proven, shown);
        // At the time of the example's answer, two hours later, it is worth nothing.
        let renewed = "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e";
        check(&secrets(SECRET), shown, ("203.0.113.203", 1_559_734_700), Standing::Bad, renewed);
    }

    #[test]
    fn rfc_9018_a_4_the_secret_before_is_believed_and_the_new_one_used() {
        let before = secrets("dd3bdf9344b678b185a6f5cb60fca715");
        let secrets = before.renewed(secret("445536bcd2513298075a5d379663c962"));
        let from = ("2001:db8:220:1:59de:d0f4:8769:82b8", 1_559_741_961);
        let shown = "22681ab97d52c298010000005cf7c57926556bd0934c72f8";
        let renewed = "22681ab97d52c298010000005cf7c609a6bb79d16625507a";
        check(&secrets, shown, from, Standing::Proven, renewed);
        check(&secrets.renewed([1; 16]).renewed([2; 16]), shown, from, Standing::Bad, &forged(from.1));
    }

    /// What the secret of twos makes for the asker of A.4.
    fn forged(at: u64) -> String {
        let secrets = Secrets::new([2; 16]);
        let client = bytes("22681ab97d52c298");
        let cookie = Cookie::read(&client).expect("a client cookie");
        let from = name("2001:db8:220:1:59de:d0f4:8769:82b8");
        let judged = secrets.judge(cookie, from, WallTime::from_unix_millis(at * 1_000));
        judged.reply.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn rfc_9018_4_3_a_cookie_is_good_for_an_hour_and_five_minutes_ahead() {
        let standing = |at: u64| {
            let shown = bytes(FIRST);
            let cookie = Cookie::read(&shown).expect("a cookie");
            let judged =
                secrets(SECRET).judge(cookie, name("198.51.100.100"), WallTime::from_unix_millis(at * 1_000));
            (judged.standing, judged.reply.as_slice() == shown)
        };
        assert_eq!(standing(FIRST_AT - 301), (Standing::Bad, false));
        assert_eq!(standing(FIRST_AT - 300), (Standing::Proven, true));
        assert_eq!(standing(FIRST_AT + 1_800), (Standing::Proven, true));
        assert_eq!(standing(FIRST_AT + 1_801), (Standing::Proven, false));
        assert_eq!(standing(FIRST_AT + 3_600), (Standing::Proven, false));
        assert_eq!(standing(FIRST_AT + 3_601), (Standing::Bad, false));
        // Half of the circle of seconds away, and once around it.
        assert_eq!(standing(FIRST_AT + (1 << 31)), (Standing::Bad, false));
        assert_eq!(standing(FIRST_AT + (1 << 32)), (Standing::Proven, true));
    }

    #[test]
    fn rfc_7873_5_2_2_a_cookie_of_a_wrong_length_is_none() {
        for length in 0..50_usize {
            let is_cookie = length == 8 || (16..=40).contains(&length);
            assert_eq!(Cookie::read(&vec![0; length]).is_ok(), is_cookie, "{length}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_that_it_is() {
        check(&secrets(SECRET), CLIENT, ("::ffff:198.51.100.100", FIRST_AT), Standing::First, FIRST);
    }

    proptest! {
        #[test]
        fn who_changes_anything_proves_nothing(
            at in 0_usize..24,
            bit in 0_u8..8,
            other in 0_u32..,
            rest in proptest::collection::vec(0_u8.., 0..17),
        ) {
            let secrets = secrets(SECRET);
            let now = WallTime::from_unix_millis(FIRST_AT * 1_000);
            let address: IpAddr = name("198.51.100.100");
            let standing = |shown: &[u8], from: IpAddr| {
                Cookie::read(shown).map(|cookie| secrets.judge(cookie, from, now).standing)
            };
            let shown = bytes(FIRST);
            prop_assert_eq!(standing(&shown, address), Ok(Standing::Proven));
            let mut changed = shown.clone();
            changed[at] ^= 1 << bit;
            prop_assert_eq!(standing(&changed, address), Ok(Standing::Bad));
            let other = IpAddr::from(other.to_be_bytes());
            prop_assert_eq!(standing(&shown, other) == Ok(Standing::Proven), other == address);
            let longer = [shown.as_slice(), &rest].concat();
            prop_assert_eq!(standing(&longer, address) == Ok(Standing::Proven), rest.is_empty());
        }
    }

    fn secrets(hex: &str) -> Secrets {
        Secrets::new(secret(hex))
    }

    fn secret(hex: &str) -> [u8; SECRET_BYTES] {
        bytes(hex).try_into().expect("a secret has 16 bytes")
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
        (0..hex.len()).step_by(2).map(byte).collect()
    }
}
