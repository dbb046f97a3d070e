//! What was expected against what was seen. Some expectations are looked at all along, the others at the end.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_partition::map::{Map, Seats};
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use ringmesh_types::service::HealthState;
use ringmesh_types::snapshot::InstanceView;
use ringmesh_types::time::Instant;

use super::faults::names;
use super::lies::NEWER_TOPIC;
use super::stage::Stage;
use super::watch::{Death, Watch, total};
use crate::link::HostSet;
use crate::outcome::{Bound, Failure, Outcome, quantile};
use crate::scenario::{Expectation, Place, Scenario, That, Who};

/// What is known of an expectation while the run goes on.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// What went wrong first.
    wrong: Option<String>,
    /// What was measured, in the unit of the bound.
    measured: Option<f64>,
    /// Somebody was asked about somebody, at a moment that it is about.
    is_checked: bool,
}

/// Looks at a run as it goes on, and says what came of it.
pub(crate) struct Judge {
    expect: Vec<Expectation>,
    progress: Vec<Progress>,
    agreed_since: Option<Instant>,
    delivered_since: Option<Instant>,
}

impl Judge {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            progress: vec![Progress::default(); scenario.expect.len()],
            expect: scenario.expect.clone(),
            agreed_since: None,
            delivered_since: None,
        }
    }

    /// Looks at what can only be seen while it is so.
    pub(crate) fn pulse(&mut self, stage: &mut Stage, watch: &Watch) {
        let now = stage.now();
        let disagreement = disagreement(stage, watch);
        hold_since(&mut self.agreed_since, disagreement.is_none(), now);
        let is_delivered = are_documents_equal(stage) && lacks_newer(stage).is_none();
        hold_since(&mut self.delivered_since, is_delivered, now);
        for index in 0..self.expect.len() {
            let that = self.expect[index].that.clone();
            let at = now.since(stage.begin);
            let is_within =
                |from: Duration, until: Option<Duration>| at >= from && until.is_none_or(|until| at <= until);
            let is_anybody_well = (0..stage.hosts()).any(|host| stage.is_well(host));
            let agreed = self.agreed_since;
            let delivered = self.delivered_since;
            let progress = &mut self.progress[index];
            match that {
                That::Converged { by } if at >= by && !progress.is_checked => {
                    progress.is_checked = true;
                    progress.measured = agreed.map(|at| stage.seconds(at));
                    progress.wrong = disagreement.clone();
                    if !is_anybody_well {
                        progress.wrong = Some(NOBODY_ASKED.to_owned());
                    }
                }
                That::Delivered { by } if at >= by && !progress.is_checked => {
                    progress.is_checked = true;
                    progress.measured = delivered.map(|at| stage.seconds(at));
                    if delivered.is_none() {
                        progress.wrong = document_difference(stage).or_else(|| {
                            let (host, speaker) = lacks_newer(stage)?;
                            Some(format!("node-{host} lacks {NEWER_TOPIC:?} of node-{speaker}"))
                        });
                    }
                    if !is_anybody_well {
                        progress.wrong = Some(NOBODY_ASKED.to_owned());
                    }
                }
                That::NotServed { who, asked, from, until, place } => {
                    let hosts = stage.resolve(&who);
                    let mut observers = stage.resolve(&asked);
                    observers.retain(|observer| stage.is_asked(*observer) && !hosts.contains(observer));
                    let server = someone_serves(watch, &observers, &hosts, place);
                    let is_over = until.is_some_and(|until| at > until);
                    progress.is_checked |=
                        is_within(from, until) && !observers.is_empty() && !hosts.is_empty();
                    if let Some((observer, host)) = server.filter(|_| !is_over) {
                        progress.measured = Some(stage.seconds(now));
                        if at >= from && progress.wrong.is_none() {
                            let seconds = stage.seconds(now);
                            progress.wrong =
                                Some(format!("node-{observer} still names node-{host} at {seconds:.1} s"));
                        }
                    }
                }
                That::Served { who, from, until } if is_within(from, until) && progress.wrong.is_none() => {
                    let hosts = stage.resolve(&who);
                    progress.is_checked |= can_ask(stage, &hosts, Asked::Everybody);
                    if let Some((observer, host)) = someone_lacks(stage, watch, &hosts) {
                        let seconds = stage.seconds(now);
                        progress.wrong =
                            Some(format!("node-{observer} does not count node-{host} at {seconds:.1} s"));
                    }
                }
                That::Seen { who, state, at: when } if at >= when && !progress.is_checked => {
                    progress.is_checked = true;
                    let hosts = stage.resolve(&who);
                    progress.wrong = if can_ask(stage, &hosts, Asked::Others) {
                        someone_sees_otherwise(stage, &hosts, &state)
                    } else {
                        Some(NOBODY_ASKED.to_owned())
                    };
                }
                That::NeverEmpty { service, from } if at >= from && progress.wrong.is_none() => {
                    let mut answers = (0..stage.hosts())
                        .filter(|host| stage.is_asked(*host))
                        .filter_map(|host| Some((host, watch.views[host].answers.get(&service)?)));
                    let mut any = false;
                    let empty = answers.find(|(_, answer)| {
                        any = true;
                        answer.is_empty
                    });
                    progress.is_checked |= any;
                    if let Some((observer, _)) = empty {
                        let seconds = stage.seconds(now);
                        progress.wrong =
                            Some(format!("node-{observer} answers nothing for {service} at {seconds:.1} s"));
                    }
                }
                That::NoGhost { from } if at >= from && progress.wrong.is_none() => {
                    progress.is_checked |= (0..stage.hosts()).any(|host| stage.is_asked(host));
                    if let Some((observer, ghost)) = ghost(stage, watch) {
                        let seconds = stage.seconds(now);
                        progress.wrong = Some(format!(
                            "node-{observer} serves node-{ghost}, which does not run, at {seconds:.1} s"
                        ));
                    }
                }
                That::Converged { .. }
                | That::Delivered { .. }
                | That::Served { .. }
                | That::Seen { .. }
                | That::NeverEmpty { .. }
                | That::NoGhost { .. }
                | That::NeverRemoved { .. }
                | That::Detected { .. }
                | That::Disseminated { .. }
                | That::WrongSeconds { .. }
                | That::WrongShare { .. }
                | That::FalsePositives { .. }
                | That::Changes { .. }
                | That::ViewEvents { .. }
                | That::Traffic { .. } => {}
            }
        }
    }

    /// Says what came of the run.
    pub(crate) fn conclude(
        mut self,
        scenario: &Scenario,
        stage: &mut Stage,
        mut watch: Watch,
        seed: u64,
    ) -> Outcome {
        let mut failures: Vec<Failure> =
            watch.complaints.iter().map(|says| Failure { line: None, says: says.clone() }).collect();
        let mut bounds = Vec::new();
        for (expectation, progress) in core::mem::take(&mut self.expect).into_iter().zip(&self.progress) {
            for (bound, wrong) in conclude_one(&expectation.that, progress, stage, &watch) {
                let is_held = wrong.is_none();
                if let Some(says) = wrong {
                    failures.push(Failure {
                        line: Some(expectation.line),
                        says: format!("{}: {says}", bound.what),
                    });
                }
                bounds.push(Bound { is_held, ..bound });
            }
        }
        watch.record.faults = stage.marks.clone();
        Outcome {
            scenario: scenario.name.clone(),
            seed,
            trace_hash: stage.world.trace_hash(),
            virtual_s: stage.seconds(stage.now()),
            failures,
            bounds,
            metrics: metrics(stage, &watch, self.agreed_since),
            transcript: watch.transcript.lines(&stage.marks),
            record: watch.record,
        }
    }
}

