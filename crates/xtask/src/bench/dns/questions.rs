//! What is asked: mixes of questions, as lines of a file (`NAME TYPE`) and as requests. Pure.

use anyhow::{Context as _, Result, bail};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::zone;

/// So many questions are asked, again and again.
const QUESTIONS: usize = 10_000;
/// Names that are not there differ in a number below this.
const NO_SUCH: usize = 1_000;

/// A mixture of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// SRV records that are there.
    Srv,
    /// SRV 70 %, A 15 %, AAAA 5 %, and 10 % of names that are not there.
    Mixed,
}

impl Mix {
    /// Nothing if no mixture is called so.
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "srv" => Some(Self::Srv),
            "mix" => Some(Self::Mixed),
            _ => None,
        }
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Srv => "srv",
            Self::Mixed => "mix",
        }
    }

    /// Draws questions, always the same. A and AAAA are asked of `hosts`, which must not be empty.
    pub(crate) fn draw(self, hosts: &[String]) -> String {
        let services: Vec<String> = zone::services().collect();
        let mut rng = ChaCha8Rng::seed_from_u64(42);
        let mut below = |limit: usize| usize::try_from(rng.next_u32()).unwrap_or_default() % limit;
        let mut lines = String::new();
        for _ in 0..QUESTIONS {
            let percent = if self == Self::Srv { 0 } else { below(100) };
            let (name, qtype) = match percent {
                0..70 => (zone::srv_name(&services[below(services.len())]), "SRV"),
                70..85 => (hosts[below(hosts.len())].clone(), "A"),
                85..90 => (hosts[below(hosts.len())].clone(), "AAAA"),
                _ => (zone::srv_name(&format!("nosuch{:03}", below(NO_SUCH))), "SRV"),
            };
            lines += &format!("{name} {qtype}\n");
        }
        lines
    }
}

/// The requests that the lines of a file ask for; their ids are 0.
///
/// # Errors
/// If a line is no question, or there is none.
pub(crate) fn requests(file: &str) -> Result<Vec<Vec<u8>>> {
    let request = |line: &str| {
        let (name, qtype) = line.split_once(' ').context("write a name and a type")?;
        request(name, qtype.parse()?)
    };
    let requests: Result<Vec<Vec<u8>>> =
        file.lines().map(|line| request(line).with_context(|| format!("question {line:?}"))).collect();
    match requests {
        Ok(requests) if requests.is_empty() => bail!("there are no questions"),
        other => other,
    }
}

/// A request as a proxy sends it: with RD, without EDNS. Its id is 0.
///
/// # Errors
/// If the name is none.
pub(crate) fn request(name: &str, qtype: RecordType) -> Result<Vec<u8>> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    let mut message = Message::query();
    message.metadata.id = 0;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, qtype));
    Ok(message.to_vec()?)
}

/// The targets that a response names, without the last dot.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn targets(response: &[u8]) -> Result<Vec<String>> {
    let message = Message::from_vec(response).context("a response cannot be read")?;
    let target = |data: &RData| {
        let RData::SRV(srv) = data else { return None };
        Some(srv.target.to_ascii().trim_end_matches('.').to_owned())
    };
    Ok(message.answers.iter().filter_map(|record| target(&record.data)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::SRV;

    #[test]
    fn a_request_is_a_header_and_a_question() {
        let want = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x02n1\x04mesh\0\0\x21\0\x01";
        assert_eq!(request("n1.mesh", RecordType::SRV).expect("is encoded"), want);
        assert_eq!(requests("n1.mesh SRV\nn1.mesh SRV\n").expect("are read"), [want, want]);
    }

    #[test]
    fn what_is_no_question_is_named() {
        for wrong in ["n1.mesh", "n1.mesh SVR", "n1..mesh A"] {
            let error = requests(wrong).expect_err("is refused");
            assert!(error.to_string().contains(wrong), "{error}");
        }
        assert!(requests("").is_err());
    }

    #[test]
    fn a_mix_has_its_shares() {
        let lines = Mix::Mixed.draw(&["h.mesh".to_owned()]);
        let share =
            |is: &dyn Fn(&str) -> bool| lines.lines().filter(|line| is(line)).count() * 100 / QUESTIONS;
        let is_absent = |line: &str| line.contains("nosuch");
        assert!((69..=71).contains(&share(&|line| line.ends_with(" SRV") && !is_absent(line))));
        assert!((14..=16).contains(&share(&|line| line == "h.mesh A")));
        assert!((4..=6).contains(&share(&|line| line == "h.mesh AAAA")));
        assert!((9..=11).contains(&share(&is_absent)));
        assert_eq!(lines, Mix::Mixed.draw(&["h.mesh".to_owned()]), "it is drawn anew every time");
        let srv = Mix::Srv.draw(&[]);
        assert!(srv.lines().all(|line| line.ends_with(" SRV") && !is_absent(line)));
        assert_eq!(requests(&srv).expect("are read").len(), QUESTIONS);
    }

    #[test]
    fn targets_are_read_from_a_response() {
        let name = Name::from_ascii("_sip._udp.svc001.voip.mesh.test.").expect("is a name");
        let target = Name::from_ascii("n1.voip.mesh.test.").expect("is a name");
        let mut message = Message::query();
        message.add_answer(Record::from_rdata(name, 60, RData::SRV(SRV::new(10, 50, 5_060, target))));
        let response = message.to_vec().expect("is encoded");
        assert_eq!(targets(&response).expect("is read"), ["n1.voip.mesh.test"]);
        assert!(targets(b"\0").is_err());
    }
}
