//! How the pods of this node search for names.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::{Delta, Filter, Informers};
use plimsoll_netplan::dns::Searching;
use plimsoll_podlife::names::{parse_resolver, resolver};
use plimsoll_podlife::spec::{host_network, is_over};

use crate::{Config, Shared};

/// Keeps the pods' addresses with their searches; ends only with the informers.
pub(crate) async fn follow(informers: Informers, config: &Config, shared: &Shared) {
    let fields = Some(format!("spec.nodeName={}", config.node_name));
    let pods = informers.filtered::<Pod>(Filter { namespace: None, labels: None, fields });
    let mut changes = pods.subscribe();
    while let Some(change) = changes.recv().await {
        match change {
            Delta::Applied { old, new } => {
                let told = |pod: &Pod| addresses(pod);
                if old.as_deref().map(told) == Some(told(&new)) {
                    continue;
                }
                if let Some(old) = old {
                    forget(shared, &old, &pods.list());
                }
                let searching = Arc::new(searching(&new, config));
                let mut clients = shared.clients.write().expect("no code under the lock panics");
                clients.extend(addresses(&new).into_iter().map(|address| (address, searching.clone())));
            }
            Delta::Deleted(last) => forget(shared, &last, &pods.list()),
            Delta::Synced => {}
        }
    }
}

/// Forgets a pod's addresses, unless another has them now.
fn forget(shared: &Shared, pod: &Pod, others: &[Arc<Pod>]) {
    let gone = addresses(pod);
    if gone.is_empty() {
        return;
    }
    let taken: Vec<IpAddr> = others
        .iter()
        .filter(|other| other.metadata.uid != pod.metadata.uid)
        .flat_map(|other| addresses(other))
        .collect();
    let mut clients = shared.clients.write().expect("no code under the lock panics");
    for address in gone.iter().filter(|address| !taken.contains(address)) {
        clients.remove(address);
    }
}

/// The addresses that are this pod's alone.
fn addresses(pod: &Pod) -> Vec<IpAddr> {
    if host_network(pod) || is_over(pod) {
        return Vec::new();
    }
    let listed = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    listed.filter_map(|address| address.ip.parse().ok()).collect()
}

fn searching(pod: &Pod, config: &Config) -> Searching {
    let servers: Vec<String> = config.addresses.iter().map(ToString::to_string).collect();
    let resolver = resolver(pod, &servers, &config.zone, &node(&config.resolv_conf));
    Searching::new(resolver.searches.iter().map(String::as_str), resolver.options.iter().map(String::as_str))
}

fn node(resolv_conf: &Path) -> plimsoll_podlife::names::Resolver {
    parse_resolver(&std::fs::read_to_string(resolv_conf).unwrap_or_default())
}
