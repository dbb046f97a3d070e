//! Whom to examine: all seeds, then members, those in trouble first and the others in random order.

use core::net::SocketAddr;
use core::time::Duration;

use rand::seq::SliceRandom as _;
use ringmesh_types::ids::NodeId;
use ringmesh_types::snapshot::{MemberState, MemberView, Snapshot};

use crate::config::Seed;

/// A seed's name must resolve within this time.
const RESOLVED_WITHIN: Duration = Duration::from_secs(2);

/// Whom to examine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Who should answer, if that is known.
    pub(super) id: Option<NodeId>,
    /// Its name, if that is known.
    pub(super) name: Option<String>,
    /// Where.
    pub(super) addr: SocketAddr,
    /// Whether it is a seed.
    pub(super) is_seed: bool,
    /// How it is seen, if it is a member.
    pub(super) state: Option<&'static str>,
    /// Where another agent of its name was seen, if one was.
    pub(super) clash: Option<String>,
}

/// A seed whose name has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unresolved {
    /// As it was written.
    pub(super) seed: String,
    /// Why.
    pub(super) why: String,
}

/// Whom to examine, and whom not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Whom to examine, at most as many as were asked for.
    pub(super) targets: Vec<Target>,
    /// Seeds that have no address.
    pub(super) unresolved: Vec<Unresolved>,
    /// How many there are besides.
    pub(super) left_out: usize,
}

/// Chooses at most `most` targets. Who left, and we ourselves, are none.
pub(super) async fn choose(seeds: &[Seed], snapshot: &Snapshot, most: usize) -> Chosen {
    let (mut addrs, mut unresolved) = (Vec::new(), Vec::new());
    let look_up = |seed: &Seed| {
        let seed = seed.clone();
        (seed.to_string(), tokio::spawn(async move { resolve(&seed).await }))
    };
    let looked_up: Vec<_> = seeds.iter().map(look_up).collect();
    for (seed, found) in looked_up {
        match found.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(found) => addrs.extend(found),
            Err(why) => unresolved.push(Unresolved { seed, why }),
        }
    }
    let mut members: Vec<&MemberView> = snapshot.members.values().map(AsRef::as_ref).collect();
    members.shuffle(&mut rand::rng());
    Chosen { unresolved, ..pick(&addrs, snapshot.local.identity.addr.into(), &members, most) }
}

/// The addresses of a seed.
///
/// # Errors
/// Why it has none.
pub async fn resolve(seed: &Seed) -> Result<Vec<SocketAddr>, String> {
    match tokio::time::timeout(RESOLVED_WITHIN, tokio::net::lookup_host(seed.as_str())).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", RESOLVED_WITHIN.as_secs())),
    }
}

fn pick(seeds: &[SocketAddr], us: SocketAddr, members: &[&MemberView], most: usize) -> Chosen {
    let mut targets: Vec<Target> = Vec::new();
    for addr in seeds.iter().filter(|addr| **addr != us) {
        if targets.iter().all(|target| target.addr != *addr) {
            let (id, name, state, clash) = (None, None, None, None);
            targets.push(Target { id, name, addr: *addr, is_seed: true, state, clash });
        }
    }
    let seed_targets = targets.len();
    let (well, ill): (Vec<&MemberView>, Vec<&MemberView>) = members
        .iter()
        .copied()
        .filter(|member| !member.is_self && !matches!(member.state, MemberState::Left))
        .partition(|member| matches!(member.state, MemberState::Alive));
    for member in ill.into_iter().chain(well) {
        let addr = SocketAddr::from(member.identity.addr);
        let seed = targets[..seed_targets].iter_mut().find(|target| target.addr == addr);
        let found = Target {
            id: Some(member.identity.id),
            name: Some(member.name.to_string()),
            addr,
            is_seed: false,
            state: Some(member.state.as_str()),
            clash: member.clash.clone(),
        };
        match seed {
            Some(seed) if seed.id.is_none() => *seed = Target { is_seed: true, ..found },
            Some(_) | None => targets.push(found),
        }
    }
    let left_out = targets.len().saturating_sub(most);
    targets.truncate(most);
    Chosen { targets, unresolved: Vec::new(), left_out }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ringmesh_types::ids::{Epoch, Identity};
    use ringmesh_types::time::WallTime;

    use super::*;

    #[test]
    fn seeds_come_first_then_who_is_in_trouble() {
        let (seed, other_seed, us) = (addr(1), addr(2), addr(9));
        let well = member("well", 3, MemberState::Alive);
        let down = member("down", 4, MemberState::Down);
        let left = member("left", 5, MemberState::Left);
        let at_seed = member("seed", 1, MemberState::Alive);
        let me = MemberView { is_self: true, ..member("me", 9, MemberState::Alive) };
        let members = [&well, &left, &down, &at_seed, &me];
        let chosen = pick(&[seed, other_seed, us, seed], us, &members, 3);
        let shown: Vec<(Option<&str>, SocketAddr, bool)> = chosen
            .targets
            .iter()
            .map(|target| (target.name.as_deref(), target.addr, target.is_seed))
            .collect();
        assert_eq!(
            shown,
            [(Some("seed"), seed, true), (None, other_seed, true), (Some("down"), addr(4), false)]
        );
        assert_eq!(chosen.left_out, 1);
    }

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 7_300))
    }

    fn member(name: &str, last: u8, state: MemberState) -> MemberView {
        let id = NodeId::from_bytes([last; 8]);
        MemberView {
            demoted: None,
            name: name.parse().expect("a name"),
            identity: Identity { id, epoch: Epoch(1), revival: 0, addr: addr(last).into() },
            zone: "z".parse().expect("a name"),
            region: "r".parse().expect("a name"),
            addresses: Vec::new(),
            agent_version: String::new(),
            state,
            since: WallTime::from_unix_millis(0),
            cause: Arc::from(""),
            incarnation: 0,
            clash: None,
            is_self: false,
        }
    }
}
