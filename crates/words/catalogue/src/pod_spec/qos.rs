//! The quality of service class of a pod (upstream: `pkg/apis/core/v1/helper/qos`).

use std::collections::BTreeMap;

use serde_json::Value;

use plimsoll_meta::quantity::Quantity;

use crate::access::Access;

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed` when every container limits cpu and memory and requests just that, `BestEffort`
/// when none says anything, else `Burstable`. Resources of the pod as a whole count instead of
/// those of its containers.
pub fn class(pod: &Value) -> &'static str {
    let Some(spec) = pod.at("spec") else { return "BestEffort" };
    if let Some(resources) = spec.at("resources").filter(|found| names_any(found)) {
        return classify(std::slice::from_ref(&resources));
    }
    let containers: Vec<&Value> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| spec.list(list))
        .map(|container| container.at("resources").unwrap_or(&Value::Null))
        .collect();
    classify(&containers)
}

fn names_any(resources: &Value) -> bool {
    ["requests", "limits"]
        .iter()
        .any(|list| COUNTED.iter().any(|name| amount(resources, list, name).is_some()))
}

fn classify(resources: &[&Value]) -> &'static str {
    let mut sums: BTreeMap<(&str, &str), i128> = BTreeMap::new();
    let mut all_limited = !resources.is_empty();
    for resources in resources {
        for name in COUNTED {
            for list in ["requests", "limits"] {
                match amount(resources, list, name) {
                    Some(milli) => *sums.entry((list, name)).or_default() += milli,
                    None if list == "limits" => all_limited = false,
                    None => {}
                }
            }
        }
    }
    let equal = |name| match (sums.get(&("requests", name)), sums.get(&("limits", name))) {
        (Some(request), Some(limit)) => request == limit,
        _ => false,
    };
    match () {
        () if sums.is_empty() => "BestEffort",
        () if all_limited && COUNTED.into_iter().all(equal) => "Guaranteed",
        () => "Burstable",
    }
}

/// A positive amount in thousandths.
fn amount(resources: &Value, list: &str, name: &str) -> Option<i128> {
    let quantity: Quantity = resources.map(list).get(name)?.as_str()?.parse().ok()?;
    let milli = i128::from(quantity.milli());
    (milli > 0).then_some(milli)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes_follow_requests_and_limits() {
        let same = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}});
        let less =
            json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
        let none = json!({});
        for (containers, init, class_name) in [
            (vec![&none], vec![], "BestEffort"),
            (vec![&same], vec![], "Guaranteed"),
            (vec![&same, &same], vec![&same], "Guaranteed"),
            (vec![&less], vec![], "Burstable"),
            (vec![&same, &none], vec![], "Burstable"),
            (vec![&same], vec![&none], "Burstable"),
        ] {
            let wrap =
                |list: &[&Value]| -> Vec<Value> { list.iter().map(|r| json!({"resources": r})).collect() };
            let pod = json!({"spec": {"containers": wrap(&containers), "initContainers": wrap(&init)}});
            assert_eq!(class(&pod), class_name, "{pod}");
        }
    }

    #[test]
    fn resources_of_the_pod_decide() {
        let limits = json!({"cpu": "1", "memory": "1Gi"});
        let pod = json!({"spec": {
            "resources": {"requests": limits, "limits": limits},
            "containers": [{"resources": {}}],
        }});
        assert_eq!(class(&pod), "Guaranteed");
    }
}
