//! What was seen at a target, in words: what is wrong, and what mends it. Nothing is sent or decided here.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use ringmesh_types::limits::EPOCH_AHEAD_MAX;
use serde::Serialize;

use super::message::{CallBack, End, Trouble, TroubleKind};
use super::seen::{Clock, Seen, There, Us};
use super::targets::{Target, Unresolved};

/// Clocks that differ by more are told of, in milliseconds.
const CLOCK_MS_MAX: u64 = 5_000;
/// What mends that two agents have one name.
const RENAME: &str = "rename one of them, and give it a certificate of its own";

/// Something that is wrong with a path or a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing it is.
    pub kind: FindingKind,
    /// What is wrong.
    pub says: String,
    /// What mends it.
    pub cure: String,
}

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Nothing comes back over UDP: filtered, a wrong address, or a machine that is off.
    Udp,
    /// The host says that nobody listens there.
    Port,
    /// The network says that there is no way.
    Route,
    /// One direction works and the other does not.
    OneWay,
    /// A certificate is refused.
    Certificate,
    /// The two are of different clusters.
    Cluster,
    /// Clocks differ by more than 5 s.
    Clock,
    /// The other end is no agent, or one of another version.
    Version,
    /// Another node answers than the one that should, or there are two of one name.
    Name,
    /// A seed's name has no address.
    Seed,
    /// The peer does not know this agent as a member, and so cannot call back.
    Stranger,
    /// The peer had too much under way to be examined.
    Busy,
    /// The connection broke.
    Lost,
}

/// One end of a call.
#[derive(Debug, Clone, Copy)]
struct Party<'a> {
    name: Option<&'a str>,
    addr: SocketAddr,
}

impl fmt::Display for Party<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => self.addr.fmt(f),
        }
    }
}

fn finding(kind: FindingKind, says: String, cure: String) -> Finding {
    Finding { kind, says, cure }
}

/// What is wrong with a seed that does not resolve.
pub(super) fn unresolved(seed: &Unresolved) -> Finding {
    let Unresolved { seed, why } = seed;
    let says = format!("seed {seed} has no address: {why}");
    let cure = "correct mesh.seeds, or the name in DNS; an agent looks seeds up when it starts".to_owned();
    finding(FindingKind::Seed, says, cure)
}

/// Everything that is wrong at a target.
pub(super) fn findings(us: &Us, target: &Target, seen: &Seen) -> Vec<Finding> {
    let me = Party { name: Some(&us.name), addr: us.addr };
    let it = Party { name: target.name.as_deref(), addr: target.addr };
    let there = match &seen.there {
        There::Reached { .. } | There::Ourselves => None,
        There::Twin => Some(twin(us, &it.addr)),
        There::Not { trouble, is_heard: true } => {
            Some(one_way(me, it, trouble, &format!("{it} reaches {me}")))
        }
        There::Not { trouble, is_heard: false } => Some(blocked(me, it, trouble)),
    };
    let back = match &seen.back {
        None | Some(Ok(CallBack::Reached { .. })) => None,
        Some(Ok(CallBack::Guarded { at })) => Some(guarded(it, Party { addr: (*at).into(), ..me })),
        Some(Ok(CallBack::Blocked { at, trouble })) => {
            let me = Party { addr: (*at).into(), ..me };
            Some(one_way(it, me, trouble, &format!("{me} reaches {it}")))
        }
        Some(Ok(CallBack::Unknown)) => Some(stranger(us, it)),
        Some(Ok(CallBack::Busy)) => Some(busy(it)),
        Some(Err(trouble)) => Some(blocked(me, it, trouble)),
    };
    let twin = target.clash.as_deref().map(|other| clashing(it, other));
    [there, back, clock(us, it, seen.clock), twin].into_iter().flatten().collect()
}

