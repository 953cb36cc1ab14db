//! RuntimeClass: overhead and scheduling of the class that a pod names.

use std::str::FromStr;

use plimsoll_meta::quantity::Quantity;
use serde_json::Value;

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// The class that the pod asks for, if it asks for one.
///
/// # Errors
/// When it does not exist.
pub fn find(pod: &Value, class: impl FnOnce(&str) -> Option<Value>) -> Result<Option<Value>, String> {
    match pod["spec"]["runtimeClassName"].as_str() {
        None => Ok(None),
        Some(name) => {
            class(name).map(Some).ok_or_else(|| format!("pod rejected: RuntimeClass {name:?} not found"))
        }
    }
}

/// Gives a new pod what its class says.
///
/// # Errors
/// When the pod says something else.
pub fn apply(pod: &mut Value, class: Option<&Value>) -> Result<(), String> {
    let Some(class) = class else { return Ok(()) };
    let fixed = &class["overhead"]["podFixed"];
    if class["overhead"].is_object() {
        if pod["spec"]["overhead"].is_object() && !same(&pod["spec"]["overhead"], fixed) {
            return Err(MISMATCH.to_owned());
        }
        pod["spec"]["overhead"] = fixed.clone();
    }
    for (key, value) in class["scheduling"]["nodeSelector"].as_object().into_iter().flatten() {
        let (wanted, found) = (value.as_str().unwrap_or_default(), &pod["spec"]["nodeSelector"][key]);
        if let Some(found) = found.as_str().filter(|found| *found != wanted) {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {found}"
            ));
        }
        pod["spec"]["nodeSelector"][key] = value.clone();
    }
    if class["scheduling"].is_object() {
        let merged = merged(&pod["spec"]["tolerations"], &class["scheduling"]["tolerations"]);
        if !merged.is_empty() {
            pod["spec"]["tolerations"] = Value::Array(merged);
        }
    }
    Ok(())
}

/// Holds a pod that others may have changed against its class.
///
/// # Errors
/// When its overhead is not that of the class.
pub fn check(pod: &Value, class: Option<&Value>) -> Result<(), String> {
    let overhead = &pod["spec"]["overhead"];
    match class.map(|class| &class["overhead"]).filter(|overhead| overhead.is_object()) {
        Some(defined) if !same(overhead, &defined["podFixed"]) => Err(MISMATCH.to_owned()),
        None if overhead.is_object() => {
            Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// Do both name the same amounts, however they are written?
fn same(one: &Value, other: &Value) -> bool {
    let amounts = |list: &Value| -> Vec<(String, Option<Quantity>)> {
        let list = list.as_object().into_iter().flatten();
        let mut found: Vec<_> = list
            .map(|(name, amount)| {
                (name.clone(), amount.as_str().and_then(|text| Quantity::from_str(text).ok()))
            })
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found
    };
    amounts(one) == amounts(other)
}

/// Both lists as one, without what another toleration covers.
fn merged(first: &Value, second: &Value) -> Vec<Value> {
    let list = |tolerations: &Value| tolerations.as_array().cloned().unwrap_or_default();
    let all = [list(first), list(second)].concat();
    let mut merged: Vec<Value> = Vec::new();
    for (at, toleration) in all.iter().enumerate() {
        let covered = merged.iter().any(|other| covers(other, toleration))
            || all[at + 1..].iter().any(|other| other != toleration && covers(other, toleration));
        if !covered {
            merged.push(toleration.clone());
        }
    }
    merged
}

/// Does `wide` tolerate everything that `narrow` does?
fn covers(wide: &Value, narrow: &Value) -> bool {
    let text = |toleration: &'_ Value, field: &str| toleration[field].as_str().unwrap_or_default().to_owned();
    let operator = |toleration: &Value| match text(toleration, "operator") {
        empty if empty.is_empty() => "Equal".to_owned(),
        operator => operator,
    };
    if wide == narrow {
        return true;
    }
    let every_key = text(wide, "key").is_empty() && operator(wide) == "Exists";
    if text(wide, "key") != text(narrow, "key") && !every_key {
        return false;
    }
    if text(wide, "effect") != text(narrow, "effect") && !text(wide, "effect").is_empty() {
        return false;
    }
    if text(wide, "effect") == "NoExecute"
        && let Some(seconds) = wide["tolerationSeconds"].as_i64()
        && narrow["tolerationSeconds"].as_i64().is_none_or(|narrow| narrow > seconds)
    {
        return false;
    }
    match operator(wide).as_str() {
        "Equal" => operator(narrow) == "Equal" && text(narrow, "value") == text(wide, "value"),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class() -> Value {
        json!({"overhead": {"podFixed": {"cpu": "100m"}}, "scheduling": {"nodeSelector": {"kind": "vm"},
            "tolerations": [{"key": "vm", "operator": "Exists"}]}})
    }

    #[test]
    fn pods_get_what_their_class_says() {
        let mut pod = json!({"spec": {"overhead": {"cpu": "0.1"}, "tolerations": [{"key": "vm", "operator": "Equal", "value": "x", "effect": "NoSchedule"}]}});
        apply(&mut pod, Some(&class())).expect("the same amount");
        assert_eq!(
            pod["spec"],
            json!({"overhead": {"cpu": "100m"}, "nodeSelector": {"kind": "vm"}, "tolerations": [{"key": "vm", "operator": "Exists"}]})
        );
        check(&pod, Some(&class())).expect("unchanged since");
    }

    #[test]
    fn pods_that_say_something_else_are_refused() {
        for (spec, message) in [
            (json!({"overhead": {"cpu": "1"}}), MISMATCH),
            (
                json!({"nodeSelector": {"kind": "metal"}}),
                "conflict: runtimeClass.scheduling.nodeSelector[kind] = vm; pod.spec.nodeSelector[kind] = metal",
            ),
        ] {
            assert_eq!(apply(&mut json!({"spec": spec}), Some(&class())), Err(message.to_owned()));
        }
        let overhead = json!({"spec": {"overhead": {"cpu": "1"}}});
        assert_eq!(
            check(&overhead, None),
            Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                .to_owned())
        );
        assert_eq!(check(&json!({"spec": {}}), Some(&class())), Err(MISMATCH.to_owned()));
        assert_eq!(
            find(&json!({"spec": {"runtimeClassName": "x"}}), |_| None),
            Err(r#"pod rejected: RuntimeClass "x" not found"#.to_owned())
        );
    }
}
