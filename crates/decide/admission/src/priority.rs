//! Priority of pods (rows Q4; upstream plugin/pkg/admission/priority).

use plimsoll_meta::status::Status;
use serde_json::{Value, json};

/// The classes that always exist: name, value.
pub const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// Gives a new pod the value of its class, or of the default class.
pub fn resolve(pod: &mut Value, classes: &[Value]) -> Result<(), String> {
    let named = pod["spec"]["priorityClassName"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    let class = match &named {
        Some(name) => Some(
            classes
                .iter()
                .find(|class| class["metadata"]["name"] == name.as_str())
                .ok_or_else(|| format!("no PriorityClass with name {name} was found"))?,
        ),
        None => classes
            .iter()
            .filter(|class| class["globalDefault"] == true)
            .min_by_key(|class| class["value"].as_i64()),
    };
    let value = class.map_or(0, |class| class["value"].as_i64().unwrap_or(0));
    let given = pod["spec"]["priority"].as_i64();
    if let Some(given) = given.filter(|given| *given != value) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        ));
    }
    let policy = class
        .and_then(|class| class["preemptionPolicy"].as_str())
        .unwrap_or("PreemptLowerPriority")
        .to_owned();
    if let Some(given) = pod["spec"]["preemptionPolicy"].as_str().filter(|given| *given != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    if let (None, Some(class)) = (&named, class) {
        pod["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
    }
    pod["spec"]["priority"] = json!(value);
    pod["spec"]["preemptionPolicy"] = json!(policy);
    Ok(())
}

/// Only one class may be the default.
pub fn check_class(class: &Value, classes: &[Value]) -> Result<(), Status> {
    let name = class["metadata"]["name"].as_str().unwrap_or_default();
    let other =
        classes.iter().find(|other| other["globalDefault"] == true && other["metadata"]["name"] != name);
    match other {
        Some(other) if class["globalDefault"] == true => Err(Status::forbidden(
            "scheduling.k8s.io",
            "priorityclasses",
            name,
            format!(
                "PriorityClass {} is already marked as globalDefault. Only one default can exist",
                other["metadata"]["name"].as_str().unwrap_or_default()
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_come_from_classes_only() {
        let classes = [
            json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}),
            json!({"metadata": {"name": "usual"}, "value": 10, "globalDefault": true}),
        ];
        for (spec, expected) in [
            (json!({}), Ok((10, "PreemptLowerPriority"))),
            (json!({"priorityClassName": "high"}), Ok((1000, "Never"))),
            (json!({"priorityClassName": "high", "priority": 1000}), Ok((1000, "Never"))),
            (json!({"priorityClassName": "none"}), Err("no PriorityClass with name none was found")),
            (json!({"priority": 5}), Err("the integer value of priority (5) must not be provided")),
        ] {
            let mut pod = json!({"spec": spec});
            match (resolve(&mut pod, &classes), expected) {
                (Ok(()), Ok((value, policy))) => {
                    assert_eq!(
                        (pod["spec"]["priority"].as_i64(), pod["spec"]["preemptionPolicy"].as_str()),
                        (Some(value), Some(policy))
                    );
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (outcome, _) => panic!("{outcome:?} for {pod}"),
            }
        }
    }
}
