//! What drivers offer on this node: nothing, as long as they are not there.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use plimsoll_client::Backoff;

use crate::agent::Agent;

/// How long a driver may be away (kubelet: defaultWipingDelay).
const AWAY: Duration = Duration::from_secs(30);

/// A driver is gone: unless it comes back soon, nobody is to count on its devices.
pub(crate) async fn wipe(agent: Arc<Agent>, driver: String) {
    tokio::time::sleep(AWAY).await;
    if !agent.claims.has(&driver) {
        let fields = format!("spec.nodeName={},spec.driver={driver}", agent.config.node_name);
        remove(&agent, &fields, || agent.claims.has(&driver)).await;
    }
}

/// The agent starts, and no driver is there yet.
pub(crate) async fn wipe_all(agent: Arc<Agent>) {
    let fields = format!("spec.nodeName={}", agent.config.node_name);
    remove(&agent, &fields, || false).await;
}

/// Tries until it is done or `needless`.
async fn remove(agent: &Agent, fields: &str, needless: impl Fn() -> bool) {
    let slices = Api::<ResourceSlice>::all(agent.client.clone());
    let which = ListParams::default().fields(fields);
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
    while !needless() {
        match slices.delete_collection(&DeleteParams::default(), &which).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(error) => tracing::debug!(fields, %error, "ResourceSlices not removed yet"),
        }
        tokio::time::sleep(backoff.delay()).await;
    }
}
