//! Workloads of many pods on simulated nodes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Deserialize;
use serde_json::json;

use crate::api::connection::Call;
use crate::report;
use crate::simulated::{Event, Simulated, follow};

type Case = (&'static str, fn() -> anyhow::Result<()>);

const CASES: [Case; 3] = [("large", large), ("rest", rest), ("many", many)];

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/bench/deployments";
const NAMESPACES: &str = "/api/v1/namespaces";

#[derive(Deserialize)]
struct Deployment {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    generation: i64,
}

#[derive(Deserialize)]
struct Spec {
    template: serde_json::Value,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
    replicas: usize,
    updated_replicas: usize,
    available_replicas: usize,
}

impl Deployment {
    /// Whether it has so many pods, all of them of this version and available.
    fn is_complete(&self, pods: usize, version: &str) -> bool {
        let status = &self.status;
        self.spec.template["metadata"]["annotations"]["version"] == version
            && status.observed_generation == self.metadata.generation
            && [status.replicas, status.updated_replicas, status.available_replicas] == [pods; 3]
    }
}

/// Runs the named cases, or all.
pub(crate) fn run(wanted: &[&str]) -> anyhow::Result<()> {
    if let Some(unknown) = wanted.iter().find(|name| CASES.iter().all(|(known, _)| known != *name)) {
        bail!("no case {unknown:?}; there are {}", CASES.map(|(name, _)| name).join(", "));
    }
    let mut chosen = CASES.into_iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name));
    chosen.try_for_each(|(_, case)| case())
}

/// One Deployment of 5,000 pods on 1,000 nodes: made, rolled out, deleted with its namespace.
fn large() -> anyhow::Result<()> {
    let pods = 5_000;
    let simulated = Simulated::start(1_000)?;
    simulated.client(async {
        simulated.rest("1,000 nodes at rest, processor use", "about 0").await;
        namespace(&simulated).await?;
        for (version, what, call) in [
            (
                "1",
                "5,000 pods of a Deployment, made to Available",
                Call::post(DEPLOYMENTS, deployment("web", pods)),
            ),
            ("2", "  the same rolled out", template("web", "2")),
        ] {
            let mut watch = simulated.watch(&format!("{DEPLOYMENTS}?watch=true")).await?;
            let until =
                follow(&mut watch, |event: Event<Deployment>| event.object.is_complete(pods, version));
            let cost = simulated
                .cost(async { tokio::try_join!(simulated.send(vec![call]), until).map(drop) })
                .await?;
            cost.report(what, "under 10 s");
            simulated.report_memory();
        }
        delete_namespace(&simulated).await
    })
}

/// 10,000 ConfigMaps and 1,000 Deployments that nobody touches.
fn rest() -> anyhow::Result<()> {
    let simulated = Simulated::start(20)?;
    simulated.client(async {
        simulated.rest("20 nodes at rest, processor use", "about 0").await;
        namespace(&simulated).await?;
        let maps = (0..10_000).map(|number| {
            let map = json!({"metadata": {"name": format!("map-{number}")}, "data": {"key": "value"}});
            Call::post("/api/v1/namespaces/bench/configmaps", map.to_string())
        });
        let cost = simulated.cost(simulated.send(maps.collect())).await?;
        cost.report("10,000 ConfigMaps made", "none");
        let names: Vec<_> = (0..1_000).map(|number| format!("web-{number}")).collect();
        made(&simulated, &names, 1).await?.report("1,000 Deployments of a pod, made to Available", "none");
        let what = "10,000 ConfigMaps and 1,000 Deployments at rest";
        simulated.rest(what, "about 0").await;
        simulated.report_memory();
        delete_namespace(&simulated).await
    })
}

/// 100 Deployments of 10 pods that are rolled out together.
fn many() -> anyhow::Result<()> {
    let simulated = Simulated::start(100)?;
    simulated.client(async {
        namespace(&simulated).await?;
        let names: Vec<_> = (0..100).map(|number| format!("web-{number}")).collect();
        made(&simulated, &names, 10).await?.report("100 Deployments of 10 pods, made to Available", "none");
        let calls = names.iter().map(|name| template(name, "2")).collect();
        let mut watch = simulated.watch(&format!("{DEPLOYMENTS}?watch=true")).await?;
        let begun = Instant::now();
        let mut ended = BTreeMap::new();
        let until = follow(&mut watch, |event: Event<Deployment>| {
            if event.object.is_complete(10, "2") {
                ended.entry(event.object.metadata.name).or_insert_with(|| begun.elapsed());
            }
            ended.len() == names.len()
        });
        let cost = simulated.cost(async { tokio::try_join!(simulated.send(calls), until).map(drop) }).await?;
        cost.report("  the same rolled out together", "none");
        let mut times: Vec<Duration> = ended.into_values().collect();
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 4].as_millis();
        let spread = format!("{} {} {} {} {} ms", at(0), at(1), at(2), at(3), at(4));
        report("  first, quarters and last of them", &spread, "steady");
        Ok(())
    })
}

async fn namespace(simulated: &Simulated) -> anyhow::Result<()> {
    let space = json!({"metadata": {"name": "bench"}}).to_string();
    simulated.send(vec![Call::post(NAMESPACES, space)]).await?;
    // Pods are refused until it is there.
    let mut connection = simulated.endpoint.connect().await?;
    let account = format!("{NAMESPACES}/bench/serviceaccounts/default");
    while connection.call(&Call::get(&*account)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn delete_namespace(simulated: &Simulated) -> anyhow::Result<()> {
    let mut watch =
        simulated.watch(&format!("{NAMESPACES}?watch=true&fieldSelector=metadata.name%3Dbench")).await?;
    let delete = Call { method: "DELETE", ..Call::get(format!("{NAMESPACES}/bench")) };
    let until = follow(&mut watch, |event: Event<serde_json::Value>| event.r#type == "DELETED");
    let cost =
        simulated.cost(async { tokio::try_join!(simulated.send(vec![delete]), until).map(drop) }).await?;
    cost.report("  its namespace deleted", "under 10 s");
    simulated.report_memory();
    Ok(())
}

/// Makes Deployments and waits until they are available.
async fn made(
    simulated: &Simulated,
    names: &[String],
    pods: usize,
) -> anyhow::Result<crate::simulated::Cost> {
    let calls = names.iter().map(|name| Call::post(DEPLOYMENTS, deployment(name, pods))).collect();
    let mut watch = simulated.watch(&format!("{DEPLOYMENTS}?watch=true")).await?;
    let mut ready = std::collections::BTreeSet::new();
    let until = follow(&mut watch, |event: Event<Deployment>| {
        if event.object.is_complete(pods, "1") {
            ready.insert(event.object.metadata.name);
        }
        ready.len() == names.len()
    });
    simulated.cost(async { tokio::try_join!(simulated.send(calls), until).map(drop) }).await
}

fn deployment(name: &str, pods: usize) -> String {
    let container = json!({"name": "main", "image": "registry.example.com/web:1",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}});
    let labels = json!({"app": name});
    json!({"metadata": {"name": name}, "spec": {"replicas": pods, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels, "annotations": {"version": "1"}}, "spec": {"containers": [container]}}}})
    .to_string()
}

/// Another template of the same pods.
fn template(name: &str, version: &str) -> Call {
    let template = json!({"metadata": {"annotations": {"version": version}}});
    Call::patch(format!("{DEPLOYMENTS}/{name}"), json!({"spec": {"template": template}}).to_string())
}
