//! Why there is no better answer, for people who look (RFC 8914): a number and a few words in the response, if the asker
//! speaks EDNS and there is room. Programs must not act on it.

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};

use crate::key::WrongKey;

/// RFC 8914, 5.1: the number of the option.
const OPTION: u16 = 15;

/// What can be said (RFC 8914, 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// 4.1: the name looks like that of a key and is none.
    WrongKey(WrongKey),
    /// 4.4: the answer is what was known last.
    StaleAnswer,
    /// 4.20: there was no such name then.
    StaleNxdomain,
    /// 4.19: the asker may not ask.
    Prohibited,
    /// 4.21: the name is not in the domain.
    NotAuthoritative,
    /// 4.22: such questions are not answered.
    NotSupported,
}

impl Cause {
    const fn number(self) -> u16 {
        match self {
            Self::WrongKey(_) => 0,
            Self::StaleAnswer => 3,
            Self::Prohibited => 18,
            Self::StaleNxdomain => 19,
            Self::NotAuthoritative => 20,
            Self::NotSupported => 21,
        }
    }

    /// At most 15 bytes.
    const fn text(self) -> &'static str {
        match self {
            Self::WrongKey(why) => why.text(),
            Self::StaleAnswer | Self::StaleNxdomain => "last known view",
            Self::Prohibited => "see dns.allow",
            Self::NotAuthoritative => "not our domain",
            Self::NotSupported => "not served here",
        }
    }
}

/// Says `cause` in `response` if its asker speaks EDNS and it has no more than `limit` bytes then.
pub(crate) fn add(response: &mut Message, cause: Cause, limit: usize) {
    let Some(edns) = &mut response.edns else {
        return;
    };
    let data = [&cause.number().to_be_bytes(), cause.text().as_bytes()].concat();
    edns.options_mut().insert(EdnsOption::Unknown(OPTION, data));
    if response.to_vec().map_or(true, |bytes| bytes.len() > limit) {
        remove(response);
    }
}

/// Takes back what was added: it is the first to go when there is no room (RFC 8914, 3).
pub(crate) fn remove(response: &mut Message) {
    if let Some(edns) = &mut response.edns {
        edns.options_mut().remove(EdnsCode::Unknown(OPTION));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Edns, MessageType, OpCode};

    fn response() -> Message {
        Message::new(1, MessageType::Response, OpCode::Query)
    }

    #[test]
    fn rfc_8914_2_a_cause_is_a_number_and_a_text() {
        let mut response = response();
        response.edns = Some(Edns::new());
        add(&mut response, Cause::Prohibited, 512);
        let edns = response.edns.expect("it had one");
        let want = EdnsOption::Unknown(15, b"\0\x12see dns.allow".to_vec());
        assert_eq!(edns.options().as_ref(), [(OPTION.into(), want)]);
    }

    #[test]
    fn rfc_8914_3_nothing_is_added_without_opt_or_room() {
        let mut without = response();
        add(&mut without, Cause::StaleAnswer, 512);
        assert_eq!(without, response());
        let mut tight = response();
        tight.edns = Some(Edns::new());
        let before = tight.clone();
        add(&mut tight, Cause::StaleAnswer, 12 + 11 + 20);
        assert_eq!(tight, before);
        add(&mut tight, Cause::StaleAnswer, 12 + 11 + 21);
        assert_ne!(tight, before);
    }

    #[test]
    fn every_text_is_short() {
        let causes = [Cause::StaleAnswer, Cause::Prohibited, Cause::NotAuthoritative, Cause::NotSupported];
        let wrong_keys = [WrongKey::Characters, WrongKey::Base32Hex, WrongKey::Position, WrongKey::Refused];
        let mut all = causes.into_iter().chain(wrong_keys.map(Cause::WrongKey));
        assert!(all.all(|cause| cause.text().len() <= 15));
    }
}
