//! The sign of life: a Lease renewed every ten seconds.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;
use plimsoll_client::Backoff;

use crate::agent::Agent;

const NAMESPACE: &str = "kube-node-lease";

/// Renews the lease for ever.
pub(super) async fn run(agent: Arc<Agent>, node_uid: Option<String>) {
    let leases = Api::<Lease>::namespaced(agent.client.clone(), NAMESPACE);
    let mut known: Option<Lease> = None;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(7));
    loop {
        match renew(&agent, &leases, known.take(), node_uid.as_deref()).await {
            Ok(lease) => {
                known = Some(lease);
                backoff.reset();
                // Four times before others give the node up.
                tokio::time::sleep(Duration::from_secs(agent.config.lease_seconds.unsigned_abs().into()) / 4)
                    .await;
            }
            Err(error) => {
                tracing::debug!(%error, "lease not renewed yet");
                tokio::time::sleep(backoff.delay()).await;
            }
        }
    }
}

async fn renew(
    agent: &Agent,
    leases: &Api<Lease>,
    known: Option<Lease>,
    node_uid: Option<&str>,
) -> Result<Lease, kube::Error> {
    let name = &agent.config.node_name;
    let known = match known {
        Some(lease) => Some(lease),
        None => leases.get_opt(name).await?,
    };
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(agent.config.lease_seconds),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    if let Some(mut lease) = known {
        lease.spec = Some(spec);
        return leases.replace(name, &PostParams::default(), &lease).await;
    }
    let owner = node_uid.map(|uid| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.clone(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    });
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(NAMESPACE.into()),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
}
