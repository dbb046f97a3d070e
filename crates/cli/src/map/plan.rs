//! `ringmesh map plan` and `ringmesh map apply`: what would be done next, and doing it.

use ringmesh_partition::author::HEAT_WINDOW;
use serde_json::{Value, json};

use super::words::{self, print_facts, print_words};
use super::{Which, heat, history};
use crate::Outcome;
use crate::api::{ask, items, post, text};
use crate::table::print_line;

pub(super) async fn run(which: &Which) -> Outcome {
    let plan = ask(&which.ask, "GET", &which.path("/plan"), None).await?;
    if which.ask.json {
        print_line(&plan.to_string());
        return Ok(());
    }
    print_facts(&[
        ("map", format!("{}, generation {}", text(&plan, "map"), text(&plan, "generation"))),
        ("author", heat::author(&plan)),
        ("mode", mode(&plan)),
    ]);
    print_line("");
    if text(&plan, "mode") == "auto" {
        return last(which).await;
    }
    let proposal = &plan["proposal"];
    if proposal.is_null() {
        print_line("Nothing waits for approval.");
        if plan["since_ms"].as_u64().is_some_and(|since| u128::from(since) < HEAT_WINDOW.as_millis()) {
            let seconds = HEAT_WINDOW.as_secs();
            print_line(&format!(
                "The author has been it for less than {seconds} s: until then it only covers for who is lost."
            ));
        }
        return Ok(());
    }
    let steps = items(&proposal["steps"]);
    print_words(&format!(
        "Generation {} waits for approval. {} would move {} of the space:",
        text(proposal, "generation"),
        capital(&words::count(steps.len(), "step", "steps")),
        words::share(proposal["churn"].as_f64().unwrap_or(0.0))
    ));
    history::print(which, &history::together(steps)).await;
    print_words(&format!("ringmesh map apply {} --plan {} carries it out.", which.map, text(proposal, "id")));
    Ok(())
}

fn mode(plan: &Value) -> String {
    match plan["mode"].as_str() {
        Some("auto") => "auto: plans are carried out every ten seconds".to_owned(),
        Some("approve") => "approve: plans are made every ten seconds and wait for an operator".to_owned(),
        _ => text(plan, "mode"),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What was done last.
async fn last(which: &Which) -> Outcome {
    let history = ask(&which.ask, "GET", &which.path("/history"), None).await?;
    match items(&history).first() {
        None => print_line("Nothing was done since the agent started."),
        Some(last) => {
            print_line("Done last:");
            history::print(which, &history::lines(last)).await;
        }
    }
    Ok(())
}

pub(super) async fn apply(which: &Which, plan: Option<String>) -> Outcome {
    post(&which.ask, &which.path("/apply"), Some(&json!({ "plan": plan }))).await
}
