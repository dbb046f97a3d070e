//! Records of a file, one after the other and never more than one in memory: CSV with a heading (RFC 4180), or JSON objects, one a
//! line.

use core::sync::atomic::{AtomicU64, Ordering};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use serde_json::{Map, Value};

/// Bytes of a record at most.
pub(super) const RECORD_BYTES_MAX: usize = 1 << 20;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Comma-separated values with a heading.
    Csv,
    /// JSON objects, one a line.
    Json,
}

/// What became of reading.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Records that could not be read.
    pub(super) bad: u64,
    /// The first of them: where, and why.
    pub(super) first_bad: Option<String>,
}

/// Reads `input` and hands the values of `fields` of each record to `take`; one that a record lacks is empty.
///
/// # Errors
/// If nothing can be read any more, or the file has no such field.
pub(super) fn read(
    format: Format,
    input: impl Read,
    fields: &[String],
    take: impl FnMut(&[Vec<u8>]),
) -> Result<Reading, String> {
    match format {
        Format::Csv => read_csv(input, fields, take),
        Format::Json => read_json(input, fields, take),
    }
}

/// The names of the fields of the first record.
///
/// # Errors
/// If there is no record.
pub(super) fn names(format: Format, input: impl Read) -> Result<Vec<String>, String> {
    match format {
        Format::Csv => {
            let mut reader = csv::Reader::from_reader(Bounded::new(input));
            Ok(heading_of(&mut reader)?.iter().map(str::to_owned).collect())
        }
        Format::Json => {
            let mut lines = Lines::new(input);
            let line = lines.next()?.ok_or("there is no record in it")?;
            let record: Map<String, Value> =
                serde_json::from_slice(line).map_err(|error| format!("line 1 is no JSON object: {error}"))?;
            Ok(record.keys().cloned().collect())
        }
    }
}

fn read_csv(
    input: impl Read,
    fields: &[String],
    mut take: impl FnMut(&[Vec<u8>]),
) -> Result<Reading, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(Bounded::new(input));
    let heading = heading_of(&mut reader)?;
    let column = |field: &String| {
        let column = heading.iter().position(|name| name == field);
        column.ok_or_else(|| {
            let known: Vec<_> = heading.iter().map(|name| name.escape_debug().to_string()).collect();
            format!("there is no field {field:?}: it has {}", known.join(", "))
        })
    };
    if let Some(twice) = fields.iter().find(|field| is_twice(&heading, field)) {
        return Err(format!("the heading has {twice:?} twice: name one of them otherwise"));
    }
    let columns = fields.iter().map(column).collect::<Result<Vec<usize>, String>>()?;
    let (mut record, mut values, mut read) =
        (csv::ByteRecord::new(), vec![Vec::new(); fields.len()], Reading::default());
    while reader.read_byte_record(&mut record).map_err(|error| error.to_string())? {
        if record.len() != heading.len() {
            let line = record.position().map_or(0, csv::Position::line);
            read.note(|| format!("line {line} has {} fields, the heading {}", record.len(), heading.len()));
            continue;
        }
        for (value, column) in values.iter_mut().zip(&columns) {
            value.clear();
            value.extend_from_slice(record.get(*column).unwrap_or_default());
        }
        take(&values);
    }
    Ok(read)
}

fn read_json(
    input: impl Read,
    fields: &[String],
    mut take: impl FnMut(&[Vec<u8>]),
) -> Result<Reading, String> {
    let (mut lines, mut read) = (Lines::new(input), Reading::default());
    let (mut values, mut seen) = (vec![Vec::new(); fields.len()], vec![false; fields.len()]);
    let mut number = 0_u64;
    while let Some(line) = lines.next()? {
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let record: Map<String, Value> = match serde_json::from_slice(line) {
            Ok(record) => record,
            Err(error) => {
                read.note(|| format!("line {number} is no JSON object: {error}"));
                continue;
            }
        };
        for ((field, value), seen) in fields.iter().zip(&mut values).zip(&mut seen) {
            value.clear();
            *seen |= record.contains_key(field);
            write_value(record.get(field), value);
        }
        take(&values);
    }
    match seen.iter().position(|seen| !seen) {
        Some(missing) if number > read.bad => {
            Err(format!("there is no field {:?} in any of its records", fields[missing]))
        }
        Some(_) | None => Ok(read),
    }
}

fn heading_of(reader: &mut csv::Reader<impl Read>) -> Result<csv::StringRecord, String> {
    match reader.headers() {
        Ok(heading) => Ok(heading.clone()),
        Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
            Err("the heading is no text in UTF-8: is it CSV?".to_owned())
        }
        Err(error) => Err(format!("the heading: {error}")),
    }
}

/// Whether a field can be told from the others by its name.
fn is_twice(heading: &csv::StringRecord, field: &str) -> bool {
    heading.iter().filter(|name| *name == field).count() > 1
}

/// A value as a key: texts as they are, numbers and truths as they are written, nothing for null.
fn write_value(value: Option<&Value>, out: &mut Vec<u8>) {
    match value {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => out.extend_from_slice(text.as_bytes()),
        Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => {
            out.extend_from_slice(other.to_string().as_bytes());
        }
    }
}

