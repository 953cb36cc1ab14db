#![expect(clippy::unwrap_used, reason = "tests")]

use plimsoll_schema::builtin;
use serde_json::json;

use super::*;
use crate::managed::track;

fn kind(name: &str) -> Typed<'static> {
    Typed::of(builtin(), builtin().lookup(name).unwrap())
}

fn map() -> Typed<'static> {
    kind("io.k8s.api.core.v1.ConfigMap")
}

fn config(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": data})
}

fn run(
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    typed: Typed<'_>,
) -> Result<Value, ApplyError> {
    let api_version = config["apiVersion"].as_str().unwrap();
    let writer = Writer { manager, api_version, subresource: "", now: "now" };
    let mut live = live.cloned();
    if let Some(live) = &mut live {
        live["metadata"]["uid"] = json!("u");
    }
    apply(live.as_ref(), &Request { config, writer, force }, typed, &Set::default())
}

#[test]
fn create_share_and_give_up() {
    let one = run(None, &config(json!({"a": "1", "b": "1"})), "x", false, map()).unwrap();
    assert_eq!(one["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:data": {"f:a": {}, "f:b": {}}}));
    assert_eq!(one["metadata"]["managedFields"][0]["operation"], "Apply");

    // Same value: shared. No change of the object.
    let two = run(Some(&one), &config(json!({"b": "1"})), "y", false, map()).unwrap();
    assert_eq!(two["data"], one["data"]);
    assert_eq!(two["metadata"]["managedFields"].as_array().unwrap().len(), 2);

    // x stops sending both: a has no other owner and goes, b is y's.
    let three = run(Some(&two), &config(json!({})), "x", false, map()).unwrap();
    assert_eq!(three["data"], json!({"b": "1"}));
    assert_eq!(three["metadata"]["managedFields"].as_array().unwrap().len(), 2);

    // Nothing changes: the same object, times included.
    let four = run(Some(&three), &config(json!({"b": "1"})), "y", false, map()).unwrap();
    assert_eq!(four, three);
}

#[test]
fn conflicts_and_force() {
    let one = run(None, &config(json!({"key": "1"})), "x", false, map()).unwrap();
    let error = run(Some(&one), &config(json!({"key": "2"})), "y", false, map()).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"x\": .data.key");
    let two = run(Some(&one), &config(json!({"key": "2"})), "y", true, map()).unwrap();
    assert_eq!(two["data"]["key"], "2");
    assert_eq!(two["metadata"]["managedFields"].as_array().unwrap().len(), 1);

    let mut updated = two.clone();
    updated["data"]["key"] = json!("3");
    let editor = Writer { manager: "mgr", api_version: "v1", subresource: "", now: "then" };
    track(Some(&two), &mut updated, &editor, map(), &Set::default());
    let error = run(Some(&updated), &config(json!({"key": "2"})), "y", false, map()).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"mgr\" using v1: .data.key");
}

fn deployment(containers: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"},
        "spec": {"template": {"spec": {"containers": containers}}}})
}

#[test]
fn lists_by_key() {
    let typed = kind("io.k8s.api.apps.v1.Deployment");
    let one = run(None, &deployment(json!([{"name": "a", "image": "1", "env": [{"name": "E", "value": "x"}]}, {"name": "b", "image": "1"}])), "x", false, typed).unwrap();
    let two =
        run(Some(&one), &deployment(json!([{"name": "side", "image": "s"}])), "y", false, typed).unwrap();
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
        list.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&two), ["a", "b", "side"]);
    let three =
        run(Some(&two), &deployment(json!([{"name": "a", "image": "2"}])), "x", false, typed).unwrap();
    assert_eq!(names(&three), ["a", "side"]);
    assert_eq!(three["spec"]["template"]["spec"]["containers"][0], json!({"name": "a", "image": "2"}));
    let reordered = run(Some(&two), &deployment(json!([{"name": "b", "image": "1"}, {"name": "a", "image": "1", "env": [{"name": "E", "value": "x"}]}])), "x", false, typed).unwrap();
    assert_eq!(reordered["spec"]["template"], two["spec"]["template"]);
}

#[test]
fn atomic_structs_change_as_one() {
    let typed = kind("io.k8s.api.core.v1.Service");
    let service = |selector: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"selector": selector, "ports": [{"port": 80}]}})
    };
    let one = run(None, &service(json!({"a": "1"})), "x", false, typed).unwrap();
    assert_eq!(
        one["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:selector": {}}})
    );
    let two = run(Some(&one), &service(json!({"b": "2"})), "x", false, typed).unwrap();
    assert_eq!(two["spec"]["selector"], json!({"b": "2"}));
}

#[test]
fn objects_from_before_and_from_client_side_apply() {
    let live = config(json!({"a": "1"}));
    let error = run(Some(&live), &config(json!({"a": "2"})), "x", false, map()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a"
    );

    let mut live = config(json!({"a": "1"}));
    let annotation = format!("{}\n", config(json!({"a": "1"})));
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": annotation});
    let editor =
        Writer { manager: "kubectl-client-side-apply", api_version: "v1", subresource: "", now: "then" };
    let mut created = live;
    track(None, &mut created, &editor, map(), &Set::default());
    assert!(run(Some(&created), &config(json!({"a": "2"})), "other", false, map()).is_err());
    let two = run(Some(&created), &config(json!({"a": "2"})), "kubectl", false, map()).unwrap();
    assert_eq!(two["data"]["a"], "2");
    let kept =
        two["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
    assert!(kept.contains("\"a\":\"2\""));
}

#[test]
fn unfit_configurations() {
    let typed = kind("io.k8s.api.apps.v1.Deployment");
    let mut unknown = deployment(json!([{"name": "a", "image": "1"}]));
    unknown["spec"]["foo"] = json!(1);
    let table = [
        (
            unknown,
            "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema",
        ),
        (
            deployment(json!([{"image": "1"}])),
            "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
        ),
        (
            deployment(json!([{"name": "a"}, {"name": "a"}])),
            "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
        (
            deployment(
                json!([{"name": "a", "command": [1], "stdin": "x", "terminationMessagePath": 3}, "str"]),
            ),
            "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): errors:\n  .spec.template.spec.containers[name=\"a\"].command[0]: expected string, got &value.valueUnstructured{Value:1}\n  .spec.template.spec.containers[name=\"a\"].stdin: expected boolean, got &{x}\n  .spec.template.spec.containers[name=\"a\"].terminationMessagePath: expected string, got &value.valueUnstructured{Value:3}\n  .spec.template.spec.containers: element 1: associative list with keys may not have non-map elements",
        ),
        (
            deployment(json!([{"name": "a", "env": {}}])),
            "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.template.spec.containers[name=\"a\"].env: expected list, got &{map[]}",
        ),
    ];
    for (config, message) in table {
        assert_eq!(run(None, &config, "x", false, typed).unwrap_err().to_string(), message);
    }
    let mut config = config(json!({}));
    config["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        run(None, &config, "x", false, map()).unwrap_err().to_string(),
        "metadata.managedFields must be nil"
    );
}

#[test]
fn without_a_schema() {
    let widget = |spec: Value| json!({"apiVersion": "e.x/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    let one =
        run(None, &widget(json!({"list": [1, 2], "map": {"a": 1, "b": 2}})), "x", false, Typed::DEDUCED)
            .unwrap();
    let two =
        run(Some(&one), &widget(json!({"list": [3], "map": {"a": 1}})), "x", false, Typed::DEDUCED).unwrap();
    assert_eq!(two["spec"], json!({"list": [3], "map": {"a": 1}}));
}
