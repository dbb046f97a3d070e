//! Which domain an agent answers for, and how long its answers may be kept (RFC 1035 2.3.4; RFC 2181 8; RFC 2308 5).

use std::borrow::Cow;

use hickory_proto::rr::Name;
use ringmesh_types::name::ServiceName;
use ringmesh_types::snapshot::Snapshot;

/// Seconds that an answer may be kept, unless configured.
pub const TTL_DEFAULT: u32 = 5;
/// Seconds that a "no such name" may be kept, unless configured: between what sofia-sip honours (more than 10) and what
/// hides a new service for long.
pub const NEGATIVE_TTL_DEFAULT: u32 = 15;
/// Targets in one answer at most: PJSIP reads no more.
pub const TARGETS_MAX_DEFAULT: usize = 8;
/// Seconds that an answer may be kept at most while the agent hears nobody: better ones may come any moment.
const STALE_TTL_MAX: u32 = 5;
/// Bytes of the domain on the wire at most, so that whatever must fit 512 bytes does.
const DOMAIN_BYTES_MAX: usize = 100;
/// RFC 2181, 8: times to live are below 2^31.
const TTL_MAX: u32 = i32::MAX as u32;

/// What an agent answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneConfig {
    /// The domain, in lower case, absolute.
    pub domain: Name,
    /// Seconds that an answer may be kept, at least 1. Less follows changes sooner, more asks less often.
    pub ttl: u32,
    /// Seconds that a negative answer may be kept, at least 1; the SOA minimum.
    pub negative_ttl: u32,
    /// The service that NAPTR questions for the bare domain are about.
    pub default_sip_service: ServiceName,
    /// Targets in one answer at most, full views apart.
    pub targets_max: usize,
}

impl ZoneConfig {
    /// A zone for `domain`, with at most 8 targets per answer.
    ///
    /// # Errors
    /// Says which value is not allowed, and why.
    pub fn new(
        domain: &str,
        ttl: u32,
        negative_ttl: u32,
        default_sip_service: ServiceName,
    ) -> Result<Self, String> {
        for (what, seconds) in [("ttl", ttl), ("negative_ttl", negative_ttl)] {
            if !(1..=TTL_MAX).contains(&seconds) {
                return Err(format!("{what}: {seconds} is not between 1 and {TTL_MAX} seconds"));
            }
        }
        Ok(Self {
            domain: parse_domain(domain)?,
            ttl,
            negative_ttl,
            default_sip_service,
            targets_max: TARGETS_MAX_DEFAULT,
        })
    }

    /// What holds for answers from `snapshot`: what may be stale is not kept for long (RFC 8767, 4).
    pub(crate) fn of(&self, snapshot: &Snapshot) -> Cow<'_, Self> {
        if snapshot.isolated_since.is_none() || self.ttl <= STALE_TTL_MAX {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self { ttl: STALE_TTL_MAX, ..self.clone() })
    }
}

/// Reads the name of a domain or of something in it.
///
/// # Errors
/// Says what is allowed.
pub fn read_name(text: &str) -> Result<Name, String> {
    Name::from_ascii(text).map_err(|_| {
        format!(
            "{text:?} is no domain name: labels of 1 to 63 letters, digits, '-' or '_' are allowed, with a dot between two"
        )
    })
}

fn parse_domain(text: &str) -> Result<Name, String> {
    let mut domain = read_name(text).map_err(|why| format!("domain: {why}"))?;
    domain.set_fqdn(true);
    let domain = domain.to_lowercase();
    if domain.is_root() {
        return Err("domain: the root is not allowed".to_owned());
    }
    let bytes = domain.iter().map(|label| label.len() + 1).sum::<usize>() + 1;
    if bytes > DOMAIN_BYTES_MAX {
        return Err(format!("domain: {text:?} takes {bytes} bytes, at most {DOMAIN_BYTES_MAX} are allowed"));
    }
    if domain.iter().next_back() == Some(b"arpa".as_slice()) {
        return Err("domain: reverse names are answered anyway, arpa is not allowed".to_owned());
    }
    Ok(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(domain: &str, ttl: u32, negative_ttl: u32) -> Result<String, String> {
        let service = "sip".parse().expect("a service name");
        ZoneConfig::new(domain, ttl, negative_ttl, service).map(|zone| zone.domain.to_ascii())
    }

    #[test]
    fn domains_are_absolute_and_in_lower_case() {
        assert_eq!(zone("RingMesh.internal", 5, 15), Ok("ringmesh.internal.".to_owned()));
        assert_eq!(zone("ringmesh.internal.", 5, 15), Ok("ringmesh.internal.".to_owned()));
    }

    #[test]
    fn domains_that_could_not_be_answered_for_are_refused() {
        let long = ["a".repeat(50), "b".repeat(50)].join(".");
        for domain in ["", ".", "a b", "10.in-addr.arpa", &long] {
            assert!(zone(domain, 5, 15).is_err(), "{domain}");
        }
    }

    #[test]
    fn rfc_2181_8_times_to_live_are_below_2_to_the_31_and_never_0() {
        assert!(zone("m.test", 0, 15).is_err());
        assert!(zone("m.test", 5, 0).is_err());
        assert!(zone("m.test", TTL_MAX + 1, 15).is_err());
        assert!(zone("m.test", TTL_MAX, TTL_MAX).is_ok());
    }
}
