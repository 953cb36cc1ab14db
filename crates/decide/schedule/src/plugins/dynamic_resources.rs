//! A pod goes only where its claims on devices can be used.

use std::cell::RefCell;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerExtendedResourceRequest, NodeSelector};
use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim};

use crate::devices::{Devices, Failure, Special, classes, holds};
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
    /// The pod for which one is to be made.
    pod: Option<&'s PodInfo>,
    /// Claims that may be made for it, by the resources that they are for.
    made: RefCell<Vec<(Vec<&'s str>, Special)>>,
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
    /// What its requests are for: it is to be made for extended resources of the pod. Empty if it is there.
    pub mappings: Vec<ContainerExtendedResourceRequest>,
}

impl<'s> Claims<'s> {
    /// No claims.
    pub(crate) fn none(devices: &'s Devices) -> Self {
        Claims {
            devices,
            open: Vec::new(),
            places: Vec::new(),
            pod: None,
            made: RefCell::default(),
            broken: RefCell::default(),
        }
    }

    /// What is wrong with a claim or class, as far as nodes were looked at.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.borrow().clone()
    }

    /// Looks at all claims of a pod.
    ///
    /// # Errors
    /// Why the pod can go nowhere now, in upstream's words.
    pub(crate) fn of(pod: &'s PodInfo, devices: &'s Devices) -> Result<Self, String> {
        let mut claims = Claims::none(devices);
        if pod.extended.is_some() {
            if devices.made_for(&pod.uid).is_some() {
                return Err("cannot schedule extended resource claim".to_owned());
            }
            claims.pod = Some(pod);
        }
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
        match self.special(node) {
            Some(special) => {
                let all: Vec<_> = self.open.iter().chain([&special.claim]).cloned().collect();
                self.devices.allocate(&all, node)
            }
            None if self.open.is_empty() => Ok(Vec::new()),
            None => self.devices.allocate(&self.open, node),
        }
    }

    /// The claim that is to be made for the pod on a node, if one is.
    fn special(&self, node: &Node) -> Option<Special> {
        let pod = self.pod?;
        let extended = pod.extended.as_deref()?;
        let missing = extended.missing(node);
        if missing.is_empty() {
            return None;
        }
        let mut made = self.made.borrow_mut();
        if let Some((_, special)) = made.iter().find(|(resources, _)| *resources == missing) {
            return Some(special.clone());
        }
        let special = extended.claim(&pod.namespace, &missing);
        made.push((missing, special.clone()));
        Some(special)
    }

    /// What all claims of the pod get on a node; nothing if one of them gets nothing.
    pub(crate) fn book(&self, pod: &PodInfo, node: &Node) -> Option<Vec<Booking>> {
        let allocations = self.allocate(node).ok()?;
        let open = self.open.iter().map(|claim| Special { claim: claim.clone(), mappings: Vec::new() });
        let new = open.chain(self.special(node)).zip(allocations);
        let new = new.map(|(Special { claim, mappings }, allocation)| Booking {
            claim,
            allocation: Some(Arc::new(allocation)),
            mappings,
        });
        let names = pod.device_claims.iter().flatten();
        let all = names.filter_map(|name| self.devices.claim(&pod.namespace, name));
        let old = all.filter(|claim| self.devices.allocation(claim).is_some());
        Some(
            new.chain(old.map(|claim| Booking {
                claim: claim.clone(),
                allocation: None,
                mappings: Vec::new(),
            }))
            .collect(),
        )
    }
}

/// Whether there is room for one more user, or the pod is one.
fn can_be_reserved(claim: &ResourceClaim, pod: &PodInfo) -> bool {
    let users = claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default();
    users.len() < USERS || users.iter().any(|user| *user.uid == *pod.uid)
}
