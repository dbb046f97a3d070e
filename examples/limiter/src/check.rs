//! Whether daemons kept to the rule, by what their grant logs say together.
//!
//! Every grant of an owner is taken from one bucket per account, which is exact for any window of time: it runs empty exactly if some
//! window had more than burst + rate × its length. Logs of several machines are compared by their clocks, which have to agree.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use serde::Serialize;

use crate::bucket::Quota;
use crate::grants::{Grant, Role};

/// Who is asked for so long after a move may not know of it yet.
const AFTER_MOVE_MS: f64 = 10_000.0;
/// What clocks of daemons may differ by.
const CLOCKS_MS: f64 = 5.0;
/// Examples of what is wrong that are named.
const NAMED_MAX: usize = 10;

/// What the logs say.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Lines that were read.
    pub lines: u64,
    /// Lines that the daemons could not write: what they said is unknown.
    pub lost: u64,
    /// Requests that got their tokens from an owner.
    pub granted: u64,
    /// Accounts that were asked for.
    pub accounts: u64,
    /// How often another daemon became the owner of an account.
    pub moves: u64,
    /// Grants by a daemon after another one had become the owner.
    pub by_non_owners: u64,
    /// Grants beyond burst + rate × time.
    pub beyond_quota: u64,
    /// The most that an account had beyond it.
    pub beyond_most: f64,
    /// Requests within 10 s after a move of their account.
    pub after_moves: u64,
    /// The share of them that went to a daemon which did not own the account.
    pub non_owner_share: f64,
    /// The first of what is wrong.
    pub examples: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong, as far as the logs tell.
    pub const fn is_good(&self) -> bool {
        self.by_non_owners == 0 && self.beyond_quota == 0 && self.lost == 0
    }

    fn name(&mut self, grant: &Grant, what: &str) {
        if self.examples.len() < NAMED_MAX {
            let Grant { time_ms, account, cost, generation, by, .. } = grant;
            let says =
                format!("{time_ms:.3}: {account}: {by} granted {cost} by generation {generation}: {what}");
            self.examples.push(says);
        }
    }
}

/// What is known of one account.
#[derive(Debug)]
struct Account {
    level: f64,
    at_ms: f64,
    /// The daemon that decided last, and by which generation.
    owner: Option<(String, u64)>,
    /// Those that decided by this generation before the last one.
    over: Vec<String>,
    moved_ms: f64,
}