/// The dialler does not reach whom it dialled.
fn blocked(dialler: Party<'_>, dialled: Party<'_>, trouble: &Trouble) -> Finding {
    let (judge, owner) = match trouble.by {
        End::Dialler => (dialler, dialled),
        End::Dialled => (dialled, dialler),
    };
    let refused = |why: &str, cure: String| {
        let says = format!("{judge} refuses the certificate of {owner}: it {why} ({})", trouble.words);
        finding(FindingKind::Certificate, says, cure)
    };
    match trouble.kind {
        TroubleKind::Silent => silent(dialler, dialled),
        TroubleKind::Closed => closed(dialled, &trouble.words),
        TroubleKind::NoRoute => no_route(dialler, dialled, &trouble.words),
        TroubleKind::Expired => {
            let cure =
                format!("renew tls.certificate of {owner}, or set the clock of {judge} if that is wrong");
            refused("has expired", cure)
        }
        TroubleKind::NotYetValid => {
            let cure = format!("set the clock of {judge}, or of the machine that made it");
            refused("is not valid yet", cure)
        }
        TroubleKind::OtherAuthority => {
            let cure = format!(
                "give {owner} a certificate of an authority in tls.ca of {judge}, or add its authority there"
            );
            refused("is of another authority", cure)
        }
        TroubleKind::Revoked => refused("was revoked", format!("give {owner} a new certificate")),
        TroubleKind::Certificate => {
            refused("is wrong", format!("run `ringmesh config check` on the machine of {owner}"))
        }
        TroubleKind::Cluster => other_cluster(dialled, &trouble.words),
        TroubleKind::Protocol => other_version(dialled, &trouble.words),
        TroubleKind::Busy => busy(dialled),
        TroubleKind::OtherNode => other_node(dialled, &trouble.words),
        TroubleKind::Lost => lost(dialler, dialled, &trouble.words),
    }
}

fn silent(dialler: Party<'_>, dialled: Party<'_>) -> Finding {
    let (from, to, port) = (dialler.addr.ip(), dialled.addr.ip(), dialled.addr.port());
    finding(
        FindingKind::Udp,
        format!(
            "nothing comes back over UDP from {} to {dialler}: one of both directions is filtered, or no machine is there",
            dialled.addr
        ),
        format!(
            "open UDP {port} from {from} to {to}, and what comes back from there, in the firewalls between them, and see that \
             {to} is up"
        ),
    )
}

fn closed(dialled: Party<'_>, words: &str) -> Finding {
    finding(
        FindingKind::Port,
        format!("nobody listens on UDP {}: {words}", dialled.addr),
        "start the agent there; if it runs, its mesh.listen or mesh.advertise does not fit this address"
            .to_owned(),
    )
}

fn no_route(dialler: Party<'_>, dialled: Party<'_>, words: &str) -> Finding {
    finding(
        FindingKind::Route,
        format!("there is no way from {dialler} to {}: {words}", dialled.addr),
        format!("look at routes and firewalls between {} and {}", dialler.addr.ip(), dialled.addr.ip()),
    )
}

fn other_cluster(dialled: Party<'_>, words: &str) -> Finding {
    finding(
        FindingKind::Cluster,
        format!("another cluster is at {}: {words}", dialled.addr),
        "correct mesh.seeds, or node.cluster and tls.certificate of whoever is wrong: clusters never merge"
            .to_owned(),
    )
}

fn other_version(dialled: Party<'_>, words: &str) -> Finding {
    finding(
        FindingKind::Version,
        format!("{} does not speak as this version does: {words}", dialled.addr),
        "run one version of ringmesh on both; if no agent should be there, correct mesh.seeds".to_owned(),
    )
}

fn other_node(dialled: Party<'_>, words: &str) -> Finding {
    finding(
        FindingKind::Name,
        format!("{dialled} should be at {}, but {words}", dialled.addr),
        "compare mesh.advertise of both: two agents may not name one address".to_owned(),
    )
}

fn lost(dialler: Party<'_>, dialled: Party<'_>, words: &str) -> Finding {
    finding(
        FindingKind::Lost,
        format!("the connection between {dialler} and {dialled} broke: {words}"),
        "ask again; if it stays so, look into the log of both agents".to_owned(),
    )
}

/// The dialler does not reach whom it dialled, but `reverse` is so.
fn one_way(dialler: Party<'_>, dialled: Party<'_>, trouble: &Trouble, reverse: &str) -> Finding {
    let found = blocked(dialler, dialled, trouble);
    if !matches!(found.kind, FindingKind::Udp | FindingKind::Port | FindingKind::Route) {
        return found;
    }
    let cure = if found.kind == FindingKind::Port {
        format!("correct mesh.advertise of {dialled}, or mesh.listen: no agent listens on {}", dialled.addr)
    } else {
        format!("{}; or correct mesh.advertise of {dialled}", found.cure)
    };
    finding(FindingKind::OneWay, format!("{reverse}, but not the other way: {}", found.says), cure)
}

