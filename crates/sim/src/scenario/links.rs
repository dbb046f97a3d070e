//! `[links]`: how messages travel.

use super::reader::{Reader, Table};
use super::stage::Stage;
use super::values;
use super::{LinkPlan, LinkSpec};

const SPEC_KEYS: [&str; 6] = ["latency", "jitter", "loss", "duplication", "reordering", "bandwidth"];
/// Pairs of zones at most: every zone with every zone.
const PAIRS_MAX: usize = 4_096;

/// Reads `[links]`.
pub(super) fn read(reader: &mut Reader<'_>, root: &mut Table<'_>, stage: &Stage) -> LinkPlan {
    let mut table = reader.table(root, "links");
    let default = read_spec(reader, &mut table);
    let pairs = reader.tables(&mut table, "between", PAIRS_MAX);
    let between = pairs.into_iter().filter_map(|pair| read_pair(reader, pair, stage)).collect();
    reader.check_keys(&table);
    LinkPlan { default, between }
}

fn read_pair(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    stage: &Stage,
) -> Option<(String, String, LinkSpec)> {
    let zones = reader.list(&mut table, "zones", 2, |value| stage.zone(value));
    let spec = read_said(reader, &mut table);
    reader.check_keys(&table);
    if table.peek("zones").is_none() {
        reader.reject_key(&table, "zones", "is missing: it must be written");
    }
    match zones?.as_slice() {
        [one, other] => Some((one.clone(), other.clone(), spec)),
        _ => {
            reader.reject_key(&table, "zones", "must name two zones; they may be the same");
            None
        }
    }
}

/// Reads how links behave, and reports if nothing is said about it.
pub(super) fn read_said(reader: &mut Reader<'_>, table: &mut Table<'_>) -> LinkSpec {
    if SPEC_KEYS.iter().all(|key| table.peek(key).is_none()) {
        let why = format!("says nothing: write one or more of {}", SPEC_KEYS.join(", "));
        reader.reject_key(table, "", why);
    }
    read_spec(reader, table)
}

fn read_spec(reader: &mut Reader<'_>, table: &mut Table<'_>) -> LinkSpec {
    LinkSpec {
        latency: reader.optional(table, "latency", values::time),
        jitter: reader.optional(table, "jitter", values::time),
        loss: reader.optional(table, "loss", values::share),
        duplication: reader.optional(table, "duplication", values::share),
        reordering: reader.optional(table, "reordering", values::share),
        bandwidth: reader.optional(table, "bandwidth", values::bandwidth),
    }
}