/// Reads grant logs.
///
/// # Errors
/// If one cannot be read, or a line is none of a grant log: it is named then.
pub fn read<'a>(paths: impl IntoIterator<Item = &'a Path>) -> io::Result<Vec<Grant>> {
    let mut grants = Vec::new();
    for path in paths {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        for (number, line) in BufReader::new(File::open(path).map_err(named)?).lines().enumerate() {
            let grant = serde_json::from_str(&line.map_err(named)?);
            grants.push(grant.map_err(|error| {
                named(io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {error}", number + 1)))
            })?);
        }
    }
    Ok(grants)
}

/// Holds what daemons logged to the rule.
pub fn check(mut grants: Vec<Grant>, quota: &Quota) -> Report {
    grants.sort_by(|one, other| {
        one.time_ms.total_cmp(&other.time_ms).then(one.generation.cmp(&other.generation))
    });
    let mut report = Report { lines: grants.len() as u64, ..Report::default() };
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    let mut to_non_owners = 0;
    for grant in &grants {
        report.lost += grant.lost;
        let account = accounts.entry(grant.account.clone()).or_insert_with(|| Account {
            level: quota.burst,
            at_ms: grant.time_ms,
            owner: None,
            over: Vec::new(),
            moved_ms: f64::NEG_INFINITY,
        });
        if grant.role == Role::Owner {
            account.follow(grant, &mut report);
            account.take(grant, quota, &mut report);
        }
        // The owner has a line of its own for what was forwarded to it.
        let is_after_move = grant.time_ms - account.moved_ms < AFTER_MOVE_MS;
        report.after_moves += u64::from(is_after_move && grant.role != Role::Forwarded);
        to_non_owners += u64::from(is_after_move && grant.role != Role::Owner);
    }
    report.accounts = accounts.len() as u64;
    report.non_owner_share = to_non_owners as f64 / report.after_moves.max(1) as f64;
    report
}

impl Account {
    /// Whether the daemon may still decide: in one generation a standby may take over, but who was taken over from is no owner.
    fn follow(&mut self, grant: &Grant, report: &mut Report) {
        if grant.shares > 1 {
            self.owner = None;
            self.over.clear();
            return;
        }
        let Some((owner, generation)) = &self.owner else {
            self.owner = Some((grant.by.clone(), grant.generation));
            return;
        };
        if *owner == grant.by {
            let is_newer = grant.generation > *generation;
            if is_newer {
                self.over.clear();
                self.owner = Some((grant.by.clone(), grant.generation));
            }
            return;
        }
        let is_over = grant.generation < *generation
            || (grant.generation == *generation && self.over.contains(&grant.by));
        if is_over {
            if grant.granted {
                report.by_non_owners += 1;
                report.name(grant, &format!("{owner} had become the owner by generation {generation}"));
            }
            return;
        }
        if grant.generation > *generation {
            self.over.clear();
        } else {
            self.over.push(owner.clone());
        }
        self.owner = Some((grant.by.clone(), grant.generation));
        self.moved_ms = grant.time_ms;
        report.moves += 1;
    }

    fn take(&mut self, grant: &Grant, quota: &Quota, report: &mut Report) {
        let more = quota.rate * (grant.time_ms - self.at_ms) / 1_000.0;
        (self.level, self.at_ms) = ((self.level + more).min(quota.burst), grant.time_ms);
        if !grant.granted {
            return;
        }
        report.granted += 1;
        self.level -= grant.cost;
        let beyond = -self.level;
        if beyond > quota.rate * CLOCKS_MS / 1_000.0 + 1e-6 {
            report.beyond_quota += 1;
            report.beyond_most = report.beyond_most.max(beyond);
            report.name(grant, &format!("{beyond:.3} beyond burst + rate × time"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { rate: 10.0, burst: 20.0 };

    fn grant(time_ms: f64, by: &str, generation: u64, cost: f64) -> Grant {
        Grant {
            time_ms,
            account: "acme".to_owned(),
            cost,
            granted: true,
            generation,
            role: Role::Owner,
            by: by.to_owned(),
            shares: 1,
            lost: 0,
        }
    }

    #[test]
    fn logs_that_keep_to_the_rule_are_good_and_moves_are_counted() {
        let other = |role, time_ms| Grant { role, granted: false, ..grant(time_ms, "b", 1, 1.0) };
        let grants = vec![
            grant(0.0, "a", 1, 20.0),
            other(Role::Forwarded, 500.0),
            grant(1_000.0, "b", 2, 10.0),
            other(Role::Refused, 1_500.0),
            grant(2_000.0, "b", 2, 8.0),
            other(Role::Forwarded, 2_000.0),
        ];
        let report = check(grants, &QUOTA);
        assert!(report.is_good(), "{report:?}");
        assert_eq!((report.moves, report.after_moves, report.granted), (1, 3, 3));
        assert!((report.non_owner_share - 2.0 / 3.0).abs() < 1e-9, "{report:?}");
    }

    #[test]
    fn what_is_beyond_the_quota_is_found_in_any_window() {
        let grants = vec![
            grant(0.0, "a", 1, 1.0),
            grant(60_000.0, "a", 1, 20.0),
            grant(60_500.0, "b", 2, 5.0),
            grant(60_600.0, "b", 2, 3.0),
        ];
        let report = check(grants, &QUOTA);
        assert_eq!((report.beyond_quota, report.beyond_most), (1, 2.0));
        assert!(!report.is_good() && report.examples[0].contains("2.000 beyond"), "{report:?}");
    }

    #[test]
    fn who_grants_after_another_became_the_owner_is_found() {
        let by = |order: &[(&str, u64)]| {
            let grant = |(index, (by, generation)): (usize, &(&str, u64))| {
                grant(1_000.0 * index as f64, by, *generation, 1.0)
            };
            check(order.iter().enumerate().map(grant).collect(), &QUOTA).by_non_owners
        };
        assert_eq!(by(&[("a", 1), ("b", 2), ("a", 3)]), 0);
        assert_eq!(by(&[("a", 1), ("b", 2), ("a", 1)]), 1);
        assert_eq!(by(&[("a", 1), ("b", 1)]), 0, "a standby takes over");
        assert_eq!(by(&[("a", 1), ("b", 1), ("a", 1), ("b", 1)]), 1);
    }

    #[test]
    fn shares_are_granted_by_several() {
        let share = |time_ms, by| Grant { shares: 2, ..grant(time_ms, by, 2, 1.0) };
        let report = check(vec![share(0.0, "a"), share(1.0, "b"), share(2.0, "a")], &QUOTA);
        assert!(report.is_good(), "{report:?}");
    }
}
