//! What RFCs ask, clause by clause: `conformance/*.txt` say what is asked and what is answered, and `conformance/README.md`
//! says how they are written. Everything is asked of [`answer`](crate::answer) and, where it answers, of
//! [`hot`](crate::hot), which must say the same.

pub(crate) mod ask;
mod show;

use core::net::IpAddr;
use std::sync::Arc;

use ringmesh_types::time::WallTime;

use crate::answer::{self, Via};
use crate::client::Client;
use crate::cookie::Secrets;
use crate::hot::{RESPONSE_BYTES_MAX, Zone};
use crate::profile::Profile;
use crate::testing::{self, World, name};
use crate::zone::ZoneConfig;
use ask::Ask;
use show::Show;

/// What cookies are made with, unless a file says something else: the secret of RFC 9018, A.1.
const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

/// Compares a file with what it would be if everything were answered as it is.
fn check(name: &str, text: &str) -> Result<(), String> {
    let number = name.strip_prefix("rfc-").and_then(|rest| rest.strip_suffix(".txt")?.split('-').next());
    let Some(number) = number.filter(|number| number.parse::<u16>().is_ok()) else {
        return Err("its name is not rfc-<number>-<section>-<words>.txt".to_owned());
    };
    if !text.starts_with(&format!("# RFC {number}")) {
        return Err(format!("it does not begin with the clause, # RFC {number}, ..."));
    }
    let mut scene = Scene { world: "", with: With::read("") };
    let (mut count, mut diff) = (0, String::new());
    for block in blocks(text) {
        let line = block[0];
        match line.split_once(' ').unwrap_or((line, "")) {
            ("world", world) => scene.world = world,
            ("with", words) => scene.with = With::read(words),
            ("ask", question) => {
                count += 1;
                diff.push_str(&compare(&block, &scene.ask(question)));
            }
            _ => assert!(line.is_empty() || line.starts_with('#'), "what does {line:?} mean?"),
        }
    }
    match count {
        0 => Err("it asks nothing".to_owned()),
        _ if diff.is_empty() => Ok(()),
        _ => Err(diff),
    }
}

/// Lines at the margin, each with the indented ones below it.
fn blocks(text: &str) -> Vec<Vec<&str>> {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        match blocks.last_mut() {
            Some(block) if line.starts_with(' ') => block.push(line),
            Some(_) | None => blocks.push(vec![line]),
        }
    }
    blocks
}

/// What is missing (`-`) and what is there instead (`+`), or nothing if it is as the file says.
fn compare(block: &[&str], said: &str) -> String {
    let said: Vec<String> = said.lines().map(|line| format!("    {line}")).collect();
    let want = &block[1..];
    if said.iter().map(String::as_str).eq(want.iter().copied()) {
        return String::new();
    }
    let same = said.iter().zip(want).take_while(|(said, want)| said == *want).count();
    let first = block[..=same].iter().map(|line| format!("  {line}\n"));
    let missing = want[same..].iter().map(|line| format!("- {line}\n"));
    first.chain(missing).chain(said[same..].iter().map(|line| format!("+ {line}\n"))).collect()
}

/// Who asks whom; holds for what is asked below it.
struct Scene<'a> {
    world: &'a str,
    with: With,
}

/// The words of a `with` line; what it does not name is as usual.
struct With {
    config: ZoneConfig,
    is_isolated: bool,
    is_counted: bool,
    is_allowed: bool,
    profile: Profile,
    draw: u64,
    stranger: Option<IpAddr>,
    secrets: Secrets,
    now: WallTime,
}

impl With {
    fn read(text: &str) -> Self {
        let mut with = Self {
            config: testing::zone(),
            is_isolated: false,
            is_counted: false,
            is_allowed: true,
            profile: Profile::Full,
            draw: 42,
            stranger: None,
            secrets: secrets(SECRET),
            now: WallTime::from_unix_millis(1_000),
        };
        for word in text.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("isolated", "") => with.is_isolated = true,
                ("counted", "") => with.is_counted = true,
                ("not-allowed", "") => with.is_allowed = false,
                ("ttl", seconds) => with.config.ttl = name(seconds),
                ("negative-ttl", seconds) => with.config.negative_ttl = name(seconds),
                ("profile", profile) => with.profile = Profile::read(profile).expect("a profile"),
                ("draw", draw) => with.draw = name(draw),
                ("stranger", address) => with.stranger = Some(name(address)),
                ("secret", hex) => with.secrets = secrets(hex),
                ("now", seconds) => with.now = WallTime::from_unix_millis(name::<u64>(seconds) * 1_000),
                _ => panic!("what does {word:?} mean?"),
            }
        }
        with
    }

    /// Who asks: this agent, or a stranger whose address may be forged.
    fn client(&self) -> Client<'_> {
        let local = Client { profile: self.profile, now: self.now, ..Client::LOCAL };
        match self.stranger {
            None => local,
            Some(address) => Client { address, is_trusted: false, secrets: Some(&self.secrets), ..local },
        }
    }
}

