//! What `lookup` and `explain` print of answers, and how they end.

mod support;

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use support::mesh::{Config, authority};
use support::{Folder, Process, RINGMESH, dig, has, http, try_http, within};

/// An agent with an instance of `sip` that is never checked.
struct Alone {
    config: Config,
    _agent: Process,
    _folder: Folder,
}

impl Alone {
    fn start(index: u16) -> Self {
        let folder = Folder::new(&format!("answers-{index}"));
        let config = Config { seeds: Vec::new(), ..Config::local(32_500, index) };
        let agent = config.start(&folder, &authority("test"));
        within(Duration::from_secs(5), "the agent answers", || {
            try_http(config.http_addr(), "GET", "/healthz", "").is_some()
        });
        let endpoint = json!({ "transport": "udp", "address": "127.0.0.1", "port": 5060 });
        let body = json!({ "id": "a", "service": "sip", "weight": 70, "endpoints": [endpoint] }).to_string();
        assert_eq!(http(config.http_addr(), "POST", "/api/v1/register", &body).0, 200);
        Self { config, _agent: agent, _folder: folder }
    }

    /// The exit code of a command, what it prints and what it complains about.
    fn ringmesh(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(RINGMESH)
            .args(arguments)
            .args(["--http", &self.config.http_addr().to_string()])
            .output()
            .expect("runs");
        let [says, complains] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), says, complains)
    }
}

#[test]
fn what_gets_no_answer_ends_with_exit_code_one_asked_or_explained() {
    let alone = Alone::start(0);
    let check = |question: &[&str], code: i32, want: &str| {
        for how in [&["lookup"] as &[&str], &["explain"], &["explain", "--json"]] {
            let (found, says, complains) = alone.ringmesh(&[how, question].concat());
            assert_eq!(found, Some(code), "{how:?} {question:?}: {says}{complains}");
            assert!(code == 0 || complains.trim_end().ends_with(want), "{complains} should end with {want}");
        }
    };
    check(&["_sip._udp.sip", "SRV"], 0, "");
    check(&["sip", "AAAA"], 1, "sip.ringmesh.internal. AAAA: NODATA");
    check(&["web", "A"], 1, "web.ringmesh.internal. A: NXDOMAIN");
    check(&["example.org.", "A"], 1, "example.org. A: REFUSED");
}

#[test]
fn texts_are_told_apart_as_dig_does() {
    if !has("dig") {
        return;
    }
    let alone = Alone::start(1);
    let said = dig(alone.config.dns_addr(), &["_status.ringmesh.internal", "TXT"]);
    assert!(said[0].starts_with("\"state=connected\" \"age=0\" \"members=1\""), "{said:?}");
    let (_, says, _) = alone.ringmesh(&["lookup", "_status", "TXT"]);
    assert!(says.contains(&said[0]), "{said:?} should be in {says}");
}

#[test]
fn lookup_and_explain_are_about_the_same_type() {
    let alone = Alone::start(2);
    let check = |name: &str, want: &str| {
        let [asked, explained] = ["lookup", "explain"].map(|how| {
            let (_, says, complains) = alone.ringmesh(&[how, name, "--json"]);
            let answer: serde_json::Value = serde_json::from_str(&says).expect("JSON");
            let qtype = answer[if how == "lookup" { "type" } else { "qtype" }].as_str().map(str::to_owned);
            qtype.unwrap_or_else(|| panic!("{name}: {says}{complains}"))
        });
        assert_eq!((asked.as_str(), explained.as_str()), (want, want), "{name}");
    };
    check("_sip._udp", "SRV");
    check("sip", "SRV");
    check("_status", "TXT");
    check("node-2.n", "A");
    check("ringmesh.internal", "SOA");
    check("1.0.0.127.in-addr.arpa", "PTR");
    check("_web._udp", "SRV");
    check("web", "A");
}

#[test]
fn an_agent_that_is_told_nothing_names_both_ways_to_start_it() {
    let output = Command::new(RINGMESH).arg("agent").output().expect("runs");
    let complains = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{complains}");
    assert!(complains.contains("--config <FILE>") && complains.contains("--dev"), "{complains}");
}

#[test]
fn config_check_doubts_profiles_that_come_too_late() {
    let folder = Folder::new("late");
    let text = "[node]\nname = \"a\"\naddresses = [\"192.0.2.1\"]\n[dns]\n\
                profiles = [\"sofia@10.0.0.0/8\", \"pjsip@10.1.0.0/16\"]\n";
    let path = folder.write("late.toml", text);
    let output = Command::new(RINGMESH).args(["config", "check", &path]).output().expect("runs");
    let says = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{says}");
    let want = "valid, but without [tls]: it runs with --dev only; \
                dns.profiles: pjsip@10.1.0.0/16 never holds, because sofia@10.0.0.0/8 stands before it";
    assert!(says.contains(want), "{says}");
}
