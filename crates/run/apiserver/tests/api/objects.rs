//! Objects of a plain kind from their creation to their end.

use http::Method;
use serde_json::json;

use crate::support::{Cluster, admin};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_made_changed_read_and_deleted() {
    let cluster = Cluster::start().await;
    let made = cluster.post(MAPS, json!({"metadata": {"generateName": "a-"}, "data": {"k": "1"}})).await;
    assert_eq!(made.code, 201, "{made:?}");
    let object = made.json();
    let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("a-") && name.len() == 7, "{name}");
    let path = format!("{MAPS}/{name}");

    let stale = json!({"metadata": {"name": name, "resourceVersion": "1"}, "data": {}});
    let refused = cluster.put(&path, stale).await;
    assert!(refused.message().contains("the object has been modified"), "{refused:?}");
    assert_eq!((refused.code, refused.json()["reason"].clone()), (409, json!("Conflict")));

    let patched =
        cluster.patch(&path, "application/merge-patch+json", json!({"data": {"k": null, "l": "2"}})).await;
    assert_eq!(patched.json()["data"], json!({"l": "2"}));
    assert_eq!(cluster.get(&path).await.body, patched.body);

    let gone = cluster.delete(&path).await;
    assert_eq!((gone.code, gone.json()["status"].clone()), (200, json!("Success")));
    assert_eq!(cluster.get(&path).await.code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_come_as_headers() {
    let cluster = Cluster::start().await;
    let object = json!({"metadata": {"name": "a"}, "datta": {}});
    let answer = cluster.ask_as(admin(), Method::POST, MAPS, &[], Some(object)).await;
    assert_eq!(answer.code, 201);
    assert_eq!(answer.headers["warning"], "299 - \"unknown field \\\"datta\\\"\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_for_root_alone() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::start().await;
    for name in ["sa.key", "ca.key"] {
        let mode = std::fs::metadata(cluster.folder.path().join(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(cluster.authority.certificate().starts_with(cluster.folder.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_given_twice_are_told() {
    let cluster = Cluster::start().await;
    let text = r#"{"metadata":{"name":"a","labels":{"x":"1","x":"2"}},"data":{},"data":{"k":"v"}}"#;
    let post = async |options: &str, media_type: &str, text: &str| {
        let headers = [("content-type", media_type)];
        cluster.ask_text(Method::POST, &format!("{MAPS}?{options}"), &headers, text).await
    };
    for (media_type, text) in [
        ("application/json", text),
        ("application/yaml", "metadata:\n  name: a\n  labels: {x: '1', x: '2'}\ndata: {}\ndata: {k: v}\n"),
    ] {
        let refused = post("fieldValidation=Strict", media_type, text).await;
        let message = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"metadata.labels.x\", duplicate field \"data\"";
        assert_eq!((refused.code, refused.message().as_str()), (400, message));
        let made = post("dryRun=All", media_type, text).await;
        let warnings: Vec<_> =
            made.headers.get_all("warning").iter().filter_map(|value| value.to_str().ok()).collect();
        let expected =
            ["299 - \"duplicate field \\\"metadata.labels.x\\\"\"", "299 - \"duplicate field \\\"data\\\"\""];
        assert_eq!((made.code, warnings), (201, expected.to_vec()));
        assert_eq!(made.json()["metadata"]["labels"]["x"], "2");
        let quiet = post("dryRun=All&fieldValidation=Ignore", media_type, text).await;
        assert_eq!((quiet.code, quiet.headers.get("warning")), (201, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bodies_get_a_clear_answer() {
    let cluster = Cluster::start().await;
    let nested = |levels: usize| {
        let inner = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"metadata":{{"name":"a","annotations":{inner}}}}}"#)
    };
    let bomb: String =
        (1..64).map(|level| format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1)).collect();
    for (media_type, text, part) in [
        ("application/json", nested(50_000), "recursion limit exceeded"),
        ("application/json", nested(99), "exceeded max depth"),
        ("application/json", "{\"metadata\":".to_owned(), "json parse error"),
        ("application/yaml", nested(50_000), "error converting YAML to JSON"),
        ("application/yaml", format!("a0: &a0 x\n{bomb}"), "error converting YAML to JSON"),
        ("application/vnd.kubernetes.protobuf", "k8s".to_owned(), "expected prefix"),
        ("text/plain", "{}".to_owned(), "in an unknown format"),
    ] {
        let headers = [("content-type", media_type)];
        let answer = cluster.ask_text(Method::POST, MAPS, &headers, &text).await;
        assert!(matches!(answer.code, 400 | 415), "{media_type}: {}", answer.code);
        assert!(answer.message().contains(part), "{media_type}: {}", answer.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_that_insist_on_a_version_are_patched_without_one() {
    let cluster = Cluster::start().await;
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    let made = cluster.post(classes, json!({"metadata": {"name": "c"}, "handler": "h"})).await;
    assert_eq!(made.code, 201, "{made:?}");
    let path = format!("{classes}/c");
    for (media_type, patch) in [
        ("application/merge-patch+json", json!({"metadata": {"labels": {"a": "1"}}})),
        ("application/strategic-merge-patch+json", json!({"metadata": {"labels": {"a": "2"}}})),
        (
            "application/json-patch+json",
            json!([{"op": "replace", "path": "/metadata/labels/a", "value": "3"}]),
        ),
    ] {
        let patched = cluster.patch(&path, media_type, patch).await;
        assert_eq!(patched.code, 200, "{media_type} {patched:?}");
    }
    let applied = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "c", "labels": {"b": "4"}}, "handler": "h"});
    let patched =
        cluster.patch(&format!("{path}?fieldManager=m"), "application/apply-patch+yaml", applied).await;
    assert_eq!(patched.json()["metadata"]["labels"], json!({"a": "3", "b": "4"}), "{patched:?}");
    let replaced = cluster.put(&path, json!({"metadata": {"name": "c"}, "handler": "h"})).await;
    assert!(
        replaced
            .message()
            .contains("metadata.resourceVersion: Invalid value: 0x0: must be specified for an update")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_do_what_their_options_say() {
    let cluster = Cluster::start().await;
    for name in ["a", "b"] {
        assert_eq!(cluster.post(MAPS, json!({"metadata": {"name": name}})).await.code, 201);
    }
    let path = format!("{MAPS}/a");
    for (target, options, code, message) in [
        (path.as_str(), json!({"dryRun": ["All"]}), 200, ""),
        (MAPS, json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]}), 200, ""),
        (&path, json!({"dryRun": ["Some"]}), 422, "dryRun: Unsupported value"),
        (
            &path,
            json!({"propagationPolicy": "Bad"}),
            422,
            "supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            &path,
            json!({"preconditions": {"uid": "x"}}),
            409,
            "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (x) does not match the UID in record",
        ),
    ] {
        let answer = cluster.ask(Method::DELETE, target, Some(options.clone())).await;
        assert_eq!(answer.code, code, "{options} {answer:?}");
        assert!(message.is_empty() || answer.message().contains(message), "{options} {answer:?}");
        for name in ["a", "b"] {
            assert_eq!(cluster.get(&format!("{MAPS}/{name}")).await.code, 200, "{options} {name}");
        }
    }
    let negative = cluster.ask(Method::DELETE, &path, Some(json!({"gracePeriodSeconds": -5}))).await;
    assert_eq!((negative.code, cluster.get(&path).await.code), (200, 404));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_counts_for_the_version_it_was_read_from() {
    let cluster = Cluster::start().await;
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let labels = json!({"app": "web"});
    let set = json!({"metadata": {"name": "web"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }});
    assert_eq!(cluster.post(sets, set).await.code, 201);
    let path = format!("{sets}/web/scale");
    let scale = cluster.get(&path).await.json();
    let replicas = |count: i64| {
        let mut scale = scale.clone();
        scale["spec"]["replicas"] = json!(count);
        scale
    };
    let scaled = cluster.put(&path, replicas(1)).await;
    assert_eq!((scaled.code, scaled.json()["spec"]["replicas"].clone()), (200, json!(1)), "{scaled:?}");
    assert_eq!(cluster.put(&path, replicas(3)).await.code, 409, "the version is an old one");
    let mut any = replicas(3);
    any["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
    assert_eq!(cluster.put(&path, any).await.code, 200);
}
