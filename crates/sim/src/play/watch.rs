//! What every observer would have answered at each moment, against what was true.
//!
//! Members are compared whenever an observer's view changed. Look-ups are what the DNS would have answered: of the
//! endpoints that it serves first, the share by weight that does not work is the share of look-ups answered wrongly.
//! An empty answer is wholly wrong while anything works.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringmesh_dns::selection::{Filter, candidates};
use ringmesh_types::event::{Event, EventKind};
use ringmesh_types::snapshot::{MemberState, Snapshot};
use ringmesh_types::time::Instant;

use super::stage::Stage;
use super::transcript::Transcript;
use crate::link::HostSet;
use crate::outcome::{Band, Record, TrafficPoint};
use crate::world::Traffic;

/// At most so many observers are asked to look services up; the others only who is a member.
const ASKED_MAX: usize = 64;

/// What one observer last said.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// Whom it counts among the serving members.
    pub(crate) serving: HostSet,
    /// What it answers for each service.
    pub(crate) answers: BTreeMap<String, Answer>,
}

/// What an observer answers for a service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// Hosts whose endpoints it names first.
    pub(crate) names: BTreeSet<usize>,
    /// Hosts whose endpoints it names.
    pub(crate) names_at_all: BTreeSet<usize>,
    /// Share of look-ups that are answered wrongly.
    pub(crate) wrong: f64,
    /// Whether it names nothing.
    pub(crate) is_empty: bool,
}

/// A death, and who knows of it.
#[derive(Debug, Clone)]
pub(crate) struct Death {
    pub(crate) host: usize,
    pub(crate) at: Instant,
    pub(crate) first_probe: Option<Instant>,
    pub(crate) first_accusation: Option<Instant>,
    pub(crate) known: BTreeMap<usize, Instant>,
    /// It came back, so that nobody needs to know any more.
    pub(crate) is_over: bool,
}

/// A change of an endpoint's health, and who knows of it.
#[derive(Debug, Clone)]
struct Change {
    subject: String,
    to: String,
    at: Instant,
    owner: usize,
    known: HostSet,
    is_over: bool,
}

/// A member that was healthy and reachable was declared Down.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    pub(crate) at: Instant,
    pub(crate) observer: usize,
    pub(crate) subject: usize,
    /// Whether the observer was well, and the subject had been reachable and healthy for a while.
    pub(crate) is_false: bool,
}

/// Everything that was seen.
pub(crate) struct Watch {
    pub(crate) views: Vec<View>,
    pub(crate) deaths: Vec<Death>,
    pub(crate) removals: Vec<Removal>,
    pub(crate) false_positives: u64,
    pub(crate) false_positives_by_ill: u64,
    pub(crate) wrong_seconds: Vec<f64>,
    pub(crate) lookup_seconds: f64,
    pub(crate) wrong_lookup_seconds: f64,
    pub(crate) empty_seconds: f64,
    pub(crate) changes_seen: Vec<u64>,
    /// How often followers at each host were told of changes while it was well.
    pub(crate) view_events: Vec<u64>,
    pub(crate) record: Record,
    pub(crate) transcript: Transcript,
    pub(crate) complaints: Vec<String>,
    pub(crate) began_with: Traffic,
    /// Seconds from a split until every observer counted its own side alone.
    pub(crate) alone_after_cut_s: Vec<f64>,
    /// Seconds from the end of all splits until every observer counted everybody.
    pub(crate) agreed_after_heal_s: Vec<f64>,
    /// Whether any endpoint's health changed.
    pub(crate) has_seen_changes: bool,
    changes: Vec<Change>,
    asked: Vec<usize>,
    unasked: BTreeSet<usize>,
    looked_at: Instant,
    traffic: (Instant, Traffic),
    pulse_wrong: (f64, f64),
}

