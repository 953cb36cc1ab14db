//! Bodies and answers in YAML and CBOR.

use ciborium::Value as Item;
use http::Method;
use plimsoll_apiserver::Gate;
use serde_json::{Value, json};

use crate::support::{Cluster, admin};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const CBOR: &str = "application/cbor";

fn bytes(text: &str) -> Item {
    Item::Bytes(text.as_bytes().to_vec())
}

/// `{metadata: {name: a}, data: {k: v}}`
fn map(kind: Option<&str>) -> Vec<u8> {
    let field = |name: &str, value: &str| Item::Map(vec![(bytes(name), bytes(value))]);
    let mut fields = vec![(bytes("metadata"), field("name", "a")), (bytes("data"), field("k", "v"))];
    if let Some(kind) = kind {
        fields.extend([(bytes("kind"), bytes(kind)), (bytes("apiVersion"), bytes("v1"))]);
    }
    let mut out = Vec::new();
    ciborium::into_writer(&Item::Tag(55799, Box::new(Item::Map(fields))), &mut out).expect("writes");
    out
}

/// The entry of a map that may be tagged.
fn at<'i>(item: &'i Item, name: &str) -> &'i Item {
    match item {
        Item::Tag(_, inner) => at(inner, name),
        Item::Map(entries) => &entries.iter().find(|(key, _)| *key == bytes(name)).expect(name).1,
        other => panic!("{other:?} is no map"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cbor_is_read_and_answered_when_its_gate_is_on() {
    let cluster = Cluster::start_with(|config| config.features.cbor = Gate::On).await;
    let headers = [("content-type", CBOR), ("accept", "application/cbor, application/json")];
    let made = cluster.ask_bytes(Method::POST, MAPS, &headers, map(None)).await;
    assert_eq!((made.code, made.headers["content-type"].to_str().ok()), (201, Some(CBOR)), "{made:?}");
    assert!(made.body.starts_with(b"\xd9\xd9\xf7"));
    let item: Item = ciborium::from_reader(&made.body[..]).expect("CBOR");
    assert_eq!(at(at(&item, "data"), "k"), &bytes("v"));
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.json()["data"], json!({"k": "v"}));

    let headers = [("content-type", "application/apply-patch+cbor"), ("accept", CBOR)];
    let path = format!("{MAPS}/a?fieldManager=m&force=true");
    let applied = cluster.ask_bytes(Method::PATCH, &path, &headers, map(Some("ConfigMap"))).await;
    assert_eq!(applied.code, 200, "{applied:?}");
    let gone = cluster.ask_as(admin(), Method::GET, &format!("{MAPS}/b"), &[("accept", CBOR)], None).await;
    let status: Item = ciborium::from_reader(&gone.body[..]).expect("CBOR");
    assert_eq!((gone.code, at(&status, "reason")), (404, &bytes("NotFound")));
    let broken = cluster.ask_bytes(Method::POST, MAPS, &[("content-type", CBOR)], vec![0xa1]).await;
    assert!(broken.code == 400 && broken.message().starts_with("cbor: "), "{broken:?}");

    let watch = format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion=1");
    let events = cluster.ask_as(admin(), Method::GET, &watch, &[("accept", CBOR)], None).await;
    assert_eq!(events.headers["content-type"], "application/cbor-seq");
    let mut rest = &events.body[..];
    let first: Item = ciborium::from_reader(&mut rest).expect("an event");
    assert_eq!(at(&first, "type"), &bytes("ADDED"));
    assert_eq!(at(at(&first, "object"), "kind"), &bytes("ConfigMap"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cbor_is_unknown_by_default() {
    let cluster = Cluster::start().await;
    let refused = cluster.ask_bytes(Method::POST, MAPS, &[("content-type", CBOR)], map(None)).await;
    assert_eq!(refused.code, 415);
    let answer = cluster.ask_as(admin(), Method::GET, MAPS, &[("accept", CBOR)], None).await;
    assert_eq!(answer.code, 406);
    let accept = [("accept", "application/cbor, application/json")];
    let answer = cluster.ask_as(admin(), Method::GET, MAPS, &accept, None).await;
    assert_eq!((answer.code, answer.headers["content-type"].to_str().ok()), (200, Some("application/json")));
}

#[tokio::test(flavor = "multi_thread")]
async fn yaml_is_answered_to_those_who_prefer_it() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "yes", "n": "1"}})).await;
    for path in [MAPS.to_owned(), format!("{MAPS}/a"), format!("{MAPS}/b")] {
        let plain = cluster.get(&path).await;
        let yaml = cluster.ask_as(admin(), Method::GET, &path, &[("accept", "application/yaml")], None).await;
        assert_eq!(
            (yaml.code, yaml.headers["content-type"].to_str().ok()),
            (plain.code, Some("application/yaml"))
        );
        let text = std::str::from_utf8(&yaml.body).expect("text");
        assert_eq!(serde_saphyr::from_str::<Value>(text).expect("YAML"), plain.json(), "{text}");
        assert!(!text.starts_with('{'), "{text}");
    }
    let watch = format!("{MAPS}?watch=1");
    let answer = cluster.ask_as(admin(), Method::GET, &watch, &[("accept", "application/yaml")], None).await;
    assert_eq!(answer.code, 406);
}
