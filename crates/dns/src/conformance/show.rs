//! The normal form of a response: a line for code and flags, one for OPT, and one for each record.

use core::fmt::Write as _;
use std::collections::BTreeMap;

use hickory_proto::op::{Edns, Message};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, RData, Record};

use super::ask::ID;
use crate::glance::{HEADER_BYTES, name_length};

/// How responses to one request are shown.
pub(super) struct Show<'a> {
    pub(super) request: &'a [u8],
    /// Whether the size is shown, and records of one type and time to live as one number.
    pub(super) is_counted: bool,
    /// Whether data of records is shown as it was sent (RFC 3597, 5).
    pub(super) is_raw: bool,
}

impl Show<'_> {
    /// `bytes`, or that there is no response.
    pub(super) fn response(&self, bytes: Option<&[u8]>) -> String {
        let Some(bytes) = bytes else {
            return "no response\n".to_owned();
        };
        let message = Message::from_vec(bytes).expect("a response can be read");
        assert_eq!(message.metadata.id, ID, "the response is to another request");
        let mut text = status(&message, bytes);
        text.push_str(&if self.is_counted { format!(", {} bytes\n", bytes.len()) } else { "\n".to_owned() });
        match message.queries.as_slice() {
            [] => text.push_str("no question\n"),
            [_] => assert!(is_repeated(self.request, bytes), "it is repeated letter by letter (RFC 4343)"),
            _ => panic!("nobody asks two questions (RFC 9619)"),
        }
        message.edns.iter().for_each(|edns| text.push_str(&opt(edns)));
        let mut data = raw_data(bytes).into_iter();
        let sections = [
            ("answer", &message.answers),
            ("authority", &message.authorities),
            ("additional", &message.additionals),
        ];
        for (name, records) in sections {
            if self.is_counted {
                text.push_str(&counted(name, records));
                continue;
            }
            for (record, raw) in records.iter().zip(&mut data) {
                assert_eq!(record.dns_class, DNSClass::IN);
                let owner = relative(&record.name);
                let data = if self.is_raw { raw } else { data_of(&record.data) };
                let _ = writeln!(text, "{name} {owner} {} {} {data}", record.ttl, record.record_type());
            }
        }
        text
    }
}

/// Response code and flags as dig calls them.
fn status(message: &Message, bytes: &[u8]) -> String {
    let code = message.metadata.response_code;
    // RFC 6891 and RFC 8945 share the number 16.
    let code = match u16::from(code) {
        16 => "BADVERS".to_owned(),
        _ => format!("{code:?}").to_uppercase(),
    };
    let flags = u16::from_be_bytes([bytes[2], bytes[3]]);
    let names = [
        (0x8000, " qr"),
        (0x0400, " aa"),
        (0x0200, " tc"),
        (0x0100, " rd"),
        (0x0080, " ra"),
        (0x0040, " z"),
        (0x0020, " ad"),
        (0x0010, " cd"),
    ];
    let set = names.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| name);
    let op_code = (flags >> 11) & 15;
    let op_code = if op_code == 0 { String::new() } else { format!(" opcode={op_code}") };
    format!("{code}{}{op_code}", set.collect::<String>())
}

/// Whether a response repeats the question byte by byte.
fn is_repeated(request: &[u8], response: &[u8]) -> bool {
    let end = HEADER_BYTES + name_length(&response[HEADER_BYTES..]).expect("a name without pointers") + 4;
    request.get(HEADER_BYTES..end) == response.get(HEADER_BYTES..end)
}

fn opt(edns: &Edns) -> String {
    let mut text = format!("opt {}", edns.max_payload());
    let flags = edns.flags();
    assert_eq!(
        (edns.version(), flags.z),
        (0, 0),
        "version 0 and no unknown flags (RFC 6891, 6.1.3 and 6.1.4)"
    );
    text.push_str(if flags.dnssec_ok { " do" } else { "" });
    for (code, option) in edns.options().as_ref() {
        let EdnsOption::Unknown(_, data) = option else {
            panic!("{option:?} is none of ours");
        };
        let _ = match (u16::from(*code), data.as_slice()) {
            (10, cookie) => write!(text, " cookie={}", digits(cookie)),
            (15, [high, low, cause @ ..]) => {
                let cause = core::str::from_utf8(cause).expect("it is text");
                write!(text, " ede={} ({cause})", u16::from_be_bytes([*high, *low]))
            }
            (code, data) => write!(text, " option {code}={}", digits(data)),
        };
    }
    text + "\n"
}

fn counted(section: &str, records: &[Record]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        *counts.entry(format!("{} {}", record.ttl, record.record_type())).or_default() += 1;
    }
    counts.iter().map(|(alike, count)| format!("{section} {count} times {alike}\n")).collect()
}

/// A name as files write it.
fn relative(name: &Name) -> String {
    let text = name.to_ascii();
    let before = text.len().saturating_sub("m.test.".len());
    match text.split_at_checked(before) {
        Some(("", domain)) if domain.eq_ignore_ascii_case("m.test.") => "@".to_owned(),
        Some((below, domain)) if below.ends_with('.') && domain.eq_ignore_ascii_case("m.test.") => {
            below.trim_end_matches('.').to_owned()
        }
        Some(_) | None => text,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the usual form is good for all others")]
fn data_of(data: &RData) -> String {
    let text = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
    match data {
        RData::SRV(srv) => {
            format!("{} {} {} {}", srv.priority, srv.weight, srv.port, relative(&srv.target))
        }
        RData::NAPTR(naptr) => {
            let texts = [&naptr.flags, &naptr.services, &naptr.regexp].map(|bytes| text(bytes)).join(" ");
            format!("{} {} {texts} {}", naptr.order, naptr.preference, relative(&naptr.replacement))
        }
        RData::NS(name) => relative(&name.0),
        RData::PTR(name) => relative(&name.0),
        RData::SOA(soa) => format!(
            "{} {} {} {} {} {} {}",
            relative(&soa.mname),
            relative(&soa.rname),
            soa.serial,
            soa.refresh,
            soa.retry,
            soa.expire,
            soa.minimum
        ),
        RData::HINFO(hinfo) => format!("{} {}", text(&hinfo.cpu), text(&hinfo.os)),
        RData::TXT(txt) => txt.txt_data.iter().map(|bytes| text(bytes)).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// The data of all records as it was sent, `\# <length> <digits>`.
fn raw_data(bytes: &[u8]) -> Vec<String> {
    let count = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let mut at = HEADER_BYTES;
    for _ in 0..count(4) {
        at = behind_name(bytes, at) + 4;
    }
    let records = count(6) + count(8) + count(10);
    let mut one = |_| {
        let from = behind_name(bytes, at) + 10;
        at = from + usize::from(count(from - 2));
        (count(from - 10), format!("\\# {} {}", at - from, digits(&bytes[from..at])))
    };
    let all: Vec<(u16, String)> = (0..records).map(&mut one).collect();
    all.into_iter().filter(|(kind, _)| *kind != 41).map(|(_, data)| data).collect()
}

/// Where what follows a name begins; the name may end with a pointer (RFC 1035, 4.1.4).
fn behind_name(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes[at] {
            0 => return at + 1,
            pointer if pointer >= 0xc0 => return at + 2,
            length => at += 1 + usize::from(length),
        }
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
