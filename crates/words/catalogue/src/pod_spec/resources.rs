//! Requests and limits.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;
use plimsoll_meta::quantity::Quantity;

use crate::access::Access;
use crate::quantities;
use crate::report::{NOT_NEGATIVE, Report};

const FOR_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Names without a prefix that the system knows outside of quotas.
const STANDARD: [&str; 12] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "storage",
    "requests.storage",
    "pods",
];

const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Requests, limits and claims of one container.
pub(super) fn check(resources: &Value, claims: &[Value], path: &Path, report: &mut Report) {
    let (requests, limits) = (resources.map("requests"), resources.map("limits"));
    check_list(limits, &path.child("limits"), report);
    check_list(requests, &path.child("requests"), report);
    check_requests(requests, limits, path, report);
    let named = |test: fn(&str) -> bool| limits.keys().chain(requests.keys()).any(|name| test(name));
    if named(is_huge_page) && !named(|name| matches!(name, "cpu" | "memory")) {
        report.forbidden(path, "HugePages require cpu or memory");
    }
    check_claim_names(resources.list("claims"), claims, &path.child("claims"), report);
}

/// Names and amounts of a list of container resources.
pub(crate) fn check_list(list: &Map<String, Value>, path: &Path, report: &mut Report) {
    for (resource, amount) in list {
        let at = path.key(resource);
        check_container_name(resource, &at, report);
        check_amount(resource, amount, &at, report);
        if is_huge_page(resource) {
            check_huge_pages(resource, amount, &at, report);
        }
    }
}

fn check_requests(
    requests: &Map<String, Value>,
    limits: &Map<String, Value>,
    path: &Path,
    report: &mut Report,
) {
    for (resource, amount) in requests {
        let Some(request) = quantities::parse(Some(amount)) else { continue };
        let fixed = !may_overcommit(resource);
        match quantities::parse(limits.get(resource)) {
            Some(limit) if fixed && request != limit => {
                let message = format!("must be equal to {resource} limit of {limit}");
                report.invalid(&path.child("requests"), request.to_string(), message);
            }
            Some(limit) if request > limit => {
                let message = format!("must be less than or equal to {resource} limit of {limit}");
                report.invalid(&path.child("requests"), request.to_string(), message);
            }
            None if fixed => {
                report.required(&path.child("limits"), "Limit must be set for non overcommitable resources")
            }
            _ => {}
        }
    }
}

/// Resources of the pod as a whole: at least what its containers ask for together.
pub(super) fn check_pod_level(resources: &Value, spec: &Value, path: &Path, report: &mut Report) {
    let (requests, limits) = (resources.map("requests"), resources.map("limits"));
    for (list, entries) in [("requests", requests), ("limits", limits)] {
        for (resource, amount) in entries {
            let at = path.child(list).key(resource);
            if !matches!(resource.as_str(), "cpu" | "memory") && !is_huge_page(resource) {
                report.not_supported(&at, resource.as_str(), &["cpu", "hugepages-", "memory"]);
            }
            check_amount(resource, amount, &at, report);
        }
    }
    check_requests(requests, limits, path, report);
    for (resource, amount) in requests {
        let Some(whole) = quantities::parse(Some(amount)) else { continue };
        let parts: i128 = spec
            .list("containers")
            .iter()
            .filter_map(|container| quantities::parse(container.map("resources.requests").get(resource)))
            .map(|part| i128::from(part.milli()))
            .sum();
        if parts > i128::from(whole.milli()) {
            let message =
                format!("must be greater than or equal to aggregate container requests of {}", milli(parts));
            report.invalid(&path.child("requests").key(resource), whole.to_string(), message);
        }
    }
    for container in spec.list("containers") {
        for (resource, amount) in container.map("resources.limits") {
            let (own, whole) = (quantities::parse(Some(amount)), quantities::parse(limits.get(resource)));
            if let (Some(own), Some(whole)) = (own, whole)
                && own > whole
            {
                let at = path.child("limits").key(resource);
                let message = format!("must be greater than or equal to container limit of {own}");
                report.invalid(&at, whole.to_string(), message);
            }
        }
    }
}

fn milli(amount: i128) -> Quantity {
    Quantity::from_milli(i64::try_from(amount).unwrap_or(i64::MAX))
}