/// The dialler reaches whom it dialled, but only from its mesh port.
fn guarded(dialler: Party<'_>, dialled: Party<'_>) -> Finding {
    let (from, to, port) = (dialler.addr.ip(), dialled.addr.ip(), dialled.addr.port());
    finding(
        FindingKind::OneWay,
        format!(
            "{dialler} reaches {dialled} from its mesh port only: a firewall takes its packets for answers, and will \
             not let it open a connection after a silence"
        ),
        format!("open UDP {port} from {from}, any port, to {to} in the firewall of {dialled}"),
    )
}

fn stranger(us: &Us, it: Party<'_>) -> Finding {
    finding(
        FindingKind::Stranger,
        format!("{it} does not know {} as a member and cannot call back", us.name),
        "wait if one of them has just started; else `ringmesh events` on both says who is not taken in"
            .to_owned(),
    )
}

fn busy(it: Party<'_>) -> Finding {
    finding(
        FindingKind::Busy,
        format!("{it} has too many handshakes or examinations under way"),
        "ask again in some seconds; if it stays so, `ringmesh events` there names who opens so many"
            .to_owned(),
    )
}

/// Another agent has our name too.
pub(super) fn twin(us: &Us, at: &dyn fmt::Display) -> Finding {
    finding(
        FindingKind::Name,
        format!("a second agent named {} of cluster {} runs at {at}", us.name, us.cluster),
        RENAME.to_owned(),
    )
}

/// Two agents have the name of a member.
fn clashing(it: Party<'_>, other: &str) -> Finding {
    finding(
        FindingKind::Name,
        format!("two agents are named {it}, one at {} and one at {other}", it.addr),
        RENAME.to_owned(),
    )
}

fn clock(us: &Us, it: Party<'_>, clock: Clock) -> Option<Finding> {
    let difference_ms = clock.difference_ms()?;
    let apart_ms = difference_ms.unsigned_abs();
    if apart_ms <= CLOCK_MS_MAX {
        return None;
    }
    let seconds = Duration::from_millis(apart_ms).as_secs_f64();
    let (way, early, late) = if difference_ms > 0 {
        ("ahead of", us.name.clone(), it.to_string())
    } else {
        ("behind", it.to_string(), us.name.clone())
    };
    let mut says = format!("the clock of {it} is {seconds:.1} s {way} that of {}", us.name);
    if Duration::from_millis(apart_ms) > EPOCH_AHEAD_MAX {
        says.push_str(&format!(": {early} refuses {late}, for its epoch is more than a day ahead"));
    }
    let cure = "let both machines set their clocks by NTP (`timedatectl` shows whether they do)".to_owned();
    Some(finding(FindingKind::Clock, says, cure))
}

#[cfg(test)]
mod tests {
    use ringmesh_types::ids::{Epoch, NodeId};

    use super::super::Way;
    use super::*;

    #[test]
    fn a_target_that_is_reached_both_ways_is_well() {
        let seen = seen(reached(), Some(Ok(CallBack::Reached { at: us().addr.into() })), 4_999);
        assert_eq!((seen.way_there(), seen.way_back()), (Way::Open, Way::Open));
        assert_eq!(findings(&us(), &target(), &seen), []);
    }

    #[test]
    fn each_way_that_is_blocked_is_named_with_both_ends() {
        let silent = seen(not(TroubleKind::Silent, false), None, 0);
        check(&silent, FindingKind::Udp, &["10.0.0.7:7300", "open UDP 7300 from 10.0.0.5 to 10.0.0.7"]);
        let heard = seen(not(TroubleKind::Silent, true), None, 0);
        check(
            &heard,
            FindingKind::OneWay,
            &["b reaches a, but not", "open UDP 7300 from 10.0.0.5 to 10.0.0.7"],
        );
        assert_eq!((heard.way_there(), heard.way_back()), (Way::Blocked, Way::Open));
        let at = us().addr.into();
        let back = CallBack::Blocked { at, trouble: trouble(TroubleKind::Silent, End::Dialler) };
        let deaf = seen(reached(), Some(Ok(back)), 0);
        check(
            &deaf,
            FindingKind::OneWay,
            &["a reaches b, but not", "open UDP 7300 from 10.0.0.7 to 10.0.0.5"],
        );
        assert_eq!((deaf.way_there(), deaf.way_back()), (Way::Open, Way::Blocked));
        let back = CallBack::Blocked { at, trouble: trouble(TroubleKind::Closed, End::Dialler) };
        check(&seen(reached(), Some(Ok(back)), 0), FindingKind::OneWay, &["correct mesh.advertise of a"]);
        let guarded = CallBack::Guarded { at };
        check(
            &seen(reached(), Some(Ok(guarded)), 0),
            FindingKind::OneWay,
            &["mesh port only", "firewall of a"],
        );
    }

