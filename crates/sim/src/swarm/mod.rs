//! The swarm: every knob is drawn from the seed. First a safety phase, in which anything may go wrong and what may never
//! happen does not; then a core is healed; then a liveness phase, in which the core must agree, and stay so.
//!
//! * [`draw`]: which world and which faults a seed stands for;
//! * [`safety`]: what may never happen, checked after every batch of events.

mod draw;
mod safety;

use core::time::Duration;
use std::collections::BTreeMap;

use rand::RngExt;

use crate::play::judge;
use crate::play::stage::Stage;
use crate::play::watch::Watch;
use safety::Safety;

/// What came of one seed.
#[derive(Debug, Clone)]
pub struct SwarmOutcome {
    /// The seed.
    pub seed: u64,
    /// What was drawn from it, in words.
    pub options: String,
    /// A hash over everything that was delivered, in order.
    pub trace_hash: u64,
    /// Virtual seconds that passed.
    pub virtual_s: f64,
    /// What may never happen and did, or what should have come and did not.
    pub failure: Option<String>,
    /// Figures by name.
    pub metrics: BTreeMap<&'static str, f64>,
    /// What happened, in lines.
    pub transcript: Vec<String>,
}

/// How often invariants are checked.
const TICK: Duration = Duration::from_millis(20);
/// A healed core agrees within this time: a Down member is tried every 2 to 5 s, each at least once a minute.
const HEALED_WITHIN: Duration = Duration::from_secs(120);
/// Where members, documents and answers agree, maps do within this time.
const MAPS_WITHIN: Duration = Duration::from_secs(20);
/// What was said before the heal may still take effect for so long: a suspicion runs for 6 s and is looked at for 3 s.
const AFTERMATH: Duration = Duration::from_secs(10);
/// And stays so for this long.
const CALM_FOR: Duration = Duration::from_secs(20);
/// A mesh that agrees and of which nothing is asked sends at most so many messages a second and host.
const CALM_MESSAGES_MAX: f64 = 25.0;

/// Plays what a seed stands for.
pub fn swarm(seed: u64) -> SwarmOutcome {
    let scenario = draw::scenario(seed);
    let options = draw::describe(&scenario);
    let mut stage = Stage::new(&scenario, seed);
    stage.set();
    let mut watch = Watch::new(&stage, seed);
    let mut safety = Safety::new(&stage);
    let failure = run(&mut stage, &mut watch, &mut safety, scenario.duration).err();
    let at_s = stage.seconds(stage.now());
    let failure = failure.map(|why| format!("at {at_s:.2} s: {why}"));
    let sum = crate::play::watch::total(&stage);
    let metrics = BTreeMap::from([
        ("nodes_count", stage.hosts() as f64),
        ("faults_count", scenario.timeline.len() as f64),
        ("messages_count", (sum.datagrams + sum.messages) as f64),
        ("false_positives_count", watch.false_positives as f64),
        ("agreed_after_s", safety.agreed_after_s),
        ("maps_alone_differed_s", safety.maps_differed.as_secs_f64()),
    ]);
    SwarmOutcome {
        seed,
        options,
        trace_hash: stage.world.trace_hash(),
        virtual_s: at_s,
        failure,
        metrics,
        transcript: watch.transcript.lines(&stage.marks),
    }
}

fn run(stage: &mut Stage, watch: &mut Watch, safety: &mut Safety, length: Duration) -> Result<(), String> {
    let end = stage.begin.after(length);
    while stage.now() < end {
        tick(stage, watch, safety)?;
    }
    heal_core(stage);
    let healed = stage.now();
    let mut pending = Some(String::new());
    while pending.is_some() {
        tick(stage, watch, safety)?;
        pending = what_is_missing(stage, watch, safety)?;
        if pending.is_none() && safety.agreed_after_s.is_nan() {
            safety.agreed_after_s = stage.now().since(healed).as_secs_f64();
        }
        if stage.now().since(healed) < AFTERMATH {
            pending.get_or_insert_default();
        }
        if stage.now().since(healed) > HEALED_WITHIN {
            let pending = pending.unwrap_or_default();
            return Err(format!("{} s after the heal {pending}", HEALED_WITHIN.as_secs()));
        }
    }
    stay_calm(stage, watch, safety)
}

fn tick(stage: &mut Stage, watch: &mut Watch, safety: &mut Safety) -> Result<(), String> {
    let until = stage.now().after(TICK);
    stage.advance_to(until, &mut |stage| watch.look(stage));
    safety.check(stage)?;
    watch.look(stage);
    watch.ask_all_members(stage);
    watch.complaints.first().map_or(Ok(()), |says| Err(says.clone()))
}

/// Heals all links, and restarts more than half of the hosts if they are dead; the rest stays as it is.
fn heal_core(stage: &mut Stage) {
    stage.end_everything();
    let all = stage.hosts();
    let core = stage.rng.random_range(all / 2 + 1..=all);
    for host in 0..core {
        stage.start_if_dead(host);
    }
}

/// What a healed core still lacks. That may not be one map alone for long.
fn what_is_missing(stage: &mut Stage, watch: &Watch, safety: &mut Safety) -> Result<Option<String>, String> {
    let others = judge::disagreement(stage, watch)
        .or_else(|| judge::document_difference(stage))
        .or_else(|| watch.wrong_answer(stage));
    let maps = if others.is_none() { judge::map_difference(stage) } else { None };
    safety.note_maps(stage.now(), maps.is_some());
    match maps {
        Some(says) if safety.maps_differed > MAPS_WITHIN => {
            Err(format!("{} s after all else agrees {says}", MAPS_WITHIN.as_secs()))
        }
        maps => Ok(others.or(maps)),
    }
}

/// What agrees goes on to agree, and says little.
fn stay_calm(stage: &mut Stage, watch: &mut Watch, safety: &mut Safety) -> Result<(), String> {
    let begun = stage.now();
    let before = crate::play::watch::total(stage);
    while stage.now().since(begun) < CALM_FOR {
        tick(stage, watch, safety)?;
        if let Some(says) = judge::disagreement(stage, watch) {
            return Err(format!("all agreed, and then {says}"));
        }
    }
    let after = crate::play::watch::total(stage);
    let messages = after.datagrams + after.messages - before.datagrams - before.messages;
    let running = (0..stage.hosts()).filter(|host| stage.world.is_running(*host)).count().max(1);
    let each = messages as f64 / running as f64 / CALM_FOR.as_secs_f64();
    if each > CALM_MESSAGES_MAX {
        return Err(format!("all agree, and each host still sends {each:.1} messages a second"));
    }
    Ok(())
}
