//! Patches and their refusals: codes and words of upstream v1.28, to which the same requests were sent.

use http::Method;
use serde_json::{Value, json};

use crate::support::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TEMPLATES: &str = "/api/v1/namespaces/default/podtemplates";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Sends text, which need not be JSON.
async fn send(cluster: &Cluster, path: &str, media_type: &str, text: &str) -> (u16, String, Vec<String>) {
    let answer = cluster.ask_text(Method::PATCH, path, &[("content-type", media_type)], text).await;
    let warnings = answer.headers.get_all("warning").iter();
    let warnings = warnings.map(|value| value.to_str().unwrap_or_default().to_owned()).collect();
    (answer.code, answer.message(), warnings)
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_that_cannot_be_are_refused_in_upstreams_words() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, json!({"metadata": {"name": "a"}, "data": {"a": "1"}})).await;
    let generic = "the server rejected our request due to an error in our request";
    let table: [(&str, &str, &str, u16, &str); 34] = [
        (JSON, "", r#"[{"op":"test","path":"/data/a","value":"2"}]"#, 422, generic),
        (JSON, "", r#"[{"op":"remove","path":"/data/z"}]"#, 422, generic),
        (
            JSON,
            "",
            r#"{"op":"add"}"#,
            400,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            JSON,
            "",
            "\"x\"",
            400,
            "error decoding patch: json: cannot unmarshal string into Go value of type []handlers.jsonPatchOp",
        ),
        (JSON, "", "{", 400, "error decoding patch: unexpected end of JSON input"),
        (
            JSON,
            "",
            r#"[{"op":"replace","path":"/metadata/uid","value":"x"}]"#,
            422,
            "ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"x\": field is immutable",
        ),
        (
            JSON,
            "",
            r#"[{"op":"replace","path":"/metadata/name","value":"x"}]"#,
            400,
            "the name of the object (x) does not match the name on the URL (a)",
        ),
        (
            JSON,
            "",
            r#"[{"op":"remove","path":"/metadata"}]"#,
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided",
        ),
        (
            JSON,
            "?dryRun=Some",
            "[]",
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: []string{\"Some\"}: supported values: \"All\"",
        ),
        (
            JSON,
            "?fieldValidation=Some",
            "[]",
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Some\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
        ),
        (
            JSON,
            "?fieldManager=%01",
            "[]",
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"\\x01\": invalid character U+0001 (at position 0)",
        ),
        (
            JSON,
            "?force=true",
            "[]",
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
        ),
        ("text/plain", "", "{}", 415, "415: Unsupported Media Type"),
        (
            MERGE,
            "",
            "[1]",
            400,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (MERGE, "", "null", 400, "Invalid JSON Patch"),
        (MERGE, "", "", 400, "error decoding patch: unexpected end of JSON input"),
        (
            MERGE,
            "",
            "data: x",
            400,
            "error decoding patch: invalid character 'd' looking for beginning of value",
        ),
        (
            MERGE,
            "",
            r#"{"metadata":null}"#,
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided",
        ),
        (
            MERGE,
            "",
            r#"{"metadata":{"resourceVersion":"x"}}"#,
            500,
            "strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            STRATEGIC,
            "",
            "[]",
            400,
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (STRATEGIC, "", "{", 400, "unexpected end of JSON input"),
        (
            STRATEGIC,
            "",
            r#"{"data":"x"}"#,
            422,
            " \"\" is invalid: patch: Invalid value: \"map[data:x]\": cannot restore map from string",
        ),
        (
            STRATEGIC,
            "?fieldValidation=Strict",
            r#"{"zz":{"y":1}}"#,
            422,
            " \"\" is invalid: patch: Invalid value: \"map[zz:map[y:1]]\": strict decoding error: unknown field \"zz\"",
        ),
        (
            APPLY,
            "",
            "{}",
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            APPLY,
            "?fieldManager=m",
            "[]",
            400,
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (APPLY, "?fieldManager=m", "", 400, "invalid object type: /, Kind="),
        (
            APPLY,
            "?fieldManager=m",
            r#"{"apiVersion":"v1","metadata":{"name":"a"}}"#,
            400,
            "invalid object type: /v1, Kind=",
        ),
        (
            APPLY,
            "?fieldManager=m",
            r#"{"apiVersion":"apps/v1","kind":"ConfigMap"}"#,
            400,
            "invalid object type: apps/v1, Kind=ConfigMap",
        ),
        (
            APPLY,
            "?fieldManager=m",
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"d"}}"#,
            400,
            "the name of the object (d) does not match the name on the URL (a)",
        ),
        (
            APPLY,
            "?fieldManager=m",
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"z"}}"#,
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            APPLY,
            "?fieldManager=m",
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","uid":"x"}}"#,
            422,
            "ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"x\": field is immutable",
        ),
        (
            APPLY,
            "?fieldManager=m",
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","resourceVersion":"1"}}"#,
            409,
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        (
            APPLY,
            "?fieldManager=m",
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","zz":1}}"#,
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .metadata.zz: field not declared in schema",
        ),
        (
            APPLY,
            "?fieldManager=m",
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":1}}"#,
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .data.a: expected string, got &value.valueUnstructured{Value:1}",
        ),
    ];
    for (media_type, query, text, code, message) in table {
        let path = format!("{MAPS}/a{query}");
        let (got, said, _) = send(&cluster, &path, media_type, text).await;
        assert_eq!((got, said.as_str()), (code, message), "{media_type} {query} {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_patch_makes_is_decoded_like_any_body() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, json!({"metadata": {"name": "a"}, "data": {"a": "1"}})).await;
    let path = format!("{MAPS}/a");
    for (media_type, text, end) in [
        (
            JSON,
            r#"[{"op":"add","path":"/data/d","value":3}]"#,
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            JSON,
            r#"[{"op":"replace","path":"/kind","value":"Secret"}]"#,
            "converting (v1.Secret) to (core.ConfigMap): unknown conversion",
        ),
        (
            MERGE,
            r#"{"apiVersion":"v2"}"#,
            "no kind \"ConfigMap\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            MERGE,
            r#"{"metadata":"x"}"#,
            "json: cannot unmarshal string into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
        ),
    ] {
        let (code, message, _) = send(&cluster, &path, media_type, text).await;
        assert_eq!(code, 422, "{message}");
        assert!(
            message.starts_with(" \"\" is invalid: patch: Invalid value: \"{") && message.ends_with(end),
            "{message}"
        );
    }
    let strict = format!("{path}?fieldValidation=Strict");
    for (media_type, text, why) in [
        (
            JSON,
            r#"[{"op":"add","path":"/data/g","value":"1","zz":1}]"#,
            "json patch unknown field \"[0].zz\"",
        ),
        (
            JSON,
            r#"[{"op":"add","path":"/data/g","path":"/data/h","value":"1"}]"#,
            "json patch duplicate field \"[0].path\"",
        ),
        (MERGE, r#"{"data":{"a":"1","a":"2"}}"#, "duplicate field \"data.a\""),
        (MERGE, r#"{"zz":1}"#, "unknown field \"zz\""),
    ] {
        let (code, message, _) = send(&cluster, &strict, media_type, text).await;
        assert_eq!(code, 422, "{message}");
        assert!(message.ends_with(&format!("strict decoding error: {why}")), "{message}");
        let (code, _, warnings) = send(&cluster, &path, media_type, text).await;
        assert_eq!((code, warnings), (200, vec![format!("299 - \"{}\"", why.replace('"', "\\\""))]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_base64() {
    let cluster = Cluster::start().await;
    let secret = json!({"metadata": {"name": "s"}, "data": {"a": "!!"}});
    let refused = cluster.post("/api/v1/namespaces/default/secrets", secret).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (400, "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 0")
    );
}

fn managers(object: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.map(|one| (text(&one["manager"]), text(&one["operation"]), text(&one["subresource"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_leaves_out_what_go_leaves_out() {
    let cluster = Cluster::start().await;
    let template = json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t"},
        "template": {"metadata": {"labels": {}}, "spec": {
            "volumes": [], "containers": [{"name": "a", "image": "i", "env": []}]}},
    });
    let path = format!("{TEMPLATES}/t?fieldManager=m");
    let made = cluster.patch(&path, APPLY, template.clone()).await;
    assert_eq!(made.code, 201, "{made:?}");
    let object = made.json();
    assert!(
        object["template"]["spec"]["volumes"].is_null() && object["template"]["metadata"]["labels"].is_null()
    );
    // Maps without entries are owned, lists without elements are not.
    let fields = json!({"f:template": {"f:metadata": {"f:labels": {}}, "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {
        ".": {}, "f:image": {}, "f:name": {}}}}}});
    assert_eq!(object["metadata"]["managedFields"][0]["fieldsV1"], fields);

    let again = cluster.patch(&path, APPLY, template).await.json();
    assert_eq!(again["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);
    let reset =
        cluster.patch(&format!("{TEMPLATES}/t"), MERGE, json!({"metadata": {"managedFields": []}})).await;
    assert!(reset.json()["metadata"]["managedFields"].is_null(), "{reset:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_owns_the_replicas_owns_the_scale() {
    let cluster = Cluster::start().await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "n", "image": "i"}]}}},
    });
    let made = cluster.patch(&format!("{DEPLOYMENTS}/d?fieldManager=m"), APPLY, deployment).await;
    assert_eq!(made.code, 201, "{made:?}");
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 5}});
    let path = format!("{DEPLOYMENTS}/d/scale?fieldManager=s");
    let refused = cluster.patch(&path, APPLY, scale.clone()).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (409, "Apply failed with 1 conflict: conflict with \"m\": .spec.replicas")
    );
    let forced = cluster.patch(&format!("{path}&force=true"), APPLY, scale.clone()).await;
    assert_eq!((forced.code, forced.json()["spec"]["replicas"].clone()), (200, json!(5)));
    let object = cluster.get(&format!("{DEPLOYMENTS}/d")).await.json();
    let owner = ("s".to_owned(), "Apply".to_owned(), "scale".to_owned());
    assert!(managers(&object).contains(&owner), "{object}");

    let mut other = scale;
    other["metadata"]["name"] = json!("e");
    let refused = cluster.put(&format!("{DEPLOYMENTS}/d/scale"), other).await;
    assert_eq!(refused.message(), "the name of the object (e) does not match the name on the URL (d)");

    // Status does not take labels, and who writes one does not come to own them.
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"no": "label"}},
        "status": {"conditions": [{"type": "X", "status": "True"}]}});
    let written =
        cluster.patch(&format!("{DEPLOYMENTS}/d/status?fieldManager=st"), APPLY, status).await.json();
    let entry = written["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["manager"] == "st");
    assert!(entry.is_some_and(|entry| entry["fieldsV1"]["f:metadata"].is_null()), "{written}");
}
