use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::difference::Difference;
use crate::follow::moved;
use crate::heat::PartitionHeat;
use crate::map::{Place, Seat};
use crate::place::tests::candidates;

const NODE: fn(u16) -> NodeId = crate::map::tests::node;

fn start(candidates: &[Candidate]) -> Map {
    let service = "limiter".parse().expect("a name");
    first(service, Strategy::Hash, NODE(0), candidates, &PlanConfig::default()).expect("somebody serves")
}

/// A load of 1 for each partition, times what `factor` says of its place.
fn heat(map: &Map, factor: impl Fn(usize) -> f64) -> Heat {
    let of = |index: usize| {
        let slice = map.slice(index);
        let median = slice.at((slice.positions() / 2) as u64);
        (slice.start, PartitionHeat { cost: 100.0 * factor(index), median })
    };
    Heat { partitions: (0..map.partitions()).map(of).collect(), ..Heat::default() }
}

fn next(map: &Map, candidates: &[Candidate], heat: Option<&Heat>) -> Option<Plan> {
    plan(map, NODE(0), candidates, heat, &PlanConfig::default()).expect("somebody serves")
}

fn owner(map: &Map, at: Position) -> NodeId {
    map.host(map.lookup_at(at).expect("a map with members").seats[0]).node
}

proptest! {
    #[test]
    fn whatever_happens_every_key_has_one_live_owner_and_little_moves(
        hosts in 1_u16..12,
        rounds in proptest::collection::vec(
            (proptest::collection::vec((any::<bool>(), any::<bool>(), 0_u16..3), 12), any::<u64>(), any::<bool>()),
            1..5,
        ),
    ) {
        let mut all = candidates(12);
        let mut map = start(&all[..usize::from(hosts)]);
        for (changes, seed, is_known) in rounds {
            for (one, (is_live, is_changed, capacity)) in all.iter_mut().zip(changes) {
                if is_changed {
                    (one.is_live, one.capacity) = (is_live, capacity * 100);
                }
            }
            let there: Vec<Candidate> = all.iter().filter(|one| one.node.as_u64() ^ seed & 7 != 0).cloned().collect();
            let factor = |index: usize| f64::from(((seed >> (index % 50)) & 15) as u32).exp2() / 100.0;
            let mut heat = heat(&map, factor);
            heat.hot = vec![(Position(seed), 2_000.0 * factor(1)), (Position(!seed), 900.0)];
            heat.dedicated = map.parts().dedicated.iter().map(|key| (key.at, 5_000.0 * factor(2))).collect();
            let planned = plan(&map, NODE(3), &there, is_known.then_some(&heat), &PlanConfig::default());
            prop_assert_eq!(planned.is_err(), !there.iter().any(Candidate::may_serve));
            let Ok(Some(planned)) = planned else { continue };
            let planned_churn = planned.churn();
            let Plan { map: after, steps } = planned;
            prop_assert_eq!(after.parts().generation, map.parts().generation + 1);
            prop_assert_eq!(after.parts().previous, map.digest());
            let live = |node: NodeId| there.iter().any(|one| one.node == node && one.is_live);
            let serves = |node: NodeId| there.iter().any(|one| one.node == node && one.may_serve());
            for seats in &after.parts().seats {
                prop_assert!(live(after.host(seats.owner()).node));
                prop_assert!(seats.standbys().iter().all(|seat| serves(after.host(*seat).node)));
            }
            let owners = after.parts().dedicated.iter().flat_map(|key| &key.owners);
            prop_assert!(owners.into_iter().all(|seat| serves(after.host(*seat).node)));
            prop_assert!(moved(&map, &after, |was| !live(was)) <= planned_churn + 1e-9 && planned_churn <= 0.09);
            let said: f64 = steps.iter().map(|step| step.churn).sum();
            prop_assert!(moved(&map, &after, |_| false) <= said + 1e-9, "every move is told");
            let difference = Difference::between(&map, &after).expect("comes next");
            prop_assert!(difference.apply(&map).is_ok_and(|applied| applied == after));
            map = after;
        }
    }
}

#[test]
fn an_even_load_changes_nothing_and_a_little_noise_neither() {
    let all = candidates(20);
    let map = start(&all);
    assert_eq!(next(&map, &all, None), None);
    // Partitions are whole ones, so nobody has exactly its share: the first rounds may even that out.
    let mut settled = map;
    for _ in 0..5 {
        if let Some(plan) = next(&settled, &all, Some(&heat(&settled, |_| 1.0))) {
            settled = plan.map;
        }
    }
    for round in 0..20_u64 {
        let noise =
            |index: usize| 1.0 + 0.1 * ((index as u64 * 7_919 + round * 104_729) % 100) as f64 / 100.0;
        assert_eq!(next(&settled, &all, Some(&heat(&settled, noise))), None);
    }
}

