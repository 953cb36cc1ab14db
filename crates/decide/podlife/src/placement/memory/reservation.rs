//! What is kept from pods on each memory node (`reservedMemory`): together as much as the node keeps from pods.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_meta::quantity::Quantity;

use super::{Banks, MEMORY};

/// One entry of `reservedMemory`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reservation {
    /// The memory node.
    pub node: u32,
    /// Amounts by resource.
    pub limits: BTreeMap<String, Quantity>,
}

/// Bytes by memory node and resource.
pub type Reserved = BTreeMap<u32, BTreeMap<String, u64>>;

/// Adds up what is reserved. `kept` is what the node keeps from pods: reservations and thresholds of eviction.
///
/// # Errors
/// A node that there is not, sums that differ, or nothing reserved, in upstream's words.
pub fn reserved(
    banks: &Banks,
    kept: &BTreeMap<String, Quantity>,
    given: &[Reservation],
) -> Result<Reserved, String> {
    let mut sums: BTreeMap<&str, Quantity> = BTreeMap::new();
    let mut reserved: Reserved = banks.keys().map(|node| (*node, BTreeMap::new())).collect();
    for Reservation { node, limits } in given {
        let own = reserved.get_mut(node).ok_or_else(|| {
            format!("the reserved memory configuration references a NUMA node {node} that does not exist on this machine")
        })?;
        for (name, amount) in limits {
            *sums.entry(name).or_default() += *amount;
            own.insert(name.clone(), u64::try_from(amount.value()).unwrap_or(0));
        }
    }
    let of_memory = |name: &&str| *name == MEMORY || name.starts_with("hugepages-");
    let names: BTreeSet<&str> =
        sums.keys().copied().chain(kept.keys().map(String::as_str).filter(of_memory)).collect();
    for name in names {
        let sum = sums.get(name).copied().unwrap_or_default();
        let kept = kept.get(name).copied().unwrap_or_default();
        if sum.value() != kept.value() {
            return Err(format!(
                "the total amount \"{sum}\" of type {name:?} is not equal to the value \"{kept}\" determined by \
                 Node Allocatable feature"
            ));
        }
    }
    let all: u64 = reserved.values().filter_map(|own| own.get(MEMORY)).sum();
    if all == 0 {
        return Err("[memorymanager] you should specify the system reserved memory".to_owned());
    }
    Ok(reserved)
}