/// What is wrong with an expectation about which nobody could be asked.
const NOBODY_ASKED: &str =
    "it was never checked: there was nobody to ask, or nobody to ask about, at that time";

/// Who may be asked about some hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Everybody,
    /// Not they themselves.
    Others,
}

/// Whether there is somebody to ask, and somebody to ask about.
fn can_ask(stage: &Stage, about: &[usize], whom: Asked) -> bool {
    let is_meant = |host: &usize| whom == Asked::Everybody || !about.contains(host);
    !about.is_empty() && (0..stage.hosts()).filter(is_meant).any(|host| stage.is_asked(host))
}

fn hold_since(since: &mut Option<Instant>, holds: bool, now: Instant) {
    *since = if holds { since.or(Some(now)) } else { None };
}

/// The first host that an observer counts and should not, or the other way round.
pub(crate) fn disagreement(stage: &Stage, watch: &Watch) -> Option<String> {
    for observer in (0..stage.hosts()).filter(|host| stage.is_well(*host)) {
        let serving = &watch.views[observer].serving;
        for subject in 0..stage.hosts() {
            let condition = &stage.conditions[subject];
            let is_either = condition.is_liar
                || condition.is_twin
                || condition.is_away
                || (condition.runs_since.is_some() && !stage.is_well(subject))
                || !stage.is_reachable(observer, subject);
            let is_there = condition.runs_since.is_some() && !condition.has_left;
            if !is_either && serving.contains(subject) != is_there {
                let how = if is_there { "does not count" } else { "still counts" };
                return Some(format!("node-{observer} {how} node-{subject}"));
            }
        }
    }
    None
}