#[test]
fn a_split_moves_nothing_and_keeps_the_lower_half_where_it_starts() {
    let all = candidates(4);
    let map = start(&all);
    let plan =
        next(&map, &all, Some(&heat(&map, |index| if index == 5 { 3.0 } else { 1.0 }))).expect("it is hot");
    let splits: Vec<&Step> =
        plan.steps.iter().filter(|step| matches!(step.what, What::Split { .. })).collect();
    let What::Split { start, at } = splits[0].what else { unreachable!("it is a split") };
    assert_eq!((splits.len(), start), (1, map.slice(5).start));
    assert!(map.slice(5).contains(at) && plan.map.parts().starts.contains(&start));
    assert!(owner(&plan.map, at) == owner(&plan.map, start));
    assert!(splits[0].to_string().ends_with("it has 2.9 times the mean"), "{}", splits[0]);
}

#[test]
fn what_a_dead_member_had_goes_to_its_standbys_whoever_plans() {
    let mut all = candidates(20);
    let map = start(&all);
    all[7].is_live = false;
    let plan = next(&map, &all, None).expect("it is dead");
    let mut heirs = vec![0; 20];
    for (index, seats) in map.parts().seats.iter().enumerate().filter(|(_, seats)| seats.owner() == Seat(7)) {
        let heir = seats.standbys()[0];
        assert_eq!(plan.map.parts().seats[index].owner(), heir, "readers asked it already");
        heirs[heir.index()] += 1;
    }
    assert!(heirs.iter().all(|count| *count <= 2), "{heirs:?}");
    assert!(plan.map.parts().seats.iter().all(|seats| !seats.all().contains(&Seat(7))));
    all[7].is_live = true;
    assert_eq!(next(&plan.map, &all, None), None, "who comes back gets its share by load, not at once");
}

#[test]
fn members_that_come_and_go_take_over_little_by_little() {
    let all = candidates(40);
    let mut map = start(&all[..20]);
    let balance = |map: &mut Map, all: &[Candidate]| {
        let mut rounds = 0;
        while let Some(plan) = next(map, all, Some(&heat(map, |_| 1.0))) {
            assert!(moved(map, &plan.map, |_| false) <= 0.09 + 1e-9);
            *map = plan.map;
            rounds += 1;
            assert!(rounds < 40, "it settles");
        }
        let owned = |place| {
            map.parts().seats.iter().filter(|seats| map.host(seats.owner()).node == NODE(place)).count()
        };
        (rounds, (0..40).map(owned).collect::<Vec<_>>())
    };
    let (grown, owned) = balance(&mut map, &all);
    assert!(grown >= 5 && owned.iter().all(|count| *count > 0), "{grown} rounds: {owned:?}");
    let mut fewer = all.clone();
    fewer[20..].iter_mut().for_each(|one| one.capacity = 0);
    let (shrunk, owned) = balance(&mut map, &fewer);
    assert!(shrunk >= 5 && owned[20..].iter().all(|count| *count == 0), "{shrunk} rounds: {owned:?}");
    let plan = next(&map, &fewer[..20], Some(&heat(&map, |_| 1.0))).expect("they left");
    assert_eq!(plan.map.parts().roster.len(), 20, "{:?}", plan.steps);
}

#[test]
fn a_key_that_dominates_gets_its_own_and_is_spread_and_comes_back() {
    let all = candidates(20);
    let mut map = start(&all);
    let key = Position(0x1234_5678_9abc_def0);
    let index = map.partition_of(key).expect("is covered");
    let mut heated = heat(&map, |_| 1.0);
    // As much as all others together.
    let cost = 100.0 * map.partitions() as f64;
    heated.partitions.get_mut(&map.slice(index).start).expect("is measured").cost += cost;
    heated.hot = vec![(key, cost)];
    map = next(&map, &all, Some(&heated)).expect("it is hot").map;
    let found = map.lookup_at(key).expect("is covered");
    assert_eq!((found.place, found.seats.len()), (Place::Dedicated, 16));
    let near = map.lookup_at(Position(key.0 + 1)).expect("is covered");
    assert_eq!(near.place, Place::Partition(map.partition_of(key).expect("is covered")));
    let mut cooled = heat(&map, |_| 1.0);
    cooled.dedicated = [(key, 1.0)].into();
    map = next(&map, &all, Some(&cooled)).expect("it is cold").map;
    assert_eq!(
        map.lookup_at(key).expect("is covered").place,
        Place::Partition(map.partition_of(key).expect("is covered"))
    );
}

