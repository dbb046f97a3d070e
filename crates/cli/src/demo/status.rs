//! Whether the demo is ready, and what it looks like now.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, stdout};

use ringmesh_agent::client;
use serde_json::Value;

use super::plan::Plan;
use crate::api::{instances_table, members_table};
use crate::table::may_colour;

/// What is still missing until all six agree and answer; nothing if they do.
pub(super) async fn pending(plan: &Plan) -> Option<String> {
    let mut digests = BTreeSet::new();
    for agent in &plan.agents {
        let about = match client::ask(agent.http, "GET", "/api/v1/agent", None).await {
            Ok(answer) => answer.body,
            Err(error) => return Some(format!("{}: {error}", agent.name)),
        };
        let members = client::ask(agent.http, "GET", "/api/v1/members", None).await.ok()?.body;
        let alive =
            members.as_array().map_or(0, |members| members.iter().filter(|m| m["state"] == "Alive").count());
        if alive != plan.agents.len() {
            return Some(format!("{} sees {alive} members alive", agent.name));
        }
        digests.insert(about["digest"].to_string());
        for service in ["sip", "media", "limiter"] {
            let wanted = plan.instances.iter().filter(|instance| instance.service == service).count();
            let path = format!("/api/v1/services/{service}?health=passing");
            let answer = client::ask(agent.http, "GET", &path, None).await.ok()?.body;
            let passing = answer["instances"].as_array().map_or(0, Vec::len);
            if passing != wanted {
                return Some(format!(
                    "{} sees {passing} of {wanted} instances of {service} passing",
                    agent.name
                ));
            }
        }
    }
    (digests.len() > 1).then(|| "the agents do not hold the same documents yet".to_owned())
}

/// Members and services as the first agent that answers sees them.
pub(super) async fn lines(plan: &Plan) -> Vec<String> {
    let is_coloured = may_colour(stdout().is_terminal());
    for agent in &plan.agents {
        let Ok(members) = client::ask(agent.http, "GET", "/api/v1/members", None).await else {
            continue;
        };
        let mut lines = vec![format!("as {} sees it:", agent.name)];
        lines.extend(members_table(&members.body).lines(is_coloured));
        let mut instances = Vec::new();
        for service in ["sip", "media", "limiter"] {
            let path = format!("/api/v1/services/{service}");
            if let Ok(answer) = client::ask(agent.http, "GET", &path, None).await {
                instances.extend(answer.body["instances"].as_array().cloned().unwrap_or_default());
            }
        }
        lines.push(String::new());
        lines.extend(instances_table(&Value::Array(instances)).lines(is_coloured));
        return lines;
    }
    vec!["no agent answers".to_owned()]
}
