//! SIP OPTIONS as a question about health: writes the request, reads the reply, says what the reply means;
//! and answers such requests for responders that speak nothing else.
//!
//! It decides which reply is ours and how healthy its sender is. It does not send, wait, retransmit (RFC
//! 3261, 17.1.2) or count: its driver does. Reading is lenient where SIP stacks differ (line ends, header
//! case, compact names, order of parameters) and strict in what it bounds: header bytes, number of headers,
//! text that is kept.
//!
//! Sources: RFC 3261 · 7 (messages), 8.1.1 (requests), 8.2.6 (responses), 11 (OPTIONS), 18.3 (framing), 20.33
//! (Retry-After) · partial; RFC 3581 · 3 (`rport`) · the client's half.

use core::net::{IpAddr, SocketAddr};

/// Bytes of a start line and headers at most.
pub const HEAD_BYTES_MAX: usize = 8 << 10;
/// Bytes of a message on a stream at most, body included.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Headers of a message at most.
pub const HEADERS_MAX: usize = 64;
/// Bytes of a reason phrase that are kept.
pub const REASON_BYTES_MAX: usize = 64;

/// Failure codes that count as healthy unless the operator lists others: whoever answers them routes and is
/// alive, it merely will not answer a stranger's OPTIONS.
///
/// - 401, 407: wants credentials that a probe does not have.
/// - 403: refuses the sender, by an access list.
/// - 404, 480: the request URI names no user, or none who is registered.
/// - 405, 501: does not implement OPTIONS.
/// - 481: looked for a dialogue of the request.
/// - 483: counts the probe's hops to the end, as a proxy does that forwards it to itself.
/// - 486: has no room for this user, while the server itself is well.
pub const DEFAULT_ACCEPT: [u16; 10] = [401, 403, 404, 405, 407, 480, 481, 483, 486, 501];

const VERSION: &str = "SIP/2.0";
const METHOD: &str = "OPTIONS";
const SEQUENCE: &str = "1";

/// What carries a SIP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SipTransport {
    /// Datagrams.
    Udp,
    /// A stream, framed by Content-Length; TLS connections carry the same bytes as [`Self::Tcp`].
    Tcp,
}

/// An OPTIONS request outside a dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionsRequest {
    /// Whom to ask.
    pub target: SocketAddr,
    /// What carries the request.
    pub transport: SipTransport,
    /// The address the request is sent from: a concrete one, because replies may go to it.
    pub local: SocketAddr,
    /// Random, and never used twice: the reply is told by it.
    pub token: u64,
}

impl OptionsRequest {
    /// The request as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (protocol, uri_parameters) = match self.transport {
            SipTransport::Udp => ("UDP", ""),
            SipTransport::Tcp => ("TCP", ";transport=tcp"),
        };
        let (target, local) = (host_port(self.target), host_port(self.local));
        // RFC 3261, 19.1.1: To and From URIs carry neither port nor transport.
        let (to, from) = (host(self.target), host(self.local));
        let (branch, token) = (branch(self.token), self.token);
        format!(
            "{METHOD} sip:{target}{uri_parameters} {VERSION}\r\n\
             Via: {VERSION}/{protocol} {local};branch={branch};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:ringmesh@{from}>;tag={token:016x}\r\n\
             To: <sip:{to}>\r\n\
             Call-ID: {token:016x}@ringmesh\r\n\
             CSeq: {SEQUENCE} {METHOD}\r\n\
             Contact: <sip:ringmesh@{local}{uri_parameters}>\r\n\
             Accept: application/sdp\r\n\
             User-Agent: ringmesh\r\n\
             Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }
}

/// What a reply to our request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code, 100 to 699.
    pub code: u16,
    /// The reason phrase: at most 64 bytes, without control characters.
    pub reason: String,
    /// Whether there is a Retry-After header, readable or not.
    pub has_retry_after: bool,
    /// The seconds it gives, if it can be read.
    pub retry_after_s: Option<u32>,
}

