//! Requests, from what dig would be told, or byte by byte.

use core::net::Ipv4Addr;

use hickory_proto::rr::{Name, RecordType};

use crate::answer::Via;
use crate::testing::name;

/// All requests have this number.
pub(crate) const ID: u16 = 0xabcd;
const OPT: u16 = 41;
const DNSSEC_OK: u16 = 0x8000;
const OP_CODES: [&str; 6] = ["QUERY", "IQUERY", "STATUS", "RESERVED3", "NOTIFY", "UPDATE"];

/// A request.
pub(crate) struct Ask {
    pub(crate) bytes: Vec<u8>,
    pub(crate) via: Via,
    /// How long the response may be.
    pub(crate) bytes_max: usize,
    /// Whether data of records is shown as it was sent (`+unknownformat`).
    pub(crate) is_raw: bool,
}

impl Ask {
    /// Reads `<name> <type> [<class>] [+option]...` or `bytes <hex or name>...`.
    pub(crate) fn read(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let first = words.next().expect("something is asked");
        if first == "bytes" {
            return Self {
                bytes: words.flat_map(raw).collect(),
                via: Via::Udp,
                bytes_max: 512,
                is_raw: false,
            };
        }
        let (options, mut fixed): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with('+'));
        fixed.resize(2, "IN");
        let options = Options::read(&options);
        let additionals = u16::from(options.edns.is_some());
        let mut bytes = Vec::new();
        for number in [ID, options.flags, 1, 0, 0, additionals] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(wire(first));
        bytes.extend(kind(fixed[0]).to_be_bytes());
        bytes.extend(class(fixed[1]).to_be_bytes());
        bytes.extend(options.edns.iter().flat_map(Edns::bytes));
        Self { bytes, via: options.via, bytes_max: options.bytes_max(), is_raw: options.is_raw }
    }
}

/// What stands behind a question.
struct Options {
    /// The second number of the header.
    flags: u16,
    via: Via,
    is_raw: bool,
    edns: Option<Edns>,
}

impl Options {
    fn read(words: &[&str]) -> Self {
        let mut options = Self { flags: 0x0100, via: Via::Udp, is_raw: false, edns: None };
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "+tcp" => options.via = Via::Tcp,
                "+unknownformat" => options.is_raw = true,
                "+norecurse" => options.flags &= !0x0100,
                "+aaflag" => options.flags |= 0x0400,
                "+tcflag" => options.flags |= 0x0200,
                "+zflag" => options.flags |= 0x0040,
                "+adflag" => options.flags |= 0x0020,
                "+cdflag" => options.flags |= 0x0010,
                "+opcode" => {
                    let known = OP_CODES.iter().position(|known| *known == value);
                    let number = known.map_or_else(|| name(value), |at| u16::try_from(at).expect("few"));
                    options.flags |= number << 11;
                }
                _ => options.edns.get_or_insert_default().add(key, value),
            }
        }
        options
    }

    /// RFC 6891, 6.2.3, and RFC 9715, 3.1.
    fn bytes_max(&self) -> usize {
        match (self.via, &self.edns) {
            (Via::Tcp, _) => 65_535,
            (Via::Udp, None) => 512,
            (Via::Udp, Some(edns)) => edns.bufsize.clamp(512, 1_232).into(),
        }
    }
}

/// An OPT record.
struct Edns {
    bufsize: u16,
    version: u8,
    flags: u16,
    options: Vec<(u16, Vec<u8>)>,
}

impl Default for Edns {
    fn default() -> Self {
        Self { bufsize: 1_232, version: 0, flags: 0, options: Vec::new() }
    }
}

impl Edns {
    fn add(&mut self, key: &str, value: &str) {
        match key {
            "+edns" if value.is_empty() => {}
            "+edns" => self.version = name(value),
            "+bufsize" => self.bufsize = name(value),
            "+dnssec" => self.flags |= DNSSEC_OK,
            "+ednsflags" => {
                self.flags |= u16::from_str_radix(value.trim_start_matches("0x"), 16).expect("hex");
            }
            "+nsid" => self.options.push((3, Vec::new())),
            "+cookie" => self.options.push((10, hex(value))),
            "+keepalive" => self.options.push((11, Vec::new())),
            "+subnet" => self.options.push((8, subnet(value))),
            "+ednsopt" => {
                let (code, data) = value.split_once(':').unwrap_or((value, ""));
                self.options.push((name(code), hex(data)));
            }
            _ => panic!("what does {key} mean?"),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let length = |data: &[u8]| u16::try_from(data.len()).expect("it is short").to_be_bytes();
        let option = |(code, data): &(u16, Vec<u8>)| [&code.to_be_bytes(), &length(data), &data[..]].concat();
        let options: Vec<u8> = self.options.iter().flat_map(option).collect();
        let mut bytes = vec![0];
        bytes.extend([OPT, self.bufsize, self.version.into(), self.flags].map(u16::to_be_bytes).concat());
        bytes.extend(length(&options));
        bytes.extend(options);
        bytes
    }
}

/// RFC 7871, 6: a network of whole bytes.
fn subnet(text: &str) -> Vec<u8> {
    let (address, bits) = text.split_once('/').expect("<address>/<bits>");
    let bits: u8 = name(bits);
    let octets = name::<Ipv4Addr>(address).octets();
    [&[0, 1, bits, 0], &octets[..usize::from(bits.div_ceil(8))]].concat()
}

/// The bytes of a name (a word with a dot at its end) or of hexadecimal digits.
fn raw(word: &str) -> Vec<u8> {
    if word.ends_with('.') { wire(word) } else { hex(word) }
}

/// The bytes that hexadecimal digits stand for.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// A name as it is sent: below `m.test` unless it ends with a dot, `@` for `m.test` itself.
fn wire(text: &str) -> Vec<u8> {
    let absolute = match text {
        "@" => "m.test.".to_owned(),
        absolute if absolute.ends_with('.') => absolute.to_owned(),
        below => format!("{below}.m.test."),
    };
    let name = Name::from_ascii(absolute).expect("a domain name");
    let label = |label: &[u8]| [&[u8::try_from(label.len()).expect("it is short")], label].concat();
    name.iter().flat_map(label).chain([0]).collect()
}

fn kind(text: &str) -> u16 {
    match (text, text.strip_prefix("TYPE")) {
        ("IXFR", _) => 251,
        (_, Some(number)) => name(number),
        (known, None) => known.parse::<RecordType>().expect("a known type").into(),
    }
}

fn class(text: &str) -> u16 {
    let known = [("IN", 1), ("CH", 3), ("HS", 4), ("NONE", 254), ("ANY", 255)];
    let known = known.iter().find(|(known, _)| *known == text).map(|(_, number)| *number);
    known.unwrap_or_else(|| name(text.strip_prefix("CLASS").expect("a known class or CLASS<number>")))
}