pub(crate) fn are_documents_equal(stage: &Stage) -> bool {
    // A host that spoke of a topic of a newer version does not keep it itself.
    let mut roots = (0..stage.hosts())
        .filter(|host| stage.is_well(*host) && !stage.conditions[*host].is_newer)
        .filter_map(|host| stage.world.node(host))
        .map(ringmesh_node::Node::root_digest);
    let first = roots.next();
    roots.all(|root| Some(root) == first)
}

/// A host that does not keep what another said under a topic of a newer version, and that other.
fn lacks_newer(stage: &Stage) -> Option<(usize, usize)> {
    let is_newer = |host: &usize| stage.conditions[*host].is_newer;
    let speakers: Vec<usize> =
        (0..stage.hosts()).filter(|host| stage.is_well(*host)).filter(is_newer).collect();
    let keepers = (0..stage.hosts()).filter(|host| stage.is_well(*host) && !is_newer(host));
    keepers.filter_map(|host| Some((host, stage.world.node(host)?))).find_map(|(host, node)| {
        let keeps = |speaker: &usize| {
            let documents = node.documents_of(stage.world.id(*speaker));
            documents.iter().any(|stored| stored.document.key.topic.as_str() == NEWER_TOPIC)
        };
        speakers.iter().find(|speaker| !keeps(speaker)).map(|speaker| (host, *speaker))
    })
}

/// Which of those that are well follow different maps, none although somebody could own keys, or one that gives keys to who is lost.
pub(crate) fn map_difference(stage: &mut Stage) -> Option<String> {
    let hosts: Vec<usize> =
        (0..stage.hosts()).filter(|host| stage.is_well(*host) && !stage.conditions[*host].is_newer).collect();
    let mapped = stage.scenario.topology.services.iter().filter(|service| service.has_map);
    let services: Vec<ServiceName> =
        mapped.map(|service| service.name.parse().expect("was checked")).collect();
    for service in services {
        let mut followed = Vec::new();
        for host in &hosts {
            let map = stage.world.maps(*host)?.by_service.get(&service).and_then(|view| view.map.clone());
            followed.push((*host, map));
        }
        let (first, map) = followed.first()?;
        if let Some((other, theirs)) = followed.iter().find(|(_, theirs)| theirs != map) {
            let token = |map: &Option<Arc<Map>>| {
                map.as_ref().map_or_else(
                    || "none".to_owned(),
                    |map| format!("generation {} by {}", map.parts().generation, map.parts().author),
                )
            };
            return Some(format!(
                "node-{first} and node-{other} follow different maps of {service}: {} and {}",
                token(map),
                token(theirs)
            ));
        }
        let snapshot = stage.world.snapshot(*first)?;
        let could = |one: &InstanceView| {
            let fails = one.health.iter().all(|health| health.state == HealthState::Failing);
            one.member.state.is_serving() && !one.is_draining && !fails
        };
        let instances = snapshot.services.get(&service).map(|view| &view.instances);
        if !instances.is_some_and(|all| all.iter().any(could)) {
            continue;
        }
        let Some(map) = map else { return Some(format!("nobody has a map of {service}")) };
        let parts = map.parts();
        let of_keys = parts.dedicated.iter().flat_map(|key| key.owners.iter().copied());
        let mut owners = parts.seats.iter().map(Seats::owner).chain(of_keys).map(|seat| map.host(seat).node);
        let is_lost = |id: &NodeId| !snapshot.member(*id).is_some_and(|member| member.state.is_serving());
        if let Some(lost) = owners.find(is_lost) {
            return Some(format!("the map of {service} gives keys to {lost}, who is lost"));
        }
    }
    None
}

