//! Encryption at rest: what lies on disk, and how keys take over from each other.

use std::path::Path;

use plimsoll_apiserver::{EncryptionOptions, Reload};
use serde_json::json;

use crate::support::Cluster;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
/// Twice the base64 of nothing else in the store.
const VALUE: &str = "cGxpbXNvbGwtc2VjcmV0LXZhbHVl";

/// Does any file below the folder hold these bytes?
pub(crate) fn on_disk(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).expect("a folder").any(|file| {
        let path = file.expect("an entry").path();
        match path.is_dir() {
            true => on_disk(&path, text),
            false => {
                let bytes = std::fs::read(&path).expect("a file");
                bytes.windows(text.len()).any(|part| part == text.as_bytes())
            }
        }
    })
}

fn configuration(file: &Path, providers: &str) {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n{providers}"
    );
    // As careful operators do it: the file is whole at any moment.
    let draft = file.with_extension("new");
    std::fs::write(&draft, text).expect("a scratch file");
    std::fs::rename(&draft, file).expect("renamed");
}

const FIRST: &str =
    "  - aesgcm: {keys: [{name: key1, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}\n  - identity: {}\n";
const SECOND: &str = "  - secretbox: {keys: [{name: key2, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n  - aesgcm: {keys: [{name: key1, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}\n";

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_readable_on_disk_and_are_rewritten_by_a_new_key() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let file = scratch.path().join("encryption.yaml");
    configuration(&file, FIRST);
    let options = EncryptionOptions { configuration: file.clone(), reload: Reload::Automatic };
    let cluster = Cluster::start_with(|config| config.safeguards.encryption = Some(options)).await;
    let store = cluster.folder.path().join("store");
    let secret = json!({"metadata": {"name": "s"}, "data": {"k": VALUE}});
    assert_eq!(cluster.post(SECRETS, secret).await.code, 201);
    let map = json!({"metadata": {"name": "m"}, "data": {"k": "readable-map-value"}});
    assert_eq!(cluster.post("/api/v1/namespaces/default/configmaps", map).await.code, 201);
    assert!(on_disk(&store, "readable-map-value"), "the search finds what is there");
    assert!(on_disk(&store, "k8s:enc:aesgcm:v1:key1:"));
    assert!(!on_disk(&store, VALUE));
    let path = format!("{SECRETS}/s");
    let read = cluster.get(&path).await.json();
    assert_eq!(read["data"]["k"], VALUE);

    let again = cluster.put(&path, read.clone()).await.json();
    assert_eq!(again, read, "an update without a change changes nothing");
    configuration(&file, SECOND);
    let rewritten = loop {
        let answer = cluster.put(&path, read.clone()).await.json();
        if answer["metadata"]["resourceVersion"] != read["metadata"]["resourceVersion"] {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(rewritten["data"], read["data"]);
    assert!(on_disk(&store, "k8s:enc:secretbox:v1:key2:"));
    let again = cluster.put(&path, rewritten.clone()).await.json();
    assert_eq!(again, rewritten, "once is enough");
}