#[test]
fn too_many_cold_partitions_are_merged_and_nothing_moves_for_it_at_home() {
    let all = candidates(1);
    let (few, many) =
        (PlanConfig::default(), PlanConfig { partitions_per_host: 200, ..PlanConfig::default() });
    let map = first("limiter".parse().expect("a name"), Strategy::Hash, NODE(0), &all, &many).expect("a map");
    let cold = heat(&map, |index| if index == 50 { 1_000.0 } else { 0.1 });
    let mut now = map.clone();
    while let Some(plan) = plan(&now, NODE(0), &all, Some(&cold), &few).expect("somebody serves") {
        assert!(plan.steps.iter().all(|step| step.churn == 0.0));
        assert!(
            plan.map.partitions() < now.partitions()
                || plan.steps.iter().any(|step| matches!(step.what, What::Split { .. }))
        );
        now = plan.map;
        if now.partitions() <= 25 {
            break;
        }
    }
    assert!(now.partitions() <= 26, "{}", now.partitions());
}

#[test]
fn nobody_can_plan_for_nobody() {
    let mut all = candidates(2);
    let map = start(&all);
    all.iter_mut().for_each(|one| one.capacity = 0);
    assert_eq!(plan(&map, NODE(0), &all, None, &PlanConfig::default()), Err(PlanError::Nobody));
    let service = "limiter".parse().expect("a name");
    assert_eq!(first(service, Strategy::Name, NODE(0), &[], &PlanConfig::default()), Err(PlanError::Nobody));
}

#[test]
fn a_large_map_and_a_round_are_small() {
    let mut all = candidates(1_000);
    let map = start(&all);
    all.iter_mut().take(500).for_each(|one| one.capacity = 150);
    let plan = next(&map, &all, Some(&heat(&map, |_| 1.0))).expect("capacities changed");
    let difference = Difference::between(&map, &plan.map).expect("comes next");
    let (whole, round) = (map.to_bytes().len(), difference.to_bytes().len());
    println!(
        "{} partitions: {whole} bytes; {} changed: {round} bytes",
        map.partitions(),
        difference.partitions()
    );
    assert!(whole <= 256 << 10 && round <= 32 << 10, "{whole}, {round}");
    assert!(difference.partitions() >= 1_600, "{}", difference.partitions());
}

#[test]
fn pinned_keys_that_nobody_has_measured_do_not_all_go_to_one_member() {
    let hosts = candidates(4);
    let map = start(&hosts);
    let pins = (0..12_u64).map(|key| (Position(key << 60 | 77), None)).collect();
    let config = PlanConfig { pins, ..PlanConfig::default() };
    let planned = plan(&map, NODE(0), &hosts, None, &config).expect("somebody serves").expect("pins are new");
    let mut owned = [0; 4];
    planned.map.parts().dedicated.iter().for_each(|key| owned[key.owners[0].index()] += 1);
    assert!(owned.iter().all(|count| (1..=6).contains(count)), "{owned:?}");
    let again = plan(&planned.map, NODE(0), &hosts, None, &config);
    assert_eq!(again, Ok(None), "they stay");
}

#[test]
fn who_was_away_stands_by_again_for_its_share() {
    let mut hosts = candidates(6);
    let mut map = start(&hosts);
    hosts[4].is_live = false;
    map = next(&map, &hosts, None).expect("its partitions are covered for").map;
    hosts[4].is_live = true;
    for _ in 0..10 {
        let heat = heat(&map, |_| 1.0);
        let Some(plan) = next(&map, &hosts, Some(&heat)) else { break };
        map = plan.map;
    }
    let (mut heirs, mut owned) = (BTreeMap::new(), BTreeMap::<Seat, usize>::new());
    for seats in &map.parts().seats {
        *heirs.entry((seats.owner(), seats.standbys()[0])).or_insert(0_usize) += 1;
        *owned.entry(seats.owner()).or_default() += 1;
    }
    // Four of the five others stand in another zone than the owner.
    for ((owner, heir), count) in heirs {
        let fair = owned[&owner] as f64 / 4.0;
        assert!(
            count as f64 <= (2.0 * fair).max(2.0),
            "{heir:?} stands by for {count} of {} of {owner:?}",
            owned[&owner]
        );
    }
}
