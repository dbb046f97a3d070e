//! How many open files this process may have, and who may have how many of them: what strangers can open must leave enough for
//! links, checks and the disk.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// With this many nothing has to be cut short.
const ENOUGH: u64 = 4_096;

/// Connections at once at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Of the HTTP API.
    pub(crate) http: usize,
    /// Of DNS over TCP, on each of its addresses.
    pub(crate) dns: usize,
}

/// Raises the limit as far as this process may, and says what it is then.
pub(crate) fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return ENOUGH;
    };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            soft
        }
    };
    if limit < ENOUGH {
        tracing::warn!(
            limit,
            wanted = ENOUGH,
            "few open files are allowed: fewer connections are served; raise LimitNOFILE= or ulimit -n"
        );
    }
    limit
}

/// A third of the limit is for HTTP, a third for DNS over TCP, neither more than it takes at best.
pub(crate) fn shares(limit: u64, dns_addresses: usize) -> Shares {
    let third = usize::try_from(limit / 3).unwrap_or(usize::MAX);
    Shares { http: third.clamp(8, 1_024), dns: (third / dns_addresses.max(1)).clamp(4, 256) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_descriptors_is_left_for_everything_else() {
        assert_eq!(shares(65_536, 2), Shares { http: 1_024, dns: 256 });
        assert_eq!(shares(1_024, 1), Shares { http: 341, dns: 256 });
        assert_eq!(shares(1_024, 2), Shares { http: 341, dns: 170 });
        assert_eq!(shares(64, 1), Shares { http: 21, dns: 21 });
        assert_eq!(shares(16, 3), Shares { http: 8, dns: 4 });
    }
}