/// Why bytes are no reply to our request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No blank line ends the headers.
    #[error("the headers do not end")]
    Incomplete,
    /// The headers, or the message on a stream, have too many bytes.
    #[error("has more than {0} bytes")]
    TooLarge(usize),
    /// There are more than [`HEADERS_MAX`] headers.
    #[error("has more than {0} headers")]
    TooManyHeaders(usize),
    /// The first line is no SIP/2.0 status line with a code of 100 to 699.
    #[error("does not begin with a SIP/2.0 status line")]
    NotAReply,
    /// A header that every reply has is missing.
    #[error("has no {0} header")]
    MissingHeader(&'static str),
    /// Content-Length is no number.
    #[error("has an unreadable Content-Length")]
    BadContentLength,
    /// It answers another request, perhaps an earlier one.
    #[error("answers another request")]
    NotOurs,
}

/// Reads a reply to the OPTIONS request that carried `token`.
///
/// # Errors
/// Says why the bytes are no such reply; [`ReplyError::NotOurs`] is the one to wait past.
pub fn parse_reply(bytes: &[u8], token: u64) -> Result<Reply, ReplyError> {
    let message = Message::parse(bytes)?.ok_or(ReplyError::Incomplete)?;
    let (code, reason) = status(&message.start_line).ok_or(ReplyError::NotAReply)?;
    if !is_answer_to(&message, token)? {
        return Err(ReplyError::NotOurs);
    }
    let retry_after = message.first(Name::RetryAfter);
    Ok(Reply {
        code,
        reason: printable(reason, REASON_BYTES_MAX),
        has_retry_after: retry_after.is_some(),
        retry_after_s: retry_after.and_then(leading_seconds),
    })
}

/// How many bytes the message at the start of a stream has, body included, once its headers are complete;
/// `None` before.
///
/// # Errors
/// The stream cannot be framed any further: its headers are too large or too many, or the length of the body
/// is unreadable or too large.
pub fn message_len(bytes: &[u8]) -> Result<Option<usize>, ReplyError> {
    let Some(message) = Message::parse(bytes)? else { return Ok(None) };
    let body_len = match message.first(Name::ContentLength) {
        Some(text) => decimal(text).ok_or(ReplyError::BadContentLength)?,
        // RFC 3261, 18.3: streams must carry the length; who leaves it out has no body.
        None => 0,
    };
    match message.head_len.checked_add(body_len) {
        Some(len) if len <= MESSAGE_BYTES_MAX => Ok(Some(len)),
        Some(_) | None => Err(ReplyError::TooLarge(MESSAGE_BYTES_MAX)),
    }
}

/// What a reply means for the health of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyClass {
    /// It does its work.
    Healthy,
    /// It is alive and asks to be left alone.
    Overloaded {
        /// For how many seconds, if it says so readably.
        retry_after_s: Option<u32>,
    },
    /// It is alive and cannot do its work.
    Failure,
    /// A final reply will follow: keep waiting.
    Provisional,
}

/// What `reply` means, when the codes in `accept` count as healthy besides 2xx ([`DEFAULT_ACCEPT`]).
pub fn classify(reply: &Reply, accept: &[u16]) -> ReplyClass {
    match reply.code {
        100..=199 => ReplyClass::Provisional,
        200..=299 => ReplyClass::Healthy,
        code if accept.contains(&code) => ReplyClass::Healthy,
        // RFC 3261, 21.5.4: without Retry-After, 503 is to be handled like 500.
        503 if reply.has_retry_after => ReplyClass::Overloaded { retry_after_s: reply.retry_after_s },
        _ => ReplyClass::Failure,
    }
}

