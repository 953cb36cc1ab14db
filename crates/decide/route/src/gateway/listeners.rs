//! What becomes of the listeners of all Gateways.

use std::collections::BTreeMap;

use super::conditions::{Condition, OVERLAPPING};
use super::drafts::RouteKind;
use super::gates::Ending;
use super::grants::{Target, permits};
use super::hostnames::intersection;
use super::kinds::{GROUP, Gateway, Listener, Reference};
use super::world::World;
use crate::draft::SecretKey;

/// A listener, decided.
pub(crate) struct Heard<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) listener: &'a Listener,
    pub(crate) kinds: Vec<RouteKind>,
    pub(crate) certificate: Option<SecretKey>,
    pub(crate) conditions: Vec<Condition>,
    /// How many routes are attached.
    pub(crate) attached: usize,
}

impl Heard<'_> {
    /// Whether it serves, or would if its port were open.
    pub(crate) fn is_valid(&self) -> bool {
        self.conditions.iter().all(|one| match one.kind {
            "Accepted" => one.holds() || one.reason == "PortUnavailable",
            _ => true,
        }) && !(self.needs_certificate() && self.certificate.is_none())
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        is_encrypted(&self.listener.protocol)
    }

    /// Where TLS ends, for connections that are passed on as they are inside.
    pub(crate) fn ending(&self) -> Option<Ending> {
        let ending = if passes_through(self.listener) { Ending::Pod } else { Ending::Here };
        (self.listener.protocol == "TLS").then_some(ending)
    }

    fn needs_certificate(&self) -> bool {
        ends_tls(self.listener)
    }

    pub(crate) fn hostname(&self) -> String {
        self.listener.hostname.to_ascii_lowercase()
    }

    pub(crate) fn says(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    pub(crate) fn namespace(&self) -> &str {
        self.gateway.metadata.namespace.as_deref().unwrap_or_default()
    }
}

fn is_encrypted(protocol: &str) -> bool {
    protocol != "HTTP"
}

fn passes_through(listener: &Listener) -> bool {
    let mode = || listener.tls.as_ref()?.mode.as_deref();
    listener.protocol == "TLS" && mode() == Some("Passthrough")
}

fn ends_tls(listener: &Listener) -> bool {
    is_encrypted(&listener.protocol) && !passes_through(listener)
}

/// Decides about the listeners of Gateways, the oldest first: it wins where two want the same.
pub(crate) fn decide<'a>(gateways: &[&'a Gateway], world: &World<'_>) -> Vec<Heard<'a>> {
    // What each port speaks, and who has its host names.
    let mut protocols = BTreeMap::from([(world.ingress.http, false), (world.ingress.https, true)]);
    let mut hosts: BTreeMap<(u16, String), String> = BTreeMap::new();
    let mut all = Vec::new();
    for gateway in gateways {
        let listeners = &gateway.spec.listeners;
        let mut heard: Vec<Heard<'a>> = listeners.iter().map(|one| hear(gateway, one, world)).collect();
        for (place, one) in heard.iter_mut().enumerate() {
            let others =
                listeners.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, one)| one);
            let conflict = within(one.listener, others).or_else(|| between(one, &protocols, &hosts));
            if let Some(conflict) = &conflict {
                let message = conflict.message.clone();
                one.conditions[0] = Condition::no("Accepted", conflict.reason, message);
            }
            one.conditions
                .insert(1, conflict.unwrap_or_else(|| Condition::no("Conflicted", "NoConflicts", "")));
        }
        for one in heard.iter_mut() {
            if one.is_valid() {
                protocols.insert(one.listener.port, one.is_encrypted());
                let name = gateway.metadata.name.clone().unwrap_or_default();
                hosts.insert((one.listener.port, one.hostname()), format!("{}/{name}", one.namespace()));
            }
            let programmed = programmed(one, world);
            one.conditions.push(programmed);
        }
        let overlapping: Vec<bool> = heard.iter().map(|one| overlaps(one.listener, listeners)).collect();
        for (one, _) in heard.iter_mut().zip(overlapping).filter(|(_, overlapping)| *overlapping) {
            one.conditions.push(Condition::yes(OVERLAPPING, "OverlappingHostnames"));
        }
        all.extend(heard);
    }
    all
}

