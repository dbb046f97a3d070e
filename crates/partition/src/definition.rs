//! What a map should be like, checked: what was written, and what it means for planners.

use std::collections::BTreeMap;

use ringmesh_types::ids::NodeId;
use ringmesh_types::map_spec::{MapSpec, PINS_MAX};
use ringmesh_types::name::NodeName;

use crate::map::STANDBYS_MAX;
use crate::plan::PlanConfig;
use crate::position::{Position, Strategy};

/// Bytes of all pinned keys together at most.
const PINS_BYTES_MAX: usize = 64 << 10;
/// Partitions for each host, at least and at most.
const PER_HOST: core::ops::RangeInclusive<u16> = 1..=1_000;

/// What a map should be like.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// How keys are laid out.
    pub strategy: Strategy,
    /// Whether plans wait for an operator.
    pub needs_approval: bool,
    /// How load is kept even.
    pub plan: PlanConfig,
}

impl Definition {
    /// Checks what was written; `id_of` says who a host is.
    ///
    /// # Errors
    /// Everything that is wrong, each with its field and what is allowed.
    pub fn read(spec: &MapSpec, id_of: impl Fn(&NodeName) -> NodeId) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let strategy = match spec.strategy.as_str() {
            "hash" => Strategy::Hash,
            "name" => Strategy::Name,
            known @ ("geo" | "time") => {
                problems.push(format!("strategy: {known:?} is not built yet: hash and name are"));
                Strategy::Hash
            }
            other => {
                problems.push(format!("strategy: {other:?} is none: hash and name are"));
                Strategy::Hash
            }
        };
        let needs_approval = match spec.mode.as_str() {
            "auto" => false,
            "approve" => true,
            other => {
                problems.push(format!("mode: {other:?} is none: auto and approve are"));
                false
            }
        };
        if !PER_HOST.contains(&spec.partitions_per_host) {
            problems.push(format!("partitions_per_host: {} is not 1 to 1000", spec.partitions_per_host));
        }
        if usize::from(spec.standbys) > STANDBYS_MAX {
            problems.push(format!("standbys: {} is not 0 to {STANDBYS_MAX}", spec.standbys));
        }
        if spec.pins.len() > PINS_MAX {
            problems.push(format!("pins: {} are too many: {PINS_MAX} at most", spec.pins.len()));
        }
        let bytes: usize = spec.pins.iter().map(|pin| pin.key.len()).sum();
        if bytes > PINS_BYTES_MAX {
            problems.push(format!("pins: their keys have {bytes} bytes together: {PINS_BYTES_MAX} at most"));
        }
        let mut pins = BTreeMap::new();
        for (index, pin) in spec.pins.iter().enumerate().take(PINS_MAX) {
            match strategy.position(pin.key.as_bytes()) {
                Ok(at) => {
                    if pins.insert(at, pin.node.as_ref().map(&id_of)).is_some() {
                        problems.push(format!("pins[{index}].key: {:?} is pinned twice", pin.key));
                    }
                }
                Err(error) => problems.push(format!("pins[{index}].key: {error}")),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let plan = PlanConfig {
            partitions_per_host: spec.partitions_per_host.into(),
            standbys: spec.standbys.into(),
            pins,
            ..PlanConfig::default()
        };
        Ok(Self { strategy, needs_approval, plan })
    }

    /// Whether a key at `at` was given a partition of its own by an operator.
    pub fn is_pinned(&self, at: Position) -> bool {
        self.plan.pins.contains_key(&at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmesh_types::map_spec::Pin;

    fn read(change: impl FnOnce(&mut MapSpec)) -> Result<Definition, Vec<String>> {
        let mut spec = MapSpec::default();
        change(&mut spec);
        Definition::read(&spec, |name| NodeId::from_bytes([name.as_str().len() as u8; 8]))
    }

    #[test]
    fn every_mistake_is_named_with_its_field() {
        let problems = read(|spec| {
            spec.strategy = "geo".to_owned();
            spec.mode = "manual".to_owned();
            spec.partitions_per_host = 0;
            spec.standbys = 4;
            let pin = |key: &str| Pin { key: key.to_owned(), node: None };
            spec.pins = vec![pin("a"), pin("a"), pin(""), pin(&"x".repeat(1_025))];
        });
        let problems = problems.expect_err("nothing is right");
        let fields: Vec<&str> = problems.iter().filter_map(|why| why.split(':').next()).collect();
        let want = [
            "strategy",
            "mode",
            "partitions_per_host",
            "standbys",
            "pins[1].key",
            "pins[2].key",
            "pins[3].key",
        ];
        assert_eq!(fields, want);
        assert!(problems[0].contains("not built yet"), "{}", problems[0]);
    }

    #[test]
    fn a_pin_is_a_position_and_a_host() {
        let pin = Pin { key: "acme".to_owned(), node: Some("lim-1".parse().expect("a name")) };
        let definition = read(|spec| spec.pins = vec![pin]).expect("is right");
        let at = Strategy::Hash.position(b"acme").expect("a key");
        assert_eq!(definition.plan.pins, [(at, Some(NodeId::from_bytes([5; 8])))].into());
        assert!(definition.is_pinned(at) && !definition.needs_approval);
    }
}
