//! How keys are written of which a map says no more than their positions.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Which;
use crate::api::{ask, items, text};

/// Keys by the digits of their positions.
#[derive(Default)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    /// What is known now of the keys in these lines, if any are about a key. That is a help to readers: without it lines stay as they are.
    pub(super) async fn for_lines(which: &Which, lines: &[String]) -> Self {
        let is_about_key = |line: &String| {
            ["dedicate ", "return ", "spread "].iter().any(|kind| line.trim_start().starts_with(kind))
        };
        if !lines.iter().any(is_about_key) {
            return Self::default();
        }
        let map = ask(&which.ask, "GET", &which.path(""), None).await.unwrap_or_default();
        let heat = ask(&which.ask, "GET", &which.path("/heat"), None).await.unwrap_or_default();
        Self::of(&map, &heat)
    }

    /// Pinned keys are in the map, hot ones the author knows if programs name them.
    pub(super) fn of(map: &Value, heat: &Value) -> Self {
        let all = [&heat["hot"], &heat["dedicated"], &map["dedicated"]];
        let named = all.into_iter().flat_map(items);
        Self(named.filter_map(|one| Some((text(one, "at"), format!("{:?}", one["key"].as_str()?)))).collect())
    }

    /// The key at a position, in quotes.
    pub(super) fn get(&self, at: &str) -> Option<&str> {
        self.0.get(at).map(String::as_str)
    }

    /// A line in which positions have the names of their keys.
    pub(super) fn put_into(&self, line: &str) -> String {
        let named = |word: &str| {
            let (at, rest) = word.strip_suffix(':').map_or((word, ""), |at| (at, ":"));
            self.get(at).map_or_else(|| word.to_owned(), |key| format!("{at} {key}{rest}"))
        };
        line.split(' ').map(named).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn positions_in_a_line_get_the_names_of_their_keys() {
        let names = Names::of(
            &json!({ "dedicated": [{ "at": "0a", "key": "pinned" }, { "at": "0b", "key": null }] }),
            &json!({ "hot": [{ "at": "0c", "key": "a\u{1b}b" }], "dedicated": [{ "at": "0a", "key": "other" }] }),
        );
        assert_eq!(
            names.put_into("  dedicate 0a to n-1: it has 0.3"),
            "  dedicate 0a \"pinned\" to n-1: it has 0.3"
        );
        assert_eq!(names.put_into("spread 0c over 2"), "spread 0c \"a\\u{1b}b\" over 2");
        assert_eq!(names.put_into("return 0a: it is cool"), "return 0a \"pinned\": it is cool");
        assert_eq!(names.put_into("return 0b"), "return 0b");
        assert_eq!(Names::of(&Value::Null, &Value::Null).get("0a"), None);
    }
}