/// Whether a name may be meant for this listener and another one where TLS ends: a client that keeps a connection for
/// one of them may ask for the other by it.
fn overlaps(one: &Listener, all: &[Listener]) -> bool {
    let host = |listener: &Listener| listener.hostname.to_ascii_lowercase();
    let mut others = all.iter().filter(|other| other.name != one.name && other.port == one.port);
    let shared = |other: &Listener| ends_tls(other) && intersection(&host(one), &host(other)).is_some();
    ends_tls(one) && others.any(shared)
}

fn conflict(reason: &'static str, message: String) -> Condition {
    Condition { message, ..Condition::yes("Conflicted", reason) }
}

/// Of listeners of one Gateway that want the same none wins.
fn within<'a>(one: &Listener, others: impl Iterator<Item = &'a Listener> + Clone) -> Option<Condition> {
    let mut there = others.filter(|other| other.port == one.port);
    let protocol = |other: &&Listener| is_encrypted(&other.protocol) != is_encrypted(&one.protocol);
    if let Some(other) = there.clone().find(protocol) {
        let message = format!("listener {} wants {} on port {}", other.name, other.protocol, one.port);
        return Some(conflict("ProtocolConflict", message));
    }
    let other = there.find(|other| other.hostname.eq_ignore_ascii_case(&one.hostname))?;
    let message = format!("listener {} has the same port and hostname", other.name);
    Some(conflict("HostnameConflict", message))
}

fn between(
    one: &Heard<'_>,
    protocols: &BTreeMap<u16, bool>,
    hosts: &BTreeMap<(u16, String), String>,
) -> Option<Condition> {
    let port = one.listener.port;
    if protocols.get(&port).is_some_and(|encrypted| *encrypted != one.is_encrypted()) {
        return Some(conflict("ProtocolConflict", format!("port {port} speaks another protocol already")));
    }
    let older = hosts.get(&(port, one.hostname()))?;
    Some(conflict(
        "HostnameConflict",
        format!("Gateway {older}, which is older, has the same port and hostname"),
    ))
}

/// Everything but conflicts.
fn hear<'a>(gateway: &'a Gateway, listener: &'a Listener, world: &World<'_>) -> Heard<'a> {
    let mut heard = Heard {
        gateway,
        listener,
        kinds: Vec::new(),
        certificate: None,
        conditions: Vec::new(),
        attached: 0,
    };
    let served = RouteKind::of(&listener.protocol);
    let accepted = match (world.port)(listener.port) {
        _ if served.is_empty() => {
            let message = format!("protocol {} is not supported", listener.protocol);
            Condition::no("Accepted", "UnsupportedProtocol", message)
        }
        Some(Err(problem)) => {
            Condition::no("Accepted", "PortUnavailable", format!("port {}: {problem}", listener.port))
        }
        _ => Condition::yes("Accepted", "Accepted"),
    };
    heard.conditions.push(accepted);
    let mut resolved = kinds(&mut heard, served);
    if !served.is_empty() && heard.needs_certificate() {
        let found = certificate(&mut heard, world);
        resolved = resolved.and(found);
    }
    heard.conditions.push(match resolved {
        Ok(()) => Condition::yes("ResolvedRefs", "ResolvedRefs"),
        Err((reason, message)) => Condition::no("ResolvedRefs", reason, message),
    });
    heard
}

