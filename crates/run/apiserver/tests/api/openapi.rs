//! The documents that tell clients about kinds, and how often they have to be read.

use std::collections::BTreeMap;
use std::io::Read;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Cluster, admin};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

async fn ask(cluster: &Cluster, path: &str, headers: &[(&str, &str)]) -> Answer {
    cluster.ask_as(admin(), Method::GET, path, headers, None).await
}

/// Where each document is, by its place.
async fn index(cluster: &Cluster) -> BTreeMap<String, String> {
    let index = cluster.get("/openapi/v3").await.json();
    let paths = index["paths"].as_object().expect("paths");
    let address = |value: &Value| value["serverRelativeURL"].as_str().expect("an address").to_owned();
    paths.iter().map(|(place, value)| (place.clone(), address(value))).collect()
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn definition(plural: &str, kind: &str, version: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object"}}});
    json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {
        "group": "example.com", "scope": "Cluster", "names": {"plural": plural, "kind": kind},
        "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_stays_until_its_hash_changes() {
    let cluster = Cluster::start().await;
    let places = index(&cluster).await;
    for place in ["api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "version", "openid/v1/jwks"] {
        let address = places.get(place).unwrap_or_else(|| panic!("{place} is missing"));
        let answer = cluster.get(address).await;
        assert_eq!((answer.code, header(&answer, "cache-control")), (200, "public, immutable"), "{place}");
        assert!(
            header(&answer, "expires").ends_with("GMT") && header(&answer, "last-modified").ends_with("GMT")
        );
        let tag = header(&answer, "etag");
        assert_eq!(tag.trim_matches('"'), address.split_once("?hash=").expect("a hash").1);
        assert_eq!(tag.len(), 130);
        let known = ask(&cluster, address, &[("if-none-match", tag)]).await;
        assert_eq!((known.code, known.body.len(), header(&known, "etag")), (304, 0, tag));
    }
    let plain = cluster.get("/openapi/v3/apis/apps/v1").await;
    assert_eq!((plain.code, header(&plain, "cache-control")), (200, "no-cache, private"));
    let old = cluster.get("/openapi/v3/apis/apps/v1?hash=OLD").await;
    assert_eq!((old.code, header(&old, "location")), (301, places["apis/apps/v1"].as_str()));
    assert_eq!(cluster.get("/openapi/v3/apis/nobody/v1").await.code, 404);
    for path in ["/openapi/v2", "/openapi/v3"] {
        let answer = cluster.get(path).await;
        let known = ask(&cluster, path, &[("if-none-match", header(&answer, "etag"))]).await;
        assert_eq!((answer.code, known.code), (200, 304), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_in_the_encoding_that_is_asked_for() {
    let cluster = Cluster::start().await;
    for (path, generation) in [("/openapi/v2", "v2"), ("/openapi/v3/apis/apps/v1", "v3")] {
        let json = cluster.get(path).await;
        assert_eq!(
            (header(&json, "content-type"), header(&json, "vary")),
            ("application/json", "Accept, Accept-Encoding")
        );
        let wanted = format!("application/com.github.proto-openapi.spec.{generation}@v1.0+protobuf");
        let protobuf = ask(&cluster, path, &[("accept", &wanted)]).await;
        assert_eq!(header(&protobuf, "content-type"), wanted.replace('@', "."));
        assert_eq!(header(&protobuf, "etag"), header(&json, "etag"));
        let text = b"io.k8s.api.apps.v1.DeploymentSpec";
        assert!(protobuf.body.windows(text.len()).any(|part| part == text), "{path}");
        let gzip = ask(&cluster, path, &[("accept-encoding", "gzip")]).await;
        assert_eq!(header(&gzip, "content-encoding"), "gzip");
        let mut whole = Vec::new();
        flate2::read::GzDecoder::new(&gzip.body[..]).read_to_end(&mut whole).expect("gzip");
        assert_eq!(whole, json.body);
        assert_eq!(ask(&cluster, path, &[("accept", "text/html")]).await.code, 406);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_changes_the_document_of_its_group_version_only() {
    let cluster = Cluster::start().await;
    let before = index(&cluster).await;
    for (plural, kind, version) in [("ones", "One", "v1"), ("twos", "Two", "v2")] {
        assert_eq!(cluster.post(DEFINITIONS, definition(plural, kind, version)).await.code, 201);
    }
    let has = async |places: [bool; 2]| {
        let now = index(&cluster).await;
        ["apis/example.com/v1", "apis/example.com/v2"].map(|place| now.contains_key(place)) == places
    };
    cluster.until(async || has([true, true]).await).await;
    let both = index(&cluster).await;
    assert!(before.iter().all(|(place, address)| both[place] == *address));

    let change = json!({"spec": {"versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
        {"type": "object", "properties": {"spec": {"type": "object", "description": "What is wanted."}}}}}]}});
    let path = format!("{DEFINITIONS}/ones.example.com");
    assert_eq!(cluster.patch(&path, "application/merge-patch+json", change).await.code, 200);
    cluster.until(async || index(&cluster).await["apis/example.com/v1"] != both["apis/example.com/v1"]).await;
    let changed = index(&cluster).await;
    assert_eq!(changed["apis/example.com/v2"], both["apis/example.com/v2"]);
    let document = cluster.get(&changed["apis/example.com/v1"]).await.json();
    let published = &document["components"]["schemas"]["com.example.v1.One"];
    assert_eq!(published["properties"]["spec"]["description"], "What is wanted.");
    let two = cluster.get("/openapi/v2").await;
    assert!(two.json()["definitions"]["com.example.v2.Two"].is_object());

    assert_eq!(cluster.delete(&path).await.code, 200);
    cluster.until(async || has([false, true]).await).await;
    let later = cluster.get("/openapi/v2").await;
    assert!(header(&later, "etag") != header(&two, "etag"));
    assert!(later.json()["definitions"]["com.example.v1.One"].is_null());
}