/// The response with a final `code` and `reason` to an OPTIONS request; every other method gets 405. It
/// belongs to the address that the request came from: Via is repeated as it is, without `received`.
///
/// `None` if the bytes are no complete SIP request, if it is an ACK (which nobody answers), or if `code` is
/// not 200 to 699.
pub fn options_response(request: &[u8], code: u16, reason: &str) -> Option<Vec<u8>> {
    let message = Message::parse(request).ok().flatten()?;
    let method = request_method(&message.start_line)?;
    if method == "ACK" || !(200..=699).contains(&code) {
        return None;
    }
    // RFC 3261, 8.2.1: a method that is not supported gets 405 and the list of those that are.
    let (code, reason) = if method == METHOD { (code, reason) } else { (405, "Method Not Allowed") };
    let call_id = message.first(Name::CallId)?;
    let top_via = message.first(Name::Via)?;
    let to = message.first(Name::To)?;
    let to_tag = if has_tag(to) { String::new() } else { format!(";tag={:016x}", hash(&[call_id, top_via])) };

    let mut lines = vec![format!("{VERSION} {code} {}", printable(reason, REASON_BYTES_MAX))];
    lines.extend(message.all(Name::Via).map(|via| format!("Via: {via}")));
    lines.push(format!("From: {}", message.first(Name::From)?));
    lines.push(format!("To: {to}{to_tag}"));
    lines.push(format!("Call-ID: {call_id}"));
    lines.push(format!("CSeq: {}", message.first(Name::CSeq)?));
    lines.push(format!("Allow: {METHOD}"));
    let rest = ["Accept: application/sdp", "Server: ringmesh", "Content-Length: 0", "", ""];
    lines.extend(rest.map(str::to_owned));
    Some(lines.join("\r\n").into_bytes())
}

/// The headers this module reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Via,
    From,
    To,
    CallId,
    CSeq,
    ContentLength,
    RetryAfter,
    Other,
}

impl Name {
    /// RFC 3261, 7.3.1 and 7.3.3: names have no case, and some have a compact form.
    fn of(text: &str) -> Self {
        match text.trim().to_ascii_lowercase().as_str() {
            "via" | "v" => Self::Via,
            "from" | "f" => Self::From,
            "to" | "t" => Self::To,
            "call-id" | "i" => Self::CallId,
            "cseq" => Self::CSeq,
            "content-length" | "l" => Self::ContentLength,
            "retry-after" => Self::RetryAfter,
            _ => Self::Other,
        }
    }
}

/// One header, unfolded, its value without control characters.
struct Header {
    name: Name,
    value: String,
}

/// A message whose headers are complete.
struct Message {
    start_line: String,
    headers: Vec<Header>,
    /// Bytes up to the body, the blank line included.
    head_len: usize,
}

impl Message {
    /// `None` if the headers do not end yet.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, ReplyError> {
        let Some((start, head_len)) = head_bounds(bytes)? else { return Ok(None) };
        let head = String::from_utf8_lossy(&bytes[start..head_len]);
        let (start_line, rest) = head.split_once('\n').unwrap_or((&*head, ""));
        Ok(Some(Self { start_line: start_line.trim_end().to_owned(), headers: headers(rest)?, head_len }))
    }

    fn all(&self, name: Name) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |header| header.name == name).map(|header| header.value.as_str())
    }

    fn first(&self, name: Name) -> Option<&str> {
        self.all(name).next()
    }
}

/// Where the start line begins, and where the blank line after the headers ends.
fn head_bounds(bytes: &[u8]) -> Result<Option<(usize, usize)>, ReplyError> {
    let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    // RFC 3261, 7.5: line ends before the start line are ignored; RFC 5626, 3.5.1 uses them as keep-alive.
    let start = window.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(window.len());
    let mut line_start = start;
    for (at, byte) in window.iter().enumerate().skip(start) {
        if *byte == b'\n' {
            let line = &window[line_start..at];
            if line.is_empty() || line == b"\r" {
                return Ok(Some((start, at + 1)));
            }
            line_start = at + 1;
        }
    }
    if bytes.len() < HEAD_BYTES_MAX { Ok(None) } else { Err(ReplyError::TooLarge(HEAD_BYTES_MAX)) }
}

/// The headers in `text`; lines that are none are skipped.
fn headers(text: &str) -> Result<Vec<Header>, ReplyError> {
    let mut headers: Vec<Header> = Vec::new();
    for line in text.lines() {
        let clean = line.replace(char::is_control, " ");
        if line.starts_with([' ', '\t']) {
            // RFC 3261, 7.3.1: a line that begins with white space continues the one before.
            if let Some(last) = headers.last_mut() {
                last.value.push(' ');
                last.value.push_str(clean.trim());
            }
        } else if let Some((name, value)) = clean.split_once(':') {
            if headers.len() == HEADERS_MAX {
                return Err(ReplyError::TooManyHeaders(HEADERS_MAX));
            }
            headers.push(Header { name: Name::of(name), value: value.trim().to_owned() });
        }
    }
    Ok(headers)
}

