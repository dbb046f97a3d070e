//! What is granted, whatever moves.

use super::*;
use crate::history::tests::{Flat, flat, node};
use proptest::prelude::{any, prop_assert, proptest};

const QUOTA: Quota = Quota { rate: 10.0, burst: 60.0 };
const KEY: (&str, Position) = ("acme", Position(0));

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// Daemons that hear of every map at once.
struct World {
    ledgers: Vec<Ledger<Flat>>,
    views: Vec<Flat>,
    /// Who can be asked.
    is_reached: Vec<bool>,
    down: Vec<NodeId>,
}

impl World {
    fn new(daemons: u8, holders: &[u8]) -> Self {
        let start = |daemon| Ledger::new(QUOTA, History::new(node(daemon), false));
        let mut world = Self {
            ledgers: (0..daemons).map(start).collect(),
            views: Vec::new(),
            is_reached: vec![true; usize::from(daemons)],
            down: Vec::new(),
        };
        world.moves(at(0), holders);
        world
    }

    fn moves(&mut self, now: Instant, holders: &[u8]) {
        let before = self.views.last().map(|view| view.holders.clone());
        let mut view = flat(1 + self.views.len() as u64, holders, &[]);
        view.before = before;
        self.views.push(view.clone());
        self.ledgers.iter_mut().for_each(|ledger| ledger.follow(now, view.clone(), false));
    }

    fn restart(&mut self, now: Instant, daemon: u8) {
        let mut ledger = Ledger::new(QUOTA, History::new(node(daemon), true));
        ledger.follow(now, self.views.last().expect("has begun").clone(), false);
        self.ledgers[usize::from(daemon)] = ledger;
    }

    fn number(&self, id: NodeId) -> usize {
        (0..self.ledgers.len()).find(|number| node(*number as u8) == id).expect("is one of them")
    }

    /// A request at one daemon, which asks whom it has to.
    fn take(&mut self, now: Instant, daemon: u8, cost: f64) -> Take {
        let me = usize::from(daemon);
        for _ in 0..3 {
            let down = self.down.clone();
            let taken = self.ledgers[me].take(now, KEY, cost, |holder| down.contains(&holder));
            let Take::Ask(ask) = taken else { return taken };
            self.ask(now, me, &ask);
        }
        panic!("it asks again and again")
    }

    fn ask(&mut self, now: Instant, me: usize, ask: &Ask) {
        for (holder, is_kept) in ask.holders.iter().copied() {
            let claim =
                Claim { token: ask.token, from: node(me as u8), kind: ask.kind, shares: ask.shares, is_kept };
            let other = self.number(holder);
            let answer = if self.is_reached[other] {
                match self.ledgers[other].hand_over(now, KEY, &claim) {
                    Ok(Some(level)) => Answer::Level(level),
                    Ok(None) => Answer::Unknown,
                    Err(PeerClaimError::Outdated(_)) => Answer::Outdated,
                    Err(PeerClaimError::Waiting | PeerClaimError::Full) => Answer::Unreached,
                }
            } else {
                Answer::Unreached
            };
            self.ledgers[me].on_answer(now, KEY.0, ask.number, holder, answer);
        }
    }

    fn left(&mut self, now: Instant, daemon: u8) -> f64 {
        let taken = self.take(now, daemon, 0.0);
        let Take::Granted { left } = taken else { panic!("{taken:?}") };
        left
    }
}

#[test]
fn the_first_holder_starts_full_and_nobody_else_grants() {
    let mut world = World::new(2, &[0]);
    assert_eq!(world.take(at(0), 1, 1.0), Take::NotMine);
    assert_eq!(world.take(at(0), 0, 50.0), Take::Granted { left: 10.0 });
    world.restart(at(100), 0);
    assert_eq!(world.left(at(1_100), 0), 10.0, "it may have granted before");
}

#[test]
fn a_bucket_moves_with_its_key() {
    let mut world = World::new(2, &[0]);
    world.take(at(0), 0, 50.0);
    world.moves(at(1_000), &[1]);
    assert_eq!(world.left(at(1_500), 1), 25.0);
    assert_eq!(world.ledgers[0].accounts(), 0);
    assert_eq!(world.take(at(1_500), 0, 1.0), Take::NotMine);
}

#[test]
fn an_account_that_the_owner_before_never_saw_comes_as_it_would_be_there() {
    let mut world = World::new(3, &[0]);
    world.moves(at(1_000), &[1]);
    assert_eq!(world.left(at(2_000), 1), 60.0);
    let mut world = World::new(3, &[0]);
    world.take(at(0), 0, 60.0);
    world.moves(at(1_000), &[1]);
    world.moves(at(3_000), &[2]);
    assert_eq!(world.left(at(4_000), 2), 30.0, "it has been filling there for 3 s");
}

