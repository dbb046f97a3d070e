//! What is wrong with a configuration, where, and what would be right.

use core::fmt;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere: something is missing from the file.
    File,
    /// On this line of the file, counted from 1.
    Line(usize),
    /// In the environment variable of this name.
    Variable(String),
}

/// One violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as its reader named it.
    pub file: String,
    /// Where the value was written.
    pub place: Place,
    /// The field's path, such as `dns.ttl` or `service[0].endpoint[1].port`; empty if the text is no TOML.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File => f.write_str(&self.file)?,
            Place::Line(line) => write!(f, "{}:{line}", self.file)?,
            Place::Variable(name) => f.write_str(name)?,
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.why)
    }
}

impl core::error::Error for ConfigError {}

/// All violations of one configuration, those of the file first, by line; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The violations in order.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by(|a, b| a.place.cmp(&b.place));
        Self(errors)
    }

    /// The violations.
    pub fn as_slice(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    /// One violation a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl core::error::Error for ConfigErrors {}
