//! What a mutating policy wants of an object, merged as an apply merges, without ownership
//! (apiserver: pkg/admission/plugin/policy/mutating/patch/smd.go, v1.37).

use plimsoll_schema::{ListKind, MapKind, Node};
use serde_json::Value;

use crate::Typed;
use crate::check::mistakes;
use crate::combine::combine;

/// The live object with everything that `configuration` sets.
///
/// # Errors
/// When the configuration does not fit the types, or sets a part of what is only replaced as a whole: whatever
/// it leaves out would be lost.
pub fn overlay(live: &Value, configuration: &Value, typed: Typed<'_>) -> Result<Value, String> {
    let mistakes = mistakes(configuration, typed);
    if !mistakes.is_empty() {
        let list = match &mistakes[..] {
            [only] => only.clone(),
            several => format!("errors:\n  {}", several.join("\n  ")),
        };
        return Err(format!("failed to convert patch object to typed object: {list}"));
    }
    let mut found = Vec::new();
    atomics(configuration, typed, "", &mut found);
    if !found.is_empty() {
        let list = found.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {list}"
        ));
    }
    Ok(combine(live, configuration, typed))
}

/// Paths of everything that is replaced as a whole.
fn atomics(value: &Value, typed: Typed<'_>, path: &str, found: &mut Vec<String>) {
    match (typed.node(), value) {
        (Some(Node::Struct(kind)), Value::Object(fields)) => {
            if kind.kind != MapKind::Granular {
                found.push(path.to_owned());
            }
            for (key, value) in fields {
                atomics(value, typed.patch(key).1, &format!("{path}.{key}"), found);
            }
        }
        (Some(Node::Map { kind, .. }), Value::Object(_)) if *kind != MapKind::Granular => {
            found.push(path.to_owned());
        }
        (Some(Node::List { kind, .. }), Value::Array(items)) => {
            if *kind == ListKind::Atomic {
                found.push(path.to_owned());
            }
            for (at, value) in items.iter().enumerate() {
                atomics(value, typed.item(), &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_add_to_objects_and_replace_nothing_by_accident() {
        let schemas = plimsoll_schema::builtin();
        let pod = schemas.lookup("io.k8s.api.core.v1.Pod").expect("a schema");
        let live = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let merged = |patch: Value| overlay(&live, &patch, Typed::of(schemas, pod));
        assert_eq!(
            merged(
                json!({"metadata": {"labels": {"b": "2"}}, "spec": {"containers": [{"name": "c", "tty": true}]}})
            ),
            Ok(json!({"metadata": {"labels": {"a": "1", "b": "2"}},
                "spec": {"containers": [{"name": "c", "image": "i", "tty": true}]}}))
        );
        for (patch, expected) in [
            (
                json!({"spec": {"tolerations": [{"key": "x"}]}}),
                "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.tolerations",
            ),
            (
                json!({"spec": {"none": 1}}),
                "failed to convert patch object to typed object: .spec.none: field not declared in schema",
            ),
        ] {
            assert_eq!(merged(patch), Err(expected.to_owned()));
        }
    }
}
