//! From the creation of pods to Running, as a watching client sees it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

fn pod(name: &str) -> anyhow::Result<Pod> {
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "demo", "image": "plimsoll.io/demo", "imagePullPolicy": "IfNotPresent"}]},
    });
    serde_json::from_value(manifest).context("the pod is well formed")
}

fn running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

/// Creates these pods and waits until a watch has shown each of them Running.
async fn start(api: &Api<Pod>, names: &[String]) -> anyhow::Result<Vec<Duration>> {
    let watch = WatchParams::default().labels("app=bench").timeout(120);
    let version = api.list(&Default::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut events = api.watch(&watch, &version).await?.boxed();
    let begin = Instant::now();
    let parameters = PostParams::default();
    let create = async {
        for name in names {
            api.create(&parameters, &pod(name)?).await?;
        }
        anyhow::Ok(())
    };
    let mut times: HashMap<String, Duration> = HashMap::new();
    let wait = async {
        while times.len() < names.len() {
            match events.try_next().await?.context("the watch ended")? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) if running(&pod) => {
                    times.entry(pod.name_any()).or_insert_with(|| begin.elapsed());
                }
                _ => {}
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(create, wait)?;
    Ok(times.into_values().collect())
}

async fn clear(api: &Api<Pod>) -> anyhow::Result<()> {
    api.delete_collection(&DeleteParams::default(), &Default::default()).await?;
    while !api.list(&Default::default()).await?.items.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

pub(crate) async fn one_by_one(client: &kube::Client, count: usize) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let mut times = Vec::new();
    for number in 0..count {
        times.extend(start(&api, &[format!("single-{number}")]).await?);
    }
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_millis();
    println!(
        "one pod to Running        {:>8} ms (median of {count}; least {}, most {})",
        at(0.5),
        at(0.0),
        at(1.0)
    );
    clear(&api).await
}

pub(crate) async fn at_once(client: &kube::Client, count: usize) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let names: Vec<String> = (0..count).map(|number| format!("burst-{number}")).collect();
    let times = start(&api, &names).await?;
    let last = times.iter().max().map_or(0, Duration::as_millis);
    println!("{count} pods at once, the last {last:>7} ms");
    let begin = Instant::now();
    clear(&api).await?;
    println!("their deletion            {:>8} ms", begin.elapsed().as_millis());
    Ok(())
}
