//! What a look-up takes with 500 hosts and 10,000 partitions: `owner` has at most 100 ns.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use ringmesh_client::Maps;
use ringmesh_partition::map::Map;
use ringmesh_partition::place::Candidate;
use ringmesh_partition::plan::{PlanConfig, first};
use ringmesh_partition::position::Strategy;
use ringmesh_types::ids::NodeId;

#[path = "../tests/fake/mod.rs"]
mod fake;

use fake::FakeAgent;

const HOSTS: u64 = 500;

fn map() -> Map {
    let candidate = |number: u64| Candidate {
        node: NodeId::from_bytes(number.to_be_bytes()),
        zone: "a".parse().expect("a name"),
        capacity: 100,
        is_live: true,
    };
    let candidates: Vec<Candidate> = (1..=HOSTS).map(candidate).collect();
    let config = PlanConfig { partitions_per_host: 20, ..PlanConfig::default() };
    let service = "limiter".parse().expect("a name");
    first(service, Strategy::Hash, candidates[0].node, &candidates, &config).expect("somebody serves")
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("there are threads");
    let _guard = runtime.enter();
    let map = map();
    assert_eq!(map.partitions(), 10_000);
    let agent = runtime.block_on(FakeAgent::start());
    agent.tell_map(&map, None, map.parts().roster[0].node, &fake::hosts_of(&map));
    let maps = Maps::watch(agent.addr(), "limiter".parse().expect("a name"), "bench");
    runtime.block_on(maps.ready());

    let keys: Vec<String> = (0..4_096).map(|number| format!("account-{number}")).collect();
    let mut criterion =
        Criterion::default().configure_from_args().measurement_time(Duration::from_secs(3)).without_plots();
    let mut next = (0..keys.len()).cycle();
    let mut key = || keys[next.next().expect("goes round")].as_bytes();
    criterion.bench_function("owner of 10,000 partitions", |bencher| {
        bencher.iter(|| maps.owner(black_box(key())));
    });
    criterion.bench_function("lookup of 10,000 partitions", |bencher| {
        bencher.iter(|| maps.lookup(black_box(key())));
    });
    criterion.bench_function("count", |bencher| {
        bencher.iter(|| maps.count(black_box(key()), 1.0));
    });
    criterion.final_summary();
}
