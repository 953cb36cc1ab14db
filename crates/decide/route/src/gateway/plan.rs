//! All Gateways and routes together: what is served, and what is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::attachments::{Resolved, attach, gateway, resolve};
use super::bundle::supported;
use super::conditions::{Condition, told};
use super::drafts::RouteDraft;
use super::gates::Ending;
use super::kinds::{GROUP, Gateway, GatewayClass};
use super::listeners::{Heard, decide, key};
use super::world::World;
use crate::draft::{Owner, SecretKey};

/// The controller of the classes that are served here.
pub const CONTROLLER: &str = "plimsoll.io/gateway-controller";

/// Features of upstream's list beyond those that every implementation has.
const FEATURES: &[&str] = &[
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
];

/// What is to be done.
#[derive(Default)]
pub struct Plan {
    /// What is served.
    pub(crate) gates: Vec<Gate>,
    /// Ports of the node, and whether they are encrypted.
    pub ports: BTreeMap<u16, bool>,
    /// Secrets that are used, or would be if they were there and sound.
    pub secrets: BTreeSet<SecretKey>,
    /// Whose status is another than it should be.
    pub statuses: Vec<Told>,
}

/// What is served at a port for a host name.
pub(crate) struct Gate {
    pub(crate) port: u16,
    pub(crate) hostname: String,
    pub(crate) certificate: Option<SecretKey>,
    /// For connections that are no requests.
    pub(crate) ending: Option<Ending>,
    pub(crate) routes: Vec<Routed>,
}

/// A route at a listener.
pub(crate) struct Routed {
    pub(crate) route: Arc<RouteDraft>,
    pub(crate) hosts: Vec<String>,
    pub(crate) rules: Arc<Vec<Resolved>>,
}

/// A status that should be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its kind's name in the API.
    pub kind: &'static str,
    /// Whose.
    pub owner: Owner,
    /// The version that was looked at: another controller may write to the same status.
    pub version: String,
    /// The status.
    pub status: Value,
}

/// Decides everything.
pub fn plan(world: &World<'_>) -> Plan {
    let mut plan = Plan::default();
    let ours: Vec<&GatewayClass> = world
        .classes
        .iter()
        .map(Arc::as_ref)
        .filter(|class| class.spec.controller_name == CONTROLLER)
        .collect();
    for class in &ours {
        plan.tell_class(class, world);
    }
    let is_ours = |name: &str| ours.iter().any(|class| class.metadata.name.as_deref() == Some(name));
    let gateways = world.gateways.iter().map(Arc::as_ref);
    let mut gateways: Vec<&Gateway> = gateways.filter(|one| is_ours(&one.spec.gateway_class_name)).collect();
    gateways.sort_by_key(|one| {
        let meta = &one.metadata;
        (meta.creation_timestamp.as_ref().map(|time| time.0), meta.namespace.clone(), meta.name.clone())
    });
    let mut heard = decide(&gateways, world);
    for one in &heard {
        let references = one.listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
        plan.secrets.extend(references.map(|reference| key(one.namespace(), reference)));
    }
    let mut routed: Vec<Vec<Routed>> = heard.iter().map(|_| Vec::new()).collect();
    for route in world.routes {
        plan.attach(route, &gateways, &heard, &mut routed, world);
    }
    for (one, routes) in heard.iter_mut().zip(routed) {
        one.attached = routes.len();
        if one.is_valid() {
            let port = one.listener.port;
            plan.ports.insert(port, one.is_encrypted());
            let (hostname, certificate) = (one.hostname(), one.certificate.clone());
            plan.gates.push(Gate { port, hostname, certificate, ending: one.ending(), routes });
        }
    }
    for gateway in gateways {
        plan.tell_gateway(gateway, &heard, world);
    }
    plan
}

impl Plan {
    /// Whether anything is served.
    pub fn is_empty(&self) -> bool {
        self.gates.is_empty()
    }

    fn tell(&mut self, kind: &'static str, owner: Owner, version: &str, known: &Value, status: Value) {
        if *known != status {
            self.statuses.push(Told { kind, owner, version: version.to_owned(), status });
        }
    }

    fn tell_class(&mut self, class: &GatewayClass, world: &World<'_>) {
        let accepted = match class.spec.parameters_ref {
            None => Condition::yes("Accepted", "Accepted"),
            Some(_) => invalid_parameters(),
        };
        let conditions = [accepted, supported(world.definitions)];
        let generation = class.metadata.generation.unwrap_or_default();
        let features: Vec<Value> = FEATURES.iter().map(|name| json!({ "name": name })).collect();
        let mut status = class.status.clone();
        status["conditions"] = told(&class.status["conditions"], &conditions, generation, world.now);
        status["supportedFeatures"] = json!(features);
        let (owner, version) = owner(&class.metadata);
        self.tell("GatewayClass", owner, &version, &class.status, status);
    }

