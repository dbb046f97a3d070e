//! What others do, whose owners do not follow the load.
//!
//! Karger et al., "Consistent hashing and random trees" (STOC 1997); Thaler, Ravishankar (1998); Eisenbud et al., "Maglev"
//! (NSDI 2016), 3.4; Mirrokni, Thorup, Zadimoghaddam (SODA 2018).

use ringmesh_partition::position::{Position, Strategy};

use super::planned::{first, positions};
use super::requests::{ACCOUNTS, key};
use super::{HOSTS, Owners};

const VIRTUAL_NODES: u32 = 100;
const MAGLEV_TABLE: u64 = 65_537;
/// Nobody gets more accounts than this times the mean.
const BOUND: f64 = 1.25;

fn hash(text: &str) -> Position {
    Strategy::Hash.position(text.as_bytes()).expect("a key")
}

fn ring() -> Vec<(Position, u16)> {
    let points =
        |host: u16| (0..VIRTUAL_NODES).map(move |point| (hash(&format!("host-{host}-{point}")), host));
    let mut ring: Vec<(Position, u16)> = (0..HOSTS).flat_map(points).collect();
    ring.sort_unstable();
    ring
}

/// Who comes at or after a position, and who after that.
fn after(ring: &[(Position, u16)], at: Position) -> impl Iterator<Item = u16> {
    let begin = ring.partition_point(|(point, _)| *point < at);
    ring.iter().cycle().skip(begin).take(ring.len()).map(|(_, host)| *host)
}

/// Owners that never change, by account.
macro_rules! fixed {
    ($name:ident, $text:literal, $owners:expr) => {
        pub(crate) struct $name(Vec<u16>);

        impl $name {
            pub(crate) fn new() -> Self {
                Self($owners)
            }
        }

        impl Owners for $name {
            fn name(&self) -> &'static str {
                $text
            }

            fn serve(&mut self, _: u64, account: u32) -> u16 {
                self.0[account as usize]
            }

            fn tick(&mut self, _: u64) -> f64 {
                0.0
            }

            fn hosts_of(&self, _: u32) -> usize {
                1
            }
        }
    };
}

fixed!(Ring, "consistent hashing, 100 virtual nodes", {
    let ring = ring();
    positions().into_iter().map(|at| after(&ring, at).next().expect("there are hosts")).collect()
});

fixed!(Rendezvous, "rendezvous hashing", {
    let rank = |account: u32, host: u16| hash(&format!("{}/{host}", String::from_utf8_lossy(&key(account))));
    let owner = |account| (0..HOSTS).max_by_key(|host| rank(account, *host)).expect("there are hosts");
    (0..ACCOUNTS).map(owner).collect()
});

fixed!(Maglev, "Maglev, table of 65,537", {
    let mut table = vec![None; MAGLEV_TABLE as usize];
    let permutation = |host: u16| {
        let (offset, skip) = (hash(&format!("offset-{host}")).0, hash(&format!("skip-{host}")).0);
        (offset % MAGLEV_TABLE, skip % (MAGLEV_TABLE - 1) + 1)
    };
    let permutations: Vec<(u64, u64)> = (0..HOSTS).map(permutation).collect();
    let (mut next, mut left) = (vec![0_u64; usize::from(HOSTS)], MAGLEV_TABLE);
    while left > 0 {
        for host in 0..usize::from(HOSTS) {
            let (offset, skip) = permutations[host];
            let free = (next[host]..).map(|step| (step, (offset + step * skip) % MAGLEV_TABLE));
            let (step, entry) =
                free.into_iter().find(|(_, entry)| table[*entry as usize].is_none()).expect("one is free");
            table[entry as usize] = Some(host as u16);
            next[host] = step + 1;
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    positions().into_iter().map(|at| table[(at.0 % MAGLEV_TABLE) as usize].expect("is full")).collect()
});

fixed!(Bounded, "consistent hashing with bounded loads, 1.25 times the mean of accounts", {
    let ring = ring();
    let most = (BOUND * f64::from(ACCOUNTS) / f64::from(HOSTS)).ceil() as usize;
    let mut counts = vec![0; usize::from(HOSTS)];
    let mut owner = |at| {
        let host = after(&ring, at).find(|host| counts[usize::from(*host)] < most).expect("there is room");
        counts[usize::from(host)] += 1;
        host
    };
    positions().into_iter().map(&mut owner).collect()
});

fixed!(Unplanned, "Ringmesh's first map, never planned again", {
    let map = first();
    positions().into_iter().map(|at| map.lookup_at(at).expect("there are hosts").seats[0].0).collect()
});
