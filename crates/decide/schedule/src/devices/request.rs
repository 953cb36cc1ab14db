//! What a claim asks for, in the form in which it is looked for.

use k8s_openapi::api::resource::v1::{
    CapacityRequirements, DeviceClaim, DeviceConstraint, DeviceRequest, DeviceSelector, DeviceSubRequest,
    DeviceToleration, ExactDeviceRequest, ResourceClaim,
};

/// One of the things that a request asks for: itself, or one of its alternatives.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'c> {
    /// As results name it: `request` or `request/alternative`.
    pub(super) name: String,
    pub(super) class: &'c str,
    pub(super) selectors: &'c [DeviceSelector],
    pub(super) tolerations: &'c [DeviceToleration],
    pub(super) capacity: Option<&'c CapacityRequirements>,
    pub(super) amount: Amount,
    pub(super) admin: bool,
}

/// How many devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    Exactly(usize),
    All,
}

impl<'c> Wanted<'c> {
    /// The alternatives of a request, the best first.
    pub(super) fn of(request: &'c DeviceRequest) -> Vec<Self> {
        let alternatives = request.first_available.iter().flatten();
        let own = request.exactly.iter().map(|exactly| Self::exactly(&request.name, exactly));
        own.chain(alternatives.map(|sub| Self::sub(&request.name, sub))).collect()
    }

    fn exactly(name: &str, it: &'c ExactDeviceRequest) -> Self {
        Wanted {
            name: name.to_owned(),
            class: &it.device_class_name,
            selectors: it.selectors.as_deref().unwrap_or_default(),
            tolerations: it.tolerations.as_deref().unwrap_or_default(),
            capacity: it.capacity.as_ref(),
            amount: Amount::of(it.allocation_mode.as_deref(), it.count),
            admin: it.admin_access == Some(true),
        }
    }

    fn sub(request: &str, it: &'c DeviceSubRequest) -> Self {
        Wanted {
            name: format!("{request}/{}", it.name),
            class: &it.device_class_name,
            selectors: it.selectors.as_deref().unwrap_or_default(),
            tolerations: it.tolerations.as_deref().unwrap_or_default(),
            capacity: it.capacity.as_ref(),
            amount: Amount::of(it.allocation_mode.as_deref(), it.count),
            admin: false,
        }
    }

    /// Whether a list of requests (of a constraint or a configuration) means this one; an empty list means all.
    pub(super) fn is_among(&self, requests: &[String]) -> bool {
        let parent = self.name.split('/').next().unwrap_or_default();
        requests.is_empty() || requests.iter().any(|one| *one == self.name || one == parent)
    }

    /// Whether the request bears a taint of a device.
    pub(super) fn bears(&self, (key, value, effect): (&str, &str, &str)) -> bool {
        let hard = matches!(effect, "NoSchedule" | "NoExecute");
        let fits = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == found)
        };
        let bears = |one: &DeviceToleration| {
            fits(&one.effect, effect)
                && fits(&one.key, key)
                && (one.operator.as_deref() == Some("Exists")
                    || one.value.as_deref().unwrap_or_default() == value)
        };
        !hard || self.tolerations.iter().any(bears)
    }
}

impl Amount {
    fn of(mode: Option<&str>, count: Option<i64>) -> Self {
        match mode {
            Some("All") => Amount::All,
            _ => Amount::Exactly(count.and_then(|count| usize::try_from(count).ok()).unwrap_or(1)),
        }
    }
}

/// The classes that a claim names, with the requests that do.
pub(crate) fn classes(claim: &ResourceClaim) -> Vec<(String, String)> {
    let requests = requests(claim).iter().flat_map(Wanted::of);
    requests.map(|wanted| (wanted.name, wanted.class.to_owned())).collect()
}

/// What a claim asks for.
pub(super) fn asked(claim: &ResourceClaim) -> Option<&DeviceClaim> {
    claim.spec.as_ref()?.devices.as_ref()
}

pub(super) fn requests(claim: &ResourceClaim) -> &[DeviceRequest] {
    asked(claim).and_then(|devices| devices.requests.as_deref()).unwrap_or_default()
}

pub(super) fn constraints(claim: &ResourceClaim) -> &[DeviceConstraint] {
    asked(claim).and_then(|devices| devices.constraints.as_deref()).unwrap_or_default()
}
