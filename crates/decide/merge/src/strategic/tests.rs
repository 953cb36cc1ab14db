#![expect(clippy::unwrap_used, reason = "tests")]

use plimsoll_schema::builtin;
use serde_json::json;

use super::*;

fn pod() -> Typed<'static> {
    Typed::of(builtin(), builtin().lookup("io.k8s.api.core.v1.Pod").unwrap())
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn maps_and_scalars() {
    let table = [
        (
            json!({"a": 1, "b": {"c": 1, "d": 2}}),
            json!({"b": {"c": null, "e": 3}}),
            json!({"a": 1, "b": {"d": 2, "e": 3}}),
        ),
        (json!({"b": {"c": 1}}), json!({"b": {"$patch": "replace", "d": 2}}), json!({"b": {"d": 2}})),
        (json!({"b": {"c": 1}}), json!({"b": {"$patch": "delete"}}), json!({"b": {}})),
        (json!({"b": {"c": 1}}), json!({"b": {"$patch": "merge", "d": 2}}), json!({"b": {"c": 1, "d": 2}})),
        (json!({}), json!({"b": {"c": {"$patch": "delete"}, "d": null, "e": 1}}), json!({"b": {"e": 1}})),
        (json!({"l": [1, 2]}), json!({"l": [3]}), json!({"l": [3]})),
        (json!({"a": 1}), json!({"a": {"b": null}}), json!({"a": {}})),
        (
            json!({"x": {"a": 1, "b": 2, "c": 3}}),
            json!({"x": {"$retainKeys": ["a", "d"], "d": 4}}),
            json!({"x": {"a": 1, "d": 4}}),
        ),
    ];
    for (document, patch, result) in table {
        assert_eq!(strategic_merge(document, &patch, Typed::DEDUCED), Ok(result), "{patch}");
    }
}

#[test]
fn lists_of_maps() {
    let document = json!({"spec": {"containers": [
        {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]},
        {"name": "b", "image": "b:1"},
    ]}});
    let table = [
        (json!({"spec": {"containers": [{"name": "b", "image": "b:2"}]}}), vec!["a", "b"]),
        (json!({"spec": {"containers": [{"name": "c", "image": "c:1"}]}}), vec!["c", "a", "b"]),
        (json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}), vec!["b"]),
        (json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}}), vec!["c"]),
        (json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}), vec!["b", "a"]),
        (
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "a"}, {"name": "n"}, {"name": "b"}],
                "containers": [{"name": "n", "image": "n:1"}],
            }}),
            vec!["a", "n", "b"],
        ),
    ];
    for (patch, expected) in table {
        let merged = strategic_merge(document.clone(), &patch, pod()).unwrap();
        assert_eq!(names(&merged["spec"]["containers"]), expected, "{patch}");
    }

    let patch = json!({"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]}});
    let merged = strategic_merge(document, &patch, pod()).unwrap();
    assert_eq!(merged["spec"]["containers"][0]["image"], "a:1");
    assert_eq!(merged["spec"]["containers"][0]["env"].as_array().unwrap().len(), 2);
}

#[test]
fn lists_of_scalars() {
    let document = json!({"metadata": {"finalizers": ["a", "b"]}});
    let table = [
        (json!({"metadata": {"finalizers": ["c"]}}), json!(["c", "a", "b"])),
        (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}), json!(["b"])),
        (
            json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["b", "c"]}}),
            json!(["b", "c"]),
        ),
    ];
    for (patch, expected) in table {
        let merged = strategic_merge(document.clone(), &patch, pod()).unwrap();
        assert_eq!(merged["metadata"]["finalizers"], expected, "{patch}");
    }
}

#[test]
fn volumes_retain_keys() {
    let document = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
    let patch = json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}});
    let merged = strategic_merge(document, &patch, pod()).unwrap();
    assert_eq!(merged["spec"]["volumes"], json!([{"name": "v", "hostPath": {"path": "/x"}}]));
}

#[test]
fn refusals() {
    let document = json!({"spec": {"containers": [{"name": "a"}]}, "m": {"x": 1}});
    let table = [
        (json!({"spec": {"containers": [{"image": "x"}]}}), "does not contain declared merge key: name"),
        (json!({"m": {"$patch": "explode"}}), "unknown patch type: explode in map: {}"),
        (json!({"m": {"$retainKeys": ["a"], "b": 1}}), "invalid patch format of retainKeys"),
        (json!({"m": {"$deleteFromPrimitiveList": ["a"]}}), "invalid patch format of primitive list"),
        (json!({"m": {"$setElementOrder/x": 3}}), "invalid patch format of setElementOrder list"),
        (json!([]), "must be an object"),
    ];
    for (patch, message) in table {
        let error = strategic_merge(document.clone(), &patch, pod()).unwrap_err().to_string();
        assert!(error.contains(message), "{patch}: {error}");
    }
}
