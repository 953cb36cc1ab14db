//! The table that `kubectl get pods` asks for.

use std::time::Instant;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

/// Requests under way at once while the pods are made.
const WRITERS: usize = 16;
const NAMESPACE: &str = "bench-table";

pub(crate) async fn measure(client: &kube::Client, count: usize) -> anyhow::Result<()> {
    post(
        client,
        "/api/v1/namespaces",
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
    )
    .await?;
    let account = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    // The controller may have been quicker.
    let _ = post(
        client,
        &account,
        &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
    )
    .await;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let begin = Instant::now();
    stream::iter(0..count)
        .map(|number| create(client, &path, number))
        .buffer_unordered(WRITERS)
        .try_collect::<Vec<()>>()
        .await?;
    println!("creation of {count} pods    {:>8} ms ({WRITERS} clients)", begin.elapsed().as_millis());
    let mut times = Vec::new();
    for _ in 0..10 {
        let request = http::Request::get(&path)
            .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
            .body(Vec::new())
            .context("build the request")?;
        let begin = Instant::now();
        let table: Value = client.request(request).await?;
        times.push(begin.elapsed().as_millis());
        anyhow::ensure!(table["rows"].as_array().map(Vec::len) == Some(count), "the table has other rows");
    }
    times.sort_unstable();
    println!(
        "table of {count} pods       {:>8} ms (median of 10, transfer and decoding included)",
        times[times.len() / 2]
    );
    Ok(())
}

async fn create(client: &kube::Client, path: &str, number: usize) -> anyhow::Result<()> {
    // A node selector that no node has keeps them pending.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pending-{number}")},
        "spec": {"nodeSelector": {"bench": "nowhere"}, "containers": [{"name": "demo", "image": "plimsoll.io/demo"}]},
    });
    post(client, path, &pod).await
}

async fn post(client: &kube::Client, path: &str, object: &Value) -> anyhow::Result<()> {
    let request = http::Request::post(path)
        .header("Content-Type", "application/json")
        .body(object.to_string().into_bytes());
    client
        .request::<Value>(request.context("build the request")?)
        .await
        .with_context(|| format!("create {path}"))?;
    Ok(())
}