#[test]
fn without_the_owner_before_it_fills_since_the_move() {
    let mut world = World::new(2, &[0]);
    world.is_reached[0] = false;
    world.moves(at(1_000), &[1]);
    assert_eq!(world.left(at(3_000), 1), 20.0);
    let mut world = World::new(2, &[0]);
    world.moves(at(1_000), &[1]);
    let late = HAND_OVER.as_millis() as u64 + 1_000;
    assert_eq!(world.left(at(late), 1), 60.0, "nobody is asked so late");
    assert!(world.ledgers[0].fences.is_empty());
}

#[test]
fn a_bucket_that_was_left_behind_does_not_count_when_its_key_comes_back() {
    let mut world = World::new(2, &[0]);
    world.take(at(0), 0, 10.0);
    world.is_reached = vec![false; 2];
    world.moves(at(1_000), &[1]);
    world.moves(at(2_000), &[0]);
    assert_eq!(world.left(at(2_500), 0), 5.0);
}

#[test]
fn who_gave_an_account_away_grants_nothing_under_an_older_map() {
    let mut world = World::new(2, &[0]);
    let view = flat(2, &[1], &[0]);
    world.ledgers[1].follow(at(1_000), view.clone(), false);
    assert_eq!(world.left(at(1_000), 1), 60.0);
    assert_eq!(world.take(at(1_001), 0, 1.0), Take::Fenced);
    world.ledgers[0].follow(at(1_100), view, false);
    assert_eq!(world.take(at(1_100), 0, 1.0), Take::NotMine);
}

#[test]
fn two_that_hold_each_other_down_pass_one_bucket_to_and_fro() {
    let mut world = World::new(2, &[0]);
    world.take(at(0), 0, 60.0);
    // The other one alone sees it as the holder, in the same generation.
    world.ledgers[1].follow(at(0), flat(1, &[0], &[]), false);
    world.ledgers[1].follow(at(1_000), flat(1, &[1], &[]), false);
    assert_eq!(world.left(at(1_000), 1), 10.0);
    assert_eq!(world.left(at(2_000), 0), 20.0);
}

#[test]
fn who_lags_behind_gets_nothing() {
    let mut world = World::new(2, &[0]);
    world.moves(at(0), &[1]);
    world.moves(at(0), &[0]);
    let token = world.views[1].token();
    let claim = Claim { token, from: node(1), kind: Kind::Move, shares: 1, is_kept: false };
    let refused = world.ledgers[0].hand_over(at(1), KEY, &claim);
    assert_eq!(refused, Err(PeerClaimError::Outdated(world.views[2].token())));
}

#[test]
fn an_answer_that_was_lost_does_not_double_the_bucket() {
    let mut world = World::new(2, &[0]);
    world.moves(at(1_000), &[1]);
    let token = world.views[1].token();
    let claim = Claim { token, from: node(1), kind: Kind::Move, shares: 1, is_kept: false };
    assert_eq!(world.ledgers[0].hand_over(at(1_000), KEY, &claim), Ok(Some(60.0)));
    assert_eq!(world.ledgers[0].hand_over(at(1_500), KEY, &claim), Ok(None));
}

#[test]
fn a_new_share_fills_once_all_have_cut_theirs() {
    let mut world = World::new(3, &[0]);
    assert_eq!(world.left(at(0), 0), 60.0);
    world.is_reached[0] = false;
    world.moves(at(1_000), &[0, 1, 2]);
    assert_eq!(world.left(at(1_000), 0), 20.0, "who keeps a share cuts it at once");
    assert!(matches!(world.take(at(1_000), 1, 1.0), Take::Refused(_)));
    assert_eq!(world.left(at(60_000), 1), 0.0, "the owner before may still grant it all");
    world.is_reached[0] = true;
    assert_eq!(world.left(at(61_000), 1), 0.0);
    assert_eq!(world.left(at(64_000), 1), 10.0);
    assert_eq!(world.left(at(64_000), 0), 20.0);
    world.is_reached[0] = false;
    assert_eq!(world.left(at(64_000), 2), 0.0);
    world.down = vec![node(0)];
    assert_eq!(world.left(at(64_500), 2), 0.0);
    assert_eq!(world.left(at(65_500), 2), 10.0 / 3.0, "who is down is waited for no longer");
}