pub(crate) fn document_difference(stage: &Stage) -> Option<String> {
    let hosts: Vec<usize> =
        (0..stage.hosts()).filter(|host| stage.is_well(*host) && !stage.conditions[*host].is_newer).collect();
    let (first, first_node) = (*hosts.first()?, stage.world.node(*hosts.first()?)?);
    for other in &hosts {
        let node = stage.world.node(*other)?;
        if node.root_digest() == first_node.root_digest() {
            continue;
        }
        for (id, owner) in &stage.ids {
            let list = |node: &ringmesh_node::Node| {
                let documents = node.documents_of(*id);
                let one = |document: &ringmesh_types::document::Document| {
                    format!("{} {}", document.key.topic, document.version)
                };
                documents.iter().map(|stored| one(&stored.document)).collect::<Vec<_>>().join(", ")
            };
            let (ours, theirs) = (list(first_node), list(node));
            if ours != theirs {
                return Some(format!(
                    "of node-{owner}, node-{first} has {ours:?} and node-{other} {theirs:?}"
                ));
            }
        }
        return Some(format!("node-{first} and node-{other} do not count the same owners as live"));
    }
    None
}

fn someone_serves(
    watch: &Watch,
    observers: &[usize],
    hosts: &[usize],
    place: Place,
) -> Option<(usize, usize)> {
    observers.iter().find_map(|observer| {
        let view = &watch.views[*observer];
        let named = hosts.iter().find(|host| {
            let is_named = view.answers.values().any(|answer| match place {
                Place::First => answer.names.contains(*host),
                Place::Any => answer.names_at_all.contains(*host),
            });
            let is_member = view.serving.contains(**host);
            // An agent that stopped in good order, or was drained, stays a member: what counts is what is answered.
            if view.answers.is_empty() { is_member } else { is_named }
        });
        named.map(|host| (*observer, *host))
    })
}

fn someone_lacks(stage: &Stage, watch: &Watch, hosts: &[usize]) -> Option<(usize, usize)> {
    let observers = (0..stage.hosts()).filter(|host| stage.is_asked(*host));
    observers.into_iter().find_map(|observer| {
        let serving = &watch.views[observer].serving;
        let lacking =
            hosts.iter().find(|host| !serving.contains(**host) && stage.is_reachable(observer, **host));
        lacking.map(|host| (observer, *host))
    })
}

fn someone_sees_otherwise(stage: &Stage, hosts: &[usize], state: &str) -> Option<String> {
    for observer in (0..stage.hosts()).filter(|host| stage.is_asked(*host) && !hosts.contains(host)) {
        let Some(node) = stage.world.node(observer) else {
            continue;
        };
        let states: BTreeMap<_, _> = node.members().map(|(identity, state)| (identity.id, state)).collect();
        for host in hosts {
            let seen = states.get(&stage.world.id(*host)).map_or("Unknown", |state| state.as_str());
            if seen != state {
                return Some(format!("node-{observer} sees node-{host} {seen}"));
            }
        }
    }
    None
}

fn ghost(stage: &Stage, watch: &Watch) -> Option<(usize, usize)> {
    let observers = (0..stage.hosts()).filter(|host| stage.is_asked(*host));
    observers.into_iter().find_map(|observer| {
        let mut served = watch.views[observer].serving.iter();
        let ghost = served.find(|host| {
            let condition = &stage.conditions[*host];
            condition.runs_since.is_none() && !condition.is_away
        });
        ghost.map(|ghost| (observer, ghost))
    })
}

fn bound(what: String, measured: Option<f64>, allowed: f64, unit: &'static str) -> Bound {
    Bound { what, measured, allowed, unit, is_held: true }
}