    #[test]
    fn a_refused_certificate_is_blamed_on_its_owner() {
        let not = |kind, by| There::Not { trouble: trouble(kind, by), is_heard: false };
        let check =
            |kind, by, want: &[&str]| check(&seen(not(kind, by), None, 0), FindingKind::Certificate, want);
        let expired = TroubleKind::Expired;
        check(
            expired,
            End::Dialler,
            &["a refuses the certificate of b", "expired", "renew tls.certificate of b"],
        );
        check(expired, End::Dialled, &["b refuses the certificate of a", "renew tls.certificate of a"]);
        check(TroubleKind::NotYetValid, End::Dialler, &["not valid yet", "set the clock of a"]);
        check(TroubleKind::OtherAuthority, End::Dialled, &["another authority", "tls.ca of b"]);
        check(TroubleKind::Revoked, End::Dialler, &["was revoked"]);
    }

    #[test]
    fn clocks_more_than_five_seconds_apart_are_told_of() {
        let back = || Some(Ok(CallBack::Reached { at: us().addr.into() }));
        let check = |ms, want: &[&str]| check(&seen(reached(), back(), ms), FindingKind::Clock, want);
        check(5_100, &["b is 5.1 s ahead of that of a", "NTP"]);
        check(-5_100, &["b is 5.1 s behind that of a"]);
        check(86_400_001, &["a refuses b"]);
        check(-86_400_001, &["b refuses a"]);
    }

    #[test]
    fn what_could_not_be_examined_is_said() {
        let asked = |back| seen(reached(), Some(Ok(back)), 0);
        check(&asked(CallBack::Unknown), FindingKind::Stranger, &["does not know a"]);
        check(&asked(CallBack::Busy), FindingKind::Busy, &["ask again"]);
        let twin = seen(There::Twin, None, 0);
        check(&twin, FindingKind::Name, &["second agent named a", "rename"]);
    }

    #[test]
    fn a_name_that_two_have_is_named_with_both_addresses() {
        let target = Target { clash: Some("10.0.0.9:7300".to_owned()), ..target() };
        let found = findings(&us(), &target, &seen(reached(), None, 0));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].kind, FindingKind::Name);
        assert_eq!(found[0].says, "two agents are named b, one at 10.0.0.7:7300 and one at 10.0.0.9:7300");
    }

    #[test]
    fn a_seed_without_an_address_is_named() {
        let seed = Unresolved { seed: "a.example:7300".to_owned(), why: "no such name".to_owned() };
        let found = unresolved(&seed);
        assert_eq!(
            (found.kind, found.says.as_str()),
            (FindingKind::Seed, "seed a.example:7300 has no address: no such name")
        );
    }

    #[track_caller]
    fn check(seen: &Seen, kind: FindingKind, want: &[&str]) {
        let found = findings(&us(), &target(), seen);
        assert_eq!(found.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [kind], "{found:?}");
        let text = format!("{}. {}", found[0].says, found[0].cure);
        for part in want {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }

    fn us() -> Us {
        let addr = SocketAddr::from(([10, 0, 0, 5], 7_300));
        let id = NodeId::from_bytes([1; 8]);
        Us { name: "a".to_owned(), cluster: "test".to_owned(), id, epoch: Epoch(1), addr }
    }

    fn target() -> Target {
        let addr = SocketAddr::from(([10, 0, 0, 7], 7_300));
        let id = Some(NodeId::from_bytes([2; 8]));
        Target { id, name: Some("b".to_owned()), addr, is_seed: false, state: Some("Alive"), clash: None }
    }

    fn seen(there: There, back: Option<Result<CallBack, Trouble>>, difference_ms: i64) -> Seen {
        Seen { there, back, clock: Clock::Ahead { difference_ms } }
    }

    fn reached() -> There {
        There::Reached { round_trip: Duration::from_millis(1), handshake: Duration::from_millis(3) }
    }

    fn not(kind: TroubleKind, is_heard: bool) -> There {
        There::Not { trouble: trouble(kind, End::Dialler), is_heard }
    }

    fn trouble(kind: TroubleKind, by: End) -> Trouble {
        Trouble::new(kind, by, "words")
    }
}
