//! Claims of devices that are allocated elsewhere: which a pod uses, whether it may, and what its containers get of
//! them (kubelet: pkg/kubelet/cm/dra).
//!
//! What enters: pods, their ResourceClaims, what drivers answer. What leaves: claims to prepare and to take back
//! ([`Book`]), devices of containers and how these are ([`health`]), records that outlive the agent ([`record`], [`health_record`]).

mod book;
pub mod health;
pub mod health_record;
pub mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, ResourceClaim as ResourceClaimName};
use k8s_openapi::api::resource::v1::ResourceClaim;
use plimsoll_meta::quantity::Quantity;

pub use book::{Book, Claim, Device, Held};

use crate::spec::pod_spec;

/// A claim of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The name of the ResourceClaim.
    pub name: String,
    /// Whether it was made for the pod and has to be the pod's own.
    pub is_own: bool,
}

/// The claims of a pod, in the order in which it names them. What is made for a pod without anything to claim is
/// left out.
///
/// # Errors
/// A claim is not made yet, in upstream's words.
pub fn used(pod: &Pod) -> Result<Vec<Used>, String> {
    let mut all = Vec::new();
    for claim in pod_spec(pod).resource_claims.iter().flatten() {
        let (own, template) = (&claim.resource_claim_name, &claim.resource_claim_template_name);
        let used = name(pod, &claim.name, own.as_deref(), template.is_some())?;
        all.extend(used.map(|name| Used { name, is_own: template.is_some() && own.is_none() }));
    }
    all.extend(extended(pod).map(|name| Used { name: name.to_owned(), is_own: false }));
    Ok(all)
}

/// The ResourceClaim behind a pod's claim.
fn name(pod: &Pod, claim: &str, own: Option<&str>, has_template: bool) -> Result<Option<String>, String> {
    if let Some(name) = own {
        return Ok(Some(name.to_owned()));
    }
    if !has_template {
        return Err(format!(
            "pod {:?}, spec.resourceClaim {claim:?}: none of the supported fields are set",
            full(pod)
        ));
    }
    let statuses = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
    let found = statuses.into_iter().find(|status| status.name == claim);
    let found = found.ok_or_else(|| format!("pod {:?}: ResourceClaim not created yet", full(pod)))?;
    Ok(found.resource_claim_name.clone())
}

/// The claim that was made for extended resources of a pod.
fn extended(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?.extended_resource_claim_status.as_ref()?;
    Some(&status.resource_claim_name)
}

fn full(pod: &Pod) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", text(&pod.metadata.namespace), text(&pod.metadata.name))
}

/// Whether a pod may use a claim, and what is to be prepared of it.
///
/// # Errors
/// It may not, or there is nothing yet, in upstream's words.
pub fn claim(pod: &Pod, used: &Used, object: &ResourceClaim) -> Result<Claim, String> {
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let own = pod.metadata.uid.as_deref().unwrap_or_default();
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let mut owners = object.metadata.owner_references.iter().flatten();
    let is_owner = owners.any(|owner| owner.controller == Some(true) && owner.uid == own);
    if used.is_own && (Some(&namespace) != pod.metadata.namespace.as_ref() || !is_owner) {
        return Err(format!(
            "ResourceClaim {namespace}/{} was not created for Pod {} (Pod is not owner)",
            used.name,
            full(pod)
        ));
    }
    let status = object.status.as_ref();
    let mut reserved = status.iter().flat_map(|status| status.reserved_for.iter().flatten());
    if !reserved.any(|consumer| consumer.uid == own) {
        return Err(format!(
            "pod {} ({own}) is not allowed to use ResourceClaim {} ({uid})",
            pod.metadata.name.as_deref().unwrap_or_default(),
            used.name
        ));
    }
    let allocation = status.and_then(|status| status.allocation.as_ref());
    let allocation = allocation.ok_or_else(|| format!("ResourceClaim {}: not allocated", used.name))?;
    let results = allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten());
    let drivers = results.map(|result| (result.driver.clone(), Vec::new())).collect();
    Ok(Claim { uid, name: used.name.clone(), namespace, drivers })
}

/// What a container asks of claims: requests by ResourceClaim; an empty one is for all of it.
///
/// # Errors
/// A claim is not made yet.
pub fn requests(pod: &Pod, container: &Container) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let resources = container.resources.as_ref();
    for claim in pod_spec(pod).resource_claims.iter().flatten() {
        let wanted = resources.iter().flat_map(|it| it.claims.iter().flatten());
        let mut wanted = wanted.filter(|it| it.name == claim.name).peekable();
        if wanted.peek().is_none() {
            continue;
        }
        let template = claim.resource_claim_template_name.is_some();
        let Some(name) = name(pod, &claim.name, claim.resource_claim_name.as_deref(), template)? else {
            continue;
        };
        let requests = wanted.map(|it| it.request.clone().unwrap_or_default());
        found.entry(name).or_default().extend(requests);
    }
    let status = pod.status.as_ref().and_then(|status| status.extended_resource_claim_status.as_ref());
    if let Some(status) = status {
        let asked = asked(container);
        let own = status
            .request_mappings
            .iter()
            .filter(|it| it.container_name == container.name && asked.contains(it.resource_name.as_str()));
        let requests: Vec<String> = own.map(|it| it.request_name.clone()).collect();
        if !requests.is_empty() {
            found.entry(status.resource_claim_name.clone()).or_default().extend(requests);
        }
    }
    Ok(found)
}

/// The claims that a container names: the pod's word for each, the request of it, the name of the ResourceClaim.
#[must_use]
pub fn words(pod: &Pod, container: &Container) -> Vec<(String, String, String)> {
    let claims = pod_spec(pod).resource_claims.as_deref().unwrap_or_default();
    let wanted = container.resources.iter().flat_map(|it| it.claims.iter().flatten());
    let of = |wanted: &ResourceClaimName| {
        let claim = claims.iter().find(|claim| claim.name == wanted.name)?;
        let template = claim.resource_claim_template_name.is_some();
        let name = name(pod, &claim.name, claim.resource_claim_name.as_deref(), template).ok()??;
        Some((claim.name.clone(), wanted.request.clone().unwrap_or_default(), name))
    };
    wanted.filter_map(of).collect()
}

/// The resources of which a container asks for something.
fn asked(container: &Container) -> BTreeSet<&str> {
    let requests = container.resources.iter().flat_map(|it| it.requests.iter().flatten());
    let some = requests.filter(|(_, amount)| amount.0.parse::<Quantity>().is_ok_and(|it| !it.is_zero()));
    some.map(|(name, _)| name.as_str()).collect()
}
