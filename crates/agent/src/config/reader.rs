//! Reads fields out of parsed TOML and out of environment variables, and collects everything that is wrong with them.
//!
//! A mistake never ends the reading: a field that cannot be read counts as absent, is reported, and its neighbours are
//! read as well. What the fields mean, and how they must fit together, is for `sections` and `services` to say.
//!
//! A variable `RINGMESH_<SECTION>_<KEY>` stands for `<key>` in `[<section>]` and outranks it; in lists, commas separate.

use core::fmt::Display;
use core::ops::{Range, RangeInclusive};
use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error as SyntaxError};

use super::error::{ConfigError, ConfigErrors, Place};

/// What the names of overriding variables begin with.
const VARIABLE_PREFIX: &str = "RINGMESH_";
/// Kubernetes puts variables such as `RINGMESH_DNS_PORT` and `RINGMESH_DNS_SERVICE_HOST` into every container beside a
/// service called `ringmesh-dns`. No key of ours begins so.
const FOREIGN_KEYS: [&str; 2] = ["port", "service_"];
/// What the parser says about a key or table that is there twice.
const DUPLICATE: &str = "duplicate key";
/// A key this many edits away from a known one is taken for a slip.
const SLIP_EDITS_MAX: usize = 2;
/// What most fields hold.
const TEXT: &str = "a text in quotes";

/// A table of the file, or nothing but its name and its variables if the file leaves it out.
pub(super) struct Table<'a> {
    /// Its path, such as `dns` or `service[0]`; empty for the whole file.
    pub(super) path: String,
    /// Where it begins.
    pub(super) place: Place,
    entries: Option<&'a DeTable<'a>>,
    variables: Option<String>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(super) fn root(document: &'a DeTable<'a>) -> Self {
        Self { path: String::new(), place: Place::File, entries: Some(document), variables: None }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries?.get(key)
    }

    fn variable_of(&self, key: &str) -> Option<String> {
        self.variables.as_ref().map(|prefix| format!("{prefix}{}", key.to_uppercase()))
    }
}

/// A text and where it was written.
struct Text<'a> {
    value: &'a str,
    path: String,
    place: Place,
}

