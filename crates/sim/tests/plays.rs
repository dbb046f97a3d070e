//! What a scenario's timeline does to hosts that are not as it expects them.

use ringmesh_sim::outcome::Outcome;
use ringmesh_sim::play::{Options, play};
use ringmesh_sim::scenario::parse;

/// Six hosts that know each other for a minute, with this timeline and these expectations.
fn played(timeline: &str) -> Outcome {
    let text = format!(
        "title = \"t\"\nabout = \"a\"\nduration = \"60s\"\n[topology]\nnodes = 6\nstart = \"converged\"\n{timeline}"
    );
    let scenario = parse("test", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    play(&scenario, Options { seed: 1, nodes: None }, &mut |_| {}).expect("it can be played")
}

fn marks(outcome: &Outcome) -> Vec<&str> {
    outcome.record.faults.iter().map(|mark| mark.what.as_str()).collect()
}

#[test]
fn an_agent_that_is_frozen_leaves_when_it_runs_on() {
    let outcome = played(
        r#"
        [[timeline]]
        at = "5s"
        fault = "pause"
        who = "node-2"
        for = "1s"
        [[timeline]]
        at = "5500ms"
        fault = "leave"
        who = "node-2"
        [[expect]]
        that = "served"
        who = "node-2"
        from = "0s"
        until = "5900ms"
        [[expect]]
        that = "seen"
        who = "node-2"
        state = "Left"
        at = "6100ms"
        "#,
    );
    assert_eq!(outcome.failures, []);
}

#[test]
fn an_agent_that_is_frozen_obeys_and_restarts_in_its_turn_when_it_runs_on() {
    let outcome = played(
        r#"
        [[timeline]]
        at = "5s"
        fault = "pause"
        who = "node-2"
        for = "1500ms"
        [[timeline]]
        at = "5s"
        fault = "roll"
        who = "node-1..node-3"
        down = "500ms"
        every = "1s"
        [[expect]]
        that = "seen"
        who = "node-2"
        state = "Holding"
        at = "6700ms"
        [[expect]]
        that = "seen"
        who = "node-3"
        state = "Alive"
        at = "7400ms"
        [[expect]]
        that = "seen"
        who = "node-3"
        state = "Holding"
        at = "7700ms"
        [[expect]]
        that = "converged"
        by = "10500ms"
        "#,
    );
    assert_eq!(outcome.failures, []);
}

#[test]
fn what_is_done_to_the_dead_is_not_said_to_be_done() {
    let outcome = played(
        r#"
        [[timeline]]
        at = "5s"
        fault = "crash"
        who = "node-2"
        [[timeline]]
        at = "20s"
        fault = "crash"
        who = "node-2, node-3"
        [[timeline]]
        at = "40s"
        fault = "leave"
        who = "node-2"
        [[expect]]
        that = "converged"
        by = "40s"
        "#,
    );
    assert_eq!(outcome.failures, []);
    assert_eq!(marks(&outcome), ["crash node-2", "crash node-3", "leave nobody"]);
}
