//! The mutations: bugs that somebody could write into the protocol, as texts to find and texts to put there instead.

use anyhow::{Result, bail};

/// A bug that is planted into a copy of the sources.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mutation {
    /// What it is called on the command line.
    pub(super) name: &'static str,
    /// What does not work any more.
    pub(super) breaks: &'static str,
    /// The file, from the repository's root.
    pub(super) file: &'static str,
    /// What stands in the file exactly once.
    pub(super) find: &'static str,
    /// What stands there instead.
    pub(super) replace: &'static str,
}

impl Mutation {
    /// The file's text with the bug in it.
    ///
    /// # Errors
    /// If the text to find is not there exactly once: the sources have moved on and the mutation has not.
    pub(super) fn apply(&self, text: &str) -> Result<String> {
        match text.matches(self.find).count() {
            1 => Ok(text.replacen(self.find, self.replace, 1)),
            count => bail!(
                "mutation {} is stale: what it changes stands {count} times in {}, it must be once",
                self.name,
                self.file
            ),
        }
    }
}

/// Every mutation, by the file that it changes.
pub(super) const TABLE: &[Mutation] = &[
    Mutation {
        name: "no-refutation",
        breaks: "An accused member does not answer for itself.",
        file: "crates/node/src/accusations.rs",
        find: "self.membership.refute(now, life.incarnation);",
        replace: "",
    },
    Mutation {
        name: "refutation-voids-nothing",
        breaks: "Votes against a life that was refuted go on counting.",
        file: "crates/node/src/accusations.rs",
        find: "let accusers = self.suspicions.refute(id, life);",
        replace: "let accusers: Option<Vec<NodeId>> = Some(Vec::new()).filter(|_| false);",
    },
    Mutation {
        name: "accusation-kept-private",
        breaks: "An accuser tells nobody what it saw.",
        file: "crates/node/src/accusations.rs",
        find: "self.tell_everybody(now, accusation);",
        replace: "drop(accusation);",
    },
    Mutation {
        name: "accused-not-told",
        breaks: "Nobody tells the accused what others say of it.",
        file: "crates/node/src/accusations.rs",
        find: "if self.spread.is_linked(accusation.subject) {",
        replace: "if false {",
    },
    Mutation {
        name: "duplicates-forwarded",
        breaks: "Accusations are handed on as news, however often they come.",
        file: "crates/node/src/statements.rs",
        find: "is_fresh && self.on_accusation(now, source, accusation)",
        replace: "self.on_accusation(now, source, accusation) || true",
    },
    Mutation {
        name: "forward-to-nobody",
        breaks: "News reaches only the neighbours of its origin.",
        file: "crates/node/src/statements.rs",
        find: "if !news.is_empty() {",
        replace: "if false {",
    },
    Mutation {
        name: "echo-missing",
        breaks: "Whoever says what is long over is not told so.",
        file: "crates/node/src/statements.rs",
        find: "target.filter(|_| self.contacts.may_echo(now))",
        replace: "target.filter(|_| false)",
    },
    Mutation {
        name: "hold-never-ends",
        breaks: "A member that announced a restart is waited for without end.",
        file: "crates/node/src/statements.rs",
        find: "self.timers.arm(now.after(hold), Timer::HoldEnd(owner));",
        replace: "",
    },
    Mutation {
        name: "hold-cut-short",
        breaks: "A member that announced a restart is waited for a tenth of the time.",
        file: "crates/node/src/statements.rs",
        find: "let hold = Duration::from_millis(u64::from(for_ms)).min(HOLD_MAX);",
        replace: "let hold = Duration::from_millis(u64::from(for_ms)).min(HOLD_MAX) / 10;",
    },
    Mutation {
        name: "clash-not-noticed",
        breaks: "Two agents under one name fight on, and nobody says so.",
        file: "crates/node/src/statements.rs",
        find: "if !is_elsewhere || is_late {",
        replace: "if true {",
    },
    Mutation {
        name: "epoch-not-caught-up",
        breaks: "A member whose clock went back stays below the epoch that the mesh knows of it.",
        file: "crates/node/src/statements.rs",
        find: "known >= self.membership.identity().epoch && known.0 < ahead",
        replace: "false && known.0 < ahead",
    },
    Mutation {
        name: "down-forgotten-at-restart",
        breaks: "An agent that restarts takes those for alive that were Down before.",
        file: "crates/node/src/remembered.rs",
        find: "if self.members.find(*id).is_some_and(|member| member.is_serving() && *id != self.id()) {",
        replace: "if false {",
    },
    Mutation {
        name: "newer-topics-refused",
        breaks: "What a later version says on a topic of its own is not kept or handed on.",
        file: "crates/node/src/statements.rs",
        find: "| Body::Opaque => Ok(()),",
        replace: "=> Ok(()),
        Body::Opaque => Err(\"a topic that nobody here knows\".to_owned()),",
    },
    Mutation {
        name: "forgotten-not-told",
        breaks: "Who was forgotten while it was cut off is not told, and stays out until it restarts.",
        file: "crates/node/src/statements.rs",
        find: "self.contacts.may_echo(now).then_some(Target { id: Some(owner), addr })",
        replace: "None",
    },
    Mutation {
        name: "memory-never-doubted",
        breaks: "Who died while an agent was away is served until its own detector notices.",
        file: "crates/node/src/remembered.rs",
        find: "now.since(self.since) >= LOOK_AFTER",
        replace: "now.since(self.since) >= LOOK_AFTER * 1_000_000",
    },
    Mutation {
        name: "leave-missed-for-ever",
        breaks: "Who was away when a member left never hears of it.",
        file: "crates/node/src/remembered.rs",
        find: "let owners = self.remembered.unconfirmed.keys().take(limits::SUMMARIES_MAX);",
        replace: "let owners = self.remembered.unconfirmed.keys().take(0);",
    },
    Mutation {
        name: "holds-doubted",
        breaks: "Who restarts does not tell others of the holds that it knows.",
        file: "crates/node/src/remembered.rs",
        find: "!matches!(member.state(), MemberState::Holding)",
        replace: "member.is_serving()",
    },
    Mutation {
        name: "found-dead-not-saved",
        breaks: "Who was found dead after a restart is not on disk before the next.",
        file: "crates/node/src/statements.rs",
        find: "self.local.is_view_unsaved |= !state.is_serving();",
        replace: "",
    },
    Mutation {
        name: "health-not-saved",
        breaks: "What is known of endpoints is forgotten at a restart.",
        file: "crates/node/src/local.rs",
        find: "if self.local.is_health_unsaved {",
        replace: "if false {",
    },
    Mutation {
        name: "dead-count-as-accusers",
        breaks: "As many accusers are waited for as if nobody had died.",
        file: "crates/node/src/members.rs",
        find: "self.serving - usize::from(self.find(subject).is_some_and(Member::is_serving))",
        replace: "self.all.len() - usize::from(self.find(subject).is_some())",
    },
    Mutation {
        name: "memory-handed-on",
        breaks: "Who died while an agent was away spreads from its disk.",
        file: "crates/node/src/remembered.rs",
        find: "self.registry.set_live(*id, false);",
        replace: "let _ = id;",
    },
    Mutation {
        name: "newer-fields-refused",
        breaks: "A document with a field of a newer version is refused.",
        file: "crates/types/src/fields.rs",
        find: "fields.push((tag, bytes));",
        replace: "if tag > 100 {
                return Err(FieldError::Cut);
            }
            fields.push((tag, bytes));",
    },
    Mutation {
        name: "digest-over-all-owners",
        breaks: "Digests, repair and joins cover all owners and not only the live ones.",
        file: "crates/node/src/statements.rs",
        find: "self.registry.set_live(subject, false);",
        replace: "",
    },
    Mutation {
        name: "crowd-not-seen",
        breaks: "Where many have just started, the accused have no more time than else.",
        file: "crates/node/src/crowd.rs",
        find: "young >= ACCUSERS_ENOUGH && young * SHARE >= members",
        replace: "young > members",
    },
    Mutation {
        name: "suspicion-never-expires",
        breaks: "A suspect stays one for ever.",
        file: "crates/gossip/src/suspicion.rs",
        find: "if self.deadline(subject, judge.others, &judge.pace).is_none_or(|at| at > now) {",
        replace: "if self.deadline(subject, judge.others, &judge.pace).is_none_or(|_| true) {",
    },
    Mutation {
        name: "one-accuser-suffices",
        breaks: "One member alone can have another removed.",
        file: "crates/gossip/src/suspicion.rs",
        find: "others.clamp(1, ACCUSERS_ENOUGH)",
        replace: "others.clamp(1, 1)",
    },
    Mutation {
        name: "suspicion-min-tenfold",
        breaks: "A suspicion with enough accusers lasts ten times as long.",
        file: "crates/gossip/src/suspicion.rs",
        find: "return Some(suspicion.since.after(min));",
        replace: "return Some(suspicion.since.after(min * 10));",
    },
    Mutation {
        name: "suspicion-max-tenfold",
        breaks: "A suspicion with too few accusers lasts ten times as long.",
        file: "crates/gossip/src/suspicion.rs",
        find: "Some(suspicion.since.after(lasts))",
        replace: "Some(suspicion.since.after(lasts * 10))",
    },
    Mutation {
        name: "votes-not-withdrawn",
        breaks: "Votes of members that are gone go on counting.",
        file: "crates/gossip/src/suspicion.rs",
        find: "suspicion.ballots.remove(&accuser);",
        replace: "let _ = accuser;",
    },
    Mutation {
        name: "probe-period-fivefold",
        breaks: "Members are probed a fifth as often.",
        file: "crates/gossip/src/membership.rs",
        find: "probe_period: config.period,",
        replace: "probe_period: config.period * 5,",
    },
    Mutation {
        name: "incarnation-not-raised",
        breaks: "A member that refutes does so under its old incarnation.",
        file: "crates/gossip/src/membership.rs",
        find: "self.apply(now, Member::new(me, incarnation, State::Suspect));",
        replace: "self.apply(now, Member::new(me, incarnation, State::Alive));",
    },
    Mutation {
        name: "stale-epoch-accepted",
        breaks: "What an earlier life of a member said replaces what its present one says.",
        file: "crates/gossip/src/registry.rs",
        find: "Ordering::Greater => return Merge::Older(known.clone()),",
        replace: "Ordering::Greater if known.document.version.epoch == version.epoch => {
                    return Merge::Older(known.clone());
                }
                Ordering::Greater => {}",
    },
    Mutation {
        name: "stale-version-accepted",
        breaks: "What a member said earlier in its life replaces what it said last.",
        file: "crates/gossip/src/registry.rs",
        find: "Ordering::Greater => return Merge::Older(known.clone()),",
        replace: "Ordering::Greater if known.document.version.epoch > version.epoch => {
                    return Merge::Older(known.clone());
                }
                Ordering::Greater => {}",
    },
    Mutation {
        name: "epoch-not-compared",
        breaks: "A life that has said much outranks a later one that has said little.",
        file: "crates/gossip/src/registry.rs",
        find: "match known.rank().cmp(&after.rank()) {",
        replace: "match (known.rank().0.sequence, known.rank().1).cmp(&(version.sequence, after.rank().1)) {",
    },
    Mutation {
        name: "first-body-wins",
        breaks: "Of two bodies under one version each member keeps the one that came first.",
        file: "crates/gossip/src/registry.rs",
        find: "match known.rank().cmp(&after.rank()) {",
        replace: "match known.rank().0.cmp(version) {",
    },
    Mutation {
        name: "anti-entropy-one-way",
        breaks: "Whoever is asked for a comparison takes what it lacks and gives nothing.",
        file: "crates/gossip/src/registry.rs",
        find: "(page.finish(), wanted.take(limits::BATCH_STATEMENTS_MAX).collect())",
        replace: "(Vec::new(), wanted.take(limits::BATCH_STATEMENTS_MAX).collect())",
    },
    Mutation {
        name: "floor-forgotten",
        breaks: "A member that an operator had forgotten comes back with what others still have of it.",
        file: "crates/gossip/src/registry.rs",
        find: "*kept = floor.max(*kept);",
        replace: "*kept = Epoch::default().max(*kept);",
    },
    Mutation {
        name: "renew-missing",
        breaks: "A member that is held Down does not take a new identity.",
        file: "crates/node/src/machine.rs",
        find: "self.membership.renew(now);",
        replace: "",
    },
    Mutation {
        name: "pause-not-compensated",
        breaks: "What was overdue when a frozen agent woke is held against others.",
        file: "crates/node/src/machine.rs",
        find: "self.suspicions.delay(paused);",
        replace: "",
    },
    Mutation {
        name: "refutation-unpublished",
        breaks: "A member's document does not show the incarnation that it raised.",
        file: "crates/node/src/machine.rs",
        find: "incarnation: self.membership.incarnation(),",
        replace: "incarnation: 0,",
    },
    Mutation {
        name: "down-never-retried",
        breaks: "Nobody tries whether a member that is Down is back.",
        file: "crates/node/src/contacts.rs",
        find: "if !due.is_empty() {",
        replace: "if false {",
    },
    Mutation {
        name: "seeds-tried-once",
        breaks: "A seed that did not answer at first is never asked again.",
        file: "crates/node/src/contacts.rs",
        find: "seed.back_off(now, most, jitter);",
        replace: "seed.back_off(now, most, jitter);
            seed.next = now.after(Duration::from_secs(1 << 30));",
    },
    Mutation {
        name: "epoch-ahead-not-refused",
        breaks: "A member whose clock is far ahead is not told why nobody takes it in.",
        file: "crates/node/src/contacts.rs",
        find: "if from.epoch.0 > ahead {",
        replace: "if false {",
    },
    Mutation {
        name: "announcements-ignored",
        breaks: "A later version of a document that is too large to push is not fetched.",
        file: "crates/node/src/contacts.rs",
        find: "self.registry.stored(key).is_none_or(|stored| stored.document.version < version)",
        replace: "self.registry.stored(key).is_none()",
    },
    Mutation {
        name: "changes-every-five-seconds",
        breaks: "Changes of health leave at most every five seconds.",
        file: "crates/node/src/publisher.rs",
        find: "bucket: TokenBucket::new(BURST, EVERY),",
        replace: "bucket: TokenBucket::new(1, Duration::from_secs(5)),",
    },
    Mutation {
        name: "registrations-lost-at-restart",
        breaks: "An agent that restarts has forgotten what was registered with it.",
        file: "crates/node/src/local.rs",
        find: "let kept = saved.registrations.iter().map(|raw| (raw, Origin::Http));",
        replace: "let kept = saved.registrations.iter().take(0).map(|raw| (raw, Origin::Http));",
    },
    Mutation {
        name: "leave-not-said",
        breaks: "A member that leaves for good tells nobody.",
        file: "crates/node/src/local.rs",
        find: "self.stand(Standing::Left);
        self.settle(now);",
        replace: "self.settle(now);",
    },
    Mutation {
        name: "never-grafted",
        breaks: "What was announced and does not come is never asked for.",
        file: "crates/node/src/spread.rs",
        find: "if self.spread.tree.on_ihave(due, from, &ids) {",
        replace: "if false && self.spread.tree.on_ihave(due, from, &ids) {",
    },
    Mutation {
        name: "witnesses-blind",
        breaks: "Who is looked at and does not answer is not accused for it.",
        file: "crates/node/src/accusations.rs",
        find: "if was_waited_for || !has_answered {",
        replace: "if was_waited_for && has_answered {",
    },
    Mutation {
        name: "anti-entropy-off",
        breaks: "What pushing missed is never looked for.",
        file: "crates/node/src/repair.rs",
        find: "            self.ask_digest(target);\n        }\n    }\n\n    pub(crate) fn arm_beat",
        replace: "            drop(target);\n        }\n    }\n\n    pub(crate) fn arm_beat",
    },
    Mutation {
        name: "repair-hundredfold",
        breaks: "A mesh that agrees compares its documents a hundred times as often.",
        file: "crates/node/src/repair.rs",
        find: "const USUAL_MS: core::ops::Range<u64> = 10_000..30_000;",
        replace: "const USUAL_MS: core::ops::Range<u64> = 100..300;",
    },
    Mutation {
        name: "no-flap-damping",
        breaks: "However often a member goes Down, it is as good as others when it is back.",
        file: "crates/node/src/damping.rs",
        find: "const SUPPRESSED_ABOVE: f64 = 2_500.0;",
        replace: "const SUPPRESSED_ABOVE: f64 = 4_000.0;",
    },
    Mutation {
        name: "spared-for-long",
        breaks: "Members that are Down stay in answers if many others are.",
        file: "crates/node/src/removals.rs",
        find: "const SPARED_FOR: Duration = Duration::from_secs(60);",
        replace: "const SPARED_FOR: Duration = Duration::from_secs(600);",
    },
    Mutation {
        name: "gray-comes-first",
        breaks: "Who answers only some of those that ask is no worse than others.",
        file: "crates/node/src/gray.rs",
        find: "const SUSPICIONS_ENOUGH: usize = 6;",
        replace: "const SUSPICIONS_ENOUGH: usize = 600;",
    },
    Mutation {
        name: "told-one-by-one",
        breaks: "Deaths that happen together are told one by one.",
        file: "crates/node/src/watch.rs",
        find: "const QUIET_FOR: Duration = Duration::from_secs(2);",
        replace: "const QUIET_FOR: Duration = Duration::from_millis(1);",
    },
    Mutation {
        name: "drain-ignored",
        breaks: "A node that is draining is answered with as before.",
        file: "crates/node/src/view.rs",
        find: "is_draining: instance.is_draining || body.is_node_draining,",
        replace: "is_draining: instance.is_draining,",
    },
    Mutation {
        name: "left-counts-as-alive",
        breaks: "A member that has left counts among those that serve.",
        file: "crates/types/src/snapshot.rs",
        find: "Self::Alive | Self::Suspect { .. } | Self::Holding => true,",
        replace: "Self::Alive | Self::Suspect { .. } | Self::Holding | Self::Left => true,",
    },
    Mutation {
        name: "document-seal-unchecked",
        breaks: "Anybody can publish documents in another member's name.",
        file: "crates/types/src/sealed.rs",
        find: "if !checker.is_sealed_by(key, &bytes, &document.seal) {",
        replace: "if false {",
    },
    Mutation {
        name: "accusation-seal-unchecked",
        breaks: "Anybody can accuse in another member's name.",
        file: "crates/types/src/sealed.rs",
        find: "if !checker.is_sealed_by(key, &accusation.sealed_bytes(), &accusation.seal) {",
        replace: "if false {",
    },
    Mutation {
        name: "dns-floor-gone",
        breaks: "When nothing is healthy, the answer is empty.",
        file: "crates/dns/src/selection.rs",
        find: "Floor::ALL.into_iter().find(|floor| standings.contains(&Standing::Spare(*floor)))",
        replace: "None",
    },
    Mutation {
        name: "down-still-answered",
        breaks: "Answers name instances on members that are Down.",
        file: "crates/dns/src/selection.rs",
        find: "if !instance.member.state.is_serving() && instance.member.demoted != Some(Demotion::Spared) {",
        replace: "if false {",
    },
    Mutation {
        name: "failing-noticed-late",
        breaks: "A check has to fail five times as often before it counts.",
        file: "crates/health/src/monitor.rs",
        find: "let is_over = self.bad >= self.spec.fall;",
        replace: "let is_over = self.bad >= self.spec.fall * 5;",
    },
    Mutation {
        name: "map-never-compared",
        breaks: "Nobody asks what others follow.",
        file: "crates/node/src/maps/seeking.rs",
        find: "if !is_wanted && known.chain.is_none() && now >= known.seek.compare {",
        replace: "if false && now >= known.seek.compare {",
    },
    Mutation {
        name: "map-everybody-plans",
        breaks: "Each member holds itself to be the author.",
        file: "crates/node/src/maps/authoring.rs",
        find: "known.author.elect(now, elected == Some(me));",
        replace: "let elected = Some(me);\n        known.author.elect(now, true);",
    },
    Mutation {
        name: "map-nobody-covers",
        breaks: "What a lost member owned stays with it until load is moved.",
        file: "crates/partition/src/author.rs",
        find: "        plan::plan(&map, me, candidates, None, &config)\n",
        replace: "        Ok(None)\n",
    },
    Mutation {
        name: "map-lower-wins",
        breaks: "The later of two maps that do not follow each other is followed, not the higher.",
        file: "crates/partition/src/follow.rs",
        find: "if (theirs, &offered.digest) > (ours, &self.present.digest) {",
        replace: "if theirs != ours {",
    },
    Mutation {
        name: "map-loss-unbelieved",
        breaks: "Those who may be lost are not taken to be, so that honest covers are refused.",
        file: "crates/node/src/maps/authoring.rs",
        find: "if self.maps.lost.contains_key(&id) || !self.members.find(id).is_some_and(Member::is_serving) {\n            return true;",
        replace: "if self.maps.lost.contains_key(&id) || !self.members.find(id).is_some_and(Member::is_serving) {\n            return false;",
    },
    Mutation {
        name: "map-not-doubted",
        breaks: "An author that stood still plans at once.",
        file: "crates/node/src/maps/mod.rs",
        find: "known.seek.doubt(now)",
        replace: "drop(known)",
    },
];
