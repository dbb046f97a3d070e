//! One table of `[[timeline]]` or `[[expect]]`, and what is common to their fields.
//!
//! What is wrong or missing is reported and stands as nothing, nobody or zero: a scenario with a mistake is never
//! played.

use core::time::Duration;

use toml::de::DeValue;

use super::LinkSpec;
use super::links;
use super::reader::{Reader, Table};
use super::stage::{Moment, Stage};
use super::values;
use super::who::Who;

/// A step or an expectation in the middle of being read.
pub(super) struct Entry<'r, 't, 'a> {
    reader: &'r mut Reader<'t>,
    /// What it is checked against.
    pub(super) stage: &'r Stage,
    table: Table<'a>,
    moment: Moment,
}

impl<'r, 't, 'a> Entry<'r, 't, 'a> {
    /// Begins to read `table`, in which every label can be named until a time is known.
    pub(super) fn new(reader: &'r mut Reader<'t>, stage: &'r Stage, table: Table<'a>) -> Self {
        Self { reader, stage, table, moment: Moment::END }
    }

    /// Lets only those labels be named from now on that are set before `moment`.
    pub(super) fn set_moment(&mut self, moment: Moment) {
        self.moment = moment;
    }

    /// Where it begins.
    pub(super) fn line(&self) -> usize {
        self.table.line
    }

    /// Whether `key` is written at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.peek(key).is_some()
    }

    /// Reports that something is wrong with `key`, or with all of it if that is empty.
    pub(super) fn reject(&mut self, key: &str, why: impl Into<String>) {
        self.reader.reject_key(&self.table, key, why);
    }

    /// Reports what nobody asked for.
    pub(super) fn check_keys(&mut self) {
        self.reader.check_keys(&self.table);
    }

    /// `key`, if it is written.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        self.reader.optional(&mut self.table, key, read)
    }

    /// `key`, which must be written.
    pub(super) fn required<T: Default>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> T {
        self.reader.required(&mut self.table, key, read).unwrap_or_default()
    }

    /// Hosts.
    pub(super) fn who(&mut self, key: &'static str) -> Who {
        let (stage, moment) = (self.stage, self.moment);
        self.required(key, |value| stage.who(value, moment))
    }

    /// Hosts, if any are named.
    pub(super) fn optional_who(&mut self, key: &'static str) -> Option<Who> {
        let (stage, moment) = (self.stage, self.moment);
        self.optional(key, |value| stage.who(value, moment))
    }

    /// Hosts that something is expected of.
    pub(super) fn expected_who(&mut self, key: &'static str) -> Who {
        let (stage, moment) = (self.stage, self.moment);
        self.required(key, |value| stage.settled(value, moment))
    }

    /// Hosts that something is expected of, or everybody.
    pub(super) fn expected_who_or_all(&mut self, key: &'static str) -> Who {
        let (stage, moment) = (self.stage, self.moment);
        self.optional(key, |value| stage.settled(value, moment)).unwrap_or_else(Who::all)
    }

    /// One host.
    pub(super) fn one(&mut self, key: &'static str) -> Who {
        let (stage, moment) = (self.stage, self.moment);
        self.required(key, |value| stage.one(value, moment))
    }

    /// A service.
    pub(super) fn service(&mut self) -> String {
        let stage = self.stage;
        self.required("service", |value| stage.service(value))
    }

    /// How long it lasts; nothing if it lasts to the end.
    pub(super) fn length(&mut self) -> Option<Duration> {
        self.optional("for", values::length)
    }

    /// A time until the end, from which on something is expected. Labels that are set later cannot be named then.
    pub(super) fn expected_at(&mut self, key: &'static str) -> Duration {
        let stage = self.stage;
        let time: Option<Duration> = self.required(key, |value| stage.time_until_end(value).map(Some));
        self.moment = time.map_or(self.moment, Moment::after);
        time.unwrap_or_default()
    }

    /// How links behave, which must not be left open altogether.
    pub(super) fn link_spec(&mut self) -> LinkSpec {
        links::read_said(self.reader, &mut self.table)
    }
}
