//! Reads fields out of parsed TOML and collects everything that is wrong with them.
//!
//! A mistake never ends the reading: a field that cannot be read counts as absent, is reported, and its neighbours are
//! read as well. A table remembers which keys it was asked for, and what else is in it is unknown. What fields mean, and
//! how they must fit together, is for others to say.

use core::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error as SyntaxError};

use super::error::{Mistake, Mistakes};
use super::values;

/// What the parser says about a key or table that is there twice.
const DUPLICATE: &str = "duplicate key";

/// A table of the file, or nothing but its name if the file leaves it out.
pub(super) struct Table<'a> {
    /// Its path, such as `topology` or `timeline[0]`; empty for the whole file.
    path: String,
    /// Where it begins.
    pub(super) line: usize,
    entries: Option<&'a DeTable<'a>>,
    asked: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(super) fn root(document: &'a DeTable<'a>) -> Self {
        Self { path: String::new(), line: 1, entries: Some(document), asked: Vec::new() }
    }

    /// What is written for `key`, without asking for it.
    pub(super) fn peek(&self, key: &str) -> Option<&'a DeValue<'a>> {
        self.value(key).map(Spanned::get_ref)
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries?.get(key)
    }

    fn ask(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.value(key)
    }

    fn path_of(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }
}

/// One scenario in the middle of being read.
pub(super) struct Reader<'t> {
    name: &'t str,
    text: &'t str,
    line_ends: Vec<usize>,
    found: Vec<Mistake>,
}

impl<'t> Reader<'t> {
    /// Begins to read `text`, which is called `name`.
    pub(super) fn new(name: &'t str, text: &'t str) -> Self {
        let line_ends = text.match_indices('\n').map(|(end, _)| end).collect();
        Self { name, text, line_ends, found: Vec::new() }
    }

    /// What was read, if nothing was wrong.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Mistakes> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(Mistakes::new(self.found)),
        }
    }

    /// Reports that something is wrong with the field at `path`, or with the file if that is empty.
    pub(super) fn reject(&mut self, line: usize, path: &str, why: impl Into<String>) {
        let (name, field) = (self.name.to_owned(), path.to_owned());
        self.found.push(Mistake { name, line, field, why: why.into() });
    }

    /// Reports that something is wrong with `key`, where it is written or else where its table begins; an empty key
    /// stands for the whole table.
    pub(super) fn reject_key(&mut self, table: &Table<'_>, key: &str, why: impl Into<String>) {
        let line = table.value(key).map_or(table.line, |value| self.line(&value.span()));
        self.reject(line, &table.path_of(key), why);
    }

    /// Reports what the parser found, once a line. A key that is there twice does not make the rest unreadable.
    pub(super) fn reject_syntax(&mut self, errors: &[SyntaxError]) {
        for error in errors {
            let span = error.span();
            let line = span.as_ref().map_or(1, |span| self.line(span));
            if self.found.last().is_some_and(|last| last.line == line) {
                continue;
            }
            let key = span.and_then(|span| self.text.get(span)).filter(|_| error.message() == DUPLICATE);
            match key {
                Some(key) => self.reject(line, key, "is given twice: leave one out"),
                None => self.reject(line, "", error.message()),
            }
        }
    }

    /// Whether the text is no TOML, so that its fields cannot be relied on.
    pub(super) fn is_unreadable(&self) -> bool {
        self.found.iter().any(|mistake| mistake.field.is_empty())
    }

    /// Opens `[key]`.
    pub(super) fn table<'a>(&mut self, parent: &mut Table<'a>, key: &'static str) -> Table<'a> {
        let mut table =
            Table { path: parent.path_of(key), line: parent.line, entries: None, asked: Vec::new() };
        if let Some(value) = parent.ask(key) {
            table.line = self.line(&value.span());
            table.entries = value.get_ref().as_table();
            if table.entries.is_none() {
                let why = values::wrong_type(value.get_ref(), &format!("a table [{key}]"));
                self.reject(table.line, &table.path, why);
            }
        }
        table
    }

    /// The tables of `[[key]]`, at most `count_max` of them.
    pub(super) fn tables<'a>(
        &mut self,
        parent: &mut Table<'a>,
        key: &'static str,
        count_max: usize,
    ) -> Vec<Table<'a>> {
        let Some(value) = parent.ask(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            let why = values::wrong_type(value.get_ref(), &format!("a list of tables [[{key}]]"));
            self.reject_key(parent, key, why);
            return Vec::new();
        };
        self.check_count(parent, key, array.len(), count_max);
        let mut tables = Vec::with_capacity(array.len().min(count_max));
        for (index, item) in array.iter().enumerate().take(count_max) {
            let (path, line) = (format!("{}[{index}]", parent.path_of(key)), self.line(&item.span()));
            match item.get_ref().as_table() {
                Some(entries) => tables.push(Table { path, line, entries: Some(entries), asked: Vec::new() }),
                None => self.reject(line, &path, values::wrong_type(item.get_ref(), "a table")),
            }
        }
        tables
    }

    /// `key` as what `read` makes of it; nothing if it is absent or wrong.
    pub(super) fn optional<T>(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let value = table.ask(key)?;
        self.read(value, &table.path_of(key), read)
    }

    /// As [`Reader::optional`], and reports when it is absent.
    pub(super) fn required<T>(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        if table.ask(key).is_none() {
            self.reject_key(table, key, "is missing: it must be written");
        }
        self.optional(table, key, read)
    }

    /// The list of `key`, if nothing is wrong in it; nothing if it is absent.
    pub(super) fn list<T>(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
        count_max: usize,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = table.ask(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.reject_key(table, key, values::wrong_type(value.get_ref(), "a list of texts"));
            return None;
        };
        self.check_count(table, key, array.len(), count_max);
        let path = table.path_of(key);
        let mut items = Vec::with_capacity(array.len().min(count_max));
        for (index, item) in array.iter().enumerate().take(count_max) {
            items.push(self.read(item, &format!("{path}[{index}]"), &read));
        }
        items.into_iter().collect()
    }

    /// Reports what is in a table that it was not asked for.
    pub(super) fn check_keys(&mut self, table: &Table<'_>) {
        for key in table.entries.into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            if !table.asked.contains(&name) {
                let why = format!("is unknown: {}", values::suggestion(name, &table.asked));
                self.reject(self.line(&key.span()), &table.path_of(name), why);
            }
        }
    }

    fn check_count(&mut self, table: &Table<'_>, key: &str, count: usize, count_max: usize) {
        if count > count_max {
            self.reject_key(table, key, format!("has {count} entries: at most {count_max} are allowed"));
        }
    }

    fn read<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        match read(value.get_ref()) {
            Ok(value) => Some(value),
            Err(why) => {
                self.reject(self.line(&value.span()), path, why);
                None
            }
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        1 + self.line_ends.partition_point(|end| *end < span.start)
    }
}