/// The bounds of one expectation, each with what is wrong about it.
fn conclude_one(
    that: &That,
    progress: &Progress,
    stage: &mut Stage,
    watch: &Watch,
) -> Vec<(Bound, Option<String>)> {
    let unchecked = || (!progress.is_checked).then(|| NOBODY_ASKED.to_owned());
    let wrong = progress.wrong.clone().or_else(unchecked);
    let at_most = |what: String, measured: f64, allowed: f64, unit: &'static str| {
        let wrong = (measured > allowed)
            .then(|| format!("{measured:.3} {unit}, at most {allowed} {unit} is allowed"));
        vec![(bound(what, Some(measured), allowed, unit), wrong)]
    };
    match that {
        That::Converged { by } => {
            vec![(bound("all agree by".to_owned(), progress.measured, by.as_secs_f64(), "s"), wrong)]
        }
        That::Delivered { by } => {
            vec![(
                bound("all documents everywhere by".to_owned(), progress.measured, by.as_secs_f64(), "s"),
                wrong,
            )]
        }
        That::NotServed { who, from, place, .. } => {
            let how = match place {
                Place::First => "served",
                Place::Any => "named",
            };
            let what = format!("{who} not {how} from");
            vec![(bound(what, progress.measured, from.as_secs_f64(), "s"), wrong)]
        }
        That::Served { who, from, .. } => {
            vec![(bound(format!("{who} served from"), None, from.as_secs_f64(), "s"), wrong)]
        }
        That::Seen { who, state, at } => {
            vec![(bound(format!("{who} seen {state} at"), None, at.as_secs_f64(), "s"), wrong)]
        }
        That::NeverEmpty { service, from } => {
            let what = format!("{service} never empty from");
            vec![(bound(what, None, from.as_secs_f64(), "s"), wrong)]
        }
        That::NoGhost { from } => {
            vec![(bound("no ghost from".to_owned(), None, from.as_secs_f64(), "s"), wrong)]
        }
        That::NeverRemoved { who } => never_removed(who, stage, watch),
        That::Detected { within } => detected(*within, stage, watch),
        That::Disseminated { within } => {
            let slowest = watch.record.dissemination_s.iter().copied().fold(0.0, f64::max);
            let mut found =
                at_most("a change of health known within".to_owned(), slowest, within.as_secs_f64(), "s");
            if let (Some(says), [(_, wrong @ None)]) =
                (watch.unknown_changes(stage, *within).into_iter().next(), found.as_mut_slice())
            {
                *wrong = Some(says);
            }
            if !watch.has_seen_changes {
                found[0].1 = Some("it was never checked: no endpoint's health changed".to_owned());
            }
            found
        }
        That::WrongSeconds { at_most: allowed } => {
            let worst = watch.wrong_seconds.iter().copied().fold(0.0, f64::max);
            at_most("seconds of wrong answers".to_owned(), worst, allowed.as_secs_f64(), "s")
        }
        That::WrongShare { at_most: allowed } => {
            at_most("share of wrong look-ups".to_owned(), wrong_share(watch), *allowed, "share")
        }
        That::FalsePositives { at_most: allowed } => {
            let what = "healthy members declared Down".to_owned();
            let mut found = at_most(what, watch.false_positives as f64, *allowed as f64, "");
            if let Some((_, Some(says))) = found.first_mut() {
                *says = first_removal(stage, watch, |_| true).unwrap_or_default();
            }
            found
        }
        That::Changes { at_most: allowed } => {
            let most = watch.changes_seen.iter().copied().max().unwrap_or_default();
            at_most("changes seen by one observer".to_owned(), most as f64, *allowed as f64, "")
        }
        That::ViewEvents { at_most: allowed } => {
            let most = watch.view_events.iter().copied().max().unwrap_or_default();
            at_most("times a follower was told".to_owned(), most as f64, *allowed as f64, "")
        }
        That::Traffic { bytes_per_s, messages_per_s } => {
            let (bytes, messages) = traffic(stage, watch);
            let mut all = Vec::new();
            if let Some(allowed) = bytes_per_s {
                all.extend(at_most("a host sends".to_owned(), bytes, *allowed, "B/s"));
            }
            if let Some(allowed) = messages_per_s {
                all.extend(at_most("a host sends".to_owned(), messages, *allowed, "messages/s"));
            }
            all
        }
    }
}

fn never_removed(who: &Who, stage: &mut Stage, watch: &Watch) -> Vec<(Bound, Option<String>)> {
    let hosts: HostSet = stage.resolve(who).into_iter().collect();
    let is_meant = |host: usize| hosts.contains(host);
    let removed =
        watch.removals.iter().filter(|removal| removal.is_false && is_meant(removal.subject)).count();
    let nobody = hosts.is_empty().then(|| NOBODY_ASKED.to_owned());
    let says = first_removal(stage, watch, is_meant).or(nobody);
    vec![(bound(format!("{who} declared Down while well"), Some(removed as f64), 0.0, ""), says)]
}

fn first_removal(stage: &Stage, watch: &Watch, is_meant: impl Fn(usize) -> bool) -> Option<String> {
    let removal = watch.removals.iter().find(|removal| removal.is_false && is_meant(removal.subject))?;
    let seconds = stage.seconds(removal.at);
    Some(format!(
        "node-{} declared node-{} Down at {seconds:.1} s, which was healthy and reachable",
        removal.observer, removal.subject
    ))
}

