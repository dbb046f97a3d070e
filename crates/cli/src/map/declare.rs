//! `ringmesh map declare` and `ringmesh map withdraw`: what a map should be like.

use clap::Args;
use ringmesh_agent::client;
use ringmesh_types::name::NodeName;
use serde_json::{Value, json};

use super::Which;
use crate::api::{body_of, items, order, unreachable};
use crate::{Failure, Outcome};

/// What a map should be like.
#[derive(Debug, Args)]
pub(crate) struct DeclareArgs {
    #[command(flatten)]
    which: Which,
    /// How keys are laid out: hash or name. Another one than before lets the map begin anew.
    #[arg(long)]
    strategy: Option<String>,
    /// auto: plans are carried out; approve: they wait for an operator.
    #[arg(long)]
    mode: Option<String>,
    /// Partitions for each host, 1 to 1000.
    #[arg(long, value_name = "N")]
    partitions_per_host: Option<u16>,
    /// Who takes over, for each partition: 0 to 3 other hosts.
    #[arg(long, value_name = "N")]
    standbys: Option<u8>,
    /// A key that gets a partition of its own, and who serves it while it is there; may be repeated. The last = counts: write
    /// a=b= for the key a=b.
    #[arg(long = "pin", value_name = "KEY[=NODE]")]
    pins: Vec<String>,
}

pub(super) async fn run(args: DeclareArgs) -> Outcome {
    let present = present(&args.which).await?;
    let pins = args.pins.iter().map(|written| pin(written)).collect::<Result<Vec<_>, Failure>>()?;
    let mut spec = present.clone().unwrap_or_else(|| json!({}));
    let named = [
        ("strategy", args.strategy.as_ref().map(|strategy| json!(strategy))),
        ("mode", args.mode.as_ref().map(|mode| json!(mode))),
        ("partitions_per_host", args.partitions_per_host.map(|count| json!(count))),
        ("standbys", args.standbys.map(|count| json!(count))),
    ];
    for (field, value) in named {
        if let Some(value) = value {
            spec[field] = value;
        }
    }
    if !pins.is_empty() {
        spec["pins"] = with_pins(&spec["pins"], pins);
    }
    order(&args.which.ask, "PUT", &args.which.path(""), Some(&spec)).await?;
    let strategies = present.as_ref().map(|present| (&present["strategy"], &spec["strategy"]));
    if let Some((Value::String(before), Value::String(now))) = strategies
        && before != now
    {
        eprintln!("ringmesh: the strategy was {before}: the map begins anew, and most keys get other owners");
    }
    Ok(())
}

/// What the map should be like now; nothing if it is not declared.
async fn present(which: &Which) -> Result<Option<Value>, Failure> {
    let answer = client::ask(which.ask.http, "GET", &which.path(""), None).await;
    let answer = answer.map_err(|error| unreachable(&which.ask, &error))?;
    if answer.status == 404 {
        return Ok(None);
    }
    Ok(Some(body_of(&which.ask, answer)?["spec"].take()))
}

/// Reads `KEY` or `KEY=NODE`.
fn pin(written: &str) -> Result<Value, Failure> {
    let (key, node) = written.rsplit_once('=').unwrap_or((written, ""));
    if key.is_empty() {
        return Err(Failure::usage(format!("--pin {written:?}: the key is empty: write KEY or KEY=NODE")));
    }
    if node.is_empty() {
        return Ok(json!({ "key": key }));
    }
    let node: NodeName = node.parse().map_err(|error| {
        Failure::usage(format!("--pin {written:?}: {error}. If {written} is the key, write {written}="))
    })?;
    Ok(json!({ "key": key, "node": node }))
}

/// Pins that are there, and new ones, which take the place of those with the same key.
fn with_pins(present: &Value, pins: Vec<Value>) -> Value {
    let mut all = items(present).to_vec();
    for pin in pins {
        all.retain(|other| other["key"] != pin["key"]);
        all.push(pin);
    }
    Value::Array(all)
}

pub(super) async fn withdraw(which: &Which) -> Outcome {
    order(&which.ask, "DELETE", &which.path(""), None).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_a_key_and_perhaps_a_node_behind_the_last_sign() {
        let check = |written: &str, want: Value| assert_eq!(pin(written).expect("is a pin"), want);
        check("acme", json!({ "key": "acme" }));
        check("+49@A.b=lim-1", json!({ "key": "+49@A.b", "node": "lim-1" }));
        check("a=b=lim-1", json!({ "key": "a=b", "node": "lim-1" }));
        check("a=b=", json!({ "key": "a=b" }));
        for bad in ["", "=", "=lim-1", "a=no node"] {
            assert!(pin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_pinned_once() {
        let present = json!([{ "key": "a", "node": null }, { "key": "b", "node": "x" }]);
        let all = with_pins(&present, vec![json!({ "key": "a", "node": "y" }), json!({ "key": "c" })]);
        assert_eq!(all, json!([{ "key": "b", "node": "x" }, { "key": "a", "node": "y" }, { "key": "c" }]));
        assert_eq!(with_pins(&Value::Null, vec![json!({ "key": "a" })]), json!([{ "key": "a" }]));
    }
}
