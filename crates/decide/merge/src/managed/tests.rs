#![expect(clippy::unwrap_used, reason = "tests")]

use plimsoll_schema::builtin;
use serde_json::json;

use super::*;

fn kind(name: &str) -> Typed<'static> {
    Typed::of(builtin(), builtin().lookup(name).unwrap())
}

fn writer<'a>(manager: &'a str, now: &'a str) -> Writer<'a> {
    Writer { manager, api_version: "v1", subresource: "", now }
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "u"}, "data": data})
}

fn owners(object: &Value) -> Vec<(&str, &str, &Value)> {
    let text = |entry: &'_ Value, field: &str| -> &'static str {
        Box::leak(entry[field].as_str().unwrap_or_default().to_owned().into_boxed_str())
    };
    let entries = object["metadata"]["managedFields"].as_array();
    entries
        .into_iter()
        .flatten()
        .map(|entry| (text(entry, "manager"), text(entry, "time"), &entry["fieldsV1"]))
        .collect()
}

#[test]
fn a_new_pod_belongs_to_its_creator() {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "containers": [{"name": "web", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
        "status": {},
    });
    track(None, &mut pod, &writer("kubectl-create", "t1"), kind("io.k8s.api.core.v1.Pod"), &Set::default());
    let expected = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {
            "f:containers": {"k:{\"name\":\"web\"}": {
                ".": {}, "f:name": {}, "f:image": {}, "f:resources": {},
                "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}},
            }},
            "f:volumes": {".": {}, "k:{\"name\":\"v\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}},
        },
    });
    assert_eq!(owners(&pod), [("kubectl-create", "t1", &expected)]);
}

#[test]
fn changed_fields_move_to_the_writer() {
    let typed = kind("io.k8s.api.core.v1.ConfigMap");
    let mut one = config_map(json!({"a": "1", "b": "1"}));
    track(None, &mut one, &writer("first", "t1"), typed, &Set::default());
    assert_eq!(owners(&one), [("first", "t1", &json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}}))]);

    let mut two = one.clone();
    two["data"] = json!({"a": "2", "b": "1", "c": "1"});
    track(Some(&one), &mut two, &writer("second", "t2"), typed, &Set::default());
    assert_eq!(
        owners(&two),
        [
            ("first", "t1", &json!({"f:data": {".": {}, "f:b": {}}})),
            ("second", "t2", &json!({"f:data": {"f:a": {}, "f:c": {}}}))
        ]
    );

    // A client that leaves managedFields out does not lose them; removed fields have no owner.
    let mut three = config_map(json!({"a": "2"}));
    track(Some(&two), &mut three, &writer("first", "t3"), typed, &Set::default());
    assert_eq!(
        owners(&three),
        [("first", "t1", &json!({"f:data": {}})), ("second", "t2", &json!({"f:data": {"f:a": {}}}))]
    );

    // No change: nothing moves, not even times.
    let mut four = three.clone();
    track(Some(&three), &mut four, &writer("other", "t4"), typed, &Set::default());
    assert_eq!(four, three);
}

#[test]
fn resets_and_untracked_objects() {
    let typed = kind("io.k8s.api.core.v1.ConfigMap");
    let mut one = config_map(json!({"a": "1"}));
    track(None, &mut one, &writer("first", "t1"), typed, &Set::default());
    for reset in [json!([]), json!([{}])] {
        let mut two = one.clone();
        two["metadata"]["managedFields"] = reset;
        track(Some(&one), &mut two, &writer("first", "t2"), typed, &Set::default());
        assert!(two["metadata"].get("managedFields").is_none());

        let mut three = two.clone();
        three["data"]["a"] = json!("2");
        track(Some(&two), &mut three, &writer("first", "t3"), typed, &Set::default());
        assert!(three["metadata"].get("managedFields").is_none());
    }
    let mut broken = one.clone();
    broken["metadata"]["managedFields"][0]["operation"] = json!("Guess");
    track(Some(&one), &mut broken, &writer("first", "t2"), typed, &Set::default());
    assert_eq!(broken, one);
}

#[test]
fn status_is_tracked_apart() {
    let typed = kind("io.k8s.api.core.v1.Pod");
    let mut one = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"nodeName": "n"}, "status": {"phase": "Pending"}});
    let reset = Set::of_fields(&[&["status"]]);
    track(None, &mut one, &writer("creator", "t1"), typed, &reset);
    assert_eq!(owners(&one), [("creator", "t1", &json!({"f:spec": {"f:nodeName": {}}}))]);
    let mut two = one.clone();
    two["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    let status = Writer { subresource: "status", ..writer("kubelet", "t2") };
    track(Some(&one), &mut two, &status, typed, &Set::of_fields(&[&["spec"]]));
    let fields = json!({"f:phase": {}, "f:conditions": {".": {}, "k:{\"type\":\"Ready\"}": {".": {}, "f:type": {}, "f:status": {}}}});
    assert_eq!(owners(&two)[1], ("kubelet", "t2", &json!({"f:status": fields})));
    assert_eq!(two["metadata"]["managedFields"][1]["subresource"], "status");
}

#[test]
fn at_most_ten_updaters() {
    let typed = kind("io.k8s.api.core.v1.ConfigMap");
    let mut object = config_map(json!({}));
    track(None, &mut object, &writer("m00", "t00"), typed, &Set::default());
    for at in 1..=15 {
        let mut next = object.clone();
        next["data"][format!("k{at:02}")] = json!("x");
        track(
            Some(&object),
            &mut next,
            &writer(&format!("m{at:02}"), &format!("t{at:02}")),
            typed,
            &Set::default(),
        );
        object = next;
    }
    let owners = owners(&object);
    assert_eq!(owners.len(), 10);
    assert_eq!(owners[0].0, "ancient-changes");
    assert_eq!(owners[0].2["f:data"]["f:k01"], json!({}));
    assert_eq!(owners[9].0, "m15");
}
