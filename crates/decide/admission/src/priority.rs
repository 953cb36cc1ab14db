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
        None => default_class(classes),
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

/// Only one class may be the default. `old` is the class before; absent when it is new.
pub fn check_class(class: &Value, old: Option<&Value>, classes: &[Value]) -> Result<(), Status> {
    let name = |class: &Value| class["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let own = name(class);
    let another = default_class(classes).filter(|other| old.is_none() || name(other) != own);
    match another {
        Some(other) if class["globalDefault"] == true => Err(Status::forbidden(
            "scheduling.k8s.io",
            "priorityclasses",
            &own,
            format!("PriorityClass {} is already marked as default. Only one default can exist", name(other)),
        )),
        _ => Ok(()),
    }
}

/// The class of pods that name none. Should there be several by a race, the least important one counts.
fn default_class(classes: &[Value]) -> Option<&Value> {
    let defaults = classes.iter().filter(|class| class["globalDefault"] == true);
    defaults.min_by_key(|class| class["value"].as_i64())
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
    #[test]
    fn one_class_is_the_default() {
        let class = |name: &str, default: bool| json!({"metadata": {"name": name}, "value": 10, "globalDefault": default});
        let (usual, other) = (class("usual", true), class("other", true));
        let there = [class("usual", true), class("other", false)];
        for (class, old, taken) in [
            (&other, None, true),
            (&other, Some(&there[1]), true),
            (&usual, None, true),
            (&usual, Some(&there[0]), false),
            (&there[1], None, false),
        ] {
            let refused = check_class(class, old, &there).err().map(|status| status.message);
            let text = "PriorityClass usual is already marked as default. Only one default can exist";
            assert_eq!(refused.is_some_and(|message| message.ends_with(text)), taken, "{class} {old:?}");
        }
        let mut two = [class("usual", true), class("lesser", true)];
        two[1]["value"] = json!(5);
        let mut pod = json!({"spec": {}});
        assert_eq!(resolve(&mut pod, &two), Ok(()));
        assert_eq!(
            (&pod["spec"]["priorityClassName"], &pod["spec"]["priority"]),
            (&json!("lesser"), &json!(5))
        );
    }
}
