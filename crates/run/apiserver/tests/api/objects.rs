//! Objects of a plain kind from their creation to their end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::support::{Cluster, admin};
use plimsoll_access::User;

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
async fn a_collection_is_deleted_as_a_whole_and_told_in_order() {
    let cluster = Cluster::start().await;
    let names: Vec<String> = (100..180).map(|number| format!("a-{number}")).collect();
    for name in &names {
        let finalizers: &[&str] = if name == "a-123" { &["example.com/held"] } else { &[] };
        let object = json!({"metadata": {"name": name, "labels": {"app": "x"}, "finalizers": finalizers}});
        assert_eq!(cluster.post(MAPS, object).await.code, 201);
    }
    let answer = cluster.delete(&format!("{MAPS}?labelSelector=app%3Dx")).await;
    assert_eq!((answer.code, answer.json()["kind"].clone()), (200, json!("ConfigMapList")));
    let told: Vec<_> = answer.json()["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(told.iter().map(|item| item["metadata"]["name"].clone()).collect::<Vec<_>>(), names);
    assert!(told[23]["metadata"]["deletionTimestamp"].is_string(), "{}", told[23]);
    let left = cluster.get(&format!("{MAPS}?labelSelector=app%3Dx")).await.json();
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1), "{left}");
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
    let fields = ["duplicate field \"metadata.labels.x\"", "duplicate field \"data\""];
    let lines = ["line 3: key \"x\" already set in map", "line 5: key \"data\" already set in map"];
    for (media_type, text, told, strict) in [
        ("application/json", text, fields, fields.join(", ")),
        (
            "application/yaml",
            "metadata:\n  name: a\n  labels: {x: '1', x: '2'}\ndata: {}\ndata: {k: v}\n",
            lines,
            format!("yaml: unmarshal errors:\n  {}", lines.join("\n  ")),
        ),
    ] {
        let refused = post("fieldValidation=Strict", media_type, text).await;
        let message = format!(
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: {strict}"
        );
        assert_eq!((refused.code, refused.message()), (400, message));
        let made = post("dryRun=All", media_type, text).await;
        let warnings: Vec<_> =
            made.headers.get_all("warning").iter().filter_map(|value| value.to_str().ok()).collect();
        let expected = told.map(|text| format!("299 - {text:?}"));
        assert_eq!((made.code, warnings), (201, expected.iter().map(String::as_str).collect()));
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
        ("application/json", nested(50_000), "exceeded max depth"),
        ("application/json", nested(99), "exceeded max depth"),
        ("application/json", "{\"metadata\":".to_owned(), "json parse error"),
        ("application/yaml", nested(50_000), "(must be of type ConfigMap): yaml: "),
        ("application/yaml", format!("a0: &a0 x\n{bomb}"), "(must be of type ConfigMap): yaml: "),
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
async fn bodies_that_are_no_objects_are_refused_in_upstreams_words() {
    let cluster = Cluster::start().await;
    let unfit = |kind: &str| {
        format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {kind} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        )
    };
    for (body, cause, shown) in [
        ("", "couldn't get version/kind; json parse error: unexpected end of JSON input".to_owned(), "<empty>"),
        ("[]", unfit("array"), "5b5d"),
        ("true", unfit("bool"), "74727565"),
        (
            "{} x",
            "couldn't get version/kind; json parse error: invalid character 'x' after top-level value".to_owned(),
            "{} x",
        ),
        (
            "{\"kind\":1}",
            "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string".to_owned(),
            "{\"kind\":1}",
        ),
        (
            "{\"apiVersion\":\"a/b/c\",\"kind\":\"ConfigMap\"}",
            "unexpected GroupVersion string: a/b/c".to_owned(),
            "{\"apiVersion\":\"a/b/c\",\"kind\":\" ...",
        ),
    ] {
        let answer = cluster.ask_text(Method::POST, MAPS, &[], body).await;
        let message = format!("the object provided is unrecognized (must be of type ConfigMap): {cause} ({shown})");
        assert_eq!((answer.code, answer.message()), (400, message), "{body}");
    }
    // Nothing is an empty object, and letters that are none are replaced.
    let nothing = cluster.ask_text(Method::POST, MAPS, &[], "null").await;
    assert_eq!(nothing.code, 422, "{nothing:?}");
    let body = b"{\"metadata\":{\"name\":\"u\"},\"data\":{\"a\":\"\xff\\ud800\"}}".to_vec();
    let made = cluster.ask_bytes(Method::POST, MAPS, &[("content-type", "application/JSON")], body).await;
    assert_eq!((made.code, &made.json()["data"]["a"]), (201, &json!("\u{fffd}\u{fffd}")));
    let other =
        |version: &str, kind: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}});
    for (version, kind, cause) in [
        ("apps/v1", "Deployment", "converting (v1.Deployment) to (core.ConfigMap): unknown conversion"),
        ("v1", "ConfigMapList", "converting (v1.ConfigMapList) to (core.ConfigMap): unknown conversion"),
        (
            "nope/v1",
            "ConfigMap",
            "no kind \"ConfigMap\" is registered for version \"nope/v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
    ] {
        let message = format!("{kind} in version \"v1\" cannot be handled as a ConfigMap: {cause}");
        let answer = cluster.post(MAPS, other(version, kind)).await;
        assert_eq!((answer.code, answer.message()), (400, message));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_refused_addresses_and_ports_that_may_not_change() {
    let cluster = Cluster::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, spec: Value| {
        let mut spec = spec;
        spec["ports"] = json!([{"port": 80}]);
        spec["selector"] = json!({"a": "b"});
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let made = cluster.post(services, service("s", json!({"clusterIP": "10.96.0.50"}))).await;
    assert_eq!(made.code, 201, "{made:?}");
    for (change, message) in [
        (
            json!({"clusterIP": "10.96.0.77"}),
            "spec.clusterIPs[0]: Invalid value: [\"10.96.0.77\"]: may not change once set",
        ),
        (
            json!({"clusterIPs": ["10.96.0.77"]}),
            "spec.clusterIPs: Invalid value: [\"10.96.0.77\"]: first value must match `clusterIP`",
        ),
        (
            json!({"healthCheckNodePort": 30123}),
            "spec.healthCheckNodePort: Invalid value: 30123: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
    ] {
        let path = format!("{services}/s");
        let refused = cluster.patch(&path, "application/merge-patch+json", json!({"spec": change})).await;
        assert_eq!(refused.message(), format!("Service \"s\" is invalid: {message}"));
    }
    let balanced = |port: u16| json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port});
    assert_eq!(cluster.post(services, service("l", balanced(30999))).await.code, 201);
    let merge = "application/merge-patch+json";
    let path = format!("{services}/l");
    let refused = cluster.patch(&path, merge, json!({"spec": {"healthCheckNodePort": 30998}})).await;
    assert_eq!(
        refused.message(),
        "Service \"l\" is invalid: spec.healthCheckNodePort: Forbidden: field is immutable"
    );
    for (port, cause) in [
        (30999, "provided port is already allocated"),
        (99, "provided port is not in the valid range. The range of valid ports is 30000-32767"),
    ] {
        let refused = cluster.post(services, service("m", balanced(port))).await;
        let message = format!(
            "Internal error occurred: failed to allocate requested HealthCheck NodePort {port}: {cause}"
        );
        assert_eq!((refused.code, refused.message()), (500, message));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_another_type_delete_nothing() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.post(MAPS, json!({"metadata": {"name": "a"}})).await.code, 201);
    for (body, message) in [
        (
            json!({"apiVersion": "v1", "kind": "Pod"}),
            "no kind \"Pod\" is registered for version \"v1\" in scheme \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\"",
        ),
        (
            json!({"gracePeriodSeconds": "x"}),
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
        ),
    ] {
        for path in [format!("{MAPS}/a"), MAPS.to_owned()] {
            let answer = cluster.ask(Method::DELETE, &path, Some(body.clone())).await;
            assert_eq!((answer.code, answer.message().as_str()), (500, message));
        }
    }
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_no_encoding_is_told_which_there_are() {
    let cluster = Cluster::start().await;
    let accept = async |path: &str, media_type: &str| {
        let answer = cluster.ask_as(admin(), Method::GET, path, &[("accept", media_type)], None).await;
        (answer.code, answer.message())
    };
    let all = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let streams = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    let available = |types: &str| (406, format!("406: Not Acceptable\n\nAvailable representations: {types}"));
    let only = (406, format!("only the following media types are accepted: {all}"));
    for (path, expected) in [
        (MAPS, available(&format!("{all}, {streams}"))),
        ("/api/v1/namespaces/default", available(all)),
        ("/api/v1", available(all)),
        ("/apis/apps/v1", available(all)),
        ("/apis", only.clone()),
        ("/apis/apps", only.clone()),
        ("/version", available("application/json")),
    ] {
        assert_eq!(accept(path, "text/html").await, expected, "{path}");
    }
    assert_eq!(accept(MAPS, "application/json;as=Table;g=meta.k8s.io;v=v9").await, only);
    let nowhere = cluster.get("/nowhere").await;
    assert_eq!((nowhere.code, &nowhere.body[..]), (404, &b"404 page not found\n"[..]));
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
async fn a_name_rests_when_somebody_may_wait_for_its_end() {
    let cluster = Cluster::start().await;
    let map = json!({"metadata": {"name": "a", "finalizers": ["example.com/wait"]}});
    assert_eq!(cluster.post(MAPS, map.clone()).await.code, 201);
    let path = format!("{MAPS}/a");
    assert_eq!(cluster.delete(&path).await.code, 200);
    let taken = cluster.post(MAPS, map.clone()).await;
    assert_eq!(taken.code, 409, "it is still there: {taken:?}");

    let end = Instant::now();
    let patch = json!({"metadata": {"finalizers": null}});
    assert_eq!(cluster.patch(&path, "application/merge-patch+json", patch).await.code, 200);
    assert_eq!(cluster.get(&path).await.code, 404);
    let other = User::authenticated("operator", &["system:masters"]);
    assert_eq!(cluster.ask_as(other, Method::POST, MAPS, &[], Some(map)).await.code, 201);
    assert!(end.elapsed() >= Duration::from_secs(1), "a client that waited had no time to see it gone");
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

#[test]
fn a_new_cluster_begins_with_its_first_objects_once() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let folder = Arc::new(tempfile::tempdir().expect("a scratch folder"));
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local"},
        "provisioner": "plimsoll.io/local"});
    let start =
        || Cluster::start_in(Arc::clone(&folder), |config| config.first_objects = vec![class.clone()]);
    let path = "/apis/storage.k8s.io/v1/storageclasses/local";
    let run = runtime();
    run.block_on(async {
        let cluster = start().await;
        assert_eq!(cluster.get(path).await.json()["volumeBindingMode"], "Immediate");
        assert_eq!(cluster.delete(path).await.code, 200);
        cluster.stop();
    });
    drop(run);
    runtime().block_on(async { assert_eq!(start().await.get(path).await.code, 404, "it was deleted") });
}
