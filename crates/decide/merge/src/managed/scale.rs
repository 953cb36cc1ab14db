//! Owners of an object's replicas as owners of its Scale, and back.

use serde_json::{Value, json};

/// Entries for the Scale of an object that has the entries `parent`: those that own `spec.replicas`.
pub fn of_scale(parent: &Value) -> Value {
    let owners = entries(parent).filter(|entry| owns_replicas(entry)).map(|entry| {
        let mut entry = entry.clone();
        entry["apiVersion"] = json!("autoscaling/v1");
        entry["fieldsV1"] = json!({"f:spec": {"f:replicas": {}}});
        entry
    });
    Value::Array(owners.collect())
}

/// The entries of the object again, after its Scale came to have the entries `scale`; `api_version` is
/// the object's.
pub fn from_scale(parent: &Value, scale: &Value, api_version: &str) -> Value {
    let owns_still = |entry: &Value| entries(scale).any(|owner| same_manager(owner, entry));
    let mut all: Vec<Value> = entries(parent)
        .filter_map(|entry| {
            let lost = owns_replicas(entry) && !owns_still(entry);
            if lost { without_replicas(entry) } else { Some(entry.clone()) }
        })
        .collect();
    for owner in entries(scale).filter(|owner| owns_replicas(owner)) {
        match all.iter_mut().find(|entry| same_manager(owner, entry)) {
            Some(entry) => entry["fieldsV1"]["f:spec"]["f:replicas"] = json!({}),
            None => {
                let mut owner = owner.clone();
                owner["apiVersion"] = json!(api_version);
                all.push(owner);
            }
        }
    }
    Value::Array(all)
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn owns_replicas(entry: &Value) -> bool {
    entry.pointer("/fieldsV1/f:spec/f:replicas").is_some()
}

fn same_manager(a: &Value, b: &Value) -> bool {
    ["manager", "operation", "subresource"].iter().all(|field| a.get(*field) == b.get(*field))
}

/// The entry without the replicas; none if it owned nothing else.
fn without_replicas(entry: &Value) -> Option<Value> {
    let mut entry = entry.clone();
    let fields = entry["fieldsV1"].as_object_mut()?;
    if let Some(spec) = fields.get_mut("f:spec").and_then(Value::as_object_mut) {
        spec.remove("f:replicas");
        if spec.is_empty() {
            fields.remove("f:spec");
        }
    }
    (!fields.is_empty()).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, version: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": "Apply", "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    #[test]
    fn owners_of_replicas_own_the_scale() {
        let both = json!({"f:spec": {"f:paused": {}, "f:replicas": {}}});
        let only = json!({"f:spec": {"f:replicas": {}}});
        let paused = json!({"f:spec": {"f:paused": {}}});
        let parent = json!([
            entry("a", "apps/v1", both),
            entry("b", "apps/v1", paused.clone()),
            entry("c", "apps/v1", only.clone())
        ]);
        let scale = of_scale(&parent);
        assert_eq!(
            scale,
            json!([entry("a", "autoscaling/v1", only.clone()), entry("c", "autoscaling/v1", only.clone())])
        );

        let taken = json!([entry("d", "autoscaling/v1", only.clone())]);
        assert_eq!(
            from_scale(&parent, &taken, "apps/v1"),
            json!([
                entry("a", "apps/v1", paused.clone()),
                entry("b", "apps/v1", paused),
                entry("d", "apps/v1", only)
            ])
        );
        assert_eq!(from_scale(&parent, &scale, "apps/v1"), parent);
    }
}
