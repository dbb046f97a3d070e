//! What texts mean: names, addresses, paths, domains. Each reader says what is wrong with a text and what is allowed.

use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;
use std::path::PathBuf;

use ringmesh_dns::zone::{NEGATIVE_TTL_DEFAULT, TTL_DEFAULT, ZoneConfig};
use ringmesh_types::limits;
use ringmesh_types::name::{NameError, ServiceName};

/// Any text.
pub(super) fn any(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// A name of any kind.
pub(super) fn name<T>(text: &str) -> Result<T, String>
where
    T: FromStr<Err = NameError>,
{
    text.parse::<T>().map_err(|why| match why {
        NameError::Reserved(_) => why.to_string(),
        NameError::Empty | NameError::TooLong(..) | NameError::Character(..) | NameError::OuterHyphen => {
            format!("{text:?} {why}")
        }
    })
}

/// An address and a port to listen on.
pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(socket) if socket.port() != 0 => Ok(socket),
        Ok(_) => Err(format!("{text:?} has port 0: 1 to 65535 are allowed")),
        Err(_) => Err(format!("{text:?} is no address and port: write 192.0.2.1:53 or [2001:db8::1]:53")),
    }
}

/// An address and a port to be reached at.
pub(super) fn reachable_socket(text: &str) -> Result<SocketAddr, String> {
    let socket = socket(text)?;
    address(&socket.ip().to_string()).map(|_| socket)
}

/// An address to be reached at.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() => Ok(address),
        Ok(_) => Err(format!("{text:?} means every address of this host: write one that others can reach")),
        Err(_) => Err(format!("{text:?} is no address: write it as 192.0.2.1 or 2001:db8::1")),
    }
}

/// A file or folder.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty: a path is allowed".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// A tag of an instance.
pub(super) fn tag(text: &str) -> Result<String, String> {
    if (1..=limits::TAG_BYTES_MAX).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} has {} bytes, 1 to {} are allowed", text.len(), limits::TAG_BYTES_MAX))
}

/// The domain to answer for, in lower case and without the last dot.
pub(super) fn domain(text: &str, default_sip_service: &ServiceName) -> Result<String, String> {
    let zone = ZoneConfig::new(text, TTL_DEFAULT, NEGATIVE_TTL_DEFAULT, default_sip_service.clone());
    match zone {
        Ok(zone) => Ok(zone.domain.to_ascii().trim_end_matches('.').to_owned()),
        Err(why) => Err(why.trim_start_matches("domain: ").to_owned()),
    }
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(text: &str, all: &[T], word: fn(T) -> &'static str) -> Result<T, String> {
    all.iter().copied().find(|one| word(*one) == text).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|one| word(*one)).collect();
        format!("{text:?} is not allowed: one of {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmesh_types::name::NodeName;

    #[test]
    fn addresses_that_nobody_can_reach_are_refused() {
        assert!(address("0.0.0.0").is_err());
        assert!(address("::").is_err());
        assert!(reachable_socket("0.0.0.0:7300").is_err());
        assert!(socket("0.0.0.0:7300").is_ok());
        assert!(socket("192.0.2.1:0").is_err());
        assert!(socket("192.0.2.1").is_err());
    }

    #[test]
    fn a_refused_name_is_repeated_once() {
        let why = name::<NodeName>("a_b").expect_err("an underscore");
        assert!(why.starts_with("\"a_b\" has the character"), "{why}");
        let why = name::<ServiceName>("all").expect_err("reserved");
        assert!(why.starts_with("\"all\" is reserved"), "{why}");
    }

    #[test]
    fn domains_lose_their_last_dot() {
        let sip = "sip".parse().expect("a name");
        assert_eq!(domain("Voip.Internal.", &sip), Ok("voip.internal".to_owned()));
        assert!(domain("", &sip).is_err());
    }
}
