//! `ringmesh members --follow`: the members, then a line for each change of who is in answers, as it comes. An agent that
//! goes away is waited for.

use core::time::Duration;

use ringmesh_agent::client;
use ringmesh_types::time::WallTime;
use serde_json::Value;

use crate::api::{body_of, items, text, unreachable};
use crate::table::print_line;
use crate::{Ask, Failure, Outcome};

/// The agent is asked to wait this long for news.
const WAIT_S: u64 = 30;
/// And has so much more time to answer.
const GRACE: Duration = Duration::from_secs(10);
/// An agent that does not answer is asked again after this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Prints what changes until it is interrupted.
pub(crate) async fn members(args: &Ask) -> Outcome {
    let mut since = latest(args).await?;
    if !args.json {
        crate::api::members(args).await?;
    }
    loop {
        for told in items(&ask_until_answered(args, since).await?) {
            since = told["sequence"].as_u64().unwrap_or(since);
            if args.json {
                print_line(&told.to_string());
            } else {
                lines(told).iter().for_each(|line| print_line(line));
            }
        }
    }
}

/// An agent that restarts answers again before long, and knows what it told before no more: all that it tells is news.
async fn ask_until_answered(args: &Ask, since: u64) -> Result<Value, Failure> {
    let mut is_told = false;
    loop {
        match ask(args, since, WAIT_S).await {
            Err(failure) if failure.is_unreachable() => {
                if !is_told {
                    eprintln!("ringmesh: the agent at {} does not answer: waiting for it", args.http);
                }
                is_told = true;
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
            answer => {
                if is_told {
                    eprintln!("ringmesh: it answers again");
                }
                return answer;
            }
        }
    }
}

/// What happened before somebody follows is no news.
async fn latest(args: &Ask) -> Result<u64, Failure> {
    let told = ask(args, 0, 0).await?;
    Ok(items(&told).last().and_then(|told| told["sequence"].as_u64()).unwrap_or(0))
}

async fn ask(args: &Ask, since: u64, wait_s: u64) -> Result<Value, Failure> {
    let path = format!("/api/v1/presence?since={since}&wait_s={wait_s}");
    let limit = Duration::from_secs(wait_s) + GRACE;
    let answer = client::ask_patiently(args.http, &path, limit).await;
    body_of(args, answer.map_err(|error| unreachable(args, &error))?)
}

/// What happened together, a line for each way that members went.
fn lines(told: &Value) -> Vec<String> {
    let time = WallTime::from_unix_millis(told["time"].as_u64().unwrap_or(0));
    let mut lines = Vec::new();
    for (to, words) in
        [("out", "out of answers"), ("last", "last in answers while there"), ("in", "in answers")]
    {
        let gone: Vec<&Value> = items(&told["changes"]).iter().filter(|change| change["to"] == to).collect();
        if let [first, ..] = gone[..] {
            let names: Vec<String> = gone.iter().map(|change| text(change, "member")).collect();
            let (count, cause) = (names.len(), text(first, "cause"));
            lines.push(format!("{time}  {count} {words}: {} ({cause})", names.join(", ")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_happened_together_is_told_in_one_line_each_way() {
        let change =
            |member: &str, to: &str| json!({ "member": member, "from": "in", "to": to, "cause": "why" });
        let told = json!({
            "sequence": 3, "time": 1_000, "changes": [change("a", "out"), change("b", "in"), change("c", "out")]
        });
        assert_eq!(
            lines(&told),
            [
                "1970-01-01T00:00:01.000Z  2 out of answers: a, c (why)",
                "1970-01-01T00:00:01.000Z  1 in answers: b (why)"
            ]
        );
    }
}
