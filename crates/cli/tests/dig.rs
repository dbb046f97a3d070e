//! dig and kdig read all that an agent answers, and read the same: two programs that were written apart, and that complain
//! about messages that are not as RFCs say. What is right is said in `crates/dns/conformance`.

mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use support::mesh::{Config, authority};
use support::{DOMAIN, Folder, Process, dig_full, has, within};

/// Services without checks, which count as healthy: SIP over everything on three addresses, and one of many instances.
fn services() -> String {
    let endpoint = |transport: &str, address: &str| {
        format!(
            "[[service.endpoint]]\nprotocol = \"sip\"\ntransport = \"{transport}\"\naddress = \"{address}\"\nport = 5060\n"
        )
    };
    let sip = (1..=3).map(|host| {
        let address = format!("127.0.1.{host}");
        let endpoints = ["udp", "tcp", "tls"].map(|transport| endpoint(transport, &address)).concat();
        let v6 = if host == 1 { endpoint("udp", "2001:db8::1") } else { String::new() };
        format!("[[service]]\nid = \"sip-{host}\"\nservice = \"sip\"\n{endpoints}{v6}")
    });
    let many = (1..=60).map(|host| {
        let endpoint = endpoint("udp", &format!("127.0.2.{host}"));
        format!("[[service]]\nid = \"many-{host}\"\nservice = \"many\"\n{endpoint}")
    });
    sip.chain(many).collect()
}

struct Scene {
    dns: SocketAddr,
    _agent: Process,
    _folder: Folder,
}

impl Scene {
    fn new(base: u16) -> Self {
        let folder = Folder::new(&format!("dig-{base}"));
        let config = Config { seeds: Vec::new(), extra: services(), ..Config::local(base, 0) };
        let scene = Self {
            dns: config.dns_addr(),
            _agent: config.start(&folder, &authority("test")),
            _folder: folder,
        };
        // Encoded records, which answer over UDP, follow a little later what is known and answered over TCP.
        let count = |words: [&str; 2]| {
            let name = format!("{}{DOMAIN}.", words[0]);
            dig_full(scene.dns, &[&name, words[1], "+noedns", "+tcp", "+short"]).lines().count()
                + dig_full(scene.dns, &[&name, words[1], "+noedns", "+short"]).lines().count()
        };
        within(Duration::from_secs(10), "all is known", || {
            count(["_sip._udp.sip.", "SRV"]) == 8 && count(["", "NAPTR"]) == 6 && count(["many.", "A"]) == 16
        });
        scene
    }

    /// What dig says; only what is agreed on is left to it, such as not to ask again by itself.
    fn dig(&self, words: &[&str]) -> Said {
        let usual = ["dig", "+tries=1", "+time=3", "+ignore", "+nocookie", "+noadflag", "+noednsnegotiation"];
        self.run(&usual, words)
    }

    fn kdig(&self, words: &[&str]) -> Said {
        self.run(&["kdig", "+retry=0", "+timeout=3", "+ignore", "+nocookie"], words)
    }

    fn run(&self, usual: &[&str], words: &[&str]) -> Said {
        let (at, port) = (format!("@{}", self.dns.ip()), self.dns.port().to_string());
        let output = Command::new(usual[0])
            .args([&at, "-p", &port])
            .args(&usual[1..])
            .args(words)
            .output()
            .expect("the program runs");
        let both = [output.stdout, output.stderr].concat();
        Said::read(&String::from_utf8_lossy(&both))
    }
}

/// What a program read in a response.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    /// Operation and response code.
    status: Vec<String>,
    flags: Vec<String>,
    /// How many records there are in each section.
    counts: Vec<String>,
    /// Version, flags and size in OPT.
    edns: Vec<String>,
    records: Vec<String>,
}

impl Said {
    fn read(text: &str) -> Self {
        for complaint in
            ["Malformed", "malformed", "extra bytes", "MBZ", "Got bad packet", "mismatch", "timed out"]
        {
            assert!(!text.contains(complaint), "{text}");
        }
        for warning in text.lines().filter(|line| line.to_lowercase().contains("warning")) {
            assert!(warning.contains("recursion requested but not available"), "{text}");
        }
        let header = |start: &str| {
            let line = text.lines().find(|line| line.to_lowercase().starts_with(start));
            let line = line.unwrap_or_else(|| panic!("no {start:?} in {text}"));
            line[start.len()..].replace([',', ';', ':'], " ")
        };
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (status, flags) = (words(&header(";; ->>header<<-")), header(";; flags:"));
        let (flags, counts) = flags.split_once("QUERY").expect("sections are counted");
        let lower = text.to_lowercase().replace([',', ';', ':'], " ").replace("udp size", "udp");
        let edns = lower.lines().find(|line| line.contains(" version ") && line.contains(" udp "));
        let edns = words(edns.unwrap_or_default()).into_iter().skip_while(|word| word != "version");
        let edns = edns.take_while(|word| word != "b").collect();
        let mut records: Vec<String> = text.lines().filter_map(record).collect();
        records.sort();
        let mut flags = words(flags);
        flags.sort();
        Self { status: status[..4].to_vec(), flags, counts: words(counts), edns, records }
    }
}

