//! What the API says it offers.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Cluster, admin};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

async fn aggregated(cluster: &Cluster, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![("accept", AGGREGATED)];
    all.extend(headers);
    cluster.ask_as(admin(), Method::GET, path, &all, None).await
}

fn resource<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut all = list["resources"].as_array().into_iter().flatten();
    all.find(|one| one["name"] == name).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_is_sent_to_those_who_do_not_have_it() {
    let cluster = Cluster::start().await;
    for path in ["/api", "/apis"] {
        let answer = aggregated(&cluster, path, &[]).await;
        let header = |answer: &Answer, name: &str| answer.headers[name].to_str().expect("text").to_owned();
        let (tag, media) = (header(&answer, "etag"), header(&answer, "content-type"));
        assert_eq!((answer.code, media.as_str(), tag.len()), (200, AGGREGATED, 130));
        assert_eq!(
            (header(&answer, "vary"), header(&answer, "cache-control")),
            ("Accept".into(), "public".into())
        );
        let again = aggregated(&cluster, path, &[]).await;
        assert_eq!((&again.body, header(&again, "etag")), (&answer.body, tag.clone()));
        let known = aggregated(&cluster, path, &[("if-none-match", &tag)]).await;
        assert_eq!((known.code, known.body.len(), header(&known, "etag")), (304, 0, tag));
    }
    let before = aggregated(&cluster, "/apis", &[]).await;
    let definition = json!({"metadata": {"name": "ones.example.com"}, "spec": {
        "group": "example.com", "scope": "Cluster", "names": {"plural": "ones", "kind": "One"},
        "versions": [
            {"name": "v1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}},
            {"name": "v2", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
        ],
    }});
    let made = cluster.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    assert_eq!(made.code, 201);
    cluster.until(async || cluster.get("/apis/example.com/v1").await.code == 200).await;
    let after = aggregated(&cluster, "/apis", &[]).await;
    assert!(after.headers["etag"] != before.headers["etag"]);
    let text = String::from_utf8(after.body.to_vec()).expect("text");
    assert!(text.contains(r#""resource":"ones""#), "{text}");
    // Both versions are kept as the second.
    let lists =
        [cluster.get("/apis/example.com/v1").await.json(), cluster.get("/apis/example.com/v2").await.json()];
    let [one, two] = lists.each_ref().map(|list| &resource(list, "ones")["storageVersionHash"]);
    assert!(one.is_string() && one == two);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_resources_tell_how_objects_are_kept() {
    let cluster = Cluster::start().await;
    let versions = cluster.get("/api").await.json();
    let address = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": "10.0.0.1:6443"}]);
    assert_eq!((&versions["versions"], &versions["serverAddressByClientCIDRs"]), (&json!(["v1"]), &address));
    let core = cluster.get("/api/v1").await.json();
    assert_eq!((core.get("apiVersion"), &core["groupVersion"]), (None, &json!("v1")));
    // As upstream publishes them.
    for (path, name, hash) in [
        ("/api/v1", "pods", json!("xPOwRZ+Yhw8=")),
        ("/api/v1", "configmaps", json!("qFsyl6wFWjQ=")),
        ("/api/v1", "pods/status", Value::Null),
        ("/api/v1", "componentstatuses", Value::Null),
        ("/apis/autoscaling/v1", "horizontalpodautoscalers", json!("qwQve8ut294=")),
        ("/apis/autoscaling/v2", "horizontalpodautoscalers", json!("qwQve8ut294=")),
        ("/apis/authentication.k8s.io/v1", "tokenreviews", Value::Null),
    ] {
        let list = cluster.get(path).await.json();
        assert!(resource(&list, name).is_object(), "{name}");
        assert_eq!(resource(&list, name)["storageVersionHash"], hash, "{name}");
    }
    let apps = cluster.get("/apis/apps/").await.json();
    assert_eq!(
        (&apps["kind"], &apps["preferredVersion"]["groupVersion"]),
        (&json!("APIGroup"), &json!("apps/v1"))
    );
}
