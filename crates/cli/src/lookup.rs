//! `ringmesh lookup`: a real DNS question to the agent, by UDP and, if the answer is cut, by TCP.

use core::net::SocketAddr;
use core::time::Duration;

use clap::Args;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ringmesh_agent::client;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::table::{Table, print_line};
use crate::{Ask, Failure, Outcome};

/// What to look up.
#[derive(Debug, Args)]
pub(crate) struct LookupArgs {
    /// A domain name; names without a dot at the end are tried below the agent's domain too.
    name: String,
    /// The record type; default the one that explain takes: SRV for services, TXT for _status, PTR for reverse names,
    /// SOA for the domain itself, else A or AAAA.
    #[arg(value_name = "TYPE")]
    qtype: Option<String>,
    /// The DNS address to ask; default the agent's own.
    #[arg(long, value_name = "ADDR")]
    dns: Option<SocketAddr>,
    #[command(flatten)]
    ask: Ask,
}

const TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: LookupArgs) -> Outcome {
    let (dns, domain) = whereto(&args).await?;
    let name = full_name(&args.name, &domain)?;
    let qtype = match &args.qtype {
        Some(text) => text
            .to_ascii_uppercase()
            .parse::<RecordType>()
            .map_err(|_| Failure::usage(format!("{text:?} is no record type")))?,
        None => usual_type(&args, &name).await,
    };
    let answer = ask(dns, &name, qtype).await.map_err(|error| {
        Failure::unreachable(format!("the DNS of the agent at {dns} does not answer: {error}"))
    })?;
    show(&args, &name, qtype, &answer)
}

/// The DNS address to ask, and the domain it answers for.
async fn whereto(args: &LookupArgs) -> Result<(SocketAddr, String), Failure> {
    let about = client::ask(args.ask.http, "GET", "/api/v1/agent", None).await;
    let domain = match &about {
        Ok(about) => about.body["domain"].as_str().unwrap_or_default().to_owned(),
        Err(_) => String::new(),
    };
    if let Some(dns) = args.dns {
        return Ok((dns, domain));
    }
    let about = about.map_err(|error| {
        Failure::unreachable(format!("the agent at {} does not answer: {error}", args.ask.http))
    })?;
    let dns = about.body["dns"][0].as_str().and_then(|dns| dns.parse().ok());
    dns.map(|dns| (dns, domain)).ok_or_else(|| Failure::refused("the agent serves no DNS: set dns.listen"))
}

fn full_name(text: &str, domain: &str) -> Result<Name, Failure> {
    let is_full = text.ends_with('.')
        || domain.is_empty()
        || text.trim_end_matches('.').ends_with(domain)
        || text.ends_with(".arpa");
    let text = if is_full { text.to_owned() } else { format!("{text}.{domain}") };
    let mut name = Name::from_ascii(&text).map_err(|_| {
        Failure::usage(format!(
            "{text:?} is no domain name: labels of 1 to 63 letters, digits, '-' or '_' are allowed, with a dot between two"
        ))
    })?;
    name.set_fqdn(true);
    Ok(name)
}

/// The type that the agent would explain. Without the agent, what it takes for names that it knows nothing about.
async fn usual_type(args: &LookupArgs, name: &Name) -> RecordType {
    let path = format!("/api/v1/explain?name={}", client::encode(&name.to_ascii()));
    let explained = client::ask(args.ask.http, "GET", &path, None).await.ok();
    let qtype = explained.and_then(|answer| answer.body["qtype"].as_str()?.parse().ok());
    let is_like_srv = name.iter().next().is_some_and(|label| label.starts_with(b"_"));
    qtype.unwrap_or(if is_like_srv { RecordType::SRV } else { RecordType::A })
}

async fn ask(dns: SocketAddr, name: &Name, qtype: RecordType) -> std::io::Result<Message> {
    let mut request = Message::query();
    request.add_query(Query::query(name.clone(), qtype));
    let bytes = request.to_vec().map_err(std::io::Error::other)?;
    let answer = tokio::time::timeout(TIMEOUT, ask_udp(dns, &bytes)).await??;
    if answer.metadata.truncation {
        return tokio::time::timeout(TIMEOUT, ask_tcp(dns, &bytes)).await?;
    }
    Ok(answer)
}

async fn ask_udp(dns: SocketAddr, request: &[u8]) -> std::io::Result<Message> {
    let socket = UdpSocket::bind(if dns.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
    socket.connect(dns).await?;
    socket.send(request).await?;
    let mut buffer = vec![0; 4_096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if buffer.get(..2) == request.get(..2) {
            return Message::from_vec(&buffer[..length]).map_err(std::io::Error::other);
        }
    }
}

async fn ask_tcp(dns: SocketAddr, request: &[u8]) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(dns).await?;
    let length = u16::try_from(request.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(request).await?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).await?;
    Message::from_vec(&bytes).map_err(std::io::Error::other)
}

fn show(args: &LookupArgs, name: &Name, qtype: RecordType, answer: &Message) -> Outcome {
    let code = answer.metadata.response_code;
    let is_nodata = code == ResponseCode::NoError && answer.answers.is_empty();
    let says = if is_nodata { "NODATA".to_owned() } else { format!("{code:?}").to_ascii_uppercase() };
    if args.ask.json {
        let records = |records: &[Record]| -> Vec<_> {
            let shown = |record: &Record| {
                json!({
                    "name": record.name.to_ascii(),
                    "ttl": record.ttl,
                    "type": record.record_type().to_string(),
                    "data": data(record),
                })
            };
            records.iter().map(shown).collect()
        };
        print_line(&format!(
            "{}",
            json!({
                "name": name.to_ascii(),
                "type": qtype.to_string(),
                "rcode": says,
                "answers": records(&answer.answers),
                "additionals": records(&answer.additionals),
            })
        ));
    } else {
        let mut table = Table::new(&["NAME", "TTL", "TYPE", "DATA"]);
        for record in answer.answers.iter().chain(&answer.additionals) {
            table.row(vec![
                record.name.to_ascii(),
                record.ttl.to_string(),
                record.record_type().to_string(),
                data(record),
            ]);
        }
        if !answer.answers.is_empty() {
            table.print();
        }
    }
    if answer.answers.is_empty() {
        return Err(Failure::refused(format!("{} {qtype}: {says}", name.to_ascii())));
    }
    Ok(())
}

/// What a record says, as it would stand in a zone file.
fn data(record: &Record) -> String {
    let RData::TXT(txt) = &record.data else {
        return record.data.to_string();
    };
    txt.txt_data.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(" ")
}

/// RFC 1035, 5.1: a character-string in quotes, so that several are told apart.
fn quoted(text: &[u8]) -> String {
    let escaped = text.iter().map(|byte| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(*byte)),
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\{byte:03}"),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::TXT;

    #[test]
    fn rfc_1035_5_1_texts_are_quoted_one_by_one() {
        let check = |texts: Vec<&[u8]>, want: &str| {
            let txt = RData::TXT(TXT::from_bytes(texts));
            assert_eq!(data(&Record::from_rdata(Name::root(), 5, txt)), want);
        };
        check(vec![b"state=connected", b"age=0"], "\"state=connected\" \"age=0\"");
        check(vec![b""], "\"\"");
        check(vec![b"a \"b\" \\ \xc3\n"], "\"a \\\"b\\\" \\\\ \\195\\010\"");
    }
}
