//! Which routes attach to which listeners, and where their requests go.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ServicePort;
use plimsoll_meta::selector::Labels;

use super::changes::Changes;
use super::conditions::Condition;
use super::drafts::{RouteDraft, RouteKind};
use super::grants::{Target, permits};
use super::hostnames::shared;
use super::kinds::{BackendRef, GROUP, ParentRef};
use super::listeners::Heard;
use super::world::World;
use crate::draft::{BackendKey, Port};
use crate::external::is_external;
use crate::settings::Protocol;

/// What a listener does with a route.
pub(crate) struct Attached {
    /// Its place among all listeners.
    pub(crate) listener: usize,
    pub(crate) hosts: Vec<String>,
}

/// A backend of a rule; none if requests for it fail.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) weight: u32,
    pub(crate) to: Option<(BackendKey, Protocol)>,
    pub(crate) changes: Arc<Changes>,
}

/// The backends of a rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) backends: Vec<Backend>,
    /// How many of how many requests are copied, and where to.
    pub(crate) mirrors: Vec<(u32, u32, BackendKey, Protocol)>,
}

/// The namespace and name of the Gateway that a route names.
pub(crate) fn gateway<'a>(route: &'a RouteDraft, parent: &'a ParentRef) -> Option<(&'a str, &'a str)> {
    let ours = parent.group.as_deref().unwrap_or(GROUP) == GROUP;
    let gateway = parent.kind.as_deref().unwrap_or("Gateway") == "Gateway";
    let namespace = parent.namespace.as_deref().unwrap_or(&route.owner.namespace);
    (ours && gateway).then_some((namespace, &parent.name))
}

/// Attaches a route to those listeners (with their places) of a Gateway that its reference means.
pub(crate) fn attach<'a>(
    route: &RouteDraft,
    parent: &ParentRef,
    listeners: impl Iterator<Item = (usize, &'a Heard<'a>)>,
    world: &World<'_>,
) -> (Condition, Vec<Attached>) {
    let refuse = |reason, message: &str| (Condition::no("Accepted", reason, message), Vec::new());
    if let Some(problem) = &route.problem {
        return refuse("UnsupportedValue", problem);
    }
    let named: Vec<_> = listeners.filter(|(_, heard)| is_meant(parent, heard)).collect();
    if named.is_empty() {
        return refuse("NoMatchingParent", "no listener has that name or port");
    }
    let allowed: Vec<_> = named.into_iter().filter(|(_, heard)| is_allowed(route, heard, world)).collect();
    if allowed.is_empty() {
        return refuse("NotAllowedByListeners", "no listener allows routes of this kind and namespace");
    }
    let shared = |(listener, heard): (usize, &Heard<'_>)| {
        Some(Attached { listener, hosts: shared(&heard.listener.hostname, &route.hostnames)? })
    };
    let attached: Vec<Attached> = allowed.into_iter().filter_map(shared).collect();
    if attached.is_empty() {
        return refuse("NoMatchingListenerHostname", "no listener has any of the hostnames");
    }
    (Condition::yes("Accepted", "Accepted"), attached)
}

fn is_meant(parent: &ParentRef, heard: &Heard<'_>) -> bool {
    parent.section_name.as_deref().is_none_or(|name| name == heard.listener.name)
        && parent.port.is_none_or(|port| port == heard.listener.port)
}

fn is_allowed(route: &RouteDraft, heard: &Heard<'_>, world: &World<'_>) -> bool {
    let namespaces = &heard.listener.allowed_routes.namespaces;
    let namespace = match namespaces.from.as_deref() {
        Some("All") => true,
        Some("Selector") => {
            let labels = (world.labels)(&route.owner.namespace);
            Labels::from(&namespaces.selector).matches_map(Some(&labels))
        }
        Some("None") => false,
        _ => route.owner.namespace == heard.namespace(),
    };
    namespace && heard.kinds.contains(&route.kind)
}

/// Looks up the backends of all rules, and tells what is wrong with any of them.
pub(crate) fn resolve(route: &RouteDraft, world: &World<'_>) -> (Condition, Vec<Resolved>) {
    let mut problem = None;
    let mut find = |backend: &BackendRef| match find(route, backend, world) {
        Ok(found) => Some(found),
        Err(unresolved) => {
            problem.get_or_insert(unresolved);
            None
        }
    };
    let mut rules = Vec::new();
    for rule in &route.rules {
        let mut resolved = Resolved::default();
        for (backend, changes) in &rule.backends {
            let (weight, changes) = (backend.weight.unwrap_or(1), changes.clone());
            resolved.backends.push(Backend { weight, to: find(backend), changes });
        }
        for mirror in &rule.filters.mirrors {
            let fraction =
                mirror.fraction.as_ref().map(|one| (one.numerator, one.denominator.unwrap_or(100)));
            let (some, all) = fraction.unwrap_or((mirror.percent.unwrap_or(100), 100));
            resolved
                .mirrors
                .extend(find(&mirror.backend_ref).map(|(key, protocol)| (some, all, key, protocol)));
        }
        rules.push(resolved);
    }
    let condition = match problem {
        None => Condition::yes("ResolvedRefs", "ResolvedRefs"),
        Some((reason, message)) => Condition::no("ResolvedRefs", reason, message),
    };
    (condition, rules)
}

fn find(
    route: &RouteDraft,
    backend: &BackendRef,
    world: &World<'_>,
) -> Result<(BackendKey, Protocol), (&'static str, String)> {
    let group = backend.group.as_deref().unwrap_or_default();
    let kind = backend.kind.as_deref().unwrap_or("Service");
    if !group.is_empty() || kind != "Service" {
        return Err(("InvalidKind", format!("{kind} {} is no Service", backend.name)));
    }
    let namespace = backend.namespace.as_deref().unwrap_or(&route.owner.namespace);
    let target = Target { group, kind, namespace, name: &backend.name };
    let place = format!("Service {namespace}/{}", backend.name);
    if !permits(world.grants, route.kind.name(), &route.owner.namespace, target) {
        return Err(("RefNotPermitted", format!("no ReferenceGrant permits {place}")));
    }
    let service = (world.service)(namespace, &backend.name);
    let service = service.ok_or_else(|| ("BackendNotFound", format!("{place} is not there")))?;
    if is_external(&service) {
        // Whoever makes one would be granted what other namespaces grant to nobody.
        return Err(("InvalidKind", format!("{place} is of the type ExternalName")));
    }
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let number = backend.port.unwrap_or_default();
    let port = ports.iter().find(|port| port.port == i32::from(number));
    let port = port.ok_or_else(|| ("BackendNotFound", format!("{place} has no port {number}")))?;
    let key = BackendKey {
        namespace: namespace.to_owned(),
        service: backend.name.clone(),
        port: Port::Number(number),
    };
    Ok((key, protocol(route.kind, port)?))
}

fn protocol(kind: RouteKind, port: &ServicePort) -> Result<Protocol, (&'static str, String)> {
    match (kind, port.app_protocol.as_deref()) {
        (RouteKind::Grpc, _) | (_, Some("kubernetes.io/h2c")) => Ok(Protocol::Grpc),
        _ => Ok(Protocol::Http),
    }
}
