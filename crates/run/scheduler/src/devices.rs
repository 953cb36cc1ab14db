//! Writes claims on devices for a pod that is about to be bound, and waits for devices that are made ready only then.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{AllocatedDeviceStatus, DeviceRequestAllocationResult, ResourceClaim};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use plimsoll_schedule::{Booking, PodInfo};
use serde_json::json;

/// Holds a claim while devices are allocated to it.
pub(crate) const CLAIM_PROTECTION: &str = "resource.kubernetes.io/delete-protection";

/// Why claims are not as the pod needs them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}", crate::effects::text(.0))]
    Api(#[from] kube::Error),
    #[error("claim {0} binding failed for device {1}: condition {2} is true")]
    Broken(String, String, String),
    #[error("device binding timeout")]
    Timeout,
    #[error("claim {0} is not allocated any more")]
    Gone(String),
}

/// Writes what claims get, and waits until that can be used, but no longer than `patience`.
pub(crate) async fn book(
    client: &kube::Client,
    pod: &PodInfo,
    bookings: &[Booking],
    patience: Duration,
) -> Result<(), Error> {
    let api = Api::<ResourceClaim>::namespaced(client.clone(), &pod.namespace);
    let mut slow = Vec::new();
    for booking in bookings {
        let claim = if booking.mappings.is_empty() {
            allot(&api, pod, booking, &booking.claim).await?
        } else {
            make(client, &api, pod, booking).await?
        };
        if !matches!(unready(&claim), Ok(None)) {
            slow.push(claim);
        }
    }
    for claim in slow {
        let ready = tokio::time::timeout(patience, until_ready(&api, claim.clone())).await;
        if let Err(error) = ready.unwrap_or(Err(Error::Timeout)) {
            // Others may be chosen at the next attempt.
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            let free = json!({"metadata": {"uid": claim.metadata.uid},
                "status": {"allocation": null, "reservedFor": null, "devices": null}});
            api.patch_status(name, &PatchParams::default(), &Patch::Merge(free)).await?;
            return Err(error);
        }
    }
    Ok(())
}

/// Makes the claim for extended resources of a pod, and tells the pod.
async fn make(
    client: &kube::Client,
    api: &Api<ResourceClaim>,
    pod: &PodInfo,
    booking: &Booking,
) -> Result<ResourceClaim, Error> {
    let mut claim = (*booking.claim).clone();
    claim.metadata.uid = None;
    let claim = api.create(&PostParams::default(), &claim).await?;
    let claim = allot(api, pod, booking, &claim).await?;
    let status = json!({"metadata": {"uid": *pod.uid}, "status": {"extendedResourceClaimStatus": {
        "resourceClaimName": claim.metadata.name, "requestMappings": booking.mappings}}});
    let pods = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    pods.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(status)).await?;
    Ok(claim)
}

/// Writes what a claim gets, and that the pod uses it.
async fn allot(
    api: &Api<ResourceClaim>,
    pod: &PodInfo,
    booking: &Booking,
    claim: &ResourceClaim,
) -> Result<ResourceClaim, Error> {
    let meta = &claim.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let user = json!([{"resource": "pods", "name": pod.name, "uid": *pod.uid}]);
    let mut body = json!({"metadata": {"uid": meta.uid}, "status": {"reservedFor": user}});
    if let Some(allocation) = &booking.allocation {
        let mut finalizers = meta.finalizers.clone().unwrap_or_default();
        let mut version = meta.resource_version.clone();
        if !finalizers.iter().any(|one| one == CLAIM_PROTECTION) {
            finalizers.push(CLAIM_PROTECTION.to_owned());
            let held = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
            version = api
                .patch(name, &PatchParams::default(), &Patch::Merge(held))
                .await?
                .metadata
                .resource_version;
        }
        // Somebody who was quicker shall not be overruled.
        body["metadata"]["resourceVersion"] = json!(version);
        body["status"]["allocation"] = json!(**allocation);
    }
    Ok(api.patch_status(name, &PatchParams::default(), &Patch::Strategic(body)).await?)
}

/// The first device of a claim that is not ready yet.
fn unready(claim: &ResourceClaim) -> Result<Option<String>, Error> {
    let name = || claim.metadata.name.clone().unwrap_or_default();
    let status = claim.status.as_ref();
    let allocation =
        status.and_then(|status| status.allocation.as_ref()).ok_or_else(|| Error::Gone(name()))?;
    let told = status.and_then(|status| status.devices.as_deref()).unwrap_or_default();
    let mut waits = None;
    for result in allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten()) {
        let holding = holding(result, told);
        let mut failures = result.binding_failure_conditions.iter().flatten();
        if let Some(failure) = failures.find(|one| holding.contains(one.as_str())) {
            return Err(Error::Broken(name(), result.device.clone(), failure.clone()));
        }
        let mut wanted = result.binding_conditions.iter().flatten();
        if wanted.any(|one| !holding.contains(one.as_str())) {
            waits.get_or_insert_with(|| result.device.clone());
        }
    }
    Ok(waits)
}

/// The conditions of a device that hold.
fn holding<'a>(
    result: &DeviceRequestAllocationResult,
    told: &'a [AllocatedDeviceStatus],
) -> BTreeSet<&'a str> {
    let it = |one: &&AllocatedDeviceStatus| {
        one.driver == result.driver
            && one.pool == result.pool
            && one.device == result.device
            && one.share_id == result.share_id
    };
    let conditions = told.iter().filter(it).flat_map(|one| one.conditions.iter().flatten());
    conditions.filter(|one| one.status == "True").map(|one| one.type_.as_str()).collect()
}

/// Waits until all devices of a claim are ready, or one never will be.
async fn until_ready(api: &Api<ResourceClaim>, mut claim: ResourceClaim) -> Result<(), Error> {
    let name = claim.metadata.name.clone().unwrap_or_default();
    while unready(&claim)?.is_some() {
        let version = claim.metadata.resource_version.clone().unwrap_or_default();
        let only = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut events = api.watch(&only, &version).await?.boxed();
        while let Some(Ok(event)) = events.next().await {
            match event {
                WatchEvent::Added(now) | WatchEvent::Modified(now) if unready(&now)?.is_none() => {
                    return Ok(());
                }
                WatchEvent::Deleted(_) => return Err(Error::Gone(name)),
                _ => {}
            }
        }
        // The watch ended: what came meanwhile is in the claim itself.
        claim = api.get(&name).await?;
    }
    Ok(())
}