/// Code and reason phrase of a status line (RFC 3261, 7.2).
fn status(line: &str) -> Option<(u16, &str)> {
    let (version, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let code: u16 = decimal(code).filter(|_| code.len() == 3)?.try_into().ok()?;
    let is_status = version.eq_ignore_ascii_case(VERSION) && (100..=699).contains(&code);
    is_status.then_some((code, reason))
}

/// The method of a request line (RFC 3261, 7.1).
fn request_method(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let (method, _uri, version) = (words.next()?, words.next()?, words.next()?);
    let is_request = words.next().is_none()
        && version.eq_ignore_ascii_case(VERSION)
        && method.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_request.then_some(method)
}

/// RFC 3261, 17.1.3: a response matches by the branch of its top Via and the method of its CSeq.
fn is_answer_to(message: &Message, token: u64) -> Result<bool, ReplyError> {
    let via = message.first(Name::Via).ok_or(ReplyError::MissingHeader("Via"))?;
    let cseq = message.first(Name::CSeq).ok_or(ReplyError::MissingHeader("CSeq"))?;
    let top_via = split_unquoted(via, ',').next().unwrap_or_default();
    let is_our_branch =
        parameter(top_via, "branch").is_some_and(|text| text.eq_ignore_ascii_case(&branch(token)));
    Ok(is_our_branch && cseq.split_whitespace().eq([SEQUENCE, METHOD]))
}

/// The seconds of a Retry-After (RFC 3261, 20.33): digits, then perhaps a comment or parameters.
fn leading_seconds(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let is_delimited = rest.is_empty() || rest.starts_with([' ', ';', '(']);
    // Only more seconds than fit can fail to parse here, and they mean: for long.
    (is_delimited && !digits.is_empty()).then(|| digits.parse().unwrap_or(u32::MAX))
}

/// A number of ASCII digits alone.
fn decimal(text: &str) -> Option<usize> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Whether a To value has a tag: a parameter of the header, not of the URI inside `<>`.
fn has_tag(to: &str) -> bool {
    let parameters = to.rsplit_once('>').map_or(to, |(_, after)| after);
    parameter(parameters, "tag").is_some()
}

/// The value of one `;name=value` parameter.
fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    split_unquoted(text, ';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The parts of `text` between separators that stand outside quotes.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c: char| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
}

/// Text from a peer, fit to be shown: at most `bytes_max` bytes, control characters replaced.
pub(crate) fn printable(text: &str, bytes_max: usize) -> String {
    let mut kept = String::new();
    for c in text.trim().chars().map(|c| if c.is_control() { '?' } else { c }) {
        if kept.len() + c.len_utf8() > bytes_max {
            break;
        }
        kept.push(c);
    }
    kept
}

/// RFC 3261, 8.2.7: whoever keeps no state must give a repeated request the same To tag again, so it is
/// hashed (FNV-1a).
fn hash(parts: &[&str]) -> u64 {
    parts
        .iter()
        .flat_map(|part| part.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// RFC 3261, 8.1.1.7: the cookie, then what makes it unique.
fn branch(token: u64) -> String {
    format!("z9hG4bK{token:016x}")
}

fn host(addr: SocketAddr) -> String {
    match addr.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Not `SocketAddr`'s own text, which may name an interface (`%2`) that has no place in SIP.
fn host_port(addr: SocketAddr) -> String {
    format!("{}:{}", host(addr), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: u64 = 0xdead_beef;

    const KAMAILIO_200: &str = "SIP/2.0 200 OK\n\
        Via: SIP/2.0/UDP 192.0.2.1:40000;branch=z9hG4bK00000000deadbeef;rport=40000;received=192.0.2.1\n\
        From: <sip:ringmesh@192.0.2.1>;tag=00000000deadbeef\n\
        To: <sip:192.0.2.10>;tag=b27e1a1d33761e85846fc98f5f3a7e58.6d2f\n\
        Call-ID: 00000000deadbeef@ringmesh\n\
        CSeq: 1 OPTIONS\n\
        Accept: */*\n\
        Accept-Encoding: \n\
        Accept-Language: en\n\
        Supported: \n\
        Server: kamailio (5.7.4 (x86_64/linux))\n\
        Content-Length: 0\n\n";

    const KAMAILIO_503: &str = "SIP/2.0 503 Server Overloaded\n\
        Via: SIP/2.0/UDP 192.0.2.1:40000;branch=z9hG4bK00000000deadbeef;rport=40000\n\
        From: <sip:ringmesh@192.0.2.1>;tag=00000000deadbeef\n\
        To: <sip:192.0.2.10>;tag=aa.6d2f\n\
        Call-ID: 00000000deadbeef@ringmesh\n\
        CSeq: 1 OPTIONS\n\
        Retry-After: 30 (pipe limit);duration=60\n\
        Content-Length: 0\n\n";

    const ASTERISK_401: &str = "SIP/2.0 401 Unauthorized\n\
        Via: SIP/2.0/UDP 192.0.2.1:40000;rport=40000;received=192.0.2.1;branch=z9hG4bK00000000deadbeef\n\
        Call-ID: 00000000deadbeef@ringmesh\n\
        From: <sip:ringmesh@192.0.2.1>;tag=00000000deadbeef\n\
        To: <sip:192.0.2.10>;tag=z9hG4bK00000000deadbeef\n\
        CSeq: 1 OPTIONS\n\
        WWW-Authenticate: Digest realm=\"asterisk\",nonce=\"17/0a\",algorithm=MD5,qop=\"auth\"\n\
        Server: Asterisk PBX 20.5.0\n\
        Content-Length:  0\n\n";

    const COMPACT: &str = "sip/2.0 200\n\
        v: SIP/2.0/UDP 192.0.2.1 ; x=\"a,b;c\" ; Branch = z9hg4bk00000000DEADBEEF , SIP/2.0/UDP 192.0.2.7\n\
        i: 1\n\
        cseq:\n\
        \t1\n \
        OPTIONS\n\
        L: 3\n\nabc";

    fn crlf(text: &str) -> Vec<u8> {
        text.replace('\n', "\r\n").into_bytes()
    }

    fn request(transport: SipTransport, target: &str, local: &str) -> OptionsRequest {
        let addr = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        OptionsRequest { target: addr(target), transport, local: addr(local), token: TOKEN }
    }

    fn reply(code: u16) -> Reply {
        Reply { code, reason: String::new(), has_retry_after: false, retry_after_s: None }
    }

    #[test]
    fn a_request_has_every_mandatory_header() {
        let bytes = request(SipTransport::Udp, "192.0.2.10:5060", "192.0.2.1:40000").to_bytes();
        let want = "OPTIONS sip:192.0.2.10:5060 SIP/2.0\n\
            Via: SIP/2.0/UDP 192.0.2.1:40000;branch=z9hG4bK00000000deadbeef;rport\n\
            Max-Forwards: 70\n\
            From: <sip:ringmesh@192.0.2.1>;tag=00000000deadbeef\n\
            To: <sip:192.0.2.10>\n\
            Call-ID: 00000000deadbeef@ringmesh\n\
            CSeq: 1 OPTIONS\n\
            Contact: <sip:ringmesh@192.0.2.1:40000>\n\
            Accept: application/sdp\n\
            User-Agent: ringmesh\n\
            Content-Length: 0\n\n";
        assert_eq!(String::from_utf8(bytes).expect("is text"), want.replace('\n', "\r\n"));
    }

    #[test]
    fn a_request_over_tcp_names_its_transport_and_brackets_ipv6() {
        let bytes = request(SipTransport::Tcp, "[2001:db8::a]:5060", "[fe80::1%2]:40000").to_bytes();
        let text = String::from_utf8(bytes).expect("is text");
        for part in [
            "OPTIONS sip:[2001:db8::a]:5060;transport=tcp SIP/2.0\r\n",
            "Via: SIP/2.0/TCP [fe80::1]:40000;branch=",
            "From: <sip:ringmesh@[fe80::1]>;tag=",
            "To: <sip:[2001:db8::a]>\r\n",
            "Contact: <sip:ringmesh@[fe80::1]:40000;transport=tcp>\r\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn replies_of_real_servers_are_read() {
        let check = |text: &str, code: u16, reason: &str, retry_after_s: Option<u32>| {
            let has_retry_after = retry_after_s.is_some();
            let want = Reply { code, reason: reason.to_owned(), has_retry_after, retry_after_s };
            assert_eq!(parse_reply(&crlf(text), TOKEN), Ok(want.clone()), "{text}");
            assert_eq!(parse_reply(text.as_bytes(), TOKEN), Ok(want), "{text}");
        };
        check(KAMAILIO_200, 200, "OK", None);
        check(KAMAILIO_503, 503, "Server Overloaded", Some(30));
        check(ASTERISK_401, 401, "Unauthorized", None);
        check(COMPACT, 200, "", None);
        check(&format!("\n\n{KAMAILIO_200}"), 200, "OK", None);
    }

    #[test]
    fn a_reply_to_somebody_else_is_not_ours() {
        let check = |from: &str, to: &str, want: ReplyError| {
            assert_eq!(parse_reply(&crlf(&KAMAILIO_200.replace(from, to)), TOKEN), Err(want), "{to}");
        };
        assert_eq!(parse_reply(KAMAILIO_200.as_bytes(), TOKEN + 1), Err(ReplyError::NotOurs));
        check("CSeq: 1 OPTIONS", "CSeq: 2 OPTIONS", ReplyError::NotOurs);
        check("CSeq: 1 OPTIONS", "CSeq: 1 INVITE", ReplyError::NotOurs);
        check("Via: ", "Via: SIP/2.0/UDP 192.0.2.99;branch=z9hG4bK1, ", ReplyError::NotOurs);
        check("Via: ", "X-Via: ", ReplyError::MissingHeader("Via"));
        check("CSeq: ", "X-CSeq: ", ReplyError::MissingHeader("CSeq"));
    }

    #[test]
    fn what_is_no_status_line_is_no_reply() {
        let codes = ["SIP/2.0 099 X", "SIP/2.0 700 X", "SIP/2.0 20 X", "SIP/2.0 +20 X"];
        for line in codes.into_iter().chain(["SIP/3.0 200 OK", "SIP/2.0", "x"]) {
            let text = KAMAILIO_200.replace("SIP/2.0 200 OK", line);
            assert_eq!(parse_reply(&crlf(&text), TOKEN), Err(ReplyError::NotAReply), "{line}");
        }
        let ours = request(SipTransport::Udp, "192.0.2.10:5060", "192.0.2.1:40000").to_bytes();
        assert_eq!(parse_reply(&ours, TOKEN), Err(ReplyError::NotAReply));
    }

    #[test]
    fn header_bytes_and_count_are_bounded() {
        let cut = KAMAILIO_200.trim_end();
        assert_eq!(parse_reply(cut.as_bytes(), TOKEN), Err(ReplyError::Incomplete));
        let long = format!("{cut}\nX: {}\n\n", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(parse_reply(long.as_bytes(), TOKEN), Err(ReplyError::TooLarge(HEAD_BYTES_MAX)));
        assert_eq!(message_len(long.as_bytes()), Err(ReplyError::TooLarge(HEAD_BYTES_MAX)));
        let many = format!("{cut}\n{}\n", "X: x\n".repeat(HEADERS_MAX));
        assert_eq!(parse_reply(many.as_bytes(), TOKEN), Err(ReplyError::TooManyHeaders(HEADERS_MAX)));
    }

    #[test]
    fn a_reason_is_shortened_and_made_printable() {
        let reason_of = |reason: &str| {
            let text = KAMAILIO_200.replace("200 OK", &format!("200 {reason}"));
            parse_reply(text.as_bytes(), TOKEN).expect("is a reply").reason
        };
        assert_eq!(reason_of("a\u{1b}[31m\0b"), "a?[31m?b");
        assert_eq!(reason_of(&"é".repeat(40)), "é".repeat(32));
    }

    #[test]
    fn retry_after_is_digits_then_comment_or_parameters() {
        let check = |text: &str, want: Option<u32>| assert_eq!(leading_seconds(text), want, "{text}");
        check("18000;duration=3600", Some(18_000));
        check("120 (I'm in a meeting)", Some(120));
        check("0", Some(0));
        check("99999999999", Some(u32::MAX));
        check("soon", None);
        check("5x", None);
        check("-5", None);
        check("", None);
    }

    #[test]
    fn the_class_of_a_reply_decides_health() {
        let check = |code: u16, accept: &[u16], want: ReplyClass| {
            assert_eq!(classify(&reply(code), accept), want, "{code} {accept:?}");
        };
        check(100, &DEFAULT_ACCEPT, ReplyClass::Provisional);
        check(199, &[199], ReplyClass::Provisional);
        check(200, &[], ReplyClass::Healthy);
        check(299, &[], ReplyClass::Healthy);
        check(302, &DEFAULT_ACCEPT, ReplyClass::Failure);
        check(400, &DEFAULT_ACCEPT, ReplyClass::Failure);
        check(404, &[], ReplyClass::Failure);
        check(500, &DEFAULT_ACCEPT, ReplyClass::Failure);
        check(503, &DEFAULT_ACCEPT, ReplyClass::Failure);
        check(503, &[503], ReplyClass::Healthy);
        check(603, &DEFAULT_ACCEPT, ReplyClass::Failure);
        for code in DEFAULT_ACCEPT {
            check(code, &DEFAULT_ACCEPT, ReplyClass::Healthy);
        }
    }

    #[test]
    fn only_503_with_retry_after_is_overloaded() {
        for retry_after_s in [Some(30), None] {
            let busy = |code: u16| Reply { has_retry_after: true, retry_after_s, ..reply(code) };
            assert_eq!(classify(&busy(503), &DEFAULT_ACCEPT), ReplyClass::Overloaded { retry_after_s });
            assert_eq!(classify(&busy(500), &DEFAULT_ACCEPT), ReplyClass::Failure);
        }
    }

    #[test]
    fn a_stream_is_framed_by_content_length() {
        let check = |text: &str, want: Result<Option<usize>, ReplyError>| {
            assert_eq!(message_len(text.as_bytes()), want, "{text}");
        };
        check("", Ok(None));
        check("\r\n\r\n", Ok(None));
        check("SIP/2.0 200 OK\r\nContent-Length: 5\r\n", Ok(None));
        check("SIP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nab", Ok(Some(42)));
        check("SIP/2.0 200 OK\nl:5\n\nabcdefgh", Ok(Some(25)));
        check("\r\n\r\nSIP/2.0 200 OK\r\n\r\n", Ok(Some(22)));
        check("SIP/2.0 200 OK\nl: -1\n\n", Err(ReplyError::BadContentLength));
        check("SIP/2.0 200 OK\nl: +1\n\n", Err(ReplyError::BadContentLength));
        check("SIP/2.0 200 OK\nl:\n\n", Err(ReplyError::BadContentLength));
        check("SIP/2.0 200 OK\nl: 65536\n\n", Err(ReplyError::TooLarge(MESSAGE_BYTES_MAX)));
    }

    #[test]
    fn our_own_response_answers_our_own_request() {
        let asked = request(SipTransport::Tcp, "[2001:db8::a]:5060", "[2001:db8::1]:40000").to_bytes();
        let answer = options_response(&asked, 200, "OK").expect("is a request");
        assert_eq!(message_len(&answer), Ok(Some(answer.len())));
        let read = parse_reply(&answer, TOKEN).expect("is ours");
        assert_eq!(read, Reply { reason: "OK".to_owned(), ..reply(200) });
    }

    #[test]
    fn a_response_repeats_all_via_and_tags_to_once() {
        let asked = "OPTIONS sip:a@b SIP/2.0\n\
            Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2\n\
            v: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\n\
            From: <sip:x@y>;tag=1\n\
            To: <sip:a@b;tag=no>\n\
            Call-ID: 7\n\
            CSeq: 9 OPTIONS\n\n";
        let answer = |text: &str| {
            let bytes = options_response(&crlf(text), 200, "OK").expect("is a request");
            String::from_utf8(bytes).expect("is text")
        };
        let text = answer(asked);
        assert!(text.starts_with(
            "SIP/2.0 200 OK\r\n\
             Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2\r\n\
             Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
             From: <sip:x@y>;tag=1\r\n\
             To: <sip:a@b;tag=no>;tag="
        ));
        assert!(text.contains("\r\nCall-ID: 7\r\nCSeq: 9 OPTIONS\r\n"));
        assert_eq!(text, answer(asked), "a repeated request gets the same tag");
        assert!(answer(&asked.replace("tag=no>", "x>;tag=yes")).contains("\r\nTo: <sip:a@b;x>;tag=yes\r\n"));
    }

    #[test]
    fn other_methods_get_405_and_ack_gets_nothing() {
        let asked = request(SipTransport::Udp, "192.0.2.10:5060", "192.0.2.1:40000").to_bytes();
        let asked = String::from_utf8(asked).expect("is text");
        let invite = asked.replace("OPTIONS", "INVITE");
        let answer = options_response(invite.as_bytes(), 200, "OK").expect("is a request");
        assert!(answer.starts_with(b"SIP/2.0 405 Method Not Allowed\r\n"));
        assert_eq!(options_response(asked.replace("OPTIONS", "ACK").as_bytes(), 200, "OK"), None);
    }

    #[test]
    fn what_is_no_request_gets_no_response() {
        let asked = request(SipTransport::Udp, "192.0.2.10:5060", "192.0.2.1:40000").to_bytes();
        let text = String::from_utf8(asked.clone()).expect("is text");
        for header in ["Via", "From", "To", "Call-ID", "CSeq"] {
            let without = text.replace(&format!("\r\n{header}: "), "\r\nX: ");
            assert_eq!(options_response(without.as_bytes(), 200, "OK"), None, "{header}");
        }
        assert_eq!(options_response(KAMAILIO_200.as_bytes(), 200, "OK"), None);
        assert_eq!(options_response(b"GET / HTTP/1.1\r\n\r\n", 200, "OK"), None);
        assert_eq!(options_response(&asked, 100, "Trying"), None);
        assert_eq!(options_response(&asked, 700, "X"), None);
    }

    const SAMPLES: &[&str] = &[
        KAMAILIO_200,
        KAMAILIO_503,
        ASTERISK_401,
        COMPACT,
        "OPTIONS sip:a@b SIP/2.0\nVia: SIP/2.0/UDP c;branch=z9hG4bK1\nf: <sip:x@y>;tag=1\nt: <sip:a@b>\n\
         i: 7\nCSeq: 1 OPTIONS\nl: 0\n\n",
    ];

    const PIECES: &[&str] = &[
        "SIP/2.0 200 OK\r\n",
        "SIP/2.0 503 Busy\n",
        "OPTIONS sip:a SIP/2.0\r\n",
        "Via: ",
        "v:",
        "SIP/2.0/UDP a",
        ";branch=z9hG4bK00000000deadbeef",
        ";",
        ",",
        "\"",
        "=",
        "From: a\r\n",
        "To: a\r\n",
        "Call-ID: 7\r\n",
        "CSeq: 1 OPTIONS\r\n",
        "Retry-After: 5\r\n",
        "l: 9",
        "Content-Length: 99999999999999999999",
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        "é",
        "\0",
        "\r\n\r\n",
    ];

    /// Reads `bytes` in every way there is, and holds the results to what they promise.
    fn feed(bytes: &[u8]) {
        if let Ok(reply) = parse_reply(bytes, TOKEN) {
            assert!((100..=699).contains(&reply.code) && reply.reason.len() <= REASON_BYTES_MAX);
        }
        if let Ok(Some(len)) = message_len(bytes) {
            assert!(len <= MESSAGE_BYTES_MAX);
        }
        if let Some(response) = options_response(bytes, 200, "OK") {
            assert_eq!(message_len(&response), Ok(Some(response.len())));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            feed(&bytes);
        }

        #[test]
        fn mutated_messages_never_panic(
            sample in proptest::sample::select(SAMPLES),
            edits in proptest::collection::vec((0_usize..700, any::<u8>()), 0..6),
            cut in 0_usize..1_400,
        ) {
            let mut bytes = crlf(sample);
            for (at, byte) in edits {
                let len = bytes.len();
                bytes[at % len] = byte;
            }
            bytes.truncate(cut);
            feed(&bytes);
        }

        #[test]
        fn shuffled_pieces_never_panic(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..24),
        ) {
            feed(pieces.concat().as_bytes());
        }
    }
}
