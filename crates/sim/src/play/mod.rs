//! Plays a scenario: builds its world, does to it what the timeline says, watches, and judges.
//!
//! * [`stage`]: the world, who is in which condition, and what is still to be done;
//! * [`faults`]: what each fault does to the world;
//! * [`lies`]: what liars and newer versions say;
//! * [`watch`]: what every observer would have answered, at each moment;
//! * [`judge`]: what was expected against what was seen;
//! * [`transcript`]: the run in lines.

mod faults;
pub(crate) mod judge;
mod lies;
pub(crate) mod stage;
mod transcript;
pub(crate) mod watch;

use core::time::Duration;

use crate::outcome::Outcome;
use crate::scenario::{self, Scenario};
use judge::Judge;
use stage::Stage;
use watch::Watch;

/// How a scenario is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What everything random is drawn from.
    pub seed: u64,
    /// How many hosts there are, if not as many as the file says.
    pub nodes: Option<usize>,
}

/// How often observers are asked, in small meshes and in large ones.
const TICK: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];
/// So many hosts make a large mesh.
const LARGE: usize = 150;
/// How often agreement is looked for, and a point is drawn.
const PULSE: Duration = Duration::from_millis(200);

/// Plays a scenario once. `progress` is told the virtual time that has passed, about five times a virtual second.
///
/// # Errors
/// If the options do not fit the scenario.
pub fn play(
    scenario: &Scenario,
    options: Options,
    progress: &mut dyn FnMut(Duration),
) -> Result<Outcome, String> {
    let scenario = match options.nodes {
        Some(nodes) => scenario::with_nodes(scenario, nodes)?,
        None => scenario.clone(),
    };
    let mut stage = Stage::new(&scenario, options.seed);
    stage.set();
    let mut watch = Watch::new(&stage, options.seed);
    let mut judge = Judge::new(&scenario);
    let mut pulse_at = stage.begin;
    let end = stage.begin.after(scenario.duration);
    let tick = TICK[usize::from(scenario.topology.nodes >= LARGE)];
    let mut at = stage.begin;
    while at < end {
        at = at.after(tick).min(end);
        stage.advance_to(at, &mut |stage| watch.look(stage));
        watch.look(&mut stage);
        if at >= pulse_at.after(PULSE) || at == end {
            pulse_at = at;
            watch.pulse(&mut stage);
            judge.pulse(&mut stage, &watch);
            progress(at.since(stage.begin));
        }
    }
    Ok(judge.conclude(&scenario, &mut stage, watch, options.seed))
}