impl Watch {
    /// A watch that draws whom it asks from a stream of its own: what is done does not depend on who looks.
    pub(crate) fn new(stage: &Stage, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0b5e_77e0_0000_0001);
        let hosts = stage.hosts();
        let mut asked: Vec<usize> = (0..hosts).collect();
        for index in 0..ASKED_MAX.min(hosts) {
            let other = rng.random_range(index..hosts);
            asked.swap(index, other);
        }
        asked.truncate(ASKED_MAX);
        asked.sort_unstable();
        let now = stage.now();
        let began_with = total(stage);
        Self {
            views: vec![View::default(); hosts],
            deaths: Vec::new(),
            removals: Vec::new(),
            false_positives: 0,
            false_positives_by_ill: 0,
            wrong_seconds: vec![0.0; hosts],
            lookup_seconds: 0.0,
            wrong_lookup_seconds: 0.0,
            empty_seconds: 0.0,
            changes_seen: vec![0; hosts],
            view_events: vec![0; hosts],
            record: Record::default(),
            transcript: Transcript::default(),
            complaints: Vec::new(),
            began_with,
            alone_after_cut_s: Vec::new(),
            agreed_after_heal_s: Vec::new(),
            has_seen_changes: false,
            changes: Vec::new(),
            asked,
            unasked: BTreeSet::new(),
            looked_at: now,
            traffic: (now, began_with),
            pulse_wrong: (0.0, 0.0),
        }
    }

    /// Takes in what happened since this was last called.
    pub(crate) fn look(&mut self, stage: &mut Stage) {
        self.count_answers(stage);
        for (at, host) in core::mem::take(&mut stage.deaths) {
            let death = Death {
                host,
                at,
                first_probe: None,
                first_accusation: None,
                known: BTreeMap::new(),
                is_over: false,
            };
            self.deaths.push(death);
        }
        self.follow_deaths(stage);
        for (at, host, event) in core::mem::take(&mut stage.world.events) {
            self.on_event(stage, at, host, &event);
        }
        for (_, host, _) in core::mem::take(&mut stage.world.presences) {
            self.view_events[host] += u64::from(stage.is_well(host));
        }
        self.on_refusals(stage);
        let changed = stage.world.take_changed();
        self.unasked.extend(&changed);
        self.follow_splits(stage);
        let is_truth_changed = core::mem::take(&mut stage.is_truth_changed);
        let asked = if is_truth_changed { self.asked.clone() } else { changed };
        for host in asked {
            self.ask_services(stage, host);
        }
    }

    /// What was answered since the last look counts for the time since then.
    fn count_answers(&mut self, stage: &Stage) {
        let now = stage.now();
        let seconds = now.since(self.looked_at).as_secs_f64();
        self.looked_at = now;
        if seconds == 0.0 || stage.services.is_empty() {
            return;
        }
        for observer in &self.asked {
            if !stage.is_asked(*observer) {
                continue;
            }
            let answers = &self.views[*observer].answers;
            let mut is_wrong = false;
            for answer in answers.values() {
                self.lookup_seconds += seconds;
                self.pulse_wrong.1 += seconds;
                self.wrong_lookup_seconds += seconds * answer.wrong;
                self.pulse_wrong.0 += seconds * answer.wrong;
                is_wrong |= answer.wrong > 0.0;
                if answer.is_empty {
                    self.empty_seconds += seconds;
                }
            }
            if is_wrong {
                self.wrong_seconds[*observer] += seconds;
            }
        }
    }

    fn follow_deaths(&mut self, stage: &Stage) {
        for death in self.deaths.iter_mut().filter(|death| !death.is_over) {
            death.is_over = stage.conditions[death.host].runs_since.is_some();
            if death.first_probe.is_none() {
                death.first_probe = stage.world.first_probed(death.host);
            }
        }
    }

    /// How long it takes until each side of a split counts itself alone, and until both count everybody again.
    fn follow_splits(&mut self, stage: &mut Stage) {
        if stage.cut_at.is_none() && stage.whole_at.is_none() {
            return;
        }
        self.ask_all_members(stage);
        let counts_right = |stage: &Stage, observer: usize| {
            let serving = &self.views[observer].serving;
            (0..stage.hosts()).all(|subject| {
                let should =
                    stage.conditions[subject].runs_since.is_some() && stage.is_reachable(observer, subject);
                serving.contains(subject) == should
            })
        };
        if !(0..stage.hosts()).filter(|host| stage.is_well(*host)).all(|host| counts_right(stage, host)) {
            return;
        }
        let now = stage.now();
        let since = |at: Instant| now.since(at).as_secs_f64();
        if let Some(at) = stage.whole_at.take() {
            self.agreed_after_heal_s.push(since(at));
            stage.cut_at = None;
        } else if let Some(at) = stage.cut_at.take() {
            self.alone_after_cut_s.push(since(at));
        }
    }

    fn on_event(&mut self, stage: &Stage, at: Instant, observer: usize, event: &Event) {
        let seconds = stage.seconds(at);
        match event.kind {
            EventKind::Member => {
                self.changes_seen[observer] += u64::from(stage.is_well(observer));
                if let Some(subject) = stage.names.get(&event.subject) {
                    self.on_member_event(stage, at, observer, *subject, &event.to);
                }
            }
            EventKind::Health => self.on_health_event(stage, at, observer, event),
            EventKind::Equivocation => {
                let is_honest =
                    stage.names.get(&event.subject).is_none_or(|host| !stage.conditions[*host].is_liar);
                if is_honest && !stage.conditions.iter().any(|condition| condition.is_twin) {
                    let says = format!(
                        "{seconds:.3} s: node-{observer} says that {} contradicts itself: {}",
                        event.subject, event.cause
                    );
                    self.complaints.push(says);
                }
            }
            EventKind::Service
            | EventKind::Map
            | EventKind::NameClash
            | EventKind::Refused
            | EventKind::Disk
            | EventKind::Agent => {}
        }
        self.transcript.on_event(seconds, observer, event);
    }

    fn on_member_event(&mut self, stage: &Stage, at: Instant, observer: usize, subject: usize, to: &str) {
        let death = self.deaths.iter_mut().rev().find(|death| death.host == subject && !death.is_over);
        if let Some(death) = death {
            if to == "Suspect" && death.first_accusation.is_none() {
                death.first_accusation = Some(at);
                self.record.first_accusation_s.push(at.since(death.at).as_secs_f64());
            }
            let ran_then = stage.conditions[observer].runs_since.is_some_and(|since| since <= death.at);
            if to == MemberState::Down.as_str() && ran_then && !death.known.contains_key(&observer) {
                death.known.insert(observer, at);
                self.record.detection_s.push(at.since(death.at).as_secs_f64());
            }
            return;
        }
        let condition = &stage.conditions[subject];
        let is_gone = condition.is_away || condition.has_left || condition.is_twin || condition.is_liar;
        if to != MemberState::Down.as_str() || condition.runs_since.is_none() || is_gone {
            return;
        }
        let is_honest = !stage.conditions[observer].is_liar && !stage.conditions[observer].is_twin;
        let was_well = stage.has_no_excuse(subject) && stage.is_long_reachable(observer, subject);
        let is_false = is_honest && was_well && stage.has_no_excuse(observer);
        self.removals.push(Removal { at, observer, subject, is_false });
        if is_false {
            self.false_positives += 1;
        } else if is_honest && was_well {
            self.false_positives_by_ill += 1;
        }
    }

    fn on_health_event(&mut self, stage: &Stage, at: Instant, observer: usize, event: &Event) {
        let owner = event.subject.split('/').next().and_then(|name| stage.names.get(name)).copied();
        if owner == Some(observer) {
            self.has_seen_changes = true;
            for change in self.changes.iter_mut().filter(|change| change.subject == event.subject) {
                change.is_over = true;
            }
            self.changes.retain(|change| !change.is_over);
            self.changes.push(Change {
                subject: event.subject.clone(),
                to: event.to.clone(),
                at,
                owner: observer,
                known: HostSet::default(),
                is_over: false,
            });
            return;
        }
        let change =
            self.changes.iter_mut().find(|change| change.subject == event.subject && change.to == event.to);
        if let Some(change) = change
            && change.known.insert(observer)
        {
            self.record.dissemination_s.push(at.since(change.at).as_secs_f64());
        }
    }

    /// Honest nodes refuse nothing that honest nodes say.
    fn on_refusals(&mut self, stage: &mut Stage) {
        for (at, observer, from, reason) in core::mem::take(&mut stage.world.refusals) {
            let said_by = stage.ids.get(&from).copied();
            let is_excused = stage.is_strange_world()
                || said_by
                    .is_none_or(|host| stage.conditions[host].is_liar || stage.conditions[host].is_twin);
            if !is_excused && self.complaints.len() < 8 {
                let who = said_by.unwrap_or_default();
                let seconds = stage.seconds(at);
                self.complaints
                    .push(format!("{seconds:.3} s: node-{observer} refused what node-{who} said: {reason}"));
            }
        }
    }

    /// Asks everybody whose view changed who is a member.
    pub(crate) fn ask_all_members(&mut self, stage: &Stage) {
        for host in core::mem::take(&mut self.unasked) {
            self.ask_members(stage, host);
        }
    }

    /// Asks one observer who is a member.
    fn ask_members(&mut self, stage: &Stage, observer: usize) {
        let view = &mut self.views[observer];
        let Some(node) = stage.world.node(observer) else {
            *view = View::default();
            return;
        };
        let serving = node.members().filter(|(_, state)| state.is_serving());
        view.serving = serving.filter_map(|(identity, _)| stage.ids.get(&identity.id).copied()).collect();
    }

    /// Looks every service up at one observer.
    fn ask_services(&mut self, stage: &mut Stage, observer: usize) {
        if stage.services.is_empty() || self.asked.binary_search(&observer).is_err() {
            return;
        }
        let view = &mut self.views[observer];
        if let Some(snapshot) = stage.world.snapshot(observer) {
            view.answers = stage
                .services
                .keys()
                .map(|name| (name.clone(), answer(stage, observer, &snapshot, name)))
                .collect();
        }
    }

    /// Draws a point of every curve.
    pub(crate) fn pulse(&mut self, stage: &mut Stage) {
        self.ask_all_members(stage);
        let now = stage.now();
        let at_s = stage.seconds(now);
        let mut counts: Vec<usize> = (0..stage.hosts())
            .filter(|host| stage.is_well(*host))
            .map(|host| self.views[host].serving.len())
            .collect();
        counts.sort_unstable();
        if let (Some(min), Some(max)) = (counts.first(), counts.last()) {
            let truth = stage.conditions.iter().filter(|condition| condition.runs_since.is_some()).count();
            let median = counts[counts.len() / 2];
            let [min, median, max, truth] = [*min, median, *max, truth].map(|count| count as f64);
            self.record.members_seen.push(Band { at_s, min, median, max, truth });
        }
        let (wrong, all) = core::mem::take(&mut self.pulse_wrong);
        if all > 0.0 {
            self.record.wrong_share.push((at_s, wrong / all));
        }
        let seconds = now.since(self.traffic.0).as_secs_f64();
        if seconds >= 0.99 {
            let sum = total(stage);
            let per_host = |now: u64, before: u64| (now - before) as f64 / seconds / stage.hosts() as f64;
            let before = self.traffic.1;
            self.record.traffic.push(TrafficPoint {
                at_s,
                bytes_per_s: per_host(sum.bytes, before.bytes),
                messages_per_s: per_host(sum.datagrams + sum.messages, before.datagrams + before.messages),
            });
            self.traffic = (now, sum);
        }
    }

    /// The first answer that is wrong or empty now.
    pub(crate) fn wrong_answer(&self, stage: &Stage) -> Option<String> {
        self.asked.iter().filter(|observer| stage.is_asked(**observer)).find_map(|observer| {
            let mut answers = self.views[*observer].answers.iter();
            let (name, answer) = answers.find(|(_, answer)| answer.wrong > 0.0)?;
            let how = if answer.is_empty { "nothing" } else { "what does not work" };
            Some(format!("node-{observer} answers {how} for {name}"))
        })
    }

    /// Changes of health that an observer should know of and does not.
    pub(crate) fn unknown_changes(&self, stage: &Stage, within: core::time::Duration) -> Vec<String> {
        let now = stage.now();
        let mut missing = Vec::new();
        for change in self.changes.iter().filter(|change| now.since(change.at) > within) {
            for observer in (0..stage.hosts()).filter(|host| *host != change.owner) {
                let was_there = stage.conditions[observer].runs_since.is_some_and(|since| since <= change.at);
                let should_know = was_there
                    && stage.is_healthy(observer)
                    && stage.conditions[change.owner].runs_since.is_some_and(|since| since <= change.at)
                    && stage.is_long_reachable(observer, change.owner);
                if should_know && !change.known.contains(observer) {
                    missing.push(format!(
                        "node-{observer} was never told that {} is {} since {:.3} s",
                        change.subject,
                        change.to,
                        stage.seconds(change.at)
                    ));
                }
            }
        }
        missing
    }
}

