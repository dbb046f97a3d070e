//! Bodies of documents as tagged fields: (tag u16, length u32, bytes), little-endian, each field's bytes in the wire
//! codec. Readers skip tags they do not know, so an older agent reads what a newer one says.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::BODY_FIELDS_MAX;
use crate::wire::{self, Channel, WireError};

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The field list ends inside a field.
    #[error("the body ends inside a field")]
    Cut,
    /// More fields than any body has.
    #[error("the body has more than {BODY_FIELDS_MAX} fields")]
    TooMany,
    /// A tag stands twice.
    #[error("field {0} stands twice")]
    Twice(u16),
    /// A field that the topic requires is absent.
    #[error("field {0} ({1}) is missing")]
    Missing(u16, &'static str),
    /// A field does not decode.
    #[error("field {tag} ({name}): {error}")]
    Bad {
        /// The field's tag.
        tag: u16,
        /// What the field is called.
        name: &'static str,
        /// What is wrong with its bytes.
        error: WireError,
    },
    /// A field decodes, but to something out of bounds.
    #[error("field {0} ({1}) is out of bounds: {2}")]
    Bounds(u16, &'static str, String),
}

/// Collects the fields of a body.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Appends a field.
    ///
    /// # Errors
    /// If the value cannot be represented on the wire.
    pub fn field<T: Serialize>(&mut self, tag: u16, value: &T) -> Result<&mut Self, WireError> {
        self.0.extend_from_slice(&tag.to_le_bytes());
        let length_at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        wire::encode_into(&mut self.0, value)?;
        let length = u32::try_from(self.0.len() - length_at - 4)
            .map_err(|_| WireError::TooLarge(self.0.len(), u32::MAX as usize))?;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        Ok(self)
    }

    /// The body.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// The fields of a body, found but not decoded.
#[derive(Debug)]
pub struct Reader<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Reader<'a> {
    /// Finds the fields of `body`.
    ///
    /// # Errors
    /// If the list is cut, too long, or names a tag twice.
    pub fn parse(mut body: &'a [u8]) -> Result<Self, FieldError> {
        let mut fields: Vec<(u16, &[u8])> = Vec::new();
        while !body.is_empty() {
            if fields.len() == BODY_FIELDS_MAX {
                return Err(FieldError::TooMany);
            }
            let (head, rest) = body.split_at_checked(6).ok_or(FieldError::Cut)?;
            let tag = u16::from_le_bytes([head[0], head[1]]);
            let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
            let (bytes, rest) = rest.split_at_checked(length).ok_or(FieldError::Cut)?;
            if fields.iter().any(|(known, _)| *known == tag) {
                return Err(FieldError::Twice(tag));
            }
            fields.push((tag, bytes));
            body = rest;
        }
        Ok(Self(fields))
    }

    /// The field `tag`, if it is there.
    ///
    /// # Errors
    /// If it does not decode, or bytes are left over.
    pub fn optional<T: DeserializeOwned>(
        &self,
        tag: u16,
        name: &'static str,
    ) -> Result<Option<T>, FieldError> {
        let Some((_, bytes)) = self.0.iter().find(|(known, _)| *known == tag) else {
            return Ok(None);
        };
        let bad = |error| FieldError::Bad { tag, name, error };
        let (value, used) = wire::decode_prefix(Channel::Stream, bytes).map_err(bad)?;
        if used != bytes.len() {
            return Err(bad(WireError::Trailing(bytes.len() - used)));
        }
        Ok(Some(value))
    }

    /// The field `tag`, which must be there.
    ///
    /// # Errors
    /// If it is missing, does not decode, or bytes are left over.
    pub fn required<T: DeserializeOwned>(&self, tag: u16, name: &'static str) -> Result<T, FieldError> {
        self.optional(tag, name)?.ok_or(FieldError::Missing(tag, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unknown_tags_are_skipped() {
        let mut writer = Writer::default();
        writer
            .field(1, &"a")
            .and_then(|w| w.field(900, &7_u64))
            .and_then(|w| w.field(2, &5_u8))
            .expect("fits");
        let body = writer.finish();
        let reader = Reader::parse(&body).expect("parses");
        assert_eq!(reader.required::<String>(1, "name"), Ok("a".to_owned()));
        assert_eq!(reader.required::<u8>(2, "count"), Ok(5));
        assert_eq!(reader.optional::<u8>(3, "absent"), Ok(None));
        assert_eq!(reader.required::<u8>(3, "absent"), Err(FieldError::Missing(3, "absent")));
    }

    #[test]
    fn a_body_is_golden() {
        let mut writer = Writer::default();
        writer.field(1, &"a").and_then(|w| w.field(0x0203, &300_u32)).expect("fits");
        assert_eq!(writer.finish(), [1, 0, 2, 0, 0, 0, 1, b'a', 3, 2, 3, 0, 0, 0, 251, 44, 1]);
    }

    #[test]
    fn a_tag_may_stand_once() {
        let mut writer = Writer::default();
        writer.field(1, &1_u8).and_then(|w| w.field(1, &2_u8)).expect("fits");
        assert_eq!(Reader::parse(&writer.finish()).err(), Some(FieldError::Twice(1)));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(reader) = Reader::parse(&bytes) {
                let _ = reader.required::<Vec<String>>(1, "any");
            }
        }
    }
}