impl Reading {
    fn note(&mut self, why: impl FnOnce() -> String) {
        self.bad += 1;
        self.first_bad.get_or_insert_with(why);
    }
}

/// Lines of bounded length.
struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    number: u64,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(1 << 16, input), line: Vec::new(), number: 0 }
    }

    fn next(&mut self) -> Result<Option<&[u8]>, String> {
        self.line.clear();
        self.number += 1;
        let most = RECORD_BYTES_MAX as u64 + 1;
        let read = self.input.by_ref().take(most).read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| error.to_string())?;
        if read > RECORD_BYTES_MAX && self.line.last() != Some(&b'\n') {
            return Err(format!(
                "line {} is longer than {RECORD_BYTES_MAX} bytes: is it JSON lines?",
                self.number
            ));
        }
        Ok((read > 0).then_some(&self.line))
    }
}

/// Ends reading where there is no line end for too long: whoever reads records keeps a whole one in memory.
struct Bounded<R> {
    input: R,
    without_end: usize,
}

impl<R> Bounded<R> {
    fn new(input: R) -> Self {
        Self { input, without_end: 0 }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.without_end = match buffer[..read].iter().rposition(|byte| *byte == b'\n') {
            Some(at) => read - at - 1,
            None => self.without_end + read,
        };
        if self.without_end > RECORD_BYTES_MAX {
            return Err(io::Error::other(format!(
                "a record is longer than {RECORD_BYTES_MAX} bytes: is it CSV?"
            )));
        }
        Ok(read)
    }
}

/// Counts what is read of a file, for whoever shows how far it is.
pub(super) struct Counted<R> {
    input: R,
    bytes: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    pub(super) fn new(input: R, bytes: Arc<AtomicU64>) -> Self {
        Self { input, bytes }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(format: Format, text: &str, fields: &[&str]) -> Result<(Vec<Vec<String>>, Reading), String> {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        let mut records = Vec::new();
        let read = read(format, text.as_bytes(), &fields, |values| {
            records.push(values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect());
        })?;
        Ok((records, read))
    }

    #[test]
    fn fields_of_both_formats_come_by_name_and_null_is_empty() {
        let (records, read) =
            all(Format::Csv, "a,b,c\n1,\"x, \"\"y\"\"\",3\n4,,6\n", &["c", "b"]).expect("is CSV");
        assert_eq!(
            (records, read.bad),
            (vec![vec!["3".into(), "x, \"y\"".into()], vec!["6".into(), String::new()]], 0)
        );
        let text = "{\"a\":1,\"b\":\"x\"}\n\n{\"a\":null,\"b\":[1]}\n{\"b\":true}\n";
        let (records, read) = all(Format::Json, text, &["a", "b"]).expect("is JSON");
        let want = [["1", "x"], ["", "[1]"], ["", "true"]].map(|record| record.map(str::to_owned).to_vec());
        assert_eq!((records, read.bad), (want.to_vec(), 0));
        assert_eq!(names(Format::Csv, "a,b\n1,2\n".as_bytes()), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(
            names(Format::Json, "{\"z\":1,\"b\":2}\n".as_bytes()),
            Ok(vec!["b".to_owned(), "z".to_owned()])
        );
    }

    #[test]
    fn records_that_cannot_be_read_are_counted_and_the_first_is_named() {
        let (records, read) = all(Format::Csv, "a,b\n1,2\n3\n4,5,6\n7,8\n", &["a"]).expect("is CSV");
        assert_eq!((records.len(), read.bad), (2, 2));
        assert_eq!(read.first_bad.as_deref(), Some("line 3 has 1 fields, the heading 2"));
        let (records, read) =
            all(Format::Json, "{\"a\":1}\n[1]\n{\"a\":\n{\"a\":2}\n", &["a"]).expect("is JSON");
        assert_eq!((records.len(), read.bad), (2, 2));
        assert!(read.first_bad.is_some_and(|why| why.starts_with("line 2 is no JSON object")));
    }

    #[test]
    fn what_is_not_there_is_named_and_what_has_no_end_is_given_up() {
        let check = |format, text: &str, want: &str| {
            let error = all(format, text, &["x"]).expect_err(want);
            assert!(error.starts_with(want), "{error}");
        };
        check(Format::Csv, "a,b\n1,2\n", "there is no field \"x\": it has a, b");
        check(Format::Csv, "x,x\n1,2\n", "the heading has \"x\" twice");
        check(Format::Json, "{\"a\":1}\n", "there is no field \"x\" in any");
        check(Format::Csv, &"y".repeat(3 << 20), "the heading: a record is longer");
        let noise = read(Format::Csv, &b"\xff\xfe,b\n1,2\n"[..], &["b".to_owned()], |_| {});
        assert_eq!(noise, Err("the heading is no text in UTF-8: is it CSV?".to_owned()));
        check(Format::Json, &"y".repeat(3 << 20), "line 1 is longer");
    }
}