#[test]
fn who_waits_itself_confirms_no_share() {
    let mut world = World::new(4, &[0]);
    world.is_reached[0] = false;
    world.moves(at(1_000), &[1, 2]);
    world.moves(at(2_000), &[1, 2, 3]);
    for daemon in [1, 2, 3, 3] {
        assert_eq!(world.left(at(5_000), daemon), 0.0);
    }
    assert_eq!(world.left(at(9_000), 3), 0.0, "the first owner may still grant it all");
    world.is_reached[0] = true;
    for daemon in [1, 2, 3] {
        assert_eq!(world.left(at(9_500), daemon), 0.0);
    }
    assert_eq!(world.left(at(12_500), 3), 10.0);
}

#[test]
fn who_restarts_does_not_take_what_it_may_have_granted_before() {
    let mut world = World::new(2, &[0]);
    world.take(at(0), 0, 60.0);
    world.is_reached[0] = false;
    world.moves(at(1_000), &[1]);
    assert_eq!(world.take(at(3_000), 1, 20.0), Take::Granted { left: 0.0 });
    world.restart(at(3_000), 1);
    world.is_reached[0] = true;
    assert_eq!(world.left(at(3_000), 1), 0.0, "30 have come together there, 20 of which are granted");
    assert_eq!(world.left(at(4_000), 1), 10.0);
}

#[test]
fn a_share_that_grows_stays_small_until_the_others_are_told() {
    let mut world = World::new(2, &[0, 1]);
    assert_eq!((world.left(at(0), 0), world.left(at(0), 1)), (30.0, 30.0));
    world.is_reached[1] = false;
    world.moves(at(1_000), &[0]);
    assert_eq!(world.left(at(9_000), 0), 30.0);
    world.is_reached[1] = true;
    assert_eq!(world.left(at(9_500), 0), 30.0);
    assert_eq!(world.left(at(10_500), 0), 40.0);
    assert_eq!(world.take(at(10_500), 1, 1.0), Take::NotMine);
}

#[test]
fn full_accounts_make_room_and_others_do_not() {
    let mut world = World::new(1, &[0]);
    let ledger = &mut world.ledgers[0];
    ledger.accounts_max = 2;
    let mut take = |now, account, cost| ledger.take(now, (account, Position(0)), cost, |_| false);
    take(at(0), "a", 30.0);
    take(at(0), "b", 1.0);
    assert_eq!(take(at(0), "c", 1.0), Take::Full);
    assert_eq!(take(at(200), "c", 1.0), Take::Granted { left: 59.0 }, "b is full again");
    assert_eq!(take(at(200), "a", 0.0), Take::Granted { left: 32.0 });
}

/// Says which request is the first too many, if one is: of grants in order, with when and how much.
fn first_too_many(grants: &[(u64, f64)]) -> Option<usize> {
    let (mut level, mut last) = (QUOTA.burst, 0);
    grants.iter().position(|(millis, cost)| {
        let more = QUOTA.rate * (millis - last) as f64 / 1_000.0;
        (level, last) = ((level + more).min(QUOTA.burst) - cost, *millis);
        level < -1e-6
    })
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(2_000))]

    #[test]
    fn never_more_than_burst_and_rate_is_granted_whatever_moves_and_whoever_is_lost(
        steps in proptest::collection::vec((0_u8..10, 0_u64..3_000, any::<[u8; 4]>()), 1..60),
    ) {
        let mut world = World::new(4, &[0]);
        let (mut now, mut grants) = (0, Vec::new());
        for (kind, wait, draws) in steps {
            now += wait;
            match kind {
                0 => world.restart(at(now), draws[0] % 4),
                1 => world.moves(at(now), &[draws[0] % 4]),
                2 => {
                    let mut holders: Vec<u8> = draws[..usize::from(1 + draws[3] % 3)].to_vec();
                    holders.iter_mut().for_each(|holder| *holder %= 4);
                    holders.sort_unstable();
                    holders.dedup();
                    world.moves(at(now), &holders);
                }
                3 => world.is_reached.iter_mut().zip(draws).for_each(|(is, draw)| *is = draw % 3 > 0),
                _ => {
                    for daemon in 0..4_u8 {
                        let cost = f64::from(draws[usize::from(daemon)] % 64);
                        while matches!(world.take(at(now), daemon, cost.max(1.0)), Take::Granted { .. }) {
                            grants.push((now, cost.max(1.0)));
                        }
                    }
                }
            }
        }
        prop_assert!(first_too_many(&grants).is_none(), "{:?}", grants);
    }
}
