//! What `ringmesh partition` says of files.

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::{Folder, RINGMESH};

fn analyze(arguments: &[&str]) -> Output {
    Command::new(RINGMESH).args(["partition", "analyze"]).args(arguments).output().expect("it runs")
}

/// 40,000 calls: every third of one account, the others of 5,000; a number of its own each, and one of three carriers.
fn calls(folder: &Folder) -> (String, String) {
    let (mut csv, mut json) = ("account,caller,carrier,note\n".to_owned(), String::new());
    for call in 0_u32..40_000 {
        let account = if call % 3 == 0 { 0 } else { 1 + call.wrapping_mul(2_654_435_761) % 5_000 };
        let (caller, carrier) =
            (format!("+4930{call:07}"), ["acme", "globex", "initech"][(call % 7 % 3) as usize]);
        csv += &format!("acct-{account},{caller},{carrier},\n");
        json += &format!(
            "{{\"account\":\"acct-{account}\",\"caller\":\"{caller}\",\"carrier\":\"{carrier}\",\"note\":null}}\n"
        );
    }
    let (csv_path, json_path) = (folder.file("calls.csv"), folder.file("calls.jsonl"));
    std::fs::write(&csv_path, csv).expect("can be written");
    std::fs::write(&json_path, json).expect("can be written");
    (csv_path, json_path)
}

#[test]
fn a_good_key_is_told_from_bad_ones_whatever_the_format() {
    let folder = Folder::new("analyze");
    let (csv, json) = calls(&folder);
    let fields = |path: &str| {
        let output = analyze(&[path, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("is text");
        text.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect::<Vec<Value>>()
    };
    let of_csv = fields(&csv);
    assert_eq!(of_csv, fields(&json));
    let [account, caller, carrier, note] = of_csv.as_slice() else { panic!("four fields: {of_csv:?}") };
    let number = |value: &Value| value.as_f64().expect("a number");
    assert_eq!((&account["records"], &account["objection"]), (&Value::from(40_000), &Value::Null));
    assert!(number(&account["first_map"]["max_over_mean"]) > 5.0, "{account}");
    assert!(number(&account["planned"]["max_over_mean"]) < 1.2, "{account}");
    assert!((number(&account["top"][0]["share"]) - 1.0 / 3.0).abs() < 0.01, "{account}");
    assert_eq!(
        (&account["top"][0]["value"], &account["planned"]["dedicated"]),
        (&"acct-0".into(), &1.into())
    );
    assert_eq!((&caller["nearly_unique"], &caller["objection"]), (&true.into(), &Value::Null));
    assert_eq!(carrier["objection"], "about 3 values are too few for 20 hosts");
    assert_eq!(note["objection"], "100.0 % of the records have none");
    let text = String::from_utf8(analyze(&[&csv]).stdout).expect("is text");
    assert!(text.contains("Take account: the busiest host has "), "{text}");
    assert!(text.ends_with("one key gets a partition of its own, shared by up to 14 hosts.\n"), "{text}");
}

#[test]
fn what_cannot_be_analyzed_is_named_with_its_cause() {
    let folder = Folder::new("analyze-bad");
    let (csv, _) = calls(&folder);
    let empty = folder.file("empty.jsonl");
    std::fs::write(&empty, "").expect("can be written");
    let check = |arguments: &[&str], code: i32, want: &str| {
        let output = analyze(arguments);
        let says = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{says}");
        assert!(says.contains(want), "{says}");
    };
    check(
        &[&csv, "--field", "colour"],
        1,
        "there is no field \"colour\": it has account, caller, carrier, note",
    );
    check(&[&folder.file("nosuch.csv")], 1, "nosuch.csv: cannot be opened: No such file");
    check(&[&empty], 1, "there is no record in it");
    check(
        &[&csv, "--format", "json", "--field", "x"],
        1,
        "there is no record in it: line 1 is no JSON object",
    );
    check(&["-"], 2, "name the fields with --field");
    check(&[&csv, "--hosts", "0"], 2, "0 is not in 1..=1000");
}
