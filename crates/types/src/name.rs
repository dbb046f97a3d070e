//! Names people give: of clusters, nodes, zones, services and instances. All of them can become DNS labels, so all but
//! instance ids follow the host-name rule (RFC 952, RFC 1123 2.1): letters, digits and inner hyphens, at most 63 bytes,
//! kept in lower case.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;

/// Labels that have a meaning of their own below the domain, so no service may carry them.
pub const RESERVED_SERVICE_NAMES: [&str; 9] = ["n", "h", "key", "kx", "kh", "map", "all", "zone", "node"];
/// Consul's infix (`<service>.service.<domain>`), reserved like the others.
const CONSUL_INFIX: &str = "service";

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// More bytes than a DNS label holds.
    #[error("has {0} bytes, at most {1} are allowed")]
    TooLong(usize, usize),
    /// A character outside the host-name rule.
    #[error("has the character {0:?}: allowed are {1}")]
    Character(char, &'static str),
    /// A hyphen at an end.
    #[error("must not begin or end with '-'")]
    OuterHyphen,
    /// A label with a meaning of its own.
    #[error(
        "{0:?} is reserved: `n h key kx kh map all zone node service` have a meaning of their own in DNS names"
    )]
    Reserved(String),
}

/// The host-name rule for one label.
///
/// # Errors
/// Says which part of the rule is broken; upper case is folded, not refused.
fn label(text: &str) -> Result<Arc<str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > limits::LABEL_BYTES_MAX {
        return Err(NameError::TooLong(text.len(), limits::LABEL_BYTES_MAX));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
        return Err(NameError::Character(bad, "letters, digits and '-'"));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::OuterHyphen);
    }
    Ok(text.to_ascii_lowercase().into())
}

/// A label that has room for the underscore which stands before it in SRV names (RFC 2782, "Service" and "Proto").
fn underscored(text: &str) -> Result<Arc<str>, NameError> {
    let name = label(text)?;
    let most = limits::LABEL_BYTES_MAX - 1;
    if name.len() > most { Err(NameError::TooLong(name.len(), most)) } else { Ok(name) }
}

fn service_label(text: &str) -> Result<Arc<str>, NameError> {
    let name = underscored(text)?;
    if RESERVED_SERVICE_NAMES.contains(&&*name) || &*name == CONSUL_INFIX {
        return Err(NameError::Reserved(name.to_string()));
    }
    Ok(name)
}

fn instance_id(text: &str) -> Result<Arc<str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > limits::INSTANCE_ID_BYTES_MAX {
        return Err(NameError::TooLong(text.len(), limits::INSTANCE_ID_BYTES_MAX));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    match text.chars().find(|c| !allowed(*c)) {
        Some(bad) => Err(NameError::Character(bad, "letters, digits and '-', '_', '.', ':'")),
        None => Ok(text.into()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text).map(Self)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.to_string()
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl core::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// Names a cluster: one host-name label, part of every certificate and of the TLS server name.
    ClusterName, label
);
name!(
    /// Names a node within its cluster: one host-name label.
    NodeName, label
);
name!(
    /// Names a zone (one failure domain, such as a rack, a hall or a site): one host-name label.
    ZoneName, label
);
name!(
    /// Names a region (zones that are near each other): one host-name label.
    RegionName, label
);
name!(
    /// Names a service: one host-name label of at most 62 bytes that is not reserved.
    ServiceName, service_label
);
name!(
    /// The protocol that an endpoint speaks (`sip`, `ng`, `http`): one host-name label of at most 62
    /// bytes.
    ProtocolName, underscored
);
name!(
    /// Names one running copy of a service on its node: up to 128 bytes of letters, digits and `-_.:`.
    InstanceId, instance_id
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_the_host_name_rule() {
        let check = |text: &str, want: Result<&str, NameError>| {
            assert_eq!(text.parse::<NodeName>().map(String::from), want.map(str::to_owned), "{text:?}");
        };
        check("SIP-1", Ok("sip-1"));
        check("", Err(NameError::Empty));
        check(&"a".repeat(64), Err(NameError::TooLong(64, 63)));
        check("-a", Err(NameError::OuterHyphen));
        check("a_b", Err(NameError::Character('_', "letters, digits and '-'")));
        check("a.b", Err(NameError::Character('.', "letters, digits and '-'")));
    }

    #[test]
    fn reserved_labels_are_no_service_names() {
        for name in RESERVED_SERVICE_NAMES.into_iter().chain([CONSUL_INFIX, "ALL"]) {
            assert!(matches!(name.parse::<ServiceName>(), Err(NameError::Reserved(_))), "{name}");
        }
        assert!("_sip".parse::<ServiceName>().is_err());
        assert!("sip".parse::<ServiceName>().is_ok());
    }

    #[test]
    fn rfc_2782_an_underscore_fits_before_services_and_protocols() {
        let (fits, too_long) = ("a".repeat(62), "a".repeat(63));
        assert!(fits.parse::<ServiceName>().is_ok() && fits.parse::<ProtocolName>().is_ok());
        assert_eq!(too_long.parse::<ServiceName>(), Err(NameError::TooLong(63, 62)));
        assert_eq!(too_long.parse::<ProtocolName>(), Err(NameError::TooLong(63, 62)));
    }
}
