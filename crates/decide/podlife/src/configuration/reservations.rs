//! Resources that are kept from pods (kubelet: cmd/kubelet/app/server.go, parseResourceList).

use std::collections::BTreeMap;

use plimsoll_meta::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::Configuration;

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// What is reserved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reservations {
    /// For the agent and the engine.
    pub kube: Amounts,
    /// For the rest of the system.
    pub system: Amounts,
}

impl Configuration {
    /// Reads both reservations.
    ///
    /// # Errors
    /// What is wrong with them, in upstream's words.
    pub fn reservations(&self) -> Result<Reservations, String> {
        let kube = amounts(&self.kube_reserved)
            .map_err(|problem| format!("--kube-reserved value failed to parse: {problem}"))?;
        let system = amounts(&self.system_reserved)
            .map_err(|problem| format!("--system-reserved value failed to parse: {problem}"))?;
        Ok(Reservations { kube, system })
    }
}

fn amounts(given: &BTreeMap<String, String>) -> Result<Amounts, String> {
    let read = |(name, text): (&String, &String)| {
        if !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage" | "pid") {
            return Err(format!("cannot reserve {name:?} resource"));
        }
        let amount: Quantity = text
            .parse()
            .map_err(|error| format!("failed to parse quantity {text:?} for {name:?} resource: {error}"))?;
        if amount.sign() < 0 {
            return Err(format!("resource quantity for {name:?} cannot be negative: {text}"));
        }
        Ok((name.clone(), amount))
    };
    given.iter().map(read).collect()
}

/// Reads what the flag `--reserved-memory` says of one memory node: `0:memory=1Gi,hugepages-2Mi=4Mi`
/// (kubelet: pkg/util/flag/flags.go).
pub(super) fn reserved_memory(text: &str) -> Result<Value, String> {
    let malformed = || {
        format!(
            "the reserved memory has incorrect format, expected numaNodeID:type=quantity[,type=quantity...], got {text}"
        )
    };
    let (node, limits) =
        text.split_once(':').filter(|(_, rest)| !rest.contains(':')).ok_or_else(malformed)?;
    let number: i32 = node
        .parse()
        .map_err(|_| format!("failed to convert the NUMA node ID, exptected integer, got {node}"))?;
    let limit = |pair: &str| {
        let (name, amount) =
            pair.split_once('=').filter(|(_, rest)| !rest.contains('=')).ok_or_else(|| {
                format!("the reserved limit has incorrect value, expected type=quantatity, got {pair}")
            })?;
        if name != "memory" && !name.starts_with("hugepages-") {
            return Err(format!("memory type conversion error, unknown type: {name:?}"));
        }
        if amount.parse::<Quantity>().is_err() {
            return Err(format!("failed to parse the quantatity, expected quantatity, got {amount}"));
        }
        Ok((name.to_owned(), json!(amount)))
    };
    let limits = limits.split(',').map(limit).collect::<Result<Map<_, _>, _>>()?;
    Ok(json!({"numaNode": number, "limits": limits}))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn given(kube: &[(&str, &str)]) -> Result<Reservations, String> {
        let pair = |(name, amount): &(&str, &str)| ((*name).to_owned(), (*amount).to_owned());
        let it = Configuration { kube_reserved: kube.iter().map(pair).collect(), ..Configuration::default() };
        it.reservations()
    }

    #[test]
    fn amounts_are_read() {
        let plain = given(&[("cpu", "100m"), ("memory", "1Gi")]).unwrap();
        assert_eq!((plain.kube["cpu"].milli(), plain.kube["memory"].value()), (100, 1 << 30));
    }

    #[test]
    fn reserved_memory_of_the_flag() {
        let read = reserved_memory("1:memory=1Gi,hugepages-2Mi=4Mi").unwrap();
        assert_eq!(read, json!({"numaNode": 1, "limits": {"memory": "1Gi", "hugepages-2Mi": "4Mi"}}));
        for (text, expected) in [
            (
                "memory=1Gi",
                "the reserved memory has incorrect format, expected numaNodeID:type=quantity[,type=quantity...], got \
                 memory=1Gi",
            ),
            ("a:memory=1Gi", "failed to convert the NUMA node ID, exptected integer, got a"),
            ("0:memory", "the reserved limit has incorrect value, expected type=quantatity, got memory"),
            ("0:cpu=1", "memory type conversion error, unknown type: \"cpu\""),
            ("0:memory=x", "failed to parse the quantatity, expected quantatity, got x"),
        ] {
            assert_eq!(reserved_memory(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn what_cannot_be_reserved_is_refused() {
        for (name, amount, expected) in [
            ("gpu", "1", "cannot reserve \"gpu\" resource"),
            ("cpu", "-1", "resource quantity for \"cpu\" cannot be negative: -1"),
        ] {
            let found = given(&[(name, amount)]).unwrap_err();
            assert_eq!(found, format!("--kube-reserved value failed to parse: {expected}"));
        }
        assert!(
            given(&[("cpu", "x")])
                .unwrap_err()
                .contains("failed to parse quantity \"x\" for \"cpu\" resource")
        );
    }
}
