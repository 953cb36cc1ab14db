//! Wires load balancers by the nodes' addresses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use plimsoll_client::{Informer, Object as _};
use plimsoll_reconcile::load_balancer::{Observed, addresses, decide, is_balanced, is_concerned};

use crate::unit::{Key, Unit};
use crate::{Context, Error};

const BALANCED: &str = "balanced by nodes";
const BY_SERVICE: &str = "endpoints of a service";
const SERVICE: &str = "kubernetes.io/service-name";

/// Nodes' addresses as they were when they last mattered, so that signs of life lead to nothing.
struct Nodes {
    informer: Informer<Node>,
    last: Mutex<HashMap<String, Vec<IpAddr>>>,
}

impl Nodes {
    fn changed(&self, name: &str) -> bool {
        let now = self.informer.get("", name).map(|node| addresses(&node)).unwrap_or_default();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let same = last.get(name).map_or(now.is_empty(), |known| *known == now);
        if now.is_empty() {
            last.remove(name);
        } else if !same {
            last.insert(name.to_owned(), now);
        }
        !same
    }
}

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let reserved = context.config.balanced_except.clone();
    let services = context.informers.informer::<Service>();
    let slices = context.informers.informer::<EndpointSlice>();
    let informer = context.informers.informer::<Node>();
    services.add_index(BALANCED, |service| is_balanced(service).then(String::new).into_iter().collect());
    slices.add_index(BY_SERVICE, |slice| key_of(slice).iter().map(index).collect());
    let nodes = Arc::new(Nodes { informer: informer.clone(), last: Mutex::default() });
    let (of_service, of_node, of_slice, seen) = (services.clone(), services.clone(), services.clone(), nodes);
    let unit = unit
        // A port that one gives up another one may have.
        .input(&services, move |service| {
            if is_concerned(service) {
                [all(&of_service), vec![Key::of(service)]].concat()
            } else {
                Vec::new()
            }
        })
        .input(&informer, move |node| if seen.changed(node.name()) { all(&of_node) } else { Vec::new() })
        .input(&slices, move |slice| {
            let is_ours =
                |key: &Key| of_slice.get(&key.namespace, &key.name).is_some_and(|it| is_balanced(&it));
            key_of(slice).into_iter().filter(is_ours).collect()
        });
    Ok(unit.decide(move |key, _| {
        let Some(reserved) = &reserved else { return Vec::new() };
        let Some(service) = services.get(&key.namespace, &key.name).filter(|it| is_concerned(it)) else {
            return Vec::new();
        };
        decide(&Observed {
            service: &service,
            balanced: &services.indexed(BALANCED, ""),
            nodes: &informer.list(),
            slices: &slices.indexed(BY_SERVICE, &index(key)),
            reserved,
        })
    }))
}

fn all(services: &Informer<Service>) -> Vec<Key> {
    services.indexed(BALANCED, "").iter().map(|service| Key::of(&**service)).collect()
}

fn index(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

fn key_of(slice: &EndpointSlice) -> Option<Key> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE)?;
    Some(Key::new(slice.metadata.namespace.as_deref()?, service))
}