type Unresolved = (&'static str, String);

fn kinds(heard: &mut Heard<'_>, served: &[RouteKind]) -> Result<(), Unresolved> {
    let wanted = &heard.listener.allowed_routes.kinds;
    if wanted.is_empty() || served.is_empty() {
        heard.kinds = served.to_vec();
        return Ok(());
    }
    let mut outcome = Ok(());
    for wanted in wanted {
        let ours = wanted.group.as_deref().unwrap_or(GROUP) == GROUP;
        match served.iter().find(|kind| ours && kind.name() == wanted.kind) {
            Some(kind) if heard.kinds.contains(kind) => {}
            Some(kind) => heard.kinds.push(*kind),
            None => {
                outcome = Err(("InvalidRouteKinds", format!("routes of kind {} cannot attach", wanted.kind)))
            }
        }
    }
    outcome
}

/// Finds the first certificate that can be used, and tells what is wrong with any of them.
fn certificate(heard: &mut Heard<'_>, world: &World<'_>) -> Result<(), Unresolved> {
    let references =
        heard.listener.tls.as_ref().map(|tls| tls.certificate_refs.as_slice()).unwrap_or_default();
    let mut outcome = Ok(());
    if references.is_empty() {
        outcome = Err(("InvalidCertificateRef", "no certificate is given".to_owned()));
    }
    for reference in references {
        match secret(heard.namespace(), reference, world) {
            Ok((key, problem)) => {
                heard.certificate.get_or_insert(key);
                outcome = problem.map_or(outcome, Err);
            }
            Err(problem) => outcome = Err(problem),
        }
    }
    outcome
}

/// The Secret that a Gateway names.
pub(crate) fn key(namespace: &str, reference: &Reference) -> SecretKey {
    let namespace = reference.namespace.clone().unwrap_or_else(|| namespace.to_owned());
    SecretKey { namespace, name: reference.name.clone() }
}

fn secret(
    namespace: &str,
    reference: &Reference,
    world: &World<'_>,
) -> Result<(SecretKey, Option<Unresolved>), Unresolved> {
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    if !group.is_empty() || kind != "Secret" {
        return Err(("InvalidCertificateRef", format!("{kind} {} is no Secret", reference.name)));
    }
    let key = key(namespace, reference);
    let target = Target { group, kind, namespace: &key.namespace, name: &key.name };
    let place = format!("Secret {}/{}", key.namespace, key.name);
    if !permits(world.grants, "Gateway", namespace, target) {
        return Err(("RefNotPermitted", format!("no ReferenceGrant permits {place}")));
    }
    let invalid = |problem: String| ("InvalidCertificateRef", format!("{place} {problem}"));
    let kept = (world.certificate)(&key).map_err(invalid)?;
    Ok((key, kept.map(invalid)))
}

fn programmed(heard: &Heard<'_>, world: &World<'_>) -> Condition {
    match (world.port)(heard.listener.port) {
        Some(Ok(())) if heard.is_valid() => Condition::yes("Programmed", "Programmed"),
        None if heard.is_valid() => Condition::unknown("Programmed", "Pending", "the port is being opened"),
        _ => Condition::no("Programmed", "Invalid", ""),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_that_are_meant_for_another_listener_too() {
        // Name, port, protocol, TLS's mode, host name, whether another listener may be meant.
        let table = [
            ("a", 443, "HTTPS", "Terminate", "a.com", true),
            ("b", 443, "HTTPS", "Terminate", "a.org", false),
            ("c", 443, "TLS", "Terminate", "*.com", true),
            ("d", 444, "HTTPS", "Terminate", "*.com", false),
            ("e", 443, "TLS", "Passthrough", "b.org", false),
            ("f", 443, "TLS", "Passthrough", "*.org", false),
            ("g", 80, "HTTP", "", "", false),
            ("h", 80, "HTTP", "", "a.com", false),
        ];
        let listeners: Vec<Listener> = table
            .iter()
            .map(|(name, port, protocol, mode, host, _)| {
                let (tls, port) = (json!({"mode": mode}), *port);
                let listener =
                    json!({"name": name, "port": port, "protocol": protocol, "hostname": host, "tls": tls});
                serde_json::from_value(listener).unwrap()
            })
            .collect();
        for (listener, (name, .., expected)) in listeners.iter().zip(table) {
            assert_eq!(overlaps(listener, &listeners), expected, "{name}");
        }
    }
}
