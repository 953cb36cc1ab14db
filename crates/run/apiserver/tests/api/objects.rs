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
