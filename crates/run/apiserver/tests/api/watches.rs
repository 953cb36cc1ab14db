//! Watches: where they begin, what they tell, how they end.

use std::sync::Arc;

use http::Method;
use http_body_util::BodyExt;
use plimsoll_store::{Options, Store};
use serde_json::{Value, json};

use crate::support::{Answer, Cluster, admin};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The events of a watch that ended.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.code, 200, "{answer:?}");
    serde_json::Deserializer::from_slice(&answer.body)
        .into_iter()
        .map(|event| event.expect("an event"))
        .collect()
}

/// `TYPE name` of each.
fn seen(events: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    events
        .iter()
        .map(|event| format!("{} {}", text(&event["type"]), text(&event["object"]["metadata"]["name"])))
        .collect()
}

async fn history(cluster: &Cluster) -> String {
    let first = cluster.post(MAPS, json!({"metadata": {"name": "a", "labels": {"x": "1"}}})).await.json();
    cluster.post(MAPS, json!({"metadata": {"name": "b"}})).await;
    let path = format!("{MAPS}/a");
    cluster.patch(&path, "application/merge-patch+json", json!({"metadata": {"labels": {"x": "2"}}})).await;
    cluster.delete(&format!("{MAPS}/b")).await;
    first["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_told_from_the_version_on() {
    let cluster = Cluster::start().await;
    let version = history(&cluster).await;
    let watch = format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}");
    let whole = events(&cluster.get(&watch).await);
    assert_eq!(seen(&whole), ["ADDED b", "MODIFIED a", "DELETED b"]);
    // What no longer matches is gone, with its last matching state at the version of its going.
    let chosen = events(&cluster.get(&format!("{watch}&labelSelector=x%3D1")).await);
    assert_eq!(seen(&chosen), ["DELETED a"]);
    assert_eq!(chosen[0]["object"]["metadata"]["labels"]["x"], "1");
    let (end, change) = (&chosen[0]["object"]["metadata"], &whole[1]["object"]["metadata"]);
    assert_eq!(end["resourceVersion"], change["resourceVersion"]);
    let named = events(&cluster.get(&format!("{watch}&fieldSelector=metadata.name%3Da")).await);
    assert_eq!(seen(&named), ["MODIFIED a"]);
    let old =
        format!("/api/v1/watch/namespaces/default/configmaps/a?timeoutSeconds=1&resourceVersion={version}");
    assert_eq!(seen(&events(&cluster.get(&old).await)), ["MODIFIED a"]);
}

/// Runs a server's life in a runtime of its own, and ends all of it.
fn lifetime<T>(life: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(life)
}