/// A record in lower case, for kdig asks so, and without the serial of a SOA, which may change at any time.
fn record(line: &str) -> Option<String> {
    if line.is_empty() || line.starts_with(';') {
        return None;
    }
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if words[3] == "SOA" {
        words[6] = "serial";
    }
    Some(words.join(" ").to_lowercase())
}

const NAMES: [&str; 12] = [
    "",
    "sip.",
    "_sip._udp.sip.",
    "_sips._tcp.",
    "_udp.sip.",
    "_SiP._uDp.SIP.z.zone.",
    "_sip._udp.all.many.",
    "many.service.",
    "node-0.n.",
    "nosuch.",
    "_sip._sctp.sip.",
    "\\255.nosuch.",
];
const TYPES: [&str; 10] = ["A", "AAAA", "SRV", "NAPTR", "SOA", "NS", "TXT", "ANY", "TYPE65280", "CNAME"];
const OPTIONS: [&[&str]; 14] = [
    &["+noedns"],
    &["+edns=0"],
    &["+edns=1"],
    &["+bufsize=512"],
    &["+bufsize=1232"],
    &["+dnssec"],
    &["+cookie=2464c4abcf10c957"],
    &["+noedns", "+norec", "+cdflag"],
    &["+edns=0", "+adflag", "+zflag"],
    &["+edns=0", "+subnet=198.51.100.0/24"],
    &["+nsid"],
    &["+ednsopt=65001:77686174"],
    &["+noedns", "+tcp"],
    &["+dnssec", "+tcp"],
];

#[test]
fn dig_and_kdig_read_the_same() {
    if !has("dig") || !has("kdig") {
        return;
    }
    let scene = Scene::new(26_600);
    assert_eq!(scene.kdig(&[DOMAIN, "SOA", "+dnssec"]).edns, ["version", "0", "flags", "do", "udp", "1232"]);
    let check = |words: &[&str]| {
        let (dig, kdig) = (scene.dig(words), scene.kdig(words));
        // Of many, eight are drawn for each question, unless all targets are asked for.
        let is_drawn = words[0].contains("many.") && !(words[0].contains("all.") && words[1] == "SRV");
        if is_drawn {
            assert_eq!(
                (dig.status, dig.flags, dig.counts, dig.edns),
                (kdig.status, kdig.flags, kdig.counts, kdig.edns),
                "{words:?}"
            );
        } else {
            assert_eq!(dig, kdig, "{words:?}");
        }
    };
    for name in NAMES.map(|name| format!("{name}{DOMAIN}.")) {
        for kind in TYPES {
            check(&[&name, kind, "+edns=0"]);
        }
        for options in OPTIONS {
            check(&[&[name.as_str(), "SRV"], options].concat());
        }
    }
    for words in [
        ["www.example.com.", "A", "IN"],
        ["version.bind.", "TXT", "CH"],
        ["1.0.0.127.in-addr.arpa.", "PTR", "IN"],
        ["1.0.0.127.in-addr.arpa.", "SOA", "IN"],
        [".", "NS", "IN"],
    ] {
        OPTIONS.iter().for_each(|options| check(&[&words, *options].concat()));
    }
}

#[test]
fn dig_understands_what_other_operations_get() {
    if !has("dig") {
        return;
    }
    let scene = Scene::new(26_610);
    let check = |words: &[&str], status: &str, flags: &str| {
        let said = scene.dig(&[&[DOMAIN, "SOA"], words].concat());
        assert_eq!((said.status[3].as_str(), said.flags.join(" ").as_str()), (status, flags), "{words:?}");
        assert!(said.records.is_empty(), "{words:?}");
    };
    for operation in ["IQUERY", "STATUS", "RESERVED3", "NOTIFY", "UPDATE", "15"] {
        let op_code = format!("+opcode={operation}");
        for options in OPTIONS.iter().filter(|options| !options.contains(&"+edns=1")) {
            let flags = match options {
                [_, "+norec", ..] => "cd qr",
                _ => "qr rd",
            };
            check(&[&[op_code.as_str()], *options].concat(), "NOTIMP", flags);
        }
        check(&[&op_code, "+noedns", "+header-only"], "NOTIMP", "qr rd");
    }
    check(&["+edns=0", "+header-only"], "FORMERR", "qr rd");
    check(&["+cookie=2464c4abcf10c957", "+header-only"], "NOERROR", "qr rd");
}