/// The name of a resource that a container can ask for.
pub(crate) fn check_container_name(resource: &str, path: &Path, report: &mut Report) {
    let before = report.errors().len();
    check_name(resource, path, report);
    if !resource.contains('/') {
        if !FOR_CONTAINERS.contains(&resource) && !is_huge_page(resource) {
            report.invalid(path, resource, "must be a standard resource for containers");
        }
    } else if report.errors().len() == before && !is_native(resource) && !is_extended(resource) {
        report.invalid(path, resource, "doesn't follow extended resource name standard");
    }
}

/// The name of any resource.
pub(crate) fn check_name(resource: &str, path: &Path, report: &mut Report) {
    if let Err(messages) = name::is_qualified_name(resource) {
        report.rule(path, resource, Err(messages));
        return;
    }
    if !resource.contains('/') && !is_standard(resource) {
        report.invalid(path, resource, "must be a standard resource type or fully qualified");
    }
}

/// An amount: not negative, and whole where things are counted.
pub(crate) fn check_amount(resource: &str, amount: &Value, path: &Path, report: &mut Report) {
    let Some(quantity) = quantities::parse(Some(amount)) else { return };
    if quantity.sign() < 0 {
        report.invalid(path, quantity.to_string(), NOT_NEGATIVE);
    }
    if is_counted(resource) && quantity.milli() % 1000 != 0 {
        report.invalid(path, quantity.to_string(), "must be an integer");
    }
}

fn check_huge_pages(resource: &str, amount: &Value, path: &Path, report: &mut Report) {
    let size: Option<Quantity> = resource.strip_prefix("hugepages-").and_then(|size| size.parse().ok());
    let (Some(size), Some(quantity)) = (size, quantities::parse(Some(amount))) else { return };
    if size.value() <= 0 || quantity.value() % size.value() != 0 {
        let message = format!("{quantity} is not positive integer multiple of {resource}");
        report.invalid(path, quantity.to_string(), message);
    }
}

pub(crate) fn is_standard(resource: &str) -> bool {
    STANDARD.contains(&resource)
        || COUNTED.contains(&resource)
        || is_huge_page(resource)
        || resource.starts_with("requests.hugepages-")
}

pub(crate) fn is_huge_page(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

/// Things are counted, not measured: objects and extended resources.
fn is_counted(resource: &str) -> bool {
    COUNTED.contains(&resource) || is_extended(resource)
}

fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

pub(crate) fn is_extended(resource: &str) -> bool {
    !is_native(resource)
        && !resource.starts_with("requests.")
        && name::is_qualified_name(&format!("requests.{resource}")).is_ok()
}

pub(crate) fn may_overcommit(resource: &str) -> bool {
    is_native(resource) && !is_huge_page(resource)
}

/// Claims of the pod on devices.
pub(super) fn check_claims(claims: &[Value], path: &Path, report: &mut Report) {
    for (at, claim) in claims.iter().enumerate() {
        let path = path.index(at);
        let name = claim.text("name");
        if name.is_empty() {
            report.required(&path.child("name"), "");
        } else if claims[..at].iter().any(|other| other.text("name") == name) {
            report.duplicate(&path.child("name"), name);
        } else {
            report.rule(&path.child("name"), name, name::is_dns1123_label(name));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        match sources.iter().filter(|source| claim.has(source)).count() {
            0 => report.invalid(
                &path,
                claim.clone(),
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            1 => {}
            _ => report.invalid(
                &path,
                claim.clone(),
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
        }
        for source in sources.iter().filter(|source| claim.has(source)) {
            let target = claim.text(source);
            report.rule(&path.child(source), target, name::is_dns1123_subdomain(target));
        }
    }
}

fn check_claim_names(used: &[Value], claims: &[Value], path: &Path, report: &mut Report) {
    let known: BTreeSet<&str> = claims.iter().map(|claim| claim.text("name")).collect();
    for (at, claim) in used.iter().enumerate() {
        let (path, name) = (path.index(at), claim.text("name"));
        if name.is_empty() {
            report.required(&path, "");
            continue;
        }
        let same =
            |other: &&Value| (other.text("name"), other.text("request")) == (name, claim.text("request"));
        if used[..at].iter().any(|other| same(&other)) {
            report.duplicate(&path, name);
        }
        if !known.contains(name) {
            let detail = match known.is_empty() {
                true => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
                false => {
                    let names: Vec<&str> = known.iter().copied().collect();
                    format!("must be one of the names in pod.spec.resourceClaims: {}", names.join(", "))
                }
            };
            report.push(FieldError { detail, ..FieldError::not_found(&path, &name.into()) });
        }
    }
}