/// What `observer` answers for a service.
fn answer(stage: &Stage, observer: usize, snapshot: &Snapshot, name: &str) -> Answer {
    let truth = &stage.services[name];
    // Of a service whose agent is gone nobody can know who has not been told before.
    let has_agent = |host: usize| stage.conditions[host].runs_since.is_some();
    let does_any_work =
        truth.iter().any(|served| has_agent(served.host) && stage.does_work(observer, served));
    let nothing =
        Answer { wrong: if does_any_work { 1.0 } else { 0.0 }, is_empty: true, ..Answer::default() };
    let Some(service) = snapshot.services.get(name) else {
        return nothing;
    };
    let served: Vec<_> = candidates(snapshot, service, &Filter::default())
        .into_iter()
        .filter_map(|candidate| Some((candidate.served()?, candidate.endpoint.socket_addr())))
        .collect();
    let Some(first) = served.iter().map(|((priority, _), _)| *priority).min() else {
        return nothing;
    };
    let names_at_all = served.iter().filter_map(|(_, addr)| Stage::host_of(*addr)).collect();
    let (mut all, mut wrong, mut names) = (0.0, 0.0, BTreeSet::new());
    for ((_, weight), addr) in served.into_iter().filter(|((priority, _), _)| *priority == first) {
        let weight = f64::from(weight.max(1));
        all += weight;
        let host = Stage::host_of(addr);
        names.extend(host);
        let works = host.is_some_and(|host| stage.does_work(observer, &super::stage::Served { host, addr }));
        if !works {
            wrong += weight;
        }
    }
    Answer { names, names_at_all, wrong: if does_any_work { wrong / all } else { 0.0 }, is_empty: false }
}

/// What all hosts sent so far.
pub(crate) fn total(stage: &Stage) -> Traffic {
    (0..stage.hosts()).map(|host| stage.world.traffic(host)).fold(Traffic::default(), |sum, sent| Traffic {
        datagrams: sum.datagrams + sent.datagrams,
        messages: sum.messages + sent.messages,
        bytes: sum.bytes + sent.bytes,
    })
}