#[test]
fn a_remembered_version_outlives_the_server() {
    let watch = |version: &str| format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}");
    let (folder, version, before) = lifetime(async {
        let cluster = Cluster::start().await;
        let version = history(&cluster).await;
        let before = events(&cluster.get(&watch(&version)).await);
        (Arc::clone(&cluster.folder), version, before)
    });
    let again = || Cluster::start_in(Arc::clone(&folder), |_| {});
    lifetime(async {
        let cluster = again().await;
        cluster.post(MAPS, json!({"metadata": {"name": "c"}})).await;
        let after = events(&cluster.get(&watch(&version)).await);
        assert_eq!(seen(&after), ["ADDED b", "MODIFIED a", "DELETED b", "ADDED c"]);
        assert_eq!(after[..3], before, "the same objects at the same versions");
        let chosen = events(&cluster.get(&format!("{}&labelSelector=x%3D1", watch(&version))).await);
        assert_eq!(seen(&chosen), ["DELETED a"], "states before a change are remembered, too");
    });
    lifetime(async {
        let store = Store::open(&folder.path().join("store"), Options::default()).expect("the store");
        store.compact(store.revision()).await.expect("a compaction");
    });
    // What is compacted away is said to be gone, and a list begins anew.
    lifetime(async {
        let cluster = again().await;
        let late = events(&cluster.get(&watch(&version)).await);
        assert_eq!(seen(&late), ["ERROR "]);
        let status = &late[0]["object"];
        assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")), "{status}");
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.starts_with(&format!("too old resource version: {version} (")), "{message}");
        let list = cluster.get(MAPS).await.json();
        let version = list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
        cluster.delete(&format!("{MAPS}/c")).await;
        assert_eq!(seen(&events(&cluster.get(&watch(&version)).await)), ["DELETED c"]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn initial_events_end_with_a_bookmark() {
    let cluster = Cluster::start().await;
    history(&cluster).await;
    let initial = "resourceVersionMatch=NotOlderThan&sendInitialEvents=true";
    for (options, expected) in [
        (format!("{initial}&allowWatchBookmarks=true"), &["ADDED a", "BOOKMARK "][..]),
        (initial.to_owned(), &["ADDED a"]),
        // The old way to ask for the same.
        ("allowWatchBookmarks=true&resourceVersion=0".to_owned(), &["ADDED a", "BOOKMARK "]),
        ("resourceVersionMatch=NotOlderThan&sendInitialEvents=false&allowWatchBookmarks=1".to_owned(), &[]),
    ] {
        let events = events(&cluster.get(&format!("{MAPS}?watch=1&timeoutSeconds=1&{options}")).await);
        assert_eq!(seen(&events), expected, "{options}");
        if let Some(mark) = events.iter().find(|event| event["type"] == "BOOKMARK") {
            let annotations = &mark["object"]["metadata"]["annotations"];
            assert_eq!(annotations, &json!({"k8s.io/initial-events-end": "true"}));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bookmarks_come_before_the_end() {
    let cluster = Cluster::start().await;
    let version = history(&cluster).await;
    let options = format!("watch=1&timeoutSeconds=3&allowWatchBookmarks=true&resourceVersion={version}");
    let events = events(&cluster.get(&format!("{MAPS}?{options}")).await);
    assert_eq!(seen(&events), ["ADDED b", "MODIFIED a", "DELETED b", "BOOKMARK "]);
    let version = |event: &Value| event["object"]["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    assert!(version(&events[3]) >= version(&events[2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_events() {
    let cluster = Cluster::start().await;
    let version = history(&cluster).await;
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}");
    let ask =
        async |accept: &str| cluster.ask_as(admin(), Method::GET, &path, &[("accept", accept)], None).await;
    // Twice: the second watcher gets what was made for the first.
    for _ in 0..2 {
        let tables = events(&ask("application/json;as=Table;g=meta.k8s.io;v=v1").await);
        let columns: Vec<bool> =
            tables.iter().map(|event| event["object"]["columnDefinitions"].is_array()).collect();
        assert_eq!(columns, [true, false, false]);
        assert_eq!(tables[1]["object"]["rows"][0]["cells"][0], "a");
        let partial = events(&ask("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").await);
        assert_eq!(partial[2]["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(seen(&partial), ["ADDED b", "MODIFIED a", "DELETED b"]);
        let binary = ask("application/vnd.kubernetes.protobuf").await;
        assert_eq!(binary.headers["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
        assert!(!binary.body.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_be_meant_are_refused() {
    let cluster = Cluster::start().await;
    for (options, code, part) in [
        (
            "sendInitialEvents=true",
            422,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "resourceVersionMatch=NotOlderThan",
            422,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        ("timeoutSeconds=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("fieldSelector=spec.x%3D1", 400, "is not a known field selector"),
    ] {
        let answer = cluster.get(&format!("{MAPS}?watch=1&{options}")).await;
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(answer.message().contains(part), "{}", answer.message());
    }
}

/// More changes than a watcher's queue holds: who reads late gets them from history.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_does_not_read_misses_nothing_and_holds_nobody_up() {
    const CHANGES: usize = 600;
    let cluster = Cluster::start().await;
    let first = cluster.post(MAPS, json!({"metadata": {"name": "a"}})).await.json();
    let version = first["metadata"]["resourceVersion"].as_str().expect("a version");
    let path = format!("{MAPS}?watch=1&resourceVersion={version}");
    let late = cluster.open(admin(), Method::GET, &path, &[], None).await;
    for change in 0..CHANGES {
        let patch = json!({"data": {"change": change.to_string()}});
        let answer = cluster.patch(&format!("{MAPS}/a"), "application/merge-patch+json", patch).await;
        assert_eq!(answer.code, 200, "{answer:?}");
    }
    let (mut body, mut seen) = (late.into_body(), Vec::new());
    while seen.len() < CHANGES {
        let frame = body.frame().await.expect("goes on").expect("a frame").into_data().expect("data");
        let events = serde_json::Deserializer::from_slice(&frame).into_iter::<Value>();
        seen.extend(events.map(|event| event.expect("an event")["object"]["data"]["change"].clone()));
    }
    let expected: Vec<Value> = (0..CHANGES).map(|change| change.to_string().into()).collect();
    assert_eq!(seen, expected);
}
