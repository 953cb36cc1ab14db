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

/// Codes and words of upstream v1.28.
#[test]
fn refusals() {
    let document = json!({
        "spec": {"containers": [{"name": "a", "image": "i"}], "hostAliases": [{"ip": "1.1.1.1"}]},
        "m": {"x": 1},
    });
    let patched = |containers: Value| json!({"spec": {"containers": containers}});
    let order = |wanted: Value, change: Value| json!({"spec": {"$setElementOrder/containers": wanted, "containers": change}});
    let table = [
        (
            500,
            patched(json!([{"image": "x"}])),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            500,
            patched(json!([{"$patch": "delete"}])),
            "map: map[$patch:delete] does not contain declared merge key: name",
        ),
        (500, patched(json!(["x"])), "list element types are not identical: [[map[image:i name:a]] [x]]"),
        (
            500,
            patched(json!([{"name": "a", "$patch": "merge"}])),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            500,
            patched(json!([{"name": "a", "$patch": "frob"}])),
            "unknown patch type: frob in map: map[$patch:frob name:a]",
        ),
        (500, json!({"m": {"$patch": "explode"}}), "unknown patch type: explode in map: map[$patch:explode]"),
        (
            500,
            json!({"m": {"$patch": "merge", "z": "y"}}),
            "unknown patch type: merge in map: map[$patch:merge z:y]",
        ),
        (500, json!({"m": {"$patch": 3}}), "unknown patch type: %!s(int64=3) in map: map[$patch:3]"),
        (
            500,
            order(json!([{"name": "b"}]), json!([{"name": "a", "image": "x"}])),
            "The order in patch list:\n[map[image:x name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
        ),
        (
            500,
            order(json!([{"nope": "b"}]), json!([{"name": "a", "image": "x"}])),
            "map: map[nope:b] does not contain declared merge key: name",
        ),
        (500, order(json!("x"), json!([])), "expected a []interface {}, but received a string"),
        (400, json!({"m": {"$retainKeys": ["a"], "b": 1}}), "invalid patch format of retainKeys"),
        (400, json!({"m": {"$deleteFromPrimitiveList": ["a"]}}), "invalid patch format of primitive list"),
        (400, json!([]), "json: cannot unmarshal array into Go value of type map[string]interface {}"),
    ];
    for (code, patch, message) in table {
        let error = strategic_merge(document.clone(), &patch, pod()).unwrap_err();
        assert_eq!(error.to_string(), message, "{patch}");
        assert_eq!(plimsoll_meta::status::Status::from(error).code, code, "{patch}");
    }
}
