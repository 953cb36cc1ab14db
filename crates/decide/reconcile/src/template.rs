//! When two templates are the same.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde::Serialize;
use serde_json::Value;

/// Maps of which an empty one says no more than none.
const MAPS: [&str; 6] = ["labels", "annotations", "matchLabels", "nodeSelector", "limits", "requests"];

/// Whether two templates make the same pods: an empty list or map is as good as none.
pub fn same(one: &PodTemplateSpec, two: &PodTemplateSpec) -> bool {
    one == two || plain(one) == plain(two)
}

/// An API object without what says nothing.
pub fn plain<T: Serialize>(object: &T) -> Value {
    prune(serde_json::to_value(object).expect("API types are JSON"))
}

fn prune(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(name, value)| !says_nothing(name, value));
            Value::Object(kept.map(|(name, value)| (name, prune(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(prune).collect()),
        other => other,
    }
}

fn says_nothing(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        // `emptyDir: {}` says much.
        Value::Object(fields) => fields.is_empty() && MAPS.contains(&name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn empty_lists_and_maps_are_as_good_as_none() {
        let template = |meta: Value, volumes: Value| -> PodTemplateSpec {
            let spec = json!({"containers": [{"name": "c", "env": []}], "volumes": volumes});
            serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a valid template")
        };
        let cases = [
            ((json!({}), json!([])), (json!({"annotations": {}}), json!(null)), true),
            ((json!({}), json!([])), (json!({"annotations": {"a": ""}}), json!([])), false),
            ((json!({}), json!([{"name": "v"}])), (json!({}), json!([{"name": "v", "emptyDir": {}}])), false),
        ];
        for ((meta, volumes), (other_meta, other_volumes), expected) in cases {
            let (one, two) = (template(meta, volumes), template(other_meta, other_volumes));
            assert_eq!(same(&one, &two), expected, "{one:?} {two:?}");
        }
    }
}
