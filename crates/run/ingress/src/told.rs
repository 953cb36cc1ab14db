//! Statuses on their way to the API, and the class that a cluster begins with.

use std::time::Duration;

use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use plimsoll_client::Backoff;
use plimsoll_route::gateway::{GRPCRoute, Gateway, GatewayClass, HTTPRoute, TLSRoute, Told};
use serde_json::json;
use tokio::sync::watch;

use crate::gateways;

/// Makes the class if it is missing, then writes statuses as they are told. Others than the last ones do not count
/// any more: each telling is of all that is to be written.
pub(crate) async fn write(client: kube::Client, mut told: watch::Receiver<Vec<Told>>) {
    tokio::join!(make_class(&client), async {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            let all = told.borrow_and_update().clone();
            let mut failed = false;
            for one in &all {
                failed |= !written(&client, one).await;
            }
            let changed = told.changed();
            let outcome = match failed {
                true => tokio::time::timeout(backoff.delay(), changed).await.unwrap_or(Ok(())),
                false => {
                    backoff.reset();
                    changed.await
                }
            };
            if outcome.is_err() {
                return std::future::pending().await;
            }
        }
    });
}

/// Whether a status needs no further attempt. Who wrote to the object in between causes another telling, and so does who
/// removed it; but a kind that is not served for a moment, while its definition changes, causes none.
async fn written(client: &kube::Client, told: &Told) -> bool {
    let kind = match told.kind {
        "GatewayClass" => ApiResource::erase::<GatewayClass>(&()),
        "Gateway" => ApiResource::erase::<Gateway>(&()),
        "HTTPRoute" => ApiResource::erase::<HTTPRoute>(&()),
        "GRPCRoute" => ApiResource::erase::<GRPCRoute>(&()),
        _ => ApiResource::erase::<TLSRoute>(&()),
    };
    let (namespace, name) = (&told.owner.namespace, &told.owner.name);
    let api: Api<DynamicObject> = match namespace.is_empty() {
        true => Api::all_with(client.clone(), &kind),
        false => Api::namespaced_with(client.clone(), namespace, &kind),
    };
    let patch = json!({"metadata": {"resourceVersion": told.version}, "status": told.status});
    match api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 409 => true,
        Err(error) => {
            tracing::debug!(%error, kind = told.kind, namespace, name, "status not written yet");
            false
        }
    }
}

async fn make_class(client: &kube::Client) {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<GatewayClass>(&()));
    let Ok(class) = serde_json::from_value::<DynamicObject>(gateways::class()) else { return };
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        match api.create(&PostParams::default(), &class).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 409 => return,
            Err(error) => tracing::debug!(%error, "the class of Gateways is not made yet"),
        }
        tokio::time::sleep(backoff.delay()).await;
    }
}