fn secrets(hex: &str) -> Secrets {
    Secrets::new(ask::hex(hex).try_into().expect("a secret has 16 bytes"))
}

impl Scene<'_> {
    /// What is answered, in normal form; if the hot path says something else, that too.
    fn ask(&self, question: &str) -> String {
        let (with, ask) = (&self.with, Ask::read(question));
        let (client, snapshot) =
            (with.client(), World::read(self.world).isolated(with.is_isolated).snapshot());
        let response = if with.is_allowed {
            answer::respond(&with.config, &snapshot, &client, &ask.bytes, ask.via, with.draw)
        } else {
            answer::refuse(&client, &ask.bytes)
        };
        let show = Show { request: &ask.bytes, is_counted: with.is_counted, is_raw: ask.is_raw };
        let mut said = show.response(response.as_deref());
        let length = response.map_or(0, |response| response.len());
        if length > ask.bytes_max {
            said.push_str(&format!("too long: {length} bytes\n"));
        }
        if ask.via == Via::Tcp || !with.is_allowed {
            return said;
        }
        let (zone, mut buffer) =
            (Zone::new(Arc::new(with.config.clone()), &snapshot), [0; RESPONSE_BYTES_MAX]);
        let hot = zone.answer(&client, &ask.bytes, &mut buffer, with.draw);
        let hot = hot.map(|hot| show.response(Some(&buffer[..hot.length])));
        hot.filter(|hot| *hot != said).map_or(said.clone(), |hot| format!("{said}the hot path says\n{hot}"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::catch_unwind;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_clause_is_kept() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
        let mut files: Vec<_> = fs::read_dir(folder).expect("the folder is there").flatten().collect();
        files.retain(|file| file.file_name() != "README.md");
        files.sort_by_key(fs::DirEntry::file_name);
        assert!(files.len() > 30, "only {} files", files.len());
        let mut wrong = Vec::new();
        for file in &files {
            let (name, path) = (file.file_name().to_string_lossy().into_owned(), file.path());
            let text = fs::read_to_string(path).expect("the file can be read");
            let replayed = catch_unwind(|| check(&name, &text));
            let judged = replayed.unwrap_or_else(|_| Err("the test of it panicked, see above".to_owned()));
            wrong.extend(judged.err().map(|what| format!("{name}\n{what}")));
        }
        assert!(wrong.is_empty(), "{} of {} files:\n\n{}", wrong.len(), files.len(), wrong.join("\n"));
    }

    #[test]
    fn a_file_that_proves_nothing_or_is_wrong_is_noticed() {
        let good = "# RFC 8482, 4.2: little.\nworld a passing\n\nask sip ANY\n    NOERROR qr aa rd\n    answer sip 5 HINFO \"RFC8482\" \"\"\n";
        assert_eq!(check("rfc-8482-4.2-little.txt", good), Ok(()));
        assert!(check("any-is-little.txt", good).is_err(), "it has no RFC in its name");
        assert!(check("rfc-8483-little.txt", good).is_err(), "it cites another one");
        assert!(check("rfc-8482-little.txt", "# RFC 8482: nothing is asked.\nworld a passing\n").is_err());
        assert!(check("rfc-8482-little.txt", &good.replace("aa", "")).is_err());
        let said = check("rfc-8482-little.txt", &good.replace("HINFO", "TXT"));
        let diff = "  ask sip ANY\n      NOERROR qr aa rd\n-     answer sip 5 TXT \"RFC8482\" \"\"\n+     answer sip 5 HINFO \"RFC8482\" \"\"\n";
        assert_eq!(said, Err(diff.to_owned()));
    }
}