/// One configuration in the middle of being read.
pub(super) struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    environment: &'a BTreeMap<String, String>,
    found: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    /// Begins to read `text`, which is called `file`.
    pub(super) fn new(file: &'a str, text: &'a str, environment: &'a BTreeMap<String, String>) -> Self {
        Self { file, text, environment, found: Vec::new() }
    }

    /// What was read, if nothing was wrong.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(ConfigErrors::new(self.found)),
        }
    }

    /// Reports a violation.
    pub(super) fn reject(&mut self, place: Place, field: &str, why: impl Into<String>) {
        let (file, field) = (self.file.to_owned(), field.to_owned());
        self.found.push(ConfigError { file, place, field, why: why.into() });
    }

    /// Reports a violation of `key`, where it is written or else where its table begins.
    pub(super) fn reject_key(&mut self, table: &Table<'a>, key: &str, why: impl Into<String>) {
        self.reject(self.place_of(table, key), &table.path_of(key), why);
    }

    /// Reports what the parser found, once a line. A key that is there twice does not make the rest unreadable.
    pub(super) fn reject_syntax(&mut self, errors: &[SyntaxError]) {
        for error in errors {
            let span = error.span();
            let place = span.clone().map_or(Place::File, |span| self.place(&span));
            if self.found.last().is_some_and(|last| last.place == place) {
                continue;
            }
            let key = span.and_then(|span| self.text.get(span)).filter(|_| error.message() == DUPLICATE);
            match key {
                Some(key) => self.reject(place, key, "is given twice: leave one out"),
                None => self.reject(place, "", error.message()),
            }
        }
    }

    /// Whether the text is no TOML, so that its fields cannot be relied on.
    pub(super) fn is_unreadable(&self) -> bool {
        self.found.iter().any(|error| error.field.is_empty())
    }

    /// Whether the field at `path`, or a part of it, was already reported.
    pub(super) fn is_rejected(&self, path: &str) -> bool {
        self.found.iter().any(|error| error.field.starts_with(path))
    }

    /// Opens `[name]`, whose keys are `known`.
    pub(super) fn section(&mut self, root: &Table<'a>, name: &str, known: &[&str]) -> Table<'a> {
        let prefix = format!("{VARIABLE_PREFIX}{}_", name.to_uppercase());
        let mut section =
            Table { path: name.to_owned(), place: Place::File, entries: None, variables: Some(prefix) };
        if let Some(value) = root.value(name) {
            section.place = self.place(&value.span());
            section.entries = value.get_ref().as_table();
            if section.entries.is_none() {
                self.reject_type(section.place.clone(), name, value.get_ref(), &format!("a table [{name}]"));
            }
        }
        self.check_keys(&section, known);
        self.check_variables(&section, known);
        section
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&mut self, table: &Table<'a>, key: &str, count_max: usize) -> Vec<Table<'a>> {
        let Some(value) = table.value(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            let (path, place) = (table.path_of(key), self.place(&value.span()));
            self.reject_type(place, &path, value.get_ref(), &format!("a list of tables [[{key}]]"));
            return Vec::new();
        };
        self.check_count(table, key, array.len(), count_max);
        let mut tables = Vec::with_capacity(array.len());
        for (index, item) in array.iter().enumerate() {
            let (path, place) = (format!("{}[{index}]", table.path_of(key)), self.place(&item.span()));
            match item.get_ref().as_table() {
                Some(entries) => tables.push(Table { path, place, entries: Some(entries), variables: None }),
                None => self.reject_type(place, &path, item.get_ref(), "a table"),
            }
        }
        tables
    }

    /// Reports keys that are not `known`.
    pub(super) fn check_keys(&mut self, table: &Table<'a>, known: &[&str]) {
        let Some(entries) = table.entries else {
            return;
        };
        for key in entries.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                self.reject(self.place(&key.span()), &table.path_of(name), unknown(name, known));
            }
        }
    }

    /// Reports variables that look like overrides and are none.
    fn check_variables(&mut self, section: &Table<'a>, known: &[&str]) {
        let environment = self.environment;
        let prefix = section.variable_of("").unwrap_or_default();
        for name in environment.keys() {
            let Some(key) = name.strip_prefix(&prefix).map(str::to_lowercase) else {
                continue;
            };
            let is_foreign = FOREIGN_KEYS.into_iter().any(|foreign| key.starts_with(foreign));
            if !is_foreign && !known.contains(&key.as_str()) {
                self.reject(Place::Variable(name.clone()), &section.path_of(&key), unknown(&key, known));
            }
        }
    }

    /// Whether `key` is written at all.
    pub(super) fn has(&self, table: &Table<'a>, key: &str) -> bool {
        table.value(key).is_some() || self.variable(table, key).is_some()
    }

    /// The text of `key` as what `read` makes of it; nothing if it is absent or wrong.
    pub(super) fn optional<T>(
        &mut self,
        table: &Table<'a>,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(table, key)?;
        self.read_text(&text, &read)
    }

    /// As [`Reader::optional`], for what looks like a number and is none: a duration.
    pub(super) fn duration<T>(
        &mut self,
        table: &Table<'a>,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text_called(table, key, "a duration in quotes, such as \"5s\",")?;
        self.read_text(&text, &read)
    }

    /// As [`Reader::optional`], and reports when it is absent.
    pub(super) fn required<T>(
        &mut self,
        table: &Table<'a>,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(table, key) {
            self.reject_missing(table, key);
        }
        self.optional(table, key, read)
    }

    /// Reports that `key` must be written.
    pub(super) fn reject_missing(&mut self, table: &Table<'a>, key: &str) {
        let why = match table.variable_of(key) {
            Some(variable) => format!("is missing: write it here or into the variable {variable}"),
            None => "is missing: it must be written".to_owned(),
        };
        self.reject(table.place.clone(), &table.path_of(key), why);
    }

    /// The list of texts of `key`, without those that are wrong; nothing if it is absent or no list.
    pub(super) fn list<T>(
        &mut self,
        table: &Table<'a>,
        key: &str,
        count_max: usize,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let texts = self.texts(table, key)?;
        self.check_count(table, key, texts.len(), count_max);
        Some(texts.iter().filter_map(|text| self.read_text(text, &read)).collect())
    }

    /// The number of `key`; nothing if it is absent or wrong.
    pub(super) fn number<N>(&mut self, table: &Table<'a>, key: &str, allowed: &RangeInclusive<N>) -> Option<N>
    where
        N: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        let path = table.path_of(key);
        if let Some((name, text)) = self.variable(table, key) {
            let number = text.parse::<i64>().ok();
            return self.check_number(number, &text, (Place::Variable(name), &path), allowed);
        }
        self.read_number(table.value(key)?, &path, allowed)
    }

    /// The list of numbers of `key`, without those that are wrong; nothing if it is absent or no list. Lists of numbers
    /// have no variables.
    pub(super) fn numbers<N>(
        &mut self,
        table: &Table<'a>,
        key: &str,
        count_max: usize,
        allowed: &RangeInclusive<N>,
    ) -> Option<Vec<N>>
    where
        N: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        let value = table.value(key)?;
        let path = table.path_of(key);
        let Some(array) = value.get_ref().as_array() else {
            self.reject_type(self.place(&value.span()), &path, value.get_ref(), "a list of numbers");
            return None;
        };
        self.check_count(table, key, array.len(), count_max);
        let items = array.iter().enumerate();
        let numbers =
            items.filter_map(|(index, item)| self.read_number(item, &format!("{path}[{index}]"), allowed));
        Some(numbers.collect())
    }

    fn variable(&self, table: &Table<'a>, key: &str) -> Option<(String, &'a str)> {
        let name = table.variable_of(key)?;
        let value = self.environment.get(&name)?;
        Some((name, value))
    }

    fn text(&mut self, table: &Table<'a>, key: &str) -> Option<Text<'a>> {
        self.text_called(table, key, TEXT)
    }

    /// The text of `key`; what is none is told that `wanted` is allowed.
    fn text_called(&mut self, table: &Table<'a>, key: &str, wanted: &str) -> Option<Text<'a>> {
        let path = table.path_of(key);
        if let Some((name, value)) = self.variable(table, key) {
            return Some(Text { value, path, place: Place::Variable(name) });
        }
        self.text_at(table.value(key)?, path, wanted)
    }

    fn texts(&mut self, table: &Table<'a>, key: &str) -> Option<Vec<Text<'a>>> {
        let path = table.path_of(key);
        if let Some((name, value)) = self.variable(table, key) {
            let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
            let place = Place::Variable(name);
            return Some(
                items.map(|value| Text { value, path: path.clone(), place: place.clone() }).collect(),
            );
        }
        let value = table.value(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.reject_type(self.place(&value.span()), &path, value.get_ref(), "a list of texts");
            return None;
        };
        let items = array.iter().enumerate();
        Some(items.filter_map(|(index, item)| self.text_at(item, format!("{path}[{index}]"), TEXT)).collect())
    }

    fn text_at(&mut self, value: &'a Spanned<DeValue<'a>>, path: String, wanted: &str) -> Option<Text<'a>> {
        let place = self.place(&value.span());
        match value.get_ref().as_str() {
            Some(text) => Some(Text { value: text, path, place }),
            None => {
                self.reject_type(place, &path, value.get_ref(), wanted);
                None
            }
        }
    }

    fn read_text<T>(&mut self, text: &Text<'a>, read: &impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match read(text.value) {
            Ok(value) => Some(value),
            Err(why) => {
                self.reject(text.place.clone(), &text.path, why);
                None
            }
        }
    }

    fn read_number<N>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        allowed: &RangeInclusive<N>,
    ) -> Option<N>
    where
        N: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        let place = self.place(&value.span());
        let Some(integer) = value.get_ref().as_integer() else {
            self.reject_type(place, path, value.get_ref(), "a whole number");
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        self.check_number(number, integer, (place, path), allowed)
    }

    fn check_number<N>(
        &mut self,
        number: Option<i64>,
        written: &dyn Display,
        (place, path): (Place, &str),
        allowed: &RangeInclusive<N>,
    ) -> Option<N>
    where
        N: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        let number = number.and_then(|number| N::try_from(number).ok());
        let number = number.filter(|number| allowed.contains(number));
        if number.is_none() {
            let why = format!("{written} is not allowed: {} to {}", allowed.start(), allowed.end());
            self.reject(place, path, why);
        }
        number
    }

    fn check_count(&mut self, table: &Table<'a>, key: &str, count: usize, count_max: usize) {
        if count > count_max {
            self.reject_key(table, key, format!("has {count} entries, at most {count_max} are allowed"));
        }
    }

    fn reject_type(&mut self, place: Place, path: &str, value: &DeValue<'_>, wanted: &str) {
        self.reject(place, path, format!("is of type {}: {wanted} is allowed", value.type_str()));
    }

    fn place_of(&self, table: &Table<'a>, key: &str) -> Place {
        match (self.variable(table, key), table.value(key)) {
            (Some((name, _)), _) => Place::Variable(name),
            (None, Some(value)) => self.place(&value.span()),
            (None, None) => table.place.clone(),
        }
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.bytes().take(span.start);
        Place::Line(1 + before.filter(|byte| *byte == b'\n').count())
    }
}

/// Why a key is refused that nobody reads.
fn unknown(name: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|key| (strsim::levenshtein(name, key), *key)).min();
    let hint = match nearest {
        Some((distance, key)) if distance <= SLIP_EDITS_MAX.min(key.len() - 1) => {
            format!("did you mean {key}? ")
        }
        _ => String::new(),
    };
    format!("is unknown: {hint}allowed are {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_gets_a_suggestion() {
        let known = ["listen", "domain", "ttl"];
        let why = unknown("domian", &known);
        assert_eq!(why, "is unknown: did you mean domain? allowed are listen, domain, ttl");
        assert_eq!(unknown("port", &known), "is unknown: allowed are listen, domain, ttl");
    }
}