fn detected(within: Duration, stage: &Stage, watch: &Watch) -> Vec<(Bound, Option<String>)> {
    let now = stage.now();
    let slowest = watch.record.detection_s.iter().copied().fold(0.0, f64::max);
    let allowed = within.as_secs_f64();
    let is_missing = |death: &&Death| !death.is_over && now.since(death.at) > within;
    let mut wrong = None;
    for death in watch.deaths.iter().filter(is_missing) {
        let ran_then =
            |observer: &usize| stage.conditions[*observer].runs_since.is_some_and(|since| since <= death.at);
        let blind = (0..stage.hosts())
            .filter(ran_then)
            .find(|observer| stage.is_well(*observer) && watch.views[*observer].serving.contains(death.host));
        if let Some(observer) = blind {
            wrong = Some(format!("node-{observer} never knew that node-{} died", death.host));
            break;
        }
    }
    if slowest > allowed {
        let late = watch.deaths.iter().find_map(|death| {
            let (observer, at) = death.known.iter().find(|(_, at)| at.since(death.at) > within)?;
            Some(format!(
                "node-{observer} knew after {:.3} s that {} died",
                at.since(death.at).as_secs_f64(),
                names(&[death.host], stage.hosts())
            ))
        });
        wrong = late.or(wrong);
    }
    let measured = (!watch.record.detection_s.is_empty()).then_some(slowest);
    if watch.deaths.is_empty() {
        wrong = Some("it was never checked: nobody died".to_owned());
    }
    vec![(bound("a death known to all within".to_owned(), measured, allowed, "s"), wrong)]
}

fn wrong_share(watch: &Watch) -> f64 {
    if watch.lookup_seconds > 0.0 { watch.wrong_lookup_seconds / watch.lookup_seconds } else { 0.0 }
}

/// Bytes and messages that a host sent per second, in the mean.
fn traffic(stage: &Stage, watch: &Watch) -> (f64, f64) {
    let (sum, began) = (total(stage), watch.began_with);
    let host_seconds = stage.seconds(stage.now()).max(0.001) * stage.hosts() as f64;
    let messages = sum.datagrams + sum.messages - began.datagrams - began.messages;
    ((sum.bytes - began.bytes) as f64 / host_seconds, messages as f64 / host_seconds)
}

fn quantile_of(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, share)
}

fn metrics(stage: &Stage, watch: &Watch, agreed: Option<Instant>) -> BTreeMap<&'static str, f64> {
    let (bytes, messages) = traffic(stage, watch);
    let record = &watch.record;
    let probes: Vec<f64> = watch
        .deaths
        .iter()
        .filter_map(|death| Some(death.first_probe?.since(death.at).as_secs_f64()))
        .collect();
    let mean =
        |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let known = |death: &Death, pick: fn(f64, f64) -> f64, from: f64| {
        let times = death.known.values().map(|at| at.since(death.at).as_secs_f64());
        (!death.known.is_empty()).then(|| times.fold(from, pick))
    };
    let firsts: Vec<f64> =
        watch.deaths.iter().filter_map(|death| known(death, f64::min, f64::INFINITY)).collect();
    let lasts: Vec<f64> = watch.deaths.iter().filter_map(|death| known(death, f64::max, 0.0)).collect();
    let found = [
        ("agreed_since_s", agreed.map(|at| stage.seconds(at))),
        ("first_probe_mean_s", mean(&probes)),
        ("first_accusation_mean_s", mean(&record.first_accusation_s)),
        ("first_down_mean_s", mean(&firsts)),
        ("last_down_mean_s", mean(&lasts)),
        ("detection_p50_s", quantile_of(&record.detection_s, 0.5)),
        ("detection_p99_s", quantile_of(&record.detection_s, 0.99)),
        ("dissemination_p50_s", quantile_of(&record.dissemination_s, 0.5)),
        ("dissemination_p99_s", quantile_of(&record.dissemination_s, 0.99)),
        ("alone_after_cut_mean_s", mean(&watch.alone_after_cut_s)),
        ("agreed_after_heal_mean_s", mean(&watch.agreed_after_heal_s)),
        ("wrong_answer_worst_s", Some(watch.wrong_seconds.iter().copied().fold(0.0, f64::max))),
        ("wrong_lookups_share", Some(wrong_share(watch))),
        ("empty_answers_s", Some(watch.empty_seconds)),
        ("false_positives_count", Some(watch.false_positives as f64)),
        ("false_positives_by_ill_count", Some(watch.false_positives_by_ill as f64)),
        ("deaths_count", Some(watch.deaths.len() as f64)),
        ("bytes_per_node_per_s", Some(bytes)),
        ("messages_per_node_per_s", Some(messages)),
    ];
    found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
