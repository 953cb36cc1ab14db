//! Resources of the node that somebody else advertises: with a patch of the node's status `capacity`, as operators
//! do for things that no device plugin serves. The agent makes them allocatable.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use plimsoll_meta::quantity::Quantity;
use serde_json::{Map, Value, json};

/// What the node's `allocatable` has to say of resources that are not among the agent's `own`: the amount of each
/// that `capacity` names, null for one that it names no longer.
pub(super) fn allocatable(node: &Node, own: &BTreeMap<String, Quantity>) -> Map<String, Value> {
    let status = node.status.clone().unwrap_or_default();
    let capacity = status.capacity.unwrap_or_default();
    let gone = status.allocatable.unwrap_or_default().into_keys();
    let gone = gone.filter(|name| !capacity.contains_key(name)).map(|name| (name, Value::Null));
    let there = capacity.iter().map(|(name, amount)| (name.clone(), json!(amount)));
    there.chain(gone).filter(|(name, _)| !own.contains_key(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_advertise_is_allocatable_while_it_is_capacity() {
        let own = BTreeMap::from([("cpu".to_owned(), Quantity::from_units(2))]);
        let cases = [
            (json!({}), json!({})),
            (json!({"capacity": {"cpu": "8"}, "allocatable": {"cpu": "2"}}), json!({})),
            (
                json!({"capacity": {"cpu": "8", "example.com/dongle": "4"}}),
                json!({"example.com/dongle": "4"}),
            ),
            (
                json!({"capacity": {"example.com/dongle": "5"}, "allocatable": {"example.com/dongle": "4"}}),
                json!({"example.com/dongle": "5"}),
            ),
            (
                json!({"capacity": {"cpu": "8"}, "allocatable": {"cpu": "2", "example.com/dongle": "4"}}),
                json!({"example.com/dongle": null}),
            ),
        ];
        for (status, expected) in cases {
            let node = serde_json::from_value(json!({"metadata": {"name": "n"}, "status": status}));
            let told = allocatable(&node.expect("a node"), &own);
            assert_eq!(Value::Object(told), expected, "{status}");
        }
    }
}
