//! Error text of volumes and classes.

use serde_json::{Value, json};

use super::check;

#[test]
fn storage_kinds_name_what_is_wrong_inside() {
    let duplicate = json!({"matchLabelExpressions": [{"key": "k", "values": ["v"]}]});
    let topologies = |list: Value| json!({"allowedTopologies": list});
    let class =
        |list, expected: &[&str]| check("storage.k8s.io", "storageclasses", topologies(list), expected);
    class(
        json!([duplicate, duplicate]),
        &[r#"allowedTopologies[1].matchLabelExpressions: Duplicate value: """#],
    );
    class(json!([{}]), &[r#"allowedTopologies[0].matchLabelExpressions: Duplicate value: """#]);
    class(
        json!([{"matchLabelExpressions": [{"key": "k", "values": []}, {"key": "l", "values": ["v", "v"]}]}]),
        &[
            "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
            r#"allowedTopologies[0].matchLabelExpressions[1].values[1]: Duplicate value: "v""#,
        ],
    );
    let volume = |patch: Value, expected: &[&str]| {
        let mut spec = patch;
        spec["hostPath"] = Value::Null;
        check("", "persistentvolumes", json!({"spec": spec}), expected);
    };
    volume(
        json!({"nfs": {"server": "s", "path": "p"}}),
        &[r#"spec.nfs.path: Invalid value: "p": must be an absolute path"#],
    );
    volume(
        json!({"csi": {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "a"}}}),
        &["spec.csi.nodePublishSecretRef.namespace: Required value"],
    );
    let node = |keys: Value| json!({"metadata": {"namespace": null}, "spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": keys}]}});
    check(
        "storage.k8s.io",
        "csinodes",
        node(json!(["k", "k"])),
        &[r#"spec.drivers[0]: Duplicate value: "k""#],
    );
}
