//! Owners of an object's replicas as owners of its Scale, and back.

use serde_json::{Map, Value, json};

/// Entries for the Scale of an object that has the entries `parent`: those that own its replicas, which
/// are at `path` (`spec.replicas`).
pub fn of_scale(parent: &Value, path: &str) -> Value {
    let owners = entries(parent).filter(|entry| owns(entry, path)).map(|entry| {
        let mut entry = entry.clone();
        entry["apiVersion"] = json!("autoscaling/v1");
        entry["fieldsV1"] = json!({"f:spec": {"f:replicas": {}}});
        entry
    });
    Value::Array(owners.collect())
}

/// The entries of the object again, after its Scale came to have the entries `scale`; `api_version` is
/// the object's, and `path` where its replicas are.
pub fn from_scale(parent: &Value, scale: &Value, api_version: &str, path: &str) -> Value {
    let owns_still = |entry: &Value| entries(scale).any(|owner| same_manager(owner, entry));
    let mut all: Vec<Value> = entries(parent)
        .filter_map(|entry| {
            let lost = owns(entry, path) && !owns_still(entry);
            if lost { without(entry, path) } else { Some(entry.clone()) }
        })
        .collect();
    for owner in entries(scale).filter(|owner| owns(owner, "spec.replicas")) {
        match all.iter_mut().find(|entry| same_manager(owner, entry)) {
            Some(entry) => own(entry, path),
            None => {
                let mut owner = owner.clone();
                owner["apiVersion"] = json!(api_version);
                owner["fieldsV1"] = json!({});
                own(&mut owner, path);
                all.push(owner);
            }
        }
    }
    Value::Array(all)
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The members of `fieldsV1` on the way to a field.
fn steps(path: &str) -> impl Iterator<Item = String> {
    path.split('.').map(|name| format!("f:{name}"))
}

fn owns(entry: &Value, path: &str) -> bool {
    steps(path).try_fold(&entry["fieldsV1"], |fields, step| fields.get(step)).is_some()
}

fn own(entry: &mut Value, path: &str) {
    let mut here = &mut entry["fieldsV1"];
    for step in steps(path) {
        here = &mut here[step];
        if here.is_null() {
            *here = json!({});
        }
    }
}

fn same_manager(a: &Value, b: &Value) -> bool {
    ["manager", "operation", "subresource"].iter().all(|field| a.get(*field) == b.get(*field))
}

/// The entry without the replicas; none if it owned nothing else.
fn without(entry: &Value, path: &str) -> Option<Value> {
    let mut entry = entry.clone();
    let steps: Vec<String> = steps(path).collect();
    let fields = entry["fieldsV1"].as_object_mut()?;
    remove(fields, &steps);
    (!fields.is_empty()).then_some(entry)
}

/// Removes a path and what is empty without it.
fn remove(fields: &mut Map<String, Value>, steps: &[String]) {
    let Some((first, rest)) = steps.split_first() else { return };
    let is_empty = match fields.get_mut(first).and_then(Value::as_object_mut) {
        Some(below) if !rest.is_empty() => {
            remove(below, rest);
            below.is_empty()
        }
        _ => true,
    };
    if is_empty {
        fields.remove(first);
    }
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
        let scale = of_scale(&parent, "spec.replicas");
        assert_eq!(
            scale,
            json!([entry("a", "autoscaling/v1", only.clone()), entry("c", "autoscaling/v1", only.clone())])
        );

        let taken = json!([entry("d", "autoscaling/v1", only.clone())]);
        assert_eq!(
            from_scale(&parent, &taken, "apps/v1", "spec.replicas"),
            json!([
                entry("a", "apps/v1", paused.clone()),
                entry("b", "apps/v1", paused),
                entry("d", "apps/v1", only)
            ])
        );
        assert_eq!(from_scale(&parent, &scale, "apps/v1", "spec.replicas"), parent);
    }
}