    fn tell_gateway(&mut self, gateway: &Gateway, heard: &[Heard<'_>], world: &World<'_>) {
        let mine = || heard.iter().filter(|one| std::ptr::eq(one.gateway, gateway));
        let generation = gateway.metadata.generation.unwrap_or_default();
        let (addresses, problem) = addresses(gateway, world);
        let parameters = gateway.spec.infrastructure.parameters_ref.as_ref();
        let problem = parameters.map(|_| invalid_parameters()).or(problem);
        let conditions = conditions(mine(), addresses.is_empty(), problem);
        let known = &gateway.status["listeners"];
        let listeners = mine().map(|one| {
            let name = &one.listener.name;
            let known = known.as_array().into_iter().flatten().find(|known| known["name"] == *name);
            let known = known.map_or(&Value::Null, |known| &known["conditions"]);
            let kinds = one.kinds.iter().map(|kind| json!({"group": GROUP, "kind": kind.name()}));
            json!({
                "name": name, "attachedRoutes": one.attached, "supportedKinds": kinds.collect::<Vec<_>>(),
                "conditions": told(known, &one.conditions, generation, world.now),
            })
        });
        let listeners: Vec<Value> = listeners.collect();
        let mut status = gateway.status.clone();
        status["conditions"] = told(&gateway.status["conditions"], &conditions, generation, world.now);
        status["listeners"] = json!(listeners);
        status["addresses"] = json!(addresses);
        let (owner, version) = owner(&gateway.metadata);
        self.tell("Gateway", owner, &version, &gateway.status, status);
    }

    fn attach(
        &mut self,
        route: &Arc<RouteDraft>,
        gateways: &[&Gateway],
        heard: &[Heard<'_>],
        routed: &mut [Vec<Routed>],
        world: &World<'_>,
    ) {
        let (resolved, rules) = resolve(route, world);
        let rules = Arc::new(rules);
        let known = route.status["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut parents: Vec<Value> =
            known.iter().filter(|parent| parent["controllerName"] != CONTROLLER).cloned().collect();
        for parent in &route.parents {
            let Some((namespace, name)) = gateway(route, parent) else { continue };
            let mut all = gateways.iter().filter(|one| one.metadata.namespace.as_deref() == Some(namespace));
            let Some(found) = all.find(|one| one.metadata.name.as_deref() == Some(name)) else { continue };
            let listeners = heard.iter().enumerate().filter(|(_, one)| std::ptr::eq(one.gateway, *found));
            let (accepted, attached) = attach(route, parent, listeners, world);
            for one in attached {
                // Several references may mean one listener.
                let there = routed[one.listener].iter().any(|known| Arc::ptr_eq(&known.route, route));
                if !there {
                    let (route, rules) = (route.clone(), rules.clone());
                    routed[one.listener].push(Routed { route, hosts: one.hosts, rules });
                }
            }
            let reference = json!(parent);
            let known = known
                .iter()
                .find(|known| known["controllerName"] == CONTROLLER && known["parentRef"] == reference);
            let known = known.map_or(&Value::Null, |known| &known["conditions"]);
            let conditions = told(known, &[accepted, resolved.clone()], route.generation, world.now);
            parents.push(
                json!({"parentRef": reference, "controllerName": CONTROLLER, "conditions": conditions}),
            );
        }
        let told_before = known.iter().any(|parent| parent["controllerName"] == CONTROLLER);
        if told_before || parents.len() > known.len() {
            let mut status = route.status.clone();
            status["parents"] = json!(parents);
            self.tell(route.kind.name(), route.owner.clone(), &route.version, &route.status, status);
        }
    }
}

fn invalid_parameters() -> Condition {
    Condition::no("Accepted", "InvalidParameters", "parametersRef is not supported")
}

fn owner(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> (Owner, String) {
    let owner = Owner {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    };
    (owner, meta.resource_version.clone().unwrap_or_default())
}

/// The addresses of a Gateway: those of the node, or those of them that it asks for.
fn addresses(gateway: &Gateway, world: &World<'_>) -> (Vec<Value>, Option<Condition>) {
    let wanted: Vec<_> = gateway.spec.addresses.iter().filter(|address| !address.value.is_empty()).collect();
    let ip = |address: &str| json!({"type": "IPAddress", "value": address});
    if wanted.is_empty() {
        return (world.addresses.iter().map(|address| ip(address)).collect(), None);
    }
    if let Some(other) = wanted.iter().find(|one| one.kind.as_deref().unwrap_or("IPAddress") != "IPAddress") {
        let message =
            format!("addresses of type {} are not supported", other.kind.as_deref().unwrap_or_default());
        return (Vec::new(), Some(Condition::no("Accepted", "UnsupportedAddress", message)));
    }
    let (usable, others): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|one| world.addresses.contains(&one.value));
    let problem = others.first().map(|other| {
        Condition::no("Programmed", "AddressNotUsable", format!("{} is no address of the node", other.value))
    });
    (usable.iter().map(|one| ip(&one.value)).collect(), problem)
}

/// What is told of a Gateway.
fn conditions<'a>(
    listeners: impl Iterator<Item = &'a Heard<'a>> + Clone,
    without_address: bool,
    problem: Option<Condition>,
) -> Vec<Condition> {
    let valid = |one: &&Heard<'_>| one.is_valid() && one.says("Accepted").is_some_and(Condition::holds);
    let (all, sound) = (listeners.clone().count(), listeners.clone().filter(valid).count());
    let programmed =
        listeners.clone().filter(|one| one.says("Programmed").is_some_and(Condition::holds)).count();
    let mut accepted = match sound {
        _ if sound == all => Condition::yes("Accepted", "Accepted"),
        0 => Condition::no("Accepted", "ListenersNotValid", "no listener is valid"),
        _ => Condition {
            message: "some listeners are not valid".to_owned(),
            ..Condition::yes("Accepted", "ListenersNotValid")
        },
    };
    let mut served = match programmed {
        0 if sound > 0 => Condition::unknown("Programmed", "Pending", "ports are being opened"),
        0 => Condition::no("Programmed", "Invalid", "no listener is valid"),
        _ if without_address => Condition::no("Programmed", "AddressNotAssigned", "the node has no address"),
        _ => Condition::yes("Programmed", "Programmed"),
    };
    match problem {
        Some(problem) if problem.kind == "Accepted" => {
            accepted = problem;
            served = Condition::no("Programmed", "Invalid", "");
        }
        Some(problem) => served = problem,
        None => {}
    }
    vec![accepted, served]
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
