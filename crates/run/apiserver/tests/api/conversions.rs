//! Conversion by webhook: objects kept in one version, and read, listed, watched and written in another.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Cluster};
use crate::webhook_server::{Behaviour, WebhookServer};

const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/links.example.com";
const ONE: &str = "/apis/example.com/v1/namespaces/default/links";
const TWO: &str = "/apis/example.com/v2/namespaces/default/links";
const MERGE: &str = "application/merge-patch+json";

/// `v1` has host and port in one text, `v2` in two fields.
fn version(name: &str, storage: bool, fields: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
        "type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}}})
}

fn definition(webhook: &Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "links.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "links", "singular": "link", "kind": "Link", "listKind": "LinkList"},
        "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": webhook, "conversionReviewVersions": ["v1", "v1beta1"]}},
        "versions": [
            version("v1", true, json!({"address": {"type": "string"}})),
            version("v2", false, json!({"host": {"type": "string"}, "port": {"type": "string", "default": "80"}})),
        ]}})
}

/// Converts each object; its label `trick` tells what to do wrong.
fn convert(request: &Value) -> Value {
    let objects = request["objects"].as_array().expect("objects");
    let trick = objects[0]["metadata"]["labels"]["trick"].as_str().unwrap_or_default();
    let mut converted: Vec<Value> =
        objects.iter().map(|object| converted(object, &request["desiredAPIVersion"])).collect();
    let first = &mut converted[0];
    match trick {
        "fails" => return json!({"result": {"status": "Failure", "message": "no way"}}),
        "silent" => return json!({"result": {}}),
        "none" => converted.clear(),
        "version" => first["apiVersion"] = objects[0]["apiVersion"].clone(),
        "kind" => first["kind"] = json!("Chain"),
        "name" => first["metadata"]["name"] = json!("other"),
        "namespace" => drop(first["metadata"].as_object_mut().expect("metadata").remove("namespace")),
        "uid" => first["metadata"]["uid"] = json!("x"),
        "label" => first["metadata"]["labels"] = json!({"n": 1}),
        "annotation" => first["metadata"]["annotations"] = json!({"a b": "c"}),
        "rest" => {
            let metadata = &mut first["metadata"];
            metadata["finalizers"] = json!(["example.com/new"]);
            metadata["creationTimestamp"] = json!("1999-01-01T00:00:00Z");
            metadata["annotations"] = json!({"converted": "yes"});
            metadata["generation"] = json!(99);
        }
        _ => {}
    }
    json!({"result": {"status": "Success"}, "convertedObjects": converted})
}

fn converted(object: &Value, desired: &Value) -> Value {
    let (mut made, spec) = (object.clone(), &object["spec"]);
    made["apiVersion"] = desired.clone();
    let text = |field: &str| spec[field].as_str().unwrap_or_default();
    made["spec"] = match (desired == "example.com/v2", text("address").split_once(':')) {
        (true, Some((host, port))) => json!({"host": host, "port": port}),
        (true, None) => json!({"host": text("address")}),
        (false, _) => json!({"address": format!("{}:{}", text("host"), text("port"))}),
    };
    made
}

async fn serving() -> (Cluster, WebhookServer) {
    let cluster = Cluster::start().await;
    let behaviours = [("convert", Behaviour::Respond(convert)), ("broken", Behaviour::Fail(500))];
    let server = WebhookServer::start(cluster.folder.path(), &behaviours).await;
    let definitions = DEFINITION.rsplit_once('/').expect("a path").0;
    let made = cluster.post(definitions, definition(&server.config("convert"))).await;
    assert_eq!(made.code, 201, "{made:?}");
    cluster.until(async || cluster.get(TWO).await.code == 200).await;
    (cluster, server)
}

/// A link of `v1` in the store; the label is what the webhook does wrong.
async fn link(cluster: &Cluster, name: &str, trick: &str) {
    let object = json!({"apiVersion": "example.com/v1", "kind": "Link", "spec": {"address": "a:1"},
        "metadata": {"name": name, "labels": {"trick": trick}}});
    let made = cluster.post(ONE, object).await;
    assert_eq!(made.code, 201, "{made:?}");
}

