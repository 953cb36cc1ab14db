//! The scales of workloads, asked for when a decision needs them.

use std::sync::Arc;

use plimsoll_reconcile::action::{Resource, Target};
use plimsoll_reconcile::autoscale::Scale;
use serde_json::Value;

use crate::Context;
use crate::kinds::Kinds;

/// Kinds that are known without asking the server what it serves.
const USUAL: [(&str, &str, &str); 4] = [
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("v1", "ReplicationController", "replicationcontrollers"),
];

/// Every scale there is.
pub(super) struct Scales {
    client: kube::Client,
    kinds: Arc<Kinds>,
}

impl Scales {
    pub(super) fn new(context: &Context) -> Self {
        Self { client: context.client.clone(), kinds: context.kinds() }
    }

    /// The scale of a workload; the error is a sentence.
    pub(super) async fn of(
        &self,
        namespace: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Scale, String> {
        let resource = self.resource(api_version, kind).ok_or_else(|| {
            let group = api_version.split_once('/').map(|(group, _)| group).unwrap_or_default();
            format!("no matches for kind {kind:?} in group {group:?}")
        })?;
        let target = Target { resource, namespace: namespace.to_owned(), name: name.to_owned() };
        let found = get(&self.client, &format!("{}/scale", target.path())).await?;
        let number =
            |value: &Value| value.as_i64().and_then(|value| i32::try_from(value).ok()).unwrap_or_default();
        Ok(Scale {
            target,
            resource_version: found["metadata"]["resourceVersion"].as_str().map(str::to_owned),
            wanted: number(&found["spec"]["replicas"]),
            present: number(&found["status"]["replicas"]),
            selector: found["status"]["selector"].as_str().unwrap_or_default().to_owned(),
        })
    }

    fn resource(&self, api_version: &str, kind: &str) -> Option<Resource> {
        let usual = USUAL.iter().find(|usual| usual.0 == api_version && usual.1 == kind);
        if let Some((version, kind, plural)) = usual {
            return Some(Resource {
                api_version: (*version).into(),
                kind: (*kind).into(),
                plural: (*plural).into(),
            });
        }
        self.kinds.find(api_version, kind).map(|kind| kind.resource)
    }
}

/// The document at a path; the error is the server's sentence.
pub(super) async fn get(client: &kube::Client, path: &str) -> Result<Value, String> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    client.request::<Value>(request).await.map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    })
}
