//! The hand-over of a key between owners, model-checked: four hosts that hear of maps in every possible order while their network
//! is split and healed, one resource that all of them can reach, and a rogue among them. Every transition is the very function
//! that agents use: [`Follower::offer`], [`Fence::admit`], and maps of the planner.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ringmesh_partition::follow::{Claim, Fence, Follower, Token};
use ringmesh_partition::heat::{Heat, PartitionHeat};
use ringmesh_partition::map::{Map, Parts};
use ringmesh_partition::place::Candidate;
use ringmesh_partition::plan::{self, PlanConfig};
use ringmesh_partition::position::{Position, Strategy};
use ringmesh_types::ids::NodeId;
use ringmesh_types::time::Instant;
use stateright::{Checker, Model, Property};

const HOSTS: u8 = 4;
const NOW: Instant = Instant::START;
/// Whose owner is looked at: one of the first host's, which everybody else covers for when it seems lost.
const KEY_OF: u8 = 0;

fn node(host: u8) -> NodeId {
    NodeId::from_bytes((u64::from(host) + 1).to_be_bytes())
}

fn host(node: NodeId) -> u8 {
    (node.as_u64() - 1) as u8
}

/// Hosts 0 and 1 are on one side of the split, 2 and 3 on the other.
fn side(host: u8) -> u8 {
    host / 2
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Network {
    Whole,
    Split,
    Healed,
}

impl Network {
    fn reaches(self, from: u8, to: u8) -> bool {
        self != Self::Split || side(from) == side(to)
    }

    /// What `reader` tells [`Follower::offer`] of an author and another member: whether one of them is or was Down.
    fn may_be_lost(self, reader: u8, author: u8, lost: u8) -> bool {
        self != Self::Whole && (side(author) != side(reader) || side(lost) != side(reader))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    Split,
    Heal,
    /// A map, by its place in the model, reaches a host.
    Hear(u8, u8),
    /// A host that owns the key uses the resource.
    Use(u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    network: Network,
    /// Which maps changed what each host knows, in order, and how the network was then.
    heard: Vec<Vec<(u8, Network)>>,
    fence: Fence,
    /// Whom the resource obeyed, by token, and the last of them.
    obeyed: Vec<(Token, u8)>,
    last: Option<Token>,
    is_lower_obeyed: bool,
}

/// What a reader has heard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Past {
    reader: u8,
    heard: Vec<(u8, Network)>,
}

/// What a reader goes by after it has heard some maps, and which would be news to it.
#[derive(Debug, Clone)]
struct View {
    token: Token,
    owner: u8,
    news: Vec<(u8, Network)>,
}

struct HandOver {
    /// There are few views and many states.
    views: Mutex<BTreeMap<Past, View>>,
    first: Map,
    /// Maps that somebody makes, and the host that can hand them out; the last is the rogue's.
    maps: Vec<(Map, u8)>,
    key: Position,
}

impl HandOver {
    fn new() -> Self {
        let hosts = candidates(|_| true);
        let service = "limiter".parse().expect("a name");
        let config = PlanConfig::default();
        let first = plan::first(service, Strategy::Hash, node(0), &hosts, &config).expect("there are hosts");
        let cover = |author: u8| next(&first, author, &candidates(|host| side(host) == side(author)), None);
        let (ours, theirs) = (cover(0), cover(2));
        let ours_again = next(&ours, 1, &candidates(|host| side(host) == 0), Some(3.0));
        let rogue = Parts {
            generation: 1 << 63,
            previous: first.digest(),
            author: node(3),
            ..theirs.parts().clone()
        };
        let key = first.parts().seats.iter().position(|seats| seats.owner().0 == u16::from(KEY_OF));
        let key = first.slice(key.expect("it owns something")).start;
        let maps = vec![(ours, 0), (theirs, 2), (ours_again, 1), (Map::new(rogue).expect("a map"), 3)];
        Self { views: Mutex::default(), first, maps, key }
    }

    fn view(&self, state: &State, reader: u8) -> View {
        let past = Past { reader, heard: state.heard[usize::from(reader)].clone() };
        let mut views = self.views.lock().expect("nobody fails");
        views.entry(past).or_insert_with_key(|past| self.make_view(past)).clone()
    }

    fn make_view(&self, past: &Past) -> View {
        let reader = past.reader;
        let follower = || {
            let mut follower = Follower::new(NOW, self.first.clone());
            for (map, network) in &past.heard {
                self.offer(&mut follower, reader, *map, *network);
            }
            follower
        };
        let offers = (0..self.maps.len() as u8)
            .flat_map(|map| [Network::Whole, Network::Split, Network::Healed].map(|network| (map, network)));
        let is_news = |(map, network): &(u8, Network)| self.offer(&mut follower(), reader, *map, *network);
        let present = follower();
        View {
            token: Token::of(present.map()),
            owner: self.owner(present.map()),
            news: offers.filter(is_news).collect(),
        }
    }

    /// Says whether what the reader knows changed.
    fn offer(&self, follower: &mut Follower, reader: u8, map: u8, network: Network) -> bool {
        let map = &self.maps[usize::from(map)].0;
        let was_known = follower.find(&map.digest()).is_some();
        let may_be_lost = |author, lost| network.may_be_lost(reader, host(author), host(lost));
        match follower.offer(NOW, map.clone(), may_be_lost) {
            Claim::Taken | Claim::TakenInstead { .. } => true,
            Claim::Known => !was_known,
            Claim::Wants(_) | Claim::Refused(_) => false,
        }
    }

    fn owner(&self, map: &Map) -> u8 {
        host(map.host(map.lookup_at(self.key).expect("there are hosts").seats[0]).node)
    }

    /// Whether no map, however often it comes again, changes anything any more.
    fn is_settled(&self, state: &State) -> bool {
        let is_done =
            |reader| self.view(state, reader).news.iter().all(|(_, network)| *network != Network::Healed);
        state.network == Network::Healed && (0..HOSTS).all(is_done)
    }
}

fn candidates(is_live: impl Fn(u8) -> bool) -> Vec<Candidate> {
    let one = |host: u8| Candidate {
        node: node(host),
        zone: ["a", "b"][usize::from(host % 2)].parse().expect("a name"),
        capacity: 100,
        is_live: is_live(host),
    };
    (0..HOSTS).map(one).collect()
}

/// What `author` plans after `map`, if the first host's partitions cost `factor` times as much as others.
fn next(map: &Map, author: u8, hosts: &[Candidate], factor: Option<f64>) -> Map {
    let heat = factor.map(|factor| {
        let cost = |index: usize| if map.parts().seats[index].owner().0 == 0 { factor } else { 1.0 };
        let of = |index: usize| {
            let slice = map.slice(index);
            (
                slice.start,
                PartitionHeat { cost: cost(index), median: slice.at((slice.positions() / 2) as u64) },
            )
        };
        Heat { partitions: (0..map.partitions()).map(of).collect(), ..Heat::default() }
    });
    let planned = plan::plan(map, node(author), hosts, heat.as_ref(), &PlanConfig::default());
    planned.expect("there are hosts").expect("something is to be done").map
}

impl Model for HandOver {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            network: Network::Whole,
            heard: vec![Vec::new(); HOSTS.into()],
            fence: Fence::default(),
            obeyed: Vec::new(),
            last: None,
            is_lower_obeyed: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.network {
            Network::Whole => actions.push(Action::Split),
            Network::Split => actions.push(Action::Heal),
            Network::Healed => {}
        }
        for reader in 0..HOSTS {
            let makers = self.maps.iter().enumerate();
            // Nobody covers for the other side before it is lost; the rogue does as it likes.
            let exist =
                makers.filter(|(map, _)| *map + 1 == self.maps.len() || state.network != Network::Whole);
            let reach = exist.filter(|(_, (_, maker))| state.network.reaches(*maker, reader));
            actions.extend(reach.map(|(map, _)| Action::Hear(map as u8, reader)));
            if self.view(state, reader).owner == reader {
                actions.push(Action::Use(reader));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Split => next.network = Network::Split,
            Action::Heal => next.network = Network::Healed,
            Action::Hear(map, reader) => {
                if !self.view(state, reader).news.contains(&(map, state.network)) {
                    return None;
                }
                next.heard[usize::from(reader)].push((map, state.network));
            }
            Action::Use(user) => {
                let token = self.view(state, user).token;
                if next.fence.admit(token).is_ok() {
                    next.is_lower_obeyed |= next.last.is_some_and(|last| token < last);
                    next.last = Some(token);
                    if !next.obeyed.contains(&(token, user)) {
                        next.obeyed.push((token, user));
                        next.obeyed.sort_unstable();
                    }
                }
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the resource obeys no lower token after a higher", |_, state: &State| {
                !state.is_lower_obeyed
            }),
            Property::always("with one token it obeys one owner", |_, state: &State| {
                state.obeyed.windows(2).all(|pair| pair[0].0 != pair[1].0)
            }),
            Property::always("nobody follows the rogue", |model: &Self, state| {
                (0..HOSTS).all(|reader| model.view(state, reader).token.generation < 1 << 63)
            }),
            Property::always(
                "once healed and settled there is one map, and one owner",
                |model: &Self, state| {
                    let mut tokens = (0..HOSTS).map(|reader| model.view(state, reader).token);
                    let first = tokens.next();
                    !model.is_settled(state) || tokens.all(|token| Some(token) == first)
                },
            ),
            Property::sometimes(
                "in a split there are two owners, and that is said",
                |model: &Self, state| {
                    let owns = |reader: &u8| model.view(state, *reader).owner == *reader;
                    state.network == Network::Split && (0..HOSTS).filter(owns).count() == 2
                },
            ),
            Property::sometimes("it settles", |model: &Self, state| model.is_settled(state)),
        ]
    }
}

#[test]
fn no_resource_obeys_two_owners_and_after_a_split_there_is_one() {
    let checker = HandOver::new().checker().threads(2).spawn_bfs().join();
    println!("{} states, {} of them different", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 1_000, "{}", checker.unique_state_count());
}