fn spec(answer: &Answer) -> Value {
    answer.json()["spec"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_sees_and_writes_the_same_objects() {
    let (cluster, server) = serving().await;
    link(&cluster, "a", "").await;
    let begun =
        cluster.get(ONE).await.json()["metadata"]["resourceVersion"].as_str().expect("one").to_owned();
    let (one, two) = (format!("{ONE}/a"), format!("{TWO}/a"));
    assert!(server.calls("convert").is_empty(), "nothing to convert yet");
    assert_eq!(spec(&cluster.get(&two).await), json!({"host": "a", "port": "1"}));

    let object = json!({"apiVersion": "example.com/v2", "kind": "Link", "metadata": {"name": "b"}, "spec": {"host": "b"}});
    let made = cluster.post(TWO, object).await;
    assert_eq!(spec(&made), json!({"host": "b", "port": "80"}), "{made:?}");
    assert_eq!(spec(&cluster.get(&format!("{ONE}/b")).await), json!({"address": "b:80"}));

    let patched = cluster.patch(&two, MERGE, json!({"spec": {"port": "2"}})).await;
    assert_eq!(spec(&patched), json!({"host": "a", "port": "2"}));
    assert_eq!(spec(&cluster.get(&one).await), json!({"address": "a:2"}));
    assert_eq!(cluster.get(&one).await.json()["metadata"]["generation"], 2);
    let applied = json!({"apiVersion": "example.com/v2", "kind": "Link", "spec": {"host": "c"}});
    let path = format!("{two}?fieldManager=me&force=true");
    let applied = cluster.patch(&path, "application/apply-patch+yaml", applied).await;
    assert_eq!((applied.code, spec(&applied)), (200, json!({"host": "c", "port": "2"})), "{applied:?}");
    assert_eq!(spec(&cluster.get(&one).await), json!({"address": "c:2"}));

    let calls = server.calls("convert").len();
    let list = cluster.get(TWO).await.json();
    let hosts: Vec<&Value> =
        list["items"].as_array().expect("items").iter().map(|one| &one["spec"]["host"]).collect();
    assert_eq!(
        (list["apiVersion"].as_str(), hosts),
        (Some("example.com/v2"), vec![&json!("c"), &json!("b")])
    );
    assert_eq!(server.calls("convert").len(), calls + 1, "a list is one question");

    cluster.delete(&two).await;
    let watch = format!("{TWO}?watch=1&timeoutSeconds=1&resourceVersion={begun}");
    let watched = cluster.get(&watch).await;
    let told: Vec<String> = serde_json::Deserializer::from_slice(&watched.body)
        .into_iter::<Value>()
        .map(|event| event.expect("an event"))
        .map(|event| {
            format!("{} {} {}", event["type"], event["object"]["apiVersion"], event["object"]["spec"])
        })
        .collect();
    let event = |kind: &str, host: &str, port: &str| {
        format!("{:?} \"example.com/v2\" {}", kind, json!({"host": host, "port": port}))
    };
    assert_eq!(
        told,
        [
            event("ADDED", "b", "80"),
            event("MODIFIED", "a", "2"),
            event("MODIFIED", "c", "2"),
            event("DELETED", "c", "2")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_are_refused() {
    let (cluster, _server) = serving().await;
    // What the webhook does, and what the client is told.
    let table = [
        ("fails", "failed: no way"),
        ("silent", "failed: response.result.status was '', not 'Success'"),
        ("none", "returned 0 objects, expected 1"),
        (
            "version",
            "returned invalid object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v1)",
        ),
        ("kind", "returned invalid object at index 0: invalid kind (expected Link, received Chain)"),
        ("name", "returned invalid object: must have the same name: name != other"),
        ("namespace", "returned invalid object: must have the same namespace: default != "),
        (
            "label",
            "returned invalid metadata: metadata.labels[n] must be a string, but is int64 in converted object",
        ),
        ("annotation", "returned invalid metadata: metadata.annotation: Invalid value: \"a b\": "),
    ];
    for (trick, expected) in table {
        link(&cluster, trick, trick).await;
        let refused = cluster.get(&format!("{TWO}/{trick}")).await;
        let expected = format!("conversion webhook for example.com/v1, Kind=Link {expected}");
        assert_eq!(refused.code, 500, "{refused:?}");
        assert!(refused.message().starts_with(&expected), "{trick}: {}", refused.message());
        let list = cluster.get(&format!("{TWO}?labelSelector=trick%3D{trick}")).await;
        assert_eq!((list.code, list.message()), (500, refused.message()), "{trick}");
    }
    link(&cluster, "uid", "uid").await;
    let refused = cluster.get(&format!("{TWO}/uid")).await.message();
    assert!(refused.contains("returned invalid object: must have the same UID: "), "{refused}");

    // The server's own metadata stays as it is, whatever the webhook says.
    link(&cluster, "rest", "rest").await;
    let metadata = cluster.get(&format!("{TWO}/rest")).await.json()["metadata"].clone();
    let before = cluster.get(&format!("{ONE}/rest")).await.json()["metadata"].clone();
    assert_eq!(metadata["annotations"], json!({"converted": "yes"}));
    for field in ["finalizers", "creationTimestamp", "generation", "resourceVersion"] {
        assert_eq!(metadata[field], before[field], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_fails_is_named() {
    let (cluster, server) = serving().await;
    link(&cluster, "a", "").await;
    let change = json!({"spec": {"conversion": {"webhook": {"clientConfig": server.config("broken")}}}});
    assert_eq!(cluster.patch(DEFINITION, MERGE, change).await.code, 200);
    let path = format!("{TWO}/a");
    cluster.until(async || cluster.get(&path).await.code == 500).await;
    let prefix = "conversion webhook for example.com/v1, Kind=Link failed: ";
    assert_eq!(
        cluster.get(&path).await.message(),
        format!(
            "{prefix}an error on the server (\"out of order\") has prevented the request from succeeding"
        )
    );
    // Who asks for the version that is kept needs nobody.
    assert_eq!(cluster.get(&format!("{ONE}/a")).await.code, 200);

    let gone = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"url": "https://127.0.0.1:9/convert"}}}}});
    assert_eq!(cluster.patch(DEFINITION, MERGE, gone).await.code, 200);
    let expected = format!("{prefix}Post \"https://127.0.0.1:9/convert?timeout=30s\": ");
    cluster.until(async || cluster.get(&path).await.message().starts_with(&expected)).await;
    let object = json!({"apiVersion": "example.com/v2", "kind": "Link", "metadata": {"name": "b"}, "spec": {"host": "b"}});
    let refused = cluster.post(TWO, object).await;
    let expected = expected.replace("/v1, ", "/v2, ");
    assert!(refused.code == 500 && refused.message().starts_with(&expected), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_can_go_once_nothing_is_kept_in_it() {
    let (cluster, server) = serving().await;
    link(&cluster, "a", "").await;
    let mut object = cluster.get(DEFINITION).await.json();
    object["spec"]["versions"][0]["storage"] = json!(false);
    object["spec"]["versions"][1]["storage"] = json!(true);
    let changed = cluster.put(DEFINITION, object.clone()).await.json();
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    let mut gone = changed.clone();
    gone["spec"]["versions"].as_array_mut().expect("versions").remove(0);
    let refused = cluster.put(DEFINITION, gone).await;
    let expected = "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version";
    assert!(refused.code == 422 && refused.message().contains(expected), "{refused:?}");

    // Written again without a change, an object lies in the new version.
    let path = format!("{TWO}/a");
    let before = cluster.get(&path).await.json();
    let again = async || cluster.put(&path, before.clone()).await.json();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let rewritten = loop {
        let written = again().await;
        if written["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
            break written;
        }
        assert!(std::time::Instant::now() < until, "never written in the new version");
    };
    assert_eq!((&rewritten["spec"], &rewritten["metadata"]["generation"]), (&before["spec"], &json!(1)));
    assert_eq!(cluster.put(&path, rewritten.clone()).await.json(), rewritten, "once is enough");
    let calls = server.calls("convert").len();
    assert_eq!(spec(&cluster.get(&path).await), json!({"host": "a", "port": "1"}));
    assert_eq!(server.calls("convert").len(), calls, "nobody is asked any more");

    let status = format!("{DEFINITION}/status");
    let migrated = cluster.patch(&status, MERGE, json!({"status": {"storedVersions": ["v2"]}})).await;
    assert_eq!(migrated.json()["status"]["storedVersions"], json!(["v2"]), "{migrated:?}");
    let mut gone = cluster.get(DEFINITION).await.json();
    gone["spec"]["versions"].as_array_mut().expect("versions").remove(0);
    assert_eq!(cluster.put(DEFINITION, gone).await.code, 200);
    cluster.until(async || cluster.get(ONE).await.code == 404).await;
    assert_eq!(spec(&cluster.get(&path).await), json!({"host": "a", "port": "1"}));
}
