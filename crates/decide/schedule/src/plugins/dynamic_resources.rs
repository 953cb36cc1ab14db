//! A pod goes only where its claims on devices can be used.

use std::cell::RefCell;
use std::sync::Arc;

use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim};

use crate::devices::{Devices, Failure, classes, holds};
use crate::diagnosis::Reason;
use crate::node::Node;
use crate::pod::PodInfo;

/// Most users of a claim (resource.k8s.io: ResourceClaimReservedForMaxSize).
const USERS: usize = 256;

/// What a pod's claims need, apart from the node.
pub(crate) struct Claims<'s> {
    devices: &'s Devices,
    /// Those that have nothing yet.
    open: Vec<Arc<ResourceClaim>>,
    /// Where those can be used that have something.
    places: Vec<&'s NodeSelector>,
    /// What is wrong with a claim or class, once it was found.
    broken: RefCell<Option<String>>,
}

/// A claim of a pod that goes to a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Booking {
    /// The claim, as it was when this was decided.
    pub claim: Arc<ResourceClaim>,
    /// What it gets; nothing if it has something.
    pub allocation: Option<Arc<AllocationResult>>,
}

impl<'s> Claims<'s> {
    /// No claims.
    pub(crate) fn none(devices: &'s Devices) -> Self {
        Claims { devices, open: Vec::new(), places: Vec::new(), broken: RefCell::default() }
    }

    /// What is wrong with a claim or class, as far as nodes were looked at.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.borrow().clone()
    }

    /// Looks at all claims of a pod.
    ///
    /// # Errors
    /// Why the pod can go nowhere now, in upstream's words.
    pub(crate) fn of(pod: &PodInfo, devices: &'s Devices) -> Result<Self, String> {
        let mut claims = Claims::none(devices);
        for used in &pod.device_claims {
            let Some(name) = used else {
                return Err(format!("pod \"{}/{}\": ResourceClaim not created yet", pod.namespace, pod.name));
            };
            let claim = devices
                .claim(&pod.namespace, name)
                .ok_or_else(|| format!("resourceclaim.resource.k8s.io {name:?} not found"))?;
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("resourceclaim {name:?} is being deleted"));
            }
            match devices.allocation(claim) {
                Some(_) if !can_be_reserved(claim, pod) => return Err("resourceclaim in use".to_owned()),
                Some(allocation) => claims.places.extend(&allocation.node_selector),
                None => claims.open.push(claim.clone()),
            }
        }
        for (request, class) in claims.open.iter().flat_map(|claim| classes(claim)) {
            if devices.class(&class).is_none() {
                return Err(format!("request {request}: device class {class} does not exist"));
            }
        }
        Ok(claims)
    }

    /// Why a node cannot be taken.
    pub(crate) fn filter(&self, node: &Node) -> Result<(), Reason<'static>> {
        if !self.places.iter().all(|place| holds(place, node)) {
            return Err(Reason::ClaimElsewhere);
        }
        match self.allocate(node) {
            Ok(_) => Ok(()),
            Err(Failure::Nothing) => Err(Reason::NoDevices),
            Err(Failure::Patience) => Err(Reason::DevicesTakeTooLong),
            Err(Failure::Broken(why)) => {
                *self.broken.borrow_mut() = Some(why);
                Err(Reason::NoDevices)
            }
        }
    }

    fn allocate(&self, node: &Node) -> Result<Vec<AllocationResult>, Failure> {
        if self.open.is_empty() { Ok(Vec::new()) } else { self.devices.allocate(&self.open, node) }
    }

    /// What all claims of the pod get on a node; nothing if one of them gets nothing.
    pub(crate) fn book(&self, pod: &PodInfo, node: &Node) -> Option<Vec<Booking>> {
        let allocations = self.allocate(node).ok()?;
        let new = self.open.iter().zip(allocations).map(|(claim, allocation)| Booking {
            claim: claim.clone(),
            allocation: Some(Arc::new(allocation)),
        });
        let names = pod.device_claims.iter().flatten();
        let all = names.filter_map(|name| self.devices.claim(&pod.namespace, name));
        let old = all.filter(|claim| self.devices.allocation(claim).is_some());
        Some(new.chain(old.map(|claim| Booking { claim: claim.clone(), allocation: None })).collect())
    }
}

/// Whether there is room for one more user, or the pod is one.
fn can_be_reserved(claim: &ResourceClaim, pod: &PodInfo) -> bool {
    let users = claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default();
    users.len() < USERS || users.iter().any(|user| *user.uid == *pod.uid)
}
